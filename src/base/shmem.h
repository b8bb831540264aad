/*
 * shmem.h
 *	  What evstore's processes share: who is awake, who waits, what is safe.
 *
 * With shared_preload_libraries the area has room for everything.  Without,
 * a small one is taken from the server's spare shared memory at first use; it
 * has no floors (see stream/in_flight.c) and room for fewer databases.
 */
#ifndef EVSTORE_SHMEM_H
#define EVSTORE_SHMEM_H

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

/* Subscriptions that share a bucket are woken together. */
#define EVS_WAIT_BUCKETS 16

#define EVS_WORKER_ERROR_MAX 256

typedef enum EvsWorkerState
{
	EVS_WORKER_NONE,			/* never asked for */
	EVS_WORKER_STARTING,
	EVS_WORKER_RUNNING,
	EVS_WORKER_BACKING_OFF,		/* failed, or no process slot was free */
	EVS_WORKER_STOPPED,			/* by stop() */
	EVS_WORKER_NOT_ADOPTED,		/* the database is a copy */
	EVS_WORKER_NO_EXTENSION,
	EVS_WORKER_YIELDED,			/* somebody wants the database for itself */
	EVS_WORKER_EXCLUDED			/* by evstore.databases, or takes no sessions */
} EvsWorkerState;

/*
 * A place for a background worker.  The generation tells the process that was
 * started last from one of an earlier start that is late.
 */
typedef struct EvsWorkerSlot
{
	uint32		generation;
	EvsWorkerState state;
	int			pid;			/* 0 = no process */
	int			left_pid;		/* of the last one, which may still be ending; 0 = none */
	int			procno;
	int			failures;		/* in a row */
	TimestampTz started_at;
	TimestampTz retry_at;		/* when backing off */
	TimestampTz failed_at;		/* the last time, 0 = never */
	char		error[EVS_WORKER_ERROR_MAX];
} EvsWorkerSlot;

typedef struct EvsSharedDatabase
{
	Oid			oid;			/* InvalidOid = free; under the lock */
	bool		used;			/* by sessions of it; under the lock */
	bool		stop_wanted;	/* under the lock */
	bool		excluded;		/* likewise */
	bool		start_wanted;
	EvsWorkerSlot dispatcher;	/* under the lock */
	pg_atomic_uint32 touched;	/* something ended since the dispatcher looked */
	pg_atomic_uint32 departed;	/* a session that had claims has gone, or a worker come or gone */
	pg_atomic_uint32 prepared;	/* != 0: a prepared transaction may hold a floor */
	pg_atomic_uint32 store;		/* the sequence that safe belongs to */
	pg_atomic_uint64 safe;
	ConditionVariable state_changed;
	ConditionVariable buckets[EVS_WAIT_BUCKETS];	/* of those who wait for events */
	ConditionVariable standby[EVS_WAIT_BUCKETS];	/* of those who wait for a slot */
	ConditionVariable tasks[EVS_WAIT_BUCKETS];	/* of those who wait for tasks of sagas */
} EvsSharedDatabase;

/* What a worker of the pool runs. */
typedef enum EvsPoolKind
{
	EVS_POOL_PROJECTIONS,		/* all those of its owner */
	EVS_POOL_RELAY,				/* one of them */
	EVS_POOL_SAGAS				/* all those of its owner */
} EvsPoolKind;

/*
 * A worker for the projections, or the sagas, of one owner in one database, or for a
 * relay.  A free one has no database.  What is not atomic is under the lock.
 */
typedef struct EvsPoolSlot
{
	EvsWorkerSlot worker;
	Oid			database;
	Oid			owner;
	EvsPoolKind kind;
	int64		relay;			/* which; 0 for other kinds */
	bool		stop_wanted;
	pg_atomic_uint32 armed;		/* buckets that it sleeps for */
	pg_atomic_uint32 share;		/* place among the owner's workers << 16 | how many */
	pg_atomic_uint32 help_wanted;	/* look at what others should do, too */
	pg_atomic_uint64 busy_since;	/* in one batch; 0 = between batches */
} EvsPoolSlot;

/* An append in flight, by process number.  A cache line each. */
typedef struct EvsSharedFloor
{
	pg_atomic_uint64 floor;		/* plus one; 0 = none */
	Oid			database;
	bool		preparing;
	char		pad[PG_CACHE_LINE_SIZE - sizeof(pg_atomic_uint64) - sizeof(Oid) - sizeof(bool)];
} EvsSharedFloor;

typedef struct EvsShared
{
	LWLock		lock;
	int			tranche;
	bool		preloaded;
	EvsWorkerSlot launcher;		/* under the lock */
	pg_atomic_uint32 launcher_called;	/* it is to look around */
	int			nfloors;		/* 0 without preloading */
	int			npool;
	int			ndatabases;
	EvsSharedDatabase databases[FLEXIBLE_ARRAY_MEMBER];
} EvsShared;

/* In _PG_init(), when the library is being preloaded. */
extern void evs_shmem_init(void);

/* The area, or NULL if the server had no room for it. */
extern EvsShared *evs_shmem(void);

/* The floors, nfloors of them. */
extern EvsSharedFloor *evs_shmem_floors(EvsShared *shared);

/* Workers for projections, relays and sagas, npool of them. */
extern EvsPoolSlot *evs_shmem_pool(EvsShared *shared);

/* Wake those of a database that sleep for one of these buckets. */
extern void evs_shmem_wake_pool(const EvsSharedDatabase *database, uint32 buckets);

/* The buckets that any of them sleeps for. */
extern uint32 evs_shmem_pool_armed(const EvsSharedDatabase *database);

/* This database's part, or NULL if there is no area, or no room in it. */
extern EvsSharedDatabase *evs_shmem_database(void);

/* That of any database; made if wanted. */
extern EvsSharedDatabase *evs_shmem_find_database(Oid oid, bool create);

/* For databases that are gone; or unless sessions use the entry. */
extern void evs_shmem_free_database(Oid oid, bool gone);

/* Have the launcher look around, if there is one. */
extern void evs_shmem_call_launcher(void);

/* Set the latch of a process by its number, if it runs. */
extern void evs_shmem_set_latch(const EvsWorkerSlot *slot);

/* Wake who waits for the subscriptions of a bucket, for events or for a slot. */
extern void evs_shmem_wake_bucket(EvsSharedDatabase *database, int bucket);

/* Is anybody in the wait queue? */
extern bool evs_shmem_has_waiters(ConditionVariable *cv);

#endif							/* EVSTORE_SHMEM_H */
