/*
 * path_filter.c
 *	  Filters in paths: [?(@.price < 10 && @.name == 'x')].
 *
 * Comparisons are those of RFC 9535: values of different types are not equal, only
 * numbers and strings have an order, and what is not there equals only what is not
 * there either.  A path alone is true if it names something, whatever that is.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "asl/path_node.h"
#include "compat.h"

/* ---- parsing ---- */

static EvsAslFilter *parse_or(EvsAslParser *parser);

static EvsAslFilter *
make_filter(EvsAslFilterKind kind, EvsAslFilter *left, EvsAslFilter *right)
{
	EvsAslFilter *filter = palloc0(sizeof(EvsAslFilter));

	filter->kind = kind;
	filter->left = left;
	filter->right = right;
	return filter;
}

static bool
parse_number(EvsAslParser *parser, JsonbValue *value)
{
	int			len = evs_asl_number_length(parser->p);

	if (len == 0)
		return false;
	value->type = jbvNumeric;
	value->val.numeric = evs_asl_number_in(parser->p, len);
	if (value->val.numeric == NULL)
		return evs_asl_parser_fail(parser, "a number is too large") != NULL;
	parser->p += len;
	return true;
}

static bool
parse_literal(EvsAslParser *parser, JsonbValue *value)
{
	if (*parser->p == '\'' || *parser->p == '"')
	{
		char	   *s = evs_asl_parse_quoted(parser);

		if (s == NULL)
			return false;
		evs_asl_set_string(value, s, strlen(s));
		return true;
	}
	if (evs_asl_accept(parser, "true"))
		evs_asl_set_bool(value, true);
	else if (evs_asl_accept(parser, "false"))
		evs_asl_set_bool(value, false);
	else if (evs_asl_accept(parser, "null"))
		value->type = jbvNull;
	else if (!parse_number(parser, value))
		return evs_asl_parser_fail(parser, "a path or a value is missing") != NULL;
	return true;
}

static bool
parse_operand(EvsAslParser *parser, EvsAslOperand *operand)
{
	evs_asl_skip_space(parser);
	if (*parser->p == '@' || *parser->p == '$')
	{
		operand->path = evs_asl_parse_path(parser, true);
		return operand->path != NULL;
	}
	return parse_literal(parser, &operand->literal);
}

static bool
parse_comparison_operator(EvsAslParser *parser, EvsAslComparison *comparison)
{
	static const struct
	{
		const char *token;
		EvsAslComparison comparison;
	}			operators[] =
	{
		{"===", EVS_ASL_EQ}, {"!==", EVS_ASL_NE}, {"==", EVS_ASL_EQ}, {"!=", EVS_ASL_NE},
		{"<=", EVS_ASL_LE}, {">=", EVS_ASL_GE}, {"<", EVS_ASL_LT}, {">", EVS_ASL_GT},
	};

	evs_asl_skip_space(parser);
	for (int i = 0; i < (int) lengthof(operators); i++)
		if (evs_asl_accept(parser, operators[i].token))
		{
			*comparison = operators[i].comparison;
			return true;
		}
	return false;
}

static EvsAslFilter *
parse_test(EvsAslParser *parser)
{
	EvsAslFilter *filter = make_filter(EVS_ASL_EXISTS, NULL, NULL);

	if (++parser->tests > EVS_ASL_TESTS_MAX)
		return evs_asl_parser_fail(parser, "there are too many comparisons");
	if (!parse_operand(parser, &filter->a))
		return NULL;
	if (!parse_comparison_operator(parser, &filter->comparison))
	{
		if (filter->a.path == NULL)
			return evs_asl_parser_fail(parser, "a value is compared with nothing");
		return filter;
	}
	filter->kind = EVS_ASL_COMPARE;
	if (!parse_operand(parser, &filter->b))
		return NULL;
	if ((filter->a.path != NULL && !filter->a.path->definite) ||
		(filter->b.path != NULL && !filter->b.path->definite))
		return evs_asl_parser_fail(parser, "a path that is compared may name only one value");
	return filter;
}

