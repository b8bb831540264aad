/*
 * wait.h
 *	  Waiting to be woken, without losing a wake-up.
 */
#ifndef EVSTORE_WAIT_H
#define EVSTORE_WAIT_H

#include "datatype/timestamp.h"

typedef enum EvsWaitFor
{
	EVS_WAIT_EVENTS,			/* of a subscription */
	EVS_WAIT_CHANGE,			/* of a subscription, or of how far it is */
	EVS_WAIT_TASKS				/* of an activity */
} EvsWaitFor;

/*
 * Announce first, look second, sleep third: who makes something new looks for
 * announced ones after having made it visible.
 */
extern void evs_wait_announce(int bucket, EvsWaitFor what);

/* Until woken or this time, by the wall clock.  Nothing is promised. */
extern void evs_wait_sleep(TimestampTz until);

extern void evs_wait_end(void);

#endif							/* EVSTORE_WAIT_H */
