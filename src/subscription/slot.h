/*
 * slot.h
 *	  What has become of a subscription's events, slot by slot.
 */
#ifndef EVSTORE_SLOT_H
#define EVSTORE_SLOT_H

#include "datatype/timestamp.h"
#include "utils/relcache.h"

/* Number that tells the locks of slots from other advisory locks. */
#define EVS_LOCK_SLOT	17752

/* Columns of evstore.slot_state. */
enum
{
	Anum_slot_state_subscription_id = 1,
	Anum_slot_state_slot,
	Anum_slot_state_seq,
	Anum_slot_state_cursor,
	Anum_slot_state_checkpoint,
	Anum_slot_state_epoch,
	Anum_slot_state_lease_until,
	Anum_slot_state_head,
	Anum_slot_state_batch_to,
	Anum_slot_state_suspect_to,
	Anum_slot_state_pid,
	Anum_slot_state_attempts,
	Anum_slot_state_batch,
	Anum_slot_state_batch_limit,
	Anum_slot_state_pending,
	Anum_slot_state_consumer,
	Anum_slot_state_changed_at,
	Natts_slot_state = Anum_slot_state_changed_at
};

typedef struct EvsSlot
{
	int64		subscription_id;
	int			slot;
	int64		seq;
	int64		cursor;
	int64		checkpoint;
	int64		epoch;
	TimestampTz lease_until;
	int64		head;
	int64		batch_to;
	int64		suspect_to;
	int			pid;
	int			attempts;
	int			batch;
	int			batch_limit;	/* 0 = none */
	bool		pending;
	char	   *consumer;		/* NULL: nobody has it */
} EvsSlot;

/*
 * Hold a slot to the end of the transaction.  Who may not wait gets false when
 * somebody else has it.
 */
extern bool evs_slot_lock(int64 subscription_id, int slot, bool wait);

/* Undo one evs_slot_lock(), after which nothing was written. */
extern void evs_slot_unlock(int64 subscription_id, int slot);

/* A number to lock a group's member by, which no slot has. */
extern int	evs_slot_of_member(const char *consumer);

/* Its newest state; false if there is no such slot. */
extern bool evs_slot_read(Relation states, int64 subscription_id, int slot, EvsSlot *state);

/* The same for slots 0 to nslots - 1; false if one of them is missing. */
extern bool evs_slot_read_all(Relation states, int64 subscription_id, int nslots, EvsSlot *slots);

/*
 * Throw 40001 unless the transaction's snapshot sees the state: SQL statements
 * in a REPEATABLE READ transaction would work with rows that are out of date.
 */
extern void evs_slot_check_visible(Relation states, const EvsSlot *state);

/* Nobody who has this slot now has it any more: a new epoch. */
extern void evs_slot_fence(EvsSlot *state);

/* Store a changed state as the newest.  The slot is locked. */
extern void evs_slot_write(Relation states, EvsSlot *state);

/* Is it claimed by somebody who is still there? */
extern bool evs_slot_is_claimed(const EvsSlot *state, TimestampTz now);

/* Is there a process of this number in this database? */
extern bool evs_process_is_alive(int pid);

#endif							/* EVSTORE_SLOT_H */
