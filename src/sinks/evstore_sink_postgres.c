/*
 * evstore_sink_postgres.c
 *	  Sink to another PostgreSQL: into an evstore there, or into a table.
 *
 * Messages are taken in batches, in the order of submission, one batch at a time;
 * each is a transaction.  The target evstore recognises events by their ids
 * (postgres_append.c); the table has the relay's position beside it
 * (postgres_table.c).  Either way each message comes once.
 *
 * An error that may be the fault of one message, such as a value that does not
 * fit its column, rolls the batch back, and its messages go one by one, so that
 * only the one that is wrong is refused.  All other errors are outages: the
 * connection is given up, and messages are handed back.  That includes a missing
 * table or right: what is repaired at the target needs no hand here.
 *
 * What was submitted behind a message that has failed, and is of its key, is
 * not written: the host submits it again, after that one.
 */
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postgres_sink.h"

/* Serialization failures and deadlocks are tried again by the sink itself. */
#define MAX_ATTEMPTS 3

static const char held_text[] = "an earlier message of its key has failed";

static bool
is_success(evs_sink_class result)
{
	return result == EVS_SINK_OK || result == EVS_SINK_DUPLICATE;
}

/* --- results --- */

/* Is slot to be written after the other one?  A key's order is that of positions. */
static bool
comes_after(const EvsPgSlot *slot, const EvsPgSlot *other)
{
	const evs_sink_message *a = slot->message;
	const evs_sink_message *b = other->message;

	return a->key != NULL && b->key != NULL && a->position > b->position &&
		strcmp(a->key, b->key) == 0;
}

void
evs_pg_complete(EvsPg *sink, EvsPgSlot *slot, evs_sink_class result, const char *format,...)
{
	va_list		args;

	slot->state = EVS_PG_DONE;
	slot->result = result;
	va_start(args, format);
	vsnprintf(slot->detail, sizeof(slot->detail), format, args);
	va_end(args);
	if (!is_success(result))
		sink->nfailed++;
}

/* Everything that has no result yet; nothing is in a batch any more. */
void
evs_pg_complete_all(EvsPg *sink, evs_sink_class result, const char *why)
{
	for (uint64_t serial = sink->head; serial < sink->tail; serial++)
	{
		EvsPgSlot  *slot = evs_pg_slot(sink, serial);

		if (slot->state == EVS_PG_DONE)
			continue;
		slot->held = false;
		evs_pg_complete(sink, slot, result, "%s", why);
	}
	sink->batch = sink->next = sink->tail;
	sink->single_until = 0;
	sink->attempts = 0;
}

/* Those behind it that wait already; is_held() is about those that come until the host knows. */
static void
hold_key(EvsPg *sink, const EvsPgSlot *failed)
{
	for (uint64_t serial = sink->next; serial < sink->tail; serial++)
	{
		EvsPgSlot  *slot = evs_pg_slot(sink, serial);

		if (comes_after(slot, failed))
			slot->held = true;
	}
}

static bool
is_held(EvsPg *sink, uint64_t serial)
{
	EvsPgSlot  *slot = evs_pg_slot(sink, serial);

	if (slot->held || sink->nfailed == 0)
		return slot->held;
	for (uint64_t other = sink->head; other < serial; other++)
	{
		EvsPgSlot  *earlier = evs_pg_slot(sink, other);

		if (earlier->state == EVS_PG_DONE && !is_success(earlier->result) &&
			comes_after(slot, earlier))
			return true;
	}
	return false;
}

/* Results are returned in the order of submission. */
static int
take_results(EvsPg *sink, evs_sink_result *results, int max)
{
	int			n = 0;

	while (n < max && sink->head < sink->tail)
	{
		EvsPgSlot  *slot = evs_pg_slot(sink, sink->head);

		if (slot->state != EVS_PG_DONE)
			break;
		evs_sink_set_result(&results[n++], slot->message->cookie, slot->result, 0, slot->detail);
		if (!is_success(slot->result))
			sink->nfailed--;
		sink->head++;
	}
	return n;
}

/* --- batches --- */

/* What PostgreSQL cannot take as text would be cut there. */
static bool
has_zero_byte(EvsPg *sink, const evs_sink_message *message)
{
	if (message->data == NULL || memchr(message->data, '\0', message->length) == NULL)
		return false;
	if (!sink->config.to_table)
		return true;
	for (int i = 0; i < sink->config.ncolumns; i++)
		if (sink->config.columns[i].field == EVS_PG_DATA && !sink->config.columns[i].is_bytea)
			return true;
	return false;
}

