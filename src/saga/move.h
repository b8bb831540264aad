/*
 * move.h
 *	  A transition that is being made: what the files of the machine call of each other.
 *
 * Private to them.  All functions work on move->execution, and add to the actions.
 */
#ifndef EVSTORE_SAGA_MOVE_H
#define EVSTORE_SAGA_MOVE_H

#include "saga/execution.h"

typedef struct EvsMove
{
	EvsTransition *transition;
	const EvsSagaDefinition *definition;
	EvsExecution *execution;
	const EvsSagaEvent *event;
	bool		started;		/* a step has been started */
	int			budget;			/* states that may still be entered */
} EvsMove;

/* ---- record.c: actions ---- */

/* What a record of the history says; what is NULL or 0 is left out. */
typedef struct EvsNote
{
	int64		step;
	const char *state;
	int64		visit;
	int64		attempt;
	int64		compensates;
	const char *resource;
	Jsonb	   *input;
	Jsonb	   *output;
	const char *error;
	const char *cause;
	EvsOutcome	outcome;
	TimestampTz due;
	const char *reason;
} EvsNote;

extern EvsSagaAction *evs_move_action(EvsMove *move, EvsSagaActionKind kind);
extern void evs_move_record(EvsMove *move, const char *type, const EvsNote *note);

/* The same, with what concerns the whole instance: saga_id, saga_type, completion_time. */
extern void evs_move_record_end(EvsMove *move, const char *type, const EvsNote *note);

extern void evs_move_record_start(EvsMove *move);

extern void evs_move_cancel_step(EvsMove *move, int64 step, const char *error, EvsOutcome outcome);

/* ---- evaluate.c: paths and templates in the scope of a state ---- */

typedef struct EvsEvaluation
{
	EvsMove    *move;
	const EvsThread *thread;
	bool		prepared;
	EvsAslScope scope;
	EvsAslError error;
	int64		item_index;		/* of an item that is to begin */
	Jsonb	   *item;			/* or NULL */
} EvsEvaluation;

extern void evs_evaluation_init(EvsEvaluation *e, EvsMove *move, const EvsThread *thread);

/* The Map.Item of the context, instead of the thread's own: of an item that is to begin. */
extern void evs_evaluation_item(EvsEvaluation *e, int64 index, Jsonb *value);

/* NULL and an error: it names nothing. */
extern Jsonb *evs_evaluate_path(EvsEvaluation *e, const EvsAslPath *path, Jsonb *input, const char *field);
extern Jsonb *evs_evaluate_template(EvsEvaluation *e, const EvsAslTemplate *template, Jsonb *input);
extern Jsonb *evs_evaluate_expression(EvsEvaluation *e, const EvsAslExpression *expression, Jsonb *input);
extern bool evs_evaluate_rule(EvsEvaluation *e, const EvsAslRule *rule, Jsonb *input);

/* InputPath and OutputPath; the size of what they give is limited. */
extern Jsonb *evs_effective_input(EvsEvaluation *e);
extern Jsonb *evs_effective_output(EvsEvaluation *e, Jsonb *output);
extern bool evs_within_limit(EvsEvaluation *e, Jsonb *data, const char *what);

/* The context object of a compensator. */
extern Jsonb *evs_compensator_context(const EvsMove *move, const char *state, int64 attempt);

/* ---- enter.c: states, entered and left ---- */

/* Enter the state that a thread is ready for. */
extern void evs_state_enter(EvsMove *move, EvsThread *thread);

/* The state that a thread is in has this result. */
extern void evs_state_succeeded(EvsMove *move, EvsThread *thread, Jsonb *result);

/* Its Wait is over. */
extern void evs_state_waited(EvsMove *move, EvsThread *thread);

/* On to the next state, or to the thread's end.  What is assigned may be NULL. */
extern void evs_state_left(EvsMove *move, EvsThread *thread, int next, Jsonb *output, Jsonb *assigned);

