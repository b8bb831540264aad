/*
 * saga_funcs.c
 *	  SQL functions of sagas and their instances.
 *
 * Those that change definitions are in C to know who calls them: the rows are written as
 * evstore's owner (sql/modules/83_saga.sql).
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/clock.h"
#include "base/errors.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "saga/instance.h"
#include "saga/purge.h"
#include "saga/step.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_create_saga);
PG_FUNCTION_INFO_V1(evs_alter_saga);
PG_FUNCTION_INFO_V1(evs_drop_saga);
PG_FUNCTION_INFO_V1(evs_pause_saga);
PG_FUNCTION_INFO_V1(evs_resume_saga);
PG_FUNCTION_INFO_V1(evs_start_saga);
PG_FUNCTION_INFO_V1(evs_purge_sagas);

/* So that the name of its projection can be that of a subscription. */
#define NAME_MAX_BYTES 46

static char *
get_text(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

static char *
get_name(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		evs_throw_null("name");
	return get_text(fcinfo, 0);
}

/* One that nobody owns any more is evstore's owner's to change. */
static void
check_may_change(const EvsSaga *saga)
{
	Oid			owner = get_role_oid(saga->owner, true);

	evs_check_may_act_as(OidIsValid(owner) ? owner : evs_catalog()->owner, saga->owner);
}

/* ---- create_saga() ---- */

static void
throw_invalid(const EvsResourceUse *use, const char *what)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "path", use->path);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_INVALID_DEFINITION),
			 errmsg("invalid definition: %s %s", use->path, what),
			 errdetail_internal("%s", evs_detail_end(&detail))));
}

/* Another form of the error that is being handled, if it is about the function. */
static void
rethrow_invalid(const EvsResourceUse *use, MemoryContext memory)
{
	ErrorData  *error;

	if (geterrcode() != ERRCODE_UNDEFINED_FUNCTION && geterrcode() != ERRCODE_INVALID_NAME &&
		geterrcode() != ERRCODE_UNDEFINED_SCHEMA && geterrcode() != ERRCODE_INSUFFICIENT_PRIVILEGE)
		PG_RE_THROW();
	MemoryContextSwitchTo(memory);
	error = CopyErrorData();
	FlushErrorState();
	throw_invalid(use, psprintf("names a function that cannot be called: %s", error->message));
}

static void
check_function(const EvsResourceUse *use, Oid owner)
{
	MemoryContext memory = CurrentMemoryContext;

	PG_TRY();
	{
		(void) evs_saga_find_function(use->resource->name, owner);
	}
	PG_CATCH();
	{
		rethrow_invalid(use, memory);
	}
	PG_END_TRY();
}

static bool
relay_exists(const char *name)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT FROM evstore.subscription s JOIN evstore.relay r ON r.id = s.id WHERE s.name = $1",
		.nargs = 1, .types = {TEXTOID},
	};
	Datum		arg = CStringGetTextDatum(name);

	return evs_spi_call(&plan, &arg, NULL).nrows > 0;
}

static const EvsSaga *
find_saga(const char *name)
{
	ListCell   *cell;

	foreach(cell, evs_saga_kept())
		if (strcmp(((EvsSaga *) lfirst(cell))->name, name) == 0)
			return lfirst(cell);
	return NULL;
}

/* What a definition names must be there; sagas can start each other, so those may follow. */
static void
check_resource(const EvsResourceUse *use, const char *own_name, Oid owner)
{
	const char *name = use->resource->name;

	switch (use->resource->kind)
	{
		case EVS_RESOURCE_SQL:
			check_function(use, owner);
			break;
		case EVS_RESOURCE_RELAY:
			if (!relay_exists(name))
				throw_invalid(use, psprintf("names relay \"%s\", which does not exist", name));
			break;
		case EVS_RESOURCE_SAGA:
			if (strcmp(name, own_name) != 0 && find_saga(name) == NULL)
				ereport(NOTICE,
						(errmsg("%s names saga \"%s\", which does not exist yet", use->path, name)));
			break;
		default:
			break;
	}
}

/* create_saga(name, definition) */
Datum
evs_create_saga(PG_FUNCTION_ARGS)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._saga_create($1, $2, $3)",
		.nargs = 3, .types = {TEXTOID, TEXTOID, JSONBOID},
	};
	char	   *name = get_name(fcinfo);
	EvsSagaDefinition *definition;
	const EvsSaga *saga;
	char	   *owner;
	Datum		args[3];
	ListCell   *cell;

	PreventCommandIfReadOnly("evstore create_saga");
	if (PG_ARGISNULL(1))
		evs_throw_null("definition");
	if (name[0] == '\0' || strlen(name) > NAME_MAX_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a saga must have 1 to %d bytes", NAME_MAX_BYTES)));
	saga = find_saga(name);
	if (saga != NULL)
		check_may_change(saga);
	owner = saga != NULL ? pstrdup(saga->owner) : GetUserNameFromId(GetUserId(), false);
	definition = evs_saga_compile_or_throw(PG_GETARG_JSONB_P(1));
	foreach(cell, definition->resources)
		check_resource(lfirst(cell), name, get_role_oid(owner, false));

	args[0] = CStringGetTextDatum(name);
	args[1] = CStringGetTextDatum(owner);
	args[2] = JsonbPGetDatum(evs_saga_envelope(PG_GETARG_JSONB_P(1)));
	PG_RETURN_INT32(DatumGetInt32(evs_spi_call(&plan, args, NULL).values[0]));
}

