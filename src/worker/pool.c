/*
 * pool.c
 *	  The workers for projections, relays and sagas, as the dispatcher sees them.
 *
 * A worker runs projections of one role, so that what a handler leaves behind in
 * the session meets no other role's.  Each role has as many workers as its
 * projections have partitions, if evstore.max_workers allows.  If it does not,
 * the number is divided among the roles; roles that get none take turns, a second
 * each at least: a turn waits for the workers that start.
 *
 * A relay has a worker of its own, and counts as a role with one partition.  So do the
 * sagas of a role, but that they may want more than one worker at the same time.
 *
 * The workers of a role divide its projections' partitions by number.  When one
 * of them is in a batch for long, the others look after its share, too: whose
 * turn a partition is, its lock decides.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/timestamp.h"

#include "base/guc.h"
#include "projection/definition.h"
#include "relay/definition.h"
#include "saga/saga.h"
#include "worker/pool.h"
#include "worker/worker.h"
#include "compat.h"

/* A batch that takes longer is the others' business, in microseconds. */
#define LONG_BATCH 200000

/* Workers run so long before the turn passes on, in microseconds. */
#define TURN 1000000

/* It does so in any case after this, when one cannot start or does not end. */
#define TURN_MAX 30000000

typedef struct Owner
{
	Oid			role;
	EvsPoolKind kind;
	int64		relay;			/* which */
	int			units;			/* partitions of its projections */
	int			target;			/* workers that it is to have */
	int			have;
	int			running;		/* of them, with a process */
	int			place;			/* when shares are given out */
} Owner;

static uint64 seen_version = 0;
static uint32 turn = 0;
static TimestampTz turn_began = 0;

/* ---- who wants workers ---- */

static Owner *
find_owner(List *owners, Oid role, EvsPoolKind kind, int64 relay)
{
	ListCell   *cell;

	foreach(cell, owners)
	{
		Owner	   *owner = lfirst(cell);

		if (owner->role == role && owner->kind == kind && owner->relay == relay)
			return owner;
	}
	return NULL;
}

/* NULL: there is no such role. */
static Owner *
need_owner(List **owners, const char *name, EvsPoolKind kind, int64 relay)
{
	Oid			role = get_role_oid(name, true);
	Owner	   *owner = find_owner(*owners, role, kind, relay);

	if (!OidIsValid(role) || owner != NULL)
		return owner;
	owner = palloc0(sizeof(Owner));
	owner->role = role;
	owner->kind = kind;
	owner->relay = relay;
	*owners = lappend(*owners, owner);
	return owner;
}

static List *
add_units(List *owners, const char *name, EvsPoolKind kind, int64 relay, int units)
{
	Owner	   *owner = need_owner(&owners, name, kind, relay);

	if (owner != NULL)
		owner->units += units;
	return owners;
}

/* The saga that wants the most workers tells how many; they run the others, too. */
static List *
add_sagas(List *owners)
{
	ListCell   *cell;

	foreach(cell, evs_saga_kept())
	{
		const EvsSaga *saga = lfirst(cell);
		Owner	   *owner = saga->paused ? NULL : need_owner(&owners, saga->owner, EVS_POOL_SAGAS, 0);

		if (owner != NULL)
			owner->units = Max(owner->units, saga->workers);
	}
	return owners;
}

static List *
list_owners(void)
{
	List	   *owners = NIL;
	ListCell   *cell;

	foreach(cell, evs_relay_kept())
	{
		EvsRelay   *relay = lfirst(cell);

		if (!relay->paused)
			owners = add_units(owners, relay->owner, EVS_POOL_RELAY, relay->id, 1);
	}
	foreach(cell, evs_projection_kept())
	{
		EvsProjection *projection = lfirst(cell);

		if (!projection->paused && !projection->is_inline)
			owners = add_units(owners, projection->owner, EVS_POOL_PROJECTIONS, 0,
							   projection->slots);
	}
	return add_sagas(owners);
}

/* ---- turns ---- */

/* Has it yet to become what it is to be, or run for its time? */
static bool
needs_time(EvsPoolSlot *place, TimestampTz now)
{
	EvsWorkerSlot worker = evs_worker_look(&place->worker);

	return place->stop_wanted || worker.state == EVS_WORKER_STARTING ||
		(worker.state == EVS_WORKER_RUNNING && now - worker.started_at < TURN);
}

