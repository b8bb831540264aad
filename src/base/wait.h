/*
 * wait.h
 *	  Waiting to be woken, without losing a wake-up.
 */
#ifndef EVSTORE_WAIT_H
#define EVSTORE_WAIT_H

#include "datatype/timestamp.h"

/*
 * Announce first, look second, sleep third: who makes something new looks for
 * announced ones after having made it visible.  Who stands by is not woken by
 * events, only when something changes about the subscription.
 */
extern void evs_wait_announce(int bucket, bool standby);

/* Until woken or this time, by the wall clock.  Nothing is promised. */
extern void evs_wait_sleep(TimestampTz until);

extern void evs_wait_end(void);

#endif							/* EVSTORE_WAIT_H */
