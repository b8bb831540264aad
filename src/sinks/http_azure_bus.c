/*
 * http_azure_bus.c
 *	  Azure Service Bus and Event Hubs, by HTTPS.
 *
 * One message is one request, with the broker's properties in a header and those
 * of the application as headers.  In the format cloudevents-batch several are:
 * an array in JSON, with the properties in it.  Where a message goes, to a
 * session or a partition, is said by its key; a request has messages of one key,
 * since a partition takes it as a whole.
 *
 * The broker answers for a request as a whole.
 */
#include <openssl/crypto.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "http_azure.h"

/* What HTTP takes at most, whatever the namespace. */
#define REQUEST_BYTES (1024 * 1024)

/* Service Bus' standard tier takes as much. */
#define STANDARD_BYTES (256 * 1024)

/* Characters of MessageId, SessionId and PartitionKey. */
#define ID_CHARACTERS 128

#define SECONDS_A_DAY 86400

static bool
is_hub(const EvsHttpRequest *request)
{
	return request->sink->config.profile == &evs_http_azure_eventhubs;
}

/* ---- settings ---- */

static const char *const bus_names[] = {
	"url", "auth.type", "auth.policy", "auth.key", "auth.token",
	"key", "mix_keys", "max_bytes", "time_to_live_s", NULL
};

static const char *const hub_names[] = {
	"url", "auth.type", "auth.policy", "auth.key", "auth.token",
	"key", "max_bytes", NULL
};

/* The entity's address, and where that takes messages. */
static bool
read_url(EvsHttpReader *reader, const char *suffix)
{
	EvsAzure   *azure = reader->config->own;
	const char *url;

	if (!evs_http_read_string(reader, "url", NULL, &url))
		return false;
	if (url == NULL)
		return evs_http_fail(reader, "setting \"url\", the address of a queue, a topic or an event hub, is missing");
	if (strchr(url, '?') != NULL)
		return evs_http_fail(reader, "setting \"url\" must not have a query");
	evs_sink_add_string(&azure->url, url);
	while (azure->url.length > 0 && azure->url.data[azure->url.length - 1] == '/')
		azure->url.length--;
	evs_sink_add_string(&azure->url, suffix);
	return evs_azure_end_url(reader);
}

static bool
read_auth(EvsHttpReader *reader)
{
	static const EvsHttpWord types[] = {
		{"sas", EVS_AZURE_SAS}, {"bearer", EVS_AZURE_BEARER}, {NULL}
	};

	return evs_azure_read_auth(reader, types, true);
}

static bool
configure_bus(EvsHttpReader *reader)
{
	static const EvsHttpWord uses[] = {
		{"session", EVS_AZURE_SESSION}, {"partition", EVS_AZURE_PARTITION}, {"none", EVS_AZURE_UNUSED}, {NULL}
	};
	EvsAzure   *azure;
	long		use;

	if (!evs_azure_begin(reader) || !read_url(reader, "/messages") || !read_auth(reader))
		return false;
	azure = reader->config->own;
	if (!evs_http_read_word(reader, "key", uses, &use) ||
		!evs_http_read_bool(reader, "mix_keys", &azure->mixes_keys) ||
		!evs_http_read_int(reader, "max_bytes", STANDARD_BYTES, 1024, REQUEST_BYTES, &azure->max_bytes) ||
		!evs_http_read_int(reader, "time_to_live_s", 0, 1, INT32_MAX, &azure->time_to_live_s))
		return false;
	azure->key_use = use;
	return true;
}

static bool
configure_hub(EvsHttpReader *reader)
{
	static const EvsHttpWord uses[] = {
		{"partition", EVS_AZURE_PARTITION}, {"none", EVS_AZURE_UNUSED}, {NULL}
	};
	EvsAzure   *azure;
	long		use;

	if (!evs_azure_begin(reader) || !read_url(reader, "/messages?api-version=2014-01") || !read_auth(reader))
		return false;
	azure = reader->config->own;
	if (!evs_http_read_word(reader, "key", uses, &use) ||
		!evs_http_read_int(reader, "max_bytes", REQUEST_BYTES, 1024, REQUEST_BYTES, &azure->max_bytes))
		return false;
	azure->key_use = use;
	return true;
}

