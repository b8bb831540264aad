/*
 * mqtt_session.c
 *	  Packet identifiers, and what becomes of them when the connection is lost.
 *
 * With QoS 1 a message is done with PUBACK, and a lost connection leaves nothing
 * behind: each begins a new session.
 *
 * With QoS 2 PUBREC says that the server has the message, but a server may publish
 * it only when PUBREL arrives, and forget it with the session before that.  So it is
 * done with PUBCOMP.  When the connection is lost the server keeps the session, and
 * we keep which identifier stood for which event.  The host submits the events
 * again.  One whose PUBLISH may have arrived goes out with the identifier that it
 * had: the server takes it once.  One that was released is released again, before
 * anything else is sent.  Thus nothing is published twice, as long as both sides
 * keep the session.
 *
 * An identifier that means one message here and another there would lose one of
 * them.  So a session is resumed only if this process has begun it, at the same
 * address, and was connected nowhere else since.  In 3.1.1 a session that is to
 * last cannot be begun anew: one that we do not know is wiped out by a connection
 * that asks for none.
 *
 * Order.  Servers publish in the order of PUBLISH, or of PUBREL; both are that of
 * submission.  If one message fails, those behind it of its key must come again
 * after it, though they have arrived: what was interrupted is then not recognised
 * any more, and comes as a new message.
 */
#define _GNU_SOURCE				/* for qsort_r() */

#include <stdlib.h>
#include <string.h>

#include "mqtt_sink.h"

/* Identifiers for so many times what can be in flight. */
#define SPARE 2
#define MAX_PACKET_ID 65535

bool
evs_mqtt_session_init(EvsMqtt *sink)
{
	EvsMqttSession *session = &sink->session;
	uint64_t	wanted = sink->flight.capacity * SPARE;

	session->size = (int) (wanted < MAX_PACKET_ID ? wanted : MAX_PACKET_ID) + 1;
	session->exchanges = calloc(session->size, sizeof(EvsMqttExchange));
	session->sorted = calloc(session->size, sizeof(int));
	return session->exchanges != NULL && session->sorted != NULL;
}

void
evs_mqtt_session_free(EvsMqtt *sink)
{
	free(sink->session.exchanges);
	free(sink->session.sorted);
}

static int64_t
deadline(const EvsMqtt *sink)
{
	return sink->host->now_us(sink->host->ctx) + sink->host->timeout_ms * INT64_C(1000);
}

/* --- states --- */

static bool
is_open(EvsMqttState state)
{
	return state == EVS_MQTT_PUBLISHED || state == EVS_MQTT_INTERRUPTED ||
		state == EVS_MQTT_RELEASED;
}

/* The only place where the state, or the slot, of an exchange changes. */
static void
set_exchange(EvsMqttSession *session, EvsMqttExchange *exchange, EvsMqttState state,
			 uint64_t serial)
{
	bool		was_left = exchange->state != EVS_MQTT_FREE && exchange->serial == EVS_MQTT_NO_SLOT;
	bool		is_left = state != EVS_MQTT_FREE && serial == EVS_MQTT_NO_SLOT;
	bool		was_orphan = was_left && exchange->state == EVS_MQTT_RELEASED;
	bool		is_orphan = is_left && state == EVS_MQTT_RELEASED;

	session->nopen += is_open(state) - is_open(exchange->state);
	session->nleft += is_left - was_left;
	session->norphans += is_orphan - was_orphan;
	exchange->state = state;
	exchange->serial = serial;
}

static void
free_exchange(EvsMqttSession *session, EvsMqttExchange *exchange)
{
	set_exchange(session, exchange, EVS_MQTT_FREE, EVS_MQTT_NO_SLOT);
	exchange->again = false;
	exchange->id[0] = '\0';
}

static void
send_release(EvsMqtt *sink, EvsMqttExchange *exchange)
{
	evs_sink_buffer *out = &sink->link.out;

	evs_mqtt_add_byte(out, EVS_MQTT_PUBREL);
	evs_mqtt_add_byte(out, 2);
	evs_mqtt_add_uint16(out, (unsigned) (exchange - sink->session.exchanges));
}

