/*
 * execution.h
 *	  Where an instance of a saga is: the inside of an EvsExecution.
 *
 * Private to the files of the machine.  What is a number is an int64, so that a table can
 * say how it is stored; times are TimestampTz, 0 and DT_NOEND being none.
 */
#ifndef EVSTORE_SAGA_EXECUTION_H
#define EVSTORE_SAGA_EXECUTION_H

#include "saga/machine.h"

typedef enum EvsThreadStatus
{
	EVS_THREAD_READY,			/* its state is to be entered */
	EVS_THREAD_STEP,			/* its step is in flight */
	EVS_THREAD_WAIT,			/* in a Wait state, until due */
	EVS_THREAD_RETRY,			/* its state has failed, and is entered again when due */
	EVS_THREAD_FORK				/* its branches or items are under way */
} EvsThreadStatus;

typedef struct EvsThread
{
	int64		id;				/* from 1, the root; a child's is higher than its parent's */
	int64		parent;			/* 0: none */
	int64		index;			/* of the branch or item that it is */
	int64		status;
	const EvsMachine *machine;
	int			state;
	Jsonb	   *input;			/* of the state, as it came in */
	Jsonb	   *variables;		/* its own ones, or NULL */

	/* A visit: from entering a state until it is left */
	int64		base;			/* visits are numbered from here */
	int		   *visits;			/* of each state, the last one's number */
	int64		entered;		/* when; 0: this visit has not begun */
	int64		attempt;		/* number of steps that this visit has started */
	int		   *retries;		/* of each retrier; NULL: none */
	List	   *lost;			/* steps of this visit of which nobody knows what they did */
	int64		late;			/* one of them that turned out to have succeeded; 0: none */
	int64		due;			/* WAIT, RETRY */

	/* STEP */
	int64		step;			/* 0: none */
	int64		timeout_at;		/* DT_NOEND: none */
	int64		heartbeat_at;
	int64		heartbeat;		/* microseconds */

	/* FORK */
	int64		count;			/* branches or items */
	int64		begun;			/* of them */
	int64		limit;			/* of them at the same time; 0: none */
	int64		top;			/* highest number of a visit in those that have ended */
	Jsonb	  **results;		/* NULL: not there yet */
} EvsThread;

typedef enum EvsUndoStatus
{
	EVS_UNDO_NO,				/* when the saga compensates */
	EVS_UNDO_LATE,				/* whatever the saga does: its reply came late */
	EVS_UNDO_RUNNING,			/* its compensator is under way */
	EVS_UNDO_DONE,
	EVS_UNDO_SKIPPED,			/* somebody said that there is nothing left to do */
	EVS_UNDO_FAILED				/* its compensator gave up, of a late one */
} EvsUndoStatus;

/* What a visit of a Task has done, or may have done. */
typedef struct EvsEffect
{
	const EvsSagaState *state;
	char	   *path;
	int64		visit;
	int64		step;			/* whose record has input and output */
	int64		outcome;		/* succeeded or unknown */
	int64		undo;
	List	   *lost;			/* steps that may still reply */
} EvsEffect;

/* The compensator that is under way: never more than one. */
typedef struct EvsUndo
{
	int64		active;
	int64		step;			/* 0: it is to start, when due */
	int64		attempt;
	int64		timeout_at;
	int64		due;			/* DT_NOEND: it has given up */
	int		   *retries;		/* of each retrier; NULL: none */
	int			nretries;
	int64		planned;		/* it is the entry of the list whose turn it is */
	List	   *tried;			/* steps that may still reply */
} EvsUndo;

/* An entry of an explicit list of compensations. */
typedef struct EvsPlanned
{
	char	   *state;			/* or what else it is called */
	char	   *resource;		/* or NULL: the state's compensator */
	Jsonb	   *data;			/* or NULL */
} EvsPlanned;

struct EvsExecution
{
	int64		status;
	int64		ended;			/* END has been said */
	int64		final_status;	/* that it comes to when all is undone */
	int64		entries;		/* states that have been entered */
	int64		last_step;
	int64		last_thread;
	int64		turn;			/* thread that went on last */
	int64		deadline;		/* DT_NOEND: none */
	int64		pivot;			/* a pivot has succeeded */
	char	   *error;			/* why it compensates, or NULL */
	char	   *cause;
	List	   *threads;		/* of EvsThread, by id */
	List	   *effects;		/* of EvsEffect, in the order of their completion */
	EvsUndo		undo;
	List	   *plan;			/* of EvsPlanned, or NIL: all effects */
	int64		planned;		/* entries of it that are done with */
	Jsonb	   *input;			/* the instance's; not stored here */
};

/* ---- threads ---- */

extern EvsThread *evs_thread_new(EvsExecution *execution, const EvsThread *parent,
								 const EvsMachine *machine, int64 index);
extern EvsThread *evs_thread_find(const EvsExecution *execution, int64 id);
extern EvsThread *evs_thread_of_step(const EvsExecution *execution, int64 step);

/* The next one that is ready, in turn; NULL: none is. */
extern EvsThread *evs_thread_ready(const EvsExecution *execution);

extern const EvsSagaState *evs_thread_state(const EvsThread *thread);

/* "Fan[2].Charge" */
extern char *evs_thread_path(const EvsExecution *execution, const EvsThread *thread);

/* On to a state: the visit of the one it is in is over. */
extern void evs_thread_move(EvsThread *thread, int state);

/* A visit begins, unless there is one: of a state that is entered again. */
extern void evs_thread_enter(EvsThread *thread, TimestampTz now);

/* When it goes on by itself: DT_NOBEGIN = now, DT_NOEND = never. */
extern TimestampTz evs_thread_due(const EvsThread *thread);

/* What it and its parents have assigned, or NULL. */
extern Jsonb *evs_thread_variables(const EvsExecution *execution, const EvsThread *thread);

/* The thread is a child of this one, or of one of its children. */
extern bool evs_thread_is_below(const EvsExecution *execution, const EvsThread *thread, int64 id);

#endif							/* EVSTORE_SAGA_EXECUTION_H */
