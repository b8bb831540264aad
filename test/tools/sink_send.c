/*
 * sink_send.c
 *	  Has a sink module send exactly the messages that a test wants, and says
 *	  what came of them.  sink_harness makes its own messages, many of them, and
 *	  holds the module to the contract; this one obeys.
 *
 *	  sink_send MODULE.so
 *
 * Commands are lines of words on standard input, with %XX for what does not fit
 * into a word.  Each is answered by lines on standard output, the last of which
 * begins with the command's name.
 *
 *	host NAME=VALUE...		id, format, in_flight, batch_size, batch_bytes, timeout_ms
 *	set NAME KIND VALUE		a setting: string, number, boolean or secret
 *	unset					no settings
 *	secret NAME [VALUE]		its value, or that there is none
 *	deny WORD, permit		egress_allowed() says no to a name or address; to none
 *	validate, open			0, or -1 and the error
 *	message NAME=VALUE...	the next to submit: id, flags, type, key, topic, source, stream,
 *							time_us, content_type, data, size (of filling, in place
 *							of data), a.NAME (an attribute), h.NAME (a header)
 *	submit					all messages; answers how many were accepted
 *	wait N					until there are N results: cookie, class, code,
 *							retry_after_ms, detail.  Cookies count from 1.
 *	egress					what egress_allowed() was asked since the last time
 *	rate					what set_rate() said last
 *	destroy					answers how many milliseconds it took
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

#define MAX_ITEMS 256
#define MAX_WORDS 256
#define LINE_SIZE (1024 * 1024)

/* A later version's message: modules must not count on the size of theirs. */
typedef struct LongMessage
{
	evs_sink_message message;
	char		later[40];
} LongMessage;

typedef struct Secret
{
	char	   *name;
	char	   *value;
} Secret;

static const char *const classes[] = {"ok", "duplicate", "retry", "retry_sink", "permanent", "fatal", "returned"};
static const char *const kinds[] = {"string", "number", "boolean", "secret"};

static const evs_sink *sink;
static void *state;
static evs_sink_setting items[MAX_ITEMS];
static evs_sink_settings settings = {items, 0};
static Secret secrets[MAX_ITEMS];
static int	nsecrets;
static bool secrets_given;
static char *denied[MAX_ITEMS];
static int	ndenied;
static char asked[LINE_SIZE];
static double rate = -1;
static LongMessage *batch;
static int	nbatch;
static uint64_t next_cookie = 1;

static void die(const char *what) __attribute__((noreturn));

static void
die(const char *what)
{
	fprintf(stderr, "sink_send: %s\n", what);
	exit(1);
}

/* ---- the host ---- */

