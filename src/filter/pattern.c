/*
 * pattern.c
 *	  EventBridge event patterns, and SNS filter policies.
 *
 * A pattern is an object: each of its members must match.  A member is an array
 * of conditions on a value, a pattern for what is in an object, or "$or" with
 * patterns one of which must match.  What the pattern asks of a member that is
 * not there is asked of nothing: only {"exists": false} is true of that.
 *
 * Of an array of objects, one must match the whole pattern within.
 */
#include "postgres.h"

#include "filter/matcher.h"
#include "filter/pattern.h"
#include "compat.h"

typedef struct Member
{
	char	   *key;			/* NULL: one of the patterns */
	EvsPath		path;			/* instead, where members are those of the
								 * event */
	EvsMatcher *matcher;		/* or */
	EvsPattern *pattern;		/* or */
	EvsPattern **any_of;
	int			nany_of;
} Member;

struct EvsPattern
{
	bool		of_event;		/* and not of an object in its data */
	int			n;
	Member		members[FLEXIBLE_ARRAY_MEMBER];
};

typedef enum Scope
{
	SCOPE_EVENT,
	SCOPE_ATTRIBUTES,
	SCOPE_OBJECT
} Scope;

/* ---- compiling ---- */

static EvsPattern *compile(const JsonbValue *definition, const EvsWhere *where, Scope scope,
						   int depth);

static void
compile_or(Member *member, const JsonbValue *value, const EvsWhere *where, Scope scope, int depth)
{
	JsonbContainer *array = evs_filter_array(value, where);
	EvsEach		each;

	if (JsonContainerSize(array) == 0)
		evs_filter_invalid(where, "the array must not be empty");
	member->any_of = palloc(sizeof(EvsPattern *) * JsonContainerSize(array));
	evs_each_begin(&each, array);
	while (evs_each_next(&each))
	{
		EvsWhere	here = {.up = where, .index = each.index};

		member->any_of[member->nany_of++] = compile(&each.value, &here, scope, depth + 1);
	}
}

/* Where the value of an event's member, or of an attribute, is. */
static void
set_path(Member *member, Scope scope, const EvsWhere *where)
{
	if (evs_field_find(member->key, false, &member->path.field))
		return;
	if (scope == SCOPE_EVENT)
		evs_filter_invalid(where, "events have no such member");
	member->path.field = EVS_FIELD_METADATA;
	member->path.nkeys = 1;
	member->path.keys = &member->key;
}

static void
compile_member(Member *member, char *key, const JsonbValue *value, const EvsWhere *where,
			   Scope scope, int depth)
{
	if (strcmp(key, "$or") == 0)
	{
		compile_or(member, value, where, scope, depth);
		return;
	}
	member->key = key;
	if (scope != SCOPE_OBJECT)
		set_path(member, scope, where);
	if (value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data))
		member->matcher = evs_matcher_compile(value, where);
	else if (scope == SCOPE_ATTRIBUTES)
		evs_filter_invalid(where, "it must be an array");
	else if (value->type == jbvBinary)
		member->pattern = compile(value, where, SCOPE_OBJECT, depth + 1);
	else
		evs_filter_invalid(where, "it must be an array or an object");
}

static EvsPattern *
compile(const JsonbValue *definition, const EvsWhere *where, Scope scope, int depth)
{
	JsonbContainer *object = evs_filter_object(definition, where);
	EvsPattern *pattern;
	EvsEach		each;

	if (depth > EVS_FILTER_DEPTH_MAX)
		evs_filter_invalid(where, "it is nested too deeply");
	if (JsonContainerSize(object) == 0)
		evs_filter_invalid(where, "the object must not be empty");
	pattern = palloc0(offsetof(EvsPattern, members) + sizeof(Member) * JsonContainerSize(object));
	pattern->of_event = scope != SCOPE_OBJECT;
	evs_each_begin(&each, object);
	while (evs_each_next(&each))
	{
		EvsWhere	here = {.up = where, .key = each.key};

		compile_member(&pattern->members[pattern->n++], each.key, &each.value, &here, scope, depth);
	}
	return pattern;
}

EvsPattern *
evs_pattern_compile(const JsonbValue *definition, const EvsWhere *where)
{
	return compile(definition, where, SCOPE_EVENT, 0);
}

EvsPattern *
evs_policy_compile(const JsonbValue *definition, const EvsWhere *where)
{
	return compile(definition, where, SCOPE_ATTRIBUTES, 0);
}

/* ---- matching ---- */

static bool matches(const EvsPattern *pattern, EvsDocument *document, const JsonbValue *object);

/* Of a pattern within: an object, an object in an array, or nothing. */
static bool
value_matches(const EvsPattern *pattern, const JsonbValue *value)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	element;
	bool		has_objects = false;

	if (value == NULL || value->type != jbvBinary)
		return matches(pattern, NULL, NULL);
	if (JsonContainerIsObject(value->val.binary.data))
		return matches(pattern, NULL, value);
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM || element.type != jbvBinary ||
			!JsonContainerIsObject(element.val.binary.data))
			continue;
		has_objects = true;
		if (matches(pattern, NULL, &element))
			return true;
	}
	return !has_objects && matches(pattern, NULL, NULL);
}

static bool
member_matches(const EvsPattern *pattern, const Member *member, EvsDocument *document,
			   const JsonbValue *object)
{
	JsonbValue	value;
	bool		found;

	if (member->key == NULL)
	{
		for (int i = 0; i < member->nany_of; i++)
			if (matches(member->any_of[i], document, object))
				return true;
		return false;
	}
	if (pattern->of_event)
		found = evs_document_follow(document, &member->path, &value);
	else
		found = object != NULL && evs_document_json_member(object, member->key, &value);
	if (member->matcher != NULL)
		return evs_matcher_match(member->matcher, found ? &value : NULL);
	return value_matches(member->pattern, found ? &value : NULL);
}

static bool
matches(const EvsPattern *pattern, EvsDocument *document, const JsonbValue *object)
{
	for (int i = 0; i < pattern->n; i++)
		if (!member_matches(pattern, &pattern->members[i], document, object))
			return false;
	return true;
}

bool
evs_pattern_match(const EvsPattern *pattern, EvsDocument *document)
{
	return matches(pattern, document, NULL);
}
