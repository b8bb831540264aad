/*
 * evstore_sink_amqp.c
 *	  Sink to RabbitMQ by AMQP 0-9-1, with a client of its own.
 *
 * Messages are published on one channel of one connection, in the order of
 * submission, and so arrive in it.  The channel is in confirm mode: a message is
 * done when the server has acknowledged it, which it does for a persistent one
 * when it is on disk.  With "mandatory" one that no queue takes comes back before
 * it is acknowledged, and is parked.
 *
 * The first message on each connection, and behind one that was refused, is sent
 * alone, so a server that takes nothing does so for one message; so are those
 * among which one has to be found for which the server closes the channel
 * (amqp_confirm.c).
 *
 * When an acknowledgement does not come in time the connection is given up, like
 * one that breaks: all messages are handed back.  What the server still reads from
 * the old connection is the beginning of what comes again over the new one, so
 * the first arrival of each message is in order, whichever connection it comes
 * from.
 *
 * A server that is short of memory or disk says that it reads no more.  Then the
 * connection stays, nothing is sent, and when it takes longer than a request may,
 * all messages are handed back, time after time, until it reads again.
 *
 * amqp_connection.c is what is spoken, in the terms of amqp_codec.c;
 * amqp_message.c makes messages.
 */
#include <stdio.h>
#include <stdlib.h>

#include "amqp_sink.h"

/* No more is written to the link while so much has not gone to the network. */
#define MAX_PENDING (4 * 1024 * 1024)

static int64_t
now_us(const EvsAmqp *sink)
{
	return sink->host->now_us(sink->host->ctx);
}

/* --- sending --- */

static bool
may_send(const EvsAmqp *sink, const evs_sink_slot *slot)
{
	return sink->flight.nsent == 0 || (sink->proven && slot->serial >= sink->careful_until);
}

/* Less is left to go out than before: the other side reads. */
static void
watch_output(EvsAmqp *sink)
{
	size_t		pending = evs_sink_link_pending(&sink->link);

	if (pending < sink->pending)
		sink->moved_at = now_us(sink);
	sink->pending = pending;
}

/* Send what can be sent. */
static void
pump(EvsAmqp *sink)
{
	evs_sink_link *link = &sink->link;
	evs_sink_slot *slot;

	while (sink->state == EVS_AMQP_READY && evs_sink_link_is_up(link) && !sink->paused &&
		   evs_sink_link_pending(link) < MAX_PENDING &&
		   (slot = evs_sink_flight_next(&sink->flight)) != NULL && may_send(sink, slot))
	{
		const char *wrong;

		if (!evs_amqp_confirm_has_room(sink))
		{
			if (sink->flight.nsent == 0)
				evs_sink_link_fail(link, "the server does not acknowledge what it returns");
			break;
		}
		wrong = evs_amqp_write_message(sink, slot->message);
		if (wrong != NULL)
			evs_sink_flight_complete(&sink->flight, slot, EVS_SINK_PERMANENT, 0, "%s", wrong);
		else
			evs_amqp_confirm_sent(sink, slot);
	}
	evs_sink_link_flush(link);
	watch_output(sink);
}

/* --- what the link says --- */

static void
on_opened(void *arg)
{
	evs_amqp_connection_begin(arg);
}

static void
on_input(void *arg)
{
	evs_amqp_connection_input(arg);
}

/* It should have sent a heartbeat, twice. */
static void
on_silent(void *arg)
{
	EvsAmqp    *sink = arg;

	evs_sink_link_fail(&sink->link, "the server gives no sign of life");
}

static void
on_beat(void *arg)
{
	evs_amqp_connection_beat(arg);
}

static void
on_lost(void *arg, const char *why)
{
	EvsAmqp    *sink = arg;

	evs_sink_flight_complete_all(&sink->flight, true, EVS_SINK_RETRY_SINK, 0, why);
}

static const evs_sink_link_events link_events = {
	.opened = on_opened, .input = on_input, .silent = on_silent, .beat = on_beat, .lost = on_lost
};

/* --- time --- */

/* When all is handed back because of a server that wants nothing. */
static int64_t
pause_deadline(const EvsAmqp *sink)
{
	return sink->paused && !evs_sink_flight_is_empty(&sink->flight) ?
		sink->paused_at + sink->host->timeout_ms * INT64_C(1000) : INT64_MAX;
}

/*
 * When the first acknowledgement is overdue.  The time begins anew after a pause,
 * and with each part of a long message that goes out.
 */
