/*
 * cesql_eval.c
 *	  CloudEvents SQL expressions, version 1.0.0: evaluation.
 *
 * In the mode that the specification calls "fail fast": the first error ends the
 * evaluation.  An expression with an error does not pass in either mode.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "common/int.h"
#include "mb/pg_wchar.h"
#include "utils/formatting.h"

#include "filter/cesql.h"
#include "filter/cesql_node.h"
#include "filter/cesql_value.h"
#include "compat.h"

typedef struct Evaluation
{
	EvsDocument *document;
	const char *error;
} Evaluation;

static bool evaluate(Evaluation *evaluation, const EvsExpr *expr, EvsCesqlValue *result);

/* ---- errors ---- */

/* Always false, for returns. */
static bool
fail(Evaluation *evaluation, const char *kind, const char *what)
{
	evaluation->error = psprintf("%s: %s", kind, what);
	return false;
}

/* ---- casts ---- */

static bool
cast(Evaluation *evaluation, EvsCesqlValue *value, EvsCesqlType type)
{
	if (evs_cesql_cast(value, type))
		return true;
	return fail(evaluation, "CastError",
				psprintf("\"%.*s\" is not %s", pg_mbcliplen(value->s, value->len, 100), value->s,
						 type == CESQL_TYPE_INTEGER ? "an integer" : "a boolean"));
}

static bool
evaluate_as(Evaluation *evaluation, const EvsExpr *expr, EvsCesqlType type, EvsCesqlValue *result)
{
	return evaluate(evaluation, expr, result) && cast(evaluation, result, type);
}

/* ---- operators ---- */

static bool
evaluate_arithmetic(Evaluation *evaluation, const EvsExpr *expr, EvsCesqlValue *result)
{
	EvsCesqlValue left;
	EvsCesqlValue right;
	int32		n = 0;
	bool		overflow = false;

	if (!evaluate_as(evaluation, expr->args[0], CESQL_TYPE_INTEGER, &left) ||
		!evaluate_as(evaluation, expr->args[1], CESQL_TYPE_INTEGER, &right))
		return false;
	if ((expr->operation == '/' || expr->operation == '%') && right.integer == 0)
		return fail(evaluation, "MathError", "division by zero");
	switch (expr->operation)
	{
		case '+':
			overflow = pg_add_s32_overflow(left.integer, right.integer, &n);
			break;
		case '-':
			overflow = pg_sub_s32_overflow(left.integer, right.integer, &n);
			break;
		case '*':
			overflow = pg_mul_s32_overflow(left.integer, right.integer, &n);
			break;
		case '/':
			overflow = left.integer == PG_INT32_MIN && right.integer == -1;
			n = overflow ? 0 : left.integer / right.integer;
			break;
		default:
			/* the smallest integer % -1 traps on some machines */
			n = right.integer == -1 ? 0 : left.integer % right.integer;
	}
	if (overflow)
		return fail(evaluation, "MathError", "the result does not fit into 32 bits");
	return evs_cesql_set_integer(result, n);
}

static bool
evaluate_minus(Evaluation *evaluation, const EvsExpr *expr, EvsCesqlValue *result)
{
	if (!evaluate_as(evaluation, expr->args[0], CESQL_TYPE_INTEGER, result))
		return false;
	if (result->integer == PG_INT32_MIN)
		return fail(evaluation, "MathError", "the result does not fit into 32 bits");
	return evs_cesql_set_integer(result, -result->integer);
}

/* Two of one type. */
static bool
are_equal(const EvsCesqlValue *a, const EvsCesqlValue *b)
{
	switch (a->type)
	{
		case CESQL_TYPE_BOOLEAN:
			return a->boolean == b->boolean;
		case CESQL_TYPE_INTEGER:
			return a->integer == b->integer;
		default:
			return a->len == b->len && memcmp(a->s, b->s, a->len) == 0;
	}
}

