/*
 * append.h
 *	  Appending events to streams.
 */
#ifndef EVSTORE_APPEND_H
#define EVSTORE_APPEND_H

#include "stream/batch.h"

typedef enum EvsAppendStatus
{
	EVS_APPENDED,
	EVS_RETRIED,				/* had been done before; nothing was written */
	EVS_WRONG_VERSION,
	EVS_DELETED,				/* expected to exist, or closed for ever */
} EvsAppendStatus;

typedef struct EvsAppendResult
{
	EvsAppendStatus status;
	int64		first_version;	/* of this call's events; -1 if it had none */
	int64		version;		/* of the stream's newest event now */
	int64		position;		/* of that event; 0 if there is none */
	int64		actual;			/* on a conflict: the stream's version, or -1 */
	bool		tombstoned;
} EvsAppendResult;

/*
 * Append batches to different streams, all or nothing.  Locks are taken in the
 * order of the streams' names whatever the order of the batches is.  A
 * conflict is an error (VS001, VS002), or with no_throw a result, unless the
 * stream is closed for ever.
 */
extern void evs_append_execute(EvsBatch *batches, int nbatches, bool no_throw,
					   EvsAppendResult *results);

/* What an append has written to a stream: events with positions in [first, last]. */
typedef struct EvsAppended
{
	int64		stream_id;
	int64		first;
	int64		last;
} EvsAppended;

/*
 * Who wants to know of each append in its own transaction.  What run throws
 * undoes the append.
 */
typedef struct EvsAppendHook
{
	bool		(*is_wanted) (void);
	void		(*run) (const EvsAppended *appended, int n);
} EvsAppendHook;

extern void evs_append_set_hook(const EvsAppendHook *hook);

#endif							/* EVSTORE_APPEND_H */
