/*
 * step.c
 *	  Steps that are run at once: SQL functions, and events that are appended.
 *
 * They run in a subtransaction of the transition, as the saga's owner.  What they throw
 * undoes them alone, and is for the saga to deal with; unless it is nobody's fault, then
 * it undoes the transition, which is tried again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/errors.h"
#include "exec/act_as.h"
#include "saga/append_step.h"
#include "saga/instance.h"
#include "saga/step.h"
#include "stream/cause.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_current_saga_step);

/* The step that this session is in, or NULL. */
static const EvsStartedStep *running = NULL;

bool
evs_saga_in_step(void)
{
	return running != NULL;
}

char *
evs_saga_idempotency_key(const char *saga_id, const EvsSagaAction *action)
{
	return psprintf("%s/%s/%d%s", saga_id, action->state, action->visit,
					action->compensates != 0 ? "/compensate" : "");
}

/* current_saga_step() */
Datum
evs_current_saga_step(PG_FUNCTION_ARGS)
{
	static const char *const keys[] = {
		"saga_id", "saga", "step", "state", "visit", "attempt", "compensates", "idempotency_key",
	};
	Jsonb	   *values[lengthof(keys)];
	char		id[EVS_UUID_TEXT];

	if (running == NULL)
		PG_RETURN_NULL();
	evs_uuid_text(&running->saga_id, id);
	values[0] = evs_asl_string(id);
	values[1] = evs_asl_string(running->saga);
	values[2] = evs_asl_integer(running->step);
	values[3] = evs_asl_string(running->action->state);
	values[4] = evs_asl_integer(running->action->visit);
	values[5] = evs_asl_integer(running->action->attempt);
	values[6] = running->action->compensates != 0 ?
		evs_asl_integer(running->action->compensates) : evs_asl_null();
	values[7] = evs_asl_string(running->idempotency_key);
	PG_RETURN_JSONB_P(evs_asl_object(lengthof(keys), keys, values));
}

/* ---- SQL functions ---- */

static void
throw_no_function(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_FUNCTION),
			 errmsg("function %s(jsonb) of a saga's step does not exist", name),
			 errhint("It must have one argument of type jsonb, and return jsonb or void.")));
}

/* schema.f or schema.f(jsonb) as a list of names. */
static List *
parse_name(const char *name)
{
	int			len = strlen(name);
	int			suffix = strlen("(jsonb)");

	if (len > suffix && pg_strcasecmp(name + len - suffix, "(jsonb)") == 0)
		len -= suffix;
	return evs_qualified_name_list(pnstrdup(name, len));
}

Oid
evs_saga_find_function(const char *name, Oid owner)
{
	Oid			argument = JSONBOID;
	Oid			function = LookupFuncName(parse_name(name), 1, &argument, true);
	HeapTuple	tuple;
	Form_pg_proc proc;

	tuple = OidIsValid(function) ? SearchSysCache1(PROCOID, ObjectIdGetDatum(function)) : NULL;
	if (!HeapTupleIsValid(tuple))
		throw_no_function(name);
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	if (proc->prokind != PROKIND_FUNCTION || proc->proretset ||
		(proc->prorettype != JSONBOID && proc->prorettype != VOIDOID))
		throw_no_function(name);
	ReleaseSysCache(tuple);
	if (evs_function_aclcheck(function, owner) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, name);
	return function;
}

static Jsonb *
call_function(const EvsActAs *act, Oid function, Jsonb *payload)
{
	FmgrInfo	info;
	bool		isnull;
	Datum		result;

	fmgr_info(function, &info);
	result = evs_act_call(act, &info, JsonbPGetDatum(payload), &isnull);
	/* a function that returns void is not null */
	if (isnull || get_func_rettype(function) == VOIDOID)
		return evs_asl_null();
	return DatumGetJsonbPCopy(result);
}

/* ---- errors ---- */

