/*
 * servicebus.c
 *	  Service Bus SQL filters: from text to a tree.
 *
 * Precedence, highest first: signs; * / %; + -; comparisons, IS NULL, IN, LIKE;
 * NOT; AND; OR.
 *
 * A property without a scope, or of the scope user, is one of the event's fields
 * (type, eventType, stream, ...), else a member of its metadata, else one of its
 * data.  sys has the names that a broker gives to fields; data and metadata are
 * scopes too, and take further names.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "filter/servicebus.h"
#include "filter/servicebus_node.h"
#include "compat.h"

static const EvsLanguage language = {
	.string_quotes = "'", .name_quotes = "\"[", .name_characters = "_@#$", .any_letter = true,
	.decimals = true, .any_case = true, .doubled_quotes = true,
	.backslash = EVS_BACKSLASH_NOTHING,
};

static EvsExpr *parse_or(EvsParser *parser);
static EvsExpr *parse_terms(EvsParser *parser);

/* ---- properties ---- */

static bool
is_keyword(const EvsParser *parser)
{
	static const char *const keywords[] = {
		"and", "or", "not", "like", "escape", "is", "null", "in", "exists", "true", "false",
	};

	for (int i = 0; i < (int) lengthof(keywords); i++)
		if (evs_parse_is(parser, keywords[i]))
			return true;
	return false;
}

static char *
parse_name(EvsParser *parser)
{
	char	   *name = parser->token;

	if (parser->kind != EVS_TOKEN_QUOTED_NAME &&
		(parser->kind != EVS_TOKEN_NAME || is_keyword(parser)))
		evs_parse_error(parser, "the name of a property is expected here");
	evs_parse_next(parser);
	return name;
}

/* Brokers' properties that an event has nothing for are NULL. */
static void
set_system_property(EvsParser *parser, EvsExpr *expr, const char *name)
{
	static const struct
	{
		const char *name;
		EvsField	field;
	}			fields[] =
	{
		{"MessageId", EVS_FIELD_ID}, {"CorrelationId", EVS_FIELD_CORRELATION_ID},
		{"Label", EVS_FIELD_TYPE}, {"Subject", EVS_FIELD_TYPE},
		{"SessionId", EVS_FIELD_STREAM}, {"PartitionKey", EVS_FIELD_STREAM},
		{"SequenceNumber", EVS_FIELD_POSITION}, {"EnqueuedSequenceNumber", EVS_FIELD_POSITION},
		{"EnqueuedTimeUtc", EVS_FIELD_RECORDED_AT},
	};
	static const char *const absent[] = {
		"To", "ReplyTo", "ReplyToSessionId", "TimeToLive", "ScheduledEnqueueTimeUtc",
		"ViaPartitionKey", "DeadLetterSource", "DeliveryCount", "ExpiresAtUtc", "LockedUntilUtc",
	};

	expr->operation = BUS_PATH;
	for (int i = 0; i < (int) lengthof(fields); i++)
		if (pg_strcasecmp(name, fields[i].name) == 0)
		{
			expr->path.field = fields[i].field;
			return;
		}
	if (pg_strcasecmp(name, "ContentType") == 0)
	{
		expr->kind = BUS_LITERAL;
		expr->literal.type = jbvString;
		expr->literal.val.string.val = "application/json";
		expr->literal.val.string.len = strlen("application/json");
		return;
	}
	for (int i = 0; i < (int) lengthof(absent); i++)
		if (pg_strcasecmp(name, absent[i]) == 0)
		{
			expr->kind = BUS_LITERAL;
			expr->literal.type = jbvNull;
			return;
		}
	evs_parse_error_at(parser, expr->at, "there is no system property of this name");
}

static void
set_user_property(EvsExpr *expr, char *name)
{
	expr->name = name;
	expr->operation = evs_field_find(name, true, &expr->path.field) &&
		expr->path.field != EVS_FIELD_DATA && expr->path.field != EVS_FIELD_METADATA ?
		BUS_PATH : BUS_ANYWHERE;
}

/* data.address.city: what follows the first point. */
static void
parse_keys(EvsParser *parser, EvsExpr *expr, EvsField field)
{
	int			max = 4;

	expr->operation = BUS_PATH;
	expr->path.field = field;
	expr->path.keys = palloc(sizeof(char *) * max);
	do
	{
		if (expr->path.nkeys == max)
			expr->path.keys = repalloc(expr->path.keys, sizeof(char *) * (max *= 2));
		expr->path.keys[expr->path.nkeys++] = parse_name(parser);
	} while (evs_parse_accept(parser, "."));
}

