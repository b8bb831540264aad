/*
 * mqtt_connect.c
 *	  Signing in, and the packets of the server.
 *
 * The client id is the same for all connections of a relay, so a server has one of
 * them at a time: a second process with the same id takes over.  In MQTT 5 the
 * first is told, and stops: of two that think they are the relay one is wrong.
 */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mqtt_sink.h"

/* What is taken of a server's packet.  It has nothing long to say to us. */
#define MAX_ANSWER 65536

#define MAX_SECRET 8192

/* Every server takes an id of so many letters and digits. */
#define CLIENT_ID_SIZE 23

/* --- signing in --- */

/*
 * test_relay() connects beside the relay that runs: its id has a letter more.
 */
static void
make_client_id(const EvsMqtt *sink, bool is_test, evs_sink_buffer *id)
{
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	unsigned char hash[EVP_MAX_MD_SIZE] = {0};

	if (sink->config.client_id != NULL)
		evs_sink_add_string(id, sink->config.client_id);
	else if (EVP_Digest(sink->host->id, strlen(sink->host->id), hash, NULL, EVP_sha256(), NULL) != 1)
		id->failed = true;
	else
	{
		evs_sink_add_string(id, "evs");
		for (int i = 0; id->length < CLIENT_ID_SIZE - 1; i++)
			evs_sink_add(id, &digits[hash[i] % 62], 1);
	}
	if (is_test)
		evs_sink_add_string(id, "t");
}

static void
add_properties(const EvsMqtt *sink, evs_sink_buffer *packet)
{
	evs_mqtt_add_number(packet, 10);
	evs_mqtt_add_byte(packet, EVS_MQTT_SESSION_EXPIRY);
	evs_mqtt_add_uint32(packet, (uint32_t) sink->config.session_expiry);
	evs_mqtt_add_byte(packet, EVS_MQTT_MAXIMUM_PACKET_SIZE);
	evs_mqtt_add_uint32(packet, MAX_ANSWER);
}

/* The packet but its password, and the header before it. */
static void
make_connect(EvsMqtt *sink, bool is_test, evs_sink_buffer *packet)
{
	const EvsMqttConfig *config = &sink->config;
	bool		clean = evs_mqtt_session_begin(sink, is_test);
	evs_sink_buffer id = {0};

	evs_mqtt_add_string(packet, "MQTT", 4);
	evs_mqtt_add_byte(packet, config->version);
	evs_mqtt_add_byte(packet, (config->user != NULL ? 0x80 : 0) |
					  (config->password != NULL ? 0x40 : 0) | (clean ? 0x02 : 0));
	evs_mqtt_add_uint16(packet, (unsigned) config->keepalive);
	if (config->version == EVS_MQTT_VERSION_5)
		add_properties(sink, packet);
	make_client_id(sink, is_test, &id);
	if (id.failed)
		packet->failed = true;
	else
		evs_mqtt_add_string(packet, id.data, id.length);
	evs_sink_buffer_free(&id);
	if (config->user != NULL)
		evs_mqtt_add_string(packet, config->user, strlen(config->user));
}

/* Its length, or -1 if there is none that could be used. */
static int
read_password(EvsMqtt *sink, char *password)
{
	int			length;

	if (sink->config.password == NULL)
		return 0;
	length = sink->host->secret(sink->host->ctx, sink->config.password, password, MAX_SECRET);
	if (length >= 0 && length < MAX_SECRET)
		return length;
	evs_sink_link_fail(&sink->link, "secret \"%s\" %s", sink->config.password,
					   length < 0 ? "does not exist" : "is too long");
	return -1;
}

void
evs_mqtt_connect(EvsMqtt *sink)
{
	evs_sink_slot *first = evs_sink_flight_next(&sink->flight);
	bool		is_test = first != NULL && (first->message->flags & EVS_SINK_MESSAGE_TEST) != 0;
	evs_sink_buffer *out = &sink->link.out;
	evs_sink_buffer packet = {0};
	char		password[MAX_SECRET];
	int			length = read_password(sink, password);

	sink->link.beat_us = sink->config.keepalive * INT64_C(500000);
	make_connect(sink, is_test, &packet);
	if (packet.failed)
		evs_sink_link_fail(&sink->link, "no memory to sign in");
	else if (length >= 0)
	{
		evs_mqtt_add_byte(out, EVS_MQTT_CONNECT);
		evs_mqtt_add_number(out, packet.length + (sink->config.password != NULL ? 2 + length : 0));
		evs_sink_add(out, packet.data, packet.length);
		if (sink->config.password != NULL)
			evs_mqtt_add_string(out, password, length);
	}
	explicit_bzero(password, sizeof(password));
	evs_sink_buffer_free(&packet);
}

/* What the server cannot do at all is a matter of settings. */
static const char *
missing_ability(const EvsMqtt *sink, const EvsMqttAnswer *answer)
{
	if (answer->qos_maximum < sink->config.qos)
		return answer->qos_maximum == 0 ? "the server takes QoS 0 only, which promises nothing" :
			"setting \"qos\": the server takes QoS 1 at most";
	if (sink->config.retain && !answer->retain_available)
		return "setting \"retain\": the server does not retain messages";
	return NULL;
}

