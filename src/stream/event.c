/*
 * event.c
 *	  Events as rows: of the log, and of type evstore.event.
 */
#include "postgres.h"

#include <sys/time.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "base/guc.h"
#include "stream/event.h"
#include "compat.h"

/* Unix epoch in PostgreSQL's time, in milliseconds before 2000-01-01 */
#define EPOCH_DIFF_MS ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000)

/* ---- UUIDv7, RFC 9562 ---- */

/* Asking for random bytes costs more than what is done with eight of them. */
static void
random_bytes(unsigned char *bytes)
{
	static unsigned char pool[512];
	static Size used = sizeof(pool);

	if (used == sizeof(pool))
	{
		if (!pg_strong_random(pool, sizeof(pool)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		used = 0;
	}
	memcpy(bytes, pool + used, 8);
	used += 8;
}

/*
 * 48 bits of milliseconds, 12 bits of the fraction of a millisecond (method 3
 * of the RFC's section 6.2), 62 random bits.  The 60-bit clock is advanced by
 * one where it would not increase.
 */
void
evs_uuid7(pg_uuid_t *uuid)
{
	static uint64 last = 0;
	struct timeval tv;
	uint64		clock;
	uint64		high;

	gettimeofday(&tv, NULL);
	clock = (((uint64) tv.tv_sec * 1000 + tv.tv_usec / 1000) << 12) |
		((uint64) (tv.tv_usec % 1000) * 4096 / 1000);
	if (clock <= last)
		clock = last + 1;
	last = clock;

	high = pg_hton64(((clock >> 12) << 16) | 0x7000 | (clock & 0xfff));
	memcpy(uuid->data, &high, 8);
	random_bytes(uuid->data + 8);
	uuid->data[8] = (uuid->data[8] & 0x3f) | 0x80;
}

bool
evs_uuid7_time(const pg_uuid_t *uuid, TimestampTz *time)
{
	uint64		high;

	if ((uuid->data[6] & 0xf0) != 0x70 || (uuid->data[8] & 0xc0) != 0x80)
		return false;
	memcpy(&high, uuid->data, 8);
	*time = ((int64) (pg_ntoh64(high) >> 16) - EPOCH_DIFF_MS) * 1000;
	return true;
}

/* ---- metadata ---- */

static void
push_string(JsonbParseState **state, JsonbIteratorToken token, const char *s)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, s);
	value.val.string.len = strlen(s);
	pushJsonbValue(state, token, &value);
}

static void
push_member(JsonbParseState **state, const char *key, const char *s)
{
	push_string(state, WJB_KEY, key);
	push_string(state, WJB_VALUE, s);
}

/* Nothing for connections through a Unix socket, and in workers. */
static void
push_client_address(JsonbParseState **state)
{
	LOCAL_FCINFO(fcinfo, 0);
	Datum		address;

	if (MyProcPort == NULL)
		return;
	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	address = inet_client_addr(fcinfo);
	if (!fcinfo->isnull)
		push_member(state, "client_addr",
					DatumGetCString(DirectFunctionCall1(inet_out, address)));
}

