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
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "aggregate/aggregate.h"
#include "aggregate/fold.h"
#include "aggregate/snapshot.h"
#include "base/clock.h"
#include "base/errors.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "stream/batch.h"
#include "stream/event.h"
#include "stream/read.h"
#include "stream/version.h"
#include "compat.h"

/* ---- definitions ---- */

/*
 * A session keeps the definitions that it has used.  A trigger on
 * evstore.aggregate, and any change of a function, make it look again.
 */
static uint64 version = 1;
static uint64 cached_version = 0;
static Oid	known_relid = InvalidOid;	/* of evstore.aggregate */
static MemoryContext cache_context = NULL;
static List *cache = NIL;

static void
invalidate_relation(Oid relid)
{
	if (relid == InvalidOid || relid == known_relid || !OidIsValid(known_relid))
		version++;
}

static void
invalidate_function(Datum arg, int cache_id, uint32 hash)
{
	version++;
}

static void
listen_for_changes(void)
{
	static bool listening = false;

	if (listening)
		return;
	evs_catalog_on_invalidate(invalidate_relation);
	CacheRegisterSyscacheCallback(PROCOID, invalidate_function, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, invalidate_function, (Datum) 0);
	cache_context = AllocSetContextCreate(TopMemoryContext, "evstore aggregates",
										  ALLOCSET_SMALL_SIZES);
	listening = true;
}

/* In the current memory context; NULL if there is none. */
static EvsAggregate *
look_up(const char *category)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT a.initial, a.transition, a.state_version, a.unknown_event = 'error',"
		" a.lost_events = 'error', a.transitions IS NOT NULL,"
		" pg_catalog.to_regprocedure(a.transition || '(pg_catalog.jsonb, evstore.event)')::oid"
		" FROM evstore.aggregate a WHERE a.category = $1",
		.nargs = 1, .types = {TEXTOID},
	};
	Datum		arg = CStringGetTextDatum(category);
	/* what is kept must not be as of the transaction's snapshot */
	EvsSpiRows	rows = evs_spi_call_latest(&plan, &arg, NULL);
	EvsAggregate *result;

	if (rows.nrows == 0)
		return NULL;
	result = palloc0(sizeof(EvsAggregate));
	result->category = pstrdup(category);
	result->initial = DatumGetJsonbPCopy(rows.values[0]);
	result->transition_name = TextDatumGetCString(rows.values[1]);
	result->state_version = DatumGetInt32(rows.values[2]);
	result->unknown_is_error = DatumGetBool(rows.values[3]);
	result->lost_is_error = DatumGetBool(rows.values[4]);
	result->guarded = DatumGetBool(rows.values[5]);
	result->transition = rows.nulls[6] ? InvalidOid : DatumGetObjectId(rows.values[6]);
	return result;
}

/* A copy, since a transition may have the cache looked at again. */
static void
copy_definition(const EvsAggregate *from, EvsAggregate *to)
{
	*to = *from;
	to->category = pstrdup(from->category);
	to->transition_name = pstrdup(from->transition_name);
	to->initial = (Jsonb *) pg_detoast_datum_copy((struct varlena *) from->initial);
}

static EvsAggregate *
find_cached(const char *category)
{
	ListCell   *cell;

	if (cached_version != version)
	{
		cache = NIL;
		MemoryContextReset(cache_context);
		return NULL;
	}
	foreach(cell, cache)
		if (strcmp(((EvsAggregate *) lfirst(cell))->category, category) == 0)
			return lfirst(cell);
	return NULL;
}

bool
evs_aggregate_find(const char *stream, EvsAggregate *aggregate)
{
	char	   *category = pnstrdup(stream, evs_category_length(stream));
	EvsAggregate *found;

	listen_for_changes();
	known_relid = evs_catalog()->aggregate;
	/* taking the lock is what lets invalidations in */
	relation_close(evs_open(known_relid, AccessShareLock), AccessShareLock);
	AcceptInvalidationMessages();
	found = find_cached(category);
	if (found == NULL)
	{
		uint64		before = version;
		MemoryContext old = MemoryContextSwitchTo(cache_context);

		found = look_up(category);
		if (found != NULL)
			cache = lappend(cache, found);
		MemoryContextSwitchTo(old);
		cached_version = before;
	}
	if (found == NULL)
		return false;
	copy_definition(found, aggregate);
	return true;
}

