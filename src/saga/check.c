/*
 * check.c
 *	  Machines as graphs: states that are never reached, an end that is never reached, and
 *	  circles in which nothing happens.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "saga/compile.h"
#include "compat.h"

/* ---- edges ---- */

/* The states that may follow one: calls back for each. */
typedef void (*Visit) (void *arg, int state);

static void
for_each_next(const EvsSagaState *state, Visit visit, void *arg)
{
	if (state->next >= 0)
		visit(arg, state->next);
	for (int i = 0; i < state->nchoices; i++)
		if (state->choices[i].next >= 0)
			visit(arg, state->choices[i].next);
	if (state->default_next >= 0)
		visit(arg, state->default_next);
	for (int i = 0; i < state->ncatchers; i++)
		if (state->catchers[i].next >= 0)
			visit(arg, state->catchers[i].next);
}

/* ---- reached ---- */

typedef struct Walk
{
	bool	   *seen;
	int		   *queue;
	int			nqueued;
} Walk;

static void
enqueue(void *arg, int state)
{
	Walk	   *walk = arg;

	if (walk->seen[state])
		return;
	walk->seen[state] = true;
	walk->queue[walk->nqueued++] = state;
}

static bool *
reached_states(const EvsMachine *machine)
{
	Walk		walk = {palloc0(sizeof(bool) * machine->nstates), palloc(sizeof(int) * machine->nstates)};

	enqueue(&walk, machine->start);
	for (int i = 0; i < walk.nqueued; i++)
		for_each_next(&machine->states[walk.queue[i]], enqueue, &walk);
	return walk.seen;
}

static bool
is_terminal(const EvsSagaState *state)
{
	return state->type != EVS_STATE_CHOICE && state->next < 0;
}

static void
check_reached(EvsCompiler *compiler, const EvsMachine *machine, const EvsPart *states)
{
	bool	   *reached = reached_states(machine);
	bool		ends = false;

	for (int i = 0; i < machine->nstates; i++)
	{
		EvsPart		state = {.up = states, .key = machine->states[i].name};

		if (!reached[i])
			evs_compile_error(compiler, &state, "cannot be reached");
		ends |= is_terminal(&machine->states[i]);
	}
	if (!ends)
		evs_compile_error(compiler, states, "must have an end: a state with End, or of the type Succeed or Fail");
}

/* ---- circles ---- */

static bool is_idle_machine(const EvsMachine *machine);

/* Nothing is done in it, and no time passes. */
static bool
is_idle(const EvsSagaState *state)
{
	check_stack_depth();
	if (state->type == EVS_STATE_TASK || state->type == EVS_STATE_WAIT)
		return false;
	for (int i = 0; i < state->nbranches; i++)
		if (state->branches[i] != NULL && !is_idle_machine(state->branches[i]))
			return false;
	return true;
}

static bool
is_idle_machine(const EvsMachine *machine)
{
	for (int i = 0; i < machine->nstates; i++)
		if (!is_idle(&machine->states[i]))
			return false;
	return true;
}

typedef enum Colour
{
	WHITE,						/* not seen yet; of those that are not idle,
								 * for ever */
	GREY,						/* on the way to the state that is looked at */
	BLACK						/* no circle goes through it */
} Colour;

typedef struct Search
{
	const bool *idle;
	Colour	   *colours;
	List	   *stack;
	int			found;			/* a state of a circle, or -1 */
} Search;

static void
look_at_next(void *arg, int state)
{
	Search	   *search = arg;

	if (!search->idle[state])
		return;
	if (search->colours[state] == GREY)
		search->found = state;
	else if (search->colours[state] == WHITE)
		search->stack = lappend_int(search->stack, state);
}

/* Depth first, without recursion: there may be many states. */
static void
search_from(const EvsMachine *machine, int start, Search *search)
{
	search->stack = list_make1_int(start);
	while (search->stack != NIL && search->found < 0)
	{
		int			state = llast_int(search->stack);

		if (search->colours[state] == WHITE)
		{
			search->colours[state] = GREY;
			for_each_next(&machine->states[state], look_at_next, search);
			continue;
		}
		search->colours[state] = BLACK;
		search->stack = list_delete_last(search->stack);
	}
}

static void
check_circles(EvsCompiler *compiler, const EvsMachine *machine, const EvsPart *states)
{
	bool	   *idle = palloc(sizeof(bool) * machine->nstates);
	Search		search = {idle, palloc0(sizeof(Colour) * machine->nstates), NIL, -1};

	for (int i = 0; i < machine->nstates; i++)
		idle[i] = is_idle(&machine->states[i]);
	for (int i = 0; i < machine->nstates && search.found < 0; i++)
		if (idle[i])
			search_from(machine, i, &search);
	if (search.found >= 0)
	{
		EvsPart		state = {.up = states, .key = machine->states[search.found].name};

		evs_compile_warning(compiler, &state, "is in a circle of states without a Task or a Wait");
	}
}

void
evs_check_machine(EvsCompiler *compiler, const EvsMachine *machine, const EvsPart *states)
{
	if (machine->start >= 0)
		check_reached(compiler, machine, states);
	check_circles(compiler, machine, states);
}

/* ---- names ---- */

static int
compare_names(const void *a, const void *b)
{
	const EvsNamedState *x = *(EvsNamedState *const *) a;
	const EvsNamedState *y = *(EvsNamedState *const *) b;
	int			compared = strcmp(x->state->name, y->state->name);

	return compared != 0 ? compared : strcmp(x->path, y->path);
}

/* Names are unique in the whole document: the language wants it, and compensation needs it. */
void
evs_check_names(EvsCompiler *compiler)
{
	int			n = list_length(compiler->states);
	EvsNamedState **sorted = palloc(sizeof(EvsNamedState *) * Max(n, 1));

	for (int i = 0; i < n; i++)
		sorted[i] = list_nth(compiler->states, i);
	qsort(sorted, n, sizeof(EvsNamedState *), compare_names);
	for (int i = 1; i < n; i++)
		if (strcmp(sorted[i]->state->name, sorted[i - 1]->state->name) == 0)
			evs_compile_error_at(compiler, sorted[i]->path, psprintf("has the name of another state, %s", sorted[i - 1]->path));
}
