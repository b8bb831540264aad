/*
 * version.h
 *	  The version of a stream's newest event.
 */
#ifndef EVSTORE_VERSION_H
#define EVSTORE_VERSION_H

#include "utils/relcache.h"
#include "utils/snapshot.h"

#include "stream/stream.h"

/*
 * The newest version ever, hidden or not, that the snapshot sees: SnapshotSelf
 * for who has locked the stream, a reader's own for a reader, which is also
 * what the stream's row was read with.  -1 if there is none.  *position is that
 * event's, 0 if it has been scavenged.
 */
extern int64 evs_version_current(Relation log, const EvsStream *stream, Snapshot snapshot,
								 int64 *position);

#endif							/* EVSTORE_VERSION_H */
