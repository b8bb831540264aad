/*
 * http_request.c
 *	  From messages to requests: URL, headers, body.
 *
 * What a message says about itself comes from who appended the event.  So it is
 * encoded or checked before it becomes a part of a URL or a header; a message
 * that fails is PERMANENT.  Secrets are asked for each request, because they
 * may have been changed; one that is not there stops the relay.
 */
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http.h"

/* ---- memory ---- */

/* Forget what a request was; its easy handle and its buffers stay. */
static void
reset_request(EvsHttpRequest *request)
{
	evs_http_clear(&request->lines);
	evs_http_clear(&request->secrets);
	request->nheaders = 0;
	request->url.length = request->body.length = 0;
	request->url.failed = request->body.failed = false;
	request->ncookies = request->nreturned = 0;
	request->is_sent = request->has_head = false;
	request->nallowed = 0;
	request->refused[0] = request->curl_error[0] = '\0';
	request->retry_after[0] = request->location[0] = '\0';
	request->allowed_origin[0] = request->allowed_rate[0] = '\0';
	request->nkept = request->nread = 0;
}

void
evs_http_request_free(EvsHttpRequest *request)
{
	curl_easy_cleanup(request->easy);
	reset_request(request);
	evs_sink_buffer_free(&request->url);
	evs_sink_buffer_free(&request->body);
	evs_sink_buffer_free(&request->lines);
	evs_sink_buffer_free(&request->secrets);
	free(request->headers);
	free(request->cookies);
	free(request);
}

/* The request is over: keep its handle for another one. */
void
evs_http_recycle(EvsHttpRequest *request)
{
	EvsHttpSink *sink = request->sink;

	evs_http_take(request);
	reset_request(request);
	/* The body of a batch may have been large; those of others are not ours. */
	evs_sink_buffer_free(&request->body);
	evs_http_put(&sink->free, request);
}

static EvsHttpRequest *
get_request(EvsHttpSink *sink)
{
	EvsHttpRequest *request = sink->free.first;

	if (request != NULL)
	{
		evs_http_take(request);
		return request;
	}
	request = calloc(1, sizeof(*request));
	if (request == NULL)
		return NULL;
	request->sink = sink;
	if (evs_http_easy_init(request))
		return request;
	evs_http_request_free(request);
	return NULL;
}

/* ---- headers ---- */

static bool
no_memory(EvsHttpRequest *request)
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
	return request->lines.failed ? no_memory(request) : true;
}

/* Not even what libcurl would set by itself. */
static bool
omit_header(EvsHttpRequest *request, const char *name)
{
	evs_sink_add_string(&request->lines, name);
	evs_sink_add(&request->lines, ":", 1);
	return end_line(request);
}

static evs_sink_buffer *
begin_line(EvsHttpRequest *request, const char *name)
{
	evs_sink_add_string(&request->lines, name);
	evs_sink_add(&request->lines, ": ", 2);
	request->value_at = request->lines.length;
	return &request->lines;
}

/* The value is there. */
static bool
add_line(EvsHttpRequest *request)
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
			return no_memory(request);
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

static bool
add_header(EvsHttpRequest *request, const char *name, const char *value)
{
	evs_sink_add_string(begin_line(request, name), value);
	return add_line(request);
}

static bool
add_content_type(EvsHttpRequest *request, const evs_sink_message *message)
{
	switch (request->sink->config.format)
	{
		case EVS_HTTP_STRUCTURED:
			return add_header(request, "Content-Type", "application/cloudevents+json; charset=utf-8");
		case EVS_HTTP_BATCH:
			return add_header(request, "Content-Type", "application/cloudevents-batch+json; charset=utf-8");
		default:
			break;
	}
	if (message->content_type != NULL && !evs_http_is_header_value(message->content_type))
	{
		evs_http_result(request, EVS_SINK_PERMANENT, "the content type has a control character");
		return false;
	}
	if (message->content_type != NULL && message->content_type[0] != '\0')
		return add_header(request, "Content-Type", message->content_type);
	return omit_header(request, "Content-Type");
}

