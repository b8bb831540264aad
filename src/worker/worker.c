/*
 * worker.c
 *	  What evstore's long-lived background workers have in common.
 *
 * A worker's slot is written by whoever starts it, then by the worker itself,
 * always under the lock of the shared area.  Each start has a generation of its
 * own.  A process that comes up late, when its start has been given up and
 * another one made, finds that the generation has moved on, and ends.  Nothing
 * is restarted by the postmaster: the launcher does that, with a growing pause.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/shmem.h"
#include "catalog/catalog.h"
#include "exec/act_as.h"
#include "stream/seal.h"
#include "worker/worker.h"
#include "compat.h"

/* The pause after the first failure, doubled with each more, in ms. */
#define BACK_OFF_FIRST 1000
#define BACK_OFF_MAX 60000

/* A start that has not become a process after so long is given up, in ms. */
#ifdef EVS_DEBUG_POINTS
#define START_TIMEOUT 5000
#else
#define START_TIMEOUT 60000
#endif

static EvsWorkerOrder my_order;
static EvsWorkerSlot *my_slot = NULL;
static EvsPoolSlot *my_pool = NULL;

static void
lock_area(void)
{
	LWLockAcquire(&evs_shmem()->lock, LW_EXCLUSIVE);
}

static void
unlock_area(void)
{
	LWLockRelease(&evs_shmem()->lock);
}

EvsWorkerSlot
evs_worker_look(const EvsWorkerSlot *slot)
{
	EvsWorkerSlot copy;

	LWLockAcquire(&evs_shmem()->lock, LW_SHARED);
	copy = *slot;
	unlock_area();
	return copy;
}

/* Others get its number some day, but hardly its place as well. */
bool
evs_worker_is_ending(const EvsWorkerSlot *slot, Oid database)
{
	PGPROC	   *proc = slot->left_pid == 0 ? NULL : BackendPidGetProc(slot->left_pid);

	return proc != NULL && proc == GetPGProcByNumber(slot->procno) && proc->databaseId == database;
}

const char *
evs_worker_state_name(EvsWorkerState state)
{
	switch (state)
	{
		case EVS_WORKER_NONE:
			return "not started";
		case EVS_WORKER_STARTING:
			return "starting";
		case EVS_WORKER_RUNNING:
			return "running";
		case EVS_WORKER_BACKING_OFF:
			return "backing off";
		case EVS_WORKER_STOPPED:
			return "stopped";
		case EVS_WORKER_NOT_ADOPTED:
			return "not adopted";
		case EVS_WORKER_NO_EXTENSION:
			return "no extension";
		case EVS_WORKER_YIELDED:
			return "yielded";
		case EVS_WORKER_EXCLUDED:
			return "excluded";
	}
	return "unknown";
}

const char *
evs_worker_kind_name(EvsPoolKind kind)
{
	switch (kind)
	{
		case EVS_POOL_PROJECTIONS:
			return "projection";
		case EVS_POOL_RELAY:
			return "relay";
		case EVS_POOL_SAGAS:
			return "saga";
	}
	return "unknown";
}

/* With the lock held. */
static long
note_failure(EvsWorkerSlot *slot, const char *message)
{
	long		pause = BACK_OFF_FIRST << Min(slot->failures, 6);

	pause = Min(pause, BACK_OFF_MAX);
	slot->failures++;
	slot->failed_at = GetCurrentTimestamp();
	slot->retry_at = TimestampTzPlusMilliseconds(slot->failed_at, pause);
	strlcpy(slot->error, message, EVS_WORKER_ERROR_MAX);
	return pause;
}

bool
evs_worker_start_is_lost(const EvsWorkerSlot *slot, TimestampTz now)
{
	return slot->state == EVS_WORKER_STARTING && slot->pid == 0 &&
		TimestampDifferenceExceeds(slot->started_at, now, START_TIMEOUT);
}

