/*
 * launcher.c
 *	  The process that starts dispatchers.
 *
 * One a cluster, started by the postmaster when the library is preloaded and
 * recovery has finished.  Whether a database has the extension can only be
 * seen from inside, so a dispatcher is started in each, once; it ends at once
 * where there is nothing for it to do.  After that the launcher acts when it is
 * asked (CREATE EXTENSION, start(), adopt()), when a dispatcher has died, and
 * for databases that are new.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "base/guc.h"
#include "base/shmem.h"
#include "worker/launcher.h"
#include "worker/worker.h"
#include "compat.h"

/* New databases are looked for at least this often, in ms. */
#define LOOK_INTERVAL 60000

/* Dispatchers that are being started at the same time. */
#define MAX_STARTING 2

/* When to look again at a database that somebody wants for itself, in ms. */
#define WANTED_INTERVAL 1000

extern PGDLLEXPORT void evs_launcher_main(Datum main_arg);

typedef struct Database
{
	Oid			oid;
	bool		eligible;
	bool		wanted;			/* by somebody, for itself */
} Database;

/* Databases that were found to be without the extension. */
static List *probed = NIL;
static MemoryContext probed_context = NULL;

void
evs_launcher_init(void)
{
	BackgroundWorker worker = {0};

	if (IsBinaryUpgrade)
		return;
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, "evstore", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "evs_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "evstore launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "evstore launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

bool
evs_launcher_lists(const char *name)
{
	char	   *copy = pstrdup(evs_guc_databases);
	List	   *names;
	ListCell   *cell;

	if (!SplitGUCList(copy, ',', &names))
	{
		ereport(LOG,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("invalid list syntax in parameter \"%s\"", "evstore.databases")));
		return false;
	}
	foreach(cell, names)
	{
		const char *item = lfirst(cell);

		if (strcmp(item, "*") == 0 || strcmp(item, name) == 0)
			return true;
	}
	return false;
}

/*
 * A session in a template would be in the way of CREATE DATABASE, and nobody
 * should work there.
 */
static List *
read_databases(MemoryContext context)
{
	List	   *result = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old = MemoryContextSwitchTo(context);
		Database   *database = palloc(sizeof(Database));

		database->oid = form->oid;
		database->eligible = form->datallowconn && !form->datistemplate &&
			evs_launcher_lists(NameStr(form->datname));
		database->wanted = database->eligible && evs_worker_database_is_wanted(form->oid);
		result = lappend(result, database);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	return result;
}

static bool
exists(List *databases, Oid oid)
{
	ListCell   *cell;

	foreach(cell, databases)
		if (((Database *) lfirst(cell))->oid == oid)
			return true;
	return false;
}

/* Databases that have an entry. */
static List *
read_entries(void)
{
	EvsShared  *shared = evs_shmem();
	List	   *result = NIL;

	for (int i = 0; i < shared->ndatabases; i++)
		if (OidIsValid(shared->databases[i].oid))
			result = lappend_oid(result, shared->databases[i].oid);
	return result;
}

/*
 * Entries of databases that are gone, or that turned out to have no store.  An
 * entry that is younger than the list of databases may be of one that is, too.
 */
static void
free_entries(List *entries, List *databases)
{
	EvsShared  *shared = evs_shmem();

	for (int i = 0; i < shared->ndatabases; i++)
	{
		Oid			oid = shared->databases[i].oid;
		EvsWorkerSlot slot = evs_worker_look(&shared->databases[i].dispatcher);

		if (!list_member_oid(entries, oid) || slot.pid != 0)
			continue;
		if (!exists(databases, oid))
		{
			probed = list_delete_oid(probed, oid);
			evs_shmem_free_database(oid, true);
		}
		else if (slot.state == EVS_WORKER_NO_EXTENSION && !shared->databases[i].start_wanted)
		{
			MemoryContext old = MemoryContextSwitchTo(probed_context);

			probed = list_append_unique_oid(probed, oid);
			MemoryContextSwitchTo(old);
			evs_shmem_free_database(oid, false);
		}
	}
}

/* What stop() has stopped stays so, also when the database is named again. */
static void
exclude(EvsSharedDatabase *entry)
{
	EvsWorkerSlot *slot = &entry->dispatcher;

	LWLockAcquire(&evs_shmem()->lock, LW_EXCLUSIVE);
	if (slot->pid != 0 || slot->state == EVS_WORKER_STARTING)
		entry->excluded = true;
	else if (slot->state != EVS_WORKER_STOPPED)
		slot->state = EVS_WORKER_EXCLUDED;
	LWLockRelease(&evs_shmem()->lock);
	evs_shmem_set_latch(slot);
	ConditionVariableBroadcast(&entry->state_changed);
}

