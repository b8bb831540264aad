/*
 * compile.c
 *	  Problems of a definition, and the paths at which they are.
 *
 * Whatever is given is compiled as an envelope.  Somebody who has written bare ASL, or
 * steps, knows of no envelope: paths lead through the document that was given.
 */
#include "postgres.h"

#include <ctype.h>

#include "utils/builtins.h"
#include "utils/json.h"

#include "saga/compile.h"
#include "compat.h"

/* ---- paths ---- */

static bool
is_plain_key(const char *key)
{
	if (!isalpha((unsigned char) *key) && *key != '_')
		return false;
	for (; *key != '\0'; key++)
		if (!isalnum((unsigned char) *key) && *key != '_')
			return false;
	return true;
}

/* As jsonpath has it. */
static void
append_key(StringInfo buf, const char *key)
{
	appendStringInfoChar(buf, '.');
	if (is_plain_key(key))
		appendStringInfoString(buf, key);
	else
		escape_json(buf, key);
}

static int
depth_of(const EvsPart *field)
{
	int			depth = 0;

	for (; field->up != NULL; field = field->up)
		depth++;
	return depth;
}

/* The member of the document that the field is in. */
static const char *
part_of(const EvsPart *field)
{
	while (field->up->up != NULL)
		field = field->up;
	return field->key;
}

/* The step of this name, as it was given. */
static bool
find_step(const EvsCompiler *compiler, const char *name, EvsPart *step)
{
	EvsPart		root = evs_part_root(compiler->given);
	EvsPart		steps;
	EvsPart		member;
	EvsEach		each;

	if (!evs_part_get(&root, "steps", &steps))
		return false;
	evs_part_begin(&each, &steps);
	while (evs_part_next(&each, &steps, step))
		if (evs_part_get(step, "name", &member) && member.value.type == jbvString &&
			member.value.val.string.len == strlen(name) &&
			memcmp(member.value.val.string.val, name, strlen(name)) == 0)
			return true;
	return false;
}

static void append_path(const EvsCompiler *compiler, StringInfo buf, const EvsPart *field);

/* A field of a compensator, whose resource may be all that was given. */
static void
append_compensator_path(const EvsPart *step, StringInfo buf, const char *key)
{
	EvsPart		compensate;

	if (strcmp(key, "Pivot") == 0)
		appendStringInfoString(buf, ".pivot");
	else
	{
		appendStringInfoString(buf, ".compensate");
		if (evs_part_get(step, "compensate", &compensate) && evs_part_is_object(&compensate))
			append_key(buf, key);
	}
}

/*
 * A field of the envelope that steps have become: asl.States.<name>.<field> is
 * steps[i].<member>, and compensation.states.<name> is steps[i].compensate.
 */
static bool
append_step_path(const EvsCompiler *compiler, StringInfo buf, const EvsPart *field)
{
	int			depth = depth_of(field);
	bool		compensates = depth > 0 && strcmp(part_of(field), "compensation") == 0;
	EvsPart		step;

	if (depth == 0 || depth > 4 || (!compensates && strcmp(part_of(field), "asl") != 0))
		return false;
	appendStringInfoString(buf, "$.steps");
	if (depth < 3 || !find_step(compiler, depth == 3 ? field->key : field->up->key, &step))
		return true;
	appendStringInfo(buf, "[%d]", step.index);
	if (depth == 3 && compensates)
		appendStringInfoString(buf, ".compensate");
	else if (depth == 4 && compensates)
		append_compensator_path(&step, buf, field->key);
	else if (depth == 4)
		append_key(buf, evs_step_member(field->key));
	return true;
}

static void
append_path(const EvsCompiler *compiler, StringInfo buf, const EvsPart *field)
{
	if (field->up == NULL ||
		(compiler->form == EVS_FORM_ASL && field->up->up == NULL && strcmp(field->key, "asl") == 0))
		appendStringInfoChar(buf, '$');
	else if (compiler->form != EVS_FORM_STEPS || !append_step_path(compiler, buf, field))
	{
		append_path(compiler, buf, field->up);
		if (field->key == NULL)
			appendStringInfo(buf, "[%d]", field->index);
		else
			append_key(buf, field->key);
	}
}

char *
evs_part_path_text(const EvsCompiler *compiler, const EvsPart *field)
{
	StringInfoData buf;

	initStringInfo(&buf);
	append_path(compiler, &buf, field);
	return buf.data;
}

/* ---- problems ---- */

static void
add_problem(EvsCompiler *compiler, char *path, bool is_error, char *message)
{
	EvsSagaProblem *problem = palloc(sizeof(EvsSagaProblem));

	problem->path = path;
	problem->is_error = is_error;
	problem->message = message;
	*compiler->problems = lappend(*compiler->problems, problem);
	compiler->failed |= is_error;
}

static char *format_message(const char *format, va_list args) pg_attribute_printf(1, 0);

static char *
format_message(const char *format, va_list args)
{
	StringInfoData buf;
	va_list		again;
	int			needed;

	initStringInfo(&buf);
	do
	{
		va_copy(again, args);
		needed = appendStringInfoVA(&buf, format, again);
		va_end(again);
		if (needed > 0)
			enlargeStringInfo(&buf, needed);
	} while (needed > 0);
	return buf.data;
}

void
evs_compile_error(EvsCompiler *compiler, const EvsPart *field, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	add_problem(compiler, evs_part_path_text(compiler, field), true, format_message(format, args));
	va_end(args);
}

void
evs_compile_warning(EvsCompiler *compiler, const EvsPart *field, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	add_problem(compiler, evs_part_path_text(compiler, field), false, format_message(format, args));
	va_end(args);
}

void
evs_compile_error_at(EvsCompiler *compiler, char *path, char *message)
{
	add_problem(compiler, path, true, message);
}

void
evs_compile_missing(EvsCompiler *compiler, const EvsPart *object, const char *key)
{
	EvsPart		field = {.up = object, .key = key};

	evs_compile_error(compiler, &field, "is missing");
}
