/*
 * gather.c
 *	  Reading the events that a relay is to send.
 *
 * A transaction of its own.  The safe position is read first and the snapshot taken
 * second.  Before anything of it is sent, the log is flushed up to where it was then:
 * nothing goes out that a crash could take back.  Others have often done that by then.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/debug_point.h"
#include "base/errors.h"
#include "base/wal.h"
#include "catalog/catalog.h"
#include "exec/act_as.h"
#include "projection/handler.h"
#include "relay/host.h"
#include "stream/event.h"
#include "stream/position.h"
#include "subscription/definition.h"
#include "subscription/slot.h"
#include "compat.h"

/* So many positions are looked at in one transaction. */
#define SCAN_MAX 1000000

/* Messages in the window, besides two portions and those that are to be written down. */
#define WINDOW_MORE 1000

/* What may be in memory, unless one message has more. */
#define WINDOW_BYTES (64 * 1024 * 1024)

/* More than any relay allows. */
#define HOPS_MAX 1000000

typedef struct Reading
{
	EvsHost    *host;
	const EvsRelay *relay;
	EvsSubscription subscription;
	EvsMessageBatch *batch;
	EvsHandler *handler;		/* of the transform, or NULL */
	MemoryContext scratch;		/* while a message is made */
	Snapshot	snapshot;
	TimestampTz now;
} Reading;

/* ---- from an event to a message ---- */

/* How often relays have sent it on already, from store to store: the attribute hops. */
static int
count_hops(const EvsOutgoing *out)
{
	JsonbValue	attributes;
	JsonbValue	value;
	const char *text;

	if (!evs_json_member(&out->metadata->root, "cloudevent", &attributes) ||
		attributes.type != jbvBinary ||
		!evs_json_member(attributes.val.binary.data, "hops", &value))
		return 0;
	text = evs_json_scalar_text(&value);
	return text != NULL ? (int) Max(0, Min(strtol(text, NULL, 10), HOPS_MAX)) : 0;
}

/* Who takes it in and relays it counts on. */
static void
add_hop(EvsOutgoing *out, int hops)
{
	evs_sink_pair *extension = palloc(sizeof(evs_sink_pair));
	char	   *number = palloc(MAXINT8LEN + 1);

	pg_ltoa(hops, number);
	extension->name = "hops";
	extension->value = number;
	out->extensions = extension;
	out->nextensions = 1;
}

/* Messages of publish() have a topic and a key of their own. */
static const EvsEncoder *
choose_encoder(const EvsHost *host, EvsOutgoing *out)
{
	JsonbValue	value;

	if (strcmp(out->category, "outbox") != 0 ||
		!evs_json_member(&out->metadata->root, "topic", &value))
		return &host->encoder;
	if (out->key != NULL && strcmp(out->key, out->stream) == 0 &&
		evs_json_member(&out->metadata->root, "key", &value) && value.type == jbvString)
		out->key = evs_json_scalar_text(&value);
	return &host->outbox;
}

/* Why it must not be sent, or NULL. */
static const char *
refusal(Reading *reading, int hops, TimestampTz recorded_at, const char **reason)
{
	const EvsRelay *relay = reading->relay;

	if (hops >= relay->max_hops)
	{
		*reason = "loop";
		return psprintf("relays have sent it on %d times", hops);
	}
	if (relay->max_age > 0 && reading->now - recorded_at > relay->max_age * 1000)
	{
		*reason = "expired";
		return "it is older than the relay's option max_age";
	}
	return NULL;
}

/* The message on the wire; false: it failed. */
static bool
encode(Reading *reading, EvsMessage *message, EvsOutgoing *out)
{
	EvsHost    *host = reading->host;
	char	   *error;

	if (!evs_encode(choose_encoder(host, out), out, &message->wire, &error))
	{
		evs_host_fail(host, message, "park", "encoding", error, -1);
		return false;
	}
	message->size = message->wire.length;
	if (reading->relay->max_bytes > 0 && message->wire.length > reading->relay->max_bytes)
	{
		evs_host_fail(host, message, "park", "too_large",
					  psprintf("it has %zu bytes", message->wire.length), -1);
		return false;
	}
	return true;
}

/* ---- the transform ---- */

static EvsHandler *
begin_transform(const EvsRelay *relay)
{
	EvsProjection *function;
	List	   *names;

	if (relay->transform == NULL)
		return NULL;
	names = evs_qualified_name_list(relay->transform);
	function = palloc0(sizeof(EvsProjection));
	function->name = function->title = relay->name;
	function->owner = relay->owner;
	function->handler = relay->transform;
	function->transforms = true;
	function->timeout = relay->timeout;
	function->search_path = psprintf("%s, pg_temp", quote_identifier(strVal(linitial(names))));
	return evs_handler_begin(function, false);
}

