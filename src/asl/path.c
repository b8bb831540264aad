/*
 * path.c
 *	  Following paths, and putting values where they lead to.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "asl/path_node.h"
#include "compat.h"

/* What an indefinite path finds. */
typedef struct Finder
{
	const EvsAslPath *path;
	const EvsAslScope *scope;
	JsonbParseState *found;		/* NULL: only whether there is something */
	bool		any;
	bool		too_much;
	Size		size;
	int			visits;
	int			depth;
} Finder;

static void visit(Finder *finder, int step, const JsonbValue *value);

/* ---- about a path ---- */

bool
evs_asl_path_is_reference(const EvsAslPath *path)
{
	if (path->root != EVS_ASL_ROOT_INPUT || !path->definite)
		return false;
	for (int i = 0; i < path->nsteps; i++)
		if (path->steps[i].kind == EVS_ASL_INDEX && path->steps[i].index < 0)
			return false;
	return true;
}

bool
evs_asl_path_is_definite(const EvsAslPath *path)
{
	return path->definite;
}

const char *
evs_asl_path_text(const EvsAslPath *path)
{
	return path->text;
}

/* ---- definite paths ---- */

static Jsonb *
root_document(const EvsAslPath *path, const EvsAslScope *scope)
{
	switch (path->root)
	{
		case EVS_ASL_ROOT_INPUT:
			return scope->input;
		case EVS_ASL_ROOT_CONTEXT:
			return scope->context;
		default:
			return scope->variables;
	}
}

bool
evs_asl_path_start(const EvsAslPath *path, const EvsAslScope *scope, const JsonbValue *current,
				   JsonbValue *value)
{
	Jsonb	   *document;

	if (path->root == EVS_ASL_ROOT_CURRENT)
	{
		*value = *current;
		return true;
	}
	document = root_document(path, scope);
	if (document == NULL)
		return false;
	*value = evs_asl_unpack(document);
	return path->root != EVS_ASL_ROOT_VARIABLE ||
		evs_asl_find_member(value, path->variable, strlen(path->variable), value);
}

static bool
follow_step(const EvsAslStep *step, const JsonbValue *from, JsonbValue *to)
{
	if (step->kind == EVS_ASL_NAME)
		return evs_asl_find_member(from, step->name, step->name_len, to);
	return evs_asl_find_element(from, step->index, to);
}

bool
evs_asl_path_follow(const EvsAslPath *path, const EvsAslScope *scope, const JsonbValue *current,
					JsonbValue *value)
{
	if (!evs_asl_path_start(path, scope, current, value))
		return false;
	for (int i = 0; i < path->nsteps; i++)
	{
		JsonbValue	next;

		if (!follow_step(&path->steps[i], value, &next))
			return false;
		*value = next;
	}
	return true;
}

/* ---- indefinite paths ---- */

/* Go on with each member or element. */
static void
visit_children(Finder *finder, int step, const JsonbValue *value)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	child;

	if (value->type != jbvBinary)
		return;
	it = JsonbIteratorInit(value->val.binary.data);
	(void) JsonbIteratorNext(&it, &child, true);
	while ((token = JsonbIteratorNext(&it, &child, true)) != WJB_END_ARRAY &&
		   token != WJB_END_OBJECT)
		if (token != WJB_KEY)
			visit(finder, step, &child);
}

/* The value is the first of them, before what is below it. */
static void
visit_descendants(Finder *finder, int step, const JsonbValue *value)
{
	visit(finder, step + 1, value);
	visit_children(finder, step, value);
}

static void
visit_matching(Finder *finder, const EvsAslFilter *filter, int step, const JsonbValue *value)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	child;

	if (value->type != jbvBinary)
		return;
	it = JsonbIteratorInit(value->val.binary.data);
	(void) JsonbIteratorNext(&it, &child, true);
	while ((token = JsonbIteratorNext(&it, &child, true)) != WJB_END_ARRAY &&
		   token != WJB_END_OBJECT && !finder->too_much)
		if (token != WJB_KEY && evs_asl_filter_matches(filter, finder->scope, &child))
			visit(finder, step, &child);
}

/* Where a slice begins or ends that says so, or does not. */
static int64
slice_bound(bool is_given, int64 given, int64 otherwise, int64 min, int64 max, int n)
{
	if (!is_given)
		return otherwise;
	if (given < 0)
		given += n;
	return Min(Max(given, min), max);
}

