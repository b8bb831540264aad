/*
 * amqp_client.c
 *	  What a bare program does to publish to RabbitMQ with confirms, as the sink
 *	  "amqp" is compared with: the same bytes, without anything around them.
 *
 *	amqp_client PORT QUEUE MESSAGES BYTES WINDOW
 *
 * Makes the queue anew, durable.  At most WINDOW messages wait for their
 * confirmation.  Prints messages a second, from the first publication to the last
 * confirmation.  With 0 messages only the queue is made.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAME_END "\xCE"

static int	fd;
static char in[1 << 20];
static size_t in_length;
static char message[1 << 17];
static size_t message_length;
static size_t id_at;
static size_t position_at;

static void
die(const char *what)
{
	fprintf(stderr, "amqp_client: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* --- frames --- */

static char *
put(char *at, uint64_t number, int bytes)
{
	for (int i = bytes; i-- > 0;)
		*at++ = (char) (number >> (8 * i));
	return at;
}

static char *
put_bytes(char *at, const void *data, size_t length)
{
	memcpy(at, data, length);
	return at + length;
}

static char *
put_short(char *at, const char *text)
{
	at = put(at, strlen(text), 1);
	return put_bytes(at, text, strlen(text));
}

static char *
put_long(char *at, const char *text, size_t length)
{
	at = put(at, length, 4);
	return put_bytes(at, text, length);
}

/* From its head, where payload is 7 bytes behind, to its end. */
static char *
close_frame(char *head, int type, int channel, char *end)
{
	put(put(put(head, type, 1), channel, 2), end - head - 7, 4);
	return put_bytes(end, FRAME_END, 1);
}

static void
send_all(const char *data, size_t length)
{
	while (length > 0)
	{
		ssize_t		n = send(fd, data, length, 0);

		if (n <= 0)
			die("send");
		data += n;
		length -= n;
	}
}

static void
send_method(int channel, uint32_t method, const char *arguments, size_t length)
{
	char		frame[1024];
	char	   *end = put_bytes(put(frame + 7, method, 4), arguments, length);

	end = close_frame(frame, 1, channel, end);
	send_all(frame, end - frame);
}

/* Read until the method is there, and forget what came before it. */
static void
await(uint32_t method)
{
	for (;;)
	{
		while (in_length >= 11)
		{
			uint32_t	size = ntohl(*(uint32_t *) (in + 3));
			uint32_t	got = ntohl(*(uint32_t *) (in + 7));

			if (in_length < size + 8)
				break;
			in_length -= size + 8;
			memmove(in, in + size + 8, in_length);
			if (got == method)
				return;
		}
		ssize_t		n = recv(fd, in + in_length, sizeof(in) - in_length, 0);

		if (n <= 0)
			die("recv");
		in_length += n;
	}
}

/* --- the connection --- */

static void
sign_in(int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	char		arguments[512];
	int			on = 1;
	char	   *at;

	fd = socket(AF_INET, SOCK_STREAM, 0);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0)
		die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	send_all("AMQP\0\0\x09\x01", 8);
	await(10 << 16 | 10);
	at = put_short(put(arguments, 0, 4), "PLAIN");
	at = put_short(put_long(at, "\0guest\0guest", 12), "en_US");
	send_method(0, 10 << 16 | 11, arguments, at - arguments);
	await(10 << 16 | 30);
	send_method(0, 10 << 16 | 31, "\0\1\0\2\0\0\0\0", 8);
	send_method(0, 10 << 16 | 40, "\1/\0\0", 4);
	await(10 << 16 | 41);
	send_method(1, 20 << 16 | 10, "\0", 1);
	await(20 << 16 | 11);
	send_method(1, 85 << 16 | 10, "\0", 1);
	await(85 << 16 | 11);
}

static void
make_queue(const char *name)
{
	char		arguments[512];
	char	   *at = put(put_short(put(arguments, 0, 2), name), 0, 1);

	send_method(1, 50 << 16 | 40, arguments, at - arguments);
	await(50 << 16 | 41);
	at = put(put(put_short(put(arguments, 0, 2), name), 2, 1), 0, 4);
	send_method(1, 50 << 16 | 10, arguments, at - arguments);
	await(50 << 16 | 11);
}

/* --- messages --- */

