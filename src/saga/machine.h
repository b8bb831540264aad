/*
 * machine.h
 *	  What happens next in an instance of a saga: a pure function.
 *
 * (execution, event) → (execution, actions).  No I/O, no clock, no catalog, no error
 * thrown for what a definition or data do: whoever calls it does what the actions say, in one
 * transaction with storing the execution.  README.md has the states drawn.
 *
 * An execution is a tree of threads: the root goes through the definition's machine, a
 * Parallel or Map state has a thread for each branch or item.  Tasks of all threads are
 * steps, numbered from 1 in the order in which they start; compensators are steps, too.
 */
#ifndef EVSTORE_SAGA_MACHINE_H
#define EVSTORE_SAGA_MACHINE_H

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#include "saga/definition.h"

typedef enum EvsSagaStatus
{
	EVS_SAGA_RUNNING,
	EVS_SAGA_COMPENSATING,
	EVS_SAGA_SUCCEEDED,
	EVS_SAGA_COMPENSATED,
	EVS_SAGA_FAILED,
	EVS_SAGA_COMPENSATION_FAILED,	/* not the end: retry_saga() and resolve_saga() go on */
	EVS_SAGA_CANCELLED,
	EVS_SAGA_TIMED_OUT
} EvsSagaStatus;					/* "waiting" is a running one that has nothing due: see views */

/* What is known about the effect of a step. */
typedef enum EvsOutcome
{
	EVS_OUTCOME_NONE,			/* it is running */
	EVS_OUTCOME_SUCCEEDED,
	EVS_OUTCOME_NO_EFFECT,		/* failed, and has certainly changed nothing */
	EVS_OUTCOME_UNKNOWN			/* timed out, lost, or failed after it may have changed something */
} EvsOutcome;

typedef struct EvsExecution EvsExecution;

/* ---- events ---- */

typedef enum EvsSagaEventKind
{
	EVS_SAGA_START,				/* with data = input */
	EVS_SAGA_ADVANCE,			/* go on by one piece of work: see machine.c */
	EVS_SAGA_STEP_SUCCEEDED,	/* step, data = output */
	EVS_SAGA_STEP_FAILED,		/* step, error, cause, outcome */
	EVS_SAGA_HEARTBEAT,			/* step: now is when its last sign of life came */
	EVS_SAGA_CANCEL,			/* compensate, or just stop */
	EVS_SAGA_RETRY,				/* redrive: a failed, timed_out or cancelled one from the state that failed, a compensation that failed */
	EVS_SAGA_RESOLVE,			/* a compensation that failed: outcome text in error: "compensated", "failed" or "skip" (this compensator, the others go on) */
	EVS_SAGA_COMPENSATE			/* undo all that it has done; with data, a list of compensations, just these: see README.md */
} EvsSagaEventKind;

typedef struct EvsSagaEvent
{
	EvsSagaEventKind kind;
	TimestampTz now;
	int64		step;
	Jsonb	   *data;
	const char *error;
	const char *cause;
	EvsOutcome	outcome;
	bool		compensate;
	pg_prng_state *random;
	/* Of the context object: constant for an instance. */
	const char *saga_id;
	const char *saga;			/* name of the definition */
	const char *business_key;	/* or NULL */
	Jsonb	   *input;			/* of the instance: what START had as data */
	TimestampTz started_at;
	/* Task tokens are made by whoever calls; $$.Task.Token must be known while a step starts. */
	const char *token;			/* of the step that this event may start */
} EvsSagaEvent;

/* ---- actions ---- */

typedef enum EvsSagaActionKind
{
	EVS_ACTION_START_STEP,		/* a task or a compensator */
	EVS_ACTION_CANCEL_STEP,		/* nobody waits for its reply any more: step, outcome; error: it has timed out, else it is withdrawn */
	EVS_ACTION_RECORD,			/* an event of the history: type, data; step and outcome, if they are known now */
	EVS_ACTION_END				/* status, data = output, or error and cause.  Again after a retry or an order to compensate */
} EvsSagaActionKind;

typedef struct EvsSagaAction
{
	EvsSagaActionKind kind;
	int64		step;
	/* START_STEP */
	const EvsResource *resource;
	const char *state;			/* path of the state: "Ship", "Fan[2].Charge" */
	int			visit;			/* of this state by this thread, from 1 */
	int			attempt;		/* from 1 */
	int64		compensates;	/* step that this one undoes; 0 = none */
	Jsonb	   *payload;
	TimestampTz timeout_at;		/* DT_NOEND = none */
	TimestampTz heartbeat_at;	/* DT_NOEND = none */
	double		heartbeat;		/* seconds */
	/* RECORD: type of the event; END: the status */
	const char *type;
	EvsSagaStatus status;
	EvsOutcome	outcome;		/* of the step */
	Jsonb	   *data;
	const char *error;
	const char *cause;
} EvsSagaAction;

/* What is known about steps that have ended: input and output of what is to be undone. */
typedef struct EvsStepRecord
{
	Jsonb	   *input;			/* payload that it got */
	Jsonb	   *output;			/* or NULL */
	const char *error;
	EvsOutcome	outcome;
} EvsStepRecord;

/* Asked when a compensator starts: reads the step's record. */
typedef void (*EvsStepLookup) (void *arg, int64 step, EvsStepRecord *record);

typedef struct EvsTransition
{
	const EvsSagaDefinition *definition;
	EvsStepLookup lookup;
	void	   *lookup_arg;
	List	   *actions;		/* of EvsSagaAction, in order: out */
} EvsTransition;

/* ---- the function ---- */

extern EvsExecution *evs_execution_new(void);

/* Apply an event.  false: it changes nothing (a repeated, late or foreign reply, …). */
extern bool evs_saga_transition(EvsTransition *transition, EvsExecution *execution,
								const EvsSagaEvent *event);

/* As it is stored, and back.  A definition's states are stored by name. */
extern Jsonb *evs_execution_store(const EvsExecution *execution, const EvsSagaDefinition *definition);
extern EvsExecution *evs_execution_load(Jsonb *stored, const EvsSagaDefinition *definition);

/* Would an order to compensate (EVS_SAGA_COMPENSATE) be heeded? */
extern bool evs_execution_can_compensate(const EvsExecution *execution);

extern EvsSagaStatus evs_execution_status(const EvsExecution *execution);
extern const char *evs_saga_status_name(EvsSagaStatus status);
extern const char *evs_outcome_name(EvsOutcome outcome);

/* When ADVANCE has something to do: DT_NOBEGIN = now, DT_NOEND = never (it waits for replies). */
extern TimestampTz evs_execution_due(const EvsExecution *execution);

#endif							/* EVSTORE_SAGA_MACHINE_H */
