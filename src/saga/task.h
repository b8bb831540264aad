/*
 * task.h
 *	  Steps that somebody outside does: tasks of activities, and replies to tokens.
 */
#ifndef EVSTORE_SAGA_TASK_H
#define EVSTORE_SAGA_TASK_H

#include "nodes/execnodes.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

typedef struct EvsTaskRequest
{
	const char *activity;
	const char *worker;
	int64		max_count;
	int64		wait_ms;
} EvsTaskRequest;

/* Claim tasks of an activity, oldest first; wait for the first of them. */
extern void evs_task_fetch(const EvsTaskRequest *request, ReturnSetInfo *result);

typedef struct EvsTaskReply
{
	Jsonb	   *output;			/* of one that has succeeded; or NULL */
	const char *error;			/* of one that has failed */
	const char *cause;			/* or NULL */
	bool		no_effect;		/* and has certainly changed nothing */
} EvsTaskReply;

/*
 * Take a reply in.  The same one once more changes nothing.  Throws VS007 if nobody waits
 * for one, 22023 if the output is too large.
 */
extern void evs_task_reply(const pg_uuid_t *token, const EvsTaskReply *reply);

/* A sign of life; returns when the next one is due, or DT_NOEND.  Throws VS007. */
extern TimestampTz evs_task_heartbeat(const pg_uuid_t *token);

#endif							/* EVSTORE_SAGA_TASK_H */
