/*
 * definition.c
 *	  Projections as they are defined.
 *
 * As with subscriptions, a trigger on evstore.projection invalidates the table's
 * relcache entry with each change, so all sessions hear of it when it commits.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/errors.h"
#include "catalog/catalog.h"
#include "catalog/kept.h"
#include "exec/spi.h"
#include "projection/definition.h"
#include "subscription/definition.h"
#include "compat.h"

static EvsTableVersion version = {.number = 1};

uint64
evs_projection_version(void)
{
	return evs_table_version(&version) + evs_subscription_version();
}

/* ---- reading definitions ---- */

#define COLUMNS \
	"p.id, s.name, p.owner, p.handler, p.batched, p.mode = 'inline', p.on_error = 'stop'," \
	" p.notify, s.paused, p.batch_size, p.statement_timeout, s.slots," \
	" COALESCE(p.rebuild_of, 0), p.schema, p.base_schema, COALESCE(o.name, s.name), p.faulted," \
	" ARRAY(SELECT d.name::text FROM evstore.subscription d JOIN evstore.projection e ON e.id = d.id" \
	" WHERE d.name = ANY (p.depends_on) AND e.mode = 'async')," \
	" ARRAY(SELECT d.id FROM evstore.projection d WHERE s.name = ANY (d.depends_on))," \
	" EXISTS (SELECT FROM evstore.route r WHERE r.id = p.id)" \
	" FROM evstore.projection p JOIN evstore.subscription s ON s.id = p.id" \
	" LEFT JOIN evstore.subscription o ON o.id = p.rebuild_of"

/* pg_catalog is searched first, and temporary tables last. */
static char *
make_search_path(const char *schema, const char *base_schema)
{
	if (base_schema == NULL)
		return psprintf("%s, pg_temp", quote_identifier(schema));
	return psprintf("%s, %s, pg_temp", pstrdup(quote_identifier(schema)),
					pstrdup(quote_identifier(base_schema)));
}

static List *
get_names(Datum array)
{
	Datum	   *names;
	int			n;
	List	   *result = NIL;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &names, NULL, &n);
	for (int i = 0; i < n; i++)
		result = lappend(result, TextDatumGetCString(names[i]));
	return result;
}

static uint32
get_buckets(Datum array)
{
	Datum	   *ids;
	int			n;
	uint32		result = 0;

	deconstruct_array(DatumGetArrayTypeP(array), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &ids, NULL, &n);
	for (int i = 0; i < n; i++)
		result |= 1 << evs_subscription_bucket(DatumGetInt64(ids[i]));
	return result;
}

static EvsProjection *
from_row(const EvsSpiRows *rows, uint64 row)
{
	const Datum *values = rows->values + row * rows->ncolumns;
	const bool *nulls = rows->nulls + row * rows->ncolumns;
	EvsProjection *result = palloc0(sizeof(EvsProjection));

	result->id = DatumGetInt64(values[0]);
	result->name = TextDatumGetCString(values[1]);
	result->owner = TextDatumGetCString(values[2]);
	result->handler = TextDatumGetCString(values[3]);
	result->batched = DatumGetBool(values[4]);
	result->is_inline = DatumGetBool(values[5]);
	result->stops = DatumGetBool(values[6]);
	result->notify = DatumGetBool(values[7]);
	result->paused = DatumGetBool(values[8]);
	result->batch_size = DatumGetInt32(values[9]);
	result->timeout = DatumGetInt32(values[10]);
	result->slots = DatumGetInt32(values[11]);
	result->rebuild_of = DatumGetInt64(values[12]);
	result->search_path = make_search_path(TextDatumGetCString(values[13]),
										   nulls[14] ? NULL : TextDatumGetCString(values[14]));
	result->title = TextDatumGetCString(values[15]);
	result->faulted = DatumGetBool(values[16]);
	result->depends_on = get_names(values[17]);
	result->dependents = get_buckets(values[18]);
	result->is_route = DatumGetBool(values[19]);
	return result;
}

/* No append may miss one, by a snapshot that is older. */
List *
evs_projection_list(void)
{
	static EvsSpiPlan plan = {.sql = "SELECT " COLUMNS " ORDER BY p.id"};
	EvsSpiRows	rows = evs_spi_call_latest(&plan, NULL, NULL);
	List	   *result = NIL;

	version.relid = evs_catalog()->projection;
	for (uint64 i = 0; i < rows.nrows; i++)
		result = lappend(result, from_row(&rows, i));
	return result;
}

List *
evs_projection_kept(void)
{
	static EvsKept kept = {.name = "projections", .load = evs_projection_list};

	return evs_kept(&kept, evs_projection_version());
}

EvsProjection *
evs_projection_find(const char *name)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT " COLUMNS " WHERE s.name = $1 AND p.rebuild_of IS NULL",
		.nargs = 1, .types = {TEXTOID},
	};
	Datum		arg = CStringGetTextDatum(name);
	EvsSpiRows	rows = evs_spi_call(&plan, &arg, NULL);
	StringInfoData detail;

	if (rows.nrows > 0)
		return from_row(&rows, 0);
	evs_detail_begin(&detail);
	evs_detail_string(&detail, "projection", name);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_OBJECT_NOT_FOUND),
			 errmsg("projection \"%s\" does not exist", name),
			 errdetail_internal("%s", evs_detail_end(&detail))));
	return NULL;
}

EvsProjection *
evs_projection_find_rebuild(int64 id)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT " COLUMNS " WHERE p.rebuild_of = $1",
		.nargs = 1, .types = {INT8OID},
	};
	Datum		arg = Int64GetDatum(id);
	EvsSpiRows	rows = evs_spi_call(&plan, &arg, NULL);

	return rows.nrows > 0 ? from_row(&rows, 0) : NULL;
}

Oid
evs_projection_owner(const EvsProjection *projection)
{
	Oid			owner = get_role_oid(projection->owner, true);

	if (!OidIsValid(owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\", which owned projection \"%s\", does not exist",
						projection->owner, projection->title),
				 errhint("Give it to another role with evstore.alter_projection().")));
	return owner;
}

/* ---- are there inline ones? ---- */

/*
 * Not by SQL, which would be planned in each session that appends, and not with
 * an MVCC snapshot, which would take predicate locks.  Rows of inline projections
 * change under a lock that the append, which holds the log, excludes.
 */
static bool
find_inline(void)
{
	Relation	rel = evs_open(evs_catalog()->projection, AccessShareLock);
	TupleTableSlot *row = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, SnapshotSelf, 0, NULL);
	bool		found = false;

	version.relid = RelationGetRelid(rel);
	while (!found && table_scan_getnextslot(scan, ForwardScanDirection, row))
	{
		bool		isnull;
		char	   *mode = TextDatumGetCString(slot_getattr(row, ANUM_PROJECTION_MODE, &isnull));

		found = strcmp(mode, "inline") == 0;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(row);
	relation_close(rel, AccessShareLock);
	return found;
}

bool
evs_projection_any_inline(void)
{
	static uint64 looked_version = 0;
	static bool any = false;
	uint64		current = evs_projection_version();

	if (unlikely(looked_version != current))
	{
		any = find_inline();
		looked_version = current;
	}
	return any;
}
