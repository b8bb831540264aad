/*
 * document.c
 *	  An event as a filter sees it, wherever it comes from.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "filter/document.h"
#include "compat.h"

/* ---- names ---- */

bool
evs_field_find(const char *name, bool any_case, EvsField *field)
{
	static const struct
	{
		const char *name;
		EvsField	field;
	}			names[] =
	{
		{"type", EVS_FIELD_TYPE}, {"eventType", EVS_FIELD_TYPE}, {"detail-type", EVS_FIELD_TYPE},
		{"id", EVS_FIELD_ID}, {"eventId", EVS_FIELD_ID}, {"event_id", EVS_FIELD_ID},
		{"source", EVS_FIELD_SOURCE},
		{"time", EVS_FIELD_TIME}, {"eventTime", EVS_FIELD_TIME}, {"occurred_at", EVS_FIELD_TIME},
		{"recorded_at", EVS_FIELD_RECORDED_AT},
		{"stream", EVS_FIELD_STREAM}, {"streamId", EVS_FIELD_STREAM}, {"subject", EVS_FIELD_STREAM},
		{"category", EVS_FIELD_CATEGORY},
		{"version", EVS_FIELD_VERSION},
		{"position", EVS_FIELD_POSITION},
		{"schema_version", EVS_FIELD_SCHEMA_VERSION}, {"schemaVersion", EVS_FIELD_SCHEMA_VERSION},
		{"correlation_id", EVS_FIELD_CORRELATION_ID}, {"correlationId", EVS_FIELD_CORRELATION_ID},
		{"causation_id", EVS_FIELD_CAUSATION_ID}, {"causationId", EVS_FIELD_CAUSATION_ID},
		{"tags", EVS_FIELD_TAGS},
		{"data", EVS_FIELD_DATA}, {"detail", EVS_FIELD_DATA},
		{"metadata", EVS_FIELD_METADATA},
	};

	for (int i = 0; i < (int) lengthof(names); i++)
		if (any_case ? pg_strcasecmp(name, names[i].name) == 0 : strcmp(name, names[i].name) == 0)
		{
			*field = names[i].field;
			return true;
		}
	return false;
}

void
evs_document_parse_path(const char *text, EvsPath *path)
{
	char	   *rest = pstrdup(text);
	int			max = 2;
	bool		found;

	for (const char *s = text; *s != '\0'; s++)
		if (*s == '.')
			max++;
	path->nkeys = 0;
	path->keys = palloc(sizeof(char *) * max);
	while (rest != NULL)
		path->keys[path->nkeys++] = strsep(&rest, ".");
	found = evs_field_find(path->keys[0], true, &path->field);
	if (!found)
		path->field = EVS_FIELD_METADATA;
	else
	{
		path->keys++;
		path->nkeys--;
	}
}

/* ---- values ---- */

static bool
set_string(JsonbValue *value, const char *s, int len)
{
	value->type = jbvString;
	value->val.string.val = unconstify(char *, s);
	value->val.string.len = len;
	return true;
}

static bool
set_text(JsonbValue *value, Datum datum)
{
	text	   *t = DatumGetTextPP(datum);

	return set_string(value, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
}

static bool
set_number(JsonbValue *value, int64 number)
{
	value->type = jbvNumeric;
	value->val.numeric = int64_to_numeric(number);
	return true;
}

static bool
set_uuid(JsonbValue *value, Datum uuid)
{
	char	   *s = DatumGetCString(DirectFunctionCall1(uuid_out, uuid));

	return set_string(value, s, strlen(s));
}

static bool
set_jsonb(JsonbValue *value, Jsonb *jsonb)
{
	if (JB_ROOT_IS_SCALAR(jsonb))
		return JsonbExtractScalar(&jsonb->root, value);
	value->type = jbvBinary;
	value->val.binary.data = &jsonb->root;
	value->val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	return true;
}

char *
evs_document_format_time(TimestampTz time)
{
	struct pg_tm tm;
	fsec_t		fsec;
	StringInfoData buf;

	if (TIMESTAMP_NOT_FINITE(time) || timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) != 0)
		return pstrdup(TIMESTAMP_IS_NOBEGIN(time) ? "-infinity" : "infinity");
	initStringInfo(&buf);
	appendStringInfo(&buf, "%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year, tm.tm_mon, tm.tm_mday,
					 tm.tm_hour, tm.tm_min, tm.tm_sec);
	if (fsec != 0)
	{
		appendStringInfo(&buf, ".%06d", (int) fsec);
		while (buf.data[buf.len - 1] == '0')
			buf.data[--buf.len] = '\0';
	}
	appendStringInfoChar(&buf, 'Z');
	return buf.data;
}

