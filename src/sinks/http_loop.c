/*
 * http_loop.c
 *	  libcurl's multi handle: its sockets, its timer, and our deadlines.
 *
 * The host can wait for one descriptor, so libcurl's sockets are in an epoll
 * set of ours.  Its timer is a moment that evs_http_timeout() reports.
 *
 * A request may take host->timeout_ms from when it is sent.  libcurl's own
 * timeout would begin when the request is handed over, and so count the time
 * that it waits for a connection.  Ours begins when libcurl is about to send,
 * and again with each part of a large body that went out, so that it bounds the
 * wait for the other side and not the size of a body.  A body that creeps is
 * ended by libcurl's low-speed limit.
 *
 * Connecting has a time of its own, in libcurl.  But requests that wait whether
 * the first connection will be one of HTTP/2, and can be shared, are in no state
 * that libcurl's time applies to, and after a failure it lets them try one by
 * one.  So they have a deadline of ours, too, somewhat later.
 *
 * libcurl looks up names in threads.  They inherit the mask of signals, so all
 * are blocked while libcurl works: a signal of the host must not run there.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http.h"

#define EVENTS_AT_ONCE 64

/* How often libcurl's timer is served in one call when it is due again at once. */
#define TIMER_ROUNDS 4

/* Bodies up to this size are in libcurl's first write: no progress to look at. */
#define SMALL_BODY (32 * 1024)

/* libcurl ends an attempt to connect first, as it knows more to say about it. */
#define CONNECT_GRACE_MS 250

/* What a transfer must move at least; see CURLOPT_LOW_SPEED_LIMIT. */
#define LOW_SPEED 1024L

/* A changed CA file is noticed after so many seconds. */
#define CA_SECONDS 300L

/* ---- lists ---- */

/* Append a request, which is in no list. */
void
evs_http_put(EvsHttpList *list, EvsHttpRequest *request)
{
	request->list = list;
	request->next = NULL;
	request->previous = list->last;
	if (list->last != NULL)
		list->last->next = request;
	else
		list->first = request;
	list->last = request;
}

/* Take a request out of the list that it is in, if any. */
void
evs_http_take(EvsHttpRequest *request)
{
	EvsHttpList *list = request->list;

	if (list == NULL)
		return;
	if (request->previous != NULL)
		request->previous->next = request->next;
	else
		list->first = request->next;
	if (request->next != NULL)
		request->next->previous = request->previous;
	else
		list->last = request->previous;
	request->list = NULL;
}

/* ---- what libcurl calls ---- */

/* NULL: no memory. */
static EvsHttpSocket *
find_socket(EvsHttpSink *sink, int fd)
{
	if (fd >= sink->nsockets)
	{
		int			n = fd + 64;
		EvsHttpSocket *sockets = realloc(sink->sockets, sizeof(EvsHttpSocket) * n);
		int		   *changed = realloc(sink->changed, sizeof(int) * n);

		if (sockets != NULL)
			sink->sockets = sockets;
		if (changed != NULL)
			sink->changed = changed;
		if (sockets == NULL || changed == NULL)
			return NULL;
		memset(sockets + sink->nsockets, 0, sizeof(EvsHttpSocket) * (n - sink->nsockets));
		sink->nsockets = n;
	}
	return &sink->sockets[fd];
}

