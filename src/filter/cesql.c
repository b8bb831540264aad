/*
 * cesql.c
 *	  CloudEvents SQL expressions, version 1.0.0: from text to a tree.
 *
 * Precedence, highest first: function calls; NOT and -; LIKE; EXISTS; IN;
 * * / %; + -; comparisons; AND OR XOR, all three alike.  What is equal goes from
 * left to right.  So NOT x = y is (NOT x) = y, and a OR b AND c is (a OR b) AND c.
 */
#include "postgres.h"

#include "filter/cesql.h"
#include "filter/cesql_node.h"
#include "compat.h"

static const EvsLanguage language = {
	.string_quotes = "'\"", .name_quotes = "", .name_characters = "_", .any_case = true,
	.doubled_quotes = true, .backslash = EVS_BACKSLASH_QUOTE,
};

static EvsExpr *parse_expression(EvsParser *parser);

/* ---- atoms ---- */

/* A sign that is part of a literal is directly before its digits. */
static bool
at_signed_integer(const EvsParser *parser)
{
	return (evs_parse_is(parser, "-") || evs_parse_is(parser, "+")) &&
		*parser->next >= '0' && *parser->next <= '9';
}

static EvsExpr *
parse_integer(EvsParser *parser)
{
	EvsExpr    *expr = evs_expr_new(CESQL_LITERAL, parser->at);
	bool		is_negative = evs_parse_is(parser, "-");
	int64		value = 0;

	if (parser->kind == EVS_TOKEN_SYMBOL)
		evs_parse_next(parser);
	if (parser->kind != EVS_TOKEN_INTEGER)
		evs_parse_error(parser, "an integer is expected here");
	for (const char *s = parser->token; *s != '\0' && value <= PG_INT32_MAX; s++)
		value = value * 10 + (*s - '0');
	if (is_negative)
		value = -value;
	if (value > PG_INT32_MAX || value < PG_INT32_MIN)
		evs_parse_error_at(parser, expr->at, "the integer does not fit into 32 bits");
	expr->literal.type = jbvNumeric;
	expr->operation = (int) value;
	evs_parse_next(parser);
	return expr;
}

static EvsExpr *
parse_string(EvsParser *parser)
{
	EvsExpr    *expr = evs_expr_new(CESQL_LITERAL, parser->at);

	expr->literal.type = jbvString;
	expr->literal.val.string.val = parser->token;
	expr->literal.val.string.len = strlen(parser->token);
	evs_parse_next(parser);
	return expr;
}

static EvsExpr *
parse_boolean(EvsParser *parser)
{
	EvsExpr    *expr = evs_expr_new(CESQL_LITERAL, parser->at);

	expr->literal.type = jbvBool;
	expr->literal.val.boolean = evs_parse_is(parser, "true");
	evs_parse_next(parser);
	return expr;
}

static bool
is_keyword(const char *name)
{
	static const char *const keywords[] = {
		"and", "or", "xor", "not", "like", "exists", "in", "true", "false",
	};

	for (int i = 0; i < (int) lengthof(keywords); i++)
		if (pg_strcasecmp(name, keywords[i]) == 0)
			return true;
	return false;
}

static EvsExpr *
parse_attribute(EvsParser *parser, EvsCesqlKind kind)
{
	EvsExpr    *expr = evs_expr_new(kind, parser->at);

	if ((parser->kind != EVS_TOKEN_NAME && parser->kind != EVS_TOKEN_INTEGER) ||
		is_keyword(parser->token))
		evs_parse_error(parser, "the name of an attribute is expected here");
	for (const char *s = parser->token; *s != '\0'; s++)
		if (*s == '_' || (*s >= 'A' && *s <= 'Z'))
			evs_parse_error(parser, "names of attributes have only lower-case letters and digits");
	expr->name = parser->token;
	evs_parse_next(parser);
	return expr;
}

