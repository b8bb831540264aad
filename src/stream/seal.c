/*
 * seal.c
 *	  Closing the store to direct INSERTs, and knowing that it is no copy.
 *
 * A restore has to COPY events into a fresh store, so the guards let INSERT
 * through until the first append.  That append puts a row into evstore.sealed,
 * a table that is never dumped.  It has no key, so that first appends of
 * several sessions do not wait for each other; some may put a row each.
 *
 * Whoever makes the very first partition also notes which database of which
 * cluster this is, in the same transaction: a store that has partitions and no
 * such row is a restored copy.  The row is not dumped either: in a copy it is
 * missing, in a clone it does not match, and both stay quiet until
 * evstore.adopt() is called.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/catalog.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/errors.h"
#include "catalog/catalog.h"
#include "exec/heap_writer.h"
#include "stream/leaf.h"
#include "stream/seal.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_guard);

/* The sealed table that this backend has seen a committed row in. */
static Oid	seen_sealed = InvalidOid;

/*
 * Is there a row?  Ours counts, but is remembered only when it is somebody
 * else's and therefore committed: ours may still be rolled back.
 */
static bool
look_for_seal(Oid relid)
{
	Relation	rel = evs_open(relid, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, SnapshotSelf, 0, NULL);
	bool		sealed = table_scan_getnextslot(scan, ForwardScanDirection, slot);

	if (sealed)
	{
		bool		isnull;
		Datum		xmin = slot_getsysattr(slot, MinTransactionIdAttributeNumber, &isnull);

		if (!TransactionIdIsCurrentTransactionId(DatumGetTransactionId(xmin)))
			seen_sealed = relid;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	return sealed;
}

bool
evs_is_sealed(void)
{
	Oid			relid = evs_catalog()->sealed;

	return seen_sealed == relid || look_for_seal(relid);
}

static void
insert_row(Oid relid, int natts, Datum *values)
{
	Relation	rel = evs_open(relid, RowExclusiveLock);
	EvsWriter  *writer = evs_writer_open(rel);
	TupleTableSlot *slot = evs_writer_slot(writer, 1);

	memset(slot->tts_isnull, false, sizeof(bool) * natts);
	memcpy(slot->tts_values, values, sizeof(Datum) * natts);
	evs_writer_add(writer, 0);
	evs_writer_close(writer);
	table_close(rel, NoLock);
}

static void
insert_instance(void)
{
	Datum		values[3];

	values[0] = Int64GetDatum((int64) GetSystemIdentifier());
	values[1] = ObjectIdGetDatum(MyDatabaseId);
	values[2] = TimestampTzGetDatum(GetCurrentTimestamp());
	insert_row(evs_catalog()->instance, 3, values);
}

void
evs_seal(void)
{
	Oid			relid = evs_catalog()->sealed;
	Datum		now;

	if (likely(seen_sealed == relid) || look_for_seal(relid))
		return;
	now = TimestampTzGetDatum(GetCurrentTimestamp());
	insert_row(relid, 1, &now);
	CommandCounterIncrement();
}

void
evs_instance_init(void)
{
	insert_instance();
	CommandCounterIncrement();
}

/* A store without partitions is not a copy of anything. */
static bool
has_leaves(void)
{
	Relation	log = evs_open(evs_catalog()->event_log, AccessShareLock);
	int64		end = evs_leaf_end(log);

	relation_close(log, AccessShareLock);
	return end > 1;
}

bool
evs_instance_is_here(int64 system_identifier, Oid database)
{
	return (uint64) system_identifier == GetSystemIdentifier() && database == MyDatabaseId;
}

bool
evs_instance_is_ours(void)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	Relation	rel = evs_open(evs_catalog()->instance, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	bool		ours = false;

	while (!ours && table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;

		ours = evs_instance_is_here(DatumGetInt64(slot_getattr(slot, 1, &isnull)),
									DatumGetObjectId(slot_getattr(slot, 2, &isnull)));
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	relation_close(rel, AccessShareLock);
	UnregisterSnapshot(snapshot);
	return ours || !has_leaves();
}

void
evs_instance_adopt(void)
{
	Relation	rel = evs_open(evs_catalog()->instance, ShareRowExclusiveLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, SnapshotSelf, 0, NULL);
	EvsWriter  *writer = evs_writer_open(rel);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		evs_writer_delete(writer, &slot->tts_tid);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	evs_writer_close(writer);
	insert_instance();
	table_close(rel, NoLock);
}

static const char *
operation_name(TriggerEvent event)
{
	if (TRIGGER_FIRED_BY_INSERT(event))
		return "INSERT";
	if (TRIGGER_FIRED_BY_UPDATE(event))
		return "UPDATE";
	if (TRIGGER_FIRED_BY_DELETE(event))
		return "DELETE";
	return "TRUNCATE";
}

/*
 * _guard() → trigger: refuse DML.  A statement trigger, so it also fires for
 * statements that touch no row, and costs nothing a row.  evstore's own writes
 * do not come this way, so there is no exception to be made for them, and
 * nothing that could be set to get past.
 */
Datum
evs_guard(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	StringInfoData detail;
	const char *operation;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"_guard\" must be called as a trigger")));

	operation = operation_name(data->tg_event);
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event) &&
		RelationGetRelid(data->tg_relation) != evs_catalog()->sealed && !evs_is_sealed())
		return PointerGetDatum(NULL);

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "table", RelationGetRelationName(data->tg_relation));
	evs_detail_string(&detail, "operation", operation);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_APPEND_ONLY),
			 errmsg("events are append-only: %s on table \"%s\" is not allowed",
					operation, RelationGetRelationName(data->tg_relation)),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 errhint("Use evstore's functions: append, delete_stream, truncate_stream, scavenge.")));
	return PointerGetDatum(NULL);
}
