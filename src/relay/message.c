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

/* ---- keeping ---- */

/* Members that are strings. */
static const size_t string_members[] = {
	offsetof(evs_sink_message, id), offsetof(evs_sink_message, type),
	offsetof(evs_sink_message, source), offsetof(evs_sink_message, stream),
	offsetof(evs_sink_message, key), offsetof(evs_sink_message, topic),
	offsetof(evs_sink_message, content_type),
};

static const char **
string_member(evs_sink_message *wire, int i)
{
	return (const char **) ((char *) wire + string_members[i]);
}

static Size
string_size(const char *string)
{
	return string != NULL ? strlen(string) + 1 : 0;
}

static Size
pairs_size(const evs_sink_pair *pairs, int n)
{
	Size		size = sizeof(evs_sink_pair) * n;

	for (int i = 0; i < n; i++)
		size += string_size(pairs[i].name) + string_size(pairs[i].value);
	return size;
}

static Size
wire_size(evs_sink_message *wire)
{
	Size		size = pairs_size(wire->attributes, wire->nattributes) +
		pairs_size(wire->headers, wire->nheaders);

	for (int i = 0; i < (int) lengthof(string_members); i++)
		size += string_size(*string_member(wire, i));
	return size + wire->length + 1;
}

static const char *
keep_bytes(char **at, const void *bytes, Size size)
{
	char	   *kept = *at;

	if (bytes == NULL)
		return NULL;
	memcpy(kept, bytes, size);
	*at += size;
	return kept;
}

static const evs_sink_pair *
keep_array(char **at, const evs_sink_pair *pairs, int n)
{
	return (const evs_sink_pair *) keep_bytes(at, pairs, sizeof(evs_sink_pair) * n);
}

static void
keep_strings(char **at, const evs_sink_pair *kept, int n)
{
	evs_sink_pair *pairs = unconstify(evs_sink_pair *, kept);

	for (int i = 0; i < n; i++)
	{
		pairs[i].name = keep_bytes(at, pairs[i].name, string_size(pairs[i].name));
		pairs[i].value = keep_bytes(at, pairs[i].value, string_size(pairs[i].value));
	}
}

void
evs_message_keep(EvsMessage *message)
{
	evs_sink_message *wire = &message->wire;
	char	   *at = MemoryContextAllocHuge(message->batch->context, wire_size(wire));

	/* what is aligned comes first */
	wire->attributes = keep_array(&at, wire->attributes, wire->nattributes);
	wire->headers = keep_array(&at, wire->headers, wire->nheaders);
	keep_strings(&at, wire->attributes, wire->nattributes);
	keep_strings(&at, wire->headers, wire->nheaders);
	for (int i = 0; i < (int) lengthof(string_members); i++)
	{
		const char **string = string_member(wire, i);

		*string = keep_bytes(&at, *string, string_size(*string));
	}
	wire->data = keep_bytes(&at, wire->data, wire->length);
	*at = '\0';
}

/* ---- the window ---- */

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
