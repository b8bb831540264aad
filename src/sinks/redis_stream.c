/*
 * redis_stream.c
 *	  The streams that are written to on a connection.
 *
 * A relay whose topics make many keys has many; the table is emptied when it is
 * full and nothing is in flight.
 */
#include <stdlib.h>
#include <string.h>

#include "redis_sink.h"

#define STREAMS 4096
#define MAX_STREAMS 3000

static uint32_t
hash(const char *key)
{
	uint32_t	h = 2166136261u;	/* FNV-1a */

	for (; *key != '\0'; key++)
		h = (h ^ (unsigned char) *key) * 16777619u;
	return h;
}

void
evs_redis_forget_streams(EvsRedis *sink)
{
	for (int i = 0; sink->streams != NULL && i < STREAMS; i++)
		free(sink->streams[i].key);
	free(sink->streams);
	sink->streams = NULL;
	sink->nstreams = 0;
	sink->open = NULL;
	sink->nopen = 0;
	sink->open_bytes = 0;
}

EvsRedisStream *
evs_redis_find_stream(EvsRedis *sink, const char *key)
{
	uint32_t	i = hash(key);

	if (sink->streams == NULL)
		sink->streams = calloc(STREAMS, sizeof(EvsRedisStream));
	if (sink->streams == NULL)
		return NULL;
	for (;; i++)
	{
		EvsRedisStream *stream = &sink->streams[i % STREAMS];

		if (stream->key != NULL && strcmp(stream->key, key) == 0)
			return stream;
		if (stream->key != NULL)
			continue;
		if (sink->nstreams >= MAX_STREAMS)
		{
			if (sink->nbatches > 0 || sink->open != NULL)
				return NULL;
			evs_redis_forget_streams(sink);
			return evs_redis_find_stream(sink, key);
		}
		stream->key = strdup(key);
		if (stream->key == NULL)
			return NULL;
		sink->nstreams++;
		return stream;
	}
}
