/*
 * filter.c
 *	  Which events a reader wants.
 *
 * The members of a filter are connected by AND.  Within categories, streams
 * and types, any one matches; of tags, an event must have all.  The jsonpath
 * is applied to the event's data; it matches if the first item it returns is
 * neither false nor null, so both "$.total > 100" and "$.items[*] ? (@.sku ==
 * "x")" say what they look like.  A path that fails on an event's data does
 * not match it.  Dates and times without a zone are taken to be of the session's.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/errors.h"
#include "stream/filter.h"
#include "stream/path.h"
#include "stream/stream.h"
#include "compat.h"

typedef struct StringSet
{
	int			n;				/* -1 = not given */
	char	  **items;
	int		   *lengths;
	int32	   *hashes;			/* for categories */
} StringSet;

struct EvsFilter
{
	StringSet	categories;
	StringSet	streams;
	StringSet	types;
	StringSet	tags;
	char	   *stream_prefix;
	char	   *correlation_id;
	Datum		jsonpath;		/* 0 = not given */
};

static void
throw_invalid(const char *member, const char *what)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "path", psprintf("$.%s", member));
	ereport(ERROR,
			(errcode(ERRCODE_EVS_INVALID_DEFINITION),
			 errmsg("filter member \"%s\" %s", member, what),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 errhint("A filter has the members categories, stream_prefix, streams, types, tags, correlation_id and jsonpath.")));
}

static char *
parse_string(const JsonbValue *value, const char *member)
{
	if (value->type != jbvString)
		throw_invalid(member, "must be a string");
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static void
parse_set(const JsonbValue *value, const char *member, StringSet *set)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	element;
	int			size;

	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		throw_invalid(member, "must be an array of strings");
	size = Max(1, JsonContainerSize(value->val.binary.data));
	set->items = palloc(sizeof(char *) * size);
	set->lengths = palloc(sizeof(int) * size);
	set->hashes = palloc(sizeof(int32) * size);
	set->n = 0;
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (element.type != jbvString)
			throw_invalid(member, "must be an array of strings");
		set->items[set->n] = pnstrdup(element.val.string.val, element.val.string.len);
		set->lengths[set->n] = element.val.string.len;
		set->hashes[set->n] = evs_category_hash(element.val.string.val, element.val.string.len);
		set->n++;
	}
}

static void
parse_member(EvsFilter *filter, const char *member, JsonbValue *value)
{
	if (strcmp(member, "categories") == 0)
		parse_set(value, member, &filter->categories);
	else if (strcmp(member, "streams") == 0)
		parse_set(value, member, &filter->streams);
	else if (strcmp(member, "types") == 0)
		parse_set(value, member, &filter->types);
	else if (strcmp(member, "tags") == 0)
		parse_set(value, member, &filter->tags);
	else if (strcmp(member, "stream_prefix") == 0)
		filter->stream_prefix = parse_string(value, member);
	else if (strcmp(member, "correlation_id") == 0)
		filter->correlation_id = parse_string(value, member);
	else if (strcmp(member, "jsonpath") == 0)
		filter->jsonpath = evs_path_parse(parse_string(value, member),
										  "filter member \"jsonpath\"", "$.jsonpath");
	else
		throw_invalid(member, "is not known");
}

EvsFilter *
evs_filter_compile(Jsonb *definition)
{
	EvsFilter  *filter;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;

	if (definition == NULL)
		return NULL;
	if (!JB_ROOT_IS_OBJECT(definition))
		ereport(ERROR,
				(errcode(ERRCODE_EVS_INVALID_DEFINITION),
				 errmsg("a filter must be a JSON object"),
				 errdetail_internal("%s", "{\"path\": \"$\"}")));
	if (JB_ROOT_COUNT(definition) == 0)
		return NULL;

	filter = palloc0(sizeof(EvsFilter));
	filter->categories.n = filter->streams.n = filter->types.n = filter->tags.n = -1;
	it = JsonbIteratorInit(&definition->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		parse_member(filter, pnstrdup(key.val.string.val, key.val.string.len), &value);
	}
	return filter;
}

static bool
set_has(const StringSet *set, const char *s, int len)
{
	for (int i = 0; i < set->n; i++)
		if (set->lengths[i] == len && memcmp(set->items[i], s, len) == 0)
			return true;
	return false;
}

