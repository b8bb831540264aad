/*
 * evaluate.c
 *	  Paths and templates of a state, in its scope: input, context object, variables.
 *
 * The context object is made when there is something that may look at it.
 */
#include "postgres.h"

#include "saga/json_write.h"
#include "saga/move.h"

/* ---- the context object ---- */

static void
write_execution(EvsJson *json, const EvsMove *move)
{
	const EvsSagaEvent *event = move->event;

	evs_json_key(json, "Execution");
	evs_json_begin_object(json);
	evs_json_text(json, "Id", event->saga_id);
	evs_json_value(json, "Input", move->execution->input);
	evs_json_text(json, "Name", event->business_key != NULL ? event->business_key : event->saga_id);
	evs_json_text(json, "StartTime", evs_asl_format_time(event->started_at));
	evs_json_end(json);
	evs_json_key(json, "StateMachine");
	evs_json_begin_object(json);
	evs_json_text(json, "Id", event->saga);
	evs_json_text(json, "Name", event->saga);
	evs_json_end(json);
	if (event->token != NULL)
	{
		evs_json_key(json, "Task");
		evs_json_begin_object(json);
		evs_json_text(json, "Token", event->token);
		evs_json_end(json);
	}
}

static void
write_state(EvsJson *json, const char *name, TimestampTz entered, int64 retries)
{
	evs_json_key(json, "State");
	evs_json_begin_object(json);
	evs_json_text(json, "EnteredTime", evs_asl_format_time(entered));
	evs_json_text(json, "Name", name);
	evs_json_int(json, "RetryCount", retries);
	evs_json_end(json);
}

static void
write_item(EvsJson *json, int64 index, Jsonb *value)
{
	evs_json_key(json, "Map");
	evs_json_begin_object(json);
	evs_json_key(json, "Item");
	evs_json_begin_object(json);
	evs_json_int(json, "Index", index);
	evs_json_value(json, "Value", value);
	evs_json_end(json);
	evs_json_end(json);
}

/* The item of the innermost Map that a thread is in. */
static void
write_item_of(EvsJson *json, EvsMove *move, const EvsThread *thread)
{
	const EvsThread *parent;

	for (; (parent = evs_thread_find(move->execution, thread->parent)) != NULL; thread = parent)
		if (evs_thread_state(parent)->type == EVS_STATE_MAP)
		{
			EvsEvaluation e;
			Jsonb	   *items;

			evs_evaluation_init(&e, move, parent);
			items = evs_map_items(&e);
			write_item(json, thread->index, items == NULL ? evs_asl_null() : evs_asl_element(items, thread->index));
			return;
		}
}

static void
prepare(EvsEvaluation *e)
{
	const EvsThread *thread = e->thread;
	const EvsSagaEvent *event = e->move->event;
	EvsJson		json = {0};

	if (e->prepared)
		return;
	e->prepared = true;
	evs_json_begin_object(&json);
	write_execution(&json, e->move);
	write_state(&json, evs_thread_state(thread)->name,
				thread->entered != 0 ? thread->entered : event->now, Max(thread->attempt - 1, 0));
	if (e->item != NULL)
		write_item(&json, e->item_index, e->item);
	else
		write_item_of(&json, e->move, thread);
	e->scope.context = evs_json_finish(&json);
	e->scope.variables = evs_thread_variables(e->move->execution, thread);
	e->scope.random = event->random;
}

Jsonb *
evs_compensator_context(const EvsMove *move, const char *state, int64 attempt)
{
	EvsJson		json = {0};

	evs_json_begin_object(&json);
	write_execution(&json, move);
	write_state(&json, state, move->event->now, attempt - 1);
	return evs_json_finish(&json);
}

/* ---- evaluation ---- */

void
evs_evaluation_init(EvsEvaluation *e, EvsMove *move, const EvsThread *thread)
{
	memset(e, 0, sizeof(*e));
	e->move = move;
	e->thread = thread;
}

void
evs_evaluation_item(EvsEvaluation *e, int64 index, Jsonb *value)
{
	e->item = value;
	e->item_index = index;
	e->prepared = false;
}

static const EvsAslScope *
scope_of(EvsEvaluation *e, Jsonb *input)
{
	prepare(e);
	e->scope.input = input;
	return &e->scope;
}

Jsonb *
evs_evaluate_path(EvsEvaluation *e, const EvsAslPath *path, Jsonb *input, const char *field)
{
	Jsonb	   *value;

	/* Most paths begin at the input: they need no context object. */
	if (evs_asl_path_is_reference(path))
		e->scope.input = input;
	else
		scope_of(e, input);
	value = evs_asl_path_get(path, &e->scope);
	if (value == NULL)
		evs_asl_fail(&e->error, EVS_ASL_RUNTIME, "%s \"%s\" of state \"%s\" names nothing in its input",
					 field, evs_asl_path_text(path), evs_thread_state(e->thread)->name);
	return value;
}

Jsonb *
evs_evaluate_template(EvsEvaluation *e, const EvsAslTemplate *template, Jsonb *input)
{
	return evs_asl_template_apply(template, scope_of(e, input), &e->error);
}

Jsonb *
evs_evaluate_expression(EvsEvaluation *e, const EvsAslExpression *expression, Jsonb *input)
{
	return evs_asl_expression_get(expression, scope_of(e, input), &e->error);
}

bool
evs_evaluate_rule(EvsEvaluation *e, const EvsAslRule *rule, Jsonb *input)
{
	return evs_asl_rule_matches(rule, scope_of(e, input), &e->error);
}

/* ---- InputPath, OutputPath ---- */

bool
evs_within_limit(EvsEvaluation *e, Jsonb *data, const char *what)
{
	int			limit = e->move->definition->max_data;

	if (limit > 0 && VARSIZE_ANY(data) > limit)
	{
		evs_asl_fail(&e->error, EVS_ASL_DATA_LIMIT, "the %s of state \"%s\" has %d bytes, more than %d",
					 what, evs_thread_state(e->thread)->name, (int) VARSIZE_ANY(data), limit);
		return false;
	}
	return true;
}

Jsonb *
evs_effective_input(EvsEvaluation *e)
{
	const EvsSagaState *state = evs_thread_state(e->thread);
	Jsonb	   *input = e->thread->input;

	if (state->discard_input)
		return evs_asl_empty_object();
	if (state->input_path != NULL)
		input = evs_evaluate_path(e, state->input_path, input, "InputPath");
	return input;
}

Jsonb *
evs_effective_output(EvsEvaluation *e, Jsonb *output)
{
	const EvsSagaState *state = evs_thread_state(e->thread);

	if (state->discard_output)
		return evs_asl_empty_object();
	if (state->output_path != NULL)
		output = evs_evaluate_path(e, state->output_path, output, "OutputPath");
	return output != NULL && evs_within_limit(e, output, "output") ? output : NULL;
}
