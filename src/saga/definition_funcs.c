/*
 * definition_funcs.c
 *	  SQL functions of definitions.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "saga/definition.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_saga_problems);
PG_FUNCTION_INFO_V1(evs_saga_make_envelope);
PG_FUNCTION_INFO_V1(evs_saga_make_graph);

/* _saga_problems(definition) → setof (path, severity, message) */
Datum
evs_saga_problems(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	List	   *problems = NIL;
	ListCell   *cell;

	InitMaterializedSRF(fcinfo, 0);
	(void) evs_saga_compile(PG_GETARG_JSONB_P(0), &problems);
	foreach(cell, problems)
	{
		EvsSagaProblem *problem = lfirst(cell);
		bool		nulls[3] = {false};
		Datum		values[3] = {
			CStringGetTextDatum(problem->path),
			CStringGetTextDatum(problem->is_error ? "error" : "warning"),
			CStringGetTextDatum(problem->message)
		};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* _saga_envelope(definition) → jsonb */
Datum
evs_saga_make_envelope(PG_FUNCTION_ARGS)
{
	Jsonb	   *definition = PG_GETARG_JSONB_P(0);

	(void) evs_saga_compile_or_throw(definition);
	PG_RETURN_JSONB_P(evs_saga_envelope(definition));
}

/* _saga_graph(definition, title, format) → text */
Datum
evs_saga_make_graph(PG_FUNCTION_ARGS)
{
	EvsSagaDefinition *definition = evs_saga_compile_or_throw(PG_GETARG_JSONB_P(0));
	char	   *title = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	   *format = text_to_cstring(PG_GETARG_TEXT_PP(2));
	bool		dot = strcmp(format, "dot") == 0;

	if (!dot && strcmp(format, "mermaid") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"format\" must not be \"%s\"", format),
				 errhint("Formats are mermaid and dot.")));
	PG_RETURN_TEXT_P(cstring_to_text(evs_saga_graph_text(definition, title, dot)));
}
