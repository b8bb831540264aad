/*
 * leaf.h
 *	  The leaves (partitions) of the event log, by position.
 */
#ifndef EVSTORE_LEAF_H
#define EVSTORE_LEAF_H

#include "access/attnum.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

#include "exec/heap_writer.h"

/* Indexes that each leaf has. */
#define EVS_LEAF_NINDEXES 5

/* Columns of evstore.event_log, in the order that C code names them. */
typedef enum EvsLogColumn
{
	EVS_LOG_POSITION,
	EVS_LOG_STREAM_ID,
	EVS_LOG_VERSION,
	EVS_LOG_CATEGORY_HASH,
	EVS_LOG_SCHEMA_VERSION,
	EVS_LOG_EVENT_ID,
	EVS_LOG_RECORDED_AT,
	EVS_LOG_TYPE,
	EVS_LOG_DATA,
	EVS_LOG_METADATA,
	EVS_LOG_CORRELATION_ID,
	EVS_LOG_CAUSATION_ID,
	EVS_LOG_SOURCE,
	EVS_LOG_OCCURRED_AT,
	EVS_LOG_TAGS,
	EVS_LOG_NCOLUMNS
} EvsLogColumn;

/*
 * What we keep about a leaf.  Attribute numbers can differ between leaves
 * (an update script may have dropped a column that older leaves still carry),
 * so rows are always built and read through attno[].
 */
typedef struct EvsLeaf
{
	Oid			relid;			/* hash key */
	bool		valid;
	AttrNumber	attno[EVS_LOG_NCOLUMNS];
	AttrNumber	max_attno;		/* the furthest one that readers deform */
	Oid			position_index;
	Oid			version_index;
	Oid			event_id_index;
	Oid			category_index;
	Oid			correlation_index;
	EvsPlainIndex indexes[EVS_LEAF_NINDEXES];	/* all of the above */
	int			nplain;			/* 0: it has others as well, ask the executor */
	MemoryContext context;		/* of what the indexes point to */
	TimestampTz first_recorded; /* of its oldest event, 0 = not known yet */
} EvsLeaf;

/* A leaf's place in the log. */
typedef struct EvsLeafRange
{
	Oid			relid;
	int64		lower;			/* inclusive */
	int64		upper;			/* exclusive */
} EvsLeafRange;

/* The leaf's description.  The pointer stays valid for as long as the leaf is locked. */
extern EvsLeaf *evs_leaf_describe(Relation leaf);

/*
 * See to it that what this process knows of the leaves has all in which anyone
 * can have stored an event at or below a position, PG_INT64_MAX for all events.
 * False if the position, or the last one that was drawn, is behind the newest leaf.
 */
extern bool evs_leaf_cover(Relation log, int64 position);

/*
 * Forget what this process knows of the leaves, as if it heard of a change; plans
 * that were made with it go as well.
 */
extern void evs_leaf_forget(Relation log);

/*
 * The leaves of the log, sorted by position, in the current memory context: all
 * that evs_leaf_cover() speaks of, and maybe newer ones.
 */
extern EvsLeafRange *evs_leaf_list(Relation log, int64 up_to, int *nleaves);

/* The leaf for a position; false if there is none. */
extern bool evs_leaf_find(Relation log, int64 position, EvsLeafRange *range);

/* The end of the newest leaf that this process knows; 1 if it knows none. */
extern int64 evs_leaf_end(Relation log);

/*
 * Open a leaf for reading, NULL if it has gone.  Lower locks than the
 * caller's transaction end are fine for readers: pass the lock to close.
 */
extern Relation evs_leaf_open(Oid relid, LOCKMODE lockmode);

/* One column of a leaf's row. */
extern Datum evs_leaf_get(EvsLeaf *leaf, TupleTableSlot *slot, EvsLogColumn column, bool *isnull);
extern int64 evs_leaf_get_int8(EvsLeaf *leaf, TupleTableSlot *slot, EvsLogColumn column);

#endif							/* EVSTORE_LEAF_H */
