/*
 * state.c
 *	  States: their fields, by type.
 *
 * A field that a state's type does not have is reported once, and not looked at.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "saga/compile.h"
#include "compat.h"

#define TASK		(1 << EVS_STATE_TASK)
#define CHOICE		(1 << EVS_STATE_CHOICE)
#define WAIT		(1 << EVS_STATE_WAIT)
#define PASS		(1 << EVS_STATE_PASS)
#define SUCCEED		(1 << EVS_STATE_SUCCEED)
#define FAIL		(1 << EVS_STATE_FAIL)
#define PARALLEL	(1 << EVS_STATE_PARALLEL)
#define MAP			(1 << EVS_STATE_MAP)
#define ANY			(TASK | CHOICE | WAIT | PASS | SUCCEED | FAIL | PARALLEL | MAP)
#define WORKS		(TASK | PARALLEL | MAP)

/* By EvsStateType. */
static const char *const type_names[] = {
	"Task", "Choice", "Wait", "Pass", "Succeed", "Fail", "Parallel", "Map", NULL
};

/* Which types have which fields. */
static const struct
{
	const char *name;
	int			types;
}			fields[] = {
	{"Type", ANY}, {"Comment", ANY}, {"QueryLanguage", ANY},
	{"InputPath", ANY & ~FAIL}, {"OutputPath", ANY & ~FAIL},
	{"Next", WORKS | WAIT | PASS}, {"End", WORKS | WAIT | PASS},
	{"Assign", ANY & ~(SUCCEED | FAIL)},
	{"ResultPath", WORKS | PASS}, {"Parameters", WORKS | PASS}, {"ResultSelector", WORKS},
	{"Retry", WORKS}, {"Catch", WORKS},
	{"Resource", TASK}, {"TimeoutSeconds", TASK}, {"TimeoutSecondsPath", TASK},
	{"HeartbeatSeconds", TASK}, {"HeartbeatSecondsPath", TASK},
	{"Choices", CHOICE}, {"Default", CHOICE},
	{"Seconds", WAIT}, {"SecondsPath", WAIT}, {"Timestamp", WAIT}, {"TimestampPath", WAIT},
	{"Result", PASS},
	{"Error", FAIL}, {"ErrorPath", FAIL}, {"Cause", FAIL}, {"CausePath", FAIL},
	{"Branches", PARALLEL},
	{"ItemProcessor", MAP}, {"Iterator", MAP}, {"ItemsPath", MAP}, {"ItemSelector", MAP},
	{"MaxConcurrency", MAP}, {"MaxConcurrencyPath", MAP},
};

/* Fields of the language that are refused, and why. */
static const struct
{
	const char *name;
	const char *why;
}			refused[] = {
	{"Arguments", "belongs to JSONata, which is not supported"},
	{"Output", "belongs to JSONata, which is not supported"},
	{"Items", "belongs to JSONata, which is not supported"},
	{"Credentials", "is not supported: steps run as the owner of the saga"},
	{"ItemReader", "belongs to distributed Map, which is not supported"},
	{"ItemBatcher", "belongs to distributed Map, which is not supported"},
	{"ResultWriter", "belongs to distributed Map, which is not supported"},
	{"Label", "belongs to distributed Map, which is not supported"},
	{"ToleratedFailureCount", "belongs to distributed Map, which is not supported"},
	{"ToleratedFailureCountPath", "belongs to distributed Map, which is not supported"},
	{"ToleratedFailurePercentage", "belongs to distributed Map, which is not supported"},
	{"ToleratedFailurePercentagePath", "belongs to distributed Map, which is not supported"},
};

typedef struct Reader
{
	EvsCompiler *compiler;
	const EvsMachine *machine;
	const EvsPart *object;
	EvsSagaState *state;
} Reader;

/* ---- fields ---- */

static bool
type_has(EvsStateType type, const char *name)
{
	for (int i = 0; i < lengthof(fields); i++)
		if (strcmp(fields[i].name, name) == 0)
			return (fields[i].types & (1 << type)) != 0;
	return false;
}

static const char *
why_refused(const char *name)
{
	for (int i = 0; i < lengthof(refused); i++)
		if (strcmp(refused[i].name, name) == 0)
			return refused[i].why;
	return NULL;
}

static void
check_fields(Reader *reader)
{
	EvsPart		member;
	EvsEach		each;

	evs_part_begin(&each, reader->object);
	while (evs_part_next(&each, reader->object, &member))
	{
		const char *why = why_refused(member.key);

		if (why != NULL)
			evs_compile_error(reader->compiler, &member, "%s", why);
		else if (!type_has(reader->state->type, member.key))
			evs_compile_error(reader->compiler, &member, "is not known: a %s state has no such field",
							  type_names[reader->state->type]);
	}
}

/* Is it there, in a state that may have it? */
static bool
get(Reader *reader, const char *name, EvsPart *field)
{
	return type_has(reader->state->type, name) && evs_part_get(reader->object, name, field);
}

/* At most one of the two: report the second. */
static void
check_not_both(Reader *reader, const char *one, const char *other)
{
	EvsPart		field;

	if (get(reader, one, &field) && get(reader, other, &field))
		evs_compile_error(reader->compiler, &field, "is one too many: there is %s", one);
}

