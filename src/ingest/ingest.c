/*
 * ingest.c
 *	  Decoded events into the log, each once.
 *
 * An event is known by its source and id.  Two things remember it: the inbox, for as long
 * as evstore.inbox_retention, and the log itself, by the event id that is made of them.
 *
 *	1. the keys are claimed in the inbox, in one order whoever does it, so that two
 *	   sessions with the same events wait for each other and never in a circle
 *	2. what is claimed is looked for in the log, by the event id
 *	3. what is in neither is appended, one batch a stream
 *
 * An event whose id is a UUID keeps it, so that it is the same event in each store.  If an
 * event of another source has that id already, it gets one made of source and id.
 *
 * With errors reported, all are tried in one subtransaction, and if that fails, each
 * half, until those that fail are alone.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "base/debug_point.h"
#include "base/errors.h"
#include "catalog/catalog.h"
#include "ingest/decode.h"
#include "ingest/ingest.h"
#include "ingest/in_uuid.h"
#include "relay/encoding.h"
#include "stream/append.h"
#include "stream/ids.h"
#include "stream/stream.h"
#include "subscription/inbox.h"
#include "compat.h"

/* Some of the rows, which are written together. */
typedef struct Run
{
	EvsIncoming **rows;			/* pending ones, in their order */
	int			n;
	Relation	log;
	Relation	streams;
	MemoryContext scratch;		/* for one event */
} Run;

/* A row and what it is known by. */
typedef struct Key
{
	EvsIncoming *row;
	const char *id;
	int			index;
} Key;

/* ---- what is known ---- */

static int
compare_keys(const void *a, const void *b)
{
	const Key  *one = a;
	const Key  *other = b;
	int			result = strcmp(one->row->source, other->row->source);

	if (result == 0)
		result = strcmp(one->id, other->id);
	return result != 0 ? result : one->index - other->index;
}

/* Of a UUID every spelling is the same id. */
static Key *
sort_keys(const Run *run)
{
	Key		   *keys = palloc_extended(sizeof(Key) * run->n, MCXT_ALLOC_HUGE);

	for (int i = 0; i < run->n; i++)
	{
		EvsIncoming *row = run->rows[i];
		bool		is_uuid = evs_in_uuid(&row->event_id, row->source, row->id);

		keys[i] = (Key) {row, is_uuid ? evs_encoding_uuid(&row->event_id) : row->id, i};
	}
	qsort(keys, run->n, sizeof(Key), compare_keys);
	return keys;
}

/* true: nobody has had it. */
static bool
claim(Run *run, const Key *key)
{
	MemoryContext old = MemoryContextSwitchTo(run->scratch);
	EvsInboxKey inbox = {
		.consumer = cstring_to_text(EVS_INBOX_INGEST),
		.source = cstring_to_text(key->row->source),
		.key = cstring_to_text(key->id),
	};
	Jsonb	   *result;
	bool		is_new = evs_inbox_claim(&inbox, &result);

	MemoryContextSwitchTo(old);
	MemoryContextReset(run->scratch);
	return is_new;
}

/*
 * Is the event with this id the same event?  One of this store's own has no source, and
 * may have come back with one that a relay has given it; but also with its position.
 */
static bool
is_same_event(const EvsIdPlace *place, const EvsIncoming *row)
{
	if (place->source != NULL && VARSIZE_ANY_EXHDR(place->source) > 0)
		return strcmp(text_to_cstring(place->source), row->source) == 0;
	return row->sequence != NULL && row->sequence[0] != '\0' &&
		row->sequence[strspn(row->sequence, "0123456789")] == '\0' &&
		strtoll(row->sequence, NULL, 10) == place->position;
}

static void
set_place(Run *run, EvsIncoming *row, const EvsIdPlace *place)
{
	EvsStream	stream;

	row->has_place = true;
	row->version = place->version;
	row->position = place->position;
	/* any version of the row has the name, and one that is being changed is seen as well */
	if (evs_stream_find_by_id(run->streams, place->stream_id, SnapshotAny, &stream))
		row->stream = pstrdup(stream.name);
}

/*
 * Is the event in the log?  If so row has its place.  If not, row has the id that it is
 * to have.
 */
