/*
 * worker_funcs.c
 *	  SQL functions that start, stop and show background workers.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/errors.h"
#include "base/shmem.h"
#include "base/xact.h"
#include "catalog/catalog.h"
#include "stream/seal.h"
#include "worker/launcher.h"
#include "worker/pool.h"
#include "worker/worker.h"
#include "compat.h"

/* How long start() and stop() wait, in ms. */
#define WAIT_MAX 15000

PG_FUNCTION_INFO_V1(evs_start);
PG_FUNCTION_INFO_V1(evs_stop);
PG_FUNCTION_INFO_V1(evs_workers);
PG_FUNCTION_INFO_V1(evs_announce);

static void
throw_unavailable(const char *reason, const char *hint)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "worker", "dispatcher");
	evs_detail_string(&detail, "reason", reason);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_WORKER_UNAVAILABLE),
			 errmsg("evstore's dispatcher could not be started: %s", reason),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 hint != NULL ? errhint("%s", hint) : 0));
}

static EvsSharedDatabase *
need_database(void)
{
	EvsSharedDatabase *database = evs_shmem_database();

	if (database == NULL)
		throw_unavailable(evs_shmem() == NULL ? "the server has no shared memory to spare" :
						  "too many databases use evstore",
						  "Add evstore to shared_preload_libraries.");
	return database;
}

/* Has the dispatcher started, or failed to? */
static bool
has_started(const EvsWorkerSlot *slot)
{
	return slot->state != EVS_WORKER_NONE && slot->state != EVS_WORKER_STARTING;
}

/* Have all processes left the database, also in the eyes of other sessions? */
static bool
has_stopped(const EvsWorkerSlot *slot)
{
	return slot->pid == 0 && slot->state != EVS_WORKER_STARTING &&
		!evs_worker_is_ending(slot, MyDatabaseId) &&
		!evs_pool_has_processes(evs_shmem_database());
}

/*
 * Until the dispatcher has started, or stopped, or failed to.  Nobody tells when a
 * process that has given its slot back is gone, which takes microseconds.
 */
static EvsWorkerSlot
wait_for_dispatcher(EvsSharedDatabase *database, bool (*is_done) (const EvsWorkerSlot *))
{
	static uint32 wait_event = 0;
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), WAIT_MAX);
	EvsWorkerSlot slot;

	if (wait_event == 0)
		wait_event = evs_wait_event_new("EvstoreDispatcherState");
	ConditionVariablePrepareToSleep(&database->state_changed);
	for (;;)
	{
		slot = evs_worker_look(&database->dispatcher);
		if ((is_done(&slot) && !database->start_wanted) || GetCurrentTimestamp() >= end)
			break;
		(void) ConditionVariableTimedSleep(&database->state_changed,
										   slot.pid == 0 && slot.left_pid != 0 ? 10 : 1000,
										   wait_event);
	}
	ConditionVariableCancelSleep();
	return slot;
}

static void
throw_not_running(const EvsWorkerSlot *slot)
{
	switch (slot->state)
	{
		case EVS_WORKER_BACKING_OFF:
			throw_unavailable(slot->error,
							  strstr(slot->error, "max_worker_processes") != NULL ?
							  (evs_shmem()->preloaded ?
							   "Raise max_worker_processes; it will be tried again." :
							   "Raise max_worker_processes.") :
							  "See the server's log.");
			break;
		case EVS_WORKER_NO_EXTENSION:
			throw_unavailable("the extension is not there yet",
							  "Commit CREATE EXTENSION first.");
			break;
		default:
			throw_unavailable(evs_worker_state_name(slot->state),
							  "See the view evstore.workers and the server's log.");
	}
}

static void
check_listed(void)
{
	if (evs_shmem()->preloaded && !evs_launcher_lists(get_database_name(MyDatabaseId)))
		throw_unavailable("evstore.databases does not name this database",
						  "Add it to evstore.databases, and reload the configuration.");
}

