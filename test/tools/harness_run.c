/*
 * harness_run.c
 *	  The loop of sink_harness: submits messages as a relay does, and holds the
 *	  module to the contract for their results.
 *
 * The rules of order are those of evstore_sink.h.  Of a key one message is in
 * flight, or many with CAP_PIPELINE.  When one fails with RETRY, its key waits
 * until none of it is in flight, and is then sent again from that message on.
 * RETRY_SINK counts no attempt; everything that was in flight is sent again, in
 * order.  PERMANENT, and RETRY too many times, parks a message; its key goes on.
 *
 * With CAP_RESUMES nothing is submitted after a RETRY or a PERMANENT until
 * everything has its result.  RETURNED may come only then.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"

#define CANARY 16
/* progress() is called so often in a row for nothing before that is a violation. */
#define MAX_SPINS 20000

typedef enum MessageState
{
	WAITING,
	IN_FLIGHT,
	DELIVERED,
	PARKED
} MessageState;

typedef struct Message
{
	MessageState state;
	int			attempt;		/* failed ones */
	int			part;			/* of the batch */
	uint32_t	serial;			/* how often it was submitted */
	bool		rewound;		/* in flight, and to be sent again whatever comes */
	bool		again;			/* to be marked as a replay */
	int64_t		submitted_us;
	HarnessBatch *batch;
} Message;

typedef struct Key
{
	int			in_flight;
	bool		rewinding;		/* waits until none is in flight */
	int64_t		not_before_us;
	uint64_t	seen_in;		/* the scan that has skipped a message of it */
} Key;

static Message *messages;
static Key *keys;
static int64_t total;			/* with the test message and replays */
static int64_t low;				/* all before it are delivered or parked */
static int64_t highest = -1;	/* index that was submitted */
static int64_t nin_flight;
static int64_t ndone;
static int64_t nsubmitted;
static int64_t nresults;
static int64_t nsubmits;
static int64_t nprogress;
static int64_t sink_not_before_us;
static int64_t last_result_us;
static int64_t last_delivery_us;
static int64_t longest_call_us;
static int64_t start_us;
static int64_t end_us;
static uint64_t scan;
static int	next_rotation;
static bool fatal;
static bool paused;
static int64_t last_failure_us;	/* when the last failure was reported */
static bool holding;			/* CAP_RESUMES: one has failed, nothing is submitted */
static FILE *log_file;

/* ---- what to send ---- */

static void
start_run(int64_t from)
{
	total = opt.test + opt.messages + opt.replay;
	messages = allocate(total * sizeof(*messages));
	keys = allocate((opt.keys + 1) * sizeof(*keys));
	for (int64_t i = opt.test; i < opt.test + opt.messages; i++)
		if (message_position(i) <= from)
		{
			messages[i].state = DELIVERED;
			ndone++;
		}
	while (low < total && messages[low].state == DELIVERED)
		low++;
	if (opt.log_path != NULL && (log_file = fopen(opt.log_path, "w")) == NULL)
		die("%s: %s", opt.log_path, strerror(errno));
	/* Somebody may be waiting for a line. */
	if (log_file != NULL)
		setvbuf(log_file, NULL, _IOLBF, 0);
	start_us = last_result_us = last_delivery_us = now_us();
}

static Key *
key_of(int64_t index)
{
	int64_t		key = message_key(index);

	return key < 0 ? NULL : &keys[key];
}

/* May this one go now?  A message of a key waits for all before it. */
static bool
may_go(const evs_sink *sink, int64_t index, int64_t now)
{
	Key		   *key = key_of(index);

	if (key == NULL)
		return messages[index].submitted_us <= now;
	if (key->seen_in == scan)
		return false;
	if (key->rewinding || key->not_before_us > now ||
		(key->in_flight > 0 && !(sink->caps & EVS_SINK_CAP_PIPELINE)))
	{
		key->seen_in = scan;
		return false;
	}
	if (!(sink->caps & EVS_SINK_CAP_PIPELINE))
		key->seen_in = scan;
	return true;
}

