/*
 * decode.h
 *	  From a payload to events that can be appended.
 */
#ifndef EVSTORE_DECODE_H
#define EVSTORE_DECODE_H

#include "ingest/headers.h"
#include "ingest/incoming.h"
#include "ingest/options.h"

/* One payload.  Rows are in its order; the next one's index is nrows. */
typedef struct EvsDecoding
{
	const EvsInOptions *options;
	EvsIncoming *rows;
	int			nrows;
	int			size;
	const char *message_id;		/* of the message that is being decoded, or NULL */
	const char *source;			/* of the event, for a failure; or NULL */
	const char *id;
	const char *type;
} EvsDecoding;

/*
 * A message: what the broker says of it, which stands in where the event does not say it
 * itself; and its body.
 */
typedef struct EvsMessage
{
	const char *id;
	const char *source;
	const char *type;
	const char *subject;
	const char *time;			/* RFC 3339 */
	const char *key;			/* ordering key */
	const char *sequence;
	const char *topic;			/* what option "topics" is about */
	EvsHeaders	headers;
	bool		keeps_headers;	/* they are the message's, and not those of a request */
	bool		percent_encoded;	/* ... and ce- headers are, as HTTP has them */
	bool		may_be_eventbridge;
	EvsBytes	body;
} EvsMessage;

/* Decode a payload by the format of the options; attributes may be NULL. */
extern void evs_decode(EvsDecoding *d, EvsBytes payload, JsonbContainer *attributes);

/* ---- for decoders ---- */

/*
 * Call a decoder with a part of the payload.  What it throws becomes a row that says
 * so, unless errors are to be thrown.
 */
typedef void (*EvsDecoder) (EvsDecoding *d, JsonbContainer *part, void *arg);

extern void evs_decode_guarded(EvsDecoding *d, EvsDecoder decoder, JsonbContainer *part, void *arg);

/* The same for each element of an array; those that are no objects are errors. */
extern void evs_decode_each(EvsDecoding *d, EvsDecoder decoder, JsonbContainer *array, void *arg);

/* Throws if option "topics" does not allow it; NULL is allowed only if there is no such option. */
extern void evs_decode_check_topic(EvsDecoding *d, const char *topic);

/* A message whose body is CloudEvents in any mode, or anything else. */
extern void evs_decode_message(EvsDecoding *d, EvsMessage *message);

/* An object that is an event: as CloudEvents, EventBridge and Event Grid have it. */
extern void evs_decode_structured(EvsDecoding *d, JsonbContainer *object, void *arg);
extern void evs_decode_eventbridge(EvsDecoding *d, JsonbContainer *object, void *arg);
extern void evs_decode_eventgrid(EvsDecoding *d, JsonbContainer *object, void *arg);
extern bool evs_is_eventbridge(JsonbContainer *object);
extern bool evs_is_eventgrid(JsonbContainer *object);

/* What a queue or a push request holds. */
extern void evs_decode_aws(EvsDecoding *d, EvsBytes payload, const EvsHeaders *headers, bool sns);
extern bool evs_is_aws(JsonbContainer *container);
extern void evs_decode_pubsub(EvsDecoding *d, EvsBytes payload, const EvsHeaders *headers);
extern bool evs_is_pubsub(JsonbContainer *object);

/* The row of an event: checked, and put into columns (event.c). */
extern void evs_decode_add_event(EvsDecoding *d, EvsCloudEvent *event);

/* A row of something that is no event, but wants an answer; source, id and type may be NULL. */
extern void evs_decode_add_handshake(EvsDecoding *d, const char *source, const char *id,
									 const char *type, Jsonb *detail);

extern EvsIncoming *evs_decode_add_row(EvsDecoding *d);

/* What has been thrown, as the detail of a row. */
extern Jsonb *evs_in_error_detail(const ErrorData *error);

/* Is this error the event's fault, so that others may succeed? */
extern bool evs_in_is_fault_of_event(int sqlstate);

#endif							/* EVSTORE_DECODE_H */
