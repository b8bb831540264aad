/*
 * scan.c
 *	  Index scans of our own tables.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/tableam.h"
#include "catalog/pg_collation.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "base/debug_point.h"
#include "catalog/scan.h"
#include "compat.h"

void
evs_scan_begin(EvsScan *scan, Relation heap, Oid index, Snapshot snapshot,
			   int nkeys, ScanKey keys, ScanDirection direction)
{
	scan->index = index_open(index, AccessShareLock);
	scan->slot = table_slot_create(heap, NULL);
	scan->desc = evs_index_beginscan(heap, scan->index, snapshot, nkeys);
	scan->direction = direction;
	index_rescan(scan->desc, keys, nkeys, NULL, 0);
}

void
evs_scan_again(EvsScan *scan, int nkeys, ScanKey keys)
{
	index_rescan(scan->desc, keys, nkeys, NULL, 0);
}

bool
evs_scan_next(EvsScan *scan)
{
	return index_getnext_slot(scan->desc, scan->direction, scan->slot);
}

bool
evs_scan_next_at(EvsScan *scan, const char *debug_point)
{
#ifdef EVS_DEBUG_POINTS
	while (scan->desc->xs_heap_continue ||
		   index_getnext_tid(scan->desc, scan->direction) != NULL)
	{
		evs_debug_point(debug_point);
		if (index_fetch_heap(scan->desc, scan->slot))
			return true;
	}
	return false;
#else
	return evs_scan_next(scan);
#endif
}

void
evs_scan_end(EvsScan *scan, LOCKMODE release)
{
	index_endscan(scan->desc);
	ExecDropSingleTupleTableSlot(scan->slot);
	index_close(scan->index, release);
}

void
evs_key_int8(ScanKey key, AttrNumber attno, StrategyNumber strategy, int64 value)
{
	static const RegProcedure proc[] = {
		[BTLessStrategyNumber] = F_INT8LT,
		[BTLessEqualStrategyNumber] = F_INT8LE,
		[BTEqualStrategyNumber] = F_INT8EQ,
		[BTGreaterEqualStrategyNumber] = F_INT8GE,
		[BTGreaterStrategyNumber] = F_INT8GT,
	};

	ScanKeyInit(key, attno, strategy, proc[strategy], Int64GetDatum(value));
}

void
evs_key_int4(ScanKey key, AttrNumber attno, int32 value)
{
	ScanKeyInit(key, attno, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(value));
}

/* Names sort by bytes: collation "C". */
void
evs_key_text(ScanKey key, AttrNumber attno, StrategyNumber strategy, Datum value)
{
	RegProcedure proc = (strategy == BTEqualStrategyNumber) ? F_TEXTEQ : F_TEXT_GE;

	Assert(strategy == BTEqualStrategyNumber || strategy == BTGreaterEqualStrategyNumber);
	ScanKeyEntryInitialize(key, 0, attno, strategy, InvalidOid, C_COLLATION_OID, proc, value);
}

void
evs_key_uuid(ScanKey key, AttrNumber attno, Datum value)
{
	ScanKeyInit(key, attno, BTEqualStrategyNumber, F_UUID_EQ, value);
}
