/*
 * fetch.c
 *	  Giving events to consumers.
 *
 * A consumer gets the events after its slots' cursors, which only
 * acknowledging moves.  So fetching again gives the same events again, and a
 * fetch by who has its slots already writes nothing: no row, no lock, no
 * transaction id.  What it may write: that the consumer is there, claims, and
 * their renewal.  A call that had to write does not sleep afterwards, since it
 * would hold locks; it returns, perhaps with nothing, and the next one sleeps.
 *
 * All slots of the consumer are served by one scan of the log, from the lowest
 * of their cursors on.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/debug_point.h"
#include "base/wait.h"
#include "base/xact.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "stream/cursor.h"
#include "stream/event.h"
#include "stream/in_flight.h"
#include "stream/position.h"
#include "subscription/definition.h"
#include "subscription/failed.h"
#include "subscription/fetch.h"
#include "subscription/member.h"
#include "subscription/slot.h"
#include "subscription/slots.h"
#include "compat.h"

/* Columns of fetch()'s result before those of the event. */
#define NPREFIX 3
#define NCOLUMNS (NPREFIX + EVS_EVENT_NCOLUMNS)

/* At least so long between two looks for something that is due, in ms. */
#define LOOK_AGAIN_MIN 50

/* A slot that has seen so many positions without an event for it moves on. */
#define ADVANCE_AFTER 1000

/* So many positions are looked at in one call: one that is cancelled loses no more. */
#define SCAN_MAX 5000000

/* One slot of the consumer in one fetch. */
typedef struct Held
{
	EvsSlot		state;
	bool		dirty;			/* to be written; it is locked then */
	bool		claimed;		/* by this fetch */
	bool		alone;			/* and who lost it had one event only */
	bool		passed;			/* events that must wait were passed over */
	bool		closed;			/* nothing more can be given now */
	int64		passed_to;		/* the last of them without a row, or 0 */
	int			limit;			/* events wanted, 0 = any number */
	int			count;			/* events given, due ones included */
	int64		first;			/* new event given, or 0 */
	int64		last;
	EvsFailedKeys failed;		/* if state.pending */
} Held;

typedef struct FetchState
{
	const EvsFetch *request;
	ReturnSetInfo *result;
	EvsSubscription subscription;
	Relation	states;
	TimestampTz now;
	EvsSlot    *all;			/* of the subscription, by number */
	Held	  **held;			/* by number; NULL if not ours */
	int		   *nlocks;			/* by number; taken in this look */
	int			nheld;
	int64		remaining;
	bool		wrote;
	int			nparked;		/* events that the filter failed on, in this look */
	bool		passed_over;	/* a cursor has moved on over events that wait */
	TimestampTz look_again;		/* by evstore's clock; 0 = no reason to */
} FetchState;

static void
look_again_at(FetchState *state, TimestampTz when)
{
	if (when != 0 && (state->look_again == 0 || when < state->look_again))
		state->look_again = when;
}

/* ---- claims ---- */

static TimestampTz
lease_end(const FetchState *state)
{
	return TimestampTzPlusMilliseconds(state->now, state->subscription.lease);
}

static void
hold(FetchState *state, const EvsSlot *slot, bool claimed)
{
	Held	   *held = palloc0(sizeof(Held));

	held->state = *slot;
	held->claimed = held->dirty = claimed;
	state->held[slot->slot] = held;
	state->nheld++;
}

/*
 * Lock a slot and read it again; false if somebody else is at it, or if the
 * number of slots has changed, so that it is not the slot that it was.
 */
static bool
lock_and_read(FetchState *state, int number, EvsSlot *slot)
{
	if (!evs_slot_lock(state->subscription.id, number, false))
		return false;
	state->nlocks[number]++;
	return evs_subscription_is_current(&state->subscription) &&
		evs_slot_read(state->states, state->subscription.id, number, slot);
}

/* Who has changed nothing of a slot does not keep it locked: he may go on to wait. */
static void
unlock_unchanged(FetchState *state)
{
	for (int i = 0; i < state->subscription.slots; i++)
		if (state->held[i] == NULL || !state->held[i]->dirty)
			for (; state->nlocks[i] > 0; state->nlocks[i]--)
				evs_slot_unlock(state->subscription.id, i);
}

