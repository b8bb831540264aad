/*
 * choice.c
 *	  Rules of Choice states.
 *
 * A test is false where the value is not of its type.  A variable that names nothing
 * is an error, and so is a path to compare with that names nothing or something of
 * another type.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"

#include "asl/choice.h"
#include "asl/path_node.h"
#include "filter/glob.h"
#include "compat.h"

typedef enum TestType
{
	TYPE_STRING,
	TYPE_NUMERIC,
	TYPE_BOOLEAN,
	TYPE_TIMESTAMP,
	TYPE_PATTERN,				/* StringMatches */
	TYPE_IS						/* IsNull and the like */
} TestType;

typedef enum TestOperator
{
	OP_EQUALS,
	OP_LESS,
	OP_GREATER,
	OP_LESS_EQUALS,
	OP_GREATER_EQUALS,
	OP_IS_NULL,
	OP_IS_PRESENT,
	OP_IS_NUMERIC,
	OP_IS_STRING,
	OP_IS_BOOLEAN,
	OP_IS_TIMESTAMP
} TestOperator;

typedef struct Test
{
	const char *name;
	TestType	type;
	TestOperator operator;
} Test;

#define COMPARISONS(name_, type_) \
	{name_ "Equals", type_, OP_EQUALS}, \
	{name_ "LessThan", type_, OP_LESS}, \
	{name_ "GreaterThan", type_, OP_GREATER}, \
	{name_ "LessThanEquals", type_, OP_LESS_EQUALS}, \
	{name_ "GreaterThanEquals", type_, OP_GREATER_EQUALS}

/* Of the comparisons there is a variant, with Path behind its name. */
static const Test tests[] = {
	COMPARISONS("String", TYPE_STRING),
	COMPARISONS("Numeric", TYPE_NUMERIC),
	COMPARISONS("Timestamp", TYPE_TIMESTAMP),
	{"BooleanEquals", TYPE_BOOLEAN, OP_EQUALS},
	{"StringMatches", TYPE_PATTERN, OP_EQUALS},
	{"IsNull", TYPE_IS, OP_IS_NULL},
	{"IsPresent", TYPE_IS, OP_IS_PRESENT},
	{"IsNumeric", TYPE_IS, OP_IS_NUMERIC},
	{"IsString", TYPE_IS, OP_IS_STRING},
	{"IsBoolean", TYPE_IS, OP_IS_BOOLEAN},
	{"IsTimestamp", TYPE_IS, OP_IS_TIMESTAMP},
};

typedef enum RuleKind
{
	RULE_INVALID,				/* has been reported */
	RULE_TEST,
	RULE_AND,
	RULE_OR,
	RULE_NOT
} RuleKind;

struct EvsAslRule
{
	RuleKind	kind;
	int			n;				/* rules of And, Or and Not */
	EvsAslRule **rules;
	const Test *test;
	EvsAslPath *variable;
	EvsAslPath *path;			/* of a Path variant */
	JsonbValue	value;			/* of the others */
	TimestampTz time;			/* the value of a test of times */
	EvsGlob    *pattern;		/* of StringMatches */
};

/* ---- compiling ---- */

typedef struct Compiler
{
	EvsAslReport report;
	void	   *arg;
	int			depth;
} Compiler;

static EvsAslRule *compile_rule(Compiler *compiler, const JsonbValue *value, const char *where,
								bool is_top);

static void
report(const Compiler *compiler, const char *where, const char *problem)
{
	compiler->report(compiler->arg, where, problem);
}

/* The name, and the suffix. */
static bool
is_name_with(const JsonbValue *key, const char *name, const char *suffix)
{
	size_t		len = strlen(name);

	return key->val.string.len == len + strlen(suffix) &&
		memcmp(key->val.string.val, name, len) == 0 &&
		memcmp(key->val.string.val + len, suffix, strlen(suffix)) == 0;
}

