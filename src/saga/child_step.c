/*
 * child_step.c
 *	  Steps that are sagas themselves.
 *
 * A step that waits (.sync) is the parent of the instance that it starts: what becomes of
 * it is the step's reply.  To withdraw the step cancels the child.  Where such a step has
 * no compensator of its own, its child is compensated as a whole: the compensator is a
 * step of the same resource, whose row names the same child, and which is done when the
 * child has ended once more.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "exec/spi.h"
#include "saga/instance.h"
#include "saga/mail.h"
#include "saga/step.h"
#include "compat.h"

/* Children of children of … at most. */
#define DEPTH_MAX 32

#define ERROR_NOT_FOUND "Saga.NotFound"
#define ERROR_DUPLICATE "Saga.DuplicateKey"
#define ERROR_DEPTH "Saga.TooDeep"
#define ERROR_FAILED "Saga.Failed"
#define ERROR_COMPENSATED "Saga.Compensated"
#define ERROR_CANCELLED "Saga.Cancelled"
#define ERROR_NOT_COMPENSATED "Saga.NotCompensated"

static bool
fail(const char *name, char *message, const char **error, char **cause)
{
	*error = name;
	*cause = message;
	return false;
}

/* ---- starting one ---- */

/* How many instances there are above this one, itself included. */
static int
depth_of(const pg_uuid_t *saga_id)
{
	static EvsSpiPlan plan = {
		.sql = "WITH RECURSIVE up (id, n) AS (SELECT $1, 1 UNION ALL"
		"  SELECT i.parent_id, u.n + 1 FROM up u JOIN evstore.saga_instance i ON i.id = u.id"
		"  WHERE i.parent_id IS NOT NULL AND u.n <= $2)"
		" SELECT max(u.n) FROM up u",
		.nargs = 2, .types = {UUIDOID, INT4OID},
	};
	Datum		args[] = {UUIDPGetDatum(saga_id), Int32GetDatum(DEPTH_MAX)};
	EvsSpiRows	rows = evs_spi_call(&plan, args, NULL);

	return DatumGetInt32(rows.values[0]);
}

static void
set_child(const EvsStartedStep *step, const pg_uuid_t *child_id)
{
	static EvsSpiPlan plan = {
		.sql = "UPDATE evstore.saga_step s SET child_id = $3 WHERE s.saga_id = $1 AND s.step = $2",
		.nargs = 3, .types = {UUIDOID, INT8OID, UUIDOID},
	};
	Datum		args[] = {
		UUIDPGetDatum(&step->saga_id), Int64GetDatum(step->step), UUIDPGetDatum(child_id),
	};

	(void) evs_spi_call(&plan, args, NULL);
}

/* Nobody waits for it: the step is done. */
static void
reply_with_id(const EvsStartedStep *step, const pg_uuid_t *child_id)
{
	char		text[EVS_UUID_TEXT];
	Datum		output;

	evs_uuid_text(child_id, text);
	output = DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf("{\"saga_id\": \"%s\"}", text)));
	(void) evs_saga_step_done(&step->saga_id, step->definition_id, step->step,
							  DatumGetJsonbP(output));
}

static const EvsSaga *
find_saga(const char *name)
{
	ListCell   *cell;

	foreach(cell, evs_saga_kept())
		if (strcmp(((EvsSaga *) lfirst(cell))->name, name) == 0)
			return lfirst(cell);
	return NULL;
}

/* Steps run as the saga's owner, so he can only start what he could start by himself. */
static bool
may_start(const EvsStartedStep *step, const EvsSaga *saga)
{
	Oid			owner = get_role_oid(step->owner, true);
	Oid			child_owner = get_role_oid(saga->owner, true);

	return OidIsValid(owner) && OidIsValid(child_owner) && has_privs_of_role(owner, child_owner);
}

