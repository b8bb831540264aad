/*
 * evstore_sink_double.c
 *	  A sink for tests of hosts, the relays and the harness: does what it is told,
 *	  and misbehaves if asked to.  Never installed.
 *
 * It is built twice: evstore_sink_double.so has CAP_PIPELINE, CAP_BATCH and
 * CAP_RESUMES, evstore_sink_gated.so has none of them.
 *
 * Settings, all optional:
 *
 *	script		What becomes of messages: entries "WHICH:CLASS" or "WHICH:CLASS*N",
 *				with commas between.  WHICH is a position, or "key=" and a key, or "all".
 *				CLASS is ok, duplicate, retry, permanent, fatal, or outage: that is
 *				RETRY_SINK for this message and all that are in flight with it.  N times
 *				(1), or always with "*0"; then the next entry for the message counts.
 *				A message no entry is for is OK.
 *	delay		ms from submit() to the result (0)
 *	retry_after	retry_after_ms of results that are not OK (-1)
 *	code		code of results that are not OK (500)
 *	accept		submit() accepts so many at most (all)
 *	never		messages whose keys begin like this have no result at all
 *	order		"submitted" (default), or "reversed": the results of what is due
 *	misbehave	"WHAT@POSITION": at the result of the message at this position, once.
 *				WHAT is one of
 *				results: lost (none), twice, unknown (one more, of a cookie that was
 *				never used), class (one that is none), return (RETURNED), silent (no
 *				detail), tell (a secret in the detail);
 *				memory: touch (reads data after its result), write (into the message);
 *				the process: log (a secret), thread, signal (a handler), block (a
 *				signal), chdir, umask, block_call (100 ms in progress()), crash (SIGSEGV)
 *	returns		true: after a RETRY or PERMANENT of a message in order, those in order
 *				that are in flight are RETURNED; false: they had gone out already
 *	leak		true: destroy() leaves a descriptor open
 *	spin		true: wait_fd() always says that there is something to do
 *	record		a file below the host's directory; for each message that is OK a line
 *				"position attempt flags key topic length id" is appended
 *	resume		position that resume() says (0)
 *	resume_later	resume() says "not yet" so many times first (0)
 *	secret		name of a secret; its value is recorded as "secret VALUE" at each change
 *	fail_open	text of the error with which open() fails
 *	rate		set_rate() is called with this
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "evstore_sink.h"

#define lengthof(array) ((int) (sizeof(array) / sizeof((array)[0])))
#define MAX_ENTRIES 100

typedef struct Entry
{
	int64_t		position;		/* -1: by key, or all */
	const char *key;			/* NULL: any */
	size_t		key_length;
	evs_sink_class class;
	int			left;			/* how often still; -1: always */
} Entry;

typedef struct Pending
{
	const evs_sink_message *message;
	uint64_t	cookie;
	int64_t		due_us;
} Pending;

typedef struct Double
{
	const evs_sink_host *host;
	const char *text;			/* of the script */
	Entry		entries[MAX_ENTRIES];
	int			nentries;
	int64_t		delay;
	int64_t		retry_after;
	int64_t		code;
	int64_t		accept;
	int64_t		resume;
	int64_t		resume_later;
	int64_t		rate;
	bool		reversed;
	bool		returns;
	bool		returning;
	bool		leak;
	bool		spin;
	bool		busy;			/* resume() said "not yet" */
	const char *misbehave;
	int64_t		misbehave_at;
	const char *kept;			/* data of a message that has its result */
	const char *record;
	FILE	   *file;
	const char *secret_name;
	const char *never;
	const char *fail_open;
	char		secret[256];
	Pending    *pending;		/* in the order of submission */
	int			npending;
	int			room;
	evs_sink_result extra;		/* a result too many */
	bool		has_extra;
} Double;

