/*
 * leaf.c
 *	  The leaves (partitions) of the event log, by position.
 *
 * Which leaf holds a position is read from the relation cache's partition
 * descriptor.  What is kept here is each leaf's attribute numbers and indexes,
 * found by their columns, dropped when the leaf's relcache entry is.
 *
 * A descriptor is never trusted to have the newest leaves.  PostgreSQL takes
 * the list of partitions first and looks up each one's bounds second, and may
 * hear of another partition during the second step: the descriptor is put in
 * place without it then, and nothing will tell any more.  And the transaction
 * that makes a leaf is visible a moment before others can hear of it.  A
 * descriptor that is too old lacks the newest leaves and no others, since they
 * are made one after the other, so evs_leaf_cover() compares its end with the
 * position that the caller is interested in.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/index.h"
#include "catalog/partition.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/sinval.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/partcache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "catalog/catalog.h"
#include "catalog/scan.h"
#include "stream/leaf.h"
#include "stream/position.h"
#include "compat.h"

static const char *const column_names[EVS_LOG_NCOLUMNS] = {
	[EVS_LOG_POSITION] = "position",
	[EVS_LOG_STREAM_ID] = "stream_id",
	[EVS_LOG_VERSION] = "version",
	[EVS_LOG_CATEGORY_HASH] = "category_hash",
	[EVS_LOG_SCHEMA_VERSION] = "schema_version",
	[EVS_LOG_EVENT_ID] = "event_id",
	[EVS_LOG_RECORDED_AT] = "recorded_at",
	[EVS_LOG_TYPE] = "type",
	[EVS_LOG_DATA] = "data",
	[EVS_LOG_METADATA] = "metadata",
	[EVS_LOG_CORRELATION_ID] = "correlation_id",
	[EVS_LOG_CAUSATION_ID] = "causation_id",
	[EVS_LOG_SOURCE] = "source",
	[EVS_LOG_OCCURRED_AT] = "occurred_at",
	[EVS_LOG_TAGS] = "tags",
};

static HTAB *leaves = NULL;
static uint64 invalidations = 0;

static void
invalidate_leaf(Oid relid)
{
	HASH_SEQ_STATUS status;
	EvsLeaf    *leaf;

	invalidations++;
	if (OidIsValid(relid))
	{
		leaf = hash_search(leaves, &relid, HASH_FIND, NULL);
		if (leaf != NULL)
			leaf->valid = false;
		return;
	}
	hash_seq_init(&status, leaves);
	while ((leaf = hash_seq_search(&status)) != NULL)
		leaf->valid = false;
}

static void
init_leaves(void)
{
	HASHCTL		ctl = {
		.keysize = sizeof(Oid),
		.entrysize = sizeof(EvsLeaf),
		.hcxt = TopMemoryContext,
	};

	leaves = hash_create("evstore leaves", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	evs_catalog_on_invalidate(invalidate_leaf);
}

/* The index of the leaf that begins with these columns. */
static bool
index_begins_with(Form_pg_index index, AttrNumber first, AttrNumber second)
{
	return index->indnatts >= (second ? 2 : 1) &&
		index->indkey.values[0] == first &&
		(second == 0 || index->indkey.values[1] == second);
}

/* Which of ours is it?  NULL if none. */
static Oid *
classify_index(EvsLeaf *leaf, Form_pg_index index)
{
	if (index->indisprimary)
		return &leaf->position_index;
	if (index->indisunique &&
		index_begins_with(index, leaf->attno[EVS_LOG_STREAM_ID], leaf->attno[EVS_LOG_VERSION]))
		return &leaf->version_index;
	if (index->indisunique && index_begins_with(index, leaf->attno[EVS_LOG_EVENT_ID], 0))
		return &leaf->event_id_index;
	if (index_begins_with(index, leaf->attno[EVS_LOG_CATEGORY_HASH],
						  leaf->attno[EVS_LOG_POSITION]))
		return &leaf->category_index;
	if (index_begins_with(index, leaf->attno[EVS_LOG_CORRELATION_ID],
						  leaf->attno[EVS_LOG_POSITION]))
		return &leaf->correlation_index;
	return NULL;
}

