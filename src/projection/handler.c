/*
 * handler.c
 *	  Calling the function of a projection.
 *
 * It runs as the projection's owner, and what it SETs ends with the batch.  Events
 * that it appends are linked to the one that it is called with.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "base/errors.h"
#include "catalog/catalog.h"
#include "exec/act_as.h"
#include "projection/handler.h"
#include "projection/route.h"
#include "stream/cause.h"
#include "stream/event.h"
#include "compat.h"

struct EvsHandler
{
	const EvsProjection *projection;
	MemoryContext context;		/* until it is ended */
	MemoryContext call_context; /* of one call; reset after each */
	FmgrInfo	function;
	EvsRouteEffects *effects;	/* of a route, or NULL */
	Oid			event_type;
	EvsActAs	act;
	EvsCause	cause;			/* before */
	MemoryContextCallback callback; /* if it is not ended */
};

/* Whose handler is being called; the innermost, if it has caused others to be. */
static const EvsProjection *called = NULL;

/* ---- the function ---- */

static void
throw_no_handler(const EvsProjection *projection)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_FUNCTION),
			 errmsg("function %s(%s) of %s \"%s\" does not exist", projection->handler,
					projection->batched ? "evstore.event[]" : "evstore.event",
					projection->transforms ? "relay" : "projection", projection->title)));
}

static Oid
find_function(const EvsProjection *projection, Oid argument)
{
	List	   *names = evs_qualified_name_list(projection->handler);
	Oid			function = LookupFuncName(names, 1, &argument, true);
	HeapTuple	tuple;
	Form_pg_proc proc;
	AclResult	result;

	tuple = OidIsValid(function) ? SearchSysCache1(PROCOID, ObjectIdGetDatum(function)) : NULL;
	if (!HeapTupleIsValid(tuple))
		throw_no_handler(projection);
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->prokind != PROKIND_FUNCTION || proc->proretset ||
		proc->prorettype != (projection->transforms ? JSONBOID : VOIDOID))
		throw_no_handler(projection);
	ReleaseSysCache(tuple);
	result = evs_function_aclcheck(function, GetUserId());
	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, projection->handler);
	return function;
}

/* What an abort does not undo, when the handler's memory goes. */
static void
abandon(void *arg)
{
	EvsHandler *handler = arg;

	if (handler->projection == NULL)
		return;
	evs_act_abandon(&handler->act);
	evs_cause_set(handler->cause);
	handler->projection = NULL;
}

EvsHandler *
evs_handler_begin(const EvsProjection *projection, bool may_wait)
{
	EvsHandler *handler = palloc0(sizeof(EvsHandler));
	Oid			owner = evs_projection_owner(projection);
	Oid			argument;

	handler->projection = projection;
	handler->context = AllocSetContextCreate(CurrentMemoryContext, "evstore handler",
											 ALLOCSET_SMALL_SIZES);
	handler->call_context = AllocSetContextCreate(handler->context, "evstore handler call",
												  ALLOCSET_DEFAULT_SIZES);
	handler->event_type = evs_catalog()->event_type;
	argument = projection->batched ? get_array_type(handler->event_type) : handler->event_type;

	handler->cause = evs_cause_get();
	handler->callback.func = abandon;
	handler->callback.arg = handler;
	MemoryContextRegisterResetCallback(handler->context, &handler->callback);
	evs_act_begin(&handler->act, owner, projection->search_path, projection->timeout, may_wait);
	fmgr_info(find_function(projection, argument), &handler->function);
	if (projection->is_route)
		handler->effects = evs_route_begin();
	return handler;
}

void
evs_handler_end(EvsHandler *handler)
{
	abandon(handler);
	evs_act_end(&handler->act);
	MemoryContextDelete(handler->context);
}

/* ---- calls ---- */

static Datum
call(EvsHandler *handler, Datum argument, bool *isnull)
{
	const EvsProjection *was_called = called;
	Datum		result = (Datum) 0;

	called = handler->projection;
	PG_TRY();
	{
		result = evs_act_call(&handler->act, &handler->function, argument, isnull);
	}
	PG_FINALLY();
	{
		called = was_called;
	}
	PG_END_TRY();
	return result;
}