/* How many may be sent at this rate? */
static int64_t
allowed_by_rate(int64_t now)
{
	if (opt.rate == 0)
		return INT64_MAX;
	return (now - start_us) * opt.rate / 1000000 + 1 - nsubmitted;
}

/*
 * Choose what to submit, in order; returns how many.  Replays wait until all
 * else is done.
 */
static int
choose(const evs_sink *sink, int64_t *chosen, int64_t now)
{
	int64_t		end = low + 4 * opt.in_flight;
	int64_t		bytes = 0;
	int64_t		max = opt.submit;
	int			n = 0;

	if (paused || holding || now < sink_not_before_us)
		return 0;
	if (max > opt.in_flight - nin_flight)
		max = opt.in_flight - nin_flight;
	if (max > allowed_by_rate(now))
		max = allowed_by_rate(now);
	if (low < opt.test + opt.messages && end > opt.test + opt.messages)
		end = opt.test + opt.messages;
	scan++;
	for (int64_t i = low; i < total && i < end && n < max; i++)
	{
		if (messages[i].state != WAITING || !may_go(sink, i, now))
			continue;
		bytes += message_length(i);
		if (n > 0 && bytes > opt.batch_bytes)
			break;
		chosen[n++] = i;
	}
	return n;
}

static uint64_t
cookie_of(int64_t index)
{
	return (uint64_t) messages[index].serial << 40 | (uint64_t) index;
}

static void
note_call(int64_t since, const char *function)
{
	int64_t		took = now_us() - since;

	if (took > longest_call_us)
		longest_call_us = took;
	if (opt.max_call > 0 && took > opt.max_call * 1000)
		violation("%s took %lld ms", function, (long long) took / 1000);
}

static void
mark_submitted(HarnessBatch *batch, int part, int64_t index, int64_t now)
{
	Message    *message = &messages[index];
	Key		   *key = key_of(index);

	message->state = IN_FLIGHT;
	message->batch = batch;
	message->part = part;
	message->submitted_us = now;
	if (key != NULL)
		key->in_flight++;
	if (nin_flight++ == 0)
		last_result_us = now;
	nsubmitted++;
	if (index > highest)
		highest = index;
	if (opt.kill_at > 0 && nsubmitted == opt.kill_at)
		raise(SIGKILL);
	if (opt.pause_at > 0 && nsubmitted == opt.pause_at)
	{
		paused = true;
		printf("paused=%lld\n", (long long) nsubmitted);
		fflush(stdout);
	}
}

/* Returns how many were accepted. */
static int
submit(const evs_sink *sink, void *state)
{
	static int64_t *chosen = NULL;
	int64_t		now = now_us();
	HarnessBatch *batch;
	int			n;
	int			accepted;

	if (chosen == NULL)
		chosen = allocate(opt.submit * sizeof(*chosen));
	n = choose(sink, chosen, now);
	if (n == 0)
		return 0;
	batch = batch_create(n);
	for (int i = 0; i < n; i++)
	{
		messages[chosen[i]].serial++;
		batch_set(batch, i, chosen[i], messages[chosen[i]].attempt + 1,
				  messages[chosen[i]].again, cookie_of(chosen[i]));
	}
	now = now_us();
	accepted = sink->submit(state, batch->messages, n);
	note_call(now, "submit()");
	nsubmits++;
	if (accepted < 0 || accepted > n)
		die("submit() of %d returned %d", n, accepted);
	for (int i = 0; i < accepted; i++)
		mark_submitted(batch, i, chosen[i], now);
	batch_cut(batch, accepted);
	return accepted;
}

/* ---- results ---- */

/* One of a key has failed: it and what was sent of the key after it go again. */
static void
rewind_key(int64_t index)
{
	int64_t		key = message_key(index);

	for (int64_t i = index + 1; i <= highest; i++)
	{
		if (message_key(i) != key)
			continue;
		if (messages[i].state == IN_FLIGHT)
			messages[i].rewound = true;
		else if (messages[i].state == DELIVERED)
		{
			messages[i].state = WAITING;
			ndone--;
		}
		messages[i].again = true;
	}
	keys[key].rewinding = true;
}