static void
push_context(JsonbParseState **state)
{
	push_string(state, WJB_KEY, "context");
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	push_member(state, "session_user", GetUserNameFromId(GetSessionUserId(), false));
	push_member(state, "user", GetUserNameFromId(GetUserId(), false));
	if (application_name != NULL && application_name[0] != '\0')
		push_member(state, "application_name", application_name);
	push_client_address(state);
	push_member(state, "transaction",
				psprintf(UINT64_FORMAT, U64FromFullTransactionId(GetTopFullTransactionId())));
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

static bool
has_key(Jsonb *object, const char *key)
{
	JsonbValue	value;

	return object != NULL &&
		getKeyJsonValueFromContainer(&object->root, key, strlen(key), &value) != NULL;
}

static bool
is_set(const char *setting)
{
	return setting != NULL && setting[0] != '\0';
}

/* The keys that evs_metadata_stored() may add. */
static bool
is_added_key(const JsonbValue *key)
{
	static const char *const added[] = {"actor", "context", "traceparent"};

	for (int i = 0; i < (int) lengthof(added); i++)
		if (key->val.string.len == (int) strlen(added[i]) &&
			memcmp(key->val.string.val, added[i], key->val.string.len) == 0)
			return true;
	return false;
}

Jsonb *
evs_metadata_stored(Jsonb *passed)
{
	bool		actor = is_set(evs_guc_actor) && !has_key(passed, "actor");
	bool		traceparent = is_set(evs_guc_traceparent) && !has_key(passed, "traceparent");
	JsonbParseState *state = NULL;

	if (!actor && !traceparent && !evs_guc_capture_context)
		return passed;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	if (passed != NULL)
	{
		JsonbIterator *it = JsonbIteratorInit(&passed->root);
		JsonbIteratorToken token;
		JsonbValue	value;

		while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
			if (token == WJB_KEY || token == WJB_VALUE)
				pushJsonbValue(&state, token, &value);
	}
	/* of equal keys the last one stays: the client cannot fake its context */
	if (actor)
		push_member(&state, "actor", evs_guc_actor);
	if (traceparent)
		push_member(&state, "traceparent", evs_guc_traceparent);
	if (evs_guc_capture_context)
		push_context(&state);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/*
 * A retry's session may have another trace context, so only what the caller
 * passed itself is compared: each member must be there, and nothing else but
 * what settings add.  NULL, not passed, matches anything.
 */
bool
evs_metadata_matches(Jsonb *passed, Jsonb *stored)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;

	if (passed == NULL)
		return true;
	if (stored == NULL)
		return JB_ROOT_COUNT(passed) == 0;

	it = JsonbIteratorInit(&passed->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		JsonbValue	other;

		if (token != WJB_KEY)
			continue;
		token = JsonbIteratorNext(&it, &value, true);
		if (evs_guc_capture_context && is_added_key(&key) &&
			key.val.string.len == 7 && memcmp(key.val.string.val, "context", 7) == 0)
			continue;
		if (getKeyJsonValueFromContainer(&stored->root, key.val.string.val,
										 key.val.string.len, &other) == NULL)
			return false;
		if (compareJsonbContainers(&JsonbValueToJsonb(&value)->root,
								   &JsonbValueToJsonb(&other)->root) != 0)
			return false;
	}

	it = JsonbIteratorInit(&stored->root);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		if (!is_added_key(&key) &&
			getKeyJsonValueFromContainer(&passed->root, key.val.string.val,
										 key.val.string.len, &value) == NULL)
			return false;
		(void) JsonbIteratorNext(&it, &value, true);
	}
	return true;
}

/* ---- rows ---- */


/* {}, as jsonb stores it */
Jsonb *
evs_event_empty_object(void)
{
	static union
	{
		Jsonb		jsonb;
		char		bytes[sizeof(int32) + sizeof(uint32)];
	}			empty;

	SET_VARSIZE(&empty.jsonb, sizeof(empty.bytes));
	empty.jsonb.root.header = JB_FOBJECT;
	return &empty.jsonb;
}

