/*
 * watch.c
 *	  For which subscriptions is there something new?
 *
 * The dispatcher's side of waiting.  Events that have become safe are looked at
 * once for all subscriptions that somebody waits for, or that tell listeners;
 * a subscription drops out with its first match, so where everything matches,
 * one event is enough.  Where nobody waits, nothing is read.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/guc.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "stream/cursor.h"
#include "subscription/definition.h"
#include "subscription/watch.h"
#include "compat.h"

static List *subscriptions = NIL;
static uint64 loaded_version = 0;
static MemoryContext context = NULL;

static void
load(void)
{
	uint64		current;
	MemoryContext old;

	/* taking the lock is what lets invalidations in */
	relation_close(evs_open(evs_catalog()->subscription, AccessShareLock), AccessShareLock);
	current = evs_subscription_version();
	if (loaded_version == current)
		return;
	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "evstore watch",
										ALLOCSET_SMALL_SIZES);
	subscriptions = NIL;
	MemoryContextReset(context);
	old = MemoryContextSwitchTo(context);
	subscriptions = evs_subscription_list();
	MemoryContextSwitchTo(old);
	loaded_version = current;
}

static uint32
armed_buckets(EvsSharedDatabase *database)
{
	uint32		armed = 0;

	for (int i = 0; i < EVS_WAIT_BUCKETS; i++)
		if (evs_shmem_has_waiters(&database->buckets[i]))
			armed |= 1 << i;
	return armed | evs_shmem_pool_armed(database);
}

/* Those that somebody wants to know about. */
static List *
interesting(uint32 armed)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, subscriptions)
	{
		EvsSubscription *subscription = lfirst(cell);

		if (subscription->paused)
			continue;
		if ((armed & (1 << evs_subscription_bucket(subscription->id))) != 0 ||
			(subscription->notify && evs_guc_notify == EVS_NOTIFY_WORKER))
			result = lappend(result, subscription);
	}
	return result;
}

/* An event that the filter fails on is to be parked, so it counts. */
static bool
matches(const EvsSubscription *subscription, EvsLogCursor *cursor)
{
	return subscription->filter == NULL ||
		evs_cursor_match(cursor, subscription->filter) != EVS_FILTER_NO;
}

static void
tell(const EvsSubscription *subscription, int64 position, EvsWatchNotify notify)
{
	if (subscription->notify)
		notify(psprintf("evstore_sub_%s", subscription->name), position);
}

void
evs_watch_tell_all(int64 position, EvsWatchNotify notify)
{
	ListCell   *cell;

	load();
	foreach(cell, subscriptions)
	{
		EvsSubscription *subscription = lfirst(cell);

		if (!subscription->paused)
			tell(subscription, position, notify);
	}
}

void
evs_watch_wake_all(EvsSharedDatabase *database)
{
	for (int i = 0; i < EVS_WAIT_BUCKETS; i++)
		evs_shmem_wake_bucket(database, i);
	evs_shmem_wake_pool(database, PG_UINT32_MAX);
}

static bool
anybody_tells(void)
{
	ListCell   *cell;

	foreach(cell, subscriptions)
		if (((EvsSubscription *) lfirst(cell))->notify)
			return true;
	return false;
}

void
evs_watch_due(TimestampTz after, TimestampTz up_to, int64 position, EvsWatchNotify notify)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT DISTINCT f.subscription_id FROM evstore.failed_event f"
		" WHERE f.state IN ('retry', 'deferred') AND f.retry_at > $1 AND f.retry_at <= $2",
		.nargs = 2, .types = {TIMESTAMPTZOID, TIMESTAMPTZOID},
	};
	Datum		args[2];
	EvsSpiRows	rows;
	ListCell   *cell;

	load();
	if (!anybody_tells())
		return;
	args[0] = TimestampTzGetDatum(after);
	args[1] = TimestampTzGetDatum(up_to);
	rows = evs_spi_call(&plan, args, NULL);
	foreach(cell, subscriptions)
	{
		EvsSubscription *subscription = lfirst(cell);

		for (uint64 i = 0; i < rows.nrows; i++)
			if (!subscription->paused &&
				DatumGetInt64(rows.values[i]) == subscription->id)
				tell(subscription, position, notify);
	}
}

static void
wake(EvsSharedDatabase *database, uint32 buckets)
{
	for (int i = 0; i < EVS_WAIT_BUCKETS; i++)
		if (buckets & (1 << i))
			ConditionVariableBroadcast(&database->buckets[i]);
	evs_shmem_wake_pool(database, buckets);
}

/*
 * Those that want any event need not be looked at, unless listeners are told: they
 * would hear of positions without an event.
 */
static List *
wake_unfiltered(EvsSharedDatabase *database, List *left)
{
	uint32		buckets = 0;
	ListCell   *cell;

	foreach(cell, left)
	{
		EvsSubscription *subscription = lfirst(cell);

		if (subscription->filter != NULL || subscription->notify)
			continue;
		buckets |= 1 << evs_subscription_bucket(subscription->id);
		left = foreach_delete_current(left, cell);
	}
	if (buckets != 0)
		wake(database, buckets);
	return left;
}

void
evs_watch_events(EvsSharedDatabase *database, int64 after, int64 up_to, EvsWatchNotify notify)
{
	uint32		armed = armed_buckets(database);
	EvsLogRange range = {.after = after, .up_to = up_to};
	EvsLogCursor *cursor;
	List	   *left;
	uint32		buckets = 0;

	load();
	left = wake_unfiltered(database, interesting(armed));
	if (left == NIL)
		return;
	cursor = evs_cursor_open(&range, GetLatestSnapshot());
	while (left != NIL && evs_cursor_next(cursor))
	{
		ListCell   *cell;

		foreach(cell, left)
		{
			EvsSubscription *subscription = lfirst(cell);

			if (!matches(subscription, cursor))
				continue;
			buckets |= 1 << evs_subscription_bucket(subscription->id);
			tell(subscription, up_to, notify);
			left = foreach_delete_current(left, cell);
		}
	}
	evs_cursor_close(cursor);
	wake(database, buckets & armed);
}
