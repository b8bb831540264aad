/*
 * evstore_sink_kafka.c
 *	  Sink to Kafka, with librdkafka.
 *
 * Messages are handed to an idempotent producer in the order of submission; its
 * delivery reports become their results.  librdkafka has threads of its own: what
 * they have to say comes through a queue, and an eventfd tells that there is
 * something in it.  No function of the host is called by them.
 *
 * Records of a partition arrive in order, and none after one that was refused.
 * After the first bad report nothing is handed over any more, until all that was
 * has its report (DRAINING).  Then the producer is closed, and
 *
 * - if one message was refused, it is when its turn comes again;
 * - if several were, they may have been refused for one that was in a batch with
 *   them, and go again one at a time;
 * - otherwise it is an outage.  All messages are returned.
 *
 * librdkafka itself keeps trying for as long as a message may take, the host's
 * timeout, and does so without making duplicates.  A new producer, after that,
 * may send again what had arrived; as it begins with the first of what is missing,
 * the first arrival of each is in order, even if a broker still reads from the old
 * connection.
 *
 * With transactions see kafka_transaction.c.  Then a message is there only if all
 * before it are, or have been refused with everything behind them returned.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "kafka.h"

/* Deadlines are looked at so often, in us. */
#define WATCH_INTERVAL 5000

/* --- messages --- */

/* It will never be taken.  In transactions nothing may pass it until the host knows. */
static void
refuse(EvsKafka *sink, evs_sink_slot *slot, evs_sink_class class, int code, const char *why)
{
	evs_sink_flight_complete(&sink->flight, slot, class, code, "%s", why);
	if (sink->config.transactional)
		evs_sink_flight_complete_all(&sink->flight, false, EVS_SINK_RETURNED, 0,
									 "an earlier message has failed");
}

/* librdkafka does not take it. */
static bool
not_accepted(EvsKafka *sink, evs_sink_slot *slot, rd_kafka_resp_err_t code)
{
	evs_sink_class class;

	if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL && sink->nunanswered > 0)
		return false;
	switch (evs_kafka_blame(sink, code, &class))
	{
		case EVS_KAFKA_MESSAGE:
		case EVS_KAFKA_BATCH:
			refuse(sink, slot, class, code, rd_kafka_err2str(code));
			return true;
		case EVS_KAFKA_NOBODY:
			/* The reports of the others tell why the producer takes nothing any more. */
			if (sink->nunanswered > 0)
				return false;
			break;
		case EVS_KAFKA_SINK:
			break;
	}
	evs_kafka_outage(sink, sink->config.transactional || sink->nunanswered == 0, EVS_SINK_RETRY_SINK, code, "%s",
					 rd_kafka_err2str(code));
	return false;
}

/* false: it has to wait, and with it all that come after it. */
static bool
hand_over(EvsKafka *sink, evs_sink_slot *slot)
{
	char		topic[EVS_KAFKA_TOPIC_MAX + 1];
	const char *wrong = evs_kafka_check(sink, slot->message, topic);
	rd_kafka_resp_err_t code;

	if (sink->has_condemned && slot->serial == sink->condemned)
	{
		sink->has_condemned = false;
		refuse(sink, slot, sink->verdict.class, sink->verdict.code, sink->verdict.why);
		return true;
	}
	if (wrong != NULL)
	{
		refuse(sink, slot, EVS_SINK_PERMANENT, 0, wrong);
		return true;
	}
	if (sink->config.transactional && !evs_kafka_begin(sink))
		return false;
	code = evs_kafka_produce(sink, slot->message, topic, slot->serial + 1);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		return not_accepted(sink, slot, code);
	evs_sink_flight_sent(&sink->flight, slot);
	sink->nunanswered++;
	return true;
}

void
evs_kafka_fill(EvsKafka *sink)
{
	evs_sink_slot *slot;

	while ((slot = evs_sink_flight_next(&sink->flight)) != NULL)
	{
		if (slot->serial < sink->alone_until && sink->flight.nsent > 0)
			return;
		if (evs_kafka_is_committed(sink, slot->message))
			evs_sink_flight_complete(&sink->flight, slot, EVS_SINK_DUPLICATE, 0, "%s", "");
		else if (!hand_over(sink, slot))
			return;
	}
}

/* --- when something has failed --- */

static void
resume_failed(EvsKafka *sink)
{
	if (sink->resume != EVS_KAFKA_WANTED)
		return;
	sink->resume = EVS_KAFKA_FAILED;
	snprintf(sink->resume_error, sizeof(sink->resume_error), "%s", sink->trouble.reason.why);
}

static void
return_all(EvsKafka *sink)
{
	const EvsKafkaReason *reason = &sink->trouble.reason;

	evs_sink_flight_complete_all(&sink->flight, true, reason->class, reason->code, reason->why);
	resume_failed(sink);
	memset(&sink->trouble, 0, sizeof(sink->trouble));
	sink->has_condemned = false;
}

