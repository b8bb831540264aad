/*
 * json_build.c
 *	  jsonb_build_object() and its like, in an expression that is evaluated often.
 *
 * PostgreSQL's functions look up in the catalog, at each call and for each
 * argument, how its type becomes JSON, and make numbers by way of text.  For a
 * transition that builds a state of two numbers that is half of all its time.
 * Here the types are looked at once, when the expression has been compiled.
 *
 * What is called is still PostgreSQL's function as far as anybody can see: the
 * right to execute it has been checked, and it is what reports errors, since
 * whatever is out of the ordinary is left to it.  Only the address in the
 * expression's step is another one.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/execExpr.h"
#include "nodes/nodeFuncs.h"
#include "nodes/primnodes.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "aggregate/json_build.h"
#include "compat.h"

/* How an argument becomes JSON. */
typedef enum ArgumentKind
{
	ARGUMENT_OTHER,				/* not by this file */
	ARGUMENT_BOOL,
	ARGUMENT_INT2,
	ARGUMENT_INT4,
	ARGUMENT_INT8,
	ARGUMENT_NUMERIC,
	ARGUMENT_TEXT,
	ARGUMENT_LITERAL,			/* of no type: a C string */
	ARGUMENT_JSONB
} ArgumentKind;

/* ---- values ---- */

static bool
set_string(JsonbValue *result, const char *s, Size len)
{
	result->type = jbvString;
	result->val.string.val = unconstify(char *, s);
	result->val.string.len = len;
	return len <= JENTRY_OFFLENMASK;
}

static bool
set_text(JsonbValue *result, text *value)
{
	return set_string(result, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
}

static bool
set_integer(JsonbValue *result, int64 value)
{
	result->type = jbvNumeric;
	result->val.numeric = int64_to_numeric(value);
	return true;
}

static bool
set_numeric(JsonbValue *result, Numeric value)
{
	result->type = jbvNumeric;
	result->val.numeric = value;
	return !numeric_is_nan(value) && !numeric_is_inf(value);
}

static bool
set_jsonb(JsonbValue *result, Jsonb *value)
{
	if (JB_ROOT_IS_SCALAR(value))
		return JsonbExtractScalar(&value->root, result);
	result->type = jbvBinary;
	result->val.binary.data = &value->root;
	result->val.binary.len = VARSIZE(value) - VARHDRSZ;
	return true;
}

/* The argument as JSON; false: this is for PostgreSQL's function. */
static bool
get_value(FunctionCallInfo fcinfo, int i, JsonbValue *result)
{
	const ArgumentKind *kinds = fcinfo->flinfo->fn_extra;

	if (PG_ARGISNULL(i))
	{
		result->type = jbvNull;
		return true;
	}
	switch (kinds[i])
	{
		case ARGUMENT_BOOL:
			result->type = jbvBool;
			result->val.boolean = PG_GETARG_BOOL(i);
			return true;
		case ARGUMENT_INT2:
			return set_integer(result, PG_GETARG_INT16(i));
		case ARGUMENT_INT4:
			return set_integer(result, PG_GETARG_INT32(i));
		case ARGUMENT_INT8:
			return set_integer(result, PG_GETARG_INT64(i));
		case ARGUMENT_NUMERIC:
			return set_numeric(result, PG_GETARG_NUMERIC(i));
		case ARGUMENT_TEXT:
			return set_text(result, PG_GETARG_TEXT_PP(i));
		case ARGUMENT_LITERAL:
			return set_string(result, PG_GETARG_CSTRING(i), strlen(PG_GETARG_CSTRING(i)));
		case ARGUMENT_JSONB:
			return set_jsonb(result, PG_GETARG_JSONB_P(i));
		case ARGUMENT_OTHER:
			break;
	}
	return false;
}

/* ---- functions ---- */

/* It may want to keep something of its own where we do. */
static Datum
call_original(PGFunction function, FunctionCallInfo fcinfo)
{
	void	   *kinds = fcinfo->flinfo->fn_extra;
	Datum		result;

	fcinfo->flinfo->fn_extra = NULL;
	result = function(fcinfo);
	fcinfo->flinfo->fn_extra = kinds;
	return result;
}

static Datum
build_object(PG_FUNCTION_ARGS)
{
	JsonbParseState *state = NULL;
	JsonbValue	value;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < PG_NARGS(); i += 2)
	{
		if (PG_ARGISNULL(i) || !get_value(fcinfo, i, &value))
			return call_original(jsonb_build_object, fcinfo);
		pushJsonbValue(&state, WJB_KEY, &value);
		if (!get_value(fcinfo, i + 1, &value))
			return call_original(jsonb_build_object, fcinfo);
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL)));
}

