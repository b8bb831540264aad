/*
 * intrinsic.c
 *	  The 18 intrinsic functions of the language.
 *
 * Limits are those that AWS documents.  Nothing is thrown for what arguments are.
 */
#include "postgres.h"

#include "common/base64.h"
#include "common/cryptohash.h"
#include "common/sha1.h"
#include "common/md5.h"
#include "common/sha2.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/numeric.h"

#include "asl/expression.h"
#include "base/utf8.h"
#include "compat.h"

/* Characters that Base64Encode, Base64Decode and Hash take. */
#define TEXT_MAX	10000

/* Elements of an ArrayRange. */
#define RANGE_MAX	1000

/* ---- errors and arguments ---- */

static bool fail(const EvsAslCall *call, const char *format,...) pg_attribute_printf(2, 3);

static bool
fail(const EvsAslCall *call, const char *format,...)
{
	va_list		args;
	char		cause[512];

	va_start(args, format);
	vsnprintf(cause, sizeof(cause), format, args);
	va_end(args);
	evs_asl_fail(call->error, EVS_ASL_INTRINSIC, "%s: %s", call->function->name, cause);
	return false;
}

static bool
too_large(const EvsAslCall *call)
{
	evs_asl_fail(call->error, EVS_ASL_DATA_LIMIT, "%s: the result has more than %d bytes",
				 call->function->name, EVS_ASL_VALUE_MAX);
	return false;
}

/* A number that is rounded if need be. */
static bool
get_integer(const EvsAslCall *call, int i, int64 min, int64 max, int64 *result)
{
	if (evs_asl_round(call->args[i].val.numeric, result) && *result >= min && *result <= max)
		return true;
	return fail(call, "argument %d must be from " INT64_FORMAT " to " INT64_FORMAT, i + 1, min, max);
}

/* A string of at most 10000 characters, in UTF-8. */
static bool
get_utf8(const EvsAslCall *call, int i, const char **result, int *len)
{
	const JsonbValue *arg = &call->args[i];
	char	   *text = pnstrdup(arg->val.string.val, arg->val.string.len);

	if (pg_mbstrlen_with_len(text, arg->val.string.len) > TEXT_MAX)
		return fail(call, "argument %d must not have more than %d characters", i + 1, TEXT_MAX);
	*result = evs_utf8_from(text, arg->val.string.len);
	if (*result == NULL)
		return fail(call, "argument %d cannot be converted to UTF-8", i + 1);
	*len = strlen(*result);
	return true;
}

static void
set_text(JsonbValue *result, const StringInfo buf)
{
	evs_asl_set_string(result, buf->data, buf->len);
}

/* ---- strings ---- */

static bool
append_natural(StringInfo buf, const JsonbValue *value)
{
	if (value->type == jbvString)
		appendBinaryStringInfo(buf, value->val.string.val, value->val.string.len);
	else
		appendStringInfoString(buf, evs_asl_json_out(value));
	return buf->len <= EVS_ASL_VALUE_MAX;
}

static bool
call_format(const EvsAslCall *call, JsonbValue *result)
{
	const char *s = call->args[0].val.string.val;
	const char *end = s + call->args[0].val.string.len;
	StringInfoData buf;
	int			next = 1;

	initStringInfo(&buf);
	for (; s < end; s++)
	{
		if (*s == '\\' && s + 1 < end && strchr("{}\\'", s[1]) != NULL)
			appendStringInfoChar(&buf, *++s);
		else if (*s != '{' || s + 1 == end || s[1] != '}')
			appendStringInfoChar(&buf, *s);
		else if (next == call->nargs)
			return fail(call, "there are more {} than arguments for them");
		else if (!append_natural(&buf, &call->args[next++]))
			return too_large(call);
		else
			s++;
	}
	if (next < call->nargs)
		return fail(call, "there are fewer {} than arguments for them");
	set_text(result, &buf);
	return true;
}

static bool
call_string_to_json(const EvsAslCall *call, JsonbValue *result)
{
	const JsonbValue *text = &call->args[0];
	char	   *problem;

	return evs_asl_json_in(text->val.string.val, text->val.string.len, result, &problem) ||
		fail(call, "the string is no JSON: %s", problem);
}

