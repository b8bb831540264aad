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
 * nats_client.c makes and keeps the connection, nats_protocol.c and nats_tls.c
 * are what is spoken on it; nats_message.c makes messages, nats_answer.c reads
 * answers, nats_claim.c and nats_sync.c are behind resume().
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

static bool
is_success(evs_sink_class result)
{
	return result == EVS_SINK_OK || result == EVS_SINK_DUPLICATE;
}

/* --- results --- */

/* Is slot to arrive after the other one?  A key's order is that of positions. */
static bool
comes_after(const EvsNatsSlot *slot, const EvsNatsSlot *other)
{
	const evs_sink_message *a = slot->message;
	const evs_sink_message *b = other->message;

	return a->key != NULL && b->key != NULL && a->position > b->position &&
		strcmp(a->key, b->key) == 0;
}

/*
 * What comes after a failed message of its key must not arrive: the host will
 * submit it again, after that one.  This is about what waits already, or is sent
 * and may have to be sent again; comes_too_early() is about what is submitted
 * until the host knows.  Either is decided at once, since the failed one is
 * forgotten as soon as its result has been taken.
 */
static void
hold_key(EvsNats *sink, const EvsNatsSlot *failed)
{
	for (uint64_t serial = failed->serial + 1; serial < sink->tail; serial++)
	{
		EvsNatsSlot *slot = evs_nats_slot(sink, serial);

		if ((slot->state == EVS_NATS_WAITING || slot->state == EVS_NATS_SENT) &&
			comes_after(slot, failed))
			slot->held = true;
	}
}

static bool
comes_too_early(EvsNats *sink, const EvsNatsSlot *slot)
{
	if (sink->nfailed == 0)
		return false;
	for (uint64_t serial = sink->head; serial < slot->serial; serial++)
	{
		EvsNatsSlot *other = evs_nats_slot(sink, serial);

		if (other->state == EVS_NATS_DONE && !is_success(other->result) && comes_after(slot, other))
			return true;
	}
	return false;
}

/* The slot's detail is set by the caller. */
static void
finish(EvsNats *sink, EvsNatsSlot *slot, evs_sink_class result, int code)
{
	if (slot->state == EVS_NATS_SENT)
		sink->nsent--;
	slot->state = EVS_NATS_DONE;
	slot->result = result;
	slot->code = code;
	if (!is_success(result))
		sink->nfailed++;
	evs_nats_claim_done(&sink->claim, slot->message, is_success(result));
	sink->done[sink->done_tail++ & (sink->capacity - 1)] = slot->serial;
}

void
evs_nats_complete(EvsNats *sink, EvsNatsSlot *slot, evs_sink_class result, int code,
				  const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vsnprintf(slot->detail, sizeof(slot->detail), format, args);
	va_end(args);
	finish(sink, slot, result, code);
	if (!is_success(result))
		hold_key(sink, slot);
}

void
evs_nats_complete_all(EvsNats *sink, bool also_sent, evs_sink_class result, int code,
					  const char *why)
{
	for (uint64_t serial = sink->head; serial < sink->tail; serial++)
	{
		EvsNatsSlot *slot = evs_nats_slot(sink, serial);

		if (slot->state == EVS_NATS_SENT && !also_sent && comes_too_early(sink, slot))
			slot->held = true;
		if (slot->state != EVS_NATS_WAITING && (!also_sent || slot->state != EVS_NATS_SENT))
			continue;
		slot->held = false;
		snprintf(slot->detail, sizeof(slot->detail), "%s", why);
		finish(sink, slot, result, code);
	}
}

void
evs_nats_requeue(EvsNats *sink, EvsNatsSlot *slot)
{
	sink->nsent--;
	slot->state = EVS_NATS_WAITING;
	if (slot->serial < sink->next)
		sink->next = slot->serial;
}

static int
take_results(EvsNats *sink, evs_sink_result *results, int max)
{
	int			n = 0;

	while (n < max && sink->done_head < sink->done_tail)
	{
		uint64_t	serial = sink->done[sink->done_head++ & (sink->capacity - 1)];
		EvsNatsSlot *slot = evs_nats_slot(sink, serial);

		evs_sink_set_result(&results[n++], slot->message->cookie, slot->result, slot->code,
							slot->detail);
		if (!is_success(slot->result))
			sink->nfailed--;
		slot->state = EVS_NATS_FREE;
	}
	while (sink->head < sink->tail && evs_nats_slot(sink, sink->head)->state == EVS_NATS_FREE)
		sink->head++;
	if (sink->next < sink->head)
		sink->next = sink->head;
	return n;
}

