/*
 * pattern.h
 *	  EventBridge event patterns, and SNS filter policies.
 */
#ifndef EVSTORE_PATTERN_H
#define EVSTORE_PATTERN_H

#include "filter/compile.h"
#include "filter/document.h"

typedef struct EvsPattern EvsPattern;

/* A pattern of the event, or a policy of its attributes; throws VS010. */
extern EvsPattern *evs_pattern_compile(const JsonbValue *definition, const EvsWhere *where);
extern EvsPattern *evs_policy_compile(const JsonbValue *definition, const EvsWhere *where);

extern bool evs_pattern_match(const EvsPattern *pattern, EvsDocument *document);

#endif							/* EVSTORE_PATTERN_H */
