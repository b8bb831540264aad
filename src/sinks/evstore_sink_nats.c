/*
 * evstore_sink_nats.c
 *	  Sink to NATS JetStream, with a client of its own.
 *
 * Each message is published with a reply subject in the client's inbox, whose
 * last word is the serial number of the message's slot; JetStream's
 * acknowledgement comes back there.  Slots are a ring in the order of
 * submission.  A message waits in its slot until it can be sent; it is sent when
 * the connection is ready and, with "expect", when it is known what it comes
 * after (nats_expect.c).  Messages are sent strictly in that order, on one
 * connection, and so arrive in it.
 *
 * A server that has just started refuses messages until it has read the stream,
 * and stores those behind them that were on their way.  So the first message is
 * sent alone, on each connection, and again after an answer that nobody is
 * there; the others wait until one was stored.
 *
 * Nats-Msg-Id is the event's id: what comes again within the stream's duplicate
 * window is acknowledged as a duplicate.
 *
 * When an acknowledgement does not come in time the connection is given up, like
 * one that breaks: all messages are handed back, the inbox is a new one, and
 * late acknowledgements find nobody.  What the server still reads from the old
 * connection is the beginning of what comes again over the new one, so the first
 * arrival of each message is in order, whichever connection it comes from.
 *
 * The connection is a link (sink_link.h), the slots are a flight (sink_flight.h).
 * nats_client.c and nats_protocol.c are what is spoken on the connection;
 * nats_message.c makes messages, nats_answer.c reads answers, nats_sync.c is
 * behind resume().
 */
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "nats_sink.h"

/* No more is written to the client while so much has not gone to the network. */
#define MAX_PENDING (4 * 1024 * 1024)

static int64_t
now_us(const EvsNats *sink)
{
	return sink->host->now_us(sink->host->ctx);
}

/* --- sending --- */

static void
write_message(EvsNats *sink, evs_sink_slot *slot, const char *subject)
{
	const evs_sink_message *message = slot->message;
	evs_sink_buffer *out = &sink->client.link.out;
	size_t		headers = sink->headers.length + 2;

	evs_sink_printf(out, "HPUB %s %sp%llx %zu %zu\r\n", subject, sink->client.inbox,
					(unsigned long long) slot->serial, headers, headers + message->length);
	evs_sink_add(out, sink->headers.data, sink->headers.length);
	evs_sink_add(out, "\r\n", 2);
	evs_sink_add(out, message->data, message->length);
	evs_sink_add(out, "\r\n", 2);
}

/* false: it has to wait, and with it all that come after it. */
static bool
send_message(EvsNats *sink, evs_sink_slot *slot)
{
	const evs_sink_message *message = slot->message;
	char		subject[EVS_NATS_SUBJECT_MAX];
	const char *wrong;

	wrong = evs_nats_fill_subject(sink->config.subject, message->topic, subject, sizeof(subject));
	if (wrong == NULL && !evs_nats_expect_ready(sink, slot, subject))
		return slot->state != EVS_SINK_SLOT_WAITING;
	if (wrong == NULL)
		wrong = evs_nats_make_headers(sink, message, sink->config.expect != EVS_NATS_EXPECT_NONE ?
									  &slot->tag : NULL);
	if (wrong != NULL)
		evs_sink_flight_complete(&sink->flight, slot, EVS_SINK_PERMANENT, 0, "%s", wrong);
	else if (sink->headers.failed)
		evs_sink_link_fail(&sink->client.link, "no memory for a message");
	else if (sink->headers.length + 2 + message->length > sink->client.max_payload)
		evs_sink_flight_complete(&sink->flight, slot, EVS_SINK_PERMANENT, 0,
								 "%zu bytes with headers are more than the server's max_payload of %llu",
								 sink->headers.length + 2 + message->length,
								 (unsigned long long) sink->client.max_payload);
	else
	{
		write_message(sink, slot, subject);
		evs_sink_flight_sent(&sink->flight, slot);
		evs_nats_expect_sent(sink, slot, subject);
	}
	return true;
}

/* Send what can be sent. */
static void
pump(EvsNats *sink)
{
	EvsNatsClient *client = &sink->client;

	while (evs_sink_link_is_up(&client->link) && !client->lame &&
		   evs_sink_link_pending(&client->link) < MAX_PENDING)
	{
		evs_sink_slot *slot = evs_sink_flight_next(&sink->flight);

		if (slot == NULL || (!sink->proven && sink->flight.nsent > 0) || !send_message(sink, slot))
			break;
	}
	if (client->lame && evs_sink_link_is_up(&client->link) && sink->flight.nsent == 0 &&
		sink->sync.phase == EVS_NATS_SYNC_NONE)
		evs_sink_link_move(&client->link);
	evs_sink_link_flush(&client->link);
}