/* Lock a slot that was read without; false if it is not as it was read. */
static bool
lock_held(FetchState *state, Held *held)
{
	EvsSlot		again;

	return held->dirty ||
		(lock_and_read(state, held->state.slot, &again) && again.seq == held->state.seq);
}

/* Is it ours?  The same name in a process that has gone is a former life. */
static bool
is_mine(const FetchState *state, const EvsSlot *slot)
{
	return slot->consumer != NULL && strcmp(slot->consumer, state->request->consumer) == 0 &&
		(slot->pid == MyProcPid || evs_process_is_alive(slot->pid));
}

/*
 * Whoever had the slot went without a word.  If it had not got past the first
 * event of its claim, that event, or another of the batch, may be the reason:
 * try with half the batch, so that in the end one event is alone.
 */
static void
suspect_batch(FetchState *state, EvsSlot *slot)
{
	if (slot->consumer == NULL || slot->head <= slot->cursor)
	{
		slot->attempts = 0;
		return;
	}
	slot->attempts++;
	slot->suspect_to = Max(slot->suspect_to, slot->batch_to);
	if (slot->batch <= 1 && slot->attempts >= state->subscription.max_attempts)
	{
		evs_slot_check_visible(state->states, slot);
		evs_failed_park_head(slot);
		slot->pending = true;
		slot->attempts = 0;
	}
	slot->batch_limit = Max(1, slot->batch / 2);
}

static void
claim(FetchState *state, EvsSlot *slot)
{
	bool		alone = slot->batch <= 1;

	suspect_batch(state, slot);
	evs_slot_fence(slot);
	slot->consumer = pstrdup(state->request->consumer);
	slot->pid = MyProcPid;
	slot->lease_until = lease_end(state);
	slot->head = slot->batch_to = 0;
	slot->batch = 0;
	hold(state, slot, true);
	state->held[slot->slot]->alone = alone;
	evs_xact_watch_session();
}

static void
try_to_claim(FetchState *state, int number)
{
	EvsSlot		slot;

	if (!lock_and_read(state, number, &slot))
		return;
	if (is_mine(state, &slot))
		hold(state, &slot, false);
	else if (!evs_slot_is_claimed(&slot, state->now))
		claim(state, &slot);
}

static void
give_up(FetchState *state, int number)
{
	EvsSlot		slot;

	if (!lock_and_read(state, number, &slot) || !is_mine(state, &slot))
		return;
	evs_slots_give_back(state->states, &slot);
	state->nlocks[number] = 0;	/* to the end of the transaction */
	evs_xact_kick(evs_subscription_bucket(state->subscription.id));
	state->wrote = true;
}

/* A claim that has lived a third of its lease is renewed in passing. */
static void
keep(FetchState *state, int number)
{
	EvsSlot		slot = state->all[number];
	int64		left = slot.lease_until - state->now;

	if (left < (int64) state->subscription.lease * 1000 * 2 / 3 || slot.pid != MyProcPid)
	{
		EvsSlot		again;

		if (lock_and_read(state, number, &again))
		{
			if (!is_mine(state, &again))
				return;
			again.pid = MyProcPid;
			again.lease_until = lease_end(state);
			hold(state, &again, false);
			state->held[number]->dirty = true;
			evs_xact_watch_session();
			return;
		}
	}
	hold(state, &slot, false);
}

/* Take the consumer's share: keep what it has, give up or claim. */
static void
take_slots(FetchState *state)
{
	int			share = evs_member_join(&state->subscription, state->request->consumer,
										state->now, &state->wrote);
	int			nslots = state->subscription.slots;

	for (int i = 0; i < nslots; i++)
	{
		if (!is_mine(state, &state->all[i]))
			continue;
		if (state->nheld < share)
			keep(state, i);
		else
			give_up(state, i);
	}
	for (int i = 0; i < nslots && state->nheld < share; i++)
		if (state->held[i] == NULL && !is_mine(state, &state->all[i]) &&
			!evs_slot_is_claimed(&state->all[i], state->now))
			try_to_claim(state, i);

	/* somebody else's lease may run out while we wait */
	for (int i = 0; i < nslots && state->nheld < share; i++)
		if (state->held[i] == NULL)
			look_again_at(state, state->all[i].lease_until);
}