static bool
call_json_to_string(const EvsAslCall *call, JsonbValue *result)
{
	char	   *text = evs_asl_json_out(&call->args[0]);

	if (text == NULL)
		return too_large(call);
	evs_asl_set_string(result, text, strlen(text));
	return true;
}

/* Is the character one of those? */
static bool
is_one_of(const char *s, int len, const JsonbValue *characters)
{
	const char *c = characters->val.string.val;
	const char *end = c + characters->val.string.len;

	for (; c < end; c += pg_mblen(c))
		if (pg_mblen(c) == len && memcmp(c, s, len) == 0)
			return true;
	return false;
}

/* Nothing between two delimiters gives no part. */
static bool
call_string_split(const EvsAslCall *call, JsonbValue *result)
{
	const char *part = call->args[0].val.string.val;
	const char *end = part + call->args[0].val.string.len;
	JsonbParseState *state = NULL;
	JsonbValue	value;

	(void) pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (const char *s = part; s <= end;)
	{
		int			len = s < end ? pg_mblen(s) : 1;

		if (s == end || is_one_of(s, len, &call->args[1]))
		{
			evs_asl_set_string(&value, part, s - part);
			if (s > part)
				(void) pushJsonbValue(&state, WJB_ELEM, &value);
			part = s + len;
		}
		s += len;
	}
	*result = evs_asl_pushed(&state, WJB_END_ARRAY);
	return true;
}

/* ---- arrays ---- */

static bool
call_array(const EvsAslCall *call, JsonbValue *result)
{
	JsonbParseState *state = NULL;
	Size		size = 0;

	for (int i = 0; i < call->nargs; i++)
		size += evs_asl_size(&call->args[i]);
	if (size > EVS_ASL_VALUE_MAX)
		return too_large(call);
	(void) pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < call->nargs; i++)
		(void) pushJsonbValue(&state, WJB_ELEM, &call->args[i]);
	*result = evs_asl_pushed(&state, WJB_END_ARRAY);
	return true;
}

static bool
call_array_partition(const EvsAslCall *call, JsonbValue *result)
{
	JsonbParseState *state = NULL;
	JsonbIterator *it;
	JsonbValue	element;
	int64		size;
	int64		n = 0;

	if (!get_integer(call, 1, 1, PG_INT32_MAX, &size))
		return false;
	(void) pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	it = JsonbIteratorInit(call->args[0].val.binary.data);
	(void) JsonbIteratorNext(&it, &element, true);
	for (; JsonbIteratorNext(&it, &element, true) == WJB_ELEM; n++)
	{
		if (n % size == 0)
		{
			if (n > 0)
				(void) pushJsonbValue(&state, WJB_END_ARRAY, NULL);
			(void) pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
		}
		(void) pushJsonbValue(&state, WJB_ELEM, &element);
	}
	if (n > 0)
		(void) pushJsonbValue(&state, WJB_END_ARRAY, NULL);
	*result = evs_asl_pushed(&state, WJB_END_ARRAY);
	return true;
}

static bool
call_array_contains(const EvsAslCall *call, JsonbValue *result)
{
	JsonbIterator *it = JsonbIteratorInit(call->args[0].val.binary.data);
	JsonbValue	element;
	bool		found = false;

	(void) JsonbIteratorNext(&it, &element, true);
	while (!found && JsonbIteratorNext(&it, &element, true) == WJB_ELEM)
		found = evs_asl_equal(&element, &call->args[1]);
	evs_asl_set_bool(result, found);
	return true;
}

static bool
call_array_range(const EvsAslCall *call, JsonbValue *result)
{
	/* so that nothing overflows below */
	const int64 max = PG_INT64_MAX / 4;
	JsonbParseState *state = NULL;
	JsonbValue	element;
	int64		first;
	int64		last;
	int64		step;

	if (!get_integer(call, 0, -max, max, &first) || !get_integer(call, 1, -max, max, &last) ||
		!get_integer(call, 2, -max, max, &step))
		return false;
	if (step == 0)
		return fail(call, "argument 3 must not be zero");
	if ((last - first) / step >= RANGE_MAX)
		return fail(call, "there are more than %d elements", RANGE_MAX);
	(void) pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int64 i = first; step > 0 ? i <= last : i >= last; i += step)
	{
		evs_asl_set_integer(&element, i);
		(void) pushJsonbValue(&state, WJB_ELEM, &element);
	}
	*result = evs_asl_pushed(&state, WJB_END_ARRAY);
	return true;
}

