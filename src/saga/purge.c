/*
 * purge.c
 *	  Removing instances that have ended long ago.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "exec/spi.h"
#include "saga/purge.h"
#include "compat.h"

int64
evs_saga_purge(const EvsSaga *saga, TimestampTz before, int max)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._saga_purge($1, $2, $3)",
		.nargs = 3, .types = {INT8OID, TIMESTAMPTZOID, INT4OID},
	};
	Datum		args[3];

	if (before == 0)
	{
		double		retention = evs_saga_definition(saga->id, saga->version)->retention;

		if (retention < 0)
			return 0;
		before = evs_clock_now() - (int64) (retention * USECS_PER_SEC);
	}
	args[0] = Int64GetDatum(saga->id);
	args[1] = TimestampTzGetDatum(before);
	args[2] = Int32GetDatum(max);
	return DatumGetInt64(evs_spi_call(&plan, args, NULL).values[0]);
}
