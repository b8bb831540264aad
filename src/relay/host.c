/*
 * host.c
 *	  A relay at work: between the log and a sink.
 *
 * No transaction is open while the sink works.  See README.md for the states of a
 * message, and for what happens where it fails.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lock.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "relay/host.h"
#include "stream/position.h"
#include "subscription/definition.h"
#include "subscription/slot.h"
#include "compat.h"

/* Number that tells the locks of relays from other advisory locks. */
#define EVS_LOCK_RELAY 17753

/* What is acknowledged is written down after so long at the latest, in us. */
#define RECORD_INTERVAL 50000

/* A cursor that has passed so many positions without a message for the sink moves. */
#define ADVANCE_AFTER 1000

int64
evs_host_now(const EvsHost *host)
{
	return host->sink->host.now_us(NULL);
}

int
evs_host_portion(const EvsHost *host)
{
	return 2 * Max(host->relay->in_flight, host->relay->batch_size);
}

/* ---- transactions ---- */

void
evs_host_begin(const EvsHost *host)
{
	if (!host->in_worker)
		return;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	SetUserIdAndSecContext(GetSessionUserId(), SECURITY_LOCAL_USERID_CHANGE);
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
evs_host_commit(const EvsHost *host)
{
	if (!host->in_worker)
		return;
	PopActiveSnapshot();
	CommitTransactionCommand();
	SetUserIdAndSecContext(GetSessionUserId(), 0);
	pgstat_report_stat(false);
}

static void
relay_lock_tag(LOCKTAG *tag, int64 relay)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, (uint32) (relay >> 32), (uint32) relay, EVS_LOCK_RELAY);
}

bool
evs_host_claim(int64 relay, bool session)
{
	LOCKTAG		tag;

	relay_lock_tag(&tag, relay);
	return LockAcquire(&tag, ExclusiveLock, session, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* ---- opening ---- */

static void
make_tables(EvsHost *host)
{
	int			n = host->relay->in_flight;

	host->sent = palloc0(sizeof(EvsMessage *) * n);
	host->rounds = palloc0(sizeof(uint32) * n);
	host->replays = palloc0(sizeof(EvsMessage *) * EVS_REPLAYS_MAX);
	host->keys = evs_host_make_keys(host);
}

void
evs_host_set_encoder(EvsHost *host)
{
	const EvsRelay *relay = host->relay;

	host->encoder.format = relay->format;
	host->encoder.relay = relay->name;
	host->encoder.topic = evs_template_compile(relay->topic);
	host->encoder.source = relay->source;
	host->encoder.publishes_metadata = relay->publishes_metadata;
	host->outbox = host->encoder;
	if (relay->topic == NULL)
		host->outbox.topic = evs_template_compile("{metadata.topic}");
}

/* A new epoch: what somebody before us may still write down is refused. */
static void
take_slot(EvsHost *host)
{
	Relation	states = evs_open(evs_catalog()->slot_state, RowExclusiveLock);
	EvsSlot		slot;

	(void) evs_slot_lock(host->relay->id, 0, true);
	if (!evs_slot_read(states, host->relay->id, 0, &slot))
		elog(ERROR, "relay \"%s\" has no slot", host->relay->name);
	evs_slot_fence(&slot);
	/* it is not the events that end a relay's worker: no attempts of theirs */
	if (slot.pending)
		evs_failed_release(&slot);
	slot.pid = MyProcPid;
	evs_slot_write(states, &slot);
	host->epoch = slot.epoch;
	host->cursor = host->read_to = slot.cursor;
	evs_host_load_failed(host, &slot);
	relation_close(states, NoLock);
}

static EvsHost *
make_host(const char *name, bool in_worker, MemoryContext context)
{
	EvsHost    *host = palloc0(sizeof(EvsHost));

	host->context = context;
	host->failed_context = AllocSetContextCreate(context, "evstore failed keys", ALLOCSET_SMALL_SIZES);
	host->in_worker = in_worker;
	host->version = evs_relay_version();
	host->relay = evs_relay_find(name);
	host->latency = -1;
	host->budget = -1;
	host->status_changed = host->look = true;
	make_tables(host);
	evs_host_set_encoder(host);
	host->last = evs_position_last();
	take_slot(host);
	return host;
}

EvsHost *
evs_host_open(const char *name, bool in_worker, char **error)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "evstore relay host",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	EvsHost    *volatile host = NULL;

	PG_TRY();
	{
		host = make_host(name, in_worker, context);
		host->sink = evs_sink_open(host->relay, error);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		MemoryContextDelete(context);
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	if (host->sink == NULL)
	{
		*error = pstrdup(*error);
		MemoryContextDelete(context);
		return NULL;
	}
	host->resumed = (host->sink->module->caps & EVS_SINK_CAP_RESUMES) == 0 ||
		host->sink->module->resume == NULL;
	return host;
}

void
evs_host_close(EvsHost *host)
{
	evs_sink_close(host->sink);
	evs_window_clear(&host->window);
	MemoryContextDelete(host->context);
}

/* ---- a turn ---- */

/*
 * It has more than there was in the log when the relay was opened: the log has been
 * set back, by a restore or a failover.  Its positions may stand for other events now.
 */
static void
renew(EvsHost *host, int64 position)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._relay_renew($1)",
		.nargs = 1, .types = {INT8OID},
	};
	Datum		arg = Int64GetDatum(host->relay->id);

	evs_host_begin(host);
	(void) evs_spi_call(&plan, &arg, NULL);
	evs_host_commit(host);
	host->stale = true;
	ereport(WARNING,
			(errmsg("relay \"%s\": the other side has position " INT64_FORMAT ", the log had ended at " INT64_FORMAT,
					host->relay->name, position, host->last),
			 errdetail("The log has been set back, by a restore or a failover; what was sent of it counts no more.")));
}

