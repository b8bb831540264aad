/*
 * relay_step.c
 *	  Steps that a relay delivers.
 *
 * The step's event is appended in the transition's transaction.  The relay finds it in the
 * log as it finds all others, and its host tells, in the transaction in which the cursor
 * passes the event, or in which it is parked, or done with after that.  The host reads an
 * event only when what appended it has committed, and then the step's row is there:
 * neither side has to wait for the other.
 *
 * The next attempt of a step does not append the event again: the one that is parked is
 * replayed, so that the other side gets the same id.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "base/errors.h"
#include "catalog/catalog.h"
#include "catalog/scan.h"
#include "exec/act_as.h"
#include "exec/spi.h"
#include "saga/append_step.h"
#include "saga/mail.h"
#include "saga/relay_step.h"
#include "saga/step.h"
#include "stream/cause.h"
#include "stream/cursor.h"
#include "stream/position.h"
#include "subscription/definition.h"
#include "compat.h"

#define ERROR_NOT_FOUND "Relay.NotFound"
#define ERROR_NOT_TAKEN "Relay.NotTaken"
#define ERROR_PARKED "Relay.Parked"

/* ---- the event ---- */

static bool
relay_exists(const char *name)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT FROM evstore.subscription s JOIN evstore.relay r ON r.id = s.id WHERE s.name = $1",
		.nargs = 1, .types = {TEXTOID},
	};
	Datum		arg = CStringGetTextDatum(name);

	return evs_spi_call(&plan, &arg, NULL).nrows > 0;
}

/* Members of the payload that publish() has as arguments: they are in the metadata. */
static Jsonb *
make_metadata(Jsonb *payload)
{
	static const char *const keys[] = {"topic", "key", "headers"};
	Jsonb	   *given = evs_asl_member(payload, "metadata");
	Jsonb	   *values[lengthof(keys)];

	for (int i = 0; i < (int) lengthof(keys); i++)
		values[i] = evs_asl_member(payload, keys[i]);
	return evs_asl_merge(given != NULL && JB_ROOT_IS_OBJECT(given) ? given : evs_asl_empty_object(),
						 evs_asl_object(lengthof(keys), keys, values));
}

/* What evs_saga_append() is to append, from the payload of a relay step. */
static Jsonb *
make_event(Jsonb *payload, const char *relay)
{
	static const char *const keys[] = {"stream", "type", "data", "metadata", "tags", "source"};
	Jsonb	   *values[lengthof(keys)];

	for (int i = 0; i < (int) lengthof(keys); i++)
		values[i] = evs_asl_member(payload, keys[i]);
	if (values[0] == NULL)
		values[0] = evs_asl_string(psprintf("outbox-%s", relay));
	if (values[1] == NULL)
		values[1] = evs_asl_string("message");
	values[3] = make_metadata(payload);
	return evs_asl_object(lengthof(keys), keys, values);
}

/* Does the relay want it?  The event's stream is locked by this transaction. */
static bool
is_wanted(const char *relay, int64 position)
{
	EvsLogRange range = {.after = position - 1, .up_to = position};
	EvsLogCursor *cursor;
	bool		wanted;

	evs_subscription_pin();
	range.filter = evs_subscription_find(relay)->filter;
	cursor = evs_cursor_open(&range, SnapshotSelf);
	wanted = evs_cursor_next(cursor);
	evs_cursor_close(cursor);
	return wanted;
}

static int64
position_of(Jsonb *output)
{
	int64		position = 0;

	(void) evs_asl_whole(evs_asl_member(output, "position"), &position);
	return position;
}

/* With the rights of the saga's owner, and as what follows from the instance's events. */
static Jsonb *
append_event(const EvsStartedStep *step)
{
	EvsCause	before = evs_cause_get();
	EvsCause	cause = {
		.causation_id = step->causation_id, .correlation_id = cstring_to_text(step->correlation_id),
	};
	EvsActAs	act;
	Jsonb	   *volatile output = NULL;

	evs_cause_set(cause);
	PG_TRY();
	{
		evs_act_begin(&act, get_role_oid(step->owner, false), "pg_catalog, pg_temp", 0, true);
		output = evs_saga_append(step, make_event(step->action->payload, step->action->resource->name));
		evs_act_end(&act);
	}
	PG_FINALLY();
	{
		evs_cause_set(before);
	}
	PG_END_TRY();
	return output;
}

