/*
 * options.c
 *	  {"options": …}: when instances of a saga start, what events are theirs, and limits.
 *
 * Of start_on and correlate, which are for whoever looks for events, it is only seen to that
 * they are valid.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/resowner.h"

#include "exec/act_as.h"
#include "saga/compile.h"
#include "stream/filter.h"
#include "compat.h"

/* Limits of options, beside those of machines. */
#define MAX_TRANSITIONS		10000000
#define MIN_DATA			1024
#define MAX_DATA			(16 * 1024 * 1024)
#define MAX_RETENTION		(100 * 365.25 * 86400)
#define MAX_WORKERS			16
#define MIN_SECONDS			0.001

static const char *const members[] = {
	"business_key", "start_on", "correlate", "deadline", "on_deadline", "priority", "max_transitions",
	"max_data", "retention", "workers", "durable", "statement_timeout", "resources", NULL
};

static const char *const trigger_members[] = {"filter", "type", "input", "business_key", NULL};

/* ---- start_on ---- */

/* What is wrong with a filter, or NULL: the compiler of filters throws. */
static char *
filter_problem(Jsonb *filter)
{
	MemoryContext memory = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	char	   *volatile problem = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(memory);
	PG_TRY();
	{
		(void) evs_filter_compile(filter);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(memory);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (evs_error_is_transient(error->sqlerrcode))
			ReThrowError(error);
		problem = error->message;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	CurrentResourceOwner = owner;
	return problem;
}

static void
check_filter(EvsCompiler *compiler, const EvsPart *object)
{
	EvsPart		field;
	EvsPart		type;
	char	   *problem;

	if (evs_part_get(object, "type", &type))
	{
		(void) evs_part_string(compiler, &type);
		if (evs_part_get(object, "filter", &field))
			evs_compile_error(compiler, &field, "is one too many: there is type");
		return;
	}
	if (!evs_part_get(object, "filter", &field))
	{
		evs_compile_error(compiler, object, "must have a filter or a type");
		return;
	}
	if (!evs_part_object(compiler, &field))
		return;
	problem = filter_problem(evs_part_json(&field));
	if (problem != NULL)
		evs_compile_error(compiler, &field, "is not a filter: %s", problem);
}

static void
check_trigger(EvsCompiler *compiler, const EvsPart *object)
{
	EvsPart		field;

	if (!evs_part_object(compiler, object))
		return;
	evs_part_only(compiler, object, trigger_members);
	check_filter(compiler, object);
	if (evs_part_get(object, "input", &field))
		(void) evs_part_path(compiler, &field);
	if (evs_part_get(object, "business_key", &field))
		(void) evs_part_definite_path(compiler, &field);
}

static void
check_start_on(EvsCompiler *compiler, const EvsPart *field)
{
	EvsPart		element;
	EvsEach		each;

	if (!evs_part_array(compiler, field, true))
		return;
	evs_part_begin(&each, field);
	while (evs_part_next(&each, field, &element))
		check_trigger(compiler, &element);
}

/* ---- correlate ---- */

static void
check_correlate(EvsCompiler *compiler, const EvsPart *field)
{
	EvsPart		member;
	EvsEach		each;

	if (!evs_part_object(compiler, field))
		return;
	evs_part_begin(&each, field);
	while (evs_part_next(&each, field, &member))
	{
		if (*member.key == '\0')
			evs_compile_error(compiler, &member, "must be the name of a type of events");
		(void) evs_part_definite_path(compiler, &member);
	}
}

/* ---- limits ---- */

static void
read_whole(EvsCompiler *compiler, const EvsPart *object, const char *name, int low, int high, int *value)
{
	EvsPart		field;
	int64		number = *value;

	if (evs_part_get(object, name, &field))
		(void) evs_part_whole(compiler, &field, low, high, &number);
	*value = number;
}

static void
read_limits(EvsCompiler *compiler, const EvsPart *object)
{
	static const char *const on_deadline[] = {"compensate", "fail", NULL};
	EvsSagaDefinition *definition = compiler->definition;
	EvsPart		field;

	read_whole(compiler, object, "priority", 0, 9, &definition->priority);
	read_whole(compiler, object, "max_transitions", 1, MAX_TRANSITIONS, &definition->max_transitions);
	read_whole(compiler, object, "max_data", MIN_DATA, MAX_DATA, &definition->max_data);
	read_whole(compiler, object, "workers", 1, MAX_WORKERS, &definition->workers);
	if (evs_part_get(object, "deadline", &field))
		(void) evs_part_seconds(compiler, &field, MIN_SECONDS, EVS_ASL_SECONDS_MAX, &definition->deadline);
	if (evs_part_get(object, "on_deadline", &field) &&
		evs_part_word(compiler, &field, on_deadline) == EVS_DEADLINE_FAIL)
		definition->on_deadline = EVS_DEADLINE_FAIL;
	if (evs_part_get(object, "retention", &field) && !evs_part_is_null(&field))
		(void) evs_part_seconds(compiler, &field, 0, MAX_RETENTION, &definition->retention);
	if (evs_part_get(object, "durable", &field))
		(void) evs_part_bool(compiler, &field, &definition->durable);
	if (evs_part_get(object, "statement_timeout", &field))
		(void) evs_part_seconds(compiler, &field, 0, SECS_PER_DAY, &definition->statement_timeout);
}

void
evs_compile_options(EvsCompiler *compiler, const EvsPart *object)
{
	EvsSagaDefinition *definition = compiler->definition;
	EvsPart		field;

	if (!evs_part_object(compiler, object))
		return;
	definition->options = evs_part_json(object);
	evs_part_only(compiler, object, members);
	if (evs_part_get(object, "business_key", &field))
		definition->business_key = evs_part_definite_path(compiler, &field);
	if (evs_part_get(object, "start_on", &field))
		check_start_on(compiler, &field);
	if (evs_part_get(object, "correlate", &field))
		check_correlate(compiler, &field);
	read_limits(compiler, object);
	if (evs_part_get(object, "resources", &field) && evs_part_object(compiler, &field))
		evs_compile_resource_option(compiler);
}
