/*
 * aggregate_funcs.c
 *	  SQL functions of aggregates and snapshots.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
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
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_check_transition);
PG_FUNCTION_INFO_V1(evs_create_aggregate);
PG_FUNCTION_INFO_V1(evs_alter_aggregate);
PG_FUNCTION_INFO_V1(evs_load_aggregate);
PG_FUNCTION_INFO_V1(evs_aggregate_at_version);
PG_FUNCTION_INFO_V1(evs_aggregate_at_time);
PG_FUNCTION_INFO_V1(evs_check_events);
PG_FUNCTION_INFO_V1(evs_load_snapshot);
PG_FUNCTION_INFO_V1(evs_fold_step);
PG_FUNCTION_INFO_V1(evs_fold_final);

static char *
get_stream(FunctionCallInfo fcinfo)
{
	return evs_stream_check_name(PG_ARGISNULL(0) ? NULL : (struct varlena *) PG_GETARG_TEXT_PP(0),
								 "stream");
}

static Datum
make_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* ---- aggregates ---- */

/* _check_transition(function): throws unless it has the form of one */
Datum
evs_check_transition(PG_FUNCTION_ARGS)
{
	evs_fold_check(PG_GETARG_OID(0));
	PG_RETURN_VOID();
}

/*
 * As evstore's owner, with the caller's name before the arguments: a worker is
 * going to call the transition as that role.
 */
static void
call_definition(FunctionCallInfo fcinfo, EvsSpiPlan *plan)
{
	Datum		args[6];
	char		nulls[] = "      ";

	if (!PG_ARGISNULL(2))
		evs_fold_check(PG_GETARG_OID(2));
	args[0] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	for (int i = 0; i < 5; i++)
	{
		args[i + 1] = fcinfo->args[i].value;
		nulls[i + 1] = fcinfo->args[i].isnull ? 'n' : ' ';
	}
	(void) evs_spi_call(plan, args, nulls);
}

/* create_aggregate(category, initial, transition, state_version, options) */
Datum
evs_create_aggregate(PG_FUNCTION_ARGS)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._aggregate_create($1, $2, $3, $4, $5, $6)",
		.nargs = 6,
		.types = {TEXTOID, TEXTOID, JSONBOID, REGPROCEDUREOID, INT4OID, JSONBOID},
	};

	PreventCommandIfReadOnly("evstore create_aggregate");
	call_definition(fcinfo, &plan);
	PG_RETURN_VOID();
}

/* alter_aggregate(category, initial, transition, state_version, options) */
Datum
evs_alter_aggregate(PG_FUNCTION_ARGS)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._aggregate_alter($1, $2, $3, $4, $5, $6)",
		.nargs = 6,
		.types = {TEXTOID, TEXTOID, JSONBOID, REGPROCEDUREOID, INT4OID, JSONBOID},
	};

	PreventCommandIfReadOnly("evstore alter_aggregate");
	call_definition(fcinfo, &plan);
	PG_RETURN_VOID();
}

static Datum
state_row(FunctionCallInfo fcinfo, const EvsAggregateState *state)
{
	Datum		values[5];
	bool		nulls[5] = {false};

	values[0] = JsonbPGetDatum(state->state);
	values[1] = Int64GetDatum(state->version);
	values[2] = Int64GetDatum(state->snapshot_version);
	nulls[2] = state->snapshot_version < 0;
	values[3] = Int64GetDatum(state->events_read);
	values[4] = Int32GetDatum(state->state_version);
	return make_row(fcinfo, values, nulls);
}

/* load_aggregate(stream) */
Datum
evs_load_aggregate(PG_FUNCTION_ARGS)
{
	char	   *stream = get_stream(fcinfo);
	EvsAggregateState state;

	evs_check_right(ACL_SELECT);
	evs_aggregate_load(stream, &state);
	PG_RETURN_DATUM(state_row(fcinfo, &state));
}

/* aggregate_at_version(stream, at_version) */
Datum
evs_aggregate_at_version(PG_FUNCTION_ARGS)
{
	char	   *stream = get_stream(fcinfo);
	EvsAggregateState state;

	if (PG_ARGISNULL(1))
		evs_throw_null("at_version");
	evs_check_right(ACL_SELECT);
	evs_aggregate_load_until(stream, PG_GETARG_INT64(1), DT_NOEND, &state);
	PG_RETURN_DATUM(state_row(fcinfo, &state));
}

/* aggregate_at_time(stream, at_time) */
Datum
evs_aggregate_at_time(PG_FUNCTION_ARGS)
{
	char	   *stream = get_stream(fcinfo);
	EvsAggregateState state;

	if (PG_ARGISNULL(1))
		evs_throw_null("at_time");
	evs_check_right(ACL_SELECT);
	evs_aggregate_load_until(stream, PG_INT64_MAX, PG_GETARG_TIMESTAMPTZ(1), &state);
	PG_RETURN_DATUM(state_row(fcinfo, &state));
}

static bool
is_json_null(Jsonb *value)
{
	JsonbValue	scalar;

	return JB_ROOT_IS_SCALAR(value) && JsonbExtractScalar(&value->root, &scalar) &&
		scalar.type == jbvNull;
}

/* _check_events(stream, state, version, events) */
Datum
evs_check_events(PG_FUNCTION_ARGS)
{
	char	   *stream = get_stream(fcinfo);

	evs_check_right(ACL_SELECT);
	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	if (PG_ARGISNULL(3) || is_json_null(PG_GETARG_JSONB_P(3)))
		PG_RETURN_DATUM(PG_GETARG_DATUM(1));
	PG_RETURN_JSONB_P(evs_aggregate_check_events(stream, PG_GETARG_JSONB_P(1), PG_GETARG_INT64(2),
												 PG_GETARG_JSONB_P(3)));
}

