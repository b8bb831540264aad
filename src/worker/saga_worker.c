/*
 * saga_worker.c
 *	  The process that runs sagas, of one role.
 *
 * It looks up what is due, makes a transition of each in a transaction of its own, and
 * looks again, until there is nothing.  Then it announces that it waits, looks once more,
 * and sleeps until the next one is due, or it is woken.  Several workers of a role take
 * different instances where they can; who has an instance, its lock decides.
 *
 * It is a session of the sagas' owner, in a context from which no other role can be had:
 * steps, and triggers that were deferred to the commit, run in it.
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
#include "saga/arrival.h"
#include "saga/mail.h"
#include "saga/purge.h"
#include "saga/run.h"
#include "worker/worker.h"
#include "compat.h"

/* How often to look whether there is a reason to end, in microseconds. */
#define LOOK_INTERVAL 1000000

/* How often to look for instances that have ended long ago, and how many to remove at once. */
#define PURGE_INTERVAL INT64CONST(60000000)
#define PURGE_BATCH 500

/* As many are looked up at once, for each of the owner's workers. */
#define ROUND 32

/* When somebody else has what is due, or an error could not be noted, in microseconds. */
#define PAUSE 100000

extern PGDLLEXPORT void evs_saga_worker_main(Datum main_arg);

static EvsSharedDatabase *database;
static EvsPoolSlot *place;
static Oid	owner;
static MemoryContext sagas_context = NULL;
static int64 *sagas = NULL;		/* ids of those that run */
static int	nsagas = 0;
static uint64 loaded_version = 0;
static uint32 loaded_share = 0;
static TimestampTz next_due = 0;	/* of all, by evstore's clock */
static TimestampTz next_look = 0;	/* this and the others by the wall clock */
static TimestampTz next_purge = 0;
static TimestampTz pause_until = 0;
static bool seen_busy = false;

/* ---- sagas ---- */

