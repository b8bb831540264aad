/*
 * run.h
 *	  A batch of a projection's events.
 */
#ifndef EVSTORE_PROJECTION_RUN_H
#define EVSTORE_PROJECTION_RUN_H

#include "datatype/timestamp.h"

#include "projection/definition.h"

typedef enum EvsRunStatus
{
	EVS_RUN_DONE,				/* events were handled, or failed; there may be more */
	EVS_RUN_IDLE,				/* nothing to do now */
	EVS_RUN_BUSY,				/* somebody else is at it */
	EVS_RUN_PAUSED,				/* or stopped by an error */
	EVS_RUN_STALE				/* definitions have changed: load them again */
} EvsRunStatus;

/*
 * One slot of a projection, and what whoever runs it remembers of it from one
 * batch to the next.  Begin with zeros.
 */
typedef struct EvsRun
{
	const EvsProjection *projection;
	uint64		version;		/* of projections when it was loaded */
	int			slot;
	int64		max_count;		/* 0: as the projection says */
	bool		in_worker;
	bool		finishing;		/* with everything locked: wait for nobody */

	EvsRunStatus status;
	int64		handled;		/* events, in this batch */
	TimestampTz retry_at;		/* something is due then; 0 = no */
	bool		stands;			/* and nothing can be done before */
	char	   *error;			/* of an event that failed in this batch, or NULL */
	bool		faulted;		/* and that has stopped the projection */

	Oid			store;			/* evstore.slot_state: after DROP EXTENSION it is another */
	int64		seq;			/* of the slot's state */
	int64		scanned;		/* nothing for it from its cursor up to here */
	bool		had_error;		/* one may be on record */
} EvsRun;

/*
 * Handle the next events of a slot, in the current transaction, with the
 * checkpoint.  What the handler throws about an event is dealt with as the
 * projection wants it; other errors are thrown.
 */
extern void evs_projection_run(EvsRun *run);

/* A warning that an event of the last batch has failed, if one has. */
extern void evs_projection_report(const EvsRun *run);

/*
 * An error that says nothing about an event: write it down, and when to try
 * again.  In a transaction of its own.
 */
extern TimestampTz evs_projection_note_error(int64 id, int slot, int sqlerrcode,
											 const char *message);

#endif							/* EVSTORE_PROJECTION_RUN_H */
