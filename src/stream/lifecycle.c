/*
 * lifecycle.c
 *	  Deleting, closing, truncating and scavenging streams.
 *
 * All but scavenging only changes the stream's row: readers honour it at
 * once.  Scavenging removes what no reader can see any more, always the oldest
 * events of a stream, so that versions stay contiguous, and remembers the
 * newest version it removed, so that numbering goes on.  Every change leaves a
 * row in evstore.audit.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/errors.h"
#include "catalog/catalog.h"
#include "catalog/scan.h"
#include "exec/heap_writer.h"
#include "exec/spi.h"
#include "stream/batch.h"
#include "stream/leaf.h"
#include "stream/lifecycle.h"
#include "stream/stream.h"
#include "stream/version.h"
#include "stream/visibility.h"
#include "compat.h"

typedef struct Change
{
	Relation	log;
	Relation	streams;
	EvsStream	stream;
	int64		current;
	int64		position;
} Change;

static void
audit(const char *action, const char *stream, const char *detail)
{
	Oid			types[] = {NAMEOID, TEXTOID, TEXTOID, JSONBOID};
	Datum		values[4];
	EvsSpi		spi;
	char	   *user = GetUserNameFromId(GetUserId(), false);

	values[0] = CStringGetDatum(user);
	values[0] = DirectFunctionCall1(namein, values[0]);
	values[1] = CStringGetTextDatum(action);
	values[2] = CStringGetTextDatum(stream);
	values[3] = DirectFunctionCall1(jsonb_in, CStringGetDatum(detail));
	evs_spi_begin(&spi, true);
	evs_spi_run_args("INSERT INTO evstore.audit (actor, action, stream, detail)"
					 " VALUES ($1, $2, $3, $4)",
					 4, types, values, NULL);
	evs_spi_end(&spi);
}

static void
begin_change(Change *change, const char *command, AclMode right)
{
	const EvsCatalog *catalog;

	PreventCommandIfReadOnly(command);
	PreventCommandIfParallelMode(command);
	evs_check_right(right);
	catalog = evs_catalog();
	change->log = evs_open(catalog->event_log, RowExclusiveLock);
	change->streams = evs_open(catalog->stream, RowExclusiveLock);
}

static void
end_change(Change *change)
{
	relation_close(change->streams, NoLock);
	relation_close(change->log, NoLock);
	CommandCounterIncrement();
}

static void
lock_stream(Change *change, const char *name)
{
	if (!evs_stream_lock(change->streams, name, &change->stream))
	{
		StringInfoData detail;

		evs_detail_begin(&detail);
		evs_detail_string(&detail, "stream", name);
		ereport(ERROR,
				(errcode(ERRCODE_EVS_STREAM_NOT_FOUND),
				 errmsg("stream \"%s\" does not exist", name),
				 errdetail_internal("%s", evs_detail_end(&detail))));
	}
	change->current = evs_version_current(change->log, &change->stream, SnapshotSelf,
												 &change->position);
}

static void
refuse_tombstoned(const Change *change)
{
	StringInfoData detail;

	if (!change->stream.tombstoned)
		return;
	evs_detail_begin(&detail);
	evs_detail_string(&detail, "stream", change->stream.name);
	evs_detail_bool(&detail, "tombstoned", true);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_STREAM_DELETED),
			 errmsg("stream \"%s\" is closed for ever", change->stream.name),
			 errdetail_internal("%s", evs_detail_end(&detail))));
}

static void
check_expected(const Change *change, int64 expected)
{
	int64		actual = change->stream.deleted ? -1 : change->current;
	StringInfoData detail;

	if (expected == EVS_ANY_VERSION || expected == actual ||
		(expected == EVS_STREAM_EXISTS && !change->stream.deleted))
		return;
	evs_detail_begin(&detail);
	evs_detail_string(&detail, "stream", change->stream.name);
	evs_detail_int(&detail, "expected", expected);
	evs_detail_int(&detail, "actual", actual);
	if (expected == EVS_STREAM_EXISTS)
	{
		evs_detail_bool(&detail, "tombstoned", false);
		ereport(ERROR,
				(errcode(ERRCODE_EVS_STREAM_DELETED),
				 errmsg("stream \"%s\" is deleted", change->stream.name),
				 errdetail_internal("%s", evs_detail_end(&detail))));
	}
	ereport(ERROR,
			(errcode(ERRCODE_EVS_WRONG_EXPECTED_VERSION),
			 errmsg("wrong expected version: " INT64_FORMAT " (stream: \"%s\", stream version: " INT64_FORMAT ")",
					expected, change->stream.name, actual),
			 errdetail_internal("%s", evs_detail_end(&detail))));
}

int64
evs_lifecycle_delete(const char *name, int64 expected)
{
	Change		change;

	begin_change(&change, "evstore delete_stream", ACL_UPDATE);
	lock_stream(&change, name);
	refuse_tombstoned(&change);
	check_expected(&change, expected);
	if (!change.stream.deleted)
	{
		change.stream.deleted = true;
		change.stream.truncate_before = change.current + 1;
		evs_stream_update(change.streams, &change.stream);
		audit("delete_stream", name, psprintf("{\"version\": " INT64_FORMAT "}", change.current));
	}
	end_change(&change);
	return change.current;
}

int64
evs_lifecycle_tombstone(const char *name, int64 expected, const char *reason)
{
	Change		change;
	StringInfoData detail;

	begin_change(&change, "evstore tombstone_stream", ACL_UPDATE);
	lock_stream(&change, name);
	refuse_tombstoned(&change);
	check_expected(&change, expected);
	change.stream.tombstoned = true;
	change.stream.truncate_before = change.current + 1;
	change.stream.tombstone_reason = reason != NULL ? pstrdup(reason) : NULL;
	evs_stream_update(change.streams, &change.stream);
	evs_detail_begin(&detail);
	evs_detail_int(&detail, "version", change.current);
	evs_detail_string(&detail, "reason", reason);
	audit("tombstone_stream", name, evs_detail_end(&detail));
	end_change(&change);
	return change.current;
}

int64
evs_lifecycle_truncate(const char *name, int64 before_version)
{
	Change		change;

	begin_change(&change, "evstore truncate_stream", ACL_UPDATE);
	lock_stream(&change, name);
	refuse_tombstoned(&change);
	before_version = Min(before_version, change.current + 1);
	if (before_version > change.stream.truncate_before)
	{
		change.stream.truncate_before = before_version;
		evs_stream_update(change.streams, &change.stream);
		audit("truncate_stream", name,
			  psprintf("{\"before_version\": " INT64_FORMAT "}", before_version));
	}
	end_change(&change);
	return change.stream.truncate_before;
}

static bool
is_zero_interval(const Interval *interval)
{
	return interval->time == 0 && interval->day == 0 && interval->month == 0;
}

void
evs_lifecycle_set(const char *name, int64 max_count, const Interval *max_age, Jsonb *metadata)
{
	Change		change;
	StringInfoData detail;

	begin_change(&change, "evstore set_stream", ACL_UPDATE);
	lock_stream(&change, name);
	refuse_tombstoned(&change);
	evs_detail_begin(&detail);
	if (max_count >= 0)
	{
		change.stream.max_count = max_count;
		evs_detail_int(&detail, "max_count", max_count);
	}
	if (max_age != NULL)
	{
		change.stream.max_age = is_zero_interval(max_age) ? NULL :
			unconstify(Interval *, max_age);
		evs_detail_string(&detail, "max_age",
						  DatumGetCString(DirectFunctionCall1(interval_out,
															  IntervalPGetDatum(unconstify(Interval *, max_age)))));
	}
	if (metadata != NULL)
	{
		change.stream.metadata = (struct varlena *) metadata;
		evs_detail_bool(&detail, "metadata", true);
	}
	evs_stream_update(change.streams, &change.stream);
	audit("set_stream", name, evs_detail_end(&detail));
	end_change(&change);
}

/* ---- scavenge ---- */

