/*
 * shmem.c
 *	  What evstore's processes share: who is awake, who waits, what is safe.
 *
 * Locking: shared->lock protects which database has which entry, and the
 * worker slots.  Everything that the append path touches is atomic.  Entries do
 * not move, and are freed only for databases that are gone, so a session may
 * keep the pointer to its own.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/proclist.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/syscache.h"

#include "base/shmem.h"
#include "compat.h"

/* The number changes with the layout: builds that differ do not meet. */
#define AREA_NAME "evstore shared state 4"

#define MAX_DATABASES 256
#define MAX_DATABASES_SPARE 16

/* Workers for projections and relays in the whole cluster. */
#define POOL_SIZE 64
#define POOL_SIZE_SPARE 8

static EvsShared *area = NULL;
static bool tried = false;
static EvsSharedDatabase *my_database = NULL;
static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

static Size
floors_offset(int ndatabases)
{
	return CACHELINEALIGN(add_size(offsetof(EvsShared, databases),
								   mul_size(ndatabases, sizeof(EvsSharedDatabase))));
}

static Size
pool_offset(int ndatabases, int nfloors)
{
	return add_size(floors_offset(ndatabases), mul_size(nfloors, sizeof(EvsSharedFloor)));
}

static Size
area_size(int ndatabases, int nfloors, int npool)
{
	return add_size(pool_offset(ndatabases, nfloors), mul_size(npool, sizeof(EvsPoolSlot)));
}

EvsPoolSlot *
evs_shmem_pool(EvsShared *shared)
{
	return (EvsPoolSlot *) ((char *) shared + pool_offset(shared->ndatabases, shared->nfloors));
}

EvsSharedFloor *
evs_shmem_floors(EvsShared *shared)
{
	return (EvsSharedFloor *) ((char *) shared + floors_offset(shared->ndatabases));
}

static void
init_database(EvsSharedDatabase *database)
{
	/* values are set when a database gets the entry */
	pg_atomic_init_u32(&database->touched, 0);
	pg_atomic_init_u32(&database->departed, 0);
	pg_atomic_init_u32(&database->prepared, 0);
	pg_atomic_init_u32(&database->store, InvalidOid);
	pg_atomic_init_u64(&database->safe, 0);
	ConditionVariableInit(&database->state_changed);
	for (int i = 0; i < EVS_WAIT_BUCKETS; i++)
	{
		ConditionVariableInit(&database->buckets[i]);
		ConditionVariableInit(&database->standby[i]);
		ConditionVariableInit(&database->tasks[i]);
	}
}

static void
init_pool_slot(EvsPoolSlot *slot)
{
	pg_atomic_init_u32(&slot->armed, 0);
	pg_atomic_init_u32(&slot->share, 0);
	pg_atomic_init_u32(&slot->help_wanted, 0);
	pg_atomic_init_u64(&slot->busy_since, 0);
}

static void
init_area(int ndatabases, int nfloors, bool preloaded)
{
	int			npool = preloaded ? POOL_SIZE : POOL_SIZE_SPARE;

	memset(area, 0, area_size(ndatabases, nfloors, npool));
	area->tranche = LWLockNewTrancheId();
	LWLockInitialize(&area->lock, area->tranche);
	area->preloaded = preloaded;
	pg_atomic_init_u32(&area->launcher_called, 0);
	area->ndatabases = ndatabases;
	area->nfloors = nfloors;
	area->npool = npool;
	for (int i = 0; i < npool; i++)
		init_pool_slot(&evs_shmem_pool(area)[i]);
	for (int i = 0; i < ndatabases; i++)
		init_database(&area->databases[i]);
	for (int i = 0; i < nfloors; i++)
		pg_atomic_init_u64(&evs_shmem_floors(area)[i].floor, 0);
}

static void
attach(int ndatabases, int nfloors, bool preloaded)
{
	bool		found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	area = ShmemInitStruct(AREA_NAME,
						   area_size(ndatabases, nfloors,
									 preloaded ? POOL_SIZE : POOL_SIZE_SPARE),
						   &found);
	if (!found)
		init_area(ndatabases, nfloors, preloaded);
	LWLockRelease(AddinShmemInitLock);
	LWLockRegisterTranche(area->tranche, "evstore");
}

static void
request_shmem(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(area_size(MAX_DATABASES, MaxBackends, POOL_SIZE));
}

static void
startup_shmem(void)
{
	if (previous_startup_hook)
		previous_startup_hook();
	attach(MAX_DATABASES, MaxBackends, true);
}

void
evs_shmem_init(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}

/*
 * Not preloaded: the server leaves some shared memory to spare.  When that is
 * used up, evstore works without: who waits polls.
 */
static void
attach_spare(void)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		attach(MAX_DATABASES_SPARE, 0, false);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();		/* the error let them in again; releasing counts down */
		LWLockRelease(AddinShmemInitLock);
		MemoryContextSwitchTo(context);
		FlushErrorState();
		area = NULL;
	}
	PG_END_TRY();
}

EvsShared *
evs_shmem(void)
{
	if (unlikely(area == NULL && !tried && IsUnderPostmaster))
	{
		tried = true;
		attach_spare();
	}
	return area;
}

