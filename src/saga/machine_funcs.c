/*
 * machine_funcs.c
 *	  The machine for tests: a transition without tables.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "saga/json_write.h"
#include "saga/machine.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_saga_transition_test);

/* ---- the event ---- */

static char *
get_text(Jsonb *json, const char *key)
{
	Jsonb	   *value = evs_asl_member(json, key);

	return value == NULL ? NULL : evs_asl_text(value);
}

static int64
get_int(Jsonb *json, const char *key, int64 missing)
{
	int64		value = missing;

	(void) evs_json_read_int(json, key, &value);
	return value;
}

static TimestampTz
get_time(Jsonb *json, const char *key)
{
	char	   *text = get_text(json, key);
	TimestampTz time;

	if (text == NULL || !evs_asl_timestamp(text, &time))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an event needs a time as \"%s\"", key)));
	return time;
}

static EvsSagaEventKind
get_kind(Jsonb *json)
{
	static const char *const kinds[] = {
		[EVS_SAGA_START] = "start",
		[EVS_SAGA_ADVANCE] = "advance",
		[EVS_SAGA_STEP_SUCCEEDED] = "succeeded",
		[EVS_SAGA_STEP_FAILED] = "failed",
		[EVS_SAGA_HEARTBEAT] = "heartbeat",
		[EVS_SAGA_CANCEL] = "cancel",
		[EVS_SAGA_RETRY] = "retry",
		[EVS_SAGA_RESOLVE] = "resolve",
		[EVS_SAGA_COMPENSATE] = "compensate"
	};
	char	   *kind = get_text(json, "kind");

	for (int i = 0; i < lengthof(kinds); i++)
		if (kind != NULL && strcmp(kind, kinds[i]) == 0)
			return i;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no kind of event called \"%s\"", kind == NULL ? "" : kind)));
}

static EvsOutcome
get_outcome(Jsonb *json)
{
	char	   *name = get_text(json, "outcome");

	for (int i = EVS_OUTCOME_SUCCEEDED; name != NULL && i <= EVS_OUTCOME_UNKNOWN; i++)
		if (strcmp(name, evs_outcome_name(i)) == 0)
			return i;
	return EVS_OUTCOME_NONE;
}

static void
get_event(Jsonb *json, EvsSagaEvent *event)
{
	Jsonb	   *compensate = evs_asl_member(json, "compensate");

	memset(event, 0, sizeof(*event));
	event->kind = get_kind(json);
	event->now = get_time(json, "now");
	event->step = get_int(json, "step", 0);
	event->data = evs_asl_member(json, "data");
	event->error = get_text(json, "error");
	event->cause = get_text(json, "cause");
	event->outcome = get_outcome(json);
	event->compensate = compensate != NULL && evs_asl_unpack(compensate).val.boolean;
	event->saga_id = get_text(json, "saga_id");
	event->saga = get_text(json, "saga");
	event->business_key = get_text(json, "business_key");
	event->input = evs_asl_member(json, "input");
	event->started_at = get_time(json, "started_at");
	event->token = get_text(json, "token");
}

/* ---- records of steps: the member steps of the event, by number ---- */

static void
look_up(void *arg, int64 step, EvsStepRecord *record)
{
	Jsonb	   *steps = evs_asl_member(arg, "steps");
	Jsonb	   *found = steps == NULL ? NULL : evs_asl_member(steps, psprintf(INT64_FORMAT, step));

	memset(record, 0, sizeof(*record));
	if (found == NULL)
		return;
	record->input = evs_asl_member(found, "input");
	record->output = evs_asl_member(found, "output");
	record->error = get_text(found, "error");
	record->outcome = get_outcome(found);
}

/* ---- what is done ---- */

static void
put_text(EvsJson *json, const char *key, const char *value)
{
	if (value != NULL)
		evs_json_text(json, key, value);
}

static void
put_int(EvsJson *json, const char *key, int64 value)
{
	if (value != 0)
		evs_json_int(json, key, value);
}

static void
put_time(EvsJson *json, const char *key, TimestampTz value)
{
	if (value != DT_NOEND)
		evs_json_text(json, key, evs_asl_format_time(value));
}

static void
put_action(EvsJson *json, const EvsSagaAction *action)
{
	static const char *const kinds[] = {
		[EVS_ACTION_START_STEP] = "start",
		[EVS_ACTION_CANCEL_STEP] = "cancel",
		[EVS_ACTION_RECORD] = "record",
		[EVS_ACTION_END] = "end"
	};

	evs_json_begin_object(json);
	evs_json_text(json, "action", kinds[action->kind]);
	put_int(json, "step", action->step);
	put_text(json, "resource", action->resource == NULL ? NULL : action->resource->text);
	put_text(json, "state", action->state);
	put_int(json, "visit", action->visit);
	put_int(json, "attempt", action->attempt);
	put_int(json, "compensates", action->compensates);
	if (action->payload != NULL)
		evs_json_value(json, "payload", action->payload);
	put_time(json, "timeout_at", action->timeout_at);
	put_time(json, "heartbeat_at", action->heartbeat_at);
	put_text(json, "type", action->type);
	if (action->kind == EVS_ACTION_END)
		put_text(json, "status", evs_saga_status_name(action->status));
	put_text(json, "outcome", evs_outcome_name(action->outcome));
	if (action->data != NULL)
		evs_json_value(json, "data", action->data);
	put_text(json, "error", action->error);
	put_text(json, "cause", action->cause);
	evs_json_end(json);
}

static Jsonb *
actions_json(const List *actions)
{
	EvsJson		json = {0};
	ListCell   *cell;

	evs_json_begin_array(&json);
	foreach(cell, actions)
		put_action(&json, lfirst(cell));
	return evs_json_finish(&json);
}

/* _saga_transition(definition, execution, event) → (changed, execution, actions, status, due) */
Datum
evs_saga_transition_test(PG_FUNCTION_ARGS)
{
	EvsSagaDefinition *definition;
	EvsExecution *execution;
	EvsTransition transition = {.lookup = look_up};
	EvsSagaEvent event;
	pg_prng_state random;
	TupleDesc	tupdesc;
	Datum		values[5];
	bool		nulls[5] = {false};

	if (PG_ARGISNULL(0) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	definition = evs_saga_compile_or_throw(PG_GETARG_JSONB_P(0));
	execution = PG_ARGISNULL(1) ? evs_execution_new() : evs_execution_load(PG_GETARG_JSONB_P(1), definition);
	get_event(PG_GETARG_JSONB_P(2), &event);
	pg_prng_seed(&random, get_int(PG_GETARG_JSONB_P(2), "seed", 1));
	event.random = &random;
	transition.definition = definition;
	transition.lookup_arg = PG_GETARG_JSONB_P(2);
	values[0] = BoolGetDatum(evs_saga_transition(&transition, execution, &event));
	values[1] = JsonbPGetDatum(evs_execution_store(execution, definition));
	values[2] = JsonbPGetDatum(actions_json(transition.actions));
	values[3] = CStringGetTextDatum(evs_saga_status_name(evs_execution_status(execution)));
	values[4] = TimestampTzGetDatum(evs_execution_due(execution));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}
