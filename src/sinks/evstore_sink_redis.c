/*
 * evstore_sink_redis.c
 *	  Sink to Redis Streams, with a client of its own.
 *
 * An event becomes an entry whose id is <position>-0.  Redis takes only ids that
 * are above the stream's last one, so what comes again is recognised: by its id,
 * and the fields "relay" and "id", since others may have written this id.
 *
 * Messages go in batches, each a call of a script (redis_script.c) that adds them
 * one after the other and ends at the first that cannot be added.  Redis has no
 * other way to stop behind an error: of XADDs in a pipeline, or in a
 * transaction, those behind a failed one are executed all the same, and a message
 * that was refused for a moment would be overtaken by those of its key.  Batches in
 * flight say which last id they expect, so that the same holds among them
 * (redis_batch.c).
 *
 * A message that is below the last id and not in the stream, since it failed
 * before, or since somebody else has written larger ids, is added behind the last
 * one; its field "position" tells the position.
 *
 * When an answer does not come in time the connection is given up, like one that
 * breaks: all messages are handed back.  What Redis still reads from the old
 * connection is the beginning of what comes again over the new one.
 *
 * redis_session.c is what is said on a connection, redis_reply.c and
 * redis_answer.c read answers, redis_outcome.c makes results of them,
 * redis_stream.c knows the streams.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis_sink.h"

/* No more is written to the link while so much has not gone to the network. */
#define MAX_PENDING (4 * 1024 * 1024)

static int64_t
now_us(const EvsRedis *sink)
{
	return sink->host->now_us(sink->host->ctx);
}

static void
completed(void *arg, const evs_sink_slot *slot, bool success)
{
	EvsRedis   *sink = arg;

	evs_sink_claim_done(&sink->claim, slot->message, success);
}

/* Room for the batches that are open, and for what is asked besides. */
static bool
has_room(const EvsRedis *sink)
{
	return sink->tail - sink->head + sink->nopen + 8 < EVS_REDIS_REQUESTS &&
		evs_sink_link_pending(&sink->link) + sink->open_bytes < MAX_PENDING;
}

/* Send what can be sent. */
static void
pump(EvsRedis *sink)
{
	evs_sink_slot *slot;

	while (evs_sink_link_is_up(&sink->link) && has_room(sink) &&
		   (slot = evs_sink_flight_next(&sink->flight)) != NULL &&
		   evs_redis_add_message(sink, slot))
		;
	if (evs_sink_link_is_up(&sink->link))
		evs_redis_write_batches(sink);
	evs_sink_link_flush(&sink->link);
}

/* --- the module --- */

static int
validate(const evs_sink_host *host, const evs_sink_settings *settings, char *error, size_t size)
{
	EvsRedisConfig config;

	return evs_redis_config_read(&config, host, settings, error, size);
}

static void
destroy(void *state)
{
	EvsRedis   *sink = state;

	evs_sink_link_close(&sink->link);
	for (int i = 0; i < EVS_REDIS_REQUESTS; i++)
		free(sink->requests[i].answer.marks);
	evs_redis_forget_streams(sink);
	evs_sink_flight_free(&sink->flight);
	evs_sink_claim_free(&sink->claim);
	free(sink);
}

static void *
open_sink(const evs_sink_host *host, const evs_sink_settings *settings, char *error, size_t size)
{
	EvsRedis   *sink = calloc(1, sizeof(*sink));

	if (sink == NULL)
	{
		snprintf(error, size, "out of memory");
		return NULL;
	}
	sink->host = host;
	sink->link.fd = -1;
	if (evs_redis_config_read(&sink->config, host, settings, error, size) != 0)
	{
		destroy(sink);
		return NULL;
	}
	if (!evs_sink_flight_init(&sink->flight, host) ||
		!evs_sink_claim_init(&sink->claim, (int) sink->flight.capacity * 4))
	{
		snprintf(error, size, "out of memory");
		destroy(sink);
		return NULL;
	}
	sink->flight.completed = completed;
	sink->flight.arg = sink;
	evs_sink_link_init(&sink->link, host, &sink->config.link, &evs_redis_link_events, sink);
	if (!evs_redis_script_sha(sink->sha))
		sink->sha[0] = '\0';
	sink->suspects = evs_redis_depth(sink);
	return sink;
}