/* A machine may need longer to start a worker than a turn is to last. */
static bool
turn_is_over(EvsSharedDatabase *database, TimestampTz now)
{
	EvsPoolSlot *pool = evs_shmem_pool(evs_shmem());

	if (now - turn_began >= TURN_MAX)
		return true;
	for (int i = 0; i < evs_shmem()->npool; i++)
		if (pool[i].database == database->oid && needs_time(&pool[i], now))
			return false;
	return now - turn_began >= TURN;
}

static void
pass_on_turn(EvsSharedDatabase *database)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!turn_is_over(database, now))
		return;
	turn++;
	turn_began = now;
}

/* One each, beginning with whose turn it is, as long as there are any. */
static void
set_targets(EvsSharedDatabase *database, List *owners)
{
	int			left = evs_guc_max_workers;
	int			n = list_length(owners);
	bool		any = n > 0;

	if (n > left)
		pass_on_turn(database);
	while (any && left > 0)
	{
		any = false;
		for (int i = 0; i < n && left > 0; i++)
		{
			Owner	   *owner = list_nth(owners, (i + turn) % n);

			if (owner->target >= owner->units)
				continue;
			owner->target++;
			left--;
			any = true;
		}
	}
}

/* ---- the workers that there are ---- */

static bool
is_there(const EvsPoolSlot *slot)
{
	return slot->worker.pid != 0 || slot->worker.state == EVS_WORKER_STARTING;
}

/* End those that are too many; count the others. */
static void
end_surplus(EvsSharedDatabase *database, List *owners)
{
	EvsPoolSlot *pool = evs_shmem_pool(evs_shmem());

	LWLockAcquire(&evs_shmem()->lock, LW_EXCLUSIVE);
	for (int i = 0; i < evs_shmem()->npool; i++)
	{
		EvsPoolSlot *slot = &pool[i];
		Owner	   *owner;

		if (slot->database != database->oid || slot->stop_wanted)
			continue;
		owner = find_owner(owners, slot->owner, slot->kind, slot->relay);
		if (owner != NULL && owner->have < owner->target)
		{
			owner->have++;
			continue;
		}
		if (is_there(slot))
			slot->stop_wanted = true;
		else
			slot->database = InvalidOid;
		evs_shmem_set_latch(&slot->worker);
	}
	LWLockRelease(&evs_shmem()->lock);
}

/* Those that have failed, when their pause is over. */
static void
restart_failed(EvsSharedDatabase *database)
{
	EvsPoolSlot *pool = evs_shmem_pool(evs_shmem());
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < evs_shmem()->npool; i++)
	{
		EvsWorkerSlot slot = evs_worker_look(&pool[i].worker);

		if (pool[i].database == database->oid && !pool[i].stop_wanted && slot.pid == 0 &&
			((slot.state == EVS_WORKER_BACKING_OFF && slot.retry_at <= now) ||
			 evs_worker_start_is_lost(&slot, now)))
			(void) evs_worker_launch_pool(database, i, pool[i].owner, pool[i].kind,
										  pool[i].relay);
	}
}

/* A place that is free; -1: none.  Whether it is so still is looked at under the lock. */
static int
find_free(void)
{
	EvsPoolSlot *pool = evs_shmem_pool(evs_shmem());

	for (int i = 0; i < evs_shmem()->npool; i++)
		if (!OidIsValid(pool[i].database))
			return i;
	return -1;
}

static void
start_missing(EvsSharedDatabase *database, List *owners)
{
	ListCell   *cell;

	foreach(cell, owners)
	{
		Owner	   *owner = lfirst(cell);

		for (; owner->have < owner->target; owner->have++)
		{
			int			place = find_free();

			if (place < 0 || !evs_worker_launch_pool(database, place, owner->role, owner->kind,
													 owner->relay))
				return;
		}
	}
}

