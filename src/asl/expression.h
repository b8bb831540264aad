/*
 * expression.h
 *	  Paths, literals and calls of intrinsic functions, compiled.
 */
#ifndef EVSTORE_ASL_EXPRESSION_H
#define EVSTORE_ASL_EXPRESSION_H

#include "asl/template.h"
#include "asl/value.h"

/* Calls within calls, the outermost one counted. */
#define EVS_ASL_CALLS_MAX	10

/* One evaluation, of a template with all that is in it. */
typedef struct EvsAslEvaluation
{
	const EvsAslScope *scope;
	EvsAslError *error;
	Size		made;			/* bytes, of at most EVS_ASL_VALUE_MAX */
} EvsAslEvaluation;

/* A call whose arguments have been evaluated, and are of the right number and types. */
typedef struct EvsAslFunction EvsAslFunction;
typedef struct EvsAslCall
{
	const EvsAslFunction *function;
	int			nargs;
	JsonbValue *args;
	pg_prng_state *random;
	EvsAslError *error;
} EvsAslCall;

struct EvsAslFunction
{
	const char *name;
	int			min_args;
	int			max_args;		/* -1: any number */
	const char *types;			/* one letter an argument, the last one for
								 * all that follow: s, n, b, a(rray),
								 * o(bject), v(alue), any; p(rimitive), none
								 * of array and object */
	bool		(*call) (const EvsAslCall *call, JsonbValue *result);
};

/* NULL: there is no such function. */
extern const EvsAslFunction *evs_asl_function_find(const char *name, int len);

/* Did it succeed?  If not there is an error. */
extern bool evs_asl_call(const EvsAslCall *call, JsonbValue *result);

/* Count what has been made; false: it is too much, and an error. */
extern bool evs_asl_made(EvsAslEvaluation *evaluation, Size size);

extern bool evs_asl_evaluate(const EvsAslExpression *expression, EvsAslEvaluation *evaluation,
							 JsonbValue *result);

#endif							/* EVSTORE_ASL_EXPRESSION_H */
