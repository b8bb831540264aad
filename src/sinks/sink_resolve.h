/*
 * sink_resolve.h
 *	  Names of hosts to addresses, without blocking the caller.
 */
#ifndef EVSTORE_SINK_RESOLVE_H
#define EVSTORE_SINK_RESOLVE_H

#include <stddef.h>

#define EVS_SINK_ADDRESS_MAX 64
#define EVS_SINK_ADDRESSES 16

/* Numeric addresses, in the order in which they should be tried. */
typedef struct evs_sink_addresses
{
	int			error;			/* of getaddrinfo(); 0: none */
	int			count;
	char		address[EVS_SINK_ADDRESSES][EVS_SINK_ADDRESS_MAX];
} evs_sink_addresses;

typedef struct evs_sink_lookup evs_sink_lookup;

/*
 * Begin to look a name up; NULL when there is no memory or no thread to be had.
 * A numeric address needs no thread.  A module that calls this has CAP_THREADS.
 */
extern evs_sink_lookup *evs_sink_lookup_start(const char *name);

/* A descriptor that can be read when the lookup has ended, or -1 if it has already. */
extern int	evs_sink_lookup_fd(const evs_sink_lookup *lookup);

/* 1: ended, see error and count.  0: not yet.  Does not wait. */
extern int	evs_sink_lookup_poll(evs_sink_lookup *lookup, evs_sink_addresses *addresses);

/* At any time; does not wait for the thread. */
extern void evs_sink_lookup_free(evs_sink_lookup *lookup);

#endif							/* EVSTORE_SINK_RESOLVE_H */
