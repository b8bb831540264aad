/*
 * filter.h
 *	  Which events a reader wants.
 */
#ifndef EVSTORE_FILTER_H
#define EVSTORE_FILTER_H

#include "executor/tuptable.h"
#include "utils/jsonb.h"

#include "filter/document.h"
#include "stream/leaf.h"

typedef struct EvsFilter EvsFilter;

/*
 * Compile a filter object: categories, stream_prefix, streams, types, tags,
 * correlation_id, jsonpath, pattern, attributes, advanced, sql, sql_filter.
 * Throws VS010 with the path of what is wrong.
 * NULL or {} gives NULL: everything.
 */
extern EvsFilter *evs_filter_compile(Jsonb *definition);

/*
 * In this order, by what that costs: columns, the name of the stream, and what
 * is written in a language of its own.
 */
extern bool evs_filter_matches_row(EvsFilter *filter, EvsLeaf *leaf, TupleTableSlot *slot);
extern bool evs_filter_matches_stream(const EvsFilter *filter, const char *name, int len);
extern EvsFilterResult evs_filter_matches_content(const EvsFilter *filter, EvsDocument *document,
												  const char **error);

/* Is there anything for the second and the third of them to look at? */
extern bool evs_filter_needs_name(const EvsFilter *filter);
extern bool evs_filter_has_content(const EvsFilter *filter);

/* Can an evaluation fail? */
extern bool evs_filter_can_fail(const EvsFilter *filter);

/* A row of the log as a document; its stream's name is asked for when it is needed. */
typedef struct EvsRowSource
{
	EvsLeaf    *leaf;
	TupleTableSlot *slot;
	text	   *(*stream_name) (void *arg);
	void	   *arg;
} EvsRowSource;

extern void evs_filter_row_document(EvsRowSource *source, EvsDocument *document);

/* All of a filter, on an event of type evstore.event. */
extern EvsFilterResult evs_filter_matches_event(EvsFilter *filter, const Datum *values,
												const bool *nulls, const char **error);

/*
 * The different hashes of the filter's categories, for the category index;
 * false if it names none or they have more than max.  An empty list has 0.
 */
extern bool evs_filter_category_hashes(const EvsFilter *filter, int32 *hashes, int max, int *n);

/* The correlation that the filter names, or NULL. */
extern const char *evs_filter_correlation_id(const EvsFilter *filter);

#endif							/* EVSTORE_FILTER_H */
