/*
 * matcher.c
 *	  Conditions on one value, as EventBridge patterns and SNS filter policies
 *	  write them.
 *
 * A condition is a string, number, boolean or null, which the value equals, or
 * an object with one operator.  Numbers are compared exactly.  "exists" asks
 * for a leaf: a string, number, boolean or null, or an array that has one.
 */
#include "postgres.h"

#include <sys/socket.h>

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inet.h"
#include "utils/numeric.h"

#include "filter/document.h"
#include "filter/glob.h"
#include "filter/matcher.h"
#include "compat.h"

/* Arrays within arrays that are looked into. */
#define ARRAY_DEPTH_MAX 16

typedef enum TestKind
{
	TEST_STRING,
	TEST_NUMBER,
	TEST_BOOLEAN,
	TEST_NULL,
	TEST_PREFIX,
	TEST_SUFFIX,
	TEST_GLOB,
	TEST_RANGE,
	TEST_NETWORK,
	TEST_EXISTS,
	TEST_NONE_OF
} TestKind;

typedef enum Comparison
{
	COMPARE_EQUAL,
	COMPARE_LESS,
	COMPARE_LESS_EQUAL,
	COMPARE_GREATER,
	COMPARE_GREATER_EQUAL
} Comparison;

typedef struct Bound
{
	Comparison	comparison;
	Numeric		number;
} Bound;

typedef struct Network
{
	int			family;
	int			bits;
	unsigned char address[16];
} Network;

typedef struct Test
{
	TestKind	kind;
	char	   *string;
	int			len;
	bool		any_case;		/* the string is in lower case then */
	bool		boolean;
	Numeric		number;
	EvsGlob    *glob;
	Bound		bounds[2];
	int			nbounds;
	Network		network;
	struct EvsMatcher *inner;	/* of none of */
} Test;

struct EvsMatcher
{
	int			n;
	Test		tests[FLEXIBLE_ARRAY_MEMBER];
};

/* ---- compiling ---- */

static EvsMatcher *
new_matcher(int max)
{
	EvsMatcher *matcher = palloc0(offsetof(EvsMatcher, tests) + sizeof(Test) * Max(max, 1));

	return matcher;
}

static void
set_string(Test *test, TestKind kind, const JsonbValue *value, const EvsWhere *where)
{
	test->kind = kind;
	test->string = evs_filter_string(value, where);
	if (test->any_case)
		test->string = evs_fold_case(test->string, strlen(test->string));
	test->len = strlen(test->string);
}

/* "string", or {"equals-ignore-case": "string"} */
static void
compile_affix(Test *test, TestKind kind, const JsonbValue *value, const EvsWhere *where)
{
	EvsWhere	inner = {.up = where, .key = "equals-ignore-case"};
	JsonbValue	member;

	if (value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data) &&
		JsonContainerSize(value->val.binary.data) == 1 &&
		evs_document_json_member(value, inner.key, &member))
	{
		test->any_case = true;
		set_string(test, kind, &member, &inner);
	}
	else
		set_string(test, kind, value, where);
}

static void
compile_wildcard(Test *test, const JsonbValue *value, const EvsWhere *where)
{
	static const EvsGlobSyntax syntax = {.any = '*', .escape = "\\", .escape_all = true};
	char	   *s = evs_filter_string(value, where);

	for (const char *c = s; *c != '\0'; c++)
	{
		if (*c == '\\' && c[1] != '*' && c[1] != '\\')
			evs_filter_invalid_text(where, s, c - s, "only * and \\ can follow a \\");
		if (*c == '\\')
			c++;
		else if (*c == '*' && c[1] == '*')
			evs_filter_invalid_text(where, s, c - s, "there are two * together");
	}
	test->kind = TEST_GLOB;
	test->glob = evs_glob_compile(s, strlen(s), &syntax);
}

