/*
 * compensation.c
 *	  The cursor that undoes effects, one after another.
 *
 * While the saga compensates: the last effect that is to be undone is the next one, or what
 * an explicit list says.  At other times: effects that a late reply has told of.  A
 * compensator is tried again as its Retry says, and then the cursor stays where it is until
 * somebody decides; a late effect's does not keep the saga from going on.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "saga/compensation.h"
#include "saga/json_write.h"

/* ---- what undoes what ---- */

/* Of what no definition says anything about: as that of compensators. */
static char *all_errors[] = {EVS_ASL_ALL};
static const EvsRetrier default_retrier = {
	.nerrors = 1,
	.errors = all_errors,
	.interval = 1,
	.max_attempts = 20,
	.backoff_rate = 2,
	.max_delay = 60,
	.full_jitter = true
};

void
evs_default_remedy(EvsRemedy *remedy)
{
	memset(remedy, 0, sizeof(*remedy));
	remedy->when_succeeded = remedy->when_unknown = true;
	remedy->nretriers = 1;
	remedy->retriers = &default_retrier;
}

/* A child that was waited for is undone by its own compensators, unless something else is said. */
bool
evs_state_remedy(const EvsSagaState *state, EvsRemedy *remedy)
{
	const EvsCompensator *compensator = state->compensator;

	evs_default_remedy(remedy);
	if (compensator != NULL && compensator->has_resource)
	{
		remedy->resource = &compensator->resource;
		remedy->parameters = compensator->parameters;
		remedy->nretriers = compensator->nretriers;
		remedy->retriers = compensator->retriers;
		remedy->timeout = compensator->timeout;
		remedy->when_succeeded = compensator->when_succeeded;
		remedy->when_unknown = compensator->when_unknown;
		return true;
	}
	remedy->resource = &state->resource;
	return state->type == EVS_STATE_TASK && state->resource.kind == EVS_RESOURCE_SAGA && state->resource.sync;
}

bool
evs_effect_can_be_undone(const EvsEffect *effect)
{
	EvsRemedy	remedy;

	if (!evs_state_remedy(effect->state, &remedy))
		return false;
	return effect->outcome == EVS_OUTCOME_SUCCEEDED ? remedy.when_succeeded : remedy.when_unknown;
}

EvsEffect *
evs_undo_effect(const EvsExecution *execution)
{
	ListCell   *cell;

	foreach(cell, execution->effects)
	{
		EvsEffect  *effect = lfirst(cell);

		if (effect->undo == EVS_UNDO_RUNNING)
			return effect;
	}
	return NULL;
}

static const EvsPlanned *
current_entry(const EvsExecution *execution)
{
	if (!execution->undo.planned)
		return NULL;
	if (execution->planned >= list_length(execution->plan))
		elog(ERROR, "the list of a saga's compensations is shorter than it was");
	return list_nth(execution->plan, (int) execution->planned);
}

static void
current_remedy(const EvsMove *move, EvsRemedy *remedy)
{
	const EvsPlanned *entry = current_entry(move->execution);
	const EvsEffect *effect = evs_undo_effect(move->execution);

	if (entry != NULL)
		evs_plan_remedy(move, entry, remedy);
	else if (effect != NULL)
		evs_state_remedy(effect->state, remedy);
	else
		elog(ERROR, "the compensator of a saga that is under way undoes nothing");
}

/* ---- the next one ---- */

static bool
is_wanted(const EvsExecution *execution, const EvsEffect *effect)
{
	if (effect->undo == EVS_UNDO_LATE)
		return true;
	return execution->status == EVS_SAGA_COMPENSATING && execution->plan == NIL &&
		(effect->undo == EVS_UNDO_NO || effect->undo == EVS_UNDO_FAILED) &&
		evs_effect_can_be_undone(effect);
}

static EvsEffect *
next_effect(const EvsExecution *execution)
{
	for (int i = list_length(execution->effects) - 1; i >= 0; i--)
	{
		EvsEffect  *effect = list_nth(execution->effects, i);

		if (is_wanted(execution, effect))
			return effect;
	}
	return NULL;
}

/* The index of the next entry of the list that there is something to do for; -1: none. */
static int
next_entry(const EvsMove *move)
{
	const EvsExecution *execution = move->execution;

	if (execution->status != EVS_SAGA_COMPENSATING)
		return -1;
	for (int i = (int) execution->planned; i < list_length(execution->plan); i++)
		if (evs_plan_is_due(move, list_nth(execution->plan, i)))
			return i;
	return -1;
}

bool
evs_undo_is_left(const EvsMove *move)
{
	return move->execution->undo.active || next_effect(move->execution) != NULL || next_entry(move) >= 0;
}

