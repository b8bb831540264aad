/*
 * lifecycle.h
 *	  Deleting, closing, truncating and scavenging streams.
 */
#ifndef EVSTORE_LIFECYCLE_H
#define EVSTORE_LIFECYCLE_H

#include "funcapi.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/* Each returns the version of the stream's newest event. */
extern int64 evs_lifecycle_delete(const char *stream, int64 expected);
extern int64 evs_lifecycle_tombstone(const char *stream, int64 expected, const char *reason);

/* Returns the version that reads begin with from now on. */
extern int64 evs_lifecycle_truncate(const char *stream, int64 before_version);

/* Pointers and max_count that are NULL or negative leave things as they are. */
extern void evs_lifecycle_set(const char *stream, int64 max_count, const Interval *max_age,
							  Jsonb *metadata);

/* A row for each stream that events were removed of. */
extern void evs_lifecycle_scavenge(ReturnSetInfo *result);

#endif							/* EVSTORE_LIFECYCLE_H */