/*
 * Call it in a subtransaction.  false: it has thrown, and the message failed, or it
 * has returned null, and the message is done.  What is not the event's fault is thrown.
 */
static bool
transform(Reading *reading, EvsMessage *message, Datum data, EvsLogCursor *cursor, Datum *result)
{
	MemoryContext memory = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	EvsHandledEvent event;
	volatile bool ok = false;

	evs_handler_get_event(cursor, data, &event);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(memory);
	PG_TRY();
	{
		bool		isnull;

		PushActiveSnapshot(GetTransactionSnapshot());
		*result = evs_handler_transform(reading->handler, &event, &isnull);
		PopActiveSnapshot();
		ReleaseCurrentSubTransaction();
		ok = !isnull;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(memory);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (evs_act_timed_out())
			error->message = "the transform was ended by its time limit";
		else if (evs_error_is_transient(error->sqlerrcode))
			ReThrowError(error);
		evs_host_fail(reading->host, message, "retry", NULL, error->message, -1);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	CurrentResourceOwner = owner;
	if (!ok && message->state != EVS_MESSAGE_FAILED)
		message->state = EVS_MESSAGE_DONE;
	return ok;
}

/* ---- reading ---- */

static EvsMessage *
new_message(Reading *reading)
{
	EvsMessage *message = MemoryContextAllocZero(reading->batch->context, sizeof(EvsMessage));

	message->batch = reading->batch;
	message->batch->left++;
	message->state = EVS_MESSAGE_READY;
	message->wire.size = sizeof(evs_sink_message);
	message->wire.attempt = 1;
	return message;
}

/* The event that the cursor is on; data, if given, in place of its own. */
static EvsMessage *
make_message(Reading *reading, EvsLogCursor *cursor, Datum data)
{
	EvsMessage *message = new_message(reading);
	EvsOrderingKey key = evs_subscription_key(&reading->subscription, cursor, true);
	char	   *key_text = text_to_cstring(key.key);
	Datum		values[EVS_EVENT_NCOLUMNS];
	bool		nulls[EVS_EVENT_NCOLUMNS];
	EvsOutgoing out;
	int			hops;
	const char *reason;
	const char *error;

	message->position = evs_cursor_position(cursor);
	message->key_hash = key.hash;
	if (evs_cursor_filter_error(cursor) != NULL)
	{
		evs_host_fail(reading->host, message, "filter", NULL, evs_cursor_filter_error(cursor), -1);
		return message;
	}
	evs_event_from_row(evs_cursor_leaf(cursor), evs_cursor_slot(cursor),
					   PointerGetDatum(evs_cursor_stream_name(cursor)), values, nulls);
	if (reading->handler != NULL && !transform(reading, message, data, cursor, &data))
		return message;
	if (data != (Datum) 0)
	{
		values[EVS_EVENT_DATA] = data;
		nulls[EVS_EVENT_DATA] = false;
	}
	evs_outgoing_from_columns(values, nulls, &out);
	if (*key_text != '\0')
		out.key = key_text;
	hops = count_hops(&out);
	add_hop(&out, hops + 1);
	error = refusal(reading, hops, DatumGetTimestampTz(values[EVS_EVENT_RECORDED_AT]), &reason);
	if (error != NULL)
		evs_host_fail(reading->host, message, "park", reason, error, -1);
	else if (encode(reading, message, &out))
		evs_message_keep(message);
	return message;
}

/*
 * Most of what it takes to make a message is needed no longer then.  In the same
 * place for each it stays in the processor's caches, and the batch has little.
 */
static EvsMessage *
read_message(Reading *reading, EvsLogCursor *cursor, Datum data)
{
	MemoryContext old = MemoryContextSwitchTo(reading->scratch);
	EvsMessage *message = make_message(reading, cursor, data);

	MemoryContextSwitchTo(old);
	MemoryContextReset(reading->scratch);
	return message;
}

/* What an earlier run has got to the other side; and what must wait. */
static void
place_message(EvsHost *host, EvsMessage *message)
{
	if (host->pending && evs_failed_has_position(&host->failed, message->position))
	{
		message->state = EVS_MESSAGE_FAILED;
		message->recorded = true;
	}
	else if (host->pending && message->state == EVS_MESSAGE_READY &&
			 evs_failed_must_wait(&host->failed, message->key_hash, message->position))
	{
		message->state = EVS_MESSAGE_WAITING;
		host->has_failures = true;
	}
	else if (message->state == EVS_MESSAGE_READY && message->position <= host->resume_to)
	{
		message->state = EVS_MESSAGE_DONE;
		host->counts.duplicates++;
	}
	if (message->state == EVS_MESSAGE_DONE)
		host->unrecorded++;
	evs_window_add(&host->window, message);
}

static int
wanted(const EvsHost *host)
{
	int			portion = evs_host_portion(host);
	int			n = Min(2 * portion + EVS_RECORD_MORE + WINDOW_MORE - host->window.n, portion);

	if (host->window.bytes >= WINDOW_BYTES)
		return 0;
	return host->budget >= 0 ? (int) Min(n, host->budget) : n;
}

static bool
is_due(const EvsHost *host)
{
	return host->pending && host->nreplays == 0 && host->failed.next_retry != 0 &&
		host->failed.next_retry <= evs_clock_now();
}

/* After an outage secrets are read again: they may have been the reason. */
static bool
is_recovering(const EvsHost *host)
{
	return host->circuit.outages > 0 && host->nsent == 0 && host->circuit.until <= evs_clock_now();
}

/*
 * Who lets events wait for company need not read them one by one.  Those that are read
 * after that have waited already.
 */
long
evs_host_rest(const EvsHost *host)
{
	int64		until = host->gathered_at + host->relay->batch_wait * INT64CONST(1000);

	if (!host->in_worker || host->relay->batch_wait == 0 || host->gathered_at == 0)
		return 0;
	return (long) Max(0, (until - evs_host_now(host) + 999) / 1000);
}

/* The same when it has rested. */
bool
evs_host_wants_soon(const EvsHost *host)
{
	return host->look && wanted(host) > 0;
}

/*
 * What is read long before it is sent has left the processor's caches by then.  But
 * there is no better time to read than when all are on their way and none has been
 * answered.  And where keys wait for their turn, there may be others behind them.
 */
static bool
has_enough(const EvsHost *host)
{
	int			ready = host->window.n - host->window.settled;

	return evs_host_is_half_full(host) &&
		ready >= (host->idle ? 2 * host->relay->in_flight : host->relay->in_flight / 2);
}

/* Behind the end of the log nothing is read one by one as room for it is made. */
static bool
wants_more(const EvsHost *host)
{
	int			n = wanted(host);

	return !host->all_read && n > 0 && !has_enough(host) &&
		(n == evs_host_portion(host) || n == host->budget || !evs_host_has_ready(host));
}

bool
evs_host_wants(const EvsHost *host)
{
	return is_due(host) || is_recovering(host) ||
		(evs_host_wants_soon(host) && evs_host_rest(host) == 0) || wants_more(host);
}

static int
read_new(Reading *reading, int64 safe)
{
	EvsHost    *host = reading->host;
	EvsLogRange range = {
		.after = host->read_to, .filter = reading->subscription.filter, .want_errors = true,
	};
	int			limit = wanted(host);
	EvsLogCursor *cursor;
	int			n = 0;

	/* called for those that are due: what is new is looked for when there is room */
	if (limit <= 0)
		return 0;
	range.up_to = Min(safe, range.after + SCAN_MAX);
	host->look = false;
	host->all_read = range.up_to == safe;
	if (range.after >= range.up_to)
		return 0;
	cursor = evs_cursor_open(&range, reading->snapshot);
	while (evs_cursor_next(cursor))
	{
		place_message(host, read_message(reading, cursor, (Datum) 0));
		if (++n >= limit || host->window.bytes >= WINDOW_BYTES)
		{
			host->all_read = false;
			break;
		}
	}
	host->read_to = evs_cursor_scanned(cursor);
	evs_cursor_close(cursor);
	if (host->budget >= 0)
		host->budget -= n;
	return n;
}

/* One that failed before. */
static void
read_due(Reading *reading, const EvsSlot *slot, const EvsDueEvent *due)
{
	EvsHost    *host = reading->host;
	EvsLogRange range = {.after = due->position - 1, .up_to = due->position};
	EvsLogCursor *cursor = evs_cursor_open(&range, reading->snapshot);

	if (evs_cursor_next(cursor))
	{
		EvsMessage *message = read_message(reading, cursor, due->data);

		message->replay = true;
		message->wire.flags |= EVS_SINK_MESSAGE_REPLAY;
		message->wire.attempt = due->attempts + 1;
		if (message->state == EVS_MESSAGE_DONE)
			host->unrecorded++;
		host->replays[host->nreplays++] = message;
	}
	else
		evs_failed_forget(slot, due->position);
	evs_cursor_close(cursor);
}

static int
read_due_events(Reading *reading, Relation states)
{
	EvsHost    *host = reading->host;
	EvsSlot		slot;
	EvsDueEvent *due;
	int			n;

	if (!is_due(host) || !evs_slot_lock(host->relay->id, 0, true) ||
		!evs_host_read_slot(host, states, &slot))
		return 0;
	due = evs_failed_take(&slot, EVS_REPLAYS_MAX, false, &n);
	for (int i = 0; i < n; i++)
		read_due(reading, &slot, &due[i]);
	if (n == 0)
		evs_host_load_failed(host, &slot);
	return n;
}

void
evs_host_flush_log(EvsHost *host)
{
	if (host->flush_to == InvalidXLogRecPtr)
		return;
	XLogFlush(host->flush_to);
	host->durable = host->flush_safe;
	host->flush_to = InvalidXLogRecPtr;
}

static EvsMessageBatch *
begin_batch(EvsHost *host)
{
	MemoryContext context = AllocSetContextCreate(host->context, "evstore messages",
												  ALLOCSET_DEFAULT_SIZES);
	EvsMessageBatch *batch = MemoryContextAllocZero(context, sizeof(EvsMessageBatch));

	batch->context = context;
	batch->left = 1;
	return batch;
}

/* Nothing of what was read after an error stays. */
static void
undo(EvsHost *host, int nmessages, int nreplays, int64 read_to, Size bytes)
{
	host->window.n = nmessages;
	host->window.settled = Min(host->window.settled, nmessages);
	host->window.bytes = bytes;
	host->nreplays = nreplays;
	host->read_to = read_to;
	host->look = true;
}

static int
gather_events(EvsHost *host, EvsMessageBatch *batch)
{
	Reading		reading = {.host = host, .relay = host->relay, .batch = batch};
	Relation	states = evs_open(evs_catalog()->slot_state, RowExclusiveLock);
	int64		safe = evs_position_safe();
	EvsSlot		slot;
	int			n = 0;

	evs_subscription_pin();
	reading.snapshot = RegisterSnapshot(GetLatestSnapshot());
	/* what was appended after a change is not for who does not know of it */
	AcceptInvalidationMessages();
	reading.subscription = *evs_subscription_find(host->relay->name);
	reading.now = evs_clock_now();
	reading.scratch = AllocSetContextCreate(CurTransactionContext, "evstore message being made",
											ALLOCSET_DEFAULT_SIZES);
	evs_sink_refresh(host->sink);
	if (host->in_worker && host->version != evs_relay_version())
		host->look = true;
	else if (evs_host_read_slot(host, states, &slot))
	{
		/* parked events may have been replayed, or discarded */
		if (host->look && (slot.pending || host->pending))
		{
			evs_host_load_failed(host, &slot);
			evs_host_rearrange(host);
		}
		reading.handler = begin_transform(host->relay);
		n = read_due_events(&reading, states) + read_new(&reading, safe);
		if (reading.handler != NULL)
			evs_handler_end(reading.handler);
	}
	UnregisterSnapshot(reading.snapshot);
	relation_close(states, NoLock);
	MemoryContextDelete(reading.scratch);
	EVS_DEBUG_POINT("relay_gathered");
	/* all that was read has been committed before now; what was safe at the last flush is durable */
	if (n > 0 && host->read_to > host->durable)
	{
		host->flush_to = evs_wal_end();
		host->flush_safe = safe;
	}
	return n;
}

bool
evs_host_gather(EvsHost *host)
{
	int			before = host->window.n;
	int			nreplays = host->nreplays;
	int64		read_to = host->read_to;
	Size		bytes = host->window.bytes;
	EvsRelayCounts counts = host->counts;
	int			unrecorded = host->unrecorded;
	MemoryContext old = CurrentMemoryContext;
	EvsMessageBatch *batch = begin_batch(host);
	volatile int n = 0;

	PG_TRY();
	{
		evs_host_begin(host);
		MemoryContextSwitchTo(batch->context);
		n = gather_events(host, batch);
		evs_host_commit(host);
	}
	PG_CATCH();
	{
		undo(host, before, nreplays, read_to, bytes);
		host->counts = counts;
		host->unrecorded = unrecorded;
		MemoryContextDelete(batch->context);
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	host->gathered_at = evs_host_now(host);
	if (n > 0 && host->unrecorded > unrecorded && host->unrecorded_since == 0)
		host->unrecorded_since = evs_host_now(host);
	if (--batch->left == 0)
		MemoryContextDelete(batch->context);
	return n > 0;
}

EvsMessage *
evs_host_test_message(EvsHost *host, char **error)
{
	EvsMessageBatch *batch = begin_batch(host);
	MemoryContext old = MemoryContextSwitchTo(batch->context);
	Reading		reading = {.host = host, .relay = host->relay, .batch = batch};
	EvsMessage *message = new_message(&reading);
	EvsOutgoing out = {
		.time = GetCurrentTimestamp(), .stream = "evstore-test", .category = "evstore",
		.type = "evstore.test", .schema_version = 1,
	};
	bool		ok;

	evs_uuid7(&out.id);
	out.data = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{\"test\": true}")));
	out.metadata = evs_event_empty_object();
	ok = evs_encode(&host->encoder, &out, &message->wire, error);
	message->wire.flags |= EVS_SINK_MESSAGE_TEST;
	batch->left--;
	MemoryContextSwitchTo(old);
	return ok ? message : NULL;
}
