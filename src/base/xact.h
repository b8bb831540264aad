/*
 * xact.h
 *	  What happens at the end of a transaction, or of a session.
 */
#ifndef EVSTORE_XACT_H
#define EVSTORE_XACT_H

/*
 * Called whenever locks have been given back: at the end of a transaction,
 * commit or abort, of a savepoint, of a portal.  Must not throw.
 */
typedef void (*EvsReleaseHook) (void);
extern void evs_xact_on_release(EvsReleaseHook hook);

/* Called before PREPARE TRANSACTION does anything.  May throw. */
extern void evs_xact_on_prepare(EvsReleaseHook hook);

/*
 * Called before a transaction commits or is prepared.  May throw.  Added once a
 * backend.
 */
extern void evs_xact_on_commit(EvsReleaseHook hook);

/* When it has committed, wake those who wait for a subscription. */
extern void evs_xact_kick(int bucket);

/* The same for those who wait for the progress of one, and not for its events. */
extern void evs_xact_tell_waiters(int bucket);

/* The same for workers that sleep for one of these buckets. */
extern void evs_xact_wake_workers(uint32 buckets);

/* When it has committed, wake those who wait for tasks of sagas. */
extern void evs_xact_offer_task(int bucket);

/* When it, or a part of it, has not: what it had taken is there for others again. */
extern void evs_xact_take_task(int bucket);

/* When it has committed, have the dispatcher of this database started. */
extern void evs_xact_request_worker(void);

/* When this session has ended, let others take over what it has claimed. */
extern void evs_xact_watch_session(void);

/* Have the dispatcher of this database look at once.  Does not throw. */
extern void evs_xact_wake_dispatcher(void);

#endif							/* EVSTORE_XACT_H */
