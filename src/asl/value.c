/*
 * value.c
 *	  JSON values within the interpreter.
 */
#include "postgres.h"

#include "common/jsonapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/numeric.h"

#include "asl/value.h"
#include "compat.h"

/* ---- kinds ---- */

bool
evs_asl_is_object(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
}

bool
evs_asl_is_array(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data);
}

const char *
evs_asl_kind(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			return "null";
		case jbvString:
			return "a string";
		case jbvNumeric:
			return "a number";
		case jbvBool:
			return "a boolean";
		default:
			return evs_asl_is_object(value) ? "an object" : "an array";
	}
}

Size
evs_asl_size(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return sizeof(JEntry) + value->val.string.len;
		case jbvNumeric:
			return sizeof(JEntry) + VARSIZE_ANY(value->val.numeric);
		case jbvBinary:
			return sizeof(JEntry) + value->val.binary.len;
		default:
			return sizeof(JEntry);
	}
}

/* ---- parts ---- */

bool
evs_asl_find_member(const JsonbValue *object, const char *key, int len, JsonbValue *member)
{
	return evs_asl_is_object(object) &&
		getKeyJsonValueFromContainer(object->val.binary.data, key, len, member) != NULL;
}

int
evs_asl_array_length(const JsonbValue *array)
{
	return JsonContainerSize(array->val.binary.data);
}

bool
evs_asl_find_element(const JsonbValue *array, int64 index, JsonbValue *element)
{
	JsonbValue *found;
	int			n;

	if (!evs_asl_is_array(array))
		return false;
	n = evs_asl_array_length(array);
	if (index < 0)
		index += n;
	if (index < 0 || index >= n)
		return false;
	found = getIthJsonbValueFromContainer(array->val.binary.data, index);
	*element = *found;
	pfree(found);
	return true;
}

/* ---- making them ---- */

void
evs_asl_set_string(JsonbValue *value, const char *s, int len)
{
	value->type = jbvString;
	value->val.string.val = unconstify(char *, s);
	value->val.string.len = len;
}

void
evs_asl_set_integer(JsonbValue *value, int64 number)
{
	value->type = jbvNumeric;
	value->val.numeric = int64_to_numeric(number);
}

void
evs_asl_set_bool(JsonbValue *value, bool b)
{
	value->type = jbvBool;
	value->val.boolean = b;
}

JsonbValue
evs_asl_copy(const JsonbValue *value)
{
	JsonbValue	original = *value;

	return evs_asl_unpack(JsonbValueToJsonb(&original));
}

JsonbValue
evs_asl_pushed(JsonbParseState **state, JsonbIteratorToken end)
{
	return evs_asl_unpack(JsonbValueToJsonb(pushJsonbValue(state, end, NULL)));
}

/* ---- comparison ---- */

static int
compare_strings(const JsonbValue *a, const JsonbValue *b)
{
	int			len = Min(a->val.string.len, b->val.string.len);
	int			result = memcmp(a->val.string.val, b->val.string.val, len);

	return result != 0 ? result : a->val.string.len - b->val.string.len;
}

static int
compare_numbers(const JsonbValue *a, const JsonbValue *b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp,
											 NumericGetDatum(a->val.numeric),
											 NumericGetDatum(b->val.numeric)));
}

/* Of two that are of different kinds. */
static int
kind_rank(const JsonbValue *value)
{
	return value->type == jbvBinary && evs_asl_is_object(value) ? (int) jbvObject : (int) value->type;
}

/*
 * compareJsonbContainers() compares strings by the database's collation, and finds them
 * equal only where they are.
 */
int
evs_asl_order(const JsonbValue *a, const JsonbValue *b)
{
	int			rank = kind_rank(a);

	if (rank != kind_rank(b))
		return rank - kind_rank(b);
	switch (a->type)
	{
		case jbvNull:
			return 0;
		case jbvBool:
			return (int) a->val.boolean - (int) b->val.boolean;
		case jbvString:
			return compare_strings(a, b);
		case jbvNumeric:
			return compare_numbers(a, b);
		default:
			return compareJsonbContainers(a->val.binary.data, b->val.binary.data);
	}
}

