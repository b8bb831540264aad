/*
 * record.c
 *	  Writing down what has become of a relay's messages.
 *
 * The cursor is where all before is acknowledged, or has a row in failed_event; it is
 * written once for many messages, so what was acknowledged after the last time goes out
 * again after a crash, with the same ids.  Failures are written down before anything
 * else is submitted.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/debug_point.h"
#include "base/xact.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "relay/host.h"
#include "saga/relay_step.h"
#include "subscription/definition.h"
#include "subscription/slot.h"
#include "compat.h"

/* How often the status is written while there is no change of state, in us. */
#define STATUS_INTERVAL 1000000

bool
evs_host_read_slot(EvsHost *host, Relation states, EvsSlot *slot)
{
	if (!evs_slot_read(states, host->relay->id, 0, slot) || slot->epoch != host->epoch)
		host->stale = true;
	return !host->stale;
}

void
evs_host_load_failed(EvsHost *host, const EvsSlot *slot)
{
	MemoryContext old;

	MemoryContextReset(host->failed_context);
	old = MemoryContextSwitchTo(host->failed_context);
	memset(&host->failed, 0, sizeof(host->failed));
	host->pending = slot->pending;
	if (slot->pending)
		evs_failed_load(slot, &host->failed);
	MemoryContextSwitchTo(old);
}

void
evs_host_rearrange(EvsHost *host)
{
	host->window.settled = 0;
	for (int i = 0; i < host->window.n; i++)
	{
		EvsMessage *message = evs_window_get(&host->window, i);
		EvsMessageState before;

		if (message->state != EVS_MESSAGE_READY && message->state != EVS_MESSAGE_WAITING)
			continue;
		before = message->state;
		message->state = EVS_MESSAGE_READY;
		if (!host->pending)
			continue;
		if (evs_failed_has_position(&host->failed, message->position))
		{
			message->state = EVS_MESSAGE_FAILED;
			message->recorded = true;
		}
		else if (evs_failed_must_wait(&host->failed, message->key_hash, message->position))
		{
			message->state = EVS_MESSAGE_WAITING;
			host->has_failures |= before != EVS_MESSAGE_WAITING;
		}
	}
}

/* ---- what waits ---- */

/*
 * A message that must wait gets a row before anything after it is submitted, and before
 * what it waits for may be done with: nobody takes it for sent, then, whatever ends us.
 */
static void
hold_waiting(EvsHost *host, const EvsSlot *slot)
{
	for (int i = 0; slot->pending && i < host->window.n; i++)
		if (evs_window_get(&host->window, i)->state == EVS_MESSAGE_WAITING)
		{
			evs_failed_hold(slot, host->read_to);
			return;
		}
}

/* Later replays of the key of one that failed: their rows wait, and they come again. */
static void
hold_replays(EvsHost *host)
{
	for (int i = 0; i < host->nreplays && !host->relay->skips; i++)
		for (int k = i + 1; k < host->nreplays; k++)
		{
			EvsMessage *message = host->replays[k];

			if (host->replays[i]->state != EVS_MESSAGE_FAILED ||
				message->key_hash != host->replays[i]->key_hash)
				continue;
			if (message->state == EVS_MESSAGE_READY || message->state == EVS_MESSAGE_DONE)
				message->state = EVS_MESSAGE_WAITING;
			else if (message->state == EVS_MESSAGE_SENT)
				message->again = true;
		}
}

/* Done or failed, and so is what was before it of its key: it may come back, otherwise. */
static bool
is_settled(const EvsHost *host, int replay)
{
	const EvsMessage *message = host->replays[replay];

	if (message->state == EVS_MESSAGE_READY || message->state == EVS_MESSAGE_SENT)
		return false;
	for (int i = 0; i < replay && message->state == EVS_MESSAGE_DONE; i++)
		if (host->replays[i]->key_hash == message->key_hash &&
			(host->replays[i]->state == EVS_MESSAGE_READY ||
			 host->replays[i]->state == EVS_MESSAGE_SENT))
			return host->relay->skips;
	return true;
}

/* ---- failures ---- */

static Datum
delay_as_interval(int64 ms)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = ms * 1000;
	return IntervalPGetDatum(interval);
}