static void
throw_not_found(const char *stream)
{
	char	   *category = pnstrdup(stream, evs_category_length(stream));
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "aggregate", category);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_OBJECT_NOT_FOUND),
			 errmsg("aggregate \"%s\" does not exist", category),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 errhint("Define it with create_aggregate().")));
}

void
evs_aggregate_get(const char *stream, EvsAggregate *aggregate)
{
	if (!evs_aggregate_find(stream, aggregate))
		throw_not_found(stream);
	if (!OidIsValid(aggregate->transition))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("transition %s of aggregate \"%s\" does not exist",
						aggregate->transition_name, aggregate->category),
				 errhint("It must have the form f(state jsonb, event evstore.event) RETURNS jsonb; alter_aggregate() names another one.")));
	evs_fold_check(aggregate->transition);
}

/* ---- load ---- */

typedef struct Load
{
	const EvsAggregate *aggregate;
	EvsStream	stream;
	EvsHorizon	horizon;
	Relation	log;
	Snapshot	snapshot;
	int64		last_version;	/* events above do not count */
	TimestampTz recorded_until; /* nor later ones */
	EvsFold    *fold;
	EvsAggregateState *result;
} Load;

/*
 * Events at the stream's beginning are gone, and they are in no snapshot: of
 * this version of the transition, or from that time.
 */
static void
refuse_lost_events(const Load *load)
{
	StringInfoData detail;

	if (!load->aggregate->lost_is_error)
		return;
	evs_detail_begin(&detail);
	evs_detail_string(&detail, "stream", load->stream.name);
	evs_detail_int(&detail, "state_version", load->aggregate->state_version);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("events of stream \"%s\" are gone that are in no snapshot", load->stream.name),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 errhint("Save a snapshot, or set the aggregate's option \"lost_events\" to \"ignore\" to begin with the events that are left.")));
}

static bool
fold_row(void *arg, EvsLeaf *leaf, TupleTableSlot *slot, text *stream)
{
	Load	   *load = arg;
	EvsAggregateState *result = load->result;
	Datum		values[EVS_EVENT_NCOLUMNS];
	bool		nulls[EVS_EVENT_NCOLUMNS];
	int64		version;

	evs_event_from_row(leaf, slot, PointerGetDatum(stream), values, nulls);
	version = DatumGetInt64(values[EVS_EVENT_VERSION]);
	if (version != Max(result->version + 1, load->stream.begun_version))
		refuse_lost_events(load);
	evs_fold_columns(load->fold, values, nulls);
	result->version = version;
	result->events_read++;
	return false;
}

/* Where to begin: with a snapshot, or with the initial state. */
static Jsonb *
find_start(Load *load)
{
	EvsSnapshotKey key = {
		.state_version = load->aggregate->state_version,
		.max_version = load->last_version,
		.recorded_until = load->recorded_until,
	};
	EvsSnapshotRow row;

	evs_horizon(load->log, &load->stream, load->snapshot, &load->horizon);
	if (!evs_snapshot_find(&load->stream, &key, &load->horizon, load->snapshot, &row))
		return load->aggregate->initial;
	load->result->version = load->result->snapshot_version = row.version;
	return row.state;
}

/* No event is visible, and none is in a snapshot: has there been any? */
static void
look_for_lost_events(Load *load)
{
	int64		position;
	int64		current = evs_version_current(load->log, &load->stream, load->snapshot, &position);
	bool		hidden = load->horizon.recorded_after > DT_NOBEGIN ||
		load->horizon.first_version > load->stream.begun_version ||
		load->stream.scavenged_version >= load->stream.begun_version;

	if (hidden && current >= load->stream.begun_version &&
		load->last_version >= load->stream.begun_version &&
		load->recorded_until >= load->stream.created_at)
		refuse_lost_events(load);
	/* an append still needs to know the version */
	if (load->last_version == PG_INT64_MAX && load->recorded_until == DT_NOEND)
		load->result->version = current;
}

