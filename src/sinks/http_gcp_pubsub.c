/*
 * http_gcp_pubsub.c
 *	  Google Cloud Pub/Sub: settings, and from messages to requests.
 *
 * Messages have data and attributes.  CloudEvents are either in the data, as JSON,
 * or in attributes that begin with "ce-", as Google's binding says; "content-type"
 * tells one from the other.  All messages of a request have the same ordering key.
 */
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http_gcp.h"

#define ENDPOINT "https://pubsub.googleapis.com"

/* Limits of the service, in bytes. */
#define REQUEST_MESSAGES 1000
#define REQUEST_BYTES 10000000
#define ATTRIBUTES 100
#define NAME_BYTES 256
#define VALUE_BYTES 1024
#define KEY_BYTES 1024

static const char *const names[] = {
	"endpoint", "project", "topic", "ordering",
	"auth.type", "auth.credentials", "auth.token", "auth.token_uri", "auth.audience", NULL
};

/* ---- settings ---- */

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

/* A part of a path: nothing that would need to be encoded, or lead elsewhere. */
static bool
read_name(EvsHttpReader *reader, const char *name, const char **value)
{
	if (!evs_http_read_string(reader, name, NULL, value))
		return false;
	if (*value == NULL)
		return evs_http_fail(reader, "setting \"%s\" is missing", name);
	if (strspn(*value, LETTERS "0123456789-._~:") != strlen(*value) || strspn(*value, LETTERS) == 0)
		return evs_http_fail(reader, "setting \"%s\" must begin with a letter and have letters, digits and -._~ only", name);
	return true;
}

/* A name, or {topic}. */
static bool
read_topic(EvsHttpReader *reader, const char **topic)
{
	return (evs_http_read_string(reader, "topic", NULL, topic) && *topic != NULL &&
			strcmp(*topic, "{topic}") == 0) || read_name(reader, "topic", topic);
}

static bool
read_url(EvsHttpReader *reader)
{
	EvsGcp	   *gcp = reader->config->own;
	const char *endpoint;
	const char *project;
	const char *topic;
	size_t		length;

	if (!evs_http_read_string(reader, "endpoint", ENDPOINT, &endpoint) ||
		!read_name(reader, "project", &project) || !read_topic(reader, &topic))
		return false;
	if (strpbrk(endpoint, "?{}") != NULL)
		return evs_http_fail(reader, "setting \"endpoint\" must not have a query or {}");
	length = strlen(endpoint);
	while (length > 0 && endpoint[length - 1] == '/')
		length--;
	evs_sink_printf(&gcp->url, "%.*s/v1/projects/%s/topics/%s:publish", (int) length, endpoint, project, topic);
	if (gcp->url.failed)
		return evs_http_fail(reader, "out of memory");
	return evs_http_read_url(reader, "endpoint", gcp->url.data) &&
		(gcp->auth == EVS_GCP_NONE || evs_cloud_require_tls(reader, "endpoint", &reader->config->to));
}

static bool
configure(EvsHttpReader *reader)
{
	EvsGcp	   *gcp = reader->config->own = calloc(1, sizeof(EvsGcp));

	if (gcp == NULL)
		return evs_http_fail(reader, "out of memory");
	gcp->is_ordered = true;
	return evs_gcp_read_auth(reader) && read_url(reader) &&
		(!evs_http_has_setting(reader, "ordering") ||
		 evs_http_read_bool(reader, "ordering", &gcp->is_ordered));
}

static void
release(EvsHttpConfig *config)
{
	EvsGcp	   *gcp = config->own;

	evs_http_clear(&gcp->token);
	evs_sink_buffer_free(&gcp->token);
	evs_sink_buffer_free(&gcp->url);
	free(gcp->token_place.host);
	free(gcp);
}

/* ---- attributes ---- */

typedef struct Attributes
{
	EvsHttpRequest *request;
	evs_sink_buffer *body;
	int			n;
	int64_t		bytes;
} Attributes;

/* False with a result. */
static bool
add_attribute(Attributes *attributes, const char *prefix, const char *name, const char *value)
{
	size_t		length = strlen(prefix) + strlen(name);
	char		full[NAME_BYTES + 1];

	if (name[0] == '\0' || length > NAME_BYTES)
		evs_http_result(attributes->request, EVS_SINK_PERMANENT,
						"the name of an attribute, \"%.40s\", is empty or has more than %d bytes", name, NAME_BYTES);
	else if (strlen(value) > VALUE_BYTES)
		evs_http_result(attributes->request, EVS_SINK_PERMANENT,
						"the attribute \"%.40s\" has more than %d bytes", name, VALUE_BYTES);
	else if (attributes->n == ATTRIBUTES)
		evs_http_result(attributes->request, EVS_SINK_PERMANENT,
						"the message has more than %d attributes", ATTRIBUTES);
	else
	{
		snprintf(full, sizeof(full), "%s%s", prefix, name);
		evs_sink_add_string(attributes->body, attributes->n++ == 0 ? "\"attributes\":{" : ",");
		evs_http_add_json(attributes->body, full, length);
		evs_sink_add(attributes->body, ":", 1);
		evs_http_add_json(attributes->body, value, strlen(value));
		attributes->bytes += length + strlen(value);
		return true;
	}
	return false;
}

