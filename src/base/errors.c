/*
 * errors.c
 *	  Errors that many functions throw, and the JSON objects in their DETAIL.
 */
#include "postgres.h"

#include "utils/json.h"

#include "base/errors.h"

void
evs_throw_null(const char *argument)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("argument \"%s\" must not be null", argument)));
}

static void
start_member(StringInfo buf, const char *key)
{
	if (buf->len > 1)
		appendStringInfoString(buf, ", ");
	escape_json(buf, key);
	appendStringInfoString(buf, ": ");
}

void
evs_detail_begin(StringInfo buf)
{
	initStringInfo(buf);
	appendStringInfoChar(buf, '{');
}

/* NULL gives JSON null. */
void
evs_detail_string(StringInfo buf, const char *key, const char *value)
{
	start_member(buf, key);
	if (value == NULL)
		appendStringInfoString(buf, "null");
	else
		escape_json(buf, value);
}

void
evs_detail_int(StringInfo buf, const char *key, int64 value)
{
	start_member(buf, key);
	appendStringInfo(buf, INT64_FORMAT, value);
}

void
evs_detail_bool(StringInfo buf, const char *key, bool value)
{
	start_member(buf, key);
	appendStringInfoString(buf, value ? "true" : "false");
}

/* json must be valid JSON already. */
void
evs_detail_raw(StringInfo buf, const char *key, const char *json)
{
	start_member(buf, key);
	appendStringInfoString(buf, json);
}

char *
evs_detail_end(StringInfo buf)
{
	appendStringInfoChar(buf, '}');
	return buf->data;
}
