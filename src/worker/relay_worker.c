/*
 * relay_worker.c
 *	  The process that runs a relay.
 *
 * It holds a lock on the relay for as long as it lives, so two processes never send
 * for the same one, and it takes a new epoch of the slot with each start.  It is a
 * session of the relay's owner, in a context from which no other role can be had: its
 * transform runs in it.
 *
 * It waits for its latch and for the sink's descriptor at the same time; the sink does
 * not wait for anything.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/shmem.h"
#include "exec/act_as.h"
#include "relay/host.h"
#include "subscription/definition.h"
#include "worker/worker.h"
#include "compat.h"

/* How often to look whether there is a reason to end, in ms. */
#define LOOK_INTERVAL 1000

/* How long to wait for what is on its way, at the end, in ms. */
#define DRAIN_MAX 5000

/* After an error, in ms: doubled with each in a row. */
#define ERROR_PAUSE 200
#define ERROR_PAUSE_MAX 30000

extern PGDLLEXPORT void evs_relay_worker_main(Datum main_arg);

static EvsPoolSlot *place;
static EvsHost *host = NULL;
static bool claimed = false;
static TimestampTz next_look = 0;
static TimestampTz pause_until = 0; /* after an error, by the wall clock */
static int	errors = 0;			/* in a row */

/* ---- transactions ---- */

static void
begin(const char *what)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	SetUserIdAndSecContext(place->owner, SECURITY_LOCAL_USERID_CHANGE);
	pgstat_report_activity(STATE_RUNNING, what);
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	SetUserIdAndSecContext(place->owner, 0);
	ResetAllOptions();
	pgstat_report_activity(STATE_IDLE, NULL);
}

static void
close_host(void)
{
	EvsHost    *closing = host;

	host = NULL;
	if (closing != NULL)
		evs_host_close(closing);
}

/* ---- errors ---- */

static void
set_pause(void)
{
	long		pause = Min((long) ERROR_PAUSE << Min(errors, 10), ERROR_PAUSE_MAX);

	errors++;
	pause_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause);
}

static void
note_error(const char *message, MemoryContext scratch)
{
	PG_TRY();
	{
		begin("evstore: noting an error");
		evs_host_note_error(place->relay, message);
		commit();
	}
	PG_CATCH();
	{
		/* it is in the log; where a reason to end is behind it, that will be seen */
		evs_worker_catch_quietly(scratch);
		SetUserIdAndSecContext(place->owner, 0);
	}
	PG_END_TRY();
}

/* A lock that somebody keeps for a moment is no news. */
static void
after_error(MemoryContext scratch)
{
	char		message[EVS_WORKER_ERROR_MAX];
	int			code = geterrcode();

	next_look = 0;
	set_pause();
	/* what is noted below is taken back by the next turn that gets so far */
	if (host != NULL)
		host->status_changed = true;
	if (code == ERRCODE_LOCK_NOT_AVAILABLE || code == ERRCODE_UNDEFINED_OBJECT ||
		code == ERRCODE_EVS_OBJECT_NOT_FOUND ||
		(code == ERRCODE_QUERY_CANCELED && ShutdownRequestPending))
	{
		evs_worker_catch_quietly(scratch);
		SetUserIdAndSecContext(place->owner, 0);
		return;
	}
	evs_worker_catch(scratch, message, sizeof(message));
	SetUserIdAndSecContext(place->owner, 0);
	note_error(message, scratch);
}

/* ---- the relay ---- */

/* A relay that is as its host knows it, or none. */
static void
open_host(void)
{
	EvsRelay   *relay;
	char	   *error = NULL;

	begin("evstore: opening a relay");
	relay = evs_relay_find_kept(place->relay);
	if (relay == NULL || relay->paused)
	{
		commit();
		evs_worker_end(EVS_WORKER_NONE);
	}
	if (!claimed)
		claimed = evs_host_claim(place->relay, true);
	if (claimed)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		host = evs_host_open(relay->name, true, &error);
		MemoryContextSwitchTo(old);
	}
	commit();
	if (host != NULL)
		pgstat_report_appname(host->relay->name);
	if (error != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("the relay's sink cannot be opened: %s", error)));
}

static void
look_around(void)
{
	EvsWorkerState state;

	if (place->stop_wanted)
		ShutdownRequestPending = true;
	if (ShutdownRequestPending || GetCurrentTimestamp() < next_look)
		return;
	next_look = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOOK_INTERVAL);
	state = evs_worker_look_around(place->owner);
	SetUserIdAndSecContext(place->owner, 0);
	if (state != EVS_WORKER_RUNNING)
	{
		close_host();
		evs_worker_end(state);
	}
}

