/*
 * redis_outcome.c
 *	  What an answer means for the messages of a batch.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis_sink.h"

/* The batch is not in flight any more.  whole: all of it is in the stream. */
static void
leave_stream(EvsRedis *sink, EvsRedisRequest *request, bool whole)
{
	EvsRedisStream *stream = request->stream;

	sink->nbatches--;
	stream->nbatches--;
	if (!whole)
	{
		stream->broken = true;
		stream->known = false;
	}
	if (stream->nbatches > 0)
		return;
	stream->known = whole;
	stream->broken = false;
	stream->ms = request->answer.ms;
	stream->seq = request->answer.seq;
}

/* The slot, and the serial number of the one behind it. */
static evs_sink_slot *
next_slot(EvsRedis *sink, uint64_t *serial)
{
	evs_sink_slot *slot = evs_sink_flight_slot(&sink->flight, *serial);

	*serial = slot->tag - 1;
	return slot;
}

static void
tell_late(EvsRedis *sink, const evs_sink_message *message)
{
	if (sink->told_late || message->flags & EVS_SINK_MESSAGE_REPLAY)
		return;
	sink->told_late = true;
	sink->host->log(sink->host->ctx, EVS_SINK_LOG_WARNING, "the stream has larger ids than "
					"the positions of events that come now: their ids are not positions");
}

static void
complete_done(EvsRedis *sink, EvsRedisRequest *request, uint64_t *serial)
{
	const char *marks = request->answer.marks;

	for (int i = 0; i < request->answer.done; i++)
	{
		evs_sink_slot *slot = next_slot(sink, serial);
		char		mark = marks != NULL ? marks[i] : 's';

		if (slot->message->flags & EVS_SINK_MESSAGE_TEST)
			mark = 's';			/* it has no position to be late for */
		if (mark == 'l')
			tell_late(sink, slot->message);
		if (mark == 'd')
			evs_sink_flight_complete(&sink->flight, slot, EVS_SINK_DUPLICATE, 0,
									 "the stream has it already");
		else
			evs_sink_flight_complete(&sink->flight, slot, EVS_SINK_OK, 0, "%s",
									 mark == 'l' ? "stored with a later id" : "");
	}
}

static void
requeue(EvsRedis *sink, uint64_t serial, int n)
{
	for (int i = 0; i < n; i++)
		evs_sink_flight_requeue(&sink->flight, next_slot(sink, &serial));
}

/* All that could not be added to the stream, for the same reason. */
static void
fail_stream(EvsRedis *sink, uint64_t serial, int n, evs_sink_class result, const char *text)
{
	bool		may_hold = result == EVS_SINK_RETRY || result == EVS_SINK_PERMANENT;

	for (int i = 0; i < n; i++)
	{
		evs_sink_slot *slot = next_slot(sink, &serial);

		/* It comes after a failed one of its key: it is returned when it has its turn. */
		if (slot->held && may_hold)
			evs_sink_flight_requeue(&sink->flight, slot);
		else
			evs_sink_flight_complete(&sink->flight, slot, result, 0, "%s", text);
	}
}

/* So many messages, of which the first one could not be added. */
static void
fail(EvsRedis *sink, uint64_t serial, int n, const char *text, bool first_is_to_blame)
{
	evs_sink_class result;
	EvsRedisScope scope = evs_redis_classify(&sink->config, text, &result);
	char		why[EVS_REDIS_ERROR_MAX];

	if (scope == EVS_REDIS_OF_SERVER)
	{
		/* All that is in flight is lost with the connection. */
		evs_redis_explain(text, why, sizeof(why));
		evs_sink_link_fail(&sink->link, "%s", why);
	}
	else if (scope == EVS_REDIS_OF_SCRIPT)
	{
		sink->loaded = false;
		requeue(sink, serial, n);
	}
	else if (scope == EVS_REDIS_OF_STREAM)
		fail_stream(sink, serial, n, result, text);
	else if (first_is_to_blame || n == 1)
	{
		evs_sink_slot *slot = next_slot(sink, &serial);

		evs_sink_flight_complete(&sink->flight, slot, result, 0, "%s", text);
		requeue(sink, serial, n - 1);
	}
	else
	{
		/* One of them is to blame: each by itself, then. */
		sink->alone = n;
		requeue(sink, serial, n);
	}
	if (strncmp(text, "ERR Protocol error", 18) == 0)
		evs_sink_link_fail(&sink->link, "the server refuses: %s", text);
}

static void
tried_alone(EvsRedis *sink)
{
	if (sink->alone > 0)
		sink->alone--;
}

void
evs_redis_apply(EvsRedis *sink, EvsRedisRequest *request)
{
	const EvsRedisAnswer *answer = &request->answer;
	uint64_t	serial = request->first;

	leave_stream(sink, request, answer->done == request->n);
	if (answer->done < 0)
		requeue(sink, serial, request->n);
	else
	{
		complete_done(sink, request, &serial);
		if (answer->done < request->n)
			fail(sink, serial, request->n - answer->done, answer->error, true);
		tried_alone(sink);
	}
}

void
evs_redis_refused(EvsRedis *sink, EvsRedisRequest *request, const char *text)
{
	memset(&request->answer, 0, sizeof(request->answer));
	leave_stream(sink, request, false);
	tried_alone(sink);
	fail(sink, request->first, request->n, text, false);
}

void
evs_redis_not_replicated(EvsRedis *sink, EvsRedisRequest *request, int64_t replicas)
{
	char		text[EVS_REDIS_ERROR_MAX];

	snprintf(text, sizeof(text), "%lld of %lld replicas have it", (long long) replicas,
			 (long long) sink->config.wait_replicas);
	leave_stream(sink, request, false);
	if (request->answer.done < 0)
		requeue(sink, request->first, request->n);
	else
		fail_stream(sink, request->first, request->n, EVS_SINK_RETRY_SINK, text);
}