static void
retry(const evs_sink *sink, int64_t index, const evs_sink_result *result, int64_t now)
{
	Message    *message = &messages[index];
	Key		   *key = key_of(index);
	int64_t		delay = result->retry_after_ms >= 0 ? result->retry_after_ms : opt.retry_delay;

	if (++message->attempt >= opt.attempts)
	{
		message->state = PARKED;
		return;
	}
	message->state = WAITING;
	message->again = true;
	if (key == NULL)
		message->submitted_us = now + delay * 1000;
	else
		key->not_before_us = now + delay * 1000;
	if (key != NULL && sink->caps & EVS_SINK_CAP_PIPELINE)
		rewind_key(index);
}

static void
apply(const evs_sink *sink, int64_t index, const evs_sink_result *result, int64_t now)
{
	Message    *message = &messages[index];
	bool		rewound = message->rewound;

	message->rewound = false;
	switch (result->result)
	{
		case EVS_SINK_OK:
		case EVS_SINK_DUPLICATE:
			message->state = rewound ? WAITING : DELIVERED;
			last_delivery_us = now;
			break;
		case EVS_SINK_RETRY:
			retry(sink, index, result, now);
			break;
		case EVS_SINK_RETRY_SINK:
			message->state = WAITING;
			sink_not_before_us = now + 1000 *
				(result->retry_after_ms >= 0 ? result->retry_after_ms : opt.retry_delay);
			break;
		case EVS_SINK_PERMANENT:
			message->state = PARKED;
			break;
		case EVS_SINK_FATAL:
			message->state = WAITING;
			if (!fatal)
				printf("fatal=%s\n", result->detail);
			fatal = true;
			break;
		case EVS_SINK_RETURNED:
			message->state = WAITING;
			message->again = message->attempt > 0;
			/* One that is returned is a reason to return those after it. */
			if (last_failure_us < message->submitted_us)
				violation("message at %lld is returned, but none before it has failed",
						  (long long) message_position(index));
			else
				last_failure_us = now;
	}
	if (message->state == DELIVERED || message->state == PARKED)
		ndone++;
	else if (index < low)
		low = index;
}

/* Is it the result of a message in flight, and whole? */
static bool
check_result(const evs_sink_result *result, int64_t index)
{
	if (index >= total || messages[index].serial == 0)
	{
		violation("result of an unknown message, cookie %#llx",
				  (unsigned long long) result->cookie);
		return false;
	}
	if (messages[index].state != IN_FLIGHT || cookie_of(index) != result->cookie)
	{
		violation("message at %lld has more than one result",
				  (long long) message_position(index));
		return false;
	}
	if (stats_name(result->result) == NULL)
		die("result of class %d", (int) result->result);
	if (result->retry_after_ms < -1)
		violation("retry_after_ms is %lld", (long long) result->retry_after_ms);
	if (memchr(result->detail, '\0', sizeof(result->detail)) == NULL)
		die("detail does not end");
	if (result->result > EVS_SINK_DUPLICATE && result->result != EVS_SINK_RETURNED &&
		result->detail[0] == '\0')
		violation("a result of class %s has no detail", stats_name(result->result));
	host_check_text("a result's detail", result->detail);
	return true;
}

static void
take_result(const evs_sink *sink, const evs_sink_result *result, int64_t now)
{
	int64_t		index = result->cookie & (((uint64_t) 1 << 40) - 1);
	Message    *message;
	Key		   *key;

	if (!check_result(result, index))
		return;
	message = &messages[index];
	key = key_of(index);
	nresults++;
	nin_flight--;
	last_result_us = now;
	stats_count(result->result, now - message->submitted_us);
	if (log_file != NULL)
		fprintf(log_file, "%lld %lld %s %d %d %s\n", (long long) message_position(index),
				(long long) message_key(index), stats_name(result->result), result->code,
				message->attempt + 1, result->detail);
	batch_release(message->batch, message->part);
	message->batch = NULL;
	if (key != NULL)
		key->in_flight--;
	if (result->result > EVS_SINK_DUPLICATE && result->result != EVS_SINK_RETURNED)
		last_failure_us = now;
	if (sink->caps & EVS_SINK_CAP_RESUMES &&
		(result->result == EVS_SINK_RETRY || result->result == EVS_SINK_PERMANENT))
		holding = true;
	apply(sink, index, result, now);
	if (nin_flight == 0)
		holding = false;
	if (key != NULL && key->in_flight == 0)
		key->rewinding = false;
	while (low < total && (messages[low].state == DELIVERED || messages[low].state == PARKED))
		low++;
}

