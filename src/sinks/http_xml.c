/*
 * http_xml.c
 *	  A small strict reader of XML, for what services answer.
 *
 * Elements and their texts; attributes, comments and instructions are passed over.
 * There are no document types, and so no entities but the five of XML itself and
 * those of characters.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "http_profile.h"

#define MAX_DEPTH 16
#define MAX_PATH 256

typedef struct Reader
{
	const char *at;
	const char *end;
	char		path[MAX_PATH];
	size_t		lengths[MAX_DEPTH]; /* of the path, before each element */
	int			depth;
	bool		has_root;
	const char *content;		/* of the innermost element without elements */
	EvsHttpXmlCallback callback;
	void	   *arg;
} Reader;

static bool
begins_with(const Reader *reader, const char *what)
{
	size_t		length = strlen(what);

	return (size_t) (reader->end - reader->at) >= length && memcmp(reader->at, what, length) == 0;
}

/* To behind the next occurrence. */
static bool
skip_past(Reader *reader, const char *what)
{
	for (; reader->at < reader->end; reader->at++)
		if (begins_with(reader, what))
		{
			reader->at += strlen(what);
			return true;
		}
	return false;
}

/* A name without its prefix. */
static bool
read_name(Reader *reader, const char **name, size_t *length)
{
	*name = reader->at;
	while (reader->at < reader->end && (isalnum((unsigned char) *reader->at) || strchr("-_.:", *reader->at) != NULL) &&
		   *reader->at != '\0')
	{
		if (*reader->at++ == ':')
			*name = reader->at;
	}
	*length = reader->at - *name;
	return *length > 0;
}

static bool
push(Reader *reader, const char *name, size_t length)
{
	size_t		before = strlen(reader->path);

	if (reader->depth == MAX_DEPTH || before + length + 2 > MAX_PATH)
		return false;
	reader->lengths[reader->depth++] = before;
	if (before > 0)
		reader->path[before++] = '.';
	memcpy(reader->path + before, name, length);
	reader->path[before + length] = '\0';
	return true;
}

static void
pop(Reader *reader, const char *content, size_t length)
{
	reader->callback(reader->arg, reader->path, content, length);
	reader->path[reader->lengths[--reader->depth]] = '\0';
	reader->content = NULL;
}

/* To behind the end of a tag; values of attributes may have what looks like it. */
static bool
skip_attributes(Reader *reader, bool *is_empty)
{
	char		quote = '\0';

	*is_empty = false;
	for (; reader->at < reader->end; reader->at++)
	{
		char		c = *reader->at;

		if (quote != '\0')
			quote = c == quote ? '\0' : quote;
		else if (c == '"' || c == '\'')
			quote = c;
		else if (c == '<')
			return false;
		else if (c == '>')
		{
			*is_empty = reader->at[-1] == '/';
			reader->at++;
			return true;
		}
	}
	return false;
}

/* Behind "<". */
static bool
read_start(Reader *reader)
{
	const char *name;
	size_t		length;
	bool		is_empty;

	if (!read_name(reader, &name, &length) || !push(reader, name, length) ||
		!skip_attributes(reader, &is_empty))
		return false;
	reader->has_root = true;
	reader->content = reader->at;
	if (is_empty)
		pop(reader, "", 0);
	return true;
}

/* Behind "</"; before is where "<" is. */
static bool
read_end(Reader *reader, const char *before)
{
	const char *own;
	const char *name;
	size_t		length;

	if (reader->depth == 0 || !read_name(reader, &name, &length))
		return false;
	own = reader->path + reader->lengths[reader->depth - 1];
	own += *own == '.' ? 1 : 0;
	if (strlen(own) != length || memcmp(own, name, length) != 0)
		return false;
	if (reader->content != NULL)
		pop(reader, reader->content, before - reader->content);
	else
		pop(reader, "", 0);
	while (reader->at < reader->end && isspace((unsigned char) *reader->at))
		reader->at++;
	return reader->at < reader->end && *reader->at++ == '>';
}

static bool
read_markup(Reader *reader)
{
	const char *before = reader->at;

	if (begins_with(reader, "<?"))
		return skip_past(reader, "?>");
	if (begins_with(reader, "<!--"))
		return skip_past(reader, "-->");
	if (begins_with(reader, "<!"))
		return false;
	if (begins_with(reader, "</"))
	{
		reader->at += 2;
		return read_end(reader, before);
	}
	reader->at++;
	return read_start(reader);
}

bool
evs_http_xml_scan(const char *content, size_t length, EvsHttpXmlCallback callback, void *arg)
{
	Reader		reader = {.at = content, .end = content + length, .callback = callback, .arg = arg};

	while (reader.at < reader.end)
	{
		if (*reader.at == '<')
		{
			if (!read_markup(&reader))
				return false;
		}
		else if (reader.depth == 0 && !isspace((unsigned char) *reader.at))
			return false;
		else
			reader.at++;
	}
	return reader.has_root && reader.depth == 0;
}

/* What an entity stands for; ASCII only, others become '?'.  *n is its length. */
static char
entity(const char *content, size_t length, size_t *n)
{
	static const char *const names[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&apos;"};
	static const char characters[] = "&<>\"'";
	const char *end = memchr(content, ';', length < 12 ? length : 12);
	long		code;

	*n = 1;
	if (end == NULL)
		return '&';
	*n = end + 1 - content;
	for (int i = 0; i < 5; i++)
		if (strlen(names[i]) == *n && memcmp(content, names[i], *n) == 0)
			return characters[i];
	if (content[1] != '#')
		return '?';
	code = content[2] == 'x' ? strtol(content + 3, NULL, 16) : strtol(content + 2, NULL, 10);
	return code > 0 && code < 0x80 ? (char) code : '?';
}

void
evs_http_xml_excerpt(const char *content, size_t length, char *out, size_t size)
{
	size_t		written = 0;

	for (size_t i = 0, n; i < length && written + 1 < size; i += n)
	{
		n = 1;
		out[written++] = content[i] == '&' ? entity(content + i, length - i, &n) : content[i];
	}
	out[written] = '\0';
}
