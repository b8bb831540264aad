/*
 * cloudevents.h
 *	  Events as messages for sinks: CloudEvents 1.0, or their data only.
 */
#ifndef EVSTORE_CLOUDEVENTS_H
#define EVSTORE_CLOUDEVENTS_H

#include "include/evstore_sink.h"
#include "relay/outgoing.h"
#include "relay/template.h"

typedef enum EvsFormat
{
	EVS_FORMAT_CLOUDEVENTS,		/* structured: a JSON object */
	EVS_FORMAT_CLOUDEVENTS_BATCH,	/* the same; the sink makes an array of several */
	EVS_FORMAT_CLOUDEVENTS_BINARY,	/* data, and attributes beside it */
	EVS_FORMAT_RAW				/* data only */
} EvsFormat;

/* How a relay encodes.  Texts are in the encoding of the database. */
typedef struct EvsEncoder
{
	EvsFormat	format;
	const char *relay;			/* its name, for topics */
	const EvsTemplate *topic;	/* NULL: messages have no topic */

	/* A URI reference, for events without source; NULL: /evstore/<database>/<category>. */
	const char *source;

	/*
	 * Members of the metadata become attributes, too, if their names and values
	 * can be those of an extension.  Off by default: they say who did something.
	 */
	bool		publishes_metadata;
} EvsEncoder;

/* false: there is no format of this name. */
extern bool evs_format_parse(const char *name, EvsFormat *format);
extern const char *evs_format_name(EvsFormat format);

/*
 * Encode an event.  What the message points to is in the current memory context or
 * is the event's; flags, cookie and attempt (1) are for the caller to set.
 *
 * false, and *error is set, if the event itself is what is wrong: it can never be
 * sent like this.  Throws only for what is not the event's fault, as being out of
 * memory.  Must be called within a transaction: names and conversions are looked up.
 */
extern bool evs_encode(const EvsEncoder *encoder, const EvsOutgoing *event,
					   evs_sink_message *message, char **error);

/* application/json, text/json, application/problem+json; parameters may follow. */
extern bool evs_content_type_is_json(const char *content_type);

/* Of a structured message, and of an array of them. */
#define EVS_CONTENT_TYPE_EVENT "application/cloudevents+json"
#define EVS_CONTENT_TYPE_BATCH "application/cloudevents-batch+json"

#endif							/* EVSTORE_CLOUDEVENTS_H */
