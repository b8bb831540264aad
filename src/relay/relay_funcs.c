/*
 * relay_funcs.c
 *	  SQL functions of relays.
 *
 * Those that change definitions are in C only to know who calls them: the rows are
 * written as evstore's owner (sql/modules/64_relay.sql).
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/errors.h"
#include "base/shmem.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "relay/host.h"
#include "stream/in_flight.h"
#include "stream/seal.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_create_relay);
PG_FUNCTION_INFO_V1(evs_alter_relay);
PG_FUNCTION_INFO_V1(evs_run_relay);
PG_FUNCTION_INFO_V1(evs_test_relay);
PG_FUNCTION_INFO_V1(evs_relay_check_sink);
PG_FUNCTION_INFO_V1(evs_check_topic);
PG_FUNCTION_INFO_V1(evs_relay_pid);

static char *
get_name(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		evs_throw_null("name");
	return text_to_cstring(PG_GETARG_TEXT_PP(0));
}

/* create_relay(name, sink, config, filter, start, options) */
Datum
evs_create_relay(PG_FUNCTION_ARGS)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._relay_create($1, $2, $3, $4, $5, $6, $7)",
		.nargs = 7,
		.types = {TEXTOID, TEXTOID, TEXTOID, JSONBOID, JSONBOID, TEXTOID, JSONBOID},
	};
	Datum		args[7];
	char		nulls[] = "       ";

	PreventCommandIfReadOnly("evstore create_relay");
	evs_spi_pass_arguments(fcinfo, args, nulls, 0, 1, 0);
	args[1] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	evs_spi_pass_arguments(fcinfo, args, nulls, 1, 5, 2);
	(void) evs_spi_call(&plan, args, nulls);
	PG_RETURN_VOID();
}

/* alter_relay(name, config, filter, options, owner) */
Datum
evs_alter_relay(PG_FUNCTION_ARGS)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._relay_alter($1, $2, $3, $4, $5)",
		.nargs = 5, .types = {TEXTOID, TEXTOID, JSONBOID, JSONBOID, JSONBOID},
	};
	EvsRelay   *relay;
	Oid			owner;
	Datum		args[5];
	char		nulls[] = "     ";

	PreventCommandIfReadOnly("evstore alter_relay");
	relay = evs_relay_find(get_name(fcinfo));
	/* one that nobody owns any more is evstore's owner's to give away */
	owner = get_role_oid(relay->owner, true);
	evs_check_may_act_as(OidIsValid(owner) ? owner : evs_catalog()->owner, relay->owner);
	evs_spi_pass_arguments(fcinfo, args, nulls, 0, 1, 0);
	if (PG_ARGISNULL(4))
		nulls[1] = 'n';
	else
	{
		char	   *name = GetUserNameFromId(PG_GETARG_OID(4), false);

		evs_check_may_act_as(PG_GETARG_OID(4), name);
		args[1] = CStringGetTextDatum(name);
	}
	evs_spi_pass_arguments(fcinfo, args, nulls, 1, 3, 2);
	(void) evs_spi_call(&plan, args, nulls);
	PG_RETURN_VOID();
}

/* _relay_check_sink(sink, config, options) */
Datum
evs_relay_check_sink(PG_FUNCTION_ARGS)
{
	EvsRelay	relay = {.name = "", .sink = text_to_cstring(PG_GETARG_TEXT_PP(0))};

	evs_check_internal();
	relay.config = PG_GETARG_JSONB_P(1);
	evs_relay_read_options(&relay, PG_GETARG_JSONB_P(2));
	evs_sink_check(&relay);
	PG_RETURN_VOID();
}

/* _check_topic(template) */
Datum
evs_check_topic(PG_FUNCTION_ARGS)
{
	evs_check_internal();
	(void) evs_template_compile(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_VOID();
}

/* _relay_pid(relay): the process of its worker */
Datum
evs_relay_pid(PG_FUNCTION_ARGS)
{
	int64		relay = PG_GETARG_INT64(0);
	int			pid = 0;

	if (evs_shmem() == NULL)
		PG_RETURN_NULL();
	LWLockAcquire(&evs_shmem()->lock, LW_SHARED);
	for (int i = 0; i < evs_shmem()->npool; i++)
	{
		EvsPoolSlot *slot = &evs_shmem_pool(evs_shmem())[i];

		if (slot->database == MyDatabaseId && slot->kind == EVS_POOL_RELAY &&
			slot->relay == relay && slot->worker.pid != 0)
			pid = slot->worker.pid;
	}
	LWLockRelease(&evs_shmem()->lock);
	if (pid == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT32(pid);
}

/* ---- in the caller's session ---- */

/* A restored copy must not send. */
static void
check_adopted(void)
{
	if (!evs_instance_is_ours())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this database is a copy, which does not relay"),
				 errhint("Call evstore.adopt() to let it act.")));
}

static void
check_session(const EvsRelay *relay)
{
	check_adopted();
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relay \"%s\" can be run in READ COMMITTED transactions only", relay->name)));
	if (evs_in_flight_here())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relay \"%s\" cannot be run in a transaction that has appended", relay->name),
				 errhint("Commit first.")));
	if (!evs_host_claim(relay->id, false))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relay \"%s\" is being run by its worker, or by another session", relay->name),
				 errhint("Set evstore.max_workers to 0, or pause the relay, to run it by hand.")));
}

