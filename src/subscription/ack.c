/*
 * ack.c
 *	  What consumers say of the events they were given.
 *
 * Each of these locks the slot, and compares the claim's epoch with the newest
 * one: who has been replaced, or moved by seek(), changes nothing.  What it
 * writes is part of the caller's transaction, so a consumer that stores its
 * results and acknowledges in one transaction does each event's work once.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/xact.h"
#include "catalog/catalog.h"
#include "stream/cursor.h"
#include "stream/position.h"
#include "subscription/ack.h"
#include "subscription/definition.h"
#include "subscription/failed.h"
#include "subscription/member.h"
#include "subscription/slot.h"
#include "subscription/slots.h"
#include "compat.h"

typedef struct ClaimedSlot
{
	EvsSubscription subscription;
	Relation	states;
	EvsSlot		state;
} ClaimedSlot;

static void
throw_lease_lost(const EvsClaim *claim, const EvsSlot *state)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "subscription", claim->name);
	evs_detail_int(&detail, "slot", claim->slot);
	evs_detail_int(&detail, "epoch", claim->epoch);
	if (state != NULL)
	{
		evs_detail_int(&detail, "current_epoch", state->epoch);
		evs_detail_string(&detail, "consumer", state->consumer);
	}
	ereport(ERROR,
			(errcode(ERRCODE_EVS_LEASE_LOST),
			 errmsg("the claim of slot %d of subscription \"%s\" has been lost",
					claim->slot, claim->name),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 errhint("Drop the events of this claim and fetch again: they are given to who has the slot now.")));
}

static void
begin(const EvsClaim *claim, ClaimedSlot *slot)
{
	slot->subscription = *evs_subscription_find(claim->name);
	evs_subscription_check_open(&slot->subscription);
	slot->states = evs_open(evs_catalog()->slot_state, RowExclusiveLock);
	if (claim->slot < 0 || claim->slot >= EVS_SUBSCRIPTION_SLOTS_MAX)
		throw_lease_lost(claim, NULL);
	(void) evs_slot_lock(slot->subscription.id, claim->slot, true);
	if (!evs_slot_read(slot->states, slot->subscription.id, claim->slot, &slot->state))
		throw_lease_lost(claim, NULL);
	if (slot->state.epoch != claim->epoch || slot->state.consumer == NULL)
		throw_lease_lost(claim, &slot->state);
	/* the number of slots may have begun to change while we waited */
	if (!evs_subscription_is_current(&slot->subscription))
		slot->subscription = *evs_subscription_find(claim->name);
}

/* Whatever a consumer says is a sign of life. */
static void
finish(ClaimedSlot *slot)
{
	EvsSlot    *state = &slot->state;

	if (state->cursor >= state->suspect_to)
		state->suspect_to = state->batch_limit = 0;
	if (state->cursor >= state->head)
		state->attempts = 0;
	state->pid = MyProcPid;
	state->lease_until = Max(state->lease_until,
							 TimestampTzPlusMilliseconds(evs_clock_now(),
														 slot->subscription.lease));
	evs_slot_write(slot->states, state);
	relation_close(slot->states, NoLock);
	evs_xact_watch_session();
}

static bool
is_of_slot(const ClaimedSlot *slot, EvsLogCursor *cursor)
{
	uint32		hash = evs_subscription_key(&slot->subscription, cursor, false).hash;

	return evs_subscription_slot_of(hash, slot->subscription.slots) == slot->state.slot;
}

/*
 * Nobody was given more than what is safe.  What is beyond the end of slots
 * that are being drained may have been given before that end was known; the
 * slots that come then give it again.
 */
static void
check_was_given(const EvsClaim *claim, const ClaimedSlot *slot, int64 position,
				const char *argument)
{
	int64		end;

	if (position <= slot->state.cursor)
		return;
	end = evs_position_settled();
	if (position > end)
		end = evs_position_safe();
	if (slot->subscription.next_slots > 0 && position <= end &&
		position > slot->subscription.drain_to)
		throw_lease_lost(claim, &slot->state);
	if (position > end)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" is beyond what can have been fetched", argument),
				 errdetail("It is " INT64_FORMAT ", and events up to " INT64_FORMAT " can have been.",
						   position, end)));
}

/*
 * Events that the filter fails on were parked by the fetch that met them, unless
 * its transaction was rolled back: then they are parked now.  Filters that can
 * fail are evaluated once more for this; others cost nothing.
 */
static void
park_filter_errors(ClaimedSlot *slot, int64 up_to)
{
	EvsSlot    *state = &slot->state;
	EvsLogRange range = {
		.after = state->cursor, .up_to = up_to, .filter = slot->subscription.filter,
		.want_errors = true,
	};
	EvsFailedKeys failed = {0};
	EvsLogCursor *cursor;

	if (range.filter == NULL || !evs_filter_can_fail(range.filter) || up_to <= range.after)
		return;
	if (state->pending)
	{
		evs_slot_check_visible(slot->states, state);
		evs_failed_load(state, &failed);
	}
	cursor = evs_cursor_open(&range, GetLatestSnapshot());
	while (evs_cursor_next(cursor))
	{
		const char *error = evs_cursor_filter_error(cursor);
		int64		position = evs_cursor_position(cursor);

		if (error == NULL || evs_failed_has_position(&failed, position) ||
			!is_of_slot(slot, cursor))
			continue;
		evs_slot_check_visible(slot->states, state);
		evs_failed_park(state, position, EVS_PARK_FILTER_ERROR, CStringGetTextDatum(error));
		state->pending = true;
	}
	evs_cursor_close(cursor);
}