/* ---- giving events ---- */

static void
put_event(FetchState *state, Held *held, EvsLogCursor *cursor, int attempt, Datum data)
{
	TupleTableSlot *row = evs_cursor_slot(cursor);
	Datum		values[NCOLUMNS];
	bool		nulls[NCOLUMNS];

	state->remaining--;
	held->count++;
	if (state->result == NULL)
		return;
	evs_event_from_row(evs_cursor_leaf(cursor), row,
					   PointerGetDatum(evs_cursor_stream_name(cursor)),
					   values + NPREFIX, nulls + NPREFIX);
	values[0] = Int32GetDatum(held->state.slot);
	values[1] = Int64GetDatum(held->state.epoch);
	values[2] = Int32GetDatum(attempt);
	nulls[0] = nulls[1] = nulls[2] = false;
	if (data != (Datum) 0)
		values[NPREFIX + EVS_EVENT_DATA] = data;
	tuplestore_putvalues(state->result->setResult, state->result->setDesc, values, nulls);
	if (evs_event_has_external(values + NPREFIX, nulls + NPREFIX))
		evs_cursor_keep(cursor);
}

static int64
due_wanted(const FetchState *state, const Held *held)
{
	return held->limit > 0 ? Min(state->remaining, held->limit) : state->remaining;
}

/*
 * Events that failed before and are due.  All are at or before the cursor.  If
 * they cannot be had now, nothing new is given: ack() takes all that was
 * delivered with the claim for done, so that must be given again first.
 *
 * One may have been appended after this look took its snapshot, and have failed
 * at who had the slot until then: so they are looked for with a newer one, and
 * what that does not see is gone for good.
 */
static void
give_due_events(FetchState *state, Held *held)
{
	EvsDueEvent *due;
	Snapshot	snapshot;
	int			n;

	evs_slot_check_visible(state->states, &held->state);
	evs_failed_load(&held->state, &held->failed);
	look_again_at(state, held->failed.next_retry);
	if (held->failed.next_retry == 0 || held->failed.next_retry > state->now)
		return;
	if (!lock_held(state, held))
	{
		held->closed = true;
		return;
	}
	due = evs_failed_take(&held->state, due_wanted(state, held), held->alone, &n);
	held->dirty = true;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	for (int i = 0; i < n; i++)
	{
		EvsLogRange range = {.after = due[i].position - 1, .up_to = due[i].position};
		EvsLogCursor *cursor = evs_cursor_open(&range, snapshot);

		if (evs_cursor_next(cursor))
			put_event(state, held, cursor, due[i].attempts + 1, due[i].data);
		else
			evs_failed_forget(&held->state, due[i].position);
		evs_cursor_close(cursor);
	}
	UnregisterSnapshot(snapshot);
	/* some may have been parked, or be gone */
	evs_failed_summarize(&held->state);
	evs_failed_load(&held->state, &held->failed);
}

/* Called for each event of the log; see EvsLogRange. */
static bool
is_other_slot(void *arg, int64 stream_id)
{
	FetchState *state = arg;

	return state->held[evs_subscription_slot_of(evs_stream_key_hash(stream_id),
												state->subscription.slots)] == NULL;
}

static Held *
held_of_event(FetchState *state, EvsLogCursor *cursor, uint32 *key_hash)
{
	if (state->subscription.slots > 1 || state->held[0]->state.pending)
		*key_hash = evs_subscription_key(&state->subscription, cursor, false).hash;
	else
		*key_hash = 0;
	return state->held[evs_subscription_slot_of(*key_hash, state->subscription.slots)];
}

/*
 * Must the event wait?  That will be written down, so the slot is locked; if
 * somebody else has it, nothing that comes after can be given.
 */
