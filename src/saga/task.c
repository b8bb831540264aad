/*
 * task.c
 *	  Giving tasks of activities to workers.
 *
 * A task is a row of saga_step that no worker's name is in.  Who fetches writes his own
 * into it, and passes over rows that somebody else is just at: two fetchers never wait
 * for each other, nor get the same task.  Who finds nothing waits without a lock or a
 * transaction id, in a wait queue that activities with the same hash of their names share;
 * who begins a task wakes the queue at commit.  A claim that is rolled back does so, too.
 *
 * A task with neither a time-out nor a heartbeat would be lost with its worker.  So the
 * claim is a lease: evstore.default_lease, and again with each heartbeat.  When it has
 * run out, the next who fetches gets the task, with the same token and attempt.
 *
 * Transitions commit asynchronously.  A worker acts outside, so the log is flushed up to
 * where it is when the tasks have been claimed (I10): one may have come since they were
 * found.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/relation.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/debug_point.h"
#include "base/guc.h"
#include "base/shmem.h"
#include "base/wait.h"
#include "base/wal.h"
#include "base/xact.h"
#include "catalog/catalog.h"
#include "catalog/scan.h"
#include "exec/spi.h"
#include "saga/step.h"
#include "saga/task.h"
#include "stream/in_flight.h"
#include "compat.h"

/* Column of saga_step. */
#define LEASE_UNTIL "lease_until"

/* Those that share a bucket are woken together. */
static int
bucket_of(const char *activity)
{
	return hash_bytes((const unsigned char *) activity, strlen(activity)) % EVS_WAIT_BUCKETS;
}

bool
evs_saga_begin_activity(const EvsStartedStep *step, const char **error, char **cause)
{
	evs_xact_offer_task(bucket_of(step->action->resource->name));
	return true;
}

/* ---- looking ---- */

/* The first row of an activity in an index of its tasks, by what the second column says. */
static bool
first_in_index(Relation steps, Oid index, Snapshot snapshot, const char *activity,
			   const char *column, TimestampTz *value)
{
	ScanKeyData key;
	EvsScan		scan;
	bool		found;

	evs_key_text(&key, 1, BTEqualStrategyNumber, CStringGetTextDatum(activity));
	evs_scan_begin(&scan, steps, index, snapshot, 1, &key, ForwardScanDirection);
	found = evs_scan_next(&scan);
	if (found && column != NULL)
	{
		bool		isnull;

		*value = DatumGetTimestampTz(slot_getattr(scan.slot, get_attnum(RelationGetRelid(steps), column),
												  &isnull));
	}
	evs_scan_end(&scan, AccessShareLock);
	return found;
}