/* What fail_step() was called with: the error's DETAIL. */
static bool
read_declared(const char *detail, EvsStepResult *result)
{
	MemoryContext memory = CurrentMemoryContext;
	volatile bool ok = false;

	if (detail == NULL)
		return false;
	PG_TRY();
	{
		Jsonb	   *json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(detail)));
		Jsonb	   *error = JB_ROOT_IS_OBJECT(json) ? evs_asl_member(json, "error") : NULL;
		Jsonb	   *cause = JB_ROOT_IS_OBJECT(json) ? evs_asl_member(json, "cause") : NULL;

		if (error != NULL && evs_asl_text(error) != NULL)
		{
			result->error = evs_asl_text(error);
			result->cause = cause != NULL ? evs_asl_text(cause) : NULL;
			ok = true;
		}
	}
	PG_CATCH();
	{
		/* somebody has raised it with a DETAIL of his own */
		MemoryContextSwitchTo(memory);
		FlushErrorState();
	}
	PG_END_TRY();
	return ok;
}

static void
examine_error(ErrorData *error, bool timed_out, double limit, EvsStepResult *result)
{
	result->ok = false;
	result->output = NULL;
	if (timed_out)
	{
		result->error = EVS_ASL_TIMEOUT;
		result->cause = psprintf("the function was ended after %g s", limit);
		return;
	}
	if (evs_error_is_transient(error->sqlerrcode))
		ReThrowError(error);
	if (error->sqlerrcode == ERRCODE_EVS_SAGA_STEP_FAILED && read_declared(error->detail, result))
		return;
	result->error = psprintf("SQL.%s", unpack_sql_state(error->sqlerrcode));
	result->cause = error->message;
}

/* ---- running one ---- */

/* What belongs to a run, and is put back after it. */
typedef struct StepRun
{
	const EvsStartedStep *step;
	double		limit;			/* seconds; 0 = none */
	Oid			owner;
	Oid			function;		/* of an SQL step */
	bool		in_worker;
	EvsActAs	act;
} StepRun;

static void
act(StepRun *run, EvsStepResult *result)
{
	Jsonb	   *payload = run->step->action->payload;

	PushActiveSnapshot(GetTransactionSnapshot());
	evs_act_begin(&run->act, run->owner, "pg_catalog, pg_temp", (int) (run->limit * 1000), true);
	if (OidIsValid(run->function))
		result->output = call_function(&run->act, run->function, payload);
	else
		result->output = evs_saga_append(run->step, payload);
	/* constraints that wait for the end would throw where no step is to blame */
	if (run->in_worker)
		evs_act_check_constraints(&run->act);
	evs_act_end(&run->act);
	PopActiveSnapshot();
	result->ok = true;
}

static void
run_in_subtransaction(StepRun *run, EvsStepResult *result)
{
	MemoryContext memory = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;
	volatile bool timed_out = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(memory);
	PG_TRY();
	{
		act(run, result);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(memory);
		error = CopyErrorData();
		FlushErrorState();
		timed_out = evs_act_timed_out();
		evs_act_abandon(&run->act);
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	CurrentResourceOwner = owner;
	if (error != NULL)
		examine_error(error, timed_out, run->limit, result);
}

void
evs_saga_run_step(const EvsSaga *saga, const EvsSagaDefinition *definition,
				  const EvsStartedStep *step, bool in_worker, EvsStepResult *result)
{
	const EvsResource *resource = step->action->resource;
	const EvsStartedStep *outer = running;
	EvsCause	cause = evs_cause_get();
	EvsCause	own = {
		.causation_id = step->causation_id, .correlation_id = cstring_to_text(step->correlation_id),
	};
	StepRun		run = {
		.step = step, .limit = definition->statement_timeout, .owner = evs_saga_owner(saga),
		.in_worker = in_worker,
	};

	if (resource->kind == EVS_RESOURCE_SQL)
		run.function = evs_saga_find_function(resource->name, run.owner);
	memset(result, 0, sizeof(*result));
	running = step;
	evs_cause_set(own);
	PG_TRY();
	{
		run_in_subtransaction(&run, result);
	}
	PG_FINALLY();
	{
		running = outer;
		evs_cause_set(cause);
	}
	PG_END_TRY();
}
