/*
 * route.c
 *	  Which events come of which, by routes: observed as it happens.
 *
 * An effect is noted with the (sub)transaction that has appended it: one that is
 * rolled back, by the handler or because a later event of the batch failed, takes
 * its effects along, and nobody has to be told.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "exec/spi.h"
#include "projection/route.h"
#include "stream/batch.h"

/* So many events that one type leads to, with one transaction. */
typedef struct Effect
{
	TransactionId xid;
	text	   *from;
	text	   *to;
	int64		n;
} Effect;

struct EvsRouteEffects
{
	MemoryContext context;
	pg_uuid_t	event_id;		/* of the event that is handled */
	text	   *from;			/* its type */
	List	   *effects;
};

EvsRouteEffects *
evs_route_begin(void)
{
	EvsRouteEffects *effects = palloc0(sizeof(EvsRouteEffects));

	effects->context = CurrentMemoryContext;
	return effects;
}

static bool
is_same_text(const text *a, const text *b)
{
	return VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}

/* Handlers lead to a few types: the newest effect is the likeliest to be repeated. */
static Effect *
find_effect(EvsRouteEffects *effects, TransactionId xid, const text *to)
{
	if (effects->effects != NIL)
	{
		Effect	   *last = llast(effects->effects);

		if (last->xid == xid && last->from == effects->from && is_same_text(last->to, to))
			return last;
	}
	return NULL;
}

/* An event that names another cause is not of this one's making. */
static void
note_effect(void *arg, const EvsNewEvent *event)
{
	EvsRouteEffects *effects = arg;
	TransactionId xid = GetCurrentTransactionId();
	MemoryContext old;
	Effect	   *effect;

	if (!event->has_causation_id ||
		memcmp(&event->causation_id, &effects->event_id, UUID_LEN) != 0)
		return;
	effect = find_effect(effects, xid, event->type);
	if (effect == NULL)
	{
		old = MemoryContextSwitchTo(effects->context);
		effect = palloc0(sizeof(Effect));
		effect->xid = xid;
		effect->from = effects->from;
		effect->to = DatumGetTextPCopy(PointerGetDatum(event->type));
		effects->effects = lappend(effects->effects, effect);
		MemoryContextSwitchTo(old);
	}
	effect->n++;
}

/* One copy of a type serves as long as it is that of the events. */
static void
set_from(EvsRouteEffects *effects, const EvsHandledEvent *event)
{
	bool		isnull;
	Datum		type = GetAttributeByNum(DatumGetHeapTupleHeader(event->event),
										 EVS_EVENT_TYPE + 1, &isnull);
	MemoryContext old;

	if (effects->from != NULL && is_same_text(effects->from, DatumGetTextPP(type)))
		return;
	old = MemoryContextSwitchTo(effects->context);
	effects->from = DatumGetTextPCopy(type);
	MemoryContextSwitchTo(old);
}

void
evs_route_watch(EvsRouteEffects *effects, const EvsHandledEvent *event, EvsCause *cause)
{
	effects->event_id = event->event_id;
	set_from(effects, event);
	cause->observe = note_effect;
	cause->observe_arg = effects;
}

/*
 * A count is a new row in place of the last one, as the state of a slot is (decision
 * 0006): the last one is found first, however many dead ones there are.
 */
void
evs_route_store(EvsRouteEffects *effects, int64 route, int slot)
{
	static EvsSpiPlan plan = {
		.sql = "WITH d AS MATERIALIZED ("
		" SELECT e.from_type, e.to_type, sum(e.n)::bigint AS n"
		" FROM unnest($3, $4, $5) e (from_type, to_type, n) GROUP BY 1, 2),"
		" last AS MATERIALIZED ("
		" SELECT d.from_type, d.to_type, COALESCE(o.seq, 0) AS seq, COALESCE(o.observed, 0) + d.n AS observed"
		" FROM d LEFT JOIN LATERAL (SELECT x.seq, x.observed FROM evstore.route_observed x"
		" WHERE x.route_id = $1 AND x.slot = $2 AND x.from_type = d.from_type AND x.to_type = d.to_type"
		" ORDER BY x.seq DESC LIMIT 1) o ON true),"
		" gone AS (DELETE FROM evstore.route_observed x USING last l"
		" WHERE x.route_id = $1 AND x.slot = $2 AND x.from_type = l.from_type AND x.to_type = l.to_type"
		" AND x.seq = l.seq)"
		" INSERT INTO evstore.route_observed (route_id, slot, from_type, to_type, seq, observed)"
		" SELECT $1, $2, l.from_type, l.to_type, l.seq + 1, l.observed FROM last l",
		.nargs = 5,
		.types = {INT8OID, INT4OID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID},
	};
	Datum	   *columns[3];
	Datum		args[5];
	int			n = 0;
	ListCell   *cell;

	for (int i = 0; i < 3; i++)
		columns[i] = palloc(sizeof(Datum) * Max(1, list_length(effects->effects)));
	foreach(cell, effects->effects)
	{
		Effect	   *effect = lfirst(cell);

		if (!TransactionIdIsCurrentTransactionId(effect->xid))
			continue;
		columns[0][n] = PointerGetDatum(effect->from);
		columns[1][n] = PointerGetDatum(effect->to);
		columns[2][n++] = Int64GetDatum(effect->n);
	}
	if (n == 0)
		return;
	args[0] = Int64GetDatum(route);
	args[1] = Int32GetDatum(slot);
	args[2] = PointerGetDatum(construct_array(columns[0], n, TEXTOID, -1, false, TYPALIGN_INT));
	args[3] = PointerGetDatum(construct_array(columns[1], n, TEXTOID, -1, false, TYPALIGN_INT));
	args[4] = PointerGetDatum(construct_array(columns[2], n, INT8OID, sizeof(int64),
											  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	(void) evs_spi_call(&plan, args, NULL);
}
