/*
 * ingest.h
 *	  Decoded events into the log, each once.
 */
#ifndef EVSTORE_INGEST_H
#define EVSTORE_INGEST_H

#include "ingest/incoming.h"
#include "ingest/options.h"

/*
 * Append the rows that are pending, and say what has become of each.  What is known by
 * source and id is a duplicate, whatever its content is.  Throws, or writes failures
 * down, as the options say.
 */
extern void evs_ingest_rows(EvsIncoming *rows, int nrows, const EvsInOptions *options);

#endif							/* EVSTORE_INGEST_H */
