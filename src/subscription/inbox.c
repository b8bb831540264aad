/*
 * inbox.c
 *	  The idempotent inbox: what has been processed already.
 *
 * Rows are in a ring of tables, one for each seventh of the retention, so that
 * old ones go by TRUNCATE.  Which table a row goes to matters only for that: a
 * key is looked for in all of them, so neither a change of the retention nor
 * two clocks can hide it.
 *
 * Looking and inserting must be one step.  The unique index sees to that in
 * one table, but not across two, and a scan with a dirty snapshot can miss a
 * row of which another version comes up while it runs.  So whoever looks for a
 * key, or stores a version of its row, holds a lock on the key meanwhile:
 *
 *	1. open the table of now with RowExclusiveLock, which keeps TRUNCATE away
 *	2. lock the key
 *	3. look into all tables with a dirty snapshot, newest first
 *	4. not there: insert, and keep the table's lock to the end
 *	5. unlock the key
 *	6. there, of a transaction in progress: wait for its end and start again
 *
 * Nothing is waited for but tables while the key is locked, and the lock goes
 * before the call ends: a transaction may have any number of keys.  What is
 * seen does not depend on the isolation level.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/debug_point.h"
#include "base/guc.h"
#include "catalog/catalog.h"
#include "catalog/scan.h"
#include "exec/heap_writer.h"
#include "exec/spi.h"
#include "subscription/inbox.h"
#include "compat.h"

/* Class of the locks on keys, beside those in stream/position.h. */
#define EVS_LOCK_INBOX 17760

/* The retention, the period that is not over yet, and one in which to empty. */
#define PERIODS_KEPT 7
#define NTABLES (PERIODS_KEPT + 2)

/* Columns of the tables; a test compares them with the catalog. */
enum
{
	Anum_inbox_consumer = 1,
	Anum_inbox_source,
	Anum_inbox_key,
	Anum_inbox_received_at,
	Anum_inbox_result,
	Natts_inbox = Anum_inbox_result
};

/* The row of a key. */
typedef struct Found
{
	TransactionId wait_for;		/* in progress there; nothing below is set */
	Oid			table;
	ItemPointerData tid;
	TimestampTz received_at;
	Jsonb	   *result;			/* or NULL */
} Found;

/* The tables, as of an invalidation. */
static Oid	tables[NTABLES];
static uint64 invalidations = 1;
static uint64 tables_as_of = 0;

static void
invalidate_tables(Oid relid)
{
	bool		ours = !OidIsValid(relid);

	for (int i = 0; i < NTABLES && !ours; i++)
		ours = tables[i] == relid;
	if (ours)
		invalidations++;
}

static void
find_tables(void)
{
	static bool hooked = false;

	if (!hooked)
		evs_catalog_on_invalidate(invalidate_tables);
	hooked = true;
	while (tables_as_of != invalidations)
	{
		uint64		before = invalidations;

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < NTABLES; i++)
			tables[i] = evs_catalog_lookup(psprintf("inbox_%d", i));
		tables_as_of = before;
	}
}

static int64
retention_usecs(void)
{
	return evs_guc_inbox_retention * USECS_PER_MINUTE;
}

/* The table that rows of this moment go to. */
static int
table_of(TimestampTz now)
{
	int			i = (now / (retention_usecs() / PERIODS_KEPT)) % NTABLES;

	return i < 0 ? i + NTABLES : i;
}

static uint64
hash_text(text *t, uint64 seed)
{
	return hash_bytes_extended((unsigned char *) VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t), seed);
}

/* Keys of the same hash wait for each other for a moment. */
static void
lock_key(LOCKTAG *tag, const EvsInboxKey *key)
{
	uint64		hash = hash_text(key->key, hash_text(key->source, hash_text(key->consumer, 0)));

	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, (uint32) (hash >> 32), (uint32) hash,
						 EVS_LOCK_INBOX);
	(void) LockAcquire(tag, ExclusiveLock, false, false);
}

static void
unlock_key(LOCKTAG *tag)
{
	LockRelease(tag, ExclusiveLock, false);
}

static Oid
primary_key(Relation rel)
{
	list_free(RelationGetIndexList(rel));
	if (!OidIsValid(rel->rd_pkindex))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has no primary key", RelationGetRelationName(rel))));
	return rel->rd_pkindex;
}

static void
read_found(TupleTableSlot *slot, Found *found)
{
	bool		isnull;
	Datum		result;

	found->tid = slot->tts_tid;
	found->received_at = DatumGetTimestampTz(slot_getattr(slot, Anum_inbox_received_at, &isnull));
	result = slot_getattr(slot, Anum_inbox_result, &isnull);
	found->result = isnull ? NULL : DatumGetJsonbPCopy(result);
}

static bool
look_in_index(Relation rel, const EvsInboxKey *key, Found *found)
{
	SnapshotData dirty;
	ScanKeyData keys[3];
	EvsScan		scan;
	bool		exists;

	InitDirtySnapshot(dirty);
	/* the part that differs most comes first: fewer comparisons on the way down */
	evs_key_text(&keys[0], 1, BTEqualStrategyNumber, PointerGetDatum(key->key));
	evs_key_text(&keys[1], 2, BTEqualStrategyNumber, PointerGetDatum(key->consumer));
	evs_key_text(&keys[2], 3, BTEqualStrategyNumber, PointerGetDatum(key->source));
	evs_scan_begin(&scan, rel, primary_key(rel), &dirty, 3, keys, ForwardScanDirection);
	exists = evs_scan_next(&scan);
	if (exists)
	{
		/* being inserted, or being deleted, by somebody else */
		found->wait_for = TransactionIdIsValid(dirty.xmin) ? dirty.xmin : dirty.xmax;
		if (!TransactionIdIsValid(found->wait_for))
			read_found(scan.slot, found);
	}
	evs_scan_end(&scan, AccessShareLock);
	return exists;
}

