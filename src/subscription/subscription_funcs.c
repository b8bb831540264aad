/*
 * subscription_funcs.c
 *	  SQL functions for consumers, and those behind SQL functions for operators.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/xact.h"
#include "catalog/catalog.h"
#include "stream/cursor.h"
#include "stream/path.h"
#include "stream/position.h"
#include "stream/safe_point.h"
#include "subscription/ack.h"
#include "subscription/definition.h"
#include "subscription/fetch.h"
#include "subscription/slots.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_fetch);
PG_FUNCTION_INFO_V1(evs_wait_for_events);
PG_FUNCTION_INFO_V1(evs_ack);
PG_FUNCTION_INFO_V1(evs_ack_events);
PG_FUNCTION_INFO_V1(evs_nack);
PG_FUNCTION_INFO_V1(evs_extend);
PG_FUNCTION_INFO_V1(evs_release);
PG_FUNCTION_INFO_V1(evs_slot_reset);
PG_FUNCTION_INFO_V1(evs_slot_refresh);
PG_FUNCTION_INFO_V1(evs_slot_events);
PG_FUNCTION_INFO_V1(evs_event_key);
PG_FUNCTION_INFO_V1(evs_slot_lock_sql);
PG_FUNCTION_INFO_V1(evs_subscription_lag);
PG_FUNCTION_INFO_V1(evs_check_filter);
PG_FUNCTION_INFO_V1(evs_check_key);
PG_FUNCTION_INFO_V1(evs_kick);
PG_FUNCTION_INFO_V1(evs_slot_claimed);

#define CONSUMER_NAME_MAX 256
#define FETCH_MAX 10000
#define WAIT_MS_MAX 3600000

/* A lag of more events than this is estimated. */
#define LAG_COUNT_MAX 100000

static char *
get_name(FunctionCallInfo fcinfo, int arg)
{
	return evs_subscription_check_name(PG_ARGISNULL(arg) ? NULL :
									   (struct varlena *) PG_GETARG_TEXT_PP(arg));
}

static char *
get_consumer(FunctionCallInfo fcinfo, int arg)
{
	char	   *consumer;

	if (PG_ARGISNULL(arg))
		evs_throw_null("consumer");
	consumer = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	if (consumer[0] == '\0' || strlen(consumer) > CONSUMER_NAME_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a consumer must have 1 to %d bytes", CONSUMER_NAME_MAX)));
	return consumer;
}

static int64
get_number(FunctionCallInfo fcinfo, int arg, const char *argument, int64 low, int64 high)
{
	int64		value;

	if (PG_ARGISNULL(arg))
		evs_throw_null(argument);
	value = PG_GETARG_INT64(arg);
	if (value < low || value > high)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be between " INT64_FORMAT " and " INT64_FORMAT,
						argument, low, high)));
	return value;
}

static void
begin_call(const char *function)
{
	PreventCommandIfReadOnly(psprintf("evstore %s", function));
	evs_check_consumer(ACL_UPDATE);
}

/* fetch(name, consumer, max_count, wait_ms) */
Datum
evs_fetch(PG_FUNCTION_ARGS)
{
	EvsFetch	request;

	InitMaterializedSRF(fcinfo, 0);
	request.name = get_name(fcinfo, 0);
	request.consumer = get_consumer(fcinfo, 1);
	request.max_count = get_number(fcinfo, 2, "max_count", 0, FETCH_MAX);
	request.wait_ms = get_number(fcinfo, 3, "wait_ms", 0, WAIT_MS_MAX);
	begin_call("fetch");
	if (request.max_count == 0)
		(void) evs_subscription_find(request.name);
	else
		evs_fetch_events(&request, (ReturnSetInfo *) fcinfo->resultinfo);
	return (Datum) 0;
}

/* CALL wait_for_events(name, wait_ms, consumer) */
Datum
evs_wait_for_events(PG_FUNCTION_ARGS)
{
	EvsFetch	request = {0};

	request.name = get_name(fcinfo, 0);
	request.wait_ms = get_number(fcinfo, 1, "wait_ms", 0, WAIT_MS_MAX);
	if (!PG_ARGISNULL(2))
		request.consumer = get_consumer(fcinfo, 2);
	begin_call("wait_for_events");
	evs_fetch_wait(fcinfo, &request);
	PG_RETURN_VOID();
}

static void
get_claim(FunctionCallInfo fcinfo, EvsClaim *claim)
{
	claim->name = get_name(fcinfo, 0);
	if (PG_ARGISNULL(1))
		evs_throw_null("slot");
	claim->slot = PG_GETARG_INT32(1);
	if (PG_ARGISNULL(2))
		evs_throw_null("epoch");
	claim->epoch = PG_GETARG_INT64(2);
}

/* ack(name, slot, epoch, up_to) */
Datum
evs_ack(PG_FUNCTION_ARGS)
{
	EvsClaim	claim;
	int64		up_to;

	get_claim(fcinfo, &claim);
	up_to = get_number(fcinfo, 3, "up_to", 0, PG_INT64_MAX);
	begin_call("ack");
	PG_RETURN_INT64(evs_ack_up_to(&claim, up_to));
}