static void
find_indexes(Relation rel, EvsLeaf *leaf)
{
	List	   *list = RelationGetIndexList(rel);
	ListCell   *cell;

	foreach(cell, list)
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(cell)));
		Form_pg_index index;
		Oid		   *ours;

		if (!HeapTupleIsValid(tuple))
			continue;
		index = (Form_pg_index) GETSTRUCT(tuple);
		ours = index->indisvalid ? classify_index(leaf, index) : NULL;
		if (ours != NULL && !OidIsValid(*ours))
			*ours = index->indexrelid;
		ReleaseSysCache(tuple);
	}
	leaf->nplain = list_length(list) == EVS_LEAF_NINDEXES ? EVS_LEAF_NINDEXES : 0;
	list_free(list);
}

static void
describe_index(EvsLeaf *leaf, int i, Oid oid)
{
	EvsPlainIndex *plain = &leaf->indexes[i];
	Relation	index = index_open(oid, AccessShareLock);
	MemoryContext old = MemoryContextSwitchTo(leaf->context);

	plain->oid = oid;
	plain->info = BuildIndexInfo(index);
	plain->nkeys = plain->info->ii_NumIndexAttrs;
	plain->unique = plain->info->ii_Unique;
	plain->skip_null = plain->info->ii_Predicate != NIL;
	if (plain->nkeys > (int) lengthof(plain->attno) ||
		plain->info->ii_Expressions != NIL ||
		index->rd_rel->relam != BTREE_AM_OID ||
		plain->skip_null != (oid == leaf->correlation_index))
		leaf->nplain = 0;
	for (int k = 0; k < plain->nkeys && leaf->nplain > 0; k++)
		plain->attno[k] = plain->info->ii_IndexAttrNumbers[k];
	MemoryContextSwitchTo(old);
	index_close(index, AccessShareLock);
}

/* What inserting entries needs to know, unless there are more indexes. */
static void
describe_indexes(EvsLeaf *leaf)
{
	const Oid	oids[EVS_LEAF_NINDEXES] = {
		leaf->position_index, leaf->version_index, leaf->event_id_index,
		leaf->category_index, leaf->correlation_index,
	};

	leaf->context = AllocSetContextCreate(CacheMemoryContext, "evstore leaf",
										  ALLOCSET_SMALL_SIZES);
	for (int i = 0; i < EVS_LEAF_NINDEXES && leaf->nplain > 0; i++)
		describe_index(leaf, i, oids[i]);
}

static void
describe_leaf(Relation rel, EvsLeaf *leaf)
{
	Oid			relid = RelationGetRelid(rel);

	if (leaf->context != NULL)
		MemoryContextDelete(leaf->context);
	memset(leaf, 0, sizeof(EvsLeaf));
	leaf->relid = relid;
	for (int i = 0; i < EVS_LOG_NCOLUMNS; i++)
	{
		leaf->attno[i] = get_attnum(relid, column_names[i]);
		if (leaf->attno[i] == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("partition \"%s\" of the event log has no column \"%s\"",
							RelationGetRelationName(rel), column_names[i])));
		leaf->max_attno = Max(leaf->max_attno, leaf->attno[i]);
	}
	find_indexes(rel, leaf);
	if (!OidIsValid(leaf->position_index) || !OidIsValid(leaf->version_index) ||
		!OidIsValid(leaf->event_id_index) || !OidIsValid(leaf->category_index) ||
		!OidIsValid(leaf->correlation_index))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("partition \"%s\" of the event log lacks an index",
						RelationGetRelationName(rel)),
				 errhint("evstore.verify() says which; a restore may not have finished yet.")));
	describe_indexes(leaf);
}

EvsLeaf *
evs_leaf_describe(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	EvsLeaf    *leaf;
	bool		found;

	if (leaves == NULL)
		init_leaves();
	leaf = hash_search(leaves, &relid, HASH_ENTER, &found);
	if (!found)
	{
		memset(leaf, 0, sizeof(EvsLeaf));
		leaf->relid = relid;
	}
	while (!leaf->valid)
	{
		uint64		before = invalidations;

		CHECK_FOR_INTERRUPTS();
		describe_leaf(rel, leaf);
		/* an invalidation that came during the look-ups: again */
		leaf->valid = before == invalidations;
	}
	return leaf;
}

