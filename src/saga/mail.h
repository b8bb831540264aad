/*
 * mail.h
 *	  What comes in for instances of sagas from outside of their transitions.
 *
 * A row in saga_mail for each, never a lock on the instance: who reports never waits
 * for a transition.  The saga's workers are woken at commit.
 */
#ifndef EVSTORE_SAGA_MAIL_H
#define EVSTORE_SAGA_MAIL_H

#include "utils/jsonb.h"
#include "utils/uuid.h"

/*
 * Kinds, and what goes with them:
 *
 *	success		step, payload = output
 *	failure		step, error, cause, name = no_effect or unknown: what is known of its effect
 *	signal		name, payload: see evs_saga_take_signal()
 *	cancel		payload {"compensate": boolean}, cause
 *	retry		nothing
 *	resolve		error = skip, compensated or failed; cause = reason
 *	compensate	payload = list of compensations, or NULL: all that has succeeded is to be undone
 *
 * A success or failure that came in time goes with the update that sets its step's status
 * to reported.  Where the step has another one, it is late, and the machine decides.
 */
#define EVS_MAIL_SUCCESS	"success"
#define EVS_MAIL_FAILURE	"failure"
#define EVS_MAIL_SIGNAL		"signal"
#define EVS_MAIL_CANCEL		"cancel"
#define EVS_MAIL_RETRY		"retry"
#define EVS_MAIL_RESOLVE	"resolve"
#define EVS_MAIL_COMPENSATE "compensate"

/* Of step 0: of none.  What is NULL is not there. */
extern void evs_saga_mail(const pg_uuid_t *saga_id, int64 definition_id, const char *kind,
						  int64 step, const char *name, Jsonb *payload,
						  const char *error, const char *cause);

/*
 * A step that is running has succeeded, or failed: its row, and mail that says so.  false:
 * it was not running any more, and nothing is done.
 */
extern bool evs_saga_step_done(const pg_uuid_t *saga_id, int64 definition_id, int64 step,
							   Jsonb *output);
extern bool evs_saga_step_failed(const pg_uuid_t *saga_id, int64 definition_id, int64 step,
								 const char *error, const char *cause, bool no_effect);

/* Which of the buckets the workers of a saga sleep for: see EvsPoolSlot.armed. */
extern int	evs_saga_bucket(int64 definition_id);

/* When the transaction has committed, have them look for something to do. */
extern void evs_saga_wake_workers(int64 definition_id);

#endif							/* EVSTORE_SAGA_MAIL_H */