/* Is the relay still as it was when it was opened? */
static bool
has_changed(void)
{
	EvsRelay   *relay;
	bool		changed;

	if (host->version == evs_relay_version())
		return false;
	begin("evstore: looking for changes");
	host->version = evs_relay_version();
	relay = evs_relay_find_kept(place->relay);
	changed = relay == NULL || strcmp(relay->fingerprint, host->relay->fingerprint) != 0;
	commit();
	return changed;
}

/* What has changed counts from now on; what is on its way comes back first. */
static void
heed_changes(void)
{
	if (host == NULL || (!host->stale && !host->draining && !has_changed()))
		return;
	if (!host->stale)
	{
		host->draining = true;
		if (host->nsent > 0)
			return;
		evs_host_record(host);
	}
	close_host();
}

static bool
take_turn(void)
{
	look_around();
	heed_changes();
	if (ShutdownRequestPending)
		return false;
	if (host == NULL)
	{
		open_host();
		return host != NULL;
	}
	pgstat_report_activity(STATE_RUNNING, "evstore: relay");
	if (evs_host_turn(host))
	{
		errors = 0;
		return true;
	}
	pgstat_report_activity(STATE_IDLE, NULL);
	return false;
}

static bool
try_turn(MemoryContext scratch)
{
	volatile bool did = false;

	if (pause_until > GetCurrentTimestamp() && !ShutdownRequestPending)
		return false;
	pause_until = 0;
	PG_TRY();
	{
		did = take_turn();
	}
	PG_CATCH();
	{
		after_error(scratch);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(scratch);
	MemoryContextReset(scratch);
	return did;
}

/* ---- waiting ---- */

static long
sleep_time(void)
{
	TimestampTz now = GetCurrentTimestamp();
	long		ms = next_look == 0 ? 0 : TimestampDifferenceMilliseconds(now, next_look);

	if (pause_until > now)
		return TimestampDifferenceMilliseconds(now, pause_until) + 1;
	if (host != NULL)
	{
		long		wanted = evs_host_sleep_time(host);

		if (wanted >= 0)
			ms = Min(ms, wanted);
	}
	else
		ms = Min(ms, 100);
	return ms;
}

/* Until the latch is set, the sink has something to do, or it is time. */
static void
wait_for_something(long ms)
{
	static uint32 wait_event = 0;
	int			wakeup;

	if (wait_event == 0)
		wait_event = evs_wait_event_new("EvstoreRelayMain");
	wakeup = evs_sink_wait(host != NULL ? host->sink : NULL, ms, wait_event);
	if ((wakeup & WL_LATCH_SET) == 0)
		return;
	ResetLatch(MyLatch);
	if (host != NULL)
		host->look = true;
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* ---- the end ---- */

/* Give what is on its way some time to come back, and write down what has. */
static void
drain(MemoryContext scratch)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), DRAIN_MAX);

	PG_TRY();
	{
		host->draining = true;
		while (host->nsent > 0 && !host->stale && GetCurrentTimestamp() < end)
		{
			(void) evs_host_take_results(host);
			if (host->nsent > 0)
				wait_for_something(100);
		}
		if (!host->stale)
			evs_host_record(host);
	}
	PG_CATCH();
	{
		evs_worker_catch_quietly(scratch);
		SetUserIdAndSecContext(place->owner, 0);
	}
	PG_END_TRY();
}

static void
handle_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	ShutdownRequestPending = true;
	evs_act_interrupt();
	SetLatch(MyLatch);
	errno = save_errno;
}

void
evs_relay_worker_main(Datum main_arg)
{
	EvsSharedDatabase *database = evs_worker_begin(handle_sigterm, &place);
	MemoryContext scratch;

	evs_worker_set_up_session();
	evs_worker_become(place->owner);
	scratch = AllocSetContextCreate(TopMemoryContext, "evstore relay worker", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(scratch);
	evs_worker_running(database);
	/* announced before the first look; the latch tells of all that comes after it */
	pg_atomic_write_u32(&place->armed, 1 << evs_subscription_bucket(place->relay));
	pg_memory_barrier();

	while (!ShutdownRequestPending)
	{
		if (!try_turn(scratch) && !ShutdownRequestPending)
			wait_for_something(sleep_time());
		CHECK_FOR_INTERRUPTS();
	}
	if (host != NULL)
		drain(scratch);
	close_host();
	evs_worker_end(EVS_WORKER_NONE);
}