/* The result of a message that is alone, and what follows from it. */
static void
refuse(EvsPg *sink, evs_sink_class result, const char *detail)
{
	EvsPgSlot  *slot = evs_pg_slot(sink, sink->batch);

	sink->next = sink->batch + 1;
	slot->result = result;
	snprintf(slot->detail, sizeof(slot->detail), "%s", detail);
	if (sink->config.to_table)
		evs_pg_table_pass_over(sink);
	else
		evs_pg_batch_done(sink);
}

void
evs_pg_batch_done(EvsPg *sink)
{
	for (uint64_t serial = sink->batch; serial < sink->next; serial++)
	{
		EvsPgSlot  *slot = evs_pg_slot(sink, serial);
		char		detail[256];

		snprintf(detail, sizeof(detail), "%s", slot->detail);
		if (!is_success(slot->result))
		{
			evs_pg_complete(sink, slot, slot->result, "%s", detail);
			hold_key(sink, slot);
		}
		else if (slot->action == EVS_PG_SKIP)
			evs_pg_complete(sink, slot, EVS_SINK_DUPLICATE, "the table has it");
		else
			evs_pg_complete(sink, slot, EVS_SINK_OK, "%s", "");
	}
	sink->batch = sink->next;
	sink->attempts = 0;
}

static void
begin_batch(EvsPg *sink)
{
	if (sink->config.to_table)
		evs_pg_table_begin(sink);
	else
		evs_pg_append_begin(sink);
}

/*
 * So many messages, and so much payload, as the host allows, but not those that
 * must not be written: they are a batch of their own.
 */
static void
start_batch(EvsPg *sink)
{
	bool		single = sink->batch < sink->single_until;
	int64_t		bytes = 0;
	int			max = single ? 1 : sink->host->batch_size;

	while (sink->next < sink->tail && sink->next - sink->batch < (uint64_t) max)
	{
		EvsPgSlot  *slot = evs_pg_slot(sink, sink->next);
		bool		first = sink->next == sink->batch;
		bool		held = is_held(sink, sink->next);
		bool		broken = !held && has_zero_byte(sink, slot->message);

		bytes += slot->message->length;
		if (!first && (held || broken || bytes > sink->host->batch_bytes))
			break;
		slot->result = EVS_SINK_OK;
		slot->action = EVS_PG_WRITE;
		if (held || broken)
		{
			slot->held = held;
			refuse(sink, held ? EVS_SINK_RETURNED : EVS_SINK_PERMANENT,
				   held ? held_text : "the data has a zero byte");
			return;
		}
		sink->next++;
	}
	begin_batch(sink);
}

/* The transaction is over; sink->failure says why. */
static void
after_rollback(EvsPg *sink)
{
	const char *sqlstate = sink->failure.sqlstate;
	char		detail[256];
	bool		of_message;
	evs_sink_class result = evs_pg_classify(sqlstate, &of_message);

	snprintf(detail, sizeof(detail), "[%s] %.200s", sqlstate, sink->failure.message);
	if ((strcmp(sqlstate, "40001") == 0 || strcmp(sqlstate, "40P01") == 0) &&
		++sink->attempts < MAX_ATTEMPTS)
		begin_batch(sink);
	else if (!of_message)
		evs_pg_fail(sink, "%s", detail);
	else if (sink->next - sink->batch == 1)
		refuse(sink, result, detail);
	else
	{
		sink->single_until = sink->next;
		sink->next = sink->batch;
	}
}

void
evs_pg_batch_failed(EvsPg *sink)
{
	sink->failure = sink->error;
	if (PQtransactionStatus(sink->conn) == PQTRANS_IDLE)
	{
		after_rollback(sink);
		return;
	}
	evs_pg_send(sink, "ROLLBACK", 0, NULL);
	evs_pg_sync(sink, after_rollback);
}

/* --- the module --- */

static int
validate(const evs_sink_host *host, const evs_sink_settings *settings, char *error, size_t size)
{
	EvsPgConfig config;

	return evs_pg_config_read(&config, host, settings, error, size);
}

static void
destroy(void *state)
{
	EvsPg	   *sink = state;

	evs_pg_connect_close(sink);
	free(sink->insert);
	free(sink->doubtful);
	free(sink->slots);
	free(sink);
}

