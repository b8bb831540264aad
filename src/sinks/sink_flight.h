/*
 * sink_flight.h
 *	  Messages in flight of a sink with CAP_PIPELINE, in the order of submission.
 *
 * A message has a slot from submit() until its result has been taken.  It waits
 * in it until it is sent, and is sent strictly in the order of submission.  When
 * one has failed, those after it of the same key that have not gone out are
 * EVS_SINK_RETURNED: no key's order is broken, and the host submits them again.
 */
#ifndef EVSTORE_SINK_FLIGHT_H
#define EVSTORE_SINK_FLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "evstore_sink.h"

typedef enum evs_sink_slot_state
{
	EVS_SINK_SLOT_FREE,			/* its result has been taken */
	EVS_SINK_SLOT_WAITING,		/* to be sent, perhaps again */
	EVS_SINK_SLOT_SENT,
	EVS_SINK_SLOT_DONE			/* its result is to be taken */
} evs_sink_slot_state;

typedef struct evs_sink_slot
{
	const evs_sink_message *message;
	evs_sink_slot_state state;
	bool		held;			/* an earlier one of its key has failed: it is not sent (again) */
	uint64_t	serial;			/* counts from 0 */
	int64_t		deadline;		/* SENT: of the acknowledgement */
	uint64_t	tag;			/* SENT: the protocol's, such as a packet's number */
	evs_sink_class result;		/* DONE */
	int			code;
	int64_t		retry_after_ms;
	char		detail[256];
} evs_sink_slot;

typedef struct evs_sink_flight
{
	const evs_sink_host *host;

	/* A ring: serial numbers from head up to, not including, tail. */
	evs_sink_slot *slots;
	uint64_t	capacity;		/* a power of two */
	uint64_t	head;
	uint64_t	next;			/* no slot before it is WAITING */
	uint64_t	tail;
	int			nsent;
	int			nfailed;		/* DONE without success, not taken */

	/* Serial numbers of those that are DONE, in the order of their results: a ring. */
	uint64_t   *done;
	uint64_t	done_head;
	uint64_t	done_tail;

	/* Called as soon as a result is known; NULL: not wanted. */
	void		(*completed) (void *arg, const evs_sink_slot *slot, bool success);
	void	   *arg;
} evs_sink_flight;

/* Room for twice as many as the host has in flight.  false: no memory. */
extern bool evs_sink_flight_init(evs_sink_flight *flight, const evs_sink_host *host);
extern void evs_sink_flight_free(evs_sink_flight *flight);

/* submit(): takes as many as there is room for, and returns how many. */
extern int	evs_sink_flight_submit(evs_sink_flight *flight, const evs_sink_message *messages, int n);

/*
 * The next message that may be sent, in order, or NULL.  Those that must not be,
 * since an earlier one of their key has failed, get their result on the way.  The
 * same one is returned until it is sent or completed.
 */
extern evs_sink_slot *evs_sink_flight_next(evs_sink_flight *flight);

/* It has been written; its acknowledgement is due within the host's timeout. */
extern void evs_sink_flight_sent(evs_sink_flight *flight, evs_sink_slot *slot);

/* To be sent again, in its place in the order. */
extern void evs_sink_flight_requeue(evs_sink_flight *flight, evs_sink_slot *slot);

/* The result of one that waits or is sent.  retry_after_ms is -1; set it in the slot. */
extern void evs_sink_flight_complete(evs_sink_flight *flight, evs_sink_slot *slot,
									 evs_sink_class result, int code, const char *format, ...)
			__attribute__((format(printf, 5, 6)));

/* Of all that wait, and if wanted of those that are sent. */
extern void evs_sink_flight_complete_all(evs_sink_flight *flight, bool also_sent,
										 evs_sink_class result, int code, const char *why);

/* Copy results out, and free their slots. */
extern int	evs_sink_flight_take(evs_sink_flight *flight, evs_sink_result *results, int max);

/* When the first of those that are sent is overdue; INT64_MAX: none is. */
extern int64_t evs_sink_flight_deadline(evs_sink_flight *flight);

/* For wait_fd(): how long to wait, in ms, until this time at the latest; not at all for results. */
extern int	evs_sink_flight_timeout(const evs_sink_flight *flight, int64_t until);

static inline evs_sink_slot *
evs_sink_flight_slot(const evs_sink_flight *flight, uint64_t serial)
{
	return &flight->slots[serial & (flight->capacity - 1)];
}

/* The slot of this serial number if it is in flight and SENT, or NULL. */
static inline evs_sink_slot *
evs_sink_flight_find(const evs_sink_flight *flight, uint64_t serial)
{
	evs_sink_slot *slot = serial >= flight->head && serial < flight->tail ?
		evs_sink_flight_slot(flight, serial) : (evs_sink_slot *) 0;

	return slot != (evs_sink_slot *) 0 && slot->state == EVS_SINK_SLOT_SENT ? slot : (evs_sink_slot *) 0;
}

static inline bool
evs_sink_flight_is_empty(const evs_sink_flight *flight)
{
	return flight->head == flight->tail;
}

static inline bool
evs_sink_flight_has_results(const evs_sink_flight *flight)
{
	return flight->done_head < flight->done_tail;
}

static inline bool
evs_sink_is_success(evs_sink_class result)
{
	return result == EVS_SINK_OK || result == EVS_SINK_DUPLICATE;
}

/*
 * Up to which position the other side has everything that was submitted in
 * order, for CAP_RESUMES: it may be too low, never too high.  It stops below each
 * message that is not stored, be it in flight, to be tried again, or parked.
 */
typedef struct evs_sink_claim
{
	int64_t    *open;			/* positions that failed, sorted */
	int			nopen;
	int			size;
	int64_t		top;			/* the highest that was submitted in order */
	int64_t		limit;			/* for what did not fit into open */
} evs_sink_claim;

extern bool evs_sink_claim_init(evs_sink_claim *claim, int size);
extern void evs_sink_claim_free(evs_sink_claim *claim);
extern void evs_sink_claim_submitted(evs_sink_claim *claim, const evs_sink_message *message);
extern void evs_sink_claim_done(evs_sink_claim *claim, const evs_sink_message *message, bool stored);
extern int64_t evs_sink_claim_position(const evs_sink_claim *claim, const evs_sink_flight *flight);

#endif							/* EVSTORE_SINK_FLIGHT_H */
