/*
 * wait_step.c
 *	  Steps that wait for an event: evstore:event:<type>.
 *
 * What they wait for is the type of the resource, and what the step's payload says:
 *
 *	types		other types, any of which will do
 *	failures	types that are a failure of the step: its error is the type
 *	key			whom the event is for; default: the instance's business key, or for a
 *				type that the option correlate does not name, its correlation id
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "asl/asl.h"
#include "base/debug_point.h"
#include "exec/spi.h"
#include "saga/arrival.h"
#include "saga/step.h"
#include "compat.h"

/* What a step waits for: one for each type. */
typedef struct Wait
{
	int			n;
	Datum	   *types;			/* text */
	Datum	   *fails;			/* boolean */
	char	   *key;			/* or NULL */
	EvsArrival *wanted;			/* types and keys */
} Wait;

static bool
fail(const char **error, char **cause, char *what)
{
	*error = EVS_ASL_RUNTIME;
	*cause = what;
	return false;
}

static void
add_type(Wait *wait, const char *type, bool fails)
{
	wait->types[wait->n] = CStringGetTextDatum(type);
	wait->fails[wait->n++] = BoolGetDatum(fails);
}

/* An array of names; false if it is something else. */
static bool
add_types(Wait *wait, Jsonb *names, bool fails)
{
	int			n = JB_ROOT_IS_ARRAY(names) && !JB_ROOT_IS_SCALAR(names) ? JB_ROOT_COUNT(names) : -1;

	if (n < 0)
		return false;
	wait->types = repalloc(wait->types, sizeof(Datum) * (wait->n + n + 1));
	wait->fails = repalloc(wait->fails, sizeof(Datum) * (wait->n + n + 1));
	for (int i = 0; i < n; i++)
	{
		char	   *name = evs_asl_text(evs_asl_element(names, i));

		if (name == NULL)
			return false;
		add_type(wait, name, fails);
	}
	return true;
}

/* A key is a JSON string, or the text of a number or of true or false. */
static char *
key_text(Jsonb *json)
{
	JsonbValue	value = evs_asl_unpack(json);

	if (value.type == jbvString)
		return pnstrdup(value.val.string.val, value.val.string.len);
	if (value.type == jbvNumeric || value.type == jbvBool)
		return JsonbToCString(NULL, &json->root, VARSIZE(json));
	return NULL;
}

static bool
read_payload(const EvsStartedStep *step, Wait *wait, const char **error, char **cause)
{
	Jsonb	   *payload = step->action->payload;
	bool		is_object = payload != NULL && JB_ROOT_IS_OBJECT(payload);
	Jsonb	   *types = is_object ? evs_asl_member(payload, "types") : NULL;
	Jsonb	   *failures = is_object ? evs_asl_member(payload, "failures") : NULL;
	Jsonb	   *key = is_object ? evs_asl_member(payload, "key") : NULL;

	wait->types = palloc(sizeof(Datum));
	wait->fails = palloc(sizeof(Datum));
	if (step->action->resource->name[0] != '\0')
		add_type(wait, step->action->resource->name, false);
	if (types != NULL && !add_types(wait, types, false))
		return fail(error, cause, "types must be an array of types of events");
	if (failures != NULL && !add_types(wait, failures, true))
		return fail(error, cause, "failures must be an array of types of events");
	if (key != NULL && (wait->key = key_text(key)) == NULL)
		return fail(error, cause, "key must be a string, a number, or true or false");
	if (wait->n == 0)
		return fail(error, cause, "there is no type of events to wait for");
	return true;
}

