/*
 * failed.c
 *	  Events that could not be done, and those that wait behind them.
 *
 * The rare part of delivery, and the only one with rows for single events.  It
 * is written in SQL (sql/modules/58_failed.sql) and called from here; the
 * slot's lock is held by the caller of whatever changes something.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "exec/spi.h"
#include "subscription/failed.h"
#include "compat.h"

/* bigint[] without nulls, copied; NULL gives none. */
static int64 *
get_numbers(Datum value, bool isnull, int *n)
{
	Datum	   *elements = NULL;
	int64	   *numbers;

	*n = 0;
	if (!isnull)
		deconstruct_array(DatumGetArrayTypeP(value), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
						  TYPALIGN_DOUBLE, &elements, NULL, n);
	numbers = palloc(sizeof(int64) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		numbers[i] = DatumGetInt64(elements[i]);
	return numbers;
}

/* Where a number is among sorted ones; -1 = nowhere. */
static int
find(const int64 *numbers, int n, int64 number)
{
	int			low = 0;
	int			high = n;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (numbers[middle] == number)
			return middle;
		if (numbers[middle] < number)
			low = middle + 1;
		else
			high = middle;
	}
	return -1;
}

void
evs_failed_load(const EvsSlot *slot, EvsFailedKeys *keys)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT f.key_hashes, f.wait_from, f.positions, f.next_retry FROM evstore._failed_load($1, $2, $3) f",
		.nargs = 3, .types = {INT8OID, INT4OID, INT8OID},
	};
	Datum		args[] = {
		Int64GetDatum(slot->subscription_id),
		Int32GetDatum(slot->slot),
		Int64GetDatum(slot->cursor),
	};
	EvsSpiRows	rows;

	rows = evs_spi_call(&plan, args, NULL);

	keys->keys = get_numbers(rows.values[0], rows.nulls[0], &keys->nkeys);
	keys->wait_from = get_numbers(rows.values[1], rows.nulls[1], &keys->nkeys);
	keys->positions = get_numbers(rows.values[2], rows.nulls[2], &keys->npositions);
	keys->next_retry = rows.nulls[3] ? 0 : DatumGetTimestampTz(rows.values[3]);
}

bool
evs_failed_must_wait(const EvsFailedKeys *keys, uint32 hash, int64 position)
{
	int			i = find(keys->keys, keys->nkeys, hash);

	return i >= 0 && position > keys->wait_from[i];
}

bool
evs_failed_has_position(const EvsFailedKeys *keys, int64 position)
{
	return find(keys->positions, keys->npositions, position) >= 0;
}

EvsDueEvent *
evs_failed_take(const EvsSlot *slot, int64 max_count, bool alone, int *n)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT f.at_position, f.attempts, f.data FROM evstore._failed_take($1, $2, $3, $4, $5, $6) f",
		.nargs = 6, .types = {INT8OID, INT4OID, INT8OID, INT8OID, INT8OID, BOOLOID},
	};
	Datum		args[] = {
		Int64GetDatum(slot->subscription_id),
		Int32GetDatum(slot->slot),
		Int64GetDatum(slot->cursor),
		Int64GetDatum(slot->epoch),
		Int64GetDatum(max_count),
		BoolGetDatum(alone),
	};
	EvsSpiRows	rows;
	EvsDueEvent *result;

	rows = evs_spi_call(&plan, args, NULL);

	*n = (int) rows.nrows;
	result = palloc(sizeof(EvsDueEvent) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		Datum	   *values = rows.values + i * rows.ncolumns;

		result[i].position = DatumGetInt64(values[0]);
		result[i].attempts = DatumGetInt32(values[1]);
		result[i].data = rows.nulls[i * rows.ncolumns + 2] ? (Datum) 0 : values[2];
	}
	return result;
}

void
evs_failed_forget(const EvsSlot *slot, int64 position)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._failed_resolve($1, $2)",
		.nargs = 2, .types = {INT8OID, INT8OID},
	};
	Datum		args[] = {
		Int64GetDatum(slot->subscription_id),
		Int64GetDatum(position),
	};

	(void) evs_spi_call(&plan, args, NULL);
}

void
evs_failed_release(const EvsSlot *slot)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._failed_release($1, $2)",
		.nargs = 2, .types = {INT8OID, INT4OID},
	};
	Datum		args[] = {
		Int64GetDatum(slot->subscription_id),
		Int32GetDatum(slot->slot),
	};

	(void) evs_spi_call(&plan, args, NULL);
}