static void
requeue_all(EvsKafka *sink)
{
	evs_sink_flight *flight = &sink->flight;

	for (uint64_t serial = flight->head; serial < flight->tail; serial++)
	{
		evs_sink_slot *slot = evs_sink_flight_slot(flight, serial);

		if (slot->state == EVS_SINK_SLOT_SENT)
			evs_sink_flight_requeue(flight, slot);
	}
}

void
evs_kafka_settle(EvsKafka *sink)
{
	EvsKafkaTrouble *trouble = &sink->trouble;

	sink->nunanswered = 0;
	if (trouble->nsuspects == 0)
	{
		return_all(sink);
		return;
	}
	if (trouble->nsuspects == 1)
	{
		sink->has_condemned = true;
		sink->condemned = trouble->suspect;
		sink->verdict = trouble->suspicion;
	}
	else
		sink->alone_until = trouble->suspect + 1;
	requeue_all(sink);
	memset(trouble, 0, sizeof(*trouble));
}

static void
give_up(EvsKafka *sink)
{
	if (sink->config.transactional)
		evs_kafka_abandon(sink);
	else
	{
		evs_kafka_client_close(sink);
		sink->phase = EVS_KAFKA_CLOSED;
	}
	evs_kafka_settle(sink);
}

/* Nothing is handed over any more. */
static void
drain(EvsKafka *sink)
{
	if (sink->phase == EVS_KAFKA_RUNNING)
	{
		/* What has not gone out need not. */
		rd_kafka_purge(sink->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_NON_BLOCKING);
		sink->phase = EVS_KAFKA_DRAINING;
		evs_kafka_take_events(sink);
	}
	if ((sink->phase == EVS_KAFKA_DRAINING || sink->phase == EVS_KAFKA_READY) && sink->nunanswered == 0)
		give_up(sink);
}

/* --- the next step --- */

static bool
has_phase_deadline(const EvsKafka *sink)
{
	return sink->phase == EVS_KAFKA_STARTING || sink->phase == EVS_KAFKA_ASKING ||
		sink->phase == EVS_KAFKA_COMMITTING;
}

static int64_t
deadline(EvsKafka *sink)
{
	int64_t		until = evs_sink_flight_deadline(&sink->flight);

	if (has_phase_deadline(sink) && sink->deadline < until)
		until = sink->deadline;
	return until;
}

static void
watch_deadlines(EvsKafka *sink)
{
	int64_t		now = evs_kafka_now(sink);

	if (now < sink->watch_at)
		return;
	sink->watch_at = now + WATCH_INTERVAL;
	if (now < deadline(sink))
		return;
	evs_kafka_outage(sink, true, EVS_SINK_RETRY_SINK, RD_KAFKA_RESP_ERR__TIMED_OUT,
					 "no acknowledgement within %d ms%s%s", sink->host->timeout_ms,
					 sink->last_error[0] != '\0' ? ": " : "", sink->last_error);
	sink->trouble.at_once = true;
}

static bool
is_wanted(EvsKafka *sink)
{
	return sink->resume == EVS_KAFKA_WANTED || evs_sink_flight_next(&sink->flight) != NULL;
}

/* The first message tells what for. */
static void
open_producer(EvsKafka *sink)
{
	const evs_sink_slot *slot = evs_sink_flight_next(&sink->flight);

	sink->is_test = sink->resume != EVS_KAFKA_WANTED && slot != NULL &&
		(slot->message->flags & EVS_SINK_MESSAGE_TEST);
	if (evs_kafka_client_open(sink))
		sink->phase = EVS_KAFKA_RUNNING;
}

static void
step(EvsKafka *sink)
{
	if (sink->phase == EVS_KAFKA_CLOSED && is_wanted(sink))
	{
		/* The next step comes at once, after its threads have been answered. */
		open_producer(sink);
		if (sink->phase != EVS_KAFKA_CLOSED)
			return;
	}
	if (sink->phase != EVS_KAFKA_CLOSED && sink->config.transactional)
		evs_kafka_transact(sink);
	else if (sink->phase == EVS_KAFKA_RUNNING)
		evs_kafka_fill(sink);
	watch_deadlines(sink);
	if (sink->trouble.at_once)
		give_up(sink);
	else if (sink->trouble.outage || sink->trouble.nsuspects > 0)
		drain(sink);
}

/* --- the module --- */

static int
validate(const evs_sink_host *host, const evs_sink_settings *settings, char *error, size_t size)
{
	EvsKafkaConfig config = {0};
	int			rc = evs_kafka_configure(&config, host, settings, error, size);

	evs_kafka_config_free(&config);
	return rc;
}