/* --- what the server says --- */

static void
take_ack(EvsNats *sink, const EvsNatsMessage *message)
{
	char		number[32];
	evs_sink_slot *slot;
	EvsNatsAck	ack;
	evs_sink_class result;

	snprintf(number, sizeof(number), "%.*s", (int) message->token_length - 1, message->token + 1);
	slot = evs_sink_flight_find(&sink->flight, strtoull(number, NULL, 16));
	if (slot == NULL)
		return;
	evs_nats_read_ack(message, &ack);
	if (ack.stored)
		sink->proven = true;
	if (evs_nats_expect_answered(sink, slot, &ack))
		return;
	result = evs_nats_classify(&ack);
	if (result == EVS_SINK_RETRY_SINK)
		sink->proven = false;
	evs_sink_flight_complete(&sink->flight, slot, result, ack.err_code > 0 ? ack.err_code : ack.status, "%s",
							 ack.description);
}

static void
on_message(void *arg, const EvsNatsMessage *message)
{
	EvsNats    *sink = arg;

	if (message->token_length > 1 && message->token_length < 18 && *message->token == 'p')
		take_ack(sink, message);
	else if (message->token_length > 1 && *message->token == 'q')
		evs_nats_sync_answered(sink, message);
}

/* Permissions Violation for Publish to "subject": it does not say which message. */
static void
refuse_subject(EvsNats *sink, const char *denied, const char *why)
{
	char		subject[EVS_NATS_SUBJECT_MAX];

	for (uint64_t serial = sink->flight.head; serial < sink->flight.tail; serial++)
	{
		evs_sink_slot *slot = evs_sink_flight_slot(&sink->flight, serial);

		if (slot->state == EVS_SINK_SLOT_SENT &&
			evs_nats_fill_subject(sink->config.subject, slot->message->topic, subject,
								  sizeof(subject)) == NULL &&
			strncmp(denied, subject, strlen(subject)) == 0 && denied[strlen(subject)] == '"')
			evs_sink_flight_complete(&sink->flight, slot, EVS_SINK_FATAL, 0, "%s", why);
	}
}

static void
on_error(void *arg, const char *text)
{
	EvsNats    *sink = arg;
	const char *quoted = strchr(text, '"');

	if (strncasecmp(text, "Permissions Violation for Publish", 33) != 0 || quoted == NULL)
	{
		/* Without the inbox there are no acknowledgements. */
		evs_sink_flight_complete_all(&sink->flight, true, EVS_SINK_FATAL, 0, text);
		evs_sink_link_fail(&sink->client.link, "%s", text);
	}
	else if (strncmp(quoted + 1, "$JS.API.", 8) == 0)
		evs_nats_sync_refused(sink, text);
	else
		refuse_subject(sink, quoted + 1, text);
}

static void
on_lost(void *arg, const char *why)
{
	EvsNats    *sink = arg;

	evs_nats_expect_forget(sink);
	sink->proven = false;
	if (why == NULL)
		return;
	evs_sink_flight_complete_all(&sink->flight, true, EVS_SINK_RETRY_SINK, 0, why);
	if (sink->resume == EVS_NATS_RESUME_ASKED)
	{
		sink->resume = EVS_NATS_RESUME_FAILED;
		snprintf(sink->resume_error, sizeof(sink->resume_error), "%s", why);
	}
}

static const EvsNatsEvents client_events = {on_message, on_error, on_lost};

/* --- the module --- */

static int
validate(const evs_sink_host *host, const evs_sink_settings *settings, char *error, size_t size)
{
	EvsNatsConfig config;

	return evs_nats_config_read(&config, host, settings, error, size);
}

static void
destroy(void *state)
{
	EvsNats    *sink = state;

	evs_sink_link_close(&sink->client.link);
	evs_nats_expect_forget(sink);
	evs_sink_buffer_free(&sink->headers);
	free(sink->sync.recent);
	evs_sink_claim_free(&sink->claim);
	evs_sink_flight_free(&sink->flight);
	free(sink->relay);
	free(sink);
}

static void
on_completed(void *arg, const evs_sink_slot *slot, bool success)
{
	EvsNats    *sink = arg;

	evs_sink_claim_done(&sink->claim, slot->message, success);
}

