/*
 * kafka_client.c
 *	  librdkafka's producer: made, and closed.
 *
 * A producer lives until there is an outage; then a new one is made, with the
 * secrets that are valid then.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "kafka.h"

static bool
set_secret(EvsKafka *sink, rd_kafka_conf_t *conf, const char *property, const char *name)
{
	char		value[EVS_KAFKA_SECRET_MAX];
	char		error[EVS_KAFKA_TEXT_MAX];
	int			length;
	bool		ok = false;

	if (name == NULL)
		return true;
	length = sink->host->secret(sink->host->ctx, name, value, sizeof(value));
	if (length < 0)
		evs_kafka_outage(sink, true, EVS_SINK_FATAL, 0, "there is no secret \"%s\"", name);
	else if (length >= (int) sizeof(value))
		evs_kafka_outage(sink, true, EVS_SINK_FATAL, 0, "secret \"%s\" is too long", name);
	else if (rd_kafka_conf_set(conf, property, value, error, sizeof(error)) != RD_KAFKA_CONF_OK)
		evs_kafka_outage(sink, true, EVS_SINK_FATAL, 0, "secret \"%s\" cannot be used", name);
	else
		ok = true;
	explicit_bzero(value, sizeof(value));
	return ok;
}

/* Only the relay itself has this id: who comes later fences who was there before. */
static bool
set_id(EvsKafka *sink, rd_kafka_conf_t *conf)
{
	char		error[EVS_KAFKA_TEXT_MAX];
	evs_sink_buffer id = {0};
	bool		ok;

	if (!sink->config.transactional)
		return true;
	evs_sink_printf(&id, "%s%s%s", sink->config.id_prefix, sink->host->id, sink->is_test ? "-test" : "");
	ok = !id.failed && rd_kafka_conf_set(conf, "transactional.id", id.data, error, sizeof(error)) == RD_KAFKA_CONF_OK;
	evs_sink_buffer_free(&id);
	if (!ok)
		evs_kafka_outage(sink, true, EVS_SINK_RETRY_SINK, 0, "no transactional id can be set");
	return ok;
}

/* No signal is for its threads: it would run the host's handlers. */
static rd_kafka_t *
make_producer(rd_kafka_conf_t *conf, char *error, size_t size)
{
	sigset_t	all;
	sigset_t	before;
	rd_kafka_t *producer;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, size);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return producer;
}

/* What the producer reports wakes the main thread. */
static void
connect_queue(EvsKafka *sink)
{
	static const uint64_t one = 1;

	sink->queue = rd_kafka_queue_get_main(sink->producer);
	rd_kafka_set_log_queue(sink->producer, sink->queue);
	rd_kafka_queue_io_event_enable(sink->queue, sink->net.wake_fd, &one, sizeof(one));
	/* It may have reported something before. */
	evs_kafka_wake(sink->net.wake_fd);
}

bool
evs_kafka_client_open(EvsKafka *sink)
{
	char		error[EVS_SINK_ERROR_MAX];
	rd_kafka_conf_t *conf = evs_kafka_make_conf(&sink->config, sink->host, error, sizeof(error));

	if (conf == NULL)
	{
		evs_kafka_outage(sink, true, EVS_SINK_FATAL, 0, "%s", error);
		return false;
	}
	if (set_secret(sink, conf, "sasl.password", sink->config.password) &&
		set_secret(sink, conf, "ssl.key.password", sink->config.key_password) && set_id(sink, conf))
	{
		evs_kafka_net_open(&sink->net, conf);
		rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
		sink->producer = make_producer(conf, error, sizeof(error));
		/* A file that cannot be read, for instance: that can be mended. */
		if (sink->producer == NULL)
			evs_kafka_outage(sink, true, EVS_SINK_RETRY_SINK, 0, "%s", error);
	}
	if (sink->producer == NULL)
	{
		rd_kafka_conf_destroy(conf);
		return false;
	}
	connect_queue(sink);
	sink->proven = sink->is_denied = false;
	sink->nunanswered = 0;
	sink->last_error[0] = '\0';
	return true;
}

static void
forget_topic(rd_kafka_topic_t **topic)
{
	if (*topic != NULL)
		rd_kafka_topic_destroy(*topic);
	*topic = NULL;
}

void
evs_kafka_client_close(EvsKafka *sink)
{
	rd_kafka_event_t *event;

	if (sink->producer == NULL)
		return;
	evs_kafka_net_close(&sink->net);
	rd_kafka_queue_io_event_enable(sink->queue, -1, NULL, 0);
	while ((event = rd_kafka_queue_poll(sink->queue, 0)) != NULL)
		rd_kafka_event_destroy(event);
	/* What it says of unsent messages is known. */
	rd_kafka_set_log_level(sink->producer, 0);
	rd_kafka_queue_destroy(sink->queue);
	forget_topic(&sink->topic);
	forget_topic(&sink->position_topic);
	rd_kafka_destroy(sink->producer);
	sink->producer = NULL;
	sink->queue = NULL;
	sink->nunanswered = 0;
}
