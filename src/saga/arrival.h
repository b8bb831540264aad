/*
 * arrival.h
 *	  Events that come to instances of sagas: arrivals, and steps that wait for them.
 *
 * An arrival is known by saga, type and key.  The saga's trigger writes it down and
 * then looks who waits; who begins to wait writes that down and then looks what has
 * arrived.  Both hold a lock of saga, type and key meanwhile, to the end of their
 * transactions, so the second of them finds what the first has written.
 */
#ifndef EVSTORE_SAGA_ARRIVAL_H
#define EVSTORE_SAGA_ARRIVAL_H

#include "storage/lockdefs.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/* An event that has arrived, for whoever has the key. */
typedef struct EvsArrival
{
	const char *type;
	const char *key;
	int64		position;
	Jsonb	   *event;			/* as to_jsonb() makes it */
} EvsArrival;

/* A step that waits for it. */
typedef struct EvsWaiter
{
	pg_uuid_t	saga_id;
	int64		definition_id;
	int64		step;
	bool		fails;			/* the event is a failure of the step */
} EvsWaiter;

/*
 * Lock the keys of n arrivals, or of what is waited for, to the end of the
 * transaction: exclusively for who brings events, shared for who waits.  In an order
 * that is the same for all.
 */
extern void evs_arrival_lock(int64 definition_id, const EvsArrival *arrivals, int n, LOCKMODE mode);

/*
 * Bring events that have their positions in order: they are stored, and each step that
 * waits for one gets the first.  Once is enough: what has arrived before changes nothing.
 */
extern void evs_arrival_bring(int64 definition_id, const EvsArrival *arrivals, int n);

/*
 * The step has got the event, unless it is not running any more, or the instance has
 * had that event before.
 */
extern bool evs_arrival_take(const EvsWaiter *waiter, const EvsArrival *arrival);

/*
 * Delete arrivals that no instance can need any more, some hundreds at a time; false:
 * there are no more of them now.
 */
extern bool evs_arrival_prune(int64 definition_id);

/* Nobody waits for an event any more in this step, which has ended without one. */
extern void evs_arrival_forget(const pg_uuid_t *saga_id, int64 step);

#endif							/* EVSTORE_SAGA_ARRIVAL_H */
