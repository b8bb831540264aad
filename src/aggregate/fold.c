/*
 * fold.c
 *	  A left fold of events into a state by a transition function.
 *
 * The call of the function is planned as an expression with two parameters, as
 * PL/pgSQL does with an assignment: a function in SQL is inlined, and an event
 * then costs a microsecond instead of an executor's start.
 *
 * The state is copied once an event, from the memory that is freed after each
 * call to one of two contexts that take turns.  The columns of an event are not
 * copied: where the expression selects a field of the event, it refers to a slot
 * that has the columns.  Only if it uses the event as a whole is there a record as
 * well, an expanded one that points to the columns.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/params.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/expandedrecord.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "aggregate/fold.h"
#include "aggregate/json_build.h"
#include "base/errors.h"
#include "catalog/catalog.h"
#include "stream/event.h"
#include "compat.h"

/* Transitions whose planned calls a session keeps. */
#define NCALLS 16

/* The call's parameters. */
#define STATE_PARAM 1
#define EVENT_PARAM 2

typedef struct PlannedCall
{
	Oid			transition;
	Oid			type;			/* evstore.event, which DROP EXTENSION changes */
	Oid			user;			/* what names mean depends on these two */
	char	   *search_path;
	CachedExpression *plan;
} PlannedCall;

struct EvsFold
{
	MemoryContext context;		/* of all of this */
	Oid			transition;
	char	   *name;			/* of the transition, for messages */
	bool		unknown_is_error;
	TupleDesc	desc;			/* of evstore.event */
	TupleTableSlot *slot;		/* the event's columns */
	ExprState  *call;
	bool		needs_record;	/* it uses the event as a whole */
	ExpandedRecordHeader *record;	/* then this is the event that comes as columns */
	int			fetched[EVS_EVENT_NCOLUMNS];	/* columns that it uses and that are varlenas */
	int			nfetched;
	ExprContext *econtext;
	ParamExternData *state;		/* the call's parameters */
	ParamExternData *event;
	MemoryContext memory[2];
	int			turn;			/* whose memory the state is in */
};

static void
throw_invalid(Oid transition)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "path", "transition");
	evs_detail_string(&detail, "function", format_procedure(transition));
	ereport(ERROR,
			(errcode(ERRCODE_EVS_INVALID_DEFINITION),
			 errmsg("function %s cannot be used as a transition", format_procedure(transition)),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 errhint("It must have the form f(state jsonb, event evstore.event) RETURNS jsonb.")));
}

void
evs_fold_check(Oid transition)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(transition));
	Form_pg_proc proc;
	AclResult	result;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", transition)));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->prokind != PROKIND_FUNCTION || proc->proretset || proc->prorettype != JSONBOID ||
		proc->pronargs != 2 || proc->proargtypes.values[0] != JSONBOID ||
		proc->proargtypes.values[1] != evs_catalog()->event_type)
		throw_invalid(transition);
	ReleaseSysCache(tuple);

	result = evs_function_aclcheck(transition, GetUserId());
	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, get_func_name(transition));
}

static Node *
make_parameter(int id, Oid type)
{
	Param	   *param = makeNode(Param);

	param->paramkind = PARAM_EXTERN;
	param->paramid = id;
	param->paramtype = type;
	param->paramtypmod = -1;
	param->paramcollid = InvalidOid;
	param->location = -1;
	return (Node *) param;
}

static bool
is_current(const PlannedCall *entry, Oid transition, Oid type)
{
	return entry->plan != NULL && entry->plan->is_valid && entry->transition == transition &&
		entry->type == type && entry->user == GetUserId() &&
		strcmp(entry->search_path, namespace_search_path) == 0;
}