static bool
find_in_log(Run *run, EvsIncoming *row)
{
	EvsIdPlace	place;

	if (!evs_ids_find(run->log, &row->event_id, &place))
		return false;
	if (!is_same_event(&place, row))
	{
		evs_in_uuid_of_name(&row->event_id, row->source, row->id);
		if (!evs_ids_find(run->log, &row->event_id, &place))
			return false;
	}
	set_place(run, row, &place);
	return true;
}

/* Those that are not new become duplicates. */
static void
claim_all(Run *run)
{
	Key		   *keys = sort_keys(run);

	for (int i = 0; i < run->n; i++)
	{
		EvsIncoming *row = keys[i].row;
		bool		is_new;
		bool		is_there;

		CHECK_FOR_INTERRUPTS();
		is_new = claim(run, &keys[i]);
		EVS_DEBUG_POINT("ingest_claimed");
		is_there = find_in_log(run, row);
		if (!is_new || is_there)
			row->status = EVS_IN_DUPLICATE;
	}
	pfree(keys);
}

/* ---- appending ---- */

/* Rows of one stream, in their order. */
static int
compare_streams(const void *a, const void *b)
{
	const EvsIncoming *one = *(EvsIncoming *const *) a;
	const EvsIncoming *other = *(EvsIncoming *const *) b;
	int			result = strcmp(one->stream, other->stream);

	/* they are elements of one array */
	return result != 0 ? result : (one > other) - (one < other);
}

static EvsIncoming **
sort_new(const Run *run, int *n)
{
	EvsIncoming **sorted = palloc_extended(sizeof(EvsIncoming *) * run->n, MCXT_ALLOC_HUGE);

	*n = 0;
	for (int i = 0; i < run->n; i++)
		if (run->rows[i]->status == EVS_IN_PENDING)
			sorted[(*n)++] = run->rows[i];
	qsort(sorted, *n, sizeof(EvsIncoming *), compare_streams);
	return sorted;
}

