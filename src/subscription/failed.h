/*
 * failed.h
 *	  Events that could not be done, and those that wait behind them.
 */
#ifndef EVSTORE_FAILED_H
#define EVSTORE_FAILED_H

#include "utils/jsonb.h"

#include "subscription/definition.h"
#include "subscription/slot.h"

/* An event that is due again. */
typedef struct EvsDueEvent
{
	int64		position;
	int			attempts;		/* before this one */
	Datum		data;			/* jsonb to deliver instead, or 0 */
} EvsDueEvent;

/* What a slot's failed events mean for its new ones. */
typedef struct EvsFailedKeys
{
	int			nkeys;
	int64	   *keys;			/* hashes of keys that must wait; sorted */
	int64	   *wait_from;		/* their first failed events: those before do not wait */
	int			npositions;
	int64	   *positions;		/* beyond the cursor, with rows of their own; sorted */
	TimestampTz next_retry;		/* 0 = none; DT_NOBEGIN if some are delivered */
} EvsFailedKeys;

extern void evs_failed_load(const EvsSlot *slot, EvsFailedKeys *keys);
extern bool evs_failed_must_wait(const EvsFailedKeys *keys, uint32 hash, int64 position);
extern bool evs_failed_has_position(const EvsFailedKeys *keys, int64 position);

/*
 * Deliver what is due with the slot's claim, or has been delivered with it; the
 * first ones, at most so many.  alone: the claim before had one event only.
 */
extern EvsDueEvent *evs_failed_take(const EvsSlot *slot, int64 max_count, bool alone, int *n);

/* Who has the slot gives it up: what was delivered counts no attempt. */
extern void evs_failed_release(const EvsSlot *slot);

/* Forget one whose event is no longer there. */
extern void evs_failed_forget(const EvsSlot *slot, int64 position);

/*
 * An event of the slot that has not been delivered gets a parked row, unless it
 * has one; error is a text.  Reasons are listed in docs/reference/subscriptions.md.
 * One for which its filter failed, EVS_PARK_FILTER_ERROR, keeps no other event of its key
 * back: it may be that it was never meant for the subscription.  The caller has
 * the slot locked, sets pending, and writes the slot.
 */
#define EVS_PARK_FILTER_ERROR "filter_error"

/* So many of them in one transaction: the rest is found by the next one. */
#define EVS_PARK_MAX	1000

extern void evs_failed_park(const EvsSlot *slot, int64 position, const char *reason, Datum error);

/* The first event beyond the cursor ended its consumer too often. */
extern void evs_failed_park_head(const EvsSlot *slot);

/*
 * What must wait of the events beyond the cursor, up to here, gets rows, so that
 * it is not taken for given when what it waits for is done before the cursor
 * passes it.
 */
extern void evs_failed_hold(const EvsSlot *slot, int64 up_to);

/*
 * The cursor moves to here: new events up to it are done, but for those that
 * must wait.  Acknowledging, what was delivered again with the claim is, too.
 */
extern void evs_failed_pass(const EvsSlot *slot, int64 up_to, bool acknowledge);

/* Only these are done, of those up to the last of them. */
extern void evs_failed_pass_some(const EvsSlot *slot, int64 up_to, Datum positions);

/* One failed; position 0 with action bisect counts the events up to at. */
extern void evs_failed_nack(const EvsSlot *slot, int64 position, Datum error, bool no_error,
							const char *action, Datum delay, bool no_delay);

/* How many are delivered with the claim, up to a position? */
extern int	evs_failed_count_delivered(const EvsSlot *slot, int64 up_to);

/* Set pending, and the checkpoint, from what there is now. */
extern void evs_failed_summarize(EvsSlot *slot);

#endif							/* EVSTORE_FAILED_H */
