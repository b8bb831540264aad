/*
 * fetch.h
 *	  Giving events to consumers.
 */
#ifndef EVSTORE_FETCH_H
#define EVSTORE_FETCH_H

#include "funcapi.h"

typedef struct EvsFetch
{
	const char *name;
	const char *consumer;
	int64		max_count;
	int64		wait_ms;
} EvsFetch;

/* Rows (slot, epoch, attempt, event columns) go to the result's tuple store. */
extern void evs_fetch_events(const EvsFetch *request, ReturnSetInfo *result);

/*
 * Wait until there is something for the consumer, or for anyone if it is NULL.
 * Takes nothing, and holds no snapshot where the procedure may commit.
 */
extern void evs_fetch_wait(FunctionCallInfo fcinfo, const EvsFetch *request);

#endif							/* EVSTORE_FETCH_H */