static const char *const class_names[] = {"ok", "duplicate", "retry", "outage", "permanent", "fatal"};
static const char *const misdeeds[] = {"lost", "twice", "unknown", "class", "return", "silent", "tell",
	"touch", "write", "log", "thread", "signal", "block", "chdir", "umask", "block_call", "crash"};

/* ---- settings ---- */

/* WHICH:CLASS or WHICH:CLASS*N; returns whether it is one. */
static bool
parse_entry(const char *text, size_t length, Entry *entry)
{
	const char *end = text + length;
	const char *colon = memchr(text, ':', length);
	char	   *after;

	*entry = (Entry) {-1, NULL, 0, EVS_SINK_OK, 1};
	if (colon == NULL)
		return false;
	if (length > 4 && strncmp(text, "key=", 4) == 0)
	{
		entry->key = text + 4;
		entry->key_length = colon - entry->key;
	}
	else if (colon - text != 3 || strncmp(text, "all", 3) != 0)
	{
		entry->position = strtoll(text, &after, 10);
		if (after != colon)
			return false;
	}
	for (int i = 0; i < lengthof(class_names); i++)
	{
		size_t		n = strlen(class_names[i]);

		if ((size_t) (end - colon - 1) < n || strncmp(colon + 1, class_names[i], n) != 0)
			continue;
		entry->class = i;
		after = (char *) colon + 1 + n;
		if (after < end && *after == '*')
		{
			entry->left = strtol(after + 1, &after, 10);
			if (entry->left == 0)
				entry->left = -1;
		}
		return after == end;
	}
	return false;
}

static bool
parse_script(Double *sink, const char *text)
{
	while (*text != '\0')
	{
		size_t		length = strcspn(text, ",");

		if (sink->nentries == MAX_ENTRIES ||
			!parse_entry(text, length, &sink->entries[sink->nentries]))
			return false;
		sink->nentries++;
		text += length + (text[length] == ',');
	}
	return true;
}

static bool
parse_misbehave(Double *sink, const char *text)
{
	size_t		length = strcspn(text, "@");

	for (int i = 0; i < lengthof(misdeeds); i++)
		if (strlen(misdeeds[i]) == length && strncmp(misdeeds[i], text, length) == 0)
			sink->misbehave = misdeeds[i];
	if (sink->misbehave == NULL || text[length] == '\0')
		return false;
	sink->misbehave_at = atoll(text + length + 1);
	return true;
}

/* Returns false if the setting does not exist, or is none of that kind. */
static bool
set(Double *sink, const evs_sink_setting *setting)
{
	const char *name = setting->name;
	const char *value = setting->value;
	struct
	{
		const char *name;
		int64_t    *value;
	}			numbers[] = {
		{"delay", &sink->delay}, {"retry_after", &sink->retry_after}, {"code", &sink->code},
		{"accept", &sink->accept}, {"resume", &sink->resume},
		{"resume_later", &sink->resume_later}, {"rate", &sink->rate}
	};
	struct
	{
		const char *name;
		bool	   *value;
	}			flags[] = {
		{"leak", &sink->leak}, {"spin", &sink->spin}, {"returns", &sink->returns}
	};

	for (int i = 0; i < lengthof(numbers); i++)
		if (strcmp(numbers[i].name, name) == 0)
		{
			*numbers[i].value = atoll(value);
			return setting->kind == EVS_SINK_SETTING_NUMBER;
		}
	for (int i = 0; i < lengthof(flags); i++)
		if (strcmp(flags[i].name, name) == 0)
		{
			*flags[i].value = strcmp(value, "true") == 0;
			return setting->kind == EVS_SINK_SETTING_BOOLEAN;
		}
	if (strcmp(name, "script") == 0)
		return parse_script(sink, sink->text = value);
	if (strcmp(name, "misbehave") == 0)
		return parse_misbehave(sink, value);
	if (strcmp(name, "order") == 0)
		return (sink->reversed = strcmp(value, "reversed") == 0) || strcmp(value, "submitted") == 0;
	if (strcmp(name, "record") == 0)
		return *(sink->record = value) != '\0' && strchr(value, '/') == NULL;
	if (strcmp(name, "never") == 0)
		return *(sink->never = value) != '\0';
	if (strcmp(name, "fail_open") == 0)
		return *(sink->fail_open = value) != '\0';
	if (strcmp(name, "secret") == 0)
		return (sink->secret_name = value) != NULL && setting->kind == EVS_SINK_SETTING_SECRET;
	return false;
}

