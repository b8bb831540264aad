/*
 * redis_batch.c
 *	  Batches: which messages go together, and how they are written.
 *
 * A batch is one call of the script, for one stream.  The first one is sent
 * alone.  Its answer tells the stream's last id, and from then on that is known
 * beforehand: a message's id is its position.  So many batches may be in flight:
 * each says which last id it expects, and if one is not stored as a whole those behind
 * it are refused.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "redis_sink.h"

/* Redis's own limit of an argument, unless it was lowered. */
#define MAX_VALUE ((size_t) 512 * 1024 * 1024)

/* At least so many of the stream's last entries are looked through. */
#define MIN_DEPTH 256
#define MAX_DEPTH 10000

int64_t
evs_redis_depth(const EvsRedis *sink)
{
	int64_t		depth = sink->host->in_flight * INT64_C(2);

	return depth < MIN_DEPTH ? MIN_DEPTH : depth > MAX_DEPTH ? MAX_DEPTH : depth;
}

static bool
is_in_order(const evs_sink_message *message)
{
	return (message->flags & (EVS_SINK_MESSAGE_REPLAY | EVS_SINK_MESSAGE_TEST)) == 0;
}

/* --- putting together --- */

static bool
is_structured(const EvsRedis *sink)
{
	return strcmp(sink->host->format, "cloudevents") == 0;
}

/* An event that is a whole needs none. */
static bool
has_content_type(const EvsRedis *sink, const evs_sink_message *message)
{
	return message->content_type != NULL && !is_structured(sink);
}

/* Fields of the message, without "settled". */
static int
count_fields(const EvsRedis *sink, const evs_sink_message *message)
{
	int			n = message->nattributes + message->nheaders;

	n += (message->flags & EVS_SINK_MESSAGE_TEST) != 0;
	n += message->data != NULL;
	n += has_content_type(sink, message);
	return n;
}

static bool
is_predictable(const EvsRedisStream *stream, const evs_sink_message *message)
{
	return stream->known && !stream->broken && is_in_order(message) &&
		(uint64_t) message->position > stream->ms;
}

/* Several batches are in flight, so that neither side waits for the other. */
static int
max_messages(const EvsRedis *sink)
{
	int			share = (sink->host->in_flight + 3) / 4;

	return share < sink->host->batch_size ? share : sink->host->batch_size;
}

/* May it join the stream's batch, or begin one?  A full one is closed by the caller. */
static bool
may_join(const EvsRedis *sink, const EvsRedisStream *stream, const evs_sink_message *message)
{
	if (sink->alone > 0 && (sink->nbatches > 0 || sink->open != NULL))
		return false;
	if (stream->n > 0)
		return stream->n < max_messages(sink) &&
			stream->bytes + (int64_t) message->length <= sink->host->batch_bytes;
	return stream->nbatches == 0 || is_predictable(stream, message);
}

static void
begin_batch(EvsRedis *sink, EvsRedisStream *stream, const evs_sink_slot *slot)
{
	stream->expected[0] = '\0';
	if (stream->nbatches > 0)
		snprintf(stream->expected, sizeof(stream->expected), "%" PRIu64 "-%" PRIu64,
				 stream->ms, stream->seq);
	stream->first = slot->serial;
	stream->bytes = 0;
	stream->next_open = sink->open;
	sink->open = stream;
	sink->nopen++;
}

static void
join(EvsRedis *sink, EvsRedisStream *stream, evs_sink_slot *slot)
{
	const evs_sink_message *message = slot->message;

	if (stream->n == 0)
		begin_batch(sink, stream, slot);
	else
		evs_sink_flight_slot(&sink->flight, stream->last)->tag = slot->serial + 1;
	slot->tag = 0;
	stream->last = slot->serial;
	stream->n++;
	stream->bytes += message->length;
	sink->open_bytes += message->length;
	stream->known = is_predictable(stream, message);
	if (stream->known)
	{
		stream->ms = message->position;
		stream->seq = 0;
	}
	evs_sink_flight_sent(&sink->flight, slot);
}

bool
evs_redis_add_message(EvsRedis *sink, evs_sink_slot *slot)
{
	const evs_sink_message *message = slot->message;
	char		key[EVS_REDIS_KEY_MAX];
	const char *wrong = evs_redis_fill_key(sink->config.key, message->topic, key, sizeof(key));
	EvsRedisStream *stream;

	if (wrong == NULL && count_fields(sink, message) > EVS_REDIS_MAX_FIELDS)
		wrong = "it has too many headers";
	if (wrong == NULL && message->length > MAX_VALUE)
		wrong = "it is larger than the 512 MB that Redis takes";
	if (wrong != NULL)
	{
		evs_sink_flight_complete(&sink->flight, slot, EVS_SINK_PERMANENT, 0, "%s", wrong);
		return true;
	}
	stream = evs_redis_find_stream(sink, key);
	if (stream == NULL && sink->nbatches == 0 && sink->open == NULL)
		evs_sink_link_fail(&sink->link, "no memory for a stream");
	if (stream == NULL)
		return false;
	if (stream->n > 0 && !may_join(sink, stream, message))
	{
		evs_redis_write_batches(sink);
		stream = evs_redis_find_stream(sink, key);
	}
	if (stream == NULL || !may_join(sink, stream, message))
		return false;
	join(sink, stream, slot);
	return true;
}

