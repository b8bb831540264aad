/*
 * position.c
 *	  Drawing positions, the registry of appends in flight, and the safe position.
 *
 * The protocol
 * ------------
 * An appender reads the sequence's last value (its floor), takes a lock whose
 * tag names the floor, and only then draws positions, all above the floor.  It
 * keeps the lock to the end of its transaction.  A reader reads the sequence's
 * last value first and scans the lock table second.  If no floor is held, the
 * last value is safe; else the lowest floor is.
 *
 * Why that is right: consider an appender whose lock the scan missed.  Either
 * it took the lock after the scan; then it draws after the reader has read the
 * sequence, so above the value read.  Or it had released the lock already;
 * locks are released after the transaction has become visible.
 *
 * in_flight.c has more about the locks, and a quicker way to the lowest floor.
 *
 * A position must never be handed out twice or out of order.  CACHE above 1
 * would do that silently, so would setval() or RESTART to a lower value: both
 * are refused here, the latter by a look at the newest event of the leaf that
 * the next position belongs to, taken before the floor is read, and by the
 * last value that this backend has seen.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/visibilitymap.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_sequence.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/debug_point.h"
#include "base/shmem.h"
#include "catalog/catalog.h"
#include "catalog/scan.h"
#include "stream/in_flight.h"
#include "stream/leaf.h"
#include "stream/position.h"
#include "stream/safe_point.h"
#include "compat.h"

/*
 * A scan of the lock table stops all who need a lock of their own meanwhile, so
 * a backend scans at most once in this time, in microseconds, and longer the
 * longer its last scan took: one part in so many of its time.
 */
#define SCAN_INTERVAL 1000
#define SCAN_INTERVAL_MAX 100000
#define SCAN_SHARE 20

/* How old evs_position_settled() may be, likewise. */
#define SETTLED_INTERVAL 1000000

/* A backend compares the sequence with the log at least this often, likewise. */
#define CHECK_INTERVAL 100000

/* Readings that evs_position_visible() can fall back to. */
#define NREADINGS 4

/* The floor that this backend took last, and of which sequence. */
static int64 my_floor = 0;
static Oid	my_floor_seq = InvalidOid;

/* When the sequence was last compared with the log, and what it said. */
static Oid	checked_seq = InvalidOid;
static TimestampTz checked_at = 0;
static int64 checked_last = 0;

/* The last scan. */
static Oid	scanned_seq = InvalidOid;
static TimestampTz scanned_at = 0;
static int64 scan_interval = SCAN_INTERVAL;
static int64 scanned_last = 0;
static int64 scanned_safe = 0;

/* A safe position and a snapshot that was taken after it. */
typedef struct Reading
{
	Oid			seq;
	int64		safe;
	TransactionId xmax;
	uint32		xcnt;
	uint32		xip_size;
	TransactionId *xip;
} Reading;

static Reading readings[NREADINGS];
static int	newest_reading = 0;

/* Read the sequence as sequence.c does, without its ACL check on the caller. */
static int64
read_sequence(Relation seq)
{
	Buffer		buffer;
	Page		page;
	HeapTupleData tuple;
	Form_pg_sequence_data form;
	int64		last;

	if (seq->rd_rel->relkind != RELKIND_SEQUENCE)
		elog(ERROR, "\"%s\" is not a sequence", RelationGetRelationName(seq));
	buffer = ReadBuffer(seq, 0);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	tuple.t_data = (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));
	form = (Form_pg_sequence_data) GETSTRUCT(&tuple);
	last = form->is_called ? form->last_value : form->last_value - 1;
	UnlockReleaseBuffer(buffer);
	return last;
}

int64
evs_position_last(void)
{
	Relation	seq = evs_open(evs_catalog()->position_seq, AccessShareLock);
	int64		last = read_sequence(seq);

	relation_close(seq, AccessShareLock);
	return last;
}

static void
throw_sequence_misused(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("sequence \"evstore.position_seq\" does not hand out increasing positions"),
			 errdetail("%s", detail),
			 errhint("Undo what was done to the sequence: ALTER SEQUENCE evstore.position_seq CACHE 1 INCREMENT 1 NO CYCLE, and set it to the highest position ever used or above.")));
}