/* Tell the epoll set; false: it cannot be. */
static bool
register_socket(EvsHttpSink *sink, int fd, EvsHttpSocket *known)
{
	struct epoll_event event = {.events = known->wanted};
	bool		ok = true;

	event.data.fd = fd;
	if (known->wanted == 0)
		epoll_ctl(sink->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	else if (known->wanted != known->registered || !known->is_ours)
		ok = epoll_ctl(sink->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0 ||
			(errno == ENOENT && epoll_ctl(sink->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
	known->registered = ok ? known->wanted : 0;
	return ok;
}

/*
 * With each request libcurl wants a connection to be forgotten, watched for
 * writing, and for reading.  Before somebody waits for the set, only the last
 * counts.  Sockets that it opens and closes by itself are told of at once.
 */
static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *state, void *data)
{
	EvsHttpSink *sink = state;
	EvsHttpSocket *known = find_socket(sink, fd);

	if (known == NULL)
		return -1;
	known->wanted = 0;
	if (what != CURL_POLL_REMOVE && (what & CURL_POLL_IN))
		known->wanted |= EPOLLIN;
	if (what != CURL_POLL_REMOVE && (what & CURL_POLL_OUT))
		known->wanted |= EPOLLOUT;
	if (!known->is_ours)
		return register_socket(sink, fd, known) || known->wanted == 0 ? 0 : -1;
	if (!known->is_changed)
		sink->changed[sink->nchanged++] = fd;
	known->is_changed = true;
	return 0;
}

/* Before somebody waits. */
void
evs_http_register_sockets(EvsHttpSink *sink)
{
	for (int i = 0; i < sink->nchanged; i++)
	{
		EvsHttpSocket *known = &sink->sockets[sink->changed[i]];

		known->is_changed = false;
		if (known->wanted != known->registered)
			(void) register_socket(sink, sink->changed[i], known);
	}
	sink->nchanged = 0;
}

/* Closing takes it out of the set. */
static int
on_close_socket(void *state, curl_socket_t fd)
{
	EvsHttpSink *sink = state;

	if (fd < sink->nsockets)
	{
		sink->sockets[fd].registered = sink->sockets[fd].wanted = 0;
		sink->sockets[fd].is_ours = false;
	}
	return close(fd);
}

static int
on_timer(CURLM *multi, long timeout_ms, void *state)
{
	EvsHttpSink *sink = state;

	sink->timer_us = timeout_ms < 0 ? -1 :
		sink->host->now_us(sink->host->ctx) + (int64_t) timeout_ms * 1000;
	return 0;
}

/* A list is in the order of its deadlines, since all of them are as far ahead. */
static void
set_deadline(EvsHttpRequest *request, EvsHttpList *list, int64_t ms)
{
	const evs_sink_host *host = request->sink->host;

	request->deadline_us = host->now_us(host->ctx) + ms * 1000;
	evs_http_take(request);
	evs_http_put(list, request);
}

/* The request is, from now on, waiting for the other side. */
static void
set_sent(EvsHttpRequest *request)
{
	set_deadline(request, &request->sink->sent, request->sink->host->timeout_ms);
}

/* libcurl has a connection for the request and sends it next. */
static int
on_send(void *state, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
	EvsHttpRequest *request = state;

	request->is_sent = true;
	request->uploaded = 0;
	set_sent(request);
	return CURL_PREREQFUNC_OK;
}

static int
on_progress(void *state, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal, curl_off_t ulnow)
{
	EvsHttpRequest *request = state;

	if (request->is_sent && ulnow != request->uploaded)
	{
		request->uploaded = ulnow;
		set_sent(request);
	}
	return 0;
}

/* The numeric form; IPv4 in IPv6 is written as IPv4, as that is what it connects to. */
static bool
print_address(const struct curl_sockaddr *address, char *into, size_t size)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) &address->addr;

	if (address->family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
		return inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], into, size) != NULL;
	if (address->family != AF_INET && address->family != AF_INET6)
		return false;
	return getnameinfo(&address->addr, address->addrlen, into, size, NULL, 0, NI_NUMERICHOST) == 0;
}

/*
 * May libcurl connect to this address?  The name was checked before, but only
 * now it is known what it means, and it can mean something else each time.
 */
static curl_socket_t
on_open_socket(void *state, curlsocktype purpose, struct curl_sockaddr *address)
{
	EvsHttpRequest *request = state;
	const EvsHttpConfig *config = &request->sink->config;
	const evs_sink_host *host = request->sink->host;
	bool		by_proxy = config->proxy_host != NULL;
	char		numeric[EVS_HTTP_ADDRESS_MAX];
	EvsHttpSocket *known;
	int			fd;

	if (purpose != CURLSOCKTYPE_IPCXN || !print_address(address, numeric, sizeof(numeric)))
		return CURL_SOCKET_BAD;
	if (host->egress_allowed(host->ctx, by_proxy ? config->proxy_host : request->to->host, numeric,
							 by_proxy ? config->proxy_port : request->to->port) != 1)
	{
		memcpy(request->refused, numeric, sizeof(numeric));
		return CURL_SOCKET_BAD;
	}
	request->nallowed++;
	fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	known = fd >= 0 ? find_socket(request->sink, fd) : NULL;
	if (known != NULL)
	{
		known->registered = known->wanted = 0;
		known->is_ours = true;
	}
	return fd;
}

/* ---- handles ---- */

#define SET(option, value) \
	do \
	{ \
		if (curl_easy_setopt(easy, (option), (value)) != CURLE_OK) \
			return false; \
	} while (0)