typedef struct Removed
{
	int64		first_version;
	int64		last_version;
	int64		events;
	int64		bytes;
} Removed;

/* Is this the first event that readers can still see? */
static bool
is_visible(EvsLeaf *leaf, TupleTableSlot *slot, const EvsHorizon *horizon)
{
	return evs_leaf_get_int8(leaf, slot, EVS_LOG_VERSION) >= horizon->first_version &&
		evs_leaf_get_int8(leaf, slot, EVS_LOG_RECORDED_AT) > horizon->recorded_after;
}

/* Remove the stream's oldest events of a leaf; true if one is left. */
static bool
scavenge_leaf(int64 stream_id, const EvsHorizon *horizon, Oid relid, Removed *removed)
{
	Relation	rel = evs_leaf_open(relid, RowExclusiveLock);
	bool		reached_visible = false;
	EvsLeaf    *leaf;
	EvsWriter  *writer;
	ScanKeyData key;
	EvsScan		scan;

	if (rel == NULL)
		return false;
	leaf = evs_leaf_describe(rel);
	writer = evs_writer_open(rel);
	evs_key_int8(&key, 1, BTEqualStrategyNumber, stream_id);
	evs_scan_begin(&scan, rel, leaf->version_index, SnapshotSelf, 1, &key,
				   ForwardScanDirection);
	while (evs_scan_next(&scan))
	{
		bool		isnull;
		int64		version = evs_leaf_get_int8(leaf, scan.slot, EVS_LOG_VERSION);

		CHECK_FOR_INTERRUPTS();
		if (is_visible(leaf, scan.slot, horizon))
		{
			reached_visible = true;
			break;
		}
		if (removed->events++ == 0)
			removed->first_version = version;
		removed->last_version = version;
		removed->bytes += toast_datum_size(evs_leaf_get(leaf, scan.slot, EVS_LOG_DATA, &isnull));
		removed->bytes += 100;
		evs_writer_delete(writer, &scan.slot->tts_tid);
	}
	evs_scan_end(&scan, AccessShareLock);
	evs_writer_close(writer);
	relation_close(rel, NoLock);
	return reached_visible;
}

