/*
 * notify.c
 *	  NOTIFY by the appending transaction itself.
 *
 * With evstore.notify = commit, for servers where no dispatcher runs: one
 * NOTIFY on channel evstore a transaction, however much it has appended, and
 * none if all of that was rolled back to a savepoint.  Channels of
 * subscriptions need the dispatcher, which knows what their filters match.
 */
#include "postgres.h"

#include "commands/async.h"

#include "base/guc.h"
#include "base/xact.h"
#include "stream/in_flight.h"
#include "stream/notify.h"
#include "compat.h"

static int64 last_position = 0;
static bool hooked = false;

/* Before PREPARE TRANSACTION this makes it an error, as any NOTIFY does. */
static void
before_commit(void)
{
	char		payload[32];

	if (evs_guc_notify != EVS_NOTIFY_COMMIT || !evs_in_flight_here())
		return;
	snprintf(payload, sizeof(payload), INT64_FORMAT, last_position);
	Async_Notify("evstore", payload);
}

void
evs_notify_appended(int64 position)
{
	last_position = position;
	if (!hooked)
		evs_xact_on_commit(before_commit);
	hooked = true;
}
