/*
 * amqp_confirm.c
 *	  What became of messages: acknowledged, refused, returned, or the reason why
 *	  the server has closed the channel.
 *
 * The server counts what is published on a channel from 1, and acknowledges by
 * these tags, one by one or all up to one.  serials[] tells which message a tag
 * is of.  A message may have its result before its tag is acknowledged, when it
 * was returned, or handed back: then nobody is found for the tag.
 *
 * The server does not say which message it closes a channel for, nor what it has
 * done with the others, and reads nothing behind it.  If only one was in flight,
 * that is the one.  Otherwise all go again, on a new channel, in order, each of
 * them alone.
 */
#include <stdio.h>
#include <string.h>

#include "amqp_sink.h"

/* In serials[]: this tag has been acknowledged. */
#define NOBODY UINT64_MAX

static uint64_t *
serial_of(EvsAmqp *sink, uint64_t tag)
{
	return &sink->serials[tag & (sink->flight.capacity - 1)];
}

void
evs_amqp_confirm_reset(EvsAmqp *sink)
{
	sink->first_tag = sink->next_tag = 1;
}

bool
evs_amqp_confirm_has_room(const EvsAmqp *sink)
{
	return sink->next_tag - sink->first_tag < sink->flight.capacity;
}

void
evs_amqp_confirm_sent(EvsAmqp *sink, evs_sink_slot *slot)
{
	slot->tag = sink->next_tag++;
	*serial_of(sink, slot->tag) = slot->serial;
	evs_sink_flight_sent(&sink->flight, slot);
}

/* The message of a tag, if it waits for this; the tag is done. */
static void
settle(EvsAmqp *sink, uint64_t tag, bool ack)
{
	uint64_t   *serial = serial_of(sink, tag);
	evs_sink_slot *slot = *serial != NOBODY ? evs_sink_flight_find(&sink->flight, *serial) : NULL;

	*serial = NOBODY;
	sink->proven = ack;
	if (slot == NULL || slot->tag != tag)
		return;
	if (ack)
		evs_sink_flight_complete(&sink->flight, slot, EVS_SINK_OK, 0, "%s", "");
	else
		evs_sink_flight_complete(&sink->flight, slot, EVS_SINK_RETRY, 0,
								 "the server has not taken it: basic.nack");
}

void
evs_amqp_confirm_ack(EvsAmqp *sink, uint64_t tag, bool multiple, bool ack)
{
	uint64_t	from;

	if (multiple && tag == 0)
		tag = sink->next_tag - 1;
	if (tag == 0 || tag >= sink->next_tag)
	{
		evs_sink_link_fail(&sink->link, "the server acknowledges what was not sent");
		return;
	}
	from = multiple || tag < sink->first_tag ? sink->first_tag : tag;
	for (; from <= tag; from++)
		settle(sink, from, ack);
	while (sink->first_tag < sink->next_tag && *serial_of(sink, sink->first_tag) == NOBODY)
		sink->first_tag++;
}

/* The same event may be in flight twice, as a replay: the first one is the one. */
static evs_sink_slot *
find_by_id(EvsAmqp *sink, EvsAmqpString id)
{
	for (uint64_t tag = sink->first_tag; tag < sink->next_tag; tag++)
	{
		uint64_t	serial = *serial_of(sink, tag);
		evs_sink_slot *slot = serial != NOBODY ? evs_sink_flight_find(&sink->flight, serial) : NULL;

		if (slot != NULL && slot->tag == tag && strlen(slot->message->id) == id.length &&
			memcmp(slot->message->id, id.data, id.length) == 0)
			return slot;
	}
	return NULL;
}

void
evs_amqp_confirm_returned(EvsAmqp *sink, EvsAmqpString id, int code, const char *text)
{
	evs_sink_slot *slot = find_by_id(sink, id);

	if (slot != NULL)
		evs_sink_flight_complete(&sink->flight, slot, EVS_SINK_PERMANENT, code, "%s", text);
}

/* --- when the server closes --- */

/*
 * By the reply code.  RETRY_SINK is about all messages: it will be over when
 * somebody has done something at the server.
 */
static evs_sink_class
classify(const EvsAmqp *sink, int code)
{
	switch (code)
	{
		case 404:				/* no such exchange */
			return strstr(sink->config.exchange, "{topic}") != NULL ? EVS_SINK_PERMANENT :
				EVS_SINK_RETRY_SINK;
		case 311:				/* content too large */
		case 312:				/* no route */
		case 313:				/* no consumers */
		case 406:				/* precondition failed: too large, for one */
			return EVS_SINK_PERMANENT;
		case 501:				/* frame error */
		case 502:				/* syntax error */
		case 503:				/* command invalid */
		case 504:				/* channel error */
		case 505:				/* unexpected frame */
		case 540:				/* not implemented */
		case 541:				/* internal error */
			return EVS_SINK_RETRY;
		default:				/* 320 forced, 403 refused, 530 not allowed */
			return EVS_SINK_RETRY_SINK;
	}
}

/* The result of the only message that is in flight. */
static void
complete_only(EvsAmqp *sink, evs_sink_class result, int code, const char *text)
{
	uint64_t	serial = sink->flight.head;

	while (evs_sink_flight_find(&sink->flight, serial) == NULL)
		serial++;
	evs_sink_flight_complete(&sink->flight, evs_sink_flight_slot(&sink->flight, serial), result, code,
							 "%s", text);
}

static void
requeue_all(EvsAmqp *sink)
{
	for (uint64_t serial = sink->flight.head; serial < sink->flight.tail; serial++)
	{
		evs_sink_slot *slot = evs_sink_flight_find(&sink->flight, serial);

		if (slot != NULL)
			evs_sink_flight_requeue(&sink->flight, slot);
	}
}

void
evs_amqp_confirm_channel_closed(EvsAmqp *sink, int code, const char *text)
{
	evs_sink_class result = classify(sink, code);

	if (result == EVS_SINK_RETRY_SINK)
		evs_sink_flight_complete_all(&sink->flight, true, result, code, text);
	else if (sink->flight.nsent == 1)
		complete_only(sink, result, code, text);
	else if (sink->flight.nsent > 1)
	{
		sink->careful_until = sink->flight.tail;
		requeue_all(sink);
	}
	evs_amqp_confirm_reset(sink);
}

/*
 * What is in flight goes back to the host, which submits it again: the next ones
 * are the same, and are sent alone.
 */
void
evs_amqp_confirm_connection_closed(EvsAmqp *sink, int code, const char *text)
{
	evs_sink_class result = classify(sink, code);

	if (result == EVS_SINK_RETRY_SINK)
		return;
	if (sink->flight.nsent == 1)
		complete_only(sink, result, code, text);
	else
		sink->careful_until = sink->flight.tail + sink->flight.nsent;
}
