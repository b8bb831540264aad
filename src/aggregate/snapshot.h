/*
 * snapshot.h
 *	  Snapshots: states at versions of streams.
 */
#ifndef EVSTORE_SNAPSHOT_H
#define EVSTORE_SNAPSHOT_H

#include "utils/jsonb.h"
#include "utils/snapshot.h"

#include "stream/visibility.h"

/* Columns of evstore.snapshot; a test compares them with the catalog. */
enum
{
	Anum_snapshot_stream_id = 1,
	Anum_snapshot_version,
	Anum_snapshot_recorded_at,
	Anum_snapshot_created_at,
	Anum_snapshot_state_version,
	Anum_snapshot_state,
	Natts_snapshot = Anum_snapshot_state
};

/* Of any state version. */
#define EVS_ANY_STATE_VERSION (-1)

typedef struct EvsSnapshotKey
{
	int32		state_version;
	int64		max_version;	/* of the stream, inclusive */
	TimestampTz recorded_until; /* the same for the time of the event */
} EvsSnapshotKey;

typedef struct EvsSnapshotRow
{
	int64		version;
	int32		state_version;
	TimestampTz created_at;
	Jsonb	   *state;
} EvsSnapshotRow;

/*
 * The newest snapshot that counts: of the highest state version, and of the
 * highest version with that.  One whose event readers can no longer see does
 * not count, since the stream may have been deleted and begun again.
 */
extern bool evs_snapshot_find(const EvsStream *stream, const EvsSnapshotKey *key,
							  const EvsHorizon *horizon, Snapshot snapshot,
							  EvsSnapshotRow *row);

#endif							/* EVSTORE_SNAPSHOT_H */