/* ---- fork.c: Parallel and Map ---- */

/* The items of the Map that a thread is in, an array; NULL and an error: there is none. */
extern Jsonb *evs_map_items(EvsEvaluation *e);

extern void evs_fork_enter(EvsMove *move, EvsThread *thread);

/* A thread has come to its end. */
extern void evs_thread_ended(EvsMove *move, EvsThread *thread, Jsonb *output);

/* Take the threads below this one out; their steps are withdrawn. */
extern void evs_fork_clear(EvsMove *move, EvsThread *thread);

/* ---- failure.c ---- */

/* The state that a thread is in fails: Retry, Catch, or whoever is above. */
extern void evs_state_failed(EvsMove *move, EvsThread *thread, const char *error, const char *cause);

/* A Fail state: no Retry and no Catch of its own. */
extern void evs_thread_failed(EvsMove *move, EvsThread *thread, const char *error, const char *cause);

/*
 * The delay before the state may be tried again, in microseconds; -1: no retrier matches, or
 * the one that does has no retry left.  *retries are the retriers' counters.
 */
extern int64 evs_retry_delay(EvsMove *move, const EvsRetrier *retriers, int nretriers,
							 int **retries, const char *error);
extern bool evs_error_matches(char *const *names, int n, const char *error);

/* now and so many seconds */
extern TimestampTz evs_seconds_after(TimestampTz now, double seconds);

/* ---- visit.c: steps of Tasks ---- */

extern void evs_task_enter(EvsMove *move, EvsThread *thread);
extern void evs_task_succeeded(EvsMove *move, EvsThread *thread, Jsonb *output);
extern void evs_task_failed(EvsMove *move, EvsThread *thread);

/* A step in flight has not replied, or not shown any life, in time. */
extern void evs_task_timed_out(EvsMove *move, EvsThread *thread);

/*
 * Nobody waits for a thread's step any more, nor for its retry: what it may have done is
 * in the log of effects, and the thread is ready to enter its state again.
 */
extern void evs_task_withdraw(EvsMove *move, EvsThread *thread);

/* The outcome of a step that has failed: what KnownNoEffect says about the error counts. */
extern EvsOutcome evs_failure_outcome(const EvsSagaState *state, const char *error, EvsOutcome reported);

/* ---- effect.c: what has been done, and replies that come late ---- */

/* A visit of a Task has succeeded by this step. */
extern void evs_effect_succeeded(EvsMove *move, EvsThread *thread, int64 step);

/* A visit has failed, or been withdrawn: is there something that it may have done? */
extern void evs_effect_given_up(EvsMove *move, EvsThread *thread);

/*
 * A thread that stopped is to enter its state again: what is not known about its visit is
 * the visit's once more; if it has been undone, there will be another visit.
 */
extern void evs_effect_resume(EvsMove *move, EvsThread *thread);

extern bool evs_late_success(EvsMove *move);
extern bool evs_late_failure(EvsMove *move);

/* ---- outcome.c: how a saga ends ---- */

/* How long an instance may take, in seconds; 0 = for ever.  (machine.c) */
extern double evs_saga_deadline_seconds(const EvsSagaDefinition *definition);

extern void evs_saga_succeeded(EvsMove *move, Jsonb *output);
extern void evs_saga_failed(EvsMove *move, const char *error, const char *cause, const char *state);
extern void evs_saga_deadline(EvsMove *move);
extern bool evs_saga_cancel(EvsMove *move);
extern bool evs_saga_retry(EvsMove *move);
extern bool evs_saga_compensate(EvsMove *move);

extern bool evs_saga_resolve(EvsMove *move);

/* All is undone. */
extern void evs_saga_compensated(EvsMove *move);

/* A compensator has given up. */
extern void evs_saga_compensation_failed(EvsMove *move, const EvsNote *failure);

#endif							/* EVSTORE_SAGA_MOVE_H */
