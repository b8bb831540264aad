/*
 * sink_claim.c
 *	  Up to which position the other side has everything.
 *
 * A message that carries the answer as of when it was sent lets the last one that
 * the other side has tell resume() where to go on.  Positions that failed are in a
 * sorted list; those in flight are in the flight.
 */
#include <stdlib.h>
#include <string.h>

#include "sink_flight.h"

bool
evs_sink_claim_init(evs_sink_claim *claim, int size)
{
	claim->open = malloc(size * sizeof(int64_t));
	claim->size = size;
	claim->limit = INT64_MAX;
	return claim->open != NULL;
}

void
evs_sink_claim_free(evs_sink_claim *claim)
{
	free(claim->open);
	claim->open = NULL;
}

static bool
is_in_order(const evs_sink_message *message)
{
	return (message->flags & (EVS_SINK_MESSAGE_REPLAY | EVS_SINK_MESSAGE_TEST)) == 0;
}

/* Where the position is in the list, or would have to be. */
static int
find_open(const evs_sink_claim *claim, int64_t position)
{
	int			low = 0;
	int			high = claim->nopen;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (claim->open[middle] < position)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void
evs_sink_claim_submitted(evs_sink_claim *claim, const evs_sink_message *message)
{
	if (is_in_order(message) && message->position > claim->top)
		claim->top = message->position;
}

void
evs_sink_claim_done(evs_sink_claim *claim, const evs_sink_message *message, bool stored)
{
	int			i = find_open(claim, message->position);
	bool		found = i < claim->nopen && claim->open[i] == message->position;
	int			after = claim->nopen - i;

	if (stored && found)
	{
		memmove(claim->open + i, claim->open + i + 1, (after - 1) * sizeof(int64_t));
		claim->nopen--;
	}
	if (stored || found || !is_in_order(message))
		return;
	if (claim->nopen == claim->size)
	{
		if (message->position <= claim->limit)
			claim->limit = message->position - 1;
		return;
	}
	memmove(claim->open + i + 1, claim->open + i, after * sizeof(int64_t));
	claim->open[i] = message->position;
	claim->nopen++;
}

/* Messages that were submitted in order are so in the ring: the first one decides. */
int64_t
evs_sink_claim_position(const evs_sink_claim *claim, const evs_sink_flight *flight)
{
	int64_t		position = claim->top;

	for (uint64_t serial = flight->head; serial < flight->tail; serial++)
	{
		const evs_sink_slot *slot = evs_sink_flight_slot(flight, serial);

		if ((slot->state == EVS_SINK_SLOT_SENT || slot->state == EVS_SINK_SLOT_WAITING) &&
			is_in_order(slot->message))
		{
			position = slot->message->position - 1;
			break;
		}
	}
	if (claim->nopen > 0 && claim->open[0] <= position)
		position = claim->open[0] - 1;
	return position < claim->limit ? position : claim->limit;
}
