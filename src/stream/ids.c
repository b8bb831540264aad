/*
 * ids.c
 *	  Event ids: unique in the whole log, and the key of idempotent appends.
 *
 * Within a leaf a unique index keeps ids apart.  Across leaves it is the
 * protocol of exclusion constraints: insert first, then look into the other
 * leaves with a dirty snapshot, and wait for writers in progress.  Both sides
 * insert before they look, so one of two racing writers sees the other.
 *
 * Which leaves can hold an id: a UUIDv7 says when it was made, so leaves that
 * ended more than a day before that cannot (the day is for clocks that
 * differ).  Ids whose time is further in the future than that when they are
 * stored are noted in evstore.early_id, and looked for everywhere.  Any other
 * id can be anywhere, or as far back as evstore.id_window.  Ids made here need
 * no look at all.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/debug_point.h"
#include "base/errors.h"
#include "base/guc.h"
#include "catalog/catalog.h"
#include "catalog/scan.h"
#include "exec/heap_writer.h"
#include "stream/event.h"
#include "stream/ids.h"
#include "stream/leaf.h"
#include "stream/position.h"
#include "compat.h"

/* How far the clock of who made a UUIDv7 may be ahead of ours. */
#define CLOCK_SKEW ((int64) USECS_PER_DAY)

/* With so many leaves, those that are settled are not looked into twice. */
#define MANY_LEAVES 8

/*
 * All appends at or below this position had ended before the look-ups of the
 * append that is under way: what they missed can only be in later leaves.
 */
static int64 settled_position = 0;

/* An event that was found by its id. */
typedef struct FoundEvent
{
	int64		stream_id;
	int64		version;
	int64		position;
	int32		schema_version;
	text	   *type;
	Jsonb	   *data;
	Jsonb	   *metadata;
	bool		place_only;		/* the caller's: read what is in place, and nothing above */
	EvsIdPlace	place;
} FoundEvent;

bool
evs_batch_has_ids(const EvsBatch *batch)
{
	for (int i = 0; i < batch->nevents; i++)
		if (batch->events[i].has_event_id)
			return true;
	return false;
}

static char *
uuid_string(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

void
evs_ids_throw_duplicate(const char *stream, const pg_uuid_t *id, int index)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "stream", stream);
	evs_detail_raw(&detail, "event_ids", psprintf("[\"%s\"]", uuid_string(id)));
	if (index >= 0)
		evs_detail_int(&detail, "index", index);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_DUPLICATE_EVENT_ID),
			 errmsg("event id \"%s\" exists already", uuid_string(id)),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 errhint("A retry must repeat the first attempt's stream, ids and content.")));
}

static void
read_place(EvsLeaf *leaf, TupleTableSlot *slot, EvsIdPlace *place)
{
	bool		isnull;
	Datum		source = evs_leaf_get(leaf, slot, EVS_LOG_SOURCE, &isnull);

	place->source = isnull ? NULL : DatumGetTextPCopy(source);
	place->stream_id = evs_leaf_get_int8(leaf, slot, EVS_LOG_STREAM_ID);
	place->version = evs_leaf_get_int8(leaf, slot, EVS_LOG_VERSION);
	place->position = evs_leaf_get_int8(leaf, slot, EVS_LOG_POSITION);
}

static void
read_found(EvsLeaf *leaf, TupleTableSlot *slot, FoundEvent *found)
{
	bool		isnull;
	Datum		metadata;

	if (found->place_only)
	{
		read_place(leaf, slot, &found->place);
		return;
	}
	found->stream_id = evs_leaf_get_int8(leaf, slot, EVS_LOG_STREAM_ID);
	found->version = evs_leaf_get_int8(leaf, slot, EVS_LOG_VERSION);
	found->position = evs_leaf_get_int8(leaf, slot, EVS_LOG_POSITION);
	found->schema_version = DatumGetInt32(evs_leaf_get(leaf, slot, EVS_LOG_SCHEMA_VERSION,
													   &isnull));
	found->type = DatumGetTextPCopy(evs_leaf_get(leaf, slot, EVS_LOG_TYPE, &isnull));
	found->data = DatumGetJsonbPCopy(evs_leaf_get(leaf, slot, EVS_LOG_DATA, &isnull));
	metadata = evs_leaf_get(leaf, slot, EVS_LOG_METADATA, &isnull);
	found->metadata = isnull ? NULL : DatumGetJsonbPCopy(metadata);
}