static void
plan_entry(PlannedCall *entry, Oid transition, Oid type)
{
	FuncExpr   *call = makeFuncExpr(transition, JSONBOID,
									list_make2(make_parameter(STATE_PARAM, JSONBOID),
											   make_parameter(EVENT_PARAM, type)),
									InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	CachedExpression *plan = GetCachedExpression((Node *) call);

	/* planning may have called functions, and those have used the entry */
	if (entry->plan != NULL)
	{
		FreeCachedExpression(entry->plan);
		pfree(entry->search_path);
		entry->plan = NULL;
	}
	entry->search_path = MemoryContextStrdup(TopMemoryContext, namespace_search_path);
	entry->transition = transition;
	entry->type = type;
	entry->user = GetUserId();
	entry->plan = plan;
}

/*
 * The planned call of a transition, kept by the session until something that it
 * depends on changes: inlining an SQL function takes as long as fifty events.
 */
static Expr *
planned_call(Oid transition, Oid type)
{
	static PlannedCall calls[NCALLS];
	PlannedCall *entry = &calls[transition % NCALLS];

	if (!is_current(entry, transition, type))
		plan_entry(entry, transition, type);
	return (Expr *) copyObject(entry->plan->expr);
}

static bool
is_event(const Node *node)
{
	const Param *param = (const Param *) node;

	return IsA(node, Param) && param->paramkind == PARAM_EXTERN && param->paramid == EVENT_PARAM;
}

/* The column that is selected from the event, from 0 on; -1: this is something else. */
static int
selected_column(const EvsFold *fold, const Node *node)
{
	const FieldSelect *select = (const FieldSelect *) node;
	int			column;

	if (!IsA(node, FieldSelect) || !is_event((const Node *) select->arg))
		return -1;
	column = select->fieldnum - 1;
	/* what does not fit is left to the executor, to complain */
	if (column < 0 || column >= EVS_EVENT_NCOLUMNS ||
		TupleDescAttr(fold->desc, column)->atttypid != select->resulttype)
		return -1;
	return column;
}

static void
add_fetched(EvsFold *fold, int column)
{
	if (TupleDescAttr(fold->desc, column)->attlen != -1)
		return;
	for (int i = 0; i < fold->nfetched; i++)
		if (fold->fetched[i] == column)
			return;
	fold->fetched[fold->nfetched++] = column;
}

/* Have the fields of the event taken from the slot, and note what is used. */
static Node *
use_columns(Node *node, void *arg)
{
	EvsFold    *fold = arg;
	FieldSelect *select = (FieldSelect *) node;
	int			column;

	if (node == NULL)
		return NULL;
	if (is_event(node))
		fold->needs_record = true;
	column = selected_column(fold, node);
	if (column < 0)
		return expression_tree_mutator(node, use_columns, arg);
	add_fetched(fold, column);
	return (Node *) makeVar(1, column + 1, select->resulttype, select->resulttypmod,
							select->resultcollid, 0);
}

static void
plan_call(EvsFold *fold)
{
	ParamListInfo params = makeParamList(EVENT_PARAM);
	Oid			type = fold->desc->tdtypeid;
	Node	   *call = use_columns((Node *) planned_call(fold->transition, type), fold);

	params->params[STATE_PARAM - 1].ptype = JSONBOID;
	params->params[EVENT_PARAM - 1].ptype = type;
	fold->state = &params->params[STATE_PARAM - 1];
	fold->event = &params->params[EVENT_PARAM - 1];
	fold->event->isnull = false;
	fold->econtext = CreateStandaloneExprContext();
	fold->econtext->ecxt_param_list_info = params;
	fold->econtext->ecxt_scantuple = fold->slot;
	fold->call = ExecInitExprWithParams((Expr *) call, params);
	evs_json_build_prepare(fold->call);
}

/* Into the memory whose turn it is next. */
static void
set_state(EvsFold *fold, Datum state)
{
	int			next = 1 - fold->turn;
	MemoryContext old;

	MemoryContextReset(fold->memory[next]);
	old = MemoryContextSwitchTo(fold->memory[next]);
	fold->state->value = PointerGetDatum(PG_DETOAST_DATUM_COPY(state));
	fold->state->isnull = false;
	fold->turn = next;
	MemoryContextSwitchTo(old);
}

EvsFold *
evs_fold_begin(Oid transition, const Jsonb *initial, bool unknown_is_error)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "evstore fold",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	EvsFold    *fold = palloc0(sizeof(EvsFold));

	fold->context = context;
	fold->transition = transition;
	fold->name = format_procedure(transition);
	fold->unknown_is_error = unknown_is_error;
	fold->desc = lookup_rowtype_tupdesc_copy(evs_catalog()->event_type, -1);
	Assert(fold->desc->natts == EVS_EVENT_NCOLUMNS);
	fold->slot = MakeSingleTupleTableSlot(fold->desc, &TTSOpsVirtual);
	for (int i = 0; i < 2; i++)
		fold->memory[i] = AllocSetContextCreate(context, "evstore fold state",
												ALLOCSET_DEFAULT_SIZES);
	plan_call(fold);
	if (fold->needs_record)
		fold->record = make_expanded_record_from_typeid(fold->desc->tdtypeid, -1, context);
	set_state(fold, PointerGetDatum(initial));
	MemoryContextSwitchTo(old);
	return fold;
}

/* ---- events ---- */

static char *
event_text(const EvsFold *fold, int column)
{
	const TupleTableSlot *slot = fold->slot;

	return slot->tts_isnull[column] ? pstrdup("") : TextDatumGetCString(slot->tts_values[column]);
}

static int64
event_version(const EvsFold *fold)
{
	const TupleTableSlot *slot = fold->slot;

	return slot->tts_isnull[EVS_EVENT_VERSION] ? -1 :
		DatumGetInt64(slot->tts_values[EVS_EVENT_VERSION]);
}

