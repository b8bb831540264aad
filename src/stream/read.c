/*
 * read.c
 *	  Reading events: of a stream, of the log, by id.
 *
 * Snapshots.  A stream is read with a snapshot as any SQL statement of a
 * volatile function would take it: the transaction's own appends are visible,
 * and REPEATABLE READ means what it says.  The log is read up to the safe
 * position, which is taken first, with a fresh snapshot, which is taken
 * second, at every isolation level: the other order would skip events.
 *
 * Results are materialised in a tuple store, which spills to disk beyond
 * work_mem: a stream of a million events does not have to fit in memory, and
 * the read is over, with its locks released, before the first row is used.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/stratnum.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/debug_point.h"
#include "catalog/catalog.h"
#include "catalog/scan.h"
#include "stream/cursor.h"
#include "stream/event.h"
#include "stream/leaf.h"
#include "stream/position.h"
#include "stream/read.h"
#include "stream/stream.h"
#include "stream/visibility.h"
#include "compat.h"

/* One read of a stream or of one event: relations, snapshot, and where rows go. */
typedef struct ReadState
{
	Relation	log;
	Relation	streams;
	Snapshot	snapshot;
	EvsStreamReader reader;
	EvsTakeRow	take;
	void	   *take_arg;
	int64		remaining;		/* rows still wanted, or EVS_READ_ALL */
	EvsLeafRange *leaves;
	int			nleaves;
} ReadState;

static void
begin_read(ReadState *state, int64 up_to, int64 max_count, Snapshot snapshot,
		   EvsTakeRow take, void *arg)
{
	const EvsCatalog *catalog = evs_catalog();

	state->log = evs_open(catalog->event_log, AccessShareLock);
	state->streams = evs_open(catalog->stream, AccessShareLock);
	state->snapshot = RegisterSnapshot(snapshot);
	state->take = take;
	state->take_arg = arg;
	state->remaining = max_count;
	state->leaves = evs_leaf_list(state->log, up_to, &state->nleaves);
}

static void
end_read(ReadState *state)
{
	UnregisterSnapshot(state->snapshot);
	relation_close(state->streams, AccessShareLock);
	relation_close(state->log, AccessShareLock);
}

static bool
is_full(const ReadState *state)
{
	return state->remaining == 0;
}

/* Give out a row. */
static bool
emit(void *arg, EvsLeaf *leaf, TupleTableSlot *slot, text *name)
{
	ReturnSetInfo *result = arg;
	Datum		values[EVS_EVENT_NCOLUMNS];
	bool		nulls[EVS_EVENT_NCOLUMNS];

	evs_event_from_row(leaf, slot, PointerGetDatum(name), values, nulls);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	return evs_event_has_external(values, nulls);
}

/* ---- a stream ---- */

typedef struct StreamScan
{
	EvsStream	stream;
	EvsHorizon	horizon;
	text	   *name;
	int64		from;
	bool		backward;
	int64		last_version;
	TimestampTz recorded_until;
} StreamScan;

static void
scan_stream_leaf(ReadState *state, const StreamScan *scan, Oid relid)
{
	Relation	rel = evs_leaf_open(relid, AccessShareLock);
	bool		keep_lock = false;
	EvsLeaf    *leaf;
	ScanKeyData keys[2];
	EvsScan		index;

	if (rel == NULL)
		return;
	leaf = evs_leaf_describe(rel);
	evs_key_int8(&keys[0], 1, BTEqualStrategyNumber, scan->stream.id);
	evs_key_int8(&keys[1], 2,
				 scan->backward ? BTLessEqualStrategyNumber : BTGreaterEqualStrategyNumber,
				 scan->from);
	evs_scan_begin(&index, rel, leaf->version_index, state->snapshot, 2, keys,
				   scan->backward ? BackwardScanDirection : ForwardScanDirection);
	while (!is_full(state) && evs_scan_next(&index))
	{
		CHECK_FOR_INTERRUPTS();
		if (evs_leaf_get_int8(leaf, index.slot, EVS_LOG_VERSION) < scan->horizon.first_version)
			break;				/* only when reading backward */
		if (evs_leaf_get_int8(leaf, index.slot, EVS_LOG_RECORDED_AT) <=
			scan->horizon.recorded_after)
			continue;
		if (evs_leaf_get_int8(leaf, index.slot, EVS_LOG_VERSION) > scan->last_version ||
			evs_leaf_get_int8(leaf, index.slot, EVS_LOG_RECORDED_AT) > scan->recorded_until)
		{
			state->remaining = 0;
			break;
		}
		keep_lock |= state->take(state->take_arg, leaf, index.slot, scan->name);
		if (state->remaining > 0)
			state->remaining--;
	}
	evs_scan_end(&index, AccessShareLock);
	relation_close(rel, keep_lock ? NoLock : AccessShareLock);
}

