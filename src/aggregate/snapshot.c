/*
 * snapshot.c
 *	  Snapshots: states at versions of streams.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/stratnum.h"
#include "utils/rel.h"

#include "aggregate/snapshot.h"
#include "catalog/catalog.h"
#include "catalog/scan.h"
#include "compat.h"

/* Also an event that was hidden once and removed then cannot be seen. */
static bool
counts(TupleTableSlot *slot, const EvsStream *stream, const EvsSnapshotKey *key,
	   const EvsHorizon *horizon)
{
	bool		isnull;
	int64		version = DatumGetInt64(slot_getattr(slot, Anum_snapshot_version, &isnull));
	TimestampTz recorded_at =
		DatumGetTimestampTz(slot_getattr(slot, Anum_snapshot_recorded_at, &isnull));

	return version <= key->max_version && recorded_at <= key->recorded_until &&
		version >= horizon->first_version && version > stream->scavenged_version &&
		recorded_at > horizon->recorded_after;
}

static void
copy_row(TupleTableSlot *slot, EvsSnapshotRow *row)
{
	bool		isnull;

	row->version = DatumGetInt64(slot_getattr(slot, Anum_snapshot_version, &isnull));
	row->state_version =
		DatumGetInt32(slot_getattr(slot, Anum_snapshot_state_version, &isnull));
	row->created_at = DatumGetTimestampTz(slot_getattr(slot, Anum_snapshot_created_at, &isnull));
	row->state = DatumGetJsonbPCopy(slot_getattr(slot, Anum_snapshot_state, &isnull));
}

bool
evs_snapshot_find(const EvsStream *stream, const EvsSnapshotKey *key, const EvsHorizon *horizon,
				  Snapshot snapshot, EvsSnapshotRow *row)
{
	Relation	rel = evs_open(evs_catalog()->snapshot, AccessShareLock);
	ScanKeyData keys[3];
	int			nkeys = 0;
	EvsScan		scan;
	bool		found = false;

	evs_key_int8(&keys[nkeys++], 1, BTEqualStrategyNumber, stream->id);
	if (key->state_version != EVS_ANY_STATE_VERSION)
	{
		evs_key_int4(&keys[nkeys++], 2, key->state_version);
		evs_key_int8(&keys[nkeys++], 3, BTLessEqualStrategyNumber, key->max_version);
	}
	evs_scan_begin(&scan, rel, evs_catalog()->snapshot_pkey, snapshot, nkeys, keys,
				   BackwardScanDirection);
	while (!found && evs_scan_next(&scan))
		found = counts(scan.slot, stream, key, horizon);
	if (found)
		copy_row(scan.slot, row);
	evs_scan_end(&scan, AccessShareLock);
	relation_close(rel, AccessShareLock);
	return found;
}