void
evs_handler_check_constraints(EvsHandler *handler)
{
	evs_act_check_constraints(&handler->act);
}

static void
add_context(void *arg)
{
	const EvsHandledEvent *event = arg;

	errcontext("handler of a projection or relay, event at position " INT64_FORMAT, event->position);
}

/* The result is in the context of the call. */
static Datum
call_for(EvsHandler *handler, const EvsHandledEvent *event, bool *isnull)
{
	ErrorContextCallback frame = {
		.previous = error_context_stack, .callback = add_context, .arg = unconstify(EvsHandledEvent *, event),
	};
	EvsCause	cause = {.causation_id = &event->event_id, .correlation_id = event->correlation_id};
	MemoryContext old = MemoryContextSwitchTo(handler->call_context);
	Datum		result;

	error_context_stack = &frame;
	if (handler->effects != NULL)
		evs_route_watch(handler->effects, event, &cause);
	evs_cause_set(cause);
	result = call(handler, event->event, isnull);
	error_context_stack = frame.previous;
	MemoryContextSwitchTo(old);
	return result;
}

void
evs_handler_call(EvsHandler *handler, const EvsHandledEvent *event)
{
	bool		isnull;

	(void) call_for(handler, event, &isnull);
	MemoryContextReset(handler->call_context);
}

Datum
evs_handler_transform(EvsHandler *handler, const EvsHandledEvent *event, bool *isnull)
{
	Datum		result = call_for(handler, event, isnull);

	if (!*isnull)
		result = JsonbPGetDatum(DatumGetJsonbPCopy(result));
	MemoryContextReset(handler->call_context);
	return result;
}

void
evs_handler_call_batch(EvsHandler *handler, const EvsHandledEvent *const *events, int n)
{
	MemoryContext old = MemoryContextSwitchTo(handler->call_context);
	Datum	   *elements = palloc(sizeof(Datum) * n);
	ArrayType  *array;
	bool		isnull;

	for (int i = 0; i < n; i++)
		elements[i] = events[i]->event;
	array = construct_array(elements, n, handler->event_type, -1, false, TYPALIGN_DOUBLE);
	(void) call(handler, PointerGetDatum(array), &isnull);
	MemoryContextSwitchTo(old);
	MemoryContextReset(handler->call_context);
}

const EvsProjection *
evs_handler_called(void)
{
	return called;
}

void
evs_handler_store_effects(EvsHandler *handler, int slot)
{
	if (handler->effects != NULL)
		evs_route_store(handler->effects, handler->projection->id, slot);
}

/* ---- events ---- */

void
evs_handler_get_event(EvsLogCursor *cursor, Datum data, EvsHandledEvent *event)
{
	static TupleDesc desc = NULL;
	Datum		values[EVS_EVENT_NCOLUMNS];
	bool		nulls[EVS_EVENT_NCOLUMNS];
	HeapTuple	tuple;

	if (desc == NULL || desc->tdtypeid != evs_catalog()->event_type)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		desc = lookup_rowtype_tupdesc_copy(evs_catalog()->event_type, -1);
		MemoryContextSwitchTo(old);
	}
	evs_event_from_row(evs_cursor_leaf(cursor), evs_cursor_slot(cursor),
					   PointerGetDatum(evs_cursor_stream_name(cursor)), values, nulls);
	if (data != (Datum) 0)
		values[EVS_EVENT_DATA] = data;
	tuple = heap_form_tuple(desc, values, nulls);
	event->event = HeapTupleGetDatum(tuple);
	event->size = HeapTupleHeaderGetDatumLength(DatumGetHeapTupleHeader(event->event));
	event->position = DatumGetInt64(values[EVS_EVENT_POSITION]);
	event->event_id = *DatumGetUUIDP(values[EVS_EVENT_EVENT_ID]);
	event->correlation_id = nulls[EVS_EVENT_CORRELATION_ID] ? NULL :
		DatumGetTextPCopy(values[EVS_EVENT_CORRELATION_ID]);
}
