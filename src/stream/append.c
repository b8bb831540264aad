/*
 * append.c
 *	  Appending events to streams.
 *
 * The order of things (see README.md in this directory):
 *
 *	1. arguments are valid (batch.c)
 *	2. the stream's row is found and locked, to the end of the transaction
 *	3. are all the event ids there already?  Then it is a retry: return the
 *	   first result, whatever the expected version is now
 *	4. the expected version is compared; a conflict has drawn no position
 *	5. the transaction is registered as in flight, positions are drawn
 *	6. rows and index entries are written
 *	7. ids that the caller made are looked for in the other leaves
 *
 * A stream that does not exist is created between 5 and 6, since its row names
 * its first position.  Waiting for another creator comes before 5.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/debug_point.h"
#include "base/errors.h"
#include "catalog/catalog.h"
#include "catalog/scan.h"
#include "exec/heap_writer.h"
#include "stream/append.h"
#include "stream/cause.h"
#include "stream/event.h"
#include "stream/ids.h"
#include "stream/leaf.h"
#include "stream/notify.h"
#include "stream/partition.h"
#include "stream/position.h"
#include "stream/seal.h"
#include "stream/stream.h"
#include "stream/version.h"
#include "compat.h"

/* The relations of one append. */
typedef struct AppendRun
{
	Relation	log;
	Relation	streams;
	TimestampTz now;			/* what events are recorded at */
	TimestampTz clock;			/* the real time, whatever tests say */
	EvsAppended *appended;		/* for the hook, or NULL */
	int			nappended;
} AppendRun;

static const EvsAppendHook *append_hook = NULL;

void
evs_append_set_hook(const EvsAppendHook *hook)
{
	append_hook = hook;
}

/* A stream that has been looked at and locked. */
typedef struct Target
{
	bool		exists;
	EvsStream	stream;
	int64		current;		/* version of the newest event ever, or -1 */
	int64		position;		/* of the newest event that is stored, or 0 */
} Target;

static void
lock_target(AppendRun *run, const char *name, Target *target)
{
	memset(target, 0, sizeof(Target));
	target->current = -1;
	target->exists = evs_stream_lock(run->streams, name, &target->stream);
	EVS_DEBUG_POINT("stream_locked");
	if (target->exists)
		target->current = evs_version_current(run->log, &target->stream, SnapshotSelf,
											  &target->position);
}

/* ---- expected version ---- */

/*
 * Do all events after a version have one of the given types?  Then an append
 * that was decided at that version may go on.
 */
static bool
newer_events_commute(AppendRun *run, const Target *target, int64 version,
					 ArrayType *types)
{
	Datum	   *elems;
	bool	   *nulls;
	int			nelems;
	int			nleaves;
	EvsLeafRange *leaves = evs_leaf_list(run->log, target->stream.last_leaf, &nleaves);
	int64		next = version + 1;

	deconstruct_array(types, TEXTOID, -1, false, TYPALIGN_INT, &elems, &nulls, &nelems);
	for (int i = 0; i < nleaves && next <= target->current; i++)
	{
		Relation	rel;
		EvsLeaf    *leaf;
		ScanKeyData keys[2];
		EvsScan		scan;
		bool		all_commute = true;

		if (leaves[i].lower > target->stream.last_leaf)
			break;
		rel = evs_leaf_open(leaves[i].relid, AccessShareLock);
		if (rel == NULL)
			return false;
		leaf = evs_leaf_describe(rel);
		evs_key_int8(&keys[0], 1, BTEqualStrategyNumber, target->stream.id);
		evs_key_int8(&keys[1], 2, BTGreaterEqualStrategyNumber, next);
		evs_scan_begin(&scan, rel, leaf->version_index, SnapshotSelf, 2, keys,
					   ForwardScanDirection);
		while (all_commute && evs_scan_next(&scan))
		{
			bool		isnull;
			Datum		type = evs_leaf_get(leaf, scan.slot, EVS_LOG_TYPE, &isnull);
			bool		commutes = false;

			CHECK_FOR_INTERRUPTS();
			for (int j = 0; j < nelems && !commutes; j++)
				commutes = !nulls[j] &&
					DatumGetBool(DirectFunctionCall2Coll(texteq, DEFAULT_COLLATION_OID,
														 type, elems[j]));
			all_commute = commutes &&
				evs_leaf_get_int8(leaf, scan.slot, EVS_LOG_VERSION) == next++;
		}
		evs_scan_end(&scan, AccessShareLock);
		relation_close(rel, AccessShareLock);
		if (!all_commute)
			return false;
	}
	return next > target->current;
}

