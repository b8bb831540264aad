/*
 * nats_client.c
 *	  A connection to NATS: making it, reading, writing, and keeping it alive.
 *
 * A connection goes through the states of EvsNatsState in their order, and from
 * each back to IDLE when it fails.  Each state before READY has the relay's
 * timeout as its deadline.  When it fails the next server has its turn, at once;
 * when all have failed one after the other lost() is called, and there is a
 * pause.  The same when a connection that was READY ends.
 *
 * The server greets with INFO, always in the clear.  If TLS is wanted the
 * handshake follows, and only then anything of ours is sent.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nats_client.h"

/* Silence after which the server is asked for a sign of life. */
#define PING_AFTER_US INT64_C(15000000)

/* The pause after a round of failures doubles, from and to: */
#define PAUSE_US INT64_C(100000)
#define PAUSE_SHIFT 5

#define READ_SIZE 65536
#define READS_PER_RUN 16

static int64_t
now_us(const EvsNatsClient *client)
{
	return client->host->now_us(client->host->ctx);
}

static void
set_state(EvsNatsClient *client, EvsNatsState state)
{
	client->state = state;
	client->deadline = state == EVS_NATS_IDLE || state == EVS_NATS_READY ? 0 :
		now_us(client) + client->host->timeout_ms * INT64_C(1000);
}

void
evs_nats_client_init(EvsNatsClient *client, const evs_sink_host *host, const EvsNatsConfig *config,
					 const EvsNatsEvents *events, void *arg)
{
	memset(client, 0, sizeof(*client));
	client->host = host;
	client->config = config;
	client->events = events;
	client->arg = arg;
	client->fd = -1;
	memcpy(client->servers, config->servers, sizeof(client->servers));
	client->nservers = config->nservers;
}

void
evs_nats_client_fail(EvsNatsClient *client, const char *format,...)
{
	va_list		args;

	if (client->closing)
		return;					/* the first reason is the one */
	client->closing = true;
	va_start(args, format);
	vsnprintf(client->error, sizeof(client->error), format, args);
	va_end(args);
}

/* The socket and what belongs to it; buffers keep their memory. */
static void
drop_connection(EvsNatsClient *client)
{
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	evs_nats_tls_free(client->tls);
	client->tls = NULL;
	evs_sink_lookup_free(client->lookup);
	client->lookup = NULL;
	client->in.length = client->out.length = client->wire.length = 0;
	client->in.failed = client->out.failed = client->wire.failed = false;
	client->in_at = client->out_at = 0;
	client->pinged_at = 0;
	client->closing = client->moving = client->lame = false;
	client->info_headers = false;
	set_state(client, EVS_NATS_IDLE);
}

void
evs_nats_client_close(EvsNatsClient *client)
{
	drop_connection(client);
	evs_sink_buffer_free(&client->in);
	evs_sink_buffer_free(&client->out);
	evs_sink_buffer_free(&client->wire);
}

/* The connection that fail() has condemned, and who comes next. */
static void
give_up(EvsNatsClient *client)
{
	bool		was_ready = client->state == EVS_NATS_READY;
	bool		moves = was_ready && client->lame && client->moving;
	int			rounds;

	drop_connection(client);
	client->current = (client->current + 1) % client->nservers;
	client->failures = was_ready ? 0 : client->failures + 1;
	if (client->failures % client->nservers != 0)
		return;
	rounds = client->failures / client->nservers;
	client->retry_at = now_us(client) +
		(moves ? 0 : PAUSE_US << (rounds < PAUSE_SHIFT ? rounds : PAUSE_SHIFT));
	client->events->lost(client->arg, moves ? NULL : client->error);
}

void
evs_nats_client_move(EvsNatsClient *client)
{
	client->moving = true;
	evs_nats_client_fail(client, "the server is to be shut down");
}

/* --- making a connection --- */

static void
begin_server(EvsNatsClient *client)
{
	EvsNatsServer *server = &client->servers[client->current];

	set_state(client, EVS_NATS_RESOLVING);
	if (client->host->egress_allowed(client->host->ctx, server->host, NULL, server->port) != 1)
	{
		evs_nats_client_fail(client, "a connection to %s port %d is not allowed",
							 server->host, server->port);
		return;
	}
	client->lookup = evs_sink_lookup_start(server->host);
	if (client->lookup == NULL)
		evs_nats_client_fail(client, "%s cannot be looked up: no memory or no thread", server->host);
}

static int
open_socket(const char *address, int port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *list;
	char		service[16];
	int			on = 1;
	int			fd;

	snprintf(service, sizeof(service), "%d", port);
	if (getaddrinfo(address, service, &hints, &list) != 0)
		return -1;
	fd = socket(list->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0)
	{
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (connect(fd, list->ai_addr, list->ai_addrlen) != 0 && errno != EINPROGRESS)
		{
			int			saved = errno;

			close(fd);
			errno = saved;
			fd = -1;
		}
	}
	freeaddrinfo(list);
	return fd;
}

