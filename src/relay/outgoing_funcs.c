/*
 * outgoing_funcs.c
 *	  What relays send, and where to, in SQL: for tests.
 */
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"

#include "relay/cloudevents.h"
#include "relay/egress.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_encode_event);
PG_FUNCTION_INFO_V1(evs_egress_is_allowed);

/* An option as text, or what it is by default. */
static const char *
get_option(Jsonb *options, const char *name, const char *otherwise)
{
	JsonbValue	value;

	return evs_json_member(&options->root, name, &value) ? evs_json_scalar_text(&value) : otherwise;
}

static void
get_encoder(EvsEncoder *encoder, const char *format, Jsonb *options)
{
	const char *publishes_metadata = get_option(options, "metadata", NULL);

	memset(encoder, 0, sizeof(*encoder));
	if (!evs_format_parse(format, &encoder->format))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"format\" must not be \"%s\"", format)));
	encoder->relay = get_option(options, "relay", "relay");
	encoder->topic = evs_template_compile(get_option(options, "topic", NULL));
	encoder->source = get_option(options, "source", NULL);
	encoder->publishes_metadata = publishes_metadata != NULL &&
		strcmp(publishes_metadata, "true") == 0;
}

/* What a relay sets. */
static void
set_for_relay(EvsOutgoing *event, Jsonb *options)
{
	const char *dataref = get_option(options, "dataref", NULL);
	evs_sink_pair *pair;

	event->key = get_option(options, "key", event->stream);
	if (dataref == NULL)
		return;
	pair = palloc(sizeof(evs_sink_pair));
	pair->name = "dataref";
	pair->value = dataref;
	event->extensions = pair;
	event->nextensions = 1;
	event->without_data = true;
}

/* ---- a message as JSON ---- */

static void
append_name(StringInfo buf, const char *name)
{
	if (buf->data[buf->len - 1] != '{')
		appendStringInfoChar(buf, ',');
	escape_json(buf, name);
	appendStringInfoChar(buf, ':');
}

static void
append_text(StringInfo buf, const char *name, const char *utf8)
{
	append_name(buf, name);
	if (utf8 == NULL)
		appendStringInfoString(buf, "null");
	else
		escape_json(buf, pg_any_to_server(utf8, strlen(utf8), PG_UTF8));
}

static void
append_pairs(StringInfo buf, const char *name, const evs_sink_pair *pairs, int n)
{
	append_name(buf, name);
	appendStringInfoChar(buf, '{');
	for (int i = 0; i < n; i++)
		append_text(buf, pairs[i].name, pairs[i].value);
	appendStringInfoChar(buf, '}');
}

/* What is no text is shown as bytea is. */
static void
append_payload(StringInfo buf, const evs_sink_message *message)
{
	char	   *text;

	if (message->data == NULL)
		append_text(buf, "data", NULL);
	else if (pg_verify_mbstr(PG_UTF8, message->data, message->length, true))
		append_text(buf, "data", pnstrdup(message->data, message->length));
	else
	{
		text = palloc(message->length * 2 + 3);
		strcpy(text, "\\x");
		text[2 + hex_encode(message->data, message->length, text + 2)] = '\0';
		append_text(buf, "data", text);
	}
}

static void
append_message(StringInfo buf, const evs_sink_message *message)
{
	append_payload(buf, message);
	append_text(buf, "content_type", message->content_type);
	append_text(buf, "topic", message->topic);
	append_text(buf, "key", message->key);
	append_text(buf, "id", message->id);
	append_text(buf, "type", message->type);
	append_text(buf, "source", message->source);
	append_text(buf, "stream", message->stream);
	append_name(buf, "position");
	appendStringInfo(buf, INT64_FORMAT, message->position);
	append_name(buf, "version");
	appendStringInfo(buf, INT64_FORMAT, message->version);
	append_name(buf, "time_us");
	appendStringInfo(buf, INT64_FORMAT, message->time_us);
	append_pairs(buf, "attributes", message->attributes, message->nattributes);
	append_pairs(buf, "headers", message->headers, message->nheaders);
}

/*
 * _encode_event(event, format, options) → jsonb: the message, or {"error"}.  Options
 * are relay, topic, source, key (by default the stream), metadata and dataref, which is given
 * in place of the data.
 */
Datum
evs_encode_event(PG_FUNCTION_ARGS)
{
	Jsonb	   *options = PG_GETARG_JSONB_P(2);
	EvsEncoder	encoder;
	EvsOutgoing event;
	evs_sink_message message;
	StringInfoData buf;
	char	   *error;

	get_encoder(&encoder, text_to_cstring(PG_GETARG_TEXT_PP(1)), options);
	evs_outgoing_from_event(PG_GETARG_DATUM(0), &event);
	set_for_relay(&event, options);
	initStringInfo(&buf);
	appendStringInfoChar(&buf, '{');
	if (evs_encode(&encoder, &event, &message, &error))
		append_message(&buf, &message);
	else
	{
		append_name(&buf, "error");
		escape_json(&buf, error);
	}
	appendStringInfoChar(&buf, '}');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(buf.data));
}

static char *
get_text(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* _egress_allowed(host, address, port) → boolean */
Datum
evs_egress_is_allowed(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(evs_egress_allowed(get_text(fcinfo, 0), get_text(fcinfo, 1),
									  PG_ARGISNULL(2) ? 0 : PG_GETARG_INT32(2)));
}
