/*
 * definition.h
 *	  Relays as they are defined.
 */
#ifndef EVSTORE_RELAY_DEFINITION_H
#define EVSTORE_RELAY_DEFINITION_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

#include "relay/cloudevents.h"

typedef struct EvsRelay
{
	int64		id;				/* that of its subscription */
	char	   *name;			/* likewise */
	char	   *owner;			/* name of a role */
	char	   *sink;			/* name of a module */
	Jsonb	   *config;
	char	   *transform;		/* quoted name of a function, or NULL */
	bool		paused;			/* or stopped by its sink */
	bool		faulted;
	char	   *identity;		/* among all relays of all stores */
	int64		trust_from;		/* before it the other side's position says nothing */
	char	   *fingerprint;	/* changes when anything of it does */
	bool		keyless;		/* no two events have the same ordering key */
	bool		skips;			/* on_failure is skip: events do not wait for those that failed */
	EvsFormat	format;
	char	   *topic;			/* template; NULL: by the event */
	char	   *source;			/* or NULL */
	bool		publishes_metadata;
	int			batch_size;
	int			batch_bytes;
	int			batch_wait;		/* ms */
	int			in_flight;
	int			timeout;		/* ms */
	double		rate;			/* a second; 0 = no limit */
	int			burst;
	int			max_hops;
	int64		max_age;		/* ms; 0 = no limit */
	int64		max_bytes;		/* of a message; 0 = no limit */
	int			circuit_failures;
	int			open_for;		/* ms */
	int			max_open_for;	/* ms */
} EvsRelay;

/* All, by id; in the current memory context. */
extern List *evs_relay_list(void);

/* The same, kept by the session: valid until the next call.  And one of them, or NULL. */
extern List *evs_relay_kept(void);

extern EvsRelay *evs_relay_find_kept(int64 id);

/* The relay of this name; throws VS009 if there is none. */
extern EvsRelay *evs_relay_find(const char *name);

/* Options as they are stored, over those of a relay. */
extern void evs_relay_read_options(EvsRelay *relay, Jsonb *options);

/* Changes when any relay does, or a subscription.  Needs no transaction. */
extern uint64 evs_relay_version(void);

#endif							/* EVSTORE_RELAY_DEFINITION_H */