/* Each level that nests comes by here. */
static EvsAslFilter *
parse_unary(EvsAslParser *parser)
{
	EvsAslFilter *filter;

	if (++parser->depth > EVS_ASL_DEPTH_MAX)
		return evs_asl_parser_fail(parser, "the filter nests too deeply");
	evs_asl_skip_space(parser);
	if (evs_asl_accept(parser, "!"))
	{
		filter = parse_unary(parser);
		if (filter != NULL)
			filter = make_filter(EVS_ASL_NOT, filter, NULL);
	}
	else if (evs_asl_accept(parser, "("))
	{
		filter = parse_or(parser);
		evs_asl_skip_space(parser);
		if (filter != NULL && !evs_asl_accept(parser, ")"))
			filter = evs_asl_parser_fail(parser, "a comparison, && or || or \")\" is missing");
	}
	else
		filter = parse_test(parser);
	parser->depth--;
	return filter;
}

static EvsAslFilter *
parse_and(EvsAslParser *parser)
{
	EvsAslFilter *filter = parse_unary(parser);

	evs_asl_skip_space(parser);
	while (filter != NULL && evs_asl_accept(parser, "&&"))
	{
		EvsAslFilter *right = parse_unary(parser);

		filter = right == NULL ? NULL : make_filter(EVS_ASL_AND, filter, right);
		evs_asl_skip_space(parser);
	}
	return filter;
}

static EvsAslFilter *
parse_or(EvsAslParser *parser)
{
	EvsAslFilter *filter = parse_and(parser);

	while (filter != NULL && evs_asl_accept(parser, "||"))
	{
		EvsAslFilter *right = parse_and(parser);

		filter = right == NULL ? NULL : make_filter(EVS_ASL_OR, filter, right);
	}
	return filter;
}

EvsAslFilter *
evs_asl_parse_filter(EvsAslParser *parser)
{
	return parse_or(parser);
}

/* ---- evaluation ---- */

static bool
get_operand(const EvsAslOperand *operand, const EvsAslScope *scope, const JsonbValue *current,
			JsonbValue *value)
{
	if (operand->path != NULL)
		return evs_asl_path_follow(operand->path, scope, current, value);
	*value = operand->literal;
	return true;
}

static bool
compare(EvsAslComparison comparison, const JsonbValue *a, const JsonbValue *b)
{
	int			order;
	bool		ordered = a != NULL && b != NULL && evs_asl_compare(a, b, &order);
	bool		equal = a == NULL || b == NULL ? a == b : evs_asl_equal(a, b);

	switch (comparison)
	{
		case EVS_ASL_EQ:
			return equal;
		case EVS_ASL_NE:
			return !equal;
		case EVS_ASL_LT:
			return ordered && order < 0;
		case EVS_ASL_LE:
			return equal || (ordered && order < 0);
		case EVS_ASL_GT:
			return ordered && order > 0;
		case EVS_ASL_GE:
			return equal || (ordered && order > 0);
	}
	return false;
}

bool
evs_asl_filter_matches(const EvsAslFilter *filter, const EvsAslScope *scope,
					   const JsonbValue *current)
{
	JsonbValue	a;
	JsonbValue	b;
	bool		has_a;
	bool		has_b;

	check_stack_depth();
	switch (filter->kind)
	{
		case EVS_ASL_OR:
			return evs_asl_filter_matches(filter->left, scope, current) ||
				evs_asl_filter_matches(filter->right, scope, current);
		case EVS_ASL_AND:
			return evs_asl_filter_matches(filter->left, scope, current) &&
				evs_asl_filter_matches(filter->right, scope, current);
		case EVS_ASL_NOT:
			return !evs_asl_filter_matches(filter->left, scope, current);
		case EVS_ASL_EXISTS:
			return evs_asl_path_exists(filter->a.path, scope, current);
		default:
			has_a = get_operand(&filter->a, scope, current, &a);
			has_b = get_operand(&filter->b, scope, current, &b);
			return compare(filter->comparison, has_a ? &a : NULL, has_b ? &b : NULL);
	}
}
