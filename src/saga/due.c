/*
 * due.c
 *	  Which instances there is something to do for.
 *
 * Only what is due is looked at, however many instances wait: the index has what is due
 * of each priority in front, and mail is there only while it waits to be taken in.  So
 * that no plan can be the wrong one, the indexes are read directly.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/clock.h"
#include "catalog/catalog.h"
#include "catalog/scan.h"
#include "saga/rows.h"
#include "saga/run.h"
#include "compat.h"

#define PRIORITIES 10

typedef struct Search
{
	int64		definition_id;
	TimestampTz now;
	Snapshot	snapshot;
	Relation	instances;
	EvsSagaCandidate *found;
	int			nfound;
	int			max;
	TimestampTz next_due;
} Search;

static bool
is_found(const Search *search, const pg_uuid_t *id)
{
	for (int i = 0; i < search->nfound; i++)
		if (memcmp(&search->found[i].id, id, UUID_LEN) == 0)
			return true;
	return false;
}

static void
add(Search *search, const pg_uuid_t *id, int priority, TimestampTz due)
{
	EvsSagaCandidate *candidate = &search->found[search->nfound++];

	candidate->id = *id;
	candidate->priority = priority;
	candidate->due = due;
}

static const pg_uuid_t *
get_id(TupleTableSlot *slot, AttrNumber attno)
{
	bool		isnull;

	return DatumGetUUIDP(slot_getattr(slot, attno, &isnull));
}

/* ---- mail ---- */

/* NULL of what it needs: false, the instance has failed and is left alone for a while. */
static bool
may_take_mail(const Search *search, TupleTableSlot *slot, int *priority)
{
	bool		isnull;
	TimestampTz due;

	*priority = DatumGetInt16(slot_getattr(slot, Anum_saga_instance_priority, &isnull));
	if (DatumGetInt32(slot_getattr(slot, Anum_saga_instance_failures, &isnull)) == 0)
		return true;
	due = DatumGetTimestampTz(slot_getattr(slot, Anum_saga_instance_next_due, &isnull));
	return isnull || due <= search->now;
}

static void
add_recipient(Search *search, EvsScan *instances, const pg_uuid_t *id, TimestampTz since)
{
	ScanKeyData key;
	int			priority = 0;

	evs_key_uuid(&key, 1, UUIDPGetDatum(id));
	evs_scan_again(instances, 1, &key);
	/* what has come for one that is gone is to be thrown away */
	if (!evs_scan_next(instances) || may_take_mail(search, instances->slot, &priority))
		add(search, id, priority, since);
}

static void
find_mail(Search *search, int up_to)
{
	Relation	rel = evs_open(evs_catalog()->saga_mail, AccessShareLock);
	pg_uuid_t	none = {{0}};
	ScanKeyData key;
	ScanKeyData id_key;
	EvsScan		mail;
	EvsScan		instances;
	pg_uuid_t	last = none;

	evs_key_uuid(&id_key, 1, UUIDPGetDatum(&none));
	evs_scan_begin(&instances, search->instances, evs_catalog()->saga_instance_pkey,
				   search->snapshot, 1, &id_key, ForwardScanDirection);
	evs_key_int8(&key, 1, BTEqualStrategyNumber, search->definition_id);
	evs_scan_begin(&mail, rel, evs_catalog()->saga_mail_definition_idx, search->snapshot, 1, &key,
				   ForwardScanDirection);
	while (search->nfound < up_to && evs_scan_next(&mail))
	{
		pg_uuid_t	id = *get_id(mail.slot, Anum_saga_mail_saga_id);
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		if (memcmp(&id, &last, UUID_LEN) == 0 || is_found(search, &id))
			continue;
		last = id;
		add_recipient(search, &instances, &id,
					  DatumGetTimestampTz(slot_getattr(mail.slot, Anum_saga_mail_created_at, &isnull)));
	}
	evs_scan_end(&mail, AccessShareLock);
	evs_scan_end(&instances, AccessShareLock);
	relation_close(rel, AccessShareLock);
}

/* ---- what is due ---- */

static void
set_keys(const Search *search, int priority, ScanKey keys)
{
	evs_key_int8(&keys[0], 1, BTEqualStrategyNumber, search->definition_id);
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT2EQ, Int16GetDatum(priority));
}

/* Of a priority, in the order in which they became due; the first that is not tells when. */
static void
find_due(Search *search, EvsScan *scan, int priority)
{
	int			left = search->max;

	while (left > 0 && evs_scan_next(scan))
	{
		bool		isnull;
		TimestampTz due = DatumGetTimestampTz(slot_getattr(scan->slot, Anum_saga_instance_next_due,
														   &isnull));
		const pg_uuid_t *id = get_id(scan->slot, Anum_saga_instance_id);

		if (due > search->now)
		{
			search->next_due = Min(search->next_due, due);
			return;
		}
		if (!is_found(search, id))
			add(search, id, priority, due);
		left--;
	}
}

static void
find_all_due(Search *search)
{
	ScanKeyData keys[2];
	EvsScan		scan;
	int			first = search->nfound;

	set_keys(search, 0, keys);
	evs_scan_begin(&scan, search->instances, evs_catalog()->saga_instance_due_idx, search->snapshot,
				   2, keys, ForwardScanDirection);
	for (int i = 0; i < PRIORITIES && search->nfound - first < search->max; i++)
	{
		if (i > 0)
		{
			set_keys(search, i, keys);
			evs_scan_again(&scan, 2, keys);
		}
		find_due(search, &scan, i);
	}
	evs_scan_end(&scan, AccessShareLock);
}

static int
compare(const void *a, const void *b)
{
	const EvsSagaCandidate *x = a;
	const EvsSagaCandidate *y = b;

	if (x->priority != y->priority)
		return x->priority - y->priority;
	return x->due < y->due ? -1 : x->due > y->due;
}

/* Those of one saga, behind what has been found. */
static void
search_definition(Search *search, int64 definition_id)
{
	search->definition_id = definition_id;
	find_mail(search, search->nfound + search->max);
	find_all_due(search);
}

int
evs_saga_candidates(const int64 *definitions, int ndefinitions, int max,
					EvsSagaCandidate *candidates, TimestampTz *next_due)
{
	Search		search = {.now = evs_clock_now(), .max = max, .next_due = DT_NOEND};
	int			n;

	/* of each at most so many by mail, and nearly twice as many by time */
	search.found = palloc(sizeof(EvsSagaCandidate) * max * 3 * Max(1, ndefinitions));
	search.instances = evs_open(evs_catalog()->saga_instance, AccessShareLock);
	search.snapshot = RegisterSnapshot(GetLatestSnapshot());
	for (int i = 0; i < ndefinitions; i++)
		search_definition(&search, definitions[i]);
	UnregisterSnapshot(search.snapshot);
	relation_close(search.instances, AccessShareLock);

	qsort(search.found, search.nfound, sizeof(EvsSagaCandidate), compare);
	n = Min(max, search.nfound);
	memcpy(candidates, search.found, sizeof(EvsSagaCandidate) * n);
	*next_due = search.next_due;
	pfree(search.found);
	return n;
}
