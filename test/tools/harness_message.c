/*
 * harness_message.c
 *	  The messages that sink_harness sends, and the memory they are in.
 *
 * Message number i is always the same, so what a receiver has got can be
 * compared.  Its memory has pages of its own.  When its result is there, the
 * pages are compared with what was written, in case the module has, and lose
 * all access rights: a module that still uses them gets a signal, which is
 * reported as a violation.  The last ones stay so for a while.  With --bench
 * memory is malloc's.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

#define QUARANTINE 4096
#define HUGE_SIZE (16 * 1024 * 1024)

/* With --edge the first messages are unusual ones. */
enum
{
	EDGE_EMPTY,
	EDGE_NULL,
	EDGE_HUGE,
	EDGE_NO_KEY,
	EDGE_UNICODE,
	EDGE_LONG_NAME,
	EDGE_HEADERS,
	NEDGES
};

static const char unicode[] = "k\xc3\xa9y/\xf0\x9f\x92\xa1 %\\\"#?&=";

static struct
{
	void	   *memory;
	size_t		size;
}			quarantine[QUARANTINE];
static int64_t nquarantined;
static size_t page_size;

static void
report_use(int signo, siginfo_t *info, void *context)
{
	static const char text[] = "violation=a message was used after its result\nviolations=1\n";
	static const char crash[] = "violation=the module has crashed\n";
	char	   *address = info->si_addr;

	(void) context;
	for (int i = 0; i < QUARANTINE; i++)
	{
		char	   *start = quarantine[i].memory;

		if (start != NULL && address >= start && address < start + quarantine[i].size)
		{
			if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0)
				_exit(2);
			_exit(1);
		}
	}
	if (write(STDOUT_FILENO, crash, sizeof(crash) - 1) < 0)
		_exit(2);
	signal(signo, SIG_DFL);
	raise(signo);
}