/*
 * Look for an id in a leaf with a dirty snapshot.  Rows of transactions in
 * progress are waited for; found may be NULL if only the answer matters.
 */
static bool
find_in_leaf(Relation rel, EvsLeaf *leaf, const pg_uuid_t *id, FoundEvent *found)
{
	for (;;)
	{
		SnapshotData dirty;
		ScanKeyData key;
		EvsScan		scan;
		TransactionId wait_for;
		ItemPointerData tid;
		bool		exists;

		CHECK_FOR_INTERRUPTS();
		InitDirtySnapshot(dirty);
		evs_key_uuid(&key, 1, UUIDPGetDatum(id));
		evs_scan_begin(&scan, rel, leaf->event_id_index, &dirty, 1, &key,
					   ForwardScanDirection);
		exists = evs_scan_next(&scan);
		wait_for = InvalidTransactionId;
		if (exists)
		{
			/* being inserted, or being removed, by somebody else */
			wait_for = TransactionIdIsValid(dirty.xmin) ? dirty.xmin : dirty.xmax;
			tid = scan.slot->tts_tid;
			if (!TransactionIdIsValid(wait_for) && found != NULL)
				read_found(leaf, scan.slot, found);
		}
		evs_scan_end(&scan, AccessShareLock);

		if (!TransactionIdIsValid(wait_for))
			return exists;
		XactLockTableWait(wait_for, rel, &tid, XLTW_InsertIndex);
	}
}

/* When the leaf's oldest event was recorded; DT_NOEND if it has none. */
static TimestampTz
first_recorded(Relation rel, EvsLeaf *leaf)
{
	EvsScan		scan;
	TimestampTz first = DT_NOEND;
	bool		isnull;

	if (leaf->first_recorded != 0)
		return leaf->first_recorded;
	evs_scan_begin(&scan, rel, leaf->position_index, SnapshotSelf, 0, NULL,
				   ForwardScanDirection);
	if (evs_scan_next(&scan))
	{
		Datum		xmin = slot_getsysattr(scan.slot, MinTransactionIdAttributeNumber, &isnull);

		first = DatumGetTimestampTz(evs_leaf_get(leaf, scan.slot, EVS_LOG_RECORDED_AT, &isnull));
		/* an older one can only be put before it within the clock's skew */
		if (!TransactionIdIsCurrentTransactionId(DatumGetTransactionId(xmin)))
			leaf->first_recorded = first;
	}
	evs_scan_end(&scan, AccessShareLock);
	return first;
}

/*
 * A time that is still to come says nothing: a clock was wrong, or it is
 * another kind of id (a hash looks like a UUIDv7 once in 64 times).
 */
static bool
is_early(TimestampTz made)
{
	return made > evs_clock_now() + CLOCK_SKEW;
}

/* Was it when the id was stored? */
static bool
was_early(const pg_uuid_t *id)
{
	Relation	rel = evs_open(evs_catalog()->early_id, AccessShareLock);
	ScanKeyData key;
	EvsScan		scan;
	bool		found;

	evs_key_uuid(&key, 1, UUIDPGetDatum(id));
	evs_scan_begin(&scan, rel, evs_catalog()->early_id_pkey, SnapshotSelf, 1, &key,
				   ForwardScanDirection);
	found = evs_scan_next(&scan);
	evs_scan_end(&scan, AccessShareLock);
	relation_close(rel, AccessShareLock);
	return found;
}

static void
note_early(const pg_uuid_t *id)
{
	Relation	rel = evs_open(evs_catalog()->early_id, RowExclusiveLock);
	EvsWriter  *writer = evs_writer_open(rel);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	slot->tts_values[0] = UUIDPGetDatum(id);
	slot->tts_isnull[0] = false;
	ExecStoreVirtualTuple(slot);
	if (evs_writer_key_is_free(writer, slot, evs_catalog()->early_id_pkey))
		(void) evs_writer_insert_if_free(writer, slot, evs_catalog()->early_id_pkey);
	ExecDropSingleTupleTableSlot(slot);
	evs_writer_close(writer);
	relation_close(rel, NoLock);
}