static bool
set_tls(CURL *easy, const EvsHttpConfig *config)
{
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, config->min_tls);
	SET(CURLOPT_CA_CACHE_TIMEOUT, CA_SECONDS);
	if (config->ca_file != NULL)
	{
		/* Only these: the system's directory would be asked as well. */
		SET(CURLOPT_CAINFO, config->ca_file);
		SET(CURLOPT_CAPATH, NULL);
	}
	if (config->cert_file != NULL)
	{
		SET(CURLOPT_SSLCERT, config->cert_file);
		SET(CURLOPT_SSLKEY, config->key_file);
	}
	return true;
}

static bool
set_connection(CURL *easy, const EvsHttpSink *sink)
{
	const EvsHttpConfig *config = &sink->config;

	SET(CURLOPT_NOSIGNAL, 1L);
	/* Ending a request must not wait for the thread that looks up its name. */
	SET(CURLOPT_QUICK_EXIT, 1L);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	/* Empty, not NULL: then the environment is not looked at. */
	SET(CURLOPT_PROXY, config->proxy);
	SET(CURLOPT_NOPROXY, "");
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_HEADEROPT, (long) CURLHEADER_SEPARATE);
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_HTTP_VERSION, config->http_version);
	/* The first ones share a connection if they can: HTTP/2 comes with TLS. */
	SET(CURLOPT_PIPEWAIT, config->to.is_tls && config->http_version != CURL_HTTP_VERSION_1_1 ? 1L : 0L);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) config->connect_timeout_ms);
	SET(CURLOPT_LOW_SPEED_LIMIT, LOW_SPEED);
	return set_tls(easy, config);
}

/* Give a request its easy handle, with all options that do not depend on messages. */
bool
evs_http_easy_init(EvsHttpRequest *request)
{
	CURL	   *easy = request->easy = curl_easy_init();
	const EvsHttpConfig *config = &request->sink->config;

	if (easy == NULL || !set_connection(easy, request->sink))
		return false;
	if (config->target != NULL)
		SET(CURLOPT_CURLU, config->target);
	SET(CURLOPT_CUSTOMREQUEST, config->method);
	SET(CURLOPT_PRIVATE, request);
	SET(CURLOPT_ERRORBUFFER, request->curl_error);
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	SET(CURLOPT_OPENSOCKETDATA, request);
	SET(CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
	SET(CURLOPT_CLOSESOCKETDATA, request->sink);
	SET(CURLOPT_PREREQFUNCTION, on_send);
	SET(CURLOPT_PREREQDATA, request);
	SET(CURLOPT_XFERINFOFUNCTION, on_progress);
	SET(CURLOPT_XFERINFODATA, request);
	return evs_http_response_hooks(request);
}

static bool
set_message(EvsHttpRequest *request)
{
	CURL	   *easy = request->easy;
	const EvsHttpConfig *config = &request->sink->config;
	bool		is_large = request->length > SMALL_BODY;

	SET(CURLOPT_HTTPHEADER, request->headers);
	/* The parsed one would go before. */
	if (request->to != &config->to)
		SET(CURLOPT_CURLU, NULL);
	if (request->url.length > 0)
		SET(CURLOPT_URL, request->url.data);
	if (request->method != NULL)
		SET(CURLOPT_CUSTOMREQUEST, request->method);
	if (request->data == NULL)
		return true;
	/* Others have our deadline, and save libcurl a timer. */
	SET(CURLOPT_LOW_SPEED_TIME, is_large ? (long) (request->sink->host->timeout_ms / 1000 + 2) : 0L);
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->length);
	/* Not copied: messages stay until their results have been returned. */
	SET(CURLOPT_POSTFIELDS, request->data);
	SET(CURLOPT_NOPROGRESS, is_large ? 0L : 1L);
	return true;
}

/* Hand a request over to libcurl; it has its result at once when there is no memory. */
void
evs_http_start(EvsHttpRequest *request)
{
	EvsHttpSink *sink = request->sink;

	evs_http_take(request);
	if (!set_message(request) || curl_multi_add_handle(sink->multi, request->easy) != CURLM_OK)
		evs_http_finish(request, CURLE_OUT_OF_MEMORY);
	else
		set_deadline(request, &sink->running, sink->config.connect_timeout_ms + CONNECT_GRACE_MS);
}

/* ---- the loop ---- */

