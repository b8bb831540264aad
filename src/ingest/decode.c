/*
 * decode.c
 *	  From a payload to events that can be appended: which decoder, and errors.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "miscadmin.h"

#include "base/errors.h"
#include "ingest/decode.h"
#include "ingest/in_json.h"
#include "relay/cloudevents.h"
#include "compat.h"

/* jsonb could not hold more. */
#define PAYLOAD_MAX (256 * 1024 * 1024)

/* ---- rows ---- */

EvsIncoming *
evs_decode_add_row(EvsDecoding *d)
{
	EvsIncoming *row;

	if (d->nrows == d->size)
	{
		d->size = Max(16, d->size * 2);
		d->rows = d->rows == NULL ?
			palloc_extended(sizeof(EvsIncoming) * d->size, MCXT_ALLOC_HUGE) :
			repalloc_huge(d->rows, sizeof(EvsIncoming) * d->size);
	}
	row = &d->rows[d->nrows++];
	memset(row, 0, sizeof(*row));
	row->message_id = d->message_id;
	return row;
}

void
evs_decode_add_handshake(EvsDecoding *d, const char *source, const char *id, const char *type,
						 Jsonb *detail)
{
	EvsIncoming *row = evs_decode_add_row(d);

	row->status = EVS_IN_HANDSHAKE;
	row->source = source;
	row->id = id;
	row->type = type;
	row->detail = detail;
}

/* ---- errors ---- */

bool
evs_in_is_fault_of_event(int sqlstate)
{
	int			category = ERRCODE_TO_CATEGORY(sqlstate);

	return category == ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_PROGRAM_LIMIT_EXCEEDED) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_EVS_INVALID_EVENT);
}

/* The detail of our own errors is JSON, that of others is text. */
static void
add_detail(EvsInObject *object, const ErrorData *error)
{
	bool		ours = ERRCODE_TO_CATEGORY(error->sqlerrcode) ==
		ERRCODE_TO_CATEGORY(ERRCODE_EVS_INVALID_EVENT);

	if (error->detail == NULL)
		return;
	if (ours && error->detail[0] == '{')
		evs_in_object_add_json(object, "detail",
							   DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
																  CStringGetDatum(error->detail))));
	else
		evs_in_object_add_text(object, "detail", error->detail);
}

Jsonb *
evs_in_error_detail(const ErrorData *error)
{
	EvsInObject object;

	evs_in_object_begin(&object);
	evs_in_object_add_text(&object, "sqlstate", unpack_sql_state(error->sqlerrcode));
	evs_in_object_add_text(&object, "message", error->message);
	add_detail(&object, error);
	return evs_in_object_end(&object);
}

static void
add_failure(EvsDecoding *d, const ErrorData *error)
{
	EvsIncoming *row = evs_decode_add_row(d);

	row->status = EVS_IN_FAILED;
	row->detail = evs_in_error_detail(error);
	row->source = d->source;
	row->id = d->id;
	row->type = d->type;
}

void
evs_decode_guarded(EvsDecoding *d, EvsDecoder decoder, JsonbContainer *part, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	int			nrows = d->nrows;

	d->source = d->id = d->type = NULL;
	if (d->options->on_error == EVS_IN_ABORT)
	{
		decoder(d, part, arg);
		return;
	}
	PG_TRY();
	{
		decoder(d, part, arg);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		/* nothing but memory has been used, so no subtransaction is needed */
		if (!evs_in_is_fault_of_event(geterrcode()))
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		d->nrows = nrows;
		add_failure(d, error);
	}
	PG_END_TRY();
}

static void
throw_no_object(EvsDecoding *d, JsonbContainer *part, void *arg)
{
	evs_in_throw(d->nrows, "payload", "an element of the payload's array is not an object");
}

