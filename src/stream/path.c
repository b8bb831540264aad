/*
 * path.c
 *	  A jsonpath, applied to events' data.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonpath.h"

#include "base/errors.h"
#include "stream/path.h"
#include "compat.h"

static void
throw_invalid_path(const char *what, const char *where, const char *reason)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "path", where);
	evs_detail_string(&detail, "reason", reason);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_INVALID_DEFINITION),
			 errmsg("%s is not a valid path", what),
			 errdetail_internal("%s", evs_detail_end(&detail))));
}

/* In a path as jsonpath_out() prints it, $"name" outside of strings. */
static bool
has_variable(const char *path)
{
	bool		quoted = false;

	for (const char *s = path; *s != '\0'; s++)
	{
		if (quoted && *s == '\\' && s[1] != '\0')
			s++;
		else if (*s == '"')
			quoted = !quoted;
		else if (!quoted && *s == '$' && s[1] == '"')
			return true;
	}
	return false;
}

/* Variables have no value here; found only when read, they would end a read. */
Datum
evs_path_parse(char *path, const char *what, const char *where)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		result;

	PG_TRY();
	{
		result = DirectFunctionCall1(jsonpath_in, CStringGetDatum(path));
	}
	PG_CATCH();
	{
		int			category = ERRCODE_TO_CATEGORY(geterrcode());
		ErrorData  *error;

		if (category != ERRCODE_TO_CATEGORY(ERRCODE_SYNTAX_ERROR) &&
			category != ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION))
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		throw_invalid_path(what, where, error->message);
	}
	PG_END_TRY();

	if (has_variable(DatumGetCString(DirectFunctionCall1(jsonpath_out, result))))
		throw_invalid_path(what, where, "there are no variables");
	return result;
}

/* {} */
static Jsonb *
no_variables(void)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * jsonb_path_query_first_tz(data, path, '{}', silent => true): the one without
 * time zones throws where it would need them.
 */
static Datum
query_path(Datum path, Jsonb *data, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 4);
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, NULL, 4, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(data);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = path;
	fcinfo->args[1].isnull = false;
	fcinfo->args[2].value = JsonbPGetDatum(no_variables());
	fcinfo->args[2].isnull = false;
	fcinfo->args[3].value = BoolGetDatum(true);
	fcinfo->args[3].isnull = false;
	result = jsonb_path_query_first_tz(fcinfo);
	*isnull = fcinfo->isnull;
	return result;
}

/*
 * There are errors that "silent" does not silence, as that of a template of
 * datetime(); a reader could not get past an event with one.  Nothing is held
 * during the call, since the data has been fetched: what is caught leaves
 * nothing to clean up.
 */
Jsonb *
evs_path_first(Datum path, Datum value)
{
	MemoryContext context = CurrentMemoryContext;
	Jsonb	   *data = DatumGetJsonbP(value);
	volatile Datum result = (Datum) 0;
	bool		isnull = true;

	PG_TRY();
	{
		result = query_path(path, data, &isnull);
	}
	PG_CATCH();
	{
		if (ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION))
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		isnull = true;
	}
	PG_END_TRY();

	return isnull ? NULL : DatumGetJsonbP(result);
}

text *
evs_path_text(Datum path, Datum data)
{
	Jsonb	   *found = evs_path_first(path, data);
	JsonbValue	item;

	if (found == NULL)
		return NULL;
	if (JsonbExtractScalar(&found->root, &item))
	{
		if (item.type == jbvNull)
			return NULL;
		if (item.type == jbvString)
			return cstring_to_text_with_len(item.val.string.val, item.val.string.len);
	}
	return cstring_to_text(JsonbToCString(NULL, &found->root, VARSIZE(found)));
}
