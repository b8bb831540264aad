/*
 * nats_client.h
 *	  A connection to NATS: one thread, nothing blocks.
 *
 * The client keeps a connection to one of the servers that it knows.  Its owner
 * is called back; a callback must not close the client, but may write to it.
 */
#ifndef EVSTORE_NATS_CLIENT_H
#define EVSTORE_NATS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sink_resolve.h"
#include "sink_util.h"

#define EVS_NATS_SERVERS 64		/* with those that servers tell of */
#define EVS_NATS_HOST_MAX 256

typedef struct EvsNatsServer
{
	char		host[EVS_NATS_HOST_MAX];
	int			port;
	bool		tls;
	bool		configured;
} EvsNatsServer;

typedef enum EvsNatsExpect
{
	EVS_NATS_EXPECT_NONE,
	EVS_NATS_EXPECT_SEQUENCE,
	EVS_NATS_EXPECT_SUBJECT
} EvsNatsExpect;

/* The relay's settings; strings are those of the settings. */
typedef struct EvsNatsConfig
{
	EvsNatsServer servers[EVS_NATS_SERVERS];
	int			nservers;
	const char *subject;
	const char *stream;			/* NULL: not said */
	EvsNatsExpect expect;
	const char *user;			/* NULL: none */
	const char *password;		/* names of secrets; NULL: none */
	const char *token;
	bool		tls;
	const char *ca_file;
	const char *cert_file;
	const char *key_file;
} EvsNatsConfig;

extern int	evs_nats_config_read(EvsNatsConfig *config, const evs_sink_host *host,
								 const evs_sink_settings *settings, char *error, size_t size);

/* "host:port", with or without nats:// or tls://; IPv6 addresses in brackets. */
extern bool evs_nats_parse_server(const char *url, EvsNatsServer *server);

/* A message that came in.  Nothing ends with a zero byte. */
typedef struct EvsNatsMessage
{
	const char *token;			/* of the inbox: the subject behind the last dot */
	size_t		token_length;
	const char *headers;		/* NULL: none */
	size_t		headers_length;
	const char *payload;
	size_t		length;
} EvsNatsMessage;

typedef struct EvsNatsEvents
{
	void		(*message) (void *arg, const EvsNatsMessage *message);

	/* -ERR, without quotes; the connection may be lost next. */
	void		(*error) (void *arg, const char *text);

	/*
	 * The connection is lost, or could not be made with any server.  NULL: it
	 * was given up by move().
	 */
	void		(*lost) (void *arg, const char *why);
} EvsNatsEvents;

typedef enum EvsNatsState
{
	EVS_NATS_IDLE,
	EVS_NATS_RESOLVING,
	EVS_NATS_CONNECTING,		/* TCP */
	EVS_NATS_GREETING,			/* waits for INFO */
	EVS_NATS_HANDSHAKE,			/* TLS */
	EVS_NATS_SIGNING_IN,		/* CONNECT and PING are sent, waits for PONG */
	EVS_NATS_READY
} EvsNatsState;

typedef struct EvsNatsTls EvsNatsTls;

typedef struct EvsNatsClient
{
	const evs_sink_host *host;
	const EvsNatsConfig *config;
	const EvsNatsEvents *events;
	void	   *arg;

	EvsNatsState state;
	int			fd;
	EvsNatsTls *tls;			/* NULL: plain */

	EvsNatsServer servers[EVS_NATS_SERVERS];
	int			nservers;
	int			current;
	int			failures;		/* in a row */
	evs_sink_lookup *lookup;
	evs_sink_addresses addresses;
	int			next_address;

	int64_t		deadline;		/* of the present state; 0: none */
	int64_t		retry_at;		/* when idle: not before */
	int64_t		heard_at;
	int64_t		pinged_at;		/* 0: no PONG is awaited */

	evs_sink_buffer in;			/* of the protocol, from in_at */
	size_t		in_at;
	evs_sink_buffer out;		/* of the protocol; with TLS empty after flushing */
	evs_sink_buffer wire;		/* TLS: what goes to the socket */
	size_t		out_at;			/* of out, or of wire: sent so far */

	bool		lame;			/* the server wants us to go */
	bool		moving;			/* and we do */
	bool		closing;		/* error says why */
	uint64_t	max_payload;
	bool		info_headers;	/* what INFO says */
	bool		info_tls;
	char		inbox[40];		/* with a dot at the end */
	char		error[256];
} EvsNatsClient;

/* --- nats_client.c --- */

extern void evs_nats_client_init(EvsNatsClient *client, const evs_sink_host *host,
								 const EvsNatsConfig *config, const EvsNatsEvents *events,
								 void *arg);

/* Connect if wanted; read, call back, and write. */
extern void evs_nats_client_run(EvsNatsClient *client, bool wanted);

/* Write what is in out, as far as that is possible now. */
extern void evs_nats_client_flush(EvsNatsClient *client);

/* Remember that the connection is to be given up; run() does it. */
extern void evs_nats_client_fail(EvsNatsClient *client, const char *format, ...)
			__attribute__((format(printf, 2, 3)));

/* The same for a lame connection on which nothing is in flight. */
extern void evs_nats_client_move(EvsNatsClient *client);

extern void evs_nats_client_wait(EvsNatsClient *client, bool wanted, int *fd, short *events,
								 int64_t *until);

/* Bytes that were written to the client, but not to the network. */
extern size_t evs_nats_client_pending(const EvsNatsClient *client);
extern void evs_nats_client_close(EvsNatsClient *client);

/* --- nats_protocol.c --- */

/* Take all that is complete of client->in. */
extern void evs_nats_protocol_read(EvsNatsClient *client);

/* CONNECT, SUB and PING. */
extern void evs_nats_protocol_sign_in(EvsNatsClient *client);

/* --- nats_tls.c --- */

extern EvsNatsTls *evs_nats_tls_start(const EvsNatsConfig *config, const char *name,
									  char *error, size_t size);

/* 1: done.  0: more has to come.  -1: failed. */
extern int	evs_nats_tls_handshake(EvsNatsTls *tls, char *error, size_t size);

/* Bytes from the network; what they say is added to plain.  false: failed. */
extern bool evs_nats_tls_decrypt(EvsNatsTls *tls, const char *data, size_t length,
								 evs_sink_buffer *plain, char *error, size_t size);
extern bool evs_nats_tls_encrypt(EvsNatsTls *tls, const evs_sink_buffer *plain,
								 evs_sink_buffer *wire);

/* Adds to wire what TLS itself has to say. */
extern void evs_nats_tls_output(EvsNatsTls *tls, evs_sink_buffer *wire);
extern void evs_nats_tls_free(EvsNatsTls *tls);

#endif							/* EVSTORE_NATS_CLIENT_H */
