/*
 * inline.c
 *	  Projections that run in the transaction of the append.
 *
 * After an append has written its events, each inline projection gets those
 * that its filter matches, in the order in which the projections were made.
 * What a handler throws is the append's error, and undoes it.  What a handler
 * appends is handled when all have had the events before: so each has those of a
 * stream in order.
 *
 * With evstore.delivery = sync, a setting for tests, the others get the events in
 * the same way.  Workers would give them again, so such a transaction cannot be
 * committed.
 *
 * No append can miss a projection: making one takes a lock of the log that
 * waits for all appends that do not know it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/errors.h"
#include "base/guc.h"
#include "base/xact.h"
#include "catalog/catalog.h"
#include "exec/act_as.h"
#include "projection/handler.h"
#include "projection/inline.h"
#include "stream/append.h"
#include "stream/cursor.h"
#include "subscription/definition.h"
#include "compat.h"

/* Handlers append, whose events are handled, and so on. */
#define MAX_ROUNDS 16

typedef struct InlineBatch
{
	const EvsProjection *projection;
	EvsHandler *handler;
	MemoryContext memory;		/* of the events */
	EvsHandledEvent *events;
	int			nevents;
	int			max_events;
	Size		bytes;
	int64		current;		/* position of the event that is being handled */
} InlineBatch;

/* The streams that were appended to, in the order of their ids. */
typedef struct StreamSet
{
	const EvsAppended *appended;
	int			n;
} StreamSet;

/* Not looked at again while handlers are being called. */
static List *projections = NIL;

/* While handlers are being called, what they append waits. */
static bool handling = false;
static List *waiting = NIL;
static MemoryContext waiting_context = NULL;

/* The transaction that has given events to others than inline ones. */
static LocalTransactionId for_test = InvalidLocalTransactionId;

/* ---- one projection ---- */

static void
throw_failed(const InlineBatch *batch, ErrorData *error)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "projection", batch->projection->title);
	if (batch->current > 0)
		evs_detail_int(&detail, "position", batch->current);
	evs_detail_string(&detail, "sqlstate", unpack_sql_state(error->sqlerrcode));
	evs_detail_string(&detail, "message", error->message);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_HANDLER_FAILED),
			 errmsg("inline projection \"%s\" failed: %s", batch->projection->title,
					error->message),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 error->hint != NULL ? errhint("%s", error->hint) : 0,
			 error->context != NULL ? errcontext("%s", error->context) : 0));
}

static void
call_handler(InlineBatch *batch)
{
	const EvsHandledEvent **array;

	if (batch->projection->batched)
	{
		array = palloc(sizeof(EvsHandledEvent *) * batch->nevents);
		for (int i = 0; i < batch->nevents; i++)
			array[i] = &batch->events[i];
		batch->current = batch->events[0].position;
		evs_handler_call_batch(batch->handler, array, batch->nevents);
		return;
	}
	for (int i = 0; i < batch->nevents; i++)
	{
		batch->current = batch->events[i].position;
		evs_handler_call(batch->handler, &batch->events[i]);
	}
}

/*
 * Errors that are nobody's fault keep their code, by which clients know that it
 * may help to try again.
 */
static void
run_handler(InlineBatch *batch)
{
	MemoryContext old = CurrentMemoryContext;

	PG_TRY();
	{
		batch->handler = evs_handler_begin(batch->projection, true);
		call_handler(batch);
		evs_handler_end(batch->handler);
	}
	PG_CATCH();
	{
		ErrorData  *error;
		bool		timed_out = evs_act_timed_out();

		MemoryContextSwitchTo(old);
		error = CopyErrorData();
		if (timed_out)
			error->message = psprintf("the handler was ended after %d ms",
									  batch->projection->timeout);
		else if (evs_error_is_transient(error->sqlerrcode) ||
				 error->sqlerrcode == ERRCODE_EVS_HANDLER_FAILED)
			PG_RE_THROW();
		FlushErrorState();
		throw_failed(batch, error);
	}
	PG_END_TRY();
	MemoryContextReset(batch->memory);
	batch->events = NULL;
	batch->nevents = batch->max_events = 0;
	batch->bytes = 0;
}

