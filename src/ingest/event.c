/*
 * event.c
 *	  An event of CloudEvents in evstore's columns.
 *
 * As append_cloudevent() does it, which is the reference: see sql/modules/54_envelope.sql.
 * What to_cloudevent() would not give back from the columns as it came is kept in
 * metadata.cloudevent.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "base/utf8.h"
#include "ingest/decode.h"
#include "ingest/in_json.h"
#include "ingest/in_uuid.h"
#include "relay/cloudevents.h"
#include "relay/encoding.h"
#include "relay/outgoing.h"
#include "subscription/inbox.h"
#include "compat.h"

#define CONTENT_TYPE_JSON "application/json"
#define ATTRIBUTE_CHARACTERS "abcdefghijklmnopqrstuvwxyz0123456789"

/* What Event Grid asks a web hook before it sends anything. */
#define VALIDATION_TYPE "Microsoft.EventGrid.SubscriptionValidationEvent"

/* Longest name of a stream; see evs_stream_check_name(). */
#define STREAM_MAX 512

/* ---- checks ---- */

/* Attributes of the specification: strings that are not empty. */
static bool
is_core_name(const char *name)
{
	static const char *const names[] = {
		"id", "source", "type", "subject", "time", "datacontenttype", "dataschema",
	};

	for (int i = 0; i < (int) lengthof(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* Digits, and between them what there is in the pattern. */
static bool
has_form(const char *text, const char *pattern)
{
	for (; *pattern != '\0'; text++, pattern++)
		if (*pattern == '0' ? !(*text >= '0' && *text <= '9') : strchr("Tt ", *pattern) != NULL ?
			(*text == '\0' || strchr("Tt ", *text) == NULL) : *text != *pattern)
			return false;
	return true;
}

/* A zone: Z, +01, +0100 or +01:00; with nothing after it. */
static bool
is_zone(const char *text)
{
	if (*text == 'Z' || *text == 'z')
		return text[1] == '\0';
	if (*text != '+' && *text != '-')
		return false;
	text++;
	return (has_form(text, "00") && text[2] == '\0') ||
		(has_form(text, "0000") && text[4] == '\0') ||
		(has_form(text, "00:00") && text[5] == '\0');
}

/* As _parse_time(): RFC 3339, where seconds may be missing; none of PostgreSQL's other forms. */
static bool
is_time(const char *text)
{
	if (!has_form(text, "0000-00-00T00:00"))
		return false;
	text += strlen("0000-00-00T00:00");
	if (has_form(text, ":00"))
	{
		text += 3;
		if (*text == '.' && text[1] >= '0' && text[1] <= '9')
			text += 1 + strspn(text + 1, "0123456789");
	}
	return is_zone(text);
}

static bool
parse_time(const char *text, TimestampTz *time)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool ok = is_time(text);

	if (!ok)
		return false;
	PG_TRY();
	{
		*time = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(text),
														ObjectIdGetDatum(InvalidOid),
														Int32GetDatum(-1)));
	}
	PG_CATCH();
	{
		if (ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION))
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		ok = false;
	}
	PG_END_TRY();
	return ok;
}

static bool
is_integer(const char *text)
{
	char	   *end;
	long		number;

	errno = 0;
	number = strtol(text, &end, 10);
	return errno == 0 && *end == '\0' && number >= PG_INT32_MIN && number <= PG_INT32_MAX;
}

/* The end of a sentence about it; NULL: nothing is wrong. */
static const char *
problem_of(const EvsInAttribute *attribute)
{
	const char *name = attribute->name;
	const JsonbValue *value = &attribute->value;
	const char *text = evs_json_scalar_text(value);
	TimestampTz time;
	EvsBytes	bytes;

	if (strcmp(name, "data_base64") == 0)
	{
		if (value->type != jbvString)
			return "must be a string";
		return evs_in_base64_decode(text, false, &bytes) ? NULL : "must be Base64";
	}
	if (*name == '\0' || name[strspn(name, ATTRIBUTE_CHARACTERS)] != '\0' ||
		strcmp(name, "data") == 0)
		return "has a name that is not lower-case letters and digits, or is \"data\"";
	if (is_core_name(name) && (value->type != jbvString || *text == '\0'))
		return "must be a string that is not empty";
	if (text == NULL)
		return "must be a string, a boolean or an integer";
	if (strcmp(name, "specversion") == 0)
		return value->type == jbvString && strcmp(text, "1.0") == 0 ? NULL : "must be \"1.0\"";
	if (strcmp(name, "time") == 0 && !parse_time(text, &time))
		return "must be an RFC 3339 time with a zone";
	if (value->type == jbvNumeric && !is_integer(text))
		return "must be an integer of 32 bits";
	text = evs_utf8(text);
	return text != NULL && evs_utf8_has_control(text) ? "has a control character" : NULL;
}

/* It is looked for in the inbox by these. */
static void
check_key(EvsDecoding *d, const EvsInAttributes *attributes, const char *name)
{
	if (strlen(evs_in_attribute_text(attributes, name)) > EVS_INBOX_KEY_MAX)
		evs_in_throw(d->nrows, name, "CloudEvents attribute \"%s\" is longer than %d bytes", name,
					 EVS_INBOX_KEY_MAX);
}

