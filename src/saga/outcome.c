/*
 * outcome.c
 *	  How sagas end, and what becomes of those that have ended.
 *
 * A saga that fails, runs out of time or is cancelled undoes what it has done, if there is
 * something to undo and no pivot has succeeded.  Otherwise its threads are kept where they
 * stopped, and it can be tried again from there.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "saga/compensation.h"

/* ---- ends ---- */

/* state: where it failed, or NULL */
static void
end(EvsMove *move, EvsSagaStatus status, Jsonb *output, const char *state)
{
	static const char *const types[] = {
		[EVS_SAGA_SUCCEEDED] = "SagaSucceeded",
		[EVS_SAGA_COMPENSATED] = "SagaCompensated",
		[EVS_SAGA_FAILED] = "SagaFailed",
		[EVS_SAGA_CANCELLED] = "SagaCancelled",
		[EVS_SAGA_TIMED_OUT] = "SagaTimedOut"
	};
	EvsExecution *execution = move->execution;
	EvsNote		note = {.state = state, .output = output, .error = execution->error, .cause = execution->cause};
	EvsSagaAction *action;

	execution->status = status;
	execution->ended = 1;
	evs_move_record_end(move, types[status], &note);
	action = evs_move_action(move, EVS_ACTION_END);
	action->status = status;
	action->data = output;
	action->error = execution->error;
	action->cause = execution->cause;
}

/* An effect whose compensator gave up while the saga went on, or NULL. */
static EvsEffect *
failed_effect(const EvsExecution *execution)
{
	ListCell   *cell;

	foreach(cell, execution->effects)
	{
		EvsEffect  *effect = lfirst(cell);

		if (effect->undo == EVS_UNDO_FAILED)
			return effect;
	}
	return NULL;
}

/* What could not be undone on the way must not be forgotten. */
static void
end_unless_stuck(EvsMove *move, EvsSagaStatus status, Jsonb *output, const char *state)
{
	EvsExecution *execution = move->execution;
	const EvsEffect *effect = failed_effect(execution);
	EvsNote		note = {0};

	end(move, status, output, state);
	if (effect == NULL)
		return;
	execution->final_status = status;
	note.state = effect->path;
	note.compensates = effect->step;
	evs_saga_compensation_failed(move, &note);
}

void
evs_saga_succeeded(EvsMove *move, Jsonb *output)
{
	end_unless_stuck(move, EVS_SAGA_SUCCEEDED, output, NULL);
}

void
evs_saga_compensated(EvsMove *move)
{
	end(move, move->execution->final_status, NULL, NULL);
}

void
evs_saga_compensation_failed(EvsMove *move, const EvsNote *failure)
{
	EvsNote		note = *failure;

	note.step = 0;
	note.attempt = 0;
	note.outcome = EVS_OUTCOME_NONE;
	move->execution->status = EVS_SAGA_COMPENSATION_FAILED;
	evs_move_record(move, "SagaCompensationFailed", &note);
}

/* ---- stop, and undo ---- */

/* Nothing is in flight any more. */
static void
stop_threads(EvsMove *move)
{
	ListCell   *cell;

	foreach(cell, move->execution->threads)
		evs_task_withdraw(move, lfirst(cell));
}

static void
set_error(EvsExecution *execution, const char *error, const char *cause)
{
	execution->error = error == NULL ? NULL : pstrdup(error);
	execution->cause = cause == NULL ? NULL : pstrdup(cause);
}

/* false: there is nothing to undo. */
static bool
begin_compensation(EvsMove *move, EvsSagaStatus final_status, const char *reason, const char *state)
{
	EvsExecution *execution = move->execution;
	EvsSagaStatus status = execution->status;
	EvsNote		note = {.state = state, .error = execution->error, .cause = execution->cause, .reason = reason};

	execution->status = EVS_SAGA_COMPENSATING;
	if (!evs_undo_is_left(move))
	{
		execution->status = status;
		return false;
	}
	execution->final_status = final_status;
	execution->ended = 0;
	execution->threads = NIL;
	evs_move_record(move, "CompensationStarted", &note);
	return true;
}

void
evs_saga_failed(EvsMove *move, const char *error, const char *cause, const char *state)
{
	EvsExecution *execution = move->execution;

	set_error(execution, error, cause);
	stop_threads(move);
	if (move->definition->compensates && !execution->pivot &&
		begin_compensation(move, EVS_SAGA_COMPENSATED, "failure", state))
		return;
	end_unless_stuck(move, EVS_SAGA_FAILED, NULL, state);
}

void
evs_saga_deadline(EvsMove *move)
{
	EvsExecution *execution = move->execution;

	set_error(execution, EVS_ASL_TIMEOUT, "the saga has not ended within its time");
	stop_threads(move);
	if (move->definition->compensates && move->definition->on_deadline == EVS_DEADLINE_COMPENSATE &&
		!execution->pivot && begin_compensation(move, EVS_SAGA_TIMED_OUT, "deadline", NULL))
		return;
	end_unless_stuck(move, EVS_SAGA_TIMED_OUT, NULL, NULL);
}

/* ---- what people ask for ---- */

/* Who asks for compensation gets it, also where a failure would not compensate. */
bool
evs_saga_cancel(EvsMove *move)
{
	EvsExecution *execution = move->execution;
	const EvsSagaEvent *event = move->event;

	if (execution->status != EVS_SAGA_RUNNING)
		return false;
	set_error(execution, event->error, event->cause);
	stop_threads(move);
	if (event->compensate && !execution->pivot &&
		begin_compensation(move, EVS_SAGA_CANCELLED, "cancel", NULL))
		return true;
	end_unless_stuck(move, EVS_SAGA_CANCELLED, NULL, NULL);
	return true;
}