/*
 * A deleted stream counts as none, only that its numbering goes on.
 */
static EvsAppendStatus
check_expected(AppendRun *run, const EvsBatch *batch, const Target *target)
{
	bool		exists = target->exists && !target->stream.deleted;
	int64		version = exists ? target->current : -1;

	if (target->exists && target->stream.tombstoned)
		return EVS_DELETED;
	switch (batch->expected)
	{
		case EVS_ANY_VERSION:
			return EVS_APPENDED;
		case EVS_NO_STREAM:
			return exists ? EVS_WRONG_VERSION : EVS_APPENDED;
		case EVS_STREAM_EXISTS:
			if (target->exists && target->stream.deleted)
				return EVS_DELETED;
			return exists ? EVS_APPENDED : EVS_WRONG_VERSION;
		default:
			if (version == batch->expected)
				return EVS_APPENDED;
			if (exists && batch->commutes_with != NULL && version > batch->expected &&
				newer_events_commute(run, target, batch->expected, batch->commutes_with))
				return EVS_APPENDED;
			return EVS_WRONG_VERSION;
	}
}

static void
append_conflict(StringInfo buf, const EvsBatch *batch, const EvsAppendResult *result)
{
	evs_detail_string(buf, "stream", batch->stream);
	evs_detail_int(buf, "expected", batch->expected);
	evs_detail_int(buf, "actual", result->actual);
	if (result->status == EVS_DELETED)
		evs_detail_bool(buf, "tombstoned", result->tombstoned);
}

/* One conflict is an object, those of several streams an array of them. */
static char *
conflicts_detail(const EvsBatch *batches, const EvsAppendResult *results, int n, bool many)
{
	StringInfoData all;
	bool		first = true;

	initStringInfo(&all);
	appendStringInfoString(&all, many ? "{\"conflicts\": [" : "");
	for (int i = 0; i < n; i++)
	{
		StringInfoData one;

		if (results[i].status != EVS_WRONG_VERSION && results[i].status != EVS_DELETED)
			continue;
		evs_detail_begin(&one);
		append_conflict(&one, &batches[i], &results[i]);
		appendStringInfo(&all, "%s%s", first ? "" : ", ", evs_detail_end(&one));
		first = false;
	}
	appendStringInfoString(&all, many ? "]}" : "");
	return all.data;
}

static void
throw_conflicts(const EvsBatch *batches, const EvsAppendResult *results, int n, int first)
{
	const EvsBatch *batch = &batches[first];
	const EvsAppendResult *result = &results[first];
	char	   *detail = conflicts_detail(batches, results, n, n > 1);

	if (result->status == EVS_DELETED)
		ereport(ERROR,
				(errcode(ERRCODE_EVS_STREAM_DELETED),
				 result->tombstoned ?
				 errmsg("stream \"%s\" is closed for ever", batch->stream) :
				 errmsg("stream \"%s\" is deleted", batch->stream),
				 errdetail_internal("%s", detail),
				 result->tombstoned ? 0 :
				 errhint("Append with expected version -1 or -2 to open it again.")));
	ereport(ERROR,
			(errcode(ERRCODE_EVS_WRONG_EXPECTED_VERSION),
			 errmsg("wrong expected version: " INT64_FORMAT " (stream: \"%s\", stream version: " INT64_FORMAT ")",
					batch->expected, batch->stream, result->actual),
			 errdetail_internal("%s", detail),
			 errhint("Read the stream again and decide anew, in a new transaction if this one is REPEATABLE READ or SERIALIZABLE.")));
}

/* ---- writing ---- */

/* The id in "Key (event_id)=(...) already exists.", in whatever language. */
static int
find_id_in_message(const EvsBatch *batch, const char *message)
{
	for (int i = 0; message != NULL && i < batch->nevents; i++)
	{
		Datum		id = UUIDPGetDatum(&batch->events[i].event_id);

		if (batch->events[i].has_event_id &&
			strstr(message, DatumGetCString(DirectFunctionCall1(uuid_out, id))) != NULL)
			return i;
	}
	return -1;
}

/*
 * Within a leaf a unique index finds what the look-ups before could not, since
 * it was not there yet.  Which index it is tells what the error is.
 */
