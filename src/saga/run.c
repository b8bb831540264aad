/*
 * run.c
 *	  One transition of an instance.
 *
 * The instance is locked, what has come in for it is taken, or else it goes on by one
 * piece of work; what the machine says is done; and all of it commits together with the
 * new state, the history and the steps.  So there is nothing to recover after a crash:
 * what had not been committed has not happened.
 *
 * Only who has the instance locked changes it or takes its mail.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/clock.h"
#include "base/debug_point.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "saga/history.h"
#include "saga/mail.h"
#include "saga/reply.h"
#include "saga/rows.h"
#include "saga/run.h"
#include "saga/step.h"
#include "stream/in_flight.h"
#include "compat.h"

/*
 * While an instance has something to do all the time, it keeps the time since when that is
 * so: the index need not change with each transition.  After so many it lets others go
 * first.
 */
#define TURN 64

typedef struct Run
{
	EvsSagaRun *out;
	EvsLockedInstance locked;
	EvsInstance *instance;
	EvsSaga		saga;
	const EvsSagaDefinition *definition;
	EvsExecution *execution;
	EvsTransition transition;
	EvsHistory	history;
	TimestampTz now;
	List	   *replies;		/* of Reply: of steps that were run at once */
	bool		changed;
} Run;

/* What a step that was run at once has come to. */
typedef struct Reply
{
	int64		step;
	EvsStepResult result;
} Reply;

static void apply(Run *run, EvsSagaEvent *event);

/* ---- steps ---- */

static void
fill_step(Run *run, const EvsSagaAction *action, const pg_uuid_t *token, EvsStartedStep *step)
{
	const EvsInstance *instance = run->instance;

	memset(step, 0, sizeof(*step));
	step->saga_id = instance->id;
	step->definition_id = instance->definition_id;
	step->step = action->step;
	step->action = action;
	step->owner = run->saga.owner;
	step->started_after = instance->started_after;
	step->now = run->now;
	step->business_key = instance->business_key;
	step->token = *token;
	step->saga = run->saga.name;
	step->idempotency_key = evs_saga_idempotency_key(instance->id_text, action);
	step->correlation_id = instance->correlation_id;
	step->causation_id = instance->has_cause ? &instance->causation_id : NULL;
	step->priority = instance->priority;
}

static void
add_reply(Run *run, int64 step, const EvsStepResult *result)
{
	Reply	   *reply = palloc(sizeof(Reply));

	reply->step = step;
	reply->result = *result;
	run->replies = lappend(run->replies, reply);
}

/* One whose row waits: it could not be begun, or it has failed at once. */
static void
fail_step(Run *run, const EvsStartedStep *step, const EvsStepResult *result)
{
	evs_reply_taken(&step->saga_id, step->step, result, EVS_OUTCOME_NO_EFFECT, run->now);
	add_reply(run, step->step, result);
}

static void
run_at_once(Run *run, const EvsStartedStep *step)
{
	EvsStepResult result;
	bool		waits = step->action->resource->wait_for_token;

	if (waits)
		evs_rows_insert_step(step, NULL, 0);
	evs_saga_run_step(&run->saga, run->definition, step, run->out->in_worker, &result);
	EVS_DEBUG_POINT("saga_step_run");
	if (waits)
	{
		if (!result.ok)
			fail_step(run, step, &result);
		return;
	}
	evs_rows_insert_step(step, &result, evs_clock_now());
	add_reply(run, step->step, &result);
}

static EvsBeginStep
beginner(EvsResourceKind kind)
{
	switch (kind)
	{
		case EVS_RESOURCE_RELAY:
			return evs_saga_begin_relay;
		case EVS_RESOURCE_ACTIVITY:
			return evs_saga_begin_activity;
		case EVS_RESOURCE_EVENT:
			return evs_saga_begin_event;
		case EVS_RESOURCE_SIGNAL:
			return evs_saga_begin_signal;
		case EVS_RESOURCE_SAGA:
			return evs_saga_begin_child;
		default:
			elog(ERROR, "a step of kind %d is not begun", kind);
	}
}

/* As evstore's owner. */
static bool
begin_as_owner(const EvsStartedStep *step, EvsStepResult *result)
{
	Oid			user;
	int			sec_context;
	bool		ok;

	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(evs_catalog()->owner, sec_context | SECURITY_LOCAL_USERID_CHANGE);
	ok = beginner(step->action->resource->kind) (step, &result->error, &result->cause);
	SetUserIdAndSecContext(user, sec_context);
	return ok;
}

