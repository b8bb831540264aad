/*
 * json_write.c
 *	  Writing jsonb objects and arrays, member by member.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "utils/timestamp.h"

#include "asl/asl.h"
#include "saga/json_write.h"

static void
push_string(JsonbParseState **state, JsonbIteratorToken token, const char *s)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, s);
	value.val.string.len = strlen(s);
	pushJsonbValue(state, token, &value);
}

static void
push_int(JsonbParseState **state, JsonbIteratorToken token, int64 number)
{
	JsonbValue	value;

	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(number);
	pushJsonbValue(state, token, &value);
}

void
evs_json_key(JsonbParseState **state, const char *key)
{
	push_string(state, WJB_KEY, key);
}

void
evs_json_text(JsonbParseState **state, const char *key, const char *value)
{
	evs_json_key(state, key);
	push_string(state, WJB_VALUE, value);
}

void
evs_json_int(JsonbParseState **state, const char *key, int64 value)
{
	evs_json_key(state, key);
	push_int(state, WJB_VALUE, value);
}

void
evs_json_value(JsonbParseState **state, const char *key, Jsonb *value)
{
	JsonbValue	unpacked = evs_asl_unpack(value);

	evs_json_key(state, key);
	pushJsonbValue(state, WJB_VALUE, &unpacked);
}

void
evs_json_element(JsonbParseState **state, Jsonb *value)
{
	JsonbValue	unpacked = {.type = jbvNull};

	if (value != NULL)
		unpacked = evs_asl_unpack(value);
	pushJsonbValue(state, WJB_ELEM, &unpacked);
}

void
evs_json_int_element(JsonbParseState **state, int64 value)
{
	push_int(state, WJB_ELEM, value);
}

void
evs_json_begin_object(JsonbParseState **state)
{
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
}

void
evs_json_end_object(JsonbParseState **state)
{
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

void
evs_json_begin_array(JsonbParseState **state)
{
	pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
}

void
evs_json_end_array(JsonbParseState **state)
{
	pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

Jsonb *
evs_json_finish(JsonbParseState **state)
{
	return JsonbValueToJsonb(pushJsonbValue(state, WJB_END_OBJECT, NULL));
}

bool
evs_json_read_int(Jsonb *object, const char *key, int64 *value)
{
	JsonbValue	member;

	if (getKeyJsonValueFromContainer(&object->root, key, strlen(key), &member) == NULL ||
		member.type != jbvNumeric)
		return false;
	*value = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(member.val.numeric)));
	return true;
}
