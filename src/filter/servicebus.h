/*
 * servicebus.h
 *	  Service Bus SQL filters.
 */
#ifndef EVSTORE_SERVICEBUS_H
#define EVSTORE_SERVICEBUS_H

#include "filter/compile.h"
#include "filter/document.h"

typedef struct EvsExpr EvsServicebus;

extern EvsServicebus *evs_servicebus_compile(const char *text, const EvsWhere *where);

/* error is set, in the current memory context, when the result says so. */
extern EvsFilterResult evs_servicebus_match(const EvsServicebus *expr, EvsDocument *document,
											const char **error);

#endif							/* EVSTORE_SERVICEBUS_H */