static void
load_existing(Load *load)
{
	EvsAggregateState *result = load->result;
	Jsonb	   *start = find_start(load);
	EvsReadStream request = {
		.stream = load->stream.name,
		.has_from = true,
		.from_version = result->snapshot_version + 1,
		.max_count = EVS_READ_ALL,
		.has_end = true,
		.last_version = load->last_version,
		.recorded_until = load->recorded_until,
	};

	load->fold = evs_fold_begin(load->aggregate->transition, start,
								load->aggregate->unknown_is_error);
	evs_read_stream_rows(&request, &load->stream, &load->horizon, load->snapshot, fold_row, load);
	result->state = (Jsonb *) pg_detoast_datum_copy((struct varlena *) evs_fold_state(load->fold));
	evs_fold_end(load->fold);
	if (result->version < 0)
		look_for_lost_events(load);
}

void
evs_aggregate_load_until(const char *stream, int64 last_version, TimestampTz recorded_until,
						 EvsAggregateState *result)
{
	EvsAggregate aggregate;
	Load		load = {
		.aggregate = &aggregate,
		.last_version = last_version,
		.recorded_until = recorded_until,
		.result = result,
	};
	Relation	streams;

	evs_aggregate_get(stream, &aggregate);
	result->state = aggregate.initial;
	result->version = result->snapshot_version = -1;
	result->events_read = 0;
	result->state_version = aggregate.state_version;

	load.log = evs_open(evs_catalog()->event_log, AccessShareLock);
	streams = evs_open(evs_catalog()->stream, AccessShareLock);
	load.snapshot = RegisterSnapshot(GetTransactionSnapshot());
	if (evs_stream_find(streams, stream, load.snapshot, &load.stream) &&
		!load.stream.deleted && !load.stream.tombstoned)
		load_existing(&load);
	UnregisterSnapshot(load.snapshot);
	relation_close(streams, AccessShareLock);
	relation_close(load.log, AccessShareLock);
}

void
evs_aggregate_load(const char *stream, EvsAggregateState *result)
{
	evs_aggregate_load_until(stream, PG_INT64_MAX, DT_NOEND, result);
}

/* ---- events that are not stored yet ---- */

/* The state that the event must lead to, or NULL. */
static char *
check_guard(const EvsAggregate *aggregate, const char *stream, int index, const Jsonb *state,
			const EvsNewEvent *event)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._check_guard($1, $2, $3, $4, $5, $6)",
		.nargs = 6, .types = {TEXTOID, TEXTOID, INT4OID, JSONBOID, TEXTOID, JSONBOID},
	};
	Datum		args[6];
	EvsSpiRows	rows;

	args[0] = CStringGetTextDatum(aggregate->category);
	args[1] = CStringGetTextDatum(stream);
	args[2] = Int32GetDatum(index);
	args[3] = JsonbPGetDatum(state);
	args[4] = PointerGetDatum(event->type);
	args[5] = JsonbPGetDatum(event->data);
	rows = evs_spi_call(&plan, args, NULL);
	return rows.nulls[0] ? NULL : TextDatumGetCString(rows.values[0]);
}

