/*
 * host.h
 *	  A relay at work: between the log and a sink.
 *
 * The parts of a turn are in files of their own: gather.c reads events, deliver.c
 * hands them to the sink and takes its results, record.c writes down what has
 * become of them.
 */
#ifndef EVSTORE_RELAY_HOST_H
#define EVSTORE_RELAY_HOST_H

#include "access/xlogdefs.h"
#include "utils/hsearch.h"

#include "relay/circuit.h"
#include "relay/message.h"
#include "relay/sink.h"
#include "subscription/failed.h"

/* Due events are given out so many at a time. */
#define EVS_REPLAYS_MAX 100

/* Acknowledged messages are written down when they are so many more than a portion. */
#define EVS_RECORD_MORE 200

/* What is added to the status. */
typedef struct EvsRelayCounts
{
	int64		sent;
	int64		duplicates;
	int64		failures;
	int64		bytes;
	int64		opened;
} EvsRelayCounts;

typedef struct EvsHost
{
	EvsRelay   *relay;
	bool		in_worker;		/* each step is a transaction */
	uint64		version;		/* of definitions: with another one, it has to be looked for changes */
	MemoryContext context;
	EvsEncoder	encoder;
	EvsEncoder	outbox;			/* the same for messages of publish(), which have a topic */
	EvsSink    *sink;

	/* from the slot */
	int64		epoch;
	int64		cursor;
	bool		pending;
	EvsFailedKeys failed;		/* in failed_context */
	MemoryContext failed_context;

	int64		read_to;		/* all up to here has been read */
	int64		last;			/* position of the log, when it was opened */
	int64		resume_to;		/* the other side has what came in order up to here */
	bool		resumed;		/* that is known */
	int64		durable;		/* no crash takes back what is up to here */
	XLogRecPtr	flush_to;		/* before anything else is submitted; or invalid */
	int64		flush_safe;		/* then this is durable */
	bool		all_read;		/* there was nothing more at the last look */
	bool		look;			/* there may be more by now */
	bool		idle;			/* this turn has found nothing to do so far */
	int64		gathered_at;	/* when it was looked the last time */

	int64		now;			/* when results were taken the last time */
	int64		answered_at;	/* when there were any */
	EvsWindow	window;
	EvsMessage **replays;		/* events that failed before, and are due */
	int			nreplays;

	EvsMessage **sent;			/* by place; relay->in_flight of them */
	uint32	   *rounds;			/* of each place, so that an old cookie is not taken for a new one */
	int			nsent;
	HTAB	   *keys;			/* those of messages that the sink has */
	uint32		submission;

	EvsCircuit	circuit;
	EvsBucket	bucket;
	int64		watched_at;		/* when it was last looked for messages without an answer */
	int64		outage_at;		/* messages submitted before do not count for another one */
	int64		ready_since;	/* of the oldest message that waits for company; 0 = none */

	/* not written down yet */
	int			unrecorded;
	int64		unrecorded_since;
	bool		has_failures;
	EvsRelayCounts counts;
	double		latency;		/* ms, moving average; negative = not known */
	char	   *error;			/* in context; NULL: nothing new */
	bool		status_changed;
	int64		status_at;		/* when it was written the last time */
	bool		fault;			/* the sink has said that there is no point in going on */
	bool		fault_recorded;	/* and that is written down */

	bool		stale;			/* somebody has let it begin elsewhere */
	bool		draining;		/* nothing more is submitted */
	int64		acknowledged;	/* since it was opened */
	int64		budget;			/* messages that may still be read; -1 = any */
} EvsHost;

/*
 * Open a relay, in the current memory context.  In a transaction, with the right to
 * run it: see evs_host_claim().  NULL: its sink refuses, and *error says why.
 */
extern EvsHost *evs_host_open(const char *name, bool in_worker, char **error);

/*
 * Nobody else runs the relay as long as this process, or transaction, does.  false:
 * somebody does.
 */
extern bool evs_host_claim(int64 relay, bool session);

/*
 * One turn: take results, write down, read, submit.  true: it did something, and
 * may have more to do.  Throws; the host can go on afterwards.
 */
extern bool evs_host_turn(EvsHost *host);

/* When to take a turn if nothing happens before, in ms; -1 = no matter. */
extern long evs_host_sleep_time(EvsHost *host);

/* An error outside of the sink: say so in the status.  In a transaction. */
extern void evs_host_note_error(int64 relay, const char *message);

/* Does not throw.  What is in flight is given up. */
extern void evs_host_close(EvsHost *host);

/* ---- the parts ---- */

extern int64 evs_host_now(const EvsHost *host);

/* Messages that are worth a transaction to read them. */
extern int	evs_host_portion(const EvsHost *host);
extern void evs_host_begin(const EvsHost *host);
extern void evs_host_commit(const EvsHost *host);

/* The slot as it is.  false, and the host is stale: somebody has fenced it. */
extern bool evs_host_read_slot(EvsHost *host, Relation states, EvsSlot *slot);
extern void evs_host_load_failed(EvsHost *host, const EvsSlot *slot);

extern bool evs_host_gather(EvsHost *host);
extern bool evs_host_wants(const EvsHost *host);

/* With batch_wait: ms until it is time to look again; 0 = now. */
extern long evs_host_rest(const EvsHost *host);
extern bool evs_host_wants_soon(const EvsHost *host);

/* Is there a message that could go out? */
extern bool evs_host_has_ready(const EvsHost *host);
extern HTAB *evs_host_make_keys(const EvsHost *host);
extern void evs_host_flush_log(EvsHost *host);

/* So many ms at most are messages that could go out kept for company; -1: not at all. */
extern long evs_host_wait_for_places(const EvsHost *host);

/* Does the sink have more than half of the messages that it may have? */
extern bool evs_host_is_half_full(const EvsHost *host);
extern bool evs_host_submit(EvsHost *host);

/* Messages a second, at most; 0 = any. */
extern double evs_host_rate(const EvsHost *host);
extern bool evs_host_take_results(EvsHost *host);
extern void evs_host_record(EvsHost *host);

/* A message cannot be sent. */
extern void evs_host_fail(EvsHost *host, EvsMessage *message, const char *action,
						  const char *reason, const char *error, int64 delay);

/* What waits, and what does so no longer, after what has failed has changed. */
extern void evs_host_rearrange(EvsHost *host);

/* How events become messages, as the relay says. */
extern void evs_host_set_encoder(EvsHost *host);

/* A synthetic message, in a context of its own. */
extern EvsMessage *evs_host_test_message(EvsHost *host, char **error);

#endif							/* EVSTORE_RELAY_HOST_H */