/* ---- changing sagas ---- */

/* alter_saga(name, owner) */
Datum
evs_alter_saga(PG_FUNCTION_ARGS)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._saga_alter($1, $2)",
		.nargs = 2, .types = {INT8OID, TEXTOID},
	};
	EvsSaga    *saga;
	char	   *owner;
	Datum		args[2];

	PreventCommandIfReadOnly("evstore alter_saga");
	saga = evs_saga_lock(get_name(fcinfo), true);
	check_may_change(saga);
	if (PG_ARGISNULL(1))
		evs_throw_null("owner");
	owner = GetUserNameFromId(PG_GETARG_OID(1), false);
	evs_check_may_act_as(PG_GETARG_OID(1), owner);
	args[0] = Int64GetDatum(saga->id);
	args[1] = CStringGetTextDatum(owner);
	(void) evs_spi_call(&plan, args, NULL);
	PG_RETURN_VOID();
}

/* drop_saga(name, force) */
Datum
evs_drop_saga(PG_FUNCTION_ARGS)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._saga_drop($1, $2)",
		.nargs = 2, .types = {INT8OID, BOOLOID},
	};
	EvsSaga    *saga;
	Datum		args[2];

	PreventCommandIfReadOnly("evstore drop_saga");
	/* instances that have been started meanwhile must be seen */
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot drop a saga in a transaction with an isolation level above READ COMMITTED")));
	saga = evs_saga_lock(get_name(fcinfo), true);
	check_may_change(saga);
	args[0] = Int64GetDatum(saga->id);
	args[1] = BoolGetDatum(!PG_ARGISNULL(1) && PG_GETARG_BOOL(1));
	(void) evs_spi_call(&plan, args, NULL);
	PG_RETURN_VOID();
}

static void
set_paused(const EvsSaga *saga, bool paused)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._saga_pause($1, $2)",
		.nargs = 2, .types = {INT8OID, BOOLOID},
	};
	Datum		args[] = {Int64GetDatum(saga->id), BoolGetDatum(paused)};

	check_may_change(saga);
	(void) evs_spi_call(&plan, args, NULL);
}

/* pause_saga(name) */
Datum
evs_pause_saga(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("evstore pause_saga");
	set_paused(evs_saga_find(get_name(fcinfo)), true);
	PG_RETURN_VOID();
}

/* resume_saga(name) */
Datum
evs_resume_saga(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("evstore resume_saga");
	set_paused(evs_saga_find(get_name(fcinfo)), false);
	PG_RETURN_VOID();
}

/* ---- instances ---- */

static int
get_priority(FunctionCallInfo fcinfo, int arg)
{
	if (PG_ARGISNULL(arg))
		return -1;
	if (PG_GETARG_INT32(arg) < 0 || PG_GETARG_INT32(arg) > 9)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"priority\" must be from 0 to 9")));
	return PG_GETARG_INT32(arg);
}

/* start_saga(name, input, business_key, priority, correlation_id, causation_id) */
Datum
evs_start_saga(PG_FUNCTION_ARGS)
{
	EvsInstanceStart start = {.started_after = -1};
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	PreventCommandIfReadOnly("evstore start_saga");
	start.saga = evs_saga_lock(get_name(fcinfo), false);
	evs_check_may_act_as(evs_saga_owner(start.saga), start.saga->owner);
	start.input = PG_ARGISNULL(1) ? evs_asl_empty_object() : PG_GETARG_JSONB_P(1);
	start.business_key = get_text(fcinfo, 2);
	start.priority = get_priority(fcinfo, 3);
	start.correlation_id = get_text(fcinfo, 4);
	start.causation_id = PG_ARGISNULL(5) ? NULL : PG_GETARG_UUID_P(5);
	(void) evs_instance_start(&start, id);
	PG_RETURN_UUID_P(id);
}

/* purge_sagas(older_than, saga) */
Datum
evs_purge_sagas(PG_FUNCTION_ARGS)
{
	char	   *name = get_text(fcinfo, 1);
	TimestampTz before = 0;
	int64		purged = 0;
	ListCell   *cell;

	PreventCommandIfReadOnly("evstore purge_sagas");
	if (!PG_ARGISNULL(0))
		before = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
														 TimestampTzGetDatum(evs_clock_now()),
														 PG_GETARG_DATUM(0)));
	if (name != NULL)
		check_may_change(evs_saga_find(name));
	foreach(cell, list_copy(evs_saga_kept()))
	{
		const EvsSaga *saga = lfirst(cell);
		Oid			owner = get_role_oid(saga->owner, true);

		if (name != NULL ? strcmp(saga->name, name) == 0 :
			OidIsValid(owner) && has_privs_of_role(GetUserId(), owner))
			purged += evs_saga_purge(saga, before, PG_INT32_MAX);
	}
	PG_RETURN_INT64(purged);
}