/* Should the database's dispatcher be started now?  If later, *when is lowered. */
static bool
is_due(EvsSharedDatabase *entry, TimestampTz now, TimestampTz *when)
{
	EvsWorkerSlot slot = evs_worker_look(&entry->dispatcher);
	TimestampTz at = now;

	switch (slot.state)
	{
		case EVS_WORKER_NONE:
		case EVS_WORKER_EXCLUDED:
			return true;
		case EVS_WORKER_STARTING:
			if (slot.pid == 0)
				*when = Min(*when, now + WANTED_INTERVAL * 1000);
			return evs_worker_start_is_lost(&slot, now);
		case EVS_WORKER_BACKING_OFF:
		case EVS_WORKER_YIELDED:
			at = slot.retry_at;
			break;
		case EVS_WORKER_RUNNING:
			return false;
		case EVS_WORKER_STOPPED:
		case EVS_WORKER_NOT_ADOPTED:
		case EVS_WORKER_NO_EXTENSION:
			return entry->start_wanted;
	}
	if (at > now)
		*when = Min(*when, at);
	return at <= now;
}

static int
count_starting(void)
{
	EvsShared  *shared = evs_shmem();
	int			n = 0;

	for (int i = 0; i < shared->ndatabases; i++)
		if (OidIsValid(shared->databases[i].oid) &&
			evs_worker_look(&shared->databases[i].dispatcher).state == EVS_WORKER_STARTING)
			n++;
	return n;
}

static void
look_at_database(const Database *database, TimestampTz now, TimestampTz *when)
{
	EvsSharedDatabase *entry = evs_shmem_find_database(database->oid, false);

	if (entry == NULL)
	{
		if (!database->eligible || list_member_oid(probed, database->oid))
			return;
		entry = evs_shmem_find_database(database->oid, true);
		if (entry == NULL)
		{
			ereport(LOG,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("evstore cannot work in more than %d databases of a cluster",
							evs_shmem()->ndatabases)));
			return;
		}
	}
	if (!database->eligible)
	{
		exclude(entry);
	}
	else if (is_due(entry, now, when))
	{
		if (database->wanted)
			*when = Min(*when, now + WANTED_INTERVAL * 1000);
		else if (count_starting() >= MAX_STARTING)
			*when = Min(*when, now + 100 * 1000);
		else if (!evs_worker_launch(entry, MyProcPid))
			*when = Min(*when, evs_worker_look(&entry->dispatcher).retry_at);
	}
}

/* Look at all databases; returns when to look again. */
static TimestampTz
look_around(MemoryContext context)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz when = TimestampTzPlusMilliseconds(now, LOOK_INTERVAL);
	List	   *entries = read_entries();
	List	   *databases = read_databases(context);
	ListCell   *cell;

	free_entries(entries, databases);
	foreach(cell, databases)
		look_at_database(lfirst(cell), now, &when);
	return when;
}

static void
leave(int code, Datum arg)
{
	LWLockAcquire(&evs_shmem()->lock, LW_EXCLUSIVE);
	evs_shmem()->launcher.pid = 0;
	evs_shmem()->launcher.state = EVS_WORKER_NONE;
	LWLockRelease(&evs_shmem()->lock);
}

static void
enter(void)
{
	EvsWorkerSlot *slot = &evs_shmem()->launcher;

	LWLockAcquire(&evs_shmem()->lock, LW_EXCLUSIVE);
	slot->pid = MyProcPid;
	slot->procno = evs_procno();
	slot->state = EVS_WORKER_RUNNING;
	slot->started_at = GetCurrentTimestamp();
	LWLockRelease(&evs_shmem()->lock);
	before_shmem_exit(leave, (Datum) 0);
}

static void
sleep_until(TimestampTz when)
{
	static uint32 wait_event = 0;
	long		ms = Max(1, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), when));

	if (wait_event == 0)
		wait_event = evs_wait_event_new("EvstoreLauncherMain");

	/* looking around may have eaten the latch's signal */
	if (ShutdownRequestPending || pg_atomic_read_u32(&evs_shmem()->launcher_called) != 0)
		ms = 0;
	evs_worker_sleep(ms, wait_event);
}

void
evs_launcher_main(Datum main_arg)
{
	MemoryContext scratch;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	probed_context = AllocSetContextCreate(TopMemoryContext, "evstore databases",
										   ALLOCSET_SMALL_SIZES);
	scratch = AllocSetContextCreate(TopMemoryContext, "evstore launcher", ALLOCSET_SMALL_SIZES);
	enter();
	pgstat_report_activity(STATE_IDLE, NULL);

	while (!ShutdownRequestPending)
	{
		TimestampTz when;

		MemoryContextReset(scratch);
		MemoryContextSwitchTo(scratch);
		PG_TRY();
		{
			pg_atomic_exchange_u32(&evs_shmem()->launcher_called, 0);
			when = look_around(scratch);
		}
		PG_CATCH();
		{
			char		message[EVS_WORKER_ERROR_MAX];

			evs_worker_catch(scratch, message, sizeof(message));
			when = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), 5000);
		}
		PG_END_TRY();
		sleep_until(when);
	}
	/* not 0, which would mean never again */
	proc_exit(1);
}