bool
evs_worker_database_is_wanted(Oid database)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, database, 0);
	if (LockAcquire(&tag, RowExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	LockRelease(&tag, RowExclusiveLock, false);
	return false;
}

/* Begin a start.  With the lock held. */
static void
begin_start(EvsWorkerSlot *slot, EvsWorkerOrder *order)
{
	slot->generation++;
	slot->state = EVS_WORKER_STARTING;
	slot->started_at = GetCurrentTimestamp();
	order->generation = slot->generation;
}

/* Claim the slot for one start; false if there is a process already, or must be none. */
static bool
claim_slot(EvsSharedDatabase *database, EvsWorkerOrder *order)
{
	EvsWorkerSlot *slot = &database->dispatcher;
	bool		ok;

	lock_area();
	ok = database->oid != InvalidOid && slot->pid == 0 &&
		(slot->state != EVS_WORKER_STARTING ||
		 evs_worker_start_is_lost(slot, GetCurrentTimestamp())) &&
		(slot->state != EVS_WORKER_STOPPED || database->start_wanted);
	if (ok)
	{
		begin_start(slot, order);
		database->start_wanted = database->stop_wanted = database->excluded = false;
		order->database = database->oid;
		order->pool = -1;
	}
	unlock_area();
	return ok;
}

/* false: no process could be had, which the slot says; *first: since the last success. */
static bool
register_worker(const EvsWorkerOrder *order, EvsWorkerSlot *slot, const char *function,
				const char *type, int notify_pid, bool *first)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = notify_pid;
	strlcpy(worker.bgw_library_name, "evstore", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
	strlcpy(worker.bgw_name, type, BGW_MAXLEN);
	strlcpy(worker.bgw_type, type, BGW_MAXLEN);
	memcpy(worker.bgw_extra, order, sizeof(EvsWorkerOrder));
	if (RegisterDynamicBackgroundWorker(&worker, NULL))
		return true;

	*first = false;
	lock_area();
	if (slot->generation == order->generation)
	{
		slot->state = EVS_WORKER_BACKING_OFF;
		(void) note_failure(slot, "no background worker process is free: raise max_worker_processes");
		*first = slot->failures == 1;
	}
	unlock_area();
	return false;
}

bool
evs_worker_launch(EvsSharedDatabase *database, int notify_pid)
{
	EvsWorkerOrder order;
	bool		first;

	if (!claim_slot(database, &order))
		return true;
	if (register_worker(&order, &database->dispatcher, "evs_dispatcher_main",
						"evstore dispatcher", notify_pid, &first))
		return true;
	if (first)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("evstore's dispatcher of database %u could not be started", order.database),
				 errdetail("No background worker process is free."),
				 errhint("Raise max_worker_processes.")));
	ConditionVariableBroadcast(&database->state_changed);
	return false;
}

/* By EvsPoolKind. */
static const struct
{
	const char *function;
	const char *type;
	const char *plural;
}			pool_kinds[] = {
	[EVS_POOL_PROJECTIONS] = {"evs_projection_worker_main", "evstore projection worker", "projections"},
	[EVS_POOL_RELAY] = {"evs_relay_worker_main", "evstore relay worker", "relays"},
	[EVS_POOL_SAGAS] = {"evs_saga_worker_main", "evstore saga worker", "sagas"},
};

bool
evs_worker_launch_pool(EvsSharedDatabase *database, int pool, Oid owner, EvsPoolKind kind,
					   int64 relay)
{
	EvsPoolSlot *slot = &evs_shmem_pool(evs_shmem())[pool];
	EvsWorkerOrder order = {.database = database->oid, .pool = pool};
	bool		taken;
	bool		first;

	lock_area();
	taken = OidIsValid(slot->database) &&
		(slot->database != database->oid || slot->owner != owner || slot->kind != kind ||
		 slot->relay != relay || slot->worker.pid != 0);
	if (!taken)
	{
		if (!OidIsValid(slot->database))
			slot->worker.failures = 0;
		slot->database = database->oid;
		slot->owner = owner;
		slot->kind = kind;
		slot->relay = relay;
		slot->stop_wanted = false;
		begin_start(&slot->worker, &order);
	}
	unlock_area();
	if (taken)
		return false;
	if (register_worker(&order, &slot->worker, pool_kinds[kind].function, pool_kinds[kind].type,
						MyProcPid, &first))
		return true;
	if (first)
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("a worker for evstore's %s could not be started", pool_kinds[kind].plural),
				 errdetail("No background worker process is free."),
				 errhint("Raise max_worker_processes.")));
	return false;
}

static void
tell_others(EvsSharedDatabase *database)
{
	ConditionVariableBroadcast(&database->state_changed);
	evs_shmem_call_launcher();
}

/* A worker of the pool has come or gone. */
static void
tell_dispatcher(EvsSharedDatabase *database)
{
	pg_atomic_write_u32(&database->departed, 1);
	evs_shmem_set_latch(&database->dispatcher);
}

/* At exit: expected if the state says so, else a failure. */
static void
give_slot_back(int code, Datum arg)
{
	EvsSharedDatabase *database = (EvsSharedDatabase *) DatumGetPointer(arg);
	EvsWorkerSlot *slot = my_slot;

	lock_area();
	if (slot->generation == my_order.generation && slot->pid == MyProcPid)
	{
		slot->pid = 0;
		slot->left_pid = MyProcPid;
		if (slot->state == EVS_WORKER_RUNNING || slot->state == EVS_WORKER_STARTING)
		{
			slot->state = EVS_WORKER_BACKING_OFF;
			(void) note_failure(slot, "the process was terminated");
		}
		else if (my_pool != NULL)
			my_pool->database = InvalidOid;
	}
	unlock_area();
	if (my_pool != NULL)
	{
		pg_atomic_write_u32(&my_pool->armed, 0);
		pg_atomic_write_u64(&my_pool->busy_since, 0);
		tell_dispatcher(database);
		ConditionVariableBroadcast(&database->state_changed);
		return;
	}
	tell_others(database);
}

static bool
take_slot(EvsWorkerSlot *slot)
{
	bool		ok;

	lock_area();
	ok = slot->generation == my_order.generation && slot->pid == 0;
	if (ok)
	{
		slot->pid = MyProcPid;
		slot->procno = evs_procno();
	}
	unlock_area();
	return ok;
}