static void
check_sequence_options(Oid seqid)
{
	HeapTuple	tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(seqid));
	Form_pg_sequence form;
	bool		ok;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for sequence %u", seqid);
	form = (Form_pg_sequence) GETSTRUCT(tuple);
	ok = form->seqcache == 1 && form->seqincrement == 1 && !form->seqcycle;
	ReleaseSysCache(tuple);
	if (!ok)
		throw_sequence_misused("CACHE or INCREMENT is not 1, or the sequence cycles.");
}

/*
 * The newest position above a given one that is stored in a leaf by anyone, in
 * progress or not; or 0.  There is none but for what has been drawn since, so
 * the scan finds nothing, and quickly.
 */
static int64
newest_in_leaf(Oid relid, int64 above)
{
	Relation	rel = evs_leaf_open(relid, AccessShareLock);
	EvsLeaf    *leaf;
	ScanKeyData key;
	EvsScan		scan;
	int64		position = 0;

	if (rel == NULL)
		return 0;
	leaf = evs_leaf_describe(rel);
	evs_key_int8(&key, 1, BTGreaterStrategyNumber, above);
	evs_scan_begin(&scan, rel, leaf->position_index, SnapshotAny, 1, &key,
				   BackwardScanDirection);
	if (evs_scan_next(&scan))
		position = evs_leaf_get_int8(leaf, scan.slot, EVS_LOG_POSITION);
	evs_scan_end(&scan, AccessShareLock);
	relation_close(rel, AccessShareLock);
	return position;
}

/*
 * The newest position stored above the last one that was drawn, or that one.
 * The leaf of the next position is enough, except in the rare case that the
 * ones made ahead of need have begun.
 */
static int64
newest_stored(Relation log, int64 last)
{
	int64		stored = last;
	int64		next = last + 1;
	EvsLeafRange range;

	for (int i = 0; i < 3 && evs_leaf_find(log, next, &range); i++)
	{
		stored = Max(stored, newest_in_leaf(range.relid, last));
		next = range.upper;
		if (next >= evs_leaf_end(log))
			break;
	}
	return stored;
}

/*
 * Has the sequence been moved back?  Whatever is stored was drawn, so a
 * stored position, read first, can never be above the sequence, read second.
 * A backend that does so again and again may skip the look at the log for a
 * moment: what the sequence said last time serves as well.
 */
static int64
read_floor_checked(Relation log, TimestampTz now)
{
	Oid			seqid = evs_catalog()->position_seq;
	Relation	seq = evs_open(seqid, RowExclusiveLock);	/* as nextval() will */
	int64		stored = checked_last;
	int64		floor;

	if (checked_seq != seqid || now - checked_at > CHECK_INTERVAL || now < checked_at)
	{
		if (checked_seq != seqid)
			stored = 0;
		stored = Max(stored, newest_stored(log, read_sequence(seq)));
		checked_seq = seqid;
		checked_at = now;
	}

	floor = read_sequence(seq);
	relation_close(seq, NoLock);
	if (floor < stored)
	{
		checked_at = 0;
		throw_sequence_misused(psprintf("Its last value is " INT64_FORMAT
										", but position " INT64_FORMAT " has been used.",
										floor, stored));
	}
	checked_last = floor;
	return floor;
}

/* Hold a floor for the current resource owner; returns it. */
static int64
register_in_flight(Relation log, TimestampTz now)
{
	Oid			seqid = evs_catalog()->position_seq;

	if (my_floor_seq == seqid && evs_in_flight_again(my_floor))
		return my_floor;

	/* Sequence first, registry second; the floor may only be too low. */
	my_floor_seq = InvalidOid;
	my_floor = read_floor_checked(log, now);
	evs_in_flight_enter(my_floor);
	my_floor_seq = seqid;
	return my_floor;
}

void
evs_position_draw(Relation log, TimestampTz now, int n, int64 *positions)
{
	Oid			seqid = evs_catalog()->position_seq;
	int64		previous;

	check_sequence_options(seqid);
	previous = register_in_flight(log, now);
	for (int i = 0; i < n; i++)
	{
		positions[i] = nextval_internal(seqid, false);
		if (positions[i] <= previous)
			throw_sequence_misused(psprintf("It gave " INT64_FORMAT " after " INT64_FORMAT ".",
											positions[i], previous));
		previous = positions[i];
	}
	checked_last = previous;
}

