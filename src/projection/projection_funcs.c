/*
 * projection_funcs.c
 *	  SQL functions of projections.
 *
 * Those that change definitions are in C only to know who calls them: the rows
 * are written as evstore's owner (sql/modules/60_projection.sql).
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/errors.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "projection/definition.h"
#include "projection/inline.h"
#include "projection/rebuild.h"
#include "projection/run.h"
#include "projection/wait.h"
#include "stream/in_flight.h"
#include "stream/position.h"
#include "subscription/definition.h"
#include "subscription/slot.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_create_projection);
PG_FUNCTION_INFO_V1(evs_create_route);
PG_FUNCTION_INFO_V1(evs_alter_projection);
PG_FUNCTION_INFO_V1(evs_drop_projection);
PG_FUNCTION_INFO_V1(evs_reset_projection);
PG_FUNCTION_INFO_V1(evs_rebuild_projection);
PG_FUNCTION_INFO_V1(evs_cancel_rebuild);
PG_FUNCTION_INFO_V1(evs_run_projection);
PG_FUNCTION_INFO_V1(evs_wait_for_projection);
PG_FUNCTION_INFO_V1(evs_wait_for_projections);
PG_FUNCTION_INFO_V1(evs_slot_forgive);

static char *
get_name(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		evs_throw_null("name");
	return text_to_cstring(PG_GETARG_TEXT_PP(0));
}

/* Throw unless the caller may execute the function that is an argument. */
static void
check_executable(FunctionCallInfo fcinfo, int arg)
{
	Oid			function;

	if (PG_ARGISNULL(arg))
		return;
	function = PG_GETARG_OID(arg);
	if (get_func_name(function) != NULL &&
		evs_function_aclcheck(function, GetUserId()) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(function));
}

/*
 * Events that are there already, before the first append that knows of the
 * projection.  The log is locked, so there are no others.
 */
static void
catch_up_inline(const char *name)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT p.begins FROM evstore.projection p JOIN evstore.subscription s USING (id)"
		" WHERE s.name = $1 AND p.mode = 'inline'",
		.nargs = 1, .types = {TEXTOID},
	};
	Datum		arg = CStringGetTextDatum(name);
	EvsSpiRows	rows = evs_spi_call(&plan, &arg, NULL);

	if (rows.nrows > 0 && DatumGetInt64(rows.values[0]) < evs_position_last())
		(void) evs_inline_catch_up(evs_projection_find(name), DatumGetInt64(rows.values[0]),
								   evs_position_last());
}

/* create_projection(name, handler, filter, start, options) */
Datum
evs_create_projection(PG_FUNCTION_ARGS)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._projection_create($1, $2, $3, $4, $5, $6)",
		.nargs = 6,
		.types = {TEXTOID, TEXTOID, REGPROCEDUREOID, JSONBOID, TEXTOID, JSONBOID},
	};
	Datum		args[6];
	char		nulls[] = "      ";

	PreventCommandIfReadOnly("evstore create_projection");
	check_executable(fcinfo, 1);
	evs_spi_pass_arguments(fcinfo, args, nulls, 0, 1, 0);
	args[1] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	evs_spi_pass_arguments(fcinfo, args, nulls, 1, 4, 2);
	(void) evs_spi_call(&plan, args, nulls);
	catch_up_inline(get_name(fcinfo));
	PG_RETURN_VOID();
}

/* create_route(name, filter, fn, emits, options) */
Datum
evs_create_route(PG_FUNCTION_ARGS)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._route_create($1, $2, $3, $4, $5, $6)",
		.nargs = 6,
		.types = {TEXTOID, TEXTOID, REGPROCEDUREOID, JSONBOID, TEXTARRAYOID, JSONBOID},
	};
	Datum		args[6];
	char		nulls[] = "      ";

	PreventCommandIfReadOnly("evstore create_route");
	check_executable(fcinfo, 2);
	evs_spi_pass_arguments(fcinfo, args, nulls, 0, 1, 0);
	args[1] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	evs_spi_pass_arguments(fcinfo, args, nulls, 2, 1, 2);
	evs_spi_pass_arguments(fcinfo, args, nulls, 1, 1, 3);
	evs_spi_pass_arguments(fcinfo, args, nulls, 3, 2, 4);
	(void) evs_spi_call(&plan, args, nulls);
	PG_RETURN_VOID();
}

