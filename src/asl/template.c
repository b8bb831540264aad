/*
 * template.c
 *	  Payload templates.
 *
 * What has no member whose name ends in ".$" is a constant, and made when the template
 * is compiled.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/json.h"

#include "asl/expression.h"
#include "compat.h"

typedef enum PartKind
{
	PART_CONSTANT,
	PART_EXPRESSION,
	PART_OBJECT,
	PART_ARRAY
} PartKind;

typedef struct Part Part;
struct Part
{
	PartKind	kind;
	JsonbValue	constant;
	EvsAslExpression *expression;
	int			n;
	JsonbValue *keys;			/* of an object */
	Part	   *children;
};

struct EvsAslTemplate
{
	Jsonb	   *constant;		/* all of it, or NULL */
	Part		root;
};

typedef struct Compiler
{
	EvsAslReport report;
	void	   *arg;
	int			depth;
} Compiler;

/* ---- compiling ---- */

static void compile_part(Compiler *compiler, const JsonbValue *value, const char *where, Part *part);

static bool
is_plain(const char *key)
{
	for (const char *s = key; *s != '\0'; s++)
		if (!isalnum((unsigned char) *s) && *s != '_' && !IS_HIGHBIT_SET(*s) &&
			strcmp(s, ".$") != 0 && !(s[0] == '$' && s[1] == '\0'))
			return false;
	return *key != '\0';
}

static char *
member_place(const char *where, const char *key)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfoString(&buf, where);
	if (is_plain(key))
		appendStringInfo(&buf, ".%s", key);
	else
	{
		appendStringInfoChar(&buf, '[');
		escape_json(&buf, key);
		appendStringInfoChar(&buf, ']');
	}
	return buf.data;
}

static bool
has_suffix(const JsonbValue *key)
{
	return key->val.string.len >= 2 &&
		memcmp(key->val.string.val + key->val.string.len - 2, ".$", 2) == 0;
}

/* A member whose value is to be computed; without a problem the part is that. */
static bool
compile_expression(Compiler *compiler, const JsonbValue *value, const char *where, Part *part)
{
	char	   *problem = NULL;

	if (value->type != jbvString)
		problem = "a path or an intrinsic function must be a string";
	else
		part->expression = evs_asl_expression_compile(pnstrdup(value->val.string.val,
															   value->val.string.len), &problem);
	if (problem != NULL)
		compiler->report(compiler->arg, where, problem);
	part->kind = PART_EXPRESSION;
	return problem == NULL;
}

/* Is there a member of this name, other than that one? */
static bool
has_key(const Part *part, int n, const JsonbValue *key)
{
	for (int i = 0; i < n; i++)
		if (evs_asl_equal(&part->keys[i], key))
			return true;
	return false;
}

/* Add a member, unless something is wrong with it. */
static void
compile_member(Compiler *compiler, const JsonbValue *key, const JsonbValue *value,
			   const char *where, Part *part)
{
	char	   *place = member_place(where, pnstrdup(key->val.string.val, key->val.string.len));
	JsonbValue	name = evs_asl_copy(key);
	bool		computed = has_suffix(key);
	Part	   *child = &part->children[part->n];

	if (computed)
		name.val.string.len -= 2;
	memset(child, 0, sizeof(*child));
	if (has_key(part, part->n, &name))
		compiler->report(compiler->arg, place, "there is a member of the same name with and without \".$\"");
	else if (!computed)
		compile_part(compiler, value, place, child);
	else if (!compile_expression(compiler, value, place, child))
		return;
	part->keys[part->n++] = name;
}

static void
compile_object(Compiler *compiler, const JsonbValue *object, const char *where, Part *part)
{
	int			n = JsonContainerSize(object->val.binary.data);
	JsonbIterator *it = JsonbIteratorInit(object->val.binary.data);
	JsonbValue	key;
	JsonbValue	value;

	part->kind = PART_OBJECT;
	part->keys = palloc(sizeof(JsonbValue) * Max(n, 1));
	part->children = palloc(sizeof(Part) * Max(n, 1));
	(void) JsonbIteratorNext(&it, &key, true);
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&it, &value, true);
		compile_member(compiler, &key, &value, where, part);
	}
}