static void
write_failure(const EvsSlot *slot, const EvsMessage *message)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._relay_failed($1, $2, $3, $4, $5, $6, $7)",
		.nargs = 7,
		.types = {INT8OID, INT8OID, INT8OID, TEXTOID, TEXTOID, INTERVALOID, TEXTOID},
	};
	Datum		args[] = {
		Int64GetDatum(slot->subscription_id),
		Int64GetDatum(slot->cursor),
		Int64GetDatum(message->position),
		CStringGetTextDatum(message->error),
		CStringGetTextDatum(message->action),
		message->delay >= 0 ? delay_as_interval(message->delay) : (Datum) 0,
		message->reason != NULL ? CStringGetTextDatum(message->reason) : (Datum) 0,
	};
	char		nulls[] = "       ";

	if (strcmp(message->action, "filter") == 0)
	{
		evs_failed_park(slot, message->position, EVS_PARK_FILTER_ERROR, args[3]);
		return;
	}
	if (message->delay < 0)
		nulls[5] = 'n';
	if (message->reason == NULL)
		nulls[6] = 'n';
	(void) evs_spi_call(&plan, args, nulls);
}

static void
write_failures(EvsHost *host, EvsSlot *slot)
{
	for (int i = 0; i < host->nreplays; i++)
	{
		EvsMessage *message = host->replays[i];

		if (message->state == EVS_MESSAGE_FAILED)
			write_failure(slot, message);
		else if (message->state == EVS_MESSAGE_DONE && is_settled(host, i))
			evs_failed_forget(slot, message->position);
	}
	for (int i = 0; i < host->window.n; i++)
	{
		EvsMessage *message = evs_window_get(&host->window, i);

		if (message->state == EVS_MESSAGE_FAILED && !message->recorded)
		{
			write_failure(slot, message);
			slot->pending = true;
		}
	}
}

/* ---- the cursor ---- */

/*
 * How many from the front on are done with.  One that waits is if it does so still: it
 * has a row by now, unless its event is no longer there.
 */
static int
count_passed(const EvsHost *host, const EvsSlot *slot)
{
	EvsFailedKeys failed = {0};
	int			n;

	if (slot->pending)
		evs_failed_load(slot, &failed);
	for (n = 0; n < host->window.n; n++)
	{
		EvsMessage *message = evs_window_get(&host->window, n);

		if (message->state == EVS_MESSAGE_READY || message->state == EVS_MESSAGE_SENT)
			break;
		if (message->state == EVS_MESSAGE_WAITING &&
			!evs_failed_has_position(&failed, message->position) &&
			!evs_failed_must_wait(&failed, message->key_hash, message->position))
			break;
	}
	return n;
}

static void
move_cursor(EvsHost *host, Relation states, EvsSlot *slot, int npassed)
{
	int64		up_to = npassed == host->window.n ? host->read_to :
		evs_window_get(&host->window, npassed)->position - 1;

	up_to = Max(up_to, slot->cursor);
	if (slot->pending)
		evs_failed_pass(slot, up_to, false);
	slot->cursor = up_to;
	if (slot->pending)
		evs_failed_summarize(slot);
	else
		slot->checkpoint = Max(slot->checkpoint, slot->cursor);
	EVS_DEBUG_POINT("relay_checkpoint");
	evs_slot_write(states, slot);
	evs_saga_relay_moved(host->relay->name, slot->subscription_id, slot->cursor);
	evs_xact_tell_waiters(evs_subscription_bucket(slot->subscription_id));
}

/* ---- the status ---- */

