/*
 * definition.c
 *	  Relays as they are defined.
 *
 * As with projections, a trigger on evstore.relay invalidates the table's relcache
 * entry with each change, so all sessions hear of it when it commits.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/errors.h"
#include "catalog/catalog.h"
#include "catalog/kept.h"
#include "exec/spi.h"
#include "relay/definition.h"
#include "subscription/definition.h"
#include "compat.h"

static EvsTableVersion version = {.number = 1};

uint64
evs_relay_version(void)
{
	return evs_table_version(&version) + evs_subscription_version();
}

/* ---- options ---- */

/* A member, or NULL if it is not there or null. */
static JsonbValue *
get_member(Jsonb *options, const char *name, JsonbValue *value)
{
	JsonbValue *found = getKeyJsonValueFromContainer(&options->root, name, strlen(name), value);

	return found != NULL && found->type != jbvNull ? found : NULL;
}

static char *
get_string(Jsonb *options, const char *name)
{
	JsonbValue	value;

	if (get_member(options, name, &value) == NULL || value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

static double
get_number(Jsonb *options, const char *name)
{
	JsonbValue	value;

	if (get_member(options, name, &value) == NULL || value.type != jbvNumeric)
		return 0;
	return DatumGetFloat8(DirectFunctionCall1(numeric_float8, NumericGetDatum(value.val.numeric)));
}

static bool
get_flag(Jsonb *options, const char *name)
{
	JsonbValue	value;

	return get_member(options, name, &value) != NULL && value.type == jbvBool && value.val.boolean;
}

void
evs_relay_read_options(EvsRelay *relay, Jsonb *options)
{
	char	   *format = get_string(options, "format");

	if (format == NULL || !evs_format_parse(format, &relay->format))
		elog(ERROR, "a relay has no format");
	relay->topic = get_string(options, "topic");
	relay->source = get_string(options, "source");
	relay->publishes_metadata = get_flag(options, "metadata");
	relay->batch_size = (int) get_number(options, "batch_size");
	relay->batch_bytes = (int) get_number(options, "batch_bytes");
	relay->batch_wait = (int) get_number(options, "batch_wait_ms");
	relay->in_flight = (int) get_number(options, "in_flight");
	relay->timeout = (int) get_number(options, "timeout_ms");
	relay->rate = get_number(options, "rate");
	relay->burst = (int) get_number(options, "burst");
	relay->max_hops = (int) get_number(options, "max_hops");
	relay->max_age = (int64) get_number(options, "max_age_ms");
	relay->max_bytes = (int64) get_number(options, "max_bytes");
	relay->circuit_failures = (int) get_number(options, "circuit_failures");
	relay->open_for = (int) get_number(options, "open_for_ms");
	relay->max_open_for = (int) get_number(options, "max_open_for_ms");
}

/* ---- reading definitions ---- */

#define COLUMNS \
	"r.id, s.name, r.owner, r.sink, r.config, r.options, r.transform, s.paused, r.faulted," \
	" s.on_failure = 'skip', md5(r::text || s::text), r.trust_from, s.name || '/' || r.token," \
	" s.key = 'none'" \
	" FROM evstore.relay r JOIN evstore.subscription s ON s.id = r.id"

static EvsRelay *
from_row(const EvsSpiRows *rows, uint64 row)
{
	const Datum *values = rows->values + row * rows->ncolumns;
	const bool *nulls = rows->nulls + row * rows->ncolumns;
	EvsRelay   *result = palloc0(sizeof(EvsRelay));

	result->id = DatumGetInt64(values[0]);
	result->name = TextDatumGetCString(values[1]);
	result->owner = TextDatumGetCString(values[2]);
	result->sink = TextDatumGetCString(values[3]);
	result->config = DatumGetJsonbPCopy(values[4]);
	evs_relay_read_options(result, DatumGetJsonbP(values[5]));
	result->transform = nulls[6] ? NULL : TextDatumGetCString(values[6]);
	result->faulted = DatumGetBool(values[8]);
	result->paused = DatumGetBool(values[7]) || result->faulted;
	result->skips = DatumGetBool(values[9]);
	result->fingerprint = TextDatumGetCString(values[10]);
	result->trust_from = DatumGetInt64(values[11]);
	result->identity = TextDatumGetCString(values[12]);
	result->keyless = DatumGetBool(values[13]);
	return result;
}

List *
evs_relay_list(void)
{
	static EvsSpiPlan plan = {.sql = "SELECT " COLUMNS " ORDER BY r.id"};
	EvsSpiRows	rows = evs_spi_call_latest(&plan, NULL, NULL);
	List	   *result = NIL;

	version.relid = evs_catalog()->relay;
	for (uint64 i = 0; i < rows.nrows; i++)
		result = lappend(result, from_row(&rows, i));
	return result;
}

List *
evs_relay_kept(void)
{
	static EvsKept kept = {.name = "relays", .load = evs_relay_list};

	return evs_kept(&kept, evs_relay_version());
}

EvsRelay *
evs_relay_find_kept(int64 id)
{
	ListCell   *cell;

	foreach(cell, evs_relay_kept())
		if (((EvsRelay *) lfirst(cell))->id == id)
			return lfirst(cell);
	return NULL;
}

EvsRelay *
evs_relay_find(const char *name)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT " COLUMNS " WHERE s.name = $1",
		.nargs = 1, .types = {TEXTOID},
	};
	Datum		arg = CStringGetTextDatum(name);
	EvsSpiRows	rows = evs_spi_call(&plan, &arg, NULL);
	StringInfoData detail;

	if (rows.nrows > 0)
		return from_row(&rows, 0);
	evs_detail_begin(&detail);
	evs_detail_string(&detail, "relay", name);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_OBJECT_NOT_FOUND),
			 errmsg("relay \"%s\" does not exist", name),
			 errdetail_internal("%s", evs_detail_end(&detail))));
	return NULL;
}
