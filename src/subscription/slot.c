/*
 * slot.c
 *	  What has become of a subscription's events, slot by slot.
 *
 * The state of a slot is the newest of its rows in evstore.slot_state.  Rows
 * are only ever inserted, so an old snapshot somewhere costs nothing: there is
 * no chain of row versions to follow and nothing dead to step over.  Rows that
 * nobody can need any more are removed in passing, a few at a time, and only
 * once no snapshot is so old that it would keep them.
 *
 * Who changes a slot holds its lock to the end of the transaction, and reads
 * the newest state after having got it, with SnapshotSelf: at every isolation
 * level that is the truth.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/sequence.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "catalog/catalog.h"
#include "catalog/scan.h"
#include "exec/heap_writer.h"
#include "subscription/slot.h"
#include "compat.h"

/* With each so many changes of a slot, old rows are looked for. */
#define CLEAN_INTERVAL 64

/* Where the newest row was when this backend read it last; others may have passed it. */
typedef struct SeenSlot
{
	int64		subscription_id;
	int64		seq;
	int			slot;
} SeenSlot;

#define NSEEN 256

static SeenSlot seen_slots[NSEEN];

static void
slot_tag(LOCKTAG *tag, int64 subscription_id, int slot)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, (uint32) subscription_id, (uint32) slot,
						 EVS_LOCK_SLOT);
}