/* All but the generation: a process of an earlier one may still come. */
static void
init_slot(EvsWorkerSlot *slot)
{
	uint32		generation = slot->generation;

	memset(slot, 0, sizeof(EvsWorkerSlot));
	slot->generation = generation;
}

/* A free entry becomes that of a database. */
static void
assign(EvsSharedDatabase *entry, Oid oid)
{
	entry->oid = oid;
	entry->used = entry->excluded = false;
	entry->stop_wanted = entry->start_wanted = false;
	init_slot(&entry->dispatcher);
	pg_atomic_write_u32(&entry->touched, 0);
	pg_atomic_write_u32(&entry->departed, 0);
	/* nobody knows what was prepared before the server started */
	pg_atomic_write_u32(&entry->prepared, 1);
	pg_atomic_write_u32(&entry->store, InvalidOid);
	pg_atomic_write_u64(&entry->safe, 0);
}

EvsSharedDatabase *
evs_shmem_find_database(Oid oid, bool create)
{
	EvsSharedDatabase *free_entry = NULL;
	EvsSharedDatabase *result = NULL;

	if (evs_shmem() == NULL)
		return NULL;
	LWLockAcquire(&area->lock, create ? LW_EXCLUSIVE : LW_SHARED);
	for (int i = 0; i < area->ndatabases && result == NULL; i++)
	{
		if (area->databases[i].oid == oid)
			result = &area->databases[i];
		else if (area->databases[i].oid == InvalidOid && free_entry == NULL)
			free_entry = &area->databases[i];
	}
	if (result == NULL && create && free_entry != NULL)
	{
		result = free_entry;
		assign(result, oid);
	}
	LWLockRelease(&area->lock);
	return result;
}

/* No entry is free: give those of databases that are gone to others. */
static void
reclaim_entries(void)
{
	for (int i = 0; i < area->ndatabases; i++)
	{
		Oid			oid = area->databases[i].oid;

		if (OidIsValid(oid) && !SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(oid)))
			evs_shmem_free_database(oid, true);
	}
}

/* The entry of this database; looked for once. */
static EvsSharedDatabase *
find_my_database(void)
{
	static bool no_room = false;
	EvsSharedDatabase *database;

	if (no_room || evs_shmem() == NULL)
		return NULL;
	database = evs_shmem_find_database(MyDatabaseId, true);
	if (database == NULL && IsTransactionState())
	{
		reclaim_entries();
		database = evs_shmem_find_database(MyDatabaseId, true);
		no_room = database == NULL;
	}
	return database;
}

EvsSharedDatabase *
evs_shmem_database(void)
{
	EvsSharedDatabase *database;

	if (likely(my_database != NULL))
		return my_database;
	database = find_my_database();
	if (database == NULL)
		return NULL;
	LWLockAcquire(&area->lock, LW_EXCLUSIVE);
	database->used = true;
	/* the launcher may just have freed it */
	if (database->oid == MyDatabaseId)
		my_database = database;
	LWLockRelease(&area->lock);
	return my_database != NULL ? my_database : evs_shmem_database();
}

void
evs_shmem_free_database(Oid oid, bool gone)
{
	EvsSharedDatabase *database = evs_shmem_find_database(oid, false);

	if (database == NULL)
		return;
	LWLockAcquire(&area->lock, LW_EXCLUSIVE);
	if (database->oid == oid && database->dispatcher.pid == 0 && (gone || !database->used))
		database->oid = InvalidOid;
	LWLockRelease(&area->lock);
}

void
evs_shmem_call_launcher(void)
{
	pg_atomic_write_u32(&area->launcher_called, 1);
	evs_shmem_set_latch(&area->launcher);
}

/* A latch that is set for nothing does no harm. */
void
evs_shmem_set_latch(const EvsWorkerSlot *slot)
{
	if (slot->pid != 0)
		SetLatch(&ProcGlobal->allProcs[slot->procno].procLatch);
}

void
evs_shmem_wake_bucket(EvsSharedDatabase *database, int bucket)
{
	ConditionVariableBroadcast(&database->buckets[bucket]);
	ConditionVariableBroadcast(&database->standby[bucket]);
}

bool
evs_shmem_has_waiters(ConditionVariable *cv)
{
	bool		result;

	SpinLockAcquire(&cv->mutex);
	result = !proclist_is_empty(&cv->wakeup);
	SpinLockRelease(&cv->mutex);
	return result;
}

void
evs_shmem_wake_pool(const EvsSharedDatabase *database, uint32 buckets)
{
	EvsPoolSlot *pool = evs_shmem_pool(area);

	for (int i = 0; i < area->npool; i++)
		if (pool[i].database == database->oid &&
			(pg_atomic_read_u32(&pool[i].armed) & buckets) != 0)
			evs_shmem_set_latch(&pool[i].worker);
}

uint32
evs_shmem_pool_armed(const EvsSharedDatabase *database)
{
	EvsPoolSlot *pool = evs_shmem_pool(area);
	uint32		armed = 0;

	for (int i = 0; i < area->npool; i++)
		if (pool[i].database == database->oid)
			armed |= pg_atomic_read_u32(&pool[i].armed);
	return armed;
}