/* start(): have this database's dispatcher run */
Datum
evs_start(PG_FUNCTION_ARGS)
{
	EvsSharedDatabase *database;
	EvsWorkerSlot slot;

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute %s during recovery", "evstore start")));
	evs_check_right(ACL_UPDATE);
	if (!evs_instance_is_ours())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this database is a copy and stays quiet"),
				 errhint("Run evstore.adopt() if it is to act.")));
	database = need_database();
	check_listed();

	LWLockAcquire(&evs_shmem()->lock, LW_EXCLUSIVE);
	database->stop_wanted = false;
	slot = database->dispatcher;
	if (slot.state != EVS_WORKER_RUNNING && slot.state != EVS_WORKER_STARTING)
		database->dispatcher.state = EVS_WORKER_NONE;
	LWLockRelease(&evs_shmem()->lock);
	if (slot.state == EVS_WORKER_RUNNING)
		PG_RETURN_VOID();

	(void) evs_worker_launch(database, 0);
	slot = wait_for_dispatcher(database, has_started);
	if (slot.state != EVS_WORKER_RUNNING)
		throw_not_running(&slot);
	PG_RETURN_VOID();
}

/* stop(): end it, and do not start it again until start() or a restart */
Datum
evs_stop(PG_FUNCTION_ARGS)
{
	EvsSharedDatabase *database;
	EvsWorkerSlot slot;

	evs_check_right(ACL_UPDATE);
	database = evs_shmem_database();
	if (database == NULL)
		PG_RETURN_VOID();

	LWLockAcquire(&evs_shmem()->lock, LW_EXCLUSIVE);
	database->stop_wanted = true;
	database->start_wanted = false;
	slot = database->dispatcher;
	if (slot.pid == 0 && slot.state != EVS_WORKER_STARTING)
		database->dispatcher.state = EVS_WORKER_STOPPED;
	LWLockRelease(&evs_shmem()->lock);
	evs_pool_stop(database);
	evs_shmem_set_latch(&slot);
	slot = wait_for_dispatcher(database, has_stopped);
	if (!has_stopped(&slot))
		throw_unavailable("it does not stop", "See the server's log.");
	PG_RETURN_VOID();
}

/* _announce(): at commit, have the launcher look at this database */
Datum
evs_announce(PG_FUNCTION_ARGS)
{
	evs_xact_request_worker();
	PG_RETURN_VOID();
}

static void
put_time(Datum *values, bool *nulls, int i, TimestampTz time)
{
	values[i] = TimestampTzGetDatum(time);
	nulls[i] = time == 0;
}

/* Nobody does so where there is no launcher. */
static bool
is_retried(const EvsWorkerSlot *slot)
{
	return evs_shmem()->preloaded &&
		(slot->state == EVS_WORKER_BACKING_OFF || slot->state == EVS_WORKER_YIELDED);
}

static void
put_worker(ReturnSetInfo *result, const char *kind, EvsWorkerSlot slot, Oid owner)
{
	Datum		values[9];
	bool		nulls[9] = {false};
	char	   *role = OidIsValid(owner) ? GetUserNameFromId(owner, true) : NULL;

	values[0] = CStringGetTextDatum(kind);
	values[1] = CStringGetTextDatum(evs_worker_state_name(slot.state));
	values[2] = Int32GetDatum(slot.pid);
	nulls[2] = slot.pid == 0;
	put_time(values, nulls, 3, slot.pid != 0 ? slot.started_at : 0);
	values[4] = Int32GetDatum(slot.failures);
	nulls[5] = slot.failed_at == 0;
	values[5] = nulls[5] ? (Datum) 0 : CStringGetTextDatum(slot.error);
	put_time(values, nulls, 6, slot.failed_at);
	put_time(values, nulls, 7, is_retried(&slot) ? slot.retry_at : 0);
	nulls[8] = role == NULL;
	values[8] = nulls[8] ? (Datum) 0 : CStringGetTextDatum(role);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* _workers() → setof (kind, state, pid, started_at, failures, last_error, last_error_at, retry_at, owner) */
Datum
evs_workers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	EvsSharedDatabase *database;

	InitMaterializedSRF(fcinfo, 0);
	database = evs_shmem_database();
	if (evs_shmem() != NULL && evs_shmem()->preloaded)
		put_worker(result, "launcher", evs_worker_look(&evs_shmem()->launcher), InvalidOid);
	if (database == NULL)
		return (Datum) 0;
	put_worker(result, "dispatcher", evs_worker_look(&database->dispatcher), InvalidOid);
	for (int i = 0; i < evs_shmem()->npool; i++)
	{
		EvsPoolSlot *slot = &evs_shmem_pool(evs_shmem())[i];

		if (slot->database == MyDatabaseId)
			put_worker(result, evs_worker_kind_name(slot->kind),
					   evs_worker_look(&slot->worker), slot->owner);
	}
	return (Datum) 0;
}
