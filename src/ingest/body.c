/*
 * body.c
 *	  The body of a message: CloudEvents in any mode, an event of EventBridge, or
 *	  anything else.
 */
#include "postgres.h"

#include "ingest/decode.h"
#include "ingest/in_json.h"
#include "relay/cloudevents.h"
#include "compat.h"

#define CONTENT_TYPE_TEXT "text/plain"
#define CONTENT_TYPE_BYTES "application/octet-stream"

/* ---- data ---- */

/* Without its parameters. */
static bool
type_is(const char *content_type, const char *wanted)
{
	int			length = strcspn(content_type, "; ");

	return length == (int) strlen(wanted) && pg_strncasecmp(content_type, wanted, length) == 0;
}

static bool
ends_with(const char *text, int length, const char *suffix)
{
	int			suffix_length = strlen(suffix);

	return length > suffix_length &&
		pg_strncasecmp(text + length - suffix_length, suffix, suffix_length) == 0;
}

/*
 * Types whose data is kept as a string.  It is the type that decides, so that all events
 * of one type have their data in the same form; but what is no text is kept as bytes.
 */
static bool
is_text_type(const char *content_type)
{
	int			length = strcspn(content_type, "; ");

	return pg_strncasecmp(content_type, "text/", 5) == 0 ||
		ends_with(content_type, length, "/xml") || ends_with(content_type, length, "+xml") ||
		ends_with(content_type, length, "yaml") ||
		type_is(content_type, "application/x-www-form-urlencoded") ||
		type_is(content_type, "application/javascript") ||
		type_is(content_type, "application/x-ndjson");
}

static Jsonb *
string_document(const char *text)
{
	JsonbValue	value = {.type = jbvString};

	value.val.string.val = unconstify(char *, text);
	value.val.string.len = strlen(text);
	return evs_in_document(&value);
}

static bool
set_text(EvsCloudEvent *event, EvsBytes bytes)
{
	const char *text = evs_in_text(bytes);

	if (text == NULL)
		return false;
	event->data = string_document(text);
	return true;
}

/*
 * Bytes of which nobody says what they are: JSON if they can be read as such, else text, else
 * just bytes.
 */
static void
set_unknown(EvsCloudEvent *event, EvsBytes bytes, int index)
{
	const char *content_type = CONTENT_TYPE_TEXT;

	event->data = evs_in_json_try(bytes, index, "data");
	if (event->data != NULL)
		return;
	if (!set_text(event, bytes))
	{
		event->base64 = evs_in_base64_encode(bytes);
		content_type = CONTENT_TYPE_BYTES;
	}
	evs_in_attribute_add_text(&event->attributes, "datacontenttype", content_type);
}

static void
set_data(EvsCloudEvent *event, EvsBytes bytes, int index)
{
	const char *content_type = evs_in_attribute_text(&event->attributes, "datacontenttype");
	bool		is_json = content_type == NULL || evs_content_type_is_json(content_type);

	if (bytes.data == NULL || (bytes.length == 0 && is_json))
		return;
	if (content_type == NULL)
		set_unknown(event, bytes, index);
	else if (is_json)
		event->data = evs_in_json_parse(bytes, index, "data");
	else if (!is_text_type(content_type) || !set_text(event, bytes))
		event->base64 = evs_in_base64_encode(bytes);
}

/* ---- events ---- */

static void
decode_binary(EvsDecoding *d, EvsMessage *message)
{
	EvsCloudEvent event = {0};

	evs_headers_add_attributes(&message->headers, message->percent_encoded, &event.attributes,
							   d->nrows);
	set_data(&event, message->body, d->nrows);
	if (message->keeps_headers)
		event.message_attributes = evs_headers_others(&message->headers);
	evs_decode_add_event(d, &event);
}

static const char *
either(const char *text, const char *otherwise)
{
	return text != NULL && *text != '\0' ? text : otherwise;
}

