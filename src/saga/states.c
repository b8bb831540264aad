/*
 * states.c
 *	  Machines: {"StartAt", "States"}.
 *
 * The states are in the order that jsonb keeps them in, by length and then by bytes: one is
 * found by its name with a binary search.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "saga/compile.h"
#include "compat.h"

/* By EvsMachineKind. */
static const char *const members[][9] = {
	[EVS_MACHINE_ROOT] = {"Comment", "StartAt", "States", "Version", "TimeoutSeconds", "QueryLanguage", NULL},
	[EVS_MACHINE_BRANCH] = {"Comment", "StartAt", "States", "QueryLanguage", NULL},
	[EVS_MACHINE_ITEM] = {"Comment", "StartAt", "States", "QueryLanguage", "ProcessorConfig", NULL},
};

int
evs_machine_find(const EvsMachine *machine, const char *name)
{
	size_t		len = strlen(name);
	int			low = 0;
	int			high = machine->nstates - 1;

	while (low <= high)
	{
		int			middle = (low + high) / 2;
		const char *other = machine->states[middle].name;
		size_t		other_len = strlen(other);
		int			compared = len != other_len ? (len < other_len ? -1 : 1) : memcmp(name, other, len);

		if (compared == 0)
			return middle;
		if (compared < 0)
			high = middle - 1;
		else
			low = middle + 1;
	}
	return -1;
}

int
evs_compile_target(EvsCompiler *compiler, const EvsMachine *machine, const EvsPart *field)
{
	char	   *name = evs_part_string(compiler, field);
	int			state;

	if (name == NULL)
		return -1;
	state = evs_machine_find(machine, name);
	if (state < 0)
		evs_compile_error(compiler, field, "names a state that does not exist in the same machine");
	return state;
}

/* ---- states ---- */

/* All names, before any state is compiled: states name each other. */
static void
read_names(EvsCompiler *compiler, const EvsPart *states, EvsMachine *machine)
{
	EvsPart		member;
	EvsEach		each;

	machine->states = palloc0(sizeof(EvsSagaState) * evs_part_count(states));
	evs_part_begin(&each, states);
	while (evs_part_next(&each, states, &member))
	{
		EvsSagaState *state = &machine->states[machine->nstates++];
		EvsNamedState *named = palloc(sizeof(EvsNamedState));
		int			len = pg_mbstrlen(member.key);

		state->name = unconstify(char *, member.key);
		if (len == 0 || len > EVS_STATE_NAME_MAX)
			evs_compile_error(compiler, &member, "must have a name of 1 to %d characters", EVS_STATE_NAME_MAX);
		named->state = state;
		named->path = evs_part_path_text(compiler, &member);
		compiler->states = lappend(compiler->states, named);
	}
}

static void
read_states(EvsCompiler *compiler, const EvsPart *states, EvsMachine *machine)
{
	EvsPart		member;
	EvsEach		each;
	int			n = 0;

	evs_part_begin(&each, states);
	while (evs_part_next(&each, states, &member))
		evs_compile_state(compiler, machine, &member, &machine->states[n++]);
}

/* ---- the machine's own fields ---- */

void
evs_compile_query_language(EvsCompiler *compiler, const EvsPart *object)
{
	static const char *const languages[] = {"JSONPath", NULL};
	EvsPart		field;

	if (!evs_part_get(object, "QueryLanguage", &field))
		return;
	if (field.value.type == jbvString && field.value.val.string.len == 7 &&
		memcmp(field.value.val.string.val, "JSONata", 7) == 0)
		evs_compile_error(compiler, &field, "must be \"JSONPath\": JSONata is not supported");
	else
		(void) evs_part_word(compiler, &field, languages);
}

static void
read_header(EvsCompiler *compiler, const EvsPart *object, EvsMachine *machine, EvsMachineKind kind)
{
	static const char *const versions[] = {"1.0", NULL};
	EvsPart		field;
	int64		seconds = 0;

	evs_part_only(compiler, object, members[kind]);
	evs_compile_query_language(compiler, object);
	if (evs_part_get(object, "Comment", &field))
		(void) evs_part_string(compiler, &field);
	if (kind != EVS_MACHINE_ROOT)
		return;
	if (evs_part_get(object, "Version", &field))
		(void) evs_part_word(compiler, &field, versions);
	if (evs_part_get(object, "TimeoutSeconds", &field))
		(void) evs_part_whole(compiler, &field, 1, EVS_ASL_SECONDS_MAX, &seconds);
	machine->timeout = seconds;
}

static void
read_start(EvsCompiler *compiler, const EvsPart *object, EvsMachine *machine)
{
	EvsPart		field;

	if (evs_part_get(object, "StartAt", &field))
		machine->start = evs_compile_target(compiler, machine, &field);
	else
		evs_compile_missing(compiler, object, "StartAt");
}

EvsMachine *
evs_compile_machine(EvsCompiler *compiler, const EvsPart *field, EvsMachineKind kind)
{
	EvsMachine *machine = palloc0(sizeof(EvsMachine));
	EvsPart		states;

	check_stack_depth();
	machine->start = -1;
	if (!evs_part_object(compiler, field))
		return NULL;
	read_header(compiler, field, machine, kind);
	if (!evs_part_get(field, "States", &states))
	{
		evs_compile_missing(compiler, field, "States");
		return NULL;
	}
	if (!evs_part_object(compiler, &states))
		return NULL;
	if (evs_part_count(&states) == 0)
	{
		evs_compile_error(compiler, &states, "must have a state");
		return NULL;
	}
	read_names(compiler, &states, machine);
	read_start(compiler, field, machine);
	read_states(compiler, &states, machine);
	evs_check_machine(compiler, machine, &states);
	return machine;
}