static bool
pass_over(FetchState *state, Held *held, int64 position, uint32 key_hash)
{
	if (!held->state.pending)
		return false;
	if (evs_failed_has_position(&held->failed, position))
		held->passed = true;
	else if (!evs_failed_must_wait(&held->failed, key_hash, position))
		return false;
	else if (state->result == NULL)
		held->passed = true;
	else if (lock_held(state, held))
	{
		held->passed = held->dirty = true;
		held->passed_to = position;
	}
	else
		held->closed = true;
	return true;
}

/*
 * The filter failed on the event: it is parked, whatever the policy.  Who only
 * asks whether there is something is told so, and the next fetch parks it.
 */
static void
park_event(FetchState *state, Held *held, int64 position, const char *error)
{
	EvsSlot    *slot = &held->state;

	if (slot->pending && evs_failed_has_position(&held->failed, position))
		held->passed = true;
	else if (state->result == NULL)
		held->passed = true;
	else if (lock_held(state, held))
	{
		evs_slot_check_visible(state->states, slot);
		evs_failed_park(slot, position, EVS_PARK_FILTER_ERROR, CStringGetTextDatum(error));
		slot->pending = held->dirty = true;
		state->nparked++;
	}
	else
		held->closed = true;
}

static bool
is_full(const Held *held)
{
	return held->closed || (held->limit > 0 && held->count >= held->limit);
}

static void
give_new_event(FetchState *state, Held *held, EvsLogCursor *cursor, uint32 key_hash)
{
	int64		position = evs_cursor_position(cursor);
	const char *error = evs_cursor_filter_error(cursor);
	int			attempt = 1;

	if (position <= held->state.cursor)
		return;
	if (error != NULL)
	{
		if (!held->closed)
			park_event(state, held, position, error);
		return;
	}
	if (held->closed || pass_over(state, held, position, key_hash) || is_full(held))
		return;
	if (held->first == 0)
	{
		held->first = position;
		attempt += held->state.attempts;
	}
	held->last = position;
	put_event(state, held, cursor, attempt, (Datum) 0);
}

static bool
all_are_full(FetchState *state)
{
	for (int i = 0; i < state->subscription.slots; i++)
		if (state->held[i] != NULL && !is_full(state->held[i]))
			return false;
	return true;
}

/* One scan for all slots; returns up to where everything was looked at. */
static int64
give_new_events(FetchState *state, int64 up_to, Snapshot snapshot)
{
	EvsLogRange range = {.after = PG_INT64_MAX, .up_to = up_to};
	EvsLogCursor *cursor;
	int64		scanned;

	for (int i = 0; i < state->subscription.slots; i++)
		if (state->held[i] != NULL)
			range.after = Min(range.after, state->held[i]->state.cursor);
	if (range.after >= up_to || state->remaining <= 0 || all_are_full(state))
		return range.after;
	range.up_to = Min(up_to, range.after + SCAN_MAX);
	range.filter = state->subscription.filter;
	range.want_errors = true;
	if (state->subscription.key_kind == EVS_KEY_STREAM &&
		state->nheld < state->subscription.slots)
	{
		range.skip = is_other_slot;
		range.skip_arg = state;
	}
	cursor = evs_cursor_open(&range, snapshot);
	while (state->remaining > 0 && state->nparked < EVS_PARK_MAX && evs_cursor_next(cursor))
	{
		uint32		key_hash;
		Held	   *held = held_of_event(state, cursor, &key_hash);

		if (held == NULL)
			continue;
		give_new_event(state, held, cursor, key_hash);
		if (is_full(held) && all_are_full(state))
			break;
	}
	scanned = evs_cursor_scanned(cursor);
	evs_cursor_close(cursor);
	return scanned;
}

/*
 * Nothing in what was scanned is for this slot: move its cursor, so that it is
 * not scanned again.  Not for each event of the others, though.
 */