/* ack_events(name, slot, epoch, positions) */
Datum
evs_ack_events(PG_FUNCTION_ARGS)
{
	EvsClaim	claim;

	get_claim(fcinfo, &claim);
	if (PG_ARGISNULL(3))
		evs_throw_null("positions");
	begin_call("ack_events");
	PG_RETURN_INT64(evs_ack_positions(&claim, PG_GETARG_DATUM(3)));
}

static char *
get_action(FunctionCallInfo fcinfo, int arg)
{
	static const char *const actions[] = {"retry", "defer", "park", "skip", "bisect"};
	char	   *action;

	if (PG_ARGISNULL(arg))
		evs_throw_null("action");
	action = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	for (int i = 0; i < (int) lengthof(actions); i++)
		if (strcmp(action, actions[i]) == 0)
			return action;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("argument \"action\" must not be \"%s\"", action),
			 errhint("Use 'retry', 'defer', 'park', 'skip' or 'bisect'.")));
	return NULL;
}

/* nack(name, slot, epoch, at_position, error, action, delay) */
Datum
evs_nack(PG_FUNCTION_ARGS)
{
	EvsClaim	claim;
	EvsNack		nack = {0};

	get_claim(fcinfo, &claim);
	nack.position = get_number(fcinfo, 3, "at_position", 0, PG_INT64_MAX);
	nack.has_error = !PG_ARGISNULL(4);
	if (nack.has_error)
		nack.error = PG_GETARG_DATUM(4);
	nack.action = get_action(fcinfo, 5);
	nack.has_delay = !PG_ARGISNULL(6);
	if (nack.has_delay)
		nack.delay = PG_GETARG_DATUM(6);
	begin_call("nack");
	PG_RETURN_INT64(evs_nack_event(&claim, &nack));
}

/* extend(name, slot, epoch, lease) */
Datum
evs_extend(PG_FUNCTION_ARGS)
{
	EvsClaim	claim;
	int64		ms = 0;

	get_claim(fcinfo, &claim);
	if (!PG_ARGISNULL(3))
	{
		Interval   *lease = PG_GETARG_INTERVAL_P(3);

		ms = lease->time / 1000 + ((int64) lease->day + (int64) lease->month * DAYS_PER_MONTH) *
			(USECS_PER_DAY / 1000);
		if (ms < 1 || ms > (int64) 7 * USECS_PER_DAY / 1000)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"lease\" must be between 1 ms and 7 days")));
	}
	begin_call("extend");
	PG_RETURN_TIMESTAMPTZ(evs_claim_extend(&claim, ms));
}

/* release(name, consumer) */
Datum
evs_release(PG_FUNCTION_ARGS)
{
	char	   *name = get_name(fcinfo, 0);
	char	   *consumer = get_consumer(fcinfo, 1);

	begin_call("release");
	PG_RETURN_INT32(evs_claim_release(name, consumer));
}

/* _slot_reset(subscription_id, slot, at_position) */
Datum
evs_slot_reset(PG_FUNCTION_ARGS)
{
	evs_check_internal();
	evs_slots_reset(PG_GETARG_INT64(0), PG_GETARG_INT32(1), PG_GETARG_INT64(2));
	PG_RETURN_VOID();
}

/* _slot_refresh(subscription_id, slot) */
Datum
evs_slot_refresh(PG_FUNCTION_ARGS)
{
	evs_check_internal();
	evs_slots_refresh(PG_GETARG_INT64(0), PG_GETARG_INT32(1));
	PG_RETURN_VOID();
}

/* _slot_lock(subscription_id, slot) */
Datum
evs_slot_lock_sql(PG_FUNCTION_ARGS)
{
	evs_check_internal();
	(void) evs_slot_lock(PG_GETARG_INT64(0), PG_GETARG_INT32(1), true);
	PG_RETURN_VOID();
}

/* _kick(subscription_id): at commit, have those who wait look again */
Datum
evs_kick(PG_FUNCTION_ARGS)
{
	evs_check_internal();
	evs_xact_kick(evs_subscription_bucket(PG_GETARG_INT64(0)));
	PG_RETURN_VOID();
}

/* _slot_claimed(consumer, pid, lease_until): by somebody who is still there? */
Datum
evs_slot_claimed(PG_FUNCTION_ARGS)
{
	EvsSlot		slot = {0};

	if (PG_ARGISNULL(0))
		PG_RETURN_BOOL(false);
	slot.consumer = text_to_cstring(PG_GETARG_TEXT_PP(0));
	slot.pid = PG_GETARG_INT32(1);
	slot.lease_until = PG_GETARG_TIMESTAMPTZ(2);
	PG_RETURN_BOOL(evs_slot_is_claimed(&slot, evs_clock_now()));
}