/* ---- broker properties ---- */

/* What the broker is to know of the message's key; NULL: nothing. */
static const char *
key_of(const EvsHttpRequest *request, const evs_sink_message *message)
{
	const char *key = evs_azure(request)->key_use != EVS_AZURE_UNUSED ? message->key : NULL;

	return key != NULL && key[0] != '\0' ? key : NULL;
}

static bool
is_too_long(const char *text)
{
	int			characters = 0;

	for (; *text != '\0'; text++)
		characters += (*text & 0xC0) != 0x80;
	return characters > ID_CHARACTERS;
}

static bool
check_ids(EvsHttpRequest *request, const evs_sink_message *message)
{
	const char *key = key_of(request, message);

	if (key != NULL && is_too_long(key))
		evs_http_result(request, EVS_SINK_PERMANENT, "the key has more than %d characters", ID_CHARACTERS);
	else if (!is_hub(request) && is_too_long(message->id))
		evs_http_result(request, EVS_SINK_PERMANENT, "the id has more than %d characters", ID_CHARACTERS);
	else
		return true;
	return false;
}

static void
add_property(evs_sink_buffer *buffer, const char *name, const char *value)
{
	/* After the brace there is no comma. */
	if (!buffer->failed && buffer->data[buffer->length - 1] != '{')
		evs_sink_add(buffer, ",", 1);
	evs_sink_printf(buffer, "\"%s\":", name);
	evs_cloud_add_ascii_json(buffer, value);
}

/* In the header it is seconds, in an array days, hours, minutes, seconds. */
static void
add_time_to_live(evs_sink_buffer *buffer, int64_t seconds, bool in_array)
{
	if (seconds == 0)
		return;
	if (!in_array)
		evs_sink_printf(buffer, ",\"TimeToLive\":%lld", (long long) seconds);
	else
		evs_sink_printf(buffer, ",\"TimeToLiveTimeSpan\":\"%lld.%02d:%02d:%02d\"",
						(long long) (seconds / SECONDS_A_DAY), (int) (seconds % SECONDS_A_DAY / 3600),
						(int) (seconds % 3600 / 60), (int) (seconds % 60));
}

static void
add_broker_properties(evs_sink_buffer *buffer, const EvsHttpRequest *request,
					  const evs_sink_message *message, bool in_array)
{
	const EvsAzure *azure = evs_azure(request);
	const char *key = key_of(request, message);

	evs_sink_add(buffer, "{", 1);
	if (!is_hub(request))
	{
		add_property(buffer, "MessageId", message->id);
		add_property(buffer, "Label", message->type);
	}
	if (key != NULL)
		add_property(buffer, azure->key_use == EVS_AZURE_SESSION ? "SessionId" : "PartitionKey", key);
	add_time_to_live(buffer, azure->time_to_live_s, in_array);
	evs_sink_add(buffer, "}", 1);
}

static bool
add_broker_header(EvsHttpRequest *request)
{
	if (is_hub(request) && key_of(request, request->message) == NULL)
		return true;
	add_broker_properties(evs_http_begin_header(request, "BrokerProperties"), request, request->message, false);
	return evs_http_end_header(request);
}

/* ---- one message ---- */

/* Those that the sink or HTTP itself sets. */
static bool
is_reserved(const char *name)
{
	static const char *const names[] = {
		"Authorization", "BrokerProperties", "Connection", "Content-Encoding", "Content-Length",
		"Content-Type", "Date", "Expect", "Host", "HTTP2-Settings", "Keep-Alive", "Proxy-Authorization",
		"Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "User-Agent"
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcasecmp(name, names[i]) == 0)
			return true;
	return strncasecmp(name, "x-ms-", 5) == 0;
}