static int
read_settings(Double *sink, const evs_sink_settings *settings, char *error, size_t size)
{
	*sink = (Double) {.retry_after = -1, .code = 500};
	for (int i = 0; i < settings->nitems; i++)
		if (!set(sink, &settings->items[i]))
		{
			snprintf(error, size, "setting \"%s\" is not known, or not possible",
					 settings->items[i].name);
			return -1;
		}
	return 0;
}

static int
double_validate(const evs_sink_host *host, const evs_sink_settings *settings, char *error,
				size_t size)
{
	Double		sink;

	(void) host;
	return read_settings(&sink, settings, error, size);
}

static void
double_destroy(void *state)
{
	Double	   *sink = state;

	if (sink->leak)
		dup(STDERR_FILENO);
	if (sink->file != NULL)
		fclose(sink->file);
	free(sink->pending);
	free(sink);
}

static bool
open_record(Double *sink)
{
	char		path[4096];

	if (sink->record == NULL)
		return true;
	snprintf(path, sizeof(path), "%s/%s", sink->host->directory, sink->record);
	sink->file = fopen(path, "ae");
	return sink->file != NULL;
}

static void *
double_open(const evs_sink_host *host, const evs_sink_settings *settings, char *error,
			size_t size)
{
	Double	   *sink = malloc(sizeof(*sink));

	if (sink == NULL || read_settings(sink, settings, error, size) != 0)
	{
		free(sink);
		return NULL;
	}
	sink->host = host;
	if (sink->fail_open != NULL || !open_record(sink))
	{
		snprintf(error, size, "%s",
				 sink->fail_open != NULL ? sink->fail_open : strerror(errno));
		double_destroy(sink);
		return NULL;
	}
	if (sink->rate > 0)
		host->set_rate(host->ctx, sink->rate);
	return sink;
}

/* ---- messages ---- */

#ifndef GATED
static int
double_resume(void *state, int64_t *position, char *error, size_t size)
{
	Double	   *sink = state;

	(void) error;
	(void) size;
	*position = sink->resume;
	sink->busy = sink->resume_later > 0;
	if (sink->busy)
		sink->resume_later--;
	return !sink->busy;
}
#endif

static int
double_submit(void *state, const evs_sink_message *messages, int n)
{
	Double	   *sink = state;
	int64_t		now = sink->host->now_us(sink->host->ctx);

	if (sink->accept > 0 && n > sink->accept)
		n = sink->accept;
	if (sink->npending + n > sink->room)
	{
		Pending    *larger = realloc(sink->pending, (sink->npending + n) * 2 * sizeof(Pending));

		if (larger == NULL)
			return 0;
		sink->pending = larger;
		sink->room = (sink->npending + n) * 2;
	}
	for (int i = 0; i < n; i++)
		if (sink->never == NULL || messages[i].key == NULL ||
			strncmp(messages[i].key, sink->never, strlen(sink->never)) != 0)
			sink->pending[sink->npending++] =
				(Pending) {&messages[i], messages[i].cookie, now + sink->delay * 1000};
	return n;
}

static int
double_wait_fd(void *state, short *events, int *timeout_ms)
{
	Double	   *sink = state;
	int64_t		left;

	*events = 0;
	*timeout_ms = sink->busy || sink->spin ? 0 : -1;
	if (sink->npending > 0 && !sink->spin)
	{
		left = sink->pending[0].due_us - sink->host->now_us(sink->host->ctx);
		*timeout_ms = left > 0 ? left / 1000 + 1 : 0;
	}
	return -1;
}

