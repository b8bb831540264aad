/*
 * machine.c
 *	  What happens next in an instance of a saga.
 *
 * One piece of work (EVS_SAGA_ADVANCE) is: what is due; then the compensator whose turn it
 * is; then threads, until one of them starts a step or none can go on.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "saga/compensation.h"

/* States that one transition enters at most; what is left is for the next one. */
#define STATES_AT_ONCE	1000

/* ---- START ---- */

/* Of the option deadline and the machine's TimeoutSeconds, what is less; 0 = none. */
double
evs_saga_deadline_seconds(const EvsSagaDefinition *definition)
{
	double		option = definition->deadline;
	double		machine = definition->machine->timeout;

	return option > 0 && machine > 0 ? Min(option, machine) : Max(option, machine);
}

static bool
start(EvsMove *move)
{
	EvsExecution *execution = move->execution;
	const EvsSagaDefinition *definition = move->definition;
	double		deadline = evs_saga_deadline_seconds(definition);

	if (execution->last_thread != 0)
		return false;
	evs_thread_new(execution, NULL, definition->machine, 0)->input = move->event->data;
	if (deadline > 0)
		execution->deadline = evs_seconds_after(move->event->started_at, deadline);
	evs_move_record_start(move);
	return true;
}

/* ---- ADVANCE ---- */

/* The thread that has the earliest thing due, or NULL. */
static EvsThread *
first_due(const EvsExecution *execution, TimestampTz now)
{
	EvsThread  *first = NULL;
	ListCell   *cell;

	foreach(cell, execution->threads)
	{
		EvsThread  *thread = lfirst(cell);

		if (thread->status == EVS_THREAD_READY || evs_thread_due(thread) > now)
			continue;
		if (first == NULL || evs_thread_due(thread) < evs_thread_due(first))
			first = thread;
	}
	return first;
}

static void
fire(EvsMove *move, EvsThread *thread)
{
	switch ((EvsThreadStatus) thread->status)
	{
		case EVS_THREAD_STEP:
			evs_task_timed_out(move, thread);
			break;
		case EVS_THREAD_WAIT:
			evs_state_waited(move, thread);
			break;
		case EVS_THREAD_RETRY:
			thread->status = EVS_THREAD_READY;
			break;
		case EVS_THREAD_READY:
		case EVS_THREAD_FORK:
			break;
	}
}

static bool
fire_due(EvsMove *move)
{
	EvsExecution *execution = move->execution;
	TimestampTz now = move->event->now;
	bool		fired = false;
	EvsThread  *thread;

	if (execution->undo.active && execution->undo.step != 0 && execution->undo.timeout_at <= now)
	{
		evs_undo_timed_out(move);
		fired = true;
	}
	while (execution->status == EVS_SAGA_RUNNING && (thread = first_due(execution, now)) != NULL)
	{
		if (execution->deadline <= evs_thread_due(thread))
			break;
		fire(move, thread);
		fired = true;
	}
	if (execution->status == EVS_SAGA_RUNNING && execution->deadline <= now)
	{
		evs_saga_deadline(move);
		fired = true;
	}
	return fired;
}

static bool
run_threads(EvsMove *move)
{
	EvsExecution *execution = move->execution;
	bool		ran = false;
	EvsThread  *thread;

	while (!move->started && move->budget > 0 && execution->status == EVS_SAGA_RUNNING &&
		   (thread = evs_thread_ready(execution)) != NULL)
	{
		evs_state_enter(move, thread);
		ran = true;
	}
	return ran;
}

static bool
advance(EvsMove *move)
{
	bool		done = fire_due(move);

	if (evs_undo_start(move))
		done = true;
	return run_threads(move) || done;
}

/* ---- replies ---- */

static bool
step_succeeded(EvsMove *move)
{
	EvsExecution *execution = move->execution;
	EvsThread  *thread = evs_thread_of_step(execution, move->event->step);
	Jsonb	   *output = move->event->data != NULL ? move->event->data : evs_asl_null();

	if (thread != NULL)
		evs_task_succeeded(move, thread, output);
	else if (execution->undo.step != 0 && execution->undo.step == move->event->step)
		evs_undo_succeeded(move, output);
	else
		return evs_late_success(move);
	return true;
}

static bool
step_failed(EvsMove *move)
{
	EvsExecution *execution = move->execution;
	const EvsSagaEvent *event = move->event;
	EvsThread  *thread = evs_thread_of_step(execution, event->step);

	if (thread != NULL)
		evs_task_failed(move, thread);
	else if (execution->undo.step != 0 && execution->undo.step == event->step)
		evs_undo_failed(move, event->error != NULL ? event->error : EVS_ASL_TASK_FAILED, event->cause,
						event->outcome == EVS_OUTCOME_UNKNOWN ? event->outcome : EVS_OUTCOME_NO_EFFECT);
	else
		return evs_late_failure(move);
	return true;
}

static bool
heartbeat(EvsMove *move)
{
	EvsThread  *thread = evs_thread_of_step(move->execution, move->event->step);

	if (thread == NULL || thread->heartbeat == 0 ||
		thread->heartbeat_at >= move->event->now + thread->heartbeat)
		return false;
	thread->heartbeat_at = move->event->now + thread->heartbeat;
	return true;
}

/* ---- the function ---- */

/* What a thread that has not gone on yet has as input is stored as nothing at all. */
static void
fill_in_inputs(EvsExecution *execution, Jsonb *input)
{
	ListCell   *cell;

	foreach(cell, execution->threads)
	{
		EvsThread  *thread = lfirst(cell);

		if (thread->input == NULL)
			thread->input = input;
	}
}

static bool
apply(EvsMove *move)
{
	switch (move->event->kind)
	{
		case EVS_SAGA_START:
			return start(move);
		case EVS_SAGA_ADVANCE:
			return advance(move);
		case EVS_SAGA_STEP_SUCCEEDED:
			return step_succeeded(move);
		case EVS_SAGA_STEP_FAILED:
			return step_failed(move);
		case EVS_SAGA_HEARTBEAT:
			return heartbeat(move);
		case EVS_SAGA_CANCEL:
			return evs_saga_cancel(move);
		case EVS_SAGA_RETRY:
			return evs_saga_retry(move);
		case EVS_SAGA_RESOLVE:
			return evs_saga_resolve(move);
		case EVS_SAGA_COMPENSATE:
			return evs_saga_compensate(move);
	}
	return false;
}

bool
evs_saga_transition(EvsTransition *transition, EvsExecution *execution, const EvsSagaEvent *event)
{
	EvsMove		move = {
		.transition = transition,
		.definition = transition->definition,
		.execution = execution,
		.event = event,
		.budget = STATES_AT_ONCE
	};

	transition->actions = NIL;
	execution->input = event->kind == EVS_SAGA_START ? event->data : event->input;
	fill_in_inputs(execution, execution->input);
	return apply(&move);
}
