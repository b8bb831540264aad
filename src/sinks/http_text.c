/*
 * http_text.c
 *	  Encodings of the http sink, and what may stand in a header.
 */
#include <ctype.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "http_profile.h"

/* A field name of HTTP. */
bool
evs_http_is_token(const char *name)
{
	static const char others[] = "!#$%&'*+-.^_`|~";

	if (*name == '\0')
		return false;
	for (; *name != '\0'; name++)
	{
		unsigned char c = *name;

		if (c >= 0x80 || (!isalnum(c) && strchr(others, c) == NULL))
			return false;
	}
	return true;
}

/* Nothing that ends a line or is invisible: a header cannot become two. */
bool
evs_http_is_header_value(const char *value)
{
	for (; *value != '\0'; value++)
	{
		unsigned char c = *value;

		if ((c < 0x20 && c != '\t') || c == 0x7F)
			return false;
	}
	return true;
}

static void
add_percent_byte(evs_sink_buffer *buffer, unsigned char c)
{
	static const char digits[] = "0123456789ABCDEF";
	char		encoded[3] = {'%', digits[c >> 4], digits[c & 15]};

	evs_sink_add(buffer, encoded, sizeof(encoded));
}

/* A value of a ce- header: CloudEvents' HTTP binding, 3.1.3.2. */
void
evs_http_add_percent(evs_sink_buffer *buffer, const char *value)
{
	for (; *value != '\0'; value++)
	{
		unsigned char c = *value;

		if (c > 0x20 && c < 0x7F && c != '"' && c != '%')
			evs_sink_add(buffer, &c, 1);
		else
			add_percent_byte(buffer, c);
	}
}

/* A piece of a URL's path or query: all but the unreserved characters are encoded. */
void
evs_http_add_uri_bytes(evs_sink_buffer *buffer, const void *data, size_t length)
{
	const unsigned char *c = data;
	const unsigned char *end = c + length;
	const unsigned char *start = c;

	for (; c < end; c++)
	{
		if (*c < 0x80 && (isalnum(*c) || (*c != '\0' && strchr("-._~", *c) != NULL)))
			continue;
		evs_sink_add(buffer, start, c - start);
		add_percent_byte(buffer, *c);
		start = c + 1;
	}
	evs_sink_add(buffer, start, c - start);
}

void
evs_http_add_uri(evs_sink_buffer *buffer, const char *value)
{
	evs_http_add_uri_bytes(buffer, value, strlen(value));
}

void
evs_http_add_base64(evs_sink_buffer *buffer, const void *data, size_t length)
{
	const unsigned char *from = data;
	unsigned char encoded[65];

	/* Whole groups of three, so that the pieces can be joined. */
	while (length > 0)
	{
		size_t		n = length < 48 ? length : 48;

		evs_sink_add(buffer, encoded, EVP_EncodeBlock(encoded, from, (int) n));
		from += n;
		length -= n;
	}
	OPENSSL_cleanse(encoded, sizeof(encoded));
}

void
evs_http_add_hex(evs_sink_buffer *buffer, const unsigned char *data, size_t length)
{
	for (size_t i = 0; i < length; i++)
		evs_sink_printf(buffer, "%02x", data[i]);
}

/*
 * Has the path a segment "." or ".."?  Servers, and libcurl, take such segments
 * out with what stands before them, so a topic could leave the configured path.
 */
bool
evs_http_has_dot_segment(const char *url)
{
	const char *c = strstr(url, "://");

	c = strchr(c != NULL ? c + 3 : url, '/');
	while (c != NULL && *c == '/')
	{
		size_t		length = strcspn(++c, "/?#");

		if ((length == 1 && c[0] == '.') || (length == 2 && c[0] == '.' && c[1] == '.'))
			return true;
		c += length;
	}
	return false;
}

/* Empty a buffer so that nothing of it stays in memory; what it had allocated is kept. */
void
evs_http_clear(evs_sink_buffer *buffer)
{
	if (buffer->data != NULL)
		OPENSSL_cleanse(buffer->data, buffer->size);
	buffer->length = 0;
	buffer->failed = false;
}

/* ---- UTF-8, JSON and XML ---- */

/* Of the character that begins with this byte of UTF-8; 0: none does. */
static size_t
utf8_length_by_first(unsigned char first)
{
	if (first < 0x80)
		return 1;
	if (first >= 0xC2 && first < 0xE0)
		return 2;
	if (first >= 0xE0 && first < 0xF0)
		return 3;
	return first >= 0xF0 && first < 0xF5 ? 4 : 0;
}

/*
 * How many of the bytes at c are a character of UTF-8, with end as the first
 * byte that is not there?  0: none, or one that is cut off.
 */
size_t
evs_http_utf8_length(const unsigned char *c, const unsigned char *end)
{
	size_t		n = utf8_length_by_first(*c);

	if (n == 0 || (size_t) (end - c) < n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((c[i] & 0xC0) != 0x80)
			return 0;
	/* Not the shortest form, a surrogate, or beyond the last character. */
	if ((*c == 0xE0 && c[1] < 0xA0) || (*c == 0xED && c[1] > 0x9F) ||
		(*c == 0xF0 && c[1] < 0x90) || (*c == 0xF4 && c[1] > 0x8F))
		return 0;
	return n;
}

void
evs_http_add_json(evs_sink_buffer *buffer, const void *data, size_t length)
{
	const char *from = data;
	size_t		start = 0;

	evs_sink_add(buffer, "\"", 1);
	for (size_t i = 0; i < length; i++)
	{
		unsigned char c = from[i];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		evs_sink_add(buffer, from + start, i - start);
		start = i + 1;
		if (c >= 0x20)
			evs_sink_printf(buffer, "\\%c", c);
		else
			evs_sink_printf(buffer, "\\u%04x", c);
	}
	evs_sink_add(buffer, from + start, length - start);
	evs_sink_add(buffer, "\"", 1);
}

bool
evs_http_is_xml_text(const void *data, size_t length)
{
	const unsigned char *c = data;
	const unsigned char *end = c + length;

	while (c < end)
	{
		size_t		n = evs_http_utf8_length(c, end);

		if (n == 0 || (*c < 0x20 && *c != '\t' && *c != '\n' && *c != '\r'))
			return false;
		/* U+FFFE and U+FFFF */
		if (*c == 0xEF && c[1] == 0xBF && c[2] >= 0xBE)
			return false;
		c += n;
	}
	return true;
}

void
evs_http_json_excerpt(const evs_sink_json_value *value, char *out, size_t size)
{
	evs_sink_json_value part = *value;
	size_t		length = 0;

	/* Whole escapes; each is at least as long as what it stands for. */
	while (length < value->length)
	{
		size_t		n = value->text[length] != '\\' ? 1 : value->text[length + 1] == 'u' ? 6 : 2;

		if (length + n >= size)
			break;
		length += n;
	}
	part.length = length;
	if (!evs_sink_json_string(&part, out, size))
		out[0] = '\0';
}