/* Threads are there as long as nothing has been undone by order. */
bool
evs_execution_can_compensate(const EvsExecution *execution)
{
	switch ((EvsSagaStatus) execution->status)
	{
		case EVS_SAGA_RUNNING:
		case EVS_SAGA_SUCCEEDED:
			return true;
		case EVS_SAGA_FAILED:
		case EVS_SAGA_TIMED_OUT:
		case EVS_SAGA_CANCELLED:
			return execution->threads != NIL;
		default:
			return false;
	}
}

/* An order: a pivot does not stand against it. */
bool
evs_saga_compensate(EvsMove *move)
{
	EvsExecution *execution = move->execution;
	const EvsSagaEvent *event = move->event;
	List	   *plan = NIL;
	char	   *problem;
	EvsNote		note = {.reason = "order"};

	if (!evs_execution_can_compensate(execution))
		return false;
	if (event->data != NULL && !evs_plan_read(move, event->data, &plan, &problem))
	{
		note.cause = problem;
		evs_move_record(move, "CompensationRefused", &note);
		return true;
	}
	set_error(execution, event->error, event->cause);
	stop_threads(move);
	execution->plan = plan;
	execution->planned = 0;
	if (!begin_compensation(move, EVS_SAGA_COMPENSATED, "order", NULL))
	{
		execution->threads = NIL;
		end(move, EVS_SAGA_COMPENSATED, NULL, NULL);
	}
	return true;
}

/* A saga that stopped goes on in the states where it did, with fresh counters. */
static void
resume_threads(EvsMove *move)
{
	EvsExecution *execution = move->execution;
	double		deadline = evs_saga_deadline_seconds(move->definition);
	ListCell   *cell;

	foreach(cell, execution->threads)
	{
		EvsThread  *thread = lfirst(cell);

		thread->retries = NULL;
		if (thread->status == EVS_THREAD_READY)
			evs_effect_resume(move, thread);
	}
	execution->status = EVS_SAGA_RUNNING;
	execution->ended = 0;
	execution->entries = 0;
	execution->deadline = deadline > 0 ? evs_seconds_after(move->event->now, deadline) : DT_NOEND;
	set_error(execution, NULL, NULL);
}

/* A compensation that gave up goes on, with other attempts. */
static void
resume_compensation(EvsMove *move)
{
	EvsExecution *execution = move->execution;
	ListCell   *cell;

	if (execution->undo.active)
	{
		execution->status = EVS_SAGA_COMPENSATING;
		evs_undo_again(move);
		return;
	}
	execution->status = execution->final_status;
	foreach(cell, execution->effects)
	{
		EvsEffect  *effect = lfirst(cell);

		if (effect->undo == EVS_UNDO_FAILED)
			effect->undo = EVS_UNDO_LATE;
	}
}

bool
evs_saga_retry(EvsMove *move)
{
	EvsExecution *execution = move->execution;
	EvsNote		note = {.cause = move->event->cause};

	switch ((EvsSagaStatus) execution->status)
	{
		case EVS_SAGA_COMPENSATION_FAILED:
			resume_compensation(move);
			break;
		case EVS_SAGA_FAILED:
		case EVS_SAGA_TIMED_OUT:
		case EVS_SAGA_CANCELLED:
			if (execution->threads == NIL)
				return false;
			resume_threads(move);
			break;
		default:
			return false;
	}
	evs_move_record(move, "SagaRetried", &note);
	return true;
}

/* ---- a compensation that failed ---- */

/* All that is still to be undone counts as done by hand. */
static void
skip_all(EvsExecution *execution)
{
	ListCell   *cell;

	foreach(cell, execution->effects)
	{
		EvsEffect  *effect = lfirst(cell);

		if (effect->undo != EVS_UNDO_DONE)
			effect->undo = EVS_UNDO_SKIPPED;
	}
	execution->planned = list_length(execution->plan);
	memset(&execution->undo, 0, sizeof(EvsUndo));
	execution->undo.timeout_at = DT_NOEND;
}

/* One that gave up beside a saga that went its way: nothing else hangs on it. */
static void
resolve_late(EvsExecution *execution, bool all)
{
	EvsEffect  *effect;

	while ((effect = failed_effect(execution)) != NULL)
	{
		effect->undo = EVS_UNDO_SKIPPED;
		if (!all)
			break;
	}
	if (failed_effect(execution) == NULL)
		execution->status = execution->final_status;
}

bool
evs_saga_resolve(EvsMove *move)
{
	EvsExecution *execution = move->execution;
	const char *word = move->event->error == NULL ? "" : move->event->error;
	bool		skip = strcmp(word, "skip") == 0;
	bool		compensated = strcmp(word, "compensated") == 0;
	EvsNote		note = {.cause = move->event->cause, .reason = word};

	if (execution->status != EVS_SAGA_COMPENSATION_FAILED ||
		!(skip || compensated || strcmp(word, "failed") == 0))
		return false;
	evs_move_record(move, "SagaResolved", &note);
	if (!execution->undo.active)
		resolve_late(execution, !skip);
	else if (skip)
	{
		execution->status = EVS_SAGA_COMPENSATING;
		evs_undo_skip(move);
	}
	else
	{
		skip_all(execution);
		end(move, compensated ? EVS_SAGA_COMPENSATED : EVS_SAGA_FAILED, NULL, NULL);
	}
	return true;
}
