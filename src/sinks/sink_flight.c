/*
 * sink_flight.c
 *	  Messages in flight, in the order of submission.
 *
 * Slots are a ring.  A slot that is DONE keeps its place until its result has
 * been taken, so that what is submitted behind a failure the host does not know
 * of yet is recognised as too early.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sink_flight.h"
#include "sink_util.h"

bool
evs_sink_flight_init(evs_sink_flight *flight, const evs_sink_host *host)
{
	memset(flight, 0, sizeof(*flight));
	flight->host = host;
	for (flight->capacity = 64; flight->capacity < (uint64_t) host->in_flight * 2;)
		flight->capacity *= 2;
	flight->slots = calloc(flight->capacity, sizeof(evs_sink_slot));
	flight->done = calloc(flight->capacity, sizeof(uint64_t));
	return flight->slots != NULL && flight->done != NULL;
}

void
evs_sink_flight_free(evs_sink_flight *flight)
{
	free(flight->slots);
	free(flight->done);
	flight->slots = NULL;
	flight->done = NULL;
}

/* --- order --- */

/* Is slot to arrive after the other one?  A key's order is that of positions. */
static bool
comes_after(const evs_sink_slot *slot, const evs_sink_slot *other)
{
	const evs_sink_message *a = slot->message;
	const evs_sink_message *b = other->message;

	return a->key != NULL && b->key != NULL && a->position > b->position &&
		strcmp(a->key, b->key) == 0;
}

/*
 * What comes after a failed message of its key must not arrive: the host will
 * submit it again, after that one.  This is about what waits already, or is sent
 * and may have to be sent again; comes_too_early() is about what is submitted
 * until the host knows.  Either is decided at once, since the failed one is
 * forgotten as soon as its result has been taken.
 */
static void
hold_key(evs_sink_flight *flight, const evs_sink_slot *failed)
{
	for (uint64_t serial = failed->serial + 1; serial < flight->tail; serial++)
	{
		evs_sink_slot *slot = evs_sink_flight_slot(flight, serial);

		if ((slot->state == EVS_SINK_SLOT_WAITING || slot->state == EVS_SINK_SLOT_SENT) &&
			comes_after(slot, failed))
			slot->held = true;
	}
}

static bool
comes_too_early(const evs_sink_flight *flight, const evs_sink_slot *slot)
{
	if (flight->nfailed == 0)
		return false;
	for (uint64_t serial = flight->head; serial < slot->serial; serial++)
	{
		const evs_sink_slot *other = evs_sink_flight_slot(flight, serial);

		if (other->state == EVS_SINK_SLOT_DONE && !evs_sink_is_success(other->result) &&
			comes_after(slot, other))
			return true;
	}
	return false;
}

/* --- results --- */

/* The slot's detail is set by the caller. */
static void
finish(evs_sink_flight *flight, evs_sink_slot *slot, evs_sink_class result, int code)
{
	bool		success = evs_sink_is_success(result);

	if (slot->state == EVS_SINK_SLOT_SENT)
		flight->nsent--;
	slot->state = EVS_SINK_SLOT_DONE;
	slot->result = result;
	slot->code = code;
	slot->retry_after_ms = -1;
	if (!success)
		flight->nfailed++;
	if (flight->completed != NULL)
		flight->completed(flight->arg, slot, success);
	flight->done[flight->done_tail++ & (flight->capacity - 1)] = slot->serial;
}

void
evs_sink_flight_complete(evs_sink_flight *flight, evs_sink_slot *slot, evs_sink_class result,
						 int code, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vsnprintf(slot->detail, sizeof(slot->detail), format, args);
	va_end(args);
	finish(flight, slot, result, code);
	if (!evs_sink_is_success(result))
		hold_key(flight, slot);
}

