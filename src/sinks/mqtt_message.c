/*
 * mqtt_message.c
 *	  Messages as PUBLISH.
 */
#define _GNU_SOURCE				/* for strcasestr() */

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "mqtt_sink.h"

/* --- topics --- */

static const char *
check_topic(const char *topic, size_t length)
{
	if (length == 0)
		return "the topic is empty";
	if (length > EVS_MQTT_STRING_MAX)
		return "the topic has more than 65535 bytes";
	if (strpbrk(topic, "+#") != NULL)
		return "the topic has a wildcard, + or #";
	if (!evs_mqtt_is_text(topic, length))
		return "the topic has control characters, or is not UTF-8";
	return NULL;
}

/* false: there is a brace that is not of {topic}. */
static bool
fill(const char *pattern, const char *message_topic, evs_sink_buffer *buffer)
{
	buffer->length = 0;
	buffer->failed = false;
	while (*pattern != '\0')
	{
		size_t		plain = strcspn(pattern, "{}");

		evs_sink_add(buffer, pattern, plain);
		pattern += plain;
		if (*pattern == '\0')
			break;
		if (strncmp(pattern, "{topic}", 7) != 0)
			return false;
		evs_sink_add_string(buffer, message_topic);
		pattern += 7;
	}
	return true;
}

/* Topics that begin with "$" are the server's; a message must not get there, settings may. */
const char *
evs_mqtt_fill_topic(const char *pattern, const char *message_topic, evs_sink_buffer *buffer,
					const char **topic, size_t *length)
{
	*topic = message_topic;
	if (strcmp(pattern, "{topic}") != 0)
	{
		if (!fill(pattern, message_topic, buffer))
			return "only {topic} can be filled in";
		if (buffer->failed)
			return NULL;
		*topic = buffer->length > 0 ? buffer->data : "";
	}
	*length = strlen(*topic);
	if (strncmp(pattern, "{topic}", 7) == 0 && **topic == '$')
		return "the topic begins with \"$\": those are the server's";
	return check_topic(*topic, *length);
}

/* --- properties --- */

/* Is the payload text by its type?  What its bytes are is another question. */
static bool
is_text_type(const char *type)
{
	size_t		length = strcspn(type, ";");
	const char *charset = strcasestr(type + length, "charset=");

	if (charset != NULL && strncasecmp(charset + 8 + (charset[8] == '"'), "utf-8", 5) != 0)
		return false;
	return strncasecmp(type, "text/", 5) == 0 ||
		(length >= 4 && strncasecmp(type + length - 4, "json", 4) == 0) ||
		(length >= 3 && strncasecmp(type + length - 3, "xml", 3) == 0);
}

static void
add_content_type(EvsMqtt *sink, const evs_sink_message *message)
{
	evs_sink_buffer *buffer = &sink->properties;

	if (message->content_type == NULL)
		return;
	if (is_text_type(message->content_type) &&
		evs_mqtt_is_utf8(message->data, message->data != NULL ? message->length : 0))
	{
		evs_mqtt_add_byte(buffer, EVS_MQTT_PAYLOAD_FORMAT);
		evs_mqtt_add_byte(buffer, 1);
	}
	evs_mqtt_add_byte(buffer, EVS_MQTT_CONTENT_TYPE);
	evs_mqtt_add_string(buffer, message->content_type, strlen(message->content_type));
}

static const char *
check_pair(const evs_sink_pair *pair)
{
	size_t		name = strlen(pair->name);
	size_t		value = strlen(pair->value);

	if (name > EVS_MQTT_STRING_MAX || value > EVS_MQTT_STRING_MAX)
		return "an attribute or a header has more than 65535 bytes";
	if (!evs_mqtt_is_text(pair->name, name) || !evs_mqtt_is_text(pair->value, value))
		return "an attribute or a header has control characters, or is not UTF-8";
	return NULL;
}

/* Of two user properties of a name nobody knows which is the event's. */
static bool
is_attribute(const evs_sink_message *message, const char *name)
{
	for (int i = 0; i < message->nattributes; i++)
		if (strcmp(message->attributes[i].name, name) == 0)
			return true;
	return false;
}

