/*
 * http_azure_eventgrid.c
 *	  Azure Event Grid: topics that take CloudEvents.
 *
 * Custom topics, domains and partner topics at .../api/events, and topics of
 * namespaces at .../topics/NAME:publish, both take arrays of events in
 * CloudEvents' batch mode, and answer for the array as a whole.
 */
#include <openssl/crypto.h>
#include <string.h>
#include <time.h>

#include "http_azure.h"

/* Of a request, and so of an event. */
#define REQUEST_BYTES (1024 * 1024)

/* Versions of the API that this is written for. */
#define TOPIC_VERSION "2018-01-01"
#define NAMESPACE_VERSION "2023-11-01"

/* Behind the name of a namespace's topic. */
#define PUBLISH ":publish"

static const char *const names[] = {
	"url", "api_version", "auth.type", "auth.key", "auth.token", NULL
};

/* ---- settings ---- */

static bool
ends_with(const char *text, const char *end)
{
	size_t		length = strlen(text);

	return length >= strlen(end) && strcmp(text + length - strlen(end), end) == 0;
}

static bool
read_url(EvsHttpReader *reader)
{
	EvsAzure   *azure = reader->config->own;
	const char *url;
	const char *version;

	if (!evs_http_read_string(reader, "url", NULL, &url))
		return false;
	if (url == NULL)
		return evs_http_fail(reader, "setting \"url\", the topic's endpoint, is missing");
	if (strchr(url, '?') != NULL)
		return evs_http_fail(reader, "setting \"url\" must not have a query: \"api_version\" sets it");
	if (!evs_http_read_string(reader, "api_version",
							  ends_with(url, PUBLISH) ? NAMESPACE_VERSION : TOPIC_VERSION, &version))
		return false;
	if (strspn(version, "0123456789-abcdefghijklmnopqrstuvwxyz") != strlen(version) || *version == '\0')
		return evs_http_fail(reader, "setting \"api_version\" must be like %s", TOPIC_VERSION);
	evs_sink_printf(&azure->url, "%s?api-version=%s", url, version);
	return evs_azure_end_url(reader);
}

static bool
configure(EvsHttpReader *reader)
{
	static const EvsHttpWord types[] = {
		{"key", EVS_AZURE_KEY}, {"sas", EVS_AZURE_SAS}, {"bearer", EVS_AZURE_BEARER}, {NULL}
	};

	return evs_azure_begin(reader) && read_url(reader) && evs_azure_read_auth(reader, types, false);
}

/* ---- requests ---- */

static void
begin(EvsHttpRequest *request)
{
	evs_sink_add(&request->body, "[", 1);
}

static int64_t
add(EvsHttpRequest *request, const evs_sink_message *message, int i)
{
	if (message->length == 0)
	{
		evs_http_result(request, EVS_SINK_PERMANENT, "the message has no payload");
		return -1;
	}
	if (i > 0)
		evs_sink_add(&request->body, ",", 1);
	evs_sink_add(&request->body, message->data, message->length);
	return (int64_t) message->length + 1;
}

static void
end(EvsHttpRequest *request)
{
	evs_sink_add(&request->body, "]", 1);
}

static bool
make(EvsHttpRequest *request, int n)
{
	static const EvsHttpEntries entries = {begin, add, end};

	/* The brackets are of the request, a comma counts with its event. */
	static const EvsHttpLimits limits = {INT32_MAX, REQUEST_BYTES - 1, REQUEST_BYTES - 1};

	return evs_http_make_entries(request, n, &entries, &limits) && evs_http_make_url(request) &&
		evs_http_add_header(request, "Content-Type", "application/cloudevents-batch+json; charset=utf-8") &&
		evs_http_omit_header(request, "Expect");
}

/*
 * What a signature is for: a topic of a namespace, or an endpoint with the version
 * of the API, in the way of Azure's libraries.
 */
static void
add_resource(evs_sink_buffer *resource, const char *url)
{
	size_t		path = strcspn(url, "?");
	const char *version = url + path + strlen("?api-version=");
	size_t		publish = strlen(PUBLISH);

	if (path > publish && strncmp(url + path - publish, PUBLISH, publish) == 0)
		evs_sink_add(resource, url, path - publish);
	else
	{
		evs_sink_add(resource, url, path);
		evs_sink_printf(resource, "?apiVersion=%s", version);
	}
}

static bool
add_sas(EvsHttpRequest *request, const char *key, size_t length)
{
	evs_sink_buffer resource = {0};
	evs_sink_buffer *line;
	size_t		start;
	bool		ok;

	add_resource(&resource, request->url.length > 0 ? request->url.data : request->sink->config.to.url);
	line = evs_http_begin_header(request, "aeg-sas-token");
	start = line->length;
	ok = !resource.failed &&
		evs_azure_add_grid_sas(line, resource.data, key, length, (int64_t) time(NULL) + EVS_AZURE_SAS_SECONDS);
	evs_sink_buffer_free(&resource);
	if (!ok)
	{
		evs_http_result(request, EVS_SINK_FATAL, "the secret \"%s\" is not a key to sign with", evs_azure(request)->secret);
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
	bool		ok;

	if (azure->auth == EVS_AZURE_BEARER)
		return evs_cloud_add_bearer(request, azure->secret);
	ok = evs_http_get_header_secret(request, azure->secret, key) &&
		(azure->auth == EVS_AZURE_KEY ? evs_http_add_header(request, "aeg-sas-key", key) :
		 add_sas(request, key, strlen(key)));
	OPENSSL_cleanse(key, sizeof(key));
	return ok;
}

const EvsHttpProfile evs_http_azure_eventgrid = {
	.name = "azure-eventgrid",
	.names = names,
	.formats = EVS_HTTP_TAKES(EVS_HTTP_STRUCTURED) | EVS_HTTP_TAKES(EVS_HTTP_BATCH),
	.configure = configure,
	.release = evs_azure_release,
	.make = make,
	.sign = sign,
	.judge = evs_azure_judge
};