void
evs_sink_flight_complete_all(evs_sink_flight *flight, bool also_sent, evs_sink_class result,
							 int code, const char *why)
{
	for (uint64_t serial = flight->head; serial < flight->tail; serial++)
	{
		evs_sink_slot *slot = evs_sink_flight_slot(flight, serial);

		if (slot->state == EVS_SINK_SLOT_SENT && !also_sent && comes_too_early(flight, slot))
			slot->held = true;
		if (slot->state != EVS_SINK_SLOT_WAITING && (!also_sent || slot->state != EVS_SINK_SLOT_SENT))
			continue;
		slot->held = false;
		snprintf(slot->detail, sizeof(slot->detail), "%s", why);
		finish(flight, slot, result, code);
	}
}

int
evs_sink_flight_take(evs_sink_flight *flight, evs_sink_result *results, int max)
{
	int			n = 0;

	while (n < max && evs_sink_flight_has_results(flight))
	{
		uint64_t	serial = flight->done[flight->done_head++ & (flight->capacity - 1)];
		evs_sink_slot *slot = evs_sink_flight_slot(flight, serial);

		evs_sink_set_result(&results[n], slot->message->cookie, slot->result, slot->code,
							slot->detail);
		results[n++].retry_after_ms = slot->retry_after_ms;
		if (!evs_sink_is_success(slot->result))
			flight->nfailed--;
		slot->state = EVS_SINK_SLOT_FREE;
	}
	while (flight->head < flight->tail &&
		   evs_sink_flight_slot(flight, flight->head)->state == EVS_SINK_SLOT_FREE)
		flight->head++;
	if (flight->next < flight->head)
		flight->next = flight->head;
	return n;
}

/* --- sending --- */

int
evs_sink_flight_submit(evs_sink_flight *flight, const evs_sink_message *messages, int n)
{
	int			accepted = 0;

	for (; accepted < n && flight->tail - flight->head < flight->capacity; accepted++)
	{
		evs_sink_slot *slot = evs_sink_flight_slot(flight, flight->tail);

		slot->message = evs_sink_message_at(messages, accepted);
		slot->state = EVS_SINK_SLOT_WAITING;
		slot->serial = flight->tail++;
		slot->tag = 0;
		slot->held = comes_too_early(flight, slot);
	}
	return accepted;
}

evs_sink_slot *
evs_sink_flight_next(evs_sink_flight *flight)
{
	for (; flight->next < flight->tail; flight->next++)
	{
		evs_sink_slot *slot = evs_sink_flight_slot(flight, flight->next);

		if (slot->state != EVS_SINK_SLOT_WAITING)
			continue;
		if (!slot->held)
			return slot;
		evs_sink_flight_complete(flight, slot, EVS_SINK_RETURNED, 0,
								 "an earlier message of its key has failed");
	}
	return NULL;
}

void
evs_sink_flight_sent(evs_sink_flight *flight, evs_sink_slot *slot)
{
	const evs_sink_host *host = flight->host;

	slot->state = EVS_SINK_SLOT_SENT;
	slot->deadline = host->now_us(host->ctx) + host->timeout_ms * INT64_C(1000);
	flight->nsent++;
}

void
evs_sink_flight_requeue(evs_sink_flight *flight, evs_sink_slot *slot)
{
	flight->nsent--;
	slot->state = EVS_SINK_SLOT_WAITING;
	if (slot->serial < flight->next)
		flight->next = slot->serial;
}

int64_t
evs_sink_flight_deadline(evs_sink_flight *flight)
{
	for (uint64_t serial = flight->head; flight->nsent > 0 && serial < flight->tail; serial++)
	{
		const evs_sink_slot *slot = evs_sink_flight_slot(flight, serial);

		if (slot->state == EVS_SINK_SLOT_SENT)
			return slot->deadline;
	}
	return INT64_MAX;
}

int
evs_sink_flight_timeout(const evs_sink_flight *flight, int64_t until)
{
	int64_t		now = flight->host->now_us(flight->host->ctx);

	if (evs_sink_flight_has_results(flight) || until <= now)
		return 0;
	return until == INT64_MAX ? -1 : (int) ((until - now + 999) / 1000);
}