void
evs_decode_each(EvsDecoding *d, EvsDecoder decoder, JsonbContainer *array, void *arg)
{
	JsonbIterator *it = JsonbIteratorInit(array);
	JsonbIteratorToken token;
	JsonbValue	element;
	const char *message_id = d->message_id;

	evs_batch_check_count(JsonContainerSize(array), "payload");
	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
	{
		bool		is_object;

		if (token != WJB_ELEM)
			continue;
		CHECK_FOR_INTERRUPTS();
		is_object = element.type == jbvBinary && JsonContainerIsObject(element.val.binary.data);
		d->message_id = message_id;
		evs_decode_guarded(d, is_object ? decoder : throw_no_object,
						   is_object ? element.val.binary.data : NULL, arg);
	}
	d->message_id = message_id;
}

void
evs_decode_check_topic(EvsDecoding *d, const char *topic)
{
	if (d->options->topics == NIL)
		return;
	if (topic == NULL)
		evs_in_throw(d->nrows, "topic", "the message does not say which topic it is from");
	if (!evs_in_options_allow(d->options->topics, topic))
		evs_in_throw(d->nrows, "topic", "topic \"%s\" is not one of option \"topics\"", topic);
}

/* ---- which format ---- */

#define CANDIDATE(format) (1 << (format))

static bool
has_type(const EvsHeaders *headers, const char *type)
{
	Size		length = strlen(type);

	return headers->content_type != NULL &&
		pg_strncasecmp(headers->content_type, type, length) == 0 &&
		(headers->content_type[length] == '\0' || strchr("; ", headers->content_type[length]) != NULL);
}

static int
candidates_of_object(JsonbContainer *object)
{
	int			candidates = 0;

	if (evs_in_has_member(object, "specversion"))
		candidates |= CANDIDATE(EVS_IN_CLOUDEVENTS);
	if (evs_is_aws(object))
		candidates |= CANDIDATE(EVS_IN_SNS_SQS);
	if (evs_is_pubsub(object))
		candidates |= CANDIDATE(EVS_IN_PUBSUB_PUSH);
	if (evs_is_eventbridge(object))
		candidates |= CANDIDATE(EVS_IN_EVENTBRIDGE);
	if (evs_is_eventgrid(object))
		candidates |= CANDIDATE(EVS_IN_EVENTGRID);
	return candidates;
}

/* By its first element; the others have to be the same. */
static int
candidates_of_array(JsonbContainer *array)
{
	JsonbValue *first = getIthJsonbValueFromContainer(array, 0);
	int			candidates;

	if (first == NULL || first->type != jbvBinary ||
		!JsonContainerIsObject(first->val.binary.data))
		return 0;
	candidates = candidates_of_object(first->val.binary.data);
	if (candidates & CANDIDATE(EVS_IN_CLOUDEVENTS))
		candidates ^= CANDIDATE(EVS_IN_CLOUDEVENTS) | CANDIDATE(EVS_IN_CLOUDEVENTS_BATCH);
	return candidates;
}

/* What the headers say counts before what the payload looks like. */
static int
candidates_of(EvsBytes payload, const EvsHeaders *headers)
{
	Jsonb	   *document;

	if (has_type(headers, EVS_CONTENT_TYPE_EVENT))
		return CANDIDATE(EVS_IN_CLOUDEVENTS);
	if (has_type(headers, EVS_CONTENT_TYPE_BATCH))
		return CANDIDATE(EVS_IN_CLOUDEVENTS_BATCH);
	if (headers->family != EVS_HEADERS_NONE)
		return CANDIDATE(EVS_IN_CLOUDEVENTS_BINARY);
	if (evs_headers_text(headers, "x-amz-sns-message-type") != NULL)
		return CANDIDATE(EVS_IN_SNS_SQS);
	if (evs_headers_text(headers, "x-goog-pubsub-message-id") != NULL)
		return CANDIDATE(EVS_IN_PUBSUB_PUSH);
	document = evs_in_json_try(payload, 0, "payload");
	if (document == NULL)
		return 0;
	if (JB_ROOT_IS_OBJECT(document))
		return candidates_of_object(&document->root);
	return JB_ROOT_IS_SCALAR(document) ? 0 : candidates_of_array(&document->root);
}