/* One that wants fewer workers than there are is for the first of them. */
static void
load_sagas(void)
{
	uint32		share = pg_atomic_read_u32(&place->share);
	uint64		version;
	ListCell   *cell;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	version = evs_saga_version();
	MemoryContextReset(sagas_context);
	sagas = MemoryContextAlloc(sagas_context, sizeof(int64) * Max(1, list_length(evs_saga_kept())));
	nsagas = 0;
	foreach(cell, evs_saga_kept())
	{
		const EvsSaga *saga = lfirst(cell);

		if (!saga->paused && saga->workers > (int) (share >> 16) &&
			get_role_oid(saga->owner, true) == owner)
			sagas[nsagas++] = saga->id;
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	loaded_version = version;
	loaded_share = share;
}

static uint32
my_buckets(void)
{
	uint32		result = 0;

	for (int i = 0; i < nsagas; i++)
		result |= 1 << evs_saga_bucket(sagas[i]);
	return result;
}

/* How many workers the role has. */
static int
nworkers(void)
{
	return Max(1, (int) (loaded_share & 0xffff));
}

/* Is it the one that this worker takes before the others do? */
static bool
is_mine(const pg_uuid_t *id)
{
	return id->data[UUID_LEN - 1] % nworkers() == (int) (loaded_share >> 16);
}

/* ---- transactions ---- */

/* What is tried again in a moment is no news for the log. */
static bool
is_quiet(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE || sqlerrcode == ERRCODE_EVS_OBJECT_NOT_FOUND ||
		sqlerrcode == ERRCODE_UNDEFINED_OBJECT ||
		ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK ||
		(sqlerrcode == ERRCODE_QUERY_CANCELED && ShutdownRequestPending);
}

static void
set_pause(void)
{
	pause_until = GetCurrentTimestamp() + PAUSE;
	next_look = 0;
}

/* After an error: what of, for the instance's row. */
static void
catch_error(MemoryContext scratch, char *message, Size size)
{
	if (is_quiet(geterrcode()))
	{
		ErrorData  *error;

		MemoryContextSwitchTo(scratch);
		error = CopyErrorData();
		strlcpy(message, error->message, size);
		evs_worker_catch_quietly(scratch);
		/* what it knows may be out of date */
		loaded_version = 0;
		next_look = 0;
	}
	else
		evs_worker_catch(scratch, message, size);
	SetUserIdAndSecContext(owner, 0);
}

/* The instance is left alone for a while. */
static void
note_error(const pg_uuid_t *id, const char *message, MemoryContext scratch)
{
	PG_TRY();
	{
		evs_worker_begin_as(owner, "evstore: noting an error");
		evs_saga_note_error(id, message);
		evs_worker_commit(owner, false);
	}
	PG_CATCH();
	{
		/* it is in the log; where a reason to end is behind it, that will be seen */
		evs_worker_catch_quietly(scratch);
		SetUserIdAndSecContext(owner, 0);
		set_pause();
	}
	PG_END_TRY();
}

/* ---- transitions ---- */

static bool
run_one(const pg_uuid_t *id, MemoryContext scratch)
{
	EvsSagaRun	run = {.id = *id, .in_worker = true};
	char		message[EVS_WORKER_ERROR_MAX];
	volatile bool did = false;

	PG_TRY();
	{
		evs_worker_begin_as(owner, "evstore: saga");
		evs_saga_run_one(&run);
		evs_worker_commit(owner, run.durable);
		did = run.status != EVS_SAGA_BUSY;
		seen_busy |= run.status == EVS_SAGA_BUSY;
	}
	PG_CATCH();
	{
		catch_error(scratch, message, sizeof(message));
		if (!ShutdownRequestPending)
			note_error(id, message, scratch);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(scratch);
	return did;
}

static int
look_up(EvsSagaCandidate *candidates, int max)
{
	int			n;

	evs_worker_begin_as(owner, "evstore: looking for sagas that are due");
	n = evs_saga_candidates(sagas, nsagas, max, candidates, &next_due);
	evs_worker_commit(owner, false);
	return n;
}

static bool
is_interrupted(void)
{
	return ShutdownRequestPending || place->stop_wanted || loaded_version != evs_saga_version() ||
		pause_until != 0;
}

/* Those that are this worker's, and if there are none, the others. */
static bool
run_some(const EvsSagaCandidate *candidates, int n, MemoryContext scratch)
{
	bool		did = false;

	for (int pass = 0; pass < 2 && !did; pass++)
		for (int i = 0; i < n && !is_interrupted(); i++)
			if (is_mine(&candidates[i].id) == (pass == 0))
				did |= run_one(&candidates[i].id, scratch);
	return did;
}

/* Once round; true if anything was done. */
static bool
serve(MemoryContext scratch)
{
	EvsSagaCandidate *candidates;
	volatile int n = 0;
	int			max = ROUND * nworkers();
	bool		did;

	seen_busy = false;
	candidates = palloc(sizeof(EvsSagaCandidate) * max);
	PG_TRY();
	{
		n = look_up(candidates, max);
	}
	PG_CATCH();
	{
		char		message[EVS_WORKER_ERROR_MAX];

		catch_error(scratch, message, sizeof(message));
		set_pause();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(scratch);
	did = run_some(candidates, n, scratch);
	MemoryContextReset(scratch);
	return did;
}

/* ---- retention ---- */

/* true: there may be more. */
static bool
purge_some(int64 id)
{
	const EvsSaga *saga;
	bool		more = false;

	evs_worker_begin_as(owner, "evstore: removing sagas that have ended");
	saga = evs_saga_find_kept(id);
	if (saga != NULL)
	{
		more = evs_saga_purge(saga, 0, PURGE_BATCH) == PURGE_BATCH;
		more |= evs_arrival_prune(id);
	}
	evs_worker_commit(owner, false);
	return more;
}

/* When there is nothing else to do, a batch of each saga. */
static void
purge(MemoryContext scratch)
{
	volatile bool more = false;

	if (GetCurrentTimestamp() < next_purge)
		return;
	PG_TRY();
	{
		for (int i = 0; i < nsagas; i++)
			more |= purge_some(sagas[i]);
	}
	PG_CATCH();
	{
		char		message[EVS_WORKER_ERROR_MAX];

		catch_error(scratch, message, sizeof(message));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(scratch);
	next_purge = GetCurrentTimestamp() + (more ? 0 : PURGE_INTERVAL);
}

/* ---- the process ---- */

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
	pause_until = 0;
	PG_TRY();
	{
		EvsWorkerState state = reason_to_end();

		if (state != EVS_WORKER_RUNNING)
			evs_worker_end(state);
		if (loaded_version != evs_saga_version() ||
			loaded_share != pg_atomic_read_u32(&place->share))
			load_sagas();
	}
	PG_CATCH();
	{
		/* DROP EXTENSION may have come between; another look will tell */
		evs_worker_catch_quietly(scratch);
		SetUserIdAndSecContext(owner, 0);
		loaded_version = 0;
		nsagas = 0;
		set_pause();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(scratch);
}

/* When something is to be done without anybody waking us, by the wall clock. */
static TimestampTz
wake_up_at(void)
{
	TimestampTz wall = GetCurrentTimestamp();
	TimestampTz result = Min(Max(next_look, wall), Max(next_purge, wall));

	if (pause_until != 0)
		return pause_until;
	if (seen_busy)
		result = Min(result, wall + PAUSE);
	if (next_due != DT_NOEND && !evs_clock_is_overridden())
		result = Min(result, wall + Max(next_due - evs_clock_now(), 0));
	return result;
}

static void
sleep_until(TimestampTz when)
{
	static uint32 wait_event = 0;
	long		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), when);

	if (wait_event == 0)
		wait_event = evs_wait_event_new("EvstoreSagaMain");
	/* what has been found may have been left, for a look at what has changed */
	if (ShutdownRequestPending || place->stop_wanted ||
		(pause_until == 0 && loaded_version != evs_saga_version()))
		ms = 0;
	evs_worker_sleep(ms, wait_event);
}

void
evs_saga_worker_main(Datum main_arg)
{
	MemoryContext scratch;
	bool		busy = true;

	database = evs_worker_begin(evs_worker_interrupt_call, &place);
	owner = place->owner;
	evs_worker_set_up_session();
	evs_worker_become(owner);
	sagas_context = AllocSetContextCreate(TopMemoryContext, "evstore worker's sagas",
										  ALLOCSET_SMALL_SIZES);
	scratch = AllocSetContextCreate(TopMemoryContext, "evstore saga worker", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(scratch);
	look_around(scratch);
	evs_worker_running(database);

	while (!ShutdownRequestPending)
	{
		look_around(scratch);
		if (busy && serve(scratch))
			continue;
		purge(scratch);
		/* announce, look again, sleep: what comes after the look wakes us */
		pg_atomic_write_u32(&place->armed, my_buckets());
		pg_memory_barrier();
		busy = serve(scratch);
		if (!busy)
			sleep_until(wake_up_at());
		pg_atomic_write_u32(&place->armed, 0);
		CHECK_FOR_INTERRUPTS();
	}
	evs_worker_end(EVS_WORKER_NONE);
}
