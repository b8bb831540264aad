/*
 * amqp_message.c
 *	  What the sink "amqp" publishes: a method, a header with properties, and the
 *	  body in as many frames as it takes.
 *
 * There is no binding of CloudEvents for AMQP 0-9-1.  That of AMQP 1.0 is
 * followed where it can be: attributes are headers with the prefix cloudEvents_.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "amqp_sink.h"

/* Class of messages, in their header frame. */
#define BASIC 60

/* Which properties follow; they stand in this order. */
#define HAS_CONTENT_TYPE 0x8000
#define HAS_HEADERS 0x2000
#define HAS_DELIVERY_MODE 0x1000
#define HAS_PRIORITY 0x0800
#define HAS_EXPIRATION 0x0100
#define HAS_MESSAGE_ID 0x0080
#define HAS_TIMESTAMP 0x0040
#define HAS_TYPE 0x0020
#define HAS_APP_ID 0x0008

#define ATTRIBUTE_PREFIX "cloudEvents_"

const char *
evs_amqp_fill(const char *pattern, const char *topic, char filled[EVS_AMQP_SHORT_MAX + 1])
{
	switch (evs_sink_fill_topic(pattern, topic, filled, EVS_AMQP_SHORT_MAX + 1))
	{
		case EVS_SINK_STRAY_BRACE:
			return "has a brace: only {topic} can be filled in";
		case EVS_SINK_TOO_LONG:
			return "is longer than 255 bytes";
		default:
			return NULL;
	}
}

/* --- properties --- */

/*
 * What an application may not say: attributes of the event, what the sink says
 * itself, and where else the message goes, which RabbitMQ reads from CC and BCC.
 */
static bool
is_reserved(const char *name)
{
	return strncasecmp(name, "cloudEvents_", 12) == 0 || strncasecmp(name, "cloudEvents:", 12) == 0 ||
		strncasecmp(name, "Evstore-", 8) == 0 || strcmp(name, "CC") == 0 || strcmp(name, "BCC") == 0;
}

static const char *
add_application_headers(evs_sink_buffer *buffer, const evs_sink_message *message)
{
	for (int i = 0; i < message->nheaders; i++)
	{
		const evs_sink_pair *header = &message->headers[i];

		if (is_reserved(header->name))
			return "headers cloudEvents_*, cloudEvents:*, Evstore-*, CC and BCC are not the application's";
		if (*header->name == '\0' || strlen(header->name) > EVS_AMQP_SHORT_MAX)
			return "a header's name is empty or longer than 255 bytes";
		evs_amqp_add_string_member(buffer, "", header->name, header->value);
	}
	return NULL;
}

static const char *
add_headers(EvsAmqp *sink, const evs_sink_message *message)
{
	evs_sink_buffer *buffer = &sink->header;
	size_t		table = evs_amqp_begin(buffer);
	const char *wrong;

	for (int i = 0; i < message->nattributes; i++)
	{
		const evs_sink_pair *attribute = &message->attributes[i];

		if (strlen(attribute->name) > EVS_AMQP_SHORT_MAX - strlen(ATTRIBUTE_PREFIX))
			return "the name of an attribute is too long";
		evs_amqp_add_string_member(buffer, ATTRIBUTE_PREFIX, attribute->name, attribute->value);
	}
	evs_amqp_add_string_member(buffer, "", "Evstore-Relay", sink->host->id);
	if (message->flags & EVS_SINK_MESSAGE_TEST)
		evs_amqp_add_true_member(buffer, "Evstore-Test");
	else
		evs_amqp_add_number_member(buffer, "Evstore-Position", message->position);
	if (message->flags & EVS_SINK_MESSAGE_REPLAY)
		evs_amqp_add_true_member(buffer, "Evstore-Replay");
	wrong = add_application_headers(buffer, message);
	evs_amqp_end(buffer, table);
	return wrong;
}

/* A type may be longer than the property can be: then it is an attribute only. */
static uint16_t
present_properties(const EvsAmqpConfig *config, const evs_sink_message *message)
{
	return HAS_HEADERS | HAS_DELIVERY_MODE | HAS_MESSAGE_ID |
		(message->content_type != NULL ? HAS_CONTENT_TYPE : 0) |
		(config->priority >= 0 ? HAS_PRIORITY : 0) |
		(config->expiration_ms >= 0 ? HAS_EXPIRATION : 0) |
		(message->time_us >= 0 ? HAS_TIMESTAMP : 0) |
		(strlen(message->type) <= EVS_AMQP_SHORT_MAX ? HAS_TYPE : 0) |
		(*config->app_id != '\0' ? HAS_APP_ID : 0);
}

