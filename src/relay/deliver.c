/*
 * deliver.c
 *	  Handing messages to the sink, and taking what it says of them.
 *
 * The order gate: messages of a key go out one after the other.  A sink that keeps
 * the order of submission may have several of a key; what it has of a key when one of
 * it fails is sent once more after that one.
 */
#include "postgres.h"

#include "base/debug_point.h"
#include "relay/host.h"
#include "compat.h"

/* Results that are taken at a time. */
#define RESULTS_MAX 256

/* A sink that says nothing of a message for so long after its time is given up, in us. */
#ifdef EVS_DEBUG_POINTS
#define SILENCE_MAX 1000000
#else
#define SILENCE_MAX 60000000
#endif
#define WATCH_INTERVAL 1000000

/* What the other side asks for is not obeyed for longer than this, in ms: a week. */
#define RETRY_AFTER_MAX (INT64CONST(7) * 86400 * 1000)

/* A relay with fewer messages in flight submits them one by one. */
#define FEW_PLACES 8

/* Messages in a millisecond that make it worthwhile to have few system calls. */
#define FAST 10

/* Who has answered nothing for so long, in us, does not answer soon. */
#define SILENCE 10000

/* Weight of the latest message in the moving average. */
#define LATENCY_WEIGHT 0.05

HTAB *
evs_host_make_keys(const EvsHost *host)
{
	HASHCTL		control = {
		.keysize = sizeof(uint32), .entrysize = sizeof(EvsSentKey), .hcxt = host->context,
	};

	return hash_create("evstore relay keys", Min(host->relay->in_flight, 1024), &control,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Do messages of a key have to wait for each other here? */
static bool
has_gate(const EvsHost *host)
{
	return !host->relay->keyless && (host->sink->module->caps & EVS_SINK_CAP_PIPELINE) == 0;
}

/* Messages that are submitted together are one request. */
static bool
goes_together(const EvsHost *host)
{
	return (host->sink->module->caps & EVS_SINK_CAP_BATCH) != 0 &&
		host->relay->format == EVS_FORMAT_CLOUDEVENTS_BATCH;
}

/* ---- submitting ---- */

typedef struct Submission
{
	EvsMessage **messages;
	EvsSubmission *handed;
	int			n;
	int			max;
	int64		bytes;
	bool		full;
} Submission;

static bool
may_go(EvsHost *host, EvsMessage *message)
{
	EvsSentKey *key;

	if (!has_gate(host))
		return true;
	key = hash_search(host->keys, &message->key_hash, HASH_FIND, NULL);
	return key == NULL || (goes_together(host) && key->submission == host->submission);
}

static void
note_key(EvsHost *host, EvsMessage *message)
{
	bool		found;

	message->key = NULL;
	if (!has_gate(host))
		return;
	message->key = hash_search(host->keys, &message->key_hash, HASH_ENTER, &found);
	if (!found)
		message->key->n = 0;
	message->key->n++;
	message->key->submission = host->submission;
}

static void
forget_key(EvsHost *host, EvsMessage *message)
{
	if (message->key != NULL && --message->key->n == 0)
		(void) hash_search(host->keys, &message->key_hash, HASH_REMOVE, NULL);
	message->key = NULL;
}

static void
consider(EvsHost *host, Submission *submission, EvsMessage *message)
{
	if (message->state != EVS_MESSAGE_READY || !may_go(host, message))
		return;
	if (goes_together(host) && submission->n > 0 &&
		(message->alone ||
		 submission->bytes + (int64) message->size > host->relay->batch_bytes))
	{
		submission->full = true;
		return;
	}
	submission->messages[submission->n++] = message;
	submission->bytes += message->size;
	submission->full = submission->n == submission->max || message->alone;
	note_key(host, message);
}

/* Those that failed before come first: others of their keys wait for them. */
static void
choose(EvsHost *host, Submission *submission)
{
	EvsWindow  *window = &host->window;

	for (int i = 0; i < host->nreplays && !submission->full; i++)
		consider(host, submission, host->replays[i]);
	while (window->settled < window->n &&
		   evs_window_get(window, window->settled)->state != EVS_MESSAGE_READY)
		window->settled++;
	for (int i = window->settled; i < window->n && !submission->full; i++)
		consider(host, submission, evs_window_get(window, i));
}

static int
free_place(EvsHost *host, int from)
{
	while (host->sent[from] != NULL)
		from++;
	return from;
}

/* The place among those in flight, and which use of it this is. */
static void
give_cookies(EvsHost *host, Submission *submission)
{
	int			place = 0;

	for (int i = 0; i < submission->n; i++)
	{
		EvsMessage *message = submission->messages[i];

		place = free_place(host, place);
		message->place = place;
		host->sent[place] = message;
		host->rounds[place]++;
		message->wire.cookie = ((uint64) host->rounds[place] << 32) | (uint32) place;
		message->submission = submission->handed;
		submission->handed->wire[i] = message->wire;
	}
	submission->handed->n = submission->handed->left = submission->n;
}

static void
take_place(EvsHost *host, EvsMessage *message)
{
	host->sent[message->place] = NULL;
	forget_key(host, message);
	if (--message->submission->left == 0)
		pfree(message->submission);
	message->submission = NULL;
}

static int
hand_over(EvsHost *host, Submission *submission)
{
	int			accepted;
	int64		now = evs_host_now(host);

	give_cookies(host, submission);
	EVS_DEBUG_POINT("relay_submit");
	accepted = host->sink->module->submit(host->sink->state, submission->handed->wire, submission->n);
	accepted = Max(0, Min(accepted, submission->n));
	for (int i = accepted; i < submission->n; i++)
		take_place(host, submission->messages[i]);
	for (int i = 0; i < accepted; i++)
	{
		submission->messages[i]->state = EVS_MESSAGE_SENT;
		submission->messages[i]->sent_at = now;
	}
	host->nsent += accepted;
	evs_bucket_take(&host->bucket, accepted);
	return accepted;
}

double
evs_host_rate(const EvsHost *host)
{
	double		rate = host->relay->rate;

	if (host->sink->rate > 0 && (rate <= 0 || host->sink->rate < rate))
		rate = host->sink->rate;
	return rate;
}

/* Fewer than a batch wait for company, for a while. */
static bool
waits_for_company(EvsHost *host)
{
	int			ready = 0;
	Size		bytes = 0;

	if (host->relay->batch_wait == 0 || !host->in_worker || host->draining || host->nreplays > 0)
		return false;
	for (int i = 0; i < host->window.n; i++)
		if (evs_window_get(&host->window, i)->state == EVS_MESSAGE_READY)
		{
			ready++;
			bytes += evs_window_get(&host->window, i)->size;
		}
	if (ready == 0 || ready >= host->relay->batch_size || bytes >= (Size) host->relay->batch_bytes)
	{
		host->ready_since = 0;
		return ready == 0;
	}
	if (host->ready_since == 0)
		host->ready_since = evs_host_now(host);
	return evs_host_now(host) - host->ready_since < host->relay->batch_wait * INT64CONST(1000);
}

static int
allowed_now(EvsHost *host)
{
	int			n = host->relay->in_flight - host->nsent;
	long		wait;

	if (goes_together(host))
		n = Min(n, host->relay->batch_size);
	n = evs_bucket_allows(&host->bucket, evs_host_rate(host), host->relay->burst,
						  evs_host_now(host), n, &wait);
	return evs_circuit_allows(&host->circuit, n, host->nsent);
}

bool
evs_host_has_ready(const EvsHost *host)
{
	for (int i = 0; i < host->nreplays; i++)
		if (host->replays[i]->state == EVS_MESSAGE_READY)
			return true;
	for (int i = host->window.settled; i < host->window.n; i++)
		if (evs_window_get(&host->window, i)->state == EVS_MESSAGE_READY)
			return true;
	return false;
}

/* Once; true if anything was accepted. */
static bool
submit_once(EvsHost *host)
{
	Submission	submission = {.max = allowed_now(host)};
	int			accepted;

	if (submission.max <= 0)
		return false;
	evs_host_flush_log(host);
	host->submission++;
	submission.messages = palloc(sizeof(EvsMessage *) * submission.max);
	choose(host, &submission);
	if (submission.n == 0)
	{
		pfree(submission.messages);
		return false;
	}
	submission.handed = MemoryContextAllocHuge(host->context, offsetof(EvsSubmission, wire) +
											   sizeof(evs_sink_message) * submission.n);
	accepted = hand_over(host, &submission);
	pfree(submission.messages);
	host->ready_since = 0;
	return accepted > 0;
}

bool
evs_host_is_half_full(const EvsHost *host)
{
	return host->nsent > host->relay->in_flight / 2;
}

/*
 * More results are about to come: messages that go out together wake the other side
 * once.  If it answers slowly, or has ceased to, that saves nothing, and a place that is
 * empty counts.
 */
long
evs_host_wait_for_places(const EvsHost *host)
{
	int			places = host->relay->in_flight;
	int64		left;

	if (places < FEW_PLACES || !evs_host_is_half_full(host) ||
		host->latency < 0 || places < host->latency * FAST)
		return -1;
	left = host->answered_at + SILENCE - evs_host_now(host);
	return left > 0 ? (long) (left / 1000) + 1 : -1;
}

bool
evs_host_submit(EvsHost *host)
{
	bool		did = false;

	if (host->draining || host->fault || host->stale || !evs_host_has_ready(host) ||
		evs_host_wait_for_places(host) >= 0 || waits_for_company(host))
		return false;
	while (submit_once(host))
	{
		did = true;
		if (!evs_host_has_ready(host))
			break;
	}
	return did;
}

/* ---- results ---- */

void
evs_host_fail(EvsHost *host, EvsMessage *message, const char *action, const char *reason,
			  const char *error, int64 delay)
{
	message->state = EVS_MESSAGE_FAILED;
	message->action = action;
	message->reason = reason;
	message->error = MemoryContextStrdup(message->batch->context, error);
	message->delay = delay;
	host->has_failures = true;
	host->counts.failures++;
}

/* Later ones of its key wait for it; those that have gone out already go once more. */
static void
hold_key(EvsHost *host, const EvsMessage *failed)
{
	if (host->relay->skips)
		return;
	for (int i = 0; i < host->window.n; i++)
	{
		EvsMessage *message = evs_window_get(&host->window, i);

		if (message->key_hash != failed->key_hash || message->position <= failed->position)
			continue;
		if (message->state == EVS_MESSAGE_READY || message->state == EVS_MESSAGE_DONE)
			message->state = EVS_MESSAGE_WAITING;
		else if (message->state == EVS_MESSAGE_SENT)
			message->again = true;
	}
}

static void
set_error(EvsHost *host, const char *what, const evs_sink_result *result)
{
	if (host->error != NULL)
		pfree(host->error);
	host->error = MemoryContextAlloc(host->context, 512);
	if (result->code != 0)
		snprintf(host->error, 512, "%s (%d): %s", what, (int) result->code, result->detail);
	else
		snprintf(host->error, 512, "%s: %s", what, result->detail);
	host->status_changed = true;
}

/*
 * It is to go out once more.  If one of its key before it has failed meanwhile, not
 * before that one: it waits with those that were not sent.
 */
static void
send_again(EvsHost *host, EvsMessage *message)
{
	message->state = EVS_MESSAGE_READY;
	host->window.settled = 0;
	if (!message->again)
		return;
	message->again = false;
	if (message->replay)
	{
		/* its row waits already */
		message->state = EVS_MESSAGE_WAITING;
		host->has_failures = true;
	}
	else if (!host->has_failures)
		evs_host_rearrange(host);
}

/* It is all one outage until a message that was submitted after it has an answer. */
static void
outage(EvsHost *host, EvsMessage *message, const evs_sink_result *result)
{
	EvsCircuitState before = host->circuit.state;

	send_again(host, message);
	if (message->sent_at <= host->outage_at)
		return;
	host->outage_at = evs_host_now(host);
	evs_circuit_failed(&host->circuit, host->relay, result->retry_after_ms);
	if (host->circuit.state == EVS_CIRCUIT_OPEN && before != EVS_CIRCUIT_OPEN)
		host->counts.opened++;
	set_error(host, "outage", result);
}

static void
delivered(EvsHost *host, EvsMessage *message, const evs_sink_result *result)
{
	double		ms = (host->now - message->sent_at) / 1000.0;

	host->latency = host->latency < 0 ? ms :
		host->latency + (ms - host->latency) * LATENCY_WEIGHT;
	host->counts.sent++;
	host->counts.bytes += message->size;
	host->acknowledged++;
	if (result->result == EVS_SINK_DUPLICATE)
		host->counts.duplicates++;
	if (message->again)
		send_again(host, message);
	else
		message->state = EVS_MESSAGE_DONE;
}

static void
answered(EvsHost *host)
{
	if (host->circuit.state != EVS_CIRCUIT_CLOSED || host->circuit.outages > 0)
		host->status_changed = true;
	evs_circuit_succeeded(&host->circuit);
}

/* One of several is to blame, and nobody knows which: each by itself, then. */
static bool
isolate(EvsHost *host, EvsMessage *message, bool together)
{
	if (!together || message->alone)
		return false;
	message->alone = true;
	send_again(host, message);
	return true;
}

static void
failed(EvsHost *host, EvsMessage *message, const evs_sink_result *result)
{
	bool		permanent = result->result == EVS_SINK_PERMANENT;
	char		error[sizeof(result->detail) + 32];

	if (result->code != 0)
		snprintf(error, sizeof(error), "%d: %s", (int) result->code, result->detail);
	else
		strlcpy(error, result->detail, sizeof(error));
	evs_host_fail(host, message, permanent ? "park" : "retry", permanent ? "permanent" : NULL,
				  error, result->retry_after_ms);
	hold_key(host, message);
}

static void
take_result(EvsHost *host, EvsMessage *message, const evs_sink_result *result, bool together)
{
	switch (result->result)
	{
		case EVS_SINK_OK:
		case EVS_SINK_DUPLICATE:
			answered(host);
			delivered(host, message, result);
			break;
		case EVS_SINK_RETRY:
		case EVS_SINK_PERMANENT:
			answered(host);
			if (isolate(host, message, together))
				return;
			failed(host, message, result);
			break;
		case EVS_SINK_RETRY_SINK:
			outage(host, message, result);
			return;
		case EVS_SINK_RETURNED:
			send_again(host, message);
			return;
		default:
			send_again(host, message);
			host->fault = true;
			set_error(host, "stopped by the sink", result);
			return;
	}
	if (host->unrecorded++ == 0)
		host->unrecorded_since = host->now;
}

/* Modules are not trusted to send back what they were given. */
static EvsMessage *
find_message(EvsHost *host, uint64 cookie)
{
	uint32		place = (uint32) cookie;

	if (place >= (uint32) host->relay->in_flight || host->sent[place] == NULL ||
		host->sent[place]->wire.cookie != cookie)
	{
		ereport(LOG,
				(errmsg("relay \"%s\": sink \"%s\" has a result of a message that it does not have",
						host->relay->name, host->relay->sink)));
		return NULL;
	}
	return host->sent[place];
}

static void
end_detail(evs_sink_result *result)
{
	result->detail[sizeof(result->detail) - 1] = '\0';
	/* it becomes part of texts in the database */
	evs_sink_clean_text(result->detail);
	if (result->retry_after_ms > RETRY_AFTER_MAX)
		result->retry_after_ms = RETRY_AFTER_MAX;
}

static void
give_up(EvsHost *host, const char *why)
{
	evs_sink_result result = {.result = EVS_SINK_RETRY_SINK, .retry_after_ms = -1};

	strlcpy(result.detail, why, sizeof(result.detail));
	for (int i = 0; i < host->relay->in_flight; i++)
	{
		EvsMessage *message = host->sent[i];

		if (message == NULL)
			continue;
		take_place(host, message);
		outage(host, message, &result);
	}
	host->nsent = 0;
}

/* A sink that has forgotten a message is opened anew. */
static bool
is_silent(EvsHost *host)
{
	int64		now = evs_host_now(host);
	int64		limit = now - host->relay->timeout * INT64CONST(1000) - SILENCE_MAX;

	if (host->nsent == 0 || now - host->watched_at < WATCH_INTERVAL)
		return false;
	host->watched_at = now;
	for (int i = 0; i < host->relay->in_flight; i++)
		if (host->sent[i] != NULL && host->sent[i]->sent_at < limit)
			return true;
	return false;
}

bool
evs_host_take_results(EvsHost *host)
{
	evs_sink_result results[RESULTS_MAX];
	bool		did = false;
	int			n;

	do
	{
		n = host->sink->module->progress(host->sink->state, results, RESULTS_MAX);
		host->now = evs_host_now(host);
		for (int i = 0; i < n && i < RESULTS_MAX; i++)
		{
			EvsMessage *message = find_message(host, results[i].cookie);
			bool		together;

			if (message == NULL)
				continue;
			end_detail(&results[i]);
			together = goes_together(host) && message->submission->n > 1;
			take_place(host, message);
			host->nsent--;
			take_result(host, message, &results[i], together);
			host->answered_at = host->now;
			did = true;
		}
	} while (n >= RESULTS_MAX);
	evs_sink_tell(host->sink, host->relay->name);
	if (is_silent(host))
	{
		give_up(host, "the sink has not said a word of a message for too long");
		host->stale = true;
	}
	return did;
}
