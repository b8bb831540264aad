/*
 * sink.h
 *	  Sink modules, as the host sees them.
 */
#ifndef EVSTORE_RELAY_SINK_H
#define EVSTORE_RELAY_SINK_H

#include "include/evstore_sink.h"
#include "relay/definition.h"

/* An open sink.  What is in it belongs to its memory context. */
typedef struct EvsSink
{
	const evs_sink *module;
	void	   *state;			/* the module's */
	evs_sink_host host;
	evs_sink_settings settings;
	MemoryContext context;
	List	   *secrets;
	uint64		secrets_version;
	double		rate;			/* messages a second that the other side takes; 0 = any */
	struct EvsSinkLog *log;
} EvsSink;

/*
 * The module of this name, loaded when it is asked for first.  Throws VS010 if
 * there is none, or if it is made for another host.
 */
extern const evs_sink *evs_sink_load(const char *name);

/* Throw VS010 unless the module can work with the relay's configuration. */
extern void evs_sink_check(const EvsRelay *relay);

/*
 * Open a sink for a relay, in a context of its own below the current one.  In a
 * transaction.  NULL: the module refuses, and *error says why.
 */
extern EvsSink *evs_sink_open(const EvsRelay *relay, char **error);

/* Read secrets again that have changed.  In a transaction. */
extern void evs_sink_refresh(EvsSink *sink);

/* Messages that the module has logged go to the server's log. */
extern void evs_sink_tell(EvsSink *sink, const char *relay);

/*
 * Until the latch is set, the sink has something to do, or so many ms have passed; the
 * events of WaitLatch().  Without a sink, for the latch.
 */
extern int	evs_sink_wait(const EvsSink *sink, long ms, uint32 wait_event);

/* Drops what is in flight.  Does not throw. */
extern void evs_sink_close(EvsSink *sink);

/* Text of a module, or of the other side, so that it can be stored. */
extern void evs_sink_clean_text(char *text);

extern const char *evs_sink_class_name(evs_sink_class class);

#endif							/* EVSTORE_RELAY_SINK_H */