static int64
bound_value(PartitionBoundInfo bound, int i)
{
	switch (bound->kind[i][0])
	{
		case PARTITION_RANGE_DATUM_MINVALUE:
			return PG_INT64_MIN;
		case PARTITION_RANGE_DATUM_MAXVALUE:
			return PG_INT64_MAX;
		default:
			return DatumGetInt64(bound->datums[i][0]);
	}
}

int64
evs_leaf_end(Relation log)
{
	PartitionDesc desc = RelationGetPartitionDesc(log, false);

	if (desc->nparts == 0)
		return 1;
	return bound_value(desc->boundinfo, desc->boundinfo->ndatums - 1);
}

void
evs_leaf_forget(Relation log)
{
	SharedInvalidationMessage message = {
		.rc = {.id = SHAREDINVALRELCACHE_ID, .dbId = MyDatabaseId, .relId = RelationGetRelid(log)},
	};

	LocalExecuteInvalidationMessage(&message);
}

bool
evs_leaf_cover(Relation log, int64 position)
{
	if (likely(position < evs_leaf_end(log)))
		return true;
	AcceptInvalidationMessages();
	/* nobody has stored anything above the last position that was drawn */
	position = Min(position, evs_position_last());
	if (position < evs_leaf_end(log))
		return true;
	evs_leaf_forget(log);
	return position < evs_leaf_end(log);
}

/* Range bounds: indexes[i] is the partition that ends at datums[i]. */
EvsLeafRange *
evs_leaf_list(Relation log, int64 up_to, int *nleaves)
{
	EvsLeafRange *result;
	PartitionDesc desc;
	int			n = 0;

	(void) evs_leaf_cover(log, up_to);
	desc = RelationGetPartitionDesc(log, false);
	if (desc->nparts == 0)
	{
		*nleaves = 0;
		return NULL;
	}
	result = palloc(sizeof(EvsLeafRange) * desc->nparts);
	for (int i = 1; i < desc->boundinfo->ndatums; i++)
	{
		int			part = desc->boundinfo->indexes[i];

		if (part < 0)
			continue;
		result[n].relid = desc->oids[part];
		result[n].lower = bound_value(desc->boundinfo, i - 1);
		result[n].upper = bound_value(desc->boundinfo, i);
		n++;
	}
	*nleaves = n;
	return result;
}

static bool
find_in_descriptor(Relation log, int64 position, EvsLeafRange *range)
{
	PartitionDesc desc = RelationGetPartitionDesc(log, false);
	PartitionKey key = RelationGetPartitionKey(log);
	Datum		value = Int64GetDatum(position);
	bool		equal;
	int			offset;
	int			part;

	if (desc->nparts == 0)
		return false;
	offset = partition_range_datum_bsearch(key->partsupfunc, key->partcollation,
										   desc->boundinfo, 1, &value, &equal);
	if (offset < 0 || offset + 1 >= desc->boundinfo->ndatums)
		return false;
	part = desc->boundinfo->indexes[offset + 1];
	if (part < 0)
		return false;
	range->relid = desc->oids[part];
	range->lower = bound_value(desc->boundinfo, offset);
	range->upper = bound_value(desc->boundinfo, offset + 1);
	return true;
}

bool
evs_leaf_find(Relation log, int64 position, EvsLeafRange *range)
{
	return find_in_descriptor(log, position, range) ||
		(evs_leaf_cover(log, position) && find_in_descriptor(log, position, range));
}

Relation
evs_leaf_open(Oid relid, LOCKMODE lockmode)
{
	return try_relation_open(relid, lockmode);
}

Datum
evs_leaf_get(EvsLeaf *leaf, TupleTableSlot *slot, EvsLogColumn column, bool *isnull)
{
	return slot_getattr(slot, leaf->attno[column], isnull);
}

int64
evs_leaf_get_int8(EvsLeaf *leaf, TupleTableSlot *slot, EvsLogColumn column)
{
	bool		isnull;

	return DatumGetInt64(slot_getattr(slot, leaf->attno[column], &isnull));
}