static bool
is_name(const JsonbValue *key, const char *name)
{
	return is_name_with(key, name, "");
}

/* is_path: it is the Path variant. */
static const Test *
find_test(const JsonbValue *key, bool *is_path)
{
	for (int i = 0; i < (int) lengthof(tests); i++)
	{
		bool		has_path = tests[i].type != TYPE_PATTERN && tests[i].type != TYPE_IS;

		*is_path = has_path && is_name_with(key, tests[i].name, "Path");
		if (*is_path || is_name(key, tests[i].name))
			return &tests[i];
	}
	return NULL;
}

static char *
to_text(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/* NULL: it is none, which has been reported. */
static EvsAslPath *
compile_path(const Compiler *compiler, const JsonbValue *value, const char *where)
{
	char	   *problem = NULL;
	EvsAslPath *path = NULL;

	if (value->type != jbvString)
		problem = "a path must be a string";
	else
		path = evs_asl_path_compile(to_text(value), &problem);
	if (problem != NULL)
		report(compiler, where, problem);
	return path;
}

static bool
has_type(TestType type, const JsonbValue *value, TimestampTz *time)
{
	switch (type)
	{
		case TYPE_STRING:
		case TYPE_PATTERN:
			return value->type == jbvString;
		case TYPE_NUMERIC:
			return value->type == jbvNumeric;
		case TYPE_BOOLEAN:
		case TYPE_IS:
			return value->type == jbvBool;
		case TYPE_TIMESTAMP:
			return value->type == jbvString && evs_asl_timestamp(to_text(value), time);
	}
	return false;
}

static const char *
type_name(TestType type)
{
	switch (type)
	{
		case TYPE_STRING:
		case TYPE_PATTERN:
			return "a string";
		case TYPE_NUMERIC:
			return "a number";
		case TYPE_BOOLEAN:
		case TYPE_IS:
			return "true or false";
		case TYPE_TIMESTAMP:
			return "a timestamp like 2016-03-14T01:59:00Z";
	}
	return NULL;
}

/* A backslash stands for itself unless it is before a star or another one. */
static EvsGlob *
compile_pattern(const JsonbValue *value)
{
	static const EvsGlobSyntax syntax = {.any = '*', .escape = "\\", .escape_all = true};
	StringInfoData buf;
	const char *s = value->val.string.val;
	const char *end = s + value->val.string.len;

	initStringInfo(&buf);
	for (; s < end; s++)
	{
		appendStringInfoChar(&buf, *s);
		if (*s != '\\')
			continue;
		if (s + 1 < end && (s[1] == '*' || s[1] == '\\'))
			s++;
		appendStringInfoChar(&buf, *s);
	}
	return evs_glob_compile(buf.data, buf.len, &syntax);
}

static void
compile_value(const Compiler *compiler, const JsonbValue *value, const char *where,
			  EvsAslRule *rule)
{
	if (!has_type(rule->test->type, value, &rule->time))
	{
		report(compiler, where, psprintf("%s needs %s", rule->test->name, type_name(rule->test->type)));
		rule->kind = RULE_INVALID;
	}
	else if (rule->test->type == TYPE_PATTERN)
		rule->pattern = compile_pattern(value);
	else
		rule->value = evs_asl_copy(value);
}

/* What a member is that is no test; false: it is none of these. */
static bool
is_other_member(const JsonbValue *key, bool is_top)
{
	return is_name(key, "Comment") ||
		(is_top && (is_name(key, "Next") || is_name(key, "Assign") || is_name(key, "Output")));
}

static void
compile_list(Compiler *compiler, const JsonbValue *value, const char *where, EvsAslRule *rule)
{
	JsonbValue	element;

	if (!evs_asl_is_array(value) || evs_asl_array_length(value) == 0)
	{
		report(compiler, where, "there must be an array of rules that is not empty");
		rule->kind = RULE_INVALID;
		return;
	}
	rule->rules = palloc(sizeof(EvsAslRule *) * evs_asl_array_length(value));
	while (evs_asl_find_element(value, rule->n, &element))
	{
		rule->rules[rule->n] = compile_rule(compiler, &element, psprintf("%s[%d]", where, rule->n),
											false);
		rule->n++;
	}
}

static void
compile_not(Compiler *compiler, const JsonbValue *value, const char *where, EvsAslRule *rule)
{
	rule->rules = palloc(sizeof(EvsAslRule *));
	rule->rules[rule->n++] = compile_rule(compiler, value, where, false);
}

/* The member that says what kind of a rule it is.  False: this one does not. */
static bool
compile_operator(Compiler *compiler, const JsonbValue *key, const JsonbValue *value,
				 const char *where, EvsAslRule *rule)
{
	bool		is_path;

	if (is_name(key, "And") || is_name(key, "Or"))
	{
		rule->kind = is_name(key, "And") ? RULE_AND : RULE_OR;
		compile_list(compiler, value, where, rule);
		return true;
	}
	if (is_name(key, "Not"))
	{
		rule->kind = RULE_NOT;
		compile_not(compiler, value, where, rule);
		return true;
	}
	rule->test = find_test(key, &is_path);
	if (rule->test == NULL)
		return false;
	rule->kind = RULE_TEST;
	if (!is_path)
		compile_value(compiler, value, where, rule);
	else if ((rule->path = compile_path(compiler, value, where)) == NULL)
		rule->kind = RULE_INVALID;
	return true;
}

static void
compile_members(Compiler *compiler, const JsonbValue *value, const char *where, bool is_top,
				EvsAslRule *rule)
{
	JsonbIterator *it = JsonbIteratorInit(value->val.binary.data);
	JsonbValue	key;
	JsonbValue	member;
	int			operators = 0;
	bool		has_variable = false;

	(void) JsonbIteratorNext(&it, &key, true);
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		EvsAslRule	other = {.kind = RULE_INVALID};
		const char *place = psprintf("%s.%s", where, to_text(&key));

		(void) JsonbIteratorNext(&it, &member, true);
		if (is_name(&key, "Variable"))
		{
			has_variable = true;
			rule->variable = compile_path(compiler, &member, place);
		}
		else if (is_other_member(&key, is_top))
			continue;
		else if (!compile_operator(compiler, &key, &member, place, operators == 0 ? rule : &other))
			report(compiler, place, "a rule has no such member");
		else if (operators++ > 0)
			report(compiler, place, "a rule may have only one operator");
	}
	if (operators == 0)
		report(compiler, where, "a rule must have an operator");
	else if (rule->test != NULL && !has_variable)
		report(compiler, where, "a rule with a test must have a Variable");
	else if (rule->test == NULL && has_variable)
		report(compiler, where, "a rule with And, Or or Not may not have a Variable");
	if (rule->test != NULL && rule->variable == NULL)
		rule->kind = RULE_INVALID;
}

