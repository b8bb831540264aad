/*
 * asl_funcs.c
 *	  SQL functions that make the interpreter's parts visible, for tests.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "asl/choice.h"
#include "asl/path.h"
#include "asl/template.h"
#include "base/errors.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_asl_path);
PG_FUNCTION_INFO_V1(evs_asl_put);
PG_FUNCTION_INFO_V1(evs_asl_template);
PG_FUNCTION_INFO_V1(evs_asl_choice);

static void
throw_problem(const char *where, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_EVS_INVALID_DEFINITION),
			 errmsg("%s%s%s", where, *where != '\0' ? ": " : "", problem)));
}

static void
throw_first_problem(void *arg, const char *where, const char *problem)
{
	throw_problem(where, problem);
}

static void
throw_failure(const EvsAslError *error)
{
	if (error->name != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("%s: %s", error->name, error->cause)));
}

static EvsAslPath *
compile_path(const text *text)
{
	char	   *problem;
	EvsAslPath *path = evs_asl_path_compile(text_to_cstring(text), &problem);

	if (path == NULL)
		throw_problem("", problem);
	return path;
}

static Jsonb *
get_json(FunctionCallInfo fcinfo, int i)
{
	return PG_ARGISNULL(i) ? NULL : PG_GETARG_JSONB_P(i);
}

/* Arguments 1 to 3: input, context object, variables. */
static void
get_scope(FunctionCallInfo fcinfo, EvsAslScope *scope)
{
	scope->input = get_json(fcinfo, 1);
	scope->context = get_json(fcinfo, 2);
	scope->variables = get_json(fcinfo, 3);
	scope->random = &pg_global_prng_state;
}

static void
check_argument(FunctionCallInfo fcinfo, int i, const char *name)
{
	if (PG_ARGISNULL(i))
		evs_throw_null(name);
}

/* _asl_path(path, input, context, variables) */
Datum
evs_asl_path(PG_FUNCTION_ARGS)
{
	EvsAslScope scope;
	Jsonb	   *result;

	check_argument(fcinfo, 0, "path");
	get_scope(fcinfo, &scope);
	result = evs_asl_path_get(compile_path(PG_GETARG_TEXT_PP(0)), &scope);
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(result);
}

/* _asl_put(path, document, value) */
Datum
evs_asl_put(PG_FUNCTION_ARGS)
{
	EvsAslError error = {0};
	Jsonb	   *result = evs_asl_path_put(compile_path(PG_GETARG_TEXT_PP(0)), PG_GETARG_JSONB_P(1),
										  PG_GETARG_JSONB_P(2), &error);

	throw_failure(&error);
	PG_RETURN_JSONB_P(result);
}

/* _asl_template(template, input, context, variables) */
Datum
evs_asl_template(PG_FUNCTION_ARGS)
{
	EvsAslScope scope;
	EvsAslError error = {0};
	EvsAslTemplate *template;
	Jsonb	   *result;

	check_argument(fcinfo, 0, "template");
	get_scope(fcinfo, &scope);
	template = evs_asl_template_compile(PG_GETARG_JSONB_P(0), throw_first_problem, NULL);
	result = evs_asl_template_apply(template, &scope, &error);
	throw_failure(&error);
	PG_RETURN_JSONB_P(result);
}

/* _asl_choice(rule, input, context, variables) */
Datum
evs_asl_choice(PG_FUNCTION_ARGS)
{
	EvsAslScope scope;
	EvsAslError error = {0};
	EvsAslRule *rule;
	bool		result;

	check_argument(fcinfo, 0, "rule");
	get_scope(fcinfo, &scope);
	rule = evs_asl_rule_compile(PG_GETARG_JSONB_P(0), throw_first_problem, NULL);
	result = evs_asl_rule_matches(rule, &scope, &error);
	throw_failure(&error);
	PG_RETURN_BOOL(result);
}
