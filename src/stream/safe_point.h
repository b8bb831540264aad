/*
 * safe_point.h
 *	  The safe position as written down for standbys.
 */
#ifndef EVSTORE_SAFE_POINT_H
#define EVSTORE_SAFE_POINT_H

#include "utils/snapshot.h"

/* What the row says to this snapshot; throws if there is none. */
extern int64 evs_safe_point_read(Snapshot snapshot);

/* The same, or -1 if there is none. */
extern int64 evs_safe_point_find(Snapshot snapshot);

/*
 * Write the safe position down for standbys, which have no registry of their
 * own.  The row is written after the position was read, so whoever sees the row
 * sees the appends that it speaks of.  Returns the position.
 */
extern int64 evs_safe_point_record(void);

#endif							/* EVSTORE_SAFE_POINT_H */