/* What the application wants to go along. */
static bool
add_message_headers(EvsHttpRequest *request, const evs_sink_message *message)
{
	for (int i = 0; i < message->nheaders; i++)
	{
		const evs_sink_pair *header = &message->headers[i];

		if (!evs_http_is_token(header->name) || !evs_http_is_header_value(header->value))
			evs_http_result(request, EVS_SINK_PERMANENT,
							"\"%s\" cannot be a header: a name or value is not possible in HTTP", header->name);
		else if (is_reserved(header->name))
			evs_http_result(request, EVS_SINK_PERMANENT,
							"a message cannot have the header \"%s\": the relay sets it", header->name);
		else if (evs_http_add_header(request, header->name, header->value))
			continue;
		return false;
	}
	return true;
}

static bool
add_content_type(EvsHttpRequest *request)
{
	const char *type = evs_cloud_content_type(request, request->message);

	if (type[0] == '\0')
		return evs_http_omit_header(request, "Content-Type");
	if (evs_http_is_header_value(type))
		return evs_http_add_header(request, "Content-Type", type);
	evs_http_result(request, EVS_SINK_PERMANENT, "the content type has a control character");
	return false;
}

static bool
make_single(EvsHttpRequest *request)
{
	int64_t		max = evs_azure(request)->max_bytes;

	if ((int64_t) request->length > max)
	{
		evs_http_result(request, EVS_SINK_PERMANENT, "the message has %lld bytes, more than the %lld of max_bytes",
						(long long) request->length, (long long) max);
		return false;
	}
	return check_ids(request, request->message) && add_content_type(request) &&
		add_broker_header(request) && add_message_headers(request, request->message);
}

/* ---- several ---- */

static void
begin(EvsHttpRequest *request)
{
	evs_sink_add(&request->body, "[", 1);
}

static void
add_user_properties(evs_sink_buffer *body, const evs_sink_message *message)
{
	evs_sink_add_string(body, ",\"UserProperties\":{");
	for (int i = 0; i < message->nheaders; i++)
	{
		if (i > 0)
			evs_sink_add(body, ",", 1);
		evs_http_add_json(body, message->headers[i].name, strlen(message->headers[i].name));
		evs_sink_add(body, ":", 1);
		evs_http_add_json(body, message->headers[i].value, strlen(message->headers[i].value));
	}
	evs_sink_add(body, "}", 1);
}

/* The body is a string, so it must be text; CloudEvents in JSON are. */
static int64_t
add(EvsHttpRequest *request, const evs_sink_message *message, int i)
{
	evs_sink_buffer *body = &request->body;
	size_t		before = body->length;

	if (!evs_cloud_check_text(request, message) || !check_ids(request, message))
		return -1;
	evs_sink_add_string(body, i > 0 ? ",{\"Body\":" : "{\"Body\":");
	evs_http_add_json(body, message->data, message->length);
	if (!is_hub(request) || key_of(request, message) != NULL)
	{
		evs_sink_add_string(body, ",\"BrokerProperties\":");
		add_broker_properties(body, request, message, true);
	}
	if (message->nheaders > 0)
		add_user_properties(body, message);
	evs_sink_add(body, "}", 1);
	return (int64_t) (body->length - before);
}

static void
end(EvsHttpRequest *request)
{
	evs_sink_add(&request->body, "]", 1);
}

/* To the same entity and, unless that does not matter, with the same key. */
static bool
goes_with(const EvsHttpRequest *request, const evs_sink_message *message)
{
	const char *first = key_of(request, request->message);
	const char *key = key_of(request, message);

	if (request->sink->config.has_topic && strcmp(message->topic, request->message->topic) != 0)
		return false;
	if (evs_azure(request)->mixes_keys || first == NULL || key == NULL)
		return evs_azure(request)->mixes_keys || first == key;
	return strcmp(first, key) == 0;
}

