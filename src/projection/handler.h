/*
 * handler.h
 *	  Calling the function of a projection.
 */
#ifndef EVSTORE_HANDLER_H
#define EVSTORE_HANDLER_H

#include "stream/cursor.h"
#include "utils/uuid.h"

#include "projection/definition.h"

/* A batch ends when its events have so many bytes. */
#define EVS_BATCH_BYTES (8 * 1024 * 1024)

typedef struct EvsHandler EvsHandler;

/* An event as a handler gets it. */
typedef struct EvsHandledEvent
{
	Datum		event;			/* evstore.event */
	Size		size;			/* of it, in bytes */
	int64		position;
	pg_uuid_t	event_id;
	text	   *correlation_id; /* or NULL */
} EvsHandledEvent;

/*
 * Look the function up, and become who it runs as: the projection's owner, with
 * its search_path and a limit to each call.  Lasts until the end of the
 * (sub)transaction, or evs_handler_end().  In a worker, may_wait tells whether it
 * may wait for locks longer than the worker does.  Throws if the function, its owner or
 * the right to execute it has gone.
 */
extern EvsHandler *evs_handler_begin(const EvsProjection *projection, bool may_wait);
extern void evs_handler_end(EvsHandler *handler);

/* Call it, with one event or, if it takes an array, with n. */
extern void evs_handler_call(EvsHandler *handler, const EvsHandledEvent *event);
extern void evs_handler_call_batch(EvsHandler *handler, const EvsHandledEvent *const *events, int n);

/*
 * Call one that returns jsonb, as a relay's transform does; the result is in the
 * current memory context.
 */
extern Datum evs_handler_transform(EvsHandler *handler, const EvsHandledEvent *event, bool *isnull);

/* Whose handler is being called; NULL: nobody's. */
extern const EvsProjection *evs_handler_called(void);

/* Of a route: count the events that its calls have led to, with the checkpoint of the slot. */
extern void evs_handler_store_effects(EvsHandler *handler, int slot);

/* Check constraints, and run triggers, that were deferred: as a call, which can be ended. */
extern void evs_handler_check_constraints(EvsHandler *handler);

/* The event that the cursor is on, in the current memory context. */
extern void evs_handler_get_event(EvsLogCursor *cursor, Datum data, EvsHandledEvent *event);

#endif							/* EVSTORE_HANDLER_H */