/* What the application wants to go along.  "goog" is the service's. */
static bool
add_headers(Attributes *attributes, const evs_sink_message *message)
{
	for (int i = 0; i < message->nheaders; i++)
	{
		const evs_sink_pair *header = &message->headers[i];

		if (strncasecmp(header->name, "ce-", 3) == 0 || strcasecmp(header->name, "content-type") == 0 ||
			strncasecmp(header->name, "goog", 4) == 0)
		{
			evs_http_result(attributes->request, EVS_SINK_PERMANENT,
							"a message cannot have the header \"%.40s\": the relay or the service sets it", header->name);
			return false;
		}
		if (!add_attribute(attributes, "", header->name, header->value))
			return false;
	}
	return true;
}

/* Returns how many bytes they have; -1 with a result. */
static int64_t
add_attributes(EvsHttpRequest *request, const evs_sink_message *message)
{
	Attributes	attributes = {request, &request->body, 0, 0};
	const char *type = evs_cloud_content_type(request, message);

	if (type[0] != '\0' && !add_attribute(&attributes, "", "content-type", type))
		return -1;
	for (int i = 0; i < message->nattributes && request->sink->config.format == EVS_HTTP_BINARY; i++)
	{
		const evs_sink_pair *attribute = &message->attributes[i];

		/* That is content-type. */
		if (strcmp(attribute->name, "datacontenttype") != 0 &&
			!add_attribute(&attributes, "ce-", attribute->name, attribute->value))
			return -1;
	}
	if (!add_headers(&attributes, message))
		return -1;
	if (attributes.n > 0)
		evs_sink_add_string(attributes.body, "}");
	else if (message->length == 0)
	{
		evs_http_result(request, EVS_SINK_PERMANENT, "the message has neither data nor attributes");
		return -1;
	}
	return attributes.bytes;
}

/* ---- requests ---- */

/* NULL if messages of its key may arrive in any order. */
static const char *
ordering_key(const EvsHttpRequest *request, const evs_sink_message *message)
{
	const char *key = evs_gcp(request)->is_ordered ? message->key : NULL;

	return key != NULL && key[0] != '\0' ? key : NULL;
}

static bool
goes_with(const EvsHttpRequest *request, const evs_sink_message *message)
{
	const char *first = ordering_key(request, request->message);
	const char *key = ordering_key(request, message);

	if (request->sink->config.has_topic && strcmp(message->topic, request->message->topic) != 0)
		return false;
	return first == NULL || key == NULL ? first == key : strcmp(first, key) == 0;
}

static void
begin(EvsHttpRequest *request)
{
	evs_sink_add_string(&request->body, "{\"messages\":[");
}

static void
add_data(evs_sink_buffer *body, const evs_sink_message *message)
{
	if (message->length == 0)
		return;
	/* There may be no attributes before it. */
	if (!body->failed && body->data[body->length - 1] != '{')
		evs_sink_add(body, ",", 1);
	evs_sink_add_string(body, "\"data\":\"");
	evs_http_add_base64(body, message->data, message->length);
	evs_sink_add(body, "\"", 1);
}

static int64_t
add(EvsHttpRequest *request, const evs_sink_message *message, int i)
{
	evs_sink_buffer *body = &request->body;
	const char *key = ordering_key(request, message);
	int64_t		bytes;

	if (key != NULL && strlen(key) > KEY_BYTES)
	{
		evs_http_result(request, EVS_SINK_PERMANENT, "the key has more than %d bytes", KEY_BYTES);
		return -1;
	}
	evs_sink_add_string(body, i > 0 ? ",{" : "{");
	bytes = add_attributes(request, message);
	if (bytes < 0)
		return -1;
	add_data(body, message);
	if (key != NULL)
	{
		evs_sink_add_string(body, ",\"orderingKey\":");
		evs_http_add_json(body, key, strlen(key));
	}
	evs_sink_add(body, "}", 1);
	return bytes + (int64_t) message->length + (key != NULL ? (int64_t) strlen(key) : 0);
}

static void
end(EvsHttpRequest *request)
{
	evs_sink_add_string(&request->body, "]}");
}

static bool
make(EvsHttpRequest *request, int n)
{
	static const EvsHttpEntries entries = {begin, add, end, goes_with};
	static const EvsHttpLimits limits = {REQUEST_MESSAGES, REQUEST_BYTES, REQUEST_BYTES};

	return evs_http_make_entries(request, n, &entries, &limits) && evs_http_make_url(request) &&
		evs_http_add_header(request, "Content-Type", "application/json") &&
		evs_http_omit_header(request, "Expect");
}

const EvsHttpProfile evs_http_gcp_pubsub = {
	.name = "gcp-pubsub",
	.names = names,
	.formats = EVS_HTTP_TAKES(EVS_HTTP_STRUCTURED) | EVS_HTTP_TAKES(EVS_HTTP_BATCH) |
	EVS_HTTP_TAKES(EVS_HTTP_BINARY) | EVS_HTTP_TAKES(EVS_HTTP_RAW),
	.configure = configure,
	.release = release,
	.make = make,
	.sign = evs_gcp_sign,
	.judge = evs_gcp_judge,
	.ask = evs_gcp_ask,
	.answered = evs_gcp_answered
};
