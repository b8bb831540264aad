/*
 * reply.c
 *	  Rows of steps that wait, or have waited, for a reply.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "exec/spi.h"
#include "saga/arrival.h"
#include "saga/reply.h"
#include "compat.h"

static Datum
text_or_null(const char *value, char *null)
{
	*null = value != NULL ? ' ' : 'n';
	return value != NULL ? CStringGetTextDatum(value) : (Datum) 0;
}

void
evs_reply_taken(const pg_uuid_t *saga_id, int64 step, const EvsStepResult *result,
				EvsOutcome outcome, TimestampTz now)
{
	static EvsSpiPlan plan = {
		.sql = "UPDATE evstore.saga_step s SET status = CASE WHEN s.status IN ('running', 'reported')"
		" THEN $3 ELSE s.status END, outcome = $4, error = $5, cause = $6, output = $7,"
		" ended_at = COALESCE(s.ended_at, $8)"
		" WHERE s.saga_id = $1 AND s.step = $2"
		" AND s.status IN ('running', 'reported', 'timed_out', 'cancelled')",
		.nargs = 8,
		.types = {UUIDOID, INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TIMESTAMPTZOID},
	};
	char		nulls[] = "        ";
	Datum		args[] = {
		UUIDPGetDatum(saga_id),
		Int64GetDatum(step),
		CStringGetTextDatum(result->ok ? "succeeded" : "failed"),
		CStringGetTextDatum(evs_outcome_name(outcome)),
		text_or_null(result->error, &nulls[4]),
		text_or_null(result->cause, &nulls[5]),
		JsonbPGetDatum(result->output),
		TimestampTzGetDatum(now),
	};

	nulls[6] = result->output != NULL ? ' ' : 'n';
	(void) evs_spi_call(&plan, args, nulls);
}

void
evs_reply_given_up(const pg_uuid_t *saga_id, const EvsSagaAction *action, TimestampTz now)
{
	static EvsSpiPlan plan = {
		.sql = "UPDATE evstore.saga_step s SET status = $3, outcome = $4, error = $5, cause = $6,"
		" ended_at = $7 WHERE s.saga_id = $1 AND s.step = $2 AND s.status IN ('running', 'reported')"
		" RETURNING s.child_id IS NOT NULL, s.kind = 'event'",
		.nargs = 7,
		.types = {UUIDOID, INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID},
	};
	char		nulls[] = "       ";
	Datum		args[] = {
		UUIDPGetDatum(saga_id),
		Int64GetDatum(action->step),
		CStringGetTextDatum(action->error != NULL ? "timed_out" : "cancelled"),
		CStringGetTextDatum(evs_outcome_name(action->outcome)),
		text_or_null(action->error, &nulls[4]),
		text_or_null(action->cause, &nulls[5]),
		TimestampTzGetDatum(now),
	};
	EvsSpiRows	rows;

	if (action->outcome == EVS_OUTCOME_NONE)
		nulls[3] = 'n';
	rows = evs_spi_call(&plan, args, nulls);
	if (rows.nrows > 0 && DatumGetBool(rows.values[0]))
		evs_saga_cancel_child(saga_id, action->step);
	if (rows.nrows > 0 && DatumGetBool(rows.values[1]))
		evs_arrival_forget(saga_id, action->step);
}

int
evs_reply_heartbeats(const pg_uuid_t *saga_id, TimestampTz now, EvsHeartbeat **heartbeats)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT s.step, s.heartbeat_at - make_interval(secs => s.heartbeat)"
		" FROM evstore.saga_step s"
		" WHERE s.saga_id = $1 AND s.status = 'running' AND s.heartbeat_at > $2 ORDER BY s.step",
		.nargs = 2, .types = {UUIDOID, TIMESTAMPTZOID},
	};
	Datum		args[] = {UUIDPGetDatum(saga_id), TimestampTzGetDatum(now)};
	EvsSpiRows	rows = evs_spi_call(&plan, args, NULL);

	*heartbeats = palloc(sizeof(EvsHeartbeat) * Max(1, rows.nrows));
	for (uint64 i = 0; i < rows.nrows; i++)
	{
		(*heartbeats)[i].step = DatumGetInt64(rows.values[i * 2]);
		(*heartbeats)[i].at = DatumGetTimestampTz(rows.values[i * 2 + 1]);
	}
	return (int) rows.nrows;
}

static EvsOutcome
read_outcome(Datum value, bool isnull)
{
	if (!isnull)
		for (EvsOutcome outcome = EVS_OUTCOME_SUCCEEDED; outcome <= EVS_OUTCOME_UNKNOWN; outcome++)
			if (strcmp(TextDatumGetCString(value), evs_outcome_name(outcome)) == 0)
				return outcome;
	return EVS_OUTCOME_NONE;
}

void
evs_reply_lookup(void *arg, int64 step, EvsStepRecord *record)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT s.input, s.output, s.error, s.outcome FROM evstore.saga_step s"
		" WHERE s.saga_id = $1 AND s.step = $2",
		.nargs = 2, .types = {UUIDOID, INT8OID},
	};
	Datum		args[] = {UUIDPGetDatum((pg_uuid_t *) arg), Int64GetDatum(step)};
	EvsSpiRows	rows = evs_spi_call(&plan, args, NULL);

	if (rows.nrows == 0)
		elog(ERROR, "step " INT64_FORMAT " of a saga is not there", step);
	record->input = rows.nulls[0] ? evs_asl_null() : DatumGetJsonbP(rows.values[0]);
	record->output = rows.nulls[1] ? NULL : DatumGetJsonbP(rows.values[1]);
	record->error = rows.nulls[2] ? NULL : TextDatumGetCString(rows.values[2]);
	record->outcome = read_outcome(rows.values[3], rows.nulls[3]);
}