/*
 * Snapshots of states at versions that readers can no longer see.  Who saves one
 * may hold its row and wait for the stream.
 */
static void
scavenge_snapshots(const EvsStream *stream, int64 first_version)
{
	static EvsSpiPlan plan = {
		.sql = "DELETE FROM evstore.snapshot n WHERE n.ctid = ANY (ARRAY("
		"SELECT x.ctid FROM evstore.snapshot x WHERE x.stream_id = $1 AND x.version < $2"
		" FOR UPDATE SKIP LOCKED))",
		.nargs = 2, .types = {INT8OID, INT8OID},
	};
	Datum		args[2] = {Int64GetDatum(stream->id), Int64GetDatum(first_version)};

	(void) evs_spi_call(&plan, args, NULL);
}

static void
scavenge_stream(Change *change, Removed *removed)
{
	EvsHorizon	horizon;
	int			nleaves;
	EvsLeafRange *leaves = evs_leaf_list(change->log, change->stream.last_leaf, &nleaves);

	memset(removed, 0, sizeof(Removed));
	evs_horizon(change->log, &change->stream, SnapshotSelf, &horizon);
	for (int i = 0; i < nleaves && leaves[i].lower <= change->stream.last_leaf; i++)
	{
		if (leaves[i].upper <= change->stream.first_position)
			continue;
		if (scavenge_leaf(change->stream.id, &horizon, leaves[i].relid, removed))
			break;
	}
	if (removed->events > 0)
	{
		change->stream.scavenged_version = removed->last_version;
		evs_stream_update(change->streams, &change->stream);
	}
	scavenge_snapshots(&change->stream,
					   Max(horizon.first_version, change->stream.scavenged_version + 1));
}

static int
compare_names(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

/*
 * Names of all streams that hide events, in the order in which all of evstore
 * locks several streams.
 */
static List *
restricted_streams(Change *change)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	List	   *names = NIL;
	EvsScan		scan;

	evs_scan_begin(&scan, change->streams, evs_catalog()->stream_restricted_idx, snapshot,
				   0, NULL, ForwardScanDirection);
	while (evs_scan_next(&scan))
	{
		bool		isnull;

		names = lappend(names,
						TextDatumGetCString(slot_getattr(scan.slot, Anum_stream_name, &isnull)));
	}
	evs_scan_end(&scan, AccessShareLock);
	UnregisterSnapshot(snapshot);
	list_sort(names, compare_names);
	return names;
}

void
evs_lifecycle_scavenge(ReturnSetInfo *result)
{
	Change		change;
	ListCell   *cell;
	int64		events = 0;
	int64		streams = 0;

	begin_change(&change, "evstore scavenge", ACL_DELETE);
	foreach(cell, restricted_streams(&change))
	{
		const char *name = lfirst(cell);
		Removed		removed;
		Datum		values[5];
		bool		nulls[5] = {false};

		if (!evs_stream_lock(change.streams, name, &change.stream))
			continue;
		scavenge_stream(&change, &removed);
		if (removed.events == 0)
			continue;
		streams++;
		events += removed.events;
		values[0] = CStringGetTextDatum(name);
		values[1] = Int64GetDatum(removed.first_version);
		values[2] = Int64GetDatum(removed.last_version);
		values[3] = Int64GetDatum(removed.events);
		values[4] = Int64GetDatum(removed.bytes);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	if (events > 0)
		audit("scavenge", "", psprintf("{\"streams\": " INT64_FORMAT ", \"events\": " INT64_FORMAT "}",
									   streams, events));
	end_change(&change);
}
