/*
 * trigger.c
 *	  What events do to a saga: they start instances, and come to those that wait.
 *
 * The handler of the projection "saga:<name>", whose checkpoint sees to it that an event is
 * handled once.  An event that cannot be handled, such as one without the business key that
 * instances are to have, is parked, as any projection's.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "nodes/makefuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#include "asl/path.h"
#include "base/errors.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "projection/handler.h"
#include "saga/arrival.h"
#include "saga/instance.h"
#include "stream/filter.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_saga_events);

/* Longest key, in bytes, as that of an instance. */
#define KEY_MAX 512

/* Of the option start_on. */
typedef struct Starter
{
	int64		since;			/* events up to here are not for it */
	EvsFilter  *filter;			/* NULL: all */
	bool		is_broad;		/* it does not say of what types or streams */
	EvsAslPath *input;
	EvsAslPath *business_key;	/* or NULL: by the option business_key */
} Starter;

/* Whom events of a type are for. */
typedef struct Correlation
{
	char	   *type;
	EvsAslPath *key;
} Correlation;

typedef struct SagaTrigger
{
	const EvsSaga *saga;
	int			nstarters;
	Starter    *starters;
	int			ncorrelations;
	Correlation *correlations;
	Oid			event_type;
	FmgrInfo	to_jsonb;
} SagaTrigger;

/* An event that is being handled. */
typedef struct TriggerEvent
{
	Datum		event;
	Datum		values[EVS_EVENT_NCOLUMNS];
	bool		nulls[EVS_EVENT_NCOLUMNS];
	int64		position;
	Jsonb	   *json;			/* made when it is needed */
} TriggerEvent;

/* ---- what the saga looks for ---- */

/* It was checked when it was stored. */
static EvsAslPath *
compile_path(Jsonb *entry, const char *member, const char *otherwise)
{
	Jsonb	   *text = evs_asl_member(entry, member);
	const char *path = text != NULL ? evs_asl_text(text) : otherwise;
	char	   *problem = NULL;
	EvsAslPath *result;

	if (path == NULL)
		return NULL;
	result = evs_asl_path_compile(path, &problem);
	if (result == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_EVS_INVALID_DEFINITION),
				 errmsg("\"%s\" is not a path: %s", path, problem)));
	return result;
}

/* {"type": "X"} is {"filter": {"types": ["X"]}}: whoever has stored the entry has seen to that. */
static void
add_starter(SagaTrigger *trigger, Jsonb *entry, int64 since)
{
	Starter    *starter = &trigger->starters[trigger->nstarters++];
	Jsonb	   *filter = evs_asl_member(entry, "filter");

	starter->since = since;
	starter->filter = evs_filter_compile(filter);
	starter->is_broad = evs_asl_member(filter, "types") == NULL &&
		evs_asl_member(filter, "categories") == NULL && evs_asl_member(filter, "streams") == NULL &&
		evs_asl_member(filter, "stream_prefix") == NULL;
	starter->input = compile_path(entry, "input", "$.data");
	starter->business_key = compile_path(entry, "business_key", NULL);
}

static void
add_correlation(SagaTrigger *trigger, Jsonb *entry)
{
	Correlation *correlation = &trigger->correlations[trigger->ncorrelations++];

	correlation->type = evs_asl_text(evs_asl_member(entry, "type"));
	correlation->key = compile_path(entry, "key", NULL);
}

static void
load_entries(SagaTrigger *trigger)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT t.kind = 'start', t.entry, t.since FROM evstore.saga_trigger t"
		" WHERE t.saga_id = $1 ORDER BY t.kind, t.n",
		.nargs = 1, .types = {INT8OID},
	};
	Datum		arg = Int64GetDatum(trigger->saga->id);
	EvsSpiRows	rows = evs_spi_call_latest(&plan, &arg, NULL);

	trigger->starters = palloc0(sizeof(Starter) * (rows.nrows + 1));
	trigger->correlations = palloc0(sizeof(Correlation) * (rows.nrows + 1));
	for (uint64 i = 0; i < rows.nrows; i++)
	{
		const Datum *values = rows.values + i * rows.ncolumns;

		if (DatumGetBool(values[0]))
			add_starter(trigger, DatumGetJsonbP(values[1]), DatumGetInt64(values[2]));
		else
			add_correlation(trigger, DatumGetJsonbP(values[1]));
	}
}

