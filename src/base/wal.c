/*
 * wal.c
 *	  How far the write-ahead log has to be on disk before others may hear of something.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"

#include "base/wal.h"
#include "compat.h"

/*
 * A position right after the header of a page that is not written yet stands for the end
 * of the page before.
 */
XLogRecPtr
evs_wal_end(void)
{
	XLogRecPtr	end = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(end, wal_segment_size) == SizeOfXLogLongPHD ||
		(end % XLOG_BLCKSZ == SizeOfXLogShortPHD &&
		 XLogSegmentOffset(end, wal_segment_size) > XLOG_BLCKSZ))
		end -= end % XLOG_BLCKSZ;
	return end;
}
