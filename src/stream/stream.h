/*
 * stream.h
 *	  A row of evstore.stream: find, lock, create, change.
 */
#ifndef EVSTORE_STREAM_H
#define EVSTORE_STREAM_H

#include "datatype/timestamp.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* Longest name of a stream, in bytes. */
#define EVS_STREAM_NAME_MAX 512

/* Columns of evstore.stream; a test compares them with the catalog. */
enum
{
	Anum_stream_id = 1,
	Anum_stream_first_position,
	Anum_stream_last_leaf,
	Anum_stream_truncate_before,
	Anum_stream_scavenged_version,
	Anum_stream_created_at,
	Anum_stream_deleted,
	Anum_stream_tombstoned,
	Anum_stream_restricted,
	Anum_stream_name,
	Anum_stream_max_count,
	Anum_stream_max_age,
	Anum_stream_metadata,
	Anum_stream_tombstone_reason,
	Anum_stream_begun_version,
	Natts_stream = Anum_stream_begun_version
};

typedef struct EvsStream
{
	int64		id;
	int64		first_position;
	int64		last_leaf;		/* lower bound of the newest leaf with events of it */
	int64		truncate_before;	/* lower versions are gone for readers */
	int64		scavenged_version;	/* newest version that was removed, or -1 */
	TimestampTz created_at;
	bool		deleted;
	bool		tombstoned;
	bool		restricted;		/* any of the lifecycle columns hides events */
	char	   *name;
	int64		max_count;		/* 0 = no limit */
	Interval   *max_age;		/* NULL = no limit */
	struct varlena *metadata;	/* jsonb or NULL */
	char	   *tombstone_reason;	/* or NULL */
	int64		begun_version;	/* its first one since it was deleted, or 0 */
	ItemPointerData tid;
} EvsStream;

/* Throw unless the name can be that of a stream. */
extern char *evs_stream_check_name(struct varlena *name, const char *argument);

/* Stable 32-bit hash of the stream's category: its name up to the first '-'. */
extern int32 evs_category_hash(const char *category, int len);
extern int	evs_category_length(const char *name);

/* Find by name or id with the given snapshot. */
extern bool evs_stream_find(Relation rel, const char *name, Snapshot snapshot, EvsStream *stream);
extern bool evs_stream_find_by_id(Relation rel, int64 id, Snapshot snapshot, EvsStream *stream);

/*
 * Find the newest version of the row, wait for who holds it, and lock it to
 * the end of the transaction, at every isolation level.  false: no such stream.
 */
extern bool evs_stream_lock(Relation rel, const char *name, EvsStream *stream);

/* A new stream, not stored yet: id drawn, defaults filled in. */
extern void evs_stream_init(EvsStream *stream, const char *name);

/*
 * Creating takes two steps, since positions must be drawn after the last
 * thing that can wait.  evs_stream_name_is_free() waits for transactions that
 * are creating the same stream; false: it exists now.  evs_stream_create()
 * returns false if another one was quicker after all.
 */
extern bool evs_stream_name_is_free(Relation rel, EvsStream *stream);
extern bool evs_stream_create(Relation rel, EvsStream *stream);

/* Store the changed row, which the caller has locked. */
extern void evs_stream_update(Relation rel, EvsStream *stream);

#endif							/* EVSTORE_STREAM_H */
