/*
 * aws.c
 *	  Messages of Amazon SQS and SNS.
 *
 * SQS messages come as ReceiveMessage returns them, as Lambda gets them ("Records"), or
 * one by one, as just their body.  SNS has an envelope, which comes by HTTP or as the
 * body of an SQS message, unless it delivers raw messages: then the body is the
 * publisher's.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "ingest/decode.h"
#include "ingest/in_json.h"
#include "relay/encoding.h"
#include "relay/outgoing.h"
#include "compat.h"

#define SQS_TYPE "com.amazonaws.sqs.message"
#define SNS_TYPE "com.amazonaws.sns.notification"

/* ---- what it looks like ---- */

/* Lambda's names begin with a small letter, those of the API with a capital one. */
static const char *
either_member(JsonbContainer *object, const char *lambda, const char *api)
{
	const char *text = evs_in_member_string(object, lambda);

	return text != NULL ? text : evs_in_member_string(object, api);
}

static JsonbContainer *
either_object(JsonbContainer *object, const char *lambda, const char *api)
{
	JsonbContainer *member = evs_in_member_object(object, lambda);

	return member != NULL ? member : evs_in_member_object(object, api);
}

static bool
is_sqs_message(JsonbContainer *object)
{
	return (evs_in_has_member(object, "body") && evs_in_has_member(object, "messageId")) ||
		(evs_in_has_member(object, "Body") && evs_in_has_member(object, "MessageId"));
}

static bool
is_sqs_array(JsonbContainer *array)
{
	JsonbValue *first = array != NULL ? getIthJsonbValueFromContainer(array, 0) : NULL;

	return first != NULL && first->type == jbvBinary &&
		JsonContainerIsObject(first->val.binary.data) && is_sqs_message(first->val.binary.data);
}

static bool
is_sns_envelope(JsonbContainer *object)
{
	return evs_in_member_string(object, "Type") != NULL &&
		evs_in_member_string(object, "MessageId") != NULL &&
		evs_in_member_string(object, "TopicArn") != NULL;
}

/* The array of messages that an object of Lambda's or of the API's holds, or NULL; it may be empty. */
static JsonbContainer *
array_of(JsonbContainer *object)
{
	JsonbContainer *array = evs_in_member_array(object, "Records");

	if (array == NULL)
		array = evs_in_member_array(object, "Messages");
	if (array != NULL && JsonContainerSize(array) == 0)
		return array;
	return is_sqs_array(array) ? array : NULL;
}

bool
evs_is_aws(JsonbContainer *object)
{
	return is_sqs_message(object) || array_of(object) != NULL || is_sns_envelope(object);
}

/* ---- SNS ---- */

/* Somebody wants this endpoint to be subscribed, or not any more: nothing is fetched. */
static void
decode_confirmation(EvsDecoding *d, JsonbContainer *envelope, const char *type)
{
	EvsInObject detail;
	const char *topic = evs_in_member_string(envelope, "TopicArn");
	const char *id = evs_in_member_string(envelope, "MessageId");

	evs_in_object_begin(&detail);
	evs_in_object_add_text(&detail, "kind", strcmp(type, "SubscriptionConfirmation") == 0 ?
						   "sns-subscription" : "sns-unsubscription");
	evs_in_object_add_text(&detail, "topic", topic);
	evs_in_object_add_text(&detail, "token", evs_in_member_string(envelope, "Token"));
	evs_in_object_add_text(&detail, "subscribe_url", evs_in_member_string(envelope, "SubscribeURL"));
	if (d->message_id == NULL)
		d->message_id = id;
	evs_decode_add_handshake(d, topic, id, type, evs_in_object_end(&detail));
}

static void
decode_envelope(EvsDecoding *d, JsonbContainer *envelope, EvsMessage *outer)
{
	EvsMessage	message = {.keeps_headers = true, .may_be_eventbridge = true, .type = SNS_TYPE};
	const char *type = evs_in_member_string(envelope, "Type");
	const char *body = evs_in_member_string(envelope, "Message");

	message.topic = message.source = evs_in_member_string(envelope, "TopicArn");
	evs_decode_check_topic(d, message.topic);
	if (strcmp(type, "SubscriptionConfirmation") == 0 || strcmp(type, "UnsubscribeConfirmation") == 0)
	{
		decode_confirmation(d, envelope, type);
		return;
	}
	if (strcmp(type, "Notification") != 0)
		evs_in_throw(d->nrows, "Type", "type \"%s\" of the message is not one of SNS's", type);
	if (body == NULL)
		evs_in_throw(d->nrows, "Message", "member \"Message\" of the notification must be a string");
	message.id = evs_in_member_string(envelope, "MessageId");
	if (d->message_id == NULL)
		d->message_id = message.id;
	message.subject = evs_in_member_string(envelope, "Subject");
	message.time = evs_in_member_string(envelope, "Timestamp");
	message.sequence = evs_in_member_text(envelope, "SequenceNumber");
	/* of a FIFO topic the queue knows it */
	message.key = outer->key;
	message.body = evs_in_bytes(body, strlen(body), d->nrows, "Message");
	evs_headers_read(&message.headers, evs_in_member_object(envelope, "MessageAttributes"), d->nrows);
	evs_decode_message(d, &message);
}

