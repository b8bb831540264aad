/*
 * template.h
 *	  Templates of topics: {category}, {type:lower}, {metadata.tenant} and so on.
 */
#ifndef EVSTORE_TEMPLATE_H
#define EVSTORE_TEMPLATE_H

#include "relay/outgoing.h"

/* In bytes. */
#define EVS_TEMPLATE_MAX 512

/* One topic a category: a stream stays in one topic, and so in order. */
#define EVS_TEMPLATE_DEFAULT "{category}"

typedef struct EvsTemplate EvsTemplate;

/*
 * Compile a template, in the current memory context.  NULL is the default; an empty
 * one gives empty topics.  Throws VS010 with the JSON path $.topic.
 */
extern EvsTemplate *evs_template_compile(const char *text);

/*
 * The topic of an event, in UTF-8 and the current memory context.  NULL, and
 * *error is set, if the event has no value for a placeholder, or one that no topic
 * can have.
 */
extern char *evs_template_fill(const EvsTemplate *template, const EvsOutgoing *event,
							   const char *relay, char **error);

#endif							/* EVSTORE_TEMPLATE_H */
