/*
 * filter.h
 *	  Which events a reader wants.
 */
#ifndef EVSTORE_FILTER_H
#define EVSTORE_FILTER_H

#include "executor/tuptable.h"
#include "utils/jsonb.h"

#include "stream/leaf.h"

typedef struct EvsFilter EvsFilter;

/*
 * Compile a filter object: categories, stream_prefix, streams, types, tags,
 * correlation_id, jsonpath.  Throws VS010 with the path of what is wrong.
 * NULL or {} gives NULL: everything.
 */
extern EvsFilter *evs_filter_compile(Jsonb *definition);

/* First what needs no stream name, then what does. */
extern bool evs_filter_matches_row(EvsFilter *filter, EvsLeaf *leaf, TupleTableSlot *slot);
extern bool evs_filter_matches_stream(const EvsFilter *filter, const char *name, int len);

/* If the filter names exactly one category, that one; else NULL. */
extern const char *evs_filter_only_category(const EvsFilter *filter);

#endif							/* EVSTORE_FILTER_H */
