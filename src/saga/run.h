/*
 * run.h
 *	  One transition of an instance.
 */
#ifndef EVSTORE_SAGA_RUN_H
#define EVSTORE_SAGA_RUN_H

#include "saga/instance.h"

typedef enum EvsSagaRunStatus
{
	EVS_SAGA_RAN,				/* a transition was made; there may be more to do */
	EVS_SAGA_IDLE,				/* nothing to do now */
	EVS_SAGA_BUSY				/* somebody else is at it, it has gone, or the saga is paused */
} EvsSagaRunStatus;

typedef struct EvsSagaRun
{
	pg_uuid_t	id;				/* which instance: in */
	bool		in_worker;		/* in */
	EvsSagaRunStatus status;
	bool		due;			/* and there is more to do now */
	TimestampTz next_due;		/* DT_NOEND: when something comes in */
	bool		durable;		/* it is to wait for the disk when it commits */
} EvsSagaRun;

/*
 * Make one transition, in the current transaction: take the oldest mail in, or go on by
 * one piece of work.  What a step throws is the saga's business; what is nobody's fault
 * is thrown, and then evs_saga_note_error() is to be called in another transaction.
 */
extern void evs_saga_run_one(EvsSagaRun *run);

/* A transition could not be made: try it again later. */
extern void evs_saga_note_error(const pg_uuid_t *id, const char *message);

/* ---- which instances ---- */

typedef struct EvsSagaCandidate
{
	pg_uuid_t	id;
	int			priority;
	TimestampTz due;
} EvsSagaCandidate;

/*
 * Instances of sagas, given by their ids, that there is something to do for: by priority
 * and then in the order in which they became due, at most max.  *next_due is when the next
 * one will be, as far as that is known, or DT_NOEND.
 */
extern int	evs_saga_candidates(const int64 *definitions, int ndefinitions, int max,
								EvsSagaCandidate *candidates, TimestampTz *next_due);

#endif							/* EVSTORE_SAGA_RUN_H */