static void
destroy(void *state)
{
	EvsKafka   *sink = state;

	if (sink->job.started && !evs_kafka_job_wait(&sink->job))
	{
		/* Threads that may never end use all of it: it is left to them, without connections. */
		evs_kafka_net_close(&sink->net);
		rd_kafka_queue_io_event_enable(sink->queue, -1, NULL, 0);
		return;
	}
	evs_kafka_client_close(sink);
	evs_kafka_job_free(&sink->job);
	evs_kafka_net_free(&sink->net);
	if (sink->net.wake_fd >= 0)
		close(sink->net.wake_fd);
	evs_sink_flight_free(&sink->flight);
	evs_kafka_config_free(&sink->config);
	free(sink->doubt.positions);
	free(sink);
}

static bool
allocate(EvsKafka *sink, const evs_sink_host *host)
{
	int			wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	bool		ok = evs_kafka_net_init(&sink->net, wake_fd);

	sink->host = host;
	ok = evs_kafka_job_init(&sink->job, wake_fd) && ok;
	ok = evs_sink_flight_init(&sink->flight, host) && ok;
	sink->doubt.positions = calloc(sink->flight.capacity, sizeof(int64_t));
	/* Without randomness the tags are those of the time: unique among runs that follow each other. */
	if (getrandom(&sink->run, sizeof(sink->run), 0) != sizeof(sink->run))
		sink->run = (uint64_t) evs_kafka_now(sink);
	return ok && wake_fd >= 0 && sink->doubt.positions != NULL;
}

static void *
open_sink(const evs_sink_host *host, const evs_sink_settings *settings, char *error, size_t size)
{
	EvsKafka   *sink = calloc(1, sizeof(*sink));

	if (sink == NULL)
	{
		snprintf(error, size, "out of memory");
		return NULL;
	}
	if (!allocate(sink, host))
		snprintf(error, size, "out of memory, or of descriptors");
	else if (evs_kafka_configure(&sink->config, host, settings, error, size) == 0)
		return sink;
	destroy(sink);
	return NULL;
}

static int
resume(void *state, int64_t *position, char *error, size_t size)
{
	EvsKafka   *sink = state;

	if (!sink->config.transactional)
	{
		*position = 0;
		return 1;
	}
	switch (sink->resume)
	{
		case EVS_KAFKA_KNOWN:
			sink->resume = EVS_KAFKA_NOT_ASKED;
			*position = sink->position;
			return 1;
		case EVS_KAFKA_FAILED:
			sink->resume = EVS_KAFKA_NOT_ASKED;
			snprintf(error, size, "%s", sink->resume_error);
			return -1;
		default:
			sink->resume = EVS_KAFKA_WANTED;
			step(sink);
			return 0;
	}
}

static int
submit(void *state, const evs_sink_message *messages, int n)
{
	EvsKafka   *sink = state;
	int			accepted = 0;

	/*
	 * The host does not know yet of one that has failed: nothing may pass it.  To
	 * return what comes would make results as fast as a host can take them.
	 */
	if (!sink->config.transactional || sink->flight.nfailed == 0)
		accepted = evs_sink_flight_submit(&sink->flight, messages, n);
	step(sink);
	return accepted;
}

static int
wait_fd(void *state, short *events, int *timeout_ms)
{
	EvsKafka   *sink = state;
	int64_t		until = deadline(sink);

	if (sink->phase == EVS_KAFKA_ASKING && sink->ask_at < until)
		until = sink->ask_at;
	*events = POLLIN;
	if (until < sink->watch_at)
		until = sink->watch_at;
	if (sink->phase == EVS_KAFKA_CLOSED && is_wanted(sink))
		until = 0;
	*timeout_ms = evs_sink_flight_timeout(&sink->flight, until);
	return sink->net.wake_fd;
}

static int
progress(void *state, evs_sink_result *results, int max)
{
	EvsKafka   *sink = state;
	uint64_t	count;
	ssize_t		n = read(sink->net.wake_fd, &count, sizeof(count));

	/* Nothing to read is no error: there may be something to do all the same. */
	(void) n;
	evs_kafka_net_answer(sink);
	evs_kafka_take_events(sink);
	step(sink);
	return evs_sink_flight_take(&sink->flight, results, max);
}

static const evs_sink kafka = {
	.abi = EVS_SINK_ABI,
	.size = sizeof(evs_sink),
	.name = "kafka",
	.description = "Kafka, by librdkafka",
	.caps = EVS_SINK_CAP_PIPELINE | EVS_SINK_CAP_DEDUPLICATES | EVS_SINK_CAP_RESUMES |
	EVS_SINK_CAP_THREADS | EVS_SINK_CAP_NETWORK,
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
	return host_abi == EVS_SINK_ABI ? &kafka : NULL;
}
