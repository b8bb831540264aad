/*
 * progress.c
 *	  How far projections are.
 *
 * A checkpoint moves with events only.  Where there is none for the projection
 * between its checkpoint and a position, it has got there.
 */
#include "postgres.h"

#include "access/relation.h"
#include "utils/rel.h"

#include "catalog/catalog.h"
#include "projection/progress.h"
#include "stream/cursor.h"
#include "subscription/slot.h"
#include "compat.h"

/* The position before the slot's first event in (after, up_to], or up_to. */
static int64
before_next_event(const EvsSubscription *subscription, int slot, int64 after, int64 up_to,
				  Snapshot snapshot)
{
	EvsSlotFilter filter = {.slots = subscription->slots, .slot = slot};
	EvsLogRange range = {
		.after = after, .up_to = up_to, .filter = subscription->filter,
		.skip = evs_subscription_is_other_slot, .skip_arg = &filter,
	};
	EvsLogCursor *cursor = evs_cursor_open(&range, snapshot);
	int64		result = evs_cursor_next(cursor) ? evs_cursor_position(cursor) - 1 : up_to;

	evs_cursor_close(cursor);
	return result;
}

static int64
slot_reached(const EvsSubscription *subscription, const EvsSlot *slot, int64 up_to, int64 safe,
			 Snapshot snapshot)
{
	if (slot->checkpoint >= up_to || slot->cursor > slot->checkpoint || slot->cursor >= safe)
		return Min(slot->checkpoint, up_to);
	return before_next_event(subscription, slot->slot, slot->cursor, Min(up_to, safe), snapshot);
}

int64
evs_projection_reached(const EvsSubscription *subscription, int64 up_to, int64 safe,
					   Snapshot snapshot)
{
	Relation	states = evs_open(evs_catalog()->slot_state, AccessShareLock);
	int64		result = up_to;

	for (int i = 0; i < subscription->slots; i++)
	{
		EvsSlot		slot = {0};

		if (evs_slot_read(states, subscription->id, i, &slot))
			result = Min(result, slot_reached(subscription, &slot, result, safe, snapshot));
	}
	relation_close(states, AccessShareLock);
	return result;
}

int64
evs_projection_allowed(const EvsProjection *projection, int64 safe, Snapshot snapshot)
{
	int64		result = safe;
	ListCell   *cell;

	foreach(cell, projection->depends_on)
	{
		EvsSubscription subscription = *evs_subscription_find(lfirst(cell));

		result = evs_projection_reached(&subscription, result, safe, snapshot);
	}
	return result;
}