static EvsExpr *
parse_property(EvsParser *parser)
{
	EvsExpr    *expr = evs_expr_new(BUS_PROPERTY, parser->at);
	bool		is_quoted = parser->kind == EVS_TOKEN_QUOTED_NAME;
	char	   *name = parse_name(parser);

	if (is_quoted || !evs_parse_accept(parser, "."))
		set_user_property(expr, name);
	else if (pg_strcasecmp(name, "sys") == 0)
		set_system_property(parser, expr, parse_name(parser));
	else if (pg_strcasecmp(name, "user") == 0)
		set_user_property(expr, parse_name(parser));
	else if (pg_strcasecmp(name, "data") == 0)
		parse_keys(parser, expr, EVS_FIELD_DATA);
	else if (pg_strcasecmp(name, "metadata") == 0)
		parse_keys(parser, expr, EVS_FIELD_METADATA);
	else
		evs_parse_error_at(parser, expr->at, "scopes are sys, user, data and metadata");
	return expr;
}

/* property('name'), or p('name') */
static EvsExpr *
parse_function(EvsParser *parser)
{
	EvsExpr    *expr = evs_expr_new(BUS_PROPERTY, parser->at);

	if (!evs_parse_is(parser, "property") && !evs_parse_is(parser, "p"))
		evs_parse_error(parser, "there is no function of this name");
	evs_parse_next(parser);
	evs_parse_expect(parser, "(");
	if (parser->kind != EVS_TOKEN_STRING)
		evs_parse_error(parser, "the name of a property, as a string, is expected here");
	set_user_property(expr, parser->token);
	evs_parse_next(parser);
	evs_parse_expect(parser, ")");
	return expr;
}

/* ---- values ---- */

