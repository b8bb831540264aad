/*
 * execution_json.c
 *	  An execution as it is stored: jsonb with short keys, of what differs from the usual.
 *
 * It is written and read once for each transition, so numbers that are at their usual value
 * are left out, and so is the input of an instance that nothing has changed yet.
 * README.md says what the keys mean.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "saga/compensation.h"
#include "saga/json_write.h"

/* ---- numbers ---- */

typedef struct NumberField
{
	const char *key;
	size_t		offset;
	int64		usual;
} NumberField;

static const NumberField execution_fields[] = {
	{"s", offsetof(EvsExecution, status), EVS_SAGA_RUNNING},
	{"end", offsetof(EvsExecution, ended), 0},
	{"fin", offsetof(EvsExecution, final_status), EVS_SAGA_RUNNING},
	{"n", offsetof(EvsExecution, entries), 0},
	{"k", offsetof(EvsExecution, last_step), 0},
	{"i", offsetof(EvsExecution, last_thread), 1},
	{"turn", offsetof(EvsExecution, turn), 1},
	{"dl", offsetof(EvsExecution, deadline), DT_NOEND},
	{"piv", offsetof(EvsExecution, pivot), 0},
	{"pn", offsetof(EvsExecution, planned), 0},
};

static const NumberField thread_fields[] = {
	{"i", offsetof(EvsThread, id), 1},
	{"p", offsetof(EvsThread, parent), 0},
	{"x", offsetof(EvsThread, index), 0},
	{"w", offsetof(EvsThread, status), EVS_THREAD_READY},
	{"b", offsetof(EvsThread, base), 0},
	{"at", offsetof(EvsThread, entered), 0},
	{"a", offsetof(EvsThread, attempt), 0},
	{"late", offsetof(EvsThread, late), 0},
	{"d", offsetof(EvsThread, due), 0},
	{"k", offsetof(EvsThread, step), 0},
	{"to", offsetof(EvsThread, timeout_at), DT_NOEND},
	{"ha", offsetof(EvsThread, heartbeat_at), DT_NOEND},
	{"h", offsetof(EvsThread, heartbeat), 0},
	{"c", offsetof(EvsThread, count), 0},
	{"cb", offsetof(EvsThread, begun), 0},
	{"cl", offsetof(EvsThread, limit), 0},
	{"ct", offsetof(EvsThread, top), 0},
};

static const NumberField effect_fields[] = {
	{"v", offsetof(EvsEffect, visit), 1},
	{"k", offsetof(EvsEffect, step), 0},
	{"o", offsetof(EvsEffect, outcome), EVS_OUTCOME_SUCCEEDED},
	{"u", offsetof(EvsEffect, undo), EVS_UNDO_NO},
};

static const NumberField undo_fields[] = {
	{"k", offsetof(EvsUndo, step), 0},
	{"a", offsetof(EvsUndo, attempt), 0},
	{"to", offsetof(EvsUndo, timeout_at), DT_NOEND},
	{"d", offsetof(EvsUndo, due), 0},
	{"pn", offsetof(EvsUndo, planned), 0},
};

static void
write_numbers(EvsJson *json, const NumberField *fields, int n, const void *record)
{
	for (int i = 0; i < n; i++)
	{
		int64		value = *(const int64 *) ((const char *) record + fields[i].offset);

		if (value != fields[i].usual)
			evs_json_int(json, fields[i].key, value);
	}
}

static void
read_numbers(Jsonb *json, const NumberField *fields, int n, void *record)
{
	for (int i = 0; i < n; i++)
	{
		int64	   *value = (int64 *) ((char *) record + fields[i].offset);

		if (!evs_json_read_int(json, fields[i].key, value))
			*value = fields[i].usual;
	}
}

/* ---- lists ---- */

static void
write_list(EvsJson *json, const char *key, const List *list)
{
	ListCell   *cell;

	if (list == NIL)
		return;
	evs_json_key(json, key);
	evs_json_begin_array(json);
	foreach(cell, list)
		evs_json_int_element(json, lfirst_int(cell));
	evs_json_end(json);
}

