/*
 * expression.c
 *	  Paths, and calls of intrinsic functions: States.Format('{}', $.name).
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "asl/expression.h"
#include "asl/path_node.h"
#include "compat.h"

struct EvsAslExpression
{
	EvsAslPath *path;			/* a path, or ... */
	const EvsAslFunction *function; /* a call, or a literal */
	JsonbValue	literal;
	int			nargs;
	EvsAslExpression **args;
};

/* ---- parsing ---- */

static EvsAslExpression *parse_call(EvsAslParser *parser);

/*
 * A string in apostrophes.  keep_escapes: those of braces and backslashes are left to
 * States.Format(), for which {} and \{\} are not the same.
 */
static bool
parse_string(EvsAslParser *parser, bool keep_escapes, JsonbValue *value)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (parser->p++; *parser->p != '\'';)
	{
		int			len;

		if (*parser->p == '\0')
			return evs_asl_parser_fail(parser, "a string has no end") != NULL;
		if (*parser->p == '\\')
		{
			parser->p++;
			if (*parser->p == '\0' || strchr("'{}\\", *parser->p) == NULL)
				return evs_asl_parser_fail(parser, "a backslash is before none of ' { } \\") != NULL;
			if (keep_escapes && *parser->p != '\'')
				appendStringInfoChar(&buf, '\\');
		}
		len = pg_mblen(parser->p);
		appendBinaryStringInfo(&buf, parser->p, len);
		parser->p += len;
	}
	parser->p++;
	evs_asl_set_string(value, buf.data, buf.len);
	return true;
}

static bool
parse_literal(EvsAslParser *parser, bool keep_escapes, JsonbValue *value)
{
	int			len;

	if (*parser->p == '\'')
		return parse_string(parser, keep_escapes, value);
	if (evs_asl_accept(parser, "true"))
		evs_asl_set_bool(value, true);
	else if (evs_asl_accept(parser, "false"))
		evs_asl_set_bool(value, false);
	else if (evs_asl_accept(parser, "null"))
		value->type = jbvNull;
	else
	{
		len = evs_asl_number_length(parser->p);
		if (len == 0)
			return evs_asl_parser_fail(parser, "an argument is missing") != NULL;
		value->type = jbvNumeric;
		value->val.numeric = evs_asl_number_in(parser->p, len);
		if (value->val.numeric == NULL)
			return evs_asl_parser_fail(parser, "a number is too large") != NULL;
		parser->p += len;
	}
	return true;
}

static EvsAslExpression *
parse_argument(EvsAslParser *parser, bool keep_escapes)
{
	EvsAslExpression *argument;

	evs_asl_skip_space(parser);
	if (strncmp(parser->p, "States.", 7) == 0)
		argument = parse_call(parser);
	else
	{
		argument = palloc0(sizeof(EvsAslExpression));
		if (*parser->p == '$')
		{
			argument->path = evs_asl_parse_path(parser, false);
			if (argument->path == NULL)
				return NULL;
		}
		else if (!parse_literal(parser, keep_escapes, &argument->literal))
			return NULL;
	}
	evs_asl_skip_space(parser);
	return argument;
}

/* Up to and with the closing parenthesis. */
static bool
parse_arguments(EvsAslParser *parser, EvsAslExpression *call)
{
	bool		keep_escapes = strcmp(call->function->name, "States.Format") == 0;
	int			max = 8;

	call->args = palloc(sizeof(EvsAslExpression *) * max);
	evs_asl_skip_space(parser);
	if (evs_asl_accept(parser, ")"))
		return true;
	do
	{
		EvsAslExpression *argument = parse_argument(parser, keep_escapes && call->nargs == 0);

		if (argument == NULL)
			return false;
		if (call->nargs == max)
		{
			max *= 2;
			call->args = repalloc(call->args, sizeof(EvsAslExpression *) * max);
		}
		call->args[call->nargs++] = argument;
	} while (evs_asl_accept(parser, ","));
	return evs_asl_accept(parser, ")") ||
		evs_asl_parser_fail(parser, "\",\" or \")\" is missing") != NULL;
}

