/*
 * choice.h
 *	  Rules of Choice states: the data-test expressions, And, Or, Not.
 */
#ifndef EVSTORE_ASL_CHOICE_H
#define EVSTORE_ASL_CHOICE_H

#include "asl/asl.h"
#include "asl/template.h"

typedef struct EvsAslRule EvsAslRule;

/*
 * In the current memory context.  Next, Assign, Comment and Output of a top-level rule
 * are the caller's.
 */
extern EvsAslRule *evs_asl_rule_compile(Jsonb *rule, EvsAslReport report, void *arg);

/* A path that names nothing is an error, but for IsPresent. */
extern bool evs_asl_rule_matches(const EvsAslRule *rule, const EvsAslScope *scope, EvsAslError *error);

#endif							/* EVSTORE_ASL_CHOICE_H */
