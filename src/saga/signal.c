/*
 * signal.c
 *	  Signals: what is said to an instance by name, now or before it asks.
 *
 * The first of each name counts, for as long as the instance lives: it is a row of
 * saga_signal.  Whether a step waits for it, the saga looks itself, when it takes
 * the mail in that goes with it.  A step that begins to wait looks for the row.  One of the two
 * sees the other: both happen with the instance locked, and the mail is there when the
 * row is.  Who signals locks nothing, and waits for nobody.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "base/clock.h"
#include "base/debug_point.h"
#include "base/errors.h"
#include "exec/spi.h"
#include "saga/mail.h"
#include "saga/recipient.h"
#include "saga/signal.h"
#include "saga/step.h"
#include "compat.h"

static bool
insert_signal(const EvsRecipient *recipient, const char *name, Jsonb *payload)
{
	static EvsSpiPlan plan = {
		.sql = "INSERT INTO evstore.saga_signal (saga_id, name, payload, arrived_at)"
		" VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING 1",
		.nargs = 4, .types = {UUIDOID, TEXTOID, JSONBOID, TIMESTAMPTZOID},
	};
	Datum		args[] = {
		UUIDPGetDatum(&recipient->id),
		CStringGetTextDatum(name),
		JsonbPGetDatum(payload),
		TimestampTzGetDatum(evs_clock_now()),
	};

	return evs_spi_write_latest(&plan, args, NULL).nrows > 0;
}

static void
throw_ended(const EvsRecipient *recipient)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "saga_id", recipient->id_text);
	evs_detail_string(&detail, "status", recipient->status);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_OBJECT_NOT_FOUND),
			 errmsg("instance %s of saga \"%s\" has ended", recipient->id_text, recipient->saga),
			 errdetail_internal("%s", evs_detail_end(&detail))));
}

bool
evs_saga_signal(const EvsRecipient *recipient, const char *name, Jsonb *payload)
{
	if (recipient->has_ended)
		throw_ended(recipient);
	evs_saga_check_size(recipient->definition_id, recipient->version, payload, "payload");
	if (!insert_signal(recipient, name, payload))
		return false;
	evs_saga_mail(&recipient->id, recipient->definition_id, EVS_MAIL_SIGNAL, 0, name, payload,
				  NULL, NULL);
	return true;
}

int64
evs_saga_take_signal(const pg_uuid_t *saga_id, const char *name, Jsonb *payload)
{
	static EvsSpiPlan plan = {
		.sql = "WITH u AS (UPDATE evstore.saga_step s SET status = 'reported', output = $3"
		"  WHERE s.saga_id = $1 AND s.kind = 'signal' AND s.name = $2 AND s.status = 'running'"
		"  RETURNING s.step)"
		" SELECT u.step, i.definition_id FROM u, evstore.saga_instance i WHERE i.id = $1 ORDER BY u.step",
		.nargs = 3, .types = {UUIDOID, TEXTOID, JSONBOID},
	};
	Datum		args[] = {
		UUIDPGetDatum(saga_id), CStringGetTextDatum(name), JsonbPGetDatum(payload),
	};
	EvsSpiRows	rows = evs_spi_call(&plan, args, NULL);

	/* branches that wait for the same one: a transition for each */
	for (uint64 i = 1; i < rows.nrows; i++)
		evs_saga_mail(saga_id, DatumGetInt64(rows.values[i * 2 + 1]), EVS_MAIL_SUCCESS,
					  DatumGetInt64(rows.values[i * 2]), NULL, payload, NULL, NULL);
	return rows.nrows > 0 ? DatumGetInt64(rows.values[0]) : 0;
}

/* One that has come early is taken now. */
bool
evs_saga_begin_signal(const EvsStartedStep *step, const char **error, char **cause)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT g.payload FROM evstore.saga_signal g WHERE g.saga_id = $1 AND g.name = $2",
		.nargs = 2, .types = {UUIDOID, TEXTOID},
	};
	Datum		args[] = {
		UUIDPGetDatum(&step->saga_id),
		CStringGetTextDatum(step->action->resource->name),
	};
	EvsSpiRows	rows = evs_spi_call_latest(&plan, args, NULL);

	EVS_DEBUG_POINT("signal_looked_for");
	if (rows.nrows > 0)
		evs_saga_step_done(&step->saga_id, step->definition_id, step->step,
						   DatumGetJsonbP(rows.values[0]));
	return true;
}
