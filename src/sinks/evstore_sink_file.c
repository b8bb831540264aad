/*
 * evstore_sink_file.c
 *	  A sink that appends messages to files, one a line (NDJSON).
 *
 * docs/reference/sink-file.md has the settings and what they promise.  Everything
 * happens in progress(): what is waiting is written with one write() and one
 * fdatasync() a file, and then has its results.  When a file cannot be written,
 * that is an outage for all that wait, and nothing of what was to be written
 * stays in the file.  So the lines in a file are in the order of submission.
 *
 * file_log.c writes, file_state.c knows what resume() may say, file_rotate.c
 * rotates, file_line.c looks at what is in a file, file_path.c at names.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "sink_util.h"

/* With {topic}: files that are open at the same time. */
#define MAX_FILES 64

/* The line of a message without data. */
#define NO_DATA "null"

typedef struct Entry
{
	const evs_sink_message *message;	/* NULL once there is a result */
	uint64_t	cookie;
	evs_sink_class result;
	int			code;
	const char *detail;
} Entry;

typedef struct Sink
{
	const evs_sink_host *host;
	EvsFileOptions options;
	EvsFile    *files[MAX_FILES];
	int			nfiles;
	uint64_t	uses;
	Entry	   *queue;			/* in the order of submission */
	int			head;			/* the first that was not returned */
	int			done;			/* those before have a result */
	int			tail;
	int			room;
	bool		returning;		/* see refuse_unfit() */
	evs_sink_buffer buffer;		/* the lines that are written next */
	char		error[EVS_SINK_ERROR_MAX];	/* of the last outage */
} Sink;

/* ---- settings ---- */

static const char *const setting_names[] = {"path", "fsync", "mode", "rotate_bytes",
"rotate_seconds", "keep", NULL};

static int
read_path(const evs_sink_settings *settings, EvsFileOptions *options, char *error, size_t size)
{
	const evs_sink_setting *path = evs_sink_find(settings, "path");

	if (path == NULL || path->kind != EVS_SINK_SETTING_STRING)
	{
		snprintf(error, size, "setting \"path\" is needed, a text");
		return -1;
	}
	options->path = path->value;
	options->has_topic = strstr(path->value, "{topic}") != NULL;
	return evs_file_check_path(path->value, error, size);
}

/* Three octal digits, or four; the owner has to read and write. */
static int
read_mode(const evs_sink_settings *settings, EvsFileOptions *options, char *error, size_t size)
{
	const evs_sink_setting *mode = evs_sink_find(settings, "mode");
	char	   *end;
	long		value;

	options->mode = 0600;
	if (mode == NULL)
		return 0;
	value = strtol(mode->value, &end, 8);
	if (mode->kind == EVS_SINK_SETTING_STRING && strspn(mode->value, "01234567") >= 3 &&
		*end == '\0' && value <= 0777 && (value & 0600) == 0600)
	{
		options->mode = value;
		return 0;
	}
	snprintf(error, size, "setting \"mode\" must be an octal number such as \"0640\", "
			 "in which the owner may read and write");
	return -1;
}

static int
read_rotation(const evs_sink_settings *settings, EvsFileOptions *options, char *error, size_t size)
{
	if (evs_sink_get_int(settings, "rotate_bytes", 0, 0, INT64_MAX / 2, &options->rotate_bytes,
						 error, size) != 0 ||
		evs_sink_get_int(settings, "rotate_seconds", 0, 0, INT32_MAX, &options->rotate_seconds,
						 error, size) != 0 ||
		evs_sink_get_int(settings, "keep", 0, 0, INT32_MAX, &options->keep, error, size) != 0)
		return -1;
	if (options->keep == 0 || options->rotate_bytes > 0 || options->rotate_seconds > 0)
		return 0;
	snprintf(error, size, "setting \"keep\" needs \"rotate_bytes\" or \"rotate_seconds\"");
	return -1;
}