/* Try the addresses from the next one on; only if none is left the server has failed. */
static void
try_address(EvsNatsClient *client)
{
	EvsNatsServer *server = &client->servers[client->current];
	bool		refused = false;

	while (client->next_address < client->addresses.count)
	{
		const char *address = client->addresses.address[client->next_address++];

		if (client->host->egress_allowed(client->host->ctx, server->host, address, server->port) != 1)
		{
			refused = true;
			continue;
		}
		client->fd = open_socket(address, server->port);
		if (client->fd >= 0)
		{
			set_state(client, EVS_NATS_CONNECTING);
			return;
		}
		refused = false;
	}
	if (refused)
		evs_nats_client_fail(client, "a connection to %s port %d is not allowed: its address is not",
							 server->host, server->port);
	else
		evs_nats_client_fail(client, "could not connect to %s port %d: %s", server->host,
							 server->port, strerror(errno));
}

static void
finish_lookup(EvsNatsClient *client)
{
	if (!evs_sink_lookup_poll(client->lookup, &client->addresses))
		return;
	evs_sink_lookup_free(client->lookup);
	client->lookup = NULL;
	client->next_address = 0;
	if (client->addresses.error != 0)
		evs_nats_client_fail(client, "%s cannot be looked up: %s",
							 client->servers[client->current].host,
							 gai_strerror(client->addresses.error));
	else
		try_address(client);
}

static void
finish_connecting(EvsNatsClient *client)
{
	struct pollfd wait = {.fd = client->fd,.events = POLLOUT};
	int			error = 0;
	socklen_t	size = sizeof(error);

	if (poll(&wait, 1, 0) <= 0)
		return;
	getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error == 0)
	{
		set_state(client, EVS_NATS_GREETING);
		return;
	}
	close(client->fd);
	client->fd = -1;
	errno = error;
	try_address(client);
}

/* --- reading and writing --- */

static void
add_input(EvsNatsClient *client, const char *data, size_t length)
{
	if (client->tls == NULL)
		evs_sink_add(&client->in, data, length);
	else if (!evs_nats_tls_decrypt(client->tls, data, length, &client->in,
								   client->error, sizeof(client->error)))
	{
		/* What came before the end still counts. */
		evs_nats_protocol_read(client);
		client->closing = true;
	}
}

/*
 * INFO was read: the protocol goes on in TLS, or at once.
 *
 * The greeting has to be all that came.  Bytes behind it would have been sent
 * by somebody on the way, to be taken for what the server says in TLS.
 */
static void
after_greeting(EvsNatsClient *client)
{
	EvsNatsServer *server = &client->servers[client->current];

	if (!client->config->tls && !server->tls && !client->info_tls)
	{
		set_state(client, EVS_NATS_SIGNING_IN);
		evs_nats_protocol_sign_in(client);
		return;
	}
	if (client->in.length > 0)
	{
		evs_nats_client_fail(client, "unexpected bytes before the TLS handshake");
		return;
	}
	client->tls = evs_nats_tls_start(client->config, server->host, client->error,
									 sizeof(client->error));
	if (client->tls == NULL)
		client->closing = true;
	else
		set_state(client, EVS_NATS_HANDSHAKE);
}

static void
continue_handshake(EvsNatsClient *client)
{
	int			rc = evs_nats_tls_handshake(client->tls, client->error, sizeof(client->error));

	evs_nats_tls_output(client->tls, &client->wire);
	if (rc < 0)
		client->closing = true;
	else if (rc > 0)
	{
		set_state(client, EVS_NATS_SIGNING_IN);
		evs_nats_protocol_sign_in(client);
		add_input(client, NULL, 0);
	}
}

/* Act on what was read. */
static void
process_input(EvsNatsClient *client)
{
	bool		greeting = client->state == EVS_NATS_GREETING;

	if (client->in.failed)
		evs_nats_client_fail(client, "no memory for what the server sends");
	else if (client->state == EVS_NATS_HANDSHAKE)
		continue_handshake(client);
	evs_nats_protocol_read(client);
	if (!greeting || client->closing || !client->info_headers)
		return;
	after_greeting(client);
	if (client->state == EVS_NATS_HANDSHAKE && !client->closing)
		continue_handshake(client);
	evs_nats_protocol_read(client);
}

