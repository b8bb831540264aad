/*
 * pubsub.h
 *	  Filters of attributes as Pub/Sub writes them.
 */
#ifndef EVSTORE_PUBSUB_H
#define EVSTORE_PUBSUB_H

#include "filter/compile.h"
#include "filter/document.h"

typedef struct EvsExpr EvsPubsub;

extern EvsPubsub *evs_pubsub_compile(const char *text, const EvsWhere *where);
extern bool evs_pubsub_match(const EvsPubsub *filter, EvsDocument *document);

#endif							/* EVSTORE_PUBSUB_H */
