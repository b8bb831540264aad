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

/* Is there anything for evs_filter_matches_stream() to look at? */
extern bool evs_filter_needs_name(const EvsFilter *filter);

/*
 * The different hashes of the filter's categories, for the category index;
 * false if it names none or they have more than max.  An empty list has 0.
 */
extern bool evs_filter_category_hashes(const EvsFilter *filter, int32 *hashes, int max, int *n);

/* The correlation that the filter names, or NULL. */
extern const char *evs_filter_correlation_id(const EvsFilter *filter);

#endif							/* EVSTORE_FILTER_H */