static evs_sink_class
decide(Double *sink, const evs_sink_message *message)
{
	for (int i = 0; i < sink->nentries; i++)
	{
		Entry	   *entry = &sink->entries[i];

		if (entry->left == 0 || (entry->position >= 0 && entry->position != message->position))
			continue;
		if (entry->key != NULL &&
			(message->key == NULL || strlen(message->key) != entry->key_length ||
			 memcmp(message->key, entry->key, entry->key_length) != 0))
			continue;
		if (entry->left > 0)
			entry->left--;
		return entry->class;
	}
	return EVS_SINK_OK;
}

/* Returns whether it is another than before. */
static bool
read_secret(Double *sink)
{
	char		value[256];
	int			length;

	if (sink->secret_name == NULL)
		return false;
	length = sink->host->secret(sink->host->ctx, sink->secret_name, value, sizeof(value));
	if (length < 0 || length >= (int) sizeof(value) || strcmp(value, sink->secret) == 0)
		return false;
	strcpy(sink->secret, value);
	return true;
}

static void
record(Double *sink, const evs_sink_message *message)
{
	if (sink->file == NULL)
		return;
	if (read_secret(sink))
		fprintf(sink->file, "secret %s\n", sink->secret);
	fprintf(sink->file, "%lld %d %u %s %s %zu %s\n", (long long) message->position,
			message->attempt, message->flags, message->key != NULL ? message->key : "-",
			message->topic, message->length, message->id);
	fflush(sink->file);
}

static void
set_result(Double *sink, evs_sink_result *result, uint64_t cookie, evs_sink_class class)
{
	bool		good = class == EVS_SINK_OK || class == EVS_SINK_DUPLICATE;

	result->cookie = cookie;
	result->result = class;
	result->code = good ? 0 : sink->code;
	result->retry_after_ms = good ? -1 : sink->retry_after;
	snprintf(result->detail, sizeof(result->detail), "%s", good ? "" : "as the script says");
}

static void *
rest(void *unused)
{
	pause();
	return unused;
}

static void
on_signal(int signo)
{
	(void) signo;
}

/* What concerns the host's process. */
static void
disturb(Double *sink, const char *what)
{
	pthread_t	thread;
	sigset_t	signals;

	if (strcmp(what, "thread") == 0)
		pthread_create(&thread, NULL, rest, NULL);
	else if (strcmp(what, "signal") == 0)
		signal(SIGUSR1, on_signal);
	else if (strcmp(what, "block") == 0)
	{
		sigemptyset(&signals);
		sigaddset(&signals, SIGUSR1);
		sigprocmask(SIG_BLOCK, &signals, NULL);
	}
	else if (strcmp(what, "chdir") == 0 && chdir("/") != 0)
		raise(SIGABRT);
	else if (strcmp(what, "umask") == 0)
		umask(0);
	else if (strcmp(what, "block_call") == 0)
		poll(NULL, 0, 100);
	else if (strcmp(what, "crash") == 0)
		raise(SIGSEGV);
	else if (strcmp(what, "log") == 0)
		sink->host->log(sink->host->ctx, EVS_SINK_LOG_INFO, sink->secret);
}