/* _slot_events(name, slot, after, up_to) → setof (at_position, key_hash, key) */
Datum
evs_slot_events(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	EvsSubscription subscription;
	EvsLogRange range = {.after = PG_GETARG_INT64(2), .up_to = PG_GETARG_INT64(3)};
	int			slot = PG_GETARG_INT32(1);
	EvsLogCursor *cursor;

	evs_check_internal();
	InitMaterializedSRF(fcinfo, 0);
	subscription = *evs_subscription_find(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	range.filter = subscription.filter;
	cursor = evs_cursor_open(&range, GetLatestSnapshot());
	while (evs_cursor_next(cursor))
	{
		EvsOrderingKey key = evs_subscription_key(&subscription, cursor, true);
		Datum		values[3];
		bool		nulls[3] = {false};

		if (evs_subscription_slot_of(key.hash, subscription.slots) != slot)
			continue;
		values[0] = Int64GetDatum(evs_cursor_position(cursor));
		values[1] = Int64GetDatum((int64) key.hash);
		values[2] = PointerGetDatum(key.key);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	evs_cursor_close(cursor);
	return (Datum) 0;
}

/* _event_key(name, at_position) → setof (key_hash, key): none if it is not there */
Datum
evs_event_key(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int64		position = PG_GETARG_INT64(1);
	EvsLogRange range = {.after = position - 1, .up_to = position};
	EvsSubscription subscription;
	EvsLogCursor *cursor;

	evs_check_internal();
	InitMaterializedSRF(fcinfo, 0);
	subscription = *evs_subscription_find(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	cursor = evs_cursor_open(&range, GetLatestSnapshot());
	if (evs_cursor_next(cursor))
	{
		EvsOrderingKey key = evs_subscription_key(&subscription, cursor, true);
		Datum		values[2] = {Int64GetDatum((int64) key.hash), PointerGetDatum(key.key)};
		bool		nulls[2] = {false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	evs_cursor_close(cursor);
	return (Datum) 0;
}

/* A standby that has not been told how far it may read knows no lag. */
static bool
lag_is_unknown(void)
{
	Snapshot	snapshot;
	bool		unknown;

	if (!RecoveryInProgress())
		return false;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	unknown = evs_safe_point_find(snapshot) < 0;
	UnregisterSnapshot(snapshot);
	return unknown;
}

/*
 * _subscription_lag(name) → (events, exact, oldest): events that the slots
 * still have before them, by their cursors; or nulls.
 */
Datum
evs_subscription_lag(PG_FUNCTION_ARGS)
{
	EvsSubscription subscription;
	int64		safe;
	EvsLogRange range = {.after = PG_INT64_MAX};
	EvsLogCursor *cursor;
	Relation	states;
	int64	   *cursors;
	int64		n = 0;
	TimestampTz oldest = 0;
	bool		exact = true;
	TupleDesc	desc;
	Datum		values[3] = {0};
	bool		nulls[3] = {false};

	evs_check_consumer(ACL_SELECT);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (lag_is_unknown())
	{
		memset(nulls, true, sizeof(nulls));
		PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
	}
	subscription = *evs_subscription_find(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	safe = evs_position_safe();
	states = evs_open(evs_catalog()->slot_state, AccessShareLock);
	cursors = palloc(sizeof(int64) * subscription.slots);
	for (int i = 0; i < subscription.slots; i++)
	{
		EvsSlot		slot = {0};

		(void) evs_slot_read(states, subscription.id, i, &slot);
		cursors[i] = slot.cursor;
		range.after = Min(range.after, slot.cursor);
	}
	relation_close(states, AccessShareLock);
	range.up_to = safe;
	range.filter = subscription.filter;
	cursor = evs_cursor_open(&range, GetLatestSnapshot());
	while (exact && evs_cursor_next(cursor))
	{
		int64		position = evs_cursor_position(cursor);
		uint32		hash = evs_subscription_key(&subscription, cursor, false).hash;

		if (position <= cursors[evs_subscription_slot_of(hash, subscription.slots)])
			continue;
		if (n++ == 0)
			oldest = evs_leaf_get_int8(evs_cursor_leaf(cursor), evs_cursor_slot(cursor),
									   EVS_LOG_RECORDED_AT);
		if (n >= LAG_COUNT_MAX)
		{
			int64		looked_at = position - range.after;

			exact = position >= safe;
			n += (int64) ((double) (safe - position) * n / looked_at);
		}
	}
	evs_cursor_close(cursor);
	values[0] = Int64GetDatum(n);
	values[1] = BoolGetDatum(exact);
	values[2] = TimestampTzGetDatum(oldest);
	nulls[2] = oldest == 0;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* _check_filter(filter): throws VS010 if it is not one */
Datum
evs_check_filter(PG_FUNCTION_ARGS)
{
	(void) evs_filter_compile(PG_GETARG_JSONB_P(0));
	PG_RETURN_VOID();
}

/* _check_key(key): throws VS010 unless it is stream, correlation or a path */
Datum
evs_check_key(PG_FUNCTION_ARGS)
{
	char	   *key = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (strcmp(key, "stream") != 0 && strcmp(key, "correlation") != 0)
		(void) evs_path_parse(key, "option \"key\"", "$.options.key");
	PG_RETURN_VOID();
}
