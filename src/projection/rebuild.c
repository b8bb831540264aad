/*
 * rebuild.c
 *	  Rebuilding a projection beside the one that serves.
 *
 * A rebuild is a projection of its own, with the same handler, whose search_path
 * begins with a schema that has empty copies of the tables.  When it has got as
 * far as the original, both are locked, what is missing is handled in the same
 * transaction, and the tables change places: readers see the old rows, and then
 * the new ones.
 *
 * What is done to tables is done as the projection's owner, who could do it
 * himself; the statements are in sql/modules/61_rebuild.sql.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "base/debug_point.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "projection/rebuild.h"
#include "projection/run.h"
#include "stream/position.h"
#include "subscription/failed.h"
#include "subscription/slot.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_depends_on_extension);

/* So many batches are made up for with everything locked. */
#define BATCHES_MAX 20

/* ---- as the owner ---- */

/*
 * One statement about the projection's tables, with $1 their schema, $2 their
 * names and $3 the schema of the shadows.
 */
static void
run_as_owner(int64 id, Oid owner, const char *sql)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT COALESCE(p.base_schema, p.schema), p.tables, p.schema"
		" FROM evstore.projection p WHERE p.id = $1",
		.nargs = 1, .types = {INT8OID},
	};
	Oid			types[] = {TEXTOID, TEXTARRAYOID, TEXTOID};
	Datum		arg = Int64GetDatum(id);
	EvsSpiRows	rows = evs_spi_call(&plan, &arg, NULL);
	Oid			user;
	int			sec_context;
	EvsSpi		spi;

	if (rows.nrows == 0)
		return;
	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(owner, sec_context | SECURITY_LOCAL_USERID_CHANGE |
						   (user == owner ? 0 : SECURITY_RESTRICTED_OPERATION));
	evs_spi_begin(&spi, false);
	(void) evs_spi_run_args(sql, 3, types, rows.values, NULL);
	evs_spi_end(&spi);
	SetUserIdAndSecContext(user, sec_context);
}

void
evs_rebuild_truncate(const EvsProjection *projection)
{
	run_as_owner(projection->id, evs_projection_owner(projection),
				 "SELECT evstore._projection_truncate($1, $2)");
}

/* ---- begin and cancel ---- */

void
evs_rebuild_begin(const char *name)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT r.id FROM evstore._rebuild_begin($1) r",
		.nargs = 1, .types = {TEXTOID},
	};
	EvsProjection *projection = evs_projection_find(name);
	EvsProjection *failed = evs_projection_find_rebuild(projection->id);
	Oid			owner = evs_projection_owner(projection);
	Datum		arg = CStringGetTextDatum(name);
	EvsSpiRows	rows;

	if (failed != NULL && failed->faulted)
		(void) evs_rebuild_cancel(projection);
	rows = evs_spi_call(&plan, &arg, NULL);
	run_as_owner(DatumGetInt64(rows.values[0]), owner, "SELECT evstore._rebuild_make($1, $2, $3)");
}

static bool
is_there(const EvsProjection *rebuild)
{
	EvsProjection *now = evs_projection_find_rebuild(rebuild->rebuild_of);

	return now != NULL && now->id == rebuild->id;
}

bool
evs_rebuild_cancel(const EvsProjection *projection)
{
	static EvsSpiPlan remove = {
		.sql = "SELECT evstore._projection_remove($1)",
		.nargs = 1, .types = {INT8OID},
	};
	EvsProjection *rebuild = evs_projection_find_rebuild(projection->id);
	Datum		arg;

	if (rebuild == NULL)
		return false;
	arg = Int64GetDatum(rebuild->id);
	for (int i = 0; i < rebuild->slots; i++)
		(void) evs_slot_lock(rebuild->id, i, true);
	/* who had them may have ended it */
	if (!is_there(rebuild))
		return false;
	run_as_owner(rebuild->id, evs_projection_owner(projection), "SELECT evstore._rebuild_drop($3)");
	(void) evs_spi_call(&remove, &arg, NULL);
	return true;
}

/* ---- finish ---- */

typedef struct Finish
{
	const EvsProjection *rebuild;
	uint64		version;		/* of projections when that was loaded */
	EvsProjection *original;
	Relation	states;
	int64	   *reached;		/* by slot */
} Finish;