static int
read_settings(const evs_sink_host *host, const evs_sink_settings *settings,
			  EvsFileOptions *options, char *error, size_t size)
{
	memset(options, 0, sizeof(*options));
	options->directory = host->directory;
	options->relay = host->id;
	options->structured = strcmp(host->format, "cloudevents") == 0;
	if (!options->structured && strcmp(host->format, "raw") != 0)
	{
		snprintf(error, size, "format \"%s\" is not possible in a file: use cloudevents or raw",
				 host->format);
		return -1;
	}
	if (evs_sink_check_names(settings, setting_names, error, size) != 0 ||
		read_path(settings, options, error, size) != 0 ||
		read_mode(settings, options, error, size) != 0 ||
		evs_sink_get_bool(settings, "fsync", true, &options->fsync, error, size) != 0)
		return -1;
	return read_rotation(settings, options, error, size);
}

static int
file_validate(const evs_sink_host *host, const evs_sink_settings *settings, char *error,
			  size_t size)
{
	EvsFileOptions options;

	return read_settings(host, settings, &options, error, size);
}

/* Files are opened when they are needed: what is wrong with them is an outage. */
static void *
file_open(const evs_sink_host *host, const evs_sink_settings *settings, char *error, size_t size)
{
	Sink	   *sink = calloc(1, sizeof(*sink));

	if (sink == NULL)
	{
		snprintf(error, size, "out of memory");
		return NULL;
	}
	sink->host = host;
	if (read_settings(host, settings, &sink->options, error, size) == 0)
		return sink;
	free(sink);
	return NULL;
}

static void
file_destroy(void *state)
{
	Sink	   *sink = state;

	for (int i = 0; i < sink->nfiles; i++)
		evs_file_free(sink->files[i]);
	evs_sink_buffer_free(&sink->buffer);
	free(sink->queue);
	free(sink);
}

/* ---- files ---- */

/* A place for one more: that of the one that was not used for the longest time. */
static int
make_place(Sink *sink)
{
	int			oldest = 0;

	if (sink->nfiles < MAX_FILES)
		return sink->nfiles++;
	for (int i = 1; i < MAX_FILES; i++)
		if (sink->files[i]->used < sink->files[oldest]->used)
			oldest = i;
	evs_file_free(sink->files[oldest]);
	return oldest;
}

/* The file of a topic; it need not be open.  NULL if there is no memory. */
static EvsFile *
find_file(Sink *sink, const char *topic)
{
	char	   *path = evs_file_expand(sink->options.path, topic);
	EvsFile    *file;

	if (path == NULL)
		return NULL;
	for (int i = 0; i < sink->nfiles; i++)
		if (strcmp(sink->files[i]->path, path) == 0)
		{
			free(path);
			sink->files[i]->used = ++sink->uses;
			return sink->files[i];
		}
	file = evs_file_create(&sink->options, path);
	if (file == NULL)
	{
		free(path);
		return NULL;
	}
	file->used = ++sink->uses;
	return sink->files[make_place(sink)] = file;
}

/*
 * A file for all, durable, and with positions in it: otherwise it cannot be told
 * what is in it.
 */
static bool
can_resume(const Sink *sink)
{
	return sink->options.structured && sink->options.fsync && !sink->options.has_topic;
}

static int
file_resume(void *state, int64_t *position, char *error, size_t size)
{
	Sink	   *sink = state;
	EvsFile    *file;

	*position = 0;
	if (!can_resume(sink))
		return 1;
	file = find_file(sink, "");
	if (file == NULL || evs_file_open(file) != 0)
	{
		snprintf(error, size, "%s", file != NULL ? file->error : "out of memory");
		return -1;
	}
	*position = file->position;
	return 1;
}

/* ---- messages ---- */

static int
file_submit(void *state, const evs_sink_message *messages, int n)
{
	Sink	   *sink = state;

	if (sink->head > 0)
	{
		memmove(sink->queue, sink->queue + sink->head,
				(sink->tail - sink->head) * sizeof(Entry));
		sink->done -= sink->head;
		sink->tail -= sink->head;
		sink->head = 0;
	}
	if (sink->tail + n > sink->room)
	{
		Entry	   *larger = realloc(sink->queue, (sink->tail + n) * 2 * sizeof(Entry));

		if (larger == NULL)
			return 0;
		sink->queue = larger;
		sink->room = (sink->tail + n) * 2;
	}
	for (int i = 0; i < n; i++)
	{
		Entry	   *entry = &sink->queue[sink->tail++];

		entry->message = &messages[i];
		entry->cookie = messages[i].cookie;
	}
	return n;
}

static void
finish(Entry *entry, evs_sink_class result, int code, const char *detail)
{
	entry->message = NULL;
	entry->result = result;
	entry->code = code;
	entry->detail = detail;
}

