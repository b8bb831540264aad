/*
 * batch.c
 *	  Events that are to be appended: building and validating a batch.
 *
 * Everything that can be wrong with the arguments is found here, before any
 * lock is taken.  An error names the field, its DETAIL the event's index in
 * the batch.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "base/errors.h"
#include "base/guc.h"
#include "stream/batch.h"
#include "stream/cause.h"
#include "compat.h"

static void
throw_invalid(int index, const char *field, const char *what)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_int(&detail, "index", index);
	evs_detail_string(&detail, "field", field);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_INVALID_EVENT),
			 errmsg("event field \"%s\" %s", field, what),
			 errdetail_internal("%s", evs_detail_end(&detail))));
}

int64
evs_batch_expected(bool isnull, int64 value)
{
	if (isnull)
		return EVS_ANY_VERSION;
	if (value < 0 && value != EVS_ANY_VERSION && value != EVS_NO_STREAM &&
		value != EVS_STREAM_EXISTS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"expected_version\" must not be " INT64_FORMAT, value),
				 errhint("Use a version from 0 on, -1 (no stream yet), -2 or null (any), or -4 (must exist).")));
	return value;
}

void
evs_batch_check_count(int64 nevents, const char *argument)
{
	if (nevents > evs_guc_max_batch)
		ereport(ERROR,
				(errcode(ERRCODE_EVS_INVALID_EVENT),
				 errmsg("argument \"%s\" has too many events", argument),
				 errdetail("{\"events\": " INT64_FORMAT ", \"limit\": %d}",
						   nevents, evs_guc_max_batch),
				 errhint("Split the batch, or raise evstore.max_batch.")));
}

void
evs_batch_init_event(EvsNewEvent *event)
{
	memset(event, 0, sizeof(EvsNewEvent));
	event->schema_version = 1;
}

/* ---- JSON ---- */

static text *
json_text(const JsonbValue *value, int index, const char *field)
{
	if (value->type != jbvString)
		throw_invalid(index, field, "must be a string");
	return cstring_to_text_with_len(value->val.string.val, value->val.string.len);
}

/* A string through a type's input function; what it refuses is our error. */
static Datum
json_input(PGFunction input, const JsonbValue *value, int index, const char *field,
		   const char *otherwise)
{
	char	   *s = text_to_cstring(json_text(value, index, field));
	MemoryContext context = CurrentMemoryContext;
	Datum		result;

	PG_TRY();
	{
		result = DirectFunctionCall3(input, CStringGetDatum(s),
									 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	}
	PG_CATCH();
	{
		if (ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION))
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		FlushErrorState();
		throw_invalid(index, field, otherwise);
	}
	PG_END_TRY();
	return result;
}

static void
json_uuid(const JsonbValue *value, int index, const char *field, pg_uuid_t *uuid)
{
	*uuid = *DatumGetUUIDP(json_input(uuid_in, value, index, field, "must be a UUID"));
}

static TimestampTz
json_timestamptz(const JsonbValue *value, int index, const char *field)
{
	return DatumGetTimestampTz(json_input(timestamptz_in, value, index, field,
										  "must be a time with time zone"));
}

/* A number is taken as it is or not at all: 1.5 is not rounded to 2. */
bool
evs_batch_json_integer(const JsonbValue *value, int64 min, int64 max, int64 *result)
{
	Datum		number;

	if (value->type != jbvNumeric)
		return false;
	number = NumericGetDatum(value->val.numeric);
	if (!DatumGetBool(DirectFunctionCall2(numeric_eq, number,
										  DirectFunctionCall2(numeric_trunc, number,
															  Int32GetDatum(0)))) ||
		!DatumGetBool(DirectFunctionCall2(numeric_ge, number, NumericGetDatum(int64_to_numeric(min)))) ||
		!DatumGetBool(DirectFunctionCall2(numeric_le, number, NumericGetDatum(int64_to_numeric(max)))))
		return false;
	*result = DatumGetInt64(DirectFunctionCall1(numeric_int8, number));
	return true;
}

static int32
json_int(const JsonbValue *value, int index, const char *field)
{
	int64		result;

	if (!evs_batch_json_integer(value, PG_INT32_MIN, PG_INT32_MAX, &result))
		throw_invalid(index, field, "must be an integer");
	return (int32) result;
}

static ArrayType *
json_text_array(const JsonbValue *value, int index, const char *field)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	element;
	Datum	   *tags;
	int			n = 0;

	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		throw_invalid(index, field, "must be an array of strings");
	tags = palloc(sizeof(Datum) * Max(1, JsonContainerSize(value->val.binary.data)));
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
		if (token == WJB_ELEM)
			tags[n++] = PointerGetDatum(json_text(&element, index, field));
	return construct_array(tags, n, TEXTOID, -1, false, TYPALIGN_INT);
}