static void
read_socket(EvsNatsClient *client)
{
	static char chunk[READ_SIZE];

	for (int i = 0; i < READS_PER_RUN && !client->closing; i++)
	{
		ssize_t		n = recv(client->fd, chunk, sizeof(chunk), 0);

		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
			return;
		if (n <= 0)
		{
			evs_nats_client_fail(client, "connection to %s port %d lost: %s",
								 client->servers[client->current].host,
								 client->servers[client->current].port,
								 n == 0 ? "the server has closed it" : strerror(errno));
			return;
		}
		client->heard_at = now_us(client);
		client->pinged_at = 0;
		add_input(client, chunk, n);
		process_input(client);
		if (n < (ssize_t) sizeof(chunk))
			return;
	}
}

size_t
evs_nats_client_pending(const EvsNatsClient *client)
{
	return client->tls != NULL ? client->out.length + client->wire.length - client->out_at :
		client->out.length - client->out_at;
}

void
evs_nats_client_flush(EvsNatsClient *client)
{
	evs_sink_buffer *buffer = client->tls != NULL ? &client->wire : &client->out;

	if (client->fd < 0 || client->closing || client->state < EVS_NATS_HANDSHAKE)
		return;
	if (client->tls != NULL && client->out.length > 0)
	{
		if (!evs_nats_tls_encrypt(client->tls, &client->out, &client->wire))
			evs_nats_client_fail(client, "TLS failed");
		client->out.length = 0;
	}
	if (buffer->failed || client->out.failed)
		evs_nats_client_fail(client, "no memory for what is sent");
	while (client->out_at < buffer->length && !client->closing)
	{
		ssize_t		n = send(client->fd, buffer->data + client->out_at,
							 buffer->length - client->out_at, MSG_NOSIGNAL);

		if (n > 0)
			client->out_at += n;
		else if (n < 0 && errno == EINTR)
			continue;
		else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		else
			evs_nats_client_fail(client, "connection to %s port %d lost: %s",
								 client->servers[client->current].host,
								 client->servers[client->current].port, strerror(errno));
	}
	if (client->out_at == buffer->length)
		client->out_at = buffer->length = 0;
	else if (client->out_at > buffer->length / 2)
	{
		memmove(buffer->data, buffer->data + client->out_at, buffer->length - client->out_at);
		buffer->length -= client->out_at;
		client->out_at = 0;
	}
}

/* --- time --- */

static void
watch_time(EvsNatsClient *client)
{
	int64_t		now = now_us(client);

	if (client->deadline > 0 && now >= client->deadline)
		evs_nats_client_fail(client, "no connection to %s port %d within %d ms",
							 client->servers[client->current].host,
							 client->servers[client->current].port, client->host->timeout_ms);
	if (client->state != EVS_NATS_READY)
		return;
	if (client->pinged_at > 0 && now - client->pinged_at >= client->host->timeout_ms * INT64_C(1000))
		evs_nats_client_fail(client, "the server does not answer a ping");
	else if (client->pinged_at == 0 && now - client->heard_at >= PING_AFTER_US)
	{
		client->pinged_at = now;
		evs_sink_add_string(&client->out, "PING\r\n");
	}
}

void
evs_nats_client_wait(EvsNatsClient *client, bool wanted, int *fd, short *events, int64_t *until)
{
	*fd = client->fd;
	*events = POLLIN;
	*until = client->deadline > 0 ? client->deadline : INT64_MAX;
	switch (client->state)
	{
		case EVS_NATS_IDLE:
			*until = wanted ? client->retry_at : INT64_MAX;
			break;
		case EVS_NATS_RESOLVING:
			*fd = client->lookup != NULL ? evs_sink_lookup_fd(client->lookup) : -1;
			if (*fd < 0)
				*until = 0;		/* the lookup has ended */
			break;
		case EVS_NATS_CONNECTING:
			*events = POLLOUT;
			break;
		case EVS_NATS_READY:
			*until = client->pinged_at > 0 ?
				client->pinged_at + client->host->timeout_ms * INT64_C(1000) :
				client->heard_at + PING_AFTER_US;
			break;
		default:
			break;
	}
	if (client->closing)
		*until = 0;
	if (evs_nats_client_pending(client) > 0 && client->state >= EVS_NATS_HANDSHAKE)
		*events |= POLLOUT;
}

void
evs_nats_client_run(EvsNatsClient *client, bool wanted)
{
	if (client->state == EVS_NATS_IDLE && wanted && now_us(client) >= client->retry_at)
		begin_server(client);
	if (client->state == EVS_NATS_RESOLVING && !client->closing)
		finish_lookup(client);
	if (client->state == EVS_NATS_CONNECTING && !client->closing)
		finish_connecting(client);
	if (client->state > EVS_NATS_CONNECTING && !client->closing)
		read_socket(client);
	if (client->state != EVS_NATS_IDLE && !client->closing)
		watch_time(client);
	evs_nats_client_flush(client);
	if (client->closing)
		give_up(client);
}
