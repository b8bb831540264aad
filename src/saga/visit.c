/*
 * visit.c
 *	  Tasks: steps that start, reply, or do not.
 *
 * A visit of a Task may need several steps, by its Retry.  All have the same idempotency
 * key, so the last of them to succeed is what the visit has done; a step of which nobody
 * knows what it did (EVS_OUTCOME_UNKNOWN) matters only if none does.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "saga/move.h"

/* ---- begin ---- */

/* TimeoutSeconds or HeartbeatSeconds, by number or by path; 0 = none. */
static double
seconds_of(EvsEvaluation *e, double constant, const EvsAslPath *path, Jsonb *input, const char *field)
{
	double		seconds;
	Jsonb	   *value;

	if (path == NULL)
		return constant;
	value = evs_evaluate_path(e, path, input, field);
	if (value == NULL)
		return 0;
	if (evs_asl_number(value, &seconds) && seconds > 0)
		return seconds;
	evs_asl_fail(&e->error, EVS_ASL_RUNTIME, "%s of state \"%s\" names no number of seconds",
				 field, evs_thread_state(e->thread)->name);
	return 0;
}

static void
start_step(EvsMove *move, EvsThread *thread, Jsonb *payload)
{
	const EvsSagaState *state = evs_thread_state(thread);
	EvsSagaAction *action = evs_move_action(move, EVS_ACTION_START_STEP);
	EvsNote		note = {.input = payload};

	thread->status = EVS_THREAD_STEP;
	thread->step = ++move->execution->last_step;
	action->step = note.step = thread->step;
	action->resource = &state->resource;
	action->state = note.state = evs_thread_path(move->execution, thread);
	action->visit = note.visit = thread->visits[thread->state];
	action->attempt = note.attempt = thread->attempt;
	action->payload = payload;
	action->timeout_at = thread->timeout_at;
	action->heartbeat_at = thread->heartbeat_at;
	action->heartbeat = (double) thread->heartbeat / USECS_PER_SEC;
	note.resource = state->resource.text;
	evs_move_record(move, "StepStarted", &note);
	move->started = true;
}

void
evs_task_enter(EvsMove *move, EvsThread *thread)
{
	const EvsSagaState *state = evs_thread_state(thread);
	TimestampTz now = move->event->now;
	double		timeout = 0;
	double		heartbeat = 0;
	EvsEvaluation e;
	Jsonb	   *input;
	Jsonb	   *payload;

	thread->attempt++;
	evs_evaluation_init(&e, move, thread);
	payload = input = evs_effective_input(&e);
	if (input != NULL && state->parameters != NULL)
		payload = evs_evaluate_template(&e, state->parameters, input);
	if (e.error.name == NULL)
		timeout = seconds_of(&e, state->timeout, state->timeout_path, input, "TimeoutSecondsPath");
	if (e.error.name == NULL)
		heartbeat = seconds_of(&e, state->heartbeat, state->heartbeat_path, input, "HeartbeatSecondsPath");
	if (e.error.name != NULL || !evs_within_limit(&e, payload, "input"))
	{
		evs_state_failed(move, thread, e.error.name, e.error.cause);
		return;
	}
	thread->timeout_at = timeout > 0 ? evs_seconds_after(now, timeout) : DT_NOEND;
	thread->heartbeat_at = heartbeat > 0 ? evs_seconds_after(now, heartbeat) : DT_NOEND;
	thread->heartbeat = evs_seconds_after(0, heartbeat);
	start_step(move, thread, payload);
}

/* ---- end ---- */

/* What records of a thread's step have in common. */
static EvsNote
step_note(EvsMove *move, const EvsThread *thread)
{
	EvsNote		note = {.step = thread->step, .attempt = thread->attempt};

	note.state = evs_thread_path(move->execution, thread);
	note.visit = thread->visits[thread->state];
	return note;
}

static void
step_ended(EvsThread *thread)
{
	thread->status = EVS_THREAD_READY;
	thread->step = 0;
	thread->timeout_at = DT_NOEND;
	thread->heartbeat_at = DT_NOEND;
	thread->heartbeat = 0;
}

static void
step_lost(EvsThread *thread, EvsOutcome outcome)
{
	if (outcome == EVS_OUTCOME_UNKNOWN)
		thread->lost = lappend_int(thread->lost, (int) thread->step);
	step_ended(thread);
}

/*
 * What is known of a step that nobody waits for any more.  Who waits for an event or a
 * signal does nothing.
 */
static EvsOutcome
unanswered_outcome(const EvsSagaState *state)
{
	if (state->resource.kind == EVS_RESOURCE_EVENT || state->resource.kind == EVS_RESOURCE_SIGNAL)
		return EVS_OUTCOME_NO_EFFECT;
	return EVS_OUTCOME_UNKNOWN;
}

EvsOutcome
evs_failure_outcome(const EvsSagaState *state, const char *error, EvsOutcome reported)
{
	const EvsCompensator *compensator = state->compensator;

	if (compensator != NULL && evs_error_matches(compensator->no_effect, compensator->nno_effect, error))
		return EVS_OUTCOME_NO_EFFECT;
	return reported == EVS_OUTCOME_UNKNOWN ? reported : EVS_OUTCOME_NO_EFFECT;
}

void
evs_task_succeeded(EvsMove *move, EvsThread *thread, Jsonb *output)
{
	EvsNote		note = step_note(move, thread);

	note.output = output;
	note.outcome = EVS_OUTCOME_SUCCEEDED;
	evs_move_record(move, "StepSucceeded", &note);
	evs_effect_succeeded(move, thread, thread->step);
	step_ended(thread);
	evs_state_succeeded(move, thread, output);
}

void
evs_task_failed(EvsMove *move, EvsThread *thread)
{
	EvsNote		note = step_note(move, thread);

	note.error = move->event->error != NULL ? move->event->error : EVS_ASL_TASK_FAILED;
	note.cause = move->event->cause;
	note.outcome = evs_failure_outcome(evs_thread_state(thread), note.error, move->event->outcome);
	evs_move_record(move, "StepFailed", &note);
	step_lost(thread, note.outcome);
	evs_state_failed(move, thread, note.error, note.cause);
}

void
evs_task_timed_out(EvsMove *move, EvsThread *thread)
{
	const EvsSagaState *state = evs_thread_state(thread);
	bool		is_timeout = thread->timeout_at <= thread->heartbeat_at;
	EvsNote		note = step_note(move, thread);

	note.error = is_timeout ? EVS_ASL_TIMEOUT : EVS_ASL_HEARTBEAT_TIMEOUT;
	note.cause = is_timeout ? "the step has not ended within its time" :
		"the step has not shown any sign of life within its time";
	note.outcome = evs_failure_outcome(state, note.error, unanswered_outcome(state));
	evs_move_cancel_step(move, note.step, note.error, note.outcome);
	evs_move_record(move, "StepTimedOut", &note);
	step_lost(thread, note.outcome);
	evs_state_failed(move, thread, note.error, note.cause);
}

void
evs_task_withdraw(EvsMove *move, EvsThread *thread)
{
	if (thread->status == EVS_THREAD_STEP)
	{
		EvsNote		note = step_note(move, thread);

		note.outcome = unanswered_outcome(evs_thread_state(thread));
		evs_move_cancel_step(move, note.step, NULL, note.outcome);
		evs_move_record(move, "StepWithdrawn", &note);
		step_lost(thread, note.outcome);
	}
	else if (thread->status == EVS_THREAD_RETRY)
		thread->status = EVS_THREAD_READY;
	evs_effect_given_up(move, thread);
}
