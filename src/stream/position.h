/*
 * position.h
 *	  Drawing positions, the registry of appends in flight, and the safe position.
 */
#ifndef EVSTORE_POSITION_H
#define EVSTORE_POSITION_H

#include "datatype/timestamp.h"
#include "utils/relcache.h"

/*
 * Register the current transaction as one that appends, and draw n positions,
 * increasing, all above every position that was drawn before the call.  now is
 * the current time, which the caller has at hand.
 */
extern void evs_position_draw(Relation log, TimestampTz now, int n, int64 *positions);

/* The last position that was drawn, whether or not its append has ended. */
extern int64 evs_position_last(void);

/*
 * The highest position p such that every append at or below p has ended and
 * is visible to a snapshot taken after the call.  0 on an empty store.  Never
 * decreases within a backend.
 */
extern int64 evs_position_safe(void);

/*
 * For who reads the log by SQL, up to a position that was committed: statements
 * that begin from now on know its partition.  See leaf.h.
 */
extern void evs_position_cover(int64 position);

/* Both: the safe position, for who is going to read up to it. */
extern int64 evs_position_safe_covered(void);

/*
 * A safe position that may be a second old: for who wants to know which leaves
 * nobody appends to any more, at little cost.
 */
extern int64 evs_position_settled(void);

/* The same for the active snapshot, which may be older than the call. */
extern int64 evs_position_visible(void);

/* Take a reading before the snapshot of the statement that is being planned. */
extern void evs_position_remember(void);

#endif							/* EVSTORE_POSITION_H */