/* NULL, with an error: then nothing has been appended.  What is nobody's fault is thrown. */
static Jsonb *
try_append(const EvsStartedStep *step, const char **error, char **cause)
{
	MemoryContext memory = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile thrown = NULL;
	Jsonb	   *volatile output = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(memory);
	PG_TRY();
	{
		output = append_event(step);
		if (is_wanted(step->action->resource->name, position_of(output)))
			ReleaseCurrentSubTransaction();
		else
		{
			RollbackAndReleaseCurrentSubTransaction();
			output = NULL;
		}
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(memory);
		thrown = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		output = NULL;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	CurrentResourceOwner = owner;
	if (thrown != NULL && evs_error_is_transient(thrown->sqlerrcode))
		ReThrowError(thrown);
	if (output == NULL)
	{
		*error = thrown != NULL ? psprintf("SQL.%s", unpack_sql_state(thrown->sqlerrcode)) :
			ERROR_NOT_TAKEN;
		*cause = thrown != NULL ? thrown->message :
			psprintf("the filter of relay \"%s\" does not take the event", step->action->resource->name);
	}
	return output;
}

/* ---- beginning ---- */

/* Where the event is that an earlier attempt has appended; 0 = there is none. */
static int64
find_appended(const EvsStartedStep *step)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT p.\"position\" FROM evstore.saga_step p"
		" WHERE p.saga_id = $1 AND p.step < $2 AND p.kind = 'relay' AND p.state = $3 AND p.visit = $4"
		"  AND COALESCE(p.compensates, 0) = $5 AND p.name = $6 AND p.\"position\" IS NOT NULL"
		" ORDER BY p.step DESC LIMIT 1",
		.nargs = 6, .types = {UUIDOID, INT8OID, TEXTOID, INT4OID, INT8OID, TEXTOID},
	};
	Datum		args[] = {
		UUIDPGetDatum(&step->saga_id),
		Int64GetDatum(step->step),
		CStringGetTextDatum(step->action->state),
		Int32GetDatum(step->action->visit),
		Int64GetDatum(step->action->compensates),
		CStringGetTextDatum(step->action->resource->name),
	};
	EvsSpiRows	rows;

	if (step->action->attempt <= 1)
		return 0;
	rows = evs_spi_call(&plan, args, NULL);
	return rows.nrows > 0 ? DatumGetInt64(rows.values[0]) : 0;
}

/* What appending it has said; NULL: it is no longer there. */
static Jsonb *
describe_event(int64 position)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT jsonb_build_object('stream', s.name, 'version', l.version, 'position', l.\"position\","
		" 'event_id', l.event_id)"
		" FROM evstore.event_log l JOIN evstore.stream s ON s.id = l.stream_id WHERE l.\"position\" = $1",
		.nargs = 1, .types = {INT8OID},
	};
	Datum		arg = Int64GetDatum(position);
	EvsSpiRows	rows;

	if (position == 0)
		return NULL;
	evs_position_cover(position);
	rows = evs_spi_call(&plan, &arg, NULL);
	return rows.nrows > 0 ? DatumGetJsonbP(rows.values[0]) : NULL;
}

static void
set_event(const EvsStartedStep *step, Jsonb *output)
{
	static EvsSpiPlan plan = {
		.sql = "UPDATE evstore.saga_step s SET \"position\" = $3, output = $4"
		" WHERE s.saga_id = $1 AND s.step = $2",
		.nargs = 4, .types = {UUIDOID, INT8OID, INT8OID, JSONBOID},
	};
	Datum		args[] = {
		UUIDPGetDatum(&step->saga_id), Int64GetDatum(step->step),
		Int64GetDatum(position_of(output)), JsonbPGetDatum(output),
	};

	(void) evs_spi_call(&plan, args, NULL);
}