static EvsAslExpression *
parse_call(EvsAslParser *parser)
{
	EvsAslExpression *call = palloc0(sizeof(EvsAslExpression));
	const EvsAslFunction *function;
	int			len = strspn(parser->p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._");

	function = call->function = evs_asl_function_find(parser->p, len);
	if (function == NULL)
		return evs_asl_parser_fail(parser, "there is neither a path nor an intrinsic function");
	if (++parser->depth > EVS_ASL_CALLS_MAX)
		return evs_asl_parser_fail(parser, psprintf("more than %d calls nest", EVS_ASL_CALLS_MAX));
	parser->p += len;
	if (!evs_asl_accept(parser, "("))
		return evs_asl_parser_fail(parser, "\"(\" is missing");
	if (!parse_arguments(parser, call))
		return NULL;
	if (call->nargs < function->min_args ||
		(function->max_args >= 0 && call->nargs > function->max_args))
		return evs_asl_parser_fail(parser, psprintf("%s may not have %d arguments, up to here",
													function->name, call->nargs));
	parser->depth--;
	return call;
}

EvsAslExpression *
evs_asl_expression_compile(const char *source, char **problem)
{
	EvsAslParser parser = {.text = source, .p = source};
	EvsAslExpression *expression;

	if (*source == '$')
	{
		expression = palloc0(sizeof(EvsAslExpression));
		expression->path = evs_asl_path_compile(source, problem);
		return expression->path != NULL ? expression : NULL;
	}
	if (strlen(source) > EVS_ASL_TEXT_MAX)
	{
		*problem = psprintf("a call has more than %d bytes", EVS_ASL_TEXT_MAX);
		return NULL;
	}
	expression = parse_call(&parser);
	evs_asl_skip_space(&parser);
	if (expression != NULL && *parser.p != '\0')
		expression = evs_asl_parser_fail(&parser, "the call goes on after its end");
	if (expression == NULL)
		*problem = parser.problem;
	return expression;
}

/* ---- evaluation ---- */

bool
evs_asl_made(EvsAslEvaluation *evaluation, Size size)
{
	evaluation->made += size;
	return evaluation->made <= EVS_ASL_VALUE_MAX ||
		evs_asl_fail(evaluation->error, EVS_ASL_DATA_LIMIT,
					 "an expression makes more than %d bytes", EVS_ASL_VALUE_MAX) != NULL;
}

/* error_name: of a path that names nothing. */
static bool
evaluate_path(const EvsAslPath *path, EvsAslEvaluation *evaluation, const char *error_name,
			  JsonbValue *result)
{
	if (evs_asl_path_value(path, evaluation->scope, result))
		return path->definite || evs_asl_made(evaluation, evs_asl_size(result));
	if (path->definite)
		evs_asl_fail(evaluation->error, error_name, "the path %s names nothing", path->text);
	else
		evs_asl_fail(evaluation->error, EVS_ASL_DATA_LIMIT, "the path %s finds too much", path->text);
	return false;
}

static bool evaluate_call(const EvsAslExpression *expression, EvsAslEvaluation *evaluation,
						  JsonbValue *result);

static bool
evaluate_argument(const EvsAslExpression *argument, EvsAslEvaluation *evaluation,
				  JsonbValue *result)
{
	if (argument->path != NULL)
		return evaluate_path(argument->path, evaluation, EVS_ASL_INTRINSIC, result);
	if (argument->function != NULL)
		return evaluate_call(argument, evaluation, result);
	*result = argument->literal;
	return true;
}

static bool
evaluate_call(const EvsAslExpression *expression, EvsAslEvaluation *evaluation, JsonbValue *result)
{
	EvsAslCall	call = {
		.function = expression->function,
		.nargs = expression->nargs,
		.args = palloc(sizeof(JsonbValue) * Max(expression->nargs, 1)),
		.random = evaluation->scope->random,
		.error = evaluation->error
	};

	for (int i = 0; i < call.nargs; i++)
		if (!evaluate_argument(expression->args[i], evaluation, &call.args[i]))
			return false;
	return evs_asl_call(&call, result) && evs_asl_made(evaluation, evs_asl_size(result));
}

bool
evs_asl_evaluate(const EvsAslExpression *expression, EvsAslEvaluation *evaluation,
				 JsonbValue *result)
{
	if (expression->path != NULL)
		return evaluate_path(expression->path, evaluation, EVS_ASL_PARAMETER_PATH, result);
	return evaluate_call(expression, evaluation, result);
}

Jsonb *
evs_asl_expression_get(const EvsAslExpression *expression, const EvsAslScope *scope,
					   EvsAslError *error)
{
	EvsAslEvaluation evaluation = {.scope = scope, .error = error};
	JsonbValue	value;

	return evs_asl_evaluate(expression, &evaluation, &value) ? evs_asl_value(&value) : NULL;
}
