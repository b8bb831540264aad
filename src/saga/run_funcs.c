/*
 * run_funcs.c
 *	  run_sagas(): instances go on in the caller's session.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "base/errors.h"
#include "catalog/catalog.h"
#include "saga/run.h"
#include "saga/step.h"
#include "stream/seal.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_run_sagas);

/* As many are looked up at once. */
#define ROUND 64

static void
check_session(void)
{
	if (!evs_instance_is_ours())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this database is a copy, whose sagas do not go on"),
				 errhint("Call evstore.adopt() to let it act.")));
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot run sagas in a transaction with an isolation level above READ COMMITTED")));
	if (evs_saga_in_step())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot run sagas in a step of a saga")));
}

/* Those that the caller may run: one by its name, or all that are his. */
static int64 *
list_definitions(const char *name, int *n)
{
	List	   *sagas;
	int64	   *result;
	ListCell   *cell;

	*n = 0;
	if (name != NULL)
	{
		const EvsSaga *saga = evs_saga_find(name);

		evs_check_may_act_as(evs_saga_owner(saga), saga->owner);
	}
	sagas = evs_saga_kept();
	result = palloc(sizeof(int64) * Max(1, list_length(sagas)));
	foreach(cell, sagas)
	{
		const EvsSaga *saga = lfirst(cell);
		Oid			owner = get_role_oid(saga->owner, true);

		if (saga->paused || (name != NULL && strcmp(name, saga->name) != 0))
			continue;
		if (OidIsValid(owner) && has_privs_of_role(GetUserId(), owner))
			result[(*n)++] = saga->id;
	}
	return result;
}

/* A transition in a subtransaction; NULL, or why it could not be made. */
static char *
try_one(EvsSagaRun *run)
{
	MemoryContext memory = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(memory);
	PG_TRY();
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		evs_saga_run_one(run);
		PopActiveSnapshot();
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(memory);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	CurrentResourceOwner = owner;
	if (error == NULL)
		return NULL;
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error);
	return error->message;
}

/* false: somebody else is at it. */
static bool
run_one(const pg_uuid_t *id, int64 *done)
{
	EvsSagaRun	run = {.id = *id};
	char		text[EVS_UUID_TEXT];
	char	   *error = try_one(&run);

	if (error == NULL)
	{
		*done += run.status == EVS_SAGA_RAN;
		return run.status != EVS_SAGA_BUSY;
	}
	evs_saga_note_error(id, error);
	CommandCounterIncrement();
	evs_uuid_text(id, text);
	ereport(WARNING,
			(errmsg("instance %s of a saga cannot go on now: %s", text, error)));
	return true;
}

/* Once round; false: there was nothing to do any more. */
static bool
run_round(const int64 *definitions, int ndefinitions, int64 max, int64 *done)
{
	EvsSagaCandidate candidates[ROUND];
	TimestampTz next_due;
	int			n = evs_saga_candidates(definitions, ndefinitions, ROUND, candidates, &next_due);
	bool		any = false;

	for (int i = 0; i < n && *done < max; i++)
	{
		CHECK_FOR_INTERRUPTS();
		any |= run_one(&candidates[i].id, done);
	}
	return any;
}

/* run_sagas(max, saga) */
Datum
evs_run_sagas(PG_FUNCTION_ARGS)
{
	int64		max = PG_ARGISNULL(0) ? PG_INT64_MAX : PG_GETARG_INT64(0);
	char	   *name = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	MemoryContext memory;
	MemoryContext old;
	int64	   *definitions;
	int			ndefinitions;
	int64		done = 0;

	PreventCommandIfReadOnly("evstore run_sagas");
	if (max < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max\" must be at least 1")));
	check_session();
	definitions = list_definitions(name, &ndefinitions);
	memory = AllocSetContextCreate(CurrentMemoryContext, "evstore sagas", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(memory);
	while (done < max && run_round(definitions, ndefinitions, max, &done))
		MemoryContextReset(memory);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
	PG_RETURN_INT64(done);
}