static bool
call_array_get_item(const EvsAslCall *call, JsonbValue *result)
{
	int64		index;

	if (!evs_asl_whole_number(call->args[1].val.numeric, &index) || index < 0)
		return fail(call, "argument 2 must be a whole number that is not negative");
	return evs_asl_find_element(&call->args[0], index, result) ||
		fail(call, "the array has only %d elements", evs_asl_array_length(&call->args[0]));
}

static bool
call_array_length(const EvsAslCall *call, JsonbValue *result)
{
	evs_asl_set_integer(result, evs_asl_array_length(&call->args[0]));
	return true;
}

/* An element, and where it was. */
typedef struct Place
{
	JsonbValue	value;
	int			index;
} Place;

/* Equal elements next to each other, the first of them first. */
static int
compare_places(const void *a, const void *b)
{
	const Place *left = a;
	const Place *right = b;
	int			order = evs_asl_order(&left->value, &right->value);

	return order != 0 ? order : left->index - right->index;
}

static bool
call_array_unique(const EvsAslCall *call, JsonbValue *result)
{
	int			n = evs_asl_array_length(&call->args[0]);
	Place	   *places = palloc(sizeof(Place) * Max(n, 1));
	JsonbValue **kept = palloc0(sizeof(JsonbValue *) * Max(n, 1));
	JsonbParseState *state = NULL;

	for (int i = 0; i < n; i++)
	{
		places[i].index = i;
		(void) evs_asl_find_element(&call->args[0], i, &places[i].value);
	}
	qsort(places, n, sizeof(Place), compare_places);
	for (int i = 0; i < n; i++)
		if (i == 0 || !evs_asl_equal(&places[i].value, &places[i - 1].value))
			kept[places[i].index] = &places[i].value;
	(void) pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < n; i++)
		if (kept[i] != NULL)
			(void) pushJsonbValue(&state, WJB_ELEM, kept[i]);
	*result = evs_asl_pushed(&state, WJB_END_ARRAY);
	return true;
}

/* ---- encodings ---- */

static bool
call_base64_encode(const EvsAslCall *call, JsonbValue *result)
{
	const char *utf8;
	char	   *encoded;
	int			len;
	int			max;

	if (!get_utf8(call, 0, &utf8, &len))
		return false;
	max = pg_b64_enc_len(len) + 1;
	encoded = palloc(max);
	len = pg_b64_encode((void *) unconstify(char *, utf8), len, encoded, max);
	evs_asl_set_string(result, encoded, len);
	return true;
}

/*
 * Without white space, and with its padding, which may have been left out; but some of
 * it may not.  What decodes it takes what follows "=" for nothing.
 */
static bool
tidy_base64(StringInfo buf, const char *s, int len)
{
	int			padding;

	initStringInfo(buf);
	for (int i = 0; i < len; i++)
		if (strchr(" \t\r\n", s[i]) == NULL)
			appendStringInfoChar(buf, s[i]);
	padding = buf->len - strcspn(buf->data, "=");
	if (padding > 2 || (padding > 0 && (buf->len % 4 != 0 || buf->data[buf->len - 1] != '=')))
		return false;
	while (buf->len % 4 != 0)
		appendStringInfoChar(buf, '=');
	return true;
}

static bool
call_base64_decode(const EvsAslCall *call, JsonbValue *result)
{
	const JsonbValue *text = &call->args[0];
	StringInfoData buf;
	const char *decoded;
	char	   *bytes;
	int			len;

	if (pg_mbstrlen_with_len(text->val.string.val, text->val.string.len) > TEXT_MAX)
		return fail(call, "argument 1 must not have more than %d characters", TEXT_MAX);
	if (!tidy_base64(&buf, text->val.string.val, text->val.string.len))
		return fail(call, "the string is not Base64");
	bytes = palloc0(pg_b64_dec_len(buf.len) + 1);
	len = pg_b64_decode(buf.data, buf.len, (void *) bytes, pg_b64_dec_len(buf.len));
	if (len < 0)
		return fail(call, "the string is not Base64");
	bytes[len] = '\0';
	decoded = evs_utf8_to(bytes, len);
	if (decoded == NULL)
		return fail(call, "the decoded bytes are no text in UTF-8 that the database may have");
	evs_asl_set_string(result, decoded, strlen(decoded));
	return true;
}