/* The saga whose projection is running; anybody else's call is refused. */
static const EvsSaga *
find_saga(void)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT g.id FROM evstore.saga g WHERE g.trigger_id = $1",
		.nargs = 1, .types = {INT8OID},
	};
	const EvsProjection *projection = evs_handler_called();
	const EvsSaga *saga = NULL;

	if (projection != NULL)
	{
		Datum		arg = Int64GetDatum(projection->id);
		EvsSpiRows	rows = evs_spi_call_latest(&plan, &arg, NULL);

		if (rows.nrows > 0)
			saga = evs_saga_find_kept(DatumGetInt64(rows.values[0]));
	}
	if (saga == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("only the projection of a saga can bring it events")));
	return saga;
}

/* to_jsonb() wants to know the type of its argument. */
static void
prepare_to_jsonb(SagaTrigger *trigger)
{
	Node	   *argument = (Node *) makeNullConst(trigger->event_type, -1, InvalidOid);

	fmgr_info(F_TO_JSONB, &trigger->to_jsonb);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(argument), InvalidOid,
											 InvalidOid, COERCE_EXPLICIT_CALL), &trigger->to_jsonb);
}

/* ---- an event ---- */

static void
open_event(Datum datum, TriggerEvent *event)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(datum);
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header), .t_data = header};
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header),
											  HeapTupleHeaderGetTypMod(header));

	heap_deform_tuple(&tuple, desc, event->values, event->nulls);
	ReleaseTupleDesc(desc);
	event->event = datum;
	event->position = DatumGetInt64(event->values[EVS_EVENT_POSITION]);
	event->json = NULL;
}

static Jsonb *
event_json(SagaTrigger *trigger, TriggerEvent *event)
{
	if (event->json == NULL)
		event->json = DatumGetJsonbP(FunctionCall1(&trigger->to_jsonb, event->event));
	return event->json;
}

static Jsonb *
look_up(SagaTrigger *trigger, TriggerEvent *event, const EvsAslPath *path)
{
	EvsAslScope scope = {.input = event_json(trigger, event)};

	return evs_asl_path_get(path, &scope);
}

/* NULL: the event has none there, or what is there cannot be a key. */
static char *
look_up_key(SagaTrigger *trigger, TriggerEvent *event, const EvsAslPath *path)
{
	Jsonb	   *found = look_up(trigger, event, path);
	JsonbValue	value;
	char	   *key = NULL;

	if (found == NULL)
		return NULL;
	value = evs_asl_unpack(found);
	if (value.type == jbvString)
		key = pnstrdup(value.val.string.val, value.val.string.len);
	else if (value.type == jbvNumeric || value.type == jbvBool)
		key = JsonbToCString(NULL, &found->root, VARSIZE(found));
	return key == NULL || key[0] == '\0' || strlen(key) > KEY_MAX ? NULL : key;
}

/* ---- starting instances ---- */

/* Of an instance: a saga that any event starts would start others without end. */
static bool
is_history(const TriggerEvent *event)
{
	text	   *stream = DatumGetTextPP(event->values[EVS_EVENT_STREAM]);

	return VARSIZE_ANY_EXHDR(stream) > 5 && memcmp(VARDATA_ANY(stream), "saga-", 5) == 0;
}

static bool
is_wanted(const Starter *starter, const TriggerEvent *event)
{
	const char *error = NULL;

	if (event->position <= starter->since || (starter->is_broad && is_history(event)))
		return false;
	if (starter->filter == NULL)
		return true;
	switch (evs_filter_matches_event(starter->filter, event->values, event->nulls, &error))
	{
		case EVS_FILTER_YES:
			return true;
		case EVS_FILTER_NO:
			return false;
		case EVS_FILTER_ERROR:
			break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_DATA_EXCEPTION),
			 errmsg("a filter of the option start_on failed: %s", error)));
	return false;
}

