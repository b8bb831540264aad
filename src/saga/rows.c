/*
 * rows.c
 *	  Rows of sagas' tables, as a transition reads and writes them.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/debug_point.h"
#include "catalog/catalog.h"
#include "catalog/scan.h"
#include "exec/heap_writer.h"
#include "saga/rows.h"
#include "saga/step.h"
#include "compat.h"

static char *
get_text(TupleTableSlot *slot, AttrNumber attno)
{
	return slot->tts_isnull[attno - 1] ? NULL : TextDatumGetCString(slot->tts_values[attno - 1]);
}

static Jsonb *
get_jsonb(TupleTableSlot *slot, AttrNumber attno)
{
	return slot->tts_isnull[attno - 1] ? NULL : DatumGetJsonbPCopy(slot->tts_values[attno - 1]);
}

static int64
get_int8(TupleTableSlot *slot, AttrNumber attno)
{
	return slot->tts_isnull[attno - 1] ? 0 : DatumGetInt64(slot->tts_values[attno - 1]);
}

static bool
get_uuid(TupleTableSlot *slot, AttrNumber attno, pg_uuid_t *uuid)
{
	if (slot->tts_isnull[attno - 1])
		return false;
	*uuid = *DatumGetUUIDP(slot->tts_values[attno - 1]);
	return true;
}

static void
set(TupleTableSlot *slot, AttrNumber attno, Datum value)
{
	slot->tts_values[attno - 1] = value;
	slot->tts_isnull[attno - 1] = false;
}

static void
set_text(TupleTableSlot *slot, AttrNumber attno, const char *value)
{
	slot->tts_isnull[attno - 1] = value == NULL;
	if (value != NULL)
		slot->tts_values[attno - 1] = CStringGetTextDatum(value);
}

static void
set_jsonb(TupleTableSlot *slot, AttrNumber attno, Jsonb *value)
{
	slot->tts_isnull[attno - 1] = value == NULL;
	slot->tts_values[attno - 1] = JsonbPGetDatum(value);
}

/* A time, or null for "never". */
static void
set_time(TupleTableSlot *slot, AttrNumber attno, TimestampTz value, TimestampTz never)
{
	slot->tts_isnull[attno - 1] = value == never;
	slot->tts_values[attno - 1] = TimestampTzGetDatum(value);
}

static void
set_uuid(TupleTableSlot *slot, AttrNumber attno, const pg_uuid_t *value)
{
	slot->tts_isnull[attno - 1] = value == NULL;
	slot->tts_values[attno - 1] = UUIDPGetDatum(value);
}

/* An empty row. */
static void
clear_row(TupleTableSlot *slot)
{
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
}

/* ---- instances ---- */

static EvsSagaStatus
read_status(TupleTableSlot *slot)
{
	char	   *name = get_text(slot, Anum_saga_instance_status);

	for (EvsSagaStatus status = EVS_SAGA_RUNNING; status <= EVS_SAGA_TIMED_OUT; status++)
		if (strcmp(name, evs_saga_status_name(status)) == 0)
			return status;
	elog(ERROR, "an instance of a saga has status \"%s\"", name);
}

static void
read_instance(TupleTableSlot *slot, EvsInstance *instance)
{
	slot_getallattrs(slot);
#define VALUE(col) slot->tts_values[Anum_saga_instance_##col - 1]
#define ISNULL(col) slot->tts_isnull[Anum_saga_instance_##col - 1]
	(void) get_uuid(slot, Anum_saga_instance_id, &instance->id);
	evs_uuid_text(&instance->id, instance->id_text);
	instance->definition_id = DatumGetInt64(VALUE(definition_id));
	instance->version = DatumGetInt32(VALUE(version));
	instance->status = read_status(slot);
	instance->priority = DatumGetInt16(VALUE(priority));
	instance->next_due = ISNULL(next_due) ? DT_NOEND : DatumGetTimestampTz(VALUE(next_due));
	instance->business_key = get_text(slot, Anum_saga_instance_business_key);
	instance->started_after = DatumGetInt64(VALUE(started_after));
	instance->started_at = DatumGetTimestampTz(VALUE(started_at));
	instance->ended_at = ISNULL(ended_at) ? 0 : DatumGetTimestampTz(VALUE(ended_at));
	instance->has_parent = get_uuid(slot, Anum_saga_instance_parent_id, &instance->parent_id);
	instance->parent_step = get_int8(slot, Anum_saga_instance_parent_step);
	instance->correlation_id = get_text(slot, Anum_saga_instance_correlation_id);
	instance->has_cause = get_uuid(slot, Anum_saga_instance_causation_id, &instance->causation_id);
	instance->transitions = DatumGetInt32(VALUE(transitions));
	instance->failures = DatumGetInt32(VALUE(failures));
	instance->error = get_text(slot, Anum_saga_instance_error);
	instance->cause = get_text(slot, Anum_saga_instance_cause);
	instance->input = get_jsonb(slot, Anum_saga_instance_input);
	instance->output = get_jsonb(slot, Anum_saga_instance_output);
	instance->execution = get_jsonb(slot, Anum_saga_instance_execution);
#undef VALUE
#undef ISNULL
}