/* ---- snapshots ---- */

static bool
find_snapshot(const char *name, EvsSnapshotKey *key, EvsSnapshotRow *row)
{
	Relation	log = evs_open(evs_catalog()->event_log, AccessShareLock);
	Relation	streams = evs_open(evs_catalog()->stream, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	EvsStream	stream;
	EvsHorizon	horizon;
	bool		found = false;

	if (evs_stream_find(streams, name, snapshot, &stream) &&
		!stream.deleted && !stream.tombstoned)
	{
		evs_horizon(log, &stream, snapshot, &horizon);
		found = evs_snapshot_find(&stream, key, &horizon, snapshot, row);
	}
	UnregisterSnapshot(snapshot);
	relation_close(streams, AccessShareLock);
	relation_close(log, AccessShareLock);
	return found;
}

/* load_snapshot(stream, max_version): no row of values if there is none */
Datum
evs_load_snapshot(PG_FUNCTION_ARGS)
{
	char	   *stream = get_stream(fcinfo);
	EvsSnapshotKey key = {
		.state_version = EVS_ANY_STATE_VERSION,
		.max_version = PG_ARGISNULL(1) ? PG_INT64_MAX : PG_GETARG_INT64(1),
		.recorded_until = DT_NOEND,
	};
	EvsAggregate aggregate;
	EvsSnapshotRow row;
	Datum		values[4];
	bool		nulls[4] = {false};

	evs_check_right(ACL_SELECT);
	if (evs_aggregate_find(stream, &aggregate))
		key.state_version = aggregate.state_version;
	if (!find_snapshot(stream, &key, &row))
		PG_RETURN_NULL();
	values[0] = Int64GetDatum(row.version);
	values[1] = JsonbPGetDatum(row.state);
	values[2] = Int32GetDatum(row.state_version);
	values[3] = TimestampTzGetDatum(row.created_at);
	PG_RETURN_DATUM(make_row(fcinfo, values, nulls));
}

/* ---- fold(event, transition, initial) ---- */

/* The aggregate's state. */
typedef struct FoldState
{
	EvsFold    *fold;
	char	   *stream;			/* of the last event */
	int64		version;
	MemoryContext context;		/* of stream */
} FoldState;

static void
end_fold(Datum arg)
{
	evs_fold_end(((FoldState *) DatumGetPointer(arg))->fold);
}

static FoldState *
begin_fold(FunctionCallInfo fcinfo, bool is_window, MemoryContext context)
{
	MemoryContext old;
	FoldState  *state;

	if (PG_ARGISNULL(2))
		evs_throw_null("transition");
	if (PG_ARGISNULL(3))
		evs_throw_null("initial");
	evs_fold_check(PG_GETARG_OID(2));
	old = MemoryContextSwitchTo(context);
	state = palloc0(sizeof(FoldState));
	state->context = AllocSetContextCreate(context, "evstore fold stream", ALLOCSET_SMALL_SIZES);
	state->fold = evs_fold_begin(PG_GETARG_OID(2), PG_GETARG_JSONB_P(3), false);
	/* a window's memory is all that there is to free */
	if (!is_window)
		AggRegisterCallback(fcinfo, end_fold, PointerGetDatum(state));
	MemoryContextSwitchTo(old);
	return state;
}

static void
throw_gap(const FoldState *state, int64 version)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("version " INT64_FORMAT " of stream \"%s\" is folded after version " INT64_FORMAT,
					version, state->stream, state->version),
			 errhint("Write fold(e, ... ORDER BY e.version), and leave out no event.")));
}

/* Each event of a stream must be followed by the next one. */
static void
check_order(FoldState *state, HeapTupleHeader event)
{
	bool		no_stream;
	bool		no_version;
	Datum		stream = GetAttributeByNum(event, EVS_EVENT_STREAM + 1, &no_stream);
	int64		version = DatumGetInt64(GetAttributeByNum(event, EVS_EVENT_VERSION + 1, &no_version));
	text	   *name;
	MemoryContext old;

	if (no_stream || no_version)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("an event that is folded must have a stream and a version")));
	name = DatumGetTextPP(stream);
	if (state->stream != NULL && strlen(state->stream) == VARSIZE_ANY_EXHDR(name) &&
		memcmp(state->stream, VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)) == 0)
	{
		if (version != state->version + 1)
			throw_gap(state, version);
	}
	else
	{
		MemoryContextReset(state->context);
		old = MemoryContextSwitchTo(state->context);
		state->stream = text_to_cstring(name);
		MemoryContextSwitchTo(old);
	}
	state->version = version;
}

/* _fold_step(state, event, transition, initial) */
Datum
evs_fold_step(PG_FUNCTION_ARGS)
{
	MemoryContext context;
	int			kind;
	FoldState  *state;
	HeapTupleHeader event;

	kind = AggCheckCallContext(fcinfo, &context);
	if (kind == 0)
		elog(ERROR, "_fold_step() is called as no aggregate");
	state = PG_ARGISNULL(0) ? begin_fold(fcinfo, kind == AGG_CONTEXT_WINDOW, context) :
		(FoldState *) PG_GETARG_POINTER(0);
	if (!PG_ARGISNULL(1))
	{
		event = PG_GETARG_HEAPTUPLEHEADER(1);
		check_order(state, event);
		evs_fold_event(state->fold, event);
	}
	PG_RETURN_POINTER(state);
}

/* _fold_final(state) */
Datum
evs_fold_final(PG_FUNCTION_ARGS)
{
	if (!AggCheckCallContext(fcinfo, NULL))
		elog(ERROR, "_fold_final() is called as no aggregate");
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(evs_fold_state(((FoldState *) PG_GETARG_POINTER(0))->fold));
}