/* Why it cannot be a line of a file; NULL: it can. */
static const char *
unfit(const Sink *sink, const evs_sink_message *message)
{
	if (sink->options.has_topic && evs_file_too_long(sink->options.path, message->topic))
		return "the topic is too long for the name of a file";
	if (message->length == 0)
		return NULL;
	if (memchr(message->data, '\n', message->length) != NULL)
		return "the data has a line feed in it";
	if (memchr(message->data, '\0', message->length) != NULL)
		return "the data has a zero byte in it";
	return NULL;
}

static bool
is_in_order(const evs_sink_message *message)
{
	return (message->flags & (EVS_SINK_MESSAGE_REPLAY | EVS_SINK_MESSAGE_TEST)) == 0;
}

/*
 * Messages that cannot be lines are refused.  What is in order and comes after one is
 * returned, for else resume() would tell of more than the host has taken note of.
 * That goes on until the host has all results.
 */
static void
refuse_unfit(Sink *sink)
{
	for (int i = sink->done; i < sink->tail; i++)
	{
		Entry	   *entry = &sink->queue[i];
		const evs_sink_message *message = entry->message;
		const char *wrong;

		if (message == NULL)
			continue;
		if (sink->returning && is_in_order(message))
		{
			finish(entry, EVS_SINK_RETURNED, 0, "a message before it was refused");
			continue;
		}
		wrong = unfit(sink, message);
		if (wrong == NULL)
			continue;
		if (is_in_order(message))
			sink->returning = true;
		finish(entry, EVS_SINK_PERMANENT, 0, wrong);
	}
}

static void
add_line(Sink *sink, const evs_sink_message *message)
{
	if (message->length > 0)
		evs_sink_add(&sink->buffer, message->data, message->length);
	else
		evs_sink_add_string(&sink->buffer, NO_DATA);
	evs_sink_add(&sink->buffer, "\n", 1);
}

/* Do lines of it, at the end, tell up to which position everything is there? */
static bool
counts(const Sink *sink, const evs_sink_message *message)
{
	return can_resume(sink) && is_in_order(message);
}

/*
 * A run: the messages from this one on, before the end, that belong to the same
 * file and count like it.  Collects their lines.
 */
typedef struct Run
{
	int			start;
	int			end;
	const char *topic;
	bool		counts;
	int64_t		first;
	int64_t		last;
} Run;

static bool
is_in_file(const Sink *sink, const Run *run, const evs_sink_message *message)
{
	return !sink->options.has_topic || strcmp(message->topic, run->topic) == 0;
}

static void
collect(Sink *sink, Run *run, int end)
{
	sink->buffer.length = 0;
	sink->buffer.failed = false;
	run->first = run->last = 0;
	for (run->end = run->start; run->end < end; run->end++)
	{
		Entry	   *entry = &sink->queue[run->end];
		const evs_sink_message *message = entry->message;

		if (message == NULL || !is_in_file(sink, run, message))
			continue;
		if (counts(sink, message) != run->counts)
			return;
		if (run->first == 0)
			run->first = message->position;
		run->last = message->position;
		add_line(sink, message);
	}
}

/* The messages of a run are in the file. */
static void
finish_run(Sink *sink, const Run *run)
{
	for (int i = run->start; i < run->end; i++)
	{
		Entry	   *entry = &sink->queue[i];

		if (entry->message != NULL && is_in_file(sink, run, entry->message))
			finish(entry, EVS_SINK_OK, 0, "");
	}
}

/*
 * A link, or a file of another kind, in place of the file is no outage, but
 * something to be looked at.
 */
static evs_sink_class
class_of_error(int code)
{
	switch (code)
	{
		case ELOOP:
		case ENOTDIR:
		case EISDIR:
		case ENXIO:
		case EINVAL:
			return EVS_SINK_FATAL;
		default:
			return EVS_SINK_RETRY_SINK;
	}
}

/* Nothing can be written: all that wait have this result. */
static void
begin_outage(Sink *sink, int code, const char *error)
{
	snprintf(sink->error, sizeof(sink->error), "%s", error);
	for (int i = sink->done; i < sink->tail; i++)
		if (sink->queue[i].message != NULL)
			finish(&sink->queue[i], class_of_error(code), code, sink->error);
}

