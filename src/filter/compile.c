/*
 * compile.c
 *	  What the compilers of filters have in common.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/numeric.h"

#include "base/errors.h"
#include "filter/compile.h"
#include "compat.h"

/* ---- errors ---- */

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

static void
append_path(StringInfo buf, const EvsWhere *where)
{
	if (where == NULL)
	{
		appendStringInfoChar(buf, '$');
		return;
	}
	append_path(buf, where->up);
	if (where->key == NULL)
		appendStringInfo(buf, "[%d]", where->index);
	else if (is_plain_key(where->key))
		appendStringInfo(buf, ".%s", where->key);
	else
	{
		appendStringInfoChar(buf, '.');
		escape_json(buf, where->key);
	}
}

static const char *
member_of(const EvsWhere *where)
{
	while (where->up != NULL)
		where = where->up;
	return where->key;
}

static void
throw_invalid(const EvsWhere *where, int offset, const char *reason)
{
	StringInfoData detail;
	StringInfoData path;

	initStringInfo(&path);
	append_path(&path, where);
	evs_detail_begin(&detail);
	evs_detail_string(&detail, "path", path.data);
	if (offset > 0)
		evs_detail_int(&detail, "offset", offset);
	evs_detail_string(&detail, "reason", reason);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_INVALID_DEFINITION),
			 errmsg("filter member \"%s\" is not valid: %s", member_of(where), reason),
			 errdetail_internal("%s", evs_detail_end(&detail))));
}

void
evs_filter_invalid(const EvsWhere *where, const char *reason)
{
	throw_invalid(where, 0, reason);
}

void
evs_filter_invalid_text(const EvsWhere *where, const char *text, int at, const char *reason)
{
	throw_invalid(where, pg_mbstrlen_with_len(text, at) + 1, reason);
}

/* ---- JSON ---- */

char *
evs_filter_string(const JsonbValue *value, const EvsWhere *where)
{
	if (value->type != jbvString)
		evs_filter_invalid(where, "it must be a string");
	return pnstrdup(value->val.string.val, value->val.string.len);
}

char *
evs_filter_text(const JsonbValue *value, const EvsWhere *where)
{
	char	   *text = evs_filter_string(value, where);

	if (value->val.string.len > EVS_FILTER_TEXT_MAX)
		evs_filter_invalid(where, psprintf("it has more than %d bytes", EVS_FILTER_TEXT_MAX));
	return text;
}

JsonbContainer *
evs_filter_object(const JsonbValue *value, const EvsWhere *where)
{
	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		evs_filter_invalid(where, "it must be an object");
	return value->val.binary.data;
}

JsonbContainer *
evs_filter_array(const JsonbValue *value, const EvsWhere *where)
{
	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		evs_filter_invalid(where, "it must be an array");
	return value->val.binary.data;
}

Numeric
evs_filter_number(const JsonbValue *value, const EvsWhere *where)
{
	if (value->type != jbvNumeric)
		evs_filter_invalid(where, "it must be a number");
	return DatumGetNumericCopy(NumericGetDatum(value->val.numeric));
}

void
evs_each_begin(EvsEach *each, JsonbContainer *container)
{
	JsonbValue	ignored;

	each->it = JsonbIteratorInit(container);
	each->key = NULL;
	each->index = -1;
	(void) JsonbIteratorNext(&each->it, &ignored, true);
}

bool
evs_each_next(EvsEach *each)
{
	JsonbIteratorToken token = JsonbIteratorNext(&each->it, &each->value, true);

	if (token == WJB_KEY)
	{
		each->key = pnstrdup(each->value.val.string.val, each->value.val.string.len);
		(void) JsonbIteratorNext(&each->it, &each->value, true);
		return true;
	}
	each->index++;
	return token == WJB_ELEM;
}