/* = and != compare as what the right operand is; the others compare integers. */
static bool
evaluate_comparison(Evaluation *evaluation, const EvsExpr *expr, EvsCesqlValue *result)
{
	EvsCesqlValue left;
	EvsCesqlValue right;

	if (!evaluate(evaluation, expr->args[0], &left) ||
		!evaluate(evaluation, expr->args[1], &right))
		return false;
	if (expr->operation == EVS_COMPARE_EQUAL || expr->operation == EVS_COMPARE_UNEQUAL)
		return cast(evaluation, &left, right.type) &&
			evs_cesql_set_boolean(result, are_equal(&left, &right) == (expr->operation == EVS_COMPARE_EQUAL));
	if (!cast(evaluation, &left, CESQL_TYPE_INTEGER) ||
		!cast(evaluation, &right, CESQL_TYPE_INTEGER))
		return false;
	switch ((EvsComparison) expr->operation)
	{
		case EVS_COMPARE_LESS:
			return evs_cesql_set_boolean(result, left.integer < right.integer);
		case EVS_COMPARE_LESS_EQUAL:
			return evs_cesql_set_boolean(result, left.integer <= right.integer);
		case EVS_COMPARE_GREATER:
			return evs_cesql_set_boolean(result, left.integer > right.integer);
		default:
			return evs_cesql_set_boolean(result, left.integer >= right.integer);
	}
}

/* What cannot change the result is not evaluated. */
static bool
evaluate_logic(Evaluation *evaluation, const EvsExpr *expr, EvsCesqlValue *result)
{
	bool		so_far;

	if (!evaluate_as(evaluation, expr->args[0], CESQL_TYPE_BOOLEAN, result))
		return false;
	so_far = result->boolean;
	for (int i = 1; i < expr->nargs; i++)
	{
		const EvsExpr *operand = expr->args[i];

		if ((operand->operation == CESQL_AND && !so_far) ||
			(operand->operation == CESQL_OR && so_far))
			continue;
		if (!evaluate_as(evaluation, operand->args[0], CESQL_TYPE_BOOLEAN, result))
			return false;
		so_far = operand->operation == CESQL_XOR ? so_far != result->boolean : result->boolean;
	}
	return evs_cesql_set_boolean(result, so_far);
}

/* Elements are compared as what the left operand is. */
static bool
evaluate_in(Evaluation *evaluation, const EvsExpr *expr, EvsCesqlValue *result)
{
	EvsCesqlValue left;
	bool		found = false;

	if (!evaluate(evaluation, expr->args[0], &left))
		return false;
	for (int i = 1; i < expr->nargs && !found; i++)
	{
		EvsCesqlValue element;

		if (!evaluate_as(evaluation, expr->args[i], left.type, &element))
			return false;
		found = are_equal(&left, &element);
	}
	return evs_cesql_set_boolean(result, found != expr->negated);
}

static bool
evaluate_like(Evaluation *evaluation, const EvsExpr *expr, EvsCesqlValue *result)
{
	EvsCesqlValue left;

	if (!evaluate_as(evaluation, expr->args[0], CESQL_TYPE_STRING, &left))
		return false;
	return evs_cesql_set_boolean(result, evs_glob_match(expr->glob, left.s, left.len) != expr->negated);
}

/* ---- functions ---- */

static bool
concatenate(Evaluation *evaluation, const EvsExpr *expr, EvsCesqlValue *result)
{
	bool		with_separator = expr->operation == CESQL_CONCAT_WS;
	EvsCesqlValue separator = {.s = "", .len = 0};
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < expr->nargs; i++)
	{
		EvsCesqlValue value;

		if (!evaluate_as(evaluation, expr->args[i], CESQL_TYPE_STRING, &value))
			return false;
		if (i == 0 && with_separator)
		{
			separator = value;
			continue;
		}
		if (i > 1)
			appendBinaryStringInfo(&buf, separator.s, separator.len);
		appendBinaryStringInfo(&buf, value.s, value.len);
	}
	return evs_cesql_set_string(result, buf.data, buf.len);
}

/* So many characters from one on, both within the string. */
static bool
set_part(EvsCesqlValue *result, const EvsCesqlValue *string, int first, int count)
{
	int			begin = pg_mbcharcliplen(string->s, string->len, first);

	return evs_cesql_set_string(result, string->s + begin,
								pg_mbcharcliplen(string->s + begin, string->len - begin, count));
}