/* --- writing --- */

void
evs_redis_write_argument(EvsRedis *sink, const void *data, size_t length)
{
	evs_sink_buffer *out = &sink->link.out;
	char		head[32];
	char	   *at = head + sizeof(head);
	size_t		n = length;

	/* This is done for each argument, and printf() would be most of the work. */
	*--at = '\n';
	*--at = '\r';
	do
		*--at = '0' + n % 10;
	while ((n /= 10) > 0);
	*--at = '$';
	evs_sink_add(out, at, head + sizeof(head) - at);
	evs_sink_add(out, data, length);
	evs_sink_add(out, "\r\n", 2);
}

void
evs_redis_write_string(EvsRedis *sink, const char *string)
{
	evs_redis_write_argument(sink, string, strlen(string));
}

static void
write_number(EvsRedis *sink, int64_t number)
{
	char		text[32];

	snprintf(text, sizeof(text), "%" PRId64, number);
	evs_redis_write_string(sink, text);
}

static void
write_name(EvsRedis *sink, const char *prefix, const char *name)
{
	evs_sink_buffer field = {0};

	evs_sink_add_string(&field, prefix);
	evs_sink_add_string(&field, name);
	if (field.failed)
		sink->link.out.failed = true;
	else
		evs_redis_write_argument(sink, field.data, field.length);
	evs_sink_buffer_free(&field);
}

/* As many as count_fields() says, in the order of write_values(). */
static void
write_names(EvsRedis *sink, const evs_sink_message *message)
{
	bool		binary = strcmp(sink->host->format, "cloudevents-binary") == 0;

	if (message->flags & EVS_SINK_MESSAGE_TEST)
		evs_redis_write_string(sink, "test");
	for (int i = 0; i < message->nattributes; i++)
		write_name(sink, "ce_", message->attributes[i].name);
	if (has_content_type(sink, message))
		evs_redis_write_string(sink, binary ? "ce_datacontenttype" : "content-type");
	for (int i = 0; i < message->nheaders; i++)
		write_name(sink, "header_", message->headers[i].name);
	if (message->data != NULL)
		evs_redis_write_string(sink, is_structured(sink) ? "event" : "data");
}

static void
write_values(EvsRedis *sink, const evs_sink_message *message)
{
	if (message->flags & EVS_SINK_MESSAGE_TEST)
		evs_redis_write_string(sink, "true");
	for (int i = 0; i < message->nattributes; i++)
		evs_redis_write_string(sink, message->attributes[i].value);
	if (has_content_type(sink, message))
		evs_redis_write_string(sink, message->content_type);
	for (int i = 0; i < message->nheaders; i++)
		evs_redis_write_string(sink, message->headers[i].value);
	if (message->data != NULL)
		evs_redis_write_argument(sink, message->data, message->length);
}

static bool
same_names(const evs_sink_pair *a, const evs_sink_pair *b, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(a[i].name, b[i].name) != 0)
			return false;
	return true;
}

/* Have they the same fields? */
static bool
same_fields(const evs_sink_message *a, const evs_sink_message *b)
{
	return ((a->flags ^ b->flags) & EVS_SINK_MESSAGE_TEST) == 0 &&
		(a->data == NULL) == (b->data == NULL) &&
		(a->content_type == NULL) == (b->content_type == NULL) &&
		a->nattributes == b->nattributes && a->nheaders == b->nheaders &&
		same_names(a->attributes, b->attributes, a->nattributes) &&
		same_names(a->headers, b->headers, a->nheaders);
}

static void
write_message(EvsRedis *sink, const evs_sink_message *message, int64_t settled)
{
	char		id[32];

	snprintf(id, sizeof(id), "%" PRId64 "-0",
			 message->flags & EVS_SINK_MESSAGE_TEST ? 0 : message->position);
	evs_redis_write_string(sink, id);
	evs_redis_write_string(sink, message->id);
	if (settled > 0)
		write_number(sink, settled);
	write_values(sink, message);
}

/* --- runs --- */

/* Messages with the same fields; the batch's last one has "settled" besides. */
typedef struct Run
{
	uint64_t	first;			/* slot */
	int			n;
	int			fields;
	bool		settled;
} Run;

static const evs_sink_slot *
next_slot(const EvsRedis *sink, uint64_t *serial)
{
	const evs_sink_slot *slot = evs_sink_flight_slot(&sink->flight, *serial);

	*serial = slot->tag - 1;
	return slot;
}

