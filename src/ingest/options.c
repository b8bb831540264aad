/*
 * options.c
 *	  How a payload is to be ingested.
 */
#include "postgres.h"

#include "base/errors.h"
#include "ingest/in_json.h"
#include "ingest/options.h"
#include "relay/outgoing.h"
#include "compat.h"

static const char *const format_names[] = {
	[EVS_IN_AUTO] = "auto",
	[EVS_IN_CLOUDEVENTS] = "cloudevents",
	[EVS_IN_CLOUDEVENTS_BATCH] = "cloudevents-batch",
	[EVS_IN_CLOUDEVENTS_BINARY] = "cloudevents-binary",
	[EVS_IN_SNS_SQS] = "sns-sqs",
	[EVS_IN_SQS] = "sqs",
	[EVS_IN_PUBSUB_PUSH] = "pubsub-push",
	[EVS_IN_EVENTBRIDGE] = "eventbridge",
	[EVS_IN_EVENTGRID] = "eventgrid",
};

static const char *const on_error_names[] = {
	[EVS_IN_ABORT] = "abort",
	[EVS_IN_REPORT] = "report",
	[EVS_IN_STOP] = "stop",
};

EvsInFormat
evs_in_format_parse(const char *name)
{
	for (int i = 0; i < (int) lengthof(format_names); i++)
		if (strcmp(name, format_names[i]) == 0)
			return (EvsInFormat) i;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("argument \"format\" must not be \"%s\"", name),
			 errhint("Formats are cloudevents, cloudevents-batch, cloudevents-binary, sns-sqs, sqs, pubsub-push, eventbridge, eventgrid and auto.")));
}

/* ---- options ---- */

pg_noreturn static void
throw_invalid(const char *name, const char *reason)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "path", psprintf("$.%s", name));
	evs_detail_string(&detail, "reason", reason);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_INVALID_DEFINITION),
			 errmsg("invalid option \"%s\" of an ingest: %s", name, reason),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 errhint("Options are on_error, id, source, topics and sources.")));
}

static const char *
read_string(const char *name, const JsonbValue *value)
{
	if (value->type != jbvString || value->val.string.len == 0)
		throw_invalid(name, "it must be a string that is not empty");
	return evs_json_scalar_text(value);
}

static EvsInOnError
read_on_error(const char *name, const JsonbValue *value)
{
	const char *text = read_string(name, value);

	for (int i = 0; i < (int) lengthof(on_error_names); i++)
		if (strcmp(text, on_error_names[i]) == 0)
			return (EvsInOnError) i;
	throw_invalid(name, "it must be abort, report or stop");
}

/* A string, or an array of them. */
static List *
read_patterns(const char *name, const JsonbValue *value)
{
	List	   *patterns = NIL;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	element;

	if (value->type == jbvString)
		return list_make1(unconstify(char *, read_string(name, value)));
	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data) ||
		JsonContainerSize(value->val.binary.data) == 0)
		throw_invalid(name, "it must be a string, or an array of strings that is not empty");
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
		if (token == WJB_ELEM)
			patterns = lappend(patterns, unconstify(char *, read_string(name, &element)));
	return patterns;
}

static void
read_member(EvsInOptions *options, const char *name, const JsonbValue *value)
{
	if (strcmp(name, "on_error") == 0)
		options->on_error = read_on_error(name, value);
	else if (strcmp(name, "id") == 0)
		options->id = read_string(name, value);
	else if (strcmp(name, "source") == 0)
		options->source = read_string(name, value);
	else if (strcmp(name, "topics") == 0)
		options->topics = read_patterns(name, value);
	else if (strcmp(name, "sources") == 0)
		options->sources = read_patterns(name, value);
	else
		throw_invalid(name, "it is not known");
}

void
evs_in_options_read(EvsInOptions *options, Jsonb *json)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;

	if (!JB_ROOT_IS_OBJECT(json))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"options\" must be a JSON object")));
	it = JsonbIteratorInit(&json->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		read_member(options, pnstrdup(key.val.string.val, key.val.string.len), &value);
	}
}

bool
evs_in_options_allow(List *patterns, const char *value)
{
	ListCell   *cell;

	foreach(cell, patterns)
	{
		const char *pattern = lfirst(cell);
		Size		length = strlen(pattern);

		if (strcmp(pattern, value) == 0 ||
			(pattern[length - 1] == '*' && strncmp(pattern, value, length - 1) == 0))
			return true;
	}
	return patterns == NIL;
}