void
message_init(void)
{
	struct sigaction action = {.sa_sigaction = report_use, .sa_flags = SA_SIGINFO};

	page_size = sysconf(_SC_PAGESIZE);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

static void *
take_memory(size_t *size)
{
	void	   *memory;

	if (opt.bench)
		return allocate(*size);
	*size = (*size + page_size - 1) / page_size * page_size;
	memory = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		die("out of memory");
	return memory;
}

static void
give_memory(void *memory, size_t size)
{
	int			i = nquarantined % QUARANTINE;

	if (opt.bench)
	{
		free(memory);
		return;
	}
	if (quarantine[i].memory != NULL)
		munmap(quarantine[i].memory, quarantine[i].size);
	/* The pages themselves are given back at once. */
	if (madvise(memory, size, MADV_DONTNEED) != 0 || mprotect(memory, size, PROT_NONE) != 0)
		die("mprotect: %s", strerror(errno));
	quarantine[i].memory = memory;
	quarantine[i].size = size;
	nquarantined++;
}

static uint64_t
checksum(const void *memory, size_t size)
{
	const uint64_t *words = memory;
	uint64_t	sum = 14695981039346656037ull;

	for (size_t i = 0; i < size / sizeof(*words); i++)
		sum = (sum ^ words[i]) * 1099511628211ull;
	return sum;
}

/* ---- what is in message number index ---- */

/* --test comes first, the others are counted from 0; then the replayed ones. */
static bool
is_test(int64_t index)
{
	return opt.test && index == 0;
}

static int64_t
number(int64_t index)
{
	return (index - opt.test) % opt.messages;
}

static bool
is_replay(int64_t index)
{
	return index - opt.test >= opt.messages;
}

static int
edge(int64_t index)
{
	return opt.edge && !is_test(index) && number(index) < NEDGES ? number(index) : -1;
}

int64_t
message_position(int64_t index)
{
	return is_test(index) ? 0 : opt.first + number(index) * opt.step;
}

int64_t
message_key(int64_t index)
{
	if (opt.keys == 0 || is_test(index) || edge(index) == EDGE_NO_KEY)
		return -1;
	return number(index) % opt.keys;
}

static bool
is_structured(void)
{
	return strncmp(opt.format, "cloudevents", 11) == 0 &&
		strcmp(opt.format, "cloudevents-binary") != 0;
}

/* Bytes of filling in the payload. */
static size_t
fill_length(int64_t index)
{
	return edge(index) == EDGE_HUGE ? HUGE_SIZE : (size_t) opt.size;
}

/* An estimate from above: what goes before the filling is less than this. */
#define ROOM_FOR_TEXT 8192

size_t
message_length(int64_t index)
{
	return fill_length(index) + 512;
}

/* A cursor through the memory of a message. */
typedef struct Writer
{
	char	   *at;
	char	   *end;
} Writer;

static char *put(Writer *writer, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A string with its zero byte. */
static char *
put(Writer *writer, const char *format, ...)
{
	va_list		args;
	char	   *start = writer->at;
	int			length;

	va_start(args, format);
	length = vsnprintf(start, writer->end - start, format, args);
	va_end(args);
	if (length < 0 || length >= writer->end - start)
		die("a message does not fit");
	writer->at += length + 1;
	return start;
}

/* Nothing but the text, so that the next put() continues it. */
#define PUT(writer, ...) (put(writer, __VA_ARGS__), (writer)->at--)

static void *
put_aligned(Writer *writer, size_t size)
{
	char	   *start = (char *) (((uintptr_t) writer->at + 15) & ~(uintptr_t) 15);

	if (start + size > writer->end)
		die("a message does not fit");
	writer->at = start + size;
	return start;
}

static void
put_payload(Writer *writer, int64_t index)
{
	size_t		fill = fill_length(index);

	/* A "sequence" of the application's is not ours. */
	PUT(writer, "{\"n\":%lld,\"sequence\":\"99999999999999999999\",\"fill\":\"",
		(long long) number(index));
	memset(writer->at, 'a' + index % 26, fill);
	if (opt.line_feed > 0 && fill > 0 && number(index) + 1 == opt.line_feed)
		*writer->at = '\n';
	writer->at += fill;
	PUT(writer, "\"}");
}

static void
put_event(Writer *writer, const evs_sink_message *message, int64_t index, const char *time)
{
	bool		empty = edge(index) == EDGE_EMPTY || edge(index) == EDGE_NULL;

	PUT(writer, "{\"specversion\":\"1.0\",\"id\":\"%s\",\"source\":\"%s\",\"type\":\"%s\","
		"\"time\":\"%s\",\"sequence\":\"%020lld\"", message->id, message->source, message->type,
		time, (long long) message->position);
	if (!empty)
	{
		PUT(writer, ",\"datacontenttype\":\"application/json\",\"data\":");
		put_payload(writer, index);
	}
	PUT(writer, "}");
}

static void
put_attributes(Writer *writer, evs_sink_message *message, const char *time)
{
	evs_sink_pair *pairs = put_aligned(writer, 8 * sizeof(*pairs));
	int			n = 0;

	pairs[n++] = (evs_sink_pair) {"specversion", "1.0"};
	pairs[n++] = (evs_sink_pair) {"id", message->id};
	pairs[n++] = (evs_sink_pair) {"source", message->source};
	pairs[n++] = (evs_sink_pair) {"type", message->type};
	pairs[n++] = (evs_sink_pair) {"time", time};
	pairs[n++] = (evs_sink_pair) {"subject", message->stream};
	pairs[n++] = (evs_sink_pair) {"sequence", put(writer, "%020lld", (long long) message->position)};
	if (message->key != NULL)
		pairs[n++] = (evs_sink_pair) {"partitionkey", message->key};
	message->attributes = pairs;
	message->nattributes = n;
}

static void
put_headers(Writer *writer, evs_sink_message *message, int64_t index)
{
	int			n = edge(index) == EDGE_HEADERS ? 50 : opt.headers;
	evs_sink_pair *pairs = put_aligned(writer, n * sizeof(*pairs));

	for (int i = 0; i < n; i++)
	{
		pairs[i].name = put(writer, "x-header-%d", i);
		pairs[i].value = edge(index) == EDGE_HEADERS ? unicode : put(writer, "value %d", i);
	}
	message->headers = pairs;
	message->nheaders = n;
}

static void
put_names(Writer *writer, evs_sink_message *message, int64_t index)
{
	int64_t		key = message_key(index);
	const char *sign = strstr(opt.topic, "{key}");

	message->id = put(writer, "%08llx-0000-7000-8000-%012llx",
					  (unsigned long long) (uint32_t) message->position,
					  (unsigned long long) message->position);
	message->type = put(writer, is_test(index) ? "Test" : "HarnessEvent");
	message->source = put(writer, "/evstore/harness");
	if (key < 0)
		message->stream = put(writer, "stream");
	else if (edge(index) == EDGE_UNICODE)
		message->stream = message->key = put(writer, "%s", unicode);
	else if (edge(index) == EDGE_LONG_NAME)
		message->stream = message->key = put(writer, "key-%0990d", 7);
	else
		message->stream = message->key = put(writer, "key-%lld", (long long) key);
	message->topic = sign == NULL ? put(writer, "%s", opt.topic) :
		put(writer, "%.*s%s%s", (int) (sign - opt.topic), opt.topic,
			message->key != NULL ? message->key : "", sign + 5);
}

static void
put_data(Writer *writer, evs_sink_message *message, int64_t index)
{
	time_t		seconds = message->time_us / 1000000;
	struct tm	tm;
	char		time[64];
	const char *start;

	strftime(time, sizeof(time), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &tm));
	if (strcmp(opt.format, "cloudevents-binary") == 0)
		put_attributes(writer, message, put(writer, "%s", time));
	if (!is_structured() && edge(index) == EDGE_NULL)
		return;
	start = writer->at;
	if (is_structured())
		put_event(writer, message, index, time);
	else if (edge(index) != EDGE_EMPTY)
		put_payload(writer, index);
	message->data = start;
	message->length = writer->at - start;
	/* Data does not end with a zero byte. */
	*writer->at++ = '!';
	message->content_type = is_structured() ? "application/cloudevents+json" : "application/json";
}

/* ---- batches ---- */

HarnessBatch *
batch_create(int n)
{
	HarnessBatch *batch = allocate(sizeof(*batch) + n * sizeof(batch->parts[0]));

	batch->size = n * sizeof(evs_sink_message);
	batch->messages = take_memory(&batch->size);
	batch->n = batch->left = n;
	return batch;
}

void
batch_set(HarnessBatch *batch, int i, int64_t index, int attempt, bool again, uint64_t cookie)
{
	evs_sink_message *message = &batch->messages[i];
	size_t		size = fill_length(index) + ROOM_FOR_TEXT;
	Writer		writer;

	batch->parts[i].memory = writer.at = take_memory(&size);
	batch->parts[i].size = size;
	writer.end = writer.at + size;
	*message = (evs_sink_message)
	{
		.size = sizeof(*message),
		.flags = (again || is_replay(index) ? EVS_SINK_MESSAGE_REPLAY : 0) |
		(is_test(index) ? EVS_SINK_MESSAGE_TEST : 0),
		.cookie = cookie,
		.position = message_position(index),
		.version = number(index),
		.time_us = 1700000000000000 + number(index),
		.attempt = attempt
	};
	put_names(&writer, message, index);
	put_headers(&writer, message, index);
	put_data(&writer, message, index);
	batch->parts[i].checksum = opt.bench ? 0 : checksum(writer.end - size, size);
}

void
batch_release(HarnessBatch *batch, int i)
{
	void	   *memory = batch->parts[i].memory;
	size_t		size = batch->parts[i].size;

	if (!opt.bench && checksum(memory, size) != batch->parts[i].checksum)
		violation("the module has written into a message");
	give_memory(memory, size);
	memset(&batch->messages[i], 0xDB, sizeof(batch->messages[i]));
	if (--batch->left > 0)
		return;
	give_memory(batch->messages, batch->size);
	free(batch);
}

void
batch_cut(HarnessBatch *batch, int n)
{
	int			all = batch->n;

	batch->n = n;
	for (int i = n; i < all; i++)
		batch_release(batch, i);
}
