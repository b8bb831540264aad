/*
 * append_step.h
 *	  Steps that append an event.
 */
#ifndef EVSTORE_SAGA_APPEND_STEP_H
#define EVSTORE_SAGA_APPEND_STEP_H

#include "saga/step.h"

/*
 * Append the event of a step's payload, {stream, type, data, expected_version, …}, with the
 * rights of the current user; returns {stream, version, position, event_id}.  The event's
 * id follows from the idempotency key.
 */
extern Jsonb *evs_saga_append(const EvsStartedStep *step, Jsonb *payload);

/* The id that an event of a step has, whichever attempt appends it. */
extern void evs_saga_event_id(const pg_uuid_t *saga_id, const char *idempotency_key, pg_uuid_t *id);

#endif							/* EVSTORE_SAGA_APPEND_STEP_H */
