/*
 * aggregate.h
 *	  Aggregates: the state of a stream, by its category's transition function.
 *
 * The term is that of domain-driven design (Evans): the events of one stream
 * decide about one thing.
 */
#ifndef EVSTORE_AGGREGATE_H
#define EVSTORE_AGGREGATE_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

typedef struct EvsAggregate
{
	char	   *category;
	Jsonb	   *initial;
	char	   *transition_name;
	Oid			transition;		/* InvalidOid: there is no such function */
	int32		state_version;
	bool		unknown_is_error;
	bool		lost_is_error;
	bool		guarded;		/* has transitions */
} EvsAggregate;

typedef struct EvsAggregateState
{
	Jsonb	   *state;
	int64		version;		/* of the last event that is in it, or of the stream */
	int64		snapshot_version;	/* -1: no snapshot was used */
	int64		events_read;
	int32		state_version;
} EvsAggregateState;

/* That of the stream's category; false if there is none. */
extern bool evs_aggregate_find(const char *stream, EvsAggregate *aggregate);

/* The same, but throws; also when the transition is gone or not the caller's to execute. */
extern void evs_aggregate_get(const char *stream, EvsAggregate *aggregate);

/*
 * The state of a stream, from the newest snapshot that counts and the events
 * after it; the same as from all events.
 */
extern void evs_aggregate_load(const char *stream, EvsAggregateState *result);

/* The same as of a version, or of a time: events above that do not count. */
extern void evs_aggregate_load_until(const char *stream, int64 last_version,
									 TimestampTz recorded_until, EvsAggregateState *result);

/*
 * The state after events that are not stored yet, an array as append_events()
 * takes it.  Throws VS013 where the aggregate's transitions refuse one.
 */
extern Jsonb *evs_aggregate_check_events(const char *stream, const Jsonb *state, int64 version,
										 Jsonb *events);

#endif							/* EVSTORE_AGGREGATE_H */