static void
throw_nothing(const EvsAslPath *path, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_EXCEPTION),
			 errmsg("the event has no %s at %s", what, evs_asl_path_text(path))));
}

static void
start_instance(SagaTrigger *trigger, TriggerEvent *event, const Starter *starter)
{
	EvsInstanceStart start = {
		.saga = trigger->saga, .priority = -1, .started_after = event->position,
		.causation_id = DatumGetUUIDP(event->values[EVS_EVENT_EVENT_ID]),
	};
	pg_uuid_t	id;

	start.input = look_up(trigger, event, starter->input);
	if (start.input == NULL)
		throw_nothing(starter->input, "input");
	if (starter->business_key != NULL)
	{
		start.business_key = look_up_key(trigger, event, starter->business_key);
		if (start.business_key == NULL)
			throw_nothing(starter->business_key, "business key");
	}
	if (!event->nulls[EVS_EVENT_CORRELATION_ID])
		start.correlation_id = TextDatumGetCString(event->values[EVS_EVENT_CORRELATION_ID]);
	/* one that has this key has been started, by an earlier event or otherwise */
	(void) evs_instance_start(&start, &id);
}

/* The first entry that wants it counts: an event starts one instance at most. */
static void
start_by(SagaTrigger *trigger, TriggerEvent *event)
{
	for (int i = 0; i < trigger->nstarters; i++)
		if (is_wanted(&trigger->starters[i], event))
		{
			start_instance(trigger, event, &trigger->starters[i]);
			return;
		}
}

/* ---- events that are for instances ---- */

static bool
has_type(const TriggerEvent *event, const char *type)
{
	text	   *actual = DatumGetTextPP(event->values[EVS_EVENT_TYPE]);

	return strlen(type) == VARSIZE_ANY_EXHDR(actual) &&
		memcmp(type, VARDATA_ANY(actual), VARSIZE_ANY_EXHDR(actual)) == 0;
}

/* Versions of a definition may know whom a type is for in different ways: all count. */
static List *
add_arrivals(SagaTrigger *trigger, TriggerEvent *event, List *arrivals)
{
	for (int i = 0; i < trigger->ncorrelations; i++)
	{
		Correlation *correlation = &trigger->correlations[i];
		EvsArrival *arrival;
		char	   *key;

		if (!has_type(event, correlation->type))
			continue;
		key = look_up_key(trigger, event, correlation->key);
		if (key == NULL)
			continue;
		arrival = palloc(sizeof(EvsArrival));
		arrival->type = correlation->type;
		arrival->key = key;
		arrival->position = event->position;
		arrival->event = event_json(trigger, event);
		arrivals = lappend(arrivals, arrival);
	}
	return arrivals;
}

static void
bring(SagaTrigger *trigger, List *arrivals)
{
	EvsArrival *array = palloc(sizeof(EvsArrival) * (list_length(arrivals) + 1));
	int			n = 0;
	ListCell   *cell;

	foreach(cell, arrivals)
		array[n++] = *(EvsArrival *) lfirst(cell);
	evs_arrival_bring(trigger->saga->id, array, n);
}

/* _saga_events(events) */
Datum
evs_saga_events(PG_FUNCTION_ARGS)
{
	SagaTrigger trigger = {.event_type = evs_catalog()->event_type};
	List	   *arrivals = NIL;
	Datum	   *events;
	int			n;

	trigger.saga = find_saga();
	load_entries(&trigger);
	prepare_to_jsonb(&trigger);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), trigger.event_type, -1, false, TYPALIGN_DOUBLE,
					  &events, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		TriggerEvent event;

		open_event(events[i], &event);
		start_by(&trigger, &event);
		arrivals = add_arrivals(&trigger, &event, arrivals);
	}
	bring(&trigger, arrivals);
	PG_RETURN_VOID();
}
