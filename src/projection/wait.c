/*
 * wait.c
 *	  Waiting for projections.
 *
 * Who waits is woken with each batch of the projection, and looks how far it is.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/errors.h"
#include "base/wait.h"
#include "exec/spi.h"
#include "projection/definition.h"
#include "projection/progress.h"
#include "projection/wait.h"
#include "stream/in_flight.h"
#include "stream/position.h"
#include "subscription/definition.h"
#include "compat.h"

static void
throw_stopped(const EvsProjection *projection)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT e.error, e.\"position\" FROM evstore.projection_error e"
		" WHERE e.projection_id = $1 ORDER BY e.failed_at DESC LIMIT 1",
		.nargs = 1, .types = {INT8OID},
	};
	Datum		arg = Int64GetDatum(projection->id);
	EvsSpiRows	rows = evs_spi_call(&plan, &arg, NULL);
	char	   *error = rows.nrows > 0 ? TextDatumGetCString(rows.values[0]) : NULL;
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "projection", projection->name);
	evs_detail_string(&detail, "message", error);
	if (rows.nrows > 0 && !rows.nulls[1])
		evs_detail_int(&detail, "position", DatumGetInt64(rows.values[1]));
	ereport(ERROR,
			(errcode(ERRCODE_EVS_HANDLER_FAILED),
			 errmsg("projection \"%s\" has been stopped by an error", projection->name),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 errhint("See the view evstore.projections; go on with evstore.resume_projection().")));
}

static bool
has_come(const char *name, bool is_inline, int64 up_to)
{
	int64		safe = evs_position_safe();
	Snapshot	snapshot;
	EvsSubscription subscription;
	bool		come;

	if (is_inline)
		return safe >= up_to;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	evs_subscription_pin();
	subscription = *evs_subscription_find(name);
	come = evs_projection_reached(&subscription, up_to, safe, snapshot) >= up_to;
	UnregisterSnapshot(snapshot);
	if (!come && subscription.paused)
	{
		EvsProjection *projection = evs_projection_find(name);

		if (projection->faulted)
			throw_stopped(projection);
	}
	return come;
}

bool
evs_projection_wait(const char *name, int64 up_to, TimestampTz deadline)
{
	EvsProjection *projection = evs_projection_find(name);
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "evstore wait",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);
	bool		come;

	if (evs_in_flight_here())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot wait for a projection in a transaction that has appended"),
				 errdetail("No projection sees what is appended before the transaction has ended."),
				 errhint("Commit first.")));
	/* inline: nothing but the safe position is waited for, of which events tell */
	evs_wait_announce(evs_subscription_bucket(projection->id),
					  projection->is_inline ? EVS_WAIT_EVENTS : EVS_WAIT_CHANGE);
	while (!(come = has_come(name, projection->is_inline, up_to)) &&
		   GetCurrentTimestamp() < deadline)
	{
		evs_wait_sleep(deadline);
		MemoryContextReset(scratch);
	}
	evs_wait_end();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	return come;
}
