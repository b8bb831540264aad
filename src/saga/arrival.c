/*
 * arrival.c
 *	  Events that come to instances of sagas: arrivals, and steps that wait for them.
 *
 * A transition that withdraws a step and begins to wait, both, may deadlock with a
 * trigger that brings an event to the first one while it holds the key of the second.  One of
 * them is rolled back then, and made again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"

#include "asl/asl.h"
#include "base/clock.h"
#include "base/debug_point.h"
#include "exec/spi.h"
#include "saga/arrival.h"
#include "saga/mail.h"
#include "compat.h"

/* Class of advisory locks that only we use. */
#define EVS_LOCK_ARRIVAL 17754

/* ---- locks ---- */

static uint64
hash_key(int64 definition_id, const char *type, const char *key)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) type, strlen(type), definition_id);

	return hash_bytes_extended((const unsigned char *) key, strlen(key), hash);
}

static int
compare_hashes(const void *a, const void *b)
{
	uint64		x = *(const uint64 *) a;
	uint64		y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

void
evs_arrival_lock(int64 definition_id, const EvsArrival *arrivals, int n, LOCKMODE mode)
{
	uint64	   *hashes = palloc(sizeof(uint64) * Max(n, 1));

	for (int i = 0; i < n; i++)
		hashes[i] = hash_key(definition_id, arrivals[i].type, arrivals[i].key);
	qsort(hashes, n, sizeof(uint64), compare_hashes);
	for (int i = 0; i < n; i++)
	{
		LOCKTAG		tag;

		if (i > 0 && hashes[i] == hashes[i - 1])
			continue;
		SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (hashes[i] >> 32), (uint32) hashes[i],
							 EVS_LOCK_ARRIVAL);
		(void) LockAcquire(&tag, mode, false, false);
	}
	pfree(hashes);
}

/* ---- who gets an event ---- */

/* The reply of the step: the event, or a failure by its name. */
static void
report(const EvsWaiter *waiter, const EvsArrival *arrival)
{
	Jsonb	   *data;

	if (!waiter->fails)
	{
		evs_saga_mail(&waiter->saga_id, waiter->definition_id, EVS_MAIL_SUCCESS, waiter->step,
					  NULL, arrival->event, NULL, NULL);
		return;
	}
	data = evs_asl_member(arrival->event, "data");
	evs_saga_mail(&waiter->saga_id, waiter->definition_id, EVS_MAIL_FAILURE, waiter->step,
				  "no_effect", NULL, arrival->type,
				  data != NULL ? JsonbToCString(NULL, &data->root, VARSIZE(data)) : "{}");
}

bool
evs_arrival_take(const EvsWaiter *waiter, const EvsArrival *arrival)
{
	static EvsSpiPlan plan = {
		.sql = "WITH s AS (UPDATE evstore.saga_step x SET status = 'reported'"
		" WHERE x.saga_id = $1 AND x.step = $2 AND x.status = 'running'"
		" AND NOT EXISTS (SELECT FROM evstore.saga_taken t WHERE t.saga_id = $1 AND t.\"position\" = $3)"
		" RETURNING x.saga_id),"
		" t AS (INSERT INTO evstore.saga_taken (saga_id, \"position\") SELECT s.saga_id, $3 FROM s),"
		" w AS (DELETE FROM evstore.saga_wait x USING s WHERE x.saga_id = $1 AND x.step = $2)"
		" SELECT count(*) FROM s",
		.nargs = 3, .types = {UUIDOID, INT8OID, INT8OID},
	};
	Datum		args[] = {
		UUIDPGetDatum(&waiter->saga_id), Int64GetDatum(waiter->step), Int64GetDatum(arrival->position),
	};
	EvsSpiRows	rows = evs_spi_call(&plan, args, NULL);

	if (DatumGetInt64(rows.values[0]) == 0)
		return false;
	report(waiter, arrival);
	return true;
}

void
evs_arrival_forget(const pg_uuid_t *saga_id, int64 step)
{
	static EvsSpiPlan plan = {
		.sql = "DELETE FROM evstore.saga_wait w WHERE w.saga_id = $1 AND w.step = $2",
		.nargs = 2, .types = {UUIDOID, INT8OID},
	};
	Datum		args[] = {UUIDPGetDatum(saga_id), Int64GetDatum(step)};

	(void) evs_spi_call(&plan, args, NULL);
}

/* ---- bringing events ---- */

static Datum
array_of(Datum *elements, int n, Oid type)
{
	int16		length;
	bool		by_value;
	char		align;

	get_typlenbyvalalign(type, &length, &by_value, &align);
	return PointerGetDatum(construct_array(elements, n, type, length, by_value, align));
}

