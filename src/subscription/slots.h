/*
 * slots.h
 *	  All slots of a subscription: made, moved, and changed in number.
 */
#ifndef EVSTORE_SLOTS_H
#define EVSTORE_SLOTS_H

#include "subscription/definition.h"
#include "subscription/slot.h"

/*
 * Let a slot begin, or begin anew, after a position.  Whoever has it is
 * fenced.  The slot is locked here.
 */
extern void evs_slots_reset(int64 subscription_id, int slot, int64 position);

/* Who has the slot, which is locked, gives it up. */
extern void evs_slots_give_back(Relation states, EvsSlot *state);

/* Failed events of the slot have changed: look again what they mean for it. */
extern void evs_slots_refresh(int64 subscription_id, int slot);

/*
 * If all slots have come to the position where the new number of slots begins,
 * switch over.  true if that was done; not while somebody changes the
 * subscription.
 */
extern bool evs_slots_finish_drain(const EvsSubscription *subscription, Relation states);

#endif							/* EVSTORE_SLOTS_H */
