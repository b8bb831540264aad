/*
 * amqp_codec.c
 *	  Numbers, strings, tables and frames of AMQP 0-9-1.
 */
#include <string.h>

#include "amqp_codec.h"

/* --- reading --- */

/* NULL if so many bytes are not there. */
static const unsigned char *
take(EvsAmqpReader *reader, size_t bytes)
{
	const unsigned char *start = reader->at;

	if (reader->failed || (size_t) (reader->end - start) < bytes)
	{
		reader->failed = true;
		return NULL;
	}
	reader->at += bytes;
	return start;
}

uint64_t
evs_amqp_read(EvsAmqpReader *reader, int bytes)
{
	const unsigned char *at = take(reader, bytes);
	uint64_t	number = 0;

	for (int i = 0; at != NULL && i < bytes; i++)
		number = number << 8 | at[i];
	return number;
}

static EvsAmqpString
read_string(EvsAmqpReader *reader, int bytes)
{
	EvsAmqpString string = {"", 0};
	size_t		length = evs_amqp_read(reader, bytes);
	const unsigned char *data = take(reader, length);

	if (data != NULL)
	{
		string.data = (const char *) data;
		string.length = length;
	}
	return string;
}

EvsAmqpString
evs_amqp_read_short(EvsAmqpReader *reader)
{
	return read_string(reader, 1);
}

EvsAmqpString
evs_amqp_read_long(EvsAmqpReader *reader)
{
	return read_string(reader, 4);
}

bool
evs_amqp_has_word(EvsAmqpString words, const char *word)
{
	size_t		length = strlen(word);
	const char *end = words.data + words.length;

	for (const char *at = words.data; at < end;)
	{
		const char *space = memchr(at, ' ', end - at);
		size_t		n = (space != NULL ? space : end) - at;

		if (n == length && memcmp(at, word, n) == 0)
			return true;
		at += n + 1;
	}
	return false;
}

void
evs_amqp_copy_text(EvsAmqpString string, char *out, size_t size)
{
	size_t		length = string.length < size - 1 ? string.length : size - 1;

	for (size_t i = 0; i < length; i++)
	{
		unsigned char c = string.data[i];

		out[i] = c >= ' ' && c < 0x7f ? c : '?';
	}
	out[length] = '\0';
}

/* --- writing --- */

static void
set_number(unsigned char *at, uint64_t number, int bytes)
{
	for (int i = bytes; i-- > 0; number >>= 8)
		at[i] = (unsigned char) number;
}

void
evs_amqp_add(evs_sink_buffer *buffer, uint64_t number, int bytes)
{
	unsigned char at[8];

	set_number(at, number, bytes);
	evs_sink_add(buffer, at, bytes);
}

void
evs_amqp_add_short(evs_sink_buffer *buffer, const char *data, size_t length)
{
	evs_amqp_add(buffer, length, 1);
	evs_sink_add(buffer, data, length);
}

void
evs_amqp_add_long(evs_sink_buffer *buffer, const char *data, size_t length)
{
	evs_amqp_add(buffer, length, 4);
	evs_sink_add(buffer, data, length);
}

size_t
evs_amqp_begin(evs_sink_buffer *buffer)
{
	size_t		where = buffer->length;

	evs_amqp_add(buffer, 0, 4);
	return where;
}

void
evs_amqp_end(evs_sink_buffer *buffer, size_t where)
{
	if (!buffer->failed)
		set_number((unsigned char *) buffer->data + where, buffer->length - where - 4, 4);
}

static void
add_member(evs_sink_buffer *buffer, const char *prefix, const char *name, char type)
{
	size_t		length = strlen(prefix);

	evs_amqp_add(buffer, length + strlen(name), 1);
	evs_sink_add(buffer, prefix, length);
	evs_sink_add_string(buffer, name);
	evs_sink_add(buffer, &type, 1);
}

void
evs_amqp_add_string_member(evs_sink_buffer *buffer, const char *prefix, const char *name,
						   const char *value)
{
	add_member(buffer, prefix, name, 'S');
	evs_amqp_add_long(buffer, value, strlen(value));
}

void
evs_amqp_add_number_member(evs_sink_buffer *buffer, const char *name, int64_t value)
{
	add_member(buffer, "", name, 'l');
	evs_amqp_add(buffer, (uint64_t) value, 8);
}

void
evs_amqp_add_true_member(evs_sink_buffer *buffer, const char *name)
{
	add_member(buffer, "", name, 't');
	evs_amqp_add(buffer, 1, 1);
}

/* --- frames --- */

size_t
evs_amqp_begin_frame(evs_sink_buffer *buffer, int type, int channel)
{
	evs_amqp_add(buffer, type, 1);
	evs_amqp_add(buffer, channel, 2);
	return evs_amqp_begin(buffer);
}

size_t
evs_amqp_begin_method(evs_sink_buffer *buffer, int channel, uint32_t method)
{
	size_t		where = evs_amqp_begin_frame(buffer, EVS_AMQP_METHOD, channel);

	evs_amqp_add(buffer, method, 4);
	return where;
}

void
evs_amqp_end_frame(evs_sink_buffer *buffer, size_t where)
{
	evs_amqp_end(buffer, where);
	evs_amqp_add(buffer, EVS_AMQP_FRAME_END, 1);
}

void
evs_amqp_add_method(evs_sink_buffer *buffer, int channel, uint32_t method)
{
	evs_amqp_end_frame(buffer, evs_amqp_begin_method(buffer, channel, method));
}