static int64_t
ack_deadline(EvsAmqp *sink)
{
	int64_t		deadline = evs_sink_flight_deadline(&sink->flight);
	int64_t		since = sink->resumed_at > sink->moved_at ? sink->resumed_at : sink->moved_at;
	int64_t		earliest = since + sink->host->timeout_ms * INT64_C(1000);

	return deadline > earliest ? deadline : earliest;
}

static int64_t
next_deadline(EvsAmqp *sink)
{
	if (sink->link.state != EVS_SINK_LINK_READY)
		return INT64_MAX;
	if (sink->channel_deadline > 0)
		return sink->channel_deadline;
	return sink->paused ? pause_deadline(sink) : ack_deadline(sink);
}

static void
watch_time(EvsAmqp *sink)
{
	int64_t		now = now_us(sink);
	char		why[200];

	if (now < next_deadline(sink))
		return;
	if (sink->paused && sink->channel_deadline == 0)
	{
		snprintf(why, sizeof(why), "the server takes no messages: %s", sink->paused_why);
		evs_sink_flight_complete_all(&sink->flight, true, EVS_SINK_RETRY_SINK, 0, why);
	}
	else
		evs_sink_link_fail(&sink->link, "no %s within %d ms", sink->channel_deadline > 0 ?
						   "channel" : "acknowledgement", sink->host->timeout_ms);
}

/* --- the module --- */

static int
validate(const evs_sink_host *host, const evs_sink_settings *settings, char *error, size_t size)
{
	EvsAmqpConfig config;

	return evs_amqp_config_read(&config, host, settings, error, size);
}

static void
destroy(void *state)
{
	EvsAmqp    *sink = state;

	evs_sink_link_close(&sink->link);
	evs_sink_flight_free(&sink->flight);
	evs_sink_buffer_free(&sink->header);
	free(sink->serials);
	free(sink);
}

static bool
allocate(EvsAmqp *sink)
{
	if (!evs_sink_flight_init(&sink->flight, sink->host))
		return false;
	sink->serials = calloc(sink->flight.capacity, sizeof(uint64_t));
	return sink->serials != NULL;
}

static void *
open_sink(const evs_sink_host *host, const evs_sink_settings *settings, char *error, size_t size)
{
	EvsAmqp    *sink = calloc(1, sizeof(*sink));

	if (sink == NULL)
	{
		snprintf(error, size, "out of memory");
		return NULL;
	}
	sink->host = host;
	sink->link.fd = -1;
	if (evs_amqp_config_read(&sink->config, host, settings, error, size) != 0)
	{
		destroy(sink);
		return NULL;
	}
	if (!allocate(sink))
	{
		snprintf(error, size, "out of memory");
		destroy(sink);
		return NULL;
	}
	evs_sink_link_init(&sink->link, host, &sink->config.link, &link_events, sink);
	return sink;
}

static int
submit(void *state, const evs_sink_message *messages, int n)
{
	EvsAmqp    *sink = state;
	int			accepted = evs_sink_flight_submit(&sink->flight, messages, n);

	pump(sink);
	return accepted;
}

static int
wait_fd(void *state, short *events, int *timeout_ms)
{
	EvsAmqp    *sink = state;
	int64_t		until;
	int64_t		other = next_deadline(sink);
	int			fd;

	evs_sink_link_wait(&sink->link, !evs_sink_flight_is_empty(&sink->flight), &fd, events, &until);
	if (other < until)
		until = other;
	*timeout_ms = evs_sink_flight_timeout(&sink->flight, until);
	return fd;
}

static int
progress(void *state, evs_sink_result *results, int max)
{
	EvsAmqp    *sink = state;
	evs_sink_link *link = &sink->link;

	evs_sink_link_run(link, !evs_sink_flight_is_empty(&sink->flight));
	watch_time(sink);
	pump(sink);
	if (link->closing)
		evs_sink_link_run(link, false);
	return evs_sink_flight_take(&sink->flight, results, max);
}

static const evs_sink amqp = {
	.abi = EVS_SINK_ABI,
	.size = sizeof(evs_sink),
	.name = "amqp",
	.description = "RabbitMQ (AMQP 0-9-1), own client",
	.caps = EVS_SINK_CAP_PIPELINE | EVS_SINK_CAP_THREADS | EVS_SINK_CAP_NETWORK,
	.validate = validate,
	.open = open_sink,
	.submit = submit,
	.wait_fd = wait_fd,
	.progress = progress,
	.destroy = destroy
};

EVS_SINK_EXPORT const evs_sink *
evs_sink_init(uint32_t host_abi)
{
	return host_abi == EVS_SINK_ABI ? &amqp : NULL;
}