/* As Python does it, and RFC 9535. */
static void
visit_slice(Finder *finder, const EvsAslStep *slice, int step, const JsonbValue *value)
{
	int			n;
	int64		start;
	int64		end;
	JsonbValue	element;

	if (!evs_asl_is_array(value))
		return;
	n = evs_asl_array_length(value);
	if (slice->step > 0)
	{
		start = slice_bound(slice->has_start, slice->index, 0, 0, n, n);
		end = slice_bound(slice->has_end, slice->end, n, 0, n, n);
	}
	else
	{
		start = slice_bound(slice->has_start, slice->index, n - 1, -1, n - 1, n);
		end = slice_bound(slice->has_end, slice->end, -1, -1, n - 1, n);
	}
	for (int64 i = start; slice->step > 0 ? i < end : i > end; i += slice->step)
		if (evs_asl_find_element(value, i, &element))
			visit(finder, step, &element);
}

/* Go on with what the step, or a union's item, selects; step is the next one. */
static void
select_from(Finder *finder, const EvsAslStep *selector, int step, const JsonbValue *value)
{
	JsonbValue	found;

	switch (selector->kind)
	{
		case EVS_ASL_NAME:
		case EVS_ASL_INDEX:
			if (follow_step(selector, value, &found))
				visit(finder, step, &found);
			break;
		case EVS_ASL_WILDCARD:
			visit_children(finder, step, value);
			break;
		case EVS_ASL_SLICE:
			visit_slice(finder, selector, step, value);
			break;
		case EVS_ASL_FILTER:
			visit_matching(finder, selector->filter, step, value);
			break;
		case EVS_ASL_UNION:
			for (int i = 0; i < selector->nitems; i++)
				select_from(finder, &selector->items[i], step, value);
			break;
		case EVS_ASL_DESCEND:
			visit_descendants(finder, step - 1, value);
			break;
	}
}

static void
add_found(Finder *finder, const JsonbValue *value)
{
	JsonbValue	copy = *value;

	finder->any = true;
	if (finder->found == NULL)
		return;
	finder->size += evs_asl_size(value);
	if (finder->size > EVS_ASL_VALUE_MAX)
		finder->too_much = true;
	else
		(void) pushJsonbValue(&finder->found, WJB_ELEM, &copy);
}

static void
visit(Finder *finder, int step, const JsonbValue *value)
{
	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (finder->too_much || (finder->any && finder->found == NULL))
		return;
	finder->depth++;
	if (++finder->visits > EVS_ASL_VISITS_MAX || finder->depth > EVS_ASL_VISITS_DEPTH_MAX)
		finder->too_much = true;
	else if (step == finder->path->nsteps)
		add_found(finder, value);
	else
		select_from(finder, &finder->path->steps[step], step + 1, value);
	finder->depth--;
}

bool
evs_asl_path_exists(const EvsAslPath *path, const EvsAslScope *scope, const JsonbValue *current)
{
	Finder		finder = {.path = path, .scope = scope};
	JsonbValue	value;

	if (path->definite)
		return evs_asl_path_follow(path, scope, current, &value);
	if (evs_asl_path_start(path, scope, current, &value))
		visit(&finder, 0, &value);
	return finder.any;
}

bool
evs_asl_path_value(const EvsAslPath *path, const EvsAslScope *scope, JsonbValue *value)
{
	Finder		finder = {.path = path, .scope = scope};
	JsonbValue	start;

	if (path->definite)
		return evs_asl_path_follow(path, scope, NULL, value);
	(void) pushJsonbValue(&finder.found, WJB_BEGIN_ARRAY, NULL);
	if (evs_asl_path_start(path, scope, NULL, &start))
		visit(&finder, 0, &start);
	if (finder.too_much)
		return false;
	*value = evs_asl_pushed(&finder.found, WJB_END_ARRAY);
	return true;
}

Jsonb *
evs_asl_path_get(const EvsAslPath *path, const EvsAslScope *scope)
{
	JsonbValue	value;

	if (path->nsteps == 0 && path->root != EVS_ASL_ROOT_VARIABLE)
		return root_document(path, scope);
	return evs_asl_path_value(path, scope, &value) ? evs_asl_value(&value) : NULL;
}

/* ---- putting ---- */

