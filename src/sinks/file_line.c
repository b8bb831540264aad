/*
 * file_line.c
 *	  Lines of the file sink: which of them are whole, and their positions.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"

/* ---- the position in a line ---- */

/* Behind a JSON string that begins at the quote; NULL if it does not end. */
static const char *
skip_string(const char *at, const char *end)
{
	for (at++; at < end; at++)
	{
		if (*at == '"')
			return at + 1;
		if (*at == '\\')
			at++;
	}
	return NULL;
}

static const char *
skip_space(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\t' || *at == '\r'))
		at++;
	return at;
}

/* A string of digits, quotes included; 0 if it is not one, or is too large. */
static int64_t
digits(const char *at, const char *end)
{
	int64_t		value = 0;

	for (at++, end--; at < end; at++)
	{
		if (*at < '0' || *at > '9' || value > (INT64_MAX - 9) / 10)
			return 0;
		value = value * 10 + (*at - '0');
	}
	return value;
}

/* Is there "sequence": and a string at this place, a name of the outermost object? */
static bool
is_sequence(const char *at, const char *after, const char *end, const char **value)
{
	static const char name[] = "\"sequence\"";

	if ((size_t) (after - at) != sizeof(name) - 1 || memcmp(at, name, sizeof(name) - 1) != 0)
		return false;
	*value = skip_space(after, end);
	if (*value == end || **value != ':')
		return false;
	*value = skip_space(*value + 1, end);
	return *value < end && **value == '"';
}

/*
 * Our own writing, so this is no parser: brackets are counted, strings skipped.
 * A line that does not end at depth 0, or has two of the member, has no position.
 */
int64_t
evs_file_line_position(const char *line, size_t length)
{
	const char *end = line + length;
	const char *at = skip_space(line, end);
	const char *value;
	int64_t		position = 0;
	int			found = 0;
	int			depth = 0;
	bool		name = true;	/* a string here would be a member's name */

	if (at == end || *at != '{')
		return 0;
	while (at < end)
	{
		const char *after = at + 1;

		if (*at == '"')
		{
			after = skip_string(at, end);
			if (after == NULL)
				return 0;
			if (depth == 1 && name && is_sequence(at, after, end, &value))
			{
				after = skip_string(value, end);
				position = after != NULL ? digits(value, after) : 0;
				if (after == NULL || ++found > 1)
					return 0;
			}
			name = false;
		}
		else if (*at == '{' || *at == '[')
			name = ++depth == 1;
		else if (*at == '}' || *at == ']')
		{
			if (--depth == 0)
				return skip_space(after, end) == end ? position : 0;
		}
		else if (*at == ',')
			name = true;
		at = after;
	}
	return 0;
}

/* ---- where lines begin ---- */

static int
read_all(int fd, char *data, size_t length, off_t offset)
{
	while (length > 0)
	{
		ssize_t		n = pread(fd, data, length, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? errno : EIO;
		data += n;
		offset += n;
		length -= n;
	}
	return 0;
}

/*
 * Behind the last newline before a place, or 0.  Long lines make that a search
 * through many buffers.
 */
static int
find_line_start(int fd, off_t before, off_t *start)
{
	char		buffer[65536];

	while (before > 0)
	{
		size_t		length = before < (off_t) sizeof(buffer) ? (size_t) before : sizeof(buffer);
		int			code = read_all(fd, buffer, length, before - length);
		char	   *newline;

		if (code != 0)
			return code;
		newline = memrchr(buffer, '\n', length);
		before -= length;
		if (newline != NULL)
		{
			*start = before + (newline - buffer) + 1;
			return 0;
		}
	}
	*start = 0;
	return 0;
}

int
evs_file_last_position(int fd, off_t size, int64_t *position)
{
	off_t		start;
	char	   *line;
	int			code = size > 0 ? find_line_start(fd, size - 1, &start) : 0;

	*position = 0;
	if (size == 0 || code != 0)
		return code;
	line = malloc(size - start);
	if (line == NULL)
		return ENOMEM;
	code = read_all(fd, line, size - start, start);
	if (code == 0)
		*position = evs_file_line_position(line, size - start - 1);
	free(line);
	return code;
}

/* The first zero byte between two places; -1 if there is none. */
static int
find_zero(int fd, off_t start, off_t end, off_t *zero)
{
	char		buffer[65536];

	for (*zero = -1; start < end; start += sizeof(buffer))
	{
		size_t		length = end - start < (off_t) sizeof(buffer) ? (size_t) (end - start) : sizeof(buffer);
		int			code = read_all(fd, buffer, length, start);
		char	   *found = code == 0 ? memchr(buffer, '\0', length) : NULL;

		if (code != 0)
			return code;
		if (found != NULL)
		{
			*zero = start + (found - buffer);
			return 0;
		}
	}
	return 0;
}

/*
 * A process that is killed leaves a part of a line.  A machine that stops can
 * leave zeroes in the place of anything that was not yet durable, which is one
 * write; lines of ours have none.
 */
int
evs_file_find_end(int fd, off_t size, off_t *end)
{
	off_t		start;
	off_t		last;
	off_t		zero;
	int			code = find_line_start(fd, size, end);

	if (code != 0 || *end == 0)
		return code;
	start = *end > (off_t) EVS_FILE_RUN_MAX ? *end - (off_t) EVS_FILE_RUN_MAX : 0;
	code = find_line_start(fd, *end - 1, &last);
	if (code != 0)
		return code;
	if (last < start)
		start = last;			/* a long line was a write of its own */
	code = find_zero(fd, start, *end, &zero);
	if (code != 0 || zero < 0)
		return code;
	return find_line_start(fd, zero, end);
}
