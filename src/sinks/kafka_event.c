/*
 * kafka_event.c
 *	  What librdkafka reports, and what it means.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kafka.h"

/*
 * What is not here is an outage if it is librdkafka's own, and otherwise an
 * attempt of the messages: they may be the cause.
 */
static const struct
{
	rd_kafka_resp_err_t code;
	EvsKafkaBlame blame;
	evs_sink_class class;
}			meanings[] =
{
	/* Something else has failed, and this one with it. */
	{RD_KAFKA_RESP_ERR__PURGE_QUEUE, EVS_KAFKA_NOBODY, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR__PURGE_INFLIGHT, EVS_KAFKA_NOBODY, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR__FATAL, EVS_KAFKA_NOBODY, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE, EVS_KAFKA_NOBODY, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR__RETRY, EVS_KAFKA_NOBODY, EVS_SINK_RETRY_SINK},

	{RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, EVS_KAFKA_BATCH, EVS_SINK_PERMANENT},
	{RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE, EVS_KAFKA_BATCH, EVS_SINK_PERMANENT},
	{RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE, EVS_KAFKA_BATCH, EVS_SINK_PERMANENT},
	{RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP, EVS_KAFKA_BATCH, EVS_SINK_PERMANENT},
	{RD_KAFKA_RESP_ERR_INVALID_RECORD, EVS_KAFKA_BATCH, EVS_SINK_PERMANENT},
	{RD_KAFKA_RESP_ERR_POLICY_VIOLATION, EVS_KAFKA_BATCH, EVS_SINK_PERMANENT},
	{RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT, EVS_KAFKA_BATCH, EVS_SINK_PERMANENT},

	/* The message's, if it has chosen its topic. */
	{RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, EVS_KAFKA_MESSAGE, EVS_SINK_PERMANENT},
	{RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, EVS_KAFKA_MESSAGE, EVS_SINK_PERMANENT},
	{RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, EVS_KAFKA_MESSAGE, EVS_SINK_PERMANENT},
	{RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION, EVS_KAFKA_MESSAGE, EVS_SINK_PERMANENT},

	{RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_NOT_COORDINATOR, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_LOG_DIR_NOT_FOUND, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_TRANSACTION_COORDINATOR_FENCED, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_PRODUCER_FENCED, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},
	{RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED, EVS_KAFKA_SINK, EVS_SINK_RETRY_SINK},

	{RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE, EVS_KAFKA_SINK, EVS_SINK_FATAL},
	{RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION, EVS_KAFKA_SINK, EVS_SINK_FATAL},
	{RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT, EVS_KAFKA_SINK, EVS_SINK_FATAL},
	{RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE, EVS_KAFKA_SINK, EVS_SINK_FATAL}
};

EvsKafkaBlame
evs_kafka_blame(const EvsKafka *sink, rd_kafka_resp_err_t code, evs_sink_class *class)
{
	for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++)
		if (meanings[i].code == code)
		{
			bool		is_ours = meanings[i].blame == EVS_KAFKA_MESSAGE && !sink->config.has_topic;

			*class = is_ours ? EVS_SINK_RETRY_SINK : meanings[i].class;
			return is_ours ? EVS_KAFKA_SINK : meanings[i].blame;
		}
	*class = code < 0 ? EVS_SINK_RETRY_SINK : EVS_SINK_RETRY;
	return code < 0 ? EVS_KAFKA_SINK : EVS_KAFKA_BATCH;
}

void
evs_kafka_outage(EvsKafka *sink, bool at_once, evs_sink_class class, int code, const char *format,...)
{
	EvsKafkaTrouble *trouble = &sink->trouble;
	va_list		args;

	trouble->at_once |= at_once;
	if (trouble->outage)
		return;
	trouble->outage = true;
	trouble->reason.class = class;
	trouble->reason.code = code;
	va_start(args, format);
	vsnprintf(trouble->reason.why, sizeof(trouble->reason.why), format, args);
	va_end(args);
}

/* ---- delivery reports ---- */

static void
suspect(EvsKafka *sink, const evs_sink_slot *slot, evs_sink_class class, rd_kafka_resp_err_t code,
		const char *why)
{
	EvsKafkaTrouble *trouble = &sink->trouble;

	trouble->nsuspects++;
	trouble->suspect = slot->serial;
	trouble->suspicion.class = class;
	trouble->suspicion.code = code;
	snprintf(trouble->suspicion.why, sizeof(trouble->suspicion.why), "%s", why);
}