static void
check_data(EvsDecoding *d, const EvsCloudEvent *event)
{
	const char *content_type = evs_in_attribute_text(&event->attributes, "datacontenttype");
	JsonbValue	scalar = {.type = jbvObject};

	if (event->both)
		evs_in_throw(d->nrows, "data_base64", "a CloudEvents event has either \"data\" or \"data_base64\"");
	if (event->data == NULL || content_type == NULL || evs_content_type_is_json(content_type))
		return;
	(void) JsonbExtractScalar(&event->data->root, &scalar);
	if (scalar.type != jbvString && scalar.type != jbvNull)
		evs_in_throw(d->nrows, "data", "data of content type \"%s\" must be a string", content_type);
}

static void
check_event(EvsDecoding *d, const EvsCloudEvent *event)
{
	static const char *const required[] = {"specversion", "id", "source", "type"};

	for (int i = 0; i < (int) lengthof(required); i++)
		if (evs_in_attribute_find(&event->attributes, required[i]) == NULL)
			evs_in_throw(d->nrows, required[i], "required CloudEvents attribute \"%s\" is missing",
						 required[i]);
	for (int i = 0; i < event->attributes.n; i++)
	{
		const EvsInAttribute *attribute = &event->attributes.list[i];
		const char *problem = problem_of(attribute);

		if (problem != NULL)
			evs_in_throw(d->nrows, attribute->name, "CloudEvents attribute \"%s\" %s",
						 attribute->name, problem);
	}
	check_key(d, &event->attributes, "id");
	check_key(d, &event->attributes, "source");
	check_data(d, event);
	if (!evs_in_options_allow(d->options->sources, evs_in_attribute_text(&event->attributes, "source")))
		evs_in_throw(d->nrows, "source", "source \"%s\" is not one of option \"sources\"",
					 evs_in_attribute_text(&event->attributes, "source"));
}

/* ---- columns ---- */

/* 2, "2" and "2.1" are 2, and what is less than 1 is 1; what has no such form, too. */
static int32
schema_version_of(const EvsInAttributes *attributes)
{
	const char *text = evs_in_attribute_text(attributes, "schemaversion");
	int			ndigits = text != NULL ? strspn(text, "0123456789") : 0;
	const char *rest;

	if (ndigits == 0 || ndigits > 9)
		return 1;
	rest = text + ndigits;
	while (*rest == '.' && rest[1] >= '0' && rest[1] <= '9')
		rest += 1 + strspn(rest + 1, "0123456789");
	return *rest != '\0' ? 1 : Max(1, atoi(text));
}

/* Only a string that is not empty. */
static const char *
string_of(const EvsInAttributes *attributes, const char *name)
{
	const EvsInAttribute *attribute = evs_in_attribute_find(attributes, name);

	return attribute != NULL && attribute->value.type == jbvString &&
		attribute->value.val.string.len > 0 ? evs_json_scalar_text(&attribute->value) : NULL;
}

static void
set_columns(EvsIncoming *row, const EvsCloudEvent *event)
{
	const EvsInAttributes *attributes = &event->attributes;
	const char *time = evs_in_attribute_text(attributes, "time");
	const char *text;

	evs_batch_init_event(&row->event);
	row->event.type = cstring_to_text(row->type);
	row->event.source = cstring_to_text(row->source);
	row->event.data = event->data;
	row->event.schema_version = schema_version_of(attributes);
	row->event.has_occurred_at = time != NULL && parse_time(time, &row->event.occurred_at);
	if ((text = string_of(attributes, "correlationid")) != NULL)
		row->event.correlation_id = cstring_to_text(text);
	if ((text = string_of(attributes, "causationid")) != NULL)
	{
		row->event.has_causation_id = true;
		evs_in_uuid(&row->event.causation_id, row->source, text);
	}
}

/* ---- what the columns do not say ---- */

static bool
is_uuid_text(const pg_uuid_t *uuid, const char *text)
{
	return strcmp(evs_encoding_uuid(uuid), text) == 0;
}

/* Would to_cloudevent() give back this attribute from the columns? */
static bool
is_expressed(const EvsIncoming *row, const EvsInAttribute *attribute)
{
	const char *name = attribute->name;
	const char *text = evs_json_scalar_text(&attribute->value);
	pg_uuid_t	uuid;

	if (strcmp(name, "schemaversion") == 0)
		return attribute->value.type == jbvNumeric &&
			strcmp(psprintf("%d", row->event.schema_version), text) == 0;
	if (strcmp(name, "specversion") == 0)
		return true;
	if (attribute->value.type != jbvString)
		return false;
	if (strcmp(name, "id") == 0)
		return evs_in_uuid(&uuid, row->source, text) && is_uuid_text(&uuid, text);
	if (strcmp(name, "source") == 0)
		return text[evs_uri_span(text, EVS_URI_REFERENCE)] == '\0';
	if (strcmp(name, "type") == 0)
		return strcmp(text, row->type) == 0;
	if (strcmp(name, "subject") == 0 || strcmp(name, "partitionkey") == 0)
		return strcmp(text, row->stream) == 0;
	if (strcmp(name, "time") == 0)
	{
		const char *expressed = evs_encoding_time(row->event.occurred_at);

		return expressed != NULL && strcmp(text, expressed) == 0;
	}
	if (strcmp(name, "datacontenttype") == 0)
		return strcmp(text, CONTENT_TYPE_JSON) == 0;
	if (strcmp(name, "correlationid") == 0)
		return *text != '\0';
	if (strcmp(name, "causationid") == 0)
		return row->event.has_causation_id && is_uuid_text(&row->event.causation_id, text);
	return strcmp(name, "traceparent") == 0 || strcmp(name, "tracestate") == 0;
}