bool
evs_asl_equal(const JsonbValue *a, const JsonbValue *b)
{
	return evs_asl_order(a, b) == 0;
}

bool
evs_asl_compare(const JsonbValue *a, const JsonbValue *b, int *result)
{
	if (a->type == jbvString && b->type == jbvString)
		*result = compare_strings(a, b);
	else if (a->type == jbvNumeric && b->type == jbvNumeric)
		*result = compare_numbers(a, b);
	else
		return false;
	return true;
}

/* ---- numbers ---- */

static int
count_digits(const char *s)
{
	return strspn(s, "0123456789");
}

int
evs_asl_number_length(const char *s)
{
	const char *p = s;
	int			n;

	if (*p == '-')
		p++;
	n = count_digits(p);
	if (n == 0 || (n > 1 && *p == '0'))
		return 0;
	p += n;
	if (*p == '.')
	{
		if ((n = count_digits(p + 1)) == 0)
			return 0;
		p += n + 1;
	}
	if (*p == 'e' || *p == 'E')
	{
		int			sign = p[1] == '+' || p[1] == '-' ? 1 : 0;

		if ((n = count_digits(p + 1 + sign)) == 0)
			return 0;
		p += n + 1 + sign;
	}
	return p - s;
}

/*
 * What numeric can have, with room to spare: it is 131072 digits before the point and
 * 16383 behind it.
 */
#define NUMBER_LENGTH_MAX	1000
#define NUMBER_EXPONENT_MAX	10000

Numeric
evs_asl_number_in(const char *s, int len)
{
	char	   *copy = pnstrdup(s, len);
	const char *e = strpbrk(copy, "eE");

	if (len > NUMBER_LENGTH_MAX)
		return NULL;
	if (e != NULL)
	{
		const char *digits = e + 1 + strspn(e + 1, "+-0");

		if (strlen(digits) > 5 || atoi(digits) > NUMBER_EXPONENT_MAX)
			return NULL;
	}
	return DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(copy),
											   ObjectIdGetDatum(InvalidOid),
											   Int32GetDatum(-1)));
}

/* Is it in the range of int64, a little more? */
static bool
is_near_int64(Numeric number)
{
	JsonbValue	value = {.type = jbvNumeric, .val.numeric = number};
	JsonbValue	limit;

	if (numeric_is_nan(number) || numeric_is_inf(number))
		return false;
	evs_asl_set_integer(&limit, PG_INT64_MIN);
	if (compare_numbers(&value, &limit) < 0)
		return false;
	evs_asl_set_integer(&limit, PG_INT64_MAX);
	return compare_numbers(&value, &limit) <= 0;
}

bool
evs_asl_round(Numeric number, int64 *result)
{
	Datum		half;
	char	   *s;

	if (!is_near_int64(number))
		return false;
	half = DirectFunctionCall3(numeric_in, CStringGetDatum("0.5"), ObjectIdGetDatum(InvalidOid),
							   Int32GetDatum(-1));
	s = DatumGetCString(DirectFunctionCall1(numeric_out,
											DirectFunctionCall1(numeric_floor,
																DirectFunctionCall2(numeric_add,
																					NumericGetDatum(number),
																					half))));
	errno = 0;
	*result = strtoi64(s, NULL, 10);
	return errno == 0;
}

bool
evs_asl_whole_number(Numeric number, int64 *result)
{
	JsonbValue	value = {.type = jbvNumeric, .val.numeric = number};
	JsonbValue	rounded;

	if (!evs_asl_round(number, result))
		return false;
	evs_asl_set_integer(&rounded, *result);
	return compare_numbers(&value, &rounded) == 0;
}

/* ---- out ---- */

static void
write_string(StringInfo buf, const JsonbValue *value)
{
	escape_json(buf, pnstrdup(value->val.string.val, value->val.string.len));
}