static void
add_short(evs_sink_buffer *buffer, bool present, const char *value)
{
	if (present)
		evs_amqp_add_short(buffer, value, strlen(value));
}

/* The payload of the header frame. */
static const char *
make_header(EvsAmqp *sink, const evs_sink_message *message)
{
	const EvsAmqpConfig *config = &sink->config;
	evs_sink_buffer *buffer = &sink->header;
	uint16_t	present = present_properties(config, message);
	char		expiration[32];
	const char *wrong;

	if ((present & HAS_CONTENT_TYPE) && strlen(message->content_type) > EVS_AMQP_SHORT_MAX)
		return "the content type is longer than 255 bytes";
	snprintf(expiration, sizeof(expiration), "%lld", (long long) config->expiration_ms);
	buffer->length = 0;
	buffer->failed = false;
	evs_amqp_add(buffer, BASIC, 2);
	evs_amqp_add(buffer, 0, 2);
	evs_amqp_add(buffer, message->length, 8);
	evs_amqp_add(buffer, present, 2);
	add_short(buffer, present & HAS_CONTENT_TYPE, message->content_type);
	wrong = add_headers(sink, message);
	evs_amqp_add(buffer, config->persistent ? 2 : 1, 1);
	if (present & HAS_PRIORITY)
		evs_amqp_add(buffer, config->priority, 1);
	add_short(buffer, present & HAS_EXPIRATION, expiration);
	add_short(buffer, true, message->id);
	if (present & HAS_TIMESTAMP)
		evs_amqp_add(buffer, message->time_us / 1000000, 8);
	add_short(buffer, present & HAS_TYPE, message->type);
	add_short(buffer, present & HAS_APP_ID, config->app_id);
	return wrong;
}

/* --- frames --- */

static void
add_frame(evs_sink_buffer *out, int type, const void *data, size_t length)
{
	size_t		frame = evs_amqp_begin_frame(out, type, EVS_AMQP_CHANNEL);

	evs_sink_add(out, data, length);
	evs_amqp_end_frame(out, frame);
}

static void
add_publish(EvsAmqp *sink, const char *exchange, const char *routing_key)
{
	evs_sink_buffer *out = &sink->link.out;
	size_t		frame = evs_amqp_begin_method(out, EVS_AMQP_CHANNEL, EVS_AMQP_BASIC_PUBLISH);

	evs_amqp_add(out, 0, 2);
	add_short(out, true, exchange);
	add_short(out, true, routing_key);
	evs_amqp_add(out, sink->config.mandatory ? 1 : 0, 1);
	evs_amqp_end_frame(out, frame);
}

const char *
evs_amqp_write_message(EvsAmqp *sink, const evs_sink_message *message)
{
	size_t		room = sink->frame_max - EVS_AMQP_FRAME_EXTRA;
	evs_sink_buffer *out = &sink->link.out;
	char		exchange[EVS_AMQP_SHORT_MAX + 1];
	char		routing_key[EVS_AMQP_SHORT_MAX + 1];
	const char *wrong;

	if (evs_amqp_fill(sink->config.exchange, message->topic, exchange) != NULL)
		return "the name of the exchange is longer than 255 bytes";
	if (*exchange == '\0' && *sink->config.exchange != '\0')
		return "the topic is empty, and the exchange is named by it";
	if (evs_amqp_fill(sink->config.routing_key, message->topic, routing_key) != NULL)
		return "the routing key is longer than 255 bytes";
	wrong = make_header(sink, message);
	if (wrong != NULL)
		return wrong;
	if (sink->header.length > room)
		return "the headers are longer than a frame of the server's";
	add_publish(sink, exchange, routing_key);
	add_frame(out, EVS_AMQP_HEADER, sink->header.data, sink->header.length);
	for (size_t at = 0; at < message->length; at += room)
		add_frame(out, EVS_AMQP_BODY, (const char *) message->data + at,
				  message->length - at < room ? message->length - at : room);
	if (sink->header.failed)
		out->failed = true;
	return NULL;
}