void
evs_ids_note_early(const EvsBatch *batch)
{
	TimestampTz made;

	for (int i = 0; i < batch->nevents; i++)
		if (batch->events[i].has_event_id &&
			evs_uuid7_time(&batch->events[i].event_id, &made) && is_early(made))
			note_early(&batch->events[i].event_id);
}

/* Events recorded before this cannot have the id. */
static TimestampTz
oldest_possible(const pg_uuid_t *id)
{
	TimestampTz made;

	if (evs_uuid7_time(id, &made))
		return is_early(made) || was_early(id) ? DT_NOBEGIN : made - CLOCK_SKEW;
	if (evs_guc_id_window < 0)
		return DT_NOBEGIN;
	return evs_clock_now() - (int64) evs_guc_id_window * USECS_PER_MINUTE;
}

/*
 * Look for an id in the leaves that may hold it, newest first, except for one
 * (the leaf whose unique index has answered already).
 */
static bool
find_in_log(const EvsLeafRange *leaves, int nleaves, const pg_uuid_t *id,
			Oid except, FoundEvent *found)
{
	TimestampTz oldest = oldest_possible(id);
	bool		exists = false;
	bool		older_leaves = true;

	for (int i = nleaves - 1; i >= 0 && !exists && older_leaves; i--)
	{
		Relation	rel = evs_leaf_open(leaves[i].relid, AccessShareLock);
		EvsLeaf    *leaf;

		if (rel == NULL)
			continue;
		leaf = evs_leaf_describe(rel);
		if (leaves[i].relid != except)
			exists = find_in_leaf(rel, leaf, id, found);
		if (i > 0 && !exists)
		{
			/* describe again: waiting may have invalidated the entry */
			leaf = evs_leaf_describe(rel);
			older_leaves = first_recorded(rel, leaf) >= oldest;
		}
		relation_close(rel, AccessShareLock);
	}
	return exists;
}

bool
evs_ids_find(Relation log, const pg_uuid_t *id, EvsIdPlace *place)
{
	int			nleaves;
	EvsLeafRange *leaves = evs_leaf_list(log, PG_INT64_MAX, &nleaves);
	FoundEvent	found = {.place_only = true};
	bool		exists = find_in_log(leaves, nleaves, id, InvalidOid, &found);

	*place = found.place;
	if (leaves != NULL)
		pfree(leaves);
	return exists;
}

/* The correlation id of an event in a leaf; false if the event is not there. */
static bool
correlation_in_leaf(Relation rel, const pg_uuid_t *id, text **correlation_id)
{
	EvsLeaf    *leaf = evs_leaf_describe(rel);
	ScanKeyData key;
	EvsScan		scan;
	bool		found;
	bool		isnull;

	evs_key_uuid(&key, 1, UUIDPGetDatum(id));
	evs_scan_begin(&scan, rel, leaf->event_id_index, SnapshotSelf, 1, &key,
				   ForwardScanDirection);
	found = evs_scan_next(&scan);
	if (found)
	{
		Datum		value = evs_leaf_get(leaf, scan.slot, EVS_LOG_CORRELATION_ID, &isnull);

		*correlation_id = isnull ? NULL : DatumGetTextPCopy(value);
	}
	evs_scan_end(&scan, AccessShareLock);
	return found;
}

text *
evs_ids_correlation_of(Relation log, const pg_uuid_t *id)
{
	TimestampTz oldest = oldest_possible(id);
	text	   *correlation_id = NULL;
	int			nleaves;
	EvsLeafRange *leaves = evs_leaf_list(log, PG_INT64_MAX, &nleaves);
	bool		go_on = true;

	for (int i = nleaves - 1; i >= 0 && go_on; i--)
	{
		Relation	rel = evs_leaf_open(leaves[i].relid, AccessShareLock);

		CHECK_FOR_INTERRUPTS();
		if (rel == NULL)
			continue;
		go_on = !correlation_in_leaf(rel, id, &correlation_id) &&
			first_recorded(rel, evs_leaf_describe(rel)) >= oldest;
		relation_close(rel, AccessShareLock);
	}
	return correlation_id;
}

