/*
 * sink_json.c
 *	  A small strict reader of JSON for what brokers answer.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "sink_json.h"

#define MAX_DEPTH 32
#define MAX_PATH 256

typedef struct Reader
{
	const char *at;
	const char *end;
	int			depth;
	size_t		path_length;	/* MAX_PATH and more: too long */
	char		path[MAX_PATH];
	evs_sink_json_callback callback;
	void	   *arg;
} Reader;

static bool read_value(Reader *reader);

static void
skip_space(Reader *reader)
{
	while (reader->at < reader->end && strchr(" \t\r\n", *reader->at) != NULL && *reader->at != '\0')
		reader->at++;
}

static bool
take(Reader *reader, char c)
{
	skip_space(reader);
	if (reader->at == reader->end || *reader->at != c)
		return false;
	reader->at++;
	return true;
}

static void
report(Reader *reader, char kind, const char *text)
{
	evs_sink_json_value value = {reader->path, kind, text, reader->at - text};

	if (reader->path_length >= MAX_PATH)
		return;
	if (kind == '"')
		value.length--;			/* the closing quote */
	reader->callback(reader->arg, &value);
}

/* A name goes to the end of the path; the caller restores path_length. */
static void
push_path(Reader *reader, const char *name, size_t length)
{
	size_t		dot = reader->path_length > 0 ? 1 : 0;

	if (reader->path_length + dot + length >= MAX_PATH)
	{
		reader->path_length = MAX_PATH;
		return;
	}
	if (dot)
		reader->path[reader->path_length++] = '.';
	memcpy(reader->path + reader->path_length, name, length);
	reader->path_length += length;
	reader->path[reader->path_length] = '\0';
}

static void
pop_path(Reader *reader, size_t length)
{
	reader->path_length = length;
	if (length < MAX_PATH)
		reader->path[length] = '\0';
}

static bool
is_hex(const char *text, int n)
{
	while (n-- > 0)
		if (!isxdigit((unsigned char) *text++))
			return false;
	return true;
}

/* Behind the opening quote; ends behind the closing one. */
static bool
read_string(Reader *reader)
{
	while (reader->at < reader->end)
	{
		unsigned char c = *reader->at++;

		if (c == '"')
			return true;
		if (c < ' ')
			return false;
		if (c != '\\')
			continue;
		if (reader->at == reader->end)
			return false;
		c = *reader->at++;
		if (c == 'u')
		{
			if (reader->end - reader->at < 4 || !is_hex(reader->at, 4))
				return false;
			reader->at += 4;
		}
		else if (c == '\0' || strchr("\"\\/bfnrt", c) == NULL)
			return false;
	}
	return false;
}

static bool
read_digits(Reader *reader)
{
	const char *start = reader->at;

	while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9')
		reader->at++;
	return reader->at > start;
}

static bool
read_number(Reader *reader)
{
	if (*reader->at == '-')
		reader->at++;
	if (reader->at < reader->end && *reader->at == '0')
		reader->at++;
	else if (!read_digits(reader))
		return false;
	if (reader->at < reader->end && *reader->at == '.')
	{
		reader->at++;
		if (!read_digits(reader))
			return false;
	}
	if (reader->at < reader->end && (*reader->at == 'e' || *reader->at == 'E'))
	{
		reader->at++;
		if (reader->at < reader->end && (*reader->at == '+' || *reader->at == '-'))
			reader->at++;
		return read_digits(reader);
	}
	return true;
}

static bool
read_word(Reader *reader, const char *word)
{
	size_t		length = strlen(word);

	if ((size_t) (reader->end - reader->at) < length || memcmp(reader->at, word, length) != 0)
		return false;
	reader->at += length;
	return true;
}

static bool
read_object(Reader *reader)
{
	size_t		before = reader->path_length;

	if (take(reader, '}'))
		return true;
	do
	{
		const char *name;

		if (!take(reader, '"'))
			return false;
		name = reader->at;
		if (!read_string(reader))
			return false;
		push_path(reader, name, reader->at - 1 - name);
		if (!take(reader, ':') || !read_value(reader))
			return false;
		pop_path(reader, before);
	} while (take(reader, ','));
	return take(reader, '}');
}

