/*
 * member.c
 *	  Who takes part in a consumer group.
 *
 * A consumer is a member while its row is younger than a lease and the process
 * that wrote it runs.  The slots are shared out evenly among members, in order
 * of name.  A row is written anew after a third of a lease, no sooner, so a
 * consumer that fetches a thousand times a second costs nothing here.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/catalog.h"
#include "catalog/scan.h"
#include "exec/heap_writer.h"
#include "subscription/member.h"
#include "subscription/slot.h"
#include "compat.h"

/* Columns of evstore.subscription_member. */
enum
{
	Anum_member_subscription_id = 1,
	Anum_member_pid,
	Anum_member_seen_at,
	Anum_member_consumer,
	Natts_member = Anum_member_consumer
};

/* Rows of consumers that have not been seen for so many leases are removed. */
#define FORGET_AFTER 100

typedef struct Membership
{
	bool		found;			/* our row */
	bool		fresh;
	ItemPointerData tid;
	int			nlive;			/* members, we included */
	int			rank;			/* ours among them */
	ItemPointerData forgotten;	/* a row to be removed, or invalid */
	char	   *forgotten_name;
} Membership;

static void
look_at_row(const EvsSubscription *subscription, const char *consumer, TimestampTz now,
			TupleTableSlot *row, Membership *result)
{
	bool		isnull;
	char	   *name = TextDatumGetCString(slot_getattr(row, Anum_member_consumer, &isnull));
	TimestampTz seen_at = DatumGetTimestampTz(slot_getattr(row, Anum_member_seen_at, &isnull));
	int			pid = DatumGetInt32(slot_getattr(row, Anum_member_pid, &isnull));
	int64		age = now - seen_at;
	int64		lease = (int64) subscription->lease * 1000;

	if (strcmp(name, consumer) == 0)
	{
		result->found = true;
		result->tid = row->tts_tid;
		result->fresh = age >= 0 && age < lease / 3 && evs_process_is_alive(pid);
		result->rank = result->nlive++;
	}
	else if (age < lease && evs_process_is_alive(pid))
		result->nlive++;
	else if (age > lease * FORGET_AFTER && result->forgotten_name == NULL)
	{
		result->forgotten = row->tts_tid;
		result->forgotten_name = name;
	}
}

static void
look(Relation rel, const EvsSubscription *subscription, const char *consumer, TimestampTz now,
	 Membership *result)
{
	ScanKeyData key;
	EvsScan		scan;

	memset(result, 0, sizeof(Membership));
	result->rank = -1;
	evs_key_int8(&key, 1, BTEqualStrategyNumber, subscription->id);
	evs_scan_begin(&scan, rel, evs_catalog()->subscription_member_pkey, SnapshotSelf, 1, &key,
				   ForwardScanDirection);
	while (evs_scan_next(&scan))
		look_at_row(subscription, consumer, now, scan.slot, result);
	evs_scan_end(&scan, AccessShareLock);
	if (result->rank < 0)
		result->rank = result->nlive++;
}

static void
fill_row(TupleTableSlot *row, int64 subscription_id, const char *consumer, TimestampTz now)
{
	ExecClearTuple(row);
	memset(row->tts_isnull, false, sizeof(bool) * Natts_member);
	row->tts_values[Anum_member_subscription_id - 1] = Int64GetDatum(subscription_id);
	row->tts_values[Anum_member_pid - 1] = Int32GetDatum(MyProcPid);
	row->tts_values[Anum_member_seen_at - 1] = TimestampTzGetDatum(now);
	row->tts_values[Anum_member_consumer - 1] = CStringGetTextDatum(consumer);
}

/* Our row's lock is held. */
static void
write_row(Relation rel, const EvsSubscription *subscription, const char *consumer,
		  TimestampTz now)
{
	EvsWriter  *writer = evs_writer_open(rel);
	TupleTableSlot *row = evs_writer_slot(writer, 1);
	Membership	membership;

	look(rel, subscription, consumer, now, &membership);
	fill_row(row, subscription->id, consumer, now);
	if (membership.found)
	{
		ExecStoreVirtualTuple(row);
		evs_writer_update(writer, &membership.tid, row);
	}
	else
		evs_writer_add(writer, 0);
	if (membership.forgotten_name != NULL &&
		evs_slot_lock(subscription->id, evs_slot_of_member(membership.forgotten_name), false))
	{
		/* it may have come back just now */
		Membership	again;

		look(rel, subscription, consumer, now, &again);
		if (again.forgotten_name != NULL &&
			ItemPointerEquals(&again.forgotten, &membership.forgotten))
			evs_writer_delete(writer, &membership.forgotten);
	}
	evs_writer_close(writer);
	CommandCounterIncrement();
}

int
evs_member_join(const EvsSubscription *subscription, const char *consumer, TimestampTz now,
				bool *wrote)
{
	Oid			relid = evs_catalog()->subscription_member;
	Relation	rel = evs_open(relid, AccessShareLock);
	Membership	membership;

	look(rel, subscription, consumer, now, &membership);
	if (!membership.fresh &&
		evs_slot_lock(subscription->id, evs_slot_of_member(consumer), false))
	{
		LockRelationOid(relid, RowExclusiveLock);
		write_row(rel, subscription, consumer, now);
		*wrote = true;
	}
	/* who has written nothing may go on to wait: it holds nothing then */
	relation_close(rel, AccessShareLock);
	/* too few for all: who has one keeps it, the others stand by */
	if (subscription->slots < membership.nlive)
		return 1;
	return subscription->slots / membership.nlive +
		(membership.rank < subscription->slots % membership.nlive ? 1 : 0);
}

void
evs_member_leave(int64 subscription_id, const char *consumer)
{
	Relation	rel = evs_open(evs_catalog()->subscription_member, RowExclusiveLock);
	EvsWriter  *writer = evs_writer_open(rel);
	ScanKeyData keys[2];
	EvsScan		scan;

	(void) evs_slot_lock(subscription_id, evs_slot_of_member(consumer), true);
	evs_key_int8(&keys[0], 1, BTEqualStrategyNumber, subscription_id);
	evs_key_text(&keys[1], 2, BTEqualStrategyNumber, CStringGetTextDatum(consumer));
	evs_scan_begin(&scan, rel, evs_catalog()->subscription_member_pkey, SnapshotSelf, 2, keys,
				   ForwardScanDirection);
	if (evs_scan_next(&scan))
		evs_writer_delete(writer, &scan.slot->tts_tid);
	evs_scan_end(&scan, AccessShareLock);
	evs_writer_close(writer);
	relation_close(rel, NoLock);
	CommandCounterIncrement();
}
