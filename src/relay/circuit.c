/*
 * circuit.c
 *	  When a relay may send: the circuit breaker, and the token bucket.
 *
 *	  closed ── so many outages in a row ──▶ open ── its time is over ──▶ half-open
 *	    ▲                                     ▲                            │   │
 *	    │                                     └──── the message: outage ───┘   │
 *	    └──────────────────────────────────── the message: any answer ─────────┘
 *
 * Before it opens, there is a pause after each outage, too; pauses double, with full
 * jitter.  What the other side asks for is obeyed.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "relay/circuit.h"
#include "compat.h"

/* The pause after a first outage, in ms. */
#define PAUSE_FIRST 100

static int64
doubled(int64 ms, int times, int64 max)
{
	while (times-- > 0 && ms < max)
		ms *= 2;
	return Min(ms, max);
}

/* Between half of it and all: those who come back do not come together. */
static int64
with_jitter(int64 ms)
{
	return ms / 2 + (int64) (pg_prng_double(&pg_global_prng_state) * (ms - ms / 2));
}

void
evs_circuit_failed(EvsCircuit *circuit, const EvsRelay *relay, int64 hint)
{
	int64		pause;

	circuit->outages++;
	if (circuit->state == EVS_CIRCUIT_HALF_OPEN || circuit->outages >= relay->circuit_failures)
	{
		pause = doubled(relay->open_for, circuit->opened, Max(relay->max_open_for, relay->open_for));
		if (circuit->state != EVS_CIRCUIT_OPEN)
		{
			circuit->opened++;
			circuit->times_opened++;
		}
		circuit->state = EVS_CIRCUIT_OPEN;
	}
	else
		pause = doubled(PAUSE_FIRST, circuit->outages - 1, relay->open_for);
	pause = Max(with_jitter(pause), hint);
	circuit->until = TimestampTzPlusMilliseconds(evs_clock_now(), pause);
}

void
evs_circuit_succeeded(EvsCircuit *circuit)
{
	circuit->state = EVS_CIRCUIT_CLOSED;
	circuit->outages = circuit->opened = 0;
	circuit->until = 0;
}

int
evs_circuit_allows(EvsCircuit *circuit, int n, int in_flight)
{
	if (circuit->until != 0 && circuit->until > evs_clock_now())
		return 0;
	if (circuit->state == EVS_CIRCUIT_CLOSED || n == 0)
		return n;
	if (in_flight > 0)
		return 0;
	circuit->state = EVS_CIRCUIT_HALF_OPEN;
	return 1;
}

const char *
evs_circuit_name(EvsCircuitState state)
{
	switch (state)
	{
		case EVS_CIRCUIT_CLOSED:
			return "closed";
		case EVS_CIRCUIT_OPEN:
			return "open";
		case EVS_CIRCUIT_HALF_OPEN:
			return "half_open";
	}
	return "unknown";
}

int
evs_bucket_allows(EvsBucket *bucket, double rate, int burst, int64 now, int n, long *wait)
{
	if (rate <= 0)
		return n;
	/* a process does not wake up more often than this */
	burst = Max(burst, (int) (rate / 100));
	if (bucket->filled_at == 0)
		bucket->tokens = burst;
	else
		bucket->tokens = Min(burst, bucket->tokens + (now - bucket->filled_at) * rate / 1e6);
	bucket->filled_at = now;
	if (bucket->tokens >= 1)
		return Min(n, (int) bucket->tokens);
	*wait = (long) ((1 - bucket->tokens) * 1000 / rate) + 1;
	return 0;
}

void
evs_bucket_take(EvsBucket *bucket, int n)
{
	bucket->tokens -= n;
}
