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
all_have_come(const EvsSubscription *subscription, Relation states, bool lock,
			  int64 *lowest_checkpoint)
{
	*lowest_checkpoint = subscription->drain_to;
	for (int i = 0; i < subscription->slots; i++)
	{
		EvsSlot		state;

		if (lock && !evs_slot_lock(subscription->id, i, false))
			return false;
		if (!evs_slot_read(states, subscription->id, i, &state) ||
			state.cursor < subscription->drain_to)
			return false;
		*lowest_checkpoint = Min(*lowest_checkpoint, state.checkpoint);
	}
	return true;
}

bool
evs_slots_finish_drain(const EvsSubscription *subscription, Relation states)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._slots_switch($1)",
		.nargs = 1, .types = {INT8OID},
	};
	int64		checkpoint;
	Datum		id = Int64GetDatum(subscription->id);
	EvsSpiRows	rows;

	if (!all_have_come(subscription, states, false, &checkpoint))
		return false;
	EVS_DEBUG_POINT("drain_seen");
	if (!all_have_come(subscription, states, true, &checkpoint) ||
		!evs_subscription_is_current(subscription))
		return false;
	rows = evs_spi_call(&plan, &id, NULL);
	if (!DatumGetBool(rows.values[0]))
		return false;
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
