/*
 * evstore_sink_mqtt.c
 *	  Sink to MQTT 5 and 3.1.1, with a client of its own.
 *
 * Each message is one PUBLISH of QoS 1 or 2, over one connection, strictly in the
 * order of submission; servers keep the order of what one client publishes.  The
 * server says how many may be without acknowledgement at the same time.
 *
 * When an acknowledgement does not come in time the connection is given up, like
 * one that breaks: all messages are handed back, and come again in order.
 *
 * A server of 3.1.1 says nothing of a message that it does not take: it ends the
 * connection, and so do some of MQTT 5.  After some outages the host tries one
 * message, and one that was alone several times is to blame.
 *
 * mqtt_packet.c knows what packets look like, mqtt_reason.c what their codes mean;
 * mqtt_connect.c signs in and reads, mqtt_message.c makes PUBLISH, and
 * mqtt_session.c is about packet identifiers, and what outlives a connection.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mqtt_sink.h"

/* No more is written to the link while so much has not gone to the network. */
#define MAX_PENDING (4 * 1024 * 1024)

/* So many connections in a row that end with the same message alone are its fault. */
#define MAX_ENDS 3

/* The server's own words in a detail. */
#define MAX_WORDS 160

static int64_t
now_us(const EvsMqtt *sink)
{
	return sink->host->now_us(sink->host->ctx);
}

/* --- what the server says --- */

/* Do these words have the password in them?  Some servers are talkative. */
static bool
has_password(const EvsMqtt *sink, const char *words)
{
	char		password[8192];
	int			length;
	bool		has;

	if (sink->config.password == NULL)
		return false;
	length = sink->host->secret(sink->host->ctx, sink->config.password, password, sizeof(password));
	/* One that does not fit was not copied, nor has it ever been sent. */
	has = length > 0 && length < (int) sizeof(password) && strstr(words, password) != NULL;
	explicit_bzero(password, sizeof(password));
	return has;
}

static void
add_words(const EvsMqtt *sink, const char *what, const char *words, size_t length,
		  char *text, size_t size)
{
	char		copy[MAX_WORDS + 1];
	size_t		used = strlen(text);

	if (words == NULL || length == 0)
		return;
	if (length > MAX_WORDS)
		length = MAX_WORDS;
	while (length > 0 && !evs_mqtt_is_utf8(words, length))
		length--;				/* what was cut within a character, or is none */
	for (size_t i = 0; i < length; i++)
		copy[i] = (unsigned char) words[i] < ' ' || words[i] == 0x7F ? ' ' : words[i];
	copy[length] = '\0';
	if (!has_password(sink, copy))
		snprintf(text + used, size - used, "%s%s", what, copy);
}

void
evs_mqtt_describe(const EvsMqtt *sink, const EvsMqttAnswer *answer, char *text, size_t size)
{
	snprintf(text, size, "%s (0x%02X)", evs_mqtt_reason_name(sink->config.version, answer->code),
			 answer->code);
	add_words(sink, ": ", answer->reason, answer->reason_length, text, size);
	add_words(sink, "; server reference: ", answer->reference, answer->reference_length, text, size);
}

void
evs_mqtt_fatal(EvsMqtt *sink, int code, const char *why)
{
	if (sink->link.nservers == 1)
		evs_sink_flight_complete_all(&sink->flight, true, EVS_SINK_FATAL, code, why);
	evs_sink_link_fail(&sink->link, "%s", why);
}

/* The one message that is without acknowledgement, or NULL if there are none, or more. */
static evs_sink_slot *
only_one_sent(const EvsMqtt *sink)
{
	if (sink->flight.nsent != 1)
		return NULL;
	for (uint64_t serial = sink->flight.head; serial < sink->flight.tail; serial++)
		if (evs_sink_flight_slot(&sink->flight, serial)->state == EVS_SINK_SLOT_SENT)
			return evs_sink_flight_slot(&sink->flight, serial);
	return NULL;
}

/*
 * A server that ends the connection because of a message does not say which.  If it
 * is the only one it is to blame.  Otherwise it is an outage, after which the host
 * comes to try one by one.
 */
void
evs_mqtt_refused(EvsMqtt *sink, const char *what, const EvsMqttAnswer *answer)
{
	evs_sink_class result = evs_mqtt_reason_of_connection(sink->config.version, answer->code);
	evs_sink_slot *slot = only_one_sent(sink);
	char		words[256];
	char		text[320];

	sink->explained = true;
	evs_mqtt_describe(sink, answer, words, sizeof(words));
	snprintf(text, sizeof(text), "%s: %s", what, words);
	if (answer->code == 0x93)
		sink->session.kept = false; /* what was interrupted is more than it takes */
	if (result == EVS_SINK_FATAL)
		evs_mqtt_fatal(sink, answer->code, text);
	else if (result != EVS_SINK_RETRY_SINK && slot != NULL)
		evs_sink_flight_complete(&sink->flight, slot, result, answer->code, "%s", text);
	evs_sink_link_fail(&sink->link, "%s", text);
}

/* --- the link --- */

static void
on_opened(void *arg)
{
	EvsMqtt    *sink = arg;

	sink->explained = false;
	evs_mqtt_connect(sink);
}

static void
on_input(void *arg)
{
	evs_mqtt_input(arg);
}

/* Neither end has said anything: to ask for an answer does for both. */
static void
on_silence(void *arg)
{
	evs_mqtt_send_ping(arg);
}

