/*
 * redis_reply.c
 *	  What Redis answers: RESP2, as much of it as we ask for.
 *
 * That is a scalar, or an array of a few scalars, none of them large.
 */
#include <stdio.h>
#include <string.h>

#include "redis_sink.h"

#define MAX_LINE 65536
#define MAX_BULK 1048576

/* The line that begins behind the type, without its end; as evs_redis_parse(). */
static int
read_line(const char *at, const char *end, size_t *length)
{
	const char *newline = memchr(at, '\n', end - at);

	if (newline == NULL)
		return end - at > MAX_LINE ? -1 : 0;
	if (newline - at > MAX_LINE || newline == at || newline[-1] != '\r')
		return -1;
	*length = newline - at - 1;
	return 1;
}

static bool
read_number(const char *text, size_t length, int64_t *number)
{
	bool		negative = length > 0 && *text == '-';
	size_t		i = negative ? 1 : 0;

	*number = 0;
	if (length == i || length > 18)
		return false;
	for (; i < length; i++)
	{
		if (text[i] < '0' || text[i] > '9')
			return false;
		*number = *number * 10 + (text[i] - '0');
	}
	if (negative)
		*number = -*number;
	return true;
}

/* A value at *at, which is moved behind it.  Of an array only its size. */
static int
read_value(const char **at, const char *end, EvsRedisValue *value)
{
	const char *line = *at + 1;
	size_t		length;
	int			rc;

	if (*at == end)
		return 0;
	memset(value, 0, sizeof(*value));
	value->type = **at;
	if (value->type == '\0' || strchr("+-:$*", value->type) == NULL)
		return -1;
	rc = read_line(line, end, &length);
	if (rc != 1)
		return rc;
	value->text = line;
	value->length = length;
	line += length + 2;
	if (value->type == '+' || value->type == '-')
	{
		*at = line;
		return 1;
	}
	if (!read_number(value->text, length, &value->number))
		return -1;
	if (value->type == '$')
	{
		if (value->number < -1 || value->number > MAX_BULK)
			return -1;
		value->text = value->number < 0 ? NULL : line;
		value->length = value->number < 0 ? 0 : (size_t) value->number;
		if (value->number >= 0)
		{
			if ((size_t) (end - line) < value->length + 2)
				return 0;
			if (memcmp(line + value->length, "\r\n", 2) != 0)
				return -1;
			line += value->length + 2;
		}
	}
	*at = line;
	return 1;
}

int
evs_redis_parse(const char *data, size_t length, EvsRedisReply *reply, size_t *taken)
{
	const char *at = data;
	const char *end = data + length;
	int			rc = read_value(&at, end, &reply->value);

	reply->nitems = 0;
	if (rc == 1 && reply->value.type == '*')
	{
		if (reply->value.number < -1 || reply->value.number > EVS_REDIS_ITEMS)
			return -1;
		for (; rc == 1 && reply->nitems < reply->value.number; reply->nitems++)
		{
			rc = read_value(&at, end, &reply->items[reply->nitems]);
			if (rc == 1 && reply->items[reply->nitems].type == '*')
				return -1;
		}
	}
	*taken = at - data;
	return rc;
}

void
evs_redis_copy_text(const EvsRedisValue *value, char *text, size_t size)
{
	size_t		n = value->length < size - 1 ? value->length : size - 1;

	for (size_t i = 0; i < n; i++)
	{
		unsigned char c = value->text[i];

		text[i] = c >= ' ' && c < 0x7f ? (char) c : '?';
	}
	text[n] = '\0';
}