/* An append must not meet an inline projection that is being changed. */
static void
wait_for_appends(const EvsProjection *projection)
{
	if (projection->is_inline)
		LockRelationOid(evs_catalog()->event_log, ShareLock);
}

/* alter_projection(name, handler, options, owner) */
Datum
evs_alter_projection(PG_FUNCTION_ARGS)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._projection_alter($1, $2, $3, $4)",
		.nargs = 4, .types = {TEXTOID, TEXTOID, REGPROCEDUREOID, JSONBOID},
	};
	EvsProjection *projection;
	Oid			owner;
	Datum		args[4];
	char		nulls[] = "    ";

	PreventCommandIfReadOnly("evstore alter_projection");
	projection = evs_projection_find(get_name(fcinfo));
	/* one that nobody owns any more is evstore's owner's to give away */
	owner = get_role_oid(projection->owner, true);
	evs_check_may_act_as(OidIsValid(owner) ? owner : evs_catalog()->owner, projection->owner);
	wait_for_appends(projection);
	check_executable(fcinfo, 1);
	evs_spi_pass_arguments(fcinfo, args, nulls, 0, 1, 0);
	if (PG_ARGISNULL(3))
		nulls[1] = 'n';
	else
	{
		char	   *name = GetUserNameFromId(PG_GETARG_OID(3), false);

		evs_check_may_act_as(PG_GETARG_OID(3), name);
		args[1] = CStringGetTextDatum(name);
	}
	evs_spi_pass_arguments(fcinfo, args, nulls, 1, 2, 2);
	(void) evs_spi_call(&plan, args, nulls);
	PG_RETURN_VOID();
}

/* drop_projection(name) */
Datum
evs_drop_projection(PG_FUNCTION_ARGS)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._projection_drop($1)",
		.nargs = 1, .types = {TEXTOID},
	};
	char	   *name = get_name(fcinfo);
	Datum		arg = CStringGetTextDatum(name);
	EvsProjection *projection;

	PreventCommandIfReadOnly("evstore drop_projection");
	projection = evs_projection_find(name);
	wait_for_appends(projection);
	(void) evs_rebuild_cancel(projection);
	(void) evs_spi_call(&plan, &arg, NULL);
	PG_RETURN_VOID();
}

/* reset_projection(name) */
Datum
evs_reset_projection(PG_FUNCTION_ARGS)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._projection_reset($1)",
		.nargs = 1, .types = {TEXTOID},
	};
	char	   *name = get_name(fcinfo);
	Datum		arg = CStringGetTextDatum(name);
	EvsProjection *projection;

	PreventCommandIfReadOnly("evstore reset_projection");
	projection = evs_projection_find(name);
	(void) evs_spi_call(&plan, &arg, NULL);
	evs_rebuild_truncate(projection);
	PG_RETURN_VOID();
}

/* rebuild_projection(name) */
Datum
evs_rebuild_projection(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("evstore rebuild_projection");
	evs_rebuild_begin(get_name(fcinfo));
	PG_RETURN_VOID();
}

/* cancel_rebuild(name) */
Datum
evs_cancel_rebuild(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("evstore cancel_rebuild");
	PG_RETURN_BOOL(evs_rebuild_cancel(evs_projection_find(get_name(fcinfo))));
}

/* ---- running and waiting ---- */

/* How often a partition is run anew because definitions have changed. */
#define STALE_MAX 5

/* The projection of the name, or its rebuild; NULL if there is none. */
static EvsProjection *
find(const char *name, bool rebuild)
{
	EvsProjection *projection = evs_projection_find(name);

	return rebuild ? evs_projection_find_rebuild(projection->id) : projection;
}

