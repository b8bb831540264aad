/*
 * partition.c
 *	  Making the leaves of the event log.
 *
 * The normal way is a one-shot background worker, asked for when a leaf is
 * half full: a transaction of its own, so that an appender neither holds
 * ShareUpdateExclusiveLock on the log to the end of its transaction nor takes
 * the leaf away again when it rolls back.  Only an append whose own leaf is
 * missing waits for the worker.  If no worker can start, or the worker cannot
 * get its lock, or the extension itself was made by this transaction, the
 * append makes the leaf itself.
 *
 * A leaf is a table of its own first (LIKE the log, with its own named
 * indexes and guard) and attached then.  The parent has no index and the
 * leaves are no members of the extension: that is what pg_dump can restore.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/debug_point.h"
#include "base/guc.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "stream/in_flight.h"
#include "stream/partition.h"
#include "stream/seal.h"

/* The next leaf is asked for at each sixteenth of the second half. */
#define AHEAD_MARKS 16

StaticAssertDecl(sizeof(EvsPartitionOrder) <= BGW_EXTRALEN,
				 "EvsPartitionOrder does not fit into bgw_extra");

/* One maker at a time; released at the end of its transaction. */
static void
lock_partition_making(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, EVS_LOCK_PARTITION);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

static void
make_leaf(int64 lower, int64 upper)
{
	evs_spi_run(psprintf("CREATE TABLE evstore.event_log_" INT64_FORMAT
						 " (LIKE evstore.event_log INCLUDING ALL,"
						 " CONSTRAINT event_log_" INT64_FORMAT "_pkey PRIMARY KEY (\"position\"))",
						 lower, lower));
	evs_spi_run(psprintf("CREATE UNIQUE INDEX event_log_" INT64_FORMAT "_stream_version_key"
						 " ON evstore.event_log_" INT64_FORMAT " (stream_id, version)",
						 lower, lower));
	evs_spi_run(psprintf("CREATE UNIQUE INDEX event_log_" INT64_FORMAT "_event_id_key"
						 " ON evstore.event_log_" INT64_FORMAT " (event_id)",
						 lower, lower));
	evs_spi_run(psprintf("CREATE INDEX event_log_" INT64_FORMAT "_category_idx"
						 " ON evstore.event_log_" INT64_FORMAT " (category_hash, \"position\")",
						 lower, lower));
	evs_spi_run(psprintf("CREATE INDEX event_log_" INT64_FORMAT "_correlation_idx"
						 " ON evstore.event_log_" INT64_FORMAT " (correlation_id, \"position\")"
						 " WHERE correlation_id IS NOT NULL",
						 lower, lower));
	evs_spi_run(psprintf("CREATE TRIGGER evstore_guard"
						 " BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE"
						 " ON evstore.event_log_" INT64_FORMAT
						 " FOR EACH STATEMENT EXECUTE FUNCTION evstore._guard()",
						 lower));
	evs_spi_run(psprintf("ALTER TABLE evstore.event_log_" INT64_FORMAT
						 " ENABLE ALWAYS TRIGGER evstore_guard",
						 lower));
	evs_spi_run(psprintf("ALTER TABLE evstore.event_log"
						 " ATTACH PARTITION evstore.event_log_" INT64_FORMAT
						 " FOR VALUES FROM (" INT64_FORMAT ") TO (" INT64_FORMAT ")",
						 lower, lower, upper));
}

/*
 * Leaves hang on their parent automatically, so DROP EXTENSION would take all
 * events along without a word.  A view that is no member of the extension
 * makes it ask for CASCADE.
 */
static void
make_drop_guard(void)
{
	if (OidIsValid(get_relname_relid("drop_guard", evs_catalog()->schema)))
		return;
	evs_spi_run("CREATE VIEW evstore.drop_guard AS SELECT FROM evstore.event_log");
	evs_spi_run("COMMENT ON VIEW evstore.drop_guard IS "
				"'Keeps DROP EXTENSION evstore without CASCADE from dropping the events.'");
}

/*
 * Where the last leaf ends, and whether there is one after that of a position.
 * Exact, as the caller is the only one that makes leaves.
 */
static int64
log_end(int64 position, bool *has_spare)
{
	Relation	log = evs_open(evs_catalog()->event_log, AccessShareLock);
	EvsLeafRange range;
	int64		end;

	evs_leaf_forget(log);
	end = evs_leaf_end(log);
	*has_spare = evs_leaf_find(log, position, &range) && range.upper < end;
	relation_close(log, AccessShareLock);
	return end;
}

