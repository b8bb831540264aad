/*
 * notifier.h
 *	  NOTIFY on behalf of all appends: gathered, and not too often.
 */
#ifndef EVSTORE_NOTIFIER_H
#define EVSTORE_NOTIFIER_H

#include "datatype/timestamp.h"

/* There is something new for the channel, up to this position. */
extern void evs_notifier_add(const char *channel, int64 position);

/*
 * Send what is due; returns when something will be, or 0 if nothing waits.  nap
 * is how long the dispatcher lets events gather now, in microseconds.  In no
 * transaction.
 */
extern TimestampTz evs_notifier_run(TimestampTz now, long nap);

#endif							/* EVSTORE_NOTIFIER_H */
