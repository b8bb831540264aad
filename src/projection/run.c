/*
 * run.c
 *	  A batch of a projection's events.
 *
 * The slot is locked, its next events are gathered, the handler is called, and
 * the slot's new state is written: all in one transaction, so what the handler
 * does with an event is done once, whatever dies in between.
 *
 * Calls are made in a subtransaction.  When one throws, it is undone, and made
 * again without the event that threw; with a handler that takes arrays, with
 * half of the events, until one is alone.  That one is retried, and parked or
 * the end of it, as the projection wants.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/debug_point.h"
#include "base/errors.h"
#include "base/xact.h"
#include "catalog/catalog.h"
#include "exec/act_as.h"
#include "exec/spi.h"
#include "projection/handler.h"
#include "projection/progress.h"
#include "projection/run.h"
#include "stream/cursor.h"
#include "stream/position.h"
#include "subscription/definition.h"
#include "subscription/failed.h"
#include "subscription/slot.h"
#include "compat.h"

/* A slot that has seen so many positions without an event for it moves on. */
#define ADVANCE_AFTER 1000

/* So many positions are looked at in one transaction. */
#define SCAN_MAX 5000000

/* Events that are due again, in one batch. */
#define DUE_MAX 100

typedef struct Event
{
	EvsHandledEvent handled;
	uint32		key_hash;
	bool		waits;			/* for an earlier one of its key that failed */
} Event;

typedef struct Batch
{
	EvsRun	   *run;
	const EvsProjection *projection;
	EvsSubscription subscription;
	MemoryContext memory;		/* of the batch */
	Relation	states;
	EvsSlot		slot;
	EvsFailedKeys failed;		/* if slot.pending */
	Event	   *events;			/* new ones, in order */
	int			nevents;
	int			max_events;
	Size		bytes;
	int64		scanned;		/* all up to here has been looked at */
	bool		passed;			/* over events that must wait */
	int			nparked;		/* events that the filter failed on */
	EvsHandler *handler;
	ErrorData  *error;			/* the last one */
	bool		first_threw;	/* it is known to be of the first event of its calls */
	bool		stopped;		/* at an event that failed */
} Batch;

/* ---- gathering ---- */

static bool
must_wait(Batch *batch, int64 position, uint32 key_hash)
{
	return batch->slot.pending &&
		(evs_failed_has_position(&batch->failed, position) ||
		 evs_failed_must_wait(&batch->failed, key_hash, position));
}

/* The filter failed on the event: it is parked, whatever the policy. */
static void
park_event(Batch *batch, int64 position, const char *error)
{
	if (batch->slot.pending && evs_failed_has_position(&batch->failed, position))
		return;
	evs_failed_park(&batch->slot, position, EVS_PARK_FILTER_ERROR, CStringGetTextDatum(error));
	batch->slot.pending = true;
	batch->nparked++;
}

static void
add_event(Batch *batch, EvsLogCursor *cursor)
{
	int64		position = evs_cursor_position(cursor);
	uint32		key_hash = evs_stream_key_hash(evs_cursor_stream_id(cursor));
	Event	   *event;

	if (evs_cursor_filter_error(cursor) != NULL)
	{
		park_event(batch, position, evs_cursor_filter_error(cursor));
		return;
	}
	if (must_wait(batch, position, key_hash))
	{
		batch->passed = true;
		return;
	}
	if (batch->nevents == batch->max_events)
	{
		batch->max_events = Max(batch->max_events * 2, 64);
		batch->events = batch->events == NULL ?
			palloc(sizeof(Event) * batch->max_events) :
			repalloc(batch->events, sizeof(Event) * batch->max_events);
	}
	event = &batch->events[batch->nevents++];
	evs_handler_get_event(cursor, (Datum) 0, &event->handled);
	event->key_hash = key_hash;
	event->waits = false;
	batch->bytes += event->handled.size;
}