static void
write_counts(EvsJson *json, const char *key, const int *counts, int n)
{
	if (counts == NULL)
		return;
	evs_json_key(json, key);
	evs_json_begin_array(json);
	for (int i = 0; i < n; i++)
		evs_json_int_element(json, counts[i]);
	evs_json_end(json);
}

static int
array_length(Jsonb *array)
{
	return array == NULL ? 0 : (int) JB_ROOT_COUNT(array);
}

static int64
element_int(Jsonb *array, int index)
{
	int64		value = 0;

	(void) evs_asl_whole(evs_asl_element(array, index), &value);
	return value;
}

static List *
read_list(Jsonb *json, const char *key)
{
	Jsonb	   *array = evs_asl_member(json, key);
	List	   *list = NIL;

	for (int i = 0; i < array_length(array); i++)
		list = lappend_int(list, (int) element_int(array, i));
	return list;
}

/* As many as there are retriers: n. */
static int *
read_counts(Jsonb *json, const char *key, int n)
{
	Jsonb	   *array = evs_asl_member(json, key);
	int		   *counts;

	if (array == NULL)
		return NULL;
	counts = palloc0(sizeof(int) * Max(n, 1));
	for (int i = 0; i < Min(n, array_length(array)); i++)
		counts[i] = (int) element_int(array, i);
	return counts;
}

static char *
read_text(Jsonb *json, const char *key)
{
	Jsonb	   *value = evs_asl_member(json, key);

	return value == NULL ? NULL : evs_asl_text(value);
}

static void
write_text(EvsJson *json, const char *key, const char *value)
{
	if (value != NULL)
		evs_json_text(json, key, value);
}

/* ---- visits ---- */

static void mark_reachable(const EvsMachine *machine, int state, bool *reachable);

static void
mark_next(const EvsMachine *machine, int next, bool *reachable)
{
	if (next >= 0 && !reachable[next])
		mark_reachable(machine, next, reachable);
}

static void
mark_reachable(const EvsMachine *machine, int state, bool *reachable)
{
	const EvsSagaState *from = &machine->states[state];

	check_stack_depth();
	reachable[state] = true;
	mark_next(machine, from->next, reachable);
	for (int i = 0; i < from->nchoices; i++)
		mark_next(machine, from->choices[i].next, reachable);
	if (from->type == EVS_STATE_CHOICE)
		mark_next(machine, from->default_next, reachable);
	for (int i = 0; i < from->ncatchers; i++)
		mark_next(machine, from->catchers[i].next, reachable);
}

/* Only those of states that the thread can still come to: none, where there is no way back. */
static void
write_visits(EvsJson *json, const EvsThread *thread)
{
	const EvsMachine *machine = thread->machine;
	bool	   *reachable = palloc0(sizeof(bool) * machine->nstates);
	bool		any = false;

	mark_reachable(machine, thread->state, reachable);
	for (int i = 0; i < machine->nstates; i++)
	{
		if (!reachable[i] || thread->visits[i] == thread->base)
			continue;
		if (!any)
		{
			evs_json_key(json, "v");
			evs_json_begin_object(json);
			any = true;
		}
		evs_json_int(json, machine->states[i].name, thread->visits[i]);
	}
	if (any)
		evs_json_end(json);
}

static void
read_visits(Jsonb *json, EvsThread *thread)
{
	const EvsMachine *machine = thread->machine;
	Jsonb	   *visits = evs_asl_member(json, "v");

	thread->visits = palloc(sizeof(int) * machine->nstates);
	for (int i = 0; i < machine->nstates; i++)
	{
		int64		visit = thread->base;

		if (visits != NULL)
			(void) evs_json_read_int(visits, machine->states[i].name, &visit);
		thread->visits[i] = (int) visit;
	}
}

/* ---- threads ---- */