static EvsAslRule *
compile_rule(Compiler *compiler, const JsonbValue *value, const char *where, bool is_top)
{
	EvsAslRule *rule = palloc0(sizeof(EvsAslRule));

	if (++compiler->depth > EVS_ASL_DEPTH_MAX)
		report(compiler, where, "the rule nests too deeply");
	else if (!evs_asl_is_object(value))
		report(compiler, where, "a rule must be an object");
	else
		compile_members(compiler, value, where, is_top, rule);
	compiler->depth--;
	return rule;
}

EvsAslRule *
evs_asl_rule_compile(Jsonb *rule, EvsAslReport report, void *arg)
{
	Compiler	compiler = {.report = report, .arg = arg};
	JsonbValue	value = evs_asl_unpack(rule);

	return compile_rule(&compiler, &value, "", true);
}

/* ---- evaluating ---- */

static bool
is_true(TestOperator operator, int order)
{
	switch (operator)
	{
		case OP_EQUALS:
			return order == 0;
		case OP_LESS:
			return order < 0;
		case OP_GREATER:
			return order > 0;
		case OP_LESS_EQUALS:
			return order <= 0;
		default:
			return order >= 0;
	}
}

static bool
is_kind(TestOperator operator, const JsonbValue *value)
{
	TimestampTz time;

	switch (operator)
	{
		case OP_IS_NULL:
			return value->type == jbvNull;
		case OP_IS_NUMERIC:
			return value->type == jbvNumeric;
		case OP_IS_STRING:
			return value->type == jbvString;
		case OP_IS_BOOLEAN:
			return value->type == jbvBool;
		case OP_IS_TIMESTAMP:
			return has_type(TYPE_TIMESTAMP, value, &time);
		default:
			return true;
	}
}