static bool
set_has_text(const StringSet *set, Datum value)
{
	text	   *t = DatumGetTextPP(value);

	return set_has(set, VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
}

static bool
category_may_match(const EvsFilter *filter, int32 hash)
{
	for (int i = 0; i < filter->categories.n; i++)
		if (filter->categories.hashes[i] == hash)
			return true;
	return false;
}

static bool
has_all_tags(const EvsFilter *filter, Datum value)
{
	ArrayIterator it = array_create_iterator(DatumGetArrayTypeP(value), 0, NULL);
	Datum		tag;
	bool		isnull;
	Bitmapset  *found = NULL;
	int			nfound;

	while (array_iterate(it, &tag, &isnull))
	{
		text	   *t = DatumGetTextPP(tag);

		for (int i = 0; i < filter->tags.n; i++)
			if (filter->tags.lengths[i] == (int) VARSIZE_ANY_EXHDR(t) &&
				memcmp(filter->tags.items[i], VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t)) == 0)
				found = bms_add_member(found, i);
	}
	array_free_iterator(it);
	nfound = bms_num_members(found);
	bms_free(found);
	return nfound == filter->tags.n;
}

/* What a path finds, seen as a boolean. */
static bool
path_matches(EvsFilter *filter, Datum data)
{
	Jsonb	   *found = evs_path_first(filter->jsonpath, data);
	JsonbValue	item;

	if (found == NULL)
		return false;
	if (!JsonbExtractScalar(&found->root, &item))
		return true;			/* an object or an array */
	return item.type != jbvNull && !(item.type == jbvBool && !item.val.boolean);
}

bool
evs_filter_matches_row(EvsFilter *filter, EvsLeaf *leaf, TupleTableSlot *slot)
{
	bool		isnull;
	Datum		value;

	if (filter->categories.n >= 0)
	{
		value = evs_leaf_get(leaf, slot, EVS_LOG_CATEGORY_HASH, &isnull);
		if (!category_may_match(filter, DatumGetInt32(value)))
			return false;
	}
	if (filter->types.n >= 0)
	{
		value = evs_leaf_get(leaf, slot, EVS_LOG_TYPE, &isnull);
		if (!set_has_text(&filter->types, value))
			return false;
	}
	if (filter->correlation_id != NULL)
	{
		text	   *id;

		value = evs_leaf_get(leaf, slot, EVS_LOG_CORRELATION_ID, &isnull);
		if (isnull)
			return false;
		id = DatumGetTextPP(value);
		if (VARSIZE_ANY_EXHDR(id) != strlen(filter->correlation_id) ||
			memcmp(VARDATA_ANY(id), filter->correlation_id, VARSIZE_ANY_EXHDR(id)) != 0)
			return false;
	}
	if (filter->tags.n > 0)
	{
		value = evs_leaf_get(leaf, slot, EVS_LOG_TAGS, &isnull);
		if (isnull || !has_all_tags(filter, value))
			return false;
	}
	if (filter->jsonpath != (Datum) 0)
		return path_matches(filter, evs_leaf_get(leaf, slot, EVS_LOG_DATA, &isnull));
	return true;
}

bool
evs_filter_matches_stream(const EvsFilter *filter, const char *name, int len)
{
	if (filter->categories.n >= 0)
	{
		const char *dash = memchr(name, '-', len);

		if (!set_has(&filter->categories, name, dash != NULL ? dash - name : len))
			return false;
	}
	if (filter->streams.n >= 0 && !set_has(&filter->streams, name, len))
		return false;
	if (filter->stream_prefix != NULL)
	{
		int			prefix_len = strlen(filter->stream_prefix);

		if (prefix_len > len || memcmp(name, filter->stream_prefix, prefix_len) != 0)
			return false;
	}
	return true;
}

bool
evs_filter_needs_name(const EvsFilter *filter)
{
	return filter->categories.n >= 0 || filter->streams.n >= 0 || filter->stream_prefix != NULL;
}

bool
evs_filter_category_hashes(const EvsFilter *filter, int32 *hashes, int max, int *n)
{
	*n = 0;
	for (int i = 0; i < filter->categories.n; i++)
	{
		bool		known = false;

		for (int j = 0; j < *n && !known; j++)
			known = hashes[j] == filter->categories.hashes[i];
		if (known)
			continue;
		if (*n == max)
			return false;
		hashes[(*n)++] = filter->categories.hashes[i];
	}
	return filter->categories.n >= 0;
}

const char *
evs_filter_correlation_id(const EvsFilter *filter)
{
	return filter->correlation_id;
}
