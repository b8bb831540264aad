/*
 * advanced.c
 *	  Event Grid's advanced filters.
 *
 * Each is an operator, a key and one or several values, any of which may match;
 * with a negated operator, none may.  A value of another type than the operator's
 * does not match, negated or not.  Where there is no value, NumberNotIn and
 * StringNotIn match.  Strings are compared without regard to case.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "filter/advanced.h"
#include "compat.h"

typedef enum OperandKind
{
	OPERAND_NUMBER,
	OPERAND_RANGE,
	OPERAND_STRING,
	OPERAND_BOOLEAN,
	OPERAND_NONE
} OperandKind;

typedef enum Operation
{
	OP_EQUAL,
	OP_LESS,
	OP_LESS_EQUAL,
	OP_GREATER,
	OP_GREATER_EQUAL,
	OP_IN_RANGE,
	OP_CONTAINS,
	OP_BEGINS_WITH,
	OP_ENDS_WITH,
	OP_IS_NULL
} Operation;

typedef struct Operator
{
	const char *name;
	OperandKind operand;
	Operation	operation;
	bool		negated;
	bool		if_absent;		/* the answer where there is no value */
} Operator;

static const Operator operators[] = {
	{"NumberIn", OPERAND_NUMBER, OP_EQUAL, false, false},
	{"NumberNotIn", OPERAND_NUMBER, OP_EQUAL, true, true},
	{"NumberLessThan", OPERAND_NUMBER, OP_LESS, false, false},
	{"NumberLessThanOrEquals", OPERAND_NUMBER, OP_LESS_EQUAL, false, false},
	{"NumberGreaterThan", OPERAND_NUMBER, OP_GREATER, false, false},
	{"NumberGreaterThanOrEquals", OPERAND_NUMBER, OP_GREATER_EQUAL, false, false},
	{"NumberInRange", OPERAND_RANGE, OP_IN_RANGE, false, false},
	{"NumberNotInRange", OPERAND_RANGE, OP_IN_RANGE, true, false},
	{"BoolEquals", OPERAND_BOOLEAN, OP_EQUAL, false, false},
	{"StringIn", OPERAND_STRING, OP_EQUAL, false, false},
	{"StringNotIn", OPERAND_STRING, OP_EQUAL, true, true},
	{"StringContains", OPERAND_STRING, OP_CONTAINS, false, false},
	{"StringNotContains", OPERAND_STRING, OP_CONTAINS, true, false},
	{"StringBeginsWith", OPERAND_STRING, OP_BEGINS_WITH, false, false},
	{"StringNotBeginsWith", OPERAND_STRING, OP_BEGINS_WITH, true, false},
	{"StringEndsWith", OPERAND_STRING, OP_ENDS_WITH, false, false},
	{"StringNotEndsWith", OPERAND_STRING, OP_ENDS_WITH, true, false},
	{"IsNullOrUndefined", OPERAND_NONE, OP_IS_NULL, false, true},
	{"IsNotNull", OPERAND_NONE, OP_IS_NULL, true, false},
};

typedef struct Operand
{
	Numeric		number;
	Numeric		upper;			/* of a range */
	char	   *string;			/* in lower case */
	int			len;
	bool		boolean;
} Operand;

typedef struct Condition
{
	const Operator *operator;
	EvsPath		path;
	int			noperands;
	Operand    *operands;
} Condition;

struct EvsAdvanced
{
	int			n;
	Condition	conditions[FLEXIBLE_ARRAY_MEMBER];
};

/* ---- compiling ---- */

static const Operator *
find_operator(const char *name, const EvsWhere *where)
{
	for (int i = 0; i < (int) lengthof(operators); i++)
		if (pg_strcasecmp(name, operators[i].name) == 0)
			return &operators[i];
	evs_filter_invalid(where, "the operator is not known");
	return NULL;				/* keep compiler quiet */
}

static void
compile_range(Operand *operand, const JsonbValue *value, const EvsWhere *where)
{
	JsonbContainer *array = evs_filter_array(value, where);
	EvsEach		each;

	if (JsonContainerSize(array) != 2)
		evs_filter_invalid(where, "it must be an array of two numbers");
	evs_each_begin(&each, array);
	while (evs_each_next(&each))
	{
		EvsWhere	here = {.up = where, .index = each.index};
		Numeric		number = evs_filter_number(&each.value, &here);

		if (each.index == 0)
			operand->number = number;
		else
			operand->upper = number;
	}
}

static void
compile_operand(Operand *operand, OperandKind kind, const JsonbValue *value, const EvsWhere *where)
{
	if (kind == OPERAND_NUMBER)
		operand->number = evs_filter_number(value, where);
	else if (kind == OPERAND_RANGE)
		compile_range(operand, value, where);
	else if (kind == OPERAND_STRING)
	{
		char	   *s = evs_filter_string(value, where);

		operand->string = evs_fold_case(s, strlen(s));
		operand->len = strlen(operand->string);
	}
	else if (value->type == jbvBool)
		operand->boolean = value->val.boolean;
	else
		evs_filter_invalid(where, "it must be true or false");
}

static void
compile_values(Condition *condition, const JsonbValue *values, const EvsWhere *where)
{
	JsonbContainer *array = evs_filter_array(values, where);
	EvsEach		each;

	condition->operands = palloc0(sizeof(Operand) * Max(1, JsonContainerSize(array)));
	evs_each_begin(&each, array);
	while (evs_each_next(&each))
	{
		EvsWhere	here = {.up = where, .index = each.index};

		compile_operand(&condition->operands[condition->noperands++],
						condition->operator->operand, &each.value, &here);
	}
}