static Datum
counts_as_array(const EvsRelayCounts *counts)
{
	Datum		elements[] = {
		Int64GetDatum(counts->opened), Int64GetDatum(counts->sent),
		Int64GetDatum(counts->duplicates), Int64GetDatum(counts->failures),
		Int64GetDatum(counts->bytes),
	};

	return PointerGetDatum(construct_array(elements, lengthof(elements), INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static void
write_status(EvsHost *host)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._relay_note($1, $2, $3, $4, $5, $6, $7)",
		.nargs = 7,
		.types = {INT8OID, TEXTOID, TIMESTAMPTZOID, INT4OID, INT8ARRAYOID, FLOAT8OID, TEXTOID},
	};
	Datum		args[] = {
		Int64GetDatum(host->relay->id),
		CStringGetTextDatum(evs_circuit_name(host->circuit.state)),
		TimestampTzGetDatum(host->circuit.until),
		Int32GetDatum(host->circuit.outages),
		counts_as_array(&host->counts),
		Float8GetDatum(host->latency),
		host->error != NULL ? CStringGetTextDatum(host->error) : (Datum) 0,
	};
	char		nulls[] = "       ";

	if (host->circuit.until == 0)
		nulls[2] = 'n';
	if (host->latency < 0)
		nulls[5] = 'n';
	if (host->error == NULL)
		nulls[6] = 'n';
	(void) evs_spi_call(&plan, args, nulls);
}

void
evs_host_note_error(int64 relay, const char *message)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._relay_note($1, COALESCE(t.circuit, 'closed'), t.open_until, COALESCE(t.outages, 0), '{0,0,0,0,0}', NULL, $2, true)"
		" FROM (VALUES (1)) v LEFT JOIN evstore.relay_status t ON t.id = $1",
		.nargs = 2, .types = {INT8OID, TEXTOID},
	};
	Datum		args[] = {Int64GetDatum(relay), CStringGetTextDatum(message)};

	(void) evs_spi_call(&plan, args, NULL);
}

static void
write_fault(EvsHost *host)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._relay_fault($1)",
		.nargs = 1, .types = {INT8OID},
	};
	Datum		arg = Int64GetDatum(host->relay->id);

	(void) evs_spi_call(&plan, &arg, NULL);
}

static bool
status_is_due(const EvsHost *host, int npassed)
{
	return host->status_changed || evs_host_now(host) - host->status_at >= STATUS_INTERVAL ||
		(host->nsent == 0 && npassed == host->window.n);
}

/* ---- all of it ---- */

/* Those that have been written down; the others keep their order. */
static void
free_replays(EvsHost *host)
{
	EvsMessage *settled[EVS_REPLAYS_MAX];
	int			nsettled = 0;
	int			left = 0;

	for (int i = 0; i < host->nreplays; i++)
		if (is_settled(host, i))
			settled[nsettled++] = host->replays[i];
	for (int i = 0, k = 0; i < host->nreplays; i++)
		if (k < nsettled && host->replays[i] == settled[k])
			evs_message_free(settled[k++]);
		else
			host->replays[left++] = host->replays[i];
	host->nreplays = left;
}

/* After the commit. */
static void
apply(EvsHost *host, int npassed, bool status)
{
	for (int i = 0; i < host->window.n; i++)
		if (evs_window_get(&host->window, i)->state == EVS_MESSAGE_FAILED)
			evs_window_get(&host->window, i)->recorded = true;
	evs_window_pass(&host->window, npassed);
	free_replays(host);
	host->has_failures = false;
	host->unrecorded = 0;
	host->unrecorded_since = 0;
	host->fault_recorded = host->fault;
	if (!status)
		return;
	memset(&host->counts, 0, sizeof(host->counts));
	if (host->error != NULL)
		pfree(host->error);
	host->error = NULL;
	host->status_changed = false;
	host->status_at = evs_host_now(host);
}

void
evs_host_record(EvsHost *host)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "evstore relay",
												 ALLOCSET_SMALL_SIZES);
	MemoryContext old = CurrentMemoryContext;
	int			npassed = 0;
	bool		status = false;
	Relation	states;
	EvsSlot		slot;

	evs_host_begin(host);
	MemoryContextSwitchTo(memory);
	evs_subscription_pin();
	states = evs_open(evs_catalog()->slot_state, RowExclusiveLock);
	(void) evs_slot_lock(host->relay->id, 0, true);
	if (evs_host_read_slot(host, states, &slot))
	{
		hold_waiting(host, &slot);
		hold_replays(host);
		write_failures(host, &slot);
		hold_waiting(host, &slot);
		npassed = count_passed(host, &slot);
		status = status_is_due(host, npassed);
		move_cursor(host, states, &slot, npassed);
		evs_host_load_failed(host, &slot);
		if (status)
			write_status(host);
		if (host->fault && !host->fault_recorded)
			write_fault(host);
	}
	relation_close(states, NoLock);
	evs_host_commit(host);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
	if (host->stale)
		return;
	host->cursor = slot.cursor;
	apply(host, npassed, status);
	evs_host_rearrange(host);
}