/* There is nobody to park the event for: the append fails, as if the handler had. */
static void
throw_filter_error(InlineBatch *batch, int64 position, const char *message)
{
	ErrorData	error = {.sqlerrcode = ERRCODE_DATA_EXCEPTION};

	error.message = psprintf("its filter failed: %s", message);
	batch->current = position;
	throw_failed(batch, &error);
}

static void
add_event(InlineBatch *batch, EvsLogCursor *cursor)
{
	MemoryContext old = MemoryContextSwitchTo(batch->memory);

	if (batch->nevents == batch->max_events)
	{
		batch->max_events = Max(batch->max_events * 2, 16);
		batch->events = batch->events == NULL ?
			palloc(sizeof(EvsHandledEvent) * batch->max_events) :
			repalloc(batch->events, sizeof(EvsHandledEvent) * batch->max_events);
	}
	evs_handler_get_event(cursor, (Datum) 0, &batch->events[batch->nevents]);
	batch->bytes += batch->events[batch->nevents++].size;
	MemoryContextSwitchTo(old);
}

/*
 * The range, batch by batch.  No cursor is open while the handler runs: it may
 * append itself.
 */
static int64
run_projection(const EvsProjection *projection, EvsLogRange range, bool is_own)
{
	InlineBatch batch = {.projection = projection};
	EvsSubscription subscription = *evs_subscription_find(projection->name);
	int64		count = 0;
	bool		more = true;

	range.filter = subscription.filter;
	range.want_errors = true;
	batch.memory = AllocSetContextCreate(CurrentMemoryContext, "evstore inline events",
										 ALLOCSET_DEFAULT_SIZES);
	while (more)
	{
		/* what the transaction has written itself needs no predicate locks */
		EvsLogCursor *cursor = evs_cursor_open(&range, is_own ? SnapshotSelf : GetLatestSnapshot());

		while ((more = evs_cursor_next(cursor)))
		{
			if (evs_cursor_filter_error(cursor) != NULL)
				throw_filter_error(&batch, evs_cursor_position(cursor),
								   evs_cursor_filter_error(cursor));
			add_event(&batch, cursor);
			if (batch.nevents >= projection->batch_size || batch.bytes >= EVS_BATCH_BYTES)
				break;
		}
		range.after = evs_cursor_scanned(cursor);
		evs_cursor_close(cursor);
		count += batch.nevents;
		if (batch.nevents > 0)
			run_handler(&batch);
	}
	MemoryContextDelete(batch.memory);
	return count;
}

/* ---- appends ---- */

static int
compare_streams(const void *a, const void *b)
{
	int64		x = ((const EvsAppended *) a)->stream_id;
	int64		y = ((const EvsAppended *) b)->stream_id;

	return x < y ? -1 : x > y;
}

/* Other sessions' events may be in between. */
static bool
is_other_stream(void *arg, int64 stream_id)
{
	StreamSet  *set = arg;
	EvsAppended key = {.stream_id = stream_id};

	return bsearch(&key, set->appended, set->n, sizeof(EvsAppended), compare_streams) == NULL;
}

static void
refuse_commit(void)
{
	if (for_test != evs_my_lxid())
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
			 errmsg("a transaction that has appended with evstore.delivery = sync must be rolled back"),
			 errdetail("Projections have handled its events, and would do so again."),
			 errhint("It is for tests: end them with ROLLBACK.")));
}

/* Workers are going to give the same events again. */
static void
must_roll_back(void)
{
	static bool hooked = false;

	if (!hooked)
		evs_xact_on_commit(refuse_commit);
	hooked = true;
	for_test = evs_my_lxid();
}

/* Does the projection get events in this transaction? */
static bool
takes_part(const EvsProjection *projection)
{
	if (projection->rebuild_of != 0)
		return false;
	return projection->is_inline ||
		(evs_guc_delivery == EVS_DELIVERY_SYNC && !projection->paused);
}

