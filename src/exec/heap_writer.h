/*
 * heap_writer.h
 *	  Direct writes to our own tables: heap and indexes, no executor plan.
 *
 * What the executor does and this does not: no privileges, no triggers, no
 * generated columns, no row security.  Callers validate rows in C; builds with
 * assertions also run the table's constraints.
 */
#ifndef EVSTORE_HEAP_WRITER_H
#define EVSTORE_HEAP_WRITER_H

#include "access/attnum.h"
#include "executor/tuptable.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"

typedef struct EvsWriter EvsWriter;

/*
 * A b-tree index without expressions, for which entries can be made straight
 * from a row's columns.
 */
typedef struct EvsPlainIndex
{
	Oid			oid;
	int			nkeys;
	AttrNumber	attno[2];		/* of the table */
	bool		unique;
	bool		skip_null;		/* partial: WHERE the first column IS NOT NULL */
	struct IndexInfo *info;
} EvsPlainIndex;

/* Rows that are inserted with one heap operation, at most. */
#define EVS_WRITER_CHUNK 1000

/*
 * rel is open with RowExclusiveLock and stays the caller's.  If the table has
 * no other indexes than the plain ones given, inserting needs no executor
 * state at all; evs_writer_open() finds out about indexes by itself.
 */
extern EvsWriter *evs_writer_open(Relation rel);
extern EvsWriter *evs_writer_open_plain(Relation rel, const EvsPlainIndex *indexes, int nindexes);
extern void evs_writer_close(EvsWriter *writer);

/*
 * The next free slot of the chunk; fill its values and nulls, then call
 * evs_writer_add(), which writes when the chunk is full.
 */
extern TupleTableSlot *evs_writer_slot(EvsWriter *writer, int expected_rows);
extern void evs_writer_add(EvsWriter *writer, Size row_size);

/* Write what is left of the chunk. */
extern void evs_writer_flush(EvsWriter *writer);

/*
 * Insert a row unless one with the same key in unique_index exists or is
 * being made by a transaction in progress, for whose end it waits (first half,
 * evs_writer_key_is_free).  The second half can still lose a race: false.
 */
extern bool evs_writer_key_is_free(EvsWriter *writer, TupleTableSlot *slot, Oid unique_index);
extern bool evs_writer_insert_if_free(EvsWriter *writer, TupleTableSlot *slot, Oid unique_index);

/* Replace the row at tid, which the caller has locked. */
extern void evs_writer_update(EvsWriter *writer, ItemPointer tid, TupleTableSlot *slot);

/* Delete the row at tid. */
extern void evs_writer_delete(EvsWriter *writer, ItemPointer tid);

#endif							/* EVSTORE_HEAP_WRITER_H */
