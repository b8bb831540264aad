/*
 * xact.c
 *	  What happens at the end of a transaction, or of a session.
 *
 * Waking is done when the transaction's locks are gone, by a resource-release
 * callback: in the commit callback they are still held, so the safe position
 * would not have advanced yet for who is woken.  It also runs on abort, which
 * can free the safe position for commits that waited behind it.
 *
 * Callbacks are registered once a backend.  Those that run once the end has been
 * decided never throw: they touch only shared memory and latches.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/resowner.h"

#include "base/shmem.h"
#include "base/xact.h"
#include "compat.h"

#define MAX_COMMIT_HOOKS 4

static bool registered = false;
static bool session_watched = false;
static EvsReleaseHook release_hook = NULL;
static EvsReleaseHook prepare_hook = NULL;
static EvsReleaseHook commit_hooks[MAX_COMMIT_HOOKS];
static int	ncommit_hooks = 0;

/* Of the current transaction. */
static bool worker_requested = false;
static uint32 kicked = 0;
static uint32 progressed = 0;
static uint32 workers = 0;
static uint32 offered = 0;
static uint32 taken = 0;

void
evs_xact_wake_dispatcher(void)
{
	EvsSharedDatabase *database = evs_shmem_database();

	if (database != NULL && pg_atomic_exchange_u32(&database->touched, 1) == 0)
		evs_shmem_set_latch(&database->dispatcher);
}

static void
kick_buckets(void)
{
	EvsSharedDatabase *database = evs_shmem_database();

	if (database == NULL)
		return;
	for (int i = 0; i < EVS_WAIT_BUCKETS; i++)
	{
		if (kicked & (1 << i))
			evs_shmem_wake_bucket(database, i);
		else if (progressed & (1 << i))
			ConditionVariableBroadcast(&database->standby[i]);
	}
	if ((kicked | workers) != 0)
		evs_shmem_wake_pool(database, kicked | workers);
	if (kicked != 0)
		evs_xact_wake_dispatcher();
}

static void
wake_for_tasks(uint32 buckets)
{
	EvsSharedDatabase *database = evs_shmem_database();

	if (database == NULL)
		return;
	for (int i = 0; i < EVS_WAIT_BUCKETS; i++)
		if (buckets & (1 << i))
			ConditionVariableBroadcast(&database->tasks[i]);
}

/* Only a request: the launcher looks at it. */
static void
request_worker(void)
{
	EvsSharedDatabase *database = evs_shmem_database();

	if (database == NULL)
		return;
	database->start_wanted = true;
	evs_shmem_call_launcher();
}

static void
release_callback(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS)
		return;
	if (release_hook != NULL)
		release_hook();
	if (!is_top_level)
	{
		/* perhaps not its claims that are rolled back, but whoever is woken looks */
		if (taken != 0 && !is_commit)
			wake_for_tasks(taken);
		return;
	}
	if ((kicked | progressed | workers) != 0)
	{
		if (is_commit)
			kick_buckets();
		kicked = progressed = workers = 0;
	}
	if ((offered | taken) != 0)
	{
		wake_for_tasks(is_commit ? offered : taken);
		offered = taken = 0;
	}
	if (worker_requested)
	{
		worker_requested = false;
		if (is_commit)
			request_worker();
	}
}

static void
xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_PREPARE && prepare_hook != NULL)
		prepare_hook();
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
		for (int i = 0; i < ncommit_hooks; i++)
			commit_hooks[i] ();
}

static void
register_callbacks(void)
{
	if (registered)
		return;
	/* Everything that may throw is done now, not at the end. */
	(void) evs_shmem_database();
	RegisterResourceReleaseCallback(release_callback, NULL);
	RegisterXactCallback(xact_callback, NULL);
	registered = true;
}

void
evs_xact_on_release(EvsReleaseHook hook)
{
	register_callbacks();
	release_hook = hook;
}

void
evs_xact_on_prepare(EvsReleaseHook hook)
{
	register_callbacks();
	prepare_hook = hook;
}

void
evs_xact_on_commit(EvsReleaseHook hook)
{
	register_callbacks();
	Assert(ncommit_hooks < MAX_COMMIT_HOOKS);
	commit_hooks[ncommit_hooks++] = hook;
}

void
evs_xact_kick(int bucket)
{
	register_callbacks();
	kicked |= 1 << bucket;
}

void
evs_xact_tell_waiters(int bucket)
{
	register_callbacks();
	progressed |= 1 << bucket;
}

void
evs_xact_wake_workers(uint32 buckets)
{
	register_callbacks();
	workers |= buckets;
}

void
evs_xact_offer_task(int bucket)
{
	register_callbacks();
	offered |= 1 << bucket;
}

void
evs_xact_take_task(int bucket)
{
	register_callbacks();
	taken |= 1 << bucket;
}

void
evs_xact_request_worker(void)
{
	register_callbacks();
	worker_requested = true;
}

/* By now the process is no longer among those that run. */
static void
session_ended(int code, Datum arg)
{
	EvsSharedDatabase *database = evs_shmem_database();

	if (database == NULL)
		return;
	pg_atomic_write_u32(&database->departed, 1);
	evs_xact_wake_dispatcher();
}

void
evs_xact_watch_session(void)
{
	if (session_watched)
		return;
	register_callbacks();
	on_proc_exit(session_ended, (Datum) 0);
	session_watched = true;
}