/* One append, by all of them. */
static void
handle_append(const EvsAppended *appended, int n)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "evstore inline",
												 ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	EvsAppended *sorted = palloc_extended(sizeof(EvsAppended) * n, MCXT_ALLOC_HUGE);
	StreamSet	set = {.appended = sorted, .n = n};
	EvsLogRange range = {.after = PG_INT64_MAX, .skip = is_other_stream, .skip_arg = &set};
	ListCell   *cell;

	memcpy(sorted, appended, sizeof(EvsAppended) * n);
	qsort(sorted, n, sizeof(EvsAppended), compare_streams);
	for (int i = 0; i < n; i++)
	{
		range.after = Min(range.after, appended[i].first - 1);
		range.up_to = Max(range.up_to, appended[i].last);
	}
	evs_subscription_pin();
	foreach(cell, projections)
	{
		const EvsProjection *projection = lfirst(cell);

		if (takes_part(projection) && run_projection(projection, range, true) > 0 &&
			!projection->is_inline)
			must_roll_back();
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
}

/* ---- appends of handlers ---- */

/* One that waits until those that are being handled have been, by all. */
typedef struct Waiting
{
	int			n;
	EvsAppended appended[FLEXIBLE_ARRAY_MEMBER];
} Waiting;

static void
let_wait(const EvsAppended *appended, int n)
{
	MemoryContext old = MemoryContextSwitchTo(waiting_context);
	Waiting    *item = palloc_extended(offsetof(Waiting, appended) + sizeof(EvsAppended) * n,
									   MCXT_ALLOC_HUGE);

	item->n = n;
	memcpy(item->appended, appended, sizeof(EvsAppended) * n);
	waiting = lappend(waiting, item);
	MemoryContextSwitchTo(old);
}

/* What those lead to waits as well: a round for each step of the chain. */
static void
handle_waiting(void)
{
	for (int round = 1; waiting != NIL; round++)
	{
		List	   *items = waiting;
		ListCell   *cell;

		if (round > MAX_ROUNDS)
			ereport(ERROR,
					(errcode(ERRCODE_EVS_HANDLER_FAILED),
					 errmsg("inline projections append events for each other without end"),
					 errdetail("There were %d appends, one after the other.", MAX_ROUNDS)));
		waiting = NIL;
		foreach(cell, items)
		{
			Waiting    *item = lfirst(cell);

			handle_append(item->appended, item->n);
		}
	}
}

static void
begin_handling(void)
{
	if (handling)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a handler of an inline projection cannot make another one that begins in the past")));
	projections = evs_projection_kept();
	waiting = NIL;
	waiting_context = AllocSetContextCreate(CurrentMemoryContext, "evstore inline appends",
											ALLOCSET_SMALL_SIZES);
	handling = true;
}

static void
run_inline(const EvsAppended *appended, int n)
{
	if (handling)
	{
		let_wait(appended, n);
		return;
	}
	begin_handling();
	PG_TRY();
	{
		handle_append(appended, n);
		handle_waiting();
	}
	PG_FINALLY();
	{
		handling = false;
	}
	PG_END_TRY();
	MemoryContextDelete(waiting_context);
}

int64
evs_inline_catch_up(const EvsProjection *projection, int64 after, int64 up_to)
{
	EvsLogRange range = {.after = after, .up_to = up_to};
	int64		count;

	begin_handling();
	PG_TRY();
	{
		evs_subscription_pin();
		count = run_projection(projection, range, false);
		handle_waiting();
	}
	PG_FINALLY();
	{
		handling = false;
	}
	PG_END_TRY();
	MemoryContextDelete(waiting_context);
	return count;
}

static bool
is_wanted(void)
{
	return evs_projection_any_inline() || evs_guc_delivery == EVS_DELIVERY_SYNC;
}

static const EvsAppendHook hook = {
	.is_wanted = is_wanted,
	.run = run_inline,
};

void
evs_inline_init(void)
{
	evs_append_set_hook(&hook);
}
