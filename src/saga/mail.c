/*
 * mail.c
 *	  What comes in for instances of sagas from outside of their transitions.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/clock.h"
#include "base/shmem.h"
#include "base/xact.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "saga/mail.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_saga_mail_sql);

int
evs_saga_bucket(int64 definition_id)
{
	return definition_id % EVS_WAIT_BUCKETS;
}

void
evs_saga_wake_workers(int64 definition_id)
{
	evs_xact_wake_workers(1 << evs_saga_bucket(definition_id));
}

static Datum
text_or_null(const char *value, char *null)
{
	*null = value != NULL ? ' ' : 'n';
	return value != NULL ? CStringGetTextDatum(value) : (Datum) 0;
}

void
evs_saga_mail(const pg_uuid_t *saga_id, int64 definition_id, const char *kind, int64 step,
			  const char *name, Jsonb *payload, const char *error, const char *cause)
{
	static EvsSpiPlan plan = {
		.sql = "INSERT INTO evstore.saga_mail (saga_id, definition_id, kind, step, name, payload,"
		" error, cause, created_by, created_at)"
		" VALUES ($1, $2, $3, NULLIF($4, 0), $5, $6, $7, $8, session_user, $9)",
		.nargs = 9,
		.types = {UUIDOID, INT8OID, TEXTOID, INT8OID, TEXTOID, JSONBOID, TEXTOID, TEXTOID, TIMESTAMPTZOID},
	};
	char		nulls[] = "         ";
	Datum		args[] = {
		UUIDPGetDatum(saga_id),
		Int64GetDatum(definition_id),
		CStringGetTextDatum(kind),
		Int64GetDatum(step),
		text_or_null(name, &nulls[4]),
		payload != NULL ? JsonbPGetDatum(payload) : (Datum) 0,
		text_or_null(error, &nulls[6]),
		text_or_null(cause, &nulls[7]),
		TimestampTzGetDatum(evs_clock_now()),
	};

	if (payload == NULL)
		nulls[5] = 'n';
	(void) evs_spi_call(&plan, args, nulls);
	evs_saga_wake_workers(definition_id);
}

/* ---- replies ---- */

/* false: it is not running any more. */
static bool
set_reported(const pg_uuid_t *saga_id, int64 step, Jsonb *output, const char *error,
			 const char *cause)
{
	static EvsSpiPlan plan = {
		.sql = "UPDATE evstore.saga_step s SET status = 'reported', output = $3, error = $4, cause = $5"
		" WHERE s.saga_id = $1 AND s.step = $2 AND s.status = 'running' RETURNING 1",
		.nargs = 5, .types = {UUIDOID, INT8OID, JSONBOID, TEXTOID, TEXTOID},
	};
	char		nulls[] = "     ";
	Datum		args[] = {
		UUIDPGetDatum(saga_id),
		Int64GetDatum(step),
		output != NULL ? JsonbPGetDatum(output) : (Datum) 0,
		text_or_null(error, &nulls[3]),
		text_or_null(cause, &nulls[4]),
	};

	if (output == NULL)
		nulls[2] = 'n';
	return evs_spi_write_latest(&plan, args, nulls).nrows > 0;
}

bool
evs_saga_step_done(const pg_uuid_t *saga_id, int64 definition_id, int64 step, Jsonb *output)
{
	if (!set_reported(saga_id, step, output, NULL, NULL))
		return false;
	evs_saga_mail(saga_id, definition_id, EVS_MAIL_SUCCESS, step, NULL, output, NULL, NULL);
	return true;
}

bool
evs_saga_step_failed(const pg_uuid_t *saga_id, int64 definition_id, int64 step,
					 const char *error, const char *cause, bool no_effect)
{
	if (!set_reported(saga_id, step, NULL, error, cause))
		return false;
	evs_saga_mail(saga_id, definition_id, EVS_MAIL_FAILURE, step,
				  no_effect ? "no_effect" : "unknown", NULL, error, cause);
	return true;
}

/* ---- SQL ---- */

static char *
get_text(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/* _saga_mail(saga_id, definition_id, kind, step, name, payload, error, cause) */
Datum
evs_saga_mail_sql(PG_FUNCTION_ARGS)
{
	evs_check_internal();
	evs_saga_mail(PG_GETARG_UUID_P(0), PG_GETARG_INT64(1), get_text(fcinfo, 2),
				  PG_ARGISNULL(3) ? 0 : PG_GETARG_INT64(3), get_text(fcinfo, 4),
				  PG_ARGISNULL(5) ? NULL : PG_GETARG_JSONB_P(5), get_text(fcinfo, 6),
				  get_text(fcinfo, 7));
	PG_RETURN_VOID();
}
