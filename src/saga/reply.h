/*
 * reply.h
 *	  Rows of steps that wait, or have waited, for a reply.
 *
 * The instance is locked: nobody else ends its steps, but for the update with which a
 * reply is reported.
 */
#ifndef EVSTORE_SAGA_REPLY_H
#define EVSTORE_SAGA_REPLY_H

#include "saga/instance.h"
#include "saga/step.h"

/*
 * The reply of a step has been taken in.  One that had been given up keeps its status, but
 * what is known about its effect changes.
 */
extern void evs_reply_taken(const pg_uuid_t *saga_id, int64 step, const EvsStepResult *result,
							EvsOutcome outcome, TimestampTz now);

/* Nobody waits for a step any more. */
extern void evs_reply_given_up(const pg_uuid_t *saga_id, const EvsSagaAction *action,
							   TimestampTz now);

/* Steps whose next heartbeat is still to come, and when the last one came. */
typedef struct EvsHeartbeat
{
	int64		step;
	TimestampTz at;
} EvsHeartbeat;

extern int	evs_reply_heartbeats(const pg_uuid_t *saga_id, TimestampTz now,
								 EvsHeartbeat **heartbeats);

/* For EvsTransition: arg is the instance's id. */
extern void evs_reply_lookup(void *arg, int64 step, EvsStepRecord *record);

#endif							/* EVSTORE_SAGA_REPLY_H */