static void
translate_unique_violation(Relation leaf, const EvsBatch *batch)
{
	const char *leaf_name = RelationGetRelationName(leaf);
	ErrorData  *error;
	int			index;

	MemoryContextSwitchTo(TopTransactionContext);
	error = CopyErrorData();
	if (error->constraint_name == NULL)
		return;
	if (strcmp(error->constraint_name, psprintf("%s_event_id_key", leaf_name)) == 0 &&
		(index = find_id_in_message(batch, error->detail)) >= 0)
	{
		FlushErrorState();
		evs_ids_throw_duplicate(batch->stream, &batch->events[index].event_id, index);
	}
	if (strcmp(error->constraint_name, psprintf("%s_pkey", leaf_name)) == 0)
	{
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sequence \"evstore.position_seq\" does not hand out increasing positions"),
				 errdetail_internal("%s", error->detail ? error->detail : ""),
				 errhint("Set it to the highest position ever used or above.")));
	}
}

/* Write events [from, to) into one leaf. */
static void
write_to_leaf(const EvsLeafRange *range, EvsBatch *batch, EvsPlace *place,
			  const int64 *positions, int from, int to)
{
	Relation	rel = evs_leaf_open(range->relid, RowExclusiveLock);
	int64		first_version = place->version;
	EvsLeaf    *leaf;
	EvsWriter  *writer;

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the partition for position " INT64_FORMAT " has gone",
						positions[from])));
	leaf = evs_leaf_describe(rel);
	writer = evs_writer_open_plain(rel, leaf->indexes, leaf->nplain);
	PG_TRY();
	{
		for (int i = from; i < to; i++)
		{
			TupleTableSlot *slot = evs_writer_slot(writer, to - from);
			Size		size;

			CHECK_FOR_INTERRUPTS();
			place->position = positions[i];
			place->version = first_version + (i - from);
			size = evs_event_to_row(&batch->events[i], place, leaf, slot);
			evs_writer_add(writer, size);
		}
		evs_writer_close(writer);
	}
	PG_CATCH();
	{
		if (geterrcode() == ERRCODE_UNIQUE_VIOLATION)
			translate_unique_violation(rel, batch);
		PG_RE_THROW();
	}
	PG_END_TRY();
	place->version++;
	relation_close(rel, NoLock);
}

/* Ids for the events that have none, after which all are the store's own. */
static bool
make_ids(EvsBatch *batch)
{
	bool		callers = false;

	for (int i = 0; i < batch->nevents; i++)
	{
		if (batch->events[i].has_event_id)
			callers = true;
		else if (!batch->events[i].has_own_id)
			evs_uuid7(&batch->events[i].event_id);
	}
	return callers;
}

/*
 * Find the leaves of the positions.  Creating a leaf can wait for a worker,
 * so this comes before anything is written.
 */
static EvsLeafRange *
find_leaves(AppendRun *run, const int64 *positions, int n)
{
	EvsLeafRange *ranges = palloc(sizeof(EvsLeafRange) * n);

	for (int i = 0; i < n; i++)
	{
		if (i > 0 && positions[i] < ranges[i - 1].upper)
			ranges[i] = ranges[i - 1];
		else
			evs_partition_ensure(&run->log, positions[i], &ranges[i]);
	}
	return ranges;
}

static void
write_events(AppendRun *run, EvsBatch *batch, Target *target,
			 const int64 *positions, const EvsLeafRange *ranges)
{
	EvsPlace	place = {
		.stream_id = target->stream.id,
		.version = target->current + 1,
		.category_hash = evs_category_hash(batch->stream, evs_category_length(batch->stream)),
		.recorded_at = run->now,
	};
	bool		callers_ids = make_ids(batch);
	int			from = 0;

	while (from < batch->nevents)
	{
		int			to = from + 1;

		while (to < batch->nevents && ranges[to].relid == ranges[from].relid)
			to++;
		write_to_leaf(&ranges[from], batch, &place, positions, from, to);
		evs_partition_ahead(run->log, &ranges[from], positions[from], positions[to - 1]);
		from = to;
	}

	if (callers_ids)
	{
		Oid		   *leaf_of = palloc(sizeof(Oid) * batch->nevents);

		for (int i = 0; i < batch->nevents; i++)
			leaf_of[i] = ranges[i].relid;
		evs_ids_note_early(batch);
		evs_ids_check_other_leaves(run->log, batch, leaf_of);
	}
}

