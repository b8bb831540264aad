/*
 * safe_point.c
 *	  The safe position as written down for standbys.
 *
 * On a standby there is no registry, and the sequence is ahead of the truth.
 * The primary records its safe position in a row, after the appends it
 * speaks of; who sees the row sees them.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/catalog.h"
#include "exec/heap_writer.h"
#include "stream/position.h"
#include "stream/safe_point.h"
#include "compat.h"

/* Find the row; false if there is none yet. */
static bool
find_row(Relation rel, Snapshot snapshot, TupleTableSlot *slot)
{
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	bool		found = table_scan_getnextslot(scan, ForwardScanDirection, slot);

	table_endscan(scan);
	return found;
}

int64
evs_safe_point_find(Snapshot snapshot)
{
	Relation	rel = evs_open(evs_catalog()->safe_point, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	int64		position = -1;
	bool		isnull;

	if (find_row(rel, snapshot, slot))
		position = DatumGetInt64(slot_getattr(slot, 1, &isnull));
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	return position;
}

int64
evs_safe_point_read(Snapshot snapshot)
{
	int64		position = evs_safe_point_find(snapshot);

	if (position < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the primary has not recorded a safe position yet"),
				 errhint("Run evstore.record_safe_position() on the primary at intervals.")));
	return position;
}

int64
evs_safe_point_record(void)
{
	Relation	rel = evs_open(evs_catalog()->safe_point, ShareRowExclusiveLock);
	int64		safe = evs_position_safe();
	TupleTableSlot *old = table_slot_create(rel, NULL);
	EvsWriter  *writer = evs_writer_open(rel);
	TupleTableSlot *slot = evs_writer_slot(writer, 1);
	bool		found = find_row(rel, SnapshotSelf, old);

	slot->tts_values[0] = Int64GetDatum(safe);
	slot->tts_values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	slot->tts_isnull[0] = slot->tts_isnull[1] = false;
	if (found)
	{
		ExecStoreVirtualTuple(slot);
		evs_writer_update(writer, &old->tts_tid, slot);
	}
	else
		evs_writer_add(writer, 0);
	evs_writer_close(writer);
	ExecDropSingleTupleTableSlot(old);
	relation_close(rel, NoLock);
	CommandCounterIncrement();
	return safe;
}