static void
advance(FetchState *state, Held *held, int64 scanned)
{
	EvsSlot    *slot = &held->state;

	if (held->passed_to > 0)
	{
		evs_slot_check_visible(state->states, slot);
		evs_failed_hold(slot, held->passed_to);
	}
	if (held->count > 0 || held->closed || scanned <= slot->cursor)
		return;
	if (!held->dirty && !held->passed && state->subscription.next_slots == 0 &&
		scanned - slot->cursor < ADVANCE_AFTER)
		return;
	if (!lock_held(state, held))
		return;
	if (slot->pending)
	{
		evs_slot_check_visible(state->states, slot);
		evs_failed_pass(slot, scanned, false);
	}
	slot->cursor = scanned;
	if (slot->pending)
		evs_failed_summarize(slot);
	else
		slot->checkpoint = Max(slot->checkpoint, scanned);
	held->dirty = true;
	state->passed_over |= held->passed;
}

static void
write_back(FetchState *state, Held *held)
{
	if (!held->dirty)
		return;
	if (held->claimed)
	{
		held->state.head = held->first;
		held->state.batch_to = held->last;
		held->state.batch = held->count;
	}
	evs_slot_write(state->states, &held->state);
	state->wrote = true;
}

/* While the number of slots is being changed, the old ones end there. */
static int64
end_of_slots(const FetchState *state, int64 safe)
{
	return state->subscription.next_slots > 0 ? Min(safe, state->subscription.drain_to) : safe;
}

static void
give_events(FetchState *state, Snapshot snapshot, int64 safe)
{
	int64		scanned;

	for (int i = 0; i < state->subscription.slots; i++)
	{
		Held	   *held = state->held[i];

		if (held == NULL)
			continue;
		if (held->state.cursor < held->state.suspect_to)
			held->limit = held->state.batch_limit;
		if (held->state.pending)
			give_due_events(state, held);
	}
	scanned = give_new_events(state, end_of_slots(state, safe), snapshot);
	for (int i = 0; i < state->subscription.slots; i++)
		if (state->held[i] != NULL)
		{
			advance(state, state->held[i], scanned);
			write_back(state, state->held[i]);
		}
}

/* ---- one look, and waiting for a better one ---- */

/* All slots as they are; false if the number of slots has just changed. */
static bool
read_slots(FetchState *state)
{
	EvsSubscription *subscription = &state->subscription;

	*subscription = *evs_subscription_find(state->request->name);
	evs_subscription_check_open(subscription);
	state->all = palloc0(sizeof(EvsSlot) * subscription->slots);
	return evs_slot_read_all(state->states, subscription->id, subscription->slots, state->all);
}

static void
begin_look(FetchState *state)
{
	state->now = evs_clock_now();
	evs_subscription_pin();
	state->states = evs_open(evs_catalog()->slot_state, AccessShareLock);
	for (int attempt = 0; !read_slots(state); attempt++)
		if (attempt == 3)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("subscription \"%s\" is being changed", state->request->name),
					 errhint("Fetch again.")));
	state->held = palloc0(sizeof(Held *) * state->subscription.slots);
	state->nlocks = palloc0(sizeof(int) * state->subscription.slots);
	state->nheld = 0;
	state->nparked = 0;
	state->look_again = 0;
}

/* The safe position first, the snapshot second. */
static void
look_once(FetchState *state)
{
	int64		safe = evs_position_safe();
	Snapshot	snapshot;

	EVS_DEBUG_POINT("fetch_safe_position_read");
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	begin_look(state);
	EVS_DEBUG_POINT("fetch_slots_read");
	if (!state->subscription.paused)
	{
		bool		switched = state->subscription.next_slots > 0 &&
			evs_slots_finish_drain(&state->subscription, state->states);

		state->wrote |= switched;
		if (!switched)
		{
			take_slots(state);
			if (state->nheld > 0)
				give_events(state, snapshot, safe);
			unlock_unchanged(state);
		}
	}
	relation_close(state->states, AccessShareLock);
	UnregisterSnapshot(snapshot);
}

static void
check_may_wait(int64 wait_ms)
{
	if (wait_ms > 0 && evs_in_flight_here())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot wait for events in a transaction that has appended"),
				 errdetail("Nothing appended after it becomes visible before it has ended."),
				 errhint("Commit first, or do not wait.")));
}