static void
tell_observer(const EvsBatch *batch)
{
	EvsCause	cause = evs_cause_get();

	for (int i = 0; cause.observe != NULL && i < batch->nevents; i++)
		cause.observe(cause.observe_arg, &batch->events[i]);
}

/* Does the row still say where the stream's events are, and that it is open? */
static void
update_target(AppendRun *run, Target *target, int64 last_leaf)
{
	if (target->stream.last_leaf >= last_leaf && !target->stream.deleted)
		return;
	if (target->stream.deleted)
	{
		/* opened again: what was deleted stays hidden, numbering goes on */
		target->stream.deleted = false;
		target->stream.truncate_before = target->current + 1;
		target->stream.begun_version = target->current + 1;
	}
	target->stream.last_leaf = Max(target->stream.last_leaf, last_leaf);
	evs_stream_update(run->streams, &target->stream);
}

/*
 * Write the batch.  False: the stream did not exist when it was looked for,
 * and another session has created it since.
 */
static bool
write_batch(AppendRun *run, EvsBatch *batch, Target *target, EvsAppendResult *result)
{
	int			n = batch->nevents;
	int64	   *positions;
	EvsLeafRange *ranges;

	if (!target->exists)
	{
		evs_stream_init(&target->stream, batch->stream);
		EVS_DEBUG_POINT("stream_missing");
		if (!evs_stream_name_is_free(run->streams, &target->stream))
			return false;
	}

	positions = palloc_extended(sizeof(int64) * n, MCXT_ALLOC_HUGE);
	evs_position_draw(run->log, run->clock, n, positions);
	evs_notify_appended(positions[n - 1]);
	EVS_DEBUG_POINT("positions_drawn");
	if (positions[0] <= target->position)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sequence \"evstore.position_seq\" does not hand out increasing positions"),
				 errhint("Set it to the highest position ever used or above.")));
	ranges = find_leaves(run, positions, n);

	if (!target->exists)
	{
		target->stream.first_position = positions[0];
		target->stream.last_leaf = ranges[n - 1].lower;
		if (!evs_stream_create(run->streams, &target->stream))
			return false;
	}
	else
		update_target(run, target, ranges[n - 1].lower);
	write_events(run, batch, target, positions, ranges);
	tell_observer(batch);
	EVS_DEBUG_POINT("events_written");

	result->status = EVS_APPENDED;
	result->first_version = target->current + 1;
	result->version = target->current + n;
	result->position = positions[n - 1];
	if (run->appended != NULL)
	{
		EvsAppended appended = {target->stream.id, positions[0], positions[n - 1]};

		run->appended[run->nappended++] = appended;
	}
	return true;
}

/* ---- the whole ---- */

/*
 * An event that names its cause and no correlation belongs to the cause's.
 */
static void
inherit_correlations(AppendRun *run, EvsBatch *batch)
{
	const EvsNewEvent *previous = NULL;

	for (int i = 0; i < batch->nevents; i++)
	{
		EvsNewEvent *event = &batch->events[i];

		if (!event->has_causation_id || event->correlation_id != NULL)
			continue;
		if (previous != NULL &&
			memcmp(&previous->causation_id, &event->causation_id, UUID_LEN) == 0)
			event->correlation_id = previous->correlation_id;
		else
			event->correlation_id = evs_ids_correlation_of(run->log, &event->causation_id);
		previous = event;
	}
}

static void
read_clock(AppendRun *run)
{
	run->clock = GetCurrentTimestamp();
	run->now = evs_clock_is_overridden() ? evs_clock_now() : run->clock;
}

/* Steps 2 to 4 for one batch; true if it is to be written. */
static bool
examine(AppendRun *run, const EvsBatch *batch, Target *target, EvsAppendResult *result)
{
	EvsRetry	retry;

	memset(result, 0, sizeof(EvsAppendResult));
	result->first_version = -1;
	lock_target(run, batch->stream, target);
	/* whoever had the lock has a time that is not later */
	read_clock(run);
	retry = evs_ids_check_retry(run->log, batch, target->exists ? &target->stream : NULL,
								result);
	if (retry == EVS_RETRY_LOOK_AGAIN)
	{
		/* was it a first attempt that has created the stream since? */
		lock_target(run, batch->stream, target);
		retry = evs_ids_check_retry(run->log, batch, &target->stream, result);
	}
	if (retry == EVS_RETRY_SAME)
	{
		result->status = EVS_RETRIED;
		return false;
	}
	result->status = check_expected(run, batch, target);
	result->actual = target->exists && !target->stream.deleted ? target->current : -1;
	result->tombstoned = target->exists && target->stream.tombstoned;
	result->first_version = -1;
	result->version = result->actual;
	result->position = target->position;
	return result->status == EVS_APPENDED && batch->nevents > 0;
}