/* --- sending --- */

static void
write_message(EvsNats *sink, EvsNatsSlot *slot, const char *subject)
{
	const evs_sink_message *message = slot->message;
	evs_sink_buffer *out = &sink->client.out;
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
send_message(EvsNats *sink, EvsNatsSlot *slot)
{
	const evs_sink_message *message = slot->message;
	char		subject[EVS_NATS_SUBJECT_MAX];
	const char *wrong;

	if (slot->held)
	{
		evs_nats_complete(sink, slot, EVS_SINK_RETURNED, 0,
						  "an earlier message of its key has failed");
		return true;
	}
	wrong = evs_nats_fill_subject(sink->config.subject, message->topic, subject, sizeof(subject));
	if (wrong == NULL && !evs_nats_expect_ready(sink, slot, subject))
		return slot->state != EVS_NATS_WAITING;
	if (wrong == NULL)
		wrong = evs_nats_make_headers(sink, message, sink->config.expect != EVS_NATS_EXPECT_NONE ?
									  &slot->expected : NULL);
	if (wrong != NULL)
		evs_nats_complete(sink, slot, EVS_SINK_PERMANENT, 0, "%s", wrong);
	else if (sink->headers.failed)
		evs_nats_client_fail(&sink->client, "no memory for a message");
	else if (sink->headers.length + 2 + message->length > sink->client.max_payload)
		evs_nats_complete(sink, slot, EVS_SINK_PERMANENT, 0,
						  "%zu bytes with headers are more than the server's max_payload of %llu",
						  sink->headers.length + 2 + message->length,
						  (unsigned long long) sink->client.max_payload);
	else
	{
		write_message(sink, slot, subject);
		slot->state = EVS_NATS_SENT;
		slot->deadline = now_us(sink) + sink->host->timeout_ms * INT64_C(1000);
		sink->nsent++;
		evs_nats_expect_sent(sink, slot, subject);
	}
	return true;
}

/* Send what can be sent. */
static void
pump(EvsNats *sink)
{
	EvsNatsClient *client = &sink->client;

	while (sink->next < sink->tail && client->state == EVS_NATS_READY && !client->closing &&
		   !client->lame && evs_nats_client_pending(client) < MAX_PENDING)
	{
		EvsNatsSlot *slot = evs_nats_slot(sink, sink->next);

		if (slot->state == EVS_NATS_WAITING &&
			((!sink->proven && sink->nsent > 0) || !send_message(sink, slot)))
			break;
		sink->next++;
	}
	if (client->lame && client->state == EVS_NATS_READY && sink->nsent == 0 &&
		sink->sync.phase == EVS_NATS_SYNC_NONE)
		evs_nats_client_move(client);
	evs_nats_client_flush(client);
}

/* --- what the server says --- */

static void
take_ack(EvsNats *sink, const EvsNatsMessage *message)
{
	char		number[32];
	EvsNatsSlot *slot;
	EvsNatsAck	ack;
	evs_sink_class result;
	uint64_t	serial;

	snprintf(number, sizeof(number), "%.*s", (int) message->token_length - 1, message->token + 1);
	serial = strtoull(number, NULL, 16);
	if (serial < sink->head || serial >= sink->tail)
		return;
	slot = evs_nats_slot(sink, serial);
	if (slot->state != EVS_NATS_SENT)
		return;
	evs_nats_read_ack(message, &ack);
	if (ack.stored)
		sink->proven = true;
	if (evs_nats_expect_answered(sink, slot, &ack))
		return;
	result = evs_nats_classify(&ack);
	if (result == EVS_SINK_RETRY_SINK)
		sink->proven = false;
	evs_nats_complete(sink, slot, result, ack.err_code > 0 ? ack.err_code : ack.status, "%s",
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

	for (uint64_t serial = sink->head; serial < sink->tail; serial++)
	{
		EvsNatsSlot *slot = evs_nats_slot(sink, serial);

		if (slot->state == EVS_NATS_SENT &&
			evs_nats_fill_subject(sink->config.subject, slot->message->topic, subject,
								  sizeof(subject)) == NULL &&
			strncmp(denied, subject, strlen(subject)) == 0 && denied[strlen(subject)] == '"')
			evs_nats_complete(sink, slot, EVS_SINK_FATAL, 0, "%s", why);
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
		evs_nats_complete_all(sink, true, EVS_SINK_FATAL, 0, text);
		evs_nats_client_fail(&sink->client, "%s", text);
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
	evs_nats_complete_all(sink, true, EVS_SINK_RETRY_SINK, 0, why);
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
	EvsNatsConfig *config = malloc(sizeof(*config));
	int			rc;

	if (config == NULL)
	{
		snprintf(error, size, "out of memory");
		return -1;
	}
	rc = evs_nats_config_read(config, host, settings, error, size);
	free(config);
	return rc;
}

static void
destroy(void *state)
{
	EvsNats    *sink = state;

	evs_nats_client_close(&sink->client);
	evs_nats_expect_forget(sink);
	evs_sink_buffer_free(&sink->headers);
	free(sink->sync.recent);
	free(sink->claim.open);
	free(sink->relay);
	free(sink->slots);
	free(sink->done);
	free(sink);
}

static bool
allocate(EvsNats *sink)
{
	evs_sink_buffer relay = {0};

	for (sink->capacity = 64; sink->capacity < (uint64_t) sink->host->in_flight * 2;)
		sink->capacity *= 2;
	evs_nats_add_encoded(&relay, sink->host->id);
	sink->relay = relay.data;
	sink->slots = calloc(sink->capacity, sizeof(EvsNatsSlot));
	sink->done = calloc(sink->capacity, sizeof(uint64_t));
	return !relay.failed && sink->slots != NULL && sink->done != NULL &&
		evs_nats_claim_init(&sink->claim, (int) sink->capacity * 4) && evs_nats_sync_init(sink);
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
	sink->client.fd = -1;
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
	return sink->head < sink->tail || sink->resume == EVS_NATS_RESUME_ASKED;
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
	const char *message = (const char *) messages;
	int			accepted = 0;

	for (; accepted < n && sink->tail - sink->head < sink->capacity; accepted++)
	{
		EvsNatsSlot *slot = evs_nats_slot(sink, sink->tail);

		slot->message = (const evs_sink_message *) message;
		slot->state = EVS_NATS_WAITING;
		slot->serial = sink->tail++;
		slot->held = comes_too_early(sink, slot);
		evs_nats_claim_submitted(&sink->claim, slot->message);
		message += slot->message->size;
	}
	pump(sink);
	return accepted;
}

/* When the first of the messages that were sent is overdue. */
static int64_t
ack_deadline(EvsNats *sink)
{
	for (uint64_t serial = sink->head; sink->nsent > 0 && serial < sink->tail; serial++)
		if (evs_nats_slot(sink, serial)->state == EVS_NATS_SENT)
			return evs_nats_slot(sink, serial)->deadline;
	return INT64_MAX;
}

static void
watch_deadlines(EvsNats *sink)
{
	int64_t		now = now_us(sink);

	if (sink->client.state != EVS_NATS_READY)
		return;
	if (now >= ack_deadline(sink))
		evs_nats_client_fail(&sink->client, "no acknowledgement within %d ms",
							 sink->host->timeout_ms);
	else if (sink->sync.phase != EVS_NATS_SYNC_NONE && now >= sink->sync.deadline)
		evs_nats_client_fail(&sink->client, "no answer of JetStream within %d ms",
							 sink->host->timeout_ms);
}

static int
wait_fd(void *state, short *events, int *timeout_ms)
{
	EvsNats    *sink = state;
	int64_t		now = now_us(sink);
	int64_t		until;
	int64_t		other = ack_deadline(sink);
	int			fd;

	evs_nats_client_wait(&sink->client, wants_connection(sink), &fd, events, &until);
	if (other < until)
		until = other;
	if (sink->sync.phase != EVS_NATS_SYNC_NONE && sink->sync.deadline < until)
		until = sink->sync.deadline;
	if (sink->done_head < sink->done_tail || until <= now)
		*timeout_ms = 0;
	else
		*timeout_ms = until == INT64_MAX ? -1 : (int) ((until - now + 999) / 1000);
	return fd;
}

static int
progress(void *state, evs_sink_result *results, int max)
{
	EvsNats    *sink = state;
	EvsNatsClient *client = &sink->client;

	evs_nats_client_run(client, wants_connection(sink));
	watch_deadlines(sink);
	if (sink->resume == EVS_NATS_RESUME_ASKED && client->state == EVS_NATS_READY &&
		!client->closing && sink->sync.phase == EVS_NATS_SYNC_NONE)
		evs_nats_sync_stream(sink);
	pump(sink);
	if (client->closing)
		evs_nats_client_run(client, false);
	return take_results(sink, results, max);
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
