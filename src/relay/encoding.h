/*
 * encoding.h
 *	  An event that is being encoded: what cloudevents.c and attributes.c share,
 *	  and ../ingest, which has to tell what they would make of an event.
 */
#ifndef EVSTORE_ENCODING_H
#define EVSTORE_ENCODING_H

#include "relay/cloudevents.h"

/* RFC 3986: besides letters and digits, what is unreserved, and what a URI reference may have. */
#define EVS_URI_UNRESERVED "-._~"
#define EVS_URI_REFERENCE EVS_URI_UNRESERVED ":/?#[]@!$&'()*+,;=%"

typedef struct EvsAttribute
{
	const char *name;
	const char *value;			/* UTF-8 */
	bool		is_json;		/* a number or a boolean: not quoted in JSON */
	bool		is_foreign;		/* not made here: to be checked */
} EvsAttribute;

typedef struct EvsEncoding
{
	const EvsEncoder *encoder;
	const EvsOutgoing *event;
	evs_sink_message *message;
	char	   *error;			/* the first one, or NULL */

	JsonbContainer *kept;		/* metadata.cloudevent, or NULL */
	bool		no_data;
	JsonbValue	base64;			/* jbvNull: there is none */

	int			nattributes;
	EvsAttribute *attributes;
} EvsEncoding;

/* Set the error unless there is one already. */
extern void evs_encoding_fail(EvsEncoding *e, char *error);

/* In UTF-8; NULL for NULL, and after a failure: what it is, is for the error. */
extern const char *evs_encoding_utf8(EvsEncoding *e, const char *text, const char *what);

/* The object metadata.<name>; NULL if there is none, or it is no object. */
extern JsonbContainer *evs_encoding_object(EvsEncoding *e, const char *name);

/* Like strspn(), of ASCII letters, digits and marks. */
extern Size evs_uri_span(const char *text, const char *marks);

extern const char *evs_encoding_uuid(const pg_uuid_t *uuid);

/* RFC 3339, UTC, with the digits of a second that there are; NULL if not in the years 1 to 9999. */
extern char *evs_encoding_time(TimestampTz time);

/* All attributes of the event; of raw messages only those that describe the data. */
extern void evs_encoding_gather_attributes(EvsEncoding *e);
extern void evs_encoding_check_attributes(EvsEncoding *e);

/* The value of an attribute that has been gathered, or NULL. */
extern const char *evs_encoding_attribute(EvsEncoding *e, const char *name);

#endif							/* EVSTORE_ENCODING_H */