static int64_t
now_us(void *ctx)
{
	struct timespec now;

	(void) ctx;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void
log_message(void *ctx, int level, const char *message)
{
	(void) ctx;
	fprintf(stderr, "log %d: %s\n", level, message);
}

static void
wake(void *ctx)
{
	(void) ctx;
}

static int
get_secret(void *ctx, const char *name, char *value, size_t size)
{
	(void) ctx;
	for (int i = 0; secrets_given && i < nsecrets; i++)
	{
		const char *secret = secrets[i].value;

		if (strcmp(secrets[i].name, name) != 0 || secret == NULL)
			continue;
		if (strlen(secret) < size)
			strcpy(value, secret);
		return strlen(secret);
	}
	return -1;
}

static int
egress_allowed(void *ctx, const char *host, const char *address, int port)
{
	size_t		used = strlen(asked);

	(void) ctx;
	snprintf(asked + used, sizeof(asked) - used, "%s %s %d\n", host, address ? address : "-", port);
	for (int i = 0; i < ndenied; i++)
		if (strcmp(denied[i], host) == 0 || (address != NULL && strcmp(denied[i], address) == 0))
			return 0;
	return 1;
}

static void
set_rate(void *ctx, double per_second)
{
	(void) ctx;
	rate = per_second;
}

static evs_sink_host host = {
	.abi = EVS_SINK_ABI, .size = sizeof(evs_sink_host), .relay = "test", .id = "test", .format = "cloudevents",
	.in_flight = 64, .batch_size = 100, .batch_bytes = 1024 * 1024, .timeout_ms = 10000,
	.directory = "/nonexistent", .log = log_message, .wake = wake, .now_us = now_us,
	.secret = get_secret, .egress_allowed = egress_allowed, .set_rate = set_rate
};

/* ---- words ---- */

static void
unescape(char *word)
{
	char	   *to = word;
	unsigned	byte;

	for (; *word != '\0'; word++, to++)
		if (*word == '%' && sscanf(word + 1, "%2x", &byte) == 1)
		{
			*to = (char) byte;
			word += 2;
		}
		else
			*to = *word;
	*to = '\0';
}

/* Of "name=value" the value; the name ends there. */
static char *
split_pair(char *word)
{
	char	   *value = strchr(word, '=');

	if (value == NULL)
		die("not NAME=VALUE");
	*value++ = '\0';
	unescape(value);
	return value;
}

static int
index_of(const char *const *words, int n, const char *word)
{
	for (int i = 0; i < n; i++)
		if (strcmp(words[i], word) == 0)
			return i;
	die("unknown word");
}

/* ---- commands ---- */

/* The rest of an answer, on its line. */
static void
print_text(const char *text)
{
	for (; *text != '\0'; text++)
		putchar(*text == '\n' || *text == '\r' ? ' ' : *text);
	putchar('\n');
}

static void
set_host(char **words, int n)
{
	for (int i = 0; i < n; i++)
	{
		char	   *value = split_pair(words[i]);

		if (strcmp(words[i], "format") == 0)
			host.format = strdup(value);
		else if (strcmp(words[i], "id") == 0)
			host.id = strdup(value);
		else if (strcmp(words[i], "in_flight") == 0)
			host.in_flight = atoi(value);
		else if (strcmp(words[i], "batch_size") == 0)
			host.batch_size = atoi(value);
		else if (strcmp(words[i], "batch_bytes") == 0)
			host.batch_bytes = atoll(value);
		else if (strcmp(words[i], "timeout_ms") == 0)
			host.timeout_ms = atoi(value);
		else
			die("the host has nothing of this name");
	}
}

static void
set_setting(char **words, int n)
{
	if (n != 3 || settings.nitems == MAX_ITEMS)
		die("set NAME KIND VALUE");
	for (int i = 0; i < n; i++)
		unescape(words[i]);
	items[settings.nitems++] = (evs_sink_setting)
	{
		strdup(words[0]), strdup(words[2]), index_of(kinds, 4, words[1])
	};
}

static void
set_secret(char **words, int n)
{
	int			i = 0;

	if (n < 1)
		die("secret NAME [VALUE]");
	while (i < nsecrets && strcmp(secrets[i].name, words[0]) != 0)
		i++;
	if (i == nsecrets)
		secrets[nsecrets++].name = strdup(words[0]);
	if (n > 1)
		unescape(words[1]);
	secrets[i].value = n > 1 ? strdup(words[1]) : NULL;
}

static void
validate(void)
{
	char		error[EVS_SINK_ERROR_MAX] = "";
	int			rc;

	secrets_given = false;
	rc = sink->validate(&host, &settings, error, sizeof(error));
	secrets_given = true;
	printf("validate %d ", rc);
	print_text(error);
}

static void
open_sink(void)
{
	char		error[EVS_SINK_ERROR_MAX] = "";

	if (state != NULL)
		die("it is open");
	state = sink->open(&host, &settings, error, sizeof(error));
	printf("open %d ", state != NULL ? 0 : -1);
	print_text(error);
}

static void
add_pair(evs_sink_pair **pairs, int32_t *npairs, const char *name, const char *value)
{
	*pairs = realloc(*pairs, (*npairs + 1) * sizeof(evs_sink_pair));
	(*pairs)[(*npairs)++] = (evs_sink_pair)
	{
		strdup(name), strdup(value)
	};
}

static void
set_member(evs_sink_message *message, char *name, const char *value)
{
	if (strcmp(name, "id") == 0)
		message->id = strdup(value);
	else if (strcmp(name, "type") == 0)
		message->type = strdup(value);
	else if (strcmp(name, "key") == 0)
		message->key = strdup(value);
	else if (strcmp(name, "topic") == 0)
		message->topic = strdup(value);
	else if (strcmp(name, "source") == 0)
		message->source = strdup(value);
	else if (strcmp(name, "stream") == 0)
		message->stream = strdup(value);
	else if (strcmp(name, "time_us") == 0)
		message->time_us = atoll(value);
	else if (strcmp(name, "flags") == 0)
		message->flags = atoi(value);
	else if (strcmp(name, "content_type") == 0)
		message->content_type = strdup(value);
	else if (strcmp(name, "data") == 0)
	{
		message->data = strdup(value);
		message->length = strlen(value);
	}
	else if (strcmp(name, "size") == 0)
	{
		message->length = atoll(value);
		message->data = memset(malloc(message->length + 1), 'x', message->length);
	}
	else if (strncmp(name, "a.", 2) == 0)
		add_pair((evs_sink_pair **) &message->attributes, &message->nattributes, name + 2, value);
	else if (strncmp(name, "h.", 2) == 0)
		add_pair((evs_sink_pair **) &message->headers, &message->nheaders, name + 2, value);
	else
		die("a message has nothing of this name");
}

/* What messages point to stays until the end; sink_harness looks at who uses it too long. */
static void
add_message(char **words, int n)
{
	evs_sink_message *message;

	batch = realloc(batch, (nbatch + 1) * sizeof(*batch));
	memset(&batch[nbatch], 0, sizeof(*batch));
	memset(batch[nbatch].later, 0x5A, sizeof(batch->later));
	message = &batch[nbatch++].message;
	message->size = sizeof(*batch);
	message->cookie = next_cookie++;
	message->position = (int64_t) message->cookie;
	message->version = 1;
	message->attempt = 1;
	message->id = "00000000-0000-4000-8000-000000000000";
	message->type = "T";
	message->source = "/test";
	message->stream = "s-1";
	message->topic = "";
	for (int i = 0; i < n; i++)
	{
		char	   *value = split_pair(words[i]);

		unescape(words[i]);
		set_member(message, words[i], value);
	}
}

static void
submit(void)
{
	printf("submit %d\n", sink->submit(state, &batch->message, nbatch));
	batch = NULL;
	nbatch = 0;
}

static void
wait_for(int n)
{
	int64_t		end = now_us(NULL) + 60 * 1000000;

	while (n > 0)
	{
		struct pollfd fd = {.fd = -1};
		evs_sink_result results[16];
		int			timeout_ms;
		int			got = sink->progress(state, results, n < 16 ? n : 16);

		for (int i = 0; i < got; i++)
		{
			printf("result %llu %s %d %lld ", (unsigned long long) results[i].cookie,
				   classes[results[i].result], results[i].code,
				   (long long) results[i].retry_after_ms);
			print_text(results[i].detail);
		}
		n -= got;
		if (n == 0 || got > 0)
			continue;
		if (now_us(NULL) > end)
			die("no result for a minute");
		fd.fd = sink->wait_fd(state, &fd.events, &timeout_ms);
		poll(&fd, 1, timeout_ms < 0 || timeout_ms > 1000 ? 1000 : timeout_ms);
	}
	printf("wait\n");
}

static void
destroy(void)
{
	int64_t		start = now_us(NULL);

	sink->destroy(state);
	state = NULL;
	printf("destroy %lld\n", (long long) (now_us(NULL) - start) / 1000);
}

static void
command(const char *name, char **words, int n)
{
	if (strcmp(name, "validate") == 0)
		validate();
	else if (strcmp(name, "open") == 0)
		open_sink();
	else if (state == NULL && (strcmp(name, "submit") == 0 || strcmp(name, "wait") == 0 || strcmp(name, "destroy") == 0))
		die("it is not open");
	else if (strcmp(name, "submit") == 0)
		submit();
	else if (strcmp(name, "wait") == 0 && n == 1)
		wait_for(atoi(words[0]));
	else if (strcmp(name, "destroy") == 0)
		destroy();
	else if (strcmp(name, "egress") == 0)
	{
		printf("%segress\n", asked);
		asked[0] = '\0';
	}
	else if (strcmp(name, "rate") == 0)
		printf("rate %g\n", rate);
	else
	{
		if (strcmp(name, "host") == 0)
			set_host(words, n);
		else if (strcmp(name, "set") == 0)
			set_setting(words, n);
		else if (strcmp(name, "unset") == 0)
			settings.nitems = 0;
		else if (strcmp(name, "secret") == 0)
			set_secret(words, n);
		else if (strcmp(name, "deny") == 0 && n == 1 && ndenied < MAX_ITEMS)
			denied[ndenied++] = strdup(words[0]);
		else if (strcmp(name, "permit") == 0)
			ndenied = 0;
		else if (strcmp(name, "message") == 0)
			add_message(words, n);
		else
			die("unknown command");
		printf("%s\n", name);
	}
}

static void
load(const char *path)
{
	void	   *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const evs_sink *(*init) (uint32_t);

	if (library == NULL)
		die(dlerror());
	*(void **) &init = dlsym(library, "evs_sink_init");
	if (init == NULL || (sink = init(EVS_SINK_ABI)) == NULL)
		die("this is no sink module");
	/* As a server does. */
	signal(SIGPIPE, SIG_IGN);
}

int
main(int argc, char **argv)
{
	static char line[LINE_SIZE];

	if (argc != 2)
		die("usage: sink_send MODULE.so");
	load(argv[1]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		char	   *words[MAX_WORDS];
		int			n = 0;

		for (char *word = strtok(line, " \n"); word != NULL && n < MAX_WORDS; word = strtok(NULL, " \n"))
			words[n++] = word;
		if (n > 0)
			command(words[0], words + 1, n - 1);
	}
	return 0;
}
