/*
 * read.h
 *	  Reading events: of a stream, of the log, by id.
 */
#ifndef EVSTORE_READ_H
#define EVSTORE_READ_H

#include "funcapi.h"
#include "utils/uuid.h"

#include "stream/filter.h"
#include "stream/leaf.h"
#include "stream/visibility.h"

/* No limit. */
#define EVS_READ_ALL (-1)

typedef struct EvsReadLog
{
	bool		has_after;
	int64		after;			/* exclusive, in the direction of reading; 0 or more */
	int64		max_count;		/* or EVS_READ_ALL */
	bool		backward;
	EvsFilter  *filter;			/* or NULL */
	const char *category;		/* read this category only, or NULL */
	const char *correlation_id; /* read this correlation only, or NULL */
} EvsReadLog;

typedef struct EvsReadStream
{
	const char *stream;
	bool		has_from;
	int64		from_version;	/* inclusive */
	int64		max_count;
	bool		backward;
	bool		has_end;			/* forward only: */
	int64		last_version;	/* inclusive */
	TimestampTz recorded_until; /* inclusive */
} EvsReadStream;

/*
 * What is done with a row of a leaf.  true: it refers to values outside of it
 * that are used later, so the leaf must stay locked.
 */
typedef bool (*EvsTakeRow) (void *arg, EvsLeaf *leaf, TupleTableSlot *slot, text *stream);

/*
 * Events of a stream whose row and horizon the caller has read with the snapshot,
 * which it has registered.
 */
extern void evs_read_stream_rows(const EvsReadStream *request, const EvsStream *stream,
								 const EvsHorizon *horizon, Snapshot snapshot,
								 EvsTakeRow take, void *arg);

/* Rows of type evstore.event go to the result's tuple store. */
extern void evs_read_stream_events(const EvsReadStream *request, ReturnSetInfo *result);
extern void evs_read_log(const EvsReadLog *request, ReturnSetInfo *result);
extern void evs_read_one_event(const pg_uuid_t *id, ReturnSetInfo *result);

#endif							/* EVSTORE_READ_H */