/* Wait until the next scan is due: a millisecond, unless there are many locks. */
static void
wait_for_scan_turn(void)
{
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = evs_wait_event_new("EvstoreSafePosition");
	for (;;)
	{
		TimestampTz since = GetCurrentTimestamp() - scanned_at;
		int64		wait = scan_interval - since;

		if (since < 0 || wait <= 0)
			return;
		if (wait <= 2 * SCAN_INTERVAL)
		{
			pg_usleep(wait);
			return;
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 wait / 1000, wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
scan_lock_table(Relation seq)
{
	TimestampTz began = GetCurrentTimestamp();
	int64		last = read_sequence(seq);
	int64		floor = 0;

	/* the order of these two is the proof's: sequence, then registry */
	if (!evs_in_flight_lowest_sure(&floor) || floor > last)
		floor = last;
	scanned_last = last;
	scanned_safe = Max(scanned_safe, floor);
	scanned_at = GetCurrentTimestamp();
	scan_interval = Min(Max((scanned_at - began) * SCAN_SHARE, SCAN_INTERVAL),
						SCAN_INTERVAL_MAX);
}

/* The quick way to the same; false if it does not know. */
static bool
look_at_registry(Relation seq)
{
	int64		last = read_sequence(seq);
	int64		floor = 0;
	bool		known;

	if (!evs_in_flight_lowest_quick(&floor, &known) || floor > last)
		floor = last;
	if (!known)
		return false;
	scanned_last = last;
	scanned_safe = Max(scanned_safe, floor);
	return true;
}

/* A store that was dropped and made again has another sequence. */
static void
forget_other_store(Oid seqid)
{
	if (scanned_seq == seqid)
		return;
	scanned_seq = seqid;
	scanned_at = 0;
	scanned_last = scanned_safe = 0;
}

/*
 * What any process has found to be safe stays so: nobody goes back behind it.
 * The lock on the sequence keeps the store from being replaced by another
 * meanwhile, whose positions begin anew.
 */
static void
publish(Oid seqid)
{
	EvsSharedDatabase *database = evs_shmem_database();
	uint64		published;

	if (database == NULL)
		return;
	if (pg_atomic_read_u32(&database->store) != seqid)
	{
		pg_atomic_write_u64(&database->safe, 0);
		pg_memory_barrier();
		pg_atomic_write_u32(&database->store, seqid);
	}
	published = pg_atomic_read_u64(&database->safe);
	while ((int64) published < scanned_safe &&
		   !pg_atomic_compare_exchange_u64(&database->safe, &published, (uint64) scanned_safe))
		;
	scanned_safe = Max(scanned_safe, (int64) published);
}

int64
evs_position_safe(void)
{
	Oid			seqid = evs_catalog()->position_seq;
	Relation	seq;

	if (RecoveryInProgress())
	{
		Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
		int64		position = evs_safe_point_read(snapshot);

		UnregisterSnapshot(snapshot);
		return position;
	}

	forget_other_store(seqid);
	seq = evs_open(seqid, AccessShareLock);
	/* in the second case nothing was in flight, and nothing has been drawn since */
	if (!look_at_registry(seq) &&
		!(scanned_safe == scanned_last && scanned_at != 0 && read_sequence(seq) == scanned_last))
	{
		wait_for_scan_turn();
		scan_lock_table(seq);
	}
	publish(seqid);
	relation_close(seq, AccessShareLock);
	return scanned_safe;
}

int64
evs_position_settled(void)
{
	TimestampTz now = GetCurrentTimestamp();
	Oid			seqid = evs_catalog()->position_seq;
	Relation	seq = evs_open(seqid, AccessShareLock);

	forget_other_store(seqid);
	if (!look_at_registry(seq) &&
		(now - scanned_at > SETTLED_INTERVAL || now < scanned_at))
		scan_lock_table(seq);
	relation_close(seq, AccessShareLock);
	return scanned_safe;
}

/*
 * Readings
 *
 * A statement's snapshot is older than the safe position that a function in
 * it can read, so an append that ended in between would be at or below the
 * safe position and yet invisible: skipped.  A safe position is right for a
 * snapshot that sees everything a snapshot taken after the position sees.  So
 * keep such pairs: the planner takes one before the executor's snapshot.
 */
static void
remember_reading(int64 safe, Snapshot later)
{
	Reading    *reading;

	newest_reading = (newest_reading + 1) % NREADINGS;
	reading = &readings[newest_reading];
	reading->seq = InvalidOid;
	if (reading->xip_size < later->xcnt)
	{
		reading->xip_size = 0;
		if (reading->xip != NULL)
			pfree(reading->xip);
		reading->xip = MemoryContextAlloc(TopMemoryContext,
										  sizeof(TransactionId) * (later->xcnt + 32));
		reading->xip_size = later->xcnt + 32;
	}
	reading->safe = safe;
	reading->xmax = later->xmax;
	reading->xcnt = later->xcnt;
	if (later->xcnt > 0)
		memcpy(reading->xip, later->xip, sizeof(TransactionId) * later->xcnt);
	reading->seq = evs_catalog()->position_seq;
}

/* Does the snapshot see all that the reading's snapshot saw? */
static bool
reading_fits(const Reading *reading, Snapshot snapshot)
{
	if (reading->seq != evs_catalog()->position_seq ||
		TransactionIdPrecedes(snapshot->xmax, reading->xmax))
		return false;
	for (uint32 i = 0; i < snapshot->xcnt; i++)
	{
		bool		was_running = TransactionIdFollowsOrEquals(snapshot->xip[i], reading->xmax);

		for (uint32 j = 0; !was_running && j < reading->xcnt; j++)
			was_running = TransactionIdEquals(snapshot->xip[i], reading->xip[j]);
		if (!was_running)
			return false;
	}
	return true;
}

/* The lowest position in a leaf that is committed but not in the snapshot. */
static int64
lowest_unseen_in_leaf(Oid relid, Snapshot snapshot, int64 limit)
{
	Relation	rel = evs_leaf_open(relid, AccessShareLock);
	BlockNumber all_visible;
	EvsLeaf    *leaf;
	EvsScan		scan;

	if (rel == NULL)
		return limit;
	visibilitymap_count(rel, &all_visible, NULL);
	if (all_visible < RelationGetNumberOfBlocks(rel))
	{
		leaf = evs_leaf_describe(rel);
		evs_scan_begin(&scan, rel, leaf->position_index, SnapshotSelf, 0, NULL,
					   ForwardScanDirection);
		while (evs_scan_next(&scan))
		{
			CHECK_FOR_INTERRUPTS();
			if (table_tuple_satisfies_snapshot(rel, scan.slot, snapshot))
				continue;
			limit = Min(limit, evs_leaf_get_int8(leaf, scan.slot, EVS_LOG_POSITION));
			break;
		}
		evs_scan_end(&scan, AccessShareLock);
	}
	relation_close(rel, AccessShareLock);
	return limit;
}

/* No reading fits: look at the log itself.  Slow, but never wrong. */
static int64
visible_by_search(int64 safe, Snapshot snapshot)
{
	Relation	log = evs_open(evs_catalog()->event_log, AccessShareLock);
	int64		limit = safe + 1;
	int			nleaves;
	EvsLeafRange *leaves = evs_leaf_list(log, safe, &nleaves);

	for (int i = 0; i < nleaves && leaves[i].lower <= safe; i++)
	{
		limit = lowest_unseen_in_leaf(leaves[i].relid, snapshot, limit);
		if (limit <= safe)
			break;
	}
	relation_close(log, AccessShareLock);
	return limit - 1;
}

void
evs_position_cover(int64 position)
{
	Relation	log = evs_open(evs_catalog()->event_log, AccessShareLock);

	(void) evs_leaf_cover(log, position);
	relation_close(log, AccessShareLock);
}

int64
evs_position_safe_covered(void)
{
	int64		safe = evs_position_safe();

	evs_position_cover(safe);
	return safe;
}

void
evs_position_remember(void)
{
	if (!RecoveryInProgress() && !IsInParallelMode())
	{
		int64		safe = evs_position_safe_covered();

		remember_reading(safe, GetLatestSnapshot());
	}
}

int64
evs_position_visible(void)
{
	Snapshot	snapshot = GetActiveSnapshot();
	int64		safe;

	if (RecoveryInProgress())
		return evs_safe_point_read(snapshot);

	EVS_DEBUG_POINT("visible_position");
	safe = evs_position_safe_covered();
	remember_reading(safe, GetLatestSnapshot());
	for (int i = 0; i < NREADINGS; i++)
	{
		Reading    *reading = &readings[(newest_reading + NREADINGS - i) % NREADINGS];

		if (reading_fits(reading, snapshot))
			return reading->safe;
	}
	return visible_by_search(safe, snapshot);
}