static EvsExpr *
parse_number(EvsParser *parser)
{
	EvsExpr    *expr = evs_expr_new(BUS_LITERAL, parser->at);

	/* as the parser reads them, numbers cannot be wrong or too large */
	expr->literal.type = jbvNumeric;
	expr->literal.val.numeric =
		DatumGetNumeric(DirectFunctionCall3(numeric_in, CStringGetDatum(parser->token),
											ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	evs_parse_next(parser);
	return expr;
}

static EvsExpr *
parse_word(EvsParser *parser)
{
	EvsExpr    *expr = evs_expr_new(BUS_LITERAL, parser->at);

	if (evs_parse_accept(parser, "null"))
		expr->literal.type = jbvNull;
	else if (evs_parse_accept(parser, "true") || evs_parse_accept(parser, "false"))
	{
		expr->literal.type = jbvBool;
		expr->literal.val.boolean = pg_tolower(parser->text[expr->at]) == 't';
	}
	else if (evs_parse_accept(parser, "exists"))
	{
		expr->kind = BUS_EXISTS;
		evs_parse_expect(parser, "(");
		evs_expr_add(parser, expr, parse_property(parser));
		evs_parse_expect(parser, ")");
	}
	else if (parser->kind == EVS_TOKEN_NAME && *parser->next == '(')
		return parse_function(parser);
	else
		return parse_property(parser);
	return expr;
}

static EvsExpr *
parse_value(EvsParser *parser)
{
	EvsExpr    *expr;

	if (evs_parse_accept(parser, "("))
	{
		expr = parse_or(parser);
		evs_parse_expect(parser, ")");
		return expr;
	}
	if (parser->kind == EVS_TOKEN_STRING)
	{
		expr = evs_expr_new(BUS_LITERAL, parser->at);
		expr->literal.type = jbvString;
		expr->literal.val.string.val = parser->token;
		expr->literal.val.string.len = strlen(parser->token);
		evs_parse_next(parser);
		return expr;
	}
	if (parser->kind == EVS_TOKEN_INTEGER || parser->kind == EVS_TOKEN_DECIMAL)
		return parse_number(parser);
	if (parser->kind == EVS_TOKEN_NAME || parser->kind == EVS_TOKEN_QUOTED_NAME)
		return parse_word(parser);
	evs_parse_error(parser, "a value is expected here");
	return NULL;				/* keep compiler quiet */
}

static EvsExpr *
parse_signed(EvsParser *parser)
{
	EvsExpr    *expr;
	int			at = parser->at;
	char		sign = parser->token[0];

	evs_parse_enter(parser);
	if (evs_parse_accept(parser, "+") || evs_parse_accept(parser, "-"))
	{
		expr = evs_expr_new(BUS_SIGN, at);
		expr->operation = sign;
		evs_expr_add(parser, expr, parse_signed(parser));
	}
	else
		expr = parse_value(parser);
	evs_parse_leave(parser);
	return expr;
}

/* ---- operators ---- */

static EvsExpr *
parse_factors(EvsParser *parser)
{
	EvsExpr    *expr = parse_signed(parser);

	while (evs_parse_is(parser, "*") || evs_parse_is(parser, "/") || evs_parse_is(parser, "%"))
	{
		int			at = parser->at;
		char		operation = parser->token[0];

		evs_parse_next(parser);
		expr = evs_expr_binary(parser, BUS_ARITHMETIC, at, operation, expr, parse_signed(parser));
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
		expr = evs_expr_binary(parser, BUS_ARITHMETIC, at, operation, expr, parse_factors(parser));
	}
	return expr;
}

/* IS NULL is for properties: what else is not there? */
static EvsExpr *
parse_is(EvsParser *parser, EvsExpr *left, int at)
{
	EvsExpr    *expr = evs_expr_new(BUS_IS_NULL, at);

	if (left->kind != BUS_PROPERTY && left->kind != BUS_LITERAL)
		evs_parse_error_at(parser, at, "IS is for properties");
	expr->negated = evs_parse_accept(parser, "not");
	evs_parse_expect(parser, "null");
	evs_expr_add(parser, expr, left);
	return expr;
}

static EvsExpr *
parse_in(EvsParser *parser, EvsExpr *left, int at)
{
	EvsExpr    *expr = evs_expr_new(BUS_IN, at);

	evs_expr_add(parser, expr, left);
	evs_parse_expect(parser, "(");
	do
		evs_expr_add(parser, expr, parse_terms(parser));
	while (evs_parse_accept(parser, ","));
	evs_parse_expect(parser, ")");
	return expr;
}

static EvsExpr *
parse_like(EvsParser *parser, EvsExpr *left, int at)
{
	EvsExpr    *expr = evs_expr_binary(parser, BUS_LIKE, at, 0, left, parse_terms(parser));

	if (evs_parse_accept(parser, "escape"))
		evs_expr_add(parser, expr, parse_terms(parser));
	return expr;
}

static EvsExpr *
parse_predicate(EvsParser *parser)
{
	EvsExpr    *expr = parse_terms(parser);
	int			at = parser->at;
	int			comparison = evs_parse_comparison(parser);
	bool		negated;

	if (comparison >= 0)
	{
		evs_parse_next(parser);
		return evs_expr_binary(parser, BUS_COMPARISON, at, comparison, expr, parse_terms(parser));
	}
	if (evs_parse_accept(parser, "is"))
		return parse_is(parser, expr, at);
	negated = evs_parse_accept(parser, "not");
	if (evs_parse_accept(parser, "in"))
		expr = parse_in(parser, expr, at);
	else if (evs_parse_accept(parser, "like"))
		expr = parse_like(parser, expr, at);
	else if (negated)
		evs_parse_error(parser, "IN or LIKE is expected here");
	if (negated)
		expr->negated = true;
	return expr;
}

static EvsExpr *
parse_not(EvsParser *parser)
{
	EvsExpr    *expr;
	int			at = parser->at;

	evs_parse_enter(parser);
	if (evs_parse_accept(parser, "not"))
	{
		expr = evs_expr_new(BUS_NOT, at);
		evs_expr_add(parser, expr, parse_not(parser));
	}
	else
		expr = parse_predicate(parser);
	evs_parse_leave(parser);
	return expr;
}

/* However long, a chain is one node: it takes no stack. */
static EvsExpr *
parse_chain(EvsParser *parser, EvsServicebusKind kind, const char *word,
			EvsExpr *(*parse_operand) (EvsParser *parser))
{
	EvsExpr    *first = parse_operand(parser);
	EvsExpr    *chain;

	if (!evs_parse_is(parser, word))
		return first;
	chain = evs_expr_new(kind, first->at);
	evs_expr_add(parser, chain, first);
	while (evs_parse_accept(parser, word))
		evs_expr_add(parser, chain, parse_operand(parser));
	return chain;
}

static EvsExpr *
parse_and(EvsParser *parser)
{
	return parse_chain(parser, BUS_AND, "and", parse_not);
}

static EvsExpr *
parse_or(EvsParser *parser)
{
	return parse_chain(parser, BUS_OR, "or", parse_and);
}

EvsServicebus *
evs_servicebus_compile(const char *text, const EvsWhere *where)
{
	EvsParser	parser;
	EvsExpr    *result;

	evs_parse_begin(&parser, &language, text, where);
	result = parse_or(&parser);
	if (parser.kind != EVS_TOKEN_END)
		evs_parse_error(&parser, "an operator or the end is expected here");
	if (result->kind == BUS_ARITHMETIC || result->kind == BUS_SIGN ||
		(result->kind == BUS_LITERAL && result->literal.type != jbvBool))
		evs_parse_error_at(&parser, result->at, "the expression is not a condition");
	return result;
}
