/*
 * batch.h
 *	  Events that are to be appended: building and validating a batch.
 */
#ifndef EVSTORE_BATCH_H
#define EVSTORE_BATCH_H

#include "datatype/timestamp.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/* Limits, in bytes where not said otherwise. */
#define EVS_TYPE_MAX			512
#define EVS_CORRELATION_MAX		512
#define EVS_SOURCE_MAX			2048
#define EVS_TAG_MAX				512
#define EVS_TAGS_MAX			100 /* tags an event */

/* Expected versions that are not a version. */
#define EVS_ANY_VERSION			(-2)
#define EVS_NO_STREAM			(-1)
#define EVS_STREAM_EXISTS		(-4)

typedef struct EvsNewEvent
{
	text	   *type;
	Jsonb	   *data;			/* NULL = {} */
	Jsonb	   *metadata;		/* as the caller passed it, or NULL */
	int32		schema_version;
	bool		has_event_id;	/* the caller's */
	bool		has_own_id;		/* event_id has been made by evs_uuid7() already */
	bool		has_causation_id;
	bool		has_occurred_at;
	pg_uuid_t	event_id;
	pg_uuid_t	causation_id;
	TimestampTz occurred_at;
	text	   *correlation_id;
	text	   *source;
	ArrayType  *tags;
} EvsNewEvent;

typedef struct EvsBatch
{
	char	   *stream;
	int64		expected;
	ArrayType  *commutes_with;	/* text[] or NULL */
	int			nevents;
	EvsNewEvent *events;
} EvsBatch;

/* Throw unless the value can be an expected version; NULL is "any". */
extern int64 evs_batch_expected(bool isnull, int64 value);

/* An event with nothing but defaults. */
extern void evs_batch_init_event(EvsNewEvent *event);

/* Read the events of a JSON array. */
extern void evs_batch_parse(EvsBatch *batch, Jsonb *events);

/* The value of a JSON number; false if it is none, no integer, or out of range. */
extern bool evs_batch_json_integer(const JsonbValue *value, int64 min, int64 max,
								   int64 *result);

/* Check every limit; fill in what the session's settings say. */
extern void evs_batch_validate(EvsBatch *batch);

/* Throw if an array's length is over evstore.max_batch. */
extern void evs_batch_check_count(int64 nevents, const char *argument);

#endif							/* EVSTORE_BATCH_H */