/* One that has no slot. */
static void
release_orphan(EvsMqtt *sink, EvsMqttExchange *exchange)
{
	set_exchange(&sink->session, exchange, EVS_MQTT_RELEASED, EVS_MQTT_NO_SLOT);
	exchange->again = true;
	sink->session.orphans_until = deadline(sink);
	send_release(sink, exchange);
}

/* What the server may not have is released unseen; else its identifier would never be free. */
static void
release_interrupted(EvsMqtt *sink)
{
	EvsMqttSession *session = &sink->session;

	for (int i = 1; i < session->size; i++)
	{
		session->exchanges[i].id[0] = '\0';
		if (session->exchanges[i].state == EVS_MQTT_INTERRUPTED)
			release_orphan(sink, &session->exchanges[i]);
	}
}

void
evs_mqtt_session_forget(EvsMqtt *sink)
{
	EvsMqttSession *session = &sink->session;

	if (session->nleft == 0)
		return;
	for (int i = 1; i < session->size; i++)
		if (session->exchanges[i].state == EVS_MQTT_COMPLETED)
			free_exchange(session, &session->exchanges[i]);
	release_interrupted(sink);
}

void
evs_mqtt_session_drop(EvsMqtt *sink)
{
	EvsMqttSession *session = &sink->session;

	session->kept = false;
	for (int i = 1; i < session->size; i++)
		if (is_open(session->exchanges[i].state))
			free_exchange(session, &session->exchanges[i]);
}

/* --- connections --- */

/* The address of the connection that is being made. */
static const char *
present_address(const EvsMqtt *sink)
{
	const evs_sink_link *link = &sink->link;

	return link->next_address > 0 ? link->addresses.address[link->next_address - 1] : "";
}

bool
evs_mqtt_session_begin(EvsMqtt *sink, bool is_test)
{
	EvsMqttSession *session = &sink->session;
	int			port = sink->link.servers[sink->link.current].port;

	if (session->kept && (session->port != port || session->is_test != is_test ||
						  strcmp(session->address, present_address(sink)) != 0))
		evs_mqtt_session_drop(sink);
	if (sink->config.version == EVS_MQTT_VERSION_5 || sink->config.qos == 1)
		session->clean = !session->kept;
	else
		session->clean = session->wipe;
	session->port = port;
	session->is_test = is_test;
	strcpy(session->address, present_address(sink));
	return session->clean;
}

static int
by_order(const void *a, const void *b, void *arg)
{
	const EvsMqttExchange *exchanges = arg;
	uint64_t	x = exchanges[*(const int *) a].order;
	uint64_t	y = exchanges[*(const int *) b].order;

	return x < y ? -1 : x > y;
}

/* Release again what was released, in the order in which it was. */
static void
release_again(EvsMqtt *sink)
{
	EvsMqttSession *session = &sink->session;
	int			n = 0;

	for (int i = 1; i < session->size; i++)
		if (session->exchanges[i].state == EVS_MQTT_RELEASED)
			session->sorted[n++] = i;
	qsort_r(session->sorted, n, sizeof(int), by_order, session->exchanges);
	for (int i = 0; i < n; i++)
		release_orphan(sink, &session->exchanges[session->sorted[i]]);
	/* Those that come as new messages. */
	for (int i = 1; i < session->size; i++)
		if (session->exchanges[i].state == EVS_MQTT_INTERRUPTED && session->exchanges[i].id[0] == '\0')
			release_orphan(sink, &session->exchanges[i]);
}

bool
evs_mqtt_session_opened(EvsMqtt *sink, bool present)
{
	EvsMqttSession *session = &sink->session;
	bool		expected = session->kept;

	if (present && session->clean)
	{
		evs_sink_link_fail(&sink->link, "the server has a session, though a new one was asked for");
		return false;
	}
	if (present && !expected)
	{
		session->wipe = true;
		return false;
	}
	if (!present)
		evs_mqtt_session_drop(sink);
	session->wipe = false;
	session->kept = sink->config.qos == 2 &&
		(sink->config.version == EVS_MQTT_VERSION_5 || !session->clean);
	release_again(sink);
	return true;
}