/*
 * When to look again, by the wall clock: evstore's may be set.  What is due and
 * yet cannot be had is being worked at by somebody, perhaps for long.
 */
static TimestampTz
wake_time(const FetchState *state, TimestampTz deadline)
{
	TimestampTz soonest = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOOK_AGAIN_MIN);

	if (state->look_again == 0 || evs_clock_is_overridden())
		return deadline;
	return Min(deadline, Max(state->look_again, soonest));
}

void
evs_fetch_events(const EvsFetch *request, ReturnSetInfo *result)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), request->wait_ms);
	FetchState	state = {.request = request, .result = result, .remaining = request->max_count};
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "evstore fetch",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);
	int			bucket = 0;
	bool		standby = false;	/* there is no slot for us now */

	check_may_wait(request->wait_ms);
	if (request->wait_ms > 0)
	{
		bucket = evs_subscription_bucket(evs_subscription_find(request->name)->id);
		evs_wait_announce(bucket, EVS_WAIT_EVENTS);
	}
	for (;;)
	{
		/* what a cursor has passed over may be due: then there is something */
		do
		{
			state.passed_over = false;
			look_once(&state);
		} while (state.passed_over && state.remaining == request->max_count);
		if (state.remaining < request->max_count || state.wrote ||
			request->wait_ms == 0 || GetCurrentTimestamp() >= deadline)
			break;
		if (standby == (state.nheld == 0))
			evs_wait_sleep(wake_time(&state, deadline));
		else
		{
			/* wait among the others, and look again: it is announced only now */
			standby = !standby;
			evs_wait_end();
			evs_wait_announce(bucket, standby ? EVS_WAIT_CHANGE : EVS_WAIT_EVENTS);
		}
		MemoryContextReset(scratch);
	}
	if (request->wait_ms > 0)
		evs_wait_end();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}

/* ---- waiting without taking ---- */

/* Could this slot be served to the consumer? */
static bool
is_of_interest(const FetchState *state, const EvsSlot *slot)
{
	return state->request->consumer == NULL || is_mine(state, slot) ||
		!evs_slot_is_claimed(slot, state->now);
}

/* A slot's failed events: is one due? */
static bool
has_due_event(FetchState *state, Held *held)
{
	evs_failed_load(&held->state, &held->failed);
	look_again_at(state, held->failed.next_retry);
	return held->failed.next_retry != 0 && held->failed.next_retry <= state->now;
}

static bool
has_something(FetchState *state)
{
	int64		safe = evs_position_safe();
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		found = false;

	begin_look(state);
	state->remaining = 1;
	for (int i = 0; i < state->subscription.slots; i++)
	{
		EvsSlot    *slot = &state->all[i];

		if (!is_of_interest(state, slot))
		{
			look_again_at(state, slot->lease_until);
			continue;
		}
		hold(state, slot, false);
		if (slot->pending)
			found |= has_due_event(state, state->held[i]);
	}
	if (!found && state->nheld > 0)
	{
		/* where a scan ends before the log does, fetch() goes on */
		found = give_new_events(state, end_of_slots(state, safe), snapshot) <
			end_of_slots(state, safe) || state->remaining == 0;
		/* what has only been passed over: the next fetch goes on behind it */
		for (int i = 0; i < state->subscription.slots; i++)
			found |= state->held[i] != NULL && state->held[i]->passed;
	}
	relation_close(state->states, AccessShareLock);
	UnregisterSnapshot(snapshot);
	return found && !state->subscription.paused;
}

void
evs_fetch_wait(FunctionCallInfo fcinfo, const EvsFetch *request)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), request->wait_ms);
	FetchState	state = {.request = request};
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "evstore wait",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);

	check_may_wait(request->wait_ms);
	evs_wait_announce(evs_subscription_bucket(evs_subscription_find(request->name)->id),
					  EVS_WAIT_EVENTS);
	while (!has_something(&state) && GetCurrentTimestamp() < deadline)
	{
		(void) evs_spi_commit(fcinfo);
		evs_wait_sleep(wake_time(&state, deadline));
		MemoryContextReset(scratch);
	}
	evs_wait_end();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}