static bool
wants_connection(const EvsRedis *sink)
{
	return !evs_sink_flight_is_empty(&sink->flight) || sink->resume == EVS_REDIS_RESUME_WANTED ||
		sink->resume == EVS_REDIS_RESUME_ASKED;
}

static int
resume(void *state, int64_t *position, char *error, size_t size)
{
	EvsRedis   *sink = state;

	if (!sink->config.one_stream)
	{
		*position = 0;
		return 1;
	}
	switch (sink->resume)
	{
		case EVS_REDIS_RESUME_KNOWN:
			*position = sink->resume_position;
			sink->resume = EVS_REDIS_RESUME_NONE;
			return 1;
		case EVS_REDIS_RESUME_FAILED:
			snprintf(error, size, "%s", sink->resume_error);
			sink->resume = EVS_REDIS_RESUME_NONE;
			return -1;
		case EVS_REDIS_RESUME_NONE:
			sink->resume = EVS_REDIS_RESUME_WANTED;
			return 0;
		default:
			return 0;
	}
}

/* Once there is a connection. */
static void
ask_to_resume(EvsRedis *sink)
{
	if (sink->resume != EVS_REDIS_RESUME_WANTED || !evs_sink_link_is_up(&sink->link))
		return;
	sink->resume = EVS_REDIS_RESUME_ASKED;
	sink->resume_deadline = now_us(sink) + sink->host->timeout_ms * INT64_C(1000);
	evs_redis_write_resume(sink);
}

static int
submit(void *state, const evs_sink_message *messages, int n)
{
	EvsRedis   *sink = state;
	int			accepted = evs_sink_flight_submit(&sink->flight, messages, n);

	for (int i = 0; i < accepted; i++)
		evs_sink_claim_submitted(&sink->claim, evs_sink_message_at(messages, i));
	pump(sink);
	return accepted;
}

static int64_t
answer_deadline(EvsRedis *sink)
{
	int64_t		deadline = evs_sink_flight_deadline(&sink->flight);

	if (sink->resume == EVS_REDIS_RESUME_ASKED && sink->resume_deadline < deadline)
		deadline = sink->resume_deadline;
	return deadline;
}

static int
wait_fd(void *state, short *events, int *timeout_ms)
{
	EvsRedis   *sink = state;
	int64_t		other = answer_deadline(sink);
	int64_t		until;
	int			fd;

	evs_sink_link_wait(&sink->link, wants_connection(sink), &fd, events, &until);
	if (other < until)
		until = other;
	*timeout_ms = evs_sink_flight_timeout(&sink->flight, until);
	return fd;
}

static int
progress(void *state, evs_sink_result *results, int max)
{
	EvsRedis   *sink = state;
	evs_sink_link *link = &sink->link;

	evs_sink_link_run(link, wants_connection(sink));
	if (link->state == EVS_SINK_LINK_READY && now_us(sink) >= answer_deadline(sink))
		evs_sink_link_fail(link, "no answer within %d ms", sink->host->timeout_ms);
	ask_to_resume(sink);
	pump(sink);
	if (link->closing)
		evs_sink_link_run(link, false);
	return evs_sink_flight_take(&sink->flight, results, max);
}

static const evs_sink redis = {
	.abi = EVS_SINK_ABI,
	.size = sizeof(evs_sink),
	.name = "redis",
	.description = "Redis Streams, own client",
	.caps = EVS_SINK_CAP_PIPELINE | EVS_SINK_CAP_BATCH | EVS_SINK_CAP_DEDUPLICATES |
	EVS_SINK_CAP_RESUMES | EVS_SINK_CAP_THREADS | EVS_SINK_CAP_NETWORK,
	.validate = validate,
	.open = open_sink,
	.resume = resume,
	.submit = submit,
	.wait_fd = wait_fd,
	.progress = progress,
	.destroy = destroy
};

EVS_SINK_EXPORT const evs_sink *
evs_sink_init(uint32_t host_abi)
{
	return host_abi == EVS_SINK_ABI ? &redis : NULL;
}
