/*
 * steps.c
 *	  {"steps": […]}: a list of steps as a chain of Tasks.
 *
 *	{"name": "Charge", "resource": R, "parameters": P, "compensate": C, "timeout": 30}
 *
 * is the Task {"Type": "Task", "Resource": R, "Parameters": P, "ResultPath": "$.Charge",
 * "TimeoutSeconds": 30, "Next": …} with the compensator C.  Only what would be lost on the
 * way is checked here; the rest, when the Tasks are compiled.
 */
#include "postgres.h"

#include <ctype.h>

#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "asl/value.h"
#include "saga/compile.h"
#include "compat.h"

/* Members of a step that are fields of its Task. */
static const struct
{
	const char *member;
	const char *field;
}			renamed[] = {
	{"resource", "Resource"}, {"parameters", "Parameters"}, {"retry", "Retry"},
	{"timeout", "TimeoutSeconds"}, {"heartbeat", "HeartbeatSeconds"},
	{"result_path", "ResultPath"}, {"comment", "Comment"},
};

static const char *const step_members[] = {
	"name", "resource", "parameters", "retry", "timeout", "heartbeat", "result_path", "comment",
	"compensate", "pivot", NULL
};

static const char *const members[] = {"steps", "options", "comment", NULL};

const char *
evs_step_member(const char *field)
{
	for (int i = 0; i < lengthof(renamed); i++)
		if (strcmp(renamed[i].field, field) == 0)
			return renamed[i].member;
	return field;
}

/* ---- building ---- */

static void
push(JsonbParseState **state, const char *key, Jsonb *json)
{
	JsonbValue	name;
	JsonbValue	value = evs_asl_unpack(json);

	evs_asl_set_string(&name, key, strlen(key));
	pushJsonbValue(state, WJB_KEY, &name);
	pushJsonbValue(state, WJB_VALUE, &value);
}

static Jsonb *
end_object(JsonbParseState **state)
{
	return JsonbValueToJsonb(pushJsonbValue(state, WJB_END_OBJECT, NULL));
}

/* $.name, or $['any name']. */
static char *
default_result_path(const char *name)
{
	StringInfoData buf;
	bool		plain = true;

	for (const char *s = name; *s != '\0'; s++)
		plain &= isalnum((unsigned char) *s) || *s == '_';
	if (plain)
		return psprintf("$.%s", name);
	initStringInfo(&buf);
	appendStringInfoString(&buf, "$['");
	for (const char *s = name; *s != '\0'; s++)
	{
		if (*s == '\'' || *s == '\\')
			appendStringInfoChar(&buf, '\\');
		appendStringInfoChar(&buf, *s);
	}
	appendStringInfoString(&buf, "']");
	return buf.data;
}

static Jsonb *
task_of(const EvsPart *step, const char *name, const char *next)
{
	JsonbParseState *state = NULL;
	EvsPart		member;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push(&state, "Type", evs_asl_string("Task"));
	for (int i = 0; i < lengthof(renamed); i++)
		if (evs_part_get(step, renamed[i].member, &member))
			push(&state, renamed[i].field, evs_part_json(&member));
	if (!evs_part_has(step, "result_path"))
		push(&state, "ResultPath", evs_asl_string(default_result_path(name)));
	if (next != NULL)
		push(&state, "Next", evs_asl_string(next));
	else
		push(&state, "End", evs_asl_bool(true));
	return end_object(&state);
}

/* NULL: it has none. */
static Jsonb *
compensator_of(const EvsPart *step)
{
	static const char *const resource_key[] = {"Resource"};
	static const char *const pivot_key[] = {"Pivot"};
	EvsPart		member;
	Jsonb	   *result = NULL;

	if (evs_part_get(step, "compensate", &member))
	{
		result = evs_part_json(&member);
		if (member.value.type == jbvString)
			result = evs_asl_object(1, resource_key, &result);
	}
	if (evs_part_get(step, "pivot", &member) && !(member.value.type == jbvBool && !member.value.val.boolean))
	{
		Jsonb	   *pivot = evs_part_json(&member);

		pivot = evs_asl_object(1, pivot_key, &pivot);
		result = result == NULL ? pivot : evs_asl_merge(result, pivot);
	}
	return result;
}

/* ---- names ---- */

