/*
 * failure.c
 *	  States that fail: Retry, Catch, and on to what is above.
 *
 * The first retrier that matches decides; when it has no retry left, the first catcher that
 * matches does.  An error that neither takes ends the thread: for a branch or an item, the
 * Parallel or Map fails with the same error; for the root, the saga does.
 */
#include "postgres.h"

#include <math.h>

#include "common/pg_prng.h"
#include "utils/timestamp.h"

#include "saga/move.h"

/* Longer than anybody waits, and short enough to be added to any time: a hundred years. */
#define LONGEST_DELAY	(100.0 * 366 * SECS_PER_DAY)

/* ---- names of errors ---- */

static bool
is_timeout(const char *error)
{
	return strcmp(error, EVS_ASL_TIMEOUT) == 0 || strcmp(error, EVS_ASL_HEARTBEAT_TIMEOUT) == 0;
}

static bool
is_fatal(const char *error)
{
	return strcmp(error, EVS_ASL_RUNTIME) == 0 || strcmp(error, EVS_ASL_DATA_LIMIT) == 0;
}

static bool
error_matches(const char *name, const char *error)
{
	if (strcmp(name, error) == 0)
		return true;
	if (strcmp(name, EVS_ASL_ALL) == 0)
		return !is_fatal(error);
	if (strcmp(name, EVS_ASL_TASK_FAILED) == 0)
		return !is_fatal(error) && !is_timeout(error);
	return strcmp(name, EVS_ASL_TIMEOUT) == 0 && is_timeout(error);
}

/* A Fail state need not name its error. */
bool
evs_error_matches(char *const *names, int n, const char *error)
{
	for (int i = 0; i < n; i++)
		if (error_matches(names[i], error == NULL ? "" : error))
			return true;
	return false;
}

/* ---- Retry ---- */

TimestampTz
evs_seconds_after(TimestampTz now, double seconds)
{
	return now + (int64) rint(Min(seconds, LONGEST_DELAY) * USECS_PER_SEC);
}

static const EvsRetrier *
find_retrier(const EvsRetrier *retriers, int nretriers, const char *error)
{
	for (int i = 0; i < nretriers; i++)
		if (evs_error_matches(retriers[i].errors, retriers[i].nerrors, error))
			return &retriers[i];
	return NULL;
}

int64
evs_retry_delay(EvsMove *move, const EvsRetrier *retriers, int nretriers, int **retries, const char *error)
{
	const EvsRetrier *retrier = find_retrier(retriers, nretriers, error);
	int		   *count;
	double		delay;

	if (retrier == NULL)
		return -1;
	if (*retries == NULL)
		*retries = palloc0(sizeof(int) * nretriers);
	count = &(*retries)[retrier - retriers];
	if (*count >= retrier->max_attempts)
		return -1;
	delay = retrier->interval * pow(retrier->backoff_rate, (*count)++);
	if (retrier->max_delay > 0)
		delay = Min(delay, retrier->max_delay);
	if (retrier->full_jitter)
		delay *= pg_prng_double(move->event->random);
	return evs_seconds_after(0, delay);
}

static bool
try_retry(EvsMove *move, EvsThread *thread, const char *error, const char *cause)
{
	const EvsSagaState *state = evs_thread_state(thread);
	int64		delay = evs_retry_delay(move, state->retriers, state->nretriers, &thread->retries, error);
	EvsNote		note = {.error = error};

	if (delay < 0)
		return false;
	thread->status = EVS_THREAD_RETRY;
	thread->due = move->event->now + delay;
	note.state = evs_thread_path(move->execution, thread);
	note.attempt = thread->attempt + 1;
	note.cause = cause;
	note.due = thread->due;
	evs_move_record(move, "StepRetried", &note);
	return true;
}

/* ---- Catch ---- */

static const EvsCatcher *
find_catcher(const EvsSagaState *state, const char *error)
{
	for (int i = 0; i < state->ncatchers; i++)
		if (evs_error_matches(state->catchers[i].errors, state->catchers[i].nerrors, error))
			return &state->catchers[i];
	return NULL;
}

static Jsonb *
error_output(const char *error, const char *cause)
{
	const char *const keys[] = {"Error", "Cause"};
	Jsonb	   *values[2];

	values[0] = error == NULL ? NULL : evs_asl_string(error);
	values[1] = cause == NULL ? NULL : evs_asl_string(cause);
	return evs_asl_object(2, keys, values);
}

static bool
try_catch(EvsMove *move, EvsThread *thread, const char *error, const char *cause)
{
	const EvsCatcher *catcher = find_catcher(evs_thread_state(thread), error);
	Jsonb	   *assigned = NULL;
	Jsonb	   *output;
	EvsEvaluation e;

	if (catcher == NULL)
		return false;
	output = error_output(error, cause);
	evs_evaluation_init(&e, move, thread);
	if (catcher->assign != NULL)
		assigned = evs_evaluate_template(&e, catcher->assign, output);
	if (catcher->discard)
		output = thread->input;
	else if (catcher->result_path != NULL)
		output = evs_asl_path_put(catcher->result_path, thread->input, output, &e.error);
	if (e.error.name == NULL)
		(void) evs_within_limit(&e, output, "output");
	if (e.error.name != NULL)
		evs_thread_failed(move, thread, e.error.name, e.error.cause);
	else
		evs_state_left(move, thread, catcher->next, output, assigned);
	return true;
}

/* ---- on to what is above ---- */

/* Would a state above do something about it? */
static bool
is_handled_above(EvsMove *move, const EvsThread *thread, const char *error)
{
	while ((thread = evs_thread_find(move->execution, thread->parent)) != NULL)
	{
		const EvsSagaState *state = evs_thread_state(thread);
		const EvsRetrier *retrier = find_retrier(state->retriers, state->nretriers, error);
		int			used = 0;

		if (retrier != NULL && thread->retries != NULL)
			used = thread->retries[retrier - state->retriers];
		if (retrier != NULL && used < retrier->max_attempts)
			return true;
		if (find_catcher(state, error) != NULL)
			return true;
	}
	return false;
}

void
evs_state_failed(EvsMove *move, EvsThread *thread, const char *error, const char *cause)
{
	if (try_retry(move, thread, error, cause))
		return;
	evs_effect_given_up(move, thread);
	if (try_catch(move, thread, error, cause))
		return;
	evs_thread_failed(move, thread, error, cause);
}

/*
 * Threads that end with the saga are kept where they are, for evs_saga_retry(): siblings of
 * the one that failed, too.
 */
void
evs_thread_failed(EvsMove *move, EvsThread *thread, const char *error, const char *cause)
{
	EvsThread  *parent = evs_thread_find(move->execution, thread->parent);

	if (parent == NULL || !is_handled_above(move, thread, error))
	{
		thread->status = EVS_THREAD_READY;
		evs_saga_failed(move, error, cause, evs_thread_path(move->execution, thread));
		return;
	}
	evs_fork_clear(move, parent);
	evs_state_failed(move, parent, error, cause);
}