static void
append_one(AppendRun *run, EvsBatch *batch, bool no_throw, EvsAppendResult *result)
{
	Target		target;

	while (examine(run, batch, &target, result))
	{
		CHECK_FOR_INTERRUPTS();
		if (write_batch(run, batch, &target, result))
			return;
	}
	/* who asked for a result gets one, unless trying again could never help */
	if ((result->status == EVS_WRONG_VERSION || result->status == EVS_DELETED) &&
		(!no_throw || result->tombstoned))
		throw_conflicts(batch, result, 1, 0);
}

typedef struct SortedBatch
{
	const char *name;
	int			index;
} SortedBatch;

static int
compare_names(const void *a, const void *b)
{
	return strcmp(((const SortedBatch *) a)->name, ((const SortedBatch *) b)->name);
}

static SortedBatch *
sort_by_name(const EvsBatch *batches, int n)
{
	SortedBatch *sorted = palloc_extended(sizeof(SortedBatch) * n, MCXT_ALLOC_HUGE);

	for (int i = 0; i < n; i++)
	{
		sorted[i].name = batches[i].stream;
		sorted[i].index = i;
	}
	qsort(sorted, n, sizeof(SortedBatch), compare_names);
	for (int i = 1; i < n; i++)
		if (strcmp(sorted[i].name, sorted[i - 1].name) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("stream \"%s\" occurs twice in one call", sorted[i].name),
					 errhint("Give all events of a stream in one entry.")));
	return sorted;
}

/*
 * Several streams: each is locked and checked and written in its turn, in the
 * order of names.  A conflict does not stop the looking at the others, so
 * that the error can name all of them; it does stop the writing.
 */
static void
append_many(AppendRun *run, EvsBatch *batches, int n, EvsAppendResult *results)
{
	SortedBatch *sorted = sort_by_name(batches, n);
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "evstore append",
												  ALLOCSET_DEFAULT_SIZES);
	int			first_conflict = -1;

	for (int i = 0; i < n; i++)
	{
		EvsBatch   *batch = &batches[sorted[i].index];
		EvsAppendResult *result = &results[sorted[i].index];
		MemoryContext old = MemoryContextSwitchTo(scratch);
		Target		target;

		CHECK_FOR_INTERRUPTS();
		while (examine(run, batch, &target, result) && first_conflict < 0)
			if (write_batch(run, batch, &target, result))
				break;
		if (first_conflict < 0 &&
			(result->status == EVS_WRONG_VERSION || result->status == EVS_DELETED))
			first_conflict = sorted[i].index;
		MemoryContextSwitchTo(old);
		MemoryContextReset(scratch);
	}
	if (first_conflict >= 0)
		throw_conflicts(batches, results, n, first_conflict);
	MemoryContextDelete(scratch);
}

static void
open_run(AppendRun *run, int nbatches)
{
	const EvsCatalog *catalog;

	PreventCommandIfReadOnly("evstore append");
	PreventCommandIfParallelMode("evstore append");
	evs_check_right(ACL_INSERT);
	catalog = evs_catalog();
	run->log = evs_open(catalog->event_log, RowExclusiveLock);
	run->streams = evs_open(catalog->stream, RowExclusiveLock);
	evs_seal();
	read_clock(run);
	run->nappended = 0;
	run->appended = append_hook != NULL && append_hook->is_wanted() ?
		palloc_extended(sizeof(EvsAppended) * nbatches, MCXT_ALLOC_HUGE) : NULL;
}

void
evs_append_execute(EvsBatch *batches, int nbatches, bool no_throw, EvsAppendResult *results)
{
	AppendRun run;

	open_run(&run, nbatches);
	for (int i = 0; i < nbatches; i++)
		inherit_correlations(&run, &batches[i]);
	if (nbatches == 1)
		append_one(&run, batches, no_throw, results);
	else
		append_many(&run, batches, nbatches, results);
	relation_close(run.streams, NoLock);
	relation_close(run.log, NoLock);
	CommandCounterIncrement();
	if (run.nappended > 0)
		append_hook->run(run.appended, run.nappended);
}