Size
evs_event_to_row(const EvsNewEvent *event, const EvsPlace *place,
				 const EvsLeaf *leaf, TupleTableSlot *slot)
{
	Datum	   *values = slot->tts_values;
	bool	   *nulls = slot->tts_isnull;
	Jsonb	   *data = event->data != NULL ? event->data : evs_event_empty_object();
	Jsonb	   *metadata = evs_metadata_stored(event->metadata);

	memset(nulls, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
#define SET(col, datum) \
	(values[leaf->attno[col] - 1] = (datum), nulls[leaf->attno[col] - 1] = false)
	SET(EVS_LOG_POSITION, Int64GetDatum(place->position));
	SET(EVS_LOG_STREAM_ID, Int64GetDatum(place->stream_id));
	SET(EVS_LOG_VERSION, Int64GetDatum(place->version));
	SET(EVS_LOG_CATEGORY_HASH, Int32GetDatum(place->category_hash));
	SET(EVS_LOG_SCHEMA_VERSION, Int32GetDatum(event->schema_version));
	SET(EVS_LOG_EVENT_ID, UUIDPGetDatum(&event->event_id));
	SET(EVS_LOG_RECORDED_AT, TimestampTzGetDatum(place->recorded_at));
	SET(EVS_LOG_TYPE, PointerGetDatum(event->type));
	SET(EVS_LOG_DATA, JsonbPGetDatum(data));
	if (metadata != NULL)
		SET(EVS_LOG_METADATA, JsonbPGetDatum(metadata));
	if (event->correlation_id != NULL)
		SET(EVS_LOG_CORRELATION_ID, PointerGetDatum(event->correlation_id));
	if (event->has_causation_id)
		SET(EVS_LOG_CAUSATION_ID, UUIDPGetDatum(&event->causation_id));
	if (event->source != NULL)
		SET(EVS_LOG_SOURCE, PointerGetDatum(event->source));
	if (event->has_occurred_at)
		SET(EVS_LOG_OCCURRED_AT, TimestampTzGetDatum(event->occurred_at));
	if (event->tags != NULL)
		SET(EVS_LOG_TAGS, PointerGetDatum(event->tags));
#undef SET
	return 128 + VARSIZE_ANY(data) + (metadata != NULL ? VARSIZE_ANY(metadata) : 0);
}

void
evs_event_from_row(EvsLeaf *leaf, TupleTableSlot *slot, Datum stream_name,
				   Datum *values, bool *nulls)
{
	slot_getsomeattrs(slot, leaf->max_attno);
#define COPY(to, from) \
	(values[to] = slot->tts_values[leaf->attno[from] - 1], \
	 nulls[to] = slot->tts_isnull[leaf->attno[from] - 1])
	COPY(EVS_EVENT_POSITION, EVS_LOG_POSITION);
	values[EVS_EVENT_STREAM] = stream_name;
	nulls[EVS_EVENT_STREAM] = false;
	COPY(EVS_EVENT_VERSION, EVS_LOG_VERSION);
	COPY(EVS_EVENT_EVENT_ID, EVS_LOG_EVENT_ID);
	COPY(EVS_EVENT_TYPE, EVS_LOG_TYPE);
	COPY(EVS_EVENT_SCHEMA_VERSION, EVS_LOG_SCHEMA_VERSION);
	COPY(EVS_EVENT_DATA, EVS_LOG_DATA);
	COPY(EVS_EVENT_METADATA, EVS_LOG_METADATA);
	COPY(EVS_EVENT_CORRELATION_ID, EVS_LOG_CORRELATION_ID);
	COPY(EVS_EVENT_CAUSATION_ID, EVS_LOG_CAUSATION_ID);
	COPY(EVS_EVENT_SOURCE, EVS_LOG_SOURCE);
	COPY(EVS_EVENT_OCCURRED_AT, EVS_LOG_OCCURRED_AT);
	COPY(EVS_EVENT_RECORDED_AT, EVS_LOG_RECORDED_AT);
	COPY(EVS_EVENT_TAGS, EVS_LOG_TAGS);
#undef COPY
	if (nulls[EVS_EVENT_METADATA])
	{
		values[EVS_EVENT_METADATA] = JsonbPGetDatum(evs_event_empty_object());
		nulls[EVS_EVENT_METADATA] = false;
	}
	if (nulls[EVS_EVENT_OCCURRED_AT])
	{
		values[EVS_EVENT_OCCURRED_AT] = values[EVS_EVENT_RECORDED_AT];
		nulls[EVS_EVENT_OCCURRED_AT] = false;
	}
}

bool
evs_event_has_external(const Datum *values, const bool *nulls)
{
	static const int columns[] = {
		EVS_EVENT_DATA, EVS_EVENT_METADATA, EVS_EVENT_SOURCE, EVS_EVENT_TAGS,
	};

	for (int i = 0; i < (int) lengthof(columns); i++)
		if (!nulls[columns[i]] && VARATT_IS_EXTERNAL(DatumGetPointer(values[columns[i]])))
			return true;
	return false;
}