/* What a transition changes. */
static void
fill_changes(TupleTableSlot *slot, const EvsInstance *instance, TimestampTz now)
{
	set_text(slot, Anum_saga_instance_status, evs_saga_status_name(instance->status));
	set_time(slot, Anum_saga_instance_next_due, instance->next_due, DT_NOEND);
	set(slot, Anum_saga_instance_updated_at, TimestampTzGetDatum(now));
	set_time(slot, Anum_saga_instance_ended_at, instance->ended_at, 0);
	set_uuid(slot, Anum_saga_instance_causation_id,
			 instance->has_cause ? &instance->causation_id : NULL);
	set(slot, Anum_saga_instance_transitions, Int32GetDatum(instance->transitions));
	set(slot, Anum_saga_instance_failures, Int32GetDatum(instance->failures));
	set_text(slot, Anum_saga_instance_error, instance->error);
	set_text(slot, Anum_saga_instance_cause, instance->cause);
	set_text(slot, Anum_saga_instance_last_error, NULL);
	set_jsonb(slot, Anum_saga_instance_output, instance->output);
	set_jsonb(slot, Anum_saga_instance_execution, instance->execution);
}

static void
fill_instance(TupleTableSlot *slot, const EvsInstance *instance, TimestampTz now)
{
	clear_row(slot);
	set_uuid(slot, Anum_saga_instance_id, &instance->id);
	set(slot, Anum_saga_instance_definition_id, Int64GetDatum(instance->definition_id));
	set(slot, Anum_saga_instance_version, Int32GetDatum(instance->version));
	set(slot, Anum_saga_instance_priority, Int16GetDatum(instance->priority));
	set_text(slot, Anum_saga_instance_business_key, instance->business_key);
	set(slot, Anum_saga_instance_started_after, Int64GetDatum(instance->started_after));
	set(slot, Anum_saga_instance_started_at, TimestampTzGetDatum(instance->started_at));
	if (instance->has_parent)
	{
		set_uuid(slot, Anum_saga_instance_parent_id, &instance->parent_id);
		set(slot, Anum_saga_instance_parent_step, Int64GetDatum(instance->parent_step));
	}
	set_text(slot, Anum_saga_instance_correlation_id, instance->correlation_id);
	set_jsonb(slot, Anum_saga_instance_input, instance->input);
	fill_changes(slot, instance, now);
}

