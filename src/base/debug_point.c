/*
 * debug_point.c
 *	  Named places where a test can make a session wait.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"

#include "base/debug_point.h"

#ifdef EVS_DEBUG_POINTS
void
evs_debug_point(const char *name)
{
	LOCKTAG		tag;
	uint64		key = hash_bytes_extended((const unsigned char *) name, strlen(name), 0);

	/* the tag of pg_advisory_lock(bigint) */
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (key >> 32), (uint32) key, 1);
	(void) LockAcquire(&tag, ShareLock, false, false);
	LockRelease(&tag, ShareLock, false);
}
#endif
