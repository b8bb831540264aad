/*
 * postgres_append.c
 *	  The target evstore: events of a batch are appended to streams there.
 *
 * Messages of a stream that follow each other are one call.  All calls of a batch
 * are one transaction, and go out together with its COMMIT.  The event ids stay,
 * so what was committed already is recognised; when only some events of a call
 * are there, evstore refuses the call, and the messages go one by one.
 */
#include <string.h>

#include "postgres_sink.h"
#include "sink_json.h"

/* An event without data has {} there, as in evstore. */
static const char append_sql[] =
"SELECT version FROM evstore.append_events($1, (SELECT pg_catalog.jsonb_agg("
"pg_catalog.jsonb_build_object('type', e.type, 'data', coalesce(e.data, '{}'), 'event_id', e.id, "
"'correlation_id', e.correlation, 'causation_id', e.causation, 'occurred_at', e.occurred, "
"'source', e.source, 'metadata', e.metadata) ORDER BY e.n) "
"FROM ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::jsonb[]), "
"pg_catalog.unnest($4::uuid[]), pg_catalog.unnest($5::text[]), pg_catalog.unnest($6::text[]), "
"pg_catalog.unnest($7::timestamptz[]), pg_catalog.unnest($8::text[]), "
"pg_catalog.unnest($9::jsonb[])) WITH ORDINALITY "
"AS e(type, data, id, correlation, causation, occurred, source, metadata, n)))";

#define NARRAYS 8

/* The template with {stream} and {topic} filled in. */
static void
fill_stream(const EvsPgConfig *config, const evs_sink_message *message, evs_sink_buffer *stream)
{
	const char *at = config->stream;

	stream->length = 0;
	evs_sink_add(stream, "", 0);
	while (*at != '\0')
	{
		if (strncmp(at, "{stream}", 8) == 0)
			evs_sink_add_string(stream, message->stream);
		else if (strncmp(at, "{topic}", 7) == 0)
			evs_sink_add_string(stream, message->topic);
		else
		{
			evs_sink_add(stream, at++, 1);
			continue;
		}
		at = strchr(at, '}') + 1;
	}
}

static const char *
attribute(const evs_sink_message *message, const char *name)
{
	for (int i = 0; i < message->nattributes; i++)
		if (strcmp(message->attributes[i].name, name) == 0)
			return message->attributes[i].value;
	return NULL;
}

/* The application's headers become metadata; NULL if there are none. */
static void
add_metadata(evs_sink_buffer *array, const evs_sink_message *message)
{
	evs_sink_buffer json = {0};

	if (message->nheaders == 0)
	{
		evs_pg_array_add(array, NULL, 0);
		return;
	}
	for (int i = 0; i < message->nheaders; i++)
	{
		evs_sink_add(&json, i == 0 ? "{" : ",", 1);
		evs_sink_json_add(&json, message->headers[i].name);
		evs_sink_add(&json, ":", 1);
		evs_sink_json_add(&json, message->headers[i].value);
	}
	evs_sink_add(&json, "}", 1);
	evs_pg_array_add(array, json.data, json.length);
	array->failed |= json.failed;
	evs_sink_buffer_free(&json);
}

static void
add_event(evs_sink_buffer *arrays, const evs_sink_message *message)
{
	char		time[64];

	evs_pg_format_time(message->time_us, time, sizeof(time));
	evs_pg_array_add_string(&arrays[0], message->type);
	evs_pg_array_add(&arrays[1], message->data, message->length);
	evs_pg_array_add_string(&arrays[2], message->id);
	evs_pg_array_add_string(&arrays[3], attribute(message, "correlationid"));
	evs_pg_array_add_string(&arrays[4], attribute(message, "causationid"));
	evs_pg_array_add_string(&arrays[5], time);
	evs_pg_array_add_string(&arrays[6], message->source);
	add_metadata(&arrays[7], message);
}

static void
send_append(EvsPg *sink, const char *stream, evs_sink_buffer *arrays)
{
	const char *params[1 + NARRAYS] = {stream};
	bool		failed = false;

	for (int i = 0; i < NARRAYS; i++)
	{
		evs_pg_array_end(&arrays[i]);
		failed |= arrays[i].failed;
		params[1 + i] = arrays[i].data;
	}
	if (failed)
		evs_pg_fail(sink, "no memory for a batch");
	else
		evs_pg_send(sink, append_sql, 1 + NARRAYS, params);
	for (int i = 0; i < NARRAYS; i++)
		arrays[i].length = 0;
}

static void
finish_batch(EvsPg *sink)
{
	if (sink->error.sqlstate[0] != '\0')
		evs_pg_batch_failed(sink);
	else
		evs_pg_batch_done(sink);
}

void
evs_pg_append_begin(EvsPg *sink)
{
	evs_sink_buffer arrays[NARRAYS] = {{0}};
	evs_sink_buffer stream = {0};
	evs_sink_buffer next = {0};

	evs_pg_send(sink, "BEGIN", 0, NULL);
	for (uint64_t serial = sink->batch; serial < sink->next; serial++)
	{
		const evs_sink_message *message = evs_pg_slot(sink, serial)->message;

		fill_stream(&sink->config, message, &next);
		if (stream.failed || next.failed)
		{
			evs_pg_fail(sink, "no memory for a batch");
			break;
		}
		if (serial > sink->batch && strcmp(next.data, stream.data) != 0)
			send_append(sink, stream.data, arrays);
		stream.length = 0;
		evs_sink_add(&stream, next.data, next.length);
		add_event(arrays, message);
	}
	if (sink->state == EVS_PG_READY)
		send_append(sink, stream.data, arrays);
	evs_pg_send(sink, "COMMIT", 0, NULL);
	evs_pg_sync(sink, finish_batch);
	for (int i = 0; i < NARRAYS; i++)
		evs_sink_buffer_free(&arrays[i]);
	evs_sink_buffer_free(&stream);
	evs_sink_buffer_free(&next);
}