/* One partition, once; false if it is not there or not to be run. */
static bool
run_partition(const char *name, bool rebuild, EvsRun *run)
{
	for (int i = 0; i < STALE_MAX; i++)
	{
		run->version = evs_projection_version();
		run->projection = find(name, rebuild);
		if (run->projection == NULL || run->projection->paused ||
			run->slot >= run->projection->slots)
			return false;
		evs_projection_run(run);
		if (run->status != EVS_RUN_STALE)
			break;
	}
	evs_projection_report(run);
	return true;
}

/* All partitions, once; returns how many events.  idle: there was nothing more. */
static int64
run_partitions(const char *name, bool rebuild, int64 max_count, bool *idle)
{
	EvsRun		run = {.max_count = max_count, .had_error = true};
	int64		handled = 0;

	*idle = true;
	for (; run_partition(name, rebuild, &run); run.slot++)
	{
		handled += run.handled;
		*idle &= run.status == EVS_RUN_IDLE && run.retry_at == 0;
		run.seq = 0;
	}
	return handled;
}

/* run_projection(name, max_count) */
Datum
evs_run_projection(PG_FUNCTION_ARGS)
{
	char	   *name = get_name(fcinfo);
	int64		max_count = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT64(1);
	EvsProjection *rebuild;
	int64		handled;
	bool		idle;

	PreventCommandIfReadOnly("evstore run_projection");
	if (!PG_ARGISNULL(1) && max_count < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max_count\" must be at least 1")));
	if (evs_in_flight_here() || IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot run a projection in %s", evs_in_flight_here() ?
						"a transaction that has appended" :
						"a transaction with an isolation level above READ COMMITTED"),
				 errhint("Commit first.")));
	handled = run_partitions(name, false, max_count, &idle);
	handled += run_partitions(name, true, max_count, &idle);
	if (idle)
	{
		uint64		version = evs_projection_version();

		rebuild = find(name, true);
		if (rebuild != NULL && !rebuild->paused)
			(void) evs_rebuild_finish(rebuild, version, false);
	}
	PG_RETURN_INT64(handled);
}

static TimestampTz
get_deadline(FunctionCallInfo fcinfo, int arg)
{
	TimestampTz now = GetCurrentTimestamp();

	if (PG_ARGISNULL(arg))
		return DT_NOEND;
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(now),
												   PG_GETARG_DATUM(arg)));
}

static int64
get_position(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? evs_position_last() : PG_GETARG_INT64(arg);
}

/* wait_for_projection(name, up_to, timeout) */
Datum
evs_wait_for_projection(PG_FUNCTION_ARGS)
{
	evs_check_right(ACL_SELECT);
	PG_RETURN_BOOL(evs_projection_wait(get_name(fcinfo), get_position(fcinfo, 1),
									   get_deadline(fcinfo, 2)));
}

/* wait_for_projections(names, up_to, timeout) */
Datum
evs_wait_for_projections(PG_FUNCTION_ARGS)
{
	TimestampTz deadline = get_deadline(fcinfo, 2);
	int64		up_to = get_position(fcinfo, 1);
	Datum	   *names;
	bool	   *nulls;
	int			n;

	evs_check_right(ACL_SELECT);
	if (PG_ARGISNULL(0))
		evs_throw_null("names");
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			evs_throw_null("names");
		if (!evs_projection_wait(TextDatumGetCString(names[i]), up_to, deadline))
			PG_RETURN_BOOL(false);
	}
	PG_RETURN_BOOL(true);
}

/* _slot_forgive(subscription_id, slot): the next event has not failed yet */
Datum
evs_slot_forgive(PG_FUNCTION_ARGS)
{
	Relation	states;
	EvsSlot		slot;

	evs_check_internal();
	states = evs_open(evs_catalog()->slot_state, RowExclusiveLock);
	(void) evs_slot_lock(PG_GETARG_INT64(0), PG_GETARG_INT32(1), true);
	if (evs_slot_read(states, PG_GETARG_INT64(0), PG_GETARG_INT32(1), &slot) && slot.attempts > 0)
	{
		slot.attempts = 0;
		slot.head = slot.lease_until = 0;
		evs_slot_write(states, &slot);
	}
	relation_close(states, NoLock);
	PG_RETURN_VOID();
}