static Datum
array_of_text(const Wait *wait)
{
	return PointerGetDatum(construct_array(wait->types, wait->n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* The key of each type; and does the saga's trigger bring such events at all? */
static bool
find_keys(const EvsStartedStep *step, Wait *wait, const char **error, char **cause)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT COALESCE($4, CASE WHEN v.definition #> '{options,correlate}' ? t.type"
		" THEN i.business_key ELSE i.correlation_id END),"
		" EXISTS (SELECT FROM evstore.saga_trigger g WHERE g.saga_id = $2 AND g.kind = 'correlate'"
		" AND g.entry ->> 'type' = t.type)"
		" FROM evstore.saga_instance i JOIN evstore.saga_version v ON v.saga_id = $2 AND v.version = i.version"
		" CROSS JOIN unnest($3) WITH ORDINALITY t (type, n) WHERE i.id = $1 ORDER BY t.n",
		.nargs = 4, .types = {UUIDOID, INT8OID, TEXTARRAYOID, TEXTOID},
	};
	Datum		args[] = {
		UUIDPGetDatum(&step->saga_id), Int64GetDatum(step->definition_id), array_of_text(wait),
		wait->key != NULL ? CStringGetTextDatum(wait->key) : (Datum) 0,
	};
	EvsSpiRows	rows = evs_spi_call(&plan, args, wait->key != NULL ? "    " : "   n");

	wait->wanted = palloc0(sizeof(EvsArrival) * wait->n);
	for (int i = 0; i < wait->n; i++)
	{
		const char *type = TextDatumGetCString(wait->types[i]);

		if (!DatumGetBool(rows.values[i * 2 + 1]))
			return fail(error, cause, psprintf("events of type \"%s\" are not brought to the saga: name it in the option correlate", type));
		if (rows.nulls[i * 2])
			return fail(error, cause, psprintf("the saga has no business key by which to know an event of type \"%s\"", type));
		wait->wanted[i].type = type;
		wait->wanted[i].key = TextDatumGetCString(rows.values[i * 2]);
	}
	return true;
}

static Datum
array_of_keys(const Wait *wait)
{
	Datum	   *keys = palloc(sizeof(Datum) * wait->n);

	for (int i = 0; i < wait->n; i++)
		keys[i] = CStringGetTextDatum(wait->wanted[i].key);
	return PointerGetDatum(construct_array(keys, wait->n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* A type that is named twice is a failure if it is named as one. */
static void
store(const EvsStartedStep *step, const Wait *wait)
{
	static EvsSpiPlan plan = {
		.sql = "INSERT INTO evstore.saga_wait (saga_id, step, definition_id, after, fails, type, key)"
		" SELECT $1, $2, $3, $4, bool_or(t.fails), t.type, min(t.key)"
		" FROM unnest($5, $6, $7) t (type, key, fails) GROUP BY t.type",
		.nargs = 7,
		.types = {UUIDOID, INT8OID, INT8OID, INT8OID, TEXTARRAYOID, TEXTARRAYOID, BOOLARRAYOID},
	};
	Datum		args[] = {
		UUIDPGetDatum(&step->saga_id), Int64GetDatum(step->step), Int64GetDatum(step->definition_id),
		Int64GetDatum(step->started_after), array_of_text(wait), array_of_keys(wait),
		PointerGetDatum(construct_array(wait->fails, wait->n, BOOLOID, sizeof(bool), true, TYPALIGN_CHAR)),
	};

	(void) evs_spi_call(&plan, args, NULL);
}

/* The earliest event that has arrived and that the instance has not had; false: none. */
static bool
find_arrival(const EvsStartedStep *step, const Wait *wait, EvsArrival *arrival, bool *fails)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT a.type, a.\"position\", a.event,"
		" EXISTS (SELECT FROM unnest($3, $5) x (type, fails) WHERE x.type = a.type AND x.fails)"
		" FROM unnest($3, $4) t (type, key)"
		" CROSS JOIN LATERAL (SELECT a.* FROM evstore.saga_arrival a"
		" WHERE a.definition_id = $1 AND a.type = t.type AND a.key = t.key AND a.\"position\" > $2"
		" AND NOT EXISTS (SELECT FROM evstore.saga_taken x WHERE x.saga_id = $6 AND x.\"position\" = a.\"position\")"
		" ORDER BY a.\"position\" LIMIT 1) a ORDER BY a.\"position\" LIMIT 1",
		.nargs = 6,
		.types = {INT8OID, INT8OID, TEXTARRAYOID, TEXTARRAYOID, BOOLARRAYOID, UUIDOID},
	};
	Datum		args[] = {
		Int64GetDatum(step->definition_id), Int64GetDatum(step->started_after), array_of_text(wait),
		array_of_keys(wait),
		PointerGetDatum(construct_array(wait->fails, wait->n, BOOLOID, sizeof(bool), true, TYPALIGN_CHAR)),
		UUIDPGetDatum(&step->saga_id),
	};
	EvsSpiRows	rows = evs_spi_call_latest(&plan, args, NULL);

	if (rows.nrows == 0)
		return false;
	arrival->type = TextDatumGetCString(rows.values[0]);
	arrival->position = DatumGetInt64(rows.values[1]);
	arrival->event = DatumGetJsonbP(rows.values[2]);
	*fails = DatumGetBool(rows.values[3]);
	return true;
}

bool
evs_saga_begin_event(const EvsStartedStep *step, const char **error, char **cause)
{
	Wait		wait = {0};
	EvsArrival	arrival;
	EvsWaiter	waiter = {
		.saga_id = step->saga_id, .definition_id = step->definition_id, .step = step->step,
	};

	if (!read_payload(step, &wait, error, cause) || !find_keys(step, &wait, error, cause))
		return false;
	evs_arrival_lock(step->definition_id, wait.wanted, wait.n, ShareLock);
	EVS_DEBUG_POINT("saga_wait_locked");
	store(step, &wait);
	if (find_arrival(step, &wait, &arrival, &waiter.fails))
		(void) evs_arrival_take(&waiter, &arrival);
	return true;
}
