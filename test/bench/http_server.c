/*
 * http_server.c
 *	  The fastest receiver for the http sink: takes any request, with its body,
 *	  and answers 204 at once.
 *
 *	http_server
 *		prints "port=N" when it listens on the loopback, ends with its standard
 *		input, and then prints how many requests there were
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_MAX 65536

static const char answer[] = "HTTP/1.1 204 No Content\r\n\r\n";

typedef struct Connection
{
	int			fd;
	size_t		used;			/* of head */
	size_t		body_left;		/* bytes of a body that are still to come */
	char		head[HEAD_MAX];
} Connection;

static int	epoll_fd;
static long long nrequests;

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static void
watch(int fd, void *what)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		die("epoll_ctl");
}

/* On a port that is free. */
static int
start_listening(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t	length = sizeof(address);
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *) &address, length) != 0 || listen(fd, 1024) != 0 ||
		getsockname(fd, (struct sockaddr *) &address, &length) != 0)
		die("listen");
	printf("port=%d\n", ntohs(address.sin_port));
	fflush(stdout);
	return fd;
}

static void
accept_connections(int listener)
{
	int			one = 1;
	int			fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
	{
		Connection *connection = calloc(1, sizeof(*connection));

		if (connection == NULL)
			die("calloc");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		connection->fd = fd;
		watch(fd, connection);
	}
}

static size_t
content_length(const char *head, const char *end)
{
	static const char name[] = "\r\nContent-Length:";

	for (const char *c = head; c < end; c++)
		if (*c == '\r' && strncasecmp(c, name, sizeof(name) - 1) == 0)
			return strtoull(c + sizeof(name) - 1, NULL, 10);
	return 0;
}

/* All requests whose heads have arrived; false if one is too long. */
static bool
take_requests(Connection *connection, int *answers)
{
	char	   *at = connection->head;
	char	   *end = at + connection->used;

	for (;;)
	{
		size_t		body = connection->body_left < (size_t) (end - at) ? connection->body_left : (size_t) (end - at);
		char	   *head_end;

		at += body;
		connection->body_left -= body;
		if (connection->body_left > 0 || at == end)
			break;
		head_end = memmem(at, end - at, "\r\n\r\n", 4);
		if (head_end == NULL)
			break;
		connection->body_left = content_length(at, head_end);
		at = head_end + 4;
		(*answers)++;
	}
	memmove(connection->head, at, end - at);
	connection->used = end - at;
	return connection->used < HEAD_MAX;
}

/*
 * Read what is there and answer it.  A body that is still to come is answered
 * before: it is read all the same.  False when the connection is over.
 */
static bool
serve(Connection *connection)
{
	ssize_t		n = read(connection->fd, connection->head + connection->used, HEAD_MAX - connection->used);
	int			answers = 0;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	connection->used += n;
	if (n == 0 || !take_requests(connection, &answers))
		return false;
	nrequests += answers;
	for (; answers > 0; answers--)
		if (send(connection->fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL) != sizeof(answer) - 1)
			return false;
	return true;
}

int
main(void)
{
	char		unused[256];
	int			listener;

	epoll_fd = epoll_create1(0);
	if (epoll_fd < 0)
		die("epoll_create1");
	listener = start_listening();
	watch(listener, &listener);
	watch(STDIN_FILENO, &epoll_fd);
	for (;;)
	{
		struct epoll_event events[64];
		int			n = epoll_wait(epoll_fd, events, 64, -1);

		for (int i = 0; i < n; i++)
		{
			void	   *what = events[i].data.ptr;

			if (what == &listener)
				accept_connections(listener);
			else if (what != &epoll_fd)
			{
				if (serve(what))
					continue;
				close(((Connection *) what)->fd);
				free(what);
			}
			else if (read(STDIN_FILENO, unused, sizeof(unused)) <= 0)
			{
				printf("requests=%lld\n", nrequests);
				return 0;
			}
		}
	}
}
