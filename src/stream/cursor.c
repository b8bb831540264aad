/*
 * cursor.c
 *	  A cursor over the log: the events of a range that are wanted, in order.
 *
 * The leaves of the range are visited one after the other, one open at a time;
 * one that has gone in the meantime is passed over.  In each leaf the narrowest
 * index that is in position order is read: of the correlation, of the category,
 * else of the position.  For several categories there is a scan of the category
 * index for each, and the scans are merged by position.
 *
 * A row is looked at in the order of what that costs: its stream's id for the
 * caller's skip(), then the columns that the filter needs, then what the
 * lifecycle of its stream hides, then the name of its stream, then what the
 * filter says in a language of its own.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/stratnum.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "catalog/catalog.h"
#include "catalog/scan.h"
#include "stream/cursor.h"
#include "stream/stream.h"
#include "stream/visibility.h"
#include "compat.h"

/* After so many rows: look for interrupts, reset the scratch context. */
#define RESET_INTERVAL 256

/* It is reset earlier if it has become larger than this. */
#define SCRATCH_LIMIT (1024 * 1024)

/* With more categories than this, all events are looked at. */
#define MAX_SOURCES 16

/* One index scan of the open leaf. */
typedef struct Source
{
	EvsScan		scan;
	ScanKeyData keys[3];
	int64		position;		/* of its current row, when merging */
	bool		done;			/* when merging */
} Source;

struct EvsLogCursor
{
	EvsLogRange range;
	MemoryContext context;		/* of all of this */
	MemoryContext scratch;
	Relation	log;
	Relation	streams;
	Snapshot	snapshot;
	EvsStreamReader reader;
	uint32		seen;			/* rows */

	/* which index, with what keys */
	Datum		correlation_id; /* or 0 */
	int32		hashes[MAX_SOURCES];	/* of categories */
	int			nhashes;

	/* the leaves of the range, in the order of reading */
	EvsLeafRange *leaves;
	int			nleaves;
	int			next_leaf;

	/* the one that is open */
	Relation	rel;			/* or NULL */
	EvsLeaf    *leaf;
	bool		keep_lock;
	Source	   *sources;
	int			nsources;
	Source	   *current;		/* NULL before the first row */

	TupleTableSlot *slot;		/* of the current event, or NULL */
	const char *filter_error;	/* of the current event, or NULL */
	bool		at_end;
};

/* ---- open and close ---- */

static void
choose_index(EvsLogCursor *cursor)
{
	const EvsLogRange *range = &cursor->range;
	const char *correlation_id = range->correlation_id;
	int			n;

	if (correlation_id == NULL && range->filter != NULL)
		correlation_id = evs_filter_correlation_id(range->filter);

	cursor->nsources = 1;
	if (correlation_id != NULL)
		cursor->correlation_id = CStringGetTextDatum(correlation_id);
	else if (range->category != NULL)
	{
		cursor->hashes[0] = evs_category_hash(range->category, strlen(range->category));
		cursor->nhashes = 1;
	}
	else if (range->filter != NULL &&
			 evs_filter_category_hashes(range->filter, cursor->hashes, MAX_SOURCES, &n))
		cursor->nhashes = cursor->nsources = n;
	cursor->sources = palloc0(sizeof(Source) * Max(1, cursor->nsources));
}

static void
list_leaves(EvsLogCursor *cursor)
{
	const EvsLogRange *range = &cursor->range;
	int			nall;
	EvsLeafRange *all = evs_leaf_list(cursor->log, range->up_to, &nall);

	cursor->leaves = all;
	if (cursor->nsources == 0)
		return;					/* a filter that names no category */
	for (int i = 0; i < nall; i++)
		if (all[i].upper - 1 > range->after && all[i].lower <= range->up_to)
			all[cursor->nleaves++] = all[i];
	if (range->backward)
		cursor->next_leaf = cursor->nleaves - 1;
}