static void
compile_array(Compiler *compiler, const JsonbValue *array, const char *where, Part *part)
{
	int			n = evs_asl_array_length(array);
	JsonbIterator *it = JsonbIteratorInit(array->val.binary.data);
	JsonbValue	value;

	part->kind = PART_ARRAY;
	part->children = palloc0(sizeof(Part) * Max(n, 1));
	(void) JsonbIteratorNext(&it, &value, true);
	while (JsonbIteratorNext(&it, &value, true) == WJB_ELEM)
	{
		compile_part(compiler, &value, psprintf("%s[%d]", where, part->n), &part->children[part->n]);
		part->n++;
	}
}

static bool
is_constant(const Part *part)
{
	if (part->kind == PART_EXPRESSION)
		return false;
	for (int i = 0; i < part->n; i++)
		if (part->children[i].kind != PART_CONSTANT)
			return false;
	return true;
}

static void
compile_part(Compiler *compiler, const JsonbValue *value, const char *where, Part *part)
{
	if (++compiler->depth > EVS_ASL_DEPTH_MAX)
		compiler->report(compiler->arg, where, "the template nests too deeply");
	else if (evs_asl_is_object(value))
		compile_object(compiler, value, where, part);
	else if (evs_asl_is_array(value))
		compile_array(compiler, value, where, part);
	compiler->depth--;
	if (is_constant(part))
	{
		part->kind = PART_CONSTANT;
		part->constant = evs_asl_copy(value);
	}
}

EvsAslTemplate *
evs_asl_template_compile(Jsonb *template, EvsAslReport report, void *arg)
{
	EvsAslTemplate *result = palloc0(sizeof(EvsAslTemplate));
	Compiler	compiler = {.report = report, .arg = arg};
	JsonbValue	value = evs_asl_unpack(template);

	compile_part(&compiler, &value, "", &result->root);
	if (result->root.kind == PART_CONSTANT)
		result->constant = evs_asl_value(&result->root.constant);
	return result;
}

/* ---- applying ---- */

typedef struct Builder
{
	EvsAslEvaluation evaluation;
	JsonbParseState *state;
	JsonbValue *last;			/* from the last end of an object or an array */
} Builder;

static bool push_part(Builder *builder, const Part *part, JsonbIteratorToken token);

static bool
push_object(Builder *builder, const Part *part)
{
	(void) pushJsonbValue(&builder->state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < part->n; i++)
	{
		JsonbValue	key = part->keys[i];

		(void) pushJsonbValue(&builder->state, WJB_KEY, &key);
		if (!push_part(builder, &part->children[i], WJB_VALUE))
			return false;
	}
	builder->last = pushJsonbValue(&builder->state, WJB_END_OBJECT, NULL);
	return true;
}

static bool
push_array(Builder *builder, const Part *part)
{
	(void) pushJsonbValue(&builder->state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < part->n; i++)
		if (!push_part(builder, &part->children[i], WJB_ELEM))
			return false;
	builder->last = pushJsonbValue(&builder->state, WJB_END_ARRAY, NULL);
	return true;
}

static bool
push_part(Builder *builder, const Part *part, JsonbIteratorToken token)
{
	JsonbValue	value = part->constant;

	switch (part->kind)
	{
		case PART_OBJECT:
			return push_object(builder, part);
		case PART_ARRAY:
			return push_array(builder, part);
		case PART_EXPRESSION:
			if (!evs_asl_evaluate(part->expression, &builder->evaluation, &value) ||
				!evs_asl_made(&builder->evaluation, evs_asl_size(&value)))
				return false;
			break;
		case PART_CONSTANT:
			break;
	}
	(void) pushJsonbValue(&builder->state, token, &value);
	return true;
}

Jsonb *
evs_asl_template_apply(const EvsAslTemplate *template, const EvsAslScope *scope,
					   EvsAslError *error)
{
	Builder		builder = {.evaluation = {.scope = scope, .error = error}};

	if (template->constant != NULL)
		return template->constant;
	if (!push_part(&builder, &template->root, WJB_ELEM))
		return NULL;
	return JsonbValueToJsonb(builder.last);
}
