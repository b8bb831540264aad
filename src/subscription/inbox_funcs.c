/*
 * inbox_funcs.c
 *	  SQL functions of the inbox.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/uuid.h"

#include "base/errors.h"
#include "catalog/catalog.h"
#include "subscription/inbox.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_inbox_begin);
PG_FUNCTION_INFO_V1(evs_execute_once);
PG_FUNCTION_INFO_V1(evs_inbox_expire);

/* The calls of execute_once() that this session is in. */
typedef struct Running
{
	const EvsInboxKey *key;
	struct Running *outer;
} Running;

static Running *running = NULL;

static void
begin_write(const char *command, AclMode right)
{
	PreventCommandIfReadOnly(command);
	PreventCommandIfParallelMode(command);
	evs_check_right(right);
}

static void
check_not_null(FunctionCallInfo fcinfo, int n, const char *argument)
{
	if (PG_ARGISNULL(n))
		evs_throw_null(argument);
}

/* An argument that is part of a key. */
static text *
get_part(FunctionCallInfo fcinfo, int n, const char *argument, bool may_be_empty)
{
	text	   *part;
	int			len;

	check_not_null(fcinfo, n, argument);
	part = PG_GETARG_TEXT_PP(n);
	len = VARSIZE_ANY_EXHDR(part);
	if (len == 0 && !may_be_empty)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be empty", argument)));
	if (len > EVS_INBOX_KEY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" is too long", argument),
				 errdetail("It has %d bytes; at most %d are allowed.", len, EVS_INBOX_KEY_MAX)));
	return part;
}

/* inbox_begin(consumer, event_id, source) */
Datum
evs_inbox_begin(PG_FUNCTION_ARGS)
{
	EvsInboxKey key;
	Jsonb	   *result;

	begin_write("evstore inbox_begin", ACL_SELECT);
	key.consumer = get_part(fcinfo, 0, "consumer", false);
	if (strcmp(text_to_cstring(key.consumer), EVS_INBOX_INGEST) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"consumer\" must not be \"%s\"", EVS_INBOX_INGEST)));
	check_not_null(fcinfo, 1, "event_id");
	key.key = cstring_to_text(DatumGetCString(DirectFunctionCall1(uuid_out, PG_GETARG_DATUM(1))));
	key.source = get_part(fcinfo, 2, "source", true);
	PG_RETURN_BOOL(evs_inbox_claim(&key, &result));
}

/*
 * The function is called directly, so what a query would check is checked
 * here: its form, and that the caller may execute it.
 */
static void
check_function(Oid fn)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(fn));
	Form_pg_proc proc;
	AclResult	result;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", fn)));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->prokind != PROKIND_FUNCTION || proc->proretset || proc->prorettype != JSONBOID ||
		proc->pronargs != 1 || proc->proargtypes.values[0] != JSONBOID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("function %s cannot be used with execute_once()", format_procedure(fn)),
				 errhint("It must have the form f(jsonb) RETURNS jsonb.")));
	ReleaseSysCache(tuple);

	result = evs_function_aclcheck(fn, GetUserId());
	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, get_func_name(fn));
	InvokeFunctionExecuteHook(fn);
}

/*
 * As the caller, and with a snapshot of now: the statement's own may be older
 * than what we have waited for.
 */
static Jsonb *
call_function(Oid fn, Datum args)
{
	LOCAL_FCINFO(call, 1);
	FmgrInfo	flinfo;
	PgStat_FunctionCallUsage usage;
	Datum		value;
	Jsonb	   *result;

	fmgr_info(fn, &flinfo);
	InitFunctionCallInfoData(*call, &flinfo, 1, InvalidOid, NULL, NULL);
	call->args[0].value = args;
	call->args[0].isnull = false;
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_init_function_usage(call, &usage);
	value = FunctionCallInvoke(call);
	pgstat_end_function_usage(&usage, true);
	result = call->isnull ? NULL : DatumGetJsonbPCopy(value);
	PopActiveSnapshot();
	return result;
}

static bool
same_text(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/* A call from within itself would wait for its own result. */
static void
refuse_recursion(const EvsInboxKey *key)
{
	for (Running *outer = running; outer != NULL; outer = outer->outer)
		if (same_text(key->source, outer->key->source) && same_text(key->key, outer->key->key))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("execute_once() is called from within itself with the same scope and key")));
}

/* execute_once(scope, key, fn, args) */
Datum
evs_execute_once(PG_FUNCTION_ARGS)
{
	EvsInboxKey key;
	Running		self = {.key = &key, .outer = running};
	Jsonb	   *result = NULL;

	begin_write("evstore execute_once", ACL_SELECT);
	key.consumer = cstring_to_text("");
	key.source = get_part(fcinfo, 0, "scope", false);
	key.key = get_part(fcinfo, 1, "key", false);
	check_not_null(fcinfo, 2, "fn");
	check_not_null(fcinfo, 3, "args");
	check_function(PG_GETARG_OID(2));
	refuse_recursion(&key);

	if (evs_inbox_claim(&key, &result))
	{
		running = &self;
		PG_TRY();
		{
			result = call_function(PG_GETARG_OID(2), PG_GETARG_DATUM(3));
		}
		PG_FINALLY();
		{
			running = self.outer;
		}
		PG_END_TRY();
		if (result != NULL)
			evs_inbox_set_result(&key, result);
	}
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(result);
}

/* inbox_expire(): empty the tables that hold only what is too old */
Datum
evs_inbox_expire(PG_FUNCTION_ARGS)
{
	begin_write("evstore inbox_expire", ACL_UPDATE);
	PG_RETURN_INT32(evs_inbox_expire_tables());
}
