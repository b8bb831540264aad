/*
 * effect.c
 *	  The log of what Tasks have done, or may have done; replies that come late.
 *
 * There is one entry for each visit, in the order of their completion.  Of states that
 * nothing undoes, the newest one is kept, for explicit lists of compensations.
 */
#include "postgres.h"

#include "saga/compensation.h"

/* ---- the log ---- */

static EvsEffect *
find_visit(const EvsExecution *execution, const char *path, int64 visit)
{
	ListCell   *cell;

	foreach(cell, execution->effects)
	{
		EvsEffect  *effect = lfirst(cell);

		if (effect->visit == visit && strcmp(effect->path, path) == 0)
			return effect;
	}
	return NULL;
}

static EvsEffect *
find_lost(const EvsExecution *execution, int64 step)
{
	ListCell   *cell;

	foreach(cell, execution->effects)
	{
		EvsEffect  *effect = lfirst(cell);

		if (list_member_int(effect->lost, (int) step))
			return effect;
	}
	return NULL;
}

static void
forget(EvsExecution *execution, EvsEffect *effect)
{
	execution->effects = list_delete_ptr(execution->effects, effect);
}

/* Nothing will ask for older ones of a state that nothing undoes. */
static void
forget_older(EvsExecution *execution, const EvsSagaState *state)
{
	EvsRemedy	remedy;
	ListCell   *cell;

	if (evs_state_remedy(state, &remedy))
		return;
	foreach(cell, execution->effects)
	{
		EvsEffect  *effect = lfirst(cell);

		if (effect->state == state)
			execution->effects = foreach_delete_current(execution->effects, cell);
	}
}

static EvsEffect *
add(EvsMove *move, const EvsThread *thread, int64 step, EvsOutcome outcome)
{
	EvsExecution *execution = move->execution;
	EvsEffect  *effect = palloc0(sizeof(EvsEffect));

	effect->state = evs_thread_state(thread);
	effect->path = evs_thread_path(execution, thread);
	effect->visit = thread->visits[thread->state];
	effect->step = step;
	effect->outcome = outcome;
	effect->lost = list_copy(thread->lost);
	forget_older(execution, effect->state);
	execution->effects = lappend(execution->effects, effect);
	return effect;
}

/* From here on a saga that fails stays where it is. */
static void
note_pivot(EvsExecution *execution, const EvsSagaState *state)
{
	if (state->compensator != NULL && state->compensator->pivot)
		execution->pivot = 1;
}

/* The visit may have succeeded before, and then its output could not be used. */
void
evs_effect_succeeded(EvsMove *move, EvsThread *thread, int64 step)
{
	EvsExecution *execution = move->execution;
	EvsEffect  *before = find_visit(execution, evs_thread_path(execution, thread), thread->visits[thread->state]);
	EvsEffect  *effect;

	if (before != NULL && before->undo != EVS_UNDO_NO)
		before = NULL;
	if (before != NULL)
		forget(execution, before);
	effect = add(move, thread, step, EVS_OUTCOME_SUCCEEDED);
	if (before != NULL)
		effect->lost = list_concat(effect->lost, before->lost);
	note_pivot(execution, effect->state);
	thread->lost = NIL;
	thread->late = 0;
}

/* A saga that compensates undoes all there is in its order: no need to single it out. */
static void
undo_in_any_case(EvsMove *move, EvsEffect *effect)
{
	EvsExecution *execution = move->execution;
	bool		compensates = execution->status == EVS_SAGA_COMPENSATING;

	if (execution->status == EVS_SAGA_COMPENSATION_FAILED && !execution->ended)
		compensates = true;
	note_pivot(execution, effect->state);
	if (effect->undo == EVS_UNDO_NO && evs_effect_can_be_undone(effect) &&
		!(compensates && execution->plan == NIL))
		effect->undo = EVS_UNDO_LATE;
}

void
evs_effect_given_up(EvsMove *move, EvsThread *thread)
{
	EvsExecution *execution = move->execution;
	EvsEffect  *before;

	if (thread->lost == NIL && thread->late == 0)
		return;
	before = find_visit(execution, evs_thread_path(execution, thread), thread->visits[thread->state]);
	if (before != NULL)
		before->lost = list_concat(before->lost, thread->lost);
	else if (thread->late != 0)
		undo_in_any_case(move, add(move, thread, thread->late, EVS_OUTCOME_SUCCEEDED));
	else
		add(move, thread, llast_int(thread->lost), EVS_OUTCOME_UNKNOWN);
	thread->lost = NIL;
	thread->late = 0;
}