static bool
start_child(const EvsStartedStep *step, const char **error, char **cause)
{
	const EvsResource *resource = step->action->resource;
	const EvsSaga *saga = find_saga(resource->name);
	EvsInstanceStart start = {
		.saga = saga,
		.input = step->action->payload,
		.priority = step->priority,
		.correlation_id = step->correlation_id,
		.causation_id = step->causation_id,
		.started_after = -1,
	};
	pg_uuid_t	child_id;
	bool		is_new;

	if (saga == NULL)
		return fail(ERROR_NOT_FOUND, psprintf("saga \"%s\" does not exist", resource->name),
					error, cause);
	if (!may_start(step, saga))
		return fail(EVS_ASL_PERMISSIONS, psprintf("role \"%s\" cannot act as the owner of saga \"%s\"",
												  step->owner, saga->name), error, cause);
	if (VARSIZE(start.input) > evs_saga_definition(saga->id, saga->version)->max_data)
		return fail(EVS_ASL_DATA_LIMIT, psprintf("saga \"%s\" does not take so much data", saga->name),
					error, cause);
	if (resource->sync)
	{
		start.parent_id = &step->saga_id;
		start.parent_step = step->step;
		if (depth_of(&step->saga_id) >= DEPTH_MAX)
			return fail(ERROR_DEPTH, psprintf("there are %d sagas above this one already", DEPTH_MAX),
						error, cause);
	}
	is_new = evs_instance_start(&start, &child_id);
	if (resource->sync && !is_new)
		return fail(ERROR_DUPLICATE, psprintf("saga \"%s\" has an instance with this business key",
											  saga->name), error, cause);
	set_child(step, &child_id);
	if (!resource->sync)
		reply_with_id(step, &child_id);
	return true;
}

/* ---- compensating one ---- */

typedef struct Child
{
	pg_uuid_t	id;
	int64		definition_id;
	int			version;
	char	   *status;
	bool		has_ended;
	Jsonb	   *execution;
} Child;

/*
 * The child of a step, locked: it does not end before this transaction has, or it has done
 * so already.  Otherwise its end would not see the step that is about to wait for it.
 */
static bool
find_child(const pg_uuid_t *saga_id, int64 step, Child *child)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT i.id, i.definition_id, i.version, i.status, i.ended_at IS NOT NULL, i.execution"
		" FROM evstore.saga_step s JOIN evstore.saga_instance i ON i.id = s.child_id"
		" WHERE s.saga_id = $1 AND s.step = $2 FOR NO KEY UPDATE OF i",
		.nargs = 2, .types = {UUIDOID, INT8OID},
	};
	Datum		args[] = {UUIDPGetDatum(saga_id), Int64GetDatum(step)};
	EvsSpiRows	rows = evs_spi_call(&plan, args, NULL);

	if (rows.nrows == 0)
		return false;
	child->id = *DatumGetUUIDP(rows.values[0]);
	child->definition_id = DatumGetInt64(rows.values[1]);
	child->version = DatumGetInt32(rows.values[2]);
	child->status = TextDatumGetCString(rows.values[3]);
	child->has_ended = DatumGetBool(rows.values[4]);
	child->execution = DatumGetJsonbP(rows.values[5]);
	return true;
}

static void
cancel(const Child *child, const char *reason)
{
	Datum		payload = DirectFunctionCall1(jsonb_in, CStringGetDatum("{\"compensate\": true}"));

	evs_saga_mail(&child->id, child->definition_id, EVS_MAIL_CANCEL, 0, NULL,
				  DatumGetJsonbP(payload), NULL, reason);
}

static void
order_compensation(const Child *child)
{
	evs_saga_mail(&child->id, child->definition_id, EVS_MAIL_COMPENSATE, 0, NULL, NULL, NULL,
				  "the saga that has started it is compensated");
}

/*
 * Is there anything that an order to compensate would undo?  Not if it has been undone,
 * whatever the child's end is called.
 */
static bool
can_compensate(const Child *child)
{
	const EvsSagaDefinition *definition = evs_saga_definition(child->definition_id, child->version);

	return evs_execution_can_compensate(evs_execution_load(child->execution, definition));
}

/* One that is compensating already, for it was withdrawn, is waited for. */
static bool
compensate_child(const EvsStartedStep *step, const char **error, char **cause)
{
	Child		child;
	bool		found = find_child(&step->saga_id, step->action->compensates, &child);

	if (found)
		set_child(step, &child.id);
	if (found && can_compensate(&child))
		order_compensation(&child);
	else if (found && strcmp(child.status, "failed") == 0)
		return fail(ERROR_NOT_COMPENSATED, "the saga has failed, and is not to be compensated",
					error, cause);
	else if (!found || child.has_ended)
		(void) evs_saga_step_done(&step->saga_id, step->definition_id, step->step,
								  evs_asl_empty_object());
	return true;
}

bool
evs_saga_begin_child(const EvsStartedStep *step, const char **error, char **cause)
{
	if (step->action->compensates != 0)
		return compensate_child(step, error, cause);
	return start_child(step, error, cause);
}

