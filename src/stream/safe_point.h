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

#endif							/* EVSTORE_SAFE_POINT_H */