EvsLogCursor *
evs_cursor_open(const EvsLogRange *range, Snapshot snapshot)
{
	MemoryContext context = AllocSetContextCreate(CurTransactionContext, "evstore cursor",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	EvsLogCursor *cursor = palloc0(sizeof(EvsLogCursor));

	cursor->range = *range;
	cursor->context = context;
	cursor->scratch = AllocSetContextCreate(context, "evstore cursor scratch",
											ALLOCSET_DEFAULT_SIZES);
	cursor->log = evs_open(evs_catalog()->event_log, AccessShareLock);
	cursor->streams = evs_open(evs_catalog()->stream, AccessShareLock);
	cursor->snapshot = IsMVCCSnapshot(snapshot) ? RegisterSnapshot(snapshot) : snapshot;
	choose_index(cursor);
	list_leaves(cursor);
	evs_stream_reader_begin(&cursor->reader, cursor->log, cursor->streams, cursor->snapshot);
	MemoryContextSwitchTo(old);
	return cursor;
}

static void
close_leaf(EvsLogCursor *cursor)
{
	for (int i = 0; i < cursor->nsources; i++)
		evs_scan_end(&cursor->sources[i].scan, AccessShareLock);
	relation_close(cursor->rel, cursor->keep_lock ? NoLock : AccessShareLock);
	cursor->rel = NULL;
	cursor->slot = NULL;
}

void
evs_cursor_close(EvsLogCursor *cursor)
{
	if (cursor->rel != NULL)
		close_leaf(cursor);
	if (IsMVCCSnapshot(cursor->snapshot))
		UnregisterSnapshot(cursor->snapshot);
	relation_close(cursor->streams, AccessShareLock);
	relation_close(cursor->log, AccessShareLock);
	MemoryContextDelete(cursor->context);
}

/* ---- rows of one leaf ---- */

static void
begin_source(EvsLogCursor *cursor, int i)
{
	const EvsLogRange *range = &cursor->range;
	Source	   *source = &cursor->sources[i];
	Oid			index = cursor->leaf->position_index;
	int			nkeys = 0;

	if (cursor->correlation_id != (Datum) 0)
	{
		index = cursor->leaf->correlation_index;
		evs_key_text(&source->keys[nkeys++], 1, BTEqualStrategyNumber, cursor->correlation_id);
	}
	else if (cursor->nhashes > 0)
	{
		index = cursor->leaf->category_index;
		evs_key_int4(&source->keys[nkeys++], 1, cursor->hashes[i]);
	}
	evs_key_int8(&source->keys[nkeys], nkeys + 1, BTGreaterStrategyNumber, range->after);
	evs_key_int8(&source->keys[nkeys + 1], nkeys + 1, BTLessEqualStrategyNumber, range->up_to);
	nkeys += 2;
	evs_scan_begin(&source->scan, cursor->rel, index, cursor->snapshot, nkeys, source->keys,
				   range->backward ? BackwardScanDirection : ForwardScanDirection);
}

/* Open the next leaf that is still there; false after the last one. */
static bool
open_leaf(EvsLogCursor *cursor)
{
	while (cursor->next_leaf >= 0 && cursor->next_leaf < cursor->nleaves)
	{
		cursor->rel = evs_leaf_open(cursor->leaves[cursor->next_leaf].relid, AccessShareLock);
		cursor->next_leaf += cursor->range.backward ? -1 : 1;
		if (cursor->rel == NULL)
			continue;
		cursor->leaf = evs_leaf_describe(cursor->rel);
		cursor->keep_lock = false;
		cursor->current = NULL;
		for (int i = 0; i < cursor->nsources; i++)
			begin_source(cursor, i);
		return true;
	}
	return false;
}

static void
step_source(EvsLogCursor *cursor, Source *source)
{
	source->done = !evs_scan_next(&source->scan);
	if (!source->done)
		source->position = evs_leaf_get_int8(cursor->leaf, source->scan.slot, EVS_LOG_POSITION);
}

/* The source that is first in the direction of reading; NULL if all are done. */
static Source *
first_source(EvsLogCursor *cursor)
{
	bool		backward = cursor->range.backward;
	Source	   *first = NULL;

	for (int i = 0; i < cursor->nsources; i++)
	{
		Source	   *source = &cursor->sources[i];

		if (!source->done &&
			(first == NULL || (source->position < first->position) != backward))
			first = source;
	}
	return first;
}

/* The leaf's next row, in cursor->slot; false at its end. */
static bool
next_row(EvsLogCursor *cursor)
{
	if (cursor->nsources == 1)
	{
		cursor->slot = cursor->sources[0].scan.slot;
		return evs_scan_next(&cursor->sources[0].scan);
	}

	if (cursor->current != NULL)
		step_source(cursor, cursor->current);
	else
		for (int i = 0; i < cursor->nsources; i++)
			step_source(cursor, &cursor->sources[i]);
	cursor->current = first_source(cursor);
	if (cursor->current == NULL)
		return false;
	cursor->slot = cursor->current->scan.slot;
	return true;
}

/* ---- which of them are wanted ---- */

static bool
is_of_category(text *name, const char *category)
{
	int			len = strlen(category);
	int			name_len = VARSIZE(name) - VARHDRSZ;

	return name_len >= len && memcmp(VARDATA(name), category, len) == 0 &&
		(name_len == len || VARDATA(name)[len] == '-');
}

static bool
name_matches(EvsLogCursor *cursor, const EvsFilter *filter)
{
	text	   *name;

	if (!evs_filter_needs_name(filter))
		return true;
	name = evs_cursor_stream_name(cursor);
	return evs_filter_matches_stream(filter, VARDATA(name), VARSIZE(name) - VARHDRSZ);
}

/* The index has hashes of categories, so names are compared as well. */
static bool
category_matches(EvsLogCursor *cursor)
{
	const char *category = cursor->range.category;

	return category == NULL || is_of_category(evs_cursor_stream_name(cursor), category);
}

/* For document columns: the name is valid as long as the event is current. */
static text *
get_stream_name(void *arg)
{
	return evs_cursor_stream_name(arg);
}

static EvsFilterResult
content_matches(EvsLogCursor *cursor, const EvsFilter *filter, const char **error)
{
	EvsRowSource source = {
		.leaf = cursor->leaf, .slot = cursor->slot, .stream_name = get_stream_name, .arg = cursor,
	};
	EvsDocument document;
	MemoryContext old;
	EvsFilterResult result;

	if (!evs_filter_has_content(filter))
		return EVS_FILTER_YES;
	evs_filter_row_document(&source, &document);
	old = MemoryContextSwitchTo(cursor->scratch);
	result = evs_filter_matches_content(filter, &document, error);
	MemoryContextSwitchTo(old);
	return result;
}

static bool
columns_match(EvsLogCursor *cursor, EvsFilter *filter)
{
	MemoryContext old;
	bool		ok;

	if (MemoryContextMemAllocated(cursor->scratch, false) > SCRATCH_LIMIT)
		MemoryContextReset(cursor->scratch);
	old = MemoryContextSwitchTo(cursor->scratch);
	ok = evs_filter_matches_row(filter, cursor->leaf, cursor->slot);
	MemoryContextSwitchTo(old);
	return ok;
}

static bool
is_hidden(EvsLogCursor *cursor)
{
	EvsLeaf    *leaf = cursor->leaf;
	TupleTableSlot *slot = cursor->slot;

	return !cursor->reader.none_restricted &&
		evs_stream_reader_hides(&cursor->reader,
								evs_leaf_get_int8(leaf, slot, EVS_LOG_STREAM_ID),
								evs_leaf_get_int8(leaf, slot, EVS_LOG_VERSION),
								evs_leaf_get_int8(leaf, slot, EVS_LOG_RECORDED_AT));
}

static bool
is_skipped(EvsLogCursor *cursor)
{
	const EvsLogRange *range = &cursor->range;

	return range->skip != NULL &&
		range->skip(range->skip_arg,
					evs_leaf_get_int8(cursor->leaf, cursor->slot, EVS_LOG_STREAM_ID));
}

static bool
is_wanted(EvsLogCursor *cursor)
{
	EvsFilter  *filter = cursor->range.filter;
	EvsFilterResult result;
	const char *error;

	cursor->filter_error = NULL;
	if (is_skipped(cursor))
		return false;
	if (filter == NULL)
		return !is_hidden(cursor) && category_matches(cursor);
	if (!columns_match(cursor, filter) || is_hidden(cursor) ||
		!category_matches(cursor) || !name_matches(cursor, filter))
		return false;
	result = content_matches(cursor, filter, &error);
	if (result == EVS_FILTER_ERROR)
		cursor->filter_error = error;
	return result == EVS_FILTER_YES ||
		(result == EVS_FILTER_ERROR && cursor->range.want_errors);
}

static void
count_row(EvsLogCursor *cursor)
{
	if (++cursor->seen % RESET_INTERVAL == 0)
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(cursor->scratch);
	}
}