/* The newest version of the row that the scan has found. */
static EvsLockResult
lock_found(Relation rel, TupleTableSlot *slot, bool *again)
{
	TM_FailureData failure;
	TM_Result	result;

	*again = false;
	result = table_tuple_lock(rel, &slot->tts_tid, SnapshotAny, slot, GetCurrentCommandId(false),
							  LockTupleNoKeyExclusive, LockWaitSkip,
							  TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
	switch (result)
	{
		case TM_Ok:
			return EVS_LOCKED;
		case TM_WouldBlock:
			return EVS_LOCK_BUSY;
		case TM_Updated:
		case TM_Deleted:
			*again = true;
			return EVS_LOCK_GONE;
		default:
			elog(ERROR, "unexpected result %d of locking an instance of a saga", result);
	}
}

/* The row that the snapshot sees, in its newest version. */
static EvsLockResult
lock_seen(Relation rel, const pg_uuid_t *id, Snapshot snapshot, EvsLockedInstance *locked,
		  bool *again)
{
	EvsLockResult result = EVS_LOCK_GONE;
	ScanKeyData key;
	EvsScan		scan;

	*again = false;
	evs_key_uuid(&key, 1, UUIDPGetDatum(id));
	evs_scan_begin(&scan, rel, evs_catalog()->saga_instance_pkey, snapshot, 1, &key,
				   ForwardScanDirection);
	if (evs_scan_next_at(&scan, "evstore.saga_found"))
		result = lock_found(rel, scan.slot, again);
	if (result == EVS_LOCKED)
	{
		locked->slot = table_slot_create(rel, NULL);
		ExecCopySlot(locked->slot, scan.slot);
		ExecMaterializeSlot(locked->slot);
		locked->slot->tts_tid = scan.slot->tts_tid;
		read_instance(locked->slot, &locked->instance);
	}
	evs_scan_end(&scan, NoLock);
	return result;
}

EvsLockResult
evs_rows_lock_instance(Relation rel, const pg_uuid_t *id, EvsLockedInstance *locked)
{
	EvsLockResult result;
	bool		again;

	memset(locked, 0, sizeof(*locked));
	do
	{
		CHECK_FOR_INTERRUPTS();
		result = lock_seen(rel, id, SnapshotSelf, locked, &again);
		if (result == EVS_LOCK_GONE && !again)
		{
			/* between two versions of a row that is being changed it may see none */
			Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

			result = lock_seen(rel, id, snapshot, locked, &again);
			UnregisterSnapshot(snapshot);
		}
	} while (again);
	return result;
}

void
evs_rows_unlock_instance(EvsLockedInstance *locked)
{
	ExecDropSingleTupleTableSlot(locked->slot);
}

void
evs_rows_store_instance(Relation rel, EvsLockedInstance *locked, TimestampTz now)
{
	EvsWriter  *writer = evs_writer_open(rel);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	int			n = slot->tts_tupleDescriptor->natts;

	ExecClearTuple(slot);
	memcpy(slot->tts_values, locked->slot->tts_values, sizeof(Datum) * n);
	memcpy(slot->tts_isnull, locked->slot->tts_isnull, sizeof(bool) * n);
	fill_changes(slot, &locked->instance, now);
	ExecStoreVirtualTuple(slot);
	evs_writer_update(writer, &locked->slot->tts_tid, slot);
	ExecDropSingleTupleTableSlot(slot);
	evs_writer_close(writer);
	CommandCounterIncrement();
}

/* Whose key is it? */
static bool
find_by_key(Relation rel, const EvsInstance *instance, pg_uuid_t *id)
{
	ScanKeyData keys[2];
	EvsScan		scan;
	bool		found;

	evs_key_int8(&keys[0], 1, BTEqualStrategyNumber, instance->definition_id);
	evs_key_text(&keys[1], 2, BTEqualStrategyNumber, CStringGetTextDatum(instance->business_key));
	evs_scan_begin(&scan, rel, evs_catalog()->saga_instance_key, SnapshotSelf, 2, keys,
				   ForwardScanDirection);
	found = evs_scan_next(&scan);
	if (found)
	{
		slot_getallattrs(scan.slot);
		(void) get_uuid(scan.slot, Anum_saga_instance_id, id);
	}
	evs_scan_end(&scan, NoLock);
	return found;
}

static bool
insert_if_free(Relation rel, const EvsInstance *instance, TimestampTz now)
{
	EvsWriter  *writer = evs_writer_open(rel);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Oid			key = evs_catalog()->saga_instance_key;
	bool		inserted;

	fill_instance(slot, instance, now);
	ExecStoreVirtualTuple(slot);
	inserted = evs_writer_key_is_free(writer, slot, key);
	EVS_DEBUG_POINT("saga_key_free");
	inserted = inserted && evs_writer_insert_if_free(writer, slot, key);
	ExecDropSingleTupleTableSlot(slot);
	evs_writer_close(writer);
	return inserted;
}

static void
insert_row(Relation rel, const EvsInstance *instance, TimestampTz now)
{
	EvsWriter  *writer = evs_writer_open(rel);

	fill_instance(evs_writer_slot(writer, 1), instance, now);
	evs_writer_add(writer, 0);
	evs_writer_close(writer);
}

bool
evs_rows_insert_instance(const EvsInstance *instance, TimestampTz now, pg_uuid_t *id)
{
	Relation	rel = evs_open(evs_catalog()->saga_instance, RowExclusiveLock);
	bool		inserted = true;

	if (instance->business_key == NULL)
		insert_row(rel, instance, now);
	else
	{
		/* the one in the way may be gone when it is looked for */
		do
		{
			CHECK_FOR_INTERRUPTS();
			inserted = !find_by_key(rel, instance, id) && insert_if_free(rel, instance, now);
		} while (!inserted && !find_by_key(rel, instance, id));
	}
	if (inserted)
		*id = instance->id;
	relation_close(rel, NoLock);
	CommandCounterIncrement();
	return inserted;
}

/* ---- mail ---- */

bool
evs_rows_oldest_mail(Relation rel, const pg_uuid_t *saga_id, EvsMail *mail)
{
	ScanKeyData key;
	EvsScan		scan;
	bool		found;

	evs_key_uuid(&key, 1, UUIDPGetDatum(saga_id));
	evs_scan_begin(&scan, rel, evs_catalog()->saga_mail_saga_idx, SnapshotSelf, 1, &key,
				   ForwardScanDirection);
	found = evs_scan_next(&scan);
	if (found)
	{
		TupleTableSlot *slot = scan.slot;

		slot_getallattrs(slot);
		mail->tid = slot->tts_tid;
		mail->kind = get_text(slot, Anum_saga_mail_kind);
		mail->step = get_int8(slot, Anum_saga_mail_step);
		mail->name = get_text(slot, Anum_saga_mail_name);
		mail->payload = get_jsonb(slot, Anum_saga_mail_payload);
		mail->error = get_text(slot, Anum_saga_mail_error);
		mail->cause = get_text(slot, Anum_saga_mail_cause);
	}
	evs_scan_end(&scan, NoLock);
	return found;
}

void
evs_rows_delete_mail(Relation rel, EvsMail *mail)
{
	EvsWriter  *writer = evs_writer_open(rel);

	evs_writer_delete(writer, &mail->tid);
	evs_writer_close(writer);
	CommandCounterIncrement();
}

/* ---- steps ---- */

static void
fill_result(TupleTableSlot *slot, const EvsStepResult *result, TimestampTz ended_at)
{
	set_text(slot, Anum_saga_step_status, result->ok ? "succeeded" : "failed");
	set_text(slot, Anum_saga_step_outcome,
			 evs_outcome_name(result->ok ? EVS_OUTCOME_SUCCEEDED : EVS_OUTCOME_NO_EFFECT));
	set(slot, Anum_saga_step_ended_at, TimestampTzGetDatum(ended_at));
	set_text(slot, Anum_saga_step_error, result->error);
	set_text(slot, Anum_saga_step_cause, result->cause);
	set_jsonb(slot, Anum_saga_step_output, result->output);
}

static void
fill_step(TupleTableSlot *slot, const EvsStartedStep *step)
{
	const EvsSagaAction *action = step->action;

	clear_row(slot);
	set_uuid(slot, Anum_saga_step_saga_id, &step->saga_id);
	set(slot, Anum_saga_step_step, Int64GetDatum(step->step));
	set_text(slot, Anum_saga_step_state, action->state);
	set(slot, Anum_saga_step_visit, Int32GetDatum(action->visit));
	set(slot, Anum_saga_step_attempt, Int32GetDatum(action->attempt));
	set_text(slot, Anum_saga_step_kind, evs_resource_kind_name(action->resource->kind));
	set_text(slot, Anum_saga_step_resource, action->resource->text);
	if (action->compensates != 0)
		set(slot, Anum_saga_step_compensates, Int64GetDatum(action->compensates));
	set_text(slot, Anum_saga_step_status, "running");
	set(slot, Anum_saga_step_started_at, TimestampTzGetDatum(step->now));
	set_time(slot, Anum_saga_step_timeout_at, action->timeout_at, DT_NOEND);
	if (action->heartbeat > 0)
		set(slot, Anum_saga_step_heartbeat, Float8GetDatum(action->heartbeat));
	set_time(slot, Anum_saga_step_heartbeat_at, action->heartbeat_at, DT_NOEND);
	set_text(slot, Anum_saga_step_name, action->resource->name);
	set_text(slot, Anum_saga_step_owner, step->owner);
	set_jsonb(slot, Anum_saga_step_input, action->payload);
}

void
evs_rows_insert_step(const EvsStartedStep *step, const EvsStepResult *result, TimestampTz ended_at)
{
	Relation	rel = evs_open(evs_catalog()->saga_step, RowExclusiveLock);
	EvsWriter  *writer = evs_writer_open(rel);
	TupleTableSlot *slot = evs_writer_slot(writer, 1);

	fill_step(slot, step);
	if (result != NULL)
		fill_result(slot, result, ended_at);
	else
		set_uuid(slot, Anum_saga_step_token, &step->token);
	evs_writer_add(writer, 0);
	evs_writer_close(writer);
	relation_close(rel, NoLock);
	CommandCounterIncrement();
}
