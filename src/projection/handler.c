/*
 * handler.c
 *	  Calling the function of a projection.
 *
 * It runs as the projection's owner in a context from which no other role can
 * be had, as a SECURITY DEFINER function does, and what it SETs ends with the
 * batch.  Events that it appends are linked to the one that it is called with.
 *
 * The limit of a call is kept by a timer that ticks a few times within it:
 * setting one for each call would cost more than many a handler.
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "base/errors.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "projection/handler.h"
#include "stream/cause.h"
#include "stream/event.h"
#include "compat.h"

/* The timer ticks so often within the limit of a call, but not more often than this, in ms. */
#define TICKS 10
#define TICK_MIN 10

struct EvsHandler
{
	const EvsProjection *projection;
	MemoryContext context;		/* until it is ended */
	MemoryContext call_context; /* of one call; reset after each */
	FmgrInfo	function;
	Oid			event_type;
	Oid			user;			/* before */
	int			sec_context;
	int			guc_level;
	EvsCause	cause;			/* before */
	bool		has_timer;
	MemoryContextCallback callback; /* if it is not ended */
};

/* For the timer. */
static volatile TimestampTz call_started = 0;
static volatile sig_atomic_t timed_out = false;
static volatile sig_atomic_t in_call = false;
static int64 limit = 0;			/* microseconds; 0 = none */
static TimeoutId timer = MAX_TIMEOUTS;

static void
tick(void)
{
	if (in_call && limit > 0 && call_started + limit <= GetCurrentTimestamp())
	{
		timed_out = true;
		InterruptPending = true;
		QueryCancelPending = true;
	}
}

void
evs_handler_interrupt(void)
{
	if (in_call)
	{
		InterruptPending = true;
		QueryCancelPending = true;
	}
}

bool
evs_handler_timed_out(void)
{
	bool		result = timed_out;

	timed_out = false;
	return result;
}

/* false: none is wanted, or that of an outer handler is going already. */
static bool
start_timer(int ms)
{
	int			interval = Max(ms / TICKS, TICK_MIN);

	if (ms == 0 || limit > 0)
		return false;
	timed_out = false;
	limit = (int64) ms * 1000;
	if (timer == MAX_TIMEOUTS)
		timer = RegisterTimeout(USER_TIMEOUT, tick);
	enable_timeout_every(timer, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), interval),
						 interval);
	return true;
}

static void
stop_timer(void)
{
	disable_timeout(timer, false);
	limit = 0;
	/* it may have fired when there was no call any more to end */
	if (timed_out)
		QueryCancelPending = false;
	timed_out = false;
}

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

static void
set_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Deferred triggers run at the end of the transaction, as whoever has begun it:
 * who calls the handler of somebody else must not run his triggers, too.
 */
static int
restriction(Oid user, Oid owner)
{
	return SECURITY_LOCAL_USERID_CHANGE |
		(user == owner ? 0 : SECURITY_RESTRICTED_OPERATION);
}

/* What an abort does not undo, when the handler's memory goes. */
static void
abandon(void *arg)
{
	EvsHandler *handler = arg;

	if (handler->projection == NULL)
		return;
	if (handler->has_timer)
		stop_timer();
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

	GetUserIdAndSecContext(&handler->user, &handler->sec_context);
	handler->guc_level = NewGUCNestLevel();
	handler->cause = evs_cause_get();
	SetUserIdAndSecContext(owner, handler->sec_context | restriction(handler->user, owner));
	set_local("search_path", projection->search_path);
	if (may_wait && MyBgworkerEntry != NULL)
		set_local("lock_timeout", "0");
	fmgr_info(find_function(projection, argument), &handler->function);
	handler->has_timer = start_timer(projection->timeout);
	handler->callback.func = abandon;
	handler->callback.arg = handler;
	MemoryContextRegisterResetCallback(handler->context, &handler->callback);
	return handler;
}

void
evs_handler_end(EvsHandler *handler)
{
	abandon(handler);
	/* not what it has set, either */
	AtEOXact_GUC(false, handler->guc_level);
	SetUserIdAndSecContext(handler->user, handler->sec_context);
	MemoryContextDelete(handler->context);
}

/* ---- calls ---- */

static Datum
call(EvsHandler *handler, Datum argument, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 1);
	PgStat_FunctionCallUsage usage;
	bool		was_in_call = in_call;
	Datum		result = (Datum) 0;

	InitFunctionCallInfoData(*fcinfo, &handler->function, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = argument;
	fcinfo->args[0].isnull = false;
	pgstat_init_function_usage(fcinfo, &usage);
	if (handler->has_timer)
		call_started = GetCurrentTimestamp();
	in_call = true;
	PG_TRY();
	{
		result = FunctionCallInvoke(fcinfo);
	}
	PG_FINALLY();
	{
		in_call = was_in_call;
	}
	PG_END_TRY();
	pgstat_end_function_usage(&usage, true);
	CommandCounterIncrement();
	*isnull = fcinfo->isnull;
	return result;
}

void
evs_handler_check_constraints(EvsHandler *handler)
{
	bool		was_in_call = in_call;

	if (handler->has_timer)
		call_started = GetCurrentTimestamp();
	in_call = true;
	PG_TRY();
	{
		evs_spi_run_alone("SET CONSTRAINTS ALL IMMEDIATE");
	}
	PG_FINALLY();
	{
		in_call = was_in_call;
	}
	PG_END_TRY();
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
	bool		isnull;

	for (int i = 0; i < n; i++)
		elements[i] = events[i]->event;
	(void) call(handler, PointerGetDatum(construct_array(elements, n, handler->event_type, -1, false,
														 TYPALIGN_DOUBLE)), &isnull);
	MemoryContextSwitchTo(old);
	MemoryContextReset(handler->call_context);
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

bool
evs_handler_error_is_transient(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case MAKE_SQLSTATE('0', '8', '0', '0', '0'):
		case MAKE_SQLSTATE('4', '0', '0', '0', '0'):
		case MAKE_SQLSTATE('5', '3', '0', '0', '0'):
		case MAKE_SQLSTATE('5', '7', '0', '0', '0'):
		case MAKE_SQLSTATE('5', '8', '0', '0', '0'):
			return true;
	}
	return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		sqlerrcode == ERRCODE_READ_ONLY_SQL_TRANSACTION ||
		sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE ||
		sqlerrcode == ERRCODE_UNDEFINED_TABLE || sqlerrcode == ERRCODE_UNDEFINED_SCHEMA;
}
