/*
 * mqtt_packet.c
 *	  Packets of MQTT as bytes.
 *
 * What a server sends is not believed: each length is compared with what is
 * there, and a packet that is longer or shorter than it says is malformed.
 */
#include <string.h>

#include "mqtt_packet.h"

/* --- writing --- */

void
evs_mqtt_add_byte(evs_sink_buffer *buffer, unsigned value)
{
	unsigned char byte = value;

	evs_sink_add(buffer, &byte, 1);
}

void
evs_mqtt_add_uint16(evs_sink_buffer *buffer, unsigned value)
{
	unsigned char bytes[2] = {value >> 8, value};

	evs_sink_add(buffer, bytes, sizeof(bytes));
}

void
evs_mqtt_add_uint32(evs_sink_buffer *buffer, uint32_t value)
{
	unsigned char bytes[4] = {value >> 24, value >> 16, value >> 8, value};

	evs_sink_add(buffer, bytes, sizeof(bytes));
}

void
evs_mqtt_add_number(evs_sink_buffer *buffer, uint32_t value)
{
	unsigned char bytes[4];
	int			n = 0;

	do
	{
		bytes[n] = value & 0x7F;
		value >>= 7;
		if (value > 0)
			bytes[n] |= 0x80;
		n++;
	} while (value > 0 && n < 4);
	evs_sink_add(buffer, bytes, n);
}

size_t
evs_mqtt_number_size(uint32_t value)
{
	return value < 128 ? 1 : value < 16384 ? 2 : value < 2097152 ? 3 : 4;
}

void
evs_mqtt_add_string(evs_sink_buffer *buffer, const char *string, size_t length)
{
	evs_mqtt_add_uint16(buffer, (unsigned) length);
	evs_sink_add(buffer, string, length);
}

void
evs_mqtt_add_user_property(evs_sink_buffer *buffer, const char *name, const char *value)
{
	evs_mqtt_add_byte(buffer, EVS_MQTT_USER_PROPERTY);
	evs_mqtt_add_string(buffer, name, strlen(name));
	evs_mqtt_add_string(buffer, value, strlen(value));
}

/* --- reading --- */

/* Bytes that are left of a packet.  What is not there is 0, and shows in failed. */
typedef struct Reader
{
	const unsigned char *at;
	const unsigned char *end;
	bool		failed;
} Reader;

static const unsigned char *
take(Reader *reader, size_t n)
{
	const unsigned char *start = reader->at;

	if (reader->failed || n > (size_t) (reader->end - reader->at))
	{
		reader->failed = true;
		return NULL;
	}
	reader->at += n;
	return start;
}

/* A number of so many bytes, the highest first. */
static uint32_t
read_uint(Reader *reader, int size)
{
	const unsigned char *bytes = take(reader, size);
	uint32_t	value = 0;

	for (int i = 0; bytes != NULL && i < size; i++)
		value = value << 8 | bytes[i];
	return value;
}

/* A number in one to four bytes. */
static uint32_t
read_number(Reader *reader)
{
	uint32_t	value = 0;

	for (int shift = 0; shift < 28; shift += 7)
	{
		uint32_t	byte = read_uint(reader, 1);

		value |= (byte & 0x7F) << shift;
		if ((byte & 0x80) == 0)
			return value;
	}
	reader->failed = true;
	return 0;
}

/* With two bytes of length before it. */
static const char *
read_string(Reader *reader, size_t *length)
{
	*length = read_uint(reader, 2);
	return (const char *) take(reader, *length);
}

int64_t
evs_mqtt_find_packet(const char *data, size_t size, size_t max, const char **body, size_t *length)
{
	Reader		reader = {(const unsigned char *) data + 1, (const unsigned char *) data + size};
	uint32_t	number;

	if (size < 2)
		return 0;
	number = read_number(&reader);
	if (reader.failed)
		return size >= 5 ? -1 : 0;
	if (number > max)
		return -1;
	if (number > (size_t) (reader.end - reader.at))
		return 0;
	*body = (const char *) reader.at;
	*length = number;
	return (const char *) reader.at + number - data;
}

/* How the value of a property is written: its size, or one of these. */
enum
{
	NUMBER = 5,
	STRING,
	PAIR
};

/* By identifier; 0: there is none. */
static const unsigned char property_kinds[] = {
	[0x01] = 1,[0x02] = 4,[0x03] = STRING,[0x08] = STRING,[0x09] = STRING,[0x0B] = NUMBER,
	[0x11] = 4,[0x12] = STRING,[0x13] = 2,[0x15] = STRING,[0x16] = STRING,[0x17] = 1,
	[0x18] = 4,[0x19] = 1,[0x1A] = STRING,[0x1C] = STRING,[0x1F] = STRING,[0x21] = 2,
	[0x22] = 2,[0x23] = 2,[0x24] = 1,[0x25] = 1,[0x26] = PAIR,[0x27] = 4,
	[0x28] = 1,[0x29] = 1,[0x2A] = 1
};

