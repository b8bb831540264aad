/*
 * pubsub.c
 *	  Filters of attributes as Pub/Sub writes them:
 *
 *	  attributes:key                      there is one
 *	  attributes.key = "value"            or != "value"
 *	  hasPrefix(attributes.key, "value")
 *	  NOT, -, AND, OR, brackets
 *
 * Case counts, in keywords too.  AND and OR are not mixed without brackets.  != is
 * the opposite of =, so it is true of an event without the attribute.
 */
#include "postgres.h"

#include "filter/parse.h"
#include "filter/pubsub.h"
#include "compat.h"

enum
{
	NODE_HAS,
	NODE_EQUALS,
	NODE_PREFIX,
	NODE_NOT,
	NODE_AND,
	NODE_OR
};

static const EvsLanguage language = {
	.string_quotes = "\"", .name_quotes = "", .name_characters = "_-",
	.backslash = EVS_BACKSLASH_C,
};

static EvsExpr *parse_condition(EvsParser *parser);

/* ---- compiling ---- */

/* "attributes", and what stands between it and the key. */
static void
parse_attributes(EvsParser *parser)
{
	if (!evs_parse_accept(parser, "attributes"))
		evs_parse_error(parser, "attributes, hasPrefix, NOT or a bracket is expected here");
}

static void
parse_key(EvsParser *parser, EvsExpr *expr)
{
	if (parser->kind != EVS_TOKEN_NAME && parser->kind != EVS_TOKEN_STRING &&
		parser->kind != EVS_TOKEN_INTEGER)
		evs_parse_error(parser, "the key of an attribute is expected here");
	expr->name = parser->token;
	if (!evs_field_find(expr->name, false, &expr->path.field))
	{
		expr->path.field = EVS_FIELD_METADATA;
		expr->path.nkeys = 1;
		expr->path.keys = &expr->name;
	}
	evs_parse_next(parser);
}

static void
parse_value(EvsParser *parser, EvsExpr *expr)
{
	if (parser->kind != EVS_TOKEN_STRING)
		evs_parse_error(parser, "a string in double quotes is expected here");
	expr->literal.type = jbvString;
	expr->literal.val.string.val = parser->token;
	expr->literal.val.string.len = strlen(parser->token);
	evs_parse_next(parser);
}

static EvsExpr *
parse_prefix(EvsParser *parser)
{
	EvsExpr    *expr = evs_expr_new(NODE_PREFIX, parser->at);

	evs_parse_expect(parser, "(");
	parse_attributes(parser);
	evs_parse_expect(parser, ".");
	parse_key(parser, expr);
	evs_parse_expect(parser, ",");
	parse_value(parser, expr);
	evs_parse_expect(parser, ")");
	return expr;
}

static EvsExpr *
parse_comparison(EvsParser *parser)
{
	EvsExpr    *expr = evs_expr_new(NODE_HAS, parser->at);

	parse_attributes(parser);
	if (evs_parse_accept(parser, ":"))
	{
		parse_key(parser, expr);
		return expr;
	}
	evs_parse_expect(parser, ".");
	parse_key(parser, expr);
	expr->kind = NODE_EQUALS;
	expr->negated = evs_parse_accept(parser, "!=");
	if (!expr->negated)
		evs_parse_expect(parser, "=");
	parse_value(parser, expr);
	return expr;
}

static EvsExpr *
parse_term(EvsParser *parser)
{
	int			at = parser->at;
	EvsExpr    *expr;

	evs_parse_enter(parser);
	if (evs_parse_accept(parser, "NOT") || evs_parse_accept(parser, "-"))
	{
		expr = evs_expr_new(NODE_NOT, at);
		evs_expr_add(parser, expr, parse_term(parser));
	}
	else if (evs_parse_accept(parser, "("))
	{
		expr = parse_condition(parser);
		evs_parse_expect(parser, ")");
	}
	else if (evs_parse_accept(parser, "hasPrefix"))
		expr = parse_prefix(parser);
	else
		expr = parse_comparison(parser);
	evs_parse_leave(parser);
	return expr;
}

static EvsExpr *
parse_condition(EvsParser *parser)
{
	EvsExpr    *first = parse_term(parser);
	EvsExpr    *list;
	const char *word;

	if (!evs_parse_is(parser, "AND") && !evs_parse_is(parser, "OR"))
		return first;
	word = evs_parse_is(parser, "AND") ? "AND" : "OR";
	list = evs_expr_new(strcmp(word, "AND") == 0 ? NODE_AND : NODE_OR, first->at);
	evs_expr_add(parser, list, first);
	while (evs_parse_accept(parser, word))
		evs_expr_add(parser, list, parse_term(parser));
	if (evs_parse_is(parser, "AND") || evs_parse_is(parser, "OR"))
		evs_parse_error(parser, "AND and OR need brackets where both are used");
	return list;
}

EvsPubsub *
evs_pubsub_compile(const char *text, const EvsWhere *where)
{
	EvsParser	parser;
	EvsExpr    *result;

	evs_parse_begin(&parser, &language, text, where);
	result = parse_condition(&parser);
	if (parser.kind != EVS_TOKEN_END)
		evs_parse_error(&parser, "AND, OR or the end is expected here");
	return result;
}

/* ---- matching ---- */

/* The attribute as text; NULL if there is none. */
static char *
get_attribute(const EvsExpr *expr, EvsDocument *document)
{
	JsonbValue	value;

	return evs_document_follow(document, &expr->path, &value) ? evs_json_to_string(&value) : NULL;
}

static bool
attribute_matches(const EvsExpr *expr, EvsDocument *document)
{
	char	   *value = get_attribute(expr, document);
	bool		result;

	if (expr->kind == NODE_HAS)
		return value != NULL;
	if (expr->kind == NODE_PREFIX)
		return value != NULL &&
			strncmp(value, expr->literal.val.string.val, expr->literal.val.string.len) == 0;
	result = value != NULL && strcmp(value, expr->literal.val.string.val) == 0;
	return result != expr->negated;
}

bool
evs_pubsub_match(const EvsPubsub *expr, EvsDocument *document)
{
	bool		is_and = expr->kind == NODE_AND;

	if (expr->kind == NODE_NOT)
		return !evs_pubsub_match(expr->args[0], document);
	if (expr->kind != NODE_AND && expr->kind != NODE_OR)
		return attribute_matches(expr, document);
	for (int i = 0; i < expr->nargs; i++)
		if (evs_pubsub_match(expr->args[i], document) != is_and)
			return !is_and;
	return is_and;
}
