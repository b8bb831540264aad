/*
 * nats_claim.c
 *	  Up to which position the other side has everything.
 *
 * Each message carries the answer as of when it was sent, in Evstore-Settled, so
 * that the stream's last message tells resume() where to go on.  It may be too
 * low, never too high: it stops below each message that was submitted in order
 * and is not stored, be it in flight, to be tried again, or parked.
 */
#include <stdlib.h>
#include <string.h>

#include "nats_sink.h"

bool
evs_nats_claim_init(EvsNatsClaim *claim, int size)
{
	claim->open = malloc(size * sizeof(int64_t));
	claim->size = size;
	claim->limit = INT64_MAX;
	return claim->open != NULL;
}

static bool
is_in_order(const evs_sink_message *message)
{
	return (message->flags & (EVS_SINK_MESSAGE_REPLAY | EVS_SINK_MESSAGE_TEST)) == 0;
}

/* Where the position is in the list, or would have to be. */
static int
find_open(const EvsNatsClaim *claim, int64_t position)
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
evs_nats_claim_submitted(EvsNatsClaim *claim, const evs_sink_message *message)
{
	if (is_in_order(message) && message->position > claim->top)
		claim->top = message->position;
}

void
evs_nats_claim_done(EvsNatsClaim *claim, const evs_sink_message *message, bool stored)
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
evs_nats_claim_position(const EvsNats *sink)
{
	const EvsNatsClaim *claim = &sink->claim;
	int64_t		position = claim->top;

	for (uint64_t serial = sink->head; serial < sink->tail; serial++)
	{
		const EvsNatsSlot *slot = &sink->slots[serial & (sink->capacity - 1)];

		if ((slot->state == EVS_NATS_SENT || slot->state == EVS_NATS_WAITING) &&
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