/* Not locked: one that ends by itself, now, has no use for the mail. */
void
evs_saga_cancel_child(const pg_uuid_t *saga_id, int64 step)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT i.id, i.definition_id"
		" FROM evstore.saga_step s JOIN evstore.saga_instance i ON i.id = s.child_id"
		" WHERE s.saga_id = $1 AND s.step = $2 AND i.ended_at IS NULL",
		.nargs = 2, .types = {UUIDOID, INT8OID},
	};
	Datum		args[] = {UUIDPGetDatum(saga_id), Int64GetDatum(step)};
	EvsSpiRows	rows = evs_spi_call(&plan, args, NULL);
	Child		child;

	if (rows.nrows == 0)
		return;
	child.id = *DatumGetUUIDP(rows.values[0]);
	child.definition_id = DatumGetInt64(rows.values[1]);
	cancel(&child, "the saga that has started it does not wait for it any more");
}

/* ---- its end ---- */

/* A step that waits for it: the one that started it, or one that is to compensate it. */
typedef struct Waiting
{
	pg_uuid_t	saga_id;
	int64		definition_id;
	int64		step;
	bool		compensates;
	bool		was_undoing;	/* this is the end of the child's compensation */
} Waiting;

/* Of the child, the row is still the one from before its end. */
static EvsSpiRows
find_waiting(const pg_uuid_t *child_id)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT s.saga_id, p.definition_id, s.step, s.compensates IS NOT NULL,"
		" c.status IN ('compensating', 'compensation_failed'), c.definition_id"
		" FROM evstore.saga_step s JOIN evstore.saga_instance p ON p.id = s.saga_id"
		"  JOIN evstore.saga_instance c ON c.id = s.child_id"
		" WHERE s.child_id = $1 AND s.status = 'running' AND s.kind = 'saga'",
		.nargs = 1, .types = {UUIDOID},
	};
	Datum		arg = UUIDPGetDatum(child_id);

	return evs_spi_call_latest(&plan, &arg, NULL);
}

/* Has it ended without an effect? */
static bool
is_undone(const Waiting *waiting, const EvsSagaAction *end)
{
	return end->status == EVS_SAGA_COMPENSATED ||
		(waiting->was_undoing && (end->status == EVS_SAGA_CANCELLED || end->status == EVS_SAGA_TIMED_OUT));
}

static const char *
error_of(const EvsSagaAction *end)
{
	if (end->error != NULL)
		return end->error;
	switch (end->status)
	{
		case EVS_SAGA_COMPENSATED:
			return ERROR_COMPENSATED;
		case EVS_SAGA_CANCELLED:
			return ERROR_CANCELLED;
		case EVS_SAGA_TIMED_OUT:
			return EVS_ASL_TIMEOUT;
		default:
			return ERROR_FAILED;
	}
}

static void
reply_to_step(const Waiting *waiting, const EvsSagaAction *end)
{
	if (end->status == EVS_SAGA_SUCCEEDED)
		(void) evs_saga_step_done(&waiting->saga_id, waiting->definition_id, waiting->step,
								  end->data != NULL ? end->data : evs_asl_null());
	else
		(void) evs_saga_step_failed(&waiting->saga_id, waiting->definition_id, waiting->step,
									error_of(end), end->cause, is_undone(waiting, end));
}

/* One that has ended before it heard that it is to be undone is told again. */
static void
reply_to_compensator(const Waiting *waiting, const Child *child, const EvsSagaAction *end)
{
	if (is_undone(waiting, end))
		(void) evs_saga_step_done(&waiting->saga_id, waiting->definition_id, waiting->step,
								  evs_asl_empty_object());
	else if (waiting->was_undoing)
		(void) evs_saga_step_failed(&waiting->saga_id, waiting->definition_id, waiting->step,
									ERROR_NOT_COMPENSATED,
									psprintf("the saga has ended with the status %s",
											 evs_saga_status_name(end->status)), false);
	else
		order_compensation(child);
}

void
evs_saga_child_ended(const pg_uuid_t *child_id, const pg_uuid_t *parent_id, int64 parent_step,
					 const EvsSagaAction *end)
{
	EvsSpiRows	rows = find_waiting(child_id);

	for (uint64 i = 0; i < rows.nrows; i++)
	{
		const Datum *values = rows.values + i * rows.ncolumns;
		Waiting		waiting = {
			.saga_id = *DatumGetUUIDP(values[0]),
			.definition_id = DatumGetInt64(values[1]),
			.step = DatumGetInt64(values[2]),
			.compensates = DatumGetBool(values[3]),
			.was_undoing = DatumGetBool(values[4]),
		};
		Child		child = {.id = *child_id, .definition_id = DatumGetInt64(values[5])};

		if (waiting.compensates)
			reply_to_compensator(&waiting, &child, end);
		else
			reply_to_step(&waiting, end);
	}
}
