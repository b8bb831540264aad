/*
 * cesql_value.c
 *	  Values of CloudEvents SQL, their casts, and the attributes that have them.
 */
#include "postgres.h"

#include "filter/cesql_value.h"
#include "compat.h"

/* Longest name of an attribute that is only in the metadata. */
#define NAME_MAX_LENGTH 20

/* ---- values and casts ---- */

bool
evs_cesql_set_boolean(EvsCesqlValue *value, bool boolean)
{
	value->type = CESQL_TYPE_BOOLEAN;
	value->boolean = boolean;
	return true;
}

bool
evs_cesql_set_integer(EvsCesqlValue *value, int32 integer)
{
	value->type = CESQL_TYPE_INTEGER;
	value->integer = integer;
	return true;
}

bool
evs_cesql_set_string(EvsCesqlValue *value, const char *s, int len)
{
	value->type = CESQL_TYPE_STRING;
	value->s = s;
	value->len = len;
	return true;
}

/* A sign and digits; false if it is not 32 bits. */
static bool
string_to_integer(const char *s, int len, int32 *result)
{
	bool		is_negative = len > 0 && s[0] == '-';
	int			i = len > 0 && (s[0] == '-' || s[0] == '+') ? 1 : 0;
	int64		value = 0;

	if (i == len)
		return false;
	for (; i < len; i++)
	{
		if (s[i] < '0' || s[i] > '9')
			return false;
		value = value * 10 + (s[i] - '0');
		if (value > (int64) PG_INT32_MAX + 1)
			return false;
	}
	if (is_negative)
		value = -value;
	*result = (int32) value;
	return value <= PG_INT32_MAX;
}

static bool
string_to_boolean(const char *s, int len, bool *result)
{
	*result = len == 4 && pg_strncasecmp(s, "true", 4) == 0;
	return *result || (len == 5 && pg_strncasecmp(s, "false", 5) == 0);
}

static void
cast_to_string(EvsCesqlValue *value)
{
	char	   *s;

	if (value->type == CESQL_TYPE_STRING)
		return;
	if (value->type == CESQL_TYPE_INTEGER)
		s = psprintf("%d", value->integer);
	else
		s = pstrdup(value->boolean ? "true" : "false");
	evs_cesql_set_string(value, s, strlen(s));
}

bool
evs_cesql_cast(EvsCesqlValue *value, EvsCesqlType type)
{
	bool		boolean;
	int32		integer;

	if (value->type == type)
		return true;
	if (type == CESQL_TYPE_STRING)
		cast_to_string(value);
	else if (type == CESQL_TYPE_INTEGER && value->type == CESQL_TYPE_BOOLEAN)
		evs_cesql_set_integer(value, value->boolean ? 1 : 0);
	else if (type == CESQL_TYPE_BOOLEAN && value->type == CESQL_TYPE_INTEGER)
		evs_cesql_set_boolean(value, value->integer != 0);
	else if (type == CESQL_TYPE_INTEGER)
		return string_to_integer(value->s, value->len, &integer) && evs_cesql_set_integer(value, integer);
	else
		return string_to_boolean(value->s, value->len, &boolean) && evs_cesql_set_boolean(value, boolean);
	return true;
}

/* ---- attributes ---- */

static bool
from_json(const JsonbValue *json, EvsCesqlValue *value)
{
	char	   *s;
	int32		integer;

	if (json->type == jbvBool)
		return evs_cesql_set_boolean(value, json->val.boolean);
	if (json->type == jbvString)
		return evs_cesql_set_string(value, json->val.string.val, json->val.string.len);
	if (json->type != jbvNumeric)
		return false;
	s = evs_json_to_string(json);
	if (string_to_integer(s, strlen(s), &integer))
		return evs_cesql_set_integer(value, integer);
	return evs_cesql_set_string(value, s, strlen(s));
}

/* An attribute of the event's columns, as to_cloudevent() makes them. */
static bool
get_standard(EvsDocument *document, const char *name, EvsCesqlValue *value)
{
	static const struct
	{
		const char *name;
		EvsField	field;
	}			fields[] =
	{
		{"id", EVS_FIELD_ID}, {"source", EVS_FIELD_SOURCE}, {"type", EVS_FIELD_TYPE},
		{"time", EVS_FIELD_TIME}, {"subject", EVS_FIELD_STREAM},
		{"partitionkey", EVS_FIELD_STREAM}, {"stream", EVS_FIELD_STREAM},
		{"category", EVS_FIELD_CATEGORY}, {"streamversion", EVS_FIELD_VERSION},
		{"schemaversion", EVS_FIELD_SCHEMA_VERSION}, {"sequence", EVS_FIELD_POSITION},
		{"correlationid", EVS_FIELD_CORRELATION_ID}, {"causationid", EVS_FIELD_CAUSATION_ID},
	};
	JsonbValue	json;

	if (strcmp(name, "datacontenttype") == 0)
		return evs_cesql_set_string(value, "application/json", strlen("application/json"));
	for (int i = 0; i < (int) lengthof(fields); i++)
	{
		if (strcmp(name, fields[i].name) != 0)
			continue;
		if (!evs_document_get(document, fields[i].field, &json) || !from_json(&json, value))
			return false;
		if (fields[i].field == EVS_FIELD_POSITION)
		{
			char	   *padded;

			/* as text, positions compare as they do as numbers */
			cast_to_string(value);
			padded = psprintf("%020lld", strtoll(pnstrdup(value->s, value->len), NULL, 10));
			evs_cesql_set_string(value, padded, strlen(padded));
		}
		return true;
	}
	return false;
}

/* Those that append_cloudevent() kept, since no column could have them. */
static bool
get_kept(EvsDocument *document, const char *name, EvsCesqlValue *value)
{
	static const char *const strings[] = {
		"id", "source", "type", "subject", "time", "datacontenttype", "dataschema",
	};
	JsonbValue	metadata;
	JsonbValue	kept;
	JsonbValue	json;

	if (!evs_document_get(document, EVS_FIELD_METADATA, &metadata) ||
		!evs_document_json_member(&metadata, "cloudevent", &kept) || !evs_document_json_member(&kept, name, &json))
		return false;
	for (int i = 0; i < (int) lengthof(strings); i++)
		if (strcmp(name, strings[i]) == 0 && (json.type != jbvString || json.val.string.len == 0))
			return false;
	return from_json(&json, value);
}

bool
evs_cesql_get_attribute(EvsDocument *document, const char *name, EvsCesqlValue *value)
{
	JsonbValue	metadata;
	JsonbValue	json;

	if (strcmp(name, "specversion") == 0)
		return evs_cesql_set_string(value, "1.0", strlen("1.0"));
	if (strcmp(name, "data") == 0)
		return false;
	if (get_kept(document, name, value) || get_standard(document, name, value))
		return true;
	return strlen(name) <= NAME_MAX_LENGTH &&
		evs_document_get(document, EVS_FIELD_METADATA, &metadata) &&
		evs_document_json_member(&metadata, name, &json) && from_json(&json, value);
}