static void
write_thread(EvsJson *json, const EvsExecution *execution, const EvsThread *thread)
{
	const EvsSagaState *state = evs_thread_state(thread);

	evs_json_begin_object(json);
	evs_json_text(json, "s", state->name);
	write_numbers(json, thread_fields, lengthof(thread_fields), thread);
	write_visits(json, thread);
	write_counts(json, "r", thread->retries, state->nretriers);
	write_list(json, "l", thread->lost);
	if (thread->input != execution->input)
		evs_json_value(json, "in", thread->input);
	if (thread->variables != NULL)
		evs_json_value(json, "var", thread->variables);
	if (thread->results != NULL)
	{
		evs_json_key(json, "res");
		evs_json_begin_array(json);
		for (int64 i = 0; i < thread->begun; i++)
			evs_json_element(json, thread->results[i]);
		evs_json_end(json);
	}
	evs_json_end(json);
}

static const EvsMachine *
machine_of(const EvsExecution *execution, const EvsSagaDefinition *definition, const EvsThread *thread)
{
	const EvsThread *parent = evs_thread_find(execution, thread->parent);
	const EvsSagaState *state;
	int64		branch;

	if (thread->parent == 0)
		return definition->machine;
	if (parent == NULL)
		return NULL;
	state = evs_thread_state(parent);
	branch = state->type == EVS_STATE_MAP ? 0 : thread->index;
	return branch >= 0 && branch < state->nbranches ? state->branches[branch] : NULL;
}

/* Of items that have not ended, the results are not there, whatever stands in their place. */
static void
read_results(Jsonb *json, EvsThread *thread)
{
	Jsonb	   *results = evs_asl_member(json, "res");

	if (results == NULL)
		return;
	if (thread->begun != array_length(results) || thread->count < thread->begun)
		elog(ERROR, "results of a saga's thread do not match their number");
	thread->results = palloc0(sizeof(Jsonb *) * Max(thread->count, 1));
	for (int64 i = 0; i < thread->begun; i++)
		thread->results[i] = evs_asl_element(results, (int) i);
}

static void
read_thread(EvsExecution *execution, const EvsSagaDefinition *definition, Jsonb *json)
{
	EvsThread  *thread = palloc0(sizeof(EvsThread));
	char	   *name = read_text(json, "s");
	EvsThread  *parent;

	read_numbers(json, thread_fields, lengthof(thread_fields), thread);
	thread->machine = machine_of(execution, definition, thread);
	thread->state = thread->machine == NULL || name == NULL ? -1 : evs_machine_find(thread->machine, name);
	if (thread->state < 0)
		elog(ERROR, "a saga's thread is in a state that its definition does not have: %s", name);
	read_visits(json, thread);
	thread->retries = read_counts(json, "r", evs_thread_state(thread)->nretriers);
	thread->lost = read_list(json, "l");
	thread->input = evs_asl_member(json, "in");
	thread->variables = evs_asl_member(json, "var");
	read_results(json, thread);
	parent = evs_thread_find(execution, thread->parent);
	if (parent != NULL && parent->results != NULL && thread->index < parent->begun)
		parent->results[thread->index] = NULL;
	execution->threads = lappend(execution->threads, thread);
}

/* ---- effects ---- */

static void
write_effect(EvsJson *json, const EvsEffect *effect)
{
	evs_json_begin_object(json);
	evs_json_text(json, "s", effect->state->name);
	if (strcmp(effect->path, effect->state->name) != 0)
		evs_json_text(json, "p", effect->path);
	write_numbers(json, effect_fields, lengthof(effect_fields), effect);
	write_list(json, "l", effect->lost);
	evs_json_end(json);
}

static EvsEffect *
read_effect(const EvsSagaDefinition *definition, Jsonb *json)
{
	EvsEffect  *effect = palloc0(sizeof(EvsEffect));
	char	   *name = read_text(json, "s");

	effect->state = name == NULL ? NULL : evs_saga_find_state(definition->machine, name);
	if (effect->state == NULL)
		elog(ERROR, "a saga has an effect of a state that its definition does not have: %s", name);
	read_numbers(json, effect_fields, lengthof(effect_fields), effect);
	effect->path = read_text(json, "p");
	if (effect->path == NULL)
		effect->path = name;
	effect->lost = read_list(json, "l");
	return effect;
}

