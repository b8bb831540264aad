/*
 * cause.h
 *	  What events that are appended now are caused by.
 *
 * Correlation and causation in the sense of message metadata (Hohpe, Woolf):
 * all of a flow has one correlation id, and the causation id is that of the
 * event that this one follows from.
 */
#ifndef EVSTORE_CAUSE_H
#define EVSTORE_CAUSE_H

#include "utils/uuid.h"

struct EvsNewEvent;

/* Members may be NULL.  What they point to must live until another is set. */
typedef struct EvsCause
{
	const pg_uuid_t *causation_id;
	text	   *correlation_id;

	/* Told of each event that is written while this is the cause, whatever the event says of its own. */
	void		(*observe) (void *arg, const struct EvsNewEvent *event);
	void	   *observe_arg;
} EvsCause;

/*
 * For events that do not say it themselves; comes before the session's settings.
 * Whoever sets it sees to it that it ends, also when an error is thrown.
 */
extern void evs_cause_set(EvsCause cause);
extern EvsCause evs_cause_get(void);

#endif							/* EVSTORE_CAUSE_H */
