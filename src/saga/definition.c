/*
 * definition.c
 *	  Definitions of sagas: the three forms, and compiling them.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/errors.h"
#include "saga/compile.h"
#include "compat.h"

/* What is not said. */
#define DEFAULT_PRIORITY			5
#define DEFAULT_MAX_TRANSITIONS		25000
#define DEFAULT_MAX_DATA			262144
#define DEFAULT_STATEMENT_TIMEOUT	60

/* ---- forms ---- */

static EvsSagaForm
form_of(const EvsPart *root)
{
	if (evs_part_has(root, "asl"))
		return EVS_FORM_ENVELOPE;
	if (evs_part_has(root, "steps"))
		return EVS_FORM_STEPS;
	if (evs_part_has(root, "States") || evs_part_has(root, "StartAt"))
		return EVS_FORM_ASL;
	return EVS_FORM_NONE;
}

Jsonb *
evs_envelope_build(Jsonb *asl, Jsonb *compensation, Jsonb *options)
{
	static const char *const keys[] = {"asl", "compensation", "options"};
	Jsonb	   *values[] = {
		asl,
		compensation != NULL ? compensation : evs_asl_empty_object(),
		options != NULL ? options : evs_asl_empty_object()
	};

	return evs_asl_object(lengthof(keys), keys, values);
}

/* NULL: what is wrong has been reported. */
static Jsonb *
make_envelope(EvsCompiler *compiler)
{
	static const char *const known[] = {"asl", "compensation", "options", NULL};
	EvsPart		root = evs_part_root(compiler->given);

	if (!evs_part_object(compiler, &root))
		return NULL;
	switch (form_of(&root))
	{
		case EVS_FORM_ENVELOPE:
			evs_part_only(compiler, &root, known);
			return evs_envelope_build(evs_asl_member(compiler->given, "asl"),
									  evs_asl_member(compiler->given, "compensation"),
									  evs_asl_member(compiler->given, "options"));
		case EVS_FORM_ASL:
			compiler->form = EVS_FORM_ASL;
			return evs_envelope_build(compiler->given, NULL, NULL);
		case EVS_FORM_STEPS:
			return evs_steps_envelope(compiler, compiler->given);
		case EVS_FORM_NONE:
			break;
	}
	evs_compile_error(compiler, &root, "must have asl, or steps, or be a document of the Amazon States Language");
	return NULL;
}

Jsonb *
evs_saga_envelope(Jsonb *definition)
{
	List	   *problems = NIL;
	EvsCompiler compiler = {.given = definition, .problems = &problems};

	return make_envelope(&compiler);
}

/* ---- compiling ---- */

static EvsSagaDefinition *
new_definition(void)
{
	EvsSagaDefinition *definition = palloc0(sizeof(EvsSagaDefinition));

	definition->options = evs_asl_empty_object();
	definition->priority = DEFAULT_PRIORITY;
	definition->compensates = true;
	definition->max_transitions = DEFAULT_MAX_TRANSITIONS;
	definition->max_data = DEFAULT_MAX_DATA;
	definition->retention = -1;
	definition->workers = 1;
	definition->durable = true;
	definition->statement_timeout = DEFAULT_STATEMENT_TIMEOUT;
	return definition;
}

/* The option resources is needed before the states are compiled. */
static void
find_resources(EvsCompiler *compiler, const EvsPart *options)
{
	compiler->resources.value.type = jbvNull;
	if (!evs_part_get(options, "resources", &compiler->resources) ||
		!evs_part_is_object(&compiler->resources))
		compiler->resources.value.type = jbvNull;
}

static void
compile_envelope(EvsCompiler *compiler, Jsonb *envelope)
{
	EvsPart		root = evs_part_root(envelope);
	EvsPart		asl;
	EvsPart		compensation;
	EvsPart		options;

	evs_part_get(&root, "asl", &asl);
	evs_part_get(&root, "compensation", &compensation);
	evs_part_get(&root, "options", &options);
	find_resources(compiler, &options);
	compiler->definition->machine = evs_compile_machine(compiler, &asl, EVS_MACHINE_ROOT);
	evs_check_names(compiler);
	evs_compile_compensation(compiler, &compensation);
	evs_compile_options(compiler, &options);
}

EvsSagaDefinition *
evs_saga_compile(Jsonb *definition, List **problems)
{
	EvsCompiler compiler = {.given = definition, .problems = problems};
	Jsonb	   *envelope = make_envelope(&compiler);

	compiler.definition = new_definition();
	if (envelope != NULL)
		compile_envelope(&compiler, envelope);
	return compiler.failed ? NULL : compiler.definition;
}

/* ---- or throw ---- */

static char *
problems_json(List *problems)
{
	StringInfoData buf;
	ListCell   *cell;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '[');
	foreach(cell, problems)
	{
		EvsSagaProblem *problem = lfirst(cell);
		StringInfoData member;

		evs_detail_begin(&member);
		evs_detail_string(&member, "path", problem->path);
		evs_detail_string(&member, "severity", problem->is_error ? "error" : "warning");
		evs_detail_string(&member, "message", problem->message);
		appendStringInfo(&buf, "%s%s", buf.len > 1 ? ", " : "", evs_detail_end(&member));
	}
	appendStringInfoChar(&buf, ']');
	return buf.data;
}

static void
throw_invalid(List *problems)
{
	EvsSagaProblem *first = NULL;
	StringInfoData detail;
	ListCell   *cell;

	foreach(cell, problems)
		if (first == NULL && ((EvsSagaProblem *) lfirst(cell))->is_error)
		first = lfirst(cell);
	evs_detail_begin(&detail);
	evs_detail_string(&detail, "path", first->path);
	evs_detail_raw(&detail, "problems", problems_json(problems));
	ereport(ERROR,
			(errcode(ERRCODE_EVS_INVALID_DEFINITION),
			 errmsg("invalid definition: %s %s", first->path, first->message),
			 errdetail_internal("%s", evs_detail_end(&detail))));
}

EvsSagaDefinition *
evs_saga_compile_or_throw(Jsonb *definition)
{
	List	   *problems = NIL;
	EvsSagaDefinition *result = evs_saga_compile(definition, &problems);

	if (result == NULL)
		throw_invalid(problems);
	return result;
}