/* Is there a task for who fetches now?  Sets when a lease runs out, if that is next. */
static bool
has_task(const EvsTaskRequest *request, TimestampTz *lapses)
{
	const EvsCatalog *catalog = evs_catalog();
	Oid			activity_idx = catalog->saga_step_activity_idx;
	Oid			lease_idx = catalog->saga_step_lease_idx;
	Relation	steps = evs_open(catalog->saga_step, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		found;

	*lapses = DT_NOEND;
	found = first_in_index(steps, activity_idx, snapshot, request->activity, NULL, NULL) ||
		(first_in_index(steps, lease_idx, snapshot, request->activity, LEASE_UNTIL, lapses) &&
		 *lapses <= evs_clock_now());
	UnregisterSnapshot(snapshot);
	relation_close(steps, AccessShareLock);
	/* what has run out, and cannot be had even so, somebody is at */
	if (found)
		*lapses = DT_NOEND;
	return found;
}

/* ---- claiming ---- */

static EvsSpiRows
claim(const EvsTaskRequest *request)
{
	static EvsSpiPlan plan = {
		.sql = "WITH lapsed AS MATERIALIZED ("
		"  SELECT s.saga_id, s.step FROM evstore.saga_step s"
		"  WHERE s.kind = 'activity' AND s.status = 'running' AND s.lease_until IS NOT NULL"
		"   AND s.name = $1 AND s.lease_until <= $4"
		"  ORDER BY s.lease_until LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED),"
		" fresh AS MATERIALIZED ("
		"  SELECT s.saga_id, s.step FROM evstore.saga_step s"
		"  WHERE s.kind = 'activity' AND s.status = 'running' AND s.worker IS NULL AND s.name = $1"
		"  ORDER BY s.started_at LIMIT $3 - (SELECT count(*) FROM lapsed)"
		"  FOR NO KEY UPDATE SKIP LOCKED),"
		" claimed AS ("
		"  UPDATE evstore.saga_step s SET worker = $2, fetched_at = $4,"
		"   heartbeat_at = $4 + make_interval(secs => s.heartbeat),"
		"   lease_until = CASE WHEN s.timeout_at IS NULL AND s.heartbeat IS NULL"
		"    THEN $4 + make_interval(secs => $5) END"
		"  FROM (SELECT * FROM lapsed UNION ALL SELECT * FROM fresh) f"
		"  WHERE s.saga_id = f.saga_id AND s.step = f.step"
		"  RETURNING s.*)"
		" SELECT c.token, c.saga_id, d.name, c.step, c.state, c.attempt,"
		"  c.saga_id || '/' || c.state || '/' || c.visit"
		"   || CASE WHEN c.compensates IS NULL THEN '' ELSE '/compensate' END,"
		"  c.input, c.timeout_at,"
		"  CASE WHEN c.lease_until IS NULL THEN c.heartbeat ELSE $5 END"
		" FROM claimed c JOIN evstore.saga_instance i ON i.id = c.saga_id"
		"  JOIN evstore.saga d ON d.id = i.definition_id"
		" ORDER BY c.started_at, c.saga_id, c.step",
		.nargs = 5,
		.types = {TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID, FLOAT8OID},
	};
	Datum		args[] = {
		CStringGetTextDatum(request->activity),
		CStringGetTextDatum(request->worker),
		Int64GetDatum(request->max_count),
		TimestampTzGetDatum(evs_clock_now()),
		Float8GetDatum(evs_guc_default_lease / 1000.0),
	};

	return evs_spi_write_latest(&plan, args, NULL);
}

/* Claim what there is; false if that is nothing, or others are at all of it. */
static bool
take_tasks(const EvsTaskRequest *request, ReturnSetInfo *result)
{
	EvsSpiRows	rows;

	EVS_DEBUG_POINT("task_found");
	rows = claim(request);
	if (rows.nrows == 0)
		return false;
	EVS_DEBUG_POINT("task_claimed");
	for (uint64 i = 0; i < rows.nrows; i++)
		tuplestore_putvalues(result->setResult, result->setDesc,
							 rows.values + i * rows.ncolumns, rows.nulls + i * rows.ncolumns);
	evs_xact_take_task(bucket_of(request->activity));
	XLogFlush(evs_wal_end());
	return true;
}

/* ---- waiting ---- */

static void
check_may_wait(void)
{
	if (evs_in_flight_here())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot wait for tasks in a transaction that has appended, or started a saga"),
				 errdetail("No worker of sagas sees what it has done before it has ended."),
				 errhint("Commit first, or do not wait.")));
}

/* By the wall clock; evstore's may be set. */
static TimestampTz
wake_time(TimestampTz lapses, TimestampTz deadline)
{
	return evs_clock_is_overridden() ? deadline : Min(lapses, deadline);
}

void
evs_task_fetch(const EvsTaskRequest *request, ReturnSetInfo *result)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), request->wait_ms);
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "evstore fetch_tasks",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);
	TimestampTz lapses;

	if (request->wait_ms > 0)
	{
		check_may_wait();
		evs_wait_announce(bucket_of(request->activity), EVS_WAIT_TASKS);
	}
	while (!has_task(request, &lapses) || !take_tasks(request, result))
	{
		if (GetCurrentTimestamp() >= deadline)
			break;
		evs_wait_sleep(wake_time(lapses, deadline));
		MemoryContextReset(scratch);
	}
	if (request->wait_ms > 0)
		evs_wait_end();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}
