/*
 * in_flight.c
 *	  The registry of appends in flight.
 *
 * An append in flight is known by its floor, a position below all those that
 * its transaction may draw.  The truth is a heavyweight lock whose tag names
 * the floor.  It belongs to the resource owner of the append, so a savepoint
 * that is rolled back gives back exactly its share; it survives PREPARE
 * TRANSACTION and a restart, because the lock manager does.
 *
 * Finding the lowest floor among all locks of the cluster is slow, and stops
 * everybody who needs a lock meanwhile.  So a server that has preloaded the
 * library keeps a second record: each process has a place in shared memory for
 * its floor.
 *
 *	 appender						reader
 *	 read the sequence: F			read the sequence: L
 *	 place := F						read all places
 *	 take the lock					read "prepared"
 *	 draw positions > F
 *	 ... visible, locks released
 *	 place := none
 *
 * A place that the reader has found empty was either filled later, and then
 * the positions are drawn after the sequence was read and are above L; or was
 * emptied before, and then the transaction is visible to a snapshot taken from
 * now on, or prepared.  A transaction that prepares sets "prepared" before
 * its place is emptied, so a reader that reads it after the places knows that
 * it must ask the lock manager.  "prepared" is reset by who has scanned the
 * locks and seen none of a prepared transaction, unless somebody set it
 * meanwhile, or is between setting it and handing its locks over.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/memutils.h"

#include "base/debug_point.h"
#include "base/shmem.h"
#include "base/xact.h"
#include "stream/in_flight.h"
#include "compat.h"

/* The floor that this process holds, if its transaction has not ended. */
static int64 held_floor = 0;
static LocalTransactionId held_lxid = InvalidLocalTransactionId;

/* This process's place, or NULL. */
static EvsSharedFloor *my_place = NULL;
static bool hooked = false;

static void
floor_tag(LOCKTAG *tag, int64 floor)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId,
						 (uint32) ((uint64) floor >> 32), (uint32) floor,
						 EVS_LOCK_IN_FLIGHT);
}

static bool
is_held(int64 floor)
{
	LOCKTAG		tag;

	floor_tag(&tag, floor);
	return evs_lock_held_by_me(&tag, ShareLock);
}

/* Some locks were given back: that of our floor, too? */
static void
after_release(void)
{
	if (likely(held_lxid == InvalidLocalTransactionId) || is_held(held_floor))
		return;
	held_lxid = InvalidLocalTransactionId;
	if (my_place != NULL)
	{
		pg_atomic_write_u64(&my_place->floor, 0);
		my_place->preparing = false;
	}
	evs_xact_wake_dispatcher();
}

static void
before_prepare(void)
{
	if (my_place == NULL || held_lxid == InvalidLocalTransactionId)
		return;
	my_place->preparing = true;
	pg_memory_barrier();
	pg_atomic_fetch_add_u32(&evs_shmem_database()->prepared, 1);
}

static void
find_my_place(void)
{
	EvsShared  *shared = evs_shmem();

	if (shared != NULL && evs_shmem_database() != NULL && evs_procno() < shared->nfloors)
		my_place = &evs_shmem_floors(shared)[evs_procno()];
	evs_xact_on_release(after_release);
	evs_xact_on_prepare(before_prepare);
	hooked = true;
}

bool
evs_in_flight_here(void)
{
	return held_lxid == evs_my_lxid() && is_held(held_floor);
}

bool
evs_in_flight_again(int64 floor)
{
	LOCKTAG		tag;

	if (held_lxid != evs_my_lxid() || held_floor != floor || !is_held(floor))
		return false;
	floor_tag(&tag, floor);
	(void) LockAcquire(&tag, ShareLock, false, false);
	return true;
}

void
evs_in_flight_enter(int64 floor)
{
	LOCKTAG		tag;

	if (unlikely(!hooked))
		find_my_place();
	if (my_place != NULL)
	{
		my_place->database = MyDatabaseId;
		pg_atomic_write_u64(&my_place->floor, (uint64) floor + 1);
		pg_memory_barrier();	/* before any position is drawn */
	}
	held_floor = floor;
	held_lxid = evs_my_lxid();
	floor_tag(&tag, floor);
	(void) LockAcquire(&tag, ShareLock, false, false);
}

bool
evs_in_flight_lowest_quick(int64 *floor, bool *known)
{
	EvsShared  *shared = evs_shmem();
	EvsSharedDatabase *database = evs_shmem_database();
	EvsSharedFloor *places;
	bool		found = false;

	*known = false;
	if (database == NULL || shared->nfloors == 0)
		return false;
	places = evs_shmem_floors(shared);
	pg_memory_barrier();
	for (int i = 0; i < shared->nfloors; i++)
	{
		uint64		held = pg_atomic_read_u64(&places[i].floor);

		if (held == 0 || places[i].database != MyDatabaseId)
			continue;
		if (!found || (int64) held - 1 < *floor)
			*floor = (int64) held - 1;
		found = true;
	}
	pg_memory_barrier();
	*known = pg_atomic_read_u32(&database->prepared) == 0;
	return found;
}

/* Is anybody between setting "prepared" and handing its locks over? */
static bool
somebody_prepares(EvsShared *shared)
{
	for (int i = 0; i < shared->nfloors; i++)
		if (evs_shmem_floors(shared)[i].preparing)
			return true;
	return false;
}

bool
evs_in_flight_lowest_sure(int64 *floor)
{
	EvsSharedDatabase *database = evs_shmem_database();
	uint32		prepared = database != NULL ? pg_atomic_read_u32(&database->prepared) : 0;
	bool		may_reset = prepared != 0 && evs_shmem()->nfloors > 0;
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext,
												  "evstore lock scan",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);
	LockData   *locks;
	bool		found = false;

	pg_memory_barrier();
	may_reset = may_reset && !somebody_prepares(evs_shmem());
	pg_memory_barrier();
	locks = GetLockStatusData();
	for (int i = 0; i < locks->nelements; i++)
	{
		LockInstanceData *lock = &locks->locks[i];
		int64		held;

		if (lock->holdMask == 0 ||
			lock->locktag.locktag_type != LOCKTAG_ADVISORY ||
			lock->locktag.locktag_field4 != EVS_LOCK_IN_FLIGHT ||
			lock->locktag.locktag_field1 != MyDatabaseId)
			continue;
		held = (int64) (((uint64) lock->locktag.locktag_field2 << 32) |
						lock->locktag.locktag_field3);
		if (!found || held < *floor)
			*floor = held;
		found = true;
		if (lock->pid == 0)
			may_reset = false;
	}
	if (may_reset)
		(void) pg_atomic_compare_exchange_u32(&database->prepared, &prepared, 0);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	return found;
}
