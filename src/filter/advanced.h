/*
 * advanced.h
 *	  Event Grid's advanced filters.
 */
#ifndef EVSTORE_ADVANCED_H
#define EVSTORE_ADVANCED_H

#include "filter/compile.h"
#include "filter/document.h"

typedef struct EvsAdvanced EvsAdvanced;

/* All of the filters in the array; throws VS010. */
extern EvsAdvanced *evs_advanced_compile(const JsonbValue *definition, const EvsWhere *where);

extern bool evs_advanced_match(const EvsAdvanced *advanced, EvsDocument *document);

#endif							/* EVSTORE_ADVANCED_H */
