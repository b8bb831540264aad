/*
 * plan.c
 *	  Explicit lists of compensations: which effect each entry is about, and what undoes it.
 *
 * [{"state" or "eventType", "compensationAction", "data"}, ...], or an object with this
 * list as compensationRequired, as in the event of a failure.  An entry is about the
 * newest effect of the state of this name, or of the state that waits for events of this
 * type.  Without such a state it is no more than an action to be done.
 */
#include "postgres.h"

#include "saga/compensation.h"

/* ---- states by name ---- */

static bool
is_called(const EvsSagaState *state, const char *name, bool by_event)
{
	if (!by_event)
		return strcmp(state->name, name) == 0;
	return state->type == EVS_STATE_TASK && state->resource.kind == EVS_RESOURCE_EVENT &&
		strcmp(state->resource.name, name) == 0;
}

static const EvsSagaState *
find_state(const EvsMachine *machine, const char *name, bool by_event)
{
	for (int i = 0; i < machine->nstates; i++)
	{
		const EvsSagaState *state = &machine->states[i];

		if (is_called(state, name, by_event))
			return state;
		for (int j = 0; j < state->nbranches; j++)
		{
			const EvsSagaState *inner = find_state(state->branches[j], name, by_event);

			if (inner != NULL)
				return inner;
		}
	}
	return NULL;
}

const EvsSagaState *
evs_saga_find_state(const EvsMachine *machine, const char *name)
{
	return find_state(machine, name, false);
}

static const EvsSagaState *
state_of(const EvsMove *move, const EvsPlanned *entry)
{
	const EvsMachine *machine = move->definition->machine;
	const EvsSagaState *state = find_state(machine, entry->state, false);

	return state != NULL ? state : find_state(machine, entry->state, true);
}

/* ---- reading the list ---- */

static char *
member_text(Jsonb *object, const char *key)
{
	Jsonb	   *value = evs_asl_member(object, key);

	return value == NULL ? NULL : evs_asl_text(value);
}

static bool
can_compensate(const EvsResource *resource)
{
	return resource->kind != EVS_RESOURCE_EVENT && resource->kind != EVS_RESOURCE_SIGNAL &&
		resource->kind != EVS_RESOURCE_SAGA;
}

static char *
entry_problem(const EvsMove *move, const EvsPlanned *entry)
{
	EvsResource resource;
	EvsRemedy	remedy;

	if (entry->state == NULL)
		return pstrdup("a compensation names neither a state nor an eventType");
	if (entry->resource != NULL && !evs_saga_find_resource(move->definition, entry->resource, &resource))
		return psprintf("compensationAction \"%s\" is not a resource of the definition", entry->resource);
	if (entry->resource != NULL)
		return can_compensate(&resource) ? NULL :
			psprintf("compensationAction \"%s\" does nothing that compensates", entry->resource);
	if (state_of(move, entry) == NULL || !evs_state_remedy(state_of(move, entry), &remedy))
		return psprintf("nothing compensates \"%s\"", entry->state);
	return NULL;
}

static EvsPlanned *
read_entry(Jsonb *item)
{
	EvsPlanned *entry = palloc0(sizeof(EvsPlanned));

	if (item == NULL || !JB_ROOT_IS_OBJECT(item))
		return entry;
	entry->state = member_text(item, "state");
	if (entry->state == NULL)
		entry->state = member_text(item, "eventType");
	entry->resource = member_text(item, "compensationAction");
	entry->data = evs_asl_member(item, "data");
	return entry;
}

bool
evs_plan_read(const EvsMove *move, Jsonb *list, List **plan, char **problem)
{
	if (JB_ROOT_IS_OBJECT(list))
		list = evs_asl_member(list, "compensationRequired");
	*plan = NIL;
	*problem = NULL;
	if (list == NULL || !JB_ROOT_IS_ARRAY(list) || JB_ROOT_IS_SCALAR(list))
		*problem = pstrdup("the compensations are no list");
	for (int i = 0; *problem == NULL && i < JB_ROOT_COUNT(list); i++)
	{
		EvsPlanned *entry = read_entry(evs_asl_element(list, i));

		*problem = entry_problem(move, entry);
		*plan = lappend(*plan, entry);
	}
	return *problem == NULL;
}

/* ---- following it ---- */

EvsEffect *
evs_plan_effect(const EvsMove *move, const EvsPlanned *entry)
{
	const EvsSagaState *state = state_of(move, entry);
	const List *effects = move->execution->effects;

	for (int i = list_length(effects) - 1; i >= 0; i--)
	{
		EvsEffect  *effect = list_nth(effects, i);

		if (effect->state == state && (effect->undo == EVS_UNDO_NO || effect->undo == EVS_UNDO_FAILED))
			return effect;
	}
	return NULL;
}

bool
evs_plan_is_due(const EvsMove *move, const EvsPlanned *entry)
{
	return state_of(move, entry) == NULL || evs_plan_effect(move, entry) != NULL;
}

/* An action that is not the state's own compensator gets what is known as it is. */
void
evs_plan_remedy(const EvsMove *move, const EvsPlanned *entry, EvsRemedy *remedy)
{
	const EvsSagaState *state = state_of(move, entry);
	EvsResource *resource = palloc(sizeof(EvsResource));

	if (state != NULL)
		evs_state_remedy(state, remedy);
	else
		evs_default_remedy(remedy);
	if (entry->resource == NULL || !evs_saga_find_resource(move->definition, entry->resource, resource))
		return;
	if (remedy->resource == NULL || strcmp(resource->text, remedy->resource->text) != 0)
		remedy->parameters = NULL;
	remedy->resource = resource;
}