/* ---- the cursor ---- */

static void
write_undo(EvsJson *json, const EvsUndo *undo)
{
	if (!undo->active)
		return;
	evs_json_key(json, "undo");
	evs_json_begin_object(json);
	write_numbers(json, undo_fields, lengthof(undo_fields), undo);
	write_counts(json, "r", undo->retries, undo->nretries);
	write_list(json, "l", undo->tried);
	evs_json_end(json);
}

static void
read_undo(Jsonb *json, EvsUndo *undo)
{
	Jsonb	   *stored = evs_asl_member(json, "undo");

	undo->timeout_at = DT_NOEND;
	if (stored == NULL)
		return;
	undo->active = 1;
	read_numbers(stored, undo_fields, lengthof(undo_fields), undo);
	undo->nretries = array_length(evs_asl_member(stored, "r"));
	undo->retries = read_counts(stored, "r", undo->nretries);
	undo->tried = read_list(stored, "l");
}

static void
write_plan(EvsJson *json, const List *plan)
{
	ListCell   *cell;

	if (plan == NIL)
		return;
	evs_json_key(json, "plan");
	evs_json_begin_array(json);
	foreach(cell, plan)
	{
		const EvsPlanned *entry = lfirst(cell);

		evs_json_begin_object(json);
		evs_json_text(json, "s", entry->state);
		write_text(json, "r", entry->resource);
		if (entry->data != NULL)
			evs_json_value(json, "d", entry->data);
		evs_json_end(json);
	}
	evs_json_end(json);
}

static EvsPlanned *
read_planned(Jsonb *json)
{
	EvsPlanned *entry = palloc0(sizeof(EvsPlanned));

	entry->state = read_text(json, "s");
	entry->resource = read_text(json, "r");
	entry->data = evs_asl_member(json, "d");
	return entry;
}

/* ---- all of it ---- */

Jsonb *
evs_execution_store(const EvsExecution *execution, const EvsSagaDefinition *definition)
{
	EvsJson		json = {0};
	ListCell   *cell;

	evs_json_begin_object(&json);
	write_numbers(&json, execution_fields, lengthof(execution_fields), execution);
	write_text(&json, "err", execution->error);
	write_text(&json, "why", execution->cause);
	evs_json_key(&json, "t");
	evs_json_begin_array(&json);
	foreach(cell, execution->threads)
		write_thread(&json, execution, lfirst(cell));
	evs_json_end(&json);
	evs_json_key(&json, "e");
	evs_json_begin_array(&json);
	foreach(cell, execution->effects)
		write_effect(&json, lfirst(cell));
	evs_json_end(&json);
	write_undo(&json, &execution->undo);
	write_plan(&json, execution->plan);
	return evs_json_finish(&json);
}

EvsExecution *
evs_execution_load(Jsonb *stored, const EvsSagaDefinition *definition)
{
	EvsExecution *execution = evs_execution_new();
	Jsonb	   *threads = evs_asl_member(stored, "t");
	Jsonb	   *effects = evs_asl_member(stored, "e");
	Jsonb	   *plan = evs_asl_member(stored, "plan");

	read_numbers(stored, execution_fields, lengthof(execution_fields), execution);
	execution->error = read_text(stored, "err");
	execution->cause = read_text(stored, "why");
	for (int i = 0; i < array_length(threads); i++)
		read_thread(execution, definition, evs_asl_element(threads, i));
	for (int i = 0; i < array_length(effects); i++)
		execution->effects = lappend(execution->effects,
									 read_effect(definition, evs_asl_element(effects, i)));
	for (int i = 0; i < array_length(plan); i++)
		execution->plan = lappend(execution->plan, read_planned(evs_asl_element(plan, i)));
	read_undo(stored, &execution->undo);
	return execution;
}
