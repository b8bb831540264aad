/*
 * stream.c
 *	  A row of evstore.stream: find, lock, create, change.
 *
 * An appender looks at streams with SnapshotSelf, the latest committed state
 * plus its own changes, at every isolation level.  A transaction snapshot
 * would miss versions that were committed since and end in a unique
 * violation; a fresh MVCC snapshot would take predicate locks under
 * SERIALIZABLE (false conflicts between disjoint streams) and not see the
 * rows of its own command.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/debug_point.h"
#include "base/errors.h"
#include "catalog/catalog.h"
#include "catalog/scan.h"
#include "exec/heap_writer.h"
#include "stream/stream.h"
#include "compat.h"

char *
evs_stream_check_name(struct varlena *name, const char *argument)
{
	char	   *s;
	int			len;

	if (name == NULL)
		evs_throw_null(argument);
	s = text_to_cstring((text *) name);
	len = strlen(s);
	if (len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be empty", argument)));
	if (len > EVS_STREAM_NAME_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" is too long", argument),
				 errdetail("The name of a stream has %d bytes; at most %d are allowed.",
						   len, EVS_STREAM_NAME_MAX)));
	for (int i = 0; i < len; i++)
		if ((unsigned char) s[i] < 0x20 || s[i] == 0x7f)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"%s\" contains a control character", argument),
					 errdetail("Byte %d of the name is 0x%02x.", i + 1, (unsigned char) s[i])));
	return s;
}

int
evs_category_length(const char *name)
{
	const char *dash = strchr(name, '-');

	return dash != NULL ? dash - name : (int) strlen(name);
}

/*
 * FNV-1a, 32 bits.  It is stored, so it must be the same on every platform and
 * in every release.  Readers compare the category's name as well, so that a
 * collision costs a few rows read in vain and nothing else.
 */
int32
evs_category_hash(const char *category, int len)
{
	uint32		hash = 2166136261U;

	for (int i = 0; i < len; i++)
		hash = (hash ^ (unsigned char) category[i]) * 16777619U;
	return (int32) hash;
}

static void
read_row(TupleTableSlot *slot, EvsStream *stream)
{
	slot_getallattrs(slot);
#define VALUE(col) slot->tts_values[Anum_stream_##col - 1]
#define ISNULL(col) slot->tts_isnull[Anum_stream_##col - 1]
	stream->id = DatumGetInt64(VALUE(id));
	stream->first_position = DatumGetInt64(VALUE(first_position));
	stream->last_leaf = DatumGetInt64(VALUE(last_leaf));
	stream->truncate_before = DatumGetInt64(VALUE(truncate_before));
	stream->scavenged_version = DatumGetInt64(VALUE(scavenged_version));
	stream->created_at = DatumGetTimestampTz(VALUE(created_at));
	stream->deleted = DatumGetBool(VALUE(deleted));
	stream->tombstoned = DatumGetBool(VALUE(tombstoned));
	stream->restricted = DatumGetBool(VALUE(restricted));
	stream->name = TextDatumGetCString(VALUE(name));
	stream->max_count = ISNULL(max_count) ? 0 : DatumGetInt64(VALUE(max_count));
	stream->max_age = NULL;
	if (!ISNULL(max_age))
	{
		stream->max_age = palloc(sizeof(Interval));
		*stream->max_age = *DatumGetIntervalP(VALUE(max_age));
	}
	stream->metadata = ISNULL(metadata) ? NULL :
		PG_DETOAST_DATUM_COPY(VALUE(metadata));
	stream->tombstone_reason = ISNULL(tombstone_reason) ? NULL :
		TextDatumGetCString(VALUE(tombstone_reason));
	stream->begun_version = ISNULL(begun_version) ? 0 : DatumGetInt64(VALUE(begun_version));
	stream->tid = slot->tts_tid;
#undef VALUE
#undef ISNULL
}

