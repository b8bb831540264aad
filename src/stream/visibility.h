/*
 * visibility.h
 *	  Names of streams, and which of their events readers may still see.
 */
#ifndef EVSTORE_VISIBILITY_H
#define EVSTORE_VISIBILITY_H

#include "datatype/timestamp.h"
#include "utils/hsearch.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "stream/stream.h"

/* From where on a stream's events are visible. */
typedef struct EvsHorizon
{
	int64		first_version;	/* lower ones are not */
	TimestampTz recorded_after; /* nor ones recorded at or before this */
} EvsHorizon;

/* With the snapshot that the stream's row was read with. */
extern void evs_horizon(Relation log, const EvsStream *stream, Snapshot snapshot,
						EvsHorizon *horizon);

/*
 * What one reader knows about streams, by id.  The snapshot stays registered
 * by the caller for as long as the reader is used.
 */
typedef struct EvsStreamReader
{
	Relation	log;
	Relation	streams;
	Snapshot	snapshot;
	MemoryContext context;
	HTAB	   *restricted;		/* id -> horizon, of streams met so far */
	bool		none_restricted;
} EvsStreamReader;

extern void evs_stream_reader_begin(EvsStreamReader *reader, Relation log, Relation streams,
									Snapshot snapshot);

/* The stream's name as text; valid until the next call. */
extern text *evs_stream_reader_name(EvsStreamReader *reader, int64 stream_id);

/* Do the lifecycle settings of the stream hide this event? */
extern bool evs_stream_reader_hides(EvsStreamReader *reader, int64 stream_id, int64 version,
									TimestampTz recorded_at);

#endif							/* EVSTORE_VISIBILITY_H */