bool
evs_slot_lock(int64 subscription_id, int slot, bool wait)
{
	LOCKTAG		tag;

	slot_tag(&tag, subscription_id, slot);
	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

void
evs_slot_unlock(int64 subscription_id, int slot)
{
	LOCKTAG		tag;

	slot_tag(&tag, subscription_id, slot);
	(void) LockRelease(&tag, ExclusiveLock, false);
}

int
evs_slot_of_member(const char *consumer)
{
	return -1 - (int) (hash_bytes((const unsigned char *) consumer, strlen(consumer)) >> 2);
}

static void
begin_scan(EvsScan *scan, Relation states, ScanKeyData keys[2], int64 subscription_id,
		   int slot, Snapshot snapshot, ScanDirection direction)
{
	evs_key_int8(&keys[0], 1, BTEqualStrategyNumber, subscription_id);
	evs_key_int4(&keys[1], 2, slot);
	evs_scan_begin(scan, states, evs_catalog()->slot_state_pkey, snapshot, 2, keys, direction);
}

static int64
get_int8(TupleTableSlot *slot, AttrNumber attno)
{
	bool		isnull;

	return DatumGetInt64(slot_getattr(slot, attno, &isnull));
}

static int
get_int4(TupleTableSlot *slot, AttrNumber attno)
{
	bool		isnull;

	return DatumGetInt32(slot_getattr(slot, attno, &isnull));
}

static void
from_row(TupleTableSlot *row, EvsSlot *state)
{
	Datum		value;
	bool		isnull;

	state->subscription_id = get_int8(row, Anum_slot_state_subscription_id);
	state->slot = get_int4(row, Anum_slot_state_slot);
	state->seq = get_int8(row, Anum_slot_state_seq);
	state->cursor = get_int8(row, Anum_slot_state_cursor);
	state->checkpoint = get_int8(row, Anum_slot_state_checkpoint);
	state->epoch = get_int8(row, Anum_slot_state_epoch);
	state->lease_until = get_int8(row, Anum_slot_state_lease_until);
	state->head = get_int8(row, Anum_slot_state_head);
	state->batch_to = get_int8(row, Anum_slot_state_batch_to);
	state->suspect_to = get_int8(row, Anum_slot_state_suspect_to);
	state->pid = get_int4(row, Anum_slot_state_pid);
	state->attempts = get_int4(row, Anum_slot_state_attempts);
	state->batch = get_int4(row, Anum_slot_state_batch);
	state->batch_limit = get_int4(row, Anum_slot_state_batch_limit);
	state->pending = DatumGetBool(slot_getattr(row, Anum_slot_state_pending, &isnull));
	value = slot_getattr(row, Anum_slot_state_consumer, &isnull);
	state->consumer = isnull ? NULL : TextDatumGetCString(value);
}

static void
newest_keys(ScanKeyData keys[3], int64 subscription_id, int slot, int64 from_seq)
{
	evs_key_int8(&keys[0], 1, BTEqualStrategyNumber, subscription_id);
	evs_key_int4(&keys[1], 2, slot);
	evs_key_int8(&keys[2], 3, BTGreaterEqualStrategyNumber, from_seq);
}

static void
begin_newest(EvsScan *scan, Relation states, int64 subscription_id)
{
	ScanKeyData keys[3];

	newest_keys(keys, subscription_id, 0, PG_INT64_MIN);
	evs_scan_begin(scan, states, evs_catalog()->slot_state_pkey, SnapshotSelf, 3, keys,
				   BackwardScanDirection);
}

/* The newest row, if it is not before this one. */
static bool
find_newest(EvsScan *scan, int64 subscription_id, int slot, int64 from_seq, EvsSlot *state)
{
	ScanKeyData keys[3];

	newest_keys(keys, subscription_id, slot, from_seq);
	evs_scan_again(scan, 3, keys);
	if (!evs_scan_next(scan))
		return false;
	from_row(scan->slot, state);
	return true;
}

/*
 * A scan collects all entries on a page of the index that its keys match, and
 * an earlier row of the slot is never wanted: begin where it was last time.
 * If there is nothing from there on (what was seen has been rolled back, or it
 * was another store's), all rows are looked at.
 */
static bool
read_newest(EvsScan *scan, int64 subscription_id, int slot, EvsSlot *state)
{
	SeenSlot   *seen = &seen_slots[(uint64) (subscription_id * 31 + slot) % NSEEN];
	bool		known = seen->subscription_id == subscription_id && seen->slot == slot;

	if (!(known && find_newest(scan, subscription_id, slot, seen->seq, state)) &&
		!find_newest(scan, subscription_id, slot, PG_INT64_MIN, state))
		return false;
	seen->subscription_id = subscription_id;
	seen->slot = slot;
	seen->seq = state->seq;
	return true;
}

bool
evs_slot_read(Relation states, int64 subscription_id, int slot, EvsSlot *state)
{
	EvsScan		scan;
	bool		found;

	begin_newest(&scan, states, subscription_id);
	found = read_newest(&scan, subscription_id, slot, state);
	evs_scan_end(&scan, AccessShareLock);
	return found;
}

bool
evs_slot_read_all(Relation states, int64 subscription_id, int nslots, EvsSlot *slots)
{
	EvsScan		scan;
	bool		found = true;

	begin_newest(&scan, states, subscription_id);
	for (int i = 0; i < nslots && found; i++)
		found = read_newest(&scan, subscription_id, i, &slots[i]);
	evs_scan_end(&scan, AccessShareLock);
	return found;
}

void
evs_slot_check_visible(Relation states, const EvsSlot *state)
{
	ScanKeyData keys[2];
	EvsScan		scan;
	bool		visible;

	if (!IsolationUsesXactSnapshot())
		return;
	begin_scan(&scan, states, keys, state->subscription_id, state->slot,
			   GetTransactionSnapshot(), BackwardScanDirection);
	visible = evs_scan_next(&scan) &&
		get_int8(scan.slot, Anum_slot_state_seq) == state->seq;
	evs_scan_end(&scan, AccessShareLock);
	if (!visible)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update of a subscription"),
				 errhint("Use READ COMMITTED for consumers, or run the transaction again.")));
}

/* Epochs grow, also from a restored sequence that has been set back. */
void
evs_slot_fence(EvsSlot *state)
{
	int64		previous = state->epoch;

	do
	{
		state->epoch = nextval_internal(evs_catalog()->epoch_seq, false);
	} while (state->epoch <= previous);
}

