/*
 * circuit.h
 *	  When a relay may send: the circuit breaker, and the token bucket.
 *
 * The terms are those of Nygard, "Release It!": closed, open, half-open.
 */
#ifndef EVSTORE_RELAY_CIRCUIT_H
#define EVSTORE_RELAY_CIRCUIT_H

#include "datatype/timestamp.h"

#include "relay/definition.h"

typedef enum EvsCircuitState
{
	EVS_CIRCUIT_CLOSED,
	EVS_CIRCUIT_OPEN,
	EVS_CIRCUIT_HALF_OPEN		/* one message is on its way, to find out */
} EvsCircuitState;

typedef struct EvsCircuit
{
	EvsCircuitState state;
	int			outages;		/* in a row */
	int			opened;			/* in a row */
	int64		times_opened;	/* in all */
	TimestampTz until;			/* nothing is sent before; evstore's clock */
} EvsCircuit;

typedef struct EvsBucket
{
	double		tokens;
	int64		filled_at;		/* microseconds */
} EvsBucket;

/* The sink is gone.  hint: what it asks for, in ms; -1 = nothing. */
extern void evs_circuit_failed(EvsCircuit *circuit, const EvsRelay *relay, int64 hint);
extern void evs_circuit_succeeded(EvsCircuit *circuit);

/* How many messages may be submitted now, of so many?  An open circuit becomes half-open. */
extern int	evs_circuit_allows(EvsCircuit *circuit, int n, int in_flight);

extern const char *evs_circuit_name(EvsCircuitState state);

/* The same for a rate in messages a second; *wait is set to ms until the next one. */
extern int	evs_bucket_allows(EvsBucket *bucket, double rate, int burst, int64 now, int n, long *wait);
extern void evs_bucket_take(EvsBucket *bucket, int n);

#endif							/* EVSTORE_RELAY_CIRCUIT_H */