bool
evs_cursor_next(EvsLogCursor *cursor)
{
	/* index scans allocate what they need when they need it */
	MemoryContext old = MemoryContextSwitchTo(cursor->context);

	while (!cursor->at_end)
	{
		bool		found = false;

		if (cursor->rel == NULL && !open_leaf(cursor))
		{
			cursor->at_end = true;
			break;
		}
		while (!found && next_row(cursor))
		{
			count_row(cursor);
			found = is_wanted(cursor);
		}
		if (found)
			break;
		close_leaf(cursor);
	}
	MemoryContextSwitchTo(old);
	return !cursor->at_end;
}

/* ---- the event that the cursor is on ---- */

int64
evs_cursor_position(const EvsLogCursor *cursor)
{
	Assert(cursor->slot != NULL);
	return evs_leaf_get_int8(cursor->leaf, cursor->slot, EVS_LOG_POSITION);
}

int64
evs_cursor_stream_id(const EvsLogCursor *cursor)
{
	Assert(cursor->slot != NULL);
	return evs_leaf_get_int8(cursor->leaf, cursor->slot, EVS_LOG_STREAM_ID);
}

const char *
evs_cursor_filter_error(const EvsLogCursor *cursor)
{
	return cursor->filter_error;
}

EvsFilterResult
evs_cursor_match(EvsLogCursor *cursor, EvsFilter *filter)
{
	const char *error;

	if (!columns_match(cursor, filter) || !name_matches(cursor, filter))
		return EVS_FILTER_NO;
	return content_matches(cursor, filter, &error);
}

text *
evs_cursor_stream_name(EvsLogCursor *cursor)
{
	MemoryContext old = MemoryContextSwitchTo(cursor->scratch);
	text	   *name = evs_stream_reader_name(&cursor->reader, evs_cursor_stream_id(cursor));

	MemoryContextSwitchTo(old);
	return name;
}

EvsLeaf *
evs_cursor_leaf(const EvsLogCursor *cursor)
{
	return cursor->leaf;
}

TupleTableSlot *
evs_cursor_slot(const EvsLogCursor *cursor)
{
	return cursor->slot;
}

void
evs_cursor_keep(EvsLogCursor *cursor)
{
	cursor->keep_lock = true;
}

int64
evs_cursor_scanned(const EvsLogCursor *cursor)
{
	Assert(!cursor->range.backward);
	if (cursor->at_end)
		return Max(cursor->range.after, cursor->range.up_to);
	return cursor->slot != NULL ? evs_cursor_position(cursor) : cursor->range.after;
}
