/*
 * cesql.h
 *	  CloudEvents SQL expressions, version 1.0.0.
 */
#ifndef EVSTORE_CESQL_H
#define EVSTORE_CESQL_H

#include "filter/compile.h"
#include "filter/document.h"

typedef struct EvsExpr EvsCesql;

extern EvsCesql *evs_cesql_compile(const char *text, const EvsWhere *where);

/* error is set, in the current memory context, when the result says so. */
extern EvsFilterResult evs_cesql_match(const EvsCesql *expr, EvsDocument *document,
									   const char **error);

#endif							/* EVSTORE_CESQL_H */