/* Does the leaf have a version of the stream at or below this one? */
static bool
leaf_has_version_up_to(ReadState *state, int64 stream_id, int64 version, Oid relid)
{
	Relation	rel = evs_leaf_open(relid, AccessShareLock);
	ScanKeyData keys[2];
	EvsScan		index;
	bool		found;

	if (rel == NULL)
		return false;
	evs_key_int8(&keys[0], 1, BTEqualStrategyNumber, stream_id);
	evs_key_int8(&keys[1], 2, BTLessEqualStrategyNumber, version);
	evs_scan_begin(&index, rel, evs_leaf_describe(rel)->version_index, state->snapshot, 2,
				   keys, BackwardScanDirection);
	found = evs_scan_next(&index);
	evs_scan_end(&index, AccessShareLock);
	relation_close(rel, AccessShareLock);
	return found;
}

/*
 * Forward from a version: the end of a long stream is read most, so look for
 * the leaf to begin with from the newest one back.
 */
static void
scan_stream_forward(ReadState *state, const StreamScan *scan, int first, int last)
{
	int			start = first;

	if (scan->from > 0)
	{
		start = last;
		while (start > first &&
			   !leaf_has_version_up_to(state, scan->stream.id, scan->from,
									   state->leaves[start].relid))
			start--;
	}
	for (int i = start; i <= last && !is_full(state); i++)
		scan_stream_leaf(state, scan, state->leaves[i].relid);
}

static void
scan_stream_backward(ReadState *state, const StreamScan *scan, int first, int last)
{
	for (int i = last; i >= first && !is_full(state); i--)
		scan_stream_leaf(state, scan, state->leaves[i].relid);
}

/* The leaves that the stream has events in lie in [*first, *last]. */
static bool
leaves_of_stream(const ReadState *state, const EvsStream *stream, int *first, int *last)
{
	*first = -1;
	*last = -1;
	for (int i = 0; i < state->nleaves; i++)
	{
		if (*first < 0 && stream->first_position < state->leaves[i].upper)
			*first = i;
		if (state->leaves[i].lower <= stream->last_leaf)
			*last = i;
	}
	return *first >= 0 && *last >= *first;
}

void
evs_read_stream_rows(const EvsReadStream *request, const EvsStream *stream,
					 const EvsHorizon *horizon, Snapshot snapshot, EvsTakeRow take, void *arg)
{
	ReadState	state;
	StreamScan	scan = {
		.stream = *stream,
		.horizon = *horizon,
		.name = cstring_to_text(request->stream),
		.backward = request->backward,
		.last_version = request->has_end ? request->last_version : PG_INT64_MAX,
		.recorded_until = request->has_end ? request->recorded_until : DT_NOEND,
	};
	int			first;
	int			last;

	begin_read(&state, stream->last_leaf, request->max_count, snapshot, take, arg);
	if (request->backward)
		scan.from = request->has_from ? request->from_version : PG_INT64_MAX;
	else
		scan.from = Max(request->has_from ? request->from_version : 0, horizon->first_version);
	if (leaves_of_stream(&state, stream, &first, &last))
	{
		if (request->backward)
			scan_stream_backward(&state, &scan, first, last);
		else
			scan_stream_forward(&state, &scan, first, last);
	}
	end_read(&state);
}

