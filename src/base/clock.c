/*
 * clock.c
 *	  The one source of time, which tests can set (evstore.now_override).
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/guc.h"

bool
evs_clock_is_overridden(void)
{
	return evs_guc_now_override != NULL && evs_guc_now_override[0] != '\0';
}

/* Wall-clock time of this moment, not of the transaction's start. */
TimestampTz
evs_clock_now(void)
{
	if (likely(!evs_clock_is_overridden()))
		return GetCurrentTimestamp();

	return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
												   CStringGetDatum(evs_guc_now_override),
												   ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
}
