/*
 * task_reply.c
 *	  What workers outside say of their tasks.
 *
 * The update of a step's row from running to reported decides between replies that meet,
 * and between a reply and the time-out, which is an update of the same row: who comes
 * second finds that it is not running any more.
 *
 * A reply that comes after the time-out, or after the step has been withdrawn, says
 * something about an effect that the saga takes for unknown.  It goes into the mail
 * unless the step has been compensated: the saga may have to do so now.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/debug_point.h"
#include "base/errors.h"
#include "base/guc.h"
#include "exec/spi.h"
#include "saga/mail.h"
#include "saga/recipient.h"
#include "saga/task.h"
#include "compat.h"

/* A step as its token finds it. */
typedef struct Step
{
	pg_uuid_t	saga_id;
	int64		step;
	int64		definition_id;
	int			version;
	char	   *status;
	bool		is_late;		/* it has ended without a reply, and one can matter still */
	bool		is_repeated;	/* the reply has been taken in already */
} Step;

static char *
token_text(const pg_uuid_t *token)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(token)));
}

/* status: of the step, or NULL if there is none. */
static void
throw_stale(const pg_uuid_t *token, const char *status)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "token", token_text(token));
	evs_detail_string(&detail, "status", status);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_LEASE_LOST),
			 errmsg("nobody waits for a reply with this token"),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 errhint("Undo what has been done for the task, unless it has been reported already.")));
}

/* Arguments of a query: output, error, cause. */
static void
fill_reply(const EvsTaskReply *reply, Datum *args, char *nulls)
{
	args[0] = reply->output != NULL ? JsonbPGetDatum(reply->output) : (Datum) 0;
	args[1] = reply->error != NULL ? CStringGetTextDatum(reply->error) : (Datum) 0;
	args[2] = reply->cause != NULL ? CStringGetTextDatum(reply->cause) : (Datum) 0;
	nulls[0] = reply->output != NULL ? ' ' : 'n';
	nulls[1] = reply->error != NULL ? ' ' : 'n';
	nulls[2] = reply->cause != NULL ? ' ' : 'n';
}

/* The newest truth, in every isolation level.  Throws VS007 if there is no such token. */
static void
find_step(const pg_uuid_t *token, const EvsTaskReply *reply, Step *step)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT s.saga_id, s.step, i.definition_id, i.version, s.status,"
		" s.status IN ('timed_out', 'cancelled')"
		"  AND NOT EXISTS (SELECT FROM evstore.saga_step c WHERE c.saga_id = s.saga_id"
		"   AND c.compensates = s.step AND c.status IN ('reported', 'succeeded')),"
		" (s.status IN ('reported', 'succeeded', 'failed') AND s.output IS NOT DISTINCT FROM $2"
		"  AND s.error IS NOT DISTINCT FROM $3 AND s.cause IS NOT DISTINCT FROM $4)"
		"  OR EXISTS (SELECT FROM evstore.saga_mail m WHERE m.saga_id = s.saga_id AND m.step = s.step"
		"   AND m.payload IS NOT DISTINCT FROM $2 AND m.error IS NOT DISTINCT FROM $3"
		"   AND m.cause IS NOT DISTINCT FROM $4)"
		" FROM evstore.saga_step s JOIN evstore.saga_instance i ON i.id = s.saga_id"
		" WHERE s.token = $1",
		.nargs = 4, .types = {UUIDOID, JSONBOID, TEXTOID, TEXTOID},
	};
	Datum		args[4] = {UUIDPGetDatum(token)};
	char		nulls[] = "    ";
	EvsSpiRows	rows;

	fill_reply(reply, args + 1, nulls + 1);
	rows = evs_spi_call_latest(&plan, args, nulls);
	if (rows.nrows == 0)
		throw_stale(token, NULL);
	step->saga_id = *DatumGetUUIDP(rows.values[0]);
	step->step = DatumGetInt64(rows.values[1]);
	step->definition_id = DatumGetInt64(rows.values[2]);
	step->version = DatumGetInt32(rows.values[3]);
	step->status = TextDatumGetCString(rows.values[4]);
	step->is_late = DatumGetBool(rows.values[5]);
	step->is_repeated = DatumGetBool(rows.values[6]);
}

static bool
report(const Step *step, const EvsTaskReply *reply)
{
	if (reply->output != NULL)
		return evs_saga_step_done(&step->saga_id, step->definition_id, step->step, reply->output);
	return evs_saga_step_failed(&step->saga_id, step->definition_id, step->step, reply->error,
								reply->cause, reply->no_effect);
}

static void
send_late(const Step *step, const EvsTaskReply *reply)
{
	if (reply->output != NULL)
		evs_saga_mail(&step->saga_id, step->definition_id, EVS_MAIL_SUCCESS, step->step, NULL,
					  reply->output, NULL, NULL);
	else
		evs_saga_mail(&step->saga_id, step->definition_id, EVS_MAIL_FAILURE, step->step,
					  reply->no_effect ? "no_effect" : "unknown", NULL, reply->error, reply->cause);
}

void
evs_task_reply(const pg_uuid_t *token, const EvsTaskReply *reply)
{
	Step		step;

	find_step(token, reply, &step);
	/* what the saga could not take in is the caller's mistake, not the saga's */
	if (reply->output != NULL)
		evs_saga_check_size(step.definition_id, step.version, reply->output, "output");
	EVS_DEBUG_POINT("task_reply");
	if (strcmp(step.status, "running") == 0)
	{
		if (report(&step, reply))
		{
			EVS_DEBUG_POINT("task_reported");
			return;
		}
		/* somebody was quicker */
		find_step(token, reply, &step);
	}
	if (step.is_repeated)
		return;
	if (!step.is_late)
		throw_stale(token, step.status);
	send_late(&step, reply);
}

TimestampTz
evs_task_heartbeat(const pg_uuid_t *token)
{
	static EvsSpiPlan plan = {
		.sql = "UPDATE evstore.saga_step s SET heartbeat_at = $2 + make_interval(secs => s.heartbeat),"
		" lease_until = CASE WHEN s.lease_until IS NOT NULL THEN $2 + make_interval(secs => $3) END"
		" WHERE s.token = $1 AND s.status = 'running'"
		" RETURNING LEAST(s.heartbeat_at, s.lease_until, s.timeout_at)",
		.nargs = 3, .types = {UUIDOID, TIMESTAMPTZOID, FLOAT8OID},
	};
	Datum		args[] = {
		UUIDPGetDatum(token),
		TimestampTzGetDatum(evs_clock_now()),
		Float8GetDatum(evs_guc_default_lease / 1000.0),
	};
	EvsSpiRows	rows = evs_spi_write_latest(&plan, args, NULL);

	if (rows.nrows == 0)
	{
		EvsTaskReply none = {0};
		Step		step;

		find_step(token, &none, &step);
		throw_stale(token, step.status);
	}
	return rows.nulls[0] ? DT_NOEND : DatumGetTimestampTz(rows.values[0]);
}