/* ---- fields of many types ---- */

static void
read_common(Reader *reader)
{
	EvsPart		field;

	if (get(reader, "Comment", &field))
		(void) evs_part_string(reader->compiler, &field);
	evs_compile_query_language(reader->compiler, reader->object);
}

/* null: nothing instead of what it would name. */
static void
read_path(Reader *reader, const char *name, EvsAslPath **path, bool *discard)
{
	EvsPart		field;

	if (!get(reader, name, &field))
		return;
	*discard = evs_part_is_null(&field);
	if (*discard)
		return;
	*path = strcmp(name, "ResultPath") == 0 ? evs_part_reference_path(reader->compiler, &field) :
		evs_part_path(reader->compiler, &field);
}

static void
read_data_flow(Reader *reader)
{
	EvsSagaState *state = reader->state;
	EvsPart		field;

	read_path(reader, "InputPath", &state->input_path, &state->discard_input);
	read_path(reader, "OutputPath", &state->output_path, &state->discard_output);
	read_path(reader, "ResultPath", &state->result_path, &state->discard_result);
	check_not_both(reader, "ItemSelector", "Parameters");
	if (get(reader, "Parameters", &field) || get(reader, "ItemSelector", &field))
		state->parameters = evs_part_template(reader->compiler, &field);
	if (get(reader, "ResultSelector", &field))
		state->result_selector = evs_part_template(reader->compiler, &field);
	if (get(reader, "Assign", &field))
		state->assign = evs_part_assign(reader->compiler, &field);
}

static void
read_next(Reader *reader)
{
	EvsPart		field;
	bool		ends = false;

	reader->state->next = -1;
	if (!type_has(reader->state->type, "Next"))
		return;
	if (get(reader, "End", &field) && evs_part_bool(reader->compiler, &field, &ends) && !ends)
		evs_compile_error(reader->compiler, &field, "must be true, or not there");
	if (get(reader, "Next", &field))
	{
		reader->state->next = evs_compile_target(reader->compiler, reader->machine, &field);
		check_not_both(reader, "Next", "End");
	}
	else if (!evs_part_has(reader->object, "End"))
		evs_compile_error(reader->compiler, reader->object, "has neither Next nor End");
}

static void
read_handlers(Reader *reader)
{
	EvsSagaState *state = reader->state;
	EvsPart		field;

	if (get(reader, "Retry", &field))
		state->retriers = evs_compile_retry(reader->compiler, &field, &state->nretriers);
	if (get(reader, "Catch", &field))
		state->catchers = evs_compile_catch(reader->compiler, reader->machine, &field, &state->ncatchers);
}

/* ---- types ---- */

static void
read_time_limit(Reader *reader, const char *name, const char *path_name, double *seconds, EvsAslPath **path)
{
	EvsPart		field;
	int64		value = 0;

	check_not_both(reader, name, path_name);
	if (get(reader, name, &field))
		(void) evs_part_whole(reader->compiler, &field, 1, EVS_ASL_SECONDS_MAX, &value);
	*seconds = value;
	if (get(reader, path_name, &field))
		*path = evs_part_definite_path(reader->compiler, &field);
}

static void
read_task(Reader *reader)
{
	EvsSagaState *state = reader->state;
	EvsPart		field;

	if (!get(reader, "Resource", &field))
		evs_compile_missing(reader->compiler, reader->object, "Resource");
	else if (evs_compile_resource(reader->compiler, &field, &state->resource))
		evs_compile_use(reader->compiler, &field, &state->resource, false);
	read_time_limit(reader, "TimeoutSeconds", "TimeoutSecondsPath", &state->timeout, &state->timeout_path);
	read_time_limit(reader, "HeartbeatSeconds", "HeartbeatSecondsPath", &state->heartbeat, &state->heartbeat_path);
	if (state->timeout > 0 && state->heartbeat >= state->timeout && get(reader, "HeartbeatSeconds", &field))
		evs_compile_error(reader->compiler, &field, "must be less than TimeoutSeconds, which is %.0f", state->timeout);
}

static void
read_choice_rule(Reader *reader, const EvsPart *element, EvsChoice *choice)
{
	EvsPart		field;

	choice->next = -1;
	if (!evs_part_object(reader->compiler, element))
		return;
	choice->rule = evs_part_rule(reader->compiler, element);
	choice->label = evs_rule_label(element);
	if (evs_part_get(element, "Next", &field))
		choice->next = evs_compile_target(reader->compiler, reader->machine, &field);
	else
		evs_compile_missing(reader->compiler, element, "Next");
	if (evs_part_get(element, "Assign", &field))
		choice->assign = evs_part_assign(reader->compiler, &field);
	if (evs_part_get(element, "Comment", &field))
		(void) evs_part_string(reader->compiler, &field);
	if (evs_part_get(element, "Output", &field))
		evs_compile_error(reader->compiler, &field, "%s", why_refused("Output"));
}

