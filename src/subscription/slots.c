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
begin_anew(EvsSlot *state, int64 epoch)
{
	state->epoch = epoch;
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
	begin_anew(&state, state.epoch + 1);
	state.cursor = position;
	state.checkpoint = 0;
	state.pending = false;
	evs_failed_summarize(&state);
	evs_slot_write(states, &state);
	relation_close(states, NoLock);
	evs_xact_kick(evs_subscription_bucket(subscription_id));
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
			  int64 *lowest_checkpoint, int64 *highest_epoch)
{
	*lowest_checkpoint = subscription->drain_to;
	*highest_epoch = 0;
	for (int i = 0; i < subscription->slots; i++)
	{
		EvsSlot		state;

		if (lock && !evs_slot_lock(subscription->id, i, false))
			return false;
		if (!evs_slot_read(states, subscription->id, i, &state) ||
			state.cursor < subscription->drain_to)
			return false;
		*lowest_checkpoint = Min(*lowest_checkpoint, state.checkpoint);
		*highest_epoch = Max(*highest_epoch, state.epoch);
	}
	return true;
}

/*
 * Others may have switched since the definition was read.  Operators lock the
 * subscription before its slots, so it is not waited for.
 */
static bool
lock_draining(const EvsSubscription *subscription)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT s.id FROM evstore.subscription s"
		" WHERE s.id = $1 AND s.next_slots = $2 AND s.drain_to = $3 FOR NO KEY UPDATE SKIP LOCKED",
		.nargs = 3, .types = {INT8OID, INT4OID, INT8OID},
	};
	Datum		args[3];

	args[0] = Int64GetDatum(subscription->id);
	args[1] = Int32GetDatum(subscription->next_slots);
	args[2] = Int64GetDatum(subscription->drain_to);
	return evs_spi_call(&plan, args, NULL).nrows == 1;
}

bool
evs_slots_finish_drain(const EvsSubscription *subscription, Relation states)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._slots_switch($1)",
		.nargs = 1, .types = {INT8OID},
	};
	int64		checkpoint;
	int64		epoch;
	Datum		id = Int64GetDatum(subscription->id);

	if (!all_have_come(subscription, states, false, &checkpoint, &epoch))
		return false;
	EVS_DEBUG_POINT("drain_seen");
	if (!lock_draining(subscription) ||
		!all_have_come(subscription, states, true, &checkpoint, &epoch))
		return false;
	(void) evs_spi_call(&plan, &id, NULL);
	for (int i = 0; i < subscription->next_slots; i++)
	{
		EvsSlot		state = {.subscription_id = subscription->id, .slot = i};

		(void) evs_slot_lock(subscription->id, i, true);
		(void) evs_slot_read(states, subscription->id, i, &state);
		begin_anew(&state, epoch + 1);
		state.cursor = subscription->drain_to;
		state.checkpoint = checkpoint;
		evs_failed_summarize(&state);
		evs_slot_write(states, &state);
	}
	evs_xact_kick(evs_subscription_bucket(subscription->id));
	return true;
}
