/*
 * aggregate.c
 *	  Aggregates: the state of a stream, by its category's transition function.
 *
 * All of a load is as of one snapshot in the sense of MVCC: the stream's row,
 * the snapshot (in the other sense) and the events after it.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "aggregate/aggregate.h"
#include "aggregate/fold.h"
#include "aggregate/snapshot.h"
#include "base/errors.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "stream/event.h"
#include "stream/read.h"
#include "stream/version.h"
#include "compat.h"

/* ---- definitions ---- */

bool
evs_aggregate_find(const char *stream, EvsAggregate *aggregate)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT a.initial, a.transition, a.state_version, a.unknown_event = 'error',"
		" pg_catalog.to_regprocedure(a.transition || '(pg_catalog.jsonb, evstore.event)')::oid"
		" FROM evstore.aggregate a WHERE a.category = $1",
		.nargs = 1, .types = {TEXTOID},
	};
	int			len = evs_category_length(stream);
	Datum		category = PointerGetDatum(cstring_to_text_with_len(stream, len));
	EvsSpiRows	rows = evs_spi_call(&plan, &category, NULL);

	if (rows.nrows == 0)
		return false;
	if (rows.nulls[4])
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("transition %s of aggregate \"%.*s\" does not exist",
						TextDatumGetCString(rows.values[1]), len, stream),
				 errhint("It must have the form f(state jsonb, event evstore.event) RETURNS jsonb; alter_aggregate() names another one.")));
	aggregate->category = pnstrdup(stream, len);
	aggregate->initial = DatumGetJsonbP(rows.values[0]);
	aggregate->state_version = DatumGetInt32(rows.values[2]);
	aggregate->unknown_is_error = DatumGetBool(rows.values[3]);
	aggregate->transition = DatumGetObjectId(rows.values[4]);
	return true;
}

void
evs_aggregate_get(const char *stream, EvsAggregate *aggregate)
{
	StringInfoData detail;
	char	   *category;

	if (evs_aggregate_find(stream, aggregate))
		return;
	category = pnstrdup(stream, evs_category_length(stream));
	evs_detail_begin(&detail);
	evs_detail_string(&detail, "aggregate", category);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_OBJECT_NOT_FOUND),
			 errmsg("aggregate \"%s\" does not exist", category),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 errhint("Define it with create_aggregate().")));
}

/* ---- load ---- */

typedef struct Load
{
	const EvsAggregate *aggregate;
	EvsStream	stream;
	Relation	log;
	Snapshot	snapshot;
	EvsFold    *fold;
	EvsAggregateState *result;
} Load;

static bool
fold_row(void *arg, EvsLeaf *leaf, TupleTableSlot *slot, text *stream)
{
	Load	   *load = arg;
	Datum		values[EVS_EVENT_NCOLUMNS];
	bool		nulls[EVS_EVENT_NCOLUMNS];

	evs_event_from_row(leaf, slot, PointerGetDatum(stream), values, nulls);
	evs_fold_columns(load->fold, values, nulls);
	load->result->version = DatumGetInt64(values[EVS_EVENT_VERSION]);
	load->result->events_read++;
	return false;
}

/*
 * Events at the stream's start that are gone are in the snapshots, but not in
 * one that another version of the transition has made.
 */
static void
refuse_lost_history(const Load *load, const EvsSnapshotKey *key, const EvsHorizon *horizon)
{
	EvsSnapshotKey any = *key;
	EvsSnapshotRow row;
	StringInfoData detail;

	any.state_version = EVS_ANY_STATE_VERSION;
	if (horizon->first_version == 0 ||
		!evs_snapshot_find(&any, horizon, load->snapshot, &row))
		return;
	evs_detail_begin(&detail);
	evs_detail_string(&detail, "stream", load->stream.name);
	evs_detail_int(&detail, "first_version", horizon->first_version);
	evs_detail_int(&detail, "state_version", load->aggregate->state_version);
	evs_detail_int(&detail, "snapshot_state_version", row.state_version);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("events of stream \"%s\" before version " INT64_FORMAT " are gone, and its snapshots have another state version",
					load->stream.name, horizon->first_version),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 errhint("Save a snapshot with the new state version, or prune_snapshots() to begin from the events that are left.")));
}

/* Where to begin: with a snapshot, or with the initial state. */
static Jsonb *
find_start(Load *load, int64 last_version, TimestampTz recorded_until)
{
	EvsSnapshotKey key = {
		.stream_id = load->stream.id,
		.state_version = load->aggregate->state_version,
		.max_version = last_version,
		.recorded_until = recorded_until,
	};
	EvsHorizon	horizon;
	EvsSnapshotRow row;

	evs_horizon(load->log, &load->stream, load->snapshot, &horizon);
	if (!evs_snapshot_find(&key, &horizon, load->snapshot, &row))
	{
		refuse_lost_history(load, &key, &horizon);
		return load->aggregate->initial;
	}
	load->result->version = load->result->snapshot_version = row.version;
	return row.state;
}

static void
load_existing(Load *load, int64 last_version, TimestampTz recorded_until)
{
	EvsAggregateState *result = load->result;
	Jsonb	   *start = find_start(load, last_version, recorded_until);
	EvsReadStream request = {
		.stream = load->stream.name,
		.has_from = true,
		.from_version = result->snapshot_version + 1,
		.max_count = EVS_READ_ALL,
		.has_end = true,
		.last_version = last_version,
		.recorded_until = recorded_until,
	};

	load->fold = evs_fold_begin(load->aggregate->transition, start,
								load->aggregate->unknown_is_error);
	evs_read_stream_rows(&request, load->snapshot, fold_row, load);
	result->state = (Jsonb *) pg_detoast_datum_copy((struct varlena *) evs_fold_state(load->fold));
	evs_fold_end(load->fold);

	/* all events may be gone: an append still needs to know the version */
	if (result->version < 0 && last_version == PG_INT64_MAX && recorded_until == DT_NOEND)
	{
		int64		position;

		result->version = evs_version_current(load->log, &load->stream, load->snapshot, &position);
	}
}

void
evs_aggregate_load_until(const char *stream, int64 last_version, TimestampTz recorded_until,
						 EvsAggregateState *result)
{
	EvsAggregate aggregate;
	Load		load = {.aggregate = &aggregate, .result = result};
	Relation	streams;

	evs_aggregate_get(stream, &aggregate);
	evs_fold_check(aggregate.transition);
	result->state = aggregate.initial;
	result->version = result->snapshot_version = -1;
	result->events_read = 0;

	load.log = evs_open(evs_catalog()->event_log, AccessShareLock);
	streams = evs_open(evs_catalog()->stream, AccessShareLock);
	load.snapshot = RegisterSnapshot(GetTransactionSnapshot());
	if (evs_stream_find(streams, stream, load.snapshot, &load.stream) &&
		!load.stream.deleted && !load.stream.tombstoned)
		load_existing(&load, last_version, recorded_until);
	UnregisterSnapshot(load.snapshot);
	relation_close(streams, AccessShareLock);
	relation_close(load.log, AccessShareLock);
}

void
evs_aggregate_load(const char *stream, EvsAggregateState *result)
{
	evs_aggregate_load_until(stream, PG_INT64_MAX, DT_NOEND, result);
}