int
evs_partition_make(int64 cover, int ahead, int partition_size)
{
	EvsSpi		spi;
	int64		end;
	bool		has_spare;
	int			made = 0;

	if (creating_extension)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("events cannot be appended by the script of an extension")));

	lock_partition_making();
	AcceptInvalidationMessages();
	evs_spi_begin(&spi, true);
	evs_spi_quiet_event_triggers();
	end = log_end(cover, &has_spare);
	if (end == 1)
		evs_instance_init();
	if (has_spare)
		ahead = 0;				/* somebody else has, while we waited */
	for (; end <= cover || ahead-- > 0; made++)
	{
		/* a sequence that was set far ahead leaves one long leaf, not many */
		int64		upper = Max(end, cover) + partition_size;

		if (end + (int64) partition_size > cover)
			upper = end + partition_size;
		make_leaf(end, upper);
		end = upper;
	}
	if (made > 0)
		make_drop_guard();
	evs_spi_end(&spi);
	return made;
}

static bool
start_worker(int64 cover, int ahead, pid_t notify, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_library_name = "evstore",
		.bgw_function_name = "evs_partition_worker_main",
		.bgw_name = "evstore partition worker",
		.bgw_type = "evstore partition worker",
	};
	EvsPartitionOrder order = {
		.database = MyDatabaseId,
		.event_log = evs_catalog()->event_log,
		.partition_size = evs_guc_partition_size,
		.cover = cover,
		.ahead = ahead,
	};

	memcpy(worker.bgw_extra, &order, sizeof(order));
	worker.bgw_notify_pid = notify;
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

/* ATTACH PARTITION refuses a table that its own session has open. */
static void
make_inline(Relation *log, int64 position)
{
	Oid			relid = RelationGetRelid(*log);

	relation_close(*log, NoLock);
	PG_TRY();
	{
		(void) evs_partition_make(position, 1, evs_guc_partition_size);
	}
	PG_CATCH();
	{
		if (geterrcode() == ERRCODE_OBJECT_IN_USE)
			errhint("This statement also reads the event log. Append in a statement of its own, or make partitions ahead with evstore.create_partitions().");
		PG_RE_THROW();
	}
	PG_END_TRY();
	*log = evs_open(relid, NoLock);
}

void
evs_partition_ensure(Relation *log, int64 position, EvsLeafRange *range)
{
	BackgroundWorkerHandle *handle;

	if (likely(evs_leaf_find(*log, position, range)))
		return;

	/* A worker cannot see tables that this transaction has made. */
	if ((*log)->rd_createSubid == InvalidSubTransactionId &&
		start_worker(position, 1, MyProcPid, &handle))
	{
		(void) WaitForBackgroundWorkerShutdown(handle);
		EVS_DEBUG_POINT("partition_worker_done");
		if (evs_leaf_find(*log, position, range))
			return;
	}

	make_inline(log, position);
	if (!evs_leaf_find(*log, position, range))
		elog(ERROR, "no partition for position " INT64_FORMAT, position);
}

void
evs_partition_ahead(Relation log, const EvsLeafRange *range, int64 first, int64 last)
{
	int64		size = range->upper - range->lower;
	int64		mark = Max(size / (2 * AHEAD_MARKS), 1);
	int64		past_half = last - range->lower - size / 2;
	static BackgroundWorkerHandle *asked = NULL;
	MemoryContext old;

	if (likely(past_half < 0))
		return;
	if (past_half / mark == (first - range->lower - size / 2) / mark &&
		first - range->lower >= size / 2 && past_half % mark != 0)
		return;
	if (evs_leaf_end(log) > range->upper ||
		log->rd_createSubid != InvalidSubTransactionId)
		return;

	/* small leaves have a mark at each position: one worker at a time is enough */
	if (asked != NULL)
	{
		pid_t		pid;

		if (GetBackgroundWorkerPid(asked, &pid) != BGWH_STOPPED)
			return;
		pfree(asked);
		asked = NULL;
	}

	/* failure is no harm: the next mark asks again, or the append that needs it */
	old = MemoryContextSwitchTo(TopMemoryContext);
	(void) start_worker(range->upper, 0, 0, &asked);
	MemoryContextSwitchTo(old);
}
