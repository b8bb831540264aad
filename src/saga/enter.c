/*
 * enter.c
 *	  States: entered, and left with an output.
 *
 * A state's data goes InputPath → Parameters → what the state does → ResultSelector →
 * Assign → ResultPath (into the input as it came in) → OutputPath.  What cannot be evaluated
 * fails the state as a step of it would.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "saga/move.h"

/* ---- on to the next state ---- */

void
evs_state_left(EvsMove *move, EvsThread *thread, int next, Jsonb *output, Jsonb *assigned)
{
	if (assigned != NULL)
		thread->variables = thread->variables == NULL ? assigned :
			evs_asl_merge(thread->variables, assigned);
	if (next < 0)
	{
		evs_thread_ended(move, thread, output);
		return;
	}
	thread->input = output;
	evs_thread_move(thread, next);
	/* Whoever gets there has come to its end, and need not wait for its turn. */
	if (evs_thread_state(thread)->type == EVS_STATE_SUCCEED)
		evs_state_enter(move, thread);
}

static void
fail(EvsMove *move, EvsThread *thread, const EvsEvaluation *e)
{
	evs_state_failed(move, thread, e->error.name, e->error.cause);
}

/* With an output that is not the state's own: of what came in. */
static void
leave(EvsMove *move, EvsThread *thread, EvsEvaluation *e, int next, Jsonb *input, const EvsAslTemplate *assign)
{
	Jsonb	   *assigned = NULL;
	Jsonb	   *output = NULL;

	if (assign != NULL)
		assigned = evs_evaluate_template(e, assign, input);
	if (e->error.name == NULL)
		output = evs_effective_output(e, input);
	if (e->error.name != NULL)
		fail(move, thread, e);
	else
		evs_state_left(move, thread, next, output, assigned);
}

static Jsonb *
place_result(EvsEvaluation *e, Jsonb *result)
{
	const EvsSagaState *state = evs_thread_state(e->thread);

	if (state->discard_result)
		return e->thread->input;
	if (state->result_path == NULL)
		return result;
	return evs_asl_path_put(state->result_path, e->thread->input, result, &e->error);
}

void
evs_state_succeeded(EvsMove *move, EvsThread *thread, Jsonb *result)
{
	const EvsSagaState *state = evs_thread_state(thread);
	Jsonb	   *assigned = NULL;
	EvsEvaluation e;

	evs_evaluation_init(&e, move, thread);
	if (evs_within_limit(&e, result, "result") && state->result_selector != NULL)
		result = evs_evaluate_template(&e, state->result_selector, result);
	if (e.error.name == NULL && state->assign != NULL)
		assigned = evs_evaluate_template(&e, state->assign, result);
	if (e.error.name == NULL)
		result = place_result(&e, result);
	if (e.error.name == NULL)
		result = evs_effective_output(&e, result);
	if (e.error.name != NULL)
		fail(move, thread, &e);
	else
		evs_state_left(move, thread, state->next, result, assigned);
}

/* ---- the types of states ---- */

static void
enter_pass(EvsMove *move, EvsThread *thread)
{
	const EvsSagaState *state = evs_thread_state(thread);
	EvsEvaluation e;
	Jsonb	   *result;

	evs_evaluation_init(&e, move, thread);
	result = evs_effective_input(&e);
	if (result != NULL && state->parameters != NULL)
		result = evs_evaluate_template(&e, state->parameters, result);
	if (e.error.name != NULL)
		fail(move, thread, &e);
	else
		evs_state_succeeded(move, thread, state->result != NULL ? state->result : result);
}

static void
enter_choice(EvsMove *move, EvsThread *thread)
{
	const EvsSagaState *state = evs_thread_state(thread);
	EvsEvaluation e;
	Jsonb	   *input;

	evs_evaluation_init(&e, move, thread);
	input = evs_effective_input(&e);
	for (int i = 0; i < state->nchoices && e.error.name == NULL; i++)
	{
		const EvsChoice *choice = &state->choices[i];

		if (!evs_evaluate_rule(&e, choice->rule, input))
			continue;
		leave(move, thread, &e, choice->next, input, choice->assign);
		return;
	}
	if (e.error.name == NULL && state->default_next >= 0)
	{
		leave(move, thread, &e, state->default_next, input, state->assign);
		return;
	}
	evs_asl_fail(&e.error, EVS_ASL_NO_CHOICE, "no rule of state \"%s\" matches its input, and it has no Default",
				 state->name);
	fail(move, thread, &e);
}

