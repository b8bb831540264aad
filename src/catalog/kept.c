/*
 * kept.c
 *	  Lists of what is defined, kept by the session until a definition changes.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "catalog/kept.h"
#include "compat.h"

List *
evs_kept(EvsKept *kept, uint64 version)
{
	MemoryContext old;

	if (kept->version == version)
		return kept->list;
	if (kept->context == NULL)
	{
		kept->context = AllocSetContextCreate(TopMemoryContext, "evstore definitions",
											  ALLOCSET_SMALL_SIZES);
		MemoryContextSetIdentifier(kept->context, kept->name);
	}
	kept->list = NIL;
	kept->version = 0;
	MemoryContextReset(kept->context);
	old = MemoryContextSwitchTo(kept->context);
	kept->list = kept->load();
	MemoryContextSwitchTo(old);
	kept->version = version;
	return kept->list;
}