static void
start_step(Run *run, const EvsSagaAction *action, const pg_uuid_t *token)
{
	EvsStartedStep *step = palloc(sizeof(EvsStartedStep));
	EvsStepResult result = {0};

	fill_step(run, action, token, step);
	if (action->resource->kind == EVS_RESOURCE_SQL || action->resource->kind == EVS_RESOURCE_APPEND)
	{
		run_at_once(run, step);
		return;
	}
	evs_rows_insert_step(step, NULL, 0);
	if (!begin_as_owner(step, &result))
		fail_step(run, step, &result);
	CommandCounterIncrement();
}

/* ---- actions ---- */

static void
end_instance(Run *run, const EvsSagaAction *action)
{
	EvsInstance *instance = run->instance;

	instance->error = action->error != NULL ? pstrdup(action->error) : NULL;
	instance->cause = action->cause != NULL ? pstrdup(action->cause) : NULL;
	instance->output = action->data;
	instance->ended_at = action->status == EVS_SAGA_COMPENSATION_FAILED ? 0 : run->now;
	if (instance->has_parent)
		evs_saga_child_ended(&instance->id, &instance->parent_id, instance->parent_step, action);
}

static void
perform(Run *run, const EvsSagaAction *action, const pg_uuid_t *token)
{
	switch (action->kind)
	{
		case EVS_ACTION_RECORD:
			evs_history_add(&run->history, action);
			break;
		case EVS_ACTION_START_STEP:
			start_step(run, action, token);
			break;
		case EVS_ACTION_CANCEL_STEP:
			evs_reply_given_up(&run->instance->id, action, run->now);
			break;
		case EVS_ACTION_END:
			end_instance(run, action);
			break;
	}
}

static void
apply_replies(Run *run)
{
	while (run->replies != NIL)
	{
		Reply	   *reply = linitial(run->replies);
		EvsSagaEvent event = {
			.kind = reply->result.ok ? EVS_SAGA_STEP_SUCCEEDED : EVS_SAGA_STEP_FAILED,
			.step = reply->step, .data = reply->result.output, .error = reply->result.error,
			.cause = reply->result.cause, .outcome = EVS_OUTCOME_NO_EFFECT,
		};

		run->replies = list_delete_first(run->replies);
		apply(run, &event);
	}
}

/* Give the machine an event, and do what it says. */
static void
apply(Run *run, EvsSagaEvent *event)
{
	const EvsInstance *instance = run->instance;
	char		token_text[EVS_UUID_TEXT];
	pg_uuid_t	token;
	ListCell   *cell;

	/* who has it may reply: it must not be guessed */
	if (!pg_strong_random(token.data, UUID_LEN))
		elog(ERROR, "could not generate random bytes");
	token.data[6] = (token.data[6] & 0x0f) | 0x40;
	token.data[8] = (token.data[8] & 0x3f) | 0x80;
	evs_uuid_text(&token, token_text);
	if (event->now == 0)
		event->now = run->now;
	event->random = &pg_global_prng_state;
	event->saga_id = instance->id_text;
	event->saga = run->saga.name;
	event->business_key = instance->business_key;
	event->input = instance->input;
	event->started_at = instance->started_at;
	event->token = token_text;

	run->transition.actions = NIL;
	run->changed |= evs_saga_transition(&run->transition, run->execution, event);
	foreach(cell, run->transition.actions)
		perform(run, lfirst(cell), &token);
	apply_replies(run);
}

/* ---- mail ---- */

static void
take_reply(Run *run, const EvsMail *mail, EvsSagaEvent *event)
{
	EvsStepResult result = {
		.ok = strcmp(mail->kind, EVS_MAIL_SUCCESS) == 0, .output = mail->payload,
		.error = mail->error, .cause = mail->cause,
	};

	event->kind = result.ok ? EVS_SAGA_STEP_SUCCEEDED : EVS_SAGA_STEP_FAILED;
	event->step = mail->step;
	event->data = result.ok && mail->payload == NULL ? evs_asl_null() : mail->payload;
	event->error = mail->error;
	event->cause = mail->cause;
	event->outcome = EVS_OUTCOME_SUCCEEDED;
	if (!result.ok)
		event->outcome = mail->name != NULL &&
			strcmp(mail->name, evs_outcome_name(EVS_OUTCOME_NO_EFFECT)) == 0 ?
			EVS_OUTCOME_NO_EFFECT : EVS_OUTCOME_UNKNOWN;
	result.output = result.ok ? event->data : NULL;
	evs_reply_taken(&run->instance->id, mail->step, &result, event->outcome, run->now);
}

