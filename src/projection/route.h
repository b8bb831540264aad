/*
 * route.h
 *	  Which events come of which, by routes: observed as it happens.
 *
 * A route is a projection whose handler appends events: choreography (Hohpe, Woolf:
 * a process that no one controls).  While its handler runs, what is appended with the handled
 * event as its cause is noted; the batch's counts are stored with its checkpoint.
 */
#ifndef EVSTORE_PROJECTION_ROUTE_H
#define EVSTORE_PROJECTION_ROUTE_H

#include "projection/handler.h"
#include "stream/cause.h"

typedef struct EvsRouteEffects EvsRouteEffects;

/* In the current memory context, in which all that is noted is kept. */
extern EvsRouteEffects *evs_route_begin(void);

/* Let the cause, which is the event's, note what comes of it. */
extern void evs_route_watch(EvsRouteEffects *effects, const EvsHandledEvent *event,
							EvsCause *cause);

/*
 * Count what has been appended and not been undone.  The slot is locked: nobody
 * else writes its counts.
 */
extern void evs_route_store(EvsRouteEffects *effects, int64 route, int slot);

#endif							/* EVSTORE_PROJECTION_ROUTE_H */