static bool
allocate(EvsNats *sink)
{
	evs_sink_buffer relay = {0};

	evs_nats_add_encoded(&relay, sink->host->id);
	sink->relay = relay.data;
	if (relay.failed || !evs_sink_flight_init(&sink->flight, sink->host) ||
		!evs_sink_claim_init(&sink->claim, (int) sink->flight.capacity * 4))
		return false;
	sink->flight.completed = on_completed;
	sink->flight.arg = sink;
	return evs_nats_sync_init(sink);
}

static void *
open_sink(const evs_sink_host *host, const evs_sink_settings *settings, char *error, size_t size)
{
	EvsNats    *sink = calloc(1, sizeof(*sink));

	if (sink == NULL)
	{
		snprintf(error, size, "out of memory");
		return NULL;
	}
	sink->host = host;
	sink->client.link.fd = -1;
	if (evs_nats_config_read(&sink->config, host, settings, error, size) != 0)
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
	evs_nats_client_init(&sink->client, host, &sink->config, &client_events, sink);
	return sink;
}

static bool
wants_connection(const EvsNats *sink)
{
	return !evs_sink_flight_is_empty(&sink->flight) || sink->resume == EVS_NATS_RESUME_ASKED;
}

static int
resume(void *state, int64_t *position, char *error, size_t size)
{
	EvsNats    *sink = state;
	EvsNatsResume before = sink->resume;

	if (sink->config.stream == NULL)
	{
		*position = 0;
		return 1;
	}
	sink->resume = EVS_NATS_RESUME_NONE;
	switch (before)
	{
		case EVS_NATS_RESUME_KNOWN:
			*position = sink->resume_position;
			return 1;
		case EVS_NATS_RESUME_FAILED:
			snprintf(error, size, "%s", sink->resume_error);
			return -1;
		default:
			sink->resume = EVS_NATS_RESUME_ASKED;
			return 0;
	}
}

static int
submit(void *state, const evs_sink_message *messages, int n)
{
	EvsNats    *sink = state;
	int			accepted = evs_sink_flight_submit(&sink->flight, messages, n);

	for (int i = 0; i < accepted; i++)
		evs_sink_claim_submitted(&sink->claim, evs_sink_message_at(messages, i));
	pump(sink);
	return accepted;
}

static void
watch_deadlines(EvsNats *sink)
{
	int64_t		now = now_us(sink);

	if (sink->client.link.state != EVS_SINK_LINK_READY)
		return;
	if (now >= evs_sink_flight_deadline(&sink->flight))
		evs_sink_link_fail(&sink->client.link, "no acknowledgement within %d ms",
						   sink->host->timeout_ms);
	else if (sink->sync.phase != EVS_NATS_SYNC_NONE && now >= sink->sync.deadline)
		evs_sink_link_fail(&sink->client.link, "no answer of JetStream within %d ms",
						   sink->host->timeout_ms);
}

static int
wait_fd(void *state, short *events, int *timeout_ms)
{
	EvsNats    *sink = state;
	int64_t		until;
	int64_t		other = evs_sink_flight_deadline(&sink->flight);
	int			fd;

	evs_sink_link_wait(&sink->client.link, wants_connection(sink), &fd, events, &until);
	if (other < until)
		until = other;
	if (sink->sync.phase != EVS_NATS_SYNC_NONE && sink->sync.deadline < until)
		until = sink->sync.deadline;
	*timeout_ms = evs_sink_flight_timeout(&sink->flight, until);
	return fd;
}

static int
progress(void *state, evs_sink_result *results, int max)
{
	EvsNats    *sink = state;
	evs_sink_link *link = &sink->client.link;

	evs_sink_link_run(link, wants_connection(sink));
	watch_deadlines(sink);
	if (sink->resume == EVS_NATS_RESUME_ASKED && evs_sink_link_is_up(link) &&
		sink->sync.phase == EVS_NATS_SYNC_NONE)
		evs_nats_sync_stream(sink);
	pump(sink);
	if (link->closing)
		evs_sink_link_run(link, false);
	return evs_sink_flight_take(&sink->flight, results, max);
}

static const evs_sink nats = {
	.abi = EVS_SINK_ABI,
	.size = sizeof(evs_sink),
	.name = "nats",
	.description = "NATS JetStream, own client",
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
	return host_abi == EVS_SINK_ABI ? &nats : NULL;
}
