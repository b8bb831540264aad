/*
 * options.h
 *	  How a payload is to be ingested.
 */
#ifndef EVSTORE_INGEST_OPTIONS_H
#define EVSTORE_INGEST_OPTIONS_H

#include "nodes/pg_list.h"

#include "ingest/incoming.h"

typedef enum EvsInFormat
{
	EVS_IN_AUTO,
	EVS_IN_CLOUDEVENTS,			/* structured mode: one event */
	EVS_IN_CLOUDEVENTS_BATCH,	/* an array of them */
	EVS_IN_CLOUDEVENTS_BINARY,	/* data, and attributes beside it */
	EVS_IN_SNS_SQS,				/* SNS, by HTTP or through SQS */
	EVS_IN_SQS,
	EVS_IN_PUBSUB_PUSH,
	EVS_IN_EVENTBRIDGE,
	EVS_IN_EVENTGRID			/* Azure Event Grid's own schema */
} EvsInFormat;

typedef enum EvsInOnError
{
	EVS_IN_ABORT,				/* throw: all or nothing */
	EVS_IN_REPORT,				/* go on with the next event */
	EVS_IN_STOP					/* what comes after the first that fails is not tried */
} EvsInOnError;

typedef struct EvsInTemplate EvsInTemplate;

typedef struct EvsInOptions
{
	EvsInFormat format;
	EvsInOnError on_error;
	EvsInTemplate *stream;		/* NULL: inbox-<source>/<subject> */
	EvsInTemplate *type;		/* NULL: the event's */
	const char *id;				/* of a message that has none, or NULL */
	const char *source;
	List	   *topics;			/* patterns (char *) one of which must fit; NIL: any */
	List	   *sources;
} EvsInOptions;

/* Throws 22023 for a format that is not known. */
extern EvsInFormat evs_in_format_parse(const char *name);

/* The members of the JSON object; throws VS010 with the path of what is wrong. */
extern void evs_in_options_read(EvsInOptions *options, Jsonb *json);

/* Is the value one of the patterns?  A * at the end of one stands for any text. */
extern bool evs_in_options_allow(List *patterns, const char *value);

/*
 * A template: text with {attribute}, {first|second} where the second stands in for a
 * first that the event does not have, {attributes.name} for an attribute of the message,
 * and {{ and }} for single braces.  Throws 22023 about the argument.
 */
extern EvsInTemplate *evs_in_template_compile(const char *text, const char *argument);

/* Throws VS005 if the event has nothing for a placeholder. */
extern const char *evs_in_template_fill(const EvsInTemplate *template, const EvsCloudEvent *event,
										int index);

#endif							/* EVSTORE_INGEST_OPTIONS_H */
