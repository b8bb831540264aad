/*
 * progress.h
 *	  How far projections are.
 */
#ifndef EVSTORE_PROGRESS_H
#define EVSTORE_PROGRESS_H

#include "utils/snapshot.h"

#include "projection/definition.h"
#include "subscription/definition.h"

/*
 * The position up to which all of its events are handled or parked; at most
 * up_to.  The snapshot was taken after the safe position.
 */
extern int64 evs_projection_reached(const EvsSubscription *subscription, int64 up_to, int64 safe,
									Snapshot snapshot);

/* The same for all that a projection depends on; at most safe. */
extern int64 evs_projection_allowed(const EvsProjection *projection, int64 safe, Snapshot snapshot);

#endif							/* EVSTORE_PROGRESS_H */