/* No CloudEvents: the broker's word for what the attributes are. */
static void
decode_raw(EvsDecoding *d, EvsMessage *message)
{
	EvsCloudEvent event = {0};
	EvsInAttributes *attributes = &event.attributes;

	evs_in_attribute_add_text(attributes, "specversion", "1.0");
	evs_in_attribute_add_text(attributes, "id", either(message->id, d->options->id));
	evs_in_attribute_add_text(attributes, "source", either(message->source, d->options->source));
	evs_in_attribute_add_text(attributes, "type", message->type);
	evs_in_attribute_add_text(attributes, "subject", message->subject);
	evs_in_attribute_add_text(attributes, "time", message->time);
	evs_in_attribute_add_text(attributes, "partitionkey", message->key);
	evs_in_attribute_add_text(attributes, "sequence", message->sequence);
	evs_in_attribute_add_text(attributes, "datacontenttype", message->headers.content_type);
	set_data(&event, message->body, d->nrows);
	if (message->keeps_headers)
		event.message_attributes = evs_headers_others(&message->headers);
	evs_decode_add_event(d, &event);
}

/* Each member is an attribute, but for the data. */
void
evs_decode_structured(EvsDecoding *d, JsonbContainer *object, void *arg)
{
	EvsMessage *message = arg;
	EvsCloudEvent event = {0};
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;
	bool		has_base64 = false;

	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		char	   *name;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		name = pnstrdup(key.val.string.val, key.val.string.len);
		if (strcmp(name, "data") == 0)
			event.data = evs_in_document(&value);
		else if (value.type == jbvNull)
			continue;
		else
			evs_in_attribute_add(&event.attributes, name, &value);
		has_base64 |= strcmp(name, "data_base64") == 0;
	}
	event.both = has_base64 && event.data != NULL;
	if (message == NULL)
		evs_decode_check_topic(d, NULL);
	else if (message->keeps_headers)
		event.message_attributes = evs_headers_others(&message->headers);
	evs_decode_add_event(d, &event);
}

/* What the body says of itself; false: nothing. */
static bool
decode_document(EvsDecoding *d, EvsMessage *message, Jsonb *document)
{
	const char *content_type = message->headers.content_type;
	bool		is_batch = content_type != NULL && type_is(content_type, EVS_CONTENT_TYPE_BATCH);
	bool		is_event = content_type != NULL && type_is(content_type, EVS_CONTENT_TYPE_EVENT);

	if (is_batch && JB_ROOT_IS_ARRAY(document) && !JB_ROOT_IS_SCALAR(document))
		evs_decode_each(d, evs_decode_structured, &document->root, message);
	else if (JB_ROOT_IS_OBJECT(document) &&
			 (is_event || evs_in_has_member(&document->root, "specversion")))
		evs_decode_structured(d, &document->root, message);
	else if (is_batch || is_event)
		evs_in_throw(d->nrows, "data", "body of content type \"%s\" must be a JSON %s",
					 content_type, is_batch ? "array" : "object");
	else if (message->may_be_eventbridge && JB_ROOT_IS_OBJECT(document) &&
			 evs_is_eventbridge(&document->root))
		evs_decode_eventbridge(d, &document->root, message);
	else
		return false;
	return true;
}

void
evs_decode_message(EvsDecoding *d, EvsMessage *message)
{
	const char *content_type = message->headers.content_type;
	bool		is_structured = content_type != NULL &&
		(type_is(content_type, EVS_CONTENT_TYPE_EVENT) || type_is(content_type, EVS_CONTENT_TYPE_BATCH));
	Jsonb	   *document = NULL;

	/* the content type decides on the mode, whatever else is in the headers */
	if (message->headers.family != EVS_HEADERS_NONE && !is_structured)
	{
		decode_binary(d, message);
		return;
	}
	if (content_type == NULL || evs_content_type_is_json(content_type))
		document = evs_in_json_try(message->body, d->nrows, "data");
	if (document == NULL || !decode_document(d, message, document))
		decode_raw(d, message);
}