static bool
read_flag(Jsonb *payload, const char *name, bool otherwise)
{
	Jsonb	   *value = payload != NULL && JB_ROOT_IS_OBJECT(payload) ?
		evs_asl_member(payload, name) : NULL;
	JsonbValue	flag;

	if (value == NULL)
		return otherwise;
	flag = evs_asl_unpack(value);
	return flag.type == jbvBool ? flag.val.boolean : otherwise;
}

/* A signal is for the step that waits for it; false: none does, now. */
static bool
take_signal(Run *run, EvsMail *mail, EvsSagaEvent *event)
{
	mail->step = evs_saga_take_signal(&run->instance->id, mail->name, mail->payload);
	if (mail->step == 0)
		return false;
	mail->kind = EVS_MAIL_SUCCESS;
	take_reply(run, mail, event);
	return true;
}

/* false: there is nothing in it for the machine. */
static bool
read_mail(Run *run, EvsMail *mail, EvsSagaEvent *event)
{
	event->data = mail->payload;
	event->error = mail->error;
	event->cause = mail->cause;
	if (strcmp(mail->kind, EVS_MAIL_SUCCESS) == 0 || strcmp(mail->kind, EVS_MAIL_FAILURE) == 0)
		take_reply(run, mail, event);
	else if (strcmp(mail->kind, EVS_MAIL_SIGNAL) == 0)
		return take_signal(run, mail, event);
	else if (strcmp(mail->kind, EVS_MAIL_CANCEL) == 0)
	{
		event->kind = EVS_SAGA_CANCEL;
		event->compensate = read_flag(mail->payload, "compensate", true);
	}
	else if (strcmp(mail->kind, EVS_MAIL_RETRY) == 0)
		event->kind = EVS_SAGA_RETRY;
	else if (strcmp(mail->kind, EVS_MAIL_RESOLVE) == 0)
		event->kind = EVS_SAGA_RESOLVE;
	else
		event->kind = EVS_SAGA_COMPENSATE;
	return true;
}

/* false: there was none. */
static bool
take_mail(Run *run)
{
	Relation	rel = evs_open(evs_catalog()->saga_mail, RowExclusiveLock);
	EvsMail		mail;
	bool		found = evs_rows_oldest_mail(rel, &run->instance->id, &mail);

	if (found)
	{
		EvsSagaEvent event = {0};

		evs_rows_delete_mail(rel, &mail);
		if (read_mail(run, &mail, &event))
			apply(run, &event);
	}
	relation_close(rel, NoLock);
	return found;
}

/* ---- going on ---- */

/* Signs of life do not come as mail: they are looked at when one may be missing. */
static void
heed_heartbeats(Run *run)
{
	EvsHeartbeat *heartbeats;
	int			n = evs_reply_heartbeats(&run->instance->id, run->now, &heartbeats);

	for (int i = 0; i < n; i++)
	{
		EvsSagaEvent event = {
			.kind = EVS_SAGA_HEARTBEAT, .step = heartbeats[i].step, .now = heartbeats[i].at,
		};

		apply(run, &event);
	}
}

/* false: it is not due. */
static bool
advance(Run *run)
{
	EvsSagaEvent event = {.kind = EVS_SAGA_ADVANCE};
	TimestampTz due = evs_execution_due(run->execution);

	if (due != DT_NOBEGIN && due <= run->now)
	{
		heed_heartbeats(run);
		due = evs_execution_due(run->execution);
	}
	if (due != DT_NOBEGIN && due > run->now)
		return false;
	apply(run, &event);
	if (!run->changed)
		elog(ERROR, "an instance of saga \"%s\" has something to do, and does not do it",
			 run->saga.name);
	return true;
}

/* ---- the instance ---- */

static void
set_due(Run *run)
{
	EvsInstance *instance = run->instance;
	TimestampTz due = evs_execution_due(run->execution);

	run->out->due = due == DT_NOBEGIN || due <= run->now;
	if (!run->out->due)
		instance->next_due = due;
	else if (instance->next_due > run->now || instance->transitions % TURN == 0)
		instance->next_due = run->now;
	run->out->next_due = instance->next_due;
}