/* After an error, the event that has failed is tried alone. */
static int64
wanted(const Batch *batch)
{
	int64		max_count = batch->run->max_count;

	if (batch->slot.attempts > 0)
		return 1;
	return max_count > 0 ? Min(max_count, batch->projection->batch_size) :
		batch->projection->batch_size;
}

/* The snapshot was taken after the safe position, which the end is not beyond. */
static void
gather(Batch *batch, int64 end, Snapshot snapshot)
{
	EvsRun	   *run = batch->run;
	EvsLogRange range = {
		.after = batch->slot.cursor, .filter = batch->subscription.filter, .want_errors = true,
	};
	EvsSlotFilter filter = {.slots = batch->subscription.slots, .slot = run->slot};
	EvsLogCursor *cursor;
	int64		limit = wanted(batch);

	if (run->seq == batch->slot.seq && run->store == RelationGetRelid(batch->states))
		range.after = Max(range.after, run->scanned);
	range.up_to = Min(end, range.after + SCAN_MAX);
	if (filter.slots > 1)
	{
		range.skip = evs_subscription_is_other_slot;
		range.skip_arg = &filter;
	}
	batch->scanned = Max(range.after, range.up_to);
	if (range.after >= range.up_to)
		return;
	cursor = evs_cursor_open(&range, snapshot);
	while (evs_cursor_next(cursor))
	{
		add_event(batch, cursor);
		if (batch->nevents >= limit || batch->bytes >= EVS_BATCH_BYTES ||
			batch->nparked >= EVS_PARK_MAX)
			break;
	}
	batch->scanned = evs_cursor_scanned(cursor);
	evs_cursor_close(cursor);
}

/* ---- calls ---- */

static void
call_one_by_one(Batch *batch, int start, int end, volatile int *current)
{
	for (int i = start; i < end; i++)
	{
		*current = i;
		if (!batch->events[i].waits)
		{
			EVS_DEBUG_POINT("projection_event");
			evs_handler_call(batch->handler, &batch->events[i].handled);
		}
	}
}

static void
call_with_array(Batch *batch, int start, int end)
{
	const EvsHandledEvent **events = palloc(sizeof(EvsHandledEvent *) * (end - start));
	int			n = 0;

	for (int i = start; i < end; i++)
		if (!batch->events[i].waits)
			events[n++] = &batch->events[i].handled;
	if (n > 0)
		evs_handler_call_batch(batch->handler, events, n);
}

/*
 * Call the handler with events [start, end) in a subtransaction.  -1, or which
 * of them threw; where that is not known, the first.
 */
static int
try_calls(Batch *batch, int start, int end)
{
	MemoryContext memory = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile int current = start;
	volatile bool all_called = false;
	volatile bool ok = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(memory);
	PG_TRY();
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		if (batch->projection->batched)
			call_with_array(batch, start, end);
		else
			call_one_by_one(batch, start, end, &current);
		all_called = true;
		/* constraints that wait for the end would throw where no event is to blame */
		if (batch->run->in_worker)
			evs_handler_check_constraints(batch->handler);
		PopActiveSnapshot();
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(batch->memory);
		batch->error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	CurrentResourceOwner = owner;
	if (ok)
		return -1;
	batch->first_threw = !batch->projection->batched && !all_called && current == start;
	/* a constraint that was deferred does not tell which of them it was */
	return all_called ? start : current;
}

/* Errors that are no event's fault go to whoever runs the projection. */
static void
examine_error(Batch *batch)
{
	ErrorData  *error = batch->error;

	if (evs_act_timed_out())
		error->message = psprintf("the handler was ended after %d ms",
								  batch->projection->timeout);
	else if (evs_error_is_transient(error->sqlerrcode))
		ReThrowError(error);
	batch->run->error = error->message;
	batch->run->had_error = true;
}

/* ---- an event that failed ---- */