static EvsHost *
open_here(const EvsRelay *relay)
{
	char	   *error;
	EvsHost    *host = evs_host_open(relay->name, false, &error);

	if (host == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_EVS_INVALID_DEFINITION),
				 errmsg("the sink of relay \"%s\" cannot be opened: %s", relay->name, error)));
	return host;
}

/* Until the sink has something to do, or so many ms at most. */
static void
wait_for_sink(const EvsSink *sink, long ms)
{
	if ((evs_sink_wait(sink, ms, PG_WAIT_EXTENSION) & WL_LATCH_SET) != 0)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Nothing is on its way, and nothing could be sent now. */
static bool
is_finished(EvsHost *host)
{
	return host->nsent == 0 && host->unrecorded == 0 && !host->has_failures &&
		(host->resumed || host->circuit.until != 0);
}

static void
run(EvsHost *host)
{
	for (;;)
	{
		if (evs_host_turn(host))
		{
			CHECK_FOR_INTERRUPTS();
			continue;
		}
		if (host->stale || (host->fault && host->nsent == 0) || is_finished(host))
			break;
		wait_for_sink(host->sink, 100);
	}
	if (!host->stale && (host->status_changed || host->unrecorded > 0))
		evs_host_record(host);
}

/* run_relay(name, max_count) */
Datum
evs_run_relay(PG_FUNCTION_ARGS)
{
	EvsRelay   *relay;
	EvsHost    *volatile host;
	volatile int64 acknowledged = 0;

	PreventCommandIfReadOnly("evstore run_relay");
	evs_check_consumer(ACL_UPDATE);
	relay = evs_relay_find(get_name(fcinfo));
	if (!PG_ARGISNULL(1) && PG_GETARG_INT64(1) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max_count\" must be at least 1")));
	if (relay->paused)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("relay \"%s\" is %s", relay->name, relay->faulted ? "stopped" : "paused"),
				 errhint("Go on with evstore.resume_relay().")));
	check_session(relay);
	host = open_here(relay);
	PG_TRY();
	{
		if (!PG_ARGISNULL(1))
			host->budget = PG_GETARG_INT64(1);
		run(host);
		acknowledged = host->acknowledged;
	}
	PG_FINALLY();
	{
		evs_host_close(host);
	}
	PG_END_TRY();
	PG_RETURN_INT64(acknowledged);
}

/* ---- a test message ---- */

static bool
try_message(EvsHost *host, EvsMessage *message, TimestampTz end, evs_sink_result *result)
{
	bool		sent = false;

	message->wire.cookie = 1;
	while (GetCurrentTimestamp() < end)
	{
		if (!sent)
			sent = host->sink->module->submit(host->sink->state, &message->wire, 1) == 1;
		if (host->sink->module->progress(host->sink->state, result, 1) > 0)
			return true;
		wait_for_sink(host->sink, Max(1, Min(100, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end))));
	}
	return false;
}

static Datum
test_result(FunctionCallInfo fcinfo, bool answered, const evs_sink_result *result, double ms)
{
	TupleDesc	desc;
	Datum		values[4] = {0};
	bool		nulls[4] = {false, !answered, false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = CStringGetTextDatum(answered ? evs_sink_class_name(result->result) : "timeout");
	values[1] = Int32GetDatum(answered ? result->code : 0);
	values[2] = CStringGetTextDatum(answered ? result->detail : "");
	values[3] = Float8GetDatum(ms);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

static TimestampTz
get_end(FunctionCallInfo fcinfo, TimestampTz start)
{
	TimestampTz end;

	if (PG_ARGISNULL(1))
		evs_throw_null("timeout");
	end = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(start),
												  PG_GETARG_DATUM(1)));
	if (end <= start || end - start > INT64CONST(3600) * 1000000)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"timeout\" must be more than 0 and at most an hour")));
	return end;
}

/* test_relay(name, timeout) */
Datum
evs_test_relay(PG_FUNCTION_ARGS)
{
	EvsRelay   *relay;
	EvsSink    *volatile sink;
	EvsHost		host = {0};
	EvsMessage *message;
	evs_sink_result result = {0};
	TimestampTz start = GetCurrentTimestamp();
	TimestampTz end = get_end(fcinfo, start);
	char	   *error;
	volatile bool answered = false;

	PreventCommandDuringRecovery("evstore test_relay");
	evs_check_consumer(ACL_UPDATE);
	relay = evs_relay_find(get_name(fcinfo));
	check_adopted();
	host.relay = relay;
	host.context = CurrentMemoryContext;
	evs_host_set_encoder(&host);
	message = evs_host_test_message(&host, &error);
	if (message == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_EVS_INVALID_DEFINITION),
				 errmsg("relay \"%s\" cannot send a message without an event: %s", relay->name, error)));
	sink = evs_sink_open(relay, &error);
	if (sink == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_EVS_INVALID_DEFINITION),
				 errmsg("the sink of relay \"%s\" cannot be opened: %s", relay->name, error)));
	host.sink = sink;
	PG_TRY();
	{
		answered = try_message(&host, message, end, &result);
	}
	PG_FINALLY();
	{
		evs_sink_close(sink);
	}
	PG_END_TRY();
	result.detail[sizeof(result.detail) - 1] = '\0';
	evs_sink_clean_text(result.detail);
	PG_RETURN_DATUM(test_result(fcinfo, answered, &result, (GetCurrentTimestamp() - start) / 1000.0));
}
