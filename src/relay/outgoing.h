/*
 * outgoing.h
 *	  An event on its way out, as a relay has read it.
 */
#ifndef EVSTORE_OUTGOING_H
#define EVSTORE_OUTGOING_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

#include "include/evstore_sink.h"

/* Texts are in the encoding of the database; NULL: there is none. */
typedef struct EvsOutgoing
{
	int64		position;
	int64		version;
	pg_uuid_t	id;
	pg_uuid_t	causation_id;
	bool		has_causation_id;
	int			schema_version;
	TimestampTz time;			/* occurred_at */
	const char *stream;			/* never NULL */
	const char *category;		/* never NULL */
	const char *type;			/* never NULL */
	const char *subject;		/* NULL: the stream */
	const char *source;
	const char *correlation_id;
	const char *key;			/* ordering key */
	Jsonb	   *data;			/* not compressed, not out of line */
	Jsonb	   *metadata;		/* likewise; an object */

	/*
	 * For the relay to set.  Attributes of CloudEvents that it adds, as expirytime
	 * and dataref, in UTF-8: before those of the same name.  And is the data, for which
	 * dataref may stand, left out?
	 */
	const evs_sink_pair *extensions;
	int			nextensions;
	bool		without_data;
} EvsOutgoing;

/*
 * From a value of type evstore.event; what it points to is in the current memory context
 * or in the value.  The ordering key, and what is for the relay to set, is left out.
 */
extern void evs_outgoing_from_event(Datum event, EvsOutgoing *outgoing);

/* The same from its columns. */
extern void evs_outgoing_from_columns(const Datum *values, const bool *nulls, EvsOutgoing *outgoing);

/* A member of a JSON object; false if there is none, or object is NULL or no object. */
extern bool evs_json_member(JsonbContainer *object, const char *name, JsonbValue *value);

/* A JSON scalar as text; NULL for null and what is no scalar. */
extern const char *evs_json_scalar_text(const JsonbValue *value);

#endif							/* EVSTORE_OUTGOING_H */
