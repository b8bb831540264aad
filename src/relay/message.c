/*
 * message.c
 *	  Events on their way to a sink.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "relay/message.h"

#define WINDOW_FIRST 256

void
evs_message_free(EvsMessage *message)
{
	EvsMessageBatch *batch = message->batch;

	if (--batch->left == 0)
		MemoryContextDelete(batch->context);
}

void
evs_window_add(EvsWindow *window, EvsMessage *message)
{
	if (window->first + window->n == window->max)
	{
		if (window->first > 0)
		{
			memmove(window->items, window->items + window->first,
					sizeof(EvsMessage *) * window->n);
			window->first = 0;
		}
		if (window->n > window->max / 2 || window->items == NULL)
		{
			window->max = Max(window->max * 2, WINDOW_FIRST);
			window->items = window->items == NULL ?
				MemoryContextAlloc(TopMemoryContext, sizeof(EvsMessage *) * window->max) :
				repalloc(window->items, sizeof(EvsMessage *) * window->max);
		}
	}
	window->items[window->first + window->n++] = message;
	window->bytes += message->size;
}

void
evs_window_pass(EvsWindow *window, int n)
{
	for (int i = 0; i < n; i++)
	{
		window->bytes -= evs_window_get(window, i)->size;
		evs_message_free(evs_window_get(window, i));
	}
	window->first += n;
	window->n -= n;
	window->settled = Max(0, window->settled - n);
	if (window->n == 0)
		window->first = 0;
}

void
evs_window_clear(EvsWindow *window)
{
	evs_window_pass(window, window->n);
	if (window->items != NULL)
		pfree(window->items);
	memset(window, 0, sizeof(*window));
}