/* Returns false if that was the beginning of an outage. */
static bool
write_run(Sink *sink, Run *run, int end)
{
	EvsFile    *file = find_file(sink, run->topic);
	int			code;

	collect(sink, run, end);
	if (file == NULL || sink->buffer.failed)
	{
		begin_outage(sink, ENOMEM, "out of memory");
		return false;
	}
	code = evs_file_append(file, sink->buffer.data, sink->buffer.length, run->first, run->last,
						   run->counts);
	if (code != 0)
		begin_outage(sink, code, file->error);
	else
		finish_run(sink, run);
	return code == 0;
}

/* Up to where is not more than a write, and a file, may have? */
static int
choose_end(const Sink *sink)
{
	size_t		max = EVS_FILE_RUN_MAX;
	size_t		bytes = 0;
	int			end = sink->done;

	if (sink->options.rotate_bytes > 0 && sink->options.rotate_bytes < (int64_t) max)
		max = sink->options.rotate_bytes;
	while (end < sink->tail)
	{
		const evs_sink_message *message = sink->queue[end].message;
		size_t		length = message != NULL ? message->length : 0;

		bytes += (length > 0 ? length : strlen(NO_DATA)) + 1;
		if (bytes > max && end > sink->done)
			break;
		end++;
	}
	return end;
}

static void
write_messages(Sink *sink)
{
	int			end;

	refuse_unfit(sink);
	end = choose_end(sink);
	for (int i = sink->done; i < end; i++)
	{
		const evs_sink_message *message = sink->queue[i].message;
		Run			run = {.start = i};

		if (message == NULL)
			continue;
		run.topic = sink->options.has_topic ? message->topic : "";
		run.counts = counts(sink, message);
		if (!write_run(sink, &run, end))
		{
			end = sink->tail;
			break;
		}
	}
	sink->done = end;
	if (sink->buffer.size > EVS_FILE_RUN_MAX)
		evs_sink_buffer_free(&sink->buffer);
}

/* Files that are due although nothing is written to them. */
static void
rotate_files(Sink *sink)
{
	for (int i = 0; i < sink->nfiles; i++)
	{
		EvsFile    *file = sink->files[i];

		if (evs_file_seconds_left(file) != 0 || evs_file_rotate(file) == 0)
			continue;
		/* The next write opens it, and tries again. */
		sink->host->log(sink->host->ctx, EVS_SINK_LOG_WARNING, file->error);
		evs_file_close(file);
	}
}

static int
file_wait_fd(void *state, short *events, int *timeout_ms)
{
	Sink	   *sink = state;

	*events = 0;
	*timeout_ms = sink->head < sink->tail ? 0 : -1;
	for (int i = 0; i < sink->nfiles; i++)
	{
		int64_t		left = evs_file_seconds_left(sink->files[i]);

		if (left > 3600)
			left = 3600;
		if (left >= 0 && (*timeout_ms < 0 || left * 1000 < *timeout_ms))
			*timeout_ms = left * 1000;
	}
	return -1;
}

static int
file_progress(void *state, evs_sink_result *results, int max)
{
	Sink	   *sink = state;
	int			n = 0;

	if (sink->head == sink->done && sink->done < sink->tail)
		write_messages(sink);
	else if (sink->head == sink->tail)
		rotate_files(sink);
	for (; n < max && sink->head < sink->done; sink->head++)
	{
		Entry	   *entry = &sink->queue[sink->head];

		evs_sink_set_result(&results[n++], entry->cookie, entry->result, entry->code,
							entry->detail);
	}
	if (sink->head == sink->tail)
		sink->returning = false;
	return n;
}

static const evs_sink file_sink = {
	.abi = EVS_SINK_ABI,
	.size = sizeof(evs_sink),
	.name = "file",
	.description = "appends lines to files",
	.caps = EVS_SINK_CAP_PIPELINE | EVS_SINK_CAP_BATCH | EVS_SINK_CAP_RESUMES,
	.validate = file_validate,
	.open = file_open,
	.resume = file_resume,
	.submit = file_submit,
	.wait_fd = file_wait_fd,
	.progress = file_progress,
	.destroy = file_destroy
};

EVS_SINK_EXPORT const evs_sink *
evs_sink_init(uint32_t host_abi)
{
	return host_abi == EVS_SINK_ABI ? &file_sink : NULL;
}
