/*
 * partition_worker.c
 *	  The one-shot worker that makes leaves of the event log.
 *
 * It ends with exit code 0 whatever happens: whoever asked looks whether the
 * leaf is there, and makes it itself if not.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "stream/partition.h"
#include "compat.h"

extern PGDLLEXPORT void evs_partition_worker_main(Datum main_arg);

/*
 * The appender that waits for us may itself hold the lock that we need, which
 * the deadlock detector cannot see: give up soon, it will try on its own.
 */
#define LOCK_TIMEOUT "1s"

static bool
is_same_store(const EvsPartitionOrder *order)
{
	Oid			schema = get_namespace_oid("evstore", true);

	return OidIsValid(schema) &&
		get_relname_relid("event_log", schema) == order->event_log;
}

static void
make_partitions(const EvsPartitionOrder *order)
{
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (is_same_store(order))
		(void) evs_partition_make(order->cover, order->ahead, order->partition_size);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

void
evs_partition_worker_main(Datum main_arg)
{
	EvsPartitionOrder order;
	MemoryContext context = CurrentMemoryContext;

	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(order));
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(order.database, InvalidOid, 0);
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION);
	pgstat_report_activity(STATE_RUNNING, "making partitions of evstore.event_log");

	PG_TRY();
	{
		make_partitions(&order);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("could not make a partition of evstore.event_log ahead of need: %s",
						error->message)));
	}
	PG_END_TRY();

	pgstat_report_activity(STATE_IDLE, NULL);
	proc_exit(0);
}
