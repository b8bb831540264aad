/*
 * matcher.h
 *	  Conditions on one value, as EventBridge patterns and SNS filter policies
 *	  write them.
 */
#ifndef EVSTORE_MATCHER_H
#define EVSTORE_MATCHER_H

#include "filter/compile.h"

typedef struct EvsMatcher EvsMatcher;

/* Any one of the conditions in the array; throws VS010. */
extern EvsMatcher *evs_matcher_compile(const JsonbValue *conditions, const EvsWhere *where);

/* value NULL: there is none.  Of an array, one element must match. */
extern bool evs_matcher_match(const EvsMatcher *matcher, const JsonbValue *value);

#endif							/* EVSTORE_MATCHER_H */
