/*
 * relay_step.h
 *	  Steps that a relay delivers.
 */
#ifndef EVSTORE_SAGA_RELAY_STEP_H
#define EVSTORE_SAGA_RELAY_STEP_H

/*
 * For the host of a relay, with its slot locked, in the transaction that moves its cursor:
 * steps whose events are at or before it are done, or have failed if their events are
 * parked.  Costs a look into an index where there are none.
 */
extern void evs_saga_relay_moved(const char *relay, int64 subscription_id, int64 cursor);

#endif							/* EVSTORE_SAGA_RELAY_STEP_H */
