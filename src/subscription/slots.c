/*
 * slots.c
 *	  All slots of a subscription: made, moved, and changed in number.
 *
 * The number of slots changes at one position of the log.  Up to there, the
 * old slots are served as before; when the last of them has come there, one of
 * the consumers switches over to the new ones.  In between, nothing beyond
 * that position is given out, so the order within a key is kept.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "utils/rel.h"

#include "base/debug_point.h"
#include "base/xact.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "subscription/failed.h"
#include "subscription/slots.h"
#include "compat.h"

static void
begin_anew(EvsSlot *state)
{
	evs_slot_fence(state);
	state->consumer = NULL;
	state->lease_until = 0;
	state->pid = 0;
	state->head = state->batch_to = state->suspect_to = 0;
	state->attempts = state->batch = state->batch_limit = 0;
}

void
evs_slots_reset(int64 subscription_id, int slot, int64 position)
{
	Relation	states = evs_open(evs_catalog()->slot_state, RowExclusiveLock);
	EvsSlot		state = {.subscription_id = subscription_id, .slot = slot};

	(void) evs_slot_lock(subscription_id, slot, true);
	if (evs_slot_read(states, subscription_id, slot, &state))
		evs_slot_check_visible(states, &state);
	begin_anew(&state);
	state.cursor = position;
	state.checkpoint = 0;
	state.pending = false;
	evs_failed_summarize(&state);
	evs_slot_write(states, &state);
	relation_close(states, NoLock);
	evs_xact_kick(evs_subscription_bucket(subscription_id));
}

void
evs_slots_give_back(Relation states, EvsSlot *state)
{
	if (state->pending)
	{
		evs_slot_check_visible(states, state);
		evs_failed_release(state);
	}
	state->consumer = NULL;
	evs_slot_write(states, state);
}

void
evs_slots_refresh(int64 subscription_id, int slot)
{
	Relation	states = evs_open(evs_catalog()->slot_state, RowExclusiveLock);
	EvsSlot		state;

	(void) evs_slot_lock(subscription_id, slot, true);
	if (evs_slot_read(states, subscription_id, slot, &state))
	{
		evs_slot_check_visible(states, &state);
		evs_failed_summarize(&state);
		evs_slot_write(states, &state);
	}
	relation_close(states, NoLock);
	evs_xact_kick(evs_subscription_bucket(subscription_id));
}

static bool
all_have_come(const EvsSubscription *subscription, Relation states, int64 *lowest_checkpoint)
{
	*lowest_checkpoint = subscription->drain_to;
	for (int i = 0; i < subscription->slots; i++)
	{
		EvsSlot		state;

		if (!evs_slot_read(states, subscription->id, i, &state) ||
			state.cursor < subscription->drain_to)
			return false;
		*lowest_checkpoint = Min(*lowest_checkpoint, state.checkpoint);
	}
	return true;
}

/* How many from the first on could be locked. */
static int
lock_slots(const EvsSubscription *subscription)
{
	int			n = 0;

	while (n < subscription->slots && evs_slot_lock(subscription->id, n, false))
		n++;
	return n;
}

static void
unlock_slots(const EvsSubscription *subscription, int n)
{
	for (int i = 0; i < n; i++)
		evs_slot_unlock(subscription->id, i);
}

/* From now on the new number counts; false if somebody else is at it.  The slots are locked. */
static bool
switch_over(const EvsSubscription *subscription)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._slots_switch($1)",
		.nargs = 1, .types = {INT8OID},
	};
	Datum		id = Int64GetDatum(subscription->id);

	return DatumGetBool(evs_spi_call(&plan, &id, NULL).values[0]);
}

bool
evs_slots_finish_drain(const EvsSubscription *subscription, Relation states)
{
	int64		checkpoint;
	int			nlocked;

	if (!all_have_come(subscription, states, &checkpoint))
		return false;
	EVS_DEBUG_POINT("drain_seen");
	nlocked = lock_slots(subscription);
	if (nlocked < subscription->slots || !all_have_come(subscription, states, &checkpoint) ||
		!evs_subscription_is_current(subscription) || !switch_over(subscription))
	{
		/* who has changed nothing may go on to wait, and keeps no locks */
		unlock_slots(subscription, nlocked);
		return false;
	}
	for (int i = 0; i < subscription->next_slots; i++)
	{
		EvsSlot		state = {.subscription_id = subscription->id, .slot = i};

		(void) evs_slot_lock(subscription->id, i, true);
		(void) evs_slot_read(states, subscription->id, i, &state);
		begin_anew(&state);
		state.cursor = subscription->drain_to;
		state.checkpoint = checkpoint;
		evs_failed_summarize(&state);
		evs_slot_write(states, &state);
	}
	evs_xact_kick(evs_subscription_bucket(subscription->id));
	return true;
}