/* Returns whether there is a result at all. */
static bool
misbehave(Double *sink, const evs_sink_message *message, evs_sink_result *result)
{
	const char *what = sink->misbehave;

	sink->misbehave = NULL;
	read_secret(sink);
	disturb(sink, what);
	if (strcmp(what, "touch") == 0)
		sink->kept = message->data;
	else if (strcmp(what, "write") == 0)
		memset((char *) message->data, '!', 1);
	else if (strcmp(what, "class") == 0)
		result->result = (evs_sink_class) 99;
	else if (strcmp(what, "return") == 0)
		result->result = EVS_SINK_RETURNED;
	else if (strcmp(what, "silent") == 0)
		result->detail[0] = '\0';
	else if (strcmp(what, "tell") == 0)
		snprintf(result->detail, sizeof(result->detail), "with %.200s", sink->secret);
	sink->extra = *result;
	if (strcmp(what, "unknown") == 0)
		sink->extra.cookie = UINT64_MAX;
	sink->has_extra = strcmp(what, "twice") == 0 || strcmp(what, "unknown") == 0;
	return strcmp(what, "lost") != 0;
}

static void
remove_pending(Double *sink, int i)
{
	sink->npending--;
	memmove(&sink->pending[i], &sink->pending[i + 1],
			(sink->npending - i) * sizeof(sink->pending[0]));
}

/* The connection is lost: all that is in flight gets this. */
static void
begin_outage(Double *sink)
{
	for (int i = 0; i < sink->npending; i++)
		sink->pending[i].message = NULL;
}

/* Returns whether the message has a result. */
static bool
finish(Double *sink, Pending *pending, evs_sink_result *result)
{
	const evs_sink_message *message = pending->message;
	bool		misbehaves = sink->misbehave != NULL && message != NULL &&
		message->position == sink->misbehave_at;
	bool		in_order = message != NULL && !(message->flags & EVS_SINK_MESSAGE_REPLAY);
	evs_sink_class class = EVS_SINK_RETRY_SINK;

	if (in_order && sink->returning)
		class = EVS_SINK_RETURNED;
	else if (message != NULL)
		class = decide(sink, message);
	set_result(sink, result, pending->cookie, class);
	if (message == NULL)
		return true;
	if (sink->returns && in_order && (class == EVS_SINK_RETRY || class == EVS_SINK_PERMANENT))
		sink->returning = true;
	if (class == EVS_SINK_OK)
		record(sink, message);
	if (class == EVS_SINK_RETRY_SINK)
		begin_outage(sink);
	return !misbehaves || misbehave(sink, message, result);
}

/* Reads what is the host's again. */
static void
touch(Double *sink)
{
	static volatile char byte;

	byte = *sink->kept;
	sink->kept = NULL;
	(void) byte;
}

static int
double_progress(void *state, evs_sink_result *results, int max)
{
	Double	   *sink = state;
	int64_t		now = sink->host->now_us(sink->host->ctx);
	int			ndue = 0;
	int			n = 0;

	if (sink->kept != NULL)
		touch(sink);
	if (sink->has_extra && max > 0)
	{
		results[n++] = sink->extra;
		sink->has_extra = false;
	}
	while (ndue < sink->npending && sink->pending[ndue].due_us <= now)
		ndue++;
	while (ndue > 0 && n < max)
	{
		int			i = sink->reversed ? --ndue : 0;
		Pending		pending = sink->pending[i];

		if (!sink->reversed)
			ndue--;
		remove_pending(sink, i);
		n += finish(sink, &pending, &results[n]);
	}
	if (sink->npending == 0)
		sink->returning = false;
	return n;
}

static const evs_sink double_sink = {
	.abi = EVS_SINK_ABI,
	.size = sizeof(evs_sink),
	.description = "a double for tests",
#ifdef GATED
	.name = "gated",
#else
	.name = "double",
	.caps = EVS_SINK_CAP_PIPELINE | EVS_SINK_CAP_BATCH | EVS_SINK_CAP_RESUMES,
	.resume = double_resume,
#endif
	.validate = double_validate,
	.open = double_open,
	.submit = double_submit,
	.wait_fd = double_wait_fd,
	.progress = double_progress,
	.destroy = double_destroy
};

EVS_SINK_EXPORT const evs_sink *
evs_sink_init(uint32_t host_abi)
{
	return host_abi == EVS_SINK_ABI ? &double_sink : NULL;
}
