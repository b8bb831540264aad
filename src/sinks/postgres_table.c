/*
 * postgres_table.c
 *	  The target table: rows, and what makes each message come once.
 *
 * Two tables in the schema of the target table belong to the relay:
 *
 * evstore_relay_position has a row a relay: the highest position of the messages
 * that were submitted in order and written.  It moves in the transaction that
 * writes their rows, and only from the value that this session knows: if somebody
 * else has moved it, the transaction is rolled back.
 *
 * evstore_relay_ledger has what the position does not tell.  delivered = false:
 * a message that was passed over, since it failed, or one of its key before it
 * did; the position may be beyond it.  delivered = true: a message that was
 * written when it came again, as a replay.
 *
 *	in order, above the position		write
 *	in order, up to it					write if it was passed over, otherwise a duplicate
 *	replay								a duplicate if the ledger has it as delivered, or if its
 *										first COMMIT had no answer and was done; otherwise write
 *
 * A message is passed over in a transaction of its own before its result is
 * returned, so before any later message can move the position.  resume() stops
 * below the first one that was.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "postgres_sink.h"

static bool
is_in_order(const evs_sink_message *message)
{
	return (message->flags & (EVS_SINK_MESSAGE_REPLAY | EVS_SINK_MESSAGE_TEST)) == 0;
}

/*
 * A statement in which each $S is the schema.  Statements are short: what does
 * not fit is an error of the server's.
 */
static void
send_in_schema(EvsPg *sink, const char *pattern, int nparams, const char *const *params)
{
	evs_sink_buffer sql = {0};
	char	   *schema;

	if (sink->state < EVS_PG_SETUP)
		return;					/* it has failed in this step already */
	schema = PQescapeIdentifier(sink->conn, sink->config.schema, strlen(sink->config.schema));
	for (const char *at = pattern; schema != NULL && *at != '\0'; at++)
	{
		if (at[0] != '$' || at[1] != 'S')
			evs_sink_add(&sql, at, 1);
		else
		{
			evs_sink_add_string(&sql, schema);
			at++;
		}
	}
	if (schema == NULL || sql.failed)
		evs_pg_fail(sink, "no memory for a statement");
	else
		evs_pg_send(sink, sql.data, nparams, params);
	evs_sink_buffer_free(&sql);
	PQfreemem(schema);
}

/* --- a new connection --- */

static void
create_tables(EvsPg *sink)
{
	send_in_schema(sink, "CREATE TABLE IF NOT EXISTS $S.evstore_relay_position ("
				   "relay text PRIMARY KEY, \"position\" bigint NOT NULL, "
				   "updated_at timestamptz NOT NULL DEFAULT now())", 0, NULL);
	send_in_schema(sink, "CREATE TABLE IF NOT EXISTS $S.evstore_relay_ledger ("
				   "relay text, event_id uuid, \"position\" bigint NOT NULL, "
				   "delivered boolean NOT NULL, updated_at timestamptz NOT NULL DEFAULT now(), "
				   "PRIMARY KEY (relay, event_id))", 0, NULL);
}

static void
send_position_query(EvsPg *sink)
{
	send_in_schema(sink, "SELECT p.\"position\", (SELECT min(l.\"position\") "
				   "FROM $S.evstore_relay_ledger l WHERE l.relay = $1 AND NOT l.delivered) "
				   "FROM $S.evstore_relay_position p WHERE p.relay = $1", 1, &sink->host->id);
}

void
evs_pg_table_setup(EvsPg *sink)
{
	const char *params[] = {sink->config.schema, sink->config.table};

	if (sink->config.create)
		create_tables(sink);
	send_in_schema(sink, "INSERT INTO $S.evstore_relay_position (relay, \"position\") "
				   "VALUES ($1, 0) ON CONFLICT DO NOTHING", 1, &sink->host->id);
	send_position_query(sink);
	evs_pg_send(sink, "SELECT a.attname, pg_catalog.format_type(a.atttypid, NULL) "
				"FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid "
				"JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
				"WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped",
				2, params);
}

