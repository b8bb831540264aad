/*
 * compensator.c
 *	  {"compensation": {"states": …, "automatic": …}}: how what states have done is undone.
 */
#include "postgres.h"

#include "saga/compile.h"
#include "compat.h"

/* If nothing else is said: for an hour or so. */
#define DEFAULT_ATTEMPTS	20
#define DEFAULT_MAX_DELAY	60

static const char *const compensation_members[] = {"states", "automatic", "Comment", NULL};
static const char *const compensator_members[] = {
	"Resource", "Parameters", "When", "KnownNoEffect", "Retry", "TimeoutSeconds", "Pivot", "Comment", NULL
};

/* ---- a compensator ---- */

static EvsRetrier *
default_retriers(void)
{
	EvsRetrier *retrier = palloc0(sizeof(EvsRetrier));

	retrier->nerrors = 1;
	retrier->errors = palloc(sizeof(char *));
	retrier->errors[0] = EVS_ASL_ALL;
	retrier->interval = 1;
	retrier->max_attempts = DEFAULT_ATTEMPTS;
	retrier->backoff_rate = 2;
	retrier->max_delay = DEFAULT_MAX_DELAY;
	retrier->full_jitter = true;
	return retrier;
}

static void
read_when(EvsCompiler *compiler, const EvsPart *field, EvsCompensator *compensator)
{
	static const char *const outcomes[] = {"succeeded", "unknown", NULL};
	EvsPart		element;
	EvsEach		each;

	if (!evs_part_array(compiler, field, false))
		return;
	compensator->when_succeeded = compensator->when_unknown = false;
	evs_part_begin(&each, field);
	while (evs_part_next(&each, field, &element))
	{
		int			outcome = evs_part_word(compiler, &element, outcomes);

		compensator->when_succeeded |= outcome == 0;
		compensator->when_unknown |= outcome == 1;
	}
}

static bool
can_compensate(const EvsResource *resource)
{
	return resource->kind == EVS_RESOURCE_SQL || resource->kind == EVS_RESOURCE_APPEND ||
		resource->kind == EVS_RESOURCE_RELAY || resource->kind == EVS_RESOURCE_ACTIVITY;
}

static void
read_resource(EvsCompiler *compiler, const EvsPart *object, EvsCompensator *compensator)
{
	EvsPart		field;

	if (!evs_part_get(object, "Resource", &field))
	{
		if (!compensator->pivot)
			evs_compile_error(compiler, object, "must have a Resource, or Pivot");
		return;
	}
	if (compensator->pivot)
		evs_compile_error(compiler, &field, "is one too many: nothing is undone once a pivot has succeeded");
	if (!evs_compile_resource(compiler, &field, &compensator->resource))
		return;
	if (!can_compensate(&compensator->resource))
		evs_compile_error(compiler, &field, "must be of the kind sql, append, relay or activity");
	compensator->has_resource = true;
	evs_compile_use(compiler, &field, &compensator->resource, true);
}

static EvsCompensator *
read_compensator(EvsCompiler *compiler, const EvsPart *object)
{
	EvsCompensator *compensator = palloc0(sizeof(EvsCompensator));
	EvsPart		field;
	int64		seconds = 0;

	compensator->when_succeeded = compensator->when_unknown = true;
	compensator->nretriers = 1;
	compensator->retriers = default_retriers();
	evs_part_only(compiler, object, compensator_members);
	if (evs_part_get(object, "Comment", &field))
		(void) evs_part_string(compiler, &field);
	if (evs_part_get(object, "Pivot", &field))
		(void) evs_part_bool(compiler, &field, &compensator->pivot);
	read_resource(compiler, object, compensator);
	if (evs_part_get(object, "Parameters", &field))
		compensator->parameters = evs_part_template(compiler, &field);
	if (evs_part_get(object, "When", &field))
		read_when(compiler, &field, compensator);
	if (evs_part_get(object, "KnownNoEffect", &field))
		compensator->no_effect = evs_compile_errors(compiler, &field, &compensator->nno_effect);
	if (evs_part_get(object, "Retry", &field))
		compensator->retriers = evs_compile_retry(compiler, &field, &compensator->nretriers);
	if (evs_part_get(object, "TimeoutSeconds", &field))
		(void) evs_part_whole(compiler, &field, 1, EVS_ASL_SECONDS_MAX, &seconds);
	compensator->timeout = seconds;
	return compensator;
}

/* ---- all of them ---- */

static EvsSagaState *
find_state(const EvsCompiler *compiler, const char *name)
{
	ListCell   *cell;

	foreach(cell, compiler->states)
	{
		EvsNamedState *named = lfirst(cell);

		if (strcmp(named->state->name, name) == 0)
			return named->state;
	}
	return NULL;
}

static void
read_states(EvsCompiler *compiler, const EvsPart *states)
{
	EvsPart		member;
	EvsEach		each;

	if (!evs_part_object(compiler, states))
		return;
	evs_part_begin(&each, states);
	while (evs_part_next(&each, states, &member))
	{
		EvsSagaState *state = find_state(compiler, member.key);
		EvsCompensator *compensator;

		if (!evs_part_object(compiler, &member))
			continue;
		compensator = read_compensator(compiler, &member);
		if (state == NULL)
			evs_compile_error(compiler, &member, "is the name of no state");
		else if (state->type != EVS_STATE_TASK)
			evs_compile_error(compiler, &member, "must be the name of a Task: other states do nothing that could be undone");
		else
			state->compensator = compensator;
	}
}

void
evs_compile_compensation(EvsCompiler *compiler, const EvsPart *object)
{
	EvsPart		field;

	if (!evs_part_object(compiler, object))
		return;
	evs_part_only(compiler, object, compensation_members);
	if (evs_part_get(object, "Comment", &field))
		(void) evs_part_string(compiler, &field);
	if (evs_part_get(object, "automatic", &field))
		(void) evs_part_bool(compiler, &field, &compiler->definition->compensates);
	if (evs_part_get(object, "states", &field))
		read_states(compiler, &field);
}