static void
find_function(EvsParser *parser, EvsExpr *expr)
{
	static const struct
	{
		const char *name;
		EvsCesqlFunction function;
		int			least;
		int			most;
	}			functions[] =
	{
		{"length", CESQL_LENGTH, 1, 1}, {"concat", CESQL_CONCAT, 0, INT_MAX},
		{"concat_ws", CESQL_CONCAT_WS, 1, INT_MAX}, {"lower", CESQL_LOWER, 1, 1},
		{"upper", CESQL_UPPER, 1, 1}, {"trim", CESQL_TRIM, 1, 1}, {"left", CESQL_LEFT, 2, 2},
		{"right", CESQL_RIGHT, 2, 2}, {"substring", CESQL_SUBSTRING, 2, 3},
		{"abs", CESQL_ABS, 1, 1}, {"int", CESQL_INT, 1, 1}, {"bool", CESQL_BOOL, 1, 1},
		{"string", CESQL_STRING, 1, 1}, {"is_int", CESQL_IS_INT, 1, 1},
		{"is_bool", CESQL_IS_BOOL, 1, 1},
	};

	for (int i = 0; i < (int) lengthof(functions); i++)
		if (pg_strcasecmp(expr->name, functions[i].name) == 0)
		{
			if (expr->nargs < functions[i].least || expr->nargs > functions[i].most)
				evs_parse_error_at(parser, expr->at,
								   "there is no function of this name with so many arguments");
			expr->operation = functions[i].function;
			return;
		}
	evs_parse_error_at(parser, expr->at, "there is no function of this name");
}

static EvsExpr *
parse_function(EvsParser *parser)
{
	EvsExpr    *expr = evs_expr_new(CESQL_FUNCTION, parser->at);

	expr->name = parser->token;
	evs_parse_next(parser);
	evs_parse_expect(parser, "(");
	if (!evs_parse_is(parser, ")"))
	{
		do
			evs_expr_add(parser, expr, parse_expression(parser));
		while (evs_parse_accept(parser, ","));
	}
	evs_parse_expect(parser, ")");
	find_function(parser, expr);
	return expr;
}

/* Is the name that we are at followed by a bracket? */
static bool
at_function(const EvsParser *parser)
{
	const char *s = parser->next;

	if (parser->kind != EVS_TOKEN_NAME || is_keyword(parser->token))
		return false;
	while (*s == ' ' || *s == '\t' || *s == '\r' || *s == '\n')
		s++;
	return *s == '(';
}

static EvsExpr *
parse_atom(EvsParser *parser)
{
	EvsExpr    *expr;

	if (evs_parse_accept(parser, "("))
	{
		expr = parse_expression(parser);
		evs_parse_expect(parser, ")");
		return expr;
	}
	if (parser->kind == EVS_TOKEN_STRING)
		return parse_string(parser);
	if (parser->kind == EVS_TOKEN_INTEGER || at_signed_integer(parser))
		return parse_integer(parser);
	if (evs_parse_is(parser, "true") || evs_parse_is(parser, "false"))
		return parse_boolean(parser);
	if (evs_parse_accept(parser, "exists"))
		return parse_attribute(parser, CESQL_EXISTS);
	if (at_function(parser))
		return parse_function(parser);
	if (parser->kind == EVS_TOKEN_NAME && !is_keyword(parser->token))
		return parse_attribute(parser, CESQL_ATTRIBUTE);
	evs_parse_error(parser, "a value is expected here");
	return NULL;				/* keep compiler quiet */
}

/* ---- operators, from the highest precedence on ---- */

static EvsExpr *
parse_unary(EvsParser *parser)
{
	EvsExpr    *expr;
	int			at = parser->at;

	evs_parse_enter(parser);
	if (evs_parse_accept(parser, "not"))
	{
		expr = evs_expr_new(CESQL_NOT, at);
		evs_expr_add(parser, expr, parse_unary(parser));
	}
	else if (!at_signed_integer(parser) && evs_parse_accept(parser, "-"))
	{
		expr = evs_expr_new(CESQL_MINUS, at);
		evs_expr_add(parser, expr, parse_unary(parser));
	}
	else
		expr = parse_atom(parser);
	evs_parse_leave(parser);
	return expr;
}

static EvsExpr *
parse_like(EvsParser *parser, EvsExpr *left, int at)
{
	static const EvsGlobSyntax syntax = {.any = '%', .one = '_', .escape = "\\"};
	EvsExpr    *expr = evs_expr_new(CESQL_LIKE, at);

	if (parser->kind != EVS_TOKEN_STRING)
		evs_parse_error(parser, "a string is expected here");
	evs_expr_add(parser, expr, left);
	expr->glob = evs_glob_compile(parser->token, strlen(parser->token), &syntax);
	evs_parse_next(parser);
	return expr;
}

static EvsExpr *
parse_in(EvsParser *parser, EvsExpr *left, int at)
{
	EvsExpr    *expr = evs_expr_new(CESQL_IN, at);

	evs_expr_add(parser, expr, left);
	evs_parse_expect(parser, "(");
	do
		evs_expr_add(parser, expr, parse_expression(parser));
	while (evs_parse_accept(parser, ","));
	evs_parse_expect(parser, ")");
	return expr;
}