static const char *
type_of(const PGresult *columns, const char *name)
{
	for (int i = 0; i < PQntuples(columns); i++)
		if (strcmp(PQgetvalue(columns, i, 0), name) == 0)
			return PQgetvalue(columns, i, 1);
	return NULL;
}

/*
 * INSERT INTO s.t (c, d) SELECT u.c0::int8, u.c1::jsonb FROM ROWS FROM (unnest($1::text[]),
 * unnest($2::text[])) WITH ORDINALITY AS u(c0, c1, n) ORDER BY u.n
 *
 * The casts are as strict as an assignment is: no length is in them, which would
 * cut what is too long.
 */
static bool
make_insert(EvsPg *sink, const PGresult *columns)
{
	EvsPgConfig *config = &sink->config;
	evs_sink_buffer names = {0};
	evs_sink_buffer casts = {0};
	evs_sink_buffer arrays = {0};
	evs_sink_buffer aliases = {0};
	evs_sink_buffer sql = {0};
	char	   *schema = PQescapeIdentifier(sink->conn, config->schema, strlen(config->schema));
	char	   *table = PQescapeIdentifier(sink->conn, config->table, strlen(config->table));
	bool		good = schema != NULL && table != NULL;

	for (int i = 0; good && i < config->ncolumns; i++)
	{
		EvsPgColumn *column = &config->columns[i];
		const char *type = type_of(columns, column->name);
		char	   *name = PQescapeIdentifier(sink->conn, column->name, strlen(column->name));
		const char *comma = i > 0 ? ", " : "";

		column->is_bytea = type != NULL && strcmp(type, "bytea") == 0;
		evs_sink_printf(&names, "%s%s", comma, name != NULL ? name : "");
		evs_sink_printf(&casts, "%su.c%d::%s", comma, i, type != NULL ? type : "text");
		evs_sink_printf(&arrays, "%spg_catalog.unnest($%d::text[])", comma, i + 1);
		evs_sink_printf(&aliases, "c%d, ", i);
		good = name != NULL && type != NULL;
		if (type == NULL)
			evs_pg_fail(sink, "table %s.%s has no column \"%s\", or cannot be seen", config->schema,
						config->table, column->name);
		PQfreemem(name);
	}
	if (good)
		evs_sink_printf(&sql, "INSERT INTO %s.%s (%s) SELECT %s FROM ROWS FROM (%s) WITH ORDINALITY "
						"AS u(%sn) ORDER BY u.n", schema, table, names.data, casts.data, arrays.data,
						aliases.data);
	good = good && !names.failed && !casts.failed && !arrays.failed && !aliases.failed && !sql.failed;
	free(sink->insert);
	sink->insert = good ? sql.data : NULL;
	if (!good)
		evs_sink_buffer_free(&sql);
	evs_sink_buffer_free(&names);
	evs_sink_buffer_free(&casts);
	evs_sink_buffer_free(&arrays);
	evs_sink_buffer_free(&aliases);
	PQfreemem(schema);
	PQfreemem(table);
	return good;
}

static void
take_position(EvsPg *sink, const PGresult *result)
{
	int64_t		passed_over = INT64_MAX;

	sink->position = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
	sink->has_holes = !PQgetisnull(result, 0, 1);
	if (sink->has_holes)
		passed_over = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
	sink->resume_position = passed_over <= sink->position ? passed_over - 1 : sink->position;
	if (sink->resume_position < 0)
		sink->resume_position = 0;
	/* A batch that was not committed leaves the row below its last position. */
	if (sink->ndoubtful > 0 && sink->doubtful[sink->ndoubtful - 1] > sink->position)
		sink->ndoubtful = 0;
}

