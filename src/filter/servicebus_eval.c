/*
 * servicebus_eval.c
 *	  Service Bus SQL filters: evaluation.
 *
 * Logic has three values: what is not there is unknown, and so is what is compared
 * with it.  An operand of a wrong type, or a division by zero, is an error.  Numbers
 * are exact; strings compare by their bytes.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "filter/servicebus.h"
#include "filter/servicebus_node.h"
#include "compat.h"

typedef struct Evaluation
{
	EvsDocument *document;
	const char *error;
} Evaluation;

/* Unknown is jbvNull. */
static bool evaluate(Evaluation *evaluation, const EvsExpr *expr, JsonbValue *result);

/* Always false, for returns. */
static bool
fail(Evaluation *evaluation, const char *what)
{
	evaluation->error = what;
	return false;
}

static bool
set_boolean(JsonbValue *value, bool boolean)
{
	value->type = jbvBool;
	value->val.boolean = boolean;
	return true;
}

static bool
set_unknown(JsonbValue *value)
{
	value->type = jbvNull;
	return true;
}

static const char *
type_name(const JsonbValue *value)
{
	return value->type == jbvString ? "a string" : value->type == jbvNumeric ? "a number" :
		value->type == jbvBool ? "a boolean" : "an object or an array";
}

/* ---- properties ---- */

static bool
find_property(Evaluation *evaluation, const EvsExpr *expr, JsonbValue *value)
{
	static const EvsField fields[] = {EVS_FIELD_METADATA, EVS_FIELD_DATA};

	if (expr->kind == BUS_LITERAL)
	{
		*value = expr->literal;
		return value->type != jbvNull;
	}
	if (expr->operation == BUS_PATH)
		return evs_document_follow(evaluation->document, &expr->path, value);
	for (int i = 0; i < (int) lengthof(fields); i++)
	{
		JsonbValue	object;

		if (evs_document_get(evaluation->document, fields[i], &object) &&
			evs_document_json_member(&object, expr->name, value))
			return true;
	}
	return false;
}

/* ---- operators ---- */

/* Negative, zero or positive, of two of one type. */
static int
compare(const JsonbValue *a, const JsonbValue *b)
{
	int			result;

	if (a->type == jbvNumeric)
		return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a->val.numeric),
												 NumericGetDatum(b->val.numeric)));
	if (a->type == jbvBool)
		return (int) a->val.boolean - (int) b->val.boolean;
	result = memcmp(a->val.string.val, b->val.string.val,
					Min(a->val.string.len, b->val.string.len));
	return result != 0 ? result : a->val.string.len - b->val.string.len;
}

static bool
check_comparable(Evaluation *evaluation, const JsonbValue *a, const JsonbValue *b)
{
	if (a->type == b->type && a->type != jbvBinary)
		return true;
	return fail(evaluation, psprintf("%s cannot be compared with %s", type_name(a), type_name(b)));
}

static bool
evaluate_comparison(Evaluation *evaluation, const EvsExpr *expr, JsonbValue *result)
{
	JsonbValue	left;
	JsonbValue	right;
	int			cmp;

	if (!evaluate(evaluation, expr->args[0], &left) || !evaluate(evaluation, expr->args[1], &right))
		return false;
	if (left.type == jbvNull || right.type == jbvNull)
		return set_unknown(result);
	if (!check_comparable(evaluation, &left, &right))
		return false;
	if (left.type == jbvBool && expr->operation != EVS_COMPARE_EQUAL && expr->operation != EVS_COMPARE_UNEQUAL)
		return fail(evaluation, "booleans have no order");
	cmp = compare(&left, &right);
	switch ((EvsComparison) expr->operation)
	{
		case EVS_COMPARE_EQUAL:
			return set_boolean(result, cmp == 0);
		case EVS_COMPARE_UNEQUAL:
			return set_boolean(result, cmp != 0);
		case EVS_COMPARE_LESS:
			return set_boolean(result, cmp < 0);
		case EVS_COMPARE_LESS_EQUAL:
			return set_boolean(result, cmp <= 0);
		case EVS_COMPARE_GREATER:
			return set_boolean(result, cmp > 0);
		case EVS_COMPARE_GREATER_EQUAL:
			return set_boolean(result, cmp >= 0);
	}
	return false;
}

/* A number, or unknown. */
static bool
evaluate_number(Evaluation *evaluation, const EvsExpr *expr, JsonbValue *result)
{
	if (!evaluate(evaluation, expr, result))
		return false;
	if (result->type == jbvNumeric || result->type == jbvNull)
		return true;
	return fail(evaluation, psprintf("%s is no operand of arithmetic", type_name(result)));
}

static bool
evaluate_arithmetic(Evaluation *evaluation, const EvsExpr *expr, JsonbValue *result)
{
	JsonbValue	left;
	JsonbValue	right;
	bool		failed = false;

	if (!evaluate_number(evaluation, expr->args[0], &left) ||
		!evaluate_number(evaluation, expr->args[1], &right))
		return false;
	if (left.type == jbvNull || right.type == jbvNull)
		return set_unknown(result);
	result->type = jbvNumeric;
	switch (expr->operation)
	{
		case '+':
			result->val.numeric = numeric_add_opt_error(left.val.numeric, right.val.numeric, &failed);
			break;
		case '-':
			result->val.numeric = numeric_sub_opt_error(left.val.numeric, right.val.numeric, &failed);
			break;
		case '*':
			result->val.numeric = numeric_mul_opt_error(left.val.numeric, right.val.numeric, &failed);
			break;
		case '/':
			result->val.numeric = numeric_div_opt_error(left.val.numeric, right.val.numeric, &failed);
			break;
		default:
			result->val.numeric = numeric_mod_opt_error(left.val.numeric, right.val.numeric, &failed);
	}
	if (failed)
		return fail(evaluation, expr->operation == '/' || expr->operation == '%' ?
					"division by zero" : "the result is too large");
	return true;
}