static void
not_delivered(EvsKafka *sink, evs_sink_slot *slot, const rd_kafka_message_t *report)
{
	const char *why = rd_kafka_err2str(report->err);
	evs_sink_class class;

	switch (evs_kafka_blame(sink, report->err, &class))
	{
		case EVS_KAFKA_NOBODY:
			break;
		case EVS_KAFKA_MESSAGE:
			/* The transaction has failed with it; alone it would not. */
			if (sink->config.transactional)
				suspect(sink, slot, class, report->err, why);
			else
				evs_sink_flight_complete(&sink->flight, slot, class, report->err, "%s", why);
			break;
		case EVS_KAFKA_BATCH:
			suspect(sink, slot, class, report->err, why);
			break;
		case EVS_KAFKA_SINK:
			evs_kafka_outage(sink, false, class, report->err, "%s", why);
	}
}

static void
take_report(EvsKafka *sink, const rd_kafka_message_t *report)
{
	evs_sink_slot *slot = evs_sink_flight_find(&sink->flight, (uintptr_t) report->_private - 1);

	if (slot == NULL)
		return;
	sink->nunanswered--;
	if (report->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		not_delivered(sink, slot, report);
	else
	{
		sink->proven = true;
		if (!sink->config.transactional)
			evs_sink_flight_complete(&sink->flight, slot, EVS_SINK_OK, 0, "%s", "");
	}
}

static void
take_reports(EvsKafka *sink, rd_kafka_event_t *event)
{
	const rd_kafka_message_t *report;

	while ((report = rd_kafka_event_message_next(event)) != NULL)
		take_report(sink, report);
}

/* ---- errors ---- */

/*
 * librdkafka tries by itself to reach the brokers again.  As long as it may
 * succeed in time nothing has to be sent twice, so it is left to it, unless no
 * broker has ever been reached.
 */
static void
take_error(EvsKafka *sink, rd_kafka_event_t *event)
{
	rd_kafka_resp_err_t code = rd_kafka_event_error(event);
	const char *why = rd_kafka_event_error_string(event);
	evs_sink_class class = EVS_SINK_RETRY_SINK;
	char		fatal[EVS_KAFKA_TEXT_MAX];

	switch (code)
	{
		case RD_KAFKA_RESP_ERR__FATAL:
			code = rd_kafka_fatal_error(sink->producer, fatal, sizeof(fatal));
			if (evs_kafka_blame(sink, code, &class) == EVS_KAFKA_SINK)
				evs_kafka_outage(sink, sink->config.transactional, class, code, "%s", fatal);
			break;
		case RD_KAFKA_RESP_ERR__AUTHENTICATION:
		case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
			evs_kafka_outage(sink, true, EVS_SINK_RETRY_SINK, code, "%s", why);
			break;
		case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
			if (!sink->proven && !evs_kafka_net_deferred(&sink->net))
				evs_kafka_outage(sink, true, EVS_SINK_RETRY_SINK, code, "%s",
								 sink->last_error[0] != '\0' ? sink->last_error : why);
			break;
		default:
			if (!sink->is_denied)
				snprintf(sink->last_error, sizeof(sink->last_error), "%s", why);
	}
}

static void
take_log(EvsKafka *sink, rd_kafka_event_t *event)
{
	const char *facility;
	const char *text;
	char		line[EVS_KAFKA_TEXT_MAX];
	int			level;

	if (rd_kafka_event_log(event, &facility, &text, &level) != 0)
		return;
	snprintf(line, sizeof(line), "librdkafka %s: %s", facility, text);
	sink->host->log(sink->host->ctx, EVS_SINK_LOG_DEBUG, line);
}

void
evs_kafka_take_events(EvsKafka *sink)
{
	rd_kafka_event_t *event;

	while (sink->queue != NULL && (event = rd_kafka_queue_poll(sink->queue, 0)) != NULL)
	{
		switch (rd_kafka_event_type(event))
		{
			case RD_KAFKA_EVENT_DR:
				take_reports(sink, event);
				break;
			case RD_KAFKA_EVENT_ERROR:
				take_error(sink, event);
				break;
			case RD_KAFKA_EVENT_LOG:
				take_log(sink, event);
				break;
			case RD_KAFKA_EVENT_LISTCONSUMERGROUPOFFSETS_RESULT:
				evs_kafka_take_position(sink, event);
				break;
			default:
				break;
		}
		rd_kafka_event_destroy(event);
	}
}
