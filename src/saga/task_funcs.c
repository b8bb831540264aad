/*
 * task_funcs.c
 *	  SQL functions for workers outside, who do the tasks of sagas.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/errors.h"
#include "catalog/catalog.h"
#include "saga/task.h"
#include "stream/seal.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_fetch_tasks);
PG_FUNCTION_INFO_V1(evs_complete_task);
PG_FUNCTION_INFO_V1(evs_fail_task);
PG_FUNCTION_INFO_V1(evs_heartbeat_task);
PG_FUNCTION_INFO_V1(evs_fail_step);

#define NAME_MAX_BYTES 256
#define CAUSE_MAX_BYTES 32768
#define COUNT_MAX 1000
#define WAIT_MS_MAX 3600000

static void
begin_call(const char *function)
{
	PreventCommandIfReadOnly(psprintf("evstore %s", function));
	evs_check_consumer(ACL_UPDATE);
}

static char *
get_text(FunctionCallInfo fcinfo, int arg, const char *argument, int low, int high)
{
	char	   *value;

	if (PG_ARGISNULL(arg))
		evs_throw_null(argument);
	value = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	if (strlen(value) < low || strlen(value) > high)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must have %d to %d bytes", argument, low, high)));
	return value;
}

static int64
get_number(FunctionCallInfo fcinfo, int arg, const char *argument, int64 high)
{
	int64		value;

	if (PG_ARGISNULL(arg))
		evs_throw_null(argument);
	value = PG_GETARG_INT32(arg);
	if (value < 0 || value > high)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be between 0 and " INT64_FORMAT, argument, high)));
	return value;
}

static pg_uuid_t *
get_token(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		evs_throw_null("token");
	return PG_GETARG_UUID_P(0);
}

/* A restored copy must not act outside. */
static void
check_adopted(void)
{
	if (!evs_instance_is_ours())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this database is a copy, which gives no tasks away"),
				 errhint("Call evstore.adopt() to let it act.")));
}

/* fetch_tasks(activity, worker, max_count, wait_ms) */
Datum
evs_fetch_tasks(PG_FUNCTION_ARGS)
{
	EvsTaskRequest request;

	InitMaterializedSRF(fcinfo, 0);
	request.activity = get_text(fcinfo, 0, "activity", 1, NAME_MAX_BYTES);
	request.worker = get_text(fcinfo, 1, "worker", 1, NAME_MAX_BYTES);
	request.max_count = get_number(fcinfo, 2, "max_count", COUNT_MAX);
	request.wait_ms = get_number(fcinfo, 3, "wait_ms", WAIT_MS_MAX);
	begin_call("fetch_tasks");
	check_adopted();
	if (request.max_count > 0)
		evs_task_fetch(&request, (ReturnSetInfo *) fcinfo->resultinfo);
	return (Datum) 0;
}

/* complete_task(token, output) */
Datum
evs_complete_task(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *token = get_token(fcinfo);
	EvsTaskReply reply = {0};

	if (PG_ARGISNULL(1))
		evs_throw_null("output");
	reply.output = PG_GETARG_JSONB_P(1);
	begin_call("complete_task");
	evs_task_reply(token, &reply);
	PG_RETURN_VOID();
}

static void
get_error(FunctionCallInfo fcinfo, int arg, const char **error, const char **cause)
{
	*error = get_text(fcinfo, arg, "error", 1, NAME_MAX_BYTES);
	*cause = PG_ARGISNULL(arg + 1) ? NULL : get_text(fcinfo, arg + 1, "cause", 0, CAUSE_MAX_BYTES);
}

/* fail_task(token, error, cause, no_effect) */
Datum
evs_fail_task(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *token = get_token(fcinfo);
	EvsTaskReply reply = {0};

	get_error(fcinfo, 1, &reply.error, &reply.cause);
	if (PG_ARGISNULL(3))
		evs_throw_null("no_effect");
	reply.no_effect = PG_GETARG_BOOL(3);
	begin_call("fail_task");
	evs_task_reply(token, &reply);
	PG_RETURN_VOID();
}

/* heartbeat_task(token) → when the next one is due, null: never */
Datum
evs_heartbeat_task(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *token = get_token(fcinfo);
	TimestampTz due;

	begin_call("heartbeat_task");
	due = evs_task_heartbeat(token);
	if (TIMESTAMP_IS_NOEND(due))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(due);
}

/* fail_step(error, cause): the function of a step says what has gone wrong */
Datum
evs_fail_step(PG_FUNCTION_ARGS)
{
	const char *error;
	const char *cause;
	StringInfoData detail;

	get_error(fcinfo, 0, &error, &cause);
	evs_detail_begin(&detail);
	evs_detail_string(&detail, "error", error);
	evs_detail_string(&detail, "cause", cause);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_SAGA_STEP_FAILED),
			 errmsg("step failed: %s", error),
			 errdetail_internal("%s", evs_detail_end(&detail))));
	PG_RETURN_VOID();
}