/* The attributes as ce- headers. */
static bool
add_attributes(EvsHttpRequest *request, const evs_sink_message *message)
{
	for (int i = 0; i < message->nattributes; i++)
	{
		const evs_sink_pair *attribute = &message->attributes[i];
		evs_sink_buffer *line;
		char		name[64];

		/* It is Content-Type, and nothing else. */
		if (strcmp(attribute->name, "datacontenttype") == 0)
			continue;
		if (!evs_http_is_token(attribute->name) ||
			snprintf(name, sizeof(name), "ce-%s", attribute->name) >= (int) sizeof(name))
		{
			evs_http_result(request, EVS_SINK_PERMANENT, "\"%s\" cannot be the name of an attribute", attribute->name);
			return false;
		}
		line = begin_line(request, name);
		evs_http_add_percent(line, attribute->value);
		if (!add_line(request))
			return false;
	}
	return true;
}

/* Credentials are the relay's affair, also when it has none. */
static bool
is_configured(const EvsHttpConfig *config, const char *name)
{
	if (strcasecmp(name, "Authorization") == 0)
		return true;
	for (int i = 0; i < config->settings->nitems; i++)
	{
		const char *setting = config->settings->items[i].name;

		if (strncmp(setting, "headers.", 8) == 0 && strcasecmp(name, setting + 8) == 0)
			return true;
	}
	return false;
}

/* What the application wants to go along.  It cannot take the place of what the relay says. */
static bool
add_message_headers(EvsHttpRequest *request, const evs_sink_message *message)
{
	const EvsHttpConfig *config = &request->sink->config;

	for (int i = 0; i < message->nheaders; i++)
	{
		const evs_sink_pair *header = &message->headers[i];

		if (!evs_http_is_token(header->name) || !evs_http_is_header_value(header->value))
			evs_http_result(request, EVS_SINK_PERMANENT,
							"\"%s\" cannot be a header: a name or value is not possible in HTTP", header->name);
		else if (evs_http_is_reserved(config, header->name) || is_configured(config, header->name))
			evs_http_result(request, EVS_SINK_PERMANENT,
							"a message cannot have the header \"%s\": the relay sets it", header->name);
		else if (add_header(request, header->name, header->value))
			continue;
		return false;
	}
	return true;
}

/* ---- secrets ---- */

/* Read a secret into value, of EVS_HTTP_SECRET_MAX bytes; -1 with a result if that cannot be. */
static int
get_secret(EvsHttpRequest *request, const char *name, char *value)
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
static void
remember_secret(EvsHttpRequest *request, const char *value)
{
	if (*value != '\0')
		evs_sink_add(&request->secrets, value, strlen(value) + 1);
}

/* As get_secret(), for a value that is sent. */
static bool
get_sendable_secret(EvsHttpRequest *request, const char *name, char *value)
{
	int			length = get_secret(request, name, value);

	if (length < 0)
		return false;
	if (strlen(value) != (size_t) length || !evs_http_is_header_value(value))
	{
		evs_http_result(request, EVS_SINK_FATAL, "the secret \"%s\" has a control character", name);
		return false;
	}
	remember_secret(request, value);
	return request->secrets.failed ? no_memory(request) : true;
}

static bool
add_basic(EvsHttpRequest *request, const char *password)
{
	evs_sink_buffer *line;
	evs_sink_buffer pair = {0};
	size_t		start;

	evs_sink_printf(&pair, "%s:%s", request->sink->config.user, password);
	if (pair.failed)
		return no_memory(request);
	line = begin_line(request, "Authorization");
	evs_sink_add_string(line, "Basic ");
	start = line->length;
	evs_http_add_base64(line, pair.data, pair.length);
	if (!line->failed)
		remember_secret(request, line->data + start);
	evs_http_clear(&pair);
	evs_sink_buffer_free(&pair);
	return add_line(request);
}

