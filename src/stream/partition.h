/*
 * partition.h
 *	  Making the leaves of the event log.
 */
#ifndef EVSTORE_PARTITION_H
#define EVSTORE_PARTITION_H

#include "postgres_ext.h"
#include "utils/relcache.h"

#include "stream/leaf.h"

/* What a partition worker is told; travels in bgw_extra. */
typedef struct EvsPartitionOrder
{
	Oid			database;
	Oid			event_log;		/* of the store that asks, not of its successor */
	int32		partition_size;
	int64		cover;			/* make leaves until this position has one */
	int32		ahead;			/* and so many after that one */
} EvsPartitionOrder;

/*
 * The leaf for a position; if there is none yet, have it made first.  That
 * can close and reopen the log, whose lock is kept.
 */
extern void evs_partition_ensure(Relation *log, int64 position, EvsLeafRange *range);

/*
 * Ask a worker for the next leaf when the positions from first to last pass
 * a mark in the second half of the leaf and the next one is missing.  Does
 * not wait.
 */
extern void evs_partition_ahead(Relation log, const EvsLeafRange *range,
								int64 first, int64 last);

/*
 * Make leaves in the current transaction: up to the one that covers a
 * position, and some after it.  Returns how many were made.
 */
extern int	evs_partition_make(int64 cover, int ahead, int partition_size);

#endif							/* EVSTORE_PARTITION_H */
