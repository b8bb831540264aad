/*
 * http_azure.c
 *	  Credentials and errors of Azure's services.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http_azure.h"

#define ERROR_CODE_MAX 64

/* ---- settings ---- */

bool
evs_azure_begin(EvsHttpReader *reader)
{
	reader->config->own = calloc(1, sizeof(EvsAzure));
	return reader->config->own != NULL || evs_http_fail(reader, "out of memory");
}

void
evs_azure_release(EvsHttpConfig *config)
{
	EvsAzure   *azure = config->own;

	evs_sink_buffer_free(&azure->url);
	free(azure);
}

/* It stands in a header as it is. */
static bool
is_policy(const char *name)
{
	return *name != '\0' && strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == strlen(name);
}

bool
evs_azure_read_auth(EvsHttpReader *reader, const EvsHttpWord *types, bool needs_policy)
{
	EvsAzure   *azure = reader->config->own;
	const char *key;
	const char *token;
	long		type;

	if (!evs_http_read_word(reader, "auth.type", types, &type) ||
		!evs_http_read_secret(reader, "auth.key", &key) ||
		!evs_http_read_secret(reader, "auth.token", &token) ||
		(needs_policy && !evs_http_read_string(reader, "auth.policy", NULL, &azure->policy)))
		return false;
	azure->auth = type;
	azure->secret = type == EVS_AZURE_BEARER ? token : key;
	if (azure->secret == NULL)
		return evs_http_fail(reader, "setting \"%s\" is missing", type == EVS_AZURE_BEARER ? "auth.token" : "auth.key");
	if (type == EVS_AZURE_BEARER && (key != NULL || azure->policy != NULL))
		return evs_http_fail(reader, "settings \"auth.key\" and \"auth.policy\" exclude \"auth.type\": \"bearer\"");
	if (type != EVS_AZURE_BEARER && token != NULL)
		return evs_http_fail(reader, "setting \"auth.token\" needs \"auth.type\": \"bearer\"");
	if (type == EVS_AZURE_BEARER || !needs_policy)
		return true;
	if (azure->policy == NULL)
		return evs_http_fail(reader, "setting \"auth.policy\", the name of the key, is missing");
	return is_policy(azure->policy) ||
		evs_http_fail(reader, "setting \"auth.policy\" is not the name of a policy");
}

bool
evs_azure_end_url(EvsHttpReader *reader)
{
	EvsAzure   *azure = reader->config->own;

	if (azure->url.failed)
		return evs_http_fail(reader, "out of memory");
	return evs_http_read_url(reader, "url", azure->url.data) &&
		evs_cloud_require_tls(reader, "url", &reader->config->to);
}

/* ---- errors ---- */

typedef struct Error
{
	char		code[ERROR_CODE_MAX];
	char		text[EVS_HTTP_BODY_SHOWN + 1];
} Error;

static void
look_at_json(void *arg, const evs_sink_json_value *value)
{
	Error	   *error = arg;

	if (value->kind != '"')
		return;
	if (strcmp(value->path, "error.code") == 0)
		evs_http_json_excerpt(value, error->code, sizeof(error->code));
	else if (strcmp(value->path, "error.message") == 0)
		evs_http_json_excerpt(value, error->text, sizeof(error->text));
}

static void
look_at_xml(void *arg, const char *path, const char *text, size_t length)
{
	Error	   *error = arg;

	if (strcmp(path, "Error.Detail") == 0)
		evs_http_xml_excerpt(text, length, error->text, sizeof(error->text));
}

/*
 * Event Grid writes {"error": {"code": ..., "message": ...}}, Service Bus and
 * Event Hubs <Error><Code>401</Code><Detail>...</Detail></Error>, where the code is
 * the status.
 */
static void
read_error(const evs_sink_buffer *body, Error *error)
{
	memset(error, 0, sizeof(*error));
	if (body->data == NULL || body->length == 0)
		return;
	if (body->data[0] == '<')
		(void) evs_http_xml_scan(body->data, body->length, look_at_xml, error);
	else
		(void) evs_sink_json_scan(body->data, body->length, look_at_json, error);
}

void
evs_azure_judge(EvsHttpRequest *request, long status)
{
	Error		error;

	evs_http_judge_status(request, status);
	if (request->result.result == EVS_SINK_OK)
		return;
	if (status == 429)
		evs_cloud_reclassify(request, EVS_SINK_RETRY_SINK);
	read_error(&request->answer, &error);
	if (error.code[0] != '\0' || error.text[0] != '\0')
		evs_cloud_explain(request, error.code, error.text);
}

bool
evs_azure_mentions(const EvsHttpRequest *request, const char *word)
{
	size_t		length = strlen(word);

	for (size_t i = 0; i + length <= request->answer.length; i++)
		if (strncasecmp(request->answer.data + i, word, length) == 0)
			return true;
	return false;
}