/* A batch for each stream; events are in the order of the rows. */
static EvsBatch *
make_batches(EvsIncoming **rows, int n, int *nbatches)
{
	EvsBatch   *batches = palloc_extended(sizeof(EvsBatch) * n, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	EvsNewEvent *events = palloc_extended(sizeof(EvsNewEvent) * n, MCXT_ALLOC_HUGE);

	*nbatches = 0;
	for (int i = 0; i < n; i++)
	{
		events[i] = rows[i]->event;
		events[i].has_event_id = true;
		events[i].event_id = rows[i]->event_id;
		if (i == 0 || strcmp(rows[i]->stream, rows[i - 1]->stream) != 0)
		{
			EvsBatch   *batch = &batches[(*nbatches)++];

			batch->stream = unconstify(char *, rows[i]->stream);
			batch->expected = EVS_ANY_VERSION;
			batch->events = &events[i];
		}
		batches[*nbatches - 1].nevents++;
	}
	return batches;
}

/* Positions may have gaps, so that of an event that is not the last is looked up. */
static void
set_results(Run *run, EvsIncoming **rows, const EvsBatch *batches, int nbatches,
			const EvsAppendResult *results)
{
	int			n = 0;

	for (int b = 0; b < nbatches; b++)
		for (int i = 0; i < batches[b].nevents; i++)
		{
			EvsIncoming *row = rows[n++];
			EvsIdPlace	place;

			row->status = EVS_IN_APPENDED;
			row->has_place = true;
			row->version = results[b].first_version + i;
			row->position = results[b].position;
			if (i < batches[b].nevents - 1 && evs_ids_find(run->log, &row->event_id, &place))
				row->position = place.position;
		}
}

static void
append_new(Run *run)
{
	int			n;
	int			nbatches;
	EvsIncoming **rows = sort_new(run, &n);
	EvsBatch   *batches;
	EvsAppendResult *results;

	if (n == 0)
		return;
	batches = make_batches(rows, n, &nbatches);
	results = palloc_extended(sizeof(EvsAppendResult) * nbatches, MCXT_ALLOC_HUGE);
	evs_append_execute(batches, nbatches, false, results);
	set_results(run, rows, batches, nbatches, results);
}

/* The same event twice in one payload: the second one is where the first one is now. */
static void
find_duplicates(Run *run)
{
	for (int i = 0; i < run->n; i++)
		if (run->rows[i]->status == EVS_IN_DUPLICATE && !run->rows[i]->has_place)
			(void) find_in_log(run, run->rows[i]);
}

/* Limits of the log, and what the session's settings add; the index is that of the row. */
static void
validate(const Run *run)
{
	EvsBatch	batch = {.nevents = run->n};

	batch.events = palloc_extended(sizeof(EvsNewEvent) * run->n, MCXT_ALLOC_HUGE);
	for (int i = 0; i < run->n; i++)
		batch.events[i] = run->rows[i]->event;
	evs_batch_validate(&batch);
	for (int i = 0; i < run->n; i++)
		run->rows[i]->event = batch.events[i];
	pfree(batch.events);
}

static void
ingest(EvsIncoming **rows, int n)
{
	Run			run = {.rows = rows, .n = n};

	validate(&run);
	run.log = evs_open(evs_catalog()->event_log, AccessShareLock);
	run.streams = evs_open(evs_catalog()->stream, AccessShareLock);
	run.scratch = AllocSetContextCreate(CurrentMemoryContext, "evstore ingest",
										ALLOCSET_DEFAULT_SIZES);
	claim_all(&run);
	append_new(&run);
	find_duplicates(&run);
	MemoryContextDelete(run.scratch);
	relation_close(run.streams, AccessShareLock);
	relation_close(run.log, AccessShareLock);
}

/* ---- errors ---- */

/* Beside its own, what an inline handler throws, and a closed stream. */
static void
forget_attempt(EvsIncoming **rows, int n)
{
	for (int i = 0; i < n; i++)
	{
		rows[i]->status = EVS_IN_PENDING;
		rows[i]->has_place = false;
	}
}

/* NULL: done. */
static ErrorData *
try_ingest(EvsIncoming **rows, int n)
{
	MemoryContext memory = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(memory);
	PG_TRY();
	{
		ingest(rows, n);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		if (!evs_in_is_fault_of_event(geterrcode()))
			PG_RE_THROW();
		MemoryContextSwitchTo(memory);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		forget_attempt(rows, n);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	CurrentResourceOwner = owner;
	return error;
}

static void
set_not_tried(EvsIncoming **rows, int n)
{
	for (int i = 0; i < n; i++)
		rows[i]->status = EVS_IN_NOT_TRIED;
}

/* true: none has failed. */
static bool
ingest_halves(EvsIncoming **rows, int n, bool stop)
{
	ErrorData  *error;
	bool		ok;

	CHECK_FOR_INTERRUPTS();
	if (n == 0)
		return true;
	error = try_ingest(rows, n);
	if (error == NULL)
		return true;
	if (n == 1)
	{
		rows[0]->status = EVS_IN_FAILED;
		rows[0]->detail = evs_in_error_detail(error);
		return false;
	}
	ok = ingest_halves(rows, n / 2, stop);
	if (!ok && stop)
		set_not_tried(rows + n / 2, n - n / 2);
	else
		ok = ingest_halves(rows + n / 2, n - n / 2, stop) && ok;
	return ok;
}

/* ---- the whole ---- */

/* Pending rows; with stop, those before the first that could not be decoded. */
static EvsIncoming **
gather_pending(EvsIncoming *rows, int nrows, bool stop, int *n)
{
	EvsIncoming **pending = palloc_extended(sizeof(EvsIncoming *) * Max(1, nrows), MCXT_ALLOC_HUGE);
	bool		failed = false;

	*n = 0;
	for (int i = 0; i < nrows; i++)
	{
		failed |= rows[i].status == EVS_IN_FAILED;
		if (rows[i].status != EVS_IN_PENDING)
			continue;
		if (failed && stop)
			rows[i].status = EVS_IN_NOT_TRIED;
		else
			pending[(*n)++] = &rows[i];
	}
	return pending;
}

void
evs_ingest_rows(EvsIncoming *rows, int nrows, const EvsInOptions *options)
{
	bool		stop = options->on_error == EVS_IN_STOP;
	int			n;
	EvsIncoming **pending = gather_pending(rows, nrows, stop, &n);

	if (n == 0)
		return;
	if (options->on_error != EVS_IN_ABORT)
		(void) ingest_halves(pending, n, stop);
	else
		ingest(pending, n);
}