static bool
evaluate_sign(Evaluation *evaluation, const EvsExpr *expr, JsonbValue *result)
{
	if (!evaluate_number(evaluation, expr->args[0], result))
		return false;
	if (result->type == jbvNumeric && expr->operation == '-')
		result->val.numeric = DatumGetNumeric(DirectFunctionCall1(numeric_uminus,
																  NumericGetDatum(result->val.numeric)));
	return true;
}

static bool
evaluate_in(Evaluation *evaluation, const EvsExpr *expr, JsonbValue *result)
{
	JsonbValue	left;
	bool		some_unknown = false;
	bool		found = false;

	if (!evaluate(evaluation, expr->args[0], &left))
		return false;
	if (left.type == jbvNull)
		return set_unknown(result);
	for (int i = 1; i < expr->nargs && !found; i++)
	{
		JsonbValue	element;

		if (!evaluate(evaluation, expr->args[i], &element))
			return false;
		if (element.type == jbvNull)
			some_unknown = true;
		else if (!check_comparable(evaluation, &left, &element))
			return false;
		else
			found = compare(&left, &element) == 0;
	}
	if (!found && some_unknown)
		return set_unknown(result);
	return set_boolean(result, found != expr->negated);
}

static bool
evaluate_like(Evaluation *evaluation, const EvsExpr *expr, JsonbValue *result)
{
	EvsGlobSyntax syntax = {.any = '%', .one = '_', .escape_all = true};
	JsonbValue	values[3];

	for (int i = 0; i < expr->nargs; i++)
		if (!evaluate(evaluation, expr->args[i], &values[i]))
			return false;
	for (int i = 0; i < expr->nargs; i++)
	{
		if (values[i].type == jbvNull)
			return set_unknown(result);
		if (values[i].type != jbvString)
			return fail(evaluation, psprintf("%s is no operand of LIKE", type_name(&values[i])));
	}
	if (expr->nargs > 2)
	{
		if (pg_mbstrlen_with_len(values[2].val.string.val, values[2].val.string.len) != 1)
			return fail(evaluation, "ESCAPE needs one character");
		syntax.escape = pnstrdup(values[2].val.string.val, values[2].val.string.len);
	}
	return set_boolean(result,
					   evs_glob_match(evs_glob_compile(values[1].val.string.val,
													   values[1].val.string.len, &syntax),
									  values[0].val.string.val,
									  values[0].val.string.len) != expr->negated);
}

/* ---- logic ---- */

/* A boolean, or unknown. */
static bool
evaluate_condition(Evaluation *evaluation, const EvsExpr *expr, JsonbValue *result)
{
	if (!evaluate(evaluation, expr, result))
		return false;
	if (result->type == jbvBool || result->type == jbvNull)
		return true;
	return fail(evaluation, psprintf("%s is no condition", type_name(result)));
}

/* The first that is false ends an AND, the first that is true an OR. */
static bool
evaluate_chain(Evaluation *evaluation, const EvsExpr *expr, JsonbValue *result)
{
	bool		ends = expr->kind == BUS_OR;
	bool		some_unknown = false;

	for (int i = 0; i < expr->nargs; i++)
	{
		if (!evaluate_condition(evaluation, expr->args[i], result))
			return false;
		if (result->type == jbvNull)
			some_unknown = true;
		else if (result->val.boolean == ends)
			return true;
	}
	return some_unknown ? set_unknown(result) : set_boolean(result, !ends);
}

static bool
evaluate(Evaluation *evaluation, const EvsExpr *expr, JsonbValue *result)
{
	bool		found;

	switch ((EvsServicebusKind) expr->kind)
	{
		case BUS_LITERAL:
			*result = expr->literal;
			return true;
		case BUS_PROPERTY:
			return find_property(evaluation, expr, result) || set_unknown(result);
		case BUS_EXISTS:
			return set_boolean(result, find_property(evaluation, expr->args[0], result));
		case BUS_IS_NULL:
			found = find_property(evaluation, expr->args[0], result) && result->type != jbvNull;
			return set_boolean(result, found == expr->negated);
		case BUS_NOT:
			if (!evaluate_condition(evaluation, expr->args[0], result))
				return false;
			return result->type == jbvNull || set_boolean(result, !result->val.boolean);
		case BUS_AND:
		case BUS_OR:
			return evaluate_chain(evaluation, expr, result);
		case BUS_COMPARISON:
			return evaluate_comparison(evaluation, expr, result);
		case BUS_ARITHMETIC:
			return evaluate_arithmetic(evaluation, expr, result);
		case BUS_SIGN:
			return evaluate_sign(evaluation, expr, result);
		case BUS_IN:
			return evaluate_in(evaluation, expr, result);
		case BUS_LIKE:
			return evaluate_like(evaluation, expr, result);
	}
	elog(ERROR, "unexpected node %d in a filter", expr->kind);
	return false;
}

EvsFilterResult
evs_servicebus_match(const EvsServicebus *expr, EvsDocument *document, const char **error)
{
	Evaluation	evaluation = {.document = document};
	JsonbValue	result;

	if (!evaluate_condition(&evaluation, expr, &result))
	{
		*error = evaluation.error;
		return EVS_FILTER_ERROR;
	}
	return result.type == jbvBool && result.val.boolean ? EVS_FILTER_YES : EVS_FILTER_NO;
}