/* Take a number for what it is; false: it cannot be. */
static bool
set_number(EvsMqttAnswer *answer, uint32_t id, uint32_t value)
{
	switch (id)
	{
		case 0x13:
			answer->keep_alive = (int) value;
			return true;
		case 0x21:
			answer->receive_maximum = value;
			return value > 0;
		case 0x24:
			answer->qos_maximum = (int) value;
			return value <= 1;
		case 0x25:
			answer->retain_available = value != 0;
			return value <= 1;
		case 0x27:
			answer->packet_maximum = value;
			return value > 0;
		default:
			return true;
	}
}

static void
read_property(Reader *reader, EvsMqttAnswer *answer, uint32_t id)
{
	int			kind = id < sizeof(property_kinds) ? property_kinds[id] : 0;
	const char *string;
	size_t		length;

	switch (kind)
	{
		case 0:
			reader->failed = true;
			break;
		case PAIR:
			(void) read_string(reader, &length);
			(void) read_string(reader, &length);
			break;
		case STRING:
			string = read_string(reader, &length);
			if (id == 0x1F)
			{
				answer->reason = string;
				answer->reason_length = length;
			}
			else if (id == 0x1C)
			{
				answer->reference = string;
				answer->reference_length = length;
			}
			break;
		default:
			if (!set_number(answer, id, kind == NUMBER ? read_number(reader) : read_uint(reader, kind)))
				reader->failed = true;
	}
}

/* Each may be there once, but for user properties. */
static void
read_properties(Reader *reader, EvsMqttAnswer *answer)
{
	size_t		length = read_number(reader);
	const unsigned char *start = take(reader, length);
	Reader		properties = {start, reader->at};
	uint64_t	seen = 0;

	while (!reader->failed && properties.at < properties.end)
	{
		uint32_t	id = read_number(&properties);

		read_property(&properties, answer, id);
		if (properties.failed || (id != EVS_MQTT_USER_PROPERTY && (seen >> id & 1) != 0))
			reader->failed = true;
		else
			seen |= UINT64_C(1) << id;
	}
}

bool
evs_mqtt_read_answer(int kind, int version, const char *body, size_t length, EvsMqttAnswer *answer)
{
	Reader		reader = {(const unsigned char *) body, (const unsigned char *) body + length};
	bool		is_connack = kind == EVS_MQTT_CONNACK;

	*answer = (EvsMqttAnswer)
	{
		.keep_alive = -1,.receive_maximum = 65535,.packet_maximum = EVS_MQTT_LENGTH_MAX,
			.qos_maximum = 2,.retain_available = true
	};
	if (is_connack)
	{
		uint32_t	flags = read_uint(&reader, 1);

		answer->session_present = flags == 1;
		if (flags > 1)
			return false;
	}
	else if (kind != EVS_MQTT_DISCONNECT)
		answer->packet_id = (int) read_uint(&reader, 2);
	/* What says nothing but that all is well may end here. */
	if (is_connack || (version == EVS_MQTT_VERSION_5 && reader.at < reader.end))
		answer->code = (int) read_uint(&reader, 1);
	if (version == EVS_MQTT_VERSION_5 && (is_connack || reader.at < reader.end))
		read_properties(&reader, answer);
	return !reader.failed && reader.at == reader.end;
}

/* --- text --- */

/*
 * The character at *at, which is moved behind it; -1 if it is not UTF-8.  Neither
 * surrogates nor what is longer than it need be are.
 */
static int32_t
next_character(const unsigned char **at, const unsigned char *end)
{
	static const int32_t lowest[] = {0, 0x80, 0x800, 0x10000};
	const unsigned char *p = *at;
	int			more = *p < 0x80 ? 0 : *p >= 0xF0 ? 3 : *p >= 0xE0 ? 2 : 1;
	int32_t		c = more == 0 ? *p : *p & (0x3F >> more);

	if ((*p >= 0x80 && *p < 0xC2) || *p > 0xF4 || end - p <= more)
		return -1;
	for (int i = 1; i <= more; i++)
	{
		if ((p[i] & 0xC0) != 0x80)
			return -1;
		c = c << 6 | (p[i] & 0x3F);
	}
	*at = p + more + 1;
	return c < lowest[more] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000) ? -1 : c;
}

bool
evs_mqtt_is_text(const char *text, size_t length)
{
	const unsigned char *at = (const unsigned char *) text;
	const unsigned char *end = at + length;

	while (at < end)
	{
		int32_t		c = next_character(&at, end);

		if (c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0xFDD0 && c <= 0xFDEF) ||
			(c & 0xFFFE) == 0xFFFE)
			return false;
	}
	return true;
}

bool
evs_mqtt_is_utf8(const char *text, size_t length)
{
	const unsigned char *at = (const unsigned char *) text;
	const unsigned char *end = at + length;
	uint64_t	word;

	while (at < end)
	{
		/* Most of it is ASCII. */
		while (end - at >= 8 && (memcpy(&word, at, 8), (word & UINT64_C(0x8080808080808080)) == 0))
			at += 8;
		if (at < end && next_character(&at, end) < 0)
			return false;
	}
	return true;
}
