/*
 * kafka_transaction.c
 *	  Transactions of the sink "kafka", and the position that is stored in them.
 *
 *	             messages wait           handed over
 *	CLOSED ─▶ STARTING ─▶ ASKING ─▶ READY ─▶ FILLING ─▶ COMMITTING ─▶ READY
 *	   ▲                                                    │ refused, or fenced
 *	   └───────────────────────────── DRAINING ◀────────────┘
 *
 * A transaction has what waits when the one before it has ended.  With it goes the
 * position of its last message in order, as the offset of a consumer group that
 * nobody else uses, at partition 0 of a topic that is there for nothing else.
 * It moves if the messages are there, and only then.
 *
 * STARTING ends, or aborts, what an older producer of the same id has begun, and
 * shuts that one out.  ASKING then reads what is stored.  A transaction that is not
 * committed is left to the next producer: one that has aborted may fail again for
 * what it is still clearing away.
 *
 * Where it is not known what became of a transaction, the host gets an outage at
 * once, and the messages are remembered; the tag that was to be stored with them
 * tells later whether they are there.  If the process ends, resume() tells it to
 * the next one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kafka.h"

/* Before the position is asked for once more, in us. */
#define ASK_PAUSE 200000

static bool
is_in_order(const evs_sink_message *message)
{
	return (message->flags & (EVS_SINK_MESSAGE_REPLAY | EVS_SINK_MESSAGE_TEST)) == 0;
}

/* ---- doubt ---- */

static int
compare_positions(const void *a, const void *b)
{
	int64_t		x = *(const int64_t *) a;
	int64_t		y = *(const int64_t *) b;

	return (x > y) - (x < y);
}

/* All that is sent is of the present transaction. */
static void
begin_doubt(EvsKafka *sink)
{
	EvsKafkaDoubt *doubt = &sink->doubt;
	evs_sink_flight *flight = &sink->flight;

	doubt->n = 0;
	doubt->committed = false;
	snprintf(doubt->tag, sizeof(doubt->tag), "%s", sink->tag);
	for (uint64_t serial = flight->head; serial < flight->tail; serial++)
	{
		const evs_sink_slot *slot = evs_sink_flight_slot(flight, serial);

		if (slot->state == EVS_SINK_SLOT_SENT && !(slot->message->flags & EVS_SINK_MESSAGE_TEST))
			doubt->positions[doubt->n++] = slot->message->position;
	}
	qsort(doubt->positions, doubt->n, sizeof(int64_t), compare_positions);
}

/* Each counts once: when it comes again later, somebody wants it once more. */
bool
evs_kafka_is_committed(EvsKafka *sink, const evs_sink_message *message)
{
	EvsKafkaDoubt *doubt = &sink->doubt;
	int64_t    *found;

	if (!doubt->committed || (message->flags & EVS_SINK_MESSAGE_TEST))
		return false;
	found = bsearch(&message->position, doubt->positions, doubt->n, sizeof(int64_t), compare_positions);
	if (found == NULL)
		return false;
	doubt->n--;
	memmove(found, found + 1, (doubt->positions + doubt->n - found) * sizeof(int64_t));
	return true;
}

/* ---- the position ---- */

static void
make_group(const EvsKafka *sink, evs_sink_buffer *group)
{
	evs_sink_printf(group, "%s%s", sink->config.id_prefix, sink->host->id);
}

/* The answer is an event. */
static void
ask_position(EvsKafka *sink)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(sink->producer, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS);
	rd_kafka_ListConsumerGroupOffsets_t *request;
	rd_kafka_error_t *error;
	evs_sink_buffer group = {0};
	char		why[EVS_KAFKA_TEXT_MAX];

	make_group(sink, &group);
	rd_kafka_topic_partition_list_add(list, sink->config.position_topic, 0);
	error = rd_kafka_AdminOptions_set_require_stable_offsets(options, 1);
	if (error != NULL)
		rd_kafka_error_destroy(error);
	rd_kafka_AdminOptions_set_request_timeout(options, sink->host->timeout_ms, why, sizeof(why));
	if (group.failed)
		evs_kafka_outage(sink, true, EVS_SINK_RETRY_SINK, 0, "out of memory");
	else
	{
		request = rd_kafka_ListConsumerGroupOffsets_new(group.data, list);
		rd_kafka_ListConsumerGroupOffsets(sink->producer, &request, 1, options, sink->queue);
		rd_kafka_ListConsumerGroupOffsets_destroy(request);
	}
	evs_sink_buffer_free(&group);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_topic_partition_list_destroy(list);
	sink->ask_at = INT64_MAX;
}

static void
position_is_known(EvsKafka *sink, const rd_kafka_topic_partition_t *stored)
{
	EvsKafkaDoubt *doubt = &sink->doubt;
	bool		has_tag = stored->metadata != NULL && doubt->tag[0] != '\0' &&
		strlen(doubt->tag) == stored->metadata_size &&
		memcmp(doubt->tag, stored->metadata, stored->metadata_size) == 0;

	/* Without an offset yet, or without the topic: nothing was ever stored. */
	sink->position = stored->offset > 0 ? stored->offset : 0;
	if (doubt->tag[0] != '\0')
		doubt->committed = has_tag;
	doubt->tag[0] = '\0';
	sink->phase = EVS_KAFKA_READY;
	if (sink->resume == EVS_KAFKA_WANTED)
		sink->resume = EVS_KAFKA_KNOWN;
}

