/*
 * scan.h
 *	  Index scans of our own tables.
 *
 * The snapshot is named in each call, since it is what each protocol hinges
 * on: SnapshotSelf where an appender looks at what it has locked, a dirty
 * snapshot where it looks for others, an MVCC snapshot for readers.
 */
#ifndef EVSTORE_SCAN_H
#define EVSTORE_SCAN_H

#include "access/genam.h"
#include "access/relscan.h"
#include "access/sdir.h"
#include "access/skey.h"
#include "executor/tuptable.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

typedef struct EvsScan
{
	Relation	index;
	IndexScanDesc desc;
	TupleTableSlot *slot;
	ScanDirection direction;
} EvsScan;

/*
 * Begin a scan in index order.  Attribute numbers in keys are the index's.
 * The keys must live until the end of the scan.
 */
extern void evs_scan_begin(EvsScan *scan, Relation heap, Oid index, Snapshot snapshot,
						   int nkeys, ScanKey keys, ScanDirection direction);

/* The same scan from its start, with other keys, of which there are as many. */
extern void evs_scan_again(EvsScan *scan, int nkeys, ScanKey keys);

/* The next row, in scan->slot; false at the end. */
extern bool evs_scan_next(EvsScan *scan);

/*
 * The same for a row that may be changed between the look at the index and that
 * at the row, where tests can make a session wait at a debug point.
 */
extern bool evs_scan_next_at(EvsScan *scan, const char *debug_point);

/*
 * End a scan.  NoLock keeps the index's lock to the end of the transaction,
 * which is cheaper for who keeps the table's anyway.
 */
extern void evs_scan_end(EvsScan *scan, LOCKMODE release);

extern void evs_key_int8(ScanKey key, AttrNumber attno, StrategyNumber strategy, int64 value);
extern void evs_key_int4(ScanKey key, AttrNumber attno, int32 value);
extern void evs_key_text(ScanKey key, AttrNumber attno, StrategyNumber strategy, Datum value);
extern void evs_key_uuid(ScanKey key, AttrNumber attno, Datum value);

#endif							/* EVSTORE_SCAN_H */