static void
cannot_resume(EvsHost *host, char *error)
{
	evs_circuit_failed(&host->circuit, host->relay, -1);
	evs_sink_clean_text(error);
	if (host->error != NULL)
		pfree(host->error);
	host->error = MemoryContextStrdup(host->context, error);
	host->status_changed = true;
}

/* What does the other side have already?  false: not known yet. */
static bool
resume(EvsHost *host)
{
	char		error[EVS_SINK_ERROR_MAX] = "";
	int64_t		position = 0;
	int			result;

	if (host->resumed)
		return true;
	if (host->circuit.until > evs_clock_now())
		return false;
	if (host->circuit.state == EVS_CIRCUIT_OPEN)
		host->circuit.state = EVS_CIRCUIT_HALF_OPEN;
	result = host->sink->module->resume(host->sink->state, &position, error, sizeof(error));
	if (result < 0)
		cannot_resume(host, error);
	else if (result > 0 && position > host->last)
		renew(host, position);
	else if (result > 0)
	{
		host->resume_to = position > host->relay->trust_from ? position : 0;
		host->resumed = true;
		evs_circuit_succeeded(&host->circuit);
		host->status_changed = true;
	}
	return host->resumed;
}

static bool
must_record(const EvsHost *host)
{
	if (host->has_failures || host->status_changed || (host->fault && !host->fault_recorded))
		return true;
	if (host->unrecorded == 0)
		return host->window.n == 0 && host->read_to - host->cursor >= ADVANCE_AFTER;
	return host->unrecorded >= evs_host_portion(host) + EVS_RECORD_MORE || host->draining || !host->in_worker ||
		evs_host_now(host) - host->unrecorded_since >= RECORD_INTERVAL;
}

bool
evs_host_turn(EvsHost *host)
{
	bool		did = evs_host_take_results(host);

	if (host->stale)
		return false;
	/* What can go out does so first: the other side works while we write and read. */
	if (host->resumed && !host->has_failures && !host->status_changed)
		did |= evs_host_submit(host);
	if (must_record(host) && !host->stale)
	{
		evs_host_record(host);
		did |= host->unrecorded > 0;
	}
	if (host->stale || host->fault || host->draining || !resume(host))
		return did;
	host->idle = !did;
	if (evs_host_wants(host))
		did |= evs_host_gather(host);
	if (host->stale || host->has_failures)
		return true;
	return evs_host_submit(host) || did;
}

/* ---- sleeping ---- */

static long
until(TimestampTz when)
{
	return evs_clock_is_overridden() ? 100 :
		TimestampDifferenceMilliseconds(evs_clock_now(), when) + 1;
}

static long
earlier(long a, long b)
{
	return a < 0 ? b : b < 0 ? a : Min(a, b);
}

long
evs_host_sleep_time(EvsHost *host)
{
	long		result = -1;
	long		wait = -1;

	if (host->stale || host->has_failures ||
		(host->in_worker && host->version != evs_relay_version()))
		return 0;
	if (host->unrecorded > 0)
		result = earlier(result, Max(0, (long) ((host->unrecorded_since + RECORD_INTERVAL -
												 evs_host_now(host)) / 1000) + 1));
	if (host->circuit.until != 0 && host->nsent == 0 && (!host->resumed || evs_host_has_ready(host)))
		result = earlier(result, until(host->circuit.until));
	if (host->pending && host->nreplays == 0 && host->failed.next_retry != 0)
		result = earlier(result, until(host->failed.next_retry));
	if (host->look && host->relay->batch_wait > 0 && host->resumed && !host->draining && !host->fault &&
		evs_host_wants_soon(host))
		result = earlier(result, evs_host_rest(host));
	if (host->ready_since != 0)
		result = earlier(result, Max(0, (long) (host->relay->batch_wait -
												(evs_host_now(host) - host->ready_since) / 1000)) + 1);
	if (evs_host_has_ready(host))
	{
		result = earlier(result, evs_host_wait_for_places(host));
		(void) evs_bucket_allows(&host->bucket, evs_host_rate(host), host->relay->burst,
								 evs_host_now(host), 1, &wait);
		result = earlier(result, wait);
	}
	return result;
}
