/*
 * ack.h
 *	  What consumers say of the events they were given.
 */
#ifndef EVSTORE_ACK_H
#define EVSTORE_ACK_H

#include "fmgr.h"
#include "datatype/timestamp.h"

/* Which claim of which slot. */
typedef struct EvsClaim
{
	const char *name;
	int			slot;
	int64		epoch;
} EvsClaim;

typedef struct EvsNack
{
	int64		position;
	bool		has_error;
	Datum		error;			/* text */
	const char *action;			/* retry, defer, park, skip, bisect */
	bool		has_delay;
	Datum		delay;			/* interval */
} EvsNack;

/* All return the slot's checkpoint, or throw VS007 if the claim is gone. */
extern int64 evs_ack_up_to(const EvsClaim *claim, int64 up_to);
extern int64 evs_ack_positions(const EvsClaim *claim, Datum positions);
extern int64 evs_nack_event(const EvsClaim *claim, const EvsNack *nack);

/* Renew a claim; returns when it ends.  0 ms: the subscription's lease. */
extern TimestampTz evs_claim_extend(const EvsClaim *claim, int64 ms);

/* Give back all that a consumer has; returns the number of slots. */
extern int	evs_claim_release(const char *name, const char *consumer);

#endif							/* EVSTORE_ACK_H */