EvsSharedDatabase *
evs_worker_begin(void (*terminate) (SIGNAL_ARGS), EvsPoolSlot **pool)
{
	EvsSharedDatabase *database;

	memcpy(&my_order, MyBgworkerEntry->bgw_extra, sizeof(my_order));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, terminate);
	BackgroundWorkerUnblockSignals();

	database = evs_shmem_find_database(my_order.database, false);
	if (database == NULL)
		proc_exit(0);
	if (my_order.pool >= 0)
		my_pool = &evs_shmem_pool(evs_shmem())[my_order.pool];
	my_slot = my_pool != NULL ? &my_pool->worker : &database->dispatcher;
	if (pool != NULL)
		*pool = my_pool;
	if (!take_slot(my_slot))
		proc_exit(0);
	before_shmem_exit(give_slot_back, PointerGetDatum(database));
	BackgroundWorkerInitializeConnectionByOid(my_order.database, InvalidOid, 0);
	return database;
}

void
evs_worker_set_up_session(void)
{
	SetConfigOption("lock_timeout", "500ms", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("statement_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	/* 17 adds it */
	if (GetConfigOption("transaction_timeout", true, false) != NULL)
		SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_read_only", "off", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("synchronous_commit", "off", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_SUSET, PGC_S_OVERRIDE);
}

void
evs_worker_become(Oid role)
{
	bool		exists;

	StartTransactionCommand();
	exists = GetUserNameFromId(role, true) != NULL;
	if (exists)
		SetSessionAuthorization(role, superuser_arg(role));
	CommitTransactionCommand();
	if (!exists)
		evs_worker_end(EVS_WORKER_NONE);
}

void
evs_worker_begin_as(Oid role, const char *what)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	SetUserIdAndSecContext(role, SECURITY_LOCAL_USERID_CHANGE);
	pgstat_report_activity(STATE_RUNNING, what);
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
evs_worker_commit(Oid role, bool durably)
{
	PopActiveSnapshot();
	if (durably)
		(void) set_config_option("synchronous_commit", "on", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
	CommitTransactionCommand();
	SetUserIdAndSecContext(role, 0);
	/* a trigger that was deferred to the end may have SET something */
	ResetAllOptions();
	pgstat_report_activity(STATE_IDLE, NULL);
	pgstat_report_stat(false);
}

void
evs_worker_interrupt_call(SIGNAL_ARGS)
{
	int			save_errno = errno;

	ShutdownRequestPending = true;
	evs_act_interrupt();
	SetLatch(MyLatch);
	errno = save_errno;
}

EvsWorkerState
evs_worker_look_around(Oid role)
{
	EvsWorkerState state;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	state = evs_worker_reason_to_end();
	if (state == EVS_WORKER_RUNNING && GetUserNameFromId(role, true) == NULL)
		state = EVS_WORKER_NONE;
	PopActiveSnapshot();
	CommitTransactionCommand();
	return state;
}

EvsWorkerState
evs_worker_reason_to_end(void)
{
	if (evs_worker_database_is_wanted(MyDatabaseId))
		return EVS_WORKER_YIELDED;
	if (!evs_catalog_exists())
		return EVS_WORKER_NO_EXTENSION;
	if (!evs_instance_is_ours())
		return EVS_WORKER_NOT_ADOPTED;
	return EVS_WORKER_RUNNING;
}

void
evs_worker_running(EvsSharedDatabase *database)
{
	lock_area();
	my_slot->state = EVS_WORKER_RUNNING;
	my_slot->failures = 0;
	my_slot->started_at = GetCurrentTimestamp();
	unlock_area();
	if (my_pool == NULL)
		tell_others(database);
	else
		tell_dispatcher(database);
	pgstat_report_activity(STATE_IDLE, NULL);
}

long
evs_worker_failed(const char *message)
{
	long		pause;

	lock_area();
	pause = note_failure(my_slot, message);
	unlock_area();
	return pause;
}

void
evs_worker_recovered(void)
{
	lock_area();
	my_slot->failures = 0;
	unlock_area();
}

void
evs_worker_sleep(long ms, uint32 wait_event)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

void
evs_worker_end(EvsWorkerState state)
{
	lock_area();
	my_slot->state = state;
	my_slot->failures = 0;
	my_slot->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), BACK_OFF_FIRST);
	unlock_area();
	proc_exit(0);
}

static void
clean_up(MemoryContext context)
{
	FlushErrorState();
	LWLockReleaseAll();
	ConditionVariableCancelSleep();
	pgstat_report_wait_end();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(context);
}

void
evs_worker_catch(MemoryContext context, char *message, Size size)
{
	ErrorData  *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	strlcpy(message, error->message, size);
	FreeErrorData(error);
	EmitErrorReport();
	clean_up(context);
	RESUME_INTERRUPTS();
}

void
evs_worker_catch_quietly(MemoryContext context)
{
	HOLD_INTERRUPTS();
	clean_up(context);
	RESUME_INTERRUPTS();
}
