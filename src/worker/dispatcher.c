/*
 * dispatcher.c
 *	  The process that knows when there is something new, one a database.
 *
 * An append that ends sets the database's "touched" flag, and only who finds
 * it unset sets the dispatcher's latch.  The dispatcher unsets the flag, looks
 * up the safe position, wakes those who wait for what has become safe, and
 * sends NOTIFY for listeners.  Under load it takes a nap in between, with the
 * flag still set, so that committers pay for a wake-up a few hundred times a
 * second at most, and events are looked at in batches.
 *
 * Once a second it looks around: for prepared transactions, whose end nobody
 * tells; whether the extension is still there and the database still adopted;
 * and whether somebody wants the database for itself (DROP DATABASE, RENAME):
 * then it goes.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/guc.h"
#include "base/shmem.h"
#include "catalog/catalog.h"
#include "stream/position.h"
#include "stream/safe_point.h"
#include "stream/seal.h"
#include "subscription/inbox.h"
#include "subscription/watch.h"
#include "worker/notifier.h"
#include "worker/pool.h"
#include "worker/worker.h"
#include "compat.h"

/* In microseconds. */
#define LOOK_INTERVAL 1000000
#define EXPIRE_INTERVAL 60000000

/* The extension may be dropped and made again a few times within one turn. */
#define UNDEFINED_MAX 5

/* How long to pause when a lock could not be had, in ms. */
#define LOCK_PAUSE 200

/* Up to so many events a second, no nap; at this rate, the longest. */
#define NAP_FROM_RATE 1000
#define NAP_MAX_RATE 3000
#define NAP_MAX 10000			/* microseconds */

extern PGDLLEXPORT void evs_dispatcher_main(Datum main_arg);

static EvsSharedDatabase *database;
static int64 last_safe = -1;	/* -1: nothing looked at yet */
static int64 recorded_safe = -1;
static Oid	last_store = InvalidOid;
static TimestampTz next_look = 0;
static TimestampTz next_expire = 0;

/* Listeners know of failed events that became due until then. */
static TimestampTz due_told = 0;

/* After an error, no turn is taken until this time; 0: there was none. */
static TimestampTz pause_until = 0;
static int	undefined_in_a_row = 0;

/* Events a second, averaged over about a quarter of a second. */
static double rate = 0;
static TimestampTz rate_at = 0;
static int64 rate_safe = 0;

static void
measure_rate(TimestampTz now)
{
	int64		passed = now - rate_at;

	if (passed < 20000)
		return;
	if (passed > 1000000 || rate_at == 0)
		rate = 0;
	else
		rate += ((last_safe - rate_safe) * 1e6 / passed - rate) * Min(1.0, passed / 250000.0);
	rate_at = now;
	rate_safe = last_safe;
}

/* How long to let events gather, in microseconds. */
static long
nap_time(void)
{
	if (rate <= NAP_FROM_RATE)
		return 0;
	return (long) (NAP_MAX * Min(1.0, (rate - NAP_FROM_RATE) / (NAP_MAX_RATE - NAP_FROM_RATE)));
}

static void
notify_listeners(const char *channel, int64 position)
{
	if (evs_guc_notify == EVS_NOTIFY_WORKER)
		evs_notifier_add(channel, position);
}

/* What is done once a second. */
static void
look_around(TimestampTz now)
{
	if (last_safe != recorded_safe && last_safe >= 0)
	{
		(void) evs_safe_point_record();
		recorded_safe = last_safe;
	}
	evs_watch_due(due_told, evs_clock_now(), last_safe, notify_listeners);
	due_told = evs_clock_now();
	if (now >= next_expire)
	{
		(void) evs_inbox_expire_tables();
		next_expire = now + EXPIRE_INTERVAL;
	}
}

/* What the process before us has not told of is not known: tell of everything. */
static void
tell_of_events(int64 safe)
{
	if (safe > 0)
		notify_listeners("evstore", safe);
	if (last_safe >= 0)
		evs_watch_events(database, last_safe, safe, notify_listeners);
	else if (safe > 0)
		evs_watch_tell_all(safe, notify_listeners);
	last_safe = safe;
}