bool
evs_http_loop_open(EvsHttpSink *sink, char *error, size_t size)
{
	CURLM	   *multi;

	sink->timer_us = -1;
	sink->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (sink->epoll_fd < 0)
	{
		snprintf(error, size, "could not create an epoll set: %s", strerror(errno));
		return false;
	}
	multi = sink->multi = curl_multi_init();
	if (multi != NULL &&
		curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket) == CURLM_OK &&
		curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, sink) == CURLM_OK &&
		curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer) == CURLM_OK &&
		curl_multi_setopt(multi, CURLMOPT_TIMERDATA, sink) == CURLM_OK &&
		curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) sink->host->in_flight + 1) == CURLM_OK)
		return true;
	snprintf(error, size, "could not make a multi handle of libcurl");
	return false;
}

static void
free_all(EvsHttpSink *sink, EvsHttpList *list)
{
	EvsHttpRequest *request;

	while ((request = list->first) != NULL)
	{
		evs_http_take(request);
		if (list == &sink->running || list == &sink->sent)
			curl_multi_remove_handle(sink->multi, request->easy);
		evs_http_request_free(request);
	}
}

void
evs_http_loop_close(EvsHttpSink *sink)
{
	free_all(sink, &sink->waiting);
	free_all(sink, &sink->running);
	free_all(sink, &sink->sent);
	free_all(sink, &sink->done);
	free_all(sink, &sink->free);
	if (sink->multi != NULL)
		curl_multi_cleanup(sink->multi);
	if (sink->epoll_fd >= 0)
		close(sink->epoll_fd);
	free(sink->sockets);
	free(sink->changed);
}

static void
serve_sockets(EvsHttpSink *sink)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	int			n = epoll_wait(sink->epoll_fd, events, EVENTS_AT_ONCE, 0);
	int			running;

	for (int i = 0; i < n; i++)
	{
		int			what = 0;

		if (events[i].events & (EPOLLIN | EPOLLHUP))
			what |= CURL_CSELECT_IN;
		if (events[i].events & EPOLLOUT)
			what |= CURL_CSELECT_OUT;
		if (events[i].events & EPOLLERR)
			what |= CURL_CSELECT_ERR;
		curl_multi_socket_action(sink->multi, events[i].data.fd, what, &running);
	}
}

static void
serve_timer(EvsHttpSink *sink)
{
	int			running;

	for (int i = 0; i < TIMER_ROUNDS; i++)
	{
		if (sink->timer_us < 0 || sink->timer_us > sink->host->now_us(sink->host->ctx))
			return;
		sink->timer_us = -1;
		curl_multi_socket_action(sink->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
}

static void
end_request(EvsHttpRequest *request, CURLcode code)
{
	evs_http_take(request);
	curl_multi_remove_handle(request->sink->multi, request->easy);
	evs_http_finish(request, code);
}

static void
collect_responses(EvsHttpSink *sink)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(sink->multi, &left)) != NULL)
	{
		CURLcode	code = message->data.result;
		char	   *request;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &request);
		end_request((EvsHttpRequest *) request, code);
	}
}

/* After collect_responses(): a response that is there is not late. */
static void
end_late_requests(EvsHttpSink *sink, EvsHttpList *list, const char *what, int64_t ms)
{
	EvsHttpRequest *request;

	while ((request = list->first) != NULL &&
		   request->deadline_us <= sink->host->now_us(sink->host->ctx))
	{
		snprintf(request->curl_error, sizeof(request->curl_error),
				 "no %s within %lld ms", what, (long long) ms);
		end_request(request, CURLE_OPERATION_TIMEDOUT);
	}
}

/* Do what can be done without waiting. */
void
evs_http_drive(EvsHttpSink *sink)
{
	sigset_t	all;
	sigset_t	before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	serve_sockets(sink);
	serve_timer(sink);
	collect_responses(sink);
	end_late_requests(sink, &sink->running, "connection", sink->config.connect_timeout_ms);
	end_late_requests(sink, &sink->sent, "response", sink->host->timeout_ms);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* That moment, -1 for none, or the first deadline of a list. */
static int64_t
earlier(int64_t when, const EvsHttpList *list)
{
	if (list->first != NULL && (when < 0 || list->first->deadline_us < when))
		return list->first->deadline_us;
	return when;
}

/* Milliseconds until evs_http_drive() has something to do; -1: only when a socket has. */
int
evs_http_timeout(EvsHttpSink *sink)
{
	int64_t		when = sink->timer_us;
	int64_t		now;

	if (sink->done.first != NULL)
		return 0;
	when = earlier(when, &sink->running);
	when = earlier(when, &sink->sent);
	if (when < 0)
		return -1;
	now = sink->host->now_us(sink->host->ctx);
	return when <= now ? 0 : (int) ((when - now + 999) / 1000);
}