void
evs_failed_park(const EvsSlot *slot, int64 position, const char *reason, Datum error)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._failed_park_unseen($1, $2, $3, $4)",
		.nargs = 4, .types = {INT8OID, INT8OID, TEXTOID, TEXTOID},
	};
	Datum		args[] = {
		Int64GetDatum(slot->subscription_id),
		Int64GetDatum(position),
		CStringGetTextDatum(reason),
		error,
	};

	(void) evs_spi_call(&plan, args, NULL);
}

void
evs_failed_park_head(const EvsSlot *slot)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._failed_park_head($1, $2, $3, $4, $5)",
		.nargs = 5, .types = {INT8OID, INT4OID, INT8OID, INT8OID, INT4OID},
	};
	Datum		args[] = {
		Int64GetDatum(slot->subscription_id),
		Int32GetDatum(slot->slot),
		Int64GetDatum(slot->cursor),
		Int64GetDatum(slot->head),
		Int32GetDatum(slot->attempts),
	};

	(void) evs_spi_call(&plan, args, NULL);
}

void
evs_failed_hold(const EvsSlot *slot, int64 up_to)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._failed_hold($1, $2, $3, $4, NULL)",
		.nargs = 4, .types = {INT8OID, INT4OID, INT8OID, INT8OID},
	};
	Datum		args[] = {
		Int64GetDatum(slot->subscription_id),
		Int32GetDatum(slot->slot),
		Int64GetDatum(slot->cursor),
		Int64GetDatum(up_to),
	};

	(void) evs_spi_call(&plan, args, NULL);
}

/* epoch 0: of no claim.  positions 0: all. */
static void
pass(const EvsSlot *slot, int64 up_to, int64 epoch, Datum positions)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._failed_pass($1, $2, $3, $4, $5, $6)",
		.nargs = 6, .types = {INT8OID, INT4OID, INT8OID, INT8OID, INT8OID, INT8ARRAYOID},
	};
	Datum		args[] = {
		Int64GetDatum(slot->subscription_id),
		Int32GetDatum(slot->slot),
		Int64GetDatum(slot->cursor),
		Int64GetDatum(up_to),
		Int64GetDatum(epoch),
		positions,
	};

	(void) evs_spi_call(&plan, args, positions == 0 ? "     n" : NULL);
}

void
evs_failed_pass(const EvsSlot *slot, int64 up_to, bool acknowledge)
{
	pass(slot, up_to, acknowledge ? slot->epoch : 0, 0);
}

void
evs_failed_pass_some(const EvsSlot *slot, int64 up_to, Datum positions)
{
	pass(slot, up_to, slot->epoch, positions);
}

void
evs_failed_nack(const EvsSlot *slot, int64 position, Datum error, bool no_error,
				const char *action, Datum delay, bool no_delay)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._failed_nack($1, $2, $3, $4, $5, $6, $7)",
		.nargs = 7,
		.types = {INT8OID, INT4OID, INT8OID, INT8OID, TEXTOID, TEXTOID, INTERVALOID},
	};
	Datum		args[] = {
		Int64GetDatum(slot->subscription_id),
		Int32GetDatum(slot->slot),
		Int64GetDatum(slot->cursor),
		Int64GetDatum(position),
		error,
		CStringGetTextDatum(action),
		delay,
	};
	char		nulls[7];

	memset(nulls, ' ', sizeof(nulls));
	if (no_error)
		nulls[4] = 'n';
	if (no_delay)
		nulls[6] = 'n';
	(void) evs_spi_call(&plan, args, nulls);
}

int
evs_failed_count_delivered(const EvsSlot *slot, int64 up_to)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._failed_count_delivered($1, $2, $3, $4)",
		.nargs = 4, .types = {INT8OID, INT4OID, INT8OID, INT8OID},
	};
	Datum		args[] = {
		Int64GetDatum(slot->subscription_id),
		Int32GetDatum(slot->slot),
		Int64GetDatum(slot->epoch),
		Int64GetDatum(up_to),
	};

	return DatumGetInt32(evs_spi_call(&plan, args, NULL).values[0]);
}

void
evs_failed_summarize(EvsSlot *slot)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT f.pending, f.lowest FROM evstore._failed_summary($1, $2, $3) f",
		.nargs = 3, .types = {INT8OID, INT4OID, INT8OID},
	};
	Datum		args[] = {
		Int64GetDatum(slot->subscription_id),
		Int32GetDatum(slot->slot),
		Int64GetDatum(slot->cursor),
	};
	EvsSpiRows	rows;
	int64		done = slot->cursor;

	rows = evs_spi_call(&plan, args, NULL);
	slot->pending = DatumGetBool(rows.values[0]);
	if (!rows.nulls[1])
		done = Min(done, DatumGetInt64(rows.values[1]) - 1);
	slot->checkpoint = Max(slot->checkpoint, done);
}