bool
evs_pg_table_is_set_up(EvsPg *sink, int first)
{
	const PGresult *position = sink->results[first + (sink->config.create ? 3 : 1)];
	const PGresult *columns = sink->results[first + (sink->config.create ? 4 : 2)];

	if (position == NULL || columns == NULL || PQntuples(position) != 1)
	{
		evs_pg_fail(sink, "the row of relay \"%s\" is not there", sink->host->relay);
		return false;
	}
	take_position(sink, position);
	if (make_insert(sink, columns))
		return true;
	if (sink->state >= EVS_PG_SETUP)
		evs_pg_fail(sink, "no memory for a statement");
	return false;
}

static void
finish_resume(EvsPg *sink)
{
	if (sink->error.sqlstate[0] != '\0' || PQntuples(sink->results[0]) != 1)
	{
		evs_pg_fail(sink, "[%s] %s", sink->error.sqlstate, sink->error.message);
		return;
	}
	take_position(sink, sink->results[0]);
	sink->resuming = false;
	sink->resumed = 1;
}

void
evs_pg_table_resume(EvsPg *sink)
{
	send_position_query(sink);
	evs_pg_sync(sink, finish_resume);
}

void
evs_pg_table_lost(EvsPg *sink)
{
	if (!sink->committing)
		return;
	sink->committing = false;
	sink->ndoubtful = 0;
	for (uint64_t serial = sink->batch; serial < sink->next; serial++)
	{
		EvsPgSlot  *slot = evs_pg_slot(sink, serial);

		if (slot->action == EVS_PG_WRITE && is_in_order(slot->message))
			sink->doubtful[sink->ndoubtful++] = slot->message->position;
	}
}

/* --- a message that is passed over --- */

static void
finish_passing_over(EvsPg *sink)
{
	bool		of_message = true;

	if (sink->error.sqlstate[0] != '\0')
		evs_pg_classify(sink->error.sqlstate, &of_message);
	if (!of_message)
		evs_pg_fail(sink, "[%s] %s", sink->error.sqlstate, sink->error.message);
	else
		evs_pg_batch_done(sink);
}

void
evs_pg_table_pass_over(EvsPg *sink)
{
	const evs_sink_message *message = evs_pg_slot(sink, sink->batch)->message;
	char		position[24];
	const char *params[] = {sink->host->id, message->id, position};

	if (!is_in_order(message))
	{
		evs_pg_batch_done(sink);
		return;
	}
	sink->has_holes = true;
	snprintf(position, sizeof(position), "%lld", (long long) message->position);
	send_in_schema(sink, "INSERT INTO $S.evstore_relay_ledger (relay, event_id, \"position\", delivered) "
				   "VALUES ($1, $2, $3, false) ON CONFLICT DO NOTHING", 3, params);
	evs_pg_sync(sink, finish_passing_over);
}

/* --- a batch --- */

static const char *
field_value(const EvsPgColumn *column, const evs_sink_message *message, char *text, size_t size)
{
	switch (column->field)
	{
		case EVS_PG_ID:
			return message->id;
		case EVS_PG_TYPE:
			return message->type;
		case EVS_PG_SOURCE:
			return message->source;
		case EVS_PG_STREAM:
			return message->stream;
		case EVS_PG_KEY:
			return message->key;
		case EVS_PG_TOPIC:
			return message->topic;
		case EVS_PG_TIME:
			evs_pg_format_time(message->time_us, text, size);
			return text;
		case EVS_PG_POSITION:
			snprintf(text, size, "%lld", (long long) message->position);
			return text;
		case EVS_PG_VERSION:
			snprintf(text, size, "%lld", (long long) message->version);
			return text;
		default:
			return NULL;
	}
}

static void
add_bytes(evs_sink_buffer *array, const evs_sink_message *message)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *data = message->data;
	evs_sink_buffer hex = {0};

	evs_sink_add(&hex, "\\x", 2);
	for (size_t i = 0; i < message->length; i++)
	{
		char		pair[2] = {digits[data[i] >> 4], digits[data[i] & 15]};

		evs_sink_add(&hex, pair, 2);
	}
	evs_pg_array_add(array, hex.data, hex.length);
	array->failed |= hex.failed;
	evs_sink_buffer_free(&hex);
}