static void
check_members(JsonbContainer *object, const EvsWhere *where)
{
	EvsEach		each;

	evs_each_begin(&each, object);
	while (evs_each_next(&each))
		if (strcmp(each.key, "operatorType") != 0 && strcmp(each.key, "key") != 0 &&
			strcmp(each.key, "value") != 0 && strcmp(each.key, "values") != 0)
		{
			EvsWhere	here = {.up = where, .key = each.key};

			evs_filter_invalid(&here, "it has operatorType, key, and value or values");
		}
}

static char *
get_string(const JsonbValue *object, const char *key, const EvsWhere *where)
{
	EvsWhere	here = {.up = where, .key = key};
	JsonbValue	member;

	if (!evs_document_json_member(object, key, &member))
		evs_filter_invalid(&here, "it is missing");
	return evs_filter_string(&member, &here);
}

static void
compile_condition(Condition *condition, const JsonbValue *object, const EvsWhere *where)
{
	EvsWhere	operator_where = {.up = where, .key = "operatorType"};
	EvsWhere	value_where = {.up = where, .key = "value"};
	EvsWhere	values_where = {.up = where, .key = "values"};
	JsonbValue	value;
	bool		has_value;
	bool		has_values;

	check_members(evs_filter_object(object, where), where);
	condition->operator = find_operator(get_string(object, "operatorType", where), &operator_where);
	evs_document_parse_path(get_string(object, "key", where), &condition->path);
	has_values = evs_document_json_member(object, "values", &value);
	if (has_values)
		compile_values(condition, &value, &values_where);
	has_value = evs_document_json_member(object, "value", &value);
	if (condition->operator->operand == OPERAND_NONE)
	{
		if (has_value || has_values)
			evs_filter_invalid(where, "the operator takes no value");
		return;
	}
	if (has_value == has_values)
		evs_filter_invalid(where, "it must have value or values");
	if (has_value)
	{
		condition->operands = palloc0(sizeof(Operand));
		condition->noperands = 1;
		compile_operand(condition->operands, condition->operator->operand, &value, &value_where);
	}
}

EvsAdvanced *
evs_advanced_compile(const JsonbValue *definition, const EvsWhere *where)
{
	JsonbContainer *array = evs_filter_array(definition, where);
	EvsAdvanced *advanced = palloc0(offsetof(EvsAdvanced, conditions) +
									sizeof(Condition) * JsonContainerSize(array));
	EvsEach		each;

	evs_each_begin(&each, array);
	while (evs_each_next(&each))
	{
		EvsWhere	here = {.up = where, .index = each.index};

		compile_condition(&advanced->conditions[advanced->n++], &each.value, &here);
	}
	return advanced;
}

/* ---- matching ---- */

static int
compare(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a), NumericGetDatum(b)));
}

static bool
number_passes(Operation operation, const Operand *operand, Numeric number)
{
	int			cmp = compare(number, operand->number);

	switch (operation)
	{
		case OP_LESS:
			return cmp < 0;
		case OP_LESS_EQUAL:
			return cmp <= 0;
		case OP_GREATER:
			return cmp > 0;
		case OP_GREATER_EQUAL:
			return cmp >= 0;
		case OP_IN_RANGE:
			return cmp >= 0 && compare(number, operand->upper) <= 0;
		default:
			return cmp == 0;
	}
}

static bool
string_passes(Operation operation, const Operand *operand, const char *s, int len)
{
	switch (operation)
	{
		case OP_CONTAINS:
			return strstr(s, operand->string) != NULL;
		case OP_BEGINS_WITH:
			return len >= operand->len && memcmp(s, operand->string, operand->len) == 0;
		case OP_ENDS_WITH:
			return len >= operand->len &&
				memcmp(s + len - operand->len, operand->string, operand->len) == 0;
		default:
			return len == operand->len && memcmp(s, operand->string, len) == 0;
	}
}

static bool
any_passes(const Condition *condition, const JsonbValue *value)
{
	const Operator *operator = condition->operator;
	char	   *s = value->type == jbvString ?
		evs_fold_case(value->val.string.val, value->val.string.len) : NULL;
	int			len = s != NULL ? strlen(s) : 0;

	for (int i = 0; i < condition->noperands; i++)
	{
		const Operand *operand = &condition->operands[i];

		if (value->type == jbvNumeric ?
			number_passes(operator->operation, operand, value->val.numeric) :
			value->type == jbvString ?
			string_passes(operator->operation, operand, s, len) :
			operand->boolean == value->val.boolean)
			return true;
	}
	return false;
}

static bool
condition_matches(const Condition *condition, EvsDocument *document)
{
	const Operator *operator = condition->operator;
	JsonbValue	value;
	bool		right_type;

	if (!evs_document_follow(document, &condition->path, &value) || value.type == jbvNull)
		return operator->if_absent;
	if (operator->operand == OPERAND_NONE)
		return operator->negated;
	right_type = operator->operand == OPERAND_STRING ? value.type == jbvString :
		operator->operand == OPERAND_BOOLEAN ? value.type == jbvBool :
		value.type == jbvNumeric;
	return right_type && any_passes(condition, &value) != operator->negated;
}

bool
evs_advanced_match(const EvsAdvanced *advanced, EvsDocument *document)
{
	for (int i = 0; i < advanced->n; i++)
		if (!condition_matches(&advanced->conditions[i], document))
			return false;
	return true;
}