static Comparison
parse_comparison(const JsonbValue *value, const EvsWhere *where)
{
	static const char *const names[] = {
		[COMPARE_EQUAL] = "=",[COMPARE_LESS] = "<",[COMPARE_LESS_EQUAL] = "<=",
		[COMPARE_GREATER] = ">",[COMPARE_GREATER_EQUAL] = ">=",
	};
	char	   *name = evs_filter_string(value, where);

	for (int i = 0; i < (int) lengthof(names); i++)
		if (strcmp(name, names[i]) == 0)
			return i;
	evs_filter_invalid(where, "it must be one of =, <, <=, > and >=");
	return COMPARE_EQUAL;		/* keep compiler quiet */
}

/* [">", 0] or [">", 0, "<=", 5] */
static void
compile_numeric(Test *test, const JsonbValue *value, const EvsWhere *where)
{
	JsonbContainer *array = evs_filter_array(value, where);
	EvsEach		each;

	if (JsonContainerSize(array) != 2 && JsonContainerSize(array) != 4)
		evs_filter_invalid(where, "it must be one or two comparisons, each with its number");
	test->kind = TEST_RANGE;
	evs_each_begin(&each, array);
	while (evs_each_next(&each))
	{
		EvsWhere	here = {.up = where, .index = each.index};
		Bound	   *bound = &test->bounds[test->nbounds];

		if (each.index % 2 == 0)
			bound->comparison = parse_comparison(&each.value, &here);
		else
		{
			bound->number = evs_filter_number(&each.value, &here);
			test->nbounds++;
		}
	}
}

/* Bits in the network; -1 if it is none.  IPv6 has colons. */
static bool
parse_network(const char *s, Network *network)
{
	bool		is_v6 = strchr(s, ':') != NULL;

	memset(network, 0, sizeof(Network));
	network->family = is_v6 ? PGSQL_AF_INET6 : PGSQL_AF_INET;
	network->bits = pg_inet_net_pton(network->family, s, network->address,
									 is_v6 ? 16 : 4);
	return network->bits >= 0;
}

static void
compile_cidr(Test *test, const JsonbValue *value, const EvsWhere *where)
{
	char	   *s = evs_filter_string(value, where);

	test->kind = TEST_NETWORK;
	if (strchr(s, '/') == NULL || !parse_network(s, &test->network))
		evs_filter_invalid(where, "it must be a network such as 10.0.0.0/8");
}

static void compile_operator(Test *test, const JsonbValue *value, const EvsWhere *where,
							 bool in_anything_but);

/* One that is compared with, in a list for anything-but. */
static void
compile_excluded(Test *test, const JsonbValue *value, const EvsWhere *where)
{
	if (value->type == jbvNumeric)
	{
		test->kind = TEST_NUMBER;
		test->number = evs_filter_number(value, where);
	}
	else if (value->type == jbvString)
		set_string(test, TEST_STRING, value, where);
	else
		evs_filter_invalid(where, "it must be a string or a number");
}

/* {"prefix": ...} with one string, or an array of them: a test for each. */
static EvsMatcher *
compile_excluded_operator(const JsonbValue *value, const EvsWhere *where)
{
	JsonbContainer *object = evs_filter_object(value, where);
	EvsMatcher *matcher;
	EvsEach		each;
	EvsEach		strings;

	evs_each_begin(&each, object);
	if (JsonContainerSize(object) != 1 || !evs_each_next(&each))
		evs_filter_invalid(where, "it must have one operator");
	if (each.value.type != jbvBinary || !JsonContainerIsArray(each.value.val.binary.data))
	{
		matcher = new_matcher(1);
		compile_operator(&matcher->tests[matcher->n++], value, where, true);
		return matcher;
	}
	if (JsonContainerSize(each.value.val.binary.data) == 0)
		evs_filter_invalid(where, "the array must not be empty");
	matcher = new_matcher(JsonContainerSize(each.value.val.binary.data));
	evs_each_begin(&strings, each.value.val.binary.data);
	while (evs_each_next(&strings))
	{
		JsonbParseState *state = NULL;
		JsonbValue	key = {.type = jbvString};
		JsonbValue	one = {.type = jbvBinary};
		Jsonb	   *jsonb;

		/* as if it stood there alone */
		key.val.string.val = each.key;
		key.val.string.len = strlen(each.key);
		pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
		pushJsonbValue(&state, WJB_KEY, &key);
		pushJsonbValue(&state, WJB_VALUE, &strings.value);
		jsonb = JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
		one.val.binary.data = &jsonb->root;
		one.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
		compile_operator(&matcher->tests[matcher->n++], &one, where, true);
	}
	return matcher;
}

