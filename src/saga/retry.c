/*
 * retry.c
 *	  Retriers and catchers: what is done about errors of a state.
 */
#include "postgres.h"

#include "saga/compile.h"
#include "compat.h"

/* Names that begin with States. are the language's. */
static const char *const reserved_errors[] = {
	EVS_ASL_ALL, EVS_ASL_TIMEOUT, EVS_ASL_HEARTBEAT_TIMEOUT, EVS_ASL_TASK_FAILED,
	EVS_ASL_PERMISSIONS, EVS_ASL_RESULT_PATH, EVS_ASL_PARAMETER_PATH, EVS_ASL_BRANCH_FAILED,
	EVS_ASL_NO_CHOICE, EVS_ASL_INTRINSIC, EVS_ASL_TOLERANCE, EVS_ASL_RUNTIME, EVS_ASL_DATA_LIMIT,
	/* of what is not supported: they never happen */
	"States.ItemReaderFailed", "States.ResultWriterFailed", "States.QueryEvaluationError",
	"States.Http.Socket"
};

static const char *const retrier_members[] = {
	"ErrorEquals", "IntervalSeconds", "MaxAttempts", "BackoffRate", "MaxDelaySeconds",
	"JitterStrategy", "Comment", NULL
};

static const char *const catcher_members[] = {
	"ErrorEquals", "Next", "ResultPath", "Assign", "Comment", NULL
};

/* ---- errors ---- */

bool
evs_error_name_is_valid(const char *name)
{
	if (strncmp(name, "States.", 7) != 0)
		return true;
	for (int i = 0; i < lengthof(reserved_errors); i++)
		if (strcmp(name, reserved_errors[i]) == 0)
			return true;
	return false;
}

char **
evs_compile_errors(EvsCompiler *compiler, const EvsPart *field, int *n)
{
	char	  **names;
	EvsPart		element;
	EvsEach		each;

	*n = 0;
	if (!evs_part_array(compiler, field, false))
		return NULL;
	names = palloc(sizeof(char *) * evs_part_count(field));
	evs_part_begin(&each, field);
	while (evs_part_next(&each, field, &element))
	{
		char	   *name = evs_part_string(compiler, &element);

		if (name == NULL)
			continue;
		if (!evs_error_name_is_valid(name))
			evs_compile_error(compiler, &element, "is no error of the language: other names may not begin with \"States.\"");
		names[(*n)++] = name;
	}
	return names;
}

/* Errors of the element at this index; States.ALL stands alone, in the last one. */
static char **
read_errors(EvsCompiler *compiler, const EvsPart *element, bool is_last, int *n)
{
	EvsPart		field;
	char	  **names;

	*n = 0;
	if (!evs_part_get(element, "ErrorEquals", &field))
	{
		evs_compile_missing(compiler, element, "ErrorEquals");
		return NULL;
	}
	names = evs_compile_errors(compiler, &field, n);
	for (int i = 0; i < *n; i++)
	{
		if (strcmp(names[i], EVS_ASL_ALL) != 0)
			continue;
		if (*n > 1)
			evs_compile_error(compiler, &field, "must have States.ALL alone");
		if (!is_last)
			evs_compile_error(compiler, &field, "must have States.ALL in the last place only: what follows is never reached");
	}
	return names;
}

static void
check_comment(EvsCompiler *compiler, const EvsPart *object)
{
	EvsPart		field;

	if (evs_part_get(object, "Comment", &field))
		(void) evs_part_string(compiler, &field);
}

/* ---- retriers ---- */

static void
read_delays(EvsCompiler *compiler, const EvsPart *element, EvsRetrier *retrier)
{
	EvsPart		field;
	int64		seconds = 1;
	int64		longest = 0;

	if (evs_part_get(element, "IntervalSeconds", &field))
		(void) evs_part_whole(compiler, &field, 1, EVS_ASL_SECONDS_MAX, &seconds);
	retrier->interval = seconds;
	if (evs_part_get(element, "BackoffRate", &field))
		(void) evs_part_number(compiler, &field, 1, 1000, &retrier->backoff_rate);
	if (evs_part_get(element, "MaxDelaySeconds", &field) &&
		evs_part_whole(compiler, &field, 1, EVS_ASL_SECONDS_MAX, &longest) && longest <= seconds)
		evs_compile_error(compiler, &field, "must be greater than IntervalSeconds, which is " INT64_FORMAT, seconds);
	retrier->max_delay = longest;
}

static void
read_retrier(EvsCompiler *compiler, const EvsPart *element, bool is_last, EvsRetrier *retrier)
{
	static const char *const strategies[] = {"NONE", "FULL", NULL};
	EvsPart		field;
	int64		attempts = 3;

	retrier->backoff_rate = 2;
	if (!evs_part_object(compiler, element))
		return;
	evs_part_only(compiler, element, retrier_members);
	check_comment(compiler, element);
	retrier->errors = read_errors(compiler, element, is_last, &retrier->nerrors);
	if (evs_part_get(element, "MaxAttempts", &field))
		(void) evs_part_whole(compiler, &field, 0, EVS_ASL_SECONDS_MAX, &attempts);
	retrier->max_attempts = attempts;
	if (evs_part_get(element, "JitterStrategy", &field))
		retrier->full_jitter = evs_part_word(compiler, &field, strategies) == 1;
	read_delays(compiler, element, retrier);
}

EvsRetrier *
evs_compile_retry(EvsCompiler *compiler, const EvsPart *field, int *n)
{
	EvsRetrier *retriers;
	EvsPart		element;
	EvsEach		each;

	*n = 0;
	if (!evs_part_array(compiler, field, true))
		return NULL;
	retriers = palloc0(sizeof(EvsRetrier) * Max(evs_part_count(field), 1));
	evs_part_begin(&each, field);
	while (evs_part_next(&each, field, &element))
		read_retrier(compiler, &element, element.index == evs_part_count(field) - 1, &retriers[(*n)++]);
	return retriers;
}

/* ---- catchers ---- */

static void
read_catcher(EvsCompiler *compiler, const EvsMachine *machine, const EvsPart *element, bool is_last,
			 EvsCatcher *catcher)
{
	EvsPart		field;

	catcher->next = -1;
	if (!evs_part_object(compiler, element))
		return;
	evs_part_only(compiler, element, catcher_members);
	check_comment(compiler, element);
	catcher->errors = read_errors(compiler, element, is_last, &catcher->nerrors);
	if (evs_part_get(element, "Next", &field))
		catcher->next = evs_compile_target(compiler, machine, &field);
	else
		evs_compile_missing(compiler, element, "Next");
	if (evs_part_get(element, "ResultPath", &field))
	{
		catcher->discard = evs_part_is_null(&field);
		if (!catcher->discard)
			catcher->result_path = evs_part_reference_path(compiler, &field);
	}
	if (evs_part_get(element, "Assign", &field))
		catcher->assign = evs_part_assign(compiler, &field);
}

EvsCatcher *
evs_compile_catch(EvsCompiler *compiler, const EvsMachine *machine, const EvsPart *field, int *n)
{
	EvsCatcher *catchers;
	EvsPart		element;
	EvsEach		each;

	*n = 0;
	if (!evs_part_array(compiler, field, true))
		return NULL;
	catchers = palloc0(sizeof(EvsCatcher) * Max(evs_part_count(field), 1));
	evs_part_begin(&each, field);
	while (evs_part_next(&each, field, &element))
		read_catcher(compiler, machine, &element, element.index == evs_part_count(field) - 1,
					 &catchers[(*n)++]);
	return catchers;
}
