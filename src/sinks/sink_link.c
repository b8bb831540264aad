/*
 * sink_link.c
 *	  A connection of a sink: making it, reading, writing, and keeping it alive.
 *
 * A connection goes through the states of evs_sink_link_state in their order,
 * and from each back to IDLE when it fails.  Each state before READY has the
 * relay's timeout as its deadline.  When it fails the next server has its turn,
 * at once; when all have failed one after the other lost() is called, and there
 * is a pause.  The same when a connection that was READY ends.
 *
 * With late_tls the connection begins in the clear, signing in, and the owner
 * says when the handshake follows; it is told by opened() a second time.
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

#include "sink_link.h"

/* Silence after which the server is asked for a sign of life, unless the owner says. */
#define SILENCE_US INT64_C(15000000)

/* The pause after a round of failures doubles, from and to: */
#define PAUSE_US INT64_C(100000)
#define PAUSE_SHIFT 5

#define READ_SIZE 65536
#define READS_PER_RUN 16

static int64_t
now_us(const evs_sink_link *link)
{
	return link->host->now_us(link->host->ctx);
}

static void
set_state(evs_sink_link *link, evs_sink_link_state state)
{
	link->state = state;
	link->deadline = state == EVS_SINK_LINK_IDLE || state == EVS_SINK_LINK_READY ? 0 :
		now_us(link) + link->host->timeout_ms * INT64_C(1000);
}

void
evs_sink_link_init(evs_sink_link *link, const evs_sink_host *host, const evs_sink_link_config *config,
					 const evs_sink_link_events *events, void *arg)
{
	memset(link, 0, sizeof(*link));
	link->host = host;
	link->config = config;
	link->events = events;
	link->arg = arg;
	link->fd = -1;
	memcpy(link->servers, config->servers, sizeof(link->servers));
	link->nservers = config->nservers;
	link->silence_us = SILENCE_US;
}

void
evs_sink_link_fail(evs_sink_link *link, const char *format,...)
{
	va_list		args;

	if (link->closing)
		return;					/* the first reason is the one */
	link->closing = true;
	va_start(args, format);
	vsnprintf(link->error, sizeof(link->error), format, args);
	va_end(args);
}

/* The socket and what belongs to it; buffers keep their memory. */
static void
drop_connection(evs_sink_link *link)
{
	if (link->fd >= 0)
		close(link->fd);
	link->fd = -1;
	evs_sink_tls_free(link->tls);
	link->tls = NULL;
	evs_sink_lookup_free(link->lookup);
	link->lookup = NULL;
	link->in.length = link->out.length = link->wire.length = 0;
	link->in.failed = link->out.failed = link->wire.failed = false;
	link->in_at = link->out_at = 0;
	link->asked_at = 0;
	link->closing = link->moving = false;
	link->write_error = 0;
	set_state(link, EVS_SINK_LINK_IDLE);
}

void
evs_sink_link_close(evs_sink_link *link)
{
	drop_connection(link);
	evs_sink_buffer_free(&link->in);
	evs_sink_buffer_free(&link->out);
	evs_sink_buffer_free(&link->wire);
}

/* The connection that fail() has condemned, and who comes next. */
static void
give_up(evs_sink_link *link)
{
	bool		was_ready = link->state == EVS_SINK_LINK_READY;
	bool		moves = was_ready && link->moving;
	int			rounds;

	drop_connection(link);
	link->current = (link->current + 1) % link->nservers;
	link->failures = was_ready ? 0 : link->failures + 1;
	if (link->failures % link->nservers != 0)
		return;
	rounds = link->failures / link->nservers;
	link->retry_at = now_us(link) +
		(moves ? 0 : PAUSE_US << (rounds < PAUSE_SHIFT ? rounds : PAUSE_SHIFT));
	link->events->lost(link->arg, moves ? NULL : link->error);
}

void
evs_sink_link_move(evs_sink_link *link)
{
	link->moving = !link->closing;
	evs_sink_link_fail(link, "the server is to be shut down");
}

/* --- making a connection --- */