static void
fill_column(EvsPg *sink, const EvsPgColumn *column, evs_sink_buffer *array)
{
	for (uint64_t serial = sink->batch; serial < sink->next; serial++)
	{
		const EvsPgSlot *slot = evs_pg_slot(sink, serial);
		const evs_sink_message *message = slot->message;
		char		text[64];

		if (slot->action != EVS_PG_WRITE)
			continue;
		if (column->field != EVS_PG_DATA)
			evs_pg_array_add_string(array, field_value(column, message, text, sizeof(text)));
		else if (column->is_bytea && message->data != NULL)
			add_bytes(array, message);
		else
			evs_pg_array_add(array, message->data, message->length);
	}
	evs_pg_array_end(array);
}

static void
send_insert(EvsPg *sink)
{
	EvsPgConfig *config = &sink->config;
	evs_sink_buffer arrays[EVS_PG_COLUMNS] = {{0}};
	const char *params[EVS_PG_COLUMNS];
	bool		failed = false;

	for (int i = 0; i < config->ncolumns; i++)
	{
		fill_column(sink, &config->columns[i], &arrays[i]);
		failed |= arrays[i].failed;
		params[i] = arrays[i].data;
	}
	if (failed)
		evs_pg_fail(sink, "no memory for a batch");
	else
		evs_pg_send(sink, sink->insert, config->ncolumns, params);
	for (int i = 0; i < config->ncolumns; i++)
		evs_sink_buffer_free(&arrays[i]);
}

/* Those that the ledger has or gets are delivered, and so are those that were passed over. */
static void
send_ledger(EvsPg *sink)
{
	evs_sink_buffer ids = {0};
	evs_sink_buffer positions = {0};
	int			n = 0;

	for (uint64_t serial = sink->batch; serial < sink->next; serial++)
	{
		const EvsPgSlot *slot = evs_pg_slot(sink, serial);
		char		position[24];

		if (slot->action != EVS_PG_WRITE || !slot->in_ledger)
			continue;
		snprintf(position, sizeof(position), "%lld", (long long) slot->message->position);
		evs_pg_array_add_string(&ids, slot->message->id);
		evs_pg_array_add_string(&positions, position);
		n++;
	}
	evs_pg_array_end(&ids);
	evs_pg_array_end(&positions);
	if (ids.failed || positions.failed)
		evs_pg_fail(sink, "no memory for a batch");
	else if (n > 0)
	{
		const char *params[] = {sink->host->id, ids.data, positions.data};

		send_in_schema(sink, "INSERT INTO $S.evstore_relay_ledger AS l "
					   "(relay, event_id, \"position\", delivered) "
					   "SELECT $1, u.id, u.p, true FROM ROWS FROM (pg_catalog.unnest($2::uuid[]), "
					   "pg_catalog.unnest($3::bigint[])) AS u(id, p) "
					   "ON CONFLICT (relay, event_id) DO UPDATE SET delivered = true, updated_at = now()",
					   3, params);
	}
	evs_sink_buffer_free(&ids);
	evs_sink_buffer_free(&positions);
}

static void
send_position(EvsPg *sink)
{
	char		from[24];
	char		to[24];
	const char *params[] = {sink->host->id, from, to};

	sink->update = -1;
	if (sink->new_position <= sink->position)
		return;
	snprintf(from, sizeof(from), "%lld", (long long) sink->position);
	snprintf(to, sizeof(to), "%lld", (long long) sink->new_position);
	sink->update = sink->nqueued;
	send_in_schema(sink, "UPDATE $S.evstore_relay_position SET \"position\" = $3, updated_at = now() "
				   "WHERE relay = $1 AND \"position\" = $2", 3, params);
}

static void
finish_commit(EvsPg *sink)
{
	sink->committing = false;
	if (sink->error.sqlstate[0] != '\0')
	{
		evs_pg_batch_failed(sink);
		return;
	}
	sink->position = sink->new_position;
	evs_pg_batch_done(sink);
}