/*
 * The message of an exchange will come again: remember by what it is recognised.
 * Not one that has its result already, or has to come as a new one.
 */
static void
interrupt(EvsMqtt *sink, EvsMqttExchange *exchange)
{
	const evs_sink_slot *slot;
	size_t		length;

	if (exchange->serial == EVS_MQTT_NO_SLOT)
		return;
	slot = evs_sink_flight_slot(&sink->flight, exchange->serial);
	length = strlen(slot->message->id);
	exchange->id[0] = '\0';
	if (slot->state == EVS_SINK_SLOT_SENT && !slot->held && length < EVS_MQTT_ID_MAX)
		memcpy(exchange->id, slot->message->id, length + 1);
	set_exchange(&sink->session, exchange, exchange->state == EVS_MQTT_PUBLISHED ?
				 EVS_MQTT_INTERRUPTED : exchange->state, EVS_MQTT_NO_SLOT);
}

void
evs_mqtt_session_lost(EvsMqtt *sink)
{
	EvsMqttSession *session = &sink->session;

	if (!session->kept)
		evs_mqtt_session_drop(sink);
	for (int i = 1; i < session->size; i++)
		if (is_open(session->exchanges[i].state))
			interrupt(sink, &session->exchanges[i]);
}

/* --- sending --- */

static int
id_after(const EvsMqttSession *session, int packet_id)
{
	return packet_id % (session->size - 1) + 1;
}

/*
 * What the event left behind when a connection was lost, or NULL.  Events come again
 * in the order of their identifiers, so the next one is tried first.
 */
static EvsMqttExchange *
find_left(EvsMqttSession *session, const char *id)
{
	int			at = session->last_found;

	for (int i = 1; session->nleft > 0 && i < session->size; i++)
	{
		EvsMqttExchange *exchange = &session->exchanges[at = id_after(session, at)];

		if (exchange->state != EVS_MQTT_FREE && exchange->serial == EVS_MQTT_NO_SLOT &&
			exchange->id[0] != '\0' && strcmp(exchange->id, id) == 0)
		{
			session->last_found = at;
			return exchange;
		}
	}
	return NULL;
}

static EvsMqttExchange *
next_free(EvsMqttSession *session)
{
	for (int i = 1; i < session->size; i++)
	{
		EvsMqttExchange *exchange;

		session->last_id = id_after(session, session->last_id);
		exchange = &session->exchanges[session->last_id];
		if (exchange->state == EVS_MQTT_FREE)
			return exchange;
	}
	return NULL;
}

/* An identifier that stands for nothing, or NULL if the server takes no more now. */
static EvsMqttExchange *
find_free(EvsMqtt *sink)
{
	EvsMqttSession *session = &sink->session;
	EvsMqttExchange *exchange;

	if (session->nopen >= sink->window)
	{
		/* The host does not submit what it was to submit again. */
		if (sink->flight.nsent == 0 && session->norphans == 0)
			release_interrupted(sink);
		return NULL;
	}
	exchange = next_free(session);
	if (exchange != NULL)
		return exchange;
	evs_mqtt_session_forget(sink);
	return next_free(session);
}

static void
publish(EvsMqtt *sink, evs_sink_slot *slot, EvsMqttExchange *exchange)
{
	int			packet_id = (int) (exchange - sink->session.exchanges);
	bool		again = exchange->state == EVS_MQTT_INTERRUPTED;
	const char *wrong = evs_mqtt_publish(sink, slot->message, packet_id, again);

	if (wrong != NULL)
	{
		evs_mqtt_session_forget(sink);
		evs_sink_flight_complete(&sink->flight, slot, EVS_SINK_PERMANENT, 0, "%s", wrong);
		return;
	}
	exchange->order = sink->session.next_order++;
	slot->tag = packet_id;
	set_exchange(&sink->session, exchange, EVS_MQTT_PUBLISHED, slot->serial);
	evs_sink_flight_sent(&sink->flight, slot);
}