static void
begin_server(evs_sink_link *link)
{
	evs_sink_server *server = &link->servers[link->current];

	set_state(link, EVS_SINK_LINK_RESOLVING);
	if (link->host->egress_allowed(link->host->ctx, server->host, NULL, server->port) != 1)
	{
		evs_sink_link_fail(link, "a connection to %s port %d is not allowed",
							 server->host, server->port);
		return;
	}
	link->lookup = evs_sink_lookup_start(server->host);
	if (link->lookup == NULL)
		evs_sink_link_fail(link, "%s cannot be looked up: no memory or no thread", server->host);
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
try_address(evs_sink_link *link)
{
	evs_sink_server *server = &link->servers[link->current];
	bool		refused = false;

	while (link->next_address < link->addresses.count)
	{
		const char *address = link->addresses.address[link->next_address++];

		if (link->host->egress_allowed(link->host->ctx, server->host, address, server->port) != 1)
		{
			refused = true;
			continue;
		}
		link->fd = open_socket(address, server->port);
		if (link->fd >= 0)
		{
			set_state(link, EVS_SINK_LINK_CONNECTING);
			return;
		}
		refused = false;
	}
	if (refused)
		evs_sink_link_fail(link, "a connection to %s port %d is not allowed: its address is not",
							 server->host, server->port);
	else
		evs_sink_link_fail(link, "could not connect to %s port %d: %s", server->host,
							 server->port, strerror(errno));
}

static void
finish_lookup(evs_sink_link *link)
{
	if (!evs_sink_lookup_poll(link->lookup, &link->addresses))
		return;
	evs_sink_lookup_free(link->lookup);
	link->lookup = NULL;
	link->next_address = 0;
	if (link->addresses.error != 0)
		evs_sink_link_fail(link, "%s cannot be looked up: %s",
							 link->servers[link->current].host,
							 gai_strerror(link->addresses.error));
	else if (link->addresses.count == 0)
		evs_sink_link_fail(link, "%s has no address", link->servers[link->current].host);
	else
		try_address(link);
}

/* --- reading and writing --- */

static void
call_input(evs_sink_link *link)
{
	if (link->in_at < link->in.length)
		link->events->input(link->arg);
	if (link->in_at == 0)
		return;
	memmove(link->in.data, link->in.data + link->in_at, link->in.length - link->in_at);
	link->in.length -= link->in_at;
	link->in_at = 0;
}

static void
add_input(evs_sink_link *link, const char *data, size_t length)
{
	if (link->tls == NULL)
		evs_sink_add(&link->in, data, length);
	else if (!evs_sink_tls_decrypt(link->tls, data, length, &link->in,
								   link->error, sizeof(link->error)))
	{
		/* What came before the end still counts. */
		call_input(link);
		link->closing = true;
	}
}

static void
opened(evs_sink_link *link)
{
	set_state(link, EVS_SINK_LINK_SIGNING_IN);
	link->heard_at = link->sent_at = now_us(link);
	link->events->opened(link->arg);
}

static void
continue_handshake(evs_sink_link *link)
{
	int			rc = evs_sink_tls_handshake(link->tls, link->error, sizeof(link->error));

	evs_sink_tls_output(link->tls, &link->wire);
	if (rc < 0)
		link->closing = true;
	else if (rc > 0)
	{
		opened(link);
		add_input(link, NULL, 0);
	}
}

bool
evs_sink_link_wants_tls(const evs_sink_link *link)
{
	return link->config->tls || link->servers[link->current].tls;
}

static void
begin_handshake(evs_sink_link *link)
{
	link->tls = evs_sink_tls_start(&link->config->files, link->servers[link->current].host,
								   link->error, sizeof(link->error));
	if (link->tls == NULL)
	{
		link->closing = true;
		return;
	}
	set_state(link, EVS_SINK_LINK_HANDSHAKE);
	continue_handshake(link);
}

/*
 * The greeting has to be all that came.  Bytes behind it would have been sent by
 * somebody on the way, to be taken for what the server says in TLS.  And what was
 * meant to go out in the clear must have gone: out is for TLS from now on.
 */
void
evs_sink_link_start_tls(evs_sink_link *link)
{
	if (link->in_at < link->in.length || link->out.length > 0)
		evs_sink_link_fail(link, "unexpected bytes before the TLS handshake");
	else
		begin_handshake(link);
}

void
evs_sink_link_ready(evs_sink_link *link)
{
	set_state(link, EVS_SINK_LINK_READY);
	link->failures = 0;
}

static void
finish_connecting(evs_sink_link *link)
{
	struct pollfd wait = {.fd = link->fd,.events = POLLOUT};
	int			error = 0;
	socklen_t	size = sizeof(error);

	if (poll(&wait, 1, 0) <= 0)
		return;
	getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error == 0)
	{
		if (evs_sink_link_wants_tls(link) && !link->late_tls)
			begin_handshake(link);
		else
			opened(link);
		return;
	}
	close(link->fd);
	link->fd = -1;
	errno = error;
	try_address(link);
}

/* Act on what was read. */
static void
process_input(evs_sink_link *link)
{
	if (link->in.failed)
		evs_sink_link_fail(link, "no memory for what the server sends");
	else if (link->state == EVS_SINK_LINK_HANDSHAKE)
		continue_handshake(link);
	if (!link->closing && link->state > EVS_SINK_LINK_HANDSHAKE)
		call_input(link);
}

static void
fail_lost(evs_sink_link *link, const char *why)
{
	const evs_sink_server *server = &link->servers[link->current];

	evs_sink_link_fail(link, "connection to %s port %d lost: %s", server->host, server->port, why);
}

static void
read_socket(evs_sink_link *link)
{
	static char chunk[READ_SIZE];

	for (int i = 0; i < READS_PER_RUN && !link->closing; i++)
	{
		ssize_t		n = recv(link->fd, chunk, sizeof(chunk), 0);

		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
			break;
		if (n <= 0)
		{
			fail_lost(link, n == 0 ? "the server has closed it" : strerror(errno));
			return;
		}
		link->heard_at = now_us(link);
		link->asked_at = 0;
		add_input(link, chunk, n);
		process_input(link);
		if (n < (ssize_t) sizeof(chunk) && link->write_error == 0)
			break;
	}
	/* Nothing more came before the end that writing has met. */
	if (link->write_error != 0)
		fail_lost(link, strerror(link->write_error));
}

