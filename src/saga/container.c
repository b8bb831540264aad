/*
 * container.c
 *	  Parallel and Map: states with machines within them.
 */
#include "postgres.h"

#include "saga/compile.h"
#include "compat.h"

void
evs_compile_parallel(EvsCompiler *compiler, const EvsPart *object, EvsSagaState *state)
{
	EvsPart		branches;
	EvsPart		branch;
	EvsEach		each;

	if (!evs_part_get(object, "Branches", &branches))
	{
		evs_compile_missing(compiler, object, "Branches");
		return;
	}
	if (!evs_part_array(compiler, &branches, false))
		return;
	state->branches = palloc(sizeof(EvsMachine *) * evs_part_count(&branches));
	evs_part_begin(&each, &branches);
	while (evs_part_next(&each, &branches, &branch))
		state->branches[state->nbranches++] = evs_compile_machine(compiler, &branch, EVS_MACHINE_BRANCH);
}

/* {"Mode": "INLINE"}; DISTRIBUTED is another kind of state, in all but name. */
static void
check_processor_config(EvsCompiler *compiler, const EvsPart *processor)
{
	static const char *const known[] = {"Mode", NULL};
	static const char *const modes[] = {"INLINE", NULL};
	EvsPart		config;
	EvsPart		mode;

	if (!evs_part_get(processor, "ProcessorConfig", &config) || !evs_part_object(compiler, &config))
		return;
	if (evs_part_get(&config, "Mode", &mode) && mode.value.type == jbvString &&
		mode.value.val.string.len == 11 && memcmp(mode.value.val.string.val, "DISTRIBUTED", 11) == 0)
	{
		evs_compile_error(compiler, &mode, "must be \"INLINE\": distributed Map is not supported");
		return;
	}
	evs_part_only(compiler, &config, known);
	if (evs_part_get(&config, "Mode", &mode))
		(void) evs_part_word(compiler, &mode, modes);
}

static void
read_processor(EvsCompiler *compiler, const EvsPart *object, EvsSagaState *state)
{
	EvsPart		processor;

	if (!evs_part_get(object, "ItemProcessor", &processor) && !evs_part_get(object, "Iterator", &processor))
	{
		evs_compile_missing(compiler, object, "ItemProcessor");
		return;
	}
	check_processor_config(compiler, &processor);
	state->branches = palloc(sizeof(EvsMachine *));
	state->branches[state->nbranches++] = evs_compile_machine(compiler, &processor, EVS_MACHINE_ITEM);
}

void
evs_compile_map(EvsCompiler *compiler, const EvsPart *object, EvsSagaState *state)
{
	EvsPart		field;
	int64		concurrency = 0;

	read_processor(compiler, object, state);
	if (evs_part_get(object, "ItemsPath", &field))
		state->items_path = evs_part_path(compiler, &field);
	if (evs_part_get(object, "MaxConcurrency", &field))
		(void) evs_part_whole(compiler, &field, 0, EVS_MAX_CONCURRENCY, &concurrency);
	state->max_concurrency = concurrency;
	if (evs_part_get(object, "MaxConcurrencyPath", &field))
		state->max_concurrency_path = evs_part_definite_path(compiler, &field);
}
