/*
 * http_header.c
 *	  Header lines of a request, and the secrets that stand in them.
 */
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http_profile.h"

bool
evs_http_no_memory(EvsHttpRequest *request)
{
	evs_http_result(request, EVS_SINK_RETRY_SINK, "out of memory");
	return false;
}

/* Another one has been added to the lines. */
static bool
end_line(EvsHttpRequest *request)
{
	evs_sink_add(&request->lines, "", 1);
	request->nheaders++;
	return request->lines.failed ? evs_http_no_memory(request) : true;
}

/* Not even what libcurl would set by itself. */
bool
evs_http_omit_header(EvsHttpRequest *request, const char *name)
{
	evs_sink_add_string(&request->lines, name);
	evs_sink_add(&request->lines, ":", 1);
	return end_line(request);
}

evs_sink_buffer *
evs_http_begin_header(EvsHttpRequest *request, const char *name)
{
	evs_sink_add_string(&request->lines, name);
	evs_sink_add(&request->lines, ": ", 2);
	request->value_at = request->lines.length;
	return &request->lines;
}

/* The value is there. */
bool
evs_http_end_header(EvsHttpRequest *request)
{
	evs_sink_buffer *lines = &request->lines;

	/* To libcurl "name:" means to leave it out, and "name;" that it is empty. */
	if (!lines->failed && lines->length == request->value_at)
	{
		lines->length -= 2;
		evs_sink_add(lines, ";", 1);
	}
	return end_line(request);
}

static bool
has_line(const EvsHttpRequest *request, const char *name)
{
	const char *line = request->lines.data;
	size_t		length = strlen(name);

	for (int i = 0; i < request->nheaders; i++)
	{
		if (strncasecmp(line, name, length) == 0 && (line[length] == ':' || line[length] == ';'))
			return true;
		line += strlen(line) + 1;
	}
	return false;
}

/*
 * The list that libcurl wants, of the lines: what curl_slist_append() makes would be
 * allocated anew for each message.
 */
static bool
link_lines(EvsHttpRequest *request)
{
	char	   *line = request->lines.data;

	if (request->max_headers < request->nheaders)
	{
		struct curl_slist *headers = realloc(request->headers, sizeof(*headers) * request->nheaders);

		if (headers == NULL)
			return evs_http_no_memory(request);
		request->headers = headers;
		request->max_headers = request->nheaders;
	}
	for (int i = 0; i < request->nheaders; i++)
	{
		request->headers[i].data = line;
		request->headers[i].next = i + 1 < request->nheaders ? &request->headers[i + 1] : NULL;
		line += strlen(line) + 1;
	}
	return true;
}

bool
evs_http_add_header(EvsHttpRequest *request, const char *name, const char *value)
{
	evs_sink_add_string(evs_http_begin_header(request, name), value);
	return evs_http_end_header(request);
}

bool
evs_http_add_header_lines(EvsHttpRequest *request, char *lines)
{
	for (char *line = lines, *next; line != NULL; line = next)
	{
		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		evs_sink_add_string(&request->lines, line);
		if (!end_line(request))
			return false;
	}
	return true;
}

/* Headers that are the sink's in every request, unless somebody wanted another one. */
bool
evs_http_end_headers(EvsHttpRequest *request)
{
	/* As an option libcurl would format it twice for each request. */
	return (has_line(request, "User-Agent") || evs_http_add_header(request, "User-Agent", "evstore")) &&
		link_lines(request);
}

/* ---- secrets ---- */

/* Read a secret into value, of EVS_HTTP_SECRET_MAX bytes; -1 with a result if that cannot be. */
int
evs_http_get_secret(EvsHttpRequest *request, const char *name, char *value)
{
	const evs_sink_host *host = request->sink->host;
	int			length = host->secret(host->ctx, name, value, EVS_HTTP_SECRET_MAX);

	if (length >= 0 && length < EVS_HTTP_SECRET_MAX)
		return length;
	evs_http_result(request, EVS_SINK_FATAL, length < 0 ? "there is no secret \"%s\"" :
					"the secret \"%s\" is too long", name);
	return -1;
}

/* What is sent must not be shown when it comes back. */
void
evs_http_remember_secret(EvsHttpRequest *request, const char *value)
{
	if (*value != '\0')
		evs_sink_add(&request->secrets, value, strlen(value) + 1);
}

/* As evs_http_get_secret(), for a value that is sent. */
bool
evs_http_get_header_secret(EvsHttpRequest *request, const char *name, char *value)
{
	int			length = evs_http_get_secret(request, name, value);

	if (length < 0)
		return false;
	if (strlen(value) != (size_t) length || !evs_http_is_header_value(value))
	{
		evs_http_result(request, EVS_SINK_FATAL, "the secret \"%s\" has a control character", name);
		return false;
	}
	evs_http_remember_secret(request, value);
	return request->secrets.failed ? evs_http_no_memory(request) : true;
}