/* The projection waits at the event, and in the end stops there. */
static void
stop_at(Batch *batch, int64 position)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT f.retry_at, f.faulted FROM evstore._projection_failed($1, $2, $3, $4, $5, $6) f",
		.nargs = 6, .types = {INT8OID, INT4OID, INT8OID, INT4OID, TEXTOID, TEXTOID},
	};
	EvsSlot    *slot = &batch->slot;
	Datum		args[6];
	EvsSpiRows	rows;

	slot->attempts = slot->head == position ? slot->attempts + 1 : 1;
	slot->head = position;
	args[0] = Int64GetDatum(slot->subscription_id);
	args[1] = Int32GetDatum(slot->slot);
	args[2] = Int64GetDatum(position);
	args[3] = Int32GetDatum(slot->attempts);
	args[4] = CStringGetTextDatum(unpack_sql_state(batch->error->sqlerrcode));
	args[5] = CStringGetTextDatum(batch->error->message);
	rows = evs_spi_call(&plan, args, NULL);
	slot->lease_until = DatumGetTimestampTz(rows.values[0]);
	batch->run->retry_at = slot->lease_until;
	batch->run->stands = true;
	batch->run->faulted = DatumGetBool(rows.values[1]);
	batch->stopped = true;
}

/* It is tried again later, and parked in the end; others go on. */
static void
set_aside(Batch *batch, int64 position)
{
	evs_failed_nack(&batch->slot, position, CStringGetTextDatum(batch->error->message), false,
					"retry", (Datum) 0, true);
	batch->slot.pending = true;
	evs_failed_load(&batch->slot, &batch->failed);
	for (int i = 0; i < batch->nevents; i++)
		if (batch->events[i].handled.position >= position &&
			must_wait(batch, batch->events[i].handled.position, batch->events[i].key_hash))
			batch->events[i].waits = true;
}

static void
event_failed(Batch *batch, int64 position)
{
	if (batch->projection->stops)
		stop_at(batch, position);
	else
		set_aside(batch, position);
}

static int
count_handled(const Batch *batch, int start, int end)
{
	int			n = 0;

	for (int i = start; i < end; i++)
		if (!batch->events[i].waits)
			n++;
	return n;
}

/*
 * All new events; where one fails, those before it are done, too.  If the
 * projection stops there, scanned is what it has got to.
 */
static void
handle_events(Batch *batch)
{
	int			n = batch->nevents;
	int			start = 0;
	int			end = n;
	int			fails = n;		/* if known: [start, fails) fails together */
	bool		known = false;

	while (start < n && !batch->stopped)
	{
		int			at = try_calls(batch, start, end);

		if (at < 0)
		{
			batch->run->handled += count_handled(batch, start, end);
			start = end;
			/* what is left of those that failed together */
			end = known && start < fails ? start + Max(1, (fails - start) / 2) : n;
			if (known && start >= fails)
				known = false;
			continue;
		}
		examine_error(batch);
		if (at > start)
			end = at;			/* those before it, then it alone */
		else if (end - start > 1 && !batch->first_threw)
		{
			known = true;
			fails = end;
			end = start + (end - start) / 2;
		}
		else
		{
			event_failed(batch, batch->events[start].handled.position);
			if (batch->stopped)
				batch->scanned = batch->events[start].handled.position - 1;
			start++;
			end = n;
			known = false;
		}
	}
}

/*
 * An event that failed before, and is due.  One behind another of its key that
 * has failed in this batch, whose hash is among *failed, is so no more.
 */
