/*
 * template.h
 *	  Payload templates: Parameters, ResultSelector, ItemSelector, Assign.
 *
 * JSON in which the value of a member whose name ends in ".$" is a path or a call of
 * an intrinsic function (States.Format(...) and 17 others).
 */
#ifndef EVSTORE_ASL_TEMPLATE_H
#define EVSTORE_ASL_TEMPLATE_H

#include "asl/asl.h"
#include "asl/path.h"

typedef struct EvsAslTemplate EvsAslTemplate;
typedef struct EvsAslExpression EvsAslExpression;

/* Told of each thing that is wrong: where below the template (".a[0].b.$"), and what. */
typedef void (*EvsAslReport) (void *arg, const char *where, const char *problem);

/* In the current memory context, without what is wrong. */
extern EvsAslTemplate *evs_asl_template_compile(Jsonb *template, EvsAslReport report, void *arg);
extern Jsonb *evs_asl_template_apply(const EvsAslTemplate *template, const EvsAslScope *scope,
									 EvsAslError *error);

/* A path, or a call of an intrinsic function, as text.  NULL: it is none. */
extern EvsAslExpression *evs_asl_expression_compile(const char *text, char **problem);
extern Jsonb *evs_asl_expression_get(const EvsAslExpression *expression, const EvsAslScope *scope,
									 EvsAslError *error);

#endif							/* EVSTORE_ASL_TEMPLATE_H */
