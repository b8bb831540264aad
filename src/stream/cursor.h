/*
 * cursor.h
 *	  A cursor over the log: the events of a range that are wanted, in order.
 *
 * What a reader, a subscription and a worker have in common.  A cursor belongs
 * to the transaction, and to the resource owner (subtransaction), that opened
 * it; at an error it is cleaned up with that.  What a caller gets of an event
 * is valid until the next evs_cursor_next() or evs_cursor_close().
 */
#ifndef EVSTORE_CURSOR_H
#define EVSTORE_CURSOR_H

#include "executor/tuptable.h"
#include "utils/snapshot.h"

#include "stream/filter.h"
#include "stream/leaf.h"

typedef struct EvsLogCursor EvsLogCursor;

/*
 * Which events.  The caller reads the safe position first and takes the
 * snapshot second: the other order skips events.  Bounds are the same in both
 * directions.  What this points to must live as long as the cursor does.
 */
typedef struct EvsLogRange
{
	int64		after;			/* exclusive; PG_INT64_MIN = from the oldest on */
	int64		up_to;			/* inclusive; at most the safe position */
	bool		backward;		/* the newest first */
	EvsFilter  *filter;			/* or NULL */
	const char *category;		/* only this category, or NULL */
	const char *correlation_id; /* only this correlation, or NULL */
	bool		want_errors;	/* also events that the filter fails on */

	/*
	 * True if events of this stream are not wanted, or NULL.  Called for each
	 * event before anything else is looked at; must not throw or allocate.
	 */
	bool		(*skip) (void *arg, int64 stream_id);
	void	   *skip_arg;
} EvsLogRange;

/*
 * Open a cursor before the first event.  Registers the snapshot.  SnapshotSelf is
 * for who has the streams of the range locked.
 */
extern EvsLogCursor *evs_cursor_open(const EvsLogRange *range, Snapshot snapshot);

/* Go to the next event that is wanted and not hidden; false at the end. */
extern bool evs_cursor_next(EvsLogCursor *cursor);

/* The event that the cursor is on. */
extern int64 evs_cursor_position(const EvsLogCursor *cursor);
extern int64 evs_cursor_stream_id(const EvsLogCursor *cursor);

/*
 * Why the filter failed on the event, NULL if it did not: with want_errors only.
 * Nothing else keeps such an event from being wanted.
 */
extern const char *evs_cursor_filter_error(const EvsLogCursor *cursor);

/*
 * Does the event match this filter?  For who has other filters than the range's,
 * to which it is of no interest why one fails.
 */
extern EvsFilterResult evs_cursor_match(EvsLogCursor *cursor, EvsFilter *filter);

/* Looked up when asked for; valid only until any name is asked for. */
extern text *evs_cursor_stream_name(EvsLogCursor *cursor);

/* Its row, for evs_leaf_get() and evs_event_from_row(). */
extern EvsLeaf *evs_cursor_leaf(const EvsLogCursor *cursor);
extern TupleTableSlot *evs_cursor_slot(const EvsLogCursor *cursor);

/*
 * The caller keeps a reference to a value stored out of line: keep the lock on
 * the leaf until the end of the transaction.
 */
extern void evs_cursor_keep(EvsLogCursor *cursor);

/*
 * Forward cursors: all events up to here have been looked at.  The position of
 * the current event; up_to at the end; after before the first event.
 */
extern int64 evs_cursor_scanned(const EvsLogCursor *cursor);

extern void evs_cursor_close(EvsLogCursor *cursor);

#endif							/* EVSTORE_CURSOR_H */
