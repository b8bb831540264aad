/*
 * append_step.c
 *	  Steps that append an event.
 */
#include "postgres.h"

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "utils/builtins.h"

#include "base/errors.h"
#include "saga/append_step.h"
#include "saga/instance.h"
#include "stream/append.h"
#include "stream/stream.h"
#include "compat.h"

/*
 * A UUIDv7 with the time of the instance's id, so that it says where the event can be, and
 * for the rest a hash of the key.
 */
void
evs_saga_event_id(const pg_uuid_t *saga_id, const char *idempotency_key, pg_uuid_t *id)
{
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);

	if (pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, (const uint8 *) idempotency_key, strlen(idempotency_key)) < 0 ||
		pg_cryptohash_final(ctx, digest, sizeof(digest)) < 0)
		elog(ERROR, "could not compute a hash: %s", pg_cryptohash_error(ctx));
	pg_cryptohash_free(ctx);
	memcpy(id->data, saga_id->data, 6);
	memcpy(id->data + 6, digest, UUID_LEN - 6);
	id->data[6] = (id->data[6] & 0x0f) | 0x70;
	id->data[8] = (id->data[8] & 0x3f) | 0x80;
}

/* What the payload says of the event itself, as evs_batch_parse() wants it. */
static Jsonb *
event_of_payload(Jsonb *payload)
{
	JsonbParseState *state = NULL;
	JsonbIterator *it = JsonbIteratorInit(&payload->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	bool		skip = false;

	pushJsonbValue(&state, WJB_BEGIN_ARRAY, NULL);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			skip = (value.val.string.len == 6 && memcmp(value.val.string.val, "stream", 6) == 0) ||
				(value.val.string.len == 16 &&
				 memcmp(value.val.string.val, "expected_version", 16) == 0);
		if ((token == WJB_KEY || token == WJB_VALUE) && !skip)
			pushJsonbValue(&state, token, &value);
	}
	pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_ARRAY, NULL));
}

static int64
get_expected(Jsonb *payload)
{
	Jsonb	   *value = evs_asl_member(payload, "expected_version");
	int64		expected;

	if (value == NULL || evs_asl_unpack(value).type == jbvNull)
		return EVS_ANY_VERSION;
	if (!evs_asl_whole(value, &expected))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"expected_version\" of an append step must be a whole number")));
	return evs_batch_expected(false, expected);
}

static char *
get_stream(Jsonb *payload)
{
	Jsonb	   *value = evs_asl_member(payload, "stream");
	char	   *name = value != NULL ? evs_asl_text(value) : NULL;

	return evs_stream_check_name(name != NULL ? cstring_to_text(name) : NULL, "stream");
}

static Jsonb *
make_output(const EvsBatch *batch, const EvsAppendResult *result)
{
	static const char *const keys[] = {"stream", "version", "position", "event_id"};
	char		id[EVS_UUID_TEXT];
	Jsonb	   *values[lengthof(keys)];

	evs_uuid_text(&batch->events[0].event_id, id);
	values[0] = evs_asl_string(batch->stream);
	values[1] = evs_asl_integer(result->version);
	values[2] = evs_asl_integer(result->position);
	values[3] = evs_asl_string(id);
	return evs_asl_object(lengthof(keys), keys, values);
}

Jsonb *
evs_saga_append(const EvsStartedStep *step, Jsonb *payload)
{
	EvsBatch	batch = {0};
	EvsAppendResult result;

	if (!JB_ROOT_IS_OBJECT(payload))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the parameters of an append step must be an object")));
	batch.stream = get_stream(payload);
	batch.expected = get_expected(payload);
	evs_batch_parse(&batch, event_of_payload(payload));
	if (!batch.events[0].has_event_id)
	{
		evs_saga_event_id(&step->saga_id, step->idempotency_key, &batch.events[0].event_id);
		batch.events[0].has_event_id = true;
	}
	evs_batch_validate(&batch);
	evs_append_execute(&batch, 1, false, &result);
	return make_output(&batch, &result);
}