bool
evs_mqtt_session_send(EvsMqtt *sink, evs_sink_slot *slot)
{
	EvsMqttSession *session = &sink->session;
	EvsMqttExchange *exchange = find_left(session, slot->message->id);

	if (exchange == NULL)
		exchange = find_free(sink);
	if (exchange == NULL)
		return false;
	if (exchange->state == EVS_MQTT_COMPLETED)
	{
		free_exchange(session, exchange);
		evs_sink_flight_complete(&sink->flight, slot, EVS_SINK_OK, 0, "%s", "");
	}
	else if (exchange->state == EVS_MQTT_RELEASED)
	{
		set_exchange(session, exchange, EVS_MQTT_RELEASED, slot->serial);
		slot->tag = exchange - session->exchanges;
		evs_sink_flight_sent(&sink->flight, slot);
	}
	else
		publish(sink, slot, exchange);
	return true;
}

/* --- what the server says --- */

/* The message's result.  An outage is one of all that are in flight. */
static void
finish(EvsMqtt *sink, EvsMqttExchange *exchange, const EvsMqttAnswer *answer)
{
	evs_sink_class result = evs_mqtt_reason_of_message(answer->code);
	evs_sink_slot *slot = evs_sink_flight_find(&sink->flight, exchange->serial);
	char		text[256] = "";

	free_exchange(&sink->session, exchange);
	if (answer->code != 0)
		evs_mqtt_describe(sink, answer, text, sizeof(text));
	if (!evs_sink_is_success(result) && result != EVS_SINK_RETRY_SINK)
		evs_mqtt_session_forget(sink);
	if (slot != NULL)
		evs_sink_flight_complete(&sink->flight, slot, result, answer->code, "%s", text);
	if (result == EVS_SINK_RETRY_SINK)
		evs_sink_link_fail(&sink->link, "%s", text);
}

/* PUBREC.  Of an interrupted one it may come late: the server has it, after all. */
static void
received(EvsMqtt *sink, EvsMqttExchange *exchange, const EvsMqttAnswer *answer)
{
	if (answer->code >= 0x80)
		finish(sink, exchange, answer);
	else if (exchange->state == EVS_MQTT_INTERRUPTED)
		release_orphan(sink, exchange);
	else
	{
		set_exchange(&sink->session, exchange, EVS_MQTT_RELEASED, exchange->serial);
		send_release(sink, exchange);
	}
}

/*
 * PUBCOMP.  That the identifier is not found is as it should be if it was released
 * before; otherwise the server has forgotten what it took.
 */
static void
completed(EvsMqtt *sink, EvsMqttExchange *exchange, const EvsMqttAnswer *answer)
{
	EvsMqttAnswer success = {0};

	if (answer->code != 0 && !(exchange->again && answer->code == 0x92))
	{
		evs_mqtt_session_drop(sink);
		evs_mqtt_refused(sink, "the server has lost a message", answer);
	}
	else if (exchange->serial == EVS_MQTT_NO_SLOT && exchange->id[0] != '\0')
		set_exchange(&sink->session, exchange, EVS_MQTT_COMPLETED, EVS_MQTT_NO_SLOT);
	else
		finish(sink, exchange, &success);
}

void
evs_mqtt_session_answered(EvsMqtt *sink, int kind, const EvsMqttAnswer *answer)
{
	EvsMqttSession *session = &sink->session;
	EvsMqttExchange *exchange = answer->packet_id > 0 && answer->packet_id < session->size ?
		&session->exchanges[answer->packet_id] : NULL;
	EvsMqttState state = exchange != NULL ? exchange->state : EVS_MQTT_FREE;
	bool		is_2 = sink->config.qos == 2;

	if (answer->code == 0x91)
		session->kept = false;	/* the server's view of it is another one */
	if (kind == EVS_MQTT_PUBACK && !is_2 && state == EVS_MQTT_PUBLISHED)
		finish(sink, exchange, answer);
	else if (kind == EVS_MQTT_PUBREC && is_2 && is_open(state))
		received(sink, exchange, answer);
	else if (kind == EVS_MQTT_PUBCOMP && state == EVS_MQTT_RELEASED)
		completed(sink, exchange, answer);
	else
	{
		session->kept = false;
		evs_sink_link_fail(&sink->link, "the server acknowledges what was not sent");
	}
}
