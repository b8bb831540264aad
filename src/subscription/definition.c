/*
 * definition.c
 *	  Subscriptions as they are defined, and where their events belong.
 *
 * A session keeps the definitions that it has used, filters compiled.  A
 * trigger on evstore.subscription invalidates the table's relcache entry with
 * each change, so all sessions hear of it when it commits.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/errors.h"
#include "base/guc.h"
#include "base/shmem.h"
#include "catalog/catalog.h"
#include "catalog/scan.h"
#include "stream/path.h"
#include "stream/stream.h"
#include "subscription/definition.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_subscription_changed);

static EvsTableVersion version = {.number = 1};
static uint64 cached_version = 0;
static MemoryContext cache_context = NULL;
static List *cache = NIL;
static int	pins = 0;

uint64
evs_subscription_version(void)
{
	return evs_table_version(&version);
}

/* _subscription_changed() → trigger */
Datum
evs_subscription_changed(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"_subscription_changed\" must be called as a trigger")));
	CacheInvalidateRelcache(data->tg_relation);
	return PointerGetDatum(NULL);
}

static int
get_max_attempts(Jsonb *retry)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(&retry->root, "max_attempts", strlen("max_attempts"),
									 &value) == NULL ||
		value.type != jbvNumeric)
		return 1;
	return DatumGetInt32(DirectFunctionCall1(numeric_int4, NumericGetDatum(value.val.numeric)));
}

static void
set_key(EvsSubscription *subscription, char *key)
{
	if (strcmp(key, "stream") == 0)
		subscription->key_kind = EVS_KEY_STREAM;
	else if (strcmp(key, "correlation") == 0)
		subscription->key_kind = EVS_KEY_CORRELATION;
	else if (strcmp(key, "none") == 0)
		subscription->key_kind = EVS_KEY_NONE;
	else
	{
		subscription->key_kind = EVS_KEY_PATH;
		subscription->key_path = evs_path_parse(key, "option \"key\"", "$.options.key");
	}
}

static EvsSubscription *
from_row(TupleTableSlot *row)
{
	EvsSubscription *result = palloc0(sizeof(EvsSubscription));
	bool		isnull;
	Datum		value;

	result->id = DatumGetInt64(slot_getattr(row, Anum_subscription_id, &isnull));
	result->name = TextDatumGetCString(slot_getattr(row, Anum_subscription_name, &isnull));
	result->filter = evs_filter_compile(DatumGetJsonbPCopy(slot_getattr(row,
																		Anum_subscription_filter,
																		&isnull)));
	set_key(result, TextDatumGetCString(slot_getattr(row, Anum_subscription_key, &isnull)));
	result->slots = DatumGetInt32(slot_getattr(row, Anum_subscription_slots, &isnull));
	value = slot_getattr(row, Anum_subscription_lease, &isnull);
	result->lease = isnull ? 0 : DatumGetInt32(value);
	result->max_attempts = get_max_attempts(DatumGetJsonbP(slot_getattr(row,
																		Anum_subscription_retry,
																		&isnull)));
	result->notify = DatumGetBool(slot_getattr(row, Anum_subscription_notify, &isnull));
	result->paused = DatumGetBool(slot_getattr(row, Anum_subscription_paused, &isnull));
	value = slot_getattr(row, Anum_subscription_next_slots, &isnull);
	result->next_slots = isnull ? 0 : DatumGetInt32(value);
	value = slot_getattr(row, Anum_subscription_drain_to, &isnull);
	result->drain_to = isnull ? 0 : DatumGetInt64(value);
	result->kind = TextDatumGetCString(slot_getattr(row, Anum_subscription_kind, &isnull));
	return result;
}

/* Found by name, in the current memory context; or NULL. */
static EvsSubscription *
look_up(Relation rel, const char *name)
{
	ScanKeyData key;
	EvsScan		scan;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	EvsSubscription *result = NULL;

	/* not SnapshotSelf: between two versions of a changed row it may see none */
	evs_key_text(&key, 1, BTEqualStrategyNumber, CStringGetTextDatum(name));
	evs_scan_begin(&scan, rel, evs_catalog()->subscription_name_key, snapshot, 1, &key,
				   ForwardScanDirection);
	if (evs_scan_next(&scan))
		result = from_row(scan.slot);
	evs_scan_end(&scan, AccessShareLock);
	UnregisterSnapshot(snapshot);
	return result;
}

static void
throw_not_found(const char *name)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "subscription", name);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_OBJECT_NOT_FOUND),
			 errmsg("subscription \"%s\" does not exist", name),
			 errdetail_internal("%s", evs_detail_end(&detail))));
}

static EvsSubscription *
find_cached(const char *name)
{
	ListCell   *cell;

	foreach(cell, cache)
	{
		EvsSubscription *subscription = lfirst(cell);

		if (strcmp(subscription->name, name) == 0)
			return subscription;
	}
	return NULL;
}

static void
reset_cache(void)
{
	if (cache_context == NULL)
		cache_context = AllocSetContextCreate(TopMemoryContext, "evstore subscriptions",
											  ALLOCSET_SMALL_SIZES);
	cache = NIL;
	if (pins == 0)
		MemoryContextReset(cache_context);
}

static void
unpin(void *arg)
{
	pins--;
}

void
evs_subscription_pin(void)
{
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));

	callback->func = unpin;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	pins++;
}

