/*
 * cloud.c
 *	  Events as Amazon EventBridge and Azure Event Grid have them.
 */
#include "postgres.h"

#include "ingest/decode.h"
#include "ingest/in_json.h"
#include "relay/outgoing.h"
#include "compat.h"

/* Members of an event that have no attribute in CloudEvents. */
static const char *const eventbridge_rest[] = {
	"account", "region", "resources", "version", "replay-name",
};

bool
evs_is_eventbridge(JsonbContainer *object)
{
	return evs_in_member_string(object, "detail-type") != NULL &&
		evs_in_member_string(object, "source") != NULL && evs_in_has_member(object, "detail");
}

bool
evs_is_eventgrid(JsonbContainer *object)
{
	return evs_in_member_string(object, "eventType") != NULL &&
		evs_in_member_string(object, "eventTime") != NULL &&
		evs_in_member_string(object, "id") != NULL;
}

static Jsonb *
rest_of(JsonbContainer *object, const char *const *names, int n)
{
	EvsInObject rest;
	JsonbValue	value;

	evs_in_object_begin(&rest);
	for (int i = 0; i < n; i++)
		if (evs_json_member(object, names[i], &value))
			evs_in_object_add(&rest, names[i], &value);
	return evs_in_object_end(&rest);
}

static Jsonb *
member_document(JsonbContainer *object, const char *name)
{
	JsonbValue	value;

	return evs_json_member(object, name, &value) ? evs_in_document(&value) : NULL;
}

/* A member that must be a string if it is there, as an attribute. */
static void
add_member(EvsDecoding *d, EvsInAttributes *attributes, const char *attribute,
		   JsonbContainer *object, const char *member)
{
	JsonbValue	value;

	if (!evs_json_member(object, member, &value) || value.type == jbvNull)
		return;
	if (value.type != jbvString)
		evs_in_throw(d->nrows, member, "member \"%s\" of the event must be a string", member);
	evs_in_attribute_add_text(attributes, attribute, evs_json_scalar_text(&value));
}

/* Of the detail that relays send, which is an event of CloudEvents, nothing is lost. */
void
evs_decode_eventbridge(EvsDecoding *d, JsonbContainer *object, void *arg)
{
	EvsMessage *outer = arg;
	EvsMessage	message = {.keeps_headers = false};
	EvsCloudEvent event = {0};
	JsonbContainer *detail = evs_in_member_object(object, "detail");

	if (outer == NULL)
		evs_decode_check_topic(d, NULL);
	if (d->message_id == NULL)
		d->message_id = evs_in_member_string(object, "id");
	if (detail != NULL && evs_in_has_member(detail, "specversion"))
	{
		evs_decode_structured(d, detail, &message);
		return;
	}
	if (!evs_in_has_member(object, "detail"))
		evs_in_throw(d->nrows, "detail", "member \"detail\" of the event is missing");
	evs_in_attribute_add_text(&event.attributes, "specversion", "1.0");
	add_member(d, &event.attributes, "id", object, "id");
	add_member(d, &event.attributes, "source", object, "source");
	add_member(d, &event.attributes, "type", object, "detail-type");
	add_member(d, &event.attributes, "time", object, "time");
	event.data = member_document(object, "detail");
	event.message_attributes = rest_of(object, eventbridge_rest, lengthof(eventbridge_rest));
	evs_decode_add_event(d, &event);
}

void
evs_decode_eventgrid(EvsDecoding *d, JsonbContainer *object, void *arg)
{
	EvsCloudEvent event = {0};
	const char *topic = evs_in_member_string(object, "topic");

	evs_decode_check_topic(d, topic);
	if (d->message_id == NULL)
		d->message_id = evs_in_member_string(object, "id");
	if (evs_in_has_member(object, "specversion"))
	{
		EvsMessage	message = {.topic = topic};

		evs_decode_structured(d, object, &message);
		return;
	}
	evs_in_attribute_add_text(&event.attributes, "specversion", "1.0");
	add_member(d, &event.attributes, "id", object, "id");
	add_member(d, &event.attributes, "source", object, "topic");
	if (evs_in_attribute_find(&event.attributes, "source") == NULL)
		evs_in_attribute_add_text(&event.attributes, "source", d->options->source);
	add_member(d, &event.attributes, "type", object, "eventType");
	add_member(d, &event.attributes, "subject", object, "subject");
	add_member(d, &event.attributes, "time", object, "eventTime");
	add_member(d, &event.attributes, "dataversion", object, "dataVersion");
	event.data = member_document(object, "data");
	evs_decode_add_event(d, &event);
}
