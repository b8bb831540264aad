/*
 * headers.h
 *	  Headers, and the attributes that brokers have for a message.
 */
#ifndef EVSTORE_HEADERS_H
#define EVSTORE_HEADERS_H

#include "ingest/incoming.h"

/* How those of CloudEvents are written among them. */
typedef enum EvsHeaderFamily
{
	EVS_HEADERS_NONE,			/* there are none */
	EVS_HEADERS_DASH,			/* ce-id: HTTP, NATS, Pub/Sub */
	EVS_HEADERS_UNDERSCORE,		/* ce_id: Kafka */
	EVS_HEADERS_AMQP,			/* cloudEvents_id, cloudEvents:id */
	EVS_HEADERS_BARE			/* id: MQTT 5 */
} EvsHeaderFamily;

typedef struct EvsHeaders
{
	EvsInAttributes all;		/* names in lower case */
	EvsInAttributes as_written; /* the same, in the same order */
	EvsHeaderFamily family;
	const char *content_type;	/* or NULL */
} EvsHeaders;

/*
 * The members of an object: strings, numbers and booleans; arrays of them, joined by
 * commas; and what AWS has for a value, {"Type", "Value"}, {"dataType", "stringValue"}.
 * Null members are passed over; NULL as the object has none.  Throws VS005 if there are too many.
 */
extern void evs_headers_read(EvsHeaders *headers, JsonbContainer *object, int index);

extern const char *evs_headers_text(const EvsHeaders *headers, const char *name);

/*
 * Add the attributes of CloudEvents among them, without specversion if it is 1.0.  Those
 * that are percent-encoded are decoded if the family is that of HTTP.
 */
extern void evs_headers_add_attributes(const EvsHeaders *headers, bool percent_encoded,
									   EvsInAttributes *attributes, int index);

/* The others as an object, or NULL. */
extern Jsonb *evs_headers_others(const EvsHeaders *headers);

#endif							/* EVSTORE_HEADERS_H */
