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
 *
 * The other members are in languages of their own, see src/filter.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/errors.h"
#include "filter/advanced.h"
#include "filter/cesql.h"
#include "filter/pattern.h"
#include "filter/pubsub.h"
#include "filter/servicebus.h"
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

	/* content, in languages of their own; NULL = not given */
	EvsPattern *pattern;
	EvsPattern *policy;			/* attributes, as an object */
	EvsPubsub  *pubsub;			/* attributes, as a string */
	EvsAdvanced *advanced;
	EvsCesql   *cesql;
	EvsServicebus *servicebus;
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
			 errhint("A filter has the members categories, stream_prefix, streams, types, tags, correlation_id, jsonpath, pattern, attributes, advanced, sql and sql_filter.")));
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

/* False if it is none that has a language of its own. */
static bool
parse_content(EvsFilter *filter, const char *member, JsonbValue *value)
{
	EvsWhere	where = {.key = member};

	if (strcmp(member, "pattern") == 0)
		filter->pattern = evs_pattern_compile(value, &where);
	else if (strcmp(member, "attributes") == 0 && value->type == jbvString)
		filter->pubsub = evs_pubsub_compile(evs_filter_text(value, &where), &where);
	else if (strcmp(member, "attributes") == 0)
		filter->policy = evs_policy_compile(value, &where);
	else if (strcmp(member, "advanced") == 0)
		filter->advanced = evs_advanced_compile(value, &where);
	else if (strcmp(member, "sql") == 0)
		filter->cesql = evs_cesql_compile(evs_filter_text(value, &where), &where);
	else if (strcmp(member, "sql_filter") == 0)
		filter->servicebus = evs_servicebus_compile(evs_filter_text(value, &where), &where);
	else
		return false;
	return true;
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
	else if (!parse_content(filter, member, value))
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

/* ---- where columns come from ---- */

static Datum
get_row_column(const EvsDocument *document, int column, bool *isnull)
{
	static const EvsLogColumn columns[EVS_EVENT_NCOLUMNS] = {
		[EVS_EVENT_POSITION] = EVS_LOG_POSITION,
		[EVS_EVENT_VERSION] = EVS_LOG_VERSION,
		[EVS_EVENT_EVENT_ID] = EVS_LOG_EVENT_ID,
		[EVS_EVENT_TYPE] = EVS_LOG_TYPE,
		[EVS_EVENT_SCHEMA_VERSION] = EVS_LOG_SCHEMA_VERSION,
		[EVS_EVENT_DATA] = EVS_LOG_DATA,
		[EVS_EVENT_METADATA] = EVS_LOG_METADATA,
		[EVS_EVENT_CORRELATION_ID] = EVS_LOG_CORRELATION_ID,
		[EVS_EVENT_CAUSATION_ID] = EVS_LOG_CAUSATION_ID,
		[EVS_EVENT_SOURCE] = EVS_LOG_SOURCE,
		[EVS_EVENT_OCCURRED_AT] = EVS_LOG_OCCURRED_AT,
		[EVS_EVENT_RECORDED_AT] = EVS_LOG_RECORDED_AT,
		[EVS_EVENT_TAGS] = EVS_LOG_TAGS,
	};
	EvsRowSource *source = document->arg;

	if (column == EVS_EVENT_STREAM)
	{
		*isnull = false;
		return PointerGetDatum(source->stream_name(source->arg));
	}
	return evs_leaf_get(source->leaf, source->slot, columns[column], isnull);
}

void
evs_filter_row_document(EvsRowSource *source, EvsDocument *document)
{
	memset(document, 0, sizeof(EvsDocument));
	document->column = get_row_column;
	document->arg = source;
}

typedef struct EventSource
{
	const Datum *values;
	const bool *nulls;
} EventSource;

static Datum
get_event_column(const EvsDocument *document, int column, bool *isnull)
{
	EventSource *source = document->arg;

	*isnull = source->nulls[column];
	return source->values[column];
}

/* ---- matching ---- */

static bool
matches_columns(EvsFilter *filter, const EvsDocument *document)
{
	bool		isnull;
	Datum		value;

	if (filter->types.n >= 0)
	{
		value = evs_document_column(document, EVS_EVENT_TYPE, &isnull);
		if (isnull || !set_has_text(&filter->types, value))
			return false;
	}
	if (filter->correlation_id != NULL)
	{
		text	   *id;

		value = evs_document_column(document, EVS_EVENT_CORRELATION_ID, &isnull);
		if (isnull)
			return false;
		id = DatumGetTextPP(value);
		if (VARSIZE_ANY_EXHDR(id) != strlen(filter->correlation_id) ||
			memcmp(VARDATA_ANY(id), filter->correlation_id, VARSIZE_ANY_EXHDR(id)) != 0)
			return false;
	}
	if (filter->tags.n > 0)
	{
		value = evs_document_column(document, EVS_EVENT_TAGS, &isnull);
		if (isnull || !has_all_tags(filter, value))
			return false;
	}
	if (filter->jsonpath != (Datum) 0)
	{
		value = evs_document_column(document, EVS_EVENT_DATA, &isnull);
		return !isnull && path_matches(filter, value);
	}
	return true;
}

bool
evs_filter_matches_row(EvsFilter *filter, EvsLeaf *leaf, TupleTableSlot *slot)
{
	EvsRowSource source = {.leaf = leaf, .slot = slot};
	EvsDocument document;
	bool		isnull;

	if (filter->categories.n >= 0 &&
		!category_may_match(filter, DatumGetInt32(evs_leaf_get(leaf, slot, EVS_LOG_CATEGORY_HASH,
															   &isnull))))
		return false;
	evs_filter_row_document(&source, &document);
	return matches_columns(filter, &document);
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

EvsFilterResult
evs_filter_matches_content(const EvsFilter *filter, EvsDocument *document, const char **error)
{
	EvsFilterResult result = EVS_FILTER_YES;
	const char *ignored;

	if ((filter->pattern != NULL && !evs_pattern_match(filter->pattern, document)) ||
		(filter->policy != NULL && !evs_pattern_match(filter->policy, document)) ||
		(filter->pubsub != NULL && !evs_pubsub_match(filter->pubsub, document)) ||
		(filter->advanced != NULL && !evs_advanced_match(filter->advanced, document)))
		return EVS_FILTER_NO;
	if (filter->cesql != NULL)
		result = evs_cesql_match(filter->cesql, document, error);
	if (result == EVS_FILTER_NO || filter->servicebus == NULL)
		return result;
	/* one that says no is right, whatever the other one fails on */
	if (result == EVS_FILTER_ERROR)
		return evs_servicebus_match(filter->servicebus, document, &ignored) == EVS_FILTER_NO ?
			EVS_FILTER_NO : EVS_FILTER_ERROR;
	return evs_servicebus_match(filter->servicebus, document, error);
}

EvsFilterResult
evs_filter_matches_event(EvsFilter *filter, const Datum *values, const bool *nulls,
						 const char **error)
{
	EventSource source = {.values = values, .nulls = nulls};
	EvsDocument document = {.column = get_event_column, .arg = &source};

	if (!matches_columns(filter, &document))
		return EVS_FILTER_NO;
	if (evs_filter_needs_name(filter))
	{
		text	   *name;

		if (nulls[EVS_EVENT_STREAM])
			return EVS_FILTER_NO;
		name = DatumGetTextPP(values[EVS_EVENT_STREAM]);
		if (!evs_filter_matches_stream(filter, VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name)))
			return EVS_FILTER_NO;
	}
	return evs_filter_matches_content(filter, &document, error);
}

bool
evs_filter_has_content(const EvsFilter *filter)
{
	return filter->pattern != NULL || filter->policy != NULL || filter->pubsub != NULL ||
		filter->advanced != NULL || evs_filter_can_fail(filter);
}

bool
evs_filter_can_fail(const EvsFilter *filter)
{
	return filter->cesql != NULL || filter->servicebus != NULL;
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