static void
rotate_secrets(void)
{
	for (; next_rotation < opt.nrotations && opt.rotations[next_rotation].after <= ndone;
		 next_rotation++)
		host_set_secret(opt.rotations[next_rotation].secret.name,
						opt.rotations[next_rotation].secret.value);
}

/* Returns how many results there were. */
static int
progress(const evs_sink *sink, void *state)
{
	static evs_sink_result *results = NULL;
	char		canary[CANARY];
	int64_t		now = now_us();
	int			n;

	if (results == NULL)
		results = allocate(opt.max * sizeof(*results) + CANARY);
	memset(results, 0x5A, opt.max * sizeof(*results) + CANARY);
	memset(canary, 0x5A, CANARY);
	n = sink->progress(state, results, opt.max);
	note_call(now, "progress()");
	nprogress++;
	if (n < 0 || n > opt.max)
		die("progress() of %lld returned %d", (long long) opt.max, n);
	if (memcmp(&results[opt.max], canary, CANARY) != 0)
		die("progress() writes behind its results");
	now = now_us();
	for (int i = 0; i < n; i++)
		take_result(sink, &results[i], now);
	rotate_secrets();
	return n;
}

/* ---- waiting ---- */

static void
drain_wake(void)
{
	uint64_t	n;

	if (read(host_wake_fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
		die("eventfd: %s", strerror(errno));
}

static void
end_pause(void)
{
	char		line[256];

	if (read(STDIN_FILENO, line, sizeof(line)) < 0)
		die("stdin: %s", strerror(errno));
	opt.pause_at = 0;
	paused = false;
}

/* When something is due that only the host knows of: a retry, the rate. */
static int
own_timeout(void)
{
	if (nin_flight == 0 || opt.rate > 0 || sink_not_before_us > now_us())
		return 1;
	return 20;
}

/*
 * Wait as wait_fd() says, but not long, since retries may be due.  Returns
 * whether the module's descriptor was ready.
 */
static bool
wait_for_module(const evs_sink *sink, void *state, bool must_wait)
{
	struct pollfd fds[3] = {{-1, 0, 0}, {host_wake_fd, POLLIN, 0}, {-1, POLLIN, 0}};
	int			timeout_ms = -1;
	int			own = own_timeout();
	static int	reported = 0;

	fds[0].fd = sink->wait_fd(state, &fds[0].events, &timeout_ms);
	if (timeout_ms < -1 || (fds[0].fd >= 0 && (fds[0].events & ~(POLLIN | POLLOUT))))
		violation("wait_fd() gives timeout %d and events %#x", timeout_ms, fds[0].events);
	if (must_wait && fds[0].fd < 0 && timeout_ms < 0 && !(sink->caps & EVS_SINK_CAP_THREADS) &&
		!reported++)
		violation("messages are in flight, but there is nothing to wait for");
	if (paused)
		fds[2].fd = STDIN_FILENO;
	if (timeout_ms < 0 || timeout_ms > own)
		timeout_ms = own;
	if (poll(fds, 3, timeout_ms) < 0 && errno != EINTR)
		die("poll: %s", strerror(errno));
	if (fds[0].revents & POLLNVAL)
		die("wait_fd() gives a descriptor that is not open");
	if (fds[1].revents)
		drain_wake();
	if (fds[2].revents)
		end_pause();
	return fds[0].revents != 0 || timeout_ms == 0;
}

/* ---- the run ---- */

int64_t
run_resume(const evs_sink *sink, void *state)
{
	int64_t		deadline = now_us() + opt.give_up * 1000000;
	evs_sink_result result;
	char		error[EVS_SINK_ERROR_MAX];
	int64_t		position = -1;
	int			answer;

	while ((answer = sink->resume(state, &position, error, sizeof(error))) != 1)
	{
		if (answer != 0 && answer != -1)
			die("resume() returned %d", answer);
		if (answer == -1 && error[0] == '\0')
			violation("resume() gives no reason");
		if (now_us() > deadline)
			return -1;
		if (sink->progress(state, &result, 1) != 0)
			violation("a result, but nothing was submitted");
		wait_for_module(sink, state, answer == 0);
	}
	if (position < 0)
		violation("resume() says %lld", (long long) position);
	return position;
}

/* Looks like waiting for ever?  The caller says what for. */
static bool
is_stuck(int64_t now)
{
	if (paused)
		last_result_us = last_delivery_us = now;
	if (nin_flight > 0 && now - last_result_us > opt.give_up * 1000000)
	{
		violation("%lld messages have no result after %lld seconds", (long long) nin_flight,
				  (long long) opt.give_up);
		return true;
	}
	if (now - last_delivery_us <= opt.give_up * 1000000)
		return false;
	if (nin_flight > 0 && now - last_delivery_us > 2 * opt.give_up * 1000000)
	{
		violation("results, but none was delivered for %lld seconds", 2 * (long long) opt.give_up);
		return true;
	}
	return nin_flight == 0;
}

static HarnessEnd
run_loop(const evs_sink *sink, void *state)
{
	int			spins = 0;

	while (ndone < total || nin_flight > 0)
	{
		int			accepted = fatal ? 0 : submit(sink, state);
		int			n;
		bool		ready;

		if (opt.destroy_at > 0 && nsubmitted >= opt.destroy_at)
			return END_DESTROYED;
		n = progress(sink, state);
		if ((fatal && nin_flight == 0 && n == 0) || is_stuck(now_us()))
			return END_UNFINISHED;
		if (n > 0 || accepted > 0)
		{
			spins = 0;
			continue;
		}
		ready = wait_for_module(sink, state, nin_flight > 0);
		spins = ready ? spins + 1 : 0;
		if (spins == MAX_SPINS)
			violation("progress() was called %d times for nothing", MAX_SPINS);
	}
	return END_FINISHED;
}

HarnessEnd
run(const evs_sink *sink, void *state, int64_t from)
{
	HarnessEnd	end;

	start_run(from);
	end = run_loop(sink, state);
	end_us = now_us();
	if (log_file != NULL)
		fclose(log_file);
	return end;
}

/* After destroy(): what was in flight is ours again. */
void
run_release(void)
{
	for (int64_t i = low; i < total && nin_flight > 0; i++)
		if (messages[i].state == IN_FLIGHT)
		{
			batch_release(messages[i].batch, messages[i].part);
			messages[i].state = WAITING;
			nin_flight--;
		}
}

/* In order, up to the last that was sent; not what still has to go. */
int64_t
run_highest_claim(void)
{
	int64_t		last = opt.test + opt.messages - 1;

	if (low <= last)
		return message_position(low) - 1;
	return message_position(last);
}

/* ---- the report ---- */

void
run_report(void)
{
	int64_t		parked = 0;
	int64_t		delivered = 0;
	double		seconds = (end_us - start_us) / 1e6;

	for (int64_t i = 0; i < total; i++)
	{
		parked += messages[i].state == PARKED;
		delivered += messages[i].state == DELIVERED;
	}
	stats_report();
	printf("delivered=%lld\nparked=%lld\nsubmitted=%lld\nresults=%lld\nin_flight=%lld\n",
		   (long long) delivered, (long long) parked, (long long) nsubmitted,
		   (long long) nresults, (long long) nin_flight);
	printf("submit_calls=%lld\nprogress_calls=%lld\nlongest_call_us=%lld\n", (long long) nsubmits,
		   (long long) nprogress, (long long) longest_call_us);
	printf("seconds=%.3f\nmessages_per_second=%.0f\n", seconds,
		   seconds > 0 ? stats_number(EVS_SINK_OK) / seconds : 0);
}