static TimestampTz
wait_until(EvsEvaluation *e, const EvsSagaState *state, Jsonb *input)
{
	TimestampTz now = e->move->event->now;
	TimestampTz until;
	double		seconds;
	Jsonb	   *value;
	char	   *string;

	if (state->seconds_path != NULL)
	{
		value = evs_evaluate_expression(e, state->seconds_path, input);
		if (value != NULL && evs_asl_number(value, &seconds) && seconds >= 0)
			return evs_seconds_after(now, seconds);
		evs_asl_fail(&e->error, EVS_ASL_RUNTIME, "SecondsPath of state \"%s\" names no number of seconds", state->name);
		return now;
	}
	if (state->timestamp_path != NULL)
	{
		value = evs_evaluate_expression(e, state->timestamp_path, input);
		string = value == NULL ? NULL : evs_asl_text(value);
		if (string != NULL && evs_asl_timestamp(string, &until))
			return until;
		evs_asl_fail(&e->error, EVS_ASL_RUNTIME, "TimestampPath of state \"%s\" names no time", state->name);
		return now;
	}
	return state->timestamp != DT_NOEND ? state->timestamp : evs_seconds_after(now, state->seconds);
}

static void
enter_wait(EvsMove *move, EvsThread *thread)
{
	EvsEvaluation e;
	Jsonb	   *input;
	TimestampTz until = 0;

	evs_evaluation_init(&e, move, thread);
	input = evs_effective_input(&e);
	if (input != NULL)
		until = wait_until(&e, evs_thread_state(thread), input);
	if (e.error.name != NULL)
		fail(move, thread, &e);
	else if (until <= move->event->now)
		evs_state_waited(move, thread);
	else
	{
		thread->status = EVS_THREAD_WAIT;
		thread->due = until;
	}
}

void
evs_state_waited(EvsMove *move, EvsThread *thread)
{
	const EvsSagaState *state = evs_thread_state(thread);
	EvsEvaluation e;
	Jsonb	   *input;

	evs_evaluation_init(&e, move, thread);
	input = evs_effective_input(&e);
	if (input == NULL)
		fail(move, thread, &e);
	else
		leave(move, thread, &e, state->next, input, state->assign);
}

static void
enter_succeed(EvsMove *move, EvsThread *thread)
{
	EvsEvaluation e;
	Jsonb	   *input;

	evs_evaluation_init(&e, move, thread);
	input = evs_effective_input(&e);
	if (input == NULL)
		fail(move, thread, &e);
	else
		leave(move, thread, &e, -1, input, NULL);
}

/* Error or Cause of a Fail state: as it is, or what a path names, which must be a string. */
static const char *
fail_text(EvsEvaluation *e, const char *constant, const EvsAslExpression *path, const char *field)
{
	Jsonb	   *value;
	char	   *string;

	if (path == NULL)
		return constant;
	value = evs_evaluate_expression(e, path, e->thread->input);
	string = value == NULL ? NULL : evs_asl_text(value);
	if (string == NULL)
		evs_asl_fail(&e->error, EVS_ASL_RUNTIME, "%s of state \"%s\" names no string",
					 field, evs_thread_state(e->thread)->name);
	return string;
}

static void
enter_fail(EvsMove *move, EvsThread *thread)
{
	const EvsSagaState *state = evs_thread_state(thread);
	EvsEvaluation e;
	const char *error;
	const char *cause;

	evs_evaluation_init(&e, move, thread);
	error = fail_text(&e, state->error, state->error_path, "ErrorPath");
	cause = fail_text(&e, state->cause, state->cause_path, "CausePath");
	if (e.error.name != NULL)
		evs_thread_failed(move, thread, e.error.name, e.error.cause);
	else
		evs_thread_failed(move, thread, error, cause);
}

void
evs_state_enter(EvsMove *move, EvsThread *thread)
{
	EvsExecution *execution = move->execution;

	execution->turn = thread->id;
	move->budget--;
	if (++execution->entries > move->definition->max_transitions)
	{
		evs_saga_failed(move, EVS_ASL_RUNTIME,
						psprintf("the saga has entered more than %d states", move->definition->max_transitions),
						evs_thread_path(execution, thread));
		return;
	}
	evs_thread_enter(thread, move->event->now);
	switch (evs_thread_state(thread)->type)
	{
		case EVS_STATE_TASK:
			evs_task_enter(move, thread);
			break;
		case EVS_STATE_PASS:
			enter_pass(move, thread);
			break;
		case EVS_STATE_CHOICE:
			enter_choice(move, thread);
			break;
		case EVS_STATE_WAIT:
			enter_wait(move, thread);
			break;
		case EVS_STATE_SUCCEED:
			enter_succeed(move, thread);
			break;
		case EVS_STATE_FAIL:
			enter_fail(move, thread);
			break;
		case EVS_STATE_PARALLEL:
		case EVS_STATE_MAP:
			evs_fork_enter(move, thread);
			break;
	}
}
