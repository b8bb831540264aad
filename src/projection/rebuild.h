/*
 * rebuild.h
 *	  Rebuilding a projection beside the one that serves.
 */
#ifndef EVSTORE_REBUILD_H
#define EVSTORE_REBUILD_H

#include "projection/definition.h"

/* Begin one, which workers go on with. */
extern void evs_rebuild_begin(const char *name);

/* Give it up, with its tables; false if there is none. */
extern bool evs_rebuild_cancel(const EvsProjection *projection);

/*
 * If the rebuild, loaded at this version of projections, is as far as the projection, let it take its place.  false: not
 * yet, and the transaction is to be rolled back, since it has locked much.
 */
extern bool evs_rebuild_finish(const EvsProjection *rebuild, uint64 version, bool in_worker);

/* Empty the projection's tables, as its owner. */
extern void evs_rebuild_truncate(const EvsProjection *projection);

#endif							/* EVSTORE_REBUILD_H */
