/*
 * nats_client.h
 *	  A connection to NATS: one thread, nothing blocks.
 *
 * The client is what NATS makes of a link (sink_link.h): its owner is called back
 * with messages, and uses the link for all else.
 */
#ifndef EVSTORE_NATS_CLIENT_H
#define EVSTORE_NATS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sink_link.h"

typedef enum EvsNatsExpect
{
	EVS_NATS_EXPECT_NONE,
	EVS_NATS_EXPECT_SEQUENCE,
	EVS_NATS_EXPECT_SUBJECT
} EvsNatsExpect;

/* The relay's settings; strings are those of the settings. */
typedef struct EvsNatsConfig
{
	evs_sink_link_config link;
	const char *subject;
	const char *stream;			/* NULL: not said */
	EvsNatsExpect expect;
	const char *user;			/* NULL: none */
	const char *password;		/* names of secrets; NULL: none */
	const char *token;
} EvsNatsConfig;

extern int	evs_nats_config_read(EvsNatsConfig *config, const evs_sink_host *host,
								 const evs_sink_settings *settings, char *error, size_t size);

/* nats:// and tls:// */
extern const evs_sink_scheme evs_nats_schemes[];

/* A message that came in.  Nothing ends with a zero byte. */
typedef struct EvsNatsMessage
{
	const char *token;			/* of the inbox: the subject behind the last
								 * dot */
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

	/* As the link's. */
	void		(*lost) (void *arg, const char *why);
} EvsNatsEvents;

typedef struct EvsNatsClient
{
	evs_sink_link link;
	const EvsNatsConfig *config;
	const EvsNatsEvents *events;
	void	   *arg;

	bool		greeting;		/* waits for the first INFO */
	bool		lame;			/* the server wants us to go */
	uint64_t	max_payload;
	bool		info_headers;	/* what INFO says */
	bool		info_tls;
	char		inbox[40];		/* with a dot at the end */
} EvsNatsClient;

/* --- nats_client.c --- */

extern void evs_nats_client_init(EvsNatsClient *client, const evs_sink_host *host,
								 const EvsNatsConfig *config, const EvsNatsEvents *events,
								 void *arg);

/* --- nats_protocol.c --- */

/* Take all that is complete of what was read. */
extern void evs_nats_protocol_read(EvsNatsClient *client);

/* CONNECT, SUB and PING. */
extern void evs_nats_protocol_sign_in(EvsNatsClient *client);

#endif							/* EVSTORE_NATS_CLIENT_H */