static void
handle_due_event(Batch *batch, const EvsDueEvent *due, Snapshot snapshot, List **failed)
{
	EvsLogRange range = {.after = due->position - 1, .up_to = due->position};
	EvsLogCursor *cursor = evs_cursor_open(&range, snapshot);
	Event	   *events = batch->events;
	int			nevents = batch->nevents;
	Event		event = {0};

	if (!evs_cursor_next(cursor))
	{
		evs_cursor_close(cursor);
		evs_failed_forget(&batch->slot, due->position);
		return;
	}
	evs_handler_get_event(cursor, due->data, &event.handled);
	event.key_hash = evs_stream_key_hash(evs_cursor_stream_id(cursor));
	evs_cursor_close(cursor);
	if (list_member_oid(*failed, event.key_hash))
		return;
	batch->events = &event;
	batch->nevents = 1;
	if (try_calls(batch, 0, 1) < 0)
	{
		/* now, or a later one of its key that fails would wait for it */
		evs_failed_forget(&batch->slot, due->position);
		batch->run->handled++;
	}
	else
	{
		examine_error(batch);
		evs_failed_nack(&batch->slot, due->position,
						CStringGetTextDatum(batch->error->message), false, "retry", (Datum) 0, true);
		/* not if it is skipped */
		evs_failed_load(&batch->slot, &batch->failed);
		if (evs_failed_must_wait(&batch->failed, event.key_hash, PG_INT64_MAX))
			*failed = lappend_oid(*failed, event.key_hash);
	}
	batch->events = events;
	batch->nevents = nevents;
}

static bool
has_due_events(Batch *batch)
{
	if (!batch->slot.pending)
		return false;
	evs_failed_load(&batch->slot, &batch->failed);
	batch->run->retry_at = batch->failed.next_retry;
	return batch->failed.next_retry != 0 &&
		batch->failed.next_retry <= evs_clock_now();
}

static void
handle_due_events(Batch *batch, Snapshot snapshot)
{
	int			n;
	EvsDueEvent *due = evs_failed_take(&batch->slot, DUE_MAX, false, &n);
	List	   *failed = NIL;

	for (int i = 0; i < n; i++)
		handle_due_event(batch, &due[i], snapshot, &failed);
	evs_failed_load(&batch->slot, &batch->failed);
	batch->run->retry_at = batch->failed.next_retry;
}

/* ---- the slot ---- */

static void
forget_error(Batch *batch)
{
	static EvsSpiPlan plan = {
		.sql = "DELETE FROM evstore.projection_error e WHERE e.projection_id = $1 AND e.slot = $2",
		.nargs = 2, .types = {INT8OID, INT4OID},
	};
	Datum		args[] = {
		Int64GetDatum(batch->slot.subscription_id), Int32GetDatum(batch->slot.slot),
	};

	(void) evs_spi_call(&plan, args, NULL);
	batch->run->had_error = false;
}

/* The slot has got to scanned. */
static void
write_slot(Batch *batch)
{
	EvsSlot    *slot = &batch->slot;

	if (slot->pending)
		evs_failed_pass(slot, Max(batch->scanned, slot->cursor), true);
	slot->cursor = Max(slot->cursor, batch->scanned);
	if (slot->pending)
		evs_failed_summarize(slot);
	else
		slot->checkpoint = Max(slot->checkpoint, slot->cursor);
	if (!batch->stopped && (slot->attempts > 0 || batch->run->had_error))
	{
		slot->attempts = 0;
		slot->head = 0;
		slot->lease_until = 0;
		if (batch->run->error == NULL)
			forget_error(batch);
	}
	EVS_DEBUG_POINT("projection_checkpoint");
	evs_slot_write(batch->states, slot);
	if (slot->pending && !batch->stopped)
	{
		evs_failed_load(slot, &batch->failed);
		batch->run->retry_at = batch->failed.next_retry;
	}
	evs_xact_tell_waiters(evs_subscription_bucket(slot->subscription_id));
	evs_xact_wake_workers(batch->projection->dependents);
	if (batch->projection->notify)
		Async_Notify(psprintf("evstore_prj_%s", batch->projection->name),
					 psprintf(INT64_FORMAT, slot->checkpoint));
}

static void
finish(Batch *batch)
{
	EvsRun	   *run = batch->run;

	run->store = RelationGetRelid(batch->states);
	run->seq = batch->slot.seq;
	run->scanned = Max(batch->scanned, batch->slot.cursor);
	relation_close(batch->states, NoLock);
}