/* The value that a path names, or an error. */
static bool
get_value(const EvsAslPath *path, const EvsAslScope *scope, EvsAslError *error, JsonbValue *value)
{
	return evs_asl_path_value(path, scope, value) ||
		evs_asl_fail(error, EVS_ASL_RUNTIME, "the path %s of a Choice names nothing, or too much",
					 path->text) != NULL;
}

/* What to compare with: the rule's own value, or that of its path. */
static bool
get_other(const EvsAslRule *rule, const EvsAslScope *scope, EvsAslError *error,
		  JsonbValue *value, TimestampTz *time)
{
	if (rule->path == NULL)
	{
		*value = rule->value;
		*time = rule->time;
		return true;
	}
	if (!get_value(rule->path, scope, error, value))
		return false;
	return has_type(rule->test->type, value, time) ||
		evs_asl_fail(error, EVS_ASL_RUNTIME, "%sPath: the value of %s must be %s",
					 rule->test->name, rule->path->text, type_name(rule->test->type)) != NULL;
}

/* Of two values that have the type of the test. */
static int
order_of(TestType type, const JsonbValue *a, TimestampTz a_time,
		 const JsonbValue *b, TimestampTz b_time)
{
	if (type == TYPE_TIMESTAMP)
		return a_time < b_time ? -1 : a_time > b_time;
	return evs_asl_order(a, b);
}

static bool
test_matches(const EvsAslRule *rule, const EvsAslScope *scope, EvsAslError *error)
{
	const Test *test = rule->test;
	JsonbValue	value;
	JsonbValue	other;
	TimestampTz time = 0;
	TimestampTz other_time = 0;

	if (test->operator == OP_IS_PRESENT)
		return evs_asl_path_exists(rule->variable, scope, NULL) == rule->value.val.boolean;
	if (!get_value(rule->variable, scope, error, &value))
		return false;
	if (test->type == TYPE_IS)
		return is_kind(test->operator, &value) == rule->value.val.boolean;
	if (test->type == TYPE_PATTERN)
		return value.type == jbvString &&
			evs_glob_match(rule->pattern, value.val.string.val, value.val.string.len);
	return get_other(rule, scope, error, &other, &other_time) &&
		has_type(test->type, &value, &time) &&
		is_true(test->operator, order_of(test->type, &value, time, &other, other_time));
}

bool
evs_asl_rule_matches(const EvsAslRule *rule, const EvsAslScope *scope, EvsAslError *error)
{
	check_stack_depth();
	switch (rule->kind)
	{
		case RULE_TEST:
			return test_matches(rule, scope, error);
		case RULE_NOT:
			return !evs_asl_rule_matches(rule->rules[0], scope, error) && error->name == NULL;
		case RULE_AND:
			for (int i = 0; i < rule->n; i++)
				if (!evs_asl_rule_matches(rule->rules[i], scope, error))
					return false;
			return true;
		case RULE_OR:
			for (int i = 0; i < rule->n && error->name == NULL; i++)
				if (evs_asl_rule_matches(rule->rules[i], scope, error))
					return true;
			return false;
		case RULE_INVALID:
			break;
	}
	return false;
}