/* LEFT and RIGHT. */
static bool
evaluate_end(Evaluation *evaluation, const EvsExpr *expr, EvsCesqlValue *result)
{
	EvsCesqlValue string;
	EvsCesqlValue count;
	int			length;

	if (!evaluate_as(evaluation, expr->args[0], CESQL_TYPE_STRING, &string) ||
		!evaluate_as(evaluation, expr->args[1], CESQL_TYPE_INTEGER, &count))
		return false;
	if (count.integer < 0)
		return fail(evaluation, "FunctionEvaluationError", "the length is negative");
	length = pg_mbstrlen_with_len(string.s, string.len);
	count.integer = Min(count.integer, length);
	return set_part(result, &string, expr->operation == CESQL_LEFT ? 0 : length - count.integer,
					count.integer);
}

/* Positions count from 1, or from the end from -1. */
static bool
evaluate_substring(Evaluation *evaluation, const EvsExpr *expr, EvsCesqlValue *result)
{
	EvsCesqlValue string;
	EvsCesqlValue position;
	EvsCesqlValue count = {.integer = PG_INT32_MAX};
	int			length;
	int			first;

	if (!evaluate_as(evaluation, expr->args[0], CESQL_TYPE_STRING, &string) ||
		!evaluate_as(evaluation, expr->args[1], CESQL_TYPE_INTEGER, &position) ||
		(expr->nargs > 2 && !evaluate_as(evaluation, expr->args[2], CESQL_TYPE_INTEGER, &count)))
		return false;
	length = pg_mbstrlen_with_len(string.s, string.len);
	if (position.integer > length || position.integer < -length)
		return fail(evaluation, "FunctionEvaluationError", "the position is outside of the string");
	if (count.integer < 0)
		return fail(evaluation, "FunctionEvaluationError", "the length is negative");
	if (position.integer == 0)
		return evs_cesql_set_string(result, "", 0);
	first = position.integer > 0 ? position.integer - 1 : length + position.integer;
	return set_part(result, &string, first, Min(count.integer, length - first));
}