static Datum
build_array(PG_FUNCTION_ARGS)
{
	JsonbParseState *state = NULL;
	JsonbValue	value;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < PG_NARGS(); i++)
	{
		if (!get_value(fcinfo, i, &value))
			return call_original(jsonb_build_array, fcinfo);
		pushJsonbValue(&state, WJB_ELEM, &value);
	}
	return JsonbPGetDatum(JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL)));
}

static Datum
build_scalar(PG_FUNCTION_ARGS)
{
	JsonbValue	value;

	if (!get_value(fcinfo, 0, &value) || value.type == jbvBinary)
		return call_original(to_jsonb, fcinfo);
	return JsonbPGetDatum(JsonbValueToJsonb(&value));
}

/* ---- which calls ---- */

static ArgumentKind
argument_kind(const Node *argument)
{
	switch (getBaseType(exprType(argument)))
	{
		case BOOLOID:
			return ARGUMENT_BOOL;
		case INT2OID:
			return ARGUMENT_INT2;
		case INT4OID:
			return ARGUMENT_INT4;
		case INT8OID:
			return ARGUMENT_INT8;
		case NUMERICOID:
			return ARGUMENT_NUMERIC;
		case TEXTOID:
		case VARCHAROID:
			return ARGUMENT_TEXT;
		case UNKNOWNOID:
			return IsA(argument, Const) ? ARGUMENT_LITERAL : ARGUMENT_OTHER;
		case JSONBOID:
			return ARGUMENT_JSONB;
		default:
			return ARGUMENT_OTHER;
	}
}

static bool
is_string(ArgumentKind kind)
{
	return kind == ARGUMENT_TEXT || kind == ARGUMENT_LITERAL;
}

/* Of the arguments, in this memory context; NULL: the call is none for us. */
static ArgumentKind *
argument_kinds(const FuncExpr *call, bool has_keys, MemoryContext context)
{
	int			n = list_length(call->args);
	ArgumentKind *kinds = MemoryContextAlloc(context, sizeof(ArgumentKind) * Max(n, 1));

	if (call->funcvariadic || (has_keys && n % 2 != 0))
		return NULL;
	for (int i = 0; i < n; i++)
	{
		kinds[i] = argument_kind(list_nth(call->args, i));
		if (kinds[i] == ARGUMENT_OTHER || (has_keys && i % 2 == 0 && !is_string(kinds[i])))
			return NULL;
	}
	return kinds;
}

static PGFunction
find_function(PGFunction function)
{
	if (function == jsonb_build_object)
		return build_object;
	if (function == jsonb_build_array)
		return build_array;
	if (function == to_jsonb)
		return build_scalar;
	return NULL;
}

static void
prepare_call(ExprEvalStep *step)
{
	FmgrInfo   *info = step->d.func.finfo;
	PGFunction	function = find_function(step->d.func.fn_addr);

	if (function == NULL || info->fn_extra != NULL || !IsA(info->fn_expr, FuncExpr))
		return;
	info->fn_extra = argument_kinds((FuncExpr *) info->fn_expr, function == build_object,
									info->fn_mcxt);
	if (info->fn_extra != NULL)
		step->d.func.fn_addr = function;
}

void
evs_json_build_prepare(ExprState *expr)
{
	for (int i = 0; i < expr->steps_len; i++)
		if (evs_is_function_step(ExecEvalStepOp(expr, &expr->steps[i])))
			prepare_call(&expr->steps[i]);
}