const EvsSubscription *
evs_subscription_find(const char *name)
{
	Relation	rel = evs_open(evs_catalog()->subscription, AccessShareLock);
	uint64		before;
	EvsSubscription *result;

	/* a transaction that has the lock already would let none in by taking it */
	AcceptInvalidationMessages();
	before = evs_subscription_version();
	version.relid = RelationGetRelid(rel);
	if (cached_version != before)
		reset_cache();
	result = find_cached(name);
	if (result == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(cache_context);

		result = look_up(rel, name);
		if (result == NULL)
			throw_not_found(name);
		cache = lappend(cache, result);
		MemoryContextSwitchTo(old);
	}
	cached_version = before;
	relation_close(rel, AccessShareLock);
	if (result->lease == 0)
	{
		static EvsSubscription with_default;

		with_default = *result;
		with_default.lease = evs_guc_default_lease;
		return &with_default;
	}
	return result;
}

void
evs_subscription_check_open(const EvsSubscription *subscription)
{
	if (strcmp(subscription->kind, "subscription") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("\"%s\" is a %s", subscription->name, subscription->kind),
				 errhint("Use the functions of %ss.", subscription->kind)));
}

/*
 * alter_subscription() and the end of a drain hold the locks of slots until
 * they have committed, and so have sent their invalidations.
 */
bool
evs_subscription_is_current(const EvsSubscription *subscription)
{
	Relation	rel;
	EvsSubscription *now;

	AcceptInvalidationMessages();
	if (cached_version == evs_subscription_version())
		return true;
	rel = evs_open(evs_catalog()->subscription, AccessShareLock);
	now = look_up(rel, subscription->name);
	relation_close(rel, AccessShareLock);
	return now != NULL && now->id == subscription->id && now->slots == subscription->slots &&
		now->next_slots == subscription->next_slots && now->drain_to == subscription->drain_to;
}

List *
evs_subscription_list(void)
{
	Relation	rel = evs_open(evs_catalog()->subscription, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *row = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	List	   *result = NIL;

	version.relid = RelationGetRelid(rel);
	while (table_scan_getnextslot(scan, ForwardScanDirection, row))
		result = lappend(result, from_row(row));
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(row);
	UnregisterSnapshot(snapshot);
	relation_close(rel, AccessShareLock);
	return result;
}

char *
evs_subscription_check_name(struct varlena *value)
{
	char	   *name;

	if (value == NULL)
		evs_throw_null("name");
	name = text_to_cstring(value);
	if (name[0] == '\0' || strlen(name) > EVS_SUBSCRIPTION_NAME_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a subscription must have 1 to %d bytes",
						EVS_SUBSCRIPTION_NAME_MAX)));
	return name;
}

int
evs_subscription_bucket(int64 id)
{
	return (int) (id % EVS_WAIT_BUCKETS);
}

/* 64-bit finaliser of MurmurHash3, folded: ids are dense, and slots are few. */
uint32
evs_stream_key_hash(int64 stream_id)
{
	uint64		h = (uint64) stream_id;

	h ^= h >> 33;
	h *= UINT64CONST(0xff51afd7ed558ccd);
	h ^= h >> 33;
	h *= UINT64CONST(0xc4ceb9fe1a85ec53);
	h ^= h >> 33;
	return (uint32) h;
}

int
evs_subscription_slot_of(uint32 key_hash, int slots)
{
	return (int) (key_hash % (uint32) slots);
}

bool
evs_subscription_is_other_slot(void *arg, int64 stream_id)
{
	EvsSlotFilter *filter = arg;

	return evs_subscription_slot_of(evs_stream_key_hash(stream_id), filter->slots) != filter->slot;
}

/* The event's key, or NULL: then it is its stream. */
static text *
explicit_key(const EvsSubscription *subscription, EvsLogCursor *cursor)
{
	bool		isnull;
	Datum		value;

	switch (subscription->key_kind)
	{
		case EVS_KEY_STREAM:
		case EVS_KEY_NONE:
			break;
		case EVS_KEY_CORRELATION:
			value = evs_leaf_get(evs_cursor_leaf(cursor), evs_cursor_slot(cursor),
								 EVS_LOG_CORRELATION_ID, &isnull);
			return isnull ? NULL : DatumGetTextPP(value);
		case EVS_KEY_PATH:
			value = evs_leaf_get(evs_cursor_leaf(cursor), evs_cursor_slot(cursor),
								 EVS_LOG_DATA, &isnull);
			return evs_path_text(subscription->key_path, value);
	}
	return NULL;
}

EvsOrderingKey
evs_subscription_key(const EvsSubscription *subscription, EvsLogCursor *cursor, bool with_text)
{
	text	   *key = explicit_key(subscription, cursor);
	EvsOrderingKey result;

	if (subscription->key_kind == EVS_KEY_NONE)
	{
		result.hash = evs_stream_key_hash(evs_cursor_position(cursor));
		result.key = with_text ? cstring_to_text("") : NULL;
		return result;
	}
	if (key == NULL)
	{
		result.hash = evs_stream_key_hash(evs_cursor_stream_id(cursor));
		result.key = with_text ? evs_cursor_stream_name(cursor) : NULL;
		return result;
	}
	/* FNV-1a leaves the low bits of short texts alike; mix them */
	result.hash = evs_stream_key_hash((uint32) evs_category_hash(VARDATA_ANY(key),
																 VARSIZE_ANY_EXHDR(key)));
	result.key = key;
	return result;
}
