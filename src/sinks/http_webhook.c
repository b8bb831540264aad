/*
 * http_webhook.c
 *	  Web hooks: from messages to requests.
 *
 * One message is one request, or in the format cloudevents-batch several are.
 * The response is for all of them.
 */
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "http_webhook.h"

static const char *const names[] = {
	"url", "method", "headers.",
	"auth.type", "auth.user", "auth.password", "auth.token",
	"signature.type", "signature.secret", "signature.header",
	"idempotency_header", "conflict_is_duplicate",
	"handshake", "handshake_origin", "handshake_rate",
	NULL
};

static bool
add_content_type(EvsHttpRequest *request, const evs_sink_message *message)
{
	switch (request->sink->config.format)
	{
		case EVS_HTTP_STRUCTURED:
			return evs_http_add_header(request, "Content-Type", "application/cloudevents+json; charset=utf-8");
		case EVS_HTTP_BATCH:
			return evs_http_add_header(request, "Content-Type", "application/cloudevents-batch+json; charset=utf-8");
		default:
			break;
	}
	if (message->content_type != NULL && !evs_http_is_header_value(message->content_type))
	{
		evs_http_result(request, EVS_SINK_PERMANENT, "the content type has a control character");
		return false;
	}
	if (message->content_type != NULL && message->content_type[0] != '\0')
		return evs_http_add_header(request, "Content-Type", message->content_type);
	return evs_http_omit_header(request, "Content-Type");
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
		line = evs_http_begin_header(request, name);
		evs_http_add_percent(line, attribute->value);
		if (!evs_http_end_header(request))
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
		else if (evs_http_add_header(request, header->name, header->value))
			continue;
		return false;
	}
	return true;
}

static bool
add_basic(EvsHttpRequest *request, const char *password)
{
	evs_sink_buffer *line;
	evs_sink_buffer pair = {0};
	size_t		start;

	evs_sink_printf(&pair, "%s:%s", request->sink->config.user, password);
	if (pair.failed)
		return evs_http_no_memory(request);
	line = evs_http_begin_header(request, "Authorization");
	evs_sink_add_string(line, "Basic ");
	start = line->length;
	evs_http_add_base64(line, pair.data, pair.length);
	if (!line->failed)
		evs_http_remember_secret(request, line->data + start);
	evs_http_clear(&pair);
	evs_sink_buffer_free(&pair);
	return evs_http_end_header(request);
}

static bool
add_authorization(EvsHttpRequest *request)
{
	const EvsHttpConfig *config = &request->sink->config;
	char		value[EVS_HTTP_SECRET_MAX];
	bool		ok;

	if (config->auth == EVS_HTTP_AUTH_NONE)
		return true;
	ok = evs_http_get_header_secret(request, config->auth_secret, value);
	if (ok && config->auth == EVS_HTTP_AUTH_BASIC)
		ok = add_basic(request, value);
	else if (ok)
	{
		evs_sink_buffer *line = evs_http_begin_header(request, "Authorization");

		evs_sink_add_string(line, "Bearer ");
		evs_sink_add_string(line, value);
		ok = evs_http_end_header(request);
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
			ok = evs_http_add_header(request, setting->name + 8, setting->value);
		else
		{
			ok = evs_http_get_header_secret(request, setting->value, value) &&
				evs_http_add_header(request, setting->name + 8, value);
			OPENSSL_cleanse(value, sizeof(value));
		}
	}
	return ok;
}

bool
evs_http_webhook_credentials(EvsHttpRequest *request)
{
	return add_configured_headers(request) && add_authorization(request);
}

static bool
make_headers(EvsHttpRequest *request, const evs_sink_message *message)
{
	const EvsHttpConfig *config = &request->sink->config;

	/* Large bodies do not wait to be asked for. */
	if (!add_content_type(request, message) || !evs_http_omit_header(request, "Expect"))
		return false;
	if (config->format == EVS_HTTP_BINARY && !add_attributes(request, message))
		return false;
	if (config->format != EVS_HTTP_BATCH &&
		!(add_message_headers(request, message) &&
		  (config->idempotency_header[0] == '\0' ||
		   evs_http_add_header(request, config->idempotency_header, message->id))))
		return false;
	return evs_http_webhook_credentials(request);
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
		if (!fits(request, message, bytes) || !evs_http_add_message(request, message))
			break;
		evs_sink_add(body, ",", 1);
		evs_sink_add(body, message->data, message->length);
		bytes += message->length;
	}
	evs_sink_add(body, "]", 1);
	request->data = body->data;
	request->length = body->length;
	return body->failed ? evs_http_no_memory(request) : true;
}

static bool
make(EvsHttpRequest *request, int n)
{
	return (request->sink->config.format != EVS_HTTP_BATCH || make_batch(request, n)) &&
		evs_http_make_url(request) && make_headers(request, request->message);
}

const EvsHttpProfile evs_http_webhook = {
	.name = "webhook",
	.names = names,
	.formats = EVS_HTTP_TAKES(EVS_HTTP_STRUCTURED) | EVS_HTTP_TAKES(EVS_HTTP_BATCH) |
	EVS_HTTP_TAKES(EVS_HTTP_BINARY) | EVS_HTTP_TAKES(EVS_HTTP_RAW),
	.configure = evs_http_webhook_configure,
	.make = make,
	.sign = evs_http_webhook_sign,
	.ask = evs_http_handshake_ask,
	.answered = evs_http_handshake_answered
};
