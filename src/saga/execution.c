/*
 * execution.c
 *	  Where an instance of a saga is: threads, and when there is something to do.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/timestamp.h"

#include "saga/execution.h"
#include "saga/compensation.h"

static const char *const status_names[] = {
	[EVS_SAGA_RUNNING] = "running",
	[EVS_SAGA_COMPENSATING] = "compensating",
	[EVS_SAGA_SUCCEEDED] = "succeeded",
	[EVS_SAGA_COMPENSATED] = "compensated",
	[EVS_SAGA_FAILED] = "failed",
	[EVS_SAGA_COMPENSATION_FAILED] = "compensation_failed",
	[EVS_SAGA_CANCELLED] = "cancelled",
	[EVS_SAGA_TIMED_OUT] = "timed_out"
};

const char *
evs_saga_status_name(EvsSagaStatus status)
{
	return status_names[status];
}

const char *
evs_outcome_name(EvsOutcome outcome)
{
	switch (outcome)
	{
		case EVS_OUTCOME_SUCCEEDED:
			return "succeeded";
		case EVS_OUTCOME_NO_EFFECT:
			return "no_effect";
		case EVS_OUTCOME_UNKNOWN:
			return "unknown";
		default:
			return NULL;
	}
}

EvsExecution *
evs_execution_new(void)
{
	EvsExecution *execution = palloc0(sizeof(EvsExecution));

	execution->deadline = DT_NOEND;
	execution->undo.timeout_at = DT_NOEND;
	return execution;
}

EvsSagaStatus
evs_execution_status(const EvsExecution *execution)
{
	return execution->status;
}

TimestampTz
evs_execution_due(const EvsExecution *execution)
{
	TimestampTz due = evs_undo_due(execution);
	ListCell   *cell;

	if (execution->status != EVS_SAGA_RUNNING)
		return due;
	due = Min(due, execution->deadline);
	foreach(cell, execution->threads)
		due = Min(due, evs_thread_due(lfirst(cell)));
	return due;
}

/* ---- threads ---- */

/* Its numbers of visits are above all that the state has had: that of a step is in its key. */
EvsThread *
evs_thread_new(EvsExecution *execution, const EvsThread *parent, const EvsMachine *machine, int64 index)
{
	EvsThread  *thread = palloc0(sizeof(EvsThread));

	thread->id = ++execution->last_thread;
	thread->parent = parent == NULL ? 0 : parent->id;
	thread->index = index;
	thread->machine = machine;
	thread->base = parent == NULL ? 0 : parent->visits[parent->state];
	thread->visits = palloc(sizeof(int) * machine->nstates);
	for (int i = 0; i < machine->nstates; i++)
		thread->visits[i] = thread->base;
	evs_thread_move(thread, machine->start);
	execution->threads = lappend(execution->threads, thread);
	return thread;
}

EvsThread *
evs_thread_find(const EvsExecution *execution, int64 id)
{
	ListCell   *cell;

	foreach(cell, execution->threads)
	{
		EvsThread  *thread = lfirst(cell);

		if (thread->id == id)
			return thread;
	}
	return NULL;
}

EvsThread *
evs_thread_of_step(const EvsExecution *execution, int64 step)
{
	ListCell   *cell;

	foreach(cell, execution->threads)
	{
		EvsThread  *thread = lfirst(cell);

		if (thread->status == EVS_THREAD_STEP && thread->step == step)
			return thread;
	}
	return NULL;
}

/* The first one after that whose turn it was, or else the first of all. */
EvsThread *
evs_thread_ready(const EvsExecution *execution)
{
	EvsThread  *first = NULL;
	ListCell   *cell;

	foreach(cell, execution->threads)
	{
		EvsThread  *thread = lfirst(cell);

		if (thread->status != EVS_THREAD_READY)
			continue;
		if (thread->id > execution->turn)
			return thread;
		if (first == NULL)
			first = thread;
	}
	return first;
}

const EvsSagaState *
evs_thread_state(const EvsThread *thread)
{
	return &thread->machine->states[thread->state];
}

char *
evs_thread_path(const EvsExecution *execution, const EvsThread *thread)
{
	const char *name = evs_thread_state(thread)->name;
	const EvsThread *parent = evs_thread_find(execution, thread->parent);

	if (parent == NULL)
		return pstrdup(name);
	return psprintf("%s[" INT64_FORMAT "].%s", evs_thread_path(execution, parent), thread->index, name);
}

void
evs_thread_move(EvsThread *thread, int state)
{
	thread->state = state;
	thread->status = EVS_THREAD_READY;
	thread->entered = 0;
	thread->attempt = 0;
	thread->retries = NULL;
	thread->lost = NIL;
	thread->late = 0;
	thread->due = 0;
	thread->step = 0;
	thread->timeout_at = DT_NOEND;
	thread->heartbeat_at = DT_NOEND;
	thread->heartbeat = 0;
	thread->count = 0;
	thread->begun = 0;
	thread->limit = 0;
	thread->top = 0;
	thread->results = NULL;
}

void
evs_thread_enter(EvsThread *thread, TimestampTz now)
{
	if (thread->entered != 0)
		return;
	thread->entered = now;
	if (evs_thread_state(thread)->type == EVS_STATE_TASK)
		thread->visits[thread->state]++;
}

TimestampTz
evs_thread_due(const EvsThread *thread)
{
	switch ((EvsThreadStatus) thread->status)
	{
		case EVS_THREAD_READY:
			return DT_NOBEGIN;
		case EVS_THREAD_STEP:
			return Min(thread->timeout_at, thread->heartbeat_at);
		case EVS_THREAD_WAIT:
		case EVS_THREAD_RETRY:
			return thread->due;
		case EVS_THREAD_FORK:
			break;
	}
	return DT_NOEND;
}

Jsonb *
evs_thread_variables(const EvsExecution *execution, const EvsThread *thread)
{
	const EvsThread *parent = evs_thread_find(execution, thread->parent);
	Jsonb	   *outer = parent == NULL ? NULL : evs_thread_variables(execution, parent);

	if (outer == NULL)
		return thread->variables;
	return thread->variables == NULL ? outer : evs_asl_merge(outer, thread->variables);
}

bool
evs_thread_is_below(const EvsExecution *execution, const EvsThread *thread, int64 id)
{
	while (thread != NULL && thread->parent != 0)
	{
		if (thread->parent == id)
			return true;
		thread = evs_thread_find(execution, thread->parent);
	}
	return false;
}
