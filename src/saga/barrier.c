/*
 * barrier.c
 *	  For participants of sagas: is this call to be done?
 *
 * After dtm's barrier.  Participants call it in the transaction of their own work, with
 * the saga, its branch (the step), and what they are asked for.  A call that undoes inserts
 * two rows: that of what it undoes, and its own.  If the first one was not there, there is
 * nothing to undo (null compensation), and it keeps the late original from being
 * done (hanging).  If its own is there, it is a repetition.
 *
 * Unique keys decide: who inserts a row that another transaction is inserting waits for
 * it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "base/clock.h"
#include "base/debug_point.h"
#include "base/errors.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_saga_barrier);
PG_FUNCTION_INFO_V1(evs_saga_barrier_expire);

#define PART_MAX_BYTES 512

/* Operations, and what they undo. */
static const struct
{
	const char *op;
	const char *undoes;
}			operations[] = {
	{"action", NULL}, {"compensate", "action"},
	{"try", NULL}, {"confirm", NULL}, {"cancel", "try"},
};

/* false: it was there. */
static bool
insert_row(Datum saga, Datum branch, const char *op, const char *reason)
{
	static EvsSpiPlan plan = {
		.sql = "INSERT INTO evstore.saga_barrier (saga, branch, op, reason, created_at)"
		" VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING 1",
		.nargs = 5, .types = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID},
	};
	Datum		args[] = {
		saga, branch, CStringGetTextDatum(op), CStringGetTextDatum(reason),
		TimestampTzGetDatum(evs_clock_now()),
	};

	return evs_spi_write_latest(&plan, args, NULL).nrows > 0;
}

static Datum
get_part(FunctionCallInfo fcinfo, int arg, const char *argument)
{
	text	   *part;
	int			len;

	if (PG_ARGISNULL(arg))
		evs_throw_null(argument);
	part = PG_GETARG_TEXT_PP(arg);
	len = VARSIZE_ANY_EXHDR(part);
	if (len == 0 || len > PART_MAX_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must have 1 to %d bytes", argument, PART_MAX_BYTES)));
	return PointerGetDatum(part);
}

static int
get_operation(FunctionCallInfo fcinfo)
{
	char	   *op;

	if (PG_ARGISNULL(2))
		evs_throw_null("op");
	op = text_to_cstring(PG_GETARG_TEXT_PP(2));
	for (int i = 0; i < (int) lengthof(operations); i++)
		if (strcmp(op, operations[i].op) == 0)
			return i;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("argument \"op\" must not be \"%s\"", op),
			 errhint("Use 'action' and 'compensate', or 'try', 'confirm' and 'cancel'.")));
	return 0;
}

/* saga_barrier(saga, branch, op) → is it to be done? */
Datum
evs_saga_barrier(PG_FUNCTION_ARGS)
{
	Datum		saga = get_part(fcinfo, 0, "saga");
	Datum		branch = get_part(fcinfo, 1, "branch");
	int			n = get_operation(fcinfo);
	const char *op = operations[n].op;
	bool		null_compensation;

	PreventCommandIfReadOnly("evstore saga_barrier");
	evs_check_consumer(ACL_UPDATE);
	null_compensation = operations[n].undoes != NULL &&
		insert_row(saga, branch, operations[n].undoes, op);
	EVS_DEBUG_POINT("saga_barrier");
	PG_RETURN_BOOL(insert_row(saga, branch, op, op) && !null_compensation);
}

/* saga_barrier_expire(older_than) → how many rows it has removed */
Datum
evs_saga_barrier_expire(PG_FUNCTION_ARGS)
{
	static EvsSpiPlan plan = {
		.sql = "WITH d AS (DELETE FROM evstore.saga_barrier b WHERE b.created_at < $1 - $2 RETURNING 1)"
		" SELECT count(*) FROM d",
		.nargs = 2, .types = {TIMESTAMPTZOID, INTERVALOID},
	};
	Datum		args[2] = {TimestampTzGetDatum(evs_clock_now())};
	EvsSpiRows	rows;

	if (PG_ARGISNULL(0))
		evs_throw_null("older_than");
	args[1] = PG_GETARG_DATUM(0);
	PreventCommandIfReadOnly("evstore saga_barrier_expire");
	evs_check_right(ACL_DELETE);
	rows = evs_spi_call(&plan, args, NULL);
	PG_RETURN_INT64(DatumGetInt64(rows.values[0]));
}
