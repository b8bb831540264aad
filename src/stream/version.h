/*
 * version.h
 *	  The version of a stream's newest event.
 */
#ifndef EVSTORE_VERSION_H
#define EVSTORE_VERSION_H

#include "utils/relcache.h"

#include "stream/stream.h"

/*
 * The newest version ever, hidden or not, as SnapshotSelf sees it; -1 if there
 * is none.  *position is that event's, 0 if it has been scavenged.
 */
extern int64 evs_version_current(Relation log, const EvsStream *stream, int64 *position);

#endif							/* EVSTORE_VERSION_H */
