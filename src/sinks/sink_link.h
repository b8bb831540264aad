/*
 * sink_link.h
 *	  A connection of a sink: TCP, or TLS over it.  One thread, nothing blocks.
 *
 * A link keeps a connection to one of the servers that it knows.  When one
 * fails the next has its turn, at once; when all have failed one after the other
 * there is a pause, which doubles.  The protocol is its owner's, who is called
 * back, reads from "in" and writes to "out".  A callback must not close the link,
 * but may write to it, and condemn the connection by evs_sink_link_fail().
 */
#ifndef EVSTORE_SINK_LINK_H
#define EVSTORE_SINK_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sink_resolve.h"
#include "sink_tls.h"
#include "sink_util.h"

#define EVS_SINK_SERVERS 64
#define EVS_SINK_HOST_MAX 256

typedef struct evs_sink_server
{
	char		host[EVS_SINK_HOST_MAX];
	int			port;
	bool		tls;			/* by the scheme of its URL */
} evs_sink_server;

/* What the URLs of a protocol begin with; the last one has no name. */
typedef struct evs_sink_scheme
{
	const char *name;			/* such as "amqps" */
	int			port;			/* if the URL has none */
	bool		tls;
} evs_sink_scheme;

/* The settings that are about the connection; strings are those of the settings. */
typedef struct evs_sink_link_config
{
	evs_sink_server servers[EVS_SINK_SERVERS];
	int			nservers;
	bool		tls;			/* of all servers */
	evs_sink_tls_files files;
} evs_sink_link_config;

/* Names for evs_sink_check_names(). */
#define EVS_SINK_LINK_SETTINGS \
	"url", "servers.", "tls", "tls.ca_file", "tls.cert_file", "tls.key_file"

/* "host:port", with or without a scheme; IPv6 addresses in brackets; no user, no path. */
extern bool evs_sink_parse_server(const char *url, const evs_sink_scheme *schemes,
								  evs_sink_server *server);

/* Read and check them, with evstore.egress_allow; 0, or -1 and an error. */
extern int	evs_sink_link_configure(evs_sink_link_config *config, const evs_sink_host *host,
									const evs_sink_settings *settings,
									const evs_sink_scheme *schemes, char *error, size_t size);

/* The name of a secret in *value, NULL if it is not set; -1 and an error if it is no secret. */
extern int	evs_sink_get_secret(const evs_sink_settings *settings, const char *name,
								const char **value, char *error, size_t size);

typedef struct evs_sink_link_events
{
	/* The transport is there, TLS included unless it is late: say hello. */
	void		(*opened) (void *arg);

	/* There is more to read in "in", from in_at; take what is complete, move in_at. */
	void		(*input) (void *arg);

	/* Nothing was heard for silence_us: ask for a sign of life. */
	void		(*silent) (void *arg);

	/* Nothing was sent for beat_us: send a sign of life.  NULL: none is wanted. */
	void		(*beat) (void *arg);

	/*
	 * The connection is lost, or could not be made with any server.  NULL: it
	 * was given up by move().
	 */
	void		(*lost) (void *arg, const char *why);
} evs_sink_link_events;

typedef enum evs_sink_link_state
{
	EVS_SINK_LINK_IDLE,
	EVS_SINK_LINK_RESOLVING,
	EVS_SINK_LINK_CONNECTING,	/* TCP */
	EVS_SINK_LINK_HANDSHAKE,	/* TLS */
	EVS_SINK_LINK_SIGNING_IN,	/* the owner is to call ready() within the timeout */
	EVS_SINK_LINK_READY
} evs_sink_link_state;

typedef struct evs_sink_link
{
	const evs_sink_host *host;
	const evs_sink_link_config *config;
	const evs_sink_link_events *events;
	void	   *arg;
	bool		late_tls;		/* set by the owner after init: TLS begins by start_tls() */
	int64_t		silence_us;		/* the same; 15 seconds unless set; 0: never */
	int64_t		beat_us;		/* the same, or later; 0: never */

	evs_sink_link_state state;
	int			fd;
	evs_sink_tls *tls;			/* NULL: plain */

	evs_sink_server servers[EVS_SINK_SERVERS];
	int			nservers;
	int			current;
	int			failures;		/* in a row */
	evs_sink_lookup *lookup;
	evs_sink_addresses addresses;
	int			next_address;

	int64_t		deadline;		/* of the present state; 0: none */
	int64_t		retry_at;		/* when idle: not before */
	int64_t		heard_at;
	int64_t		sent_at;
	int64_t		asked_at;		/* silent() was called, and nothing heard since; 0: not */

	evs_sink_buffer in;			/* of the protocol, from in_at */
	size_t		in_at;
	evs_sink_buffer out;		/* of the protocol; with TLS empty after flushing */
	evs_sink_buffer wire;		/* TLS: what goes to the socket */
	size_t		out_at;			/* of out, or of wire: sent so far */

	/*
	 * errno of a write that has failed; 0: none.  What the server said before it closed
	 * the connection is still to be read, since it may say why.
	 */
	int			write_error;

	bool		moving;			/* given up by move() */
	bool		closing;		/* error says why */
	char		error[256];
} evs_sink_link;

extern void evs_sink_link_init(evs_sink_link *link, const evs_sink_host *host,
							   const evs_sink_link_config *config,
							   const evs_sink_link_events *events, void *arg);

/* Connect if wanted; read, call back, and write. */
extern void evs_sink_link_run(evs_sink_link *link, bool wanted);

/* Write what is in out, as far as that is possible now. */
extern void evs_sink_link_flush(evs_sink_link *link);

/* The owner has signed in: from SIGNING_IN to READY. */
extern void evs_sink_link_ready(evs_sink_link *link);

/* With late_tls: the handshake, now, of what must be all that was read so far. */
extern void evs_sink_link_start_tls(evs_sink_link *link);

/* Is TLS wanted with the present server? */
extern bool evs_sink_link_wants_tls(const evs_sink_link *link);

/* Remember that the connection is to be given up; run() does it.  The first reason counts. */
extern void evs_sink_link_fail(evs_sink_link *link, const char *format, ...)
			__attribute__((format(printf, 2, 3)));

/* The same when nothing is wrong: the next server, without a pause. */
extern void evs_sink_link_move(evs_sink_link *link);

/* READY, and not condemned. */
static inline bool
evs_sink_link_is_up(const evs_sink_link *link)
{
	return link->state == EVS_SINK_LINK_READY && !link->closing;
}

/* For wait_fd(): what to wait for, and until when, INT64_MAX for ever. */
extern void evs_sink_link_wait(evs_sink_link *link, bool wanted, int *fd, short *events,
							   int64_t *until);

/* Bytes that were written to the link, but not to the network. */
extern size_t evs_sink_link_pending(const evs_sink_link *link);
extern void evs_sink_link_close(evs_sink_link *link);

#endif							/* EVSTORE_SINK_LINK_H */
