/*
 * parse.c
 *	  Tokens and trees of the languages that filters are written in.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"

#include "filter/parse.h"
#include "compat.h"

/* ---- errors ---- */

void
evs_parse_error_at(const EvsParser *parser, int at, const char *reason)
{
	evs_filter_invalid_text(parser->where, parser->text, at, reason);
}

void
evs_parse_error(const EvsParser *parser, const char *reason)
{
	evs_parse_error_at(parser, parser->at, reason);
}

void
evs_parse_enter(EvsParser *parser)
{
	check_stack_depth();
	if (++parser->depth > EVS_FILTER_DEPTH_MAX)
		evs_parse_error(parser, "it is nested too deeply");
}

void
evs_parse_leave(EvsParser *parser)
{
	parser->depth--;
}

/* ---- tokens ---- */

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_name_character(const EvsLanguage *language, char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) ||
		(c != '\0' && strchr(language->name_characters, c) != NULL) ||
		(IS_HIGHBIT_SET(c) && language->any_letter);
}

/* The value of so many digits of a base, at least one. */
static pg_wchar
read_digits(EvsParser *parser, const char **s, int base, int least, int most)
{
	pg_wchar	value = 0;
	int			n;

	for (n = 0; n < most; n++)
	{
		char		c = **s;
		int			digit = is_digit(c) ? c - '0' :
		isxdigit((unsigned char) c) ? pg_tolower(c) - 'a' + 10 : base;

		if (digit >= base)
			break;
		value = value * base + digit;
		(*s)++;
	}
	if (n < least)
		evs_parse_error_at(parser, *s - parser->text, "the escape is not complete");
	return value;
}

/* Behind a backslash. */
static void
append_escape(EvsParser *parser, StringInfo buf, const char **s)
{
	static const char letters[] = "abfnrtv";
	static const char meanings[] = "\a\b\f\n\r\t\v";
	const char *begin = *s - 1;
	char		c = *(*s)++;
	const char *letter = c != '\0' ? strchr(letters, c) : NULL;
	pg_wchar	code = 0;
	unsigned char encoded[MAX_UNICODE_EQUIVALENT_STRING + 1];

	if (letter != NULL)
	{
		appendStringInfoChar(buf, meanings[letter - letters]);
		return;
	}
	if (c != '\0' && strchr("\\\"'`?", c) != NULL)
	{
		appendStringInfoChar(buf, c);
		return;
	}
	if (c == 'x')
		code = read_digits(parser, s, 16, 2, 2);
	else if (c == 'u')
		code = read_digits(parser, s, 16, 4, 4);
	else if (c == 'U')
		code = read_digits(parser, s, 16, 8, 8);
	else if (c >= '0' && c <= '7')
	{
		(*s)--;
		code = read_digits(parser, s, 8, 3, 3);
	}
	else
		evs_parse_error_at(parser, begin - parser->text, "the escape is not known");
	if (!is_valid_unicode_codepoint(code) || (code >= 0xD800 && code <= 0xDFFF))
		evs_parse_error_at(parser, begin - parser->text, "there is no such character");
	pg_unicode_to_server(code, encoded);
	appendStringInfoString(buf, (char *) encoded);
}

/* A string, or a name, between quotes. */
static void
read_quoted(EvsParser *parser, EvsTokenKind kind)
{
	const EvsLanguage *language = parser->language;
	const char *s = parser->text +parser->at;
	char		quote = *s == '[' ? ']' : *s;
	EvsBackslash backslash = kind == EVS_TOKEN_STRING ? language->backslash : EVS_BACKSLASH_NOTHING;
	StringInfoData buf;

	initStringInfo(&buf);
	for (s++;;)
	{
		if (*s == '\0')
			evs_parse_error(parser, "the quote is not closed");
		else if (*s == quote && s[1] == quote && language->doubled_quotes)
		{
			appendStringInfoChar(&buf, quote);
			s += 2;
		}
		else if (*s == quote)
			break;
		else if (*s == '\\' && backslash == EVS_BACKSLASH_C)
		{
			s++;
			append_escape(parser, &buf, &s);
		}
		else if (*s == '\\' && backslash == EVS_BACKSLASH_QUOTE && s[1] != '\0')
		{
			/* what follows ends nothing, whatever it is */
			int			len = pg_mblen(s + 1);

			if (s[1] != quote)
				appendStringInfoChar(&buf, '\\');
			appendBinaryStringInfo(&buf, s + 1, len);
			s += 1 + len;
		}
		else
		{
			int			len = pg_mblen(s);

			appendBinaryStringInfo(&buf, s, len);
			s += len;
		}
	}
	parser->kind = kind;
	parser->token = buf.data;
	parser->next = s + 1;
}

/* 12, 12.5, .5, 1e3: an integer unless there is a point or an exponent. */
static void
read_number(EvsParser *parser)
{
	const char *begin = parser->text +parser->at;
	const char *s = begin;

	parser->kind = EVS_TOKEN_INTEGER;
	while (is_digit(*s))
		s++;
	if (parser->language->decimals && *s == '.')
	{
		parser->kind = EVS_TOKEN_DECIMAL;
		for (s++; is_digit(*s); s++)
			;
	}
	if (parser->language->decimals && (*s == 'e' || *s == 'E'))
	{
		const char *digits = s + 1 + (s[1] == '+' || s[1] == '-' ? 1 : 0);

		parser->kind = EVS_TOKEN_DECIMAL;
		for (s = digits; is_digit(*s); s++)
			;
		if (s == digits || s - digits > 3)
			evs_parse_error(parser, "the number is not valid");
	}
	parser->token = pnstrdup(begin, s - begin);
	parser->next = s;
	if (parser->language->decimals && is_name_character(parser->language, *s))
		evs_parse_error(parser, "the number is not valid");
}

