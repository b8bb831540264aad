/*
 * http_cloud.c
 *	  What the profiles of clouds share.
 */
#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <string.h>
#include <strings.h>

#include "http_cloud.h"

/* ---- settings ---- */

static bool
is_loopback(const char *host)
{
	struct in_addr address;

	return strcasecmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 ||
		(inet_pton(AF_INET, host, &address) == 1 && ntohl(address.s_addr) >> 24 == 127);
}

bool
evs_cloud_require_tls(EvsHttpReader *reader, const char *name, const EvsHttpPlace *place)
{
	if (place->is_tls || is_loopback(place->host))
		return true;
	return evs_http_fail(reader, "setting \"%s\" must begin with https://, as credentials are sent", name);
}

/* ---- text ---- */

/* A character of n bytes. */
static unsigned long
decode_utf8(const unsigned char *at, size_t n)
{
	unsigned long c = n == 1 ? *at : *at & (0xFF >> (n + 1));

	for (size_t i = 1; i < n; i++)
		c = c << 6 | (at[i] & 0x3F);
	return c;
}

void
evs_cloud_add_ascii_json(evs_sink_buffer *buffer, const char *text)
{
	const unsigned char *at = (const unsigned char *) text;
	const unsigned char *end = at + strlen(text);

	evs_sink_add(buffer, "\"", 1);
	while (at < end)
	{
		size_t		n = evs_http_utf8_length(at, end);
		unsigned long c = n > 0 ? decode_utf8(at, n) : 0xFFFD;

		if (c > 0xFFFF)
			evs_sink_printf(buffer, "\\u%04lx\\u%04lx", 0xD7C0 + (c >> 10), 0xDC00 + (c & 0x3FF));
		else if (c < 0x20 || c >= 0x7F)
			evs_sink_printf(buffer, "\\u%04lx", c);
		else if (c == '"' || c == '\\')
			evs_sink_printf(buffer, "\\%c", (char) c);
		else
			evs_sink_add(buffer, at, 1);
		at += n > 0 ? n : 1;
	}
	evs_sink_add(buffer, "\"", 1);
}

static bool
is_utf8(const void *data, size_t length)
{
	const unsigned char *at = data;
	const unsigned char *end = at + length;
	size_t		n = 1;

	while (at < end && (n = evs_http_utf8_length(at, end)) > 0)
		at += n;
	return n > 0;
}

bool
evs_cloud_check_text(EvsHttpRequest *request, const evs_sink_message *message)
{
	if (message->length == 0)
		evs_http_result(request, EVS_SINK_PERMANENT, "the message has no payload");
	else if (!is_utf8(message->data, message->length))
		evs_http_result(request, EVS_SINK_PERMANENT, "the message is not valid UTF-8");
	else
		return true;
	return false;
}

/* ---- messages ---- */

const char *
evs_cloud_content_type(const EvsHttpRequest *request, const evs_sink_message *message)
{
	switch (request->sink->config.format)
	{
		case EVS_HTTP_STRUCTURED:
		case EVS_HTTP_BATCH:
			return "application/cloudevents+json; charset=utf-8";
		default:
			return message->content_type != NULL ? message->content_type : "";
	}
}

bool
evs_cloud_add_bearer(EvsHttpRequest *request, const char *secret)
{
	char		value[EVS_HTTP_SECRET_MAX];
	bool		ok = evs_http_get_header_secret(request, secret, value);

	if (ok)
	{
		evs_sink_printf(evs_http_begin_header(request, "Authorization"), "Bearer %s", value);
		ok = evs_http_end_header(request);
	}
	OPENSSL_cleanse(value, sizeof(value));
	return ok;
}

/* ---- results ---- */

void
evs_cloud_reclassify(EvsHttpRequest *request, evs_sink_class what)
{
	request->result.result = what;
	request->result.retry_after_ms = what == EVS_SINK_RETRY || what == EVS_SINK_RETRY_SINK ?
		evs_http_retry_after(request) : -1;
}

void
evs_cloud_explain(EvsHttpRequest *request, const char *code, const char *text)
{
	evs_sink_result before = request->result;

	evs_http_result(request, before.result, "HTTP %d%s%s%s%s", (int) before.code,
					*code ? " " : "", code, *text ? ": " : "", text);
	request->result.code = before.code;
	request->result.retry_after_ms = before.retry_after_ms;
}