static void
compile_anything_but(Test *test, const JsonbValue *value, const EvsWhere *where)
{
	test->kind = TEST_NONE_OF;
	if (value->type != jbvBinary)
	{
		test->inner = new_matcher(1);
		compile_excluded(&test->inner->tests[test->inner->n++], value, where);
	}
	else if (JsonContainerIsArray(value->val.binary.data))
	{
		EvsEach		each;

		if (JsonContainerSize(value->val.binary.data) == 0)
			evs_filter_invalid(where, "the array must not be empty");
		test->inner = new_matcher(JsonContainerSize(value->val.binary.data));
		evs_each_begin(&each, value->val.binary.data);
		while (evs_each_next(&each))
		{
			EvsWhere	here = {.up = where, .index = each.index};

			compile_excluded(&test->inner->tests[test->inner->n++], &each.value, &here);
		}
	}
	else
		test->inner = compile_excluded_operator(value, where);
}

/* An object with one operator. */
static void
compile_operator(Test *test, const JsonbValue *value, const EvsWhere *where, bool in_anything_but)
{
	JsonbContainer *object = evs_filter_object(value, where);
	EvsWhere	here = {.up = where};
	EvsEach		each;

	evs_each_begin(&each, object);
	if (JsonContainerSize(object) != 1 || !evs_each_next(&each))
		evs_filter_invalid(where, "it must have one operator");
	here.key = each.key;
	if (strcmp(each.key, "prefix") == 0)
		compile_affix(test, TEST_PREFIX, &each.value, &here);
	else if (strcmp(each.key, "suffix") == 0)
		compile_affix(test, TEST_SUFFIX, &each.value, &here);
	else if (strcmp(each.key, "equals-ignore-case") == 0)
	{
		test->any_case = true;
		set_string(test, TEST_STRING, &each.value, &here);
	}
	else if (strcmp(each.key, "wildcard") == 0)
		compile_wildcard(test, &each.value, &here);
	else if (in_anything_but)
		evs_filter_invalid(&here, "it must be one of prefix, suffix, equals-ignore-case and wildcard");
	else if (strcmp(each.key, "anything-but") == 0)
		compile_anything_but(test, &each.value, &here);
	else if (strcmp(each.key, "numeric") == 0)
		compile_numeric(test, &each.value, &here);
	else if (strcmp(each.key, "cidr") == 0)
		compile_cidr(test, &each.value, &here);
	else if (strcmp(each.key, "exists") == 0 && each.value.type == jbvBool)
	{
		test->kind = TEST_EXISTS;
		test->boolean = each.value.val.boolean;
	}
	else if (strcmp(each.key, "exists") == 0)
		evs_filter_invalid(&here, "it must be true or false");
	else
		evs_filter_invalid(&here, "the operator is not known");
}

EvsMatcher *
evs_matcher_compile(const JsonbValue *conditions, const EvsWhere *where)
{
	JsonbContainer *array = evs_filter_array(conditions, where);
	EvsMatcher *matcher = new_matcher(JsonContainerSize(array));
	EvsEach		each;

	if (JsonContainerSize(array) == 0)
		evs_filter_invalid(where, "the array must not be empty");
	evs_each_begin(&each, array);
	while (evs_each_next(&each))
	{
		EvsWhere	here = {.up = where, .index = each.index};
		Test	   *test = &matcher->tests[matcher->n++];

		if (each.value.type == jbvNull)
			test->kind = TEST_NULL;
		else if (each.value.type == jbvBool)
		{
			test->kind = TEST_BOOLEAN;
			test->boolean = each.value.val.boolean;
		}
		else if (each.value.type == jbvBinary)
			compile_operator(test, &each.value, &here, false);
		else
			compile_excluded(test, &each.value, &here);
	}
	return matcher;
}

