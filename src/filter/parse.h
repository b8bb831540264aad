/*
 * parse.h
 *	  Tokens and trees of the languages that filters are written in.
 */
#ifndef EVSTORE_FILTER_PARSE_H
#define EVSTORE_FILTER_PARSE_H

#include "filter/compile.h"
#include "filter/document.h"
#include "filter/glob.h"

typedef enum EvsTokenKind
{
	EVS_TOKEN_END,
	EVS_TOKEN_NAME,
	EVS_TOKEN_QUOTED_NAME,
	EVS_TOKEN_INTEGER,
	EVS_TOKEN_DECIMAL,
	EVS_TOKEN_STRING,
	EVS_TOKEN_SYMBOL
} EvsTokenKind;

/* What a backslash in a string means. */
typedef enum EvsBackslash
{
	EVS_BACKSLASH_NOTHING,		/* itself */
	EVS_BACKSLASH_QUOTE,		/* before the quote: the quote; else itself */
	EVS_BACKSLASH_C				/* what it does in C */
} EvsBackslash;

typedef struct EvsLanguage
{
	const char *string_quotes;
	const char *name_quotes;	/* a [ is closed by ] */
	const char *name_characters;	/* beside ASCII letters and digits */
	bool		any_letter;		/* beyond ASCII, too */
	bool		decimals;		/* numbers are not just integers */
	bool		any_case;		/* of keywords */
	bool		doubled_quotes; /* two quotes are one */
	EvsBackslash backslash;
} EvsLanguage;

/* The current token is what was read last. */
typedef struct EvsParser
{
	const EvsLanguage *language;
	const EvsWhere *where;
	const char *text;
	const char *next;			/* behind the token */
	int			depth;			/* of brackets and the like */

	EvsTokenKind kind;
	int			at;				/* where the token begins, in bytes */
	char	   *token;			/* strings and names without quotes */
} EvsParser;

/* Begin with the first token. */
extern void evs_parse_begin(EvsParser *parser, const EvsLanguage *language, const char *text,
							const EvsWhere *where);
extern void evs_parse_next(EvsParser *parser);

/* Is the current token this keyword or symbol?  Pass it if it is; throw if it is not. */
extern bool evs_parse_is(const EvsParser *parser, const char *word);
extern bool evs_parse_accept(EvsParser *parser, const char *word);
extern void evs_parse_expect(EvsParser *parser, const char *word);

/* Throw about the current token, or about another place. */
extern void evs_parse_error(const EvsParser *parser, const char *reason);
extern void evs_parse_error_at(const EvsParser *parser, int at, const char *reason);

/* Around whatever calls itself: throws where that goes too deep. */
extern void evs_parse_enter(EvsParser *parser);
extern void evs_parse_leave(EvsParser *parser);

/* A node of an expression's tree; kinds are those of the language. */
typedef struct EvsExpr
{
	int			kind;
	int			at;				/* in the text, in bytes */
	int			depth;			/* of the tree below */
	bool		negated;
	int			operation;
	JsonbValue	literal;
	char	   *name;
	EvsPath		path;
	EvsGlob    *glob;
	int			nargs;
	int			max_args;
	struct EvsExpr **args;
} EvsExpr;

extern EvsExpr *evs_expr_new(int kind, int at);

/* Throws if the tree is too deep for an evaluation that calls itself. */
extern void evs_expr_add(EvsParser *parser, EvsExpr *expr, EvsExpr *arg);

/* One with two arguments. */
extern EvsExpr *evs_expr_binary(EvsParser *parser, int kind, int at, int operation,
								EvsExpr *left, EvsExpr *right);

typedef enum EvsComparison
{
	EVS_COMPARE_EQUAL,
	EVS_COMPARE_UNEQUAL,
	EVS_COMPARE_LESS,
	EVS_COMPARE_LESS_EQUAL,
	EVS_COMPARE_GREATER,
	EVS_COMPARE_GREATER_EQUAL
} EvsComparison;

/* Which comparison stands here?  -1 = none. */
extern int	evs_parse_comparison(const EvsParser *parser);

#endif							/* EVSTORE_FILTER_PARSE_H */