static bool
add_authorization(EvsHttpRequest *request)
{
	const EvsHttpConfig *config = &request->sink->config;
	char		value[EVS_HTTP_SECRET_MAX];
	bool		ok;

	if (config->auth == EVS_HTTP_AUTH_NONE)
		return true;
	ok = get_sendable_secret(request, config->auth_secret, value);
	if (ok && config->auth == EVS_HTTP_AUTH_BASIC)
		ok = add_basic(request, value);
	else if (ok)
	{
		evs_sink_buffer *line = begin_line(request, "Authorization");

		evs_sink_add_string(line, "Bearer ");
		evs_sink_add_string(line, value);
		ok = add_line(request);
	}
	OPENSSL_cleanse(value, sizeof(value));
	return ok;
}

/* headers.* of the configuration */
static bool
add_configured_headers(EvsHttpRequest *request)
{
	const evs_sink_settings *settings = request->sink->config.settings;
	bool		ok = true;

	for (int i = 0; ok && i < settings->nitems; i++)
	{
		const evs_sink_setting *setting = &settings->items[i];
		char		value[EVS_HTTP_SECRET_MAX];

		if (strncmp(setting->name, "headers.", 8) != 0)
			continue;
		if (setting->kind != EVS_SINK_SETTING_SECRET)
			ok = add_header(request, setting->name + 8, setting->value);
		else
		{
			ok = get_sendable_secret(request, setting->value, value) &&
				add_header(request, setting->name + 8, value);
			OPENSSL_cleanse(value, sizeof(value));
		}
	}
	return ok;
}

/* Signatures are of the body as it is sent. */
static bool
add_signature(EvsHttpRequest *request)
{
	const EvsHttpConfig *config = &request->sink->config;
	evs_sink_buffer lines = {0};
	char		secret[EVS_HTTP_SECRET_MAX];
	int			length;
	bool		ok = true;

	if (config->signature == EVS_HTTP_UNSIGNED)
		return true;
	length = get_secret(request, config->signature_secret, secret);
	if (length < 0)
		return false;
	if (!evs_http_sign(request, secret, length, &lines))
	{
		evs_http_result(request, EVS_SINK_FATAL, "the secret \"%s\" is not a key to sign with", config->signature_secret);
		ok = false;
	}
	OPENSSL_cleanse(secret, sizeof(secret));
	ok = ok && (!lines.failed || no_memory(request));
	for (char *line = ok ? lines.data : NULL, *next; ok && line != NULL; line = next)
	{
		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		evs_sink_add_string(&request->lines, line);
		ok = end_line(request);
	}
	evs_sink_buffer_free(&lines);
	return ok;
}

/* ---- the rest of a request ---- */

/* Headers that are the sink's in every request, unless somebody wanted another one. */
static bool
end_headers(EvsHttpRequest *request)
{
	/* As an option libcurl would format it twice for each request. */
	return (has_line(request, "User-Agent") || add_header(request, "User-Agent", "evstore")) &&
		link_lines(request);
}

/* Where it goes, if that depends on the message. */
static bool
make_url(EvsHttpRequest *request, const evs_sink_message *message)
{
	const EvsHttpConfig *config = &request->sink->config;
	evs_sink_buffer *url = &request->url;
	const char *rest = config->url;
	const char *place;

	if (!config->has_topic)
		return true;
	if (message->topic[0] == '\0')
	{
		evs_http_result(request, EVS_SINK_PERMANENT, "the message has no topic, and url has a place for it");
		return false;
	}
	while ((place = strstr(rest, "{topic}")) != NULL)
	{
		evs_sink_add(url, rest, place - rest);
		evs_http_add_uri(url, message->topic);
		rest = place + strlen("{topic}");
	}
	evs_sink_add_string(url, rest);
	if (url->failed)
		return no_memory(request);
	if (evs_http_has_dot_segment(url->data))
	{
		evs_http_result(request, EVS_SINK_PERMANENT, "the topic \"%s\" would lead out of the path of url", message->topic);
		return false;
	}
	return true;
}