static void *
open_sink(const evs_sink_host *host, const evs_sink_settings *settings, char *error, size_t size)
{
	EvsPg	   *sink = calloc(1, sizeof(*sink));

	if (sink == NULL)
	{
		snprintf(error, size, "out of memory");
		return NULL;
	}
	sink->host = host;
	for (sink->capacity = 64; sink->capacity < (uint64_t) host->in_flight * 2;)
		sink->capacity *= 2;
	sink->slots = calloc(sink->capacity, sizeof(EvsPgSlot));
	sink->doubtful = calloc(sink->capacity, sizeof(int64_t));
	if (sink->slots == NULL || sink->doubtful == NULL)
		snprintf(error, size, "out of memory");
	else if (evs_pg_config_read(&sink->config, host, settings, error, size) == 0)
		return sink;
	destroy(sink);
	return NULL;
}

static int
resume(void *state, int64_t *position, char *error, size_t size)
{
	EvsPg	   *sink = state;
	int			resumed = sink->resumed;

	if (!sink->config.to_table)
	{
		*position = 0;
		return 1;
	}
	sink->resumed = 0;
	sink->resuming = resumed == 0;
	if (resumed > 0)
		*position = sink->resume_position;
	else if (resumed < 0)
		snprintf(error, size, "%s", sink->resume_error);
	return resumed;
}

static int
submit(void *state, const evs_sink_message *messages, int n)
{
	EvsPg	   *sink = state;
	const char *message = (const char *) messages;
	int			accepted = 0;

	for (; accepted < n && sink->tail - sink->head < sink->capacity; accepted++)
	{
		EvsPgSlot  *slot = evs_pg_slot(sink, sink->tail++);

		slot->message = (const evs_sink_message *) message;
		slot->state = EVS_PG_WAITING;
		slot->held = false;
		slot->detail[0] = '\0';
		message += slot->message->size;
	}
	return accepted;
}

static bool
wants_connection(const EvsPg *sink)
{
	return sink->batch < sink->tail || sink->resuming;
}

/* Begin what can be begun. */
static void
go_on(EvsPg *sink)
{
	while (sink->state == EVS_PG_READY && !sink->running)
	{
		if (sink->resuming)
			evs_pg_table_resume(sink);
		else if (sink->batch < sink->tail)
			start_batch(sink);
		else
			break;
	}
}

static int
wait_fd(void *state, short *events, int *timeout_ms)
{
	EvsPg	   *sink = state;
	int64_t		now = sink->host->now_us(sink->host->ctx);
	int64_t		until = sink->deadline > 0 ? sink->deadline : INT64_MAX;
	int			fd = sink->conn != NULL ? PQsocket(sink->conn) : -1;

	*events = POLLIN;
	if (sink->state == EVS_PG_IDLE)
		until = wants_connection(sink) ? sink->retry_at : INT64_MAX;
	else if (sink->state == EVS_PG_RESOLVING)
		fd = evs_sink_lookup_fd(sink->lookup);
	else if (sink->state == EVS_PG_CONNECTING && sink->polling != PGRES_POLLING_READING)
		*events = POLLOUT;
	else if (sink->state >= EVS_PG_SETUP && PQflush(sink->conn) == 1)
		*events |= POLLOUT;
	if ((sink->state == EVS_PG_RESOLVING && fd < 0) ||
		(sink->head < sink->tail && evs_pg_slot(sink, sink->head)->state == EVS_PG_DONE) ||
		(sink->state == EVS_PG_READY && !sink->running && wants_connection(sink)) || until <= now)
		*timeout_ms = 0;
	else
		*timeout_ms = until == INT64_MAX ? -1 : (int) ((until - now + 999) / 1000);
	return fd;
}

static int
progress(void *state, evs_sink_result *results, int max)
{
	EvsPg	   *sink = state;

	evs_pg_connect_run(sink, wants_connection(sink));
	go_on(sink);
	return take_results(sink, results, max);
}

static const evs_sink postgres = {
	.abi = EVS_SINK_ABI,
	.size = sizeof(evs_sink),
	.name = "postgres",
	.description = "another PostgreSQL, with libpq",
	.caps = EVS_SINK_CAP_PIPELINE | EVS_SINK_CAP_BATCH | EVS_SINK_CAP_DEDUPLICATES |
	EVS_SINK_CAP_RESUMES | EVS_SINK_CAP_THREADS | EVS_SINK_CAP_NETWORK,
	.validate = validate,
	.open = open_sink,
	.resume = resume,
	.submit = submit,
	.wait_fd = wait_fd,
	.progress = progress,
	.destroy = destroy
};

EVS_SINK_EXPORT const evs_sink *
evs_sink_init(uint32_t host_abi)
{
	return host_abi == EVS_SINK_ABI ? &postgres : NULL;
}