void
evs_effect_resume(EvsMove *move, EvsThread *thread)
{
	EvsExecution *execution = move->execution;
	EvsEffect  *effect;

	if (thread->entered == 0 || evs_thread_state(thread)->type != EVS_STATE_TASK)
		return;
	effect = find_visit(execution, evs_thread_path(execution, thread), thread->visits[thread->state]);
	if (effect == NULL || (effect->undo == EVS_UNDO_NO && effect->outcome == EVS_OUTCOME_SUCCEEDED))
		return;
	if (effect->undo != EVS_UNDO_NO && effect->undo != EVS_UNDO_LATE)
	{
		evs_thread_move(thread, thread->state);
		return;
	}
	thread->lost = effect->lost;
	if (effect->outcome == EVS_OUTCOME_SUCCEEDED)
		thread->late = effect->step;
	forget(execution, effect);
}

/* ---- late replies ---- */

static EvsThread *
find_thread(const EvsExecution *execution, int64 step)
{
	ListCell   *cell;

	foreach(cell, execution->threads)
	{
		EvsThread  *thread = lfirst(cell);

		if (list_member_int(thread->lost, (int) step))
			return thread;
	}
	return NULL;
}

static void
record_late(EvsMove *move, const char *path, int64 visit, EvsOutcome outcome)
{
	const EvsSagaEvent *event = move->event;
	EvsNote		note = {.step = event->step, .state = path, .visit = visit, .outcome = outcome};

	if (outcome == EVS_OUTCOME_SUCCEEDED)
		note.output = event->data;
	else
	{
		note.error = event->error;
		note.cause = event->cause;
	}
	evs_move_record(move, "LateReply", &note);
}

/* Of a visit that goes on: by a later attempt, or by what comes after them. */
static void
late_for_thread(EvsMove *move, EvsThread *thread, EvsOutcome outcome)
{
	int64		step = move->event->step;

	record_late(move, evs_thread_path(move->execution, thread), thread->visits[thread->state], outcome);
	thread->lost = list_delete_int(thread->lost, (int) step);
	if (outcome == EVS_OUTCOME_SUCCEEDED)
		thread->late = step;
}

bool
evs_late_success(EvsMove *move)
{
	EvsExecution *execution = move->execution;
	int64		step = move->event->step;
	EvsThread  *thread = find_thread(execution, step);
	EvsEffect  *effect;

	if (thread != NULL)
	{
		late_for_thread(move, thread, EVS_OUTCOME_SUCCEEDED);
		return true;
	}
	effect = find_lost(execution, step);
	if (effect == NULL)
		return evs_undo_late(move, true);
	record_late(move, effect->path, effect->visit, EVS_OUTCOME_SUCCEEDED);
	effect->lost = list_delete_int(effect->lost, (int) step);
	if (effect->outcome != EVS_OUTCOME_UNKNOWN)
		return true;
	effect->outcome = EVS_OUTCOME_SUCCEEDED;
	effect->step = step;
	undo_in_any_case(move, effect);
	return true;
}

/* That it has failed takes an effect away only if the failure had none. */
bool
evs_late_failure(EvsMove *move)
{
	EvsExecution *execution = move->execution;
	const EvsSagaEvent *event = move->event;
	EvsThread  *thread = find_thread(execution, event->step);
	EvsEffect  *effect = find_lost(execution, event->step);
	const EvsSagaState *state;

	if (thread == NULL && effect == NULL)
		return evs_undo_late(move, false);
	state = thread != NULL ? evs_thread_state(thread) : effect->state;
	if (evs_failure_outcome(state, event->error, event->outcome) != EVS_OUTCOME_NO_EFFECT)
		return false;
	if (thread != NULL)
	{
		late_for_thread(move, thread, EVS_OUTCOME_NO_EFFECT);
		return true;
	}
	record_late(move, effect->path, effect->visit, EVS_OUTCOME_NO_EFFECT);
	effect->lost = list_delete_int(effect->lost, (int) event->step);
	if (effect->outcome != EVS_OUTCOME_UNKNOWN || effect->undo == EVS_UNDO_RUNNING)
		return true;
	if (effect->lost == NIL)
		forget(execution, effect);
	else
		effect->step = llast_int(effect->lost);
	return true;
}
