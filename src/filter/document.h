/*
 * document.h
 *	  An event as a filter sees it, wherever it comes from.
 *
 * Filters name what they want of an event, and only that is read: columns are
 * asked for one by one, data and metadata are fetched once.
 */
#ifndef EVSTORE_DOCUMENT_H
#define EVSTORE_DOCUMENT_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"

/* Columns of the composite type evstore.event. */
enum
{
	EVS_EVENT_POSITION,
	EVS_EVENT_STREAM,
	EVS_EVENT_VERSION,
	EVS_EVENT_EVENT_ID,
	EVS_EVENT_TYPE,
	EVS_EVENT_SCHEMA_VERSION,
	EVS_EVENT_DATA,
	EVS_EVENT_METADATA,
	EVS_EVENT_CORRELATION_ID,
	EVS_EVENT_CAUSATION_ID,
	EVS_EVENT_SOURCE,
	EVS_EVENT_OCCURRED_AT,
	EVS_EVENT_RECORDED_AT,
	EVS_EVENT_TAGS,
	EVS_EVENT_NCOLUMNS
};

/* Begin with zeros but for column and arg; good for one event. */
typedef struct EvsDocument EvsDocument;
struct EvsDocument
{
	Datum		(*column) (const EvsDocument *document, int column, bool *isnull);
	void	   *arg;
	Jsonb	   *data;			/* fetched, or NULL */
	Jsonb	   *metadata;
};

/* A column as it is stored. */
static inline Datum
evs_document_column(const EvsDocument *document, int column, bool *isnull)
{
	return document->column(document, column, isnull);
}

/* What an event has, as far as filters know it. */
typedef enum EvsField
{
	EVS_FIELD_ID,
	EVS_FIELD_SOURCE,
	EVS_FIELD_TYPE,
	EVS_FIELD_TIME,
	EVS_FIELD_STREAM,
	EVS_FIELD_CATEGORY,
	EVS_FIELD_VERSION,
	EVS_FIELD_POSITION,
	EVS_FIELD_SCHEMA_VERSION,
	EVS_FIELD_CORRELATION_ID,
	EVS_FIELD_CAUSATION_ID,
	EVS_FIELD_RECORDED_AT,
	EVS_FIELD_TAGS,
	EVS_FIELD_DATA,
	EVS_FIELD_METADATA
} EvsField;

/*
 * The field of a name: type, eventType, detail-type, ...; false if there is none.
 * any_case: EventType is eventType.
 */
extern bool evs_field_find(const char *name, bool any_case, EvsField *field);

/* A field, or what is found below data or metadata by following keys. */
typedef struct EvsPath
{
	EvsField	field;
	int			nkeys;
	char	  **keys;
} EvsPath;

/*
 * "data.address.city", "metadata.actor", "eventType"; what begins with no field's
 * name is looked for in the metadata.
 */
extern void evs_document_parse_path(const char *text, EvsPath *path);

/*
 * False if the event has no such thing.  Times are RFC 3339 in UTC, the stream's
 * name is the subject too, and an event without a source has the one that
 * to_cloudevent() gives it.  Objects and arrays are jbvBinary.
 */
extern bool evs_document_get(EvsDocument *document, EvsField field, JsonbValue *value);
extern bool evs_document_follow(EvsDocument *document, const EvsPath *path, JsonbValue *value);

/* A member of an object; false also if it is none. */
extern bool evs_document_json_member(const JsonbValue *object, const char *key, JsonbValue *member);

/* A string, number or boolean as text; NULL for anything else. */
extern char *evs_json_to_string(const JsonbValue *value);

/* RFC 3339 in UTC, with the same digits as _rfc3339() in SQL. */
extern char *evs_document_format_time(TimestampTz time);

/* In lower case, by the rules of the database. */
extern char *evs_fold_case(const char *s, int len);

/*
 * What has become of an event.  An error is the filter's author's business: the
 * event is neither wanted nor not wanted.
 */
typedef enum EvsFilterResult
{
	EVS_FILTER_NO,
	EVS_FILTER_YES,
	EVS_FILTER_ERROR
} EvsFilterResult;

#endif							/* EVSTORE_DOCUMENT_H */