static bool
key_is(const JsonbValue *key, const char *name)
{
	return key->val.string.len == (int) strlen(name) &&
		memcmp(key->val.string.val, name, key->val.string.len) == 0;
}

/* One member of an event object; null is the same as not given. */
static void
parse_member(EvsNewEvent *event, int index, const JsonbValue *key, JsonbValue *value)
{
	bool		given = value->type != jbvNull;

	if (key_is(key, "type"))
		event->type = given ? json_text(value, index, "type") : NULL;
	else if (key_is(key, "data"))
		event->data = JsonbValueToJsonb(value);
	else if (key_is(key, "metadata"))
		event->metadata = given ? JsonbValueToJsonb(value) : NULL;
	else if (key_is(key, "event_id"))
	{
		event->has_event_id = given;
		if (given)
			json_uuid(value, index, "event_id", &event->event_id);
	}
	else if (key_is(key, "correlation_id"))
		event->correlation_id = given ? json_text(value, index, "correlation_id") : NULL;
	else if (key_is(key, "causation_id"))
	{
		event->has_causation_id = given;
		if (given)
			json_uuid(value, index, "causation_id", &event->causation_id);
	}
	else if (key_is(key, "schema_version"))
		event->schema_version = given ? json_int(value, index, "schema_version") : 1;
	else if (key_is(key, "occurred_at"))
	{
		event->has_occurred_at = given;
		if (given)
			event->occurred_at = json_timestamptz(value, index, "occurred_at");
	}
	else if (key_is(key, "source"))
		event->source = given ? json_text(value, index, "source") : NULL;
	else if (key_is(key, "tags"))
		event->tags = given ? json_text_array(value, index, "tags") : NULL;
	else
		throw_invalid(index, pnstrdup(key->val.string.val, key->val.string.len),
					  "is not known");
}

static void
parse_event(EvsNewEvent *event, int index, const JsonbValue *object)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;

	if (object->type != jbvBinary || !JsonContainerIsObject(object->val.binary.data))
	{
		StringInfoData detail;

		evs_detail_begin(&detail);
		evs_detail_int(&detail, "index", index);
		ereport(ERROR,
				(errcode(ERRCODE_EVS_INVALID_EVENT),
				 errmsg("an event must be a JSON object"),
				 errdetail_internal("%s", evs_detail_end(&detail))));
	}
	evs_batch_init_event(event);
	it = JsonbIteratorInit(object->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		token = JsonbIteratorNext(&it, &value, true);
		Assert(token == WJB_VALUE);
		parse_member(event, index, &key, &value);
	}
}

void
evs_batch_parse(EvsBatch *batch, Jsonb *events)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	element;
	int			n = 0;

	if (!JB_ROOT_IS_ARRAY(events) || JB_ROOT_IS_SCALAR(events))
		ereport(ERROR,
				(errcode(ERRCODE_EVS_INVALID_EVENT),
				 errmsg("argument \"events\" must be a JSON array of objects")));
	evs_batch_check_count(JB_ROOT_COUNT(events), "events");
	batch->events = palloc_extended(sizeof(EvsNewEvent) * Max(1, JB_ROOT_COUNT(events)),
									MCXT_ALLOC_HUGE);
	it = JsonbIteratorInit(&events->root);
	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
		if (token == WJB_ELEM)
		{
			CHECK_FOR_INTERRUPTS();
			parse_event(&batch->events[n], n, &element);
			n++;
		}
	batch->nevents = n;
}

/* ---- limits ---- */

static void
check_text(const text *value, int limit, bool allow_empty, int index, const char *field)
{
	const unsigned char *s = (const unsigned char *) VARDATA_ANY(value);
	int			len = VARSIZE_ANY_EXHDR(value);

	if (len == 0 && !allow_empty)
		throw_invalid(index, field, "must not be empty");
	if (len > limit)
		throw_invalid(index, field, psprintf("is longer than %d bytes", limit));
	for (int i = 0; i < len; i++)
		if (s[i] < 0x20 || s[i] == 0x7f)
			throw_invalid(index, field, "contains a control character");
}

static void
check_tags(const EvsNewEvent *event, int index)
{
	Datum	   *tags;
	bool	   *nulls;
	int			n;

	if (ARR_NDIM(event->tags) > 1)
		throw_invalid(index, "tags", "must have one dimension");
	deconstruct_array(event->tags, TEXTOID, -1, false, TYPALIGN_INT, &tags, &nulls, &n);
	if (n > EVS_TAGS_MAX)
		throw_invalid(index, "tags", psprintf("has more than %d elements", EVS_TAGS_MAX));
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			throw_invalid(index, "tags", "contains a null");
		check_text(DatumGetTextPP(tags[i]), EVS_TAG_MAX, false, index, "tags");
	}
	pfree(tags);
	pfree(nulls);
}