static void
fill_row(const EvsStream *stream, TupleTableSlot *slot)
{
	ExecClearTuple(slot);
	memset(slot->tts_isnull, false, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	/* columns that a later release may have added take their null */
	for (int i = Natts_stream; i < slot->tts_tupleDescriptor->natts; i++)
		slot->tts_isnull[i] = true;
#define SET(col, datum) slot->tts_values[Anum_stream_##col - 1] = (datum)
#define SET_OR_NULL(col, given, datum) \
	do { \
		if (given) \
			SET(col, datum); \
		else \
			slot->tts_isnull[Anum_stream_##col - 1] = true; \
	} while (0)
	SET(id, Int64GetDatum(stream->id));
	SET(first_position, Int64GetDatum(stream->first_position));
	SET(last_leaf, Int64GetDatum(stream->last_leaf));
	SET(truncate_before, Int64GetDatum(stream->truncate_before));
	SET(scavenged_version, Int64GetDatum(stream->scavenged_version));
	SET(created_at, TimestampTzGetDatum(stream->created_at));
	SET(deleted, BoolGetDatum(stream->deleted));
	SET(tombstoned, BoolGetDatum(stream->tombstoned));
	SET(restricted, BoolGetDatum(stream->deleted || stream->tombstoned ||
								 stream->truncate_before > 0 ||
								 stream->max_count > 0 || stream->max_age != NULL));
	SET(name, CStringGetTextDatum(stream->name));
	SET_OR_NULL(max_count, stream->max_count > 0, Int64GetDatum(stream->max_count));
	SET_OR_NULL(max_age, stream->max_age != NULL, IntervalPGetDatum(stream->max_age));
	SET_OR_NULL(metadata, stream->metadata != NULL, PointerGetDatum(stream->metadata));
	SET_OR_NULL(tombstone_reason, stream->tombstone_reason != NULL,
				CStringGetTextDatum(stream->tombstone_reason));
	SET_OR_NULL(begun_version, stream->begun_version > 0, Int64GetDatum(stream->begun_version));
#undef SET
#undef SET_OR_NULL
	ExecStoreVirtualTuple(slot);
}

static bool
find_one(Relation rel, Oid index, ScanKey key, Snapshot snapshot, EvsStream *stream)
{
	EvsScan		scan;
	bool		found;

	evs_scan_begin(&scan, rel, index, snapshot, 1, key, ForwardScanDirection);
	found = evs_scan_next(&scan);
	if (found)
		read_row(scan.slot, stream);
	evs_scan_end(&scan, AccessShareLock);
	return found;
}

bool
evs_stream_find(Relation rel, const char *name, Snapshot snapshot, EvsStream *stream)
{
	ScanKeyData key;

	evs_key_text(&key, 1, BTEqualStrategyNumber, CStringGetTextDatum(name));
	return find_one(rel, evs_catalog()->stream_name_key, &key, snapshot, stream);
}

bool
evs_stream_find_by_id(Relation rel, int64 id, Snapshot snapshot, EvsStream *stream)
{
	ScanKeyData key;

	evs_key_int8(&key, 1, BTEqualStrategyNumber, id);
	return find_one(rel, evs_catalog()->stream_pkey, &key, snapshot, stream);
}

typedef enum LockResult
{
	STREAM_LOCKED,
	STREAM_MISSING,
	STREAM_CHANGED				/* look again */
} LockResult;

/* Lock the newest version of the row that a scan has found. */
static LockResult
lock_found(Relation rel, EvsScan *scan, const char *name)
{
	TM_FailureData failure;
	TM_Result	result = table_tuple_lock(rel, &scan->slot->tts_tid, SnapshotAny, scan->slot,
										  GetCurrentCommandId(false),
										  LockTupleNoKeyExclusive, LockWaitBlock,
										  TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);

	switch (result)
	{
		case TM_Ok:
			return STREAM_LOCKED;
		case TM_Invisible:
		case TM_SelfModified:
			/* made or changed by this very command: the row is ours */
			return scan->desc->xs_snapshot == SnapshotAny ? STREAM_MISSING : STREAM_LOCKED;
		case TM_Updated:
		case TM_Deleted:
			return scan->desc->xs_snapshot == SnapshotAny ? STREAM_MISSING : STREAM_CHANGED;
		default:
			elog(ERROR, "unexpected result %d of locking stream \"%s\"", result, name);
	}
	return STREAM_MISSING;
}

static LockResult
lock_seen(Relation rel, const char *name, Snapshot snapshot, EvsStream *stream)
{
	LockResult	result = STREAM_MISSING;
	ScanKeyData key;
	EvsScan		scan;

	evs_key_text(&key, 1, BTEqualStrategyNumber, CStringGetTextDatum(name));
	evs_scan_begin(&scan, rel, evs_catalog()->stream_name_key, snapshot, 1, &key,
				   ForwardScanDirection);
	while (result == STREAM_MISSING && evs_scan_next_at(&scan, "evstore.stream_indexed"))
	{
		EVS_DEBUG_POINT("stream_found");
		result = lock_found(rel, &scan, name);
	}
	if (result == STREAM_LOCKED)
		read_row(scan.slot, stream);
	evs_scan_end(&scan, NoLock);
	return result;
}

bool
evs_stream_lock(Relation rel, const char *name, EvsStream *stream)
{
	LockResult	result;

	do
	{
		CHECK_FOR_INTERRUPTS();
		result = lock_seen(rel, name, SnapshotSelf, stream);
		/*
		 * A row that is given a new version between the index and the heap has
		 * none that it sees.  The old one is still there, and leads to the new.
		 */
		if (result == STREAM_MISSING)
			result = lock_seen(rel, name, SnapshotAny, stream);
	} while (result == STREAM_CHANGED);
	return result == STREAM_LOCKED;
}

void
evs_stream_init(EvsStream *stream, const char *name)
{
	memset(stream, 0, sizeof(EvsStream));
	stream->id = nextval_internal(evs_catalog()->stream_id_seq, false);
	stream->scavenged_version = -1;
	stream->created_at = evs_clock_now();
	stream->name = pstrdup(name);
}

bool
evs_stream_name_is_free(Relation rel, EvsStream *stream)
{
	EvsWriter  *writer = evs_writer_open(rel);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	bool		is_free;

	fill_row(stream, slot);
	is_free = evs_writer_key_is_free(writer, slot, evs_catalog()->stream_name_key);
	ExecDropSingleTupleTableSlot(slot);
	evs_writer_close(writer);
	return is_free;
}

bool
evs_stream_create(Relation rel, EvsStream *stream)
{
	EvsWriter  *writer = evs_writer_open(rel);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	bool		created;

	fill_row(stream, slot);
	created = evs_writer_insert_if_free(writer, slot, evs_catalog()->stream_name_key);
	stream->tid = slot->tts_tid;
	ExecDropSingleTupleTableSlot(slot);
	evs_writer_close(writer);
	return created;
}

void
evs_stream_update(Relation rel, EvsStream *stream)
{
	EvsWriter  *writer = evs_writer_open(rel);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	fill_row(stream, slot);
	evs_writer_update(writer, &stream->tid, slot);
	stream->tid = slot->tts_tid;
	ExecDropSingleTupleTableSlot(slot);
	evs_writer_close(writer);
}