size_t
evs_sink_link_pending(const evs_sink_link *link)
{
	return link->tls != NULL ? link->out.length + link->wire.length - link->out_at :
		link->out.length - link->out_at;
}

void
evs_sink_link_flush(evs_sink_link *link)
{
	evs_sink_buffer *buffer = link->tls != NULL ? &link->wire : &link->out;

	if (link->fd < 0 || link->closing || link->write_error != 0 || link->state < EVS_SINK_LINK_HANDSHAKE)
		return;
	if (link->tls != NULL && link->out.length > 0)
	{
		if (!evs_sink_tls_encrypt(link->tls, &link->out, &link->wire))
			evs_sink_link_fail(link, "TLS failed");
		link->out.length = 0;
	}
	if (buffer->failed || link->out.failed)
		evs_sink_link_fail(link, "no memory for what is sent");
	while (link->out_at < buffer->length && !link->closing)
	{
		ssize_t		n = send(link->fd, buffer->data + link->out_at,
							 buffer->length - link->out_at, MSG_NOSIGNAL);

		if (n > 0)
		{
			link->out_at += n;
			link->sent_at = link->beat_us > 0 ? now_us(link) : 0;
		}
		else if (n < 0 && errno == EINTR)
			continue;
		else
		{
			link->write_error = errno == EAGAIN || errno == EWOULDBLOCK ? 0 : errno;
			break;
		}
	}
	if (link->out_at == buffer->length)
		link->out_at = buffer->length = 0;
	else if (link->out_at > buffer->length / 2)
	{
		memmove(buffer->data, buffer->data + link->out_at, buffer->length - link->out_at);
		buffer->length -= link->out_at;
		link->out_at = 0;
	}
}

/* --- time --- */

static void
watch_time(evs_sink_link *link)
{
	int64_t		now = now_us(link);

	if (link->deadline > 0 && now >= link->deadline)
		evs_sink_link_fail(link, "no connection to %s port %d within %d ms",
							 link->servers[link->current].host,
							 link->servers[link->current].port, link->host->timeout_ms);
	if (link->state != EVS_SINK_LINK_READY || link->closing)
		return;
	if (link->asked_at > 0 && now - link->asked_at >= link->host->timeout_ms * INT64_C(1000))
		evs_sink_link_fail(link, "the server gives no sign of life");
	else if (link->asked_at == 0 && link->silence_us > 0 && now - link->heard_at >= link->silence_us)
	{
		link->asked_at = now;
		link->events->silent(link->arg);
	}
	if (link->beat_us > 0 && now - link->sent_at >= link->beat_us)
	{
		link->sent_at = now;
		link->events->beat(link->arg);
	}
}

/* When watch_time() has something to do for a connection that is READY. */
static int64_t
next_time(const evs_sink_link *link)
{
	int64_t		until = INT64_MAX;

	if (link->asked_at > 0)
		until = link->asked_at + link->host->timeout_ms * INT64_C(1000);
	else if (link->silence_us > 0)
		until = link->heard_at + link->silence_us;
	if (link->beat_us > 0 && link->sent_at + link->beat_us < until)
		until = link->sent_at + link->beat_us;
	return until;
}

void
evs_sink_link_wait(evs_sink_link *link, bool wanted, int *fd, short *events, int64_t *until)
{
	*fd = link->fd;
	*events = POLLIN;
	*until = link->deadline > 0 ? link->deadline : INT64_MAX;
	switch (link->state)
	{
		case EVS_SINK_LINK_IDLE:
			*until = wanted ? link->retry_at : INT64_MAX;
			break;
		case EVS_SINK_LINK_RESOLVING:
			*fd = link->lookup != NULL ? evs_sink_lookup_fd(link->lookup) : -1;
			if (*fd < 0)
				*until = 0;		/* the lookup has ended */
			break;
		case EVS_SINK_LINK_CONNECTING:
			*events = POLLOUT;
			break;
		case EVS_SINK_LINK_READY:
			*until = next_time(link);
			break;
		default:
			break;
	}
	if (link->closing || link->write_error != 0)
		*until = 0;
	if (evs_sink_link_pending(link) > 0 && link->state >= EVS_SINK_LINK_HANDSHAKE)
		*events |= POLLOUT;
}

void
evs_sink_link_run(evs_sink_link *link, bool wanted)
{
	if (link->state == EVS_SINK_LINK_IDLE && wanted && now_us(link) >= link->retry_at)
		begin_server(link);
	if (link->state == EVS_SINK_LINK_RESOLVING && !link->closing)
		finish_lookup(link);
	if (link->state == EVS_SINK_LINK_CONNECTING && !link->closing)
		finish_connecting(link);
	if (link->state > EVS_SINK_LINK_CONNECTING && !link->closing)
		read_socket(link);
	if (link->state != EVS_SINK_LINK_IDLE && !link->closing)
		watch_time(link);
	evs_sink_link_flush(link);
	if (link->closing)
		give_up(link);
}
