/*
 * event.h
 *	  Events as rows: of the log, and of type evstore.event.
 */
#ifndef EVSTORE_EVENT_H
#define EVSTORE_EVENT_H

#include "executor/tuptable.h"
#include "utils/uuid.h"

#include "filter/document.h"
#include "stream/batch.h"
#include "stream/leaf.h"

/* What a new row has beside the caller's event. */
typedef struct EvsPlace
{
	int64		position;
	int64		stream_id;
	int64		version;
	int32		category_hash;
	TimestampTz recorded_at;
} EvsPlace;

/* Fill a slot of the leaf; returns roughly how many bytes the row has. */
extern Size evs_event_to_row(const EvsNewEvent *event, const EvsPlace *place,
							 const EvsLeaf *leaf, TupleTableSlot *slot);

/* The columns of evstore.event from a leaf's row. */
extern void evs_event_from_row(EvsLeaf *leaf, TupleTableSlot *slot, Datum stream_name,
							   Datum *values, bool *nulls);

/*
 * Are there values that are fetched when they are used?  Then the leaf must
 * stay locked.
 */
extern bool evs_event_has_external(const Datum *values, const bool *nulls);

/* {}: data and metadata of an event that has none. */
extern Jsonb *evs_event_empty_object(void);

/* A new UUIDv7; ids made by one backend increase. */
extern void evs_uuid7(pg_uuid_t *uuid);

/* The time in a UUIDv7; false for other kinds of UUID. */
extern bool evs_uuid7_time(const pg_uuid_t *uuid, TimestampTz *time);

/*
 * Metadata as stored: what the caller passed, and what the session's settings
 * add.  evs_metadata_matches() compares a retry's with what was stored.
 */
extern Jsonb *evs_metadata_stored(Jsonb *passed);
extern bool evs_metadata_matches(Jsonb *passed, Jsonb *stored);

#endif							/* EVSTORE_EVENT_H */