static bool
is_taken(List *names, const char *name)
{
	ListCell   *cell;

	foreach(cell, names)
		if (strcmp(lfirst(cell), name) == 0)
		return true;
	return false;
}

static void
check_name(EvsCompiler *compiler, const EvsPart *step, List **names)
{
	EvsPart		field;
	char	   *name;

	if (!evs_part_get(step, "name", &field))
	{
		evs_compile_missing(compiler, step, "name");
		return;
	}
	name = evs_part_string(compiler, &field);
	if (name == NULL)
		return;
	if (*name == '\0' || pg_mbstrlen(name) > EVS_STATE_NAME_MAX)
		evs_compile_error(compiler, &field, "must have 1 to %d characters", EVS_STATE_NAME_MAX);
	else if (is_taken(*names, name))
		evs_compile_error(compiler, &field, "is the name of an earlier step, too");
	*names = lappend(*names, name);
}

static void
check_step(EvsCompiler *compiler, const EvsPart *step, List **names)
{
	EvsPart		field;

	if (!evs_part_object(compiler, step))
		return;
	evs_part_only(compiler, step, step_members);
	check_name(compiler, step, names);
	if (evs_part_get(step, "compensate", &field) && field.value.type != jbvString &&
		!evs_part_is_object(&field))
		evs_compile_error(compiler, &field, "must be a resource, or an object");
	if (evs_part_get(step, "pivot", &field) && field.value.type != jbvBool)
		evs_compile_error(compiler, &field, "must be true or false");
}

/* Names of all steps, or NIL: there is something wrong. */
static List *
check_steps(EvsCompiler *compiler, const EvsPart *root, EvsPart *steps)
{
	List	   *names = NIL;
	EvsPart		step;
	EvsPart		comment;
	EvsEach		each;

	evs_part_only(compiler, root, members);
	if (evs_part_get(root, "comment", &comment))
		(void) evs_part_string(compiler, &comment);
	if (!evs_part_get(root, "steps", steps) || !evs_part_array(compiler, steps, false))
		return NIL;
	evs_part_begin(&each, steps);
	while (evs_part_next(&each, steps, &step))
		check_step(compiler, &step, &names);
	return list_length(names) == evs_part_count(steps) ? names : NIL;
}

/* ---- the envelope ---- */

static Jsonb *
asl_of(const EvsPart *root, Jsonb *states, const char *start)
{
	JsonbParseState *state = NULL;
	EvsPart		comment;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (evs_part_get(root, "comment", &comment))
		push(&state, "Comment", evs_part_json(&comment));
	push(&state, "StartAt", evs_asl_string(start));
	push(&state, "States", states);
	return end_object(&state);
}

static Jsonb *
compensation_of(Jsonb *states)
{
	static const char *const key[] = {"states"};

	return JB_ROOT_COUNT(states) == 0 ? evs_asl_empty_object() : evs_asl_object(1, key, &states);
}

Jsonb *
evs_steps_envelope(EvsCompiler *compiler, Jsonb *definition)
{
	EvsPart		root = evs_part_root(definition);
	EvsPart		steps;
	EvsPart		step;
	EvsPart		options;
	EvsEach		each;
	List	   *names = check_steps(compiler, &root, &steps);
	JsonbParseState *tasks = NULL;
	JsonbParseState *compensators = NULL;

	if (names == NIL || compiler->failed)
		return NULL;
	compiler->form = EVS_FORM_STEPS;
	pushJsonbValue(&tasks, WJB_BEGIN_OBJECT, NULL);
	pushJsonbValue(&compensators, WJB_BEGIN_OBJECT, NULL);
	evs_part_begin(&each, &steps);
	while (evs_part_next(&each, &steps, &step))
	{
		const char *name = list_nth(names, step.index);
		bool		is_last = step.index == list_length(names) - 1;
		Jsonb	   *compensator = compensator_of(&step);

		push(&tasks, name, task_of(&step, name, is_last ? NULL : list_nth(names, step.index + 1)));
		if (compensator != NULL)
			push(&compensators, name, compensator);
	}
	return evs_envelope_build(asl_of(&root, end_object(&tasks), linitial(names)),
							  compensation_of(end_object(&compensators)),
							  evs_part_get(&root, "options", &options) ? evs_part_json(&options) : NULL);
}
