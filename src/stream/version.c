/*
 * version.c
 *	  The version of a stream's newest event.
 *
 * It is not stored anywhere: a row that each append updates would be a hot
 * one.  It is the newest entry of the stream in one leaf's index, the leaf
 * that the stream's row names.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/stratnum.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "catalog/scan.h"
#include "stream/leaf.h"
#include "stream/version.h"
#include "compat.h"

/*
 * What this backend knows about the versions of streams.  An index scan for
 * the newest one reads all entries of the stream that are on the same page,
 * hundreds for a long stream; from a version that is known to be stored it
 * reads only those after it.  A hint that is wrong (rolled back, scavenged, of
 * a store that was dropped) finds nothing, and the scan starts anew.
 */
#define VERSION_HINTS 1024

typedef struct VersionHint
{
	int64		stream_id;
	int64		version;
} VersionHint;

static VersionHint version_hints[VERSION_HINTS];

static bool
newest_in_leaf(Relation rel, const EvsStream *stream, Snapshot snapshot, int64 from,
			   int64 *version, int64 *position)
{
	EvsLeaf    *leaf = evs_leaf_describe(rel);
	ScanKeyData keys[2];
	EvsScan		scan;
	bool		found;

	evs_key_int8(&keys[0], 1, BTEqualStrategyNumber, stream->id);
	evs_key_int8(&keys[1], 2, BTGreaterEqualStrategyNumber, from);
	evs_scan_begin(&scan, rel, leaf->version_index, snapshot, from > 0 ? 2 : 1, keys,
				   BackwardScanDirection);
	found = evs_scan_next(&scan);
	if (found)
	{
		*version = evs_leaf_get_int8(leaf, scan.slot, EVS_LOG_VERSION);
		*position = evs_leaf_get_int8(leaf, scan.slot, EVS_LOG_POSITION);
	}
	evs_scan_end(&scan, snapshot == SnapshotSelf ? NoLock : AccessShareLock);
	return found;
}

/*
 * Readers make do with what there is.  Who appends must not number events anew
 * because somebody has taken a partition away.
 */
static void
refuse_lost_version(const EvsStream *stream, Snapshot snapshot, const char *what)
{
	if (snapshot != SnapshotSelf)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the version of stream \"%s\" is not known", stream->name),
			 errdetail("The partition that begins at position " INT64_FORMAT ", the stream's newest, %s.",
					   stream->last_leaf, what),
			 errhint("Put the partition back as it was; evstore.health() and evstore.verify() tell what else is missing.")));
}

int64
evs_version_current(Relation log, const EvsStream *stream, Snapshot snapshot,
					int64 *position)
{
	VersionHint *hint = &version_hints[stream->id % VERSION_HINTS];
	int64		version = stream->scavenged_version;
	LOCKMODE	lockmode = snapshot == SnapshotSelf ? RowExclusiveLock : AccessShareLock;
	EvsLeafRange range;
	Relation	rel;

	*position = 0;
	if (!evs_leaf_find(log, stream->last_leaf, &range) ||
		(rel = evs_leaf_open(range.relid, lockmode)) == NULL)
	{
		refuse_lost_version(stream, snapshot, "has gone");
		return version;
	}
	if ((hint->stream_id == stream->id &&
		 newest_in_leaf(rel, stream, snapshot, hint->version, &version, position)) ||
		newest_in_leaf(rel, stream, snapshot, 0, &version, position))
	{
		hint->stream_id = stream->id;
		hint->version = version;
	}
	else if (version < 0)
		refuse_lost_version(stream, snapshot, "has none of its events");
	/* an appender will write to this leaf, most likely, and needs the lock then */
	relation_close(rel, lockmode == RowExclusiveLock ? NoLock : lockmode);
	return version;
}