static void
store(Run *run, Relation rel)
{
	EvsInstance *instance = run->instance;

	instance->status = evs_execution_status(run->execution);
	if (instance->status == EVS_SAGA_RUNNING || instance->status == EVS_SAGA_COMPENSATING)
		instance->ended_at = 0;
	if (instance->status == EVS_SAGA_RUNNING)
	{
		instance->error = instance->cause = NULL;
		instance->output = NULL;
	}
	instance->execution = evs_execution_store(run->execution, run->definition);
	instance->transitions++;
	instance->failures = 0;
	set_due(run);
	/* events that a step has appended are no part of what is done again */
	run->out->durable = run->definition->durable || evs_in_flight_here();
	EVS_DEBUG_POINT("saga_store");
	evs_rows_store_instance(rel, &run->locked, run->now);
	evs_history_write(&run->history);
	EVS_DEBUG_POINT("saga_stored");
}

static void
transition(Run *run, Relation rel)
{
	TimestampTz was_due = run->instance->next_due;
	bool		ran;

	run->definition = evs_saga_definition(run->instance->definition_id, run->instance->version);
	run->execution = evs_execution_load(run->instance->execution, run->definition);
	run->transition.definition = run->definition;
	run->transition.lookup = evs_reply_lookup;
	run->transition.lookup_arg = &run->instance->id;
	run->history.instance = run->instance;

	ran = take_mail(run) || advance(run);
	run->out->status = ran ? EVS_SAGA_RAN : EVS_SAGA_IDLE;
	if (run->changed)
	{
		store(run, rel);
		return;
	}
	set_due(run);
	if (run->instance->next_due != was_due || run->instance->failures > 0)
	{
		run->instance->failures = 0;
		evs_rows_store_instance(rel, &run->locked, run->now);
	}
}

/* Nobody will ever take in what has come for it. */
static void
forget_mail(const pg_uuid_t *id)
{
	static EvsSpiPlan plan = {
		.sql = "DELETE FROM evstore.saga_mail m WHERE m.saga_id = $1",
		.nargs = 1, .types = {UUIDOID},
	};
	Datum		arg = UUIDPGetDatum(id);

	(void) evs_spi_call(&plan, &arg, NULL);
}

/* Has it failed, so that it is to be left alone for a while? */
static bool
is_backing_off(const Run *run)
{
	return run->instance->failures > 0 && run->instance->next_due > run->now;
}

static void
run_locked(Run *run, Relation rel)
{
	const EvsSaga *saga = evs_saga_find_kept(run->instance->definition_id);

	if (saga == NULL || saga->paused)
		return;
	run->saga = *saga;
	run->saga.name = pstrdup(saga->name);
	run->saga.owner = pstrdup(saga->owner);
	run->now = evs_clock_now();
	run->out->next_due = run->instance->next_due;
	if (is_backing_off(run))
		run->out->status = EVS_SAGA_IDLE;
	else
		transition(run, rel);
}

void
evs_saga_run_one(EvsSagaRun *out)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "evstore saga",
												 ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	Relation	rel = evs_open(evs_catalog()->saga_instance, RowExclusiveLock);
	Run			run = {.out = out};
	EvsLockResult result;

	out->status = EVS_SAGA_BUSY;
	out->due = false;
	out->next_due = DT_NOEND;
	out->durable = false;
	result = evs_rows_lock_instance(rel, &out->id, &run.locked);
	if (result == EVS_LOCKED)
	{
		run.instance = &run.locked.instance;
		EVS_DEBUG_POINT("saga_locked");
		run_locked(&run, rel);
		evs_rows_unlock_instance(&run.locked);
	}
	else if (result == EVS_LOCK_GONE)
		forget_mail(&out->id);
	relation_close(rel, NoLock);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
}

void
evs_saga_note_error(const pg_uuid_t *id, const char *message)
{
	static EvsSpiPlan plan = {
		.sql = "UPDATE evstore.saga_instance i SET failures = i.failures + 1, last_error = $2,"
		" updated_at = $3, next_due = $3 + evstore.retry_delay("
		" '{\"initial\": 0.2, \"factor\": 2, \"max\": 60, \"jitter\": 0.5}', i.failures + 1)"
		" WHERE i.id = $1",
		.nargs = 3, .types = {UUIDOID, TEXTOID, TIMESTAMPTZOID},
	};
	Datum		args[] = {
		UUIDPGetDatum(id), CStringGetTextDatum(message), TimestampTzGetDatum(evs_clock_now()),
	};

	(void) evs_spi_call(&plan, args, NULL);
}
