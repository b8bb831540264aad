/*
 * visibility.c
 *	  Names of streams, and which of their events readers may still see.
 *
 * A stream's name never changes, so a backend keeps those it has met.  What
 * its lifecycle hides can change at any time and is looked up with the reader's
 * own snapshot, once a stream, through an index that has only the streams that
 * hide something; where there are none, not at all.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "catalog/catalog.h"
#include "catalog/scan.h"
#include "stream/version.h"
#include "stream/visibility.h"
#include "compat.h"

/* Names that a backend keeps; when there are more it starts anew. */
#define NAME_CACHE_SIZE 100000

/* Horizons that a reader keeps, likewise. */
#define HORIZON_CACHE_SIZE 50000

typedef struct CachedName
{
	int64		id;
	text	   *name;
} CachedName;

typedef struct KnownHorizon
{
	int64		id;
	EvsHorizon	horizon;
} KnownHorizon;

static HTAB *names = NULL;
static MemoryContext names_context = NULL;
static Oid	names_relid = InvalidOid;

/* Often the next event is of the same stream. */
static int64 last_id;
static text *last_name = NULL;

/* Ids are dense: any mixing will do, and this is done for each event read. */
static uint32
hash_id(const void *key, Size size)
{
	uint64		id = *(const uint64 *) key;

	return murmurhash32((uint32) id ^ (uint32) (id >> 32));
}

static void
reset_names(Oid relid)
{
	HASHCTL		ctl = {
		.keysize = sizeof(int64),
		.entrysize = sizeof(CachedName),
		.hash = hash_id,
	};

	if (names_context == NULL)
		names_context = AllocSetContextCreate(TopMemoryContext, "evstore stream names",
											  ALLOCSET_DEFAULT_SIZES);
	names = NULL;
	last_name = NULL;
	names_relid = InvalidOid;
	MemoryContextReset(names_context);
	ctl.hcxt = names_context;
	names = hash_create("evstore stream names", 1024, &ctl,
						HASH_ELEM | HASH_FUNCTION | HASH_CONTEXT);
	names_relid = relid;
}

/* Newest version that counts against max_count, and max_age from now. */
void
evs_horizon(Relation log, const EvsStream *stream, Snapshot snapshot, EvsHorizon *horizon)
{
	int64		position;

	horizon->first_version = stream->truncate_before;
	horizon->recorded_after = DT_NOBEGIN;
	if (stream->deleted || stream->tombstoned)
	{
		horizon->first_version = PG_INT64_MAX;
		return;
	}
	if (stream->max_count > 0)
	{
		int64		current = evs_version_current(log, stream, snapshot, &position);

		horizon->first_version = Max(horizon->first_version,
									 current - stream->max_count + 1);
	}
	if (stream->max_age != NULL)
		horizon->recorded_after =
			DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
													TimestampTzGetDatum(evs_clock_now()),
													IntervalPGetDatum(stream->max_age)));
}

/* Does any stream hide anything?  Few stores have none, but many readers see none. */
static bool
any_is_restricted(Relation streams, Snapshot snapshot)
{
	EvsScan		scan;
	bool		found;

	evs_scan_begin(&scan, streams, evs_catalog()->stream_restricted_idx, snapshot, 0, NULL,
				   ForwardScanDirection);
	found = evs_scan_next(&scan);
	evs_scan_end(&scan, AccessShareLock);
	return found;
}

static void
reset_restricted(EvsStreamReader *reader)
{
	HASHCTL		ctl = {
		.keysize = sizeof(int64),
		.entrysize = sizeof(KnownHorizon),
		.hash = hash_id,
		.hcxt = reader->context,
	};

	if (reader->restricted != NULL)
		hash_destroy(reader->restricted);
	reader->restricted = hash_create("evstore horizons", 256, &ctl,
									 HASH_ELEM | HASH_FUNCTION | HASH_CONTEXT);
}

void
evs_stream_reader_begin(EvsStreamReader *reader, Relation log, Relation streams,
						Snapshot snapshot)
{
	reader->log = log;
	reader->streams = streams;
	reader->snapshot = snapshot;
	reader->context = CurrentMemoryContext;
	reader->restricted = NULL;
	reader->none_restricted = !any_is_restricted(streams, snapshot);
	if (!reader->none_restricted)
		reset_restricted(reader);
}

/* Most streams are not in the index of those that hide something. */
static void
look_up_horizon(EvsStreamReader *reader, int64 stream_id, EvsHorizon *horizon)
{
	ScanKeyData key;
	EvsScan		scan;
	EvsStream	stream;
	bool		found;

	evs_key_int8(&key, 1, BTEqualStrategyNumber, stream_id);
	evs_scan_begin(&scan, reader->streams, evs_catalog()->stream_restricted_idx,
				   reader->snapshot, 1, &key, ForwardScanDirection);
	found = evs_scan_next(&scan);
	evs_scan_end(&scan, AccessShareLock);
	if (found && evs_stream_find_by_id(reader->streams, stream_id, reader->snapshot, &stream))
		evs_horizon(reader->log, &stream, reader->snapshot, horizon);
	else
	{
		horizon->first_version = PG_INT64_MIN;
		horizon->recorded_after = DT_NOBEGIN;
	}
}

text *
evs_stream_reader_name(EvsStreamReader *reader, int64 stream_id)
{
	CachedName *entry;
	EvsStream	stream;
	text	   *name;

	if (last_name != NULL && stream_id == last_id &&
		names_relid == RelationGetRelid(reader->streams))
		return last_name;
	if (names_relid != RelationGetRelid(reader->streams) ||
		hash_get_num_entries(names) >= NAME_CACHE_SIZE)
		reset_names(RelationGetRelid(reader->streams));

	entry = hash_search(names, &stream_id, HASH_FIND, NULL);
	if (likely(entry != NULL))
	{
		last_id = stream_id;
		last_name = entry->name;
		return entry->name;
	}

	if (!evs_stream_find_by_id(reader->streams, stream_id, reader->snapshot, &stream))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("stream " INT64_FORMAT " has events but no row", stream_id),
				 errhint("Run evstore.verify().")));
	name = (text *) MemoryContextAlloc(names_context, VARHDRSZ + strlen(stream.name));
	SET_VARSIZE(name, VARHDRSZ + strlen(stream.name));
	memcpy(VARDATA(name), stream.name, strlen(stream.name));
	entry = hash_search(names, &stream_id, HASH_ENTER, NULL);
	entry->name = name;
	return name;
}

bool
evs_stream_reader_hides(EvsStreamReader *reader, int64 stream_id, int64 version,
						TimestampTz recorded_at)
{
	KnownHorizon *known;

	if (likely(reader->none_restricted))
		return false;
	known = hash_search(reader->restricted, &stream_id, HASH_FIND, NULL);
	if (known == NULL)
	{
		EvsHorizon	horizon;

		look_up_horizon(reader, stream_id, &horizon);
		if (hash_get_num_entries(reader->restricted) >= HORIZON_CACHE_SIZE)
			reset_restricted(reader);
		known = hash_search(reader->restricted, &stream_id, HASH_ENTER, NULL);
		known->horizon = horizon;
	}
	return version < known->horizon.first_version ||
		recorded_at <= known->horizon.recorded_after;
}
