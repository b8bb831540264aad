/*
 * heap_writer.c
 *	  Direct writes to our own tables: heap and indexes, no executor plan.
 *
 * This is what COPY does after it has parsed a row: form tuples, insert a
 * chunk of them with one heap operation and few WAL records, then the index
 * entries of each.  All of it happens in the current transaction with the
 * current command id.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "nodes/execnodes.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "exec/heap_writer.h"
#include "compat.h"

/* Flush a chunk when its rows are about this large, as COPY does. */
#define CHUNK_BYTES 65535

/* A batch of this many rows is worth a ring buffer of its own. */
#define BULK_ROWS 10000

struct EvsWriter
{
	Relation	rel;
	EState	   *estate;			/* NULL as long as it is not needed */
	ResultRelInfo *rri;
	const EvsPlainIndex *plain;
	Relation   *plain_rels;		/* open indexes, or NULL */
	int			nplain;
	BulkInsertState bulk;
	CommandId	cid;
	TupleTableSlot **slots;
	int			capacity;		/* slots made room for */
	int			nmade;			/* slots created */
	int			nused;			/* rows waiting in the chunk */
	Size		bytes;
	bool		speculative_ready;
	MemoryContext context;
};

EvsWriter *
evs_writer_open(Relation rel)
{
	return evs_writer_open_plain(rel, NULL, 0);
}

EvsWriter *
evs_writer_open_plain(Relation rel, const EvsPlainIndex *indexes, int nindexes)
{
	EvsWriter  *writer = palloc0(sizeof(EvsWriter));

	writer->rel = rel;
	writer->plain = indexes;
	writer->nplain = nindexes;
	writer->cid = GetCurrentCommandId(true);
	writer->context = CurrentMemoryContext;
	return writer;
}

/* What the executor needs to know about the table. */
static void
need_executor_state(EvsWriter *writer)
{
	MemoryContext old;

	if (writer->estate != NULL)
		return;
	old = MemoryContextSwitchTo(writer->context);
	writer->estate = CreateExecutorState();
	MemoryContextSwitchTo(writer->estate->es_query_cxt);
	writer->rri = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->rri, writer->rel, 1, NULL, 0);
	MemoryContextSwitchTo(old);
}

static void
open_indices(EvsWriter *writer, bool speculative)
{
	MemoryContext old;

	need_executor_state(writer);
	if (writer->rri->ri_IndexRelationDescs != NULL &&
		(!speculative || writer->speculative_ready))
		return;
	Assert(writer->rri->ri_IndexRelationDescs == NULL);
	old = MemoryContextSwitchTo(writer->estate->es_query_cxt);
	ExecOpenIndices(writer->rri, speculative);
	MemoryContextSwitchTo(old);
	writer->speculative_ready = speculative;
}

TupleTableSlot *
evs_writer_slot(EvsWriter *writer, int expected_rows)
{
	MemoryContext old = MemoryContextSwitchTo(writer->context);

	if (writer->slots == NULL)
	{
		writer->capacity = Min(Max(expected_rows, 1), EVS_WRITER_CHUNK);
		writer->slots = palloc0(sizeof(TupleTableSlot *) * writer->capacity);
		if (expected_rows >= BULK_ROWS)
			writer->bulk = GetBulkInsertState();
	}
	if (writer->nused == writer->nmade)
		writer->slots[writer->nmade++] = table_slot_create(writer->rel, NULL);
	MemoryContextSwitchTo(old);
	return ExecClearTuple(writer->slots[writer->nused]);
}

/* In builds with assertions, let the executor check what C has promised. */
static void
assert_constraints(EvsWriter *writer, TupleTableSlot *slot)
{
#ifdef USE_ASSERT_CHECKING
	need_executor_state(writer);
	if (writer->rel->rd_att->constr != NULL)
		ExecConstraints(writer->rri, slot, writer->estate);
	if (writer->rel->rd_rel->relispartition)
		ExecPartitionCheck(writer->rri, slot, writer->estate, true);
#endif
}

static void
insert_generic_entries(EvsWriter *writer, TupleTableSlot *slot)
{
	open_indices(writer, false);
	if (writer->rri->ri_NumIndices > 0)
		list_free(evs_exec_insert_index_tuples(writer->rri, slot, writer->estate,
											   false, NULL, NIL));
	ResetPerTupleExprContext(writer->estate);
}

static void
open_plain_indexes(EvsWriter *writer)
{
	writer->plain_rels = MemoryContextAlloc(writer->context,
											sizeof(Relation) * writer->nplain);
	for (int i = 0; i < writer->nplain; i++)
		writer->plain_rels[i] = index_open(writer->plain[i].oid, RowExclusiveLock);
}