/* ---- SQS ---- */

static void
decode_body(EvsDecoding *d, EvsMessage *message, bool sns)
{
	Jsonb	   *document = sns ? evs_in_json_try(message->body, d->nrows, "body") : NULL;

	if (document != NULL && JB_ROOT_IS_OBJECT(document) && is_sns_envelope(&document->root))
	{
		decode_envelope(d, &document->root, message);
		return;
	}
	evs_decode_check_topic(d, message->topic);
	evs_decode_message(d, message);
}

/* Milliseconds since 1970 as a time; NULL if they are none. */
static const char *
time_of(const char *milliseconds)
{
	char	   *end;
	int64		ms;

	if (milliseconds == NULL || *milliseconds == '\0')
		return NULL;
	errno = 0;
	ms = strtoll(milliseconds, &end, 10);
	if (errno != 0 || *end != '\0' || ms < 0 || ms > INT64CONST(253402300799999))
		return NULL;
	return evs_encoding_time(ms * 1000 -
							 (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY);
}

/* arg is not NULL if there may be an envelope of SNS. */
static void
decode_sqs(EvsDecoding *d, JsonbContainer *object, void *arg)
{
	EvsMessage	message = {.keeps_headers = true, .may_be_eventbridge = true, .type = SQS_TYPE};
	JsonbContainer *system = either_object(object, "attributes", "Attributes");
	const char *body = either_member(object, "body", "Body");

	d->message_id = message.id = either_member(object, "messageId", "MessageId");
	if (body == NULL || message.id == NULL)
		evs_in_throw(d->nrows, "body", "a message of SQS must have a body and an id that are strings");
	message.source = evs_in_member_string(object, "eventSourceARN");
	if (arg == NULL)
		message.topic = message.source;
	message.time = time_of(evs_in_member_text(system, "SentTimestamp"));
	message.key = evs_in_member_text(system, "MessageGroupId");
	message.sequence = evs_in_member_text(system, "SequenceNumber");
	message.body = evs_in_bytes(body, strlen(body), d->nrows, "body");
	evs_headers_read(&message.headers, either_object(object, "messageAttributes", "MessageAttributes"),
					 d->nrows);
	decode_body(d, &message, arg != NULL);
}

/* A body alone.  Raw messages that SNS delivers by HTTP have the rest in headers. */
static void
decode_bare(EvsDecoding *d, EvsBytes payload, const EvsHeaders *headers, bool sns)
{
	EvsMessage	message = {
		.headers = *headers, .body = payload, .may_be_eventbridge = true,
		.type = sns ? SNS_TYPE : SQS_TYPE,
	};

	if (sns)
	{
		message.id = evs_headers_text(headers, "x-amz-sns-message-id");
		message.topic = message.source = evs_headers_text(headers, "x-amz-sns-topic-arn");
		d->message_id = message.id;
	}
	/* without them what there is are the message's attributes */
	message.keeps_headers = message.id == NULL;
	decode_body(d, &message, sns);
}

void
evs_decode_aws(EvsDecoding *d, EvsBytes payload, const EvsHeaders *headers, bool sns)
{
	Jsonb	   *document = evs_in_json_try(payload, d->nrows, "payload");
	JsonbContainer *root = document != NULL ? &document->root : NULL;
	void	   *arg = sns ? d : NULL;

	if (root == NULL || JsonContainerIsScalar(root))
		decode_bare(d, payload, headers, sns);
	else if (JsonContainerIsArray(root) && is_sqs_array(root))
		evs_decode_each(d, decode_sqs, root, arg);
	else if (JsonContainerIsObject(root) && array_of(root) != NULL)
		evs_decode_each(d, decode_sqs, array_of(root), arg);
	else if (JsonContainerIsObject(root) && is_sqs_message(root))
		decode_sqs(d, root, arg);
	else
		decode_bare(d, payload, headers, sns);
}