/* A row is not needed if its successor is visible to everybody. */
static void
clean(Relation states, EvsWriter *writer, const EvsSlot *state)
{
	ItemPointerData tids[2 * CLEAN_INTERVAL];
	int			ntids = 0;
	ScanKeyData keys[2];
	EvsScan		scan;

	begin_scan(&scan, states, keys, state->subscription_id, state->slot, SnapshotSelf,
			   ForwardScanDirection);
	while (ntids < (int) lengthof(tids) && evs_scan_next(&scan))
	{
		bool		isnull;
		TransactionId xmin;

		/* reaching this row means that the ones before are not needed */
		xmin = DatumGetTransactionId(slot_getsysattr(scan.slot,
													 MinTransactionIdAttributeNumber, &isnull));
		if (TransactionIdIsNormal(xmin) && !GlobalVisCheckRemovableXid(states, xmin))
			break;
		tids[ntids++] = scan.slot->tts_tid;
	}
	evs_scan_end(&scan, AccessShareLock);
	/* the last one that everybody sees stays */
	for (int i = 0; i < ntids - 1; i++)
		evs_writer_delete(writer, &tids[i]);
}

void
evs_slot_write(Relation states, EvsSlot *state)
{
	EvsWriter  *writer = evs_writer_open(states);
	TupleTableSlot *row = evs_writer_slot(writer, 1);
	Datum	   *values = row->tts_values;

	state->seq++;
	memset(row->tts_isnull, false, sizeof(bool) * Natts_slot_state);
	values[Anum_slot_state_subscription_id - 1] = Int64GetDatum(state->subscription_id);
	values[Anum_slot_state_slot - 1] = Int32GetDatum(state->slot);
	values[Anum_slot_state_seq - 1] = Int64GetDatum(state->seq);
	values[Anum_slot_state_cursor - 1] = Int64GetDatum(state->cursor);
	values[Anum_slot_state_checkpoint - 1] = Int64GetDatum(state->checkpoint);
	values[Anum_slot_state_epoch - 1] = Int64GetDatum(state->epoch);
	values[Anum_slot_state_lease_until - 1] = TimestampTzGetDatum(state->lease_until);
	values[Anum_slot_state_head - 1] = Int64GetDatum(state->head);
	values[Anum_slot_state_batch_to - 1] = Int64GetDatum(state->batch_to);
	values[Anum_slot_state_suspect_to - 1] = Int64GetDatum(state->suspect_to);
	values[Anum_slot_state_pid - 1] = Int32GetDatum(state->pid);
	values[Anum_slot_state_attempts - 1] = Int32GetDatum(state->attempts);
	values[Anum_slot_state_batch - 1] = Int32GetDatum(state->batch);
	values[Anum_slot_state_batch_limit - 1] = Int32GetDatum(state->batch_limit);
	values[Anum_slot_state_pending - 1] = BoolGetDatum(state->pending);
	if (state->consumer != NULL)
		values[Anum_slot_state_consumer - 1] = CStringGetTextDatum(state->consumer);
	else
		row->tts_isnull[Anum_slot_state_consumer - 1] = true;
	values[Anum_slot_state_changed_at - 1] = TimestampTzGetDatum(evs_clock_now());
	evs_writer_add(writer, 0);
	evs_writer_flush(writer);
	CommandCounterIncrement();
	if (state->seq % CLEAN_INTERVAL == 0)
		clean(states, writer, state);
	evs_writer_close(writer);
}

bool
evs_process_is_alive(int pid)
{
	PGPROC	   *proc = BackendPidGetProc(pid);

	return proc != NULL && proc->databaseId == MyDatabaseId;
}

bool
evs_slot_is_claimed(const EvsSlot *state, TimestampTz now)
{
	return state->consumer != NULL && state->lease_until > now &&
		evs_process_is_alive(state->pid);
}
