/*
 * projection_worker.c
 *	  The process that runs projections, of one role.
 *
 * It goes round the partitions that are its share, a batch and a transaction
 * each, until there is nothing to do.  Then it announces which events it waits
 * for, looks once more, and sleeps: the dispatcher wakes it.
 *
 * It is a session of its projections' owner, from before a handler is called
 * until after the commit, in a context from which no other role can be had:
 * triggers that were deferred to the commit run in it, too.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/shmem.h"
#include "catalog/catalog.h"
#include "exec/act_as.h"
#include "projection/definition.h"
#include "projection/rebuild.h"
#include "projection/run.h"
#include "stream/in_flight.h"
#include "subscription/definition.h"
#include "worker/worker.h"
#include "compat.h"

/* How often to look whether there is a reason to end, in microseconds. */
#define LOOK_INTERVAL 1000000

/* How long to wait before a rebuild that was not far enough is tried again, in ms. */
#define FINISH_PAUSE 200

/*
 * And one that could not lock what it needs within so long: those who come to read
 * the tables wait behind it.  The pause doubles with each time.  Shorter than
 * deadlock_timeout, so that DROP EXTENSION is not ended by a deadlock with it.
 */
#define FINISH_LOCK_TIMEOUT "200ms"
#define LOCK_PAUSE 1000
#define LOCK_PAUSE_MAX 30000

/* A lock that cannot be had so often in a row is an error to be noted. */
#define NOT_LOCKED_MAX 5

/* After an error that is noted. */
#define ERROR_PAUSE 1000

extern PGDLLEXPORT void evs_projection_worker_main(Datum main_arg);

/* A partition of a projection. */
typedef struct Unit
{
	EvsRun		run;
	TimestampTz retry_at;		/* by evstore's clock; 0 = now */
	bool		stands;			/* and not before; else new events may be handled */
	TimestampTz finish_at;		/* of a rebuild: when to try to finish it; 0 = now */
	bool		finishing;
	int			not_locked;		/* how often in a row it could not lock what it needs */
	int			not_finished;	/* the same for finishing */
} Unit;

static EvsSharedDatabase *database;
static EvsPoolSlot *place;
static Oid	owner;
static MemoryContext units_context = NULL;
static List *units = NIL;
static uint64 loaded_version = 0;
static TimestampTz next_look = 0;

/* ---- units ---- */

static Unit *
find_unit(List *list, int64 id, int slot)
{
	ListCell   *cell;

	foreach(cell, list)
	{
		Unit	   *unit = lfirst(cell);

		if (unit->run.projection->id == id && unit->run.slot == slot)
			return unit;
	}
	return NULL;
}

static List *
add_units(List *list, const EvsProjection *projection, uint64 version)
{
	for (int i = 0; i < projection->slots; i++)
	{
		Unit	   *unit = palloc0(sizeof(Unit));
		Unit	   *known = find_unit(units, projection->id, i);

		if (known != NULL)
		{
			unit->run.store = known->run.store;
			unit->run.seq = known->run.seq;
			unit->run.scanned = known->run.scanned;
		}
		unit->run.projection = projection;
		unit->run.version = version;
		unit->run.slot = i;
		unit->run.in_worker = true;
		unit->run.had_error = true;
		list = lappend(list, unit);
	}
	return list;
}

