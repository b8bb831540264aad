/*
 * worker.h
 *	  What evstore's long-lived background workers have in common.
 */
#ifndef EVSTORE_WORKER_H
#define EVSTORE_WORKER_H

#include "base/shmem.h"

/* What a worker is told; travels in bgw_extra. */
typedef struct EvsWorkerOrder
{
	Oid			database;
	uint32		generation;
	int			pool;			/* its place there; -1: it is the dispatcher */
} EvsWorkerOrder;

/*
 * Start a database's dispatcher, unless it runs.  false: no process could be
 * had; the slot says why.  notify_pid hears of the start, or 0.
 */
extern bool evs_worker_launch(EvsSharedDatabase *database, int notify_pid);

/*
 * Start a worker of the pool, in a slot that is free or was its owner's.  false:
 * no process could be had, or another database was faster.
 */
extern bool evs_worker_launch_pool(EvsSharedDatabase *database, int pool, Oid owner,
								   EvsPoolKind kind, int64 relay);

/* A start that has not become a process for so long that it is given up. */
extern bool evs_worker_start_is_lost(const EvsWorkerSlot *slot, TimestampTz now);

/*
 * Does somebody wait for the database to be free of sessions?  Such commands
 * lock it first, and then wait for five seconds.  In a transaction.
 */
extern bool evs_worker_database_is_wanted(Oid database);

/*
 * In the worker: signals, and a place among the others.  Ends if it is late.
 * terminate handles SIGTERM; pool is set to its place in the pool, or NULL.
 */
extern EvsSharedDatabase *evs_worker_begin(void (*terminate) (SIGNAL_ARGS), EvsPoolSlot **pool);

/*
 * The session of a worker: nothing that a database sets for its users, and no
 * waiting for locks of somebody who may be waiting for us to go.
 */
extern void evs_worker_set_up_session(void);

/*
 * From here on, the session is that of a role, whether it may log in or not.  Ends
 * if there is none.
 */
extern void evs_worker_become(Oid role);

/*
 * A transaction in which, its end included, nothing can become another role.  durably:
 * whatever synchronous_commit is.
 */
extern void evs_worker_begin_as(Oid role, const char *what);
extern void evs_worker_commit(Oid role, bool durably);

/* For SIGTERM, where users' functions are called: a call is interrupted, what it has done is undone. */
extern void evs_worker_interrupt_call(SIGNAL_ARGS);

/* Throws nothing: a reason to end that lies in the database, or RUNNING. */
extern EvsWorkerState evs_worker_reason_to_end(void);

/* The same for a worker of the pool, in a transaction of its own: NONE, its role has gone. */
extern EvsWorkerState evs_worker_look_around(Oid role);

/* Connected: from now on it counts as running. */
extern void evs_worker_running(EvsSharedDatabase *database);

/* Note an error that the worker has survived; returns how long to pause, in ms. */
extern long evs_worker_failed(const char *message);
extern void evs_worker_recovered(void);

/* Until the latch is set, or so many milliseconds; then heed signals. */
extern void evs_worker_sleep(long ms, uint32 wait_event);

/* End on purpose, for this reason.  Does not return. */
extern void evs_worker_end(EvsWorkerState state);

/* A copy of a slot, taken under the lock. */
extern EvsWorkerSlot evs_worker_look(const EvsWorkerSlot *slot);

/* Is a process that has given the slot back still on its way out of the database? */
extern bool evs_worker_is_ending(const EvsWorkerSlot *slot, Oid database);

extern const char *evs_worker_state_name(EvsWorkerState state);
extern const char *evs_worker_kind_name(EvsPoolKind kind);

/* Report the error being handled, and clean up after it. */
extern void evs_worker_catch(MemoryContext context, char *message, Size size);

/* The same for an error that is not worth a report. */
extern void evs_worker_catch_quietly(MemoryContext context);

#endif							/* EVSTORE_WORKER_H */