static void
read_name(EvsParser *parser)
{
	const char *begin = parser->text +parser->at;
	const char *s = begin;

	while (is_name_character(parser->language, *s))
		s++;
	parser->kind = EVS_TOKEN_NAME;
	parser->token = pnstrdup(begin, s - begin);
	parser->next = s;
	/* where names may begin with digits, one of digits alone is a number */
	if (strspn(parser->token, "0123456789") == s - begin)
		parser->kind = EVS_TOKEN_INTEGER;
}

static void
read_symbol(EvsParser *parser)
{
	static const char *const pairs[] = {"<>", "!=", "<=", ">="};
	const char *begin = parser->text +parser->at;
	int			len = 1;

	for (int i = 0; i < (int) lengthof(pairs); i++)
		if (strncmp(begin, pairs[i], 2) == 0)
			len = 2;
	if (len == 1 && strchr("()=<>+-*/%,.:", *begin) == NULL)
		evs_parse_error(parser, "the character has no meaning here");
	parser->kind = EVS_TOKEN_SYMBOL;
	parser->token = pnstrdup(begin, len);
	parser->next = begin + len;
}

void
evs_parse_next(EvsParser *parser)
{
	const EvsLanguage *language = parser->language;
	const char *s = parser->next;

	while (*s == ' ' || *s == '\t' || *s == '\r' || *s == '\n')
		s++;
	parser->at = s - parser->text;
	if (*s == '\0')
	{
		parser->kind = EVS_TOKEN_END;
		parser->token = "";
		parser->next = s;
	}
	else if (strchr(language->string_quotes, *s) != NULL)
		read_quoted(parser, EVS_TOKEN_STRING);
	else if (strchr(language->name_quotes, *s) != NULL)
		read_quoted(parser, EVS_TOKEN_QUOTED_NAME);
	else if (language->decimals && (is_digit(*s) || (*s == '.' && is_digit(s[1]))))
		read_number(parser);
	else if (is_name_character(language, *s) && *s != '-')
		read_name(parser);
	else
		read_symbol(parser);
}

void
evs_parse_begin(EvsParser *parser, const EvsLanguage *language, const char *text,
				const EvsWhere *where)
{
	memset(parser, 0, sizeof(EvsParser));
	parser->language = language;
	parser->where = where;
	parser->text = parser->next = text;

	evs_parse_next(parser);
}

bool
evs_parse_is(const EvsParser *parser, const char *word)
{
	if (parser->kind == EVS_TOKEN_NAME && parser->language->any_case)
		return pg_strcasecmp(parser->token, word) == 0;
	return (parser->kind == EVS_TOKEN_NAME || parser->kind == EVS_TOKEN_SYMBOL) &&
		strcmp(parser->token, word) == 0;
}

bool
evs_parse_accept(EvsParser *parser, const char *word)
{
	if (!evs_parse_is(parser, word))
		return false;
	evs_parse_next(parser);
	return true;
}

void
evs_parse_expect(EvsParser *parser, const char *word)
{
	if (!evs_parse_accept(parser, word))
		evs_parse_error(parser, psprintf("%s is expected here", word));
}

/* ---- trees ---- */

EvsExpr *
evs_expr_new(int kind, int at)
{
	EvsExpr    *expr = palloc0(sizeof(EvsExpr));

	expr->kind = kind;
	expr->at = at;
	return expr;
}

void
evs_expr_add(EvsParser *parser, EvsExpr *expr, EvsExpr *arg)
{
	if (expr->nargs == expr->max_args)
	{
		expr->max_args = Max(2, expr->max_args * 2);
		expr->args = expr->args == NULL ?
			palloc(sizeof(EvsExpr *) * expr->max_args) :
			repalloc(expr->args, sizeof(EvsExpr *) * expr->max_args);
	}
	expr->args[expr->nargs++] = arg;
	expr->depth = Max(expr->depth, arg->depth + 1);
	if (expr->depth > EVS_FILTER_DEPTH_MAX)
		evs_parse_error_at(parser, expr->at, "it is nested too deeply");
}

EvsExpr *
evs_expr_binary(EvsParser *parser, int kind, int at, int operation, EvsExpr *left, EvsExpr *right)
{
	EvsExpr    *expr = evs_expr_new(kind, at);

	expr->operation = operation;
	evs_expr_add(parser, expr, left);
	evs_expr_add(parser, expr, right);
	return expr;
}

int
evs_parse_comparison(const EvsParser *parser)
{
	static const struct
	{
		const char *symbol;
		EvsComparison comparison;
	}			symbols[] =
	{
		{"=", EVS_COMPARE_EQUAL}, {"!=", EVS_COMPARE_UNEQUAL}, {"<>", EVS_COMPARE_UNEQUAL},
		{"<", EVS_COMPARE_LESS}, {"<=", EVS_COMPARE_LESS_EQUAL},
		{">", EVS_COMPARE_GREATER}, {">=", EVS_COMPARE_GREATER_EQUAL},
	};

	for (int i = 0; i < (int) lengthof(symbols); i++)
		if (evs_parse_is(parser, symbols[i].symbol))
			return symbols[i].comparison;
	return -1;
}