/* Have the event of an earlier attempt sent again; true: it has arrived meanwhile. */
static bool
send_again(const char *relay, int64 position)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._saga_relay_again($1, $2)",
		.nargs = 2, .types = {TEXTOID, INT8OID},
	};
	Datum		args[] = {CStringGetTextDatum(relay), Int64GetDatum(position)};
	EvsSpiRows	rows = evs_spi_call(&plan, args, NULL);

	return DatumGetBool(rows.values[0]);
}

bool
evs_saga_begin_relay(const EvsStartedStep *step, const char **error, char **cause)
{
	const char *relay = step->action->resource->name;
	Jsonb	   *output;

	if (!relay_exists(relay))
	{
		*error = ERROR_NOT_FOUND;
		*cause = psprintf("relay \"%s\" does not exist", relay);
		return false;
	}
	output = describe_event(find_appended(step));
	if (output != NULL)
	{
		set_event(step, output);
		if (send_again(relay, position_of(output)))
			(void) evs_saga_step_done(&step->saga_id, step->definition_id, step->step, output);
		return true;
	}
	output = try_append(step, error, cause);
	if (output == NULL)
		return false;
	set_event(step, output);
	return true;
}

/* ---- the relay's side ---- */

static bool
has_steps(const char *relay, int64 cursor)
{
	const EvsCatalog *catalog = evs_catalog();
	Oid			index = catalog->saga_step_relay_idx;
	Relation	steps = evs_open(catalog->saga_step, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ScanKeyData keys[2];
	EvsScan		scan;
	bool		found;

	evs_key_text(&keys[0], 1, BTEqualStrategyNumber, CStringGetTextDatum(relay));
	evs_key_int8(&keys[1], 2, BTLessEqualStrategyNumber, cursor);
	evs_scan_begin(&scan, steps, index, snapshot, 2, keys, ForwardScanDirection);
	found = evs_scan_next(&scan);
	evs_scan_end(&scan, AccessShareLock);
	UnregisterSnapshot(snapshot);
	relation_close(steps, AccessShareLock);
	return found;
}

void
evs_saga_relay_moved(const char *relay, int64 subscription_id, int64 cursor)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT s.saga_id, s.step, i.definition_id, s.output, f.attempts, f.reason, f.error"
		" FROM evstore.saga_step s JOIN evstore.saga_instance i ON i.id = s.saga_id"
		"  LEFT JOIN evstore.failed_event f ON f.subscription_id = $2 AND f.\"position\" = s.\"position\""
		" WHERE s.kind = 'relay' AND s.status = 'running' AND s.name = $1 AND s.\"position\" <= $3"
		"  AND (f.state IS NULL OR f.state = 'parked')",
		.nargs = 3, .types = {TEXTOID, INT8OID, INT8OID},
	};
	Datum		args[] = {
		CStringGetTextDatum(relay), Int64GetDatum(subscription_id), Int64GetDatum(cursor),
	};
	EvsSpiRows	rows;

	if (!has_steps(relay, cursor))
		return;
	rows = evs_spi_call(&plan, args, NULL);
	for (uint64 i = 0; i < rows.nrows; i++)
	{
		Datum	   *values = rows.values + i * rows.ncolumns;
		bool	   *nulls = rows.nulls + i * rows.ncolumns;
		pg_uuid_t  *saga_id = DatumGetUUIDP(values[0]);
		int64		step = DatumGetInt64(values[1]);
		int64		definition_id = DatumGetInt64(values[2]);

		if (nulls[4])
			(void) evs_saga_step_done(saga_id, definition_id, step, DatumGetJsonbP(values[3]));
		else
			(void) evs_saga_step_failed(saga_id, definition_id, step, ERROR_PARKED,
										TextDatumGetCString(values[nulls[6] ? 5 : 6]),
										DatumGetInt32(values[4]) == 0);
	}
}