/* As the event will be stored, but for its position, and its id if it has none yet. */
static void
fold_new(EvsFold *fold, const char *stream, int64 version, const EvsNewEvent *event)
{
	Datum		values[EVS_EVENT_NCOLUMNS] = {0};
	bool		nulls[EVS_EVENT_NCOLUMNS];
	TimestampTz now = evs_clock_now();
	Jsonb	   *metadata = evs_metadata_stored(event->metadata);

	memset(nulls, true, sizeof(nulls));
#define SET(column, value) (values[EVS_EVENT_##column] = (value), nulls[EVS_EVENT_##column] = false)
	SET(STREAM, CStringGetTextDatum(stream));
	SET(VERSION, Int64GetDatum(version));
	if (event->has_event_id)
		SET(EVENT_ID, UUIDPGetDatum(&event->event_id));
	SET(TYPE, PointerGetDatum(event->type));
	SET(SCHEMA_VERSION, Int32GetDatum(event->schema_version));
	SET(DATA, JsonbPGetDatum(event->data));
	SET(METADATA, JsonbPGetDatum(metadata != NULL ? metadata : evs_event_empty_object()));
	if (event->correlation_id != NULL)
		SET(CORRELATION_ID, PointerGetDatum(event->correlation_id));
	if (event->has_causation_id)
		SET(CAUSATION_ID, UUIDPGetDatum(&event->causation_id));
	if (event->source != NULL)
		SET(SOURCE, PointerGetDatum(event->source));
	SET(OCCURRED_AT, TimestampTzGetDatum(event->has_occurred_at ? event->occurred_at : now));
	SET(RECORDED_AT, TimestampTzGetDatum(now));
	if (event->tags != NULL)
		SET(TAGS, PointerGetDatum(event->tags));
#undef SET
	evs_fold_columns(fold, values, nulls);
}

/* The definition says where the event leads: does the transition agree? */
static void
check_target(const EvsAggregate *aggregate, const char *stream, int index, const Jsonb *state,
			 const EvsNewEvent *event, const char *target)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT pg_catalog.jsonb_path_query_first($2, a.state_path, '{}', true) #>> '{}'"
		" FROM evstore.aggregate a WHERE a.category = $1",
		.nargs = 2, .types = {TEXTOID, JSONBOID},
	};
	Datum		args[2];
	EvsSpiRows	rows;
	const char *reached;
	StringInfoData detail;

	args[0] = CStringGetTextDatum(aggregate->category);
	args[1] = JsonbPGetDatum(state);
	rows = evs_spi_call(&plan, args, NULL);
	reached = rows.nrows == 0 || rows.nulls[0] ? NULL : TextDatumGetCString(rows.values[0]);
	if (reached != NULL && strcmp(reached, target) == 0)
		return;
	evs_detail_begin(&detail);
	evs_detail_string(&detail, "stream", stream);
	evs_detail_int(&detail, "index", index);
	evs_detail_string(&detail, "type", text_to_cstring(event->type));
	evs_detail_string(&detail, "to", target);
	evs_detail_string(&detail, "state", reached);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_TRANSITION_REFUSED),
			 errmsg("event type \"%s\" leads to state \"%s\" instead of \"%s\"",
					text_to_cstring(event->type), reached != NULL ? reached : "null", target),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 errhint("The aggregate's transition function and its transitions do not agree.")));
}

Jsonb *
evs_aggregate_check_events(const char *stream, const Jsonb *state, int64 version, Jsonb *events)
{
	EvsAggregate aggregate;
	EvsBatch	batch = {.stream = unconstify(char *, stream), .expected = EVS_ANY_VERSION};
	EvsFold    *fold;
	Jsonb	   *result;

	evs_aggregate_get(stream, &aggregate);
	evs_batch_parse(&batch, events);
	evs_batch_validate(&batch);
	fold = evs_fold_begin(aggregate.transition, state, aggregate.unknown_is_error);
	for (int i = 0; i < batch.nevents; i++)
	{
		EvsNewEvent *event = &batch.events[i];
		char	   *target = NULL;

		if (event->data == NULL)
			event->data = evs_event_empty_object();
		if (aggregate.guarded)
			target = check_guard(&aggregate, stream, i, evs_fold_state(fold), event);
		fold_new(fold, stream, version + 1 + i, event);
		if (target != NULL)
			check_target(&aggregate, stream, i, evs_fold_state(fold), event, target);
	}
	result = (Jsonb *) pg_detoast_datum_copy((struct varlena *) evs_fold_state(fold));
	evs_fold_end(fold);
	return result;
}
