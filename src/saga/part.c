/*
 * part.c
 *	  Parts of a definition: their values, if they are what they should be.
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/numeric.h"

#include "asl/value.h"
#include "saga/compile.h"
#include "compat.h"

/* ---- the document ---- */

EvsPart
evs_part_root(Jsonb *document)
{
	EvsPart		root = {.value = evs_asl_unpack(document)};

	return root;
}

bool
evs_part_is_object(const EvsPart *field)
{
	return evs_asl_is_object(&field->value);
}

bool
evs_part_is_null(const EvsPart *field)
{
	return field->value.type == jbvNull;
}

bool
evs_part_get(const EvsPart *object, const char *key, EvsPart *member)
{
	member->up = object;
	member->key = key;
	member->index = 0;
	return evs_part_is_object(object) &&
		evs_asl_find_member(&object->value, key, strlen(key), &member->value);
}

bool
evs_part_has(const EvsPart *object, const char *key)
{
	EvsPart		member;

	return evs_part_get(object, key, &member);
}

void
evs_part_begin(EvsEach *each, const EvsPart *parent)
{
	evs_each_begin(each, parent->value.val.binary.data);
}

bool
evs_part_next(EvsEach *each, const EvsPart *parent, EvsPart *child)
{
	if (!evs_each_next(each))
		return false;
	child->up = parent;
	child->key = each->key;
	child->index = each->index;
	child->value = each->value;
	return true;
}

int
evs_part_count(const EvsPart *field)
{
	return JsonContainerSize(field->value.val.binary.data);
}

Jsonb *
evs_part_json(const EvsPart *field)
{
	JsonbValue	value = field->value;

	return evs_asl_value(&value);
}

/* ---- types ---- */

bool
evs_part_object(EvsCompiler *compiler, const EvsPart *field)
{
	if (evs_part_is_object(field))
		return true;
	evs_compile_error(compiler, field, "must be an object");
	return false;
}

bool
evs_part_array(EvsCompiler *compiler, const EvsPart *field, bool may_be_empty)
{
	if (evs_asl_is_array(&field->value) && (may_be_empty || evs_part_count(field) > 0))
		return true;
	evs_compile_error(compiler, field, may_be_empty ? "must be an array" : "must be an array that is not empty");
	return false;
}

char *
evs_part_string(EvsCompiler *compiler, const EvsPart *field)
{
	if (field->value.type == jbvString)
		return pnstrdup(field->value.val.string.val, field->value.val.string.len);
	evs_compile_error(compiler, field, "must be a string");
	return NULL;
}

bool
evs_part_bool(EvsCompiler *compiler, const EvsPart *field, bool *value)
{
	if (field->value.type == jbvBool)
	{
		*value = field->value.val.boolean;
		return true;
	}
	evs_compile_error(compiler, field, "must be true or false");
	return false;
}

/* Limits as they are written in messages, without a fraction that is not there. */
static char *
limit_text(double limit)
{
	return psprintf("%.*f", limit == floor(limit) ? 0 : 3, limit);
}

static bool
numeric_is_between(Numeric number, double low, double high, double *value)
{
	*value = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(number)));
	return *value >= low && *value <= high;
}

bool
evs_part_number(EvsCompiler *compiler, const EvsPart *field, double low, double high, double *value)
{
	double		number;

	if (field->value.type == jbvNumeric &&
		numeric_is_between(field->value.val.numeric, low, high, &number))
	{
		*value = number;
		return true;
	}
	evs_compile_error(compiler, field, "must be a number between %s and %s", limit_text(low), limit_text(high));
	return false;
}

bool
evs_part_whole(EvsCompiler *compiler, const EvsPart *field, int64 low, int64 high, int64 *value)
{
	int64		number;

	if (field->value.type == jbvNumeric &&
		evs_asl_whole_number(field->value.val.numeric, &number) && number >= low && number <= high)
	{
		*value = number;
		return true;
	}
	evs_compile_error(compiler, field, "must be a whole number between " INT64_FORMAT " and " INT64_FORMAT,
					  low, high);
	return false;
}

int
evs_part_word(EvsCompiler *compiler, const EvsPart *field, const char *const *words)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; words[i] != NULL; i++)
	{
		if (field->value.type == jbvString && field->value.val.string.len == strlen(words[i]) &&
			memcmp(field->value.val.string.val, words[i], strlen(words[i])) == 0)
			return i;
		appendStringInfo(&list, "%s\"%s\"", i == 0 ? "" : words[i + 1] == NULL ? " or " : ", ", words[i]);
	}
	evs_compile_error(compiler, field, "must be %s", list.data);
	return -1;
}

void
evs_part_only(EvsCompiler *compiler, const EvsPart *object, const char *const *known)
{
	EvsPart		member;
	EvsEach		each;

	evs_part_begin(&each, object);
	while (evs_part_next(&each, object, &member))
	{
		int			i = 0;

		while (known[i] != NULL && strcmp(known[i], member.key) != 0)
			i++;
		if (known[i] == NULL)
			evs_compile_error(compiler, &member, "is not known");
	}
}

/* ---- durations ---- */