/* One look at the log, in a transaction of its own. */
static EvsWorkerState
run_cycle(TimestampTz now)
{
	EvsWorkerState state = EVS_WORKER_RUNNING;
	bool		look = now >= next_look || now < next_look - LOOK_INTERVAL;
	bool		departed = false;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (look || !OidIsValid(get_namespace_oid("evstore", true)))
	{
		state = evs_worker_reason_to_end();
		next_look = now + LOOK_INTERVAL;
	}
	if (state == EVS_WORKER_RUNNING)
	{
		int64		safe;

		if (last_store != evs_catalog()->position_seq)
			last_safe = recorded_safe = -1;
		last_store = evs_catalog()->position_seq;
		safe = evs_position_safe();
		if (pg_atomic_exchange_u32(&database->departed, 0) != 0 || last_safe < 0)
		{
			evs_watch_wake_all(database);
			departed = true;
		}
		if (safe > last_safe)
			tell_of_events(safe);
		evs_pool_manage(database, look || departed);
		if (look)
			look_around(now);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	return state;
}

/* Likewise a reason to end, or RUNNING. */
static EvsWorkerState
stop_is_wanted(void)
{
	EvsWorkerState result = EVS_WORKER_RUNNING;

	LWLockAcquire(&evs_shmem()->lock, LW_SHARED);
	if (database->excluded)
		result = EVS_WORKER_EXCLUDED;
	if (database->stop_wanted)
		result = EVS_WORKER_STOPPED;
	LWLockRelease(&evs_shmem()->lock);
	return result;
}

/* Until there is something to do, or it is time. */
static void
sleep_until(TimestampTz when)
{
	static uint32 wait_event = 0;
	long		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), when);

	if (wait_event == 0)
		wait_event = evs_wait_event_new("EvstoreDispatcherMain");

	/* whatever has waited since the last time may have eaten the latch's signal */
	if (ShutdownRequestPending ||
		(pause_until == 0 && pg_atomic_read_u32(&database->touched) != 0))
		ms = 0;
	evs_worker_sleep(ms, wait_event);
}

/* On purpose: the workers go, too. */
static void
leave(EvsWorkerState state)
{
	evs_pool_stop(database);
	evs_worker_end(state);
}

/* One turn; returns when the next is due if nothing happens before. */
static TimestampTz
take_turn(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz notify_at;
	EvsWorkerState state = stop_is_wanted();

	if (state != EVS_WORKER_RUNNING)
		leave(state);

	/* first the flag, then the look: what ends after the look sets it again */
	pg_atomic_exchange_u32(&database->touched, 0);
	state = run_cycle(now);
	if (state != EVS_WORKER_RUNNING)
		leave(state);
	measure_rate(now);
	notify_at = evs_notifier_run(now, nap_time());
	return notify_at != 0 ? Min(notify_at, next_look) : next_look;
}

/*
 * Survive an error: say so, and pause.  DROP EXTENSION can come between a look
 * and the next: look again at once, and go quietly.  A lock that somebody keeps
 * is no news for the log either; the view of workers tells of it.
 */
static TimestampTz
after_error(MemoryContext context)
{
	char		message[EVS_WORKER_ERROR_MAX];
	long		pause;

	if (geterrcode() == ERRCODE_LOCK_NOT_AVAILABLE)
	{
		evs_worker_catch_quietly(context);
		(void) evs_worker_failed("a lock could not be had in time");
		next_look = 0;
		return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOCK_PAUSE);
	}
	if (geterrcode() == ERRCODE_UNDEFINED_OBJECT && undefined_in_a_row++ < UNDEFINED_MAX)
	{
		evs_worker_catch_quietly(context);
		next_look = 0;
		return 0;
	}
	evs_worker_catch(context, message, sizeof(message));
	pause = evs_worker_failed(message);
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), pause);
}

static bool announced = false;

/* While nothing else is done: should we be here at all? */
static TimestampTz
rest(TimestampTz now)
{
	EvsWorkerState state = stop_is_wanted();

	StartTransactionCommand();
	if (state == EVS_WORKER_RUNNING && evs_worker_database_is_wanted(MyDatabaseId))
		state = EVS_WORKER_YIELDED;
	CommitTransactionCommand();
	if (state != EVS_WORKER_RUNNING)
		leave(state);
	return Min(pause_until, now + LOOK_INTERVAL);
}

/* A turn that may fail; returns when the next is due. */
static TimestampTz
try_turn(MemoryContext scratch)
{
	TimestampTz now = GetCurrentTimestamp();
	volatile TimestampTz when = pause_until;

	if (now < pause_until)
		return rest(now);
	PG_TRY();
	{
		when = take_turn();
		if (!announced)
			evs_worker_running(database);
		else if (pause_until != 0)
			evs_worker_recovered();
		announced = true;
		pause_until = 0;
		undefined_in_a_row = 0;
	}
	PG_CATCH();
	{
		when = pause_until = after_error(scratch);
	}
	PG_END_TRY();
	return when;
}

void
evs_dispatcher_main(Datum main_arg)
{
	MemoryContext scratch;

	database = evs_worker_begin(SignalHandlerForShutdownRequest, NULL);
	evs_worker_set_up_session();
	scratch = AllocSetContextCreate(TopMemoryContext, "evstore dispatcher",
									ALLOCSET_DEFAULT_SIZES);

	while (!ShutdownRequestPending)
	{
		TimestampTz when;
		long		nap;

		MemoryContextReset(scratch);
		MemoryContextSwitchTo(scratch);
		when = try_turn(scratch);
		nap = nap_time();
		if (nap > 0 && pause_until == 0)
			pg_usleep(nap);
		sleep_until(when);
	}
	proc_exit(0);
}