static void
position_is_unknown(EvsKafka *sink, rd_kafka_resp_err_t code, const char *why)
{
	evs_sink_class class;

	switch (code)
	{
		case RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT:
		case RD_KAFKA_RESP_ERR_NOT_COORDINATOR:
		case RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS:
		case RD_KAFKA_RESP_ERR__TRANSPORT:
			sink->ask_at = evs_kafka_now(sink) + ASK_PAUSE;
			snprintf(sink->last_error, sizeof(sink->last_error), "%s", why);
			break;
		default:
			if (evs_kafka_blame(sink, code, &class) != EVS_KAFKA_SINK)
				class = EVS_SINK_RETRY_SINK;
			evs_kafka_outage(sink, true, class, code, "the position cannot be read: %s", why);
	}
}

void
evs_kafka_take_position(EvsKafka *sink, rd_kafka_event_t *event)
{
	const rd_kafka_ListConsumerGroupOffsets_result_t *result = rd_kafka_event_ListConsumerGroupOffsets_result(event);
	const rd_kafka_topic_partition_list_t *list = NULL;
	const rd_kafka_group_result_t **groups;
	const rd_kafka_error_t *error;
	size_t		n = 0;

	if (sink->phase != EVS_KAFKA_ASKING)
		return;
	if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		position_is_unknown(sink, rd_kafka_event_error(event), rd_kafka_event_error_string(event));
		return;
	}
	groups = result != NULL ? rd_kafka_ListConsumerGroupOffsets_result_groups(result, &n) : NULL;
	error = n > 0 ? rd_kafka_group_result_error(groups[0]) : NULL;
	if (n > 0 && error == NULL)
		list = rd_kafka_group_result_partitions(groups[0]);
	if (error != NULL)
		position_is_unknown(sink, rd_kafka_error_code(error), rd_kafka_error_string(error));
	else if (list == NULL || list->cnt != 1)
		evs_kafka_outage(sink, true, EVS_SINK_RETRY_SINK, 0, "the position cannot be read: no answer");
	else if (list->elems[0].err != RD_KAFKA_RESP_ERR_NO_ERROR &&
			 list->elems[0].err != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
		position_is_unknown(sink, list->elems[0].err, rd_kafka_err2str(list->elems[0].err));
	else
		position_is_known(sink, &list->elems[0]);
}

/* ---- from one phase to the next ---- */

static void
start(EvsKafka *sink, EvsKafkaTask task, EvsKafkaPhase phase)
{
	sink->phase = phase;
	sink->deadline = evs_kafka_now(sink) + sink->host->timeout_ms * INT64_C(1000);
	if (!evs_kafka_job_start(&sink->job, task, sink->producer))
		evs_kafka_outage(sink, true, EVS_SINK_RETRY_SINK, 0, "no thread for transactions can be had");
}

bool
evs_kafka_begin(EvsKafka *sink)
{
	rd_kafka_error_t *error;

	if (sink->phase == EVS_KAFKA_FILLING)
		return true;
	error = rd_kafka_begin_transaction(sink->producer);
	if (error == NULL)
	{
		sink->phase = EVS_KAFKA_FILLING;
		return true;
	}
	evs_kafka_outage(sink, true, EVS_SINK_RETRY_SINK, rd_kafka_error_code(error),
					 "no transaction can be begun: %s", rd_kafka_error_string(error));
	rd_kafka_error_destroy(error);
	return false;
}

/* What is stored if the transaction is committed; false: nothing has to be. */
static bool
next_position(EvsKafka *sink, int64_t *position)
{
	evs_sink_flight *flight = &sink->flight;
	bool		counts = false;

	*position = sink->position;
	for (uint64_t serial = flight->head; serial < flight->tail; serial++)
	{
		const evs_sink_slot *slot = evs_sink_flight_slot(flight, serial);

		if (slot->state != EVS_SINK_SLOT_SENT)
			continue;
		counts |= !(slot->message->flags & EVS_SINK_MESSAGE_TEST);
		if (is_in_order(slot->message))
			*position = slot->message->position;
	}
	return counts;
}