static bool
same_event(const EvsNewEvent *event, const EvsStream *stream, const FoundEvent *found)
{
	return found->stream_id == stream->id &&
		found->schema_version == event->schema_version &&
		VARSIZE_ANY_EXHDR(found->type) == VARSIZE_ANY_EXHDR(event->type) &&
		memcmp(VARDATA_ANY(found->type), VARDATA_ANY(event->type),
			   VARSIZE_ANY_EXHDR(event->type)) == 0 &&
		(event->data == NULL ? JB_ROOT_COUNT(found->data) == 0 && JB_ROOT_IS_OBJECT(found->data) :
		 compareJsonbContainers(&found->data->root, &event->data->root) == 0) &&
		evs_metadata_matches(event->metadata, found->metadata);
}

static void
throw_not_a_retry(const EvsBatch *batch, const bool *known, int first_known, bool all)
{
	StringInfoData detail;
	StringInfoData ids;
	bool		first = true;

	initStringInfo(&ids);
	appendStringInfoChar(&ids, '[');
	for (int i = 0; i < batch->nevents; i++)
	{
		if (!known[i])
			continue;
		appendStringInfo(&ids, "%s\"%s\"", first ? "" : ", ",
						 uuid_string(&batch->events[i].event_id));
		first = false;
	}
	appendStringInfoChar(&ids, ']');

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "stream", batch->stream);
	evs_detail_raw(&detail, "event_ids", ids.data);
	evs_detail_int(&detail, "index", first_known);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_DUPLICATE_EVENT_ID),
			 all ?
			 errmsg("event ids of the append to stream \"%s\" exist with other content or in another stream",
					batch->stream) :
			 errmsg("some event ids of the append to stream \"%s\" exist already", batch->stream),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 errhint("A retry must repeat the first attempt's stream, ids and content.")));
}

EvsRetry
evs_ids_check_retry(Relation log, const EvsBatch *batch, const EvsStream *stream,
					EvsAppendResult *result)
{
	int			nleaves;
	EvsLeafRange *leaves;
	bool	   *known;
	int			nknown = 0;
	int			first_known = -1;
	bool		same = true;
	int64		next_version = -1;

	if (!evs_batch_has_ids(batch))
		return EVS_RETRY_NO;
	leaves = evs_leaf_list(log, PG_INT64_MAX, &nleaves);
	settled_position = nleaves >= MANY_LEAVES ? evs_position_settled() : 0;
	known = palloc0(sizeof(bool) * batch->nevents);
	for (int i = 0; i < batch->nevents; i++)
	{
		const EvsNewEvent *event = &batch->events[i];
		FoundEvent	found = {.place_only = false};

		CHECK_FOR_INTERRUPTS();
		if (!event->has_event_id ||
			!find_in_log(leaves, nleaves, &event->event_id, InvalidOid, &found))
			continue;
		known[i] = true;
		nknown++;
		if (first_known < 0)
		{
			first_known = i;
			result->first_version = found.version;
		}
		same = same && stream != NULL && same_event(event, stream, &found) &&
			(i == first_known || found.version == next_version);
		next_version = found.version + 1;
		result->version = found.version;
		result->position = found.position;
	}
	if (nknown == 0)
		return EVS_RETRY_NO;
	if (stream == NULL)
		return EVS_RETRY_LOOK_AGAIN;
	if (nknown < batch->nevents || !same)
		throw_not_a_retry(batch, known, first_known, nknown == batch->nevents);
	return EVS_RETRY_SAME;
}

void
evs_ids_check_other_leaves(Relation log, const EvsBatch *batch, const Oid *leaf_of)
{
	int			nleaves;
	EvsLeafRange *leaves = evs_leaf_list(log, PG_INT64_MAX, &nleaves);
	int			nsettled = 0;

	EVS_DEBUG_POINT("ids_inserted");
	while (nsettled < nleaves && leaves[nsettled].upper <= settled_position)
		nsettled++;
	if (nleaves - nsettled < 2)
		return;
	for (int i = 0; i < batch->nevents; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (batch->events[i].has_event_id &&
			find_in_log(leaves + nsettled, nleaves - nsettled, &batch->events[i].event_id,
						leaf_of[i], NULL))
			evs_ids_throw_duplicate(batch->stream, &batch->events[i].event_id, i);
	}
}
