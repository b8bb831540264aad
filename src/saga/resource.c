/*
 * resource.c
 *	  What a Task's Resource names.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "saga/compile.h"
#include "compat.h"

#define PREFIX	"evstore:"

/* By EvsResourceKind. */
static const struct
{
	const char *name;
	const char *what;			/* its name is of; NULL: it has none */
	bool		may_wait;		/* .waitForTaskToken */
	bool		may_sync;		/* .sync */
}			kinds[] = {
	[EVS_RESOURCE_SQL] = {"sql", "a function with its schema", true, false},
	[EVS_RESOURCE_APPEND] = {"append", NULL, true, false},
	[EVS_RESOURCE_RELAY] = {"relay", "a relay", true, false},
	[EVS_RESOURCE_ACTIVITY] = {"activity", "an activity", false, false},
	[EVS_RESOURCE_EVENT] = {"event", "a type of events", false, false},
	[EVS_RESOURCE_SIGNAL] = {"signal", "a signal", false, false},
	[EVS_RESOURCE_SAGA] = {"saga", "a saga", false, true},
};

const char *
evs_resource_kind_name(EvsResourceKind kind)
{
	return kinds[kind].name;
}

List *
evs_saga_resources(const EvsSagaDefinition *definition)
{
	return definition->resources;
}

/* Cut it off if it is there. */
static bool
cut_suffix(char *text, const char *suffix)
{
	size_t		len = strlen(text);

	if (len < strlen(suffix) || strcmp(text +len - strlen(suffix), suffix) != 0)
		return false;
	text[		len - strlen(suffix)] = '\0';

	return true;
}

static int
find_kind(const char *name, size_t len)
{
	for (int i = 0; i < lengthof(kinds); i++)
		if (strlen(kinds[i].name) == len && strncmp(kinds[i].name, name, len) == 0)
			return i;
	return -1;
}

/* What is wrong with what it names, or NULL. */
static const char *
check_name(const EvsResource *resource)
{
	const char *what = kinds[resource->kind].what;

	if (what == NULL)
		return *resource->name == '\0' ? NULL : "names nothing after evstore:append: stream and type are parameters";
	if (*resource->name == '\0' ||
		(resource->kind == EVS_RESOURCE_SQL && strchr(resource->name, '.') == NULL))
		return psprintf("must name %s, as in evstore:%s:%s", what, kinds[resource->kind].name,
						resource->kind == EVS_RESOURCE_SQL ? "shop.reserve" : "name");
	return NULL;
}

static const char *
check_suffix(const EvsResource *resource)
{
	if (resource->wait_for_token && !kinds[resource->kind].may_wait)
		return psprintf("may not end with .waitForTaskToken: evstore:%s does not take one",
						kinds[resource->kind].name);
	if (resource->sync && !kinds[resource->kind].may_sync)
		return "may not end with .sync: only evstore:saga does";
	return NULL;
}

/* One of ours.  What is wrong with it, or NULL. */
static const char *
parse_own(const char *text, EvsResource *resource)
{
	char	   *rest = pstrdup(text +strlen(PREFIX));
	char	   *colon;
	const char *problem;
	int			kind;

	resource->wait_for_token = cut_suffix(rest, ".waitForTaskToken");
	resource->sync = !resource->wait_for_token && cut_suffix(rest, ".sync");
	colon = strchr(rest, ':');
	kind = find_kind(rest, colon == NULL ? strlen(rest) : colon - rest);
	if (kind < 0)
		return "is of no kind that there is: sql, append, relay, activity, event, signal, saga";
	resource->kind = kind;
	resource->name = colon == NULL ? "" : colon + 1;
	problem = check_name(resource);
	return problem != NULL ? problem : check_suffix(resource);
}

/* Somebody else's: an activity, called by its last part. */
static const char *
parse_foreign(const char *text, EvsResource *resource)
{
	char	   *rest = pstrdup(text);
	char	   *colon;

	if (!cut_suffix(rest, ".waitForTaskToken") && !cut_suffix(rest, ".sync:2"))
		cut_suffix(rest, ".sync");
	colon = strrchr(rest, ':');
	resource->kind = EVS_RESOURCE_ACTIVITY;
	resource->name = colon == NULL ? rest : colon + 1;
	return *resource->name == '\0' ? "must name something after the last colon" : NULL;
}