static const char *
add_user_properties(EvsMqtt *sink, const evs_sink_message *message)
{
	const char *wrong = NULL;

	for (int i = 0; i < message->nattributes && wrong == NULL; i++)
	{
		wrong = check_pair(&message->attributes[i]);
		if (wrong == NULL)
			evs_mqtt_add_user_property(&sink->properties, message->attributes[i].name,
									   message->attributes[i].value);
	}
	for (int i = 0; i < message->nheaders && wrong == NULL; i++)
	{
		wrong = check_pair(&message->headers[i]);
		if (wrong == NULL && is_attribute(message, message->headers[i].name))
			wrong = "a header has the name of an attribute";
		if (wrong == NULL)
			evs_mqtt_add_user_property(&sink->properties, message->headers[i].name,
									   message->headers[i].value);
	}
	return wrong;
}

/* Into sink->properties; NULL, or what is wrong. */
static const char *
make_properties(EvsMqtt *sink, const evs_sink_message *message)
{
	evs_sink_buffer *buffer = &sink->properties;

	buffer->length = 0;
	buffer->failed = false;
	if (message->content_type != NULL &&
		(strlen(message->content_type) > EVS_MQTT_STRING_MAX ||
		 !evs_mqtt_is_text(message->content_type, strlen(message->content_type))))
		return "the content type cannot be sent";
	add_content_type(sink, message);
	if (sink->config.message_expiry >= 0)
	{
		evs_mqtt_add_byte(buffer, EVS_MQTT_MESSAGE_EXPIRY);
		evs_mqtt_add_uint32(buffer, (uint32_t) sink->config.message_expiry);
	}
	/* The payload says nothing of the event. */
	if (strcmp(sink->host->format, "raw") == 0)
	{
		evs_mqtt_add_user_property(buffer, "evstore-id", message->id);
		if (message->flags & EVS_SINK_MESSAGE_TEST)
			evs_mqtt_add_user_property(buffer, "evstore-test", "true");
	}
	evs_sink_add(buffer, sink->fixed.data, sink->fixed.length);
	return add_user_properties(sink, message);
}

/* --- the packet --- */

static const char *
too_large(const EvsMqtt *sink, size_t size)
{
	static char text[128];

	snprintf(text, sizeof(text), "a packet of %zu bytes is more than the %s of %u", size,
			 sink->packet_maximum < EVS_MQTT_LENGTH_MAX ? "server's maximum" : "protocol's maximum",
			 (unsigned) sink->packet_maximum);
	return text;
}

const char *
evs_mqtt_publish(EvsMqtt *sink, const evs_sink_message *message, int packet_id, bool again)
{
	evs_sink_buffer *out = &sink->link.out;
	bool		is_5 = sink->config.version == EVS_MQTT_VERSION_5;
	size_t		payload = message->data != NULL ? message->length : 0;
	const char *topic;
	size_t		topic_length = 0;
	const char *wrong = evs_mqtt_fill_topic(sink->config.topic, message->topic, &sink->filled,
											&topic, &topic_length);
	size_t		length;

	if (wrong == NULL && is_5)
		wrong = make_properties(sink, message);
	if (wrong != NULL)
		return wrong;
	if (sink->properties.failed || sink->filled.failed)
	{
		evs_sink_link_fail(&sink->link, "no memory for a message");
		return NULL;
	}
	length = 2 + topic_length + 2 + payload;
	if (is_5)
		length += sink->properties.length + evs_mqtt_number_size(sink->properties.length);
	if (length > EVS_MQTT_LENGTH_MAX ||
		1 + evs_mqtt_number_size(length) + length > sink->packet_maximum)
		return too_large(sink, length);
	evs_mqtt_add_byte(out, EVS_MQTT_PUBLISH | (again ? EVS_MQTT_PUBLISH_DUP : 0) |
					  sink->config.qos << 1 | (sink->config.retain ? EVS_MQTT_PUBLISH_RETAIN : 0));
	evs_mqtt_add_number(out, length);
	evs_mqtt_add_string(out, topic, topic_length);
	evs_mqtt_add_uint16(out, packet_id);
	if (is_5)
	{
		evs_mqtt_add_number(out, sink->properties.length);
		evs_sink_add(out, sink->properties.data, sink->properties.length);
	}
	evs_sink_add(out, message->data, payload);
	return NULL;
}
