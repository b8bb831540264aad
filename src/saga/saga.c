/*
 * saga.c
 *	  Sagas as they are stored.
 *
 * As with projections, a trigger on evstore.saga invalidates the table's relcache entry
 * with each change, so all sessions hear of it when it commits.  A definition never
 * changes once it is stored, so what has been compiled is kept.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "base/errors.h"
#include "catalog/catalog.h"
#include "catalog/kept.h"
#include "exec/spi.h"
#include "saga/saga.h"
#include "compat.h"

static EvsTableVersion version = {.number = 1};

uint64
evs_saga_version(void)
{
	return evs_table_version(&version);
}

/* ---- reading them ---- */

#define COLUMNS \
	"s.id, s.name, s.owner, s.version, s.paused," \
	" CASE jsonb_typeof(v.definition #> '{options,workers}')" \
	" WHEN 'number' THEN least(16, greatest(1, (v.definition #>> '{options,workers}')::numeric))::integer" \
	" ELSE 1 END" \
	" FROM evstore.saga s LEFT JOIN evstore.saga_version v ON v.saga_id = s.id AND v.version = s.version"

static EvsSaga *
from_row(const EvsSpiRows *rows, uint64 row)
{
	const Datum *values = rows->values + row * rows->ncolumns;
	EvsSaga    *result = palloc0(sizeof(EvsSaga));

	result->id = DatumGetInt64(values[0]);
	result->name = TextDatumGetCString(values[1]);
	result->owner = TextDatumGetCString(values[2]);
	result->version = DatumGetInt32(values[3]);
	result->paused = DatumGetBool(values[4]);
	result->workers = DatumGetInt32(values[5]);
	return result;
}

static List *
list_sagas(void)
{
	static EvsSpiPlan plan = {.sql = "SELECT " COLUMNS " ORDER BY s.id"};
	EvsSpiRows	rows = evs_spi_call_latest(&plan, NULL, NULL);
	List	   *result = NIL;

	version.relid = evs_catalog()->saga;
	for (uint64 i = 0; i < rows.nrows; i++)
		result = lappend(result, from_row(&rows, i));
	return result;
}

List *
evs_saga_kept(void)
{
	static EvsKept kept = {.name = "sagas", .load = list_sagas};

	return evs_kept(&kept, evs_saga_version());
}

const EvsSaga *
evs_saga_find_kept(int64 id)
{
	ListCell   *cell;

	foreach(cell, evs_saga_kept())
		if (((EvsSaga *) lfirst(cell))->id == id)
			return lfirst(cell);
	return NULL;
}

static void
throw_not_found(const char *name)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "saga", name);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_OBJECT_NOT_FOUND),
			 errmsg("saga \"%s\" does not exist", name),
			 errdetail_internal("%s", evs_detail_end(&detail))));
}

const EvsSaga *
evs_saga_find(const char *name)
{
	ListCell   *cell;

	foreach(cell, evs_saga_kept())
		if (strcmp(((EvsSaga *) lfirst(cell))->name, name) == 0)
			return lfirst(cell);
	throw_not_found(name);
	return NULL;
}

EvsSaga *
evs_saga_lock(const char *name, bool exclusive)
{
	EvsSaga    *saga = palloc(sizeof(EvsSaga));
	const EvsSaga *again;

	*saga = *evs_saga_find(name);
	/* whoever had it locked may have changed it, which we hear of with the lock */
	LockDatabaseObject(evs_catalog()->saga, (Oid) saga->id, 0,
					   exclusive ? AccessExclusiveLock : AccessShareLock);
	again = evs_saga_find_kept(saga->id);
	if (again == NULL)
		throw_not_found(name);
	*saga = *again;
	saga->name = pstrdup(saga->name);
	saga->owner = pstrdup(saga->owner);
	return saga;
}

Oid
evs_saga_owner(const EvsSaga *saga)
{
	Oid			owner = get_role_oid(saga->owner, true);

	if (!OidIsValid(owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\", which owned saga \"%s\", does not exist", saga->owner,
						saga->name),
				 errhint("Give it to another role with evstore.alter_saga().")));
	return owner;
}

/* ---- definitions ---- */

typedef struct CompiledKey
{
	int64		id;
	int64		version;
} CompiledKey;

typedef struct Compiled
{
	CompiledKey key;
	EvsSagaDefinition *definition;
} Compiled;

static HTAB *compiled = NULL;
static MemoryContext compiled_context = NULL;
static Oid	compiled_for = InvalidOid;	/* evstore.saga: after DROP EXTENSION ids begin anew */

static void
open_cache(void)
{
	HASHCTL		ctl = {
		.keysize = sizeof(CompiledKey), .entrysize = sizeof(Compiled),
	};
	Oid			current = evs_catalog()->saga;

	if (compiled != NULL && compiled_for == current)
		return;
	compiled = NULL;
	if (compiled_context == NULL)
		compiled_context = AllocSetContextCreate(TopMemoryContext, "evstore saga definitions",
												 ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(compiled_context);
	ctl.hcxt = compiled_context;
	compiled = hash_create("evstore saga definitions", 16, &ctl,
						   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	compiled_for = current;
}

/* settled: it is not of the current transaction, whose end may take it back. */
static Jsonb *
read_definition(int64 id, int number, bool *settled)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT v.definition, v.xmin FROM evstore.saga_version v WHERE v.saga_id = $1 AND v.version = $2",
		.nargs = 2, .types = {INT8OID, INT4OID},
	};
	Datum		args[] = {Int64GetDatum(id), Int32GetDatum(number)};
	EvsSpiRows	rows = evs_spi_call_latest(&plan, args, NULL);

	if (rows.nrows == 0)
		ereport(ERROR,
				(errcode(ERRCODE_EVS_OBJECT_NOT_FOUND),
				 errmsg("version %d of saga " INT64_FORMAT " does not exist", number, id)));
	*settled = !TransactionIdIsCurrentTransactionId(DatumGetTransactionId(rows.values[1]));
	return DatumGetJsonbP(rows.values[0]);
}

/* To be kept: in a context of its own, which goes if it cannot be compiled. */
static EvsSagaDefinition *
compile(Jsonb *definition)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "evstore saga definition",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	EvsSagaDefinition *result = evs_saga_compile_or_throw(definition);

	MemoryContextSwitchTo(old);
	MemoryContextSetParent(context, compiled_context);
	return result;
}

const EvsSagaDefinition *
evs_saga_definition(int64 id, int number)
{
	CompiledKey key = {.id = id, .version = number};
	EvsSagaDefinition *definition;
	Compiled   *entry;
	Jsonb	   *stored;
	bool		settled;

	open_cache();
	entry = hash_search(compiled, &key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->definition;
	stored = read_definition(id, number, &settled);
	if (!settled)
		return evs_saga_compile_or_throw(stored);
	definition = compile(stored);
	entry = hash_search(compiled, &key, HASH_ENTER, NULL);
	entry->definition = definition;
	return definition;
}