static void
store(int64 definition_id, const EvsArrival *arrivals, int n)
{
	static EvsSpiPlan plan = {
		.sql = "INSERT INTO evstore.saga_arrival (definition_id, type, key, \"position\", event, arrived_at)"
		" SELECT $1, a.type, a.key, a.at_position, a.event, $6"
		" FROM unnest($2, $3, $4, $5) a (type, key, at_position, event) ON CONFLICT DO NOTHING",
		.nargs = 6,
		.types = {INT8OID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID, JSONBARRAYOID, TIMESTAMPTZOID},
	};
	Datum	   *columns[4];
	Datum		args[6];

	for (int i = 0; i < 4; i++)
		columns[i] = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		columns[0][i] = CStringGetTextDatum(arrivals[i].type);
		columns[1][i] = CStringGetTextDatum(arrivals[i].key);
		columns[2][i] = Int64GetDatum(arrivals[i].position);
		columns[3][i] = JsonbPGetDatum(arrivals[i].event);
	}
	args[0] = Int64GetDatum(definition_id);
	args[1] = array_of(columns[0], n, TEXTOID);
	args[2] = array_of(columns[1], n, TEXTOID);
	args[3] = array_of(columns[2], n, INT8OID);
	args[4] = array_of(columns[3], n, JSONBOID);
	args[5] = TimestampTzGetDatum(evs_clock_now());
	(void) evs_spi_call(&plan, args, NULL);
}

/*
 * Steps that wait, with the number of the arrival, in that order.  By index, arrival
 * by arrival, whatever is known of how many there are.
 */
static EvsSpiRows
find_waiters(int64 definition_id, const EvsArrival *arrivals, int n)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT a.n::integer, w.saga_id, w.step, w.fails"
		" FROM unnest($2, $3, $4) WITH ORDINALITY a (type, key, at_position, n)"
		" CROSS JOIN LATERAL (SELECT x.* FROM evstore.saga_wait x WHERE x.definition_id = $1"
		" AND x.type = a.type AND x.key = a.key AND x.after < a.at_position OFFSET 0) w"
		" ORDER BY a.n, w.saga_id, w.step",
		.nargs = 4, .types = {INT8OID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID},
	};
	Datum	   *columns[3];
	Datum		args[4];

	for (int i = 0; i < 3; i++)
		columns[i] = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		columns[0][i] = CStringGetTextDatum(arrivals[i].type);
		columns[1][i] = CStringGetTextDatum(arrivals[i].key);
		columns[2][i] = Int64GetDatum(arrivals[i].position);
	}
	args[0] = Int64GetDatum(definition_id);
	args[1] = array_of(columns[0], n, TEXTOID);
	args[2] = array_of(columns[1], n, TEXTOID);
	args[3] = array_of(columns[2], n, INT8OID);
	return evs_spi_call_latest(&plan, args, NULL);
}

/*
 * A step that has got an event is not running any more, and an instance gets an
 * event once, by whatever key: evs_arrival_take() sees to both.
 */
void
evs_arrival_bring(int64 definition_id, const EvsArrival *arrivals, int n)
{
	EvsSpiRows	rows;

	if (n == 0)
		return;
	evs_arrival_lock(definition_id, arrivals, n, ExclusiveLock);
	EVS_DEBUG_POINT("saga_arrival_locked");
	store(definition_id, arrivals, n);
	rows = find_waiters(definition_id, arrivals, n);
	for (uint64 i = 0; i < rows.nrows; i++)
	{
		const Datum *values = rows.values + i * rows.ncolumns;
		EvsWaiter	waiter = {
			.saga_id = *DatumGetUUIDP(values[1]), .definition_id = definition_id,
			.step = DatumGetInt64(values[2]), .fails = DatumGetBool(values[3]),
		};

		CHECK_FOR_INTERRUPTS();
		(void) evs_arrival_take(&waiter, &arrivals[DatumGetInt32(values[0]) - 1]);
	}
}

/* ---- pruning ---- */

typedef struct Floor
{
	int64		definition_id;
	int64		position;		/* up to here this session has deleted them */
} Floor;

/* What has been deleted stays in the index while an old snapshot may see it. */
static Floor *
find_floor(int64 definition_id)
{
	static HTAB *floors = NULL;
	Floor	   *result;
	bool		found;

	if (floors == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(int64), .entrysize = sizeof(Floor)};

		floors = hash_create("evstore pruned arrivals", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	result = hash_search(floors, &definition_id, HASH_ENTER, &found);
	if (!found)
		result->position = 0;
	return result;
}

bool
evs_arrival_prune(int64 definition_id)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT p.deleted, p.up_to FROM evstore._saga_arrivals_prune($1, $2) p",
		.nargs = 2, .types = {INT8OID, INT8OID},
	};
	Floor	   *floor = find_floor(definition_id);
	Datum		args[] = {Int64GetDatum(definition_id), Int64GetDatum(floor->position)};
	EvsSpiRows	rows = evs_spi_call(&plan, args, NULL);

	floor->position = DatumGetInt64(rows.values[1]);
	return DatumGetInt64(rows.values[0]) > 0;
}
