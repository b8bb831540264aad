/*
 * watch.h
 *	  For which subscriptions is there something new?
 */
#ifndef EVSTORE_WATCH_H
#define EVSTORE_WATCH_H

#include "base/shmem.h"
#include "datatype/timestamp.h"

/*
 * Called for a subscription that wants its listeners to be told: there is
 * something for it, up to this position.
 */
typedef void (*EvsWatchNotify) (const char *channel, int64 position);

/*
 * Positions (after, up_to] have become safe.  Wake who waits for a
 * subscription that one of these events matches, and call notify for those
 * that tell listeners.  In a transaction.
 */
extern void evs_watch_events(EvsSharedDatabase *database, int64 after, int64 up_to,
							 EvsWatchNotify notify);

/* Nobody was told of what happened so far: call notify for all that tell. */
extern void evs_watch_tell_all(int64 position, EvsWatchNotify notify);

/* The same for those with failed events that became due in (after, up_to]. */
extern void evs_watch_due(TimestampTz after, TimestampTz up_to, int64 position,
						  EvsWatchNotify notify);

/* Everybody who waits is to look again. */
extern void evs_watch_wake_all(EvsSharedDatabase *database);

#endif							/* EVSTORE_WATCH_H */