TimestampTz
evs_undo_due(const EvsExecution *execution)
{
	const EvsUndo *undo = &execution->undo;

	if (execution->status == EVS_SAGA_COMPENSATION_FAILED)
		return DT_NOEND;
	if (undo->active)
		return undo->step != 0 ? undo->timeout_at : undo->due;
	if (execution->status == EVS_SAGA_COMPENSATING || next_effect(execution) != NULL)
		return DT_NOBEGIN;
	return DT_NOEND;
}

static bool
choose(EvsMove *move)
{
	EvsExecution *execution = move->execution;
	EvsEffect  *effect = next_effect(execution);
	int			entry = effect == NULL ? next_entry(move) : -1;

	if (effect == NULL && entry < 0)
		return false;
	memset(&execution->undo, 0, sizeof(EvsUndo));
	execution->undo.active = 1;
	execution->undo.due = move->event->now;
	execution->undo.timeout_at = DT_NOEND;
	if (entry >= 0)
	{
		execution->planned = entry;
		execution->undo.planned = 1;
		effect = evs_plan_effect(move, current_entry(execution));
	}
	if (effect != NULL)
		effect->undo = EVS_UNDO_RUNNING;
	return true;
}

/* ---- its steps ---- */

static void
write_or_null(EvsJson *json, const char *key, Jsonb *value)
{
	evs_json_value(json, key, value != NULL ? value : evs_asl_null());
}

/* {"input", "output", "error", "outcome"} of what is to be undone, and the list's data. */
static Jsonb *
known(EvsMove *move, const EvsEffect *effect, const EvsPlanned *entry)
{
	EvsJson		json = {0};
	EvsStepRecord record = {NULL};

	if (effect != NULL)
		move->transition->lookup(move->transition->lookup_arg, effect->step, &record);
	evs_json_begin_object(&json);
	write_or_null(&json, "input", record.input);
	write_or_null(&json, "output", record.output);
	write_or_null(&json, "error", record.error != NULL ? evs_asl_string(record.error) : NULL);
	write_or_null(&json, "outcome", effect == NULL ? NULL : evs_asl_string(evs_outcome_name(effect->outcome)));
	if (entry != NULL && entry->data != NULL)
		evs_json_value(&json, "data", entry->data);
	return evs_json_finish(&json);
}

static Jsonb *
make_payload(EvsMove *move, const EvsRemedy *remedy, const char *state, EvsAslError *error)
{
	const EvsExecution *execution = move->execution;
	Jsonb	   *input = known(move, evs_undo_effect(execution), current_entry(execution));
	EvsAslScope scope = {.input = input, .random = move->event->random};

	if (remedy->parameters == NULL)
		return input;
	scope.context = evs_compensator_context(move, state, execution->undo.attempt);
	return evs_asl_template_apply(remedy->parameters, &scope, error);
}

/* What records of the cursor have in common. */
static EvsNote
undo_note(const EvsExecution *execution)
{
	const EvsEffect *effect = evs_undo_effect(execution);
	EvsNote		note = {.step = execution->undo.step, .attempt = execution->undo.attempt};

	if (effect != NULL)
	{
		note.state = effect->path;
		note.visit = effect->visit;
		note.compensates = effect->step;
	}
	else if (current_entry(execution) != NULL)
	{
		note.state = current_entry(execution)->state;
		note.visit = 1;
	}
	return note;
}

static void
start_step(EvsMove *move, const EvsRemedy *remedy, Jsonb *payload, EvsNote note)
{
	EvsUndo    *undo = &move->execution->undo;
	EvsSagaAction *action = evs_move_action(move, EVS_ACTION_START_STEP);

	undo->step = ++move->execution->last_step;
	undo->timeout_at = remedy->timeout > 0 ? evs_seconds_after(move->event->now, remedy->timeout) : DT_NOEND;
	action->step = note.step = undo->step;
	action->resource = remedy->resource;
	action->state = note.state;
	action->visit = note.visit;
	action->attempt = note.attempt;
	action->compensates = note.compensates;
	action->payload = payload;
	action->timeout_at = undo->timeout_at;
	note.resource = remedy->resource->text;
	note.input = payload;
	evs_move_record(move, "StepStarted", &note);
	move->started = true;
}

bool
evs_undo_start(EvsMove *move)
{
	EvsExecution *execution = move->execution;
	EvsUndo    *undo = &execution->undo;
	EvsAslError error = {NULL};
	EvsRemedy	remedy;
	EvsNote		note;
	Jsonb	   *payload;

	if (execution->status == EVS_SAGA_COMPENSATION_FAILED || (!undo->active && !choose(move)))
		return false;
	if (undo->step != 0 || undo->due > move->event->now)
		return false;
	undo->attempt++;
	current_remedy(move, &remedy);
	note = undo_note(execution);
	payload = make_payload(move, &remedy, note.state, &error);
	if (payload != NULL)
		start_step(move, &remedy, payload, note);
	else
		evs_undo_failed(move, error.name, error.cause, EVS_OUTCOME_NO_EFFECT);
	return true;
}