static EvsExpr *
parse_like_and_in(EvsParser *parser)
{
	EvsExpr    *expr = parse_unary(parser);

	for (;;)
	{
		int			at = parser->at;
		bool		negated = evs_parse_accept(parser, "not");

		if (evs_parse_accept(parser, "like"))
			expr = parse_like(parser, expr, at);
		else if (evs_parse_accept(parser, "in"))
			expr = parse_in(parser, expr, at);
		else if (negated)
			evs_parse_error(parser, "LIKE or IN is expected here");
		else
			return expr;
		expr->negated = negated;
	}
}

static EvsExpr *
parse_factors(EvsParser *parser)
{
	EvsExpr    *expr = parse_like_and_in(parser);

	while (evs_parse_is(parser, "*") || evs_parse_is(parser, "/") || evs_parse_is(parser, "%"))
	{
		int			at = parser->at;
		char		operation = parser->token[0];

		evs_parse_next(parser);
		expr = evs_expr_binary(parser, CESQL_ARITHMETIC, at, operation, expr, parse_like_and_in(parser));
	}
	return expr;
}

static EvsExpr *
parse_terms(EvsParser *parser)
{
	EvsExpr    *expr = parse_factors(parser);

	while (evs_parse_is(parser, "+") || evs_parse_is(parser, "-"))
	{
		int			at = parser->at;
		char		operation = parser->token[0];

		evs_parse_next(parser);
		expr = evs_expr_binary(parser, CESQL_ARITHMETIC, at, operation, expr, parse_factors(parser));
	}
	return expr;
}

static EvsExpr *
parse_comparisons(EvsParser *parser)
{
	EvsExpr    *expr = parse_terms(parser);
	int			comparison;

	while ((comparison = evs_parse_comparison(parser)) >= 0)
	{
		int			at = parser->at;

		evs_parse_next(parser);
		expr = evs_expr_binary(parser, CESQL_COMPARISON, at, comparison, expr, parse_terms(parser));
	}
	return expr;
}

static int
logic_here(const EvsParser *parser)
{
	return evs_parse_is(parser, "and") ? CESQL_AND : evs_parse_is(parser, "or") ? CESQL_OR :
		evs_parse_is(parser, "xor") ? CESQL_XOR : -1;
}

/* However long, a chain is one node: it takes no stack. */
static EvsExpr *
parse_expression(EvsParser *parser)
{
	EvsExpr    *first = parse_comparisons(parser);
	EvsExpr    *chain;
	int			logic;

	if (logic_here(parser) < 0)
		return first;
	chain = evs_expr_new(CESQL_LOGIC, first->at);
	evs_expr_add(parser, chain, first);
	while ((logic = logic_here(parser)) >= 0)
	{
		EvsExpr    *operand = evs_expr_new(CESQL_OPERAND, parser->at);

		operand->operation = logic;
		evs_parse_next(parser);
		evs_expr_add(parser, operand, parse_comparisons(parser));
		evs_expr_add(parser, chain, operand);
	}
	return chain;
}

/* ---- the whole ---- */

static EvsCesqlType
type_of(const EvsExpr *expr)
{
	switch ((EvsCesqlKind) expr->kind)
	{
		case CESQL_LITERAL:
			return expr->literal.type == jbvString ? CESQL_TYPE_STRING :
				expr->literal.type == jbvBool ? CESQL_TYPE_BOOLEAN : CESQL_TYPE_INTEGER;
		case CESQL_ATTRIBUTE:
			return CESQL_TYPE_UNKNOWN;
		case CESQL_MINUS:
		case CESQL_ARITHMETIC:
			return CESQL_TYPE_INTEGER;
		case CESQL_FUNCTION:
			break;
		default:
			return CESQL_TYPE_BOOLEAN;
	}
	switch ((EvsCesqlFunction) expr->operation)
	{
		case CESQL_LENGTH:
		case CESQL_ABS:
		case CESQL_INT:
			return CESQL_TYPE_INTEGER;
		case CESQL_BOOL:
		case CESQL_IS_INT:
		case CESQL_IS_BOOL:
			return CESQL_TYPE_BOOLEAN;
		default:
			return CESQL_TYPE_STRING;
	}
}

EvsCesql *
evs_cesql_compile(const char *text, const EvsWhere *where)
{
	EvsParser	parser;
	EvsExpr    *result;
	EvsCesqlType type;

	evs_parse_begin(&parser, &language, text, where);
	result = parse_expression(&parser);
	if (parser.kind != EVS_TOKEN_END)
		evs_parse_error(&parser, "an operator or the end is expected here");
	type = type_of(result);
	if (type == CESQL_TYPE_INTEGER || type == CESQL_TYPE_STRING)
		evs_parse_error_at(&parser, result->at, "the expression is not a condition");
	return result;
}