static void
commit(EvsKafka *sink)
{
	evs_sink_buffer group = {0};
	rd_kafka_topic_partition_t *stored;
	int64_t		position;

	snprintf(sink->tag, sizeof(sink->tag), "%016llx-%llu", (unsigned long long) sink->run,
			 (unsigned long long) sink->ntransactions++);
	make_group(sink, &group);
	if (sink->job.group == NULL && !group.failed)
		sink->job.group = rd_kafka_consumer_group_metadata_new(group.data);
	evs_sink_buffer_free(&group);
	/* Of a transaction that was given up before they were stored: not this one's. */
	if (sink->job.offsets != NULL)
		rd_kafka_topic_partition_list_destroy(sink->job.offsets);
	sink->job.offsets = NULL;
	if (next_position(sink, &position) && sink->job.group != NULL)
	{
		sink->job.offsets = rd_kafka_topic_partition_list_new(1);
		stored = rd_kafka_topic_partition_list_add(sink->job.offsets, sink->config.position_topic, 0);
		stored->offset = position;
		stored->metadata = strdup(sink->tag);
		stored->metadata_size = stored->metadata != NULL ? strlen(sink->tag) : 0;
		sink->next_position = position;
	}
	start(sink, EVS_KAFKA_COMMIT, EVS_KAFKA_COMMITTING);
}

/* All that is sent was in it. */
static void
committed(EvsKafka *sink)
{
	evs_sink_flight *flight = &sink->flight;

	for (uint64_t serial = flight->head; serial < flight->tail; serial++)
	{
		evs_sink_slot *slot = evs_sink_flight_slot(flight, serial);

		if (slot->state == EVS_SINK_SLOT_SENT)
			evs_sink_flight_complete(flight, slot, EVS_SINK_OK, 0, "%s", "");
	}
	sink->position = sink->next_position;
	sink->nunanswered = 0;
	sink->phase = EVS_KAFKA_READY;
}

static void
failed(EvsKafka *sink, bool at_once, const char *what, const rd_kafka_error_t *error)
{
	rd_kafka_resp_err_t code = rd_kafka_error_code(error);
	evs_sink_class class;

	if (evs_kafka_blame(sink, code, &class) != EVS_KAFKA_SINK)
		class = EVS_SINK_RETRY_SINK;
	if (code == RD_KAFKA_RESP_ERR__TIMED_OUT && sink->last_error[0] != '\0')
		evs_kafka_outage(sink, at_once, class, code, "%s: %s", what, sink->last_error);
	else
		evs_kafka_outage(sink, at_once, class, code, "%s: %s", what, rd_kafka_error_string(error));
}

/*
 * The reports of its messages tell whether one of them is to blame, but they may
 * come later.
 */
static void
not_committed(EvsKafka *sink, const rd_kafka_error_t *error)
{
	begin_doubt(sink);
	failed(sink, false, "the transaction was not committed", error);
	rd_kafka_purge(sink->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
				   RD_KAFKA_PURGE_F_NON_BLOCKING);
	sink->phase = EVS_KAFKA_DRAINING;
	evs_kafka_take_events(sink);
}

/* What an older producer had begun has come to its end. */
static void
started(EvsKafka *sink)
{
	sink->phase = EVS_KAFKA_ASKING;
	/* Where topics are created when they are needed, this creates it. */
	sink->position_topic = rd_kafka_topic_new(sink->producer, sink->config.position_topic, NULL);
	ask_position(sink);
}

static void
task_ended(EvsKafka *sink, rd_kafka_error_t *error)
{
	switch (sink->phase)
	{
		case EVS_KAFKA_CLOSING:
			evs_kafka_client_close(sink);
			sink->phase = EVS_KAFKA_CLOSED;
			break;
		case EVS_KAFKA_STARTING:
			if (error != NULL)
				failed(sink, true, "the producer cannot be started", error);
			else
				started(sink);
			break;
		default:
			if (error != NULL)
				not_committed(sink, error);
			else
				committed(sink);
	}
}

static bool
has_task(const EvsKafka *sink)
{
	return sink->phase == EVS_KAFKA_CLOSING || sink->phase == EVS_KAFKA_STARTING ||
		sink->phase == EVS_KAFKA_COMMITTING;
}

void
evs_kafka_transact(EvsKafka *sink)
{
	rd_kafka_error_t *error;

	if (has_task(sink) && evs_kafka_job_ended(&sink->job, &error))
	{
		/* What was reported before it ended comes first. */
		evs_kafka_take_events(sink);
		task_ended(sink, error);
		if (error != NULL)
			rd_kafka_error_destroy(error);
	}
	if (sink->phase == EVS_KAFKA_RUNNING)
		start(sink, EVS_KAFKA_INIT, EVS_KAFKA_STARTING);
	if (sink->phase == EVS_KAFKA_ASKING && evs_kafka_now(sink) >= sink->ask_at)
		ask_position(sink);
	if (sink->trouble.outage || sink->trouble.nsuspects > 0)
		return;
	if (sink->phase == EVS_KAFKA_READY || sink->phase == EVS_KAFKA_FILLING)
		evs_kafka_fill(sink);
	if (sink->phase == EVS_KAFKA_FILLING && sink->flight.nsent > 0 && !sink->trouble.at_once)
		commit(sink);
}

void
evs_kafka_abandon(EvsKafka *sink)
{
	if (sink->phase == EVS_KAFKA_COMMITTING)
		begin_doubt(sink);
	if (!has_task(sink))
	{
		evs_kafka_client_close(sink);
		sink->phase = EVS_KAFKA_CLOSED;
		return;
	}
	evs_kafka_job_cancel(&sink->job);
	sink->phase = EVS_KAFKA_CLOSING;
}