static bool
read_array(Reader *reader)
{
	size_t		before = reader->path_length;
	int			n = 0;

	if (take(reader, ']'))
		return true;
	do
	{
		char		number[16];

		push_path(reader, number, snprintf(number, sizeof(number), "%d", n++));
		if (!read_value(reader))
			return false;
		pop_path(reader, before);
	} while (take(reader, ','));
	return take(reader, ']');
}

static bool
read_nested(Reader *reader, char c)
{
	bool		good;

	if (++reader->depth > MAX_DEPTH)
		return false;
	reader->at++;
	good = c == '{' ? read_object(reader) : read_array(reader);
	reader->depth--;
	return good;
}

static bool
read_value(Reader *reader)
{
	const char *start;
	char		c;

	skip_space(reader);
	if (reader->at == reader->end)
		return false;
	start = reader->at;
	c = *start;
	if (c == '{' || c == '[')
		return read_nested(reader, c);
	if (c == '"')
	{
		reader->at++;
		start++;
		if (!read_string(reader))
			return false;
	}
	else if (c == 't' || c == 'f' || c == 'n')
	{
		if (!read_word(reader, c == 't' ? "true" : c == 'f' ? "false" : "null"))
			return false;
	}
	else
	{
		c = '0';
		if (!read_number(reader))
			return false;
	}
	report(reader, c, start);
	return true;
}

bool
evs_sink_json_scan(const char *text, size_t length, evs_sink_json_callback callback, void *arg)
{
	Reader		reader = {.at = text,.end = text + length,.callback = callback,.arg = arg};

	if (!read_value(&reader))
		return false;
	skip_space(&reader);
	return reader.at == reader.end;
}

/* One escape, behind its backslash, as UTF-8; returns what it takes of the text. */
static int
unescape(const char *text, char *out, int *n)
{
	static const char from[] = "\"\\/bfnrt";
	static const char to[] = "\"\\/\b\f\n\r\t";
	unsigned int code;

	*n = 1;
	if (*text != 'u')
	{
		out[0] = to[strchr(from, *text) - from];
		return 1;
	}
	sscanf(text + 1, "%4x", &code);
	if (code < 0x80)
		out[0] = code > 0 && (code < 0xd800 || code > 0xdfff) ? (char) code : '?';
	else if (code >= 0xd800 && code <= 0xdfff)
		out[0] = '?';
	else if (code < 0x800)
	{
		*n = 2;
		out[0] = 0xc0 | code >> 6;
		out[1] = 0x80 | (code & 0x3f);
	}
	else
	{
		*n = 3;
		out[0] = 0xe0 | code >> 12;
		out[1] = 0x80 | (code >> 6 & 0x3f);
		out[2] = 0x80 | (code & 0x3f);
	}
	return 5;
}

bool
evs_sink_json_string(const evs_sink_json_value *value, char *out, size_t size)
{
	const char *at = value->text;
	const char *end = at + value->length;
	size_t		length = 0;

	if (value->kind != '"')
		return false;
	while (at < end)
	{
		char		bytes[4];
		int			n = 1;

		if (*at == '\\')
			at += 1 + unescape(at + 1, bytes, &n);
		else
			bytes[0] = *at++;
		if (length + n >= size)
			return false;
		memcpy(out + length, bytes, n);
		length += n;
	}
	if (length >= size)
		return false;
	out[length] = '\0';
	return true;
}

bool
evs_sink_json_uint(const evs_sink_json_value *value, uint64_t *number)
{
	*number = 0;
	if (value->kind != '0' || value->length == 0)
		return false;
	for (size_t i = 0; i < value->length; i++)
	{
		unsigned int digit = (unsigned char) value->text[i] - '0';

		if (digit > 9 || *number > (UINT64_MAX - digit) / 10)
			return false;
		*number = *number * 10 + digit;
	}
	return true;
}

void
evs_sink_json_add(evs_sink_buffer *buffer, const char *string)
{
	evs_sink_add(buffer, "\"", 1);
	for (; *string != '\0'; string++)
	{
		if ((unsigned char) *string < ' ')
			evs_sink_printf(buffer, "\\u%04x", (unsigned char) *string);
		else if (*string == '"' || *string == '\\')
			evs_sink_printf(buffer, "\\%c", *string);
		else
			evs_sink_add(buffer, string, 1);
	}
	evs_sink_add(buffer, "\"", 1);
}
