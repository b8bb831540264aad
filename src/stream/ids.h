/*
 * ids.h
 *	  Event ids: unique in the whole log, and the key of idempotent appends.
 */
#ifndef EVSTORE_IDS_H
#define EVSTORE_IDS_H

#include "utils/relcache.h"

#include "stream/append.h"
#include "stream/batch.h"
#include "stream/stream.h"

typedef enum EvsRetry
{
	EVS_RETRY_NO,				/* none of the ids is known */
	EVS_RETRY_SAME,				/* all are, with the same content: a retry */
	EVS_RETRY_LOOK_AGAIN,		/* some are, but the stream was not there */
} EvsRetry;

/*
 * Is the batch a retry of an append that has been done?  Throws VS003 if some
 * ids are known and it is not.  The stream is locked by the caller; NULL says
 * that the caller found none, and then known ids are not an error yet, since
 * the look-up may have waited for who creates the stream.
 */
extern EvsRetry evs_ids_check_retry(Relation log, const EvsBatch *batch,
									const EvsStream *stream, EvsAppendResult *result);

/*
 * Note those ids of the batch that have the form of a UUIDv7 and a time that is
 * still to come: once it has passed, it would lead to the wrong leaves.
 */
extern void evs_ids_note_early(const EvsBatch *batch);

/*
 * After the events have been inserted: throw VS003 if another leaf has one of
 * the ids.  leaf_of[i] is the leaf that event i went to.
 */
extern void evs_ids_check_other_leaves(Relation log, const EvsBatch *batch,
									   const Oid *leaf_of);

extern bool evs_batch_has_ids(const EvsBatch *batch);

/* Where the event with an id is. */
typedef struct EvsIdPlace
{
	int64		stream_id;
	int64		version;
	int64		position;
	text	   *source;			/* or NULL */
} EvsIdPlace;

/* Waits for transactions that are writing the id; false: there is none. */
extern bool evs_ids_find(Relation log, const pg_uuid_t *id, EvsIdPlace *place);

/* The correlation id of the event with this id, or NULL. */
extern text *evs_ids_correlation_of(Relation log, const pg_uuid_t *id);

/* Throw VS003 for one id. */
extern void evs_ids_throw_duplicate(const char *stream, const pg_uuid_t *id, int index);

#endif							/* EVSTORE_IDS_H */
