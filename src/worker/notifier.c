/*
 * notifier.c
 *	  NOTIFY on behalf of all appends: gathered, and not too often.
 *
 * The first event after a pause is told at once; after that, a channel hears
 * at most once in evstore.notify_interval, of the newest position; less often
 * when so much happens that the dispatcher naps, since listeners cost the
 * appends more than all else that the dispatcher does.  A transaction that
 * sends NOTIFY holds a lock of the whole cluster until it has committed, so it
 * is one of its own.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/async.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/guc.h"
#include "worker/notifier.h"
#include "compat.h"

/* From one notification to the next, at least so many naps. */
#define NAPS_BETWEEN 5

typedef struct Channel
{
	char		name[NAMEDATALEN];
	int64		position;		/* to tell of */
	bool		pending;
	TimestampTz sent_at;
} Channel;

static List *channels = NIL;

/* In microseconds. */
static int64 interval = 0;

static Channel *
find_channel(const char *name)
{
	MemoryContext old;
	ListCell   *cell;
	Channel    *channel;

	foreach(cell, channels)
	{
		channel = lfirst(cell);
		if (strcmp(channel->name, name) == 0)
			return channel;
	}
	old = MemoryContextSwitchTo(TopMemoryContext);
	channel = palloc0(sizeof(Channel));
	strlcpy(channel->name, name, NAMEDATALEN);
	channels = lappend(channels, channel);
	MemoryContextSwitchTo(old);
	return channel;
}

void
evs_notifier_add(const char *name, int64 position)
{
	Channel    *channel = find_channel(name);

	channel->position = Max(channel->position, position);
	channel->pending = true;
}

/* The clock may have been set back since. */
static bool
is_due(const Channel *channel, TimestampTz now)
{
	return channel->pending &&
		(channel->sent_at > now ||
		 now - channel->sent_at >= interval);
}

/*
 * Where the log is flushed all the time, join: an asynchronous commit would call
 * the WAL writer each time, which then takes the lock that committing sessions
 * queue for, and lets go of it with nothing flushed for them.
 */
static void
send_due(TimestampTz now, bool join_flush)
{
	ListCell   *cell;

	StartTransactionCommand();
	if (join_flush)
		ForceSyncCommit();
	foreach(cell, channels)
	{
		Channel    *channel = lfirst(cell);
		char		payload[32];

		if (!is_due(channel, now))
			continue;
		snprintf(payload, sizeof(payload), INT64_FORMAT, channel->position);
		Async_Notify(channel->name, payload);
	}
	CommitTransactionCommand();
}

TimestampTz
evs_notifier_run(TimestampTz now, long nap)
{
	TimestampTz next = 0;
	bool		due = false;
	ListCell   *cell;

	interval = Max((int64) evs_guc_notify_interval * 1000, (int64) nap * NAPS_BETWEEN);
	foreach(cell, channels)
	{
		Channel    *channel = lfirst(cell);

		if (!channel->pending)
			continue;
		if (is_due(channel, now))
			due = true;
		else if (next == 0 || channel->sent_at < next)
			next = channel->sent_at;
	}
	if (due)
	{
		send_due(now, nap > 0);
		foreach(cell, channels)
		{
			Channel    *channel = lfirst(cell);

			if (is_due(channel, now))
			{
				channel->pending = false;
				channel->sent_at = now;
			}
		}
	}
	return next == 0 ? 0 : next + interval;
}