/* The run that begins with this slot, with so many that are left; returns the slot behind it. */
static uint64_t
find_run(const EvsRedis *sink, uint64_t serial, int left, bool settled, Run *run)
{
	const evs_sink_message *message = evs_sink_flight_slot(&sink->flight, serial)->message;

	run->first = serial;
	run->n = 0;
	run->settled = settled && left == 1;
	run->fields = count_fields(sink, message) + run->settled;
	do
	{
		(void) next_slot(sink, &serial);
		run->n++;
		left--;
	} while (left > 0 && !(settled && left == 1) &&
			 same_fields(message, evs_sink_flight_slot(&sink->flight, serial)->message));
	return serial;
}

static int
count_arguments(const EvsRedis *sink, const EvsRedisStream *stream, bool settled)
{
	uint64_t	serial = stream->first;
	int			n = EVS_REDIS_SCRIPT_ARGS;
	Run			run;

	for (int left = stream->n; left > 0; left -= run.n)
	{
		serial = find_run(sink, serial, left, settled, &run);
		n += 2 + run.fields + run.n * (2 + run.fields);
	}
	return n;
}

static void
write_run(EvsRedis *sink, const Run *run, int64_t settled)
{
	uint64_t	serial = run->first;

	write_number(sink, run->n);
	write_number(sink, run->fields);
	if (run->settled)
		evs_redis_write_string(sink, "settled");
	write_names(sink, evs_sink_flight_slot(&sink->flight, serial)->message);
	for (int i = 0; i < run->n; i++)
		write_message(sink, next_slot(sink, &serial)->message, run->settled ? settled : 0);
}

/* May messages of the batch be in the stream already, under another id? */
static bool
is_suspect(EvsRedis *sink, const EvsRedisStream *stream)
{
	uint64_t	serial = stream->first;
	bool		suspect = sink->suspects > 0;

	sink->suspects -= sink->suspects < stream->n ? sink->suspects : stream->n;
	for (int i = 0; i < stream->n && !suspect; i++)
		suspect = (next_slot(sink, &serial)->message->flags & EVS_SINK_MESSAGE_REPLAY) != 0;
	return suspect;
}

/* --- batches --- */

/* MAXLEN or MINID, operator, threshold.  What is not settled is not trimmed by position. */
static void
write_trim(EvsRedis *sink, int64_t settled)
{
	const EvsRedisConfig *config = &sink->config;
	int64_t		threshold = config->max_length;
	const char *strategy = "";

	if (config->max_length > 0)
		strategy = "MAXLEN";
	else if (config->keep_positions > 0 && settled > config->keep_positions)
	{
		strategy = "MINID";
		threshold = settled - config->keep_positions;
	}
	evs_redis_write_string(sink, strategy);
	evs_redis_write_string(sink, config->exact ? "=" : "~");
	write_number(sink, threshold);
}

/* The last message of a batch tells how far everything is settled: see resume(). */
static void
write_batch(EvsRedis *sink, EvsRedisStream *stream, int64_t settled)
{
	uint64_t	serial = stream->first;
	Run			run;

	evs_sink_printf(&sink->link.out, "*%d\r\n", 4 + count_arguments(sink, stream, settled > 0));
	evs_redis_write_string(sink, sink->loaded ? "EVALSHA" : "EVAL");
	evs_redis_write_string(sink, sink->loaded ? sink->sha : evs_redis_script);
	evs_redis_write_string(sink, "1");
	evs_redis_write_string(sink, stream->key);
	evs_redis_write_string(sink, sink->host->id);
	evs_redis_write_string(sink, stream->expected);
	write_number(sink, evs_redis_depth(sink));
	write_trim(sink, settled);
	evs_redis_write_string(sink, sink->config.create ? "0" : "1");
	evs_redis_write_string(sink, sink->config.wait_replicas > 0 ? "1" : "0");
	evs_redis_write_string(sink, is_suspect(sink, stream) ? "1" : "0");
	for (int left = stream->n; left > 0; left -= run.n)
	{
		serial = find_run(sink, serial, left, settled > 0, &run);
		write_run(sink, &run, settled);
	}
	sink->loaded = sink->sha[0] != '\0';
}

void
evs_redis_write_batches(EvsRedis *sink)
{
	int64_t		settled;

	if (sink->open == NULL)
		return;
	settled = evs_sink_claim_position(&sink->claim, &sink->flight);
	while (sink->open != NULL)
	{
		EvsRedisStream *stream = sink->open;
		EvsRedisRequest *request = evs_redis_add_request(sink, EVS_REDIS_BATCH);

		sink->open = stream->next_open;
		request->stream = stream;
		request->first = stream->first;
		request->n = stream->n;
		write_batch(sink, stream, settled);
		stream->n = 0;
		stream->nbatches++;
		sink->nbatches++;
	}
	sink->nopen = 0;
	sink->open_bytes = 0;
	if (sink->config.wait_replicas > 0)
		evs_redis_write_wait(sink);
}
