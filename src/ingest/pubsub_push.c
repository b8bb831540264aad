/*
 * pubsub_push.c
 *	  What Google Cloud Pub/Sub pushes, and what a pull returns.
 *
 * A request has one message in an envelope, or its data as the body and the rest as
 * headers ("payload unwrapping").  Attributes of CloudEvents begin with ce- and are not
 * percent-encoded.
 */
#include "postgres.h"

#include "ingest/decode.h"
#include "ingest/in_json.h"
#include "compat.h"

#define SOURCE_PREFIX "//pubsub.googleapis.com/"
#define TYPE "google.cloud.pubsub.topic.v1.messagePublished"

bool
evs_is_pubsub(JsonbContainer *object)
{
	return (evs_in_member_object(object, "message") != NULL &&
			evs_in_member_string(object, "subscription") != NULL) ||
		evs_in_member_array(object, "receivedMessages") != NULL;
}

/* Members are in camel case; requests have some of them in snake case, too. */
static const char *
member(JsonbContainer *object, const char *camel, const char *snake)
{
	const char *text = evs_in_member_text(object, camel);

	return text != NULL ? text : evs_in_member_text(object, snake);
}

static void
set_subscription(EvsDecoding *d, EvsMessage *message, const char *subscription)
{
	message->topic = subscription;
	message->type = TYPE;
	if (subscription != NULL)
		message->source = psprintf(SOURCE_PREFIX "%s", subscription);
	evs_decode_check_topic(d, subscription);
}

/* arg is the name of the subscription, or NULL. */
static void
decode_message(EvsDecoding *d, JsonbContainer *object, void *arg)
{
	EvsMessage	message = {.keeps_headers = true};
	const char *data = evs_in_member_string(object, "data");

	message.id = member(object, "messageId", "message_id");
	message.time = member(object, "publishTime", "publish_time");
	message.key = member(object, "orderingKey", "ordering_key");
	d->message_id = message.id;
	set_subscription(d, &message, arg);
	if (data == NULL && evs_in_has_member(object, "data"))
		evs_in_throw(d->nrows, "data", "member \"data\" of the message must be a string");
	if (data != NULL && !evs_in_base64_decode(data, true, &message.body))
		evs_in_throw(d->nrows, "data", "member \"data\" of the message is not Base64");
	evs_headers_read(&message.headers, evs_in_member_object(object, "attributes"), d->nrows);
	evs_decode_message(d, &message);
}

static void
decode_pulled(EvsDecoding *d, JsonbContainer *object, void *arg)
{
	JsonbContainer *message = evs_in_member_object(object, "message");

	if (message == NULL)
		evs_in_throw(d->nrows, "message", "an element of \"receivedMessages\" has no object \"message\"");
	decode_message(d, message, arg);
}

static void
decode_unwrapped(EvsDecoding *d, EvsBytes payload, const EvsHeaders *headers)
{
	EvsMessage	message = {.headers = *headers, .body = payload};

	message.id = evs_headers_text(headers, "x-goog-pubsub-message-id");
	message.time = evs_headers_text(headers, "x-goog-pubsub-publish-time");
	message.key = evs_headers_text(headers, "x-goog-pubsub-ordering-key");
	d->message_id = message.id;
	set_subscription(d, &message, evs_headers_text(headers, "x-goog-pubsub-subscription-name"));
	evs_decode_message(d, &message);
}

void
evs_decode_pubsub(EvsDecoding *d, EvsBytes payload, const EvsHeaders *headers)
{
	bool		unwrapped = evs_headers_text(headers, "x-goog-pubsub-message-id") != NULL;
	Jsonb	   *document = unwrapped ? NULL : evs_in_json_try(payload, d->nrows, "payload");

	if (document == NULL || !JB_ROOT_IS_OBJECT(document) || !evs_is_pubsub(&document->root))
		decode_unwrapped(d, payload, headers);
	else if (evs_in_member_object(&document->root, "message") != NULL)
		decode_message(d, evs_in_member_object(&document->root, "message"),
					   unconstify(char *, evs_in_member_string(&document->root, "subscription")));
	else
		evs_decode_each(d, decode_pulled, evs_in_member_array(&document->root, "receivedMessages"),
						NULL);
}