/* All its frames; only the id and the position change from message to message. */
static void
make_message(const char *queue, int bytes)
{
	char	   *head = message;
	char	   *at = head + 7;
	char	   *table;

	at = put(at, 60 << 16 | 40, 4);
	at = put_short(put_short(put(at, 0, 2), ""), queue);
	head = close_frame(head, 1, 1, put(at, 1, 1));
	at = put(put(put(head + 7, 60 << 16, 4), bytes, 8), 0xB0E8, 2);
	table = at = put_short(at, "application/json");
	at = put_bytes(put_short(at + 4, "Evstore-Relay"), "S", 1);
	at = put_bytes(put_short(put_long(at, "harness", 7), "Evstore-Position"), "l", 1);
	position_at = at - message;
	at += 8;
	put(table, at - table - 4, 4);
	at = put(at, 2, 1);
	id_at = at + 1 - message;
	at = put_short(at, "00000000-0000-7000-8000-000000000000");
	at = put_short(put_short(put(at, 1700000000, 8), "HarnessEvent"), "evstore");
	head = close_frame(head, 2, 1, at);
	memset(head + 7, 'x', bytes);
	message_length = close_frame(head, 3, 1, head + 7 + bytes) - message;
}

/* How many messages are confirmed. */
static uint64_t
read_confirmations(uint64_t confirmed)
{
	ssize_t		n = recv(fd, in + in_length, sizeof(in) - in_length, MSG_DONTWAIT);
	size_t		at = 0;

	if (n == 0 || (n < 0 && errno != EAGAIN))
		die("recv");
	in_length += n > 0 ? n : 0;
	while (in_length - at >= 8)
	{
		const char *frame = in + at;
		uint32_t	size = ntohl(*(const uint32_t *) (frame + 3));

		if (in_length - at < size + 8)
			break;
		if (*frame == 1 && ntohl(*(const uint32_t *) (frame + 7)) == (60 << 16 | 80))
		{
			uint64_t	tag = (uint64_t) ntohl(*(const uint32_t *) (frame + 11)) << 32 |
				ntohl(*(const uint32_t *) (frame + 15));

			/* The server confirms one queue's messages in order. */
			if (tag > confirmed)
				confirmed = tag;
		}
		else if (*frame == 1)
		{
			fprintf(stderr, "amqp_client: not confirmed\n");
			exit(1);
		}
		at += size + 8;
	}
	in_length -= at;
	memmove(in, in + at, in_length);
	return confirmed;
}

static void
publish(uint64_t messages, uint64_t window)
{
	char	   *out = malloc(window * message_length);
	size_t		length = 0;
	size_t		sent = 0;
	uint64_t	published = 0;
	uint64_t	confirmed = 0;
	char		id[32];

	if (out == NULL)
		die("malloc");
	while (confirmed < messages)
	{
		struct pollfd wait = {.fd = fd, .events = POLLIN};
		ssize_t		n;

		if (sent == length)
			sent = length = 0;
		while (length == 0 || (sent == 0 && length + message_length <= window * message_length))
		{
			if (published == messages || published - confirmed == window)
				break;
			snprintf(id, sizeof(id), "%012llx", (unsigned long long) ++published);
			memcpy(message + id_at + 24, id, 12);
			put(message + position_at, published, 8);
			memcpy(out + length, message, message_length);
			length += message_length;
		}
		if (length > sent)
		{
			n = send(fd, out + sent, length - sent, MSG_DONTWAIT);
			if (n < 0 && errno != EAGAIN)
				die("send");
			sent += n > 0 ? n : 0;
		}
		if (length > sent)
			wait.events |= POLLOUT;
		poll(&wait, 1, -1);
		if (wait.revents & POLLIN)
			confirmed = read_confirmations(confirmed);
	}
	free(out);
}

int
main(int argc, char **argv)
{
	long		messages;
	long		window;
	int			bytes;
	double		start;

	if (argc != 6)
	{
		fprintf(stderr, "usage: amqp_client PORT QUEUE MESSAGES BYTES WINDOW\n");
		return 2;
	}
	messages = atol(argv[3]);
	bytes = atoi(argv[4]);
	window = atol(argv[5]);
	if (strlen(argv[2]) > 100 || bytes < 0 || bytes > 100000 || (messages > 0 && window <= 0))
		return 2;
	sign_in(atoi(argv[1]));
	make_queue(argv[2]);
	if (messages <= 0)
		return 0;
	make_message(argv[2], bytes);
	start = seconds();
	publish(messages, window);
	printf("%.0f\n", messages / (seconds() - start));
	return 0;
}