/* White space as Unicode has it. */
static bool
is_space(const char *s)
{
	pg_wchar	c = (unsigned char) *s;

	if (IS_HIGHBIT_SET(*s))
	{
		if (GetDatabaseEncoding() != PG_UTF8)
			return false;
		c = utf8_to_unicode((const unsigned char *) s);
	}
	return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
		(c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
		c == 0x205F || c == 0x3000;
}

static bool
trim(EvsCesqlValue *string, EvsCesqlValue *result)
{
	const char *end = string->s + string->len;
	const char *first = NULL;
	const char *behind = string->s;

	for (const char *s = string->s; s < end; s += pg_mblen(s))
	{
		if (is_space(s))
			continue;
		if (first == NULL)
			first = s;
		behind = s + pg_mblen(s);
	}
	return evs_cesql_set_string(result, first != NULL ? first : "", first != NULL ? behind - first : 0);
}

static bool
evaluate_string_function(Evaluation *evaluation, const EvsExpr *expr, EvsCesqlValue *result)
{
	EvsCesqlValue string;
	char	   *s;

	if (!evaluate_as(evaluation, expr->args[0], CESQL_TYPE_STRING, &string))
		return false;
	if (expr->operation == CESQL_LENGTH)
		return evs_cesql_set_integer(result, pg_mbstrlen_with_len(string.s, string.len));
	if (expr->operation == CESQL_TRIM)
		return trim(&string, result);
	s = expr->operation == CESQL_LOWER ?
		str_tolower(string.s, string.len, DEFAULT_COLLATION_OID) :
		str_toupper(string.s, string.len, DEFAULT_COLLATION_OID);
	return evs_cesql_set_string(result, s, strlen(s));
}

static bool
evaluate_function(Evaluation *evaluation, const EvsExpr *expr, EvsCesqlValue *result)
{
	switch ((EvsCesqlFunction) expr->operation)
	{
		case CESQL_CONCAT:
		case CESQL_CONCAT_WS:
			return concatenate(evaluation, expr, result);
		case CESQL_LEFT:
		case CESQL_RIGHT:
			return evaluate_end(evaluation, expr, result);
		case CESQL_SUBSTRING:
			return evaluate_substring(evaluation, expr, result);
		case CESQL_ABS:
			if (!evaluate_as(evaluation, expr->args[0], CESQL_TYPE_INTEGER, result))
				return false;
			if (result->integer == PG_INT32_MIN)
				return fail(evaluation, "MathError", "the result does not fit into 32 bits");
			return evs_cesql_set_integer(result, abs(result->integer));
		case CESQL_INT:
			return evaluate_as(evaluation, expr->args[0], CESQL_TYPE_INTEGER, result);
		case CESQL_BOOL:
			return evaluate_as(evaluation, expr->args[0], CESQL_TYPE_BOOLEAN, result);
		case CESQL_STRING:
			return evaluate_as(evaluation, expr->args[0], CESQL_TYPE_STRING, result);
		case CESQL_IS_INT:
			return evaluate(evaluation, expr->args[0], result) &&
				evs_cesql_set_boolean(result, evs_cesql_cast(result, CESQL_TYPE_INTEGER));
		case CESQL_IS_BOOL:
			return evaluate(evaluation, expr->args[0], result) &&
				evs_cesql_set_boolean(result, evs_cesql_cast(result, CESQL_TYPE_BOOLEAN));
		default:
			return evaluate_string_function(evaluation, expr, result);
	}
}

/* ---- the whole ---- */

static bool
evaluate(Evaluation *evaluation, const EvsExpr *expr, EvsCesqlValue *result)
{
	const JsonbValue *literal = &expr->literal;

	switch ((EvsCesqlKind) expr->kind)
	{
		case CESQL_LITERAL:
			if (literal->type == jbvString)
				return evs_cesql_set_string(result, literal->val.string.val, literal->val.string.len);
			if (literal->type == jbvBool)
				return evs_cesql_set_boolean(result, literal->val.boolean);
			return evs_cesql_set_integer(result, expr->operation);
		case CESQL_ATTRIBUTE:
			return evs_cesql_get_attribute(evaluation->document, expr->name, result) ||
				fail(evaluation, "MissingAttributeError",
					 psprintf("the event has no attribute \"%s\"", expr->name));
		case CESQL_EXISTS:
			return evs_cesql_set_boolean(result, evs_cesql_get_attribute(evaluation->document, expr->name, result));
		case CESQL_NOT:
			return evaluate_as(evaluation, expr->args[0], CESQL_TYPE_BOOLEAN, result) &&
				evs_cesql_set_boolean(result, !result->boolean);
		case CESQL_MINUS:
			return evaluate_minus(evaluation, expr, result);
		case CESQL_ARITHMETIC:
			return evaluate_arithmetic(evaluation, expr, result);
		case CESQL_COMPARISON:
			return evaluate_comparison(evaluation, expr, result);
		case CESQL_LOGIC:
			return evaluate_logic(evaluation, expr, result);
		case CESQL_LIKE:
			return evaluate_like(evaluation, expr, result);
		case CESQL_IN:
			return evaluate_in(evaluation, expr, result);
		case CESQL_FUNCTION:
			return evaluate_function(evaluation, expr, result);
		case CESQL_OPERAND:
			break;
	}
	elog(ERROR, "unexpected node %d in a filter", expr->kind);
	return false;
}

EvsFilterResult
evs_cesql_match(const EvsCesql *expr, EvsDocument *document, const char **error)
{
	Evaluation	evaluation = {.document = document};
	EvsCesqlValue result;

	if (!evaluate(&evaluation, expr, &result))
	{
		*error = evaluation.error;
		return EVS_FILTER_ERROR;
	}
	if (result.type != CESQL_TYPE_BOOLEAN)
	{
		*error = "GenericError: the value of the expression is not a boolean";
		return EVS_FILTER_ERROR;
	}
	return result.boolean ? EVS_FILTER_YES : EVS_FILTER_NO;
}