/* One entry of one index. */
static void
insert_plain_entry(EvsWriter *writer, int i, TupleTableSlot *slot)
{
	const EvsPlainIndex *index = &writer->plain[i];
	Datum		values[2];
	bool		nulls[2] = {true, true};

	for (int k = 0; k < index->nkeys; k++)
		values[k] = slot_getattr(slot, index->attno[k], &nulls[k]);
	if (index->skip_null && nulls[0])
		return;
	(void) index_insert(writer->plain_rels[i], values, nulls, &slot->tts_tid, writer->rel,
						index->unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO,
						false, index->info);
}

/*
 * The entries of n rows that are in the heap already.  One index after the
 * other: the next entry of an index mostly goes next to the one before.
 */
static void
insert_index_entries(EvsWriter *writer, TupleTableSlot **slots, int n)
{
	if (writer->nplain == 0)
	{
		for (int row = 0; row < n; row++)
			insert_generic_entries(writer, slots[row]);
		return;
	}
	if (writer->plain_rels == NULL)
		open_plain_indexes(writer);
	for (int i = 0; i < writer->nplain; i++)
		for (int row = 0; row < n; row++)
			insert_plain_entry(writer, i, slots[row]);
}

void
evs_writer_add(EvsWriter *writer, Size row_size)
{
	TupleTableSlot *slot = writer->slots[writer->nused];

	ExecStoreVirtualTuple(slot);
	assert_constraints(writer, slot);
	writer->nused++;
	writer->bytes += row_size;
	if (writer->nused == writer->capacity || writer->bytes > CHUNK_BYTES)
		evs_writer_flush(writer);
}

void
evs_writer_flush(EvsWriter *writer)
{
	if (writer->nused == 0)
		return;

	if (writer->nused == 1)
		table_tuple_insert(writer->rel, writer->slots[0], writer->cid, 0, writer->bulk);
	else
	{
		/* leaves its tuples behind, which the next chunk does not need */
		MemoryContext scratch = AllocSetContextCreate(writer->context, "evstore chunk",
													  ALLOCSET_DEFAULT_SIZES);
		MemoryContext old = MemoryContextSwitchTo(scratch);

		table_multi_insert(writer->rel, writer->slots, writer->nused, writer->cid, 0,
						   writer->bulk);
		MemoryContextSwitchTo(old);
		MemoryContextDelete(scratch);
	}

	insert_index_entries(writer, writer->slots, writer->nused);
	for (int i = 0; i < writer->nused; i++)
		ExecClearTuple(writer->slots[i]);
	writer->nused = 0;
	writer->bytes = 0;
}

bool
evs_writer_key_is_free(EvsWriter *writer, TupleTableSlot *slot, Oid unique_index)
{
	ItemPointerData conflict;

	open_indices(writer, true);
	ItemPointerSetInvalid(&conflict);
	return evs_exec_check_index_constraints(writer->rri, slot, writer->estate, &conflict,
											list_make1_oid(unique_index));
}

bool
evs_writer_insert_if_free(EvsWriter *writer, TupleTableSlot *slot, Oid unique_index)
{
	TransactionId xid = GetCurrentTransactionId();
	bool		conflict = false;
	uint32		token;

	open_indices(writer, true);
	assert_constraints(writer, slot);
	token = SpeculativeInsertionLockAcquire(xid);
	table_tuple_insert_speculative(writer->rel, slot, writer->cid, 0, NULL, token);
	list_free(evs_exec_insert_index_tuples(writer->rri, slot, writer->estate, true,
										   &conflict, list_make1_oid(unique_index)));
	table_tuple_complete_speculative(writer->rel, slot, token, !conflict);
	SpeculativeInsertionLockRelease(xid);
	return !conflict;
}

void
evs_writer_update(EvsWriter *writer, ItemPointer tid, TupleTableSlot *slot)
{
	assert_constraints(writer, slot);
	if (evs_table_tuple_update(writer->rel, tid, slot))
		insert_index_entries(writer, &slot, 1);
}

void
evs_writer_delete(EvsWriter *writer, ItemPointer tid)
{
	simple_table_tuple_delete(writer->rel, tid, InvalidSnapshot);
}

void
evs_writer_close(EvsWriter *writer)
{
	evs_writer_flush(writer);
	if (writer->bulk != NULL)
	{
		FreeBulkInsertState(writer->bulk);
		table_finish_bulk_insert(writer->rel, 0);
	}
	for (int i = 0; i < writer->nmade; i++)
		ExecDropSingleTupleTableSlot(writer->slots[i]);
	if (writer->plain_rels != NULL)
		for (int i = 0; i < writer->nplain; i++)
			index_close(writer->plain_rels[i], NoLock); /* as the table's */
	if (writer->estate != NULL)
	{
		if (writer->rri->ri_IndexRelationDescs != NULL)
			ExecCloseIndices(writer->rri);
		FreeExecutorState(writer->estate);
	}
	pfree(writer);
}