/* Lock the slot and read it; false if there is nothing to be done now. */
static bool
take_slot(Batch *batch)
{
	EvsRun	   *run = batch->run;
	EvsSlot    *slot = &batch->slot;

	/* a worker finds something else to do */
	if (!evs_slot_lock(run->projection->id, run->slot, !run->in_worker))
	{
		run->status = EVS_RUN_BUSY;
		return false;
	}
	batch->subscription = *evs_subscription_find(run->projection->name);
	/* what was changed with the slot locked, or before, counts */
	if (run->version != evs_projection_version())
	{
		run->status = EVS_RUN_STALE;
		return false;
	}
	if (batch->subscription.paused || batch->subscription.id != run->projection->id ||
		!evs_slot_read(batch->states, run->projection->id, run->slot, slot))
	{
		run->status = EVS_RUN_PAUSED;
		return false;
	}
	if (slot->attempts > 0 && slot->lease_until > evs_clock_now())
	{
		run->retry_at = slot->lease_until;
		run->stands = true;
		run->status = EVS_RUN_IDLE;
		return false;
	}
	return true;
}

static void
run_batch(Batch *batch)
{
	EvsRun	   *run = batch->run;
	int64		safe = evs_position_safe();
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		due = has_due_events(batch);

	EVS_DEBUG_POINT("projection_gather");
	gather(batch, evs_projection_allowed(run->projection, safe, snapshot), snapshot);
	/* what they wait for may be done with in this batch: they get rows now */
	if (batch->passed)
		evs_failed_hold(&batch->slot, batch->scanned);
	if (due || batch->nevents > 0)
	{
		run->status = EVS_RUN_DONE;
		batch->handler = evs_handler_begin(run->projection, !run->finishing);
		if (due)
			handle_due_events(batch, snapshot);
		handle_events(batch);
		evs_handler_store_effects(batch->handler, run->slot);
		evs_handler_end(batch->handler);
		write_slot(batch);
	}
	else if (batch->nparked > 0)
	{
		run->status = EVS_RUN_DONE;
		write_slot(batch);
	}
	else if (batch->passed || batch->scanned - batch->slot.cursor >= ADVANCE_AFTER ||
			 (batch->slot.attempts > 0 && batch->scanned >= batch->slot.head))
		write_slot(batch);
	UnregisterSnapshot(snapshot);
}

void
evs_projection_run(EvsRun *run)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "evstore projection",
												 ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	Batch		batch = {.run = run, .projection = run->projection, .memory = memory};

	run->status = EVS_RUN_IDLE;
	run->handled = 0;
	run->retry_at = 0;
	run->stands = false;
	run->error = NULL;
	run->faulted = false;
	evs_subscription_pin();
	batch.states = evs_open(evs_catalog()->slot_state, RowExclusiveLock);
	if (take_slot(&batch))
	{
		run_batch(&batch);
		finish(&batch);
	}
	else
		relation_close(batch.states, NoLock);
	MemoryContextSwitchTo(old);
	if (run->error != NULL)
		run->error = pstrdup(run->error);
	MemoryContextDelete(memory);
}

void
evs_projection_report(const EvsRun *run)
{
	if (run->error == NULL)
		return;
	ereport(WARNING,
			(errcode(ERRCODE_EVS_HANDLER_FAILED),
			 errmsg("projection \"%s\" failed on an event: %s", run->projection->title, run->error),
			 run->faulted ? errhint("It has been stopped; go on with evstore.resume_projection().") : 0));
}

TimestampTz
evs_projection_note_error(int64 id, int slot, int sqlerrcode, const char *message)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT f.retry_at FROM evstore._projection_failed($1, $2, NULL, NULL, $3, $4) f",
		.nargs = 4, .types = {INT8OID, INT4OID, TEXTOID, TEXTOID},
	};
	Datum		args[] = {
		Int64GetDatum(id), Int32GetDatum(slot),
		CStringGetTextDatum(unpack_sql_state(sqlerrcode)), CStringGetTextDatum(message),
	};
	EvsSpiRows	rows = evs_spi_call(&plan, args, NULL);

	return rows.nrows > 0 && !rows.nulls[0] ? DatumGetTimestampTz(rows.values[0]) : 0;
}
