/*
 * path_node.h
 *	  A compiled path: for what parses it, and what follows it.
 */
#ifndef EVSTORE_ASL_PATH_NODE_H
#define EVSTORE_ASL_PATH_NODE_H

#include "asl/path.h"
#include "asl/value.h"

/* Steps of a path, and items of a union. */
#define EVS_ASL_STEPS_MAX	100

/*
 * Values that are looked at on the way of one path, and how deep in a document: with
 * more of them it finds too much.
 */
#define EVS_ASL_VISITS_MAX			10000000
#define EVS_ASL_VISITS_DEPTH_MAX	1000

/* Comparisons and paths in the filters of one path. */
#define EVS_ASL_TESTS_MAX	1000

typedef struct EvsAslFilter EvsAslFilter;

typedef enum EvsAslStepKind
{
	EVS_ASL_NAME,				/* .name ['name'] */
	EVS_ASL_INDEX,				/* [n] [-n] */
	EVS_ASL_WILDCARD,			/* .* [*] */
	EVS_ASL_SLICE,				/* [a:b:c] */
	EVS_ASL_UNION,				/* [a,b] */
	EVS_ASL_FILTER,				/* [?(...)] */
	EVS_ASL_DESCEND				/* .. : the value, and all that is below it */
} EvsAslStepKind;

typedef struct EvsAslStep EvsAslStep;
struct EvsAslStep
{
	EvsAslStepKind kind;
	char	   *name;
	int			name_len;
	int64		index;			/* or the slice's start */
	int64		end;			/* of a slice */
	int64		step;
	bool		has_start;
	bool		has_end;
	int			nitems;			/* of a union: steps of any other kind */
	EvsAslStep *items;
	EvsAslFilter *filter;
};

typedef enum EvsAslRoot
{
	EVS_ASL_ROOT_INPUT,			/* $ */
	EVS_ASL_ROOT_CONTEXT,		/* $$ */
	EVS_ASL_ROOT_VARIABLE,		/* $name */
	EVS_ASL_ROOT_CURRENT		/* @, in a filter */
} EvsAslRoot;

struct EvsAslPath
{
	char	   *text;
	EvsAslRoot	root;
	char	   *variable;
	bool		definite;
	int			nsteps;
	EvsAslStep *steps;
};

typedef enum EvsAslFilterKind
{
	EVS_ASL_OR,
	EVS_ASL_AND,
	EVS_ASL_NOT,
	EVS_ASL_EXISTS,				/* a path alone */
	EVS_ASL_COMPARE
} EvsAslFilterKind;

typedef enum EvsAslComparison
{
	EVS_ASL_EQ,
	EVS_ASL_NE,
	EVS_ASL_LT,
	EVS_ASL_LE,
	EVS_ASL_GT,
	EVS_ASL_GE
} EvsAslComparison;

/* One side of a comparison: a definite path, or a literal. */
typedef struct EvsAslOperand
{
	EvsAslPath *path;			/* NULL: a literal */
	JsonbValue	literal;
} EvsAslOperand;

struct EvsAslFilter
{
	EvsAslFilterKind kind;
	EvsAslFilter *left;			/* of OR, AND, NOT */
	EvsAslFilter *right;
	EvsAslComparison comparison;
	EvsAslOperand a;			/* of EXISTS and COMPARE */
	EvsAslOperand b;
};

/* ---- parsing ---- */

/* A text being parsed; problem is set once. */
typedef struct EvsAslParser
{
	const char *text;
	const char *p;
	int			depth;			/* of what nests */
	int			tests;			/* of filters, so far */
	char	   *problem;
} EvsAslParser;

/* Returns NULL; the message is followed by the place. */
extern void *evs_asl_parser_fail(EvsAslParser *parser, const char *problem);

extern void evs_asl_skip_space(EvsAslParser *parser);
extern bool evs_asl_accept(EvsAslParser *parser, const char *token);

/*
 * A path that may be followed by something else: it ends at white space, a comma or a
 * parenthesis, and in a filter at an operator.
 */
extern EvsAslPath *evs_asl_parse_path(EvsAslParser *parser, bool in_filter);
extern EvsAslFilter *evs_asl_parse_filter(EvsAslParser *parser);

/* A quoted string, unescaped. */
extern char *evs_asl_parse_quoted(EvsAslParser *parser);

/* ---- following ---- */

/* What a path begins at; current is that of @.  False: there is none. */
extern bool evs_asl_path_start(const EvsAslPath *path, const EvsAslScope *scope,
							   const JsonbValue *current, JsonbValue *value);

/* A definite path; false: it names nothing. */
extern bool evs_asl_path_follow(const EvsAslPath *path, const EvsAslScope *scope,
								const JsonbValue *current, JsonbValue *value);

/* Any path; false: as evs_asl_path_get(). */
extern bool evs_asl_path_value(const EvsAslPath *path, const EvsAslScope *scope, JsonbValue *value);

/* Does it name anything? */
extern bool evs_asl_path_exists(const EvsAslPath *path, const EvsAslScope *scope,
								const JsonbValue *current);

extern bool evs_asl_filter_matches(const EvsAslFilter *filter, const EvsAslScope *scope,
								   const JsonbValue *current);

#endif							/* EVSTORE_ASL_PATH_NODE_H */