static bool
set_time(JsonbValue *value, TimestampTz time)
{
	char	   *s = evs_document_format_time(time);

	return set_string(value, s, strlen(s));
}

static bool
set_tags(JsonbValue *value, Datum tags)
{
	ArrayIterator it = array_create_iterator(DatumGetArrayTypeP(tags), 0, NULL);
	JsonbParseState *state = NULL;
	Datum		tag;
	bool		isnull;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	while (array_iterate(it, &tag, &isnull))
	{
		JsonbValue	element;

		if (isnull)
			continue;
		set_text(&element, tag);
		pushJsonbValue(&state, WJB_ELEM, &element);
	}
	array_free_iterator(it);
	return set_jsonb(value, JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
}

/* ---- fields that are not columns ---- */

/* Percent-encode what is neither a letter, a digit nor in keep. */
static void
append_encoded(StringInfo buf, const char *s, int len, const char *keep)
{
	for (int i = 0; i < len; i++)
	{
		unsigned char c = s[i];

		if (c < 0x80 && (isalnum(c) || strchr(keep, c) != NULL))
			appendStringInfoChar(buf, c);
		else
			appendStringInfo(buf, "%%%02X", c);
	}
}

static bool
get_category(EvsDocument *document, JsonbValue *value)
{
	const char *dash;

	if (!evs_document_get(document, EVS_FIELD_STREAM, value))
		return false;
	dash = memchr(value->val.string.val, '-', value->val.string.len);
	if (dash != NULL)
		value->val.string.len = dash - value->val.string.val;
	return true;
}

static bool
get_source(EvsDocument *document, JsonbValue *value)
{
	StringInfoData buf;
	bool		isnull;
	Datum		source = evs_document_column(document, EVS_EVENT_SOURCE, &isnull);
	const char *database;

	initStringInfo(&buf);
	if (!isnull && set_text(value, source) && value->val.string.len > 0)
		append_encoded(&buf, value->val.string.val, value->val.string.len,
					   "[]._~:/?#@!$&'()*+,;=%-");
	else
	{
		database = get_database_name(MyDatabaseId);
		appendStringInfoString(&buf, "/evstore/");
		append_encoded(&buf, database, strlen(database), "._~-");
		appendStringInfoChar(&buf, '/');
		if (get_category(document, value))
			append_encoded(&buf, value->val.string.val, value->val.string.len, "._~-");
	}
	return set_string(value, buf.data, buf.len);
}

static bool
get_time(EvsDocument *document, JsonbValue *value)
{
	bool		isnull;
	Datum		time = evs_document_column(document, EVS_EVENT_OCCURRED_AT, &isnull);

	if (isnull)
		time = evs_document_column(document, EVS_EVENT_RECORDED_AT, &isnull);
	return !isnull && set_time(value, DatumGetTimestampTz(time));
}

/* data or metadata, fetched once; an event without metadata has {}. */
static bool
get_jsonb(EvsDocument *document, int column, Jsonb **kept, JsonbValue *value)
{
	static const uint32 empty = JB_FOBJECT;
	bool		isnull = false;

	if (*kept == NULL)
	{
		Datum		datum = evs_document_column(document, column, &isnull);

		if (!isnull)
			*kept = DatumGetJsonbP(datum);
	}
	if (!isnull)
		return set_jsonb(value, *kept);
	value->type = jbvBinary;
	value->val.binary.data = (JsonbContainer *) unconstify(uint32 *, &empty);
	value->val.binary.len = sizeof(empty);
	return true;
}

static bool
get_column(EvsDocument *document, EvsField field, JsonbValue *value)
{
	static const int columns[] = {
		[EVS_FIELD_ID] = EVS_EVENT_EVENT_ID,
		[EVS_FIELD_TYPE] = EVS_EVENT_TYPE,
		[EVS_FIELD_STREAM] = EVS_EVENT_STREAM,
		[EVS_FIELD_VERSION] = EVS_EVENT_VERSION,
		[EVS_FIELD_POSITION] = EVS_EVENT_POSITION,
		[EVS_FIELD_SCHEMA_VERSION] = EVS_EVENT_SCHEMA_VERSION,
		[EVS_FIELD_CORRELATION_ID] = EVS_EVENT_CORRELATION_ID,
		[EVS_FIELD_CAUSATION_ID] = EVS_EVENT_CAUSATION_ID,
		[EVS_FIELD_RECORDED_AT] = EVS_EVENT_RECORDED_AT,
		[EVS_FIELD_TAGS] = EVS_EVENT_TAGS,
	};
	bool		isnull;
	Datum		datum = evs_document_column(document, columns[field], &isnull);

	if (isnull)
		return false;
	switch (field)
	{
		case EVS_FIELD_ID:
		case EVS_FIELD_CAUSATION_ID:
			return set_uuid(value, datum);
		case EVS_FIELD_VERSION:
		case EVS_FIELD_POSITION:
			return set_number(value, DatumGetInt64(datum));
		case EVS_FIELD_SCHEMA_VERSION:
			return set_number(value, DatumGetInt32(datum));
		case EVS_FIELD_RECORDED_AT:
			return set_time(value, DatumGetTimestampTz(datum));
		case EVS_FIELD_TAGS:
			return set_tags(value, datum);
		default:
			return set_text(value, datum);
	}
}

bool
evs_document_get(EvsDocument *document, EvsField field, JsonbValue *value)
{
	switch (field)
	{
		case EVS_FIELD_DATA:
			return get_jsonb(document, EVS_EVENT_DATA, &document->data, value);
		case EVS_FIELD_METADATA:
			return get_jsonb(document, EVS_EVENT_METADATA, &document->metadata, value);
		case EVS_FIELD_CATEGORY:
			return get_category(document, value);
		case EVS_FIELD_SOURCE:
			return get_source(document, value);
		case EVS_FIELD_TIME:
			return get_time(document, value);
		default:
			return get_column(document, field, value);
	}
}

/* ---- below data and metadata ---- */

bool
evs_document_json_member(const JsonbValue *object, const char *key, JsonbValue *member)
{
	return object->type == jbvBinary && JsonContainerIsObject(object->val.binary.data) &&
		getKeyJsonValueFromContainer(object->val.binary.data, key, strlen(key), member) != NULL;
}

bool
evs_document_follow(EvsDocument *document, const EvsPath *path, JsonbValue *value)
{
	if (!evs_document_get(document, path->field, value))
		return false;
	for (int i = 0; i < path->nkeys; i++)
	{
		JsonbValue	member;

		if (!evs_document_json_member(value, path->keys[i], &member))
			return false;
		*value = member;
	}
	return true;
}

char *
evs_json_to_string(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return numeric_normalize(value->val.numeric);
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		default:
			return NULL;
	}
}

char *
evs_fold_case(const char *s, int len)
{
	return str_tolower(s, len, DEFAULT_COLLATION_OID);
}