void
evs_mqtt_forget_password(EvsMqtt *sink)
{
	evs_sink_buffer *out = &sink->link.out;

	if (sink->config.password != NULL && out->data != NULL && out->length == 0)
		explicit_bzero(out->data, out->size);
}

static void
take_connack(EvsMqtt *sink, const EvsMqttAnswer *answer)
{
	const char *missing = missing_ability(sink, answer);

	evs_mqtt_forget_password(sink);
	if (answer->code != 0)
		evs_mqtt_refused(sink, "the server refuses", answer);
	else if (missing != NULL)
		evs_mqtt_fatal(sink, 0, missing);
	else if (!evs_mqtt_session_opened(sink, answer->session_present))
	{
		/* Not this one, but nothing is wrong. */
		evs_sink_link_ready(&sink->link);
		evs_sink_link_move(&sink->link);
	}
	else
	{
		sink->packet_maximum = answer->packet_maximum < EVS_MQTT_LENGTH_MAX + 5 ?
			answer->packet_maximum : EVS_MQTT_LENGTH_MAX + 5;
		sink->window = answer->receive_maximum < sink->config.max_in_flight ?
			(int) answer->receive_maximum : (int) sink->config.max_in_flight;
		if (answer->keep_alive >= 0)
			sink->link.beat_us = answer->keep_alive * INT64_C(500000);
		evs_sink_link_ready(&sink->link);
	}
}

/* --- what comes in --- */

/* May a packet begin with this byte now?  Who speaks something else need not be heard out. */
static bool
check_kind(EvsMqtt *sink, int kind)
{
	bool		signing_in = sink->link.state == EVS_SINK_LINK_SIGNING_IN;

	if (kind == EVS_MQTT_DISCONNECT && sink->config.version == EVS_MQTT_VERSION_5)
		return true;
	if (signing_in ? kind == EVS_MQTT_CONNACK : kind == EVS_MQTT_PUBACK || kind == EVS_MQTT_PUBREC ||
		kind == EVS_MQTT_PUBCOMP || kind == EVS_MQTT_PINGRESP)
		return true;
	if (signing_in)
		evs_sink_link_fail(&sink->link, "this is not an MQTT server");
	else
		evs_sink_link_fail(&sink->link, "the server sends a packet of type %d, which nobody has asked for",
						   kind >> 4);
	return false;
}

static void
take_packet(EvsMqtt *sink, int kind, const char *body, size_t length)
{
	EvsMqttAnswer answer;

	if (kind == EVS_MQTT_PINGRESP)
		return;					/* it was heard, that is all */
	if (!evs_mqtt_read_answer(kind, sink->config.version, body, length, &answer))
		evs_sink_link_fail(&sink->link, "the server sends a packet that is malformed");
	else if (kind == EVS_MQTT_CONNACK)
		take_connack(sink, &answer);
	else if (kind == EVS_MQTT_DISCONNECT)
		evs_mqtt_refused(sink, "the server has disconnected", &answer);
	else
		evs_mqtt_session_answered(sink, kind, &answer);
}

void
evs_mqtt_input(EvsMqtt *sink)
{
	evs_sink_link *link = &sink->link;

	while (!link->closing && link->in_at < link->in.length)
	{
		const char *data = link->in.data + link->in_at;
		const char *body;
		size_t		length;
		int64_t		taken;

		if (!check_kind(sink, (unsigned char) *data))
			return;
		taken = evs_mqtt_find_packet(data, link->in.length - link->in_at, MAX_ANSWER, &body, &length);
		if (taken < 0)
			evs_sink_link_fail(link, "the server sends what is no packet");
		if (taken <= 0)
			return;
		take_packet(sink, (unsigned char) *data, body, length);
		link->in_at += taken;
	}
}

/* --- packets that are but a header --- */

void
evs_mqtt_send_ping(EvsMqtt *sink)
{
	evs_mqtt_add_byte(&sink->link.out, EVS_MQTT_PINGREQ);
	evs_mqtt_add_byte(&sink->link.out, 0);
}

void
evs_mqtt_disconnect(EvsMqtt *sink)
{
	/* Session Expiry Interval 0, and of all that only if it was not 0 before. */
	static const char forget[] = {(char) EVS_MQTT_DISCONNECT, 7, 0, 5, EVS_MQTT_SESSION_EXPIRY, 0, 0, 0, 0};
	static const char plain[] = {(char) EVS_MQTT_DISCONNECT, 0};

	if (!evs_sink_link_is_up(&sink->link))
		return;
	if (sink->config.version == EVS_MQTT_VERSION_5 && sink->config.session_expiry > 0)
		evs_sink_add(&sink->link.out, forget, sizeof(forget));
	else
		evs_sink_add(&sink->link.out, plain, sizeof(plain));
	evs_sink_link_flush(&sink->link);
}