int64
evs_ack_up_to(const EvsClaim *claim, int64 up_to)
{
	ClaimedSlot slot;
	EvsSlot    *state = &slot.state;

	begin(claim, &slot);
	check_was_given(claim, &slot, up_to, "up_to");
	park_filter_errors(&slot, up_to);
	if (state->pending)
	{
		evs_slot_check_visible(slot.states, state);
		evs_failed_pass(state, up_to, true);
		state->cursor = Max(state->cursor, up_to);
		evs_failed_summarize(state);
	}
	else if (up_to <= state->cursor)
	{
		relation_close(slot.states, NoLock);
		return state->checkpoint;
	}
	else
		state->checkpoint = state->cursor = up_to;
	finish(&slot);
	return state->checkpoint;
}

static int64
highest(Datum positions)
{
	ArrayType  *array = DatumGetArrayTypeP(positions);
	Datum	   *values;
	int			n;
	int64		result = 0;

	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"positions\" must not contain nulls")));
	deconstruct_array(array, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
					  &values, NULL, &n);
	for (int i = 0; i < n; i++)
		result = Max(result, DatumGetInt64(values[i]));
	return result;
}

int64
evs_ack_positions(const EvsClaim *claim, Datum positions)
{
	ClaimedSlot slot;
	EvsSlot    *state = &slot.state;
	int64		up_to = highest(positions);

	begin(claim, &slot);
	check_was_given(claim, &slot, up_to, "positions");
	evs_slot_check_visible(slot.states, state);
	park_filter_errors(&slot, up_to);
	evs_failed_pass_some(state, up_to, positions);
	state->cursor = Max(state->cursor, up_to);
	evs_failed_summarize(state);
	finish(&slot);
	return state->checkpoint;
}

/*
 * How many events of the slot are there after the cursor, up to a position?
 * Those that wait for failed ones have not been given.
 */
static int
count_events(const ClaimedSlot *slot, int64 up_to)
{
	EvsLogRange range = {
		.after = slot->state.cursor, .up_to = up_to, .filter = slot->subscription.filter,
	};
	EvsFailedKeys failed = {0};
	EvsLogCursor *cursor;
	int			n = 0;

	if (slot->state.pending)
		evs_failed_load(&slot->state, &failed);
	cursor = evs_cursor_open(&range, GetLatestSnapshot());
	while (evs_cursor_next(cursor))
	{
		uint32		hash = evs_subscription_key(&slot->subscription, cursor, false).hash;

		if (evs_subscription_slot_of(hash, slot->subscription.slots) == slot->state.slot &&
			!evs_failed_has_position(&failed, evs_cursor_position(cursor)) &&
			!evs_failed_must_wait(&failed, hash, evs_cursor_position(cursor)))
			n++;
	}
	evs_cursor_close(cursor);
	return n;
}

/*
 * A batch failed as one: half of it next time, until one event is alone.
 * false: it is alone.
 */
static bool
bisect(ClaimedSlot *slot, const EvsNack *nack)
{
	EvsSlot    *state = &slot->state;
	int			n = count_events(slot, nack->position);

	if (state->pending)
		n += evs_failed_count_delivered(state, nack->position);
	if (n == 1)
		return false;
	if (state->pending)
		evs_failed_release(state);
	/* what is given again lies behind the cursor: the limit outlives this call */
	if (n > 1)
	{
		state->suspect_to = Max(state->suspect_to, Max(nack->position, state->cursor + 1));
		state->batch_limit = n / 2;
	}
	return true;
}

int64
evs_nack_event(const EvsClaim *claim, const EvsNack *nack)
{
	ClaimedSlot slot;
	const char *action = nack->action;

	begin(claim, &slot);
	check_was_given(claim, &slot, nack->position, "at_position");
	evs_slot_check_visible(slot.states, &slot.state);
	if (strcmp(action, "bisect") == 0)
		action = bisect(&slot, nack) ? NULL : "retry";
	if (action != NULL)
		evs_failed_nack(&slot.state, nack->position, nack->error, !nack->has_error,
						action, nack->delay, !nack->has_delay);
	evs_failed_summarize(&slot.state);
	finish(&slot);
	return slot.state.checkpoint;
}

TimestampTz
evs_claim_extend(const EvsClaim *claim, int64 ms)
{
	ClaimedSlot slot;

	begin(claim, &slot);
	if (ms > 0)
		slot.state.lease_until = TimestampTzPlusMilliseconds(evs_clock_now(), ms);
	finish(&slot);
	return slot.state.lease_until;
}

static bool
is_of_consumer(Relation states, const EvsSubscription *subscription, int slot,
			   const char *consumer, EvsSlot *state)
{
	return evs_slot_read(states, subscription->id, slot, state) &&
		state->consumer != NULL && strcmp(state->consumer, consumer) == 0;
}

int
evs_claim_release(const char *name, const char *consumer)
{
	const EvsSubscription subscription = *evs_subscription_find(name);
	Relation	states = evs_open(evs_catalog()->slot_state, RowExclusiveLock);
	int			n = 0;

	evs_subscription_check_open(&subscription);
	evs_member_leave(subscription.id, consumer);
	for (int i = 0; i < subscription.slots; i++)
	{
		EvsSlot		state;

		/* waits for nobody who has another one */
		if (!is_of_consumer(states, &subscription, i, consumer, &state))
			continue;
		(void) evs_slot_lock(subscription.id, i, true);
		if (!is_of_consumer(states, &subscription, i, consumer, &state))
			continue;
		evs_slots_give_back(states, &state);
		n++;
	}
	relation_close(states, NoLock);
	evs_xact_kick(evs_subscription_bucket(subscription.id));
	return n;
}