/* Look for a key, which is locked, in all tables; the newest is the first. */
static bool
look(const EvsInboxKey *key, int newest, Found *found)
{
	bool		exists = false;

	for (int n = 0; n < NTABLES && !exists; n++)
	{
		Oid			relid = tables[(newest + NTABLES - n) % NTABLES];
		Relation	rel = evs_open(relid, AccessShareLock);

		CHECK_FOR_INTERRUPTS();
		found->table = relid;
		if (RelationGetNumberOfBlocks(rel) > 0)
			exists = look_in_index(rel, key, found);
		relation_close(rel, AccessShareLock);
	}
	EVS_DEBUG_POINT("inbox_looked");
	return exists;
}

static void
fill_row(TupleTableSlot *slot, const EvsInboxKey *key, TimestampTz received_at, Jsonb *result)
{
	memset(slot->tts_isnull, false, sizeof(bool) * Natts_inbox);
	slot->tts_values[Anum_inbox_consumer - 1] = PointerGetDatum(key->consumer);
	slot->tts_values[Anum_inbox_source - 1] = PointerGetDatum(key->source);
	slot->tts_values[Anum_inbox_key - 1] = PointerGetDatum(key->key);
	slot->tts_values[Anum_inbox_received_at - 1] = TimestampTzGetDatum(received_at);
	slot->tts_values[Anum_inbox_result - 1] = PointerGetDatum(result);
	slot->tts_isnull[Anum_inbox_result - 1] = result == NULL;
}

static void
insert_row(Relation rel, const EvsInboxKey *key, TimestampTz now)
{
	EvsWriter  *writer = evs_writer_open(rel);

	fill_row(evs_writer_slot(writer, 1), key, now, NULL);
	evs_writer_add(writer, 0);
	evs_writer_close(writer);
}

bool
evs_inbox_claim(const EvsInboxKey *key, Jsonb **result)
{
	for (;;)
	{
		TimestampTz now = evs_clock_now();
		int			newest = table_of(now);
		LOCKTAG		tag;
		Relation	rel;
		Found		found;
		bool		exists;

		find_tables();
		rel = evs_open(tables[newest], RowExclusiveLock);
		lock_key(&tag, key);
		exists = look(key, newest, &found);
		if (!exists)
			insert_row(rel, key, now);
		unlock_key(&tag);
		relation_close(rel, exists ? RowExclusiveLock : NoLock);

		if (!exists)
		{
			CommandCounterIncrement();
			return true;
		}
		if (!TransactionIdIsValid(found.wait_for))
		{
			*result = found.result;
			return false;
		}
		XactLockTableWait(found.wait_for, NULL, NULL, XLTW_None);
	}
}

static void
update_row(const Found *found, const EvsInboxKey *key, Jsonb *result)
{
	Relation	rel = evs_open(found->table, RowExclusiveLock);
	EvsWriter  *writer = evs_writer_open(rel);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ItemPointerData tid = found->tid;

	ExecClearTuple(slot);
	fill_row(slot, key, found->received_at, result);
	ExecStoreVirtualTuple(slot);
	evs_writer_update(writer, &tid, slot);
	ExecDropSingleTupleTableSlot(slot);
	evs_writer_close(writer);
	relation_close(rel, NoLock);
}

void
evs_inbox_set_result(const EvsInboxKey *key, Jsonb *result)
{
	LOCKTAG		tag;
	Found		found;

	find_tables();
	lock_key(&tag, key);
	if (!look(key, table_of(evs_clock_now()), &found) || TransactionIdIsValid(found.wait_for))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the row that says what is being executed has been deleted")));
	update_row(&found, key, result);
	unlock_key(&tag);
	CommandCounterIncrement();
}

/* ---- expiry ---- */

/*
 * Is every row older than that?  From the end, where the young ones are, so
 * that only a table that can go is read as a whole.  Nobody else writes to it.
 */
static bool
is_older(Relation rel, TimestampTz limit)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan_strat(rel, SnapshotSelf, 0, NULL, true, false);
	bool		older = true;

	while (older && table_scan_getnextslot(scan, BackwardScanDirection, slot))
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		older = DatumGetTimestampTz(slot_getattr(slot, Anum_inbox_received_at, &isnull)) < limit;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return older;
}

/*
 * Empty one table if all in it is older.  Two locks, neither waited for: with
 * the first one no writer, in progress or prepared, has a row in it; sessions
 * that look for a key are kept out only while it is emptied.
 */
static bool
expire_table(int i, TimestampTz limit)
{
	Relation	rel;
	EvsSpi		spi;
	bool		older;

	if (!ConditionalLockRelationOid(tables[i], ShareLock))
		return false;
	rel = evs_open(tables[i], NoLock);
	older = RelationGetNumberOfBlocks(rel) > 0 && is_older(rel, limit);
	relation_close(rel, NoLock);
	if (!older || !ConditionalLockRelationOid(tables[i], AccessExclusiveLock))
	{
		UnlockRelationOid(tables[i], ShareLock);
		return false;
	}
	evs_spi_begin(&spi, true);
	evs_spi_run(psprintf("TRUNCATE evstore.inbox_%d", i));
	evs_spi_end(&spi);
	return true;
}

int
evs_inbox_expire_tables(void)
{
	TimestampTz limit = evs_clock_now() - retention_usecs();
	int			emptied = 0;

	for (int i = 0; i < NTABLES; i++)
	{
		find_tables();
		if (expire_table(i, limit))
			emptied++;
	}
	return emptied;
}
