/*
 * kept.h
 *	  Lists of what is defined, kept by the session until a definition changes.
 */
#ifndef EVSTORE_KEPT_H
#define EVSTORE_KEPT_H

#include "nodes/pg_list.h"

/* Declare it static, with a name and what reads the list. */
typedef struct EvsKept
{
	const char *name;			/* for who looks at memory contexts */
	List	   *(*load) (void);
	List	   *list;
	uint64		version;		/* that it was read at; 0 = it is to be read */
	MemoryContext context;
} EvsKept;

/* The list as of this version; valid until the next call. */
extern List *evs_kept(EvsKept *kept, uint64 version);

#endif							/* EVSTORE_KEPT_H */