/* ---- what comes of them ---- */

static void
clear(EvsUndo *undo)
{
	memset(undo, 0, sizeof(EvsUndo));
	undo->timeout_at = DT_NOEND;
}

/* The current one is done with: on to the next, or to the end. */
static void
finish(EvsMove *move, EvsUndoStatus status)
{
	EvsExecution *execution = move->execution;
	EvsEffect  *effect = evs_undo_effect(execution);

	if (effect != NULL)
		effect->undo = status;
	if (execution->undo.planned)
		execution->planned++;
	clear(&execution->undo);
	if (execution->status == EVS_SAGA_COMPENSATING && !evs_undo_is_left(move))
		evs_saga_compensated(move);
}

void
evs_undo_succeeded(EvsMove *move, Jsonb *output)
{
	EvsNote		note = undo_note(move->execution);

	note.output = output;
	note.outcome = EVS_OUTCOME_SUCCEEDED;
	evs_move_record(move, "StepCompensated", &note);
	finish(move, EVS_UNDO_DONE);
}

static void
give_up(EvsMove *move, const EvsNote *failure)
{
	EvsExecution *execution = move->execution;
	EvsEffect  *effect = evs_undo_effect(execution);

	if (execution->status == EVS_SAGA_COMPENSATING)
	{
		execution->undo.due = DT_NOEND;
		evs_saga_compensation_failed(move, failure);
		return;
	}
	if (effect != NULL)
		effect->undo = EVS_UNDO_FAILED;
	clear(&execution->undo);
	if (execution->ended)
	{
		execution->final_status = execution->status;
		evs_saga_compensation_failed(move, failure);
	}
}

void
evs_undo_failed(EvsMove *move, const char *error, const char *cause, EvsOutcome outcome)
{
	EvsUndo    *undo = &move->execution->undo;
	EvsNote		note = undo_note(move->execution);
	EvsRemedy	remedy;
	int64		delay;

	if (outcome == EVS_OUTCOME_UNKNOWN)
		undo->tried = lappend_int(undo->tried, (int) undo->step);
	undo->step = 0;
	undo->timeout_at = DT_NOEND;
	current_remedy(move, &remedy);
	delay = evs_retry_delay(move, remedy.retriers, remedy.nretriers, &undo->retries, error);
	undo->nretries = undo->retries == NULL ? 0 : remedy.nretriers;
	note.error = error;
	note.cause = cause;
	note.outcome = outcome;
	if (delay >= 0)
		note.due = undo->due = move->event->now + delay;
	evs_move_record(move, "CompensationStepFailed", &note);
	if (delay < 0)
		give_up(move, &note);
}

void
evs_undo_timed_out(EvsMove *move)
{
	evs_move_cancel_step(move, move->execution->undo.step, EVS_ASL_TIMEOUT, EVS_OUTCOME_UNKNOWN);
	evs_undo_failed(move, EVS_ASL_TIMEOUT, "the step has not ended within its time", EVS_OUTCOME_UNKNOWN);
}

/* That one of them has succeeded is all there is to do, whatever the others say. */
bool
evs_undo_late(EvsMove *move, bool succeeded)
{
	EvsExecution *execution = move->execution;
	EvsUndo    *undo = &execution->undo;
	EvsNote		note;

	if (!undo->active || !list_member_int(undo->tried, (int) move->event->step))
		return false;
	if (!succeeded && move->event->outcome == EVS_OUTCOME_UNKNOWN)
		return false;
	note = undo_note(execution);
	note.step = move->event->step;
	note.attempt = 0;
	note.outcome = succeeded ? EVS_OUTCOME_SUCCEEDED : EVS_OUTCOME_NO_EFFECT;
	evs_move_record(move, "LateReply", &note);
	undo->tried = list_delete_int(undo->tried, (int) move->event->step);
	if (!succeeded)
		return true;
	if (undo->step != 0)
		evs_move_cancel_step(move, undo->step, NULL, EVS_OUTCOME_UNKNOWN);
	undo->step = move->event->step;
	if (execution->status == EVS_SAGA_COMPENSATION_FAILED)
		execution->status = EVS_SAGA_COMPENSATING;
	evs_undo_succeeded(move, move->event->data);
	return true;
}

/* ---- somebody decides ---- */

void
evs_undo_again(EvsMove *move)
{
	EvsUndo    *undo = &move->execution->undo;

	undo->retries = NULL;
	undo->nretries = 0;
	undo->due = move->event->now;
}

void
evs_undo_skip(EvsMove *move)
{
	finish(move, EVS_UNDO_SKIPPED);
}