void
evs_read_stream_events(const EvsReadStream *request, ReturnSetInfo *result)
{
	Relation	log = evs_open(evs_catalog()->event_log, AccessShareLock);
	Relation	streams = evs_open(evs_catalog()->stream, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	EvsStream	stream;
	EvsHorizon	horizon;

	if (evs_stream_find(streams, request->stream, snapshot, &stream))
	{
		evs_horizon(log, &stream, snapshot, &horizon);
		evs_read_stream_rows(request, &stream, &horizon, snapshot, emit, result);
	}
	UnregisterSnapshot(snapshot);
	relation_close(streams, AccessShareLock);
	relation_close(log, AccessShareLock);
}

/* ---- the log ---- */

/* Bounds of a range are positions, after is where the reader has been. */
static void
set_bounds(const EvsReadLog *request, int64 safe, EvsLogRange *range)
{
	range->after = PG_INT64_MIN;
	range->up_to = safe;
	if (!request->has_after)
		return;
	if (!request->backward)
		range->after = request->after;
	else if (request->after <= safe)
		range->up_to = request->after - 1;
}

void
evs_read_log(const EvsReadLog *request, ReturnSetInfo *result)
{
	/* The safe position first, the snapshot second. */
	int64		safe = evs_position_safe();
	int64		remaining = request->max_count;
	EvsLogRange range = {
		.backward = request->backward,
		.filter = request->filter,
		.category = request->category,
		.correlation_id = request->correlation_id,
	};
	EvsLogCursor *cursor;

	EVS_DEBUG_POINT("safe_position_read");
	set_bounds(request, safe, &range);
	cursor = evs_cursor_open(&range, GetLatestSnapshot());
	while (remaining != 0 && evs_cursor_next(cursor))
	{
		if (emit(result, evs_cursor_leaf(cursor), evs_cursor_slot(cursor),
				 evs_cursor_stream_name(cursor)))
			evs_cursor_keep(cursor);
		if (remaining > 0)
			remaining--;
	}
	evs_cursor_close(cursor);
}

/* ---- one event ---- */

static bool
find_event_in_leaf(ReadState *state, const pg_uuid_t *id, Oid relid)
{
	Relation	rel = evs_leaf_open(relid, AccessShareLock);
	bool		keep_lock = false;
	bool		found;
	EvsLeaf    *leaf;
	ScanKeyData key;
	EvsScan		index;

	if (rel == NULL)
		return false;
	leaf = evs_leaf_describe(rel);
	evs_key_uuid(&key, 1, UUIDPGetDatum(id));
	evs_scan_begin(&index, rel, leaf->event_id_index, state->snapshot, 1, &key,
				   ForwardScanDirection);
	found = evs_scan_next(&index);
	if (found)
	{
		int64		stream_id = evs_leaf_get_int8(leaf, index.slot, EVS_LOG_STREAM_ID);

		if (!evs_stream_reader_hides(&state->reader, stream_id,
									 evs_leaf_get_int8(leaf, index.slot, EVS_LOG_VERSION),
									 evs_leaf_get_int8(leaf, index.slot, EVS_LOG_RECORDED_AT)))
			keep_lock = state->take(state->take_arg, leaf, index.slot,
									evs_stream_reader_name(&state->reader, stream_id));
	}
	evs_scan_end(&index, AccessShareLock);
	relation_close(rel, keep_lock ? NoLock : AccessShareLock);
	return found;
}

void
evs_read_one_event(const pg_uuid_t *id, ReturnSetInfo *result)
{
	ReadState	state;
	bool		found = false;

	begin_read(&state, PG_INT64_MAX, 1, GetTransactionSnapshot(), emit, result);
	evs_stream_reader_begin(&state.reader, state.log, state.streams, state.snapshot);
	for (int i = state.nleaves - 1; i >= 0 && !found; i--)
	{
		CHECK_FOR_INTERRUPTS();
		found = find_event_in_leaf(&state, id, state.leaves[i].relid);
	}
	end_read(&state);
}