static bool
make_headers(EvsHttpRequest *request, const evs_sink_message *message)
{
	const EvsHttpConfig *config = &request->sink->config;

	/* Large bodies do not wait to be asked for. */
	if (!add_content_type(request, message) || !omit_header(request, "Expect"))
		return false;
	if (config->format == EVS_HTTP_BINARY && !add_attributes(request, message))
		return false;
	if (config->format != EVS_HTTP_BATCH &&
		!(add_message_headers(request, message) &&
		  (config->idempotency_header[0] == '\0' ||
		   add_header(request, config->idempotency_header, message->id))))
		return false;
	return add_configured_headers(request) && add_authorization(request) && add_signature(request) &&
		end_headers(request);
}

/* Can this one go with those that are there, which have so many bytes? */
static bool
fits(const EvsHttpRequest *request, const evs_sink_message *message, int64_t bytes)
{
	const evs_sink_host *host = request->sink->host;

	return request->ncookies < host->batch_size && message->length > 0 &&
		bytes + (int64_t) message->length <= host->batch_bytes &&
		(!request->sink->config.has_topic || strcmp(message->topic, request->message->topic) == 0);
}

static bool
add_cookie(EvsHttpRequest *request, uint64_t cookie)
{
	if (request->ncookies == request->max_cookies)
	{
		int			max = request->max_cookies > 0 ? request->max_cookies * 2 : 1;
		uint64_t   *cookies = realloc(request->cookies, max * sizeof(*cookies));

		if (cookies == NULL)
			return false;
		request->cookies = cookies;
		request->max_cookies = max;
	}
	request->cookies[request->ncookies++] = cookie;
	return true;
}

/* A JSON array of as many of the messages as fit. */
static bool
make_batch(EvsHttpRequest *request, int n)
{
	evs_sink_buffer *body = &request->body;
	const evs_sink_message *message = request->message;
	int64_t		bytes = message->length;

	if (message->length == 0)
	{
		evs_http_result(request, EVS_SINK_PERMANENT, "the message has no payload");
		return false;
	}
	evs_sink_add(body, "[", 1);
	evs_sink_add(body, message->data, message->length);
	for (int i = 1; i < n; i++)
	{
		message = evs_sink_message_at(request->message, i);
		if (!fits(request, message, bytes) || !add_cookie(request, message->cookie))
			break;
		evs_sink_add(body, ",", 1);
		evs_sink_add(body, message->data, message->length);
		bytes += message->length;
	}
	evs_sink_add(body, "]", 1);
	request->data = body->data;
	request->length = body->length;
	return body->failed ? no_memory(request) : true;
}

EvsHttpRequest *
evs_http_request_new(EvsHttpSink *sink, const evs_sink_message *messages, int n)
{
	EvsHttpRequest *request = get_request(sink);
	bool		ok;

	if (request == NULL)
		return NULL;
	request->message = messages;
	if (!add_cookie(request, messages->cookie))
	{
		evs_http_recycle(request);
		return NULL;
	}
	/* Never NULL: that would make libcurl ask for a body. */
	request->data = messages->data != NULL ? messages->data : "";
	request->length = messages->data != NULL ? messages->length : 0;
	ok = sink->config.format != EVS_HTTP_BATCH || make_batch(request, n);
	ok = ok && make_url(request, messages) && make_headers(request, messages);
	if (!ok)
		evs_http_put(&sink->done, request);
	return request;
}

/* The question for permission.  As above: in "done" if it cannot be asked. */
EvsHttpRequest *
evs_http_request_options(EvsHttpSink *sink)
{
	const EvsHttpConfig *config = &sink->config;
	EvsHttpRequest *request = get_request(sink);
	char		rate[32];
	bool		ok;

	if (request == NULL)
		return NULL;
	request->is_handshake = true;
	snprintf(rate, sizeof(rate), "%lld", (long long) config->handshake_rate);
	ok = add_header(request, "WebHook-Request-Origin", config->handshake_origin) &&
		(config->handshake_rate == 0 || add_header(request, "WebHook-Request-Rate", rate)) &&
		add_configured_headers(request) && add_authorization(request) && end_headers(request);
	if (!ok)
		evs_http_put(&sink->done, request);
	return request;
}
