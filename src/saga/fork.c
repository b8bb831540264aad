/*
 * fork.c
 *	  Parallel and Map: threads for branches and items, and what comes of them.
 *
 * The thread that is in the state waits for its children, one for each branch or item; with
 * MaxConcurrency, items begin as others end.  Their results stand in the order of branches
 * and items.
 */
#include "postgres.h"

#include "saga/move.h"

/* ---- items ---- */

Jsonb *
evs_map_items(EvsEvaluation *e)
{
	const EvsSagaState *state = evs_thread_state(e->thread);
	Jsonb	   *items = evs_effective_input(e);

	if (items != NULL && state->items_path != NULL)
		items = evs_evaluate_path(e, state->items_path, items, "ItemsPath");
	if (items == NULL)
		return NULL;
	if (!JB_ROOT_IS_ARRAY(items) || JB_ROOT_IS_SCALAR(items))
		return evs_asl_fail(&e->error, EVS_ASL_RUNTIME, "the items of state \"%s\" are no array", state->name);
	return items;
}

static Jsonb *
item_input(EvsEvaluation *e, Jsonb *items, int64 index)
{
	const EvsSagaState *state = evs_thread_state(e->thread);
	Jsonb	   *item = evs_asl_element(items, index);
	Jsonb	   *input;

	if (state->parameters == NULL)
		return item;
	input = evs_effective_input(e);
	if (input == NULL)
		return NULL;
	evs_evaluation_item(e, index, item);
	return evs_evaluate_template(e, state->parameters, input);
}

static int64
results_there(const EvsThread *thread)
{
	int64		n = 0;

	for (int64 i = 0; i < thread->begun; i++)
		if (thread->results[i] != NULL)
			n++;
	return n;
}

/* Begin as many items as may be under way at the same time. */
static void
begin_items(EvsMove *move, EvsThread *thread)
{
	int64		room = thread->count - thread->begun;
	EvsEvaluation e;
	Jsonb	   *items;

	if (thread->limit > 0)
		room = Min(room, thread->limit - (thread->begun - results_there(thread)));
	if (room <= 0)
		return;
	evs_evaluation_init(&e, move, thread);
	items = evs_map_items(&e);
	while (room-- > 0 && e.error.name == NULL)
	{
		Jsonb	   *input = item_input(&e, items, thread->begun);

		if (input != NULL)
			evs_thread_new(move->execution, thread, evs_thread_state(thread)->branches[0],
						   thread->begun++)->input = input;
	}
	if (e.error.name == NULL)
		return;
	evs_fork_clear(move, thread);
	evs_state_failed(move, thread, e.error.name, e.error.cause);
}

/* ---- the states ---- */

static void
begin_fork(EvsThread *thread, int64 count)
{
	thread->status = EVS_THREAD_FORK;
	thread->count = count;
	thread->begun = 0;
	thread->top = 0;
	thread->results = palloc0(sizeof(Jsonb *) * Max(count, 1));
}

static void
enter_parallel(EvsMove *move, EvsThread *thread, EvsEvaluation *e)
{
	const EvsSagaState *state = evs_thread_state(thread);
	Jsonb	   *input = evs_effective_input(e);

	if (input != NULL && state->parameters != NULL)
		input = evs_evaluate_template(e, state->parameters, input);
	if (input == NULL || !evs_within_limit(e, input, "input"))
		return;
	begin_fork(thread, state->nbranches);
	for (; thread->begun < thread->count; thread->begun++)
		evs_thread_new(move->execution, thread, state->branches[thread->begun], thread->begun)->input = input;
}

static void
enter_map(EvsMove *move, EvsThread *thread, EvsEvaluation *e)
{
	const EvsSagaState *state = evs_thread_state(thread);
	Jsonb	   *items = evs_map_items(e);

	thread->limit = state->max_concurrency;
	if (items == NULL || !evs_within_limit(e, items, "input"))
		return;
	if (state->max_concurrency_path != NULL)
	{
		Jsonb	   *limit = evs_evaluate_path(e, state->max_concurrency_path, evs_effective_input(e),
											  "MaxConcurrencyPath");

		if (limit == NULL)
			return;
		if (!evs_asl_whole(limit, &thread->limit) || thread->limit < 0)
		{
			evs_asl_fail(&e->error, EVS_ASL_RUNTIME, "MaxConcurrencyPath of state \"%s\" names no number of items",
						 state->name);
			return;
		}
	}
	begin_fork(thread, JB_ROOT_COUNT(items));
	if (thread->count > 0)
		begin_items(move, thread);
	else
		evs_state_succeeded(move, thread, items);
}

void
evs_fork_enter(EvsMove *move, EvsThread *thread)
{
	EvsEvaluation e;

	thread->attempt++;
	evs_evaluation_init(&e, move, thread);
	if (evs_thread_state(thread)->type == EVS_STATE_PARALLEL)
		enter_parallel(move, thread, &e);
	else
		enter_map(move, thread, &e);
	if (e.error.name != NULL)
		evs_state_failed(move, thread, e.error.name, e.error.cause);
}

/* ---- the end of threads ---- */

/* Visits of a state that is entered again are numbered above all that there have been. */
static void
note_visits(EvsThread *parent, const EvsThread *child)
{
	for (int i = 0; i < child->machine->nstates; i++)
		parent->top = Max(parent->top, child->visits[i]);
}

static void
end_fork(EvsThread *thread)
{
	int		   *visits = &thread->visits[thread->state];

	*visits = Max(*visits, (int) thread->top);
	thread->status = EVS_THREAD_READY;
	thread->count = 0;
	thread->begun = 0;
	thread->top = 0;
	thread->results = NULL;
}

static void
join(EvsMove *move, EvsThread *thread)
{
	Jsonb	   *result = evs_asl_array(thread->count, thread->results);

	end_fork(thread);
	evs_state_succeeded(move, thread, result);
}

void
evs_thread_ended(EvsMove *move, EvsThread *thread, Jsonb *output)
{
	EvsExecution *execution = move->execution;
	EvsThread  *parent = evs_thread_find(execution, thread->parent);

	execution->threads = list_delete_ptr(execution->threads, thread);
	if (parent == NULL)
	{
		evs_saga_succeeded(move, output);
		return;
	}
	parent->results[thread->index] = output;
	note_visits(parent, thread);
	if (parent->begun < parent->count)
		begin_items(move, parent);
	else if (results_there(parent) == parent->count)
		join(move, parent);
}

void
evs_fork_clear(EvsMove *move, EvsThread *thread)
{
	EvsExecution *execution = move->execution;
	List	   *rest = NIL;
	ListCell   *cell;

	foreach(cell, execution->threads)
	{
		EvsThread  *child = lfirst(cell);

		if (!evs_thread_is_below(execution, child, thread->id))
		{
			rest = lappend(rest, child);
			continue;
		}
		evs_task_withdraw(move, child);
		note_visits(thread, child);
	}
	execution->threads = rest;
	end_fork(thread);
}
