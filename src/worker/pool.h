/*
 * pool.h
 *	  The workers for projections, as the dispatcher sees them.
 */
#ifndef EVSTORE_POOL_H
#define EVSTORE_POOL_H

#include "base/shmem.h"

/*
 * In the dispatcher, in a transaction: start and end workers as there are
 * projections.  Unless look, only if projections have changed.
 */
extern void evs_pool_manage(EvsSharedDatabase *database, bool look);

/* Have all workers of a database end. */
extern void evs_pool_stop(EvsSharedDatabase *database);

/* Is any of them there still, if only to exit? */
extern bool evs_pool_has_processes(EvsSharedDatabase *database);

#endif							/* EVSTORE_POOL_H */