/* Starts that were given up before they became processes. */
static void
forget_lost(EvsSharedDatabase *database)
{
	EvsPoolSlot *pool = evs_shmem_pool(evs_shmem());
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(&evs_shmem()->lock, LW_EXCLUSIVE);
	for (int i = 0; i < evs_shmem()->npool; i++)
		if (pool[i].database == database->oid && pool[i].stop_wanted &&
			(evs_worker_start_is_lost(&pool[i].worker, now) ||
			 (pool[i].worker.pid == 0 && pool[i].worker.state != EVS_WORKER_STARTING)))
		{
			pool[i].worker.generation++;
			pool[i].worker.state = EVS_WORKER_NONE;
			pool[i].database = InvalidOid;
		}
	LWLockRelease(&evs_shmem()->lock);
}

static Owner *
running_for(EvsSharedDatabase *database, List *owners, const EvsPoolSlot *slot)
{
	if (slot->database != database->oid || slot->stop_wanted || slot->worker.pid == 0)
		return NULL;
	return find_owner(owners, slot->owner, slot->kind, slot->relay);
}

/* Among those that have a process; a start that ends sets the dispatcher's latch. */
static void
divide_shares(EvsSharedDatabase *database, List *owners)
{
	EvsPoolSlot *pool = evs_shmem_pool(evs_shmem());

	for (int i = 0; i < evs_shmem()->npool; i++)
	{
		Owner	   *owner = running_for(database, owners, &pool[i]);

		if (owner != NULL)
			owner->running++;
	}
	for (int i = 0; i < evs_shmem()->npool; i++)
	{
		Owner	   *owner = running_for(database, owners, &pool[i]);
		uint32		share;

		if (owner == NULL)
			continue;
		share = ((uint32) owner->place++ << 16) | (uint32) owner->running;
		if (pg_atomic_exchange_u32(&pool[i].share, share) != share)
			evs_shmem_set_latch(&pool[i].worker);
	}
}

static bool
is_long_busy(EvsPoolSlot *slot, TimestampTz now)
{
	TimestampTz since = (TimestampTz) pg_atomic_read_u64(&slot->busy_since);

	return since != 0 && now - since > LONG_BATCH;
}

static void
call_for_help(EvsSharedDatabase *database)
{
	EvsPoolSlot *pool = evs_shmem_pool(evs_shmem());
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < evs_shmem()->npool; i++)
	{
		if (pool[i].database != database->oid || !is_long_busy(&pool[i], now))
			continue;
		for (int k = 0; k < evs_shmem()->npool; k++)
			if (k != i && pool[k].database == database->oid &&
				pool[k].owner == pool[i].owner && pool[k].kind == pool[i].kind &&
				pool[k].relay == pool[i].relay)
			{
				pg_atomic_write_u32(&pool[k].help_wanted, 1);
				evs_shmem_set_latch(&pool[k].worker);
			}
	}
}

void
evs_pool_manage(EvsSharedDatabase *database, bool look)
{
	List	   *owners;

	uint64		version = evs_projection_version() + evs_relay_version() + evs_saga_version();

	if (!look && seen_version == version)
		return;
	seen_version = version;
	owners = list_owners();
	set_targets(database, owners);
	forget_lost(database);
	end_surplus(database, owners);
	restart_failed(database);
	start_missing(database, owners);
	divide_shares(database, owners);
	call_for_help(database);
}

void
evs_pool_stop(EvsSharedDatabase *database)
{
	EvsPoolSlot *pool = evs_shmem_pool(evs_shmem());

	LWLockAcquire(&evs_shmem()->lock, LW_EXCLUSIVE);
	for (int i = 0; i < evs_shmem()->npool; i++)
		if (pool[i].database == database->oid)
		{
			pool[i].stop_wanted = true;
			if (!is_there(&pool[i]))
				pool[i].database = InvalidOid;
			evs_shmem_set_latch(&pool[i].worker);
		}
	LWLockRelease(&evs_shmem()->lock);
}

bool
evs_pool_has_processes(EvsSharedDatabase *database)
{
	EvsPoolSlot *pool = evs_shmem_pool(evs_shmem());
	bool		result = false;

	LWLockAcquire(&evs_shmem()->lock, LW_SHARED);
	for (int i = 0; i < evs_shmem()->npool; i++)
		result |= (pool[i].database == database->oid && is_there(&pool[i])) ||
			evs_worker_is_ending(&pool[i].worker, database->oid);
	LWLockRelease(&evs_shmem()->lock);
	return result;
}