static bool
hash(const EvsAslCall *call, pg_cryptohash_type type, int digest_len, const char *data, int len,
	 JsonbValue *result)
{
	static const char digits[] = "0123456789abcdef";
	uint8		digest[PG_SHA512_DIGEST_LENGTH];
	char	   *hex = palloc(2 * digest_len);
	pg_cryptohash_ctx *context = pg_cryptohash_create(type);
	bool		done;

	done = context != NULL && pg_cryptohash_init(context) == 0 &&
		pg_cryptohash_update(context, (const uint8 *) data, len) == 0 &&
		pg_cryptohash_final(context, digest, digest_len) == 0;
	pg_cryptohash_free(context);
	/* such as MD5 where the operating system wants none of it */
	if (!done)
		return fail(call, "the hash cannot be computed here");
	for (int i = 0; i < digest_len; i++)
	{
		hex[2 * i] = digits[digest[i] >> 4];
		hex[2 * i + 1] = digits[digest[i] & 15];
	}
	evs_asl_set_string(result, hex, 2 * digest_len);
	return true;
}

static bool
call_hash(const EvsAslCall *call, JsonbValue *result)
{
	static const struct
	{
		const char *name;
		pg_cryptohash_type type;
		int			len;
	}			algorithms[] =
	{
		{"MD5", PG_MD5, MD5_DIGEST_LENGTH},
		{"SHA-1", PG_SHA1, SHA1_DIGEST_LENGTH},
		{"SHA-256", PG_SHA256, PG_SHA256_DIGEST_LENGTH},
		{"SHA-384", PG_SHA384, PG_SHA384_DIGEST_LENGTH},
		{"SHA-512", PG_SHA512, PG_SHA512_DIGEST_LENGTH},
	};
	char	   *name = pnstrdup(call->args[1].val.string.val, call->args[1].val.string.len);
	const char *utf8;
	int			len;

	if (!get_utf8(call, 0, &utf8, &len))
		return false;
	for (int i = 0; i < (int) lengthof(algorithms); i++)
		if (strcmp(algorithms[i].name, name) == 0)
			return hash(call, algorithms[i].type, algorithms[i].len, utf8, len, result);
	return fail(call, "argument 2 must be MD5, SHA-1, SHA-256, SHA-384 or SHA-512");
}

/* ---- objects, numbers ---- */

static bool
call_json_merge(const EvsAslCall *call, JsonbValue *result)
{
	JsonbValue	a = call->args[0];
	JsonbValue	b = call->args[1];

	if (call->args[2].val.boolean)
		return fail(call, "argument 3 must be false: objects are merged only at the top");
	*result = evs_asl_unpack(evs_asl_merge(evs_asl_value(&a), evs_asl_value(&b)));
	return true;
}

static bool
call_math_random(const EvsAslCall *call, JsonbValue *result)
{
	pg_prng_state seeded;
	pg_prng_state *random = call->random != NULL ? call->random : &pg_global_prng_state;
	int64		start;
	int64		end;
	int64		seed;

	if (!get_integer(call, 0, PG_INT64_MIN, PG_INT64_MAX, &start) ||
		!get_integer(call, 1, PG_INT64_MIN, PG_INT64_MAX, &end))
		return false;
	if (start >= end)
		return fail(call, "argument 1 must be less than argument 2");
	if (call->nargs == 3)
	{
		if (!get_integer(call, 2, PG_INT64_MIN, PG_INT64_MAX, &seed))
			return false;
		pg_prng_seed(&seeded, (uint64) seed);
		random = &seeded;
	}
	evs_asl_set_integer(result,
						(int64) ((uint64) start +
								 pg_prng_uint64_range(random, 0, (uint64) end - (uint64) start - 1)));
	return true;
}