/* ---- matching ---- */

static bool
in_bounds(const Test *test, Numeric number)
{
	for (int i = 0; i < test->nbounds; i++)
	{
		int			cmp = DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(number),
															NumericGetDatum(test->bounds[i].number)));
		bool		ok = false;

		switch (test->bounds[i].comparison)
		{
			case COMPARE_EQUAL:
				ok = cmp == 0;
				break;
			case COMPARE_LESS:
				ok = cmp < 0;
				break;
			case COMPARE_LESS_EQUAL:
				ok = cmp <= 0;
				break;
			case COMPARE_GREATER:
				ok = cmp > 0;
				break;
			case COMPARE_GREATER_EQUAL:
				ok = cmp >= 0;
				break;
		}
		if (!ok)
			return false;
	}
	return true;
}

static bool
in_network(const Network *network, const char *s)
{
	Network		address;

	return strchr(s, '/') == NULL && parse_network(s, &address) &&
		address.family == network->family &&
		address.bits == (address.family == PGSQL_AF_INET6 ? 128 : 32) &&
		bitncmp(address.address, network->address, network->bits) == 0;
}

static bool
string_passes(const Test *test, const char *s, int len)
{
	if (test->any_case)
	{
		s = evs_fold_case(s, len);
		len = strlen(s);
	}
	switch (test->kind)
	{
		case TEST_STRING:
			return len == test->len && memcmp(s, test->string, len) == 0;
		case TEST_PREFIX:
			return len >= test->len && memcmp(s, test->string, test->len) == 0;
		case TEST_SUFFIX:
			return len >= test->len && memcmp(s + len - test->len, test->string, test->len) == 0;
		case TEST_GLOB:
			return evs_glob_match(test->glob, s, len);
		case TEST_NETWORK:
			return in_network(&test->network, pnstrdup(s, len));
		default:
			return false;
	}
}

/* Not for "exists". */
static bool
scalar_passes(const Test *test, const JsonbValue *value)
{
	if (test->kind == TEST_NONE_OF)
	{
		for (int i = 0; i < test->inner->n; i++)
			if (scalar_passes(&test->inner->tests[i], value))
				return false;
		return true;
	}
	switch (value->type)
	{
		case jbvNull:
			return test->kind == TEST_NULL;
		case jbvBool:
			return test->kind == TEST_BOOLEAN && test->boolean == value->val.boolean;
		case jbvNumeric:
			if (test->kind == TEST_RANGE)
				return in_bounds(test, value->val.numeric);
			return test->kind == TEST_NUMBER &&
				DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(value->val.numeric),
												 NumericGetDatum(test->number)));
		case jbvString:
			return string_passes(test, value->val.string.val, value->val.string.len);
		default:
			return false;
	}
}

/* Is there a leaf that passes?  test NULL: any leaf. */
static bool
has_leaf(const Test *test, const JsonbValue *value, int depth)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	element;

	if (value->type != jbvBinary)
		return test == NULL || scalar_passes(test, value);
	if (!JsonContainerIsArray(value->val.binary.data) || depth > ARRAY_DEPTH_MAX)
		return false;
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
		if (token == WJB_ELEM && has_leaf(test, &element, depth + 1))
			return true;
	return false;
}

bool
evs_matcher_match(const EvsMatcher *matcher, const JsonbValue *value)
{
	for (int i = 0; i < matcher->n; i++)
	{
		const Test *test = &matcher->tests[i];

		if (test->kind == TEST_EXISTS)
		{
			if ((value != NULL && has_leaf(NULL, value, 0)) == test->boolean)
				return true;
		}
		else if (value != NULL && has_leaf(test, value, 0))
			return true;
	}
	return false;
}
