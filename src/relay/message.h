/*
 * message.h
 *	  Events on their way to a sink.
 */
#ifndef EVSTORE_RELAY_MESSAGE_H
#define EVSTORE_RELAY_MESSAGE_H

#include "include/evstore_sink.h"

/* Messages that were read together, and are freed when the last one is done. */
typedef struct EvsMessageBatch
{
	MemoryContext context;
	int			left;
} EvsMessageBatch;

/* Messages that were submitted together; the sink may look at it as long as it has one. */
typedef struct EvsSubmission
{
	int			n;
	int			left;
	evs_sink_message wire[FLEXIBLE_ARRAY_MEMBER];
} EvsSubmission;

typedef enum EvsMessageState
{
	EVS_MESSAGE_READY,			/* to be submitted */
	EVS_MESSAGE_WAITING,		/* for an earlier one of its key that failed */
	EVS_MESSAGE_SENT,			/* the sink has it */
	EVS_MESSAGE_DONE,
	EVS_MESSAGE_FAILED			/* and that is to be written down, or has been */
} EvsMessageState;

/* A key of which the sink has messages. */
typedef struct EvsSentKey
{
	uint32		hash;
	int			n;
	uint32		submission;		/* of the latest one */
} EvsSentKey;

typedef struct EvsMessage
{
	EvsMessageBatch *batch;
	EvsMessageState state;
	int64		position;
	uint32		key_hash;
	bool		replay;			/* it has a row in failed_event */
	bool		alone;			/* it failed together with others: now by itself */
	bool		again;			/* sent before one of its key that failed: once more */
	bool		recorded;		/* FAILED, and its row is there */
	int			place;			/* among those in flight, when SENT */
	EvsSubmission *submission;	/* when SENT */
	EvsSentKey *key;			/* likewise; NULL if the sink keeps the order */
	int64		sent_at;		/* microseconds, sink's clock */
	Size		size;

	/* FAILED */
	const char *action;			/* retry, park, or filter: that has failed */
	const char *reason;			/* of parking */
	char	   *error;			/* in the batch's context */
	int64		delay;			/* ms; -1 = as the policy says */

	evs_sink_message wire;		/* of a FAILED one it points nowhere */
} EvsMessage;

/* Those that were read, in order, and are not passed by the cursor yet. */
typedef struct EvsWindow
{
	EvsMessage **items;
	int			first;
	int			n;				/* from first on */
	int			max;
	int			settled;		/* so many from the first on are not READY, at least */
	Size		bytes;
} EvsWindow;

extern void evs_window_add(EvsWindow *window, EvsMessage *message);

/* The first n are done with. */
extern void evs_window_pass(EvsWindow *window, int n);
extern void evs_window_clear(EvsWindow *window);

static inline EvsMessage *
evs_window_get(const EvsWindow *window, int i)
{
	return window->items[window->first + i];
}

/* A message is not needed any more. */
extern void evs_message_free(EvsMessage *message);

/* Copy what it points to, in one piece, to the memory of its batch. */
extern void evs_message_keep(EvsMessage *message);

#endif							/* EVSTORE_RELAY_MESSAGE_H */