static bool
call_math_add(const EvsAslCall *call, JsonbValue *result)
{
	int64		a;
	int64		b;

	if (!get_integer(call, 0, PG_INT32_MIN, PG_INT32_MAX, &a) ||
		!get_integer(call, 1, PG_INT32_MIN, PG_INT32_MAX, &b))
		return false;
	evs_asl_set_integer(result, a + b);
	return true;
}

/* Of version 4, and not for secrets. */
static bool
call_uuid(const EvsAslCall *call, JsonbValue *result)
{
	pg_prng_state *random = call->random != NULL ? call->random : &pg_global_prng_state;
	uint64		high = pg_prng_uint64(random);
	uint64		low = pg_prng_uint64(random);
	char	   *s;

	high = (high & ~UINT64CONST(0xf000)) | UINT64CONST(0x4000);
	low = (low & ~(UINT64CONST(3) << 62)) | (UINT64CONST(1) << 63);
	s = psprintf("%08x-%04x-%04x-%04x-%04x%08x", (unsigned int) (high >> 32),
				 (unsigned int) (high >> 16) & 0xffff, (unsigned int) high & 0xffff,
				 (unsigned int) (low >> 48), (unsigned int) (low >> 32) & 0xffff,
				 (unsigned int) low);
	evs_asl_set_string(result, s, strlen(s));
	return true;
}

/* ---- calls ---- */

static const EvsAslFunction functions[] = {
	{"States.Format", 1, -1, "sp", call_format},
	{"States.StringToJson", 1, 1, "s", call_string_to_json},
	{"States.JsonToString", 1, 1, "v", call_json_to_string},
	{"States.Array", 0, -1, "v", call_array},
	{"States.ArrayPartition", 2, 2, "an", call_array_partition},
	{"States.ArrayContains", 2, 2, "av", call_array_contains},
	{"States.ArrayRange", 3, 3, "n", call_array_range},
	{"States.ArrayGetItem", 2, 2, "an", call_array_get_item},
	{"States.ArrayLength", 1, 1, "a", call_array_length},
	{"States.ArrayUnique", 1, 1, "a", call_array_unique},
	{"States.Base64Encode", 1, 1, "s", call_base64_encode},
	{"States.Base64Decode", 1, 1, "s", call_base64_decode},
	{"States.Hash", 2, 2, "s", call_hash},
	{"States.JsonMerge", 3, 3, "oob", call_json_merge},
	{"States.MathRandom", 2, 3, "n", call_math_random},
	{"States.MathAdd", 2, 2, "n", call_math_add},
	{"States.StringSplit", 2, 2, "s", call_string_split},
	{"States.UUID", 0, 0, "v", call_uuid},
};

const EvsAslFunction *
evs_asl_function_find(const char *name, int len)
{
	for (int i = 0; i < (int) lengthof(functions); i++)
		if (strlen(functions[i].name) == len && memcmp(functions[i].name, name, len) == 0)
			return &functions[i];
	return NULL;
}

/* NULL: it has the type; else what it should be. */
static const char *
wanted_instead(char type, const JsonbValue *value)
{
	switch (type)
	{
		case 's':
			return value->type == jbvString ? NULL : "a string";
		case 'n':
			return value->type == jbvNumeric ? NULL : "a number";
		case 'b':
			return value->type == jbvBool ? NULL : "a boolean";
		case 'a':
			return evs_asl_is_array(value) ? NULL : "an array";
		case 'o':
			return evs_asl_is_object(value) ? NULL : "an object";
		case 'p':
			return value->type != jbvBinary ? NULL : "a string, a number, a boolean or null";
		default:
			return NULL;
	}
}

bool
evs_asl_call(const EvsAslCall *call, JsonbValue *result)
{
	const char *type = call->function->types;

	for (int i = 0; i < call->nargs; i++)
	{
		const char *wanted = wanted_instead(*type, &call->args[i]);

		if (wanted != NULL)
			return fail(call, "argument %d must be %s, not %s", i + 1, wanted,
						evs_asl_kind(&call->args[i]));
		if (type[1] != '\0')
			type++;
	}
	return call->function->call(call, result);
}
