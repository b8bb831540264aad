/*
 * kafka_message.c
 *	  From a message to a record of Kafka.
 *
 * In the format cloudevents-binary the attributes are headers, as in CloudEvents'
 * binding for Kafka: "ce_" and the name, in UTF-8 as they are.
 */
#include <stdio.h>
#include <string.h>

#include "kafka.h"

/* --- topics --- */

static const char *
check_topic(const char *name)
{
	if (*name == '\0')
		return "the topic is empty";
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return "\".\" and \"..\" are no topics";
	for (; *name != '\0'; name++)
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", *name) == NULL)
			return "the topic has other characters than letters, digits, \".\", \"_\" and \"-\"";
	return NULL;
}

const char *
evs_kafka_fill_topic(const char *pattern, const char *topic, char *name)
{
	switch (evs_sink_fill_topic(pattern, topic, name, EVS_KAFKA_TOPIC_MAX + 1))
	{
		case EVS_SINK_STRAY_BRACE:
			return "only {topic} can be filled in";
		case EVS_SINK_TOO_LONG:
			return "the topic has more than 249 characters";
		default:
			return check_topic(name);
	}
}

/* --- what can be sent at all --- */

static const char *
check_headers(const evs_sink_message *message)
{
	for (int i = 0; i < message->nheaders; i++)
	{
		const char *name = message->headers[i].name;

		if (*name == '\0')
			return "a header has no name";
		if (strncmp(name, "ce_", 3) == 0 || strcmp(name, "content-type") == 0)
			return "headers ce_* and content-type are not the application's";
	}
	return NULL;
}

const char *
evs_kafka_check(const EvsKafka *sink, const evs_sink_message *message, char *topic)
{
	const char *wrong = evs_kafka_fill_topic(sink->config.topic, message->topic, topic);

	if (wrong == NULL)
		wrong = check_headers(message);
	if (wrong == NULL && message->length > (uint64_t) sink->config.max_message_bytes)
		wrong = "the message is larger than max_message_bytes";
	return wrong;
}

/* --- records --- */

static bool
add_header(rd_kafka_headers_t *headers, const char *name, const char *value)
{
	return rd_kafka_header_add(headers, name, -1, value, -1) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

static bool
add_headers(rd_kafka_headers_t *headers, const evs_sink_message *message)
{
	char		name[128];

	for (int i = 0; i < message->nattributes; i++)
	{
		snprintf(name, sizeof(name), "ce_%s", message->attributes[i].name);
		if (!add_header(headers, name, message->attributes[i].value))
			return false;
	}
	if (message->content_type != NULL && !add_header(headers, "content-type", message->content_type))
		return false;
	for (int i = 0; i < message->nheaders; i++)
		if (!add_header(headers, message->headers[i].name, message->headers[i].value))
			return false;
	return true;
}

/* Found by name it would cost a lock and a comparison with all topics, each time. */
static rd_kafka_topic_t *
find_topic(EvsKafka *sink, const char *name)
{
	if (sink->topic != NULL && strcmp(sink->topic_name, name) == 0)
		return sink->topic;
	if (sink->topic != NULL)
		rd_kafka_topic_destroy(sink->topic);
	sink->topic = rd_kafka_topic_new(sink->producer, name, NULL);
	snprintf(sink->topic_name, sizeof(sink->topic_name), "%s", name);
	return sink->topic;
}

/* Kafka knows no time before 1970, and to librdkafka 0 is the present. */
static int64_t
timestamp(const evs_sink_message *message)
{
	return message->time_us >= 1000 ? message->time_us / 1000 : 1;
}

rd_kafka_resp_err_t
evs_kafka_produce(EvsKafka *sink, const evs_sink_message *message, const char *topic, uint64_t opaque)
{
	rd_kafka_topic_t *handle = find_topic(sink, topic);
	int			n = message->nattributes + message->nheaders + 1;
	rd_kafka_headers_t *headers = rd_kafka_headers_new(n);
	rd_kafka_vu_t fields[] = {
		{.vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = handle},
		{.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
		{.vtype = RD_KAFKA_VTYPE_KEY, .u.mem = {(void *) message->key, message->key != NULL ? strlen(message->key) : 0}},
		{.vtype = RD_KAFKA_VTYPE_VALUE, .u.mem = {(void *) message->data, message->length}},
		{.vtype = RD_KAFKA_VTYPE_TIMESTAMP, .u.i64 = timestamp(message)},
		{.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = (void *) (uintptr_t) opaque},
		{.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers}
	};
	rd_kafka_error_t *error;
	rd_kafka_resp_err_t code;

	if (handle == NULL || headers == NULL || !add_headers(headers, message))
	{
		if (headers != NULL)
			rd_kafka_headers_destroy(headers);
		return RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE;
	}
	error = rd_kafka_produceva(sink->producer, fields, sizeof(fields) / sizeof(fields[0]));
	if (error == NULL)
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	/* Only what was accepted owns its headers. */
	rd_kafka_headers_destroy(headers);
	code = rd_kafka_error_code(error);
	rd_kafka_error_destroy(error);
	return code;
}