/* The message that is to blame for the end of the connection, or NULL. */
static evs_sink_slot *
find_culprit(EvsMqtt *sink)
{
	evs_sink_slot *slot = sink->explained ? NULL : only_one_sent(sink);

	if (slot == NULL)
		return NULL;
	if (strcmp(sink->suspect, slot->message->id) != 0)
		sink->nends = 0;
	snprintf(sink->suspect, sizeof(sink->suspect), "%s", slot->message->id);
	return ++sink->nends >= MAX_ENDS ? slot : NULL;
}

/* It counts as an attempt.  Those behind it come again after it, and as new ones. */
static void
blame(EvsMqtt *sink, evs_sink_slot *slot, const char *why)
{
	evs_sink_flight_complete(&sink->flight, slot, EVS_SINK_RETRY, 0,
							 "the server ends each connection on which the message is sent: %s", why);
	evs_mqtt_session_drop(sink);
	evs_mqtt_session_forget(sink);
}

static void
on_lost(void *arg, const char *why)
{
	EvsMqtt    *sink = arg;
	evs_sink_slot *culprit = why != NULL ? find_culprit(sink) : NULL;

	evs_mqtt_forget_password(sink);
	evs_mqtt_session_lost(sink);
	if (culprit != NULL)
		blame(sink, culprit, why);
	if (why != NULL)
		evs_sink_flight_complete_all(&sink->flight, true, EVS_SINK_RETRY_SINK, 0, why);
}

static const evs_sink_link_events link_events = {on_opened, on_input, on_silence, on_silence, on_lost};

static void
pump(EvsMqtt *sink)
{
	evs_sink_slot *slot;

	while (evs_sink_link_is_up(&sink->link) && evs_sink_link_pending(&sink->link) < MAX_PENDING &&
		   (slot = evs_sink_flight_next(&sink->flight)) != NULL &&
		   evs_mqtt_session_send(sink, slot))
		;
	evs_sink_link_flush(&sink->link);
}

/* --- the module --- */

static int
validate(const evs_sink_host *host, const evs_sink_settings *settings, char *error, size_t size)
{
	EvsMqttConfig config;

	return evs_mqtt_config_read(&config, host, settings, error, size);
}

static void
destroy(void *state)
{
	EvsMqtt    *sink = state;

	evs_mqtt_disconnect(sink);
	evs_sink_link_close(&sink->link);
	evs_sink_flight_free(&sink->flight);
	evs_mqtt_session_free(sink);
	evs_sink_buffer_free(&sink->fixed);
	evs_sink_buffer_free(&sink->properties);
	evs_sink_buffer_free(&sink->filled);
	free(sink);
}

static void *
open_sink(const evs_sink_host *host, const evs_sink_settings *settings, char *error, size_t size)
{
	EvsMqtt    *sink = calloc(1, sizeof(*sink));

	if (sink == NULL)
	{
		snprintf(error, size, "out of memory");
		return NULL;
	}
	sink->host = host;
	sink->link.fd = -1;
	if (evs_mqtt_config_read(&sink->config, host, settings, error, size) != 0)
	{
		destroy(sink);
		return NULL;
	}
	evs_mqtt_config_properties(&sink->config, &sink->fixed);
	if (!evs_sink_flight_init(&sink->flight, host) || !evs_mqtt_session_init(sink) || sink->fixed.failed)
	{
		snprintf(error, size, "out of memory");
		destroy(sink);
		return NULL;
	}
	evs_sink_link_init(&sink->link, host, &sink->config.link, &link_events, sink);
	return sink;
}

static bool
wants_connection(const EvsMqtt *sink)
{
	return !evs_sink_flight_is_empty(&sink->flight);
}

static int
submit(void *state, const evs_sink_message *messages, int n)
{
	EvsMqtt    *sink = state;
	int			accepted = evs_sink_flight_submit(&sink->flight, messages, n);

	pump(sink);
	return accepted;
}

/* When the first acknowledgement is overdue; INT64_MAX: none is. */
static int64_t
ack_deadline(EvsMqtt *sink)
{
	int64_t		until = evs_sink_flight_deadline(&sink->flight);

	return sink->session.norphans > 0 && sink->session.orphans_until < until ?
		sink->session.orphans_until : until;
}

static int
wait_fd(void *state, short *events, int *timeout_ms)
{
	EvsMqtt    *sink = state;
	int64_t		until;
	int			fd;

	evs_sink_link_wait(&sink->link, wants_connection(sink), &fd, events, &until);
	if (evs_sink_link_is_up(&sink->link) && ack_deadline(sink) < until)
		until = ack_deadline(sink);
	*timeout_ms = evs_sink_flight_timeout(&sink->flight, until);
	return fd;
}

static int
progress(void *state, evs_sink_result *results, int max)
{
	EvsMqtt    *sink = state;

	evs_sink_link_run(&sink->link, wants_connection(sink));
	if (evs_sink_link_is_up(&sink->link) && now_us(sink) >= ack_deadline(sink))
	{
		sink->explained = true;
		evs_sink_link_fail(&sink->link, "no acknowledgement within %d ms", sink->host->timeout_ms);
	}
	pump(sink);
	if (sink->link.closing)
		evs_sink_link_run(&sink->link, false);
	return evs_sink_flight_take(&sink->flight, results, max);
}

static const evs_sink mqtt = {
	.abi = EVS_SINK_ABI,
	.size = sizeof(evs_sink),
	.name = "mqtt",
	.description = "MQTT 5 and 3.1.1, own client",
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
	return host_abi == EVS_SINK_ABI ? &mqtt : NULL;
}