static void
write_scalar(StringInfo buf, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			appendStringInfoString(buf, "null");
			break;
		case jbvString:
			write_string(buf, value);
			break;
		case jbvBool:
			appendStringInfoString(buf, value->val.boolean ? "true" : "false");
			break;
		default:
			/* 3 for 3.0, as in JavaScript */
			appendStringInfoString(buf, numeric_normalize(value->val.numeric));
	}
}

/* Before a member or an element: the character before tells whether it is the first. */
static void
write_comma(StringInfo buf)
{
	char		last = buf->len > 0 ? buf->data[buf->len - 1] : '[';

	if (last != '[' && last != '{' && last != ':')
		appendStringInfoChar(buf, ',');
}

static void
write_token(StringInfo buf, JsonbIteratorToken token, const JsonbValue *value)
{
	switch (token)
	{
		case WJB_BEGIN_ARRAY:
		case WJB_BEGIN_OBJECT:
			write_comma(buf);
			appendStringInfoChar(buf, token == WJB_BEGIN_ARRAY ? '[' : '{');
			break;
		case WJB_END_ARRAY:
			appendStringInfoChar(buf, ']');
			break;
		case WJB_END_OBJECT:
			appendStringInfoChar(buf, '}');
			break;
		case WJB_KEY:
			write_comma(buf);
			write_string(buf, value);
			appendStringInfoChar(buf, ':');
			break;
		default:
			write_comma(buf);
			write_scalar(buf, value);
	}
}

char *
evs_asl_json_out(const JsonbValue *value)
{
	StringInfoData buf;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	part;

	initStringInfo(&buf);
	if (value->type != jbvBinary)
	{
		write_scalar(&buf, value);
		return buf.len <= EVS_ASL_VALUE_MAX ? buf.data : NULL;
	}
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &part, false)) != WJB_DONE)
	{
		CHECK_FOR_INTERRUPTS();
		write_token(&buf, token, &part);
		if (buf.len > EVS_ASL_VALUE_MAX)
			return NULL;
	}
	return buf.data;
}

/* ---- in ---- */

/* A character escaped by number that this database might not have. */
static bool
is_foreign_escape(const char *s)
{
	if (GetDatabaseEncoding() == PG_UTF8 || s[1] != 'u')
		return false;
	return strncmp(s + 2, "00", 2) != 0 || s[4] >= '8';
}

/* The byte behind a string, its opening quote being at s; NULL: what is not for us. */
static const char *
skip_string(const char *s, const char *end)
{
	for (s++; s < end && *s != '"'; s++)
		if (*s == '\\')
		{
			if (is_foreign_escape(s))
				return NULL;
			if (++s == end)
				return end;
		}
	return s < end ? s + 1 : end;
}

/*
 * What PostgreSQL's own parser would throw an error for, and does not report: JSON
 * that nests deeply, and numbers that are too large.
 */
static const char *
check_limits(const char *s, const char *end)
{
	int			depth = 0;

	while (s < end)
	{
		int			n;

		if (*s == '"')
		{
			s = skip_string(s, end);
			if (s == NULL)
				return "it has a character that the database may not have";
			continue;
		}
		depth += (*s == '[' || *s == '{') - (*s == ']' || *s == '}');
		if (depth > EVS_ASL_DEPTH_MAX)
			return "it nests too deeply";
		n = *s == '-' || (*s >= '0' && *s <= '9') ? evs_asl_number_length(s) : 0;
		if (n > 0 && evs_asl_number_in(s, n) == NULL)
			return "it has a number that is too large";
		s += Max(n, 1);
	}
	return NULL;
}

bool
evs_asl_json_in(const char *text, int len, JsonbValue *value, char **problem)
{
	char	   *copy = pnstrdup(text, len);
	const char *refused = check_limits(copy, copy + len);
	JsonLexContext *lex;
	JsonParseErrorType result;

	if (refused != NULL)
	{
		*problem = pstrdup(refused);
		return false;
	}
	lex = evs_json_lex_context(copy, len);
	result = pg_parse_json(lex, &nullSemAction);
	if (result != JSON_SUCCESS)
	{
		*problem = json_errdetail(result, lex);
		return false;
	}
	*value = evs_asl_unpack(DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(copy))));
	return true;
}