static void
finish_write(EvsPg *sink)
{
	if (sink->error.sqlstate[0] != '\0')
		evs_pg_batch_failed(sink);
	else if (sink->update >= 0 && evs_pg_affected(sink, sink->update) != 1)
		evs_pg_fail(sink, "the position of relay \"%s\" was changed by another session",
					sink->host->relay);
	else
	{
		sink->committing = true;
		evs_pg_send(sink, "COMMIT", 0, NULL);
		evs_pg_sync(sink, finish_commit);
	}
}

/* Behind BEGIN, which may be of the step before. */
static void
write_batch(EvsPg *sink)
{
	int			nwrites = 0;

	sink->new_position = sink->position;
	for (uint64_t serial = sink->batch; serial < sink->next; serial++)
	{
		const EvsPgSlot *slot = evs_pg_slot(sink, serial);

		if (slot->action != EVS_PG_WRITE)
			continue;
		nwrites++;
		if (is_in_order(slot->message) && slot->message->position > sink->new_position)
			sink->new_position = slot->message->position;
	}
	if (nwrites > 0)
		send_insert(sink);
	send_ledger(sink);
	send_position(sink);
	evs_pg_sync(sink, finish_write);
}

static bool
is_doubtful(const EvsPg *sink, int64_t position)
{
	for (int i = 0; i < sink->ndoubtful; i++)
		if (sink->doubtful[i] == position)
			return true;
	return false;
}

/* 1: delivered, 0: passed over, -1: not in the ledger */
static int
ledger_entry(const PGresult *ledger, const char *id)
{
	for (int i = 0; i < PQntuples(ledger); i++)
		if (strcasecmp(PQgetvalue(ledger, i, 0), id) == 0)
			return *PQgetvalue(ledger, i, 1) == 't';
	return -1;
}

static void
decide(EvsPg *sink, EvsPgSlot *slot, int entry)
{
	const evs_sink_message *message = slot->message;
	bool		replay = !is_in_order(message);

	slot->in_ledger = replay || entry >= 0;
	if (entry == 1 || (replay && is_doubtful(sink, message->position)) ||
		(!replay && entry < 0 && message->position <= sink->position))
		slot->action = EVS_PG_SKIP;
	else
		slot->action = EVS_PG_WRITE;
}

static void
finish_lookup(EvsPg *sink)
{
	if (sink->error.sqlstate[0] != '\0')
	{
		evs_pg_batch_failed(sink);
		return;
	}
	for (uint64_t serial = sink->batch; serial < sink->next; serial++)
	{
		EvsPgSlot  *slot = evs_pg_slot(sink, serial);

		decide(sink, slot, ledger_entry(sink->results[1], slot->message->id));
	}
	write_batch(sink);
}

static void
look_up(EvsPg *sink)
{
	evs_sink_buffer ids = {0};
	const char *params[] = {sink->host->id, NULL};

	for (uint64_t serial = sink->batch; serial < sink->next; serial++)
		evs_pg_array_add_string(&ids, evs_pg_slot(sink, serial)->message->id);
	evs_pg_array_end(&ids);
	params[1] = ids.data;
	if (ids.failed)
		evs_pg_fail(sink, "no memory for a batch");
	else
		send_in_schema(sink, "SELECT event_id, delivered FROM $S.evstore_relay_ledger "
					   "WHERE relay = $1 AND event_id = ANY ($2::uuid[])", 2, params);
	evs_pg_sync(sink, finish_lookup);
	evs_sink_buffer_free(&ids);
}

void
evs_pg_table_begin(EvsPg *sink)
{
	bool		must_look = sink->has_holes;

	for (uint64_t serial = sink->batch; serial < sink->next; serial++)
	{
		EvsPgSlot  *slot = evs_pg_slot(sink, serial);

		slot->action = EVS_PG_WRITE;
		slot->in_ledger = false;
		if (!is_in_order(slot->message) || slot->message->position <= sink->position)
			must_look = true;
	}
	evs_pg_send(sink, "BEGIN", 0, NULL);
	if (must_look)
		look_up(sink);
	else
		write_batch(sink);
}