static void
check_size(const EvsNewEvent *event, int index)
{
	int64		size = 0;

	if (event->data != NULL)
		size += VARSIZE_ANY(event->data);
	if (event->metadata != NULL)
		size += VARSIZE_ANY(event->metadata);
	if (size > evs_guc_max_event_size)
	{
		StringInfoData detail;

		evs_detail_begin(&detail);
		evs_detail_int(&detail, "index", index);
		evs_detail_string(&detail, "field", "data");
		evs_detail_int(&detail, "size", size);
		evs_detail_int(&detail, "limit", evs_guc_max_event_size);
		ereport(ERROR,
				(errcode(ERRCODE_EVS_INVALID_EVENT),
				 errmsg("event field \"data\" is too large"),
				 errdetail_internal("%s", evs_detail_end(&detail)),
				 errhint("Store large objects elsewhere and refer to them, or raise evstore.max_event_size.")));
	}
}

static void
check_event(const EvsNewEvent *event, int index)
{
	if (event->type == NULL)
		throw_invalid(index, "type", "must not be null");
	check_text(event->type, EVS_TYPE_MAX, false, index, "type");
	if (event->schema_version < 1)
		throw_invalid(index, "schema_version", "must be 1 or more");
	if (event->metadata != NULL &&
		(!JB_ROOT_IS_OBJECT(event->metadata)))
		throw_invalid(index, "metadata", "must be a JSON object");
	if (event->correlation_id != NULL)
		check_text(event->correlation_id, EVS_CORRELATION_MAX, false, index, "correlation_id");
	if (event->source != NULL)
		check_text(event->source, EVS_SOURCE_MAX, true, index, "source");
	if (event->has_occurred_at && TIMESTAMP_NOT_FINITE(event->occurred_at))
		throw_invalid(index, "occurred_at", "must be finite");
	if (event->tags != NULL)
		check_tags(event, index);
	check_size(event, index);
}

/* Ids twice in one batch: found by hash, before anything is written. */
typedef struct SeenId
{
	pg_uuid_t	id;
	int			index;
} SeenId;

static void
check_distinct_ids(const EvsBatch *batch)
{
	HASHCTL		ctl = {
		.keysize = sizeof(pg_uuid_t),
		.entrysize = sizeof(SeenId),
		.hcxt = CurrentMemoryContext,
	};
	HTAB	   *seen;

	if (batch->nevents < 2)
		return;
	seen = hash_create("evstore batch ids", batch->nevents, &ctl,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (int i = 0; i < batch->nevents; i++)
	{
		bool		found;
		SeenId	   *entry;

		if (!batch->events[i].has_event_id)
			continue;
		entry = hash_search(seen, &batch->events[i].event_id, HASH_ENTER, &found);
		if (found)
		{
			StringInfoData detail;

			evs_detail_begin(&detail);
			evs_detail_string(&detail, "event_id",
							  DatumGetCString(DirectFunctionCall1(uuid_out,
																  UUIDPGetDatum(&entry->id))));
			evs_detail_raw(&detail, "indexes", psprintf("[%d, %d]", entry->index, i));
			ereport(ERROR,
					(errcode(ERRCODE_EVS_DUPLICATE_EVENT_ID),
					 errmsg("an event id occurs twice in one batch"),
					 errdetail_internal("%s", evs_detail_end(&detail))));
		}
		entry->index = i;
	}
	hash_destroy(seen);
}

/* What a handler, or the session's settings, add to events that do not say it themselves. */
static void
apply_context(EvsNewEvent *event)
{
	EvsCause	cause = evs_cause_get();

	if (event->correlation_id == NULL)
		event->correlation_id = cause.correlation_id;
	if (!event->has_causation_id && cause.causation_id != NULL)
	{
		event->causation_id = *cause.causation_id;
		event->has_causation_id = true;
	}
	if (event->correlation_id == NULL &&
		evs_guc_correlation_id != NULL && evs_guc_correlation_id[0] != '\0')
		event->correlation_id = cstring_to_text(evs_guc_correlation_id);
	if (!event->has_causation_id &&
		evs_guc_causation_id != NULL && evs_guc_causation_id[0] != '\0')
	{
		event->causation_id = *DatumGetUUIDP(DirectFunctionCall1(uuid_in,
																 CStringGetDatum(evs_guc_causation_id)));
		event->has_causation_id = true;
	}
}

void
evs_batch_validate(EvsBatch *batch)
{
	bool		any_id = false;

	for (int i = 0; i < batch->nevents; i++)
	{
		apply_context(&batch->events[i]);
		check_event(&batch->events[i], i);
		any_id |= batch->events[i].has_event_id;
	}
	if (any_id)
		check_distinct_ids(batch);
}