static const char *
parse(const char *text, EvsResource *resource)
{
	memset(resource, 0, sizeof(EvsResource));
	if (strncmp(text, PREFIX, strlen(PREFIX)) == 0)
		return parse_own(text, resource);
	return parse_foreign(text, resource);
}

bool
evs_saga_find_resource(const EvsSagaDefinition *definition, const char *text, EvsResource *resource)
{
	Jsonb	   *option = evs_asl_member(definition->options, "resources");
	Jsonb	   *mapped = option == NULL ? NULL : evs_asl_member(option, text);
	ListCell   *cell;

	if (*text == '\0')
		return false;
	foreach(cell, evs_saga_resources(definition))
	{
		const EvsResource *used = ((EvsResourceUse *) lfirst(cell))->resource;

		if (strcmp(used->text, text) == 0 || strcmp(used->name, text) == 0)
		{
			*resource = *used;
			return true;
		}
	}
	if (mapped == NULL && strncmp(text, PREFIX, strlen(PREFIX)) == 0)
		return false;
	if (parse(mapped == NULL ? text : evs_asl_text(mapped), resource) != NULL)
		return false;
	resource->text = pstrdup(text);
	return true;
}

/* What the option resources has for it, or NULL. */
static char *
find_mapped(EvsCompiler *compiler, const char *text)
{
	EvsPart		mapped;

	if (!evs_part_get(&compiler->resources, text, &mapped) || mapped.value.type != jbvString)
		return NULL;
	compiler->used = lappend(compiler->used, pstrdup(text));
	return pnstrdup(mapped.value.val.string.val, mapped.value.val.string.len);
}

bool
evs_compile_resource(EvsCompiler *compiler, const EvsPart *field, EvsResource *resource)
{
	char	   *text = evs_part_string(compiler, field);
	char	   *mapped;
	const char *problem;

	if (text == NULL)
		return false;
	mapped = find_mapped(compiler, text);
	problem = parse(mapped != NULL ? mapped : text, resource);
	resource->text = text;

	/* what is wrong with it in the option is reported there */
	if (problem != NULL && mapped == NULL)
		evs_compile_error(compiler, field, "%s", problem);
	else if (problem == NULL && mapped == NULL && strncmp(text, PREFIX, strlen(PREFIX)) != 0)
		evs_compile_warning(compiler, field, "is taken for the activity \"%s\": the option resources can say what it is",
							resource->name);
	return problem == NULL;
}

void
evs_compile_use(EvsCompiler *compiler, const EvsPart *field, const EvsResource *resource, bool compensates)
{
	EvsResourceUse *use = palloc(sizeof(EvsResourceUse));

	use->resource = resource;
	use->path = evs_part_path_text(compiler, field);
	use->compensates = compensates;
	compiler->definition->resources = lappend(compiler->definition->resources, use);
}

static bool
is_used(const EvsCompiler *compiler, const char *key)
{
	ListCell   *cell;

	foreach(cell, compiler->used)
		if (strcmp(lfirst(cell), key) == 0)
		return true;
	return false;
}

/* The option itself: each member names a resource of ours. */
void
evs_compile_resource_option(EvsCompiler *compiler)
{
	EvsPart		member;
	EvsEach		each;

	if (evs_part_is_null(&compiler->resources))
		return;
	evs_part_begin(&each, &compiler->resources);
	while (evs_part_next(&each, &compiler->resources, &member))
	{
		char	   *text = evs_part_string(compiler, &member);
		EvsResource resource;
		const char *problem;

		if (text == NULL)
			continue;
		problem = strncmp(text, PREFIX, strlen(PREFIX)) == 0 ? parse(text, &resource) :
			"must begin with evstore:";
		if (problem != NULL)
			evs_compile_error(compiler, &member, "%s", problem);
		if (!is_used(compiler, member.key))
			evs_compile_warning(compiler, &member, "is the resource of no state");
	}
}
