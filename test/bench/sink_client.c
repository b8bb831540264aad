/*
 * sink_client.c
 *	  A sink module with as little around it as possible: messages that are there
 *	  already are submitted as soon as there is room.  sink_harness, which makes each
 *	  message anew and looks at everything, takes longer for one than a fast sink.
 *
 *	sink_client MODULE.so TOPIC MESSAGES BYTES WINDOW [SETTING=TEXT | SETTING:=BOOLEAN]...
 *
 * Prints messages a second, from the first that is submitted to the last result.
 */
#include <dlfcn.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "evstore_sink.h"

#define MAX_SETTINGS 64
#define MAX_RESULTS 1000
#define KEYS 10

/* A ring: message number i is at i modulo its size, which leaves gaps until they are used again. */
static evs_sink_message *ring;
static bool *busy;
static long size;

static void
die(const char *what)
{
	fprintf(stderr, "sink_client: %s\n", what);
	exit(1);
}

static int64_t
now_us(void *ctx)
{
	struct timespec now;

	(void) ctx;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void
log_nothing(void *ctx, int level, const char *message)
{
	(void) ctx;
	(void) level;
	(void) message;
}

static void
wake(void *ctx)
{
	(void) ctx;
}

static int
no_secret(void *ctx, const char *name, char *value, size_t room)
{
	(void) ctx;
	(void) name;
	(void) value;
	(void) room;
	return -1;
}

static int
allow(void *ctx, const char *host, const char *address, int port)
{
	(void) ctx;
	(void) host;
	(void) address;
	(void) port;
	return 1;
}

static void
set_rate(void *ctx, double rate)
{
	(void) ctx;
	(void) rate;
}

static evs_sink_host host = {
	.abi = EVS_SINK_ABI, .size = sizeof(evs_sink_host), .relay = "bench", .id = "bench", .format = "raw",
	.batch_size = 1000, .batch_bytes = 1024 * 1024, .timeout_ms = 60000, .directory = "/nonexistent",
	.log = log_nothing, .wake = wake, .now_us = now_us, .secret = no_secret, .egress_allowed = allow,
	.set_rate = set_rate
};

static void
make_messages(const char *topic, int bytes)
{
	char	   *data = malloc(bytes + 1);
	char	   *keys[KEYS];

	ring = calloc(size, sizeof(*ring));
	busy = calloc(size, sizeof(*busy));
	if (data == NULL || ring == NULL || busy == NULL)
		die("out of memory");
	memset(data, 'x', bytes);
	for (int i = 0; i < KEYS; i++)
		if (asprintf(&keys[i], "key-%d", i) < 0)
			die("out of memory");
	for (long i = 0; i < size; i++)
		ring[i] = (evs_sink_message)
		{
			.size = sizeof(*ring), .time_us = 1700000000000000, .attempt = 1,
			.id = "00000000-0000-4000-8000-000000000000", .type = "T", .source = "/bench",
			.stream = keys[i % KEYS], .key = keys[i % KEYS], .topic = topic,
			.content_type = "application/json", .data = data, .length = bytes
		};
}

/* From number "next" on, as many as lie together, are free and fit; returns how many were accepted. */
static long
submit(const evs_sink *sink, void *state, long next, long most)
{
	long		at = next % size;
	long		n = 0;

	while (n < most && n < host.batch_size && at + n < size && !busy[at + n])
	{
		ring[at + n].cookie = at + n;
		ring[at + n].position = next + n + 1;
		n++;
	}
	if (n > 0)
		n = sink->submit(state, ring + at, n);
	for (long i = 0; i < n; i++)
		busy[at + i] = true;
	return n;
}

static long
take(const evs_sink *sink, void *state)
{
	static evs_sink_result results[MAX_RESULTS];
	int			n = sink->progress(state, results, MAX_RESULTS);

	for (int i = 0; i < n; i++)
	{
		if (results[i].result > EVS_SINK_DUPLICATE)
			die(results[i].detail);
		busy[results[i].cookie] = false;
	}
	return n;
}

static void
wait_for(const evs_sink *sink, void *state)
{
	struct pollfd fd = {.fd = -1};
	int			timeout;

	fd.fd = sink->wait_fd(state, &fd.events, &timeout);
	poll(&fd, 1, timeout);
}

static void
run(const evs_sink *sink, void *state, long messages)
{
	long		next = 0;
	long		done = 0;

	while (done < messages)
	{
		long		room = host.in_flight - (next - done);
		long		accepted = 0;
		long		taken;

		if (room > 0 && next < messages)
			accepted = submit(sink, state, next, messages - next < room ? messages - next : room);
		next += accepted;
		taken = take(sink, state);
		done += taken;
		if (accepted == 0 && taken == 0)
			wait_for(sink, state);
	}
}

static evs_sink_setting
parse_setting(char *text)
{
	evs_sink_setting setting = {text, strchr(text, '='), EVS_SINK_SETTING_STRING};
	char	   *end = (char *) setting.value;

	if (end == NULL)
		die("not SETTING=TEXT");
	*end = '\0';
	setting.value++;
	if (end > text && end[-1] == ':')
	{
		end[-1] = '\0';
		setting.kind = EVS_SINK_SETTING_BOOLEAN;
	}
	return setting;
}

int
main(int argc, char **argv)
{
	evs_sink_setting items[MAX_SETTINGS];
	evs_sink_settings settings = {items, 0};
	char		error[EVS_SINK_ERROR_MAX] = "";
	const evs_sink *(*init) (uint32_t);
	const evs_sink *sink;
	void	   *library;
	void	   *state;
	int64_t		start;

	if (argc < 6 || argc - 6 > MAX_SETTINGS)
		die("usage: sink_client MODULE.so TOPIC MESSAGES BYTES WINDOW [SETTING=TEXT]...");
	library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	if (library == NULL)
		die(dlerror());
	*(void **) &init = dlsym(library, "evs_sink_init");
	if (init == NULL || (sink = init(EVS_SINK_ABI)) == NULL)
		die("this is no sink module");
	signal(SIGPIPE, SIG_IGN);
	host.in_flight = atoi(argv[5]);
	size = host.in_flight * 2L;
	make_messages(argv[2], atoi(argv[4]));
	for (int i = 6; i < argc; i++)
		items[settings.nitems++] = parse_setting(argv[i]);
	state = sink->open(&host, &settings, error, sizeof(error));
	if (state == NULL)
		die(error);
	start = now_us(NULL);
	run(sink, state, atol(argv[3]));
	printf("%.0f\n", atol(argv[3]) * 1e6 / (now_us(NULL) - start));
	sink->destroy(state);
	return 0;
}