/*
 * First the log, then the slots, then the tables: in the order in which appends
 * and workers take them.
 */
static void
lock_all(Finish *finish)
{
	if (finish->original->is_inline)
		LockRelationOid(evs_catalog()->event_log, ShareLock);
	for (int i = 0; i < finish->original->slots; i++)
		(void) evs_slot_lock(finish->original->id, i, true);
	for (int i = 0; i < finish->rebuild->slots; i++)
		(void) evs_slot_lock(finish->rebuild->id, i, true);
}

/* Where the slot of the original is. */
static int64
goal(Finish *finish, int slot)
{
	EvsSlot		state = {0};

	if (finish->original->is_inline)
		return evs_position_last();
	(void) evs_slot_read(finish->states, finish->original->id, slot, &state);
	return state.cursor;
}

/* A last few batches, in this transaction. */
static bool
catch_up(Finish *finish, int slot, bool in_worker)
{
	EvsRun		run = {
		.projection = finish->rebuild, .version = finish->version, .slot = slot, .in_worker = in_worker,
		.finishing = true,
	};
	int64		wanted = goal(finish, slot);

	for (int i = 0; i < BATCHES_MAX; i++)
	{
		evs_projection_run(&run);
		finish->reached[slot] = run.scanned;
		if (run.error != NULL)
			return false;
		if (run.status == EVS_RUN_IDLE && run.retry_at == 0)
			return run.scanned >= wanted;
		if (run.status != EVS_RUN_DONE)
			return false;
	}
	return finish->reached[slot] >= wanted;
}

/* The original goes on from where the rebuild has got to. */
static void
hand_over_slot(Finish *finish, int slot)
{
	EvsSlot		from = {0};
	EvsSlot		to = {0};

	if (!evs_slot_read(finish->states, finish->rebuild->id, slot, &from) ||
		!evs_slot_read(finish->states, finish->original->id, slot, &to))
		elog(ERROR, "a slot of projection \"%s\" is missing", finish->original->name);
	evs_slot_fence(&to);
	to.cursor = Max(from.cursor, from.pending ? 0 : finish->reached[slot]);
	to.checkpoint = from.pending ? from.checkpoint : to.cursor;
	to.pending = from.pending;
	to.attempts = 0;
	to.head = to.lease_until = 0;
	evs_slot_write(finish->states, &to);
}

static void
hand_over(Finish *finish)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._rebuild_end($1)",
		.nargs = 1, .types = {INT8OID},
	};
	Datum		arg = Int64GetDatum(finish->rebuild->id);

	run_as_owner(finish->rebuild->id, evs_projection_owner(finish->original),
				 "SELECT evstore._rebuild_swap($1, $2, $3)");
	EVS_DEBUG_POINT("rebuild_swapped");
	if (!finish->original->is_inline)
		for (int i = 0; i < finish->original->slots; i++)
			hand_over_slot(finish, i);
	(void) evs_spi_call(&plan, &arg, NULL);
}

bool
evs_rebuild_finish(const EvsProjection *rebuild, uint64 version, bool in_worker)
{
	Finish		finish = {.rebuild = rebuild, .version = version, .original = evs_projection_find(rebuild->title)};
	bool		ok = true;

	EVS_DEBUG_POINT("rebuild_finish");
	finish.reached = palloc0(sizeof(int64) * rebuild->slots);
	lock_all(&finish);
	finish.states = evs_open(evs_catalog()->slot_state, RowExclusiveLock);
	for (int i = 0; i < rebuild->slots && ok; i++)
		ok = catch_up(&finish, i, in_worker);
	if (ok)
		hand_over(&finish);
	relation_close(finish.states, NoLock);
	return ok;
}

/* _depends_on_extension(schema): DROP EXTENSION takes it along */
Datum
evs_depends_on_extension(PG_FUNCTION_ARGS)
{
	ObjectAddress schema;
	ObjectAddress extension;

	ObjectAddressSet(schema, NamespaceRelationId,
					 get_namespace_oid(text_to_cstring(PG_GETARG_TEXT_PP(0)), false));
	ObjectAddressSet(extension, ExtensionRelationId, get_extension_oid("evstore", false));
	evs_check_internal();
	recordDependencyOn(&schema, &extension, DEPENDENCY_AUTO);
	PG_RETURN_VOID();
}
