/*
 * incoming.h
 *	  Events on their way in: what decoders make of a payload.
 *
 * A payload is what a broker or a web hook has delivered: it holds messages, and a
 * message holds one event or several.  Texts are in the encoding of the database where
 * not said otherwise, and in the memory context that was current when decoding began.
 */
#ifndef EVSTORE_INCOMING_H
#define EVSTORE_INCOMING_H

#include "utils/jsonb.h"

#include "stream/batch.h"
#include "compat.h"

/* Bytes that should be UTF-8, if they are text at all. */
typedef struct EvsBytes
{
	const char *data;			/* NULL: there are none, which is not the same as empty */
	int			length;
} EvsBytes;

/* An attribute of CloudEvents, or a header: a string, a number or a boolean. */
typedef struct EvsInAttribute
{
	const char *name;
	JsonbValue	value;
} EvsInAttribute;

typedef struct EvsInAttributes
{
	int			n;
	int			size;
	EvsInAttribute *list;
} EvsInAttributes;

/* An event as CloudEvents has it, wherever it comes from. */
typedef struct EvsCloudEvent
{
	EvsInAttributes attributes;
	Jsonb	   *data;			/* NULL: none */
	const char *base64;			/* or the data is this */
	bool		both;			/* it has claimed to have data and Base64 */
	Jsonb	   *message_attributes; /* what the message has beside those of CloudEvents, or NULL */
} EvsCloudEvent;

typedef enum EvsInStatus
{
	EVS_IN_PENDING,				/* to be appended */
	EVS_IN_APPENDED,
	EVS_IN_DUPLICATE,
	EVS_IN_FAILED,
	EVS_IN_NOT_TRIED,
	EVS_IN_HANDSHAKE			/* no event: the sender wants to know whether we are there */
} EvsInStatus;

/* What has become of one event, and before that, what is to be appended. */
typedef struct EvsIncoming
{
	EvsInStatus status;
	const char *message_id;		/* the broker's, or NULL */
	const char *source;			/* these three may be NULL unless it is pending */
	const char *id;
	const char *type;
	const char *sequence;		/* its attribute of this name, or NULL */
	const char *stream;
	EvsNewEvent event;			/* without an id, which depends on what is there */
	pg_uuid_t	event_id;
	bool		has_place;
	int64		version;
	int64		position;
	Jsonb	   *detail;			/* of a failure, or of a handshake */
} EvsIncoming;

/* ---- attributes ---- */

extern void evs_in_attribute_add(EvsInAttributes *attributes, const char *name,
								 const JsonbValue *value);

/* As a string; passed over if text is NULL or empty. */
extern void evs_in_attribute_add_text(EvsInAttributes *attributes, const char *name,
									  const char *text);

/* NULL: there is none. */
extern EvsInAttribute *evs_in_attribute_find(const EvsInAttributes *attributes, const char *name);

/* The value as text, or NULL. */
extern const char *evs_in_attribute_text(const EvsInAttributes *attributes, const char *name);

/* ---- errors ---- */

/*
 * What is wrong with a payload, and with one attribute or member of it: VS005.  The
 * index is that of the event in the payload, from 0.
 */
pg_noreturn extern void evs_in_throw(int index, const char *field, const char *fmt,...) pg_attribute_printf(3, 4);

#endif							/* EVSTORE_INCOMING_H */
