/*
 * redis_client.c
 *	  What a bare program does to fill a Redis stream: XADDs in a pipeline, without
 *	  anything that could go wrong, as the sink "redis" is compared with.
 *
 *	redis_client PORT STREAM MESSAGES BYTES WINDOW
 *
 * At most WINDOW commands wait for their answers; an entry has the fields that
 * the sink's have.  Prints messages a second, from the first command to the last
 * answer.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char *out;
static size_t out_length;
static int	fd;

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static void
die(const char *what)
{
	fprintf(stderr, "redis_client: %s\n", what);
	exit(1);
}

static void
open_connection(int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,.sin_port = htons(port)};
	int			on = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0)
		die("no connection");
}

static void
add(const char *data, size_t length)
{
	out_length += sprintf(out + out_length, "$%zu\r\n", length);
	memcpy(out + out_length, data, length);
	memcpy(out + out_length + length, "\r\n", 2);
	out_length += length + 2;
}

static void
add_string(const char *string)
{
	add(string, strlen(string));
}

static void
add_entry(const char *stream, long i, const char *data, int bytes)
{
	char		id[64];

	memcpy(out + out_length, "*11\r\n", 5);
	out_length += 5;
	add_string("XADD");
	add_string(stream);
	snprintf(id, sizeof(id), "%ld-0", i);
	add_string(id);
	add_string("relay");
	add_string("harness");
	add_string("id");
	snprintf(id, sizeof(id), "%08lx-0000-7000-8000-%012lx", i, i);
	add_string(id);
	add_string("content-type");
	add_string("application/json");
	add_string("data");
	add(data, bytes);
}

static void
send_all(void)
{
	size_t		at = 0;

	while (at < out_length)
	{
		ssize_t		n = write(fd, out + at, out_length - at);

		if (n <= 0)
			die("connection lost");
		at += n;
	}
	out_length = 0;
}

/* How many answers came: each is an id, in two lines. */
static long
read_answers(void)
{
	static char in[65536];
	ssize_t		n = read(fd, in, sizeof(in));
	long		answers = 0;

	if (n <= 0)
		die("connection lost");
	for (ssize_t i = 0; i < n; i++)
	{
		answers += in[i] == '$';
		if (in[i] == '-' && i > 0 && in[i - 1] == '\n')
			die("an error");
	}
	return answers;
}

int
main(int argc, char **argv)
{
	long		messages;
	long		sent = 0;
	long		answered = 0;
	long		window;
	int			bytes;
	char	   *data;
	double		start;

	if (argc != 6)
	{
		fprintf(stderr, "usage: redis_client PORT STREAM MESSAGES BYTES WINDOW\n");
		return 2;
	}
	messages = atol(argv[3]);
	bytes = atoi(argv[4]);
	window = atol(argv[5]);
	data = malloc(bytes + 1);
	out = malloc(window * (bytes + 1024));
	if (data == NULL || out == NULL)
		die("out of memory");
	memset(data, 'x', bytes);
	open_connection(atoi(argv[1]));
	start = seconds();
	while (answered < messages)
	{
		while (sent < messages && sent - answered < window)
			add_entry(argv[2], ++sent, data, bytes);
		send_all();
		answered += read_answers();
	}
	printf("%.0f\n", messages / (seconds() - start));
	return 0;
}