static void
add_context(void *arg)
{
	EvsFold    *fold = arg;

	errcontext("transition %s at version " INT64_FORMAT " of stream \"%s\", of type \"%s\"",
			   fold->name, event_version(fold), event_text(fold, EVS_EVENT_STREAM),
			   event_text(fold, EVS_EVENT_TYPE));
}

static void
throw_unknown(const EvsFold *fold)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "stream", event_text(fold, EVS_EVENT_STREAM));
	evs_detail_int(&detail, "version", event_version(fold));
	evs_detail_string(&detail, "type", event_text(fold, EVS_EVENT_TYPE));
	ereport(ERROR,
			(errcode(ERRCODE_EVS_HANDLER_FAILED),
			 errmsg("transition %s does not know the event type \"%s\"",
					fold->name, event_text(fold, EVS_EVENT_TYPE)),
			 errdetail_internal("%s", evs_detail_end(&detail))));
}

/* The event that the slot has, and the parameter, if that is needed. */
static void
fold_current(EvsFold *fold)
{
	ErrorContextCallback frame = {.previous = error_context_stack, .callback = add_context, .arg = fold};
	Datum		state;
	bool		isnull;

	CHECK_FOR_INTERRUPTS();
	error_context_stack = &frame;
	state = ExecEvalExprSwitchContext(fold->call, fold->econtext, &isnull);
	error_context_stack = frame.previous;
	if (!isnull)
		set_state(fold, state);
	else if (fold->unknown_is_error)
		throw_unknown(fold);
	ResetExprContext(fold->econtext);
}

/* A value that is used several times is fetched, or decompressed, once. */
static void
fetch_columns(EvsFold *fold)
{
	TupleTableSlot *slot = fold->slot;

	for (int i = 0; i < fold->nfetched; i++)
	{
		int			column = fold->fetched[i];
		struct varlena *value = (struct varlena *) DatumGetPointer(slot->tts_values[column]);
		MemoryContext old;

		if (slot->tts_isnull[column] ||
			!(VARATT_IS_EXTERNAL(value) || VARATT_IS_COMPRESSED(value)))
			continue;
		old = MemoryContextSwitchTo(fold->econtext->ecxt_per_tuple_memory);
		slot->tts_values[column] = PointerGetDatum(pg_detoast_datum(value));
		MemoryContextSwitchTo(old);
	}
}

void
evs_fold_event(EvsFold *fold, HeapTupleHeader event)
{
	TupleTableSlot *slot = fold->slot;
	HeapTupleData tuple = {
		.t_len = HeapTupleHeaderGetDatumLength(event),
		.t_data = event,
	};

	ExecClearTuple(slot);
	heap_deform_tuple(&tuple, fold->desc, slot->tts_values, slot->tts_isnull);
	ExecStoreVirtualTuple(slot);
	fetch_columns(fold);
	fold->event->value = HeapTupleHeaderGetDatum(event);
	fold_current(fold);
}

/* Flattening an expanded record would free what it fetches and does not own. */
static void
fold_flattened(EvsFold *fold, const Datum *values, const bool *nulls)
{
	MemoryContext old = MemoryContextSwitchTo(fold->econtext->ecxt_per_tuple_memory);
	Datum		event = HeapTupleGetDatum(heap_form_tuple(fold->desc, unconstify(Datum *, values),
														  unconstify(bool *, nulls)));

	MemoryContextSwitchTo(old);
	evs_fold_event(fold, DatumGetHeapTupleHeader(event));
}

static void
set_record(EvsFold *fold, const Datum *values, const bool *nulls)
{
	ExpandedRecordHeader *record = fold->record;

	memcpy(record->dvalues, values, sizeof(Datum) * EVS_EVENT_NCOLUMNS);
	memcpy(record->dnulls, nulls, sizeof(bool) * EVS_EVENT_NCOLUMNS);
	record->flags |= ER_FLAG_DVALUES_VALID;
	record->flat_size = 0;
	fold->event->value = ExpandedRecordGetRODatum(record);
}

void
evs_fold_columns(EvsFold *fold, const Datum *values, const bool *nulls)
{
	TupleTableSlot *slot = fold->slot;

	if (fold->needs_record && evs_event_has_external(values, nulls))
	{
		fold_flattened(fold, values, nulls);
		return;
	}
	if (fold->needs_record)
		set_record(fold, values, nulls);
	ExecClearTuple(slot);
	memcpy(slot->tts_values, values, sizeof(Datum) * EVS_EVENT_NCOLUMNS);
	memcpy(slot->tts_isnull, nulls, sizeof(bool) * EVS_EVENT_NCOLUMNS);
	ExecStoreVirtualTuple(slot);
	fetch_columns(fold);
	fold_current(fold);
}

Jsonb *
evs_fold_state(EvsFold *fold)
{
	return DatumGetJsonbP(fold->state->value);
}

void
evs_fold_end(EvsFold *fold)
{
	FreeExprContext(fold->econtext, true);
	MemoryContextDelete(fold->context);
}