static EvsInFormat
detect(EvsBytes payload, const EvsHeaders *headers)
{
	int			candidates = candidates_of(payload, headers);

	for (int format = EVS_IN_AUTO + 1; format <= EVS_IN_EVENTGRID; format++)
		if (candidates == CANDIDATE(format))
			return (EvsInFormat) format;
	ereport(ERROR,
			(errcode(ERRCODE_EVS_INVALID_EVENT),
			 candidates == 0 ?
			 errmsg("format of the payload is none of those that can be told") :
			 errmsg("format of the payload can be told in more than one way"),
			 errdetail("{\"index\": 0, \"field\": \"format\"}"),
			 errhint("Pass argument \"format\".")));
}

/* ---- the whole ---- */

typedef struct Whole
{
	EvsBytes	payload;
	JsonbContainer *attributes;
} Whole;

static void
decode_binary(EvsDecoding *d, EvsBytes payload, const EvsHeaders *headers)
{
	EvsMessage	message = {.headers = *headers, .body = payload, .percent_encoded = true};

	if (headers->family == EVS_HEADERS_NONE)
		evs_in_throw(d->nrows, "attributes", "argument \"attributes\" has no attribute specversion of CloudEvents");
	evs_decode_check_topic(d, NULL);
	evs_decode_message(d, &message);
}

/* One object, an array of them, or either. */
static void
decode_json(EvsDecoding *d, EvsBytes payload, EvsDecoder decoder, bool one, bool many)
{
	Jsonb	   *document = evs_in_json_parse(payload, d->nrows, "payload");

	if (one && JB_ROOT_IS_OBJECT(document))
		decoder(d, &document->root, NULL);
	else if (many && JB_ROOT_IS_ARRAY(document) && !JB_ROOT_IS_SCALAR(document))
		evs_decode_each(d, decoder, &document->root, NULL);
	else
		evs_in_throw(d->nrows, "payload", "payload must be a JSON %s",
					 one && many ? "object, or an array of objects" : one ? "object" : "array of objects");
}

static void
decode_whole(EvsDecoding *d, JsonbContainer *part, void *arg)
{
	Whole	   *whole = arg;
	EvsInFormat format = d->options->format;
	EvsHeaders	headers;

	if (whole->payload.length > PAYLOAD_MAX)
		evs_in_throw(0, "payload", "payload is longer than %d bytes", PAYLOAD_MAX);
	evs_headers_read(&headers, whole->attributes, 0);
	if (format == EVS_IN_AUTO)
		format = detect(whole->payload, &headers);
	switch (format)
	{
		case EVS_IN_CLOUDEVENTS:
			decode_json(d, whole->payload, evs_decode_structured, true, false);
			break;
		case EVS_IN_CLOUDEVENTS_BATCH:
			decode_json(d, whole->payload, evs_decode_structured, false, true);
			break;
		case EVS_IN_EVENTBRIDGE:
			decode_json(d, whole->payload, evs_decode_eventbridge, true, false);
			break;
		case EVS_IN_EVENTGRID:
			decode_json(d, whole->payload, evs_decode_eventgrid, true, true);
			break;
		case EVS_IN_SNS_SQS:
		case EVS_IN_SQS:
			evs_decode_aws(d, whole->payload, &headers, format == EVS_IN_SNS_SQS);
			break;
		case EVS_IN_PUBSUB_PUSH:
			evs_decode_pubsub(d, whole->payload, &headers);
			break;
		case EVS_IN_CLOUDEVENTS_BINARY:
		case EVS_IN_AUTO:
			decode_binary(d, whole->payload, &headers);
			break;
	}
}

void
evs_decode(EvsDecoding *d, EvsBytes payload, JsonbContainer *attributes)
{
	Whole		whole = {payload, attributes};

	evs_decode_guarded(d, decode_whole, NULL, &whole);
}
