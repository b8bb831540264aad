/*
 * record.c
 *	  What a transition tells its caller to do: actions, and records of the history.
 */
#include "postgres.h"

#include "saga/json_write.h"
#include "saga/move.h"

EvsSagaAction *
evs_move_action(EvsMove *move, EvsSagaActionKind kind)
{
	EvsSagaAction *action = palloc0(sizeof(EvsSagaAction));

	action->kind = kind;
	action->timeout_at = DT_NOEND;
	action->heartbeat_at = DT_NOEND;
	move->transition->actions = lappend(move->transition->actions, action);
	return action;
}

static void
write_text(EvsJson *json, const char *key, const char *value)
{
	if (value != NULL)
		evs_json_text(json, key, value);
}

static void
write_int(EvsJson *json, const char *key, int64 value)
{
	if (value != 0)
		evs_json_int(json, key, value);
}

static void
write_time(EvsJson *json, const char *key, TimestampTz value)
{
	if (value != 0)
		evs_json_text(json, key, evs_asl_format_time(value));
}

static void
write_value(EvsJson *json, const char *key, Jsonb *value)
{
	if (value != NULL)
		evs_json_value(json, key, value);
}

static void
write_note(EvsJson *json, const EvsNote *note)
{
	write_int(json, "step", note->step);
	write_text(json, "state", note->state);
	write_int(json, "visit", note->visit);
	write_int(json, "attempt", note->attempt);
	write_int(json, "compensates", note->compensates);
	write_text(json, "resource", note->resource);
	write_value(json, "input", note->input);
	write_value(json, "output", note->output);
	write_text(json, "error", note->error);
	write_text(json, "cause", note->cause);
	write_text(json, "outcome", evs_outcome_name(note->outcome));
	write_time(json, "due", note->due);
	write_text(json, "reason", note->reason);
}

static void
add_record(EvsMove *move, const char *type, const EvsNote *note, EvsJson *json)
{
	EvsSagaAction *action = evs_move_action(move, EVS_ACTION_RECORD);

	action->type = type;
	action->step = note->step;
	action->outcome = note->outcome;
	action->error = note->error;
	action->cause = note->cause;
	action->data = evs_json_finish(json);
}

void
evs_move_record(EvsMove *move, const char *type, const EvsNote *note)
{
	EvsJson		json = {0};

	evs_json_begin_object(&json);
	write_note(&json, note);
	add_record(move, type, note, &json);
}

void
evs_move_record_end(EvsMove *move, const char *type, const EvsNote *note)
{
	EvsJson		json = {0};

	evs_json_begin_object(&json);
	write_text(&json, "saga_id", move->event->saga_id);
	write_text(&json, "saga_type", move->event->saga);
	write_time(&json, "completion_time", move->event->now);
	write_note(&json, note);
	add_record(move, type, note, &json);
}

void
evs_move_record_start(EvsMove *move)
{
	EvsJson		json = {0};
	EvsNote		note = {.input = move->event->data};

	evs_json_begin_object(&json);
	write_text(&json, "saga_id", move->event->saga_id);
	write_text(&json, "saga_type", move->event->saga);
	write_text(&json, "business_key", move->event->business_key);
	write_note(&json, &note);
	add_record(move, "SagaStarted", &note, &json);
}

void
evs_move_cancel_step(EvsMove *move, int64 step, const char *error, EvsOutcome outcome)
{
	EvsSagaAction *action = evs_move_action(move, EVS_ACTION_CANCEL_STEP);

	action->step = step;
	action->error = error;
	action->outcome = outcome;
}