static void
read_choice(Reader *reader)
{
	EvsSagaState *state = reader->state;
	EvsPart		field;
	EvsPart		element;
	EvsEach		each;

	state->default_next = -1;
	if (get(reader, "Default", &field))
		state->default_next = evs_compile_target(reader->compiler, reader->machine, &field);
	else
		evs_compile_warning(reader->compiler, reader->object, "has no Default: the error States.NoChoiceMatched if no rule matches");
	if (!get(reader, "Choices", &field))
	{
		evs_compile_missing(reader->compiler, reader->object, "Choices");
		return;
	}
	if (!evs_part_array(reader->compiler, &field, false))
		return;
	state->choices = palloc0(sizeof(EvsChoice) * evs_part_count(&field));
	evs_part_begin(&each, &field);
	while (evs_part_next(&each, &field, &element))
		read_choice_rule(reader, &element, &state->choices[state->nchoices++]);
}

/* A path only: to compute something is for Parameters. */
static EvsAslExpression *
read_wait_path(Reader *reader, const EvsPart *field)
{
	return evs_part_definite_path(reader->compiler, field) == NULL ? NULL :
		evs_part_expression(reader->compiler, field);
}

static void
read_wait_field(Reader *reader, const char *name, const EvsPart *field)
{
	EvsSagaState *state = reader->state;
	EvsCompiler *compiler = reader->compiler;

	if (strcmp(name, "Seconds") == 0)
		(void) evs_part_number(compiler, field, 0, EVS_ASL_SECONDS_MAX, &state->seconds);
	else if (strcmp(name, "SecondsPath") == 0)
		state->seconds_path = read_wait_path(reader, field);
	else if (strcmp(name, "TimestampPath") == 0)
		state->timestamp_path = read_wait_path(reader, field);
	else
	{
		char	   *text = evs_part_string(compiler, field);

		if (text !=NULL && !evs_asl_timestamp(text, &state->timestamp))
			evs_compile_error(compiler, field, "must be a time as in \"2026-03-14T01:59:00Z\"");
	}
}

static void
read_wait(Reader *reader)
{
	static const char *const names[] = {"Seconds", "SecondsPath", "Timestamp", "TimestampPath"};
	EvsPart		field;
	int			n = 0;

	reader->state->seconds = -1;
	reader->state->timestamp = DT_NOEND;
	for (int i = 0; i < lengthof(names); i++)
	{
		if (!get(reader, names[i], &field))
			continue;
		read_wait_field(reader, names[i], &field);
		n++;
	}
	if (n != 1)
		evs_compile_error(reader->compiler, reader->object,
						  "must have one of Seconds, SecondsPath, Timestamp and TimestampPath");
}

static void
read_fail(Reader *reader)
{
	EvsSagaState *state = reader->state;
	EvsPart		field;

	check_not_both(reader, "Error", "ErrorPath");
	check_not_both(reader, "Cause", "CausePath");
	if (get(reader, "Error", &field))
		state->error = evs_part_string(reader->compiler, &field);
	if (state->error != NULL && !evs_error_name_is_valid(state->error))
		evs_compile_error(reader->compiler, &field, "is no error of the language: other names may not begin with \"States.\"");
	if (get(reader, "Cause", &field))
		state->cause = evs_part_string(reader->compiler, &field);
	if (get(reader, "ErrorPath", &field))
		state->error_path = evs_part_expression(reader->compiler, &field);
	if (get(reader, "CausePath", &field))
		state->cause_path = evs_part_expression(reader->compiler, &field);
}

static void
read_type(Reader *reader)
{
	EvsPart		field;

	switch (reader->state->type)
	{
		case EVS_STATE_TASK:
			read_task(reader);
			break;
		case EVS_STATE_CHOICE:
			read_choice(reader);
			break;
		case EVS_STATE_WAIT:
			read_wait(reader);
			break;
		case EVS_STATE_PASS:
			if (get(reader, "Result", &field))
				reader->state->result = evs_part_json(&field);
			break;
		case EVS_STATE_SUCCEED:
			break;
		case EVS_STATE_FAIL:
			read_fail(reader);
			break;
		case EVS_STATE_PARALLEL:
			evs_compile_parallel(reader->compiler, reader->object, reader->state);
			break;
		case EVS_STATE_MAP:
			check_not_both(reader, "ItemProcessor", "Iterator");
			check_not_both(reader, "MaxConcurrency", "MaxConcurrencyPath");
			evs_compile_map(reader->compiler, reader->object, reader->state);
			break;
	}
}

void
evs_compile_state(EvsCompiler *compiler, const EvsMachine *machine, const EvsPart *object,
				  EvsSagaState *state)
{
	Reader		reader = {compiler, machine, object, state};
	EvsPart		field;
	int			type;

	state->next = -1;
	state->default_next = -1;
	if (!evs_part_object(compiler, object))
		return;
	if (!evs_part_get(object, "Type", &field))
	{
		evs_compile_missing(compiler, object, "Type");
		return;
	}
	type = evs_part_word(compiler, &field, type_names);
	if (type < 0)
		return;
	state->type = type;
	check_fields(&reader);
	read_common(&reader);
	read_data_flow(&reader);
	read_next(&reader);
	read_handlers(&reader);
	read_type(&reader);
}