/* Why a value cannot be put there; old: what the step is applied to, NULL: nothing. */
static const char *
reason_to_refuse(const EvsAslStep *step, const JsonbValue *old)
{
	JsonbValue	element;

	if (step->kind == EVS_ASL_NAME)
		return old == NULL || evs_asl_is_object(old) ? NULL :
			psprintf("there is %s, and no object", evs_asl_kind(old));
	if (old == NULL)
		return "there is no array";
	if (!evs_asl_is_array(old))
		return psprintf("there is %s, and no array", evs_asl_kind(old));
	return evs_asl_find_element(old, step->index, &element) ? NULL : "the array is shorter";
}

static bool
can_put(const EvsAslPath *path, const JsonbValue *document, EvsAslError *error)
{
	JsonbValue	old = *document;
	bool		there = true;

	for (int i = 0; i < path->nsteps; i++)
	{
		const char *reason = reason_to_refuse(&path->steps[i], there ? &old : NULL);
		JsonbValue	next;

		if (reason != NULL)
		{
			evs_asl_fail(error, EVS_ASL_RESULT_PATH, "the path %s cannot be applied at step %d: %s",
						 path->text, i + 1, reason);
			return false;
		}
		there = there && follow_step(&path->steps[i], &old, &next);
		if (there)
			old = next;
	}
	return true;
}

/* Put the value in place of old (NULL: there is none), which the steps lead on from. */
static JsonbValue *put(JsonbParseState **state, const EvsAslStep *step, const EvsAslStep *end,
					   const JsonbValue *old, JsonbIteratorToken token, JsonbValue *value);

static JsonbValue *
put_member(JsonbParseState **state, const EvsAslStep *step, const EvsAslStep *end,
		   const JsonbValue *object, JsonbValue *value)
{
	JsonbIterator *it;
	JsonbValue	key;
	JsonbValue	member;
	JsonbValue	old;

	(void) pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	if (object != NULL)
	{
		it = JsonbIteratorInit(object->val.binary.data);
		(void) JsonbIteratorNext(&it, &key, true);
		while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
		{
			(void) JsonbIteratorNext(&it, &member, true);
			if (key.val.string.len == step->name_len &&
				memcmp(key.val.string.val, step->name, step->name_len) == 0)
				continue;
			(void) pushJsonbValue(state, WJB_KEY, &key);
			(void) pushJsonbValue(state, WJB_VALUE, &member);
		}
	}
	evs_asl_set_string(&key, step->name, step->name_len);
	(void) pushJsonbValue(state, WJB_KEY, &key);
	if (object == NULL || !follow_step(step, object, &old))
		(void) put(state, step + 1, end, NULL, WJB_VALUE, value);
	else
		(void) put(state, step + 1, end, &old, WJB_VALUE, value);
	return pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

static JsonbValue *
put_element(JsonbParseState **state, const EvsAslStep *step, const EvsAslStep *end,
			const JsonbValue *array, JsonbValue *value)
{
	JsonbIterator *it = JsonbIteratorInit(array->val.binary.data);
	JsonbValue	element;
	int64		i = 0;

	(void) pushJsonbValue(state, WJB_BEGIN_ARRAY, NULL);
	(void) JsonbIteratorNext(&it, &element, true);
	while (JsonbIteratorNext(&it, &element, true) == WJB_ELEM)
		if (i++ == step->index)
			(void) put(state, step + 1, end, &element, WJB_ELEM, value);
		else
			(void) pushJsonbValue(state, WJB_ELEM, &element);
	return pushJsonbValue(state, WJB_END_ARRAY, NULL);
}

static JsonbValue *
put(JsonbParseState **state, const EvsAslStep *step, const EvsAslStep *end,
	const JsonbValue *old, JsonbIteratorToken token, JsonbValue *value)
{
	if (step == end)
		return pushJsonbValue(state, token, value);
	if (step->kind == EVS_ASL_NAME)
		return put_member(state, step, end, old, value);
	return put_element(state, step, end, old, value);
}

Jsonb *
evs_asl_path_put(const EvsAslPath *path, Jsonb *document, Jsonb *value, EvsAslError *error)
{
	JsonbParseState *state = NULL;
	JsonbValue	old = evs_asl_unpack(document);
	JsonbValue	new = evs_asl_unpack(value);

	if (!evs_asl_path_is_reference(path))
		return evs_asl_fail(error, EVS_ASL_RESULT_PATH, "%s is not a reference path", path->text);
	if (path->nsteps == 0)
		return value;
	if (!can_put(path, &old, error))
		return NULL;
	return JsonbValueToJsonb(put(&state, path->steps, path->steps + path->nsteps, &old, WJB_ELEM,
								 &new));
}
