/*
 * in_flight.h
 *	  The registry of appends in flight.
 */
#ifndef EVSTORE_IN_FLIGHT_H
#define EVSTORE_IN_FLIGHT_H

/* Number that tells evstore's advisory locks from others' (pg_locks.objsubid). */
#define EVS_LOCK_IN_FLIGHT	17750
#define EVS_LOCK_PARTITION	17751

/* Does the current transaction hold this floor, and for this resource owner too? */
extern bool evs_in_flight_again(int64 floor);

/* Hold a floor; from now on the transaction may draw positions above it. */
extern void evs_in_flight_enter(int64 floor);

/* Has the current transaction appended, and not rolled that back? */
extern bool evs_in_flight_here(void);

/*
 * The lowest floor that a transaction of this database holds; false if there
 * is none.  The caller has read the sequence before.  The quick way knows all
 * but needs the library to be preloaded, and no prepared transactions: if it
 * cannot tell, it returns false in *known.  The sure way scans the lock table.
 */
extern bool evs_in_flight_lowest_quick(int64 *floor, bool *known);
extern bool evs_in_flight_lowest_sure(int64 *floor);

#endif							/* EVSTORE_IN_FLIGHT_H */
