/*
 * harness.h
 *	  What the parts of sink_harness share.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "evstore_sink.h"

#define lengthof(array) ((int) (sizeof(array) / sizeof((array)[0])))

typedef struct HarnessPair
{
	char	   *name;
	char	   *value;
} HarnessPair;

/* A secret that changes when so many messages have been delivered. */
typedef struct HarnessRotation
{
	int64_t		after;
	HarnessPair secret;
} HarnessRotation;

#define HARNESS_MAX 64

typedef struct HarnessOptions
{
	const char *module;
	evs_sink_setting settings[HARNESS_MAX];
	int			nsettings;
	HarnessPair secrets[HARNESS_MAX];
	int			nsecrets;
	HarnessRotation rotations[HARNESS_MAX];
	int			nrotations;
	const char *denied[HARNESS_MAX];
	int			ndenied;
	evs_sink_setting bad[HARNESS_MAX];
	int			nbad;

	const char *format;
	const char *topic;
	const char *directory;
	const char *log_path;
	int64_t		messages;
	int64_t		size;
	int64_t		keys;
	int64_t		headers;
	int64_t		first;
	int64_t		step;
	int64_t		replay;
	int64_t		in_flight;
	int64_t		batch;
	int64_t		batch_bytes;
	int64_t		submit;
	int64_t		max;
	int64_t		rate;
	int64_t		attempts;
	int64_t		retry_delay;
	int64_t		timeout;
	int64_t		give_up;
	int64_t		pause_at;
	int64_t		destroy_at;
	int64_t		kill_at;
	int64_t		max_call;
	int64_t		line_feed;
	bool		edge;
	bool		test;
	bool		resume;
	bool		bench;
	bool		invalid;
	bool		verbose;
} HarnessOptions;

extern HarnessOptions opt;

/* ---- sink_harness.c ---- */

extern void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
extern void *allocate(size_t size);
extern int64_t now_us(void);

/* ---- harness_host.c ---- */

/* Readable when the module has called wake(). */
extern int	host_wake_fd;
extern int64_t host_egress_asked;
extern double host_rate;

extern void host_init(evs_sink_host *host);
extern void host_set_secret(const char *name, const char *value);
/* validate() must not have secrets. */
extern void host_give_secrets(bool give);
/* Is a secret's value in a text that people get to see? */
extern void host_check_text(const char *what, const char *text);

/* ---- harness_message.c ---- */

/*
 * Messages that are submitted together.  Each has its memory until its result,
 * then it can no longer be read; the array follows when all have theirs.
 */
typedef struct HarnessBatch
{
	evs_sink_message *messages;
	size_t		size;			/* of the array's memory */
	int			n;
	int			left;			/* without result */
	struct
	{
		void	   *memory;
		size_t		size;
		uint64_t	checksum;
	}			parts[];
} HarnessBatch;

extern int64_t message_position(int64_t index);
/* -1: the message has no key */
extern int64_t message_key(int64_t index);
extern HarnessBatch *batch_create(int n);
extern void batch_set(HarnessBatch *batch, int i, int64_t index, int attempt, bool again,
					  uint64_t cookie);
extern size_t message_length(int64_t index);
extern void batch_release(HarnessBatch *batch, int i);
/* The first n are the module's; the others were not accepted. */
extern void batch_cut(HarnessBatch *batch, int n);
extern void message_init(void);

/* ---- harness_check.c ---- */

extern void check_table(const evs_sink *sink, const char *path);
/* Settings that must be refused, and those that must not. */
extern void check_validate(const evs_sink *sink, const evs_sink_host *host,
						   const evs_sink_settings *settings);

/* What a module may not change in its host's process. */
extern void process_remember(void);
extern void process_check(const evs_sink *sink, const char *when);
extern int	process_count_fds(void);

/* ---- harness_stats.c ---- */

/* NULL: there is no such class */
extern const char *stats_name(int class);
extern int64_t stats_number(int class);
extern void stats_count(int class, int64_t latency_us);
extern void stats_report(void);

/* ---- harness_run.c ---- */

typedef enum HarnessEnd
{
	END_FINISHED,				/* all messages are delivered or parked */
	END_UNFINISHED,				/* nothing more gets through, or FATAL */
	END_DESTROYED				/* --destroy-at */
} HarnessEnd;

extern int64_t run_resume(const evs_sink *sink, void *state);
extern HarnessEnd run(const evs_sink *sink, void *state, int64_t from);
extern void run_report(void);
extern void run_release(void);
/* What the module may say on resume() now, at most. */
extern int64_t run_highest_claim(void);

#endif							/* HARNESS_H */
