/*
 * step.h
 *	  Steps of sagas: what begins them, and what withdraws them.
 *
 * SQL and append steps are run here, in a transition's transaction.  All others are a row
 * of saga_step that waits for a reply, and what is done beside it so that a reply comes.
 */
#ifndef EVSTORE_SAGA_STEP_H
#define EVSTORE_SAGA_STEP_H

#include "utils/uuid.h"

#include "saga/machine.h"
#include "saga/saga.h"

/*
 * A step that has just begun: its row is in saga_step, with status running, and name that
 * of the resource.  What else belongs into the row, who begins it writes.
 */
typedef struct EvsStartedStep
{
	pg_uuid_t	saga_id;
	int64		definition_id;
	int64		step;
	const EvsSagaAction *action;
	const char *owner;			/* of the saga */
	int64		started_after;	/* events up to this position are not for the instance */
	TimestampTz now;
	const char *business_key;	/* or NULL */
	pg_uuid_t	token;
	const char *saga;			/* its name */
	const char *idempotency_key;	/* the same for all attempts */
	const char *correlation_id;
	const pg_uuid_t *causation_id;	/* or NULL */
	int			priority;
} EvsStartedStep;

/*
 * What begins a step of a kind.  false: it cannot, for this error and cause; then it has
 * had no effect.  It runs as evstore's owner.
 */
typedef bool (*EvsBeginStep) (const EvsStartedStep *step, const char **error, char **cause);

extern bool evs_saga_begin_relay(const EvsStartedStep *step, const char **error, char **cause);
extern bool evs_saga_begin_child(const EvsStartedStep *step, const char **error, char **cause);
extern bool evs_saga_begin_activity(const EvsStartedStep *step, const char **error, char **cause);
extern bool evs_saga_begin_event(const EvsStartedStep *step, const char **error, char **cause);
extern bool evs_saga_begin_signal(const EvsStartedStep *step, const char **error, char **cause);

/*
 * A signal has come in, for an instance that is locked: the first of a name counts.
 * Returns the step that waits for it, now reported, or 0.
 */
extern int64 evs_saga_take_signal(const pg_uuid_t *saga_id, const char *name, Jsonb *payload);

/* Nobody waits any more for the reply of this saga step, whose row says cancelled: its child ends. */
extern void evs_saga_cancel_child(const pg_uuid_t *saga_id, int64 step);

/* An instance with a parent has come to its end: the step that waits for it gets its reply. */
extern void evs_saga_child_ended(const pg_uuid_t *child_id, const pg_uuid_t *parent_id, int64 parent_step,
								 const EvsSagaAction *end);

/* ---- steps that are run at once ---- */

/* What has come of it. */
typedef struct EvsStepResult
{
	bool		ok;
	Jsonb	   *output;			/* JSON null if there is none */
	const char *error;			/* of one that failed, without an effect */
	char	   *cause;
} EvsStepResult;

/*
 * Run an SQL or append step as the saga's owner, in a subtransaction.  What is nobody's
 * fault is thrown.
 */
extern void evs_saga_run_step(const EvsSaga *saga, const EvsSagaDefinition *definition,
							  const EvsStartedStep *step, bool in_worker, EvsStepResult *result);

/*
 * The function of an SQL step, by its name as a Resource has it.  Throws 42883 if there is
 * none of that form, 42501 if the role may not execute it.
 */
extern Oid	evs_saga_find_function(const char *name, Oid owner);

/* Is one being run by this session? */
extern bool evs_saga_in_step(void);

/* <saga_id>/<state>/<visit>, and /compensate for a compensator. */
extern char *evs_saga_idempotency_key(const char *saga_id, const EvsSagaAction *action);

#endif							/* EVSTORE_SAGA_STEP_H */