/* interval_in() throws. */
static bool
parse_interval(const char *text, double *seconds)
{
	char		buffer[256];
	char	   *fields[MAXDATEFIELDS];
	int			types[MAXDATEFIELDS];
	int			nfields;
	int			type;
	struct pg_itm_in interval = {0};

	if (ParseDateTime(text, buffer, sizeof(buffer), fields, types, MAXDATEFIELDS, &nfields) != 0)
		return false;
	if (DecodeInterval(fields, types, nfields, INTERVAL_FULL_RANGE, &type, &interval) != 0 &&
		DecodeISO8601Interval(unconstify(char *, text), &type, &interval) != 0)
		return false;
	if (type != DTK_DELTA)
		return false;
	/* as extract(epoch) has it */
	*seconds = interval.tm_usec / (double) USECS_PER_SEC + (double) SECS_PER_DAY *
		(interval.tm_mday + interval.tm_mon * (double) DAYS_PER_MONTH + interval.tm_year * DAYS_PER_YEAR);
	return true;
}

bool
evs_part_seconds(EvsCompiler *compiler, const EvsPart *field, double low, double high, double *value)
{
	double		seconds;
	bool		ok = false;

	if (field->value.type == jbvNumeric)
		ok = numeric_is_between(field->value.val.numeric, low, high, &seconds);
	else if (field->value.type == jbvString)
		ok = parse_interval(pnstrdup(field->value.val.string.val, field->value.val.string.len), &seconds) &&
			seconds >= low && seconds <= high;
	if (ok)
		*value = seconds;
	else
		evs_compile_error(compiler, field,
						  "must be a number of seconds between %s and %s, or an interval as text",
						  limit_text(low), limit_text(high));
	return ok;
}

/* ---- parts of the language ---- */

EvsAslPath *
evs_part_path(EvsCompiler *compiler, const EvsPart *field)
{
	char	   *text = evs_part_string(compiler, field);
	char	   *problem = NULL;
	EvsAslPath *path;

	if (text == NULL)
		return NULL;
	path = evs_asl_path_compile(text, &problem);
	if (path == NULL)
		evs_compile_error(compiler, field, "is not a path: %s", problem);
	return path;
}

EvsAslPath *
evs_part_definite_path(EvsCompiler *compiler, const EvsPart *field)
{
	EvsAslPath *path = evs_part_path(compiler, field);

	if (path != NULL && !evs_asl_path_is_definite(path))
	{
		evs_compile_error(compiler, field, "must be a path that names one value");
		return NULL;
	}
	return path;
}

EvsAslPath *
evs_part_reference_path(EvsCompiler *compiler, const EvsPart *field)
{
	EvsAslPath *path = evs_part_path(compiler, field);

	if (path != NULL && !evs_asl_path_is_reference(path))
	{
		evs_compile_error(compiler, field, "must be a path from $ of names and indexes only");
		return NULL;
	}
	return path;
}

EvsAslExpression *
evs_part_expression(EvsCompiler *compiler, const EvsPart *field)
{
	char	   *text = evs_part_string(compiler, field);
	char	   *problem = NULL;
	EvsAslExpression *expression;

	if (text == NULL)
		return NULL;
	expression = evs_asl_expression_compile(text, &problem);
	if (expression == NULL)
		evs_compile_error(compiler, field, "is not an expression: %s", problem);
	return expression;
}

typedef struct Below
{
	EvsCompiler *compiler;
	const EvsPart *field;
	int			nproblems;
} Below;

/* An EvsAslReport: where it is, is a path already. */
static void
report_below(void *arg, const char *where, const char *problem)
{
	Below	   *below = arg;

	evs_compile_error_at(below->compiler,
						 psprintf("%s%s", evs_part_path_text(below->compiler, below->field), where),
						 psprintf("is not valid: %s", problem));
	below->nproblems++;
}

EvsAslTemplate *
evs_part_template(EvsCompiler *compiler, const EvsPart *field)
{
	Below		below = {compiler, field};
	EvsAslTemplate *template;

	if (!evs_part_object(compiler, field))
		return NULL;
	template = evs_asl_template_compile(evs_part_json(field), report_below, &below);
	return below.nproblems == 0 ? template : NULL;
}

EvsAslRule *
evs_part_rule(EvsCompiler *compiler, const EvsPart *field)
{
	Below		below = {compiler, field};
	EvsAslRule *rule = evs_asl_rule_compile(evs_part_json(field), report_below, &below);

	return below.nproblems == 0 ? rule : NULL;
}

static bool
is_variable_name(const char *name, int len)
{
	if (len == 0 || (name[0] >= '0' && name[0] <= '9'))
		return false;
	for (int i = 0; i < len; i++)
		if (!IS_HIGHBIT_SET(name[i]) && !isalnum((unsigned char) name[i]) && name[i] != '_')
			return false;
	return true;
}

/* A template whose members are variables. */
EvsAslTemplate *
evs_part_assign(EvsCompiler *compiler, const EvsPart *field)
{
	EvsPart		member;
	EvsEach		each;

	if (!evs_part_object(compiler, field))
		return NULL;
	evs_part_begin(&each, field);
	while (evs_part_next(&each, field, &member))
	{
		int			len = strlen(member.key);

		if (len > 2 && strcmp(member.key + len - 2, ".$") == 0)
			len -= 2;
		if (!is_variable_name(member.key, len))
			evs_compile_error(compiler, &member, "is not the name of a variable: letters, digits and _, and no digit first");
	}
	return evs_part_template(compiler, field);
}