/* What has changed may be tried at once. */
static void
load_units(void)
{
	MemoryContext context;
	uint64		current;
	List	   *loaded = NIL;
	List	   *all;
	ListCell   *cell;
	MemoryContext old;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	current = evs_projection_version();
	context = AllocSetContextCreate(CurrentMemoryContext, "evstore projections",
									ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	all = evs_projection_list();
	foreach(cell, all)
	{
		EvsProjection *projection = lfirst(cell);

		if (!projection->paused && !projection->is_inline &&
			get_role_oid(projection->owner, true) == owner)
			loaded = add_units(loaded, projection, current);
	}
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(context, TopMemoryContext);
	PopActiveSnapshot();
	CommitTransactionCommand();

	if (units_context != NULL)
		MemoryContextDelete(units_context);
	units_context = context;
	units = loaded;
	loaded_version = current;
}

static bool
is_my_share(int number)
{
	uint32		share = pg_atomic_read_u32(&place->share);
	int			of = (int) (share & 0xffff);

	return of <= 1 || number % of == (int) (share >> 16);
}

/* The buckets of the units that are this worker's. */
static uint32
my_buckets(void)
{
	uint32		result = 0;
	int			number = 0;
	ListCell   *cell;

	foreach(cell, units)
	{
		Unit	   *unit = lfirst(cell);

		if (is_my_share(number++))
			result |= 1 << evs_subscription_bucket(unit->run.projection->id);
	}
	return result;
}

/* ---- transactions ---- */

/*
 * A read model that is lost in a crash is so together with its checkpoint, and
 * made again.  Events are not: who has seen one may rely on it.
 */
static void
commit(void)
{
	evs_worker_commit(owner, evs_in_flight_here());
}

static void
set_pause(Unit *unit, TimestampTz until)
{
	unit->retry_at = until;
	unit->stands = true;
}

/* What is tried again in a moment is no news for the log. */
static bool
is_quiet(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE || sqlerrcode == ERRCODE_EVS_OBJECT_NOT_FOUND ||
		sqlerrcode == ERRCODE_UNDEFINED_OBJECT ||
		(sqlerrcode == ERRCODE_QUERY_CANCELED && ShutdownRequestPending);
}

/* After an error that no event is to blame for. */
static void
unit_failed(Unit *unit, MemoryContext scratch)
{
	int			code = geterrcode();
	char		message[EVS_WORKER_ERROR_MAX];

	/* what it remembers may be of a state whose commit has failed */
	unit->run.seq = 0;
	if (code == ERRCODE_LOCK_NOT_AVAILABLE && !unit->finishing)
		unit->not_locked++;
	if (code == ERRCODE_LOCK_NOT_AVAILABLE && unit->finishing)
	{
		long		pause = LOCK_PAUSE << Min(unit->not_finished++, 5);

		unit->finish_at = TimestampTzPlusMilliseconds(evs_clock_now(),
													  Min(pause, LOCK_PAUSE_MAX));
	}
	if (is_quiet(code) && (unit->finishing || unit->not_locked <= NOT_LOCKED_MAX))
	{
		evs_worker_catch_quietly(scratch);
		SetUserIdAndSecContext(owner, 0);
		set_pause(unit, TimestampTzPlusMilliseconds(evs_clock_now(), FINISH_PAUSE));
		next_look = 0;
		if (code != ERRCODE_LOCK_NOT_AVAILABLE)
			loaded_version = 0;
		unit->finishing = false;
		return;
	}
	unit->finishing = false;
	evs_worker_catch(scratch, message, sizeof(message));
	SetUserIdAndSecContext(owner, 0);
	set_pause(unit, TimestampTzPlusMilliseconds(evs_clock_now(), ERROR_PAUSE));
	PG_TRY();
	{
		TimestampTz retry_at;

		evs_worker_begin_as(owner, "evstore: noting an error");
		retry_at = evs_projection_note_error(unit->run.projection->id, unit->run.slot, code,
											 message);
		commit();
		unit->run.had_error = true;
		if (retry_at != 0)
			set_pause(unit, retry_at);
	}
	PG_CATCH();
	{
		/* it is in the log; where a reason to end is behind it, that will be seen */
		evs_worker_catch_quietly(scratch);
		SetUserIdAndSecContext(owner, 0);
	}
	PG_END_TRY();
}

/* One batch; true if there may be more. */
static bool
run_batch(Unit *unit)
{
	EvsRun	   *run = &unit->run;

	pg_atomic_write_u64(&place->busy_since, (uint64) GetCurrentTimestamp());
	evs_worker_begin_as(owner, psprintf("evstore: projection %s, partition %d", run->projection->title, run->slot));
	evs_projection_run(run);
	evs_projection_report(run);
	commit();
	pg_atomic_write_u64(&place->busy_since, 0);
	unit->not_locked = 0;
	unit->retry_at = run->retry_at;
	unit->stands = run->stands;
	if (run->status == EVS_RUN_STALE)
		loaded_version = 0;
	return run->status == EVS_RUN_DONE;
}

/* A rebuild that has nothing to do may be finished; its first partition sees to it. */
static bool
finish_rebuild(Unit *unit)
{
	bool		done;

	evs_worker_begin_as(owner, psprintf("evstore: finishing the rebuild of projection %s", unit->run.projection->title));
	unit->finishing = true;
	(void) set_config_option("lock_timeout", FINISH_LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	/* the tables must not be lost, since the old ones are gone then */
	(void) set_config_option("synchronous_commit", "on", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	done = evs_rebuild_finish(unit->run.projection, unit->run.version, true);
	unit->finishing = false;
	if (done)
	{
		commit();
		loaded_version = 0;
		return true;
	}
	AbortCurrentTransaction();
	SetUserIdAndSecContext(owner, 0);
	pgstat_report_activity(STATE_IDLE, NULL);
	unit->run.seq = 0;
	unit->finish_at = TimestampTzPlusMilliseconds(evs_clock_now(), FINISH_PAUSE);
	return false;
}

static bool
serve_unit(Unit *unit, MemoryContext scratch)
{
	volatile bool did = false;

	if (unit->stands && unit->retry_at > evs_clock_now())
		return false;
	PG_TRY();
	{
		did = run_batch(unit);
		if (unit->run.projection->rebuild_of != 0 && unit->run.slot == 0 &&
			unit->run.status == EVS_RUN_IDLE && unit->retry_at == 0 &&
			unit->finish_at <= evs_clock_now())
			did = finish_rebuild(unit);
	}
	PG_CATCH();
	{
		pg_atomic_write_u64(&place->busy_since, 0);
		unit_failed(unit, scratch);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(scratch);
	return did;
}

/* Once round; true if anything was done. */
static bool
serve(MemoryContext scratch)
{
	bool		all = pg_atomic_exchange_u32(&place->help_wanted, 0) != 0;
	bool		did = false;
	int			number = 0;
	ListCell   *cell;

	foreach(cell, units)
	{
		if (ShutdownRequestPending || place->stop_wanted || loaded_version == 0)
			return did;
		if (is_my_share(number++) || all)
			did |= serve_unit(lfirst(cell), scratch);
		MemoryContextReset(scratch);
	}
	return did;
}

/* ---- the process ---- */

/*
 * Is there a reason to end?  NONE: it was told to, or its role has gone, and the
 * place becomes free.
 */
static EvsWorkerState
reason_to_end(void)
{
	if (place->stop_wanted)
		return EVS_WORKER_NONE;
	if (GetCurrentTimestamp() < next_look)
		return EVS_WORKER_RUNNING;
	next_look = GetCurrentTimestamp() + LOOK_INTERVAL;
	return evs_worker_look_around(owner);
}

static void
look_around(MemoryContext scratch)
{
	PG_TRY();
	{
		EvsWorkerState state = reason_to_end();

		if (state != EVS_WORKER_RUNNING)
			evs_worker_end(state);
		if (loaded_version != evs_projection_version())
			load_units();
	}
	PG_CATCH();
	{
		/* DROP EXTENSION may have come between; another look will tell */
		evs_worker_catch_quietly(scratch);
		loaded_version = 0;
		next_look = 0;
		pg_usleep(10000);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(scratch);
}

/* When something is due without anybody waking us, by the wall clock. */
static TimestampTz
next_due(void)
{
	TimestampTz now = evs_clock_now();
	TimestampTz wall = GetCurrentTimestamp();
	TimestampTz result = Max(next_look, wall);
	int			number = 0;
	ListCell   *cell;

	foreach(cell, units)
	{
		Unit	   *unit = lfirst(cell);
		TimestampTz at = unit->retry_at;

		if (!is_my_share(number++))
			continue;
		if (at != 0 && !evs_clock_is_overridden())
			result = Min(result, wall + Max(at - now, 0));
		if (unit->run.projection->rebuild_of != 0)
			result = Min(result, wall + FINISH_PAUSE * 1000);
	}
	return result;
}

static void
sleep_until(TimestampTz when)
{
	static uint32 wait_event = 0;
	long		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), when);

	if (wait_event == 0)
		wait_event = evs_wait_event_new("EvstoreProjectionMain");
	if (ShutdownRequestPending || place->stop_wanted || loaded_version == 0 ||
		pg_atomic_read_u32(&place->help_wanted) != 0)
		ms = 0;
	evs_worker_sleep(ms, wait_event);
}

void
evs_projection_worker_main(Datum main_arg)
{
	MemoryContext scratch;

	database = evs_worker_begin(evs_worker_interrupt_call, &place);
	owner = place->owner;
	evs_worker_set_up_session();
	evs_worker_become(owner);
	scratch = AllocSetContextCreate(TopMemoryContext, "evstore projection worker",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(scratch);
	look_around(scratch);
	evs_worker_running(database);

	while (!ShutdownRequestPending)
	{
		look_around(scratch);
		if (serve(scratch))
			continue;
		/* announce, look again, sleep: what comes after the look wakes us */
		pg_atomic_write_u32(&place->armed, my_buckets());
		pg_memory_barrier();
		if (!serve(scratch))
			sleep_until(next_due());
		pg_atomic_write_u32(&place->armed, 0);
		CHECK_FOR_INTERRUPTS();
	}
	evs_worker_end(EVS_WORKER_NONE);
}