static void
set_metadata(EvsIncoming *row, const EvsCloudEvent *event)
{
	static const JsonbValue yes = {.type = jbvBool, .val.boolean = true};
	EvsInObject metadata;
	EvsInObject kept;

	evs_in_object_begin(&kept);
	for (int i = 0; i < event->attributes.n; i++)
		if (!is_expressed(row, &event->attributes.list[i]))
			evs_in_object_add(&kept, event->attributes.list[i].name, &event->attributes.list[i].value);
	if (event->base64 != NULL)
		evs_in_object_add_text(&kept, "data_base64", event->base64);
	else if (event->data == NULL && evs_in_attribute_find(&event->attributes, "data_base64") == NULL)
		evs_in_object_add(&kept, "no_data", &yes);

	evs_in_object_begin(&metadata);
	evs_in_object_add_json(&metadata, "attributes", event->message_attributes);
	evs_in_object_add_json(&metadata, "cloudevent", evs_in_object_end(&kept));
	evs_in_object_add_text(&metadata, "traceparent", string_of(&event->attributes, "traceparent"));
	evs_in_object_add_text(&metadata, "tracestate", string_of(&event->attributes, "tracestate"));
	row->event.metadata = evs_in_object_end(&metadata);
}

/* ---- stream ---- */

/* One stream a subject, as long as its name is not too long. */
static const char *
default_stream(const EvsCloudEvent *event)
{
	const char *source = evs_in_attribute_text(&event->attributes, "source");
	const char *subject = evs_in_attribute_text(&event->attributes, "subject");
	const char *stream;

	if (subject != NULL)
	{
		stream = psprintf("inbox-%s/%s", source, subject);
		if (strlen(stream) <= STREAM_MAX)
			return stream;
	}
	return psprintf("inbox-%s", source);
}

static void
check_stream(EvsDecoding *d, const char *stream)
{
	if (strlen(stream) > STREAM_MAX)
		evs_in_throw(d->nrows, "stream", "name of the stream is longer than %d bytes", STREAM_MAX);
	for (const char *c = stream; *c != '\0'; c++)
		if ((unsigned char) *c < 0x20 || *c == 0x7f)
			evs_in_throw(d->nrows, "stream", "name of the stream has a control character");
}

/* ---- the row ---- */

/* The code that has to be given back, if it is Event Grid's question. */
static bool
add_validation(EvsDecoding *d, const EvsCloudEvent *event, const char *type)
{
	JsonbContainer *data = event->data != NULL ? &event->data->root : NULL;
	const char *code = evs_in_member_string(data, "validationCode");
	EvsInObject response;
	EvsInObject detail;

	if (strcmp(type, VALIDATION_TYPE) != 0 || code == NULL)
		return false;
	evs_in_object_begin(&response);
	evs_in_object_add_text(&response, "validationResponse", code);
	evs_in_object_begin(&detail);
	evs_in_object_add_text(&detail, "kind", "eventgrid-validation");
	evs_in_object_add_json(&detail, "response", evs_in_object_end(&response));
	evs_in_object_add_text(&detail, "validation_url", evs_in_member_string(data, "validationUrl"));
	evs_decode_add_handshake(d, evs_in_attribute_text(&event->attributes, "source"),
							 evs_in_attribute_text(&event->attributes, "id"), type,
							 evs_in_object_end(&detail));
	return true;
}

void
evs_decode_add_event(EvsDecoding *d, EvsCloudEvent *event)
{
	const EvsInOptions *options = d->options;
	EvsIncoming row = {.status = EVS_IN_PENDING};
	EvsIncoming *added;

	row.id = d->id = evs_in_attribute_text(&event->attributes, "id");
	row.source = d->source = evs_in_attribute_text(&event->attributes, "source");
	row.type = d->type = evs_in_attribute_text(&event->attributes, "type");
	row.sequence = evs_in_attribute_text(&event->attributes, "sequence");
	check_event(d, event);
	if (add_validation(d, event, row.type))
		return;
	if (options->type != NULL)
		row.type = evs_in_template_fill(options->type, event, d->nrows);
	row.stream = options->stream == NULL ? default_stream(event) :
		evs_in_template_fill(options->stream, event, d->nrows);
	check_stream(d, row.stream);
	set_columns(&row, event);
	set_metadata(&row, event);

	added = evs_decode_add_row(d);
	row.message_id = added->message_id;
	*added = row;
}
