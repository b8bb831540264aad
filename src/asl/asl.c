/*
 * asl.c
 *	  What the parts of the interpreter of the Amazon States Language share.
 */
#include "postgres.h"

#include <math.h>

#include "lib/stringinfo.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "asl/asl.h"
#include "asl/value.h"
#include "filter/document.h"
#include "compat.h"

/* ---- errors ---- */

void *
evs_asl_fail(EvsAslError *error, const char *name, const char *format,...)
{
	StringInfoData buf;

	if (error->name != NULL)
		return NULL;
	initStringInfo(&buf);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, format);
		needed = appendStringInfoVA(&buf, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&buf, needed);
	}
	error->name = name;
	error->cause = buf.data;
	return NULL;
}

/* ---- values ---- */

Jsonb *
evs_asl_value(JsonbValue *value)
{
	return JsonbValueToJsonb(value);
}

JsonbValue
evs_asl_unpack(Jsonb *json)
{
	JsonbValue	value;

	if (JB_ROOT_IS_SCALAR(json))
		(void) JsonbExtractScalar(&json->root, &value);
	else
	{
		value.type = jbvBinary;
		value.val.binary.data = &json->root;
		value.val.binary.len = VARSIZE(json) - VARHDRSZ;
	}
	return value;
}

Jsonb *
evs_asl_null(void)
{
	JsonbValue	value = {.type = jbvNull};

	return evs_asl_value(&value);
}

Jsonb *
evs_asl_empty_object(void)
{
	return evs_asl_object(0, NULL, NULL);
}

Jsonb *
evs_asl_string(const char *text)
{
	JsonbValue	value;

	evs_asl_set_string(&value, text, strlen(text));
	return evs_asl_value(&value);
}

Jsonb *
evs_asl_integer(int64 number)
{
	JsonbValue	value;

	evs_asl_set_integer(&value, number);
	return evs_asl_value(&value);
}

Jsonb *
evs_asl_bool(bool b)
{
	JsonbValue	value;

	evs_asl_set_bool(&value, b);
	return evs_asl_value(&value);
}

Jsonb *
evs_asl_member(Jsonb *object, const char *key)
{
	JsonbValue	value = evs_asl_unpack(object);
	JsonbValue	member;

	if (!evs_asl_find_member(&value, key, strlen(key), &member))
		return NULL;
	return evs_asl_value(&member);
}

Jsonb *
evs_asl_element(Jsonb *array, int index)
{
	JsonbValue	value = evs_asl_unpack(array);
	JsonbValue	element;

	if (index < 0 || !evs_asl_find_element(&value, index, &element))
		return NULL;
	return evs_asl_value(&element);
}

char *
evs_asl_text(Jsonb *json)
{
	JsonbValue	value = evs_asl_unpack(json);

	if (value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* What is too small for a double is zero, as it is elsewhere. */
bool
evs_asl_number(Jsonb *json, double *result)
{
	JsonbValue	value = evs_asl_unpack(json);

	if (value.type != jbvNumeric || numeric_is_nan(value.val.numeric))
		return false;
	*result = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
												 NumericGetDatum(value.val.numeric)));
	return !isinf(*result);
}

bool
evs_asl_whole(Jsonb *json, int64 *result)
{
	JsonbValue	value = evs_asl_unpack(json);

	return value.type == jbvNumeric && evs_asl_whole_number(value.val.numeric, result);
}

static void
push_members(JsonbParseState **state, Jsonb *object)
{
	JsonbIterator *it = JsonbIteratorInit(&object->root);
	JsonbIteratorToken token;
	JsonbValue	value;

	(void) JsonbIteratorNext(&it, &value, true);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_END_OBJECT)
		(void) pushJsonbValue(state, token, &value);
}

/* Of members with the same key pushJsonbValue() keeps the last. */
Jsonb *
evs_asl_merge(Jsonb *a, Jsonb *b)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_members(&state, a);
	push_members(&state, b);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

Jsonb *
evs_asl_object(int n, const char *const *keys, Jsonb *const *values)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < n; i++)
	{
		JsonbValue	value;

		if (values[i] == NULL)
			continue;
		evs_asl_set_string(&value, keys[i], strlen(keys[i]));
		(void) pushJsonbValue(&state, WJB_KEY, &value);
		value = evs_asl_unpack(values[i]);
		(void) pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

Jsonb *
evs_asl_array(int n, Jsonb *const *elements)
{
	JsonbParseState *state = NULL;

	(void) pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < n; i++)
	{
		JsonbValue	value = {.type = jbvNull};

		if (elements[i] != NULL)
			value = evs_asl_unpack(elements[i]);
		(void) pushJsonbValue(&state, WJB_ELEM, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}

/* ---- times ---- */

/* n digits; false if there are others, or the number is not in its range. */
static bool
read_digits(const char **s, int n, int min, int max, int *result)
{
	*result = 0;
	for (int i = 0; i < n; i++, (*s)++)
	{
		if (**s < '0' || **s > '9')
			return false;
		*result = *result * 10 + (**s - '0');
	}
	return *result >= min && *result <= max;
}

static bool
read_character(const char **s, char c)
{
	if (**s != c)
		return false;
	(*s)++;
	return true;
}

/* Digits beyond microseconds do not count. */
static bool
read_fraction(const char **s, fsec_t *fsec)
{
	int			unit = 100000;

	*fsec = 0;
	if (!read_character(s, '.'))
		return true;
	if (**s < '0' || **s > '9')
		return false;
	for (; **s >= '0' && **s <= '9'; (*s)++, unit /= 10)
		*fsec += (**s - '0') * unit;
	return true;
}

/* In seconds west of Greenwich, as PostgreSQL has it. */
static bool
read_zone(const char **s, int *zone)
{
	bool		west = **s == '-';
	int			hours;
	int			minutes;

	*zone = 0;
	if (read_character(s, 'Z'))
		return true;
	if (!read_character(s, west ? '-' : '+') || !read_digits(s, 2, 0, 23, &hours) ||
		!read_character(s, ':') || !read_digits(s, 2, 0, 59, &minutes))
		return false;
	*zone = (hours * 60 + minutes) * 60 * (west ? 1 : -1);
	return true;
}

bool
evs_asl_timestamp(const char *text, TimestampTz *time)
{
	struct pg_tm tm = {0};
	fsec_t		fsec;
	int			zone;

	return read_digits(&text, 4, 1, 9999, &tm.tm_year) && read_character(&text, '-') &&
		read_digits(&text, 2, 1, 12, &tm.tm_mon) && read_character(&text, '-') &&
		read_digits(&text, 2, 1, day_tab[isleap(tm.tm_year)][tm.tm_mon - 1], &tm.tm_mday) &&
		read_character(&text, 'T') &&
		read_digits(&text, 2, 0, 23, &tm.tm_hour) && read_character(&text, ':') &&
		read_digits(&text, 2, 0, 59, &tm.tm_min) && read_character(&text, ':') &&
		read_digits(&text, 2, 0, 59, &tm.tm_sec) &&
		read_fraction(&text, &fsec) && read_zone(&text, &zone) && *text == '\0' &&
		tm2timestamp(&tm, fsec, &zone, time) == 0;
}

char *
evs_asl_format_time(TimestampTz time)
{
	return evs_document_format_time(time);
}