static bool
make_array(EvsHttpRequest *request, int n)
{
	static const EvsHttpEntries entries = {begin, add, end, goes_with};
	int64_t		bytes = evs_azure(request)->max_bytes - (int64_t) strlen("[]");
	EvsHttpLimits limits = {INT32_MAX, bytes, bytes};

	/*
	 * Of event hubs, some descriptions have the key in the header, and some
	 * in the array.
	 */
	return evs_http_make_entries(request, n, &entries, &limits) &&
		evs_http_add_header(request, "Content-Type", "application/vnd.microsoft.servicebus.json") &&
		(!is_hub(request) || add_broker_header(request));
}

static bool
make(EvsHttpRequest *request, int n)
{
	bool		ok = request->sink->config.format == EVS_HTTP_BATCH ? make_array(request, n) : make_single(request);

	return ok && evs_http_make_url(request) && evs_http_omit_header(request, "Expect");
}

/* ---- credentials ---- */

/* The signature is for the entity, which is the address without what stands behind it. */
static bool
add_sas(EvsHttpRequest *request, const char *key, size_t length)
{
	const EvsAzure *azure = evs_azure(request);
	const char *url = request->url.length > 0 ? request->url.data : request->sink->config.to.url;
	size_t		path = strcspn(url, "?") - strlen("/messages");
	evs_sink_buffer resource = {0};
	evs_sink_buffer *line = evs_http_begin_header(request, "Authorization");
	size_t		start = line->length;
	bool		ok;

	evs_sink_add(&resource, url, path);
	ok = !resource.failed &&
		evs_azure_add_bus_sas(line, resource.data, azure->policy, key, length,
							  (int64_t) time(NULL) + EVS_AZURE_SAS_SECONDS);
	evs_sink_buffer_free(&resource);
	if (!ok)
	{
		evs_http_result(request, EVS_SINK_FATAL, "the secret \"%s\" is not a key to sign with", azure->secret);
		return false;
	}
	if (!line->failed)
		evs_http_remember_secret(request, line->data + start);
	return evs_http_end_header(request);
}

static bool
sign(EvsHttpRequest *request)
{
	const EvsAzure *azure = evs_azure(request);
	char		key[EVS_HTTP_SECRET_MAX];
	int			length;
	bool		ok;

	if (azure->auth == EVS_AZURE_BEARER)
		return evs_cloud_add_bearer(request, azure->secret);
	length = evs_http_get_secret(request, azure->secret, key);
	ok = length >= 0 && add_sas(request, key, length);
	OPENSSL_cleanse(key, sizeof(key));
	return ok;
}

/* ---- responses ---- */

/* 403 is for messages that are too large as well; 410 means that there is no such entity. */
static void
judge(EvsHttpRequest *request, long status)
{
	evs_azure_judge(request, status);
	if (status == 403 && (evs_azure_mentions(request, "MessageSizeExceeded") ||
						  evs_azure_mentions(request, "exceeds the limit") ||
						  evs_azure_mentions(request, "too large")))
		evs_cloud_reclassify(request, EVS_SINK_PERMANENT);
	if (status == 410)
	{
		evs_cloud_reclassify(request, request->sink->config.has_topic ? EVS_SINK_PERMANENT : EVS_SINK_RETRY_SINK);
		if (!evs_azure_mentions(request, "<Detail>"))
			evs_cloud_explain(request, "", "there is no such entity");
	}
}

#define FORMATS (EVS_HTTP_TAKES(EVS_HTTP_STRUCTURED) | EVS_HTTP_TAKES(EVS_HTTP_BATCH) | \
				 EVS_HTTP_TAKES(EVS_HTTP_RAW))

const EvsHttpProfile evs_http_azure_servicebus = {
	.name = "azure-servicebus",
	.names = bus_names,
	.formats = FORMATS,
	.configure = configure_bus,
	.release = evs_azure_release,
	.make = make,
	.sign = sign,
	.judge = judge
};

const EvsHttpProfile evs_http_azure_eventhubs = {
	.name = "azure-eventhubs",
	.names = hub_names,
	.formats = FORMATS,
	.configure = configure_hub,
	.release = evs_azure_release,
	.make = make,
	.sign = sign,
	.judge = judge
};
