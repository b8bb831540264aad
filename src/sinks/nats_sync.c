/*
 * nats_sync.c
 *	  What JetStream has already: the end of the stream, the end of a subject.
 *
 * The stream's last sequence is asked for, and then its last messages, one by
 * one and backwards: the last one for resume(), and as many as this relay can
 * have had in flight for "expect": "sequence".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nats_sink.h"
#include "sink_json.h"

/* Messages in flight before the relay was restarted, perhaps with other options. */
#define MIN_DEPTH 256

/* "no message found": deleted, or never there */
#define NO_MESSAGE 10037

int
evs_nats_sync_depth(const EvsNats *sink)
{
	return sink->host->in_flight > MIN_DEPTH ? sink->host->in_flight : MIN_DEPTH;
}

bool
evs_nats_sync_init(EvsNats *sink)
{
	if (sink->config.expect != EVS_NATS_EXPECT_SEQUENCE)
		return true;
	sink->sync.recent = calloc(evs_nats_sync_depth(sink), EVS_NATS_ID_MAX);
	return sink->sync.recent != NULL;
}

/* body may be NULL */
static void
request(EvsNats *sink, EvsNatsSyncPhase phase, const char *what, const char *body)
{
	EvsNatsSync *sync = &sink->sync;

	sync->phase = phase;
	sync->request++;
	sync->deadline = sink->host->now_us(sink->host->ctx) + sink->host->timeout_ms * INT64_C(1000);
	evs_sink_printf(&sink->client.link.out, "PUB $JS.API.STREAM.%s.%s %sq%llx %zu\r\n%s\r\n",
					what, sink->config.stream, sink->client.inbox,
					(unsigned long long) sync->request, strlen(body), body);
}

void
evs_nats_sync_stream(EvsNats *sink)
{
	sink->sync.nrecent = sink->sync.unknown = 0;
	request(sink, EVS_NATS_SYNC_INFO, "INFO", "");
}

void
evs_nats_sync_subject(EvsNats *sink, const char *subject)
{
	evs_sink_buffer body = {0};

	snprintf(sink->sync.subject, sizeof(sink->sync.subject), "%s", subject);
	evs_sink_add_string(&body, "{\"last_by_subj\":");
	evs_sink_json_add(&body, subject);
	evs_sink_add_string(&body, "}");
	if (body.failed)
		evs_sink_link_fail(&sink->client.link, "no memory for a request");
	else
		request(sink, EVS_NATS_SYNC_SUBJECT, "MSG.GET", body.data);
	evs_sink_buffer_free(&body);
}

static void
ask_for_message(EvsNats *sink)
{
	char		body[48];

	snprintf(body, sizeof(body), "{\"seq\":%llu}", (unsigned long long) sink->sync.at);
	request(sink, EVS_NATS_SYNC_MESSAGE, "MSG.GET", body);
}

static void
set_resume(EvsNats *sink, EvsNatsResume resume, int64_t position, const char *error)
{
	if (sink->resume != EVS_NATS_RESUME_ASKED)
		return;
	sink->resume = resume;
	sink->resume_position = position;
	snprintf(sink->resume_error, sizeof(sink->resume_error), "%s", error);
}

static void
failed(EvsNats *sink, const EvsNatsAnswer *answer)
{
	char		error[256];

	snprintf(error, sizeof(error), "stream %s: %s", sink->config.stream, answer->error);
	sink->sync.phase = EVS_NATS_SYNC_NONE;
	set_resume(sink, EVS_NATS_RESUME_FAILED, 0, error);
	if (sink->config.expect != EVS_NATS_EXPECT_NONE)
		evs_sink_flight_complete_all(&sink->flight, false, EVS_SINK_RETRY_SINK,
									 answer->err_code > 0 ? answer->err_code : 0, error);
}

/*
 * The account must not use the API.  Nothing needs it to resume: that position
 * is not known then.  Comparing does.
 */
void
evs_nats_sync_refused(EvsNats *sink, const char *why)
{
	sink->sync.phase = EVS_NATS_SYNC_NONE;
	if (sink->resume == EVS_NATS_RESUME_ASKED)
		sink->host->log(sink->host->ctx, EVS_SINK_LOG_WARNING, why);
	set_resume(sink, EVS_NATS_RESUME_KNOWN, 0, "");
	if (sink->config.expect != EVS_NATS_EXPECT_NONE)
		evs_sink_flight_complete_all(&sink->flight, false, EVS_SINK_FATAL, 0, why);
}

static void
finish(EvsNats *sink)
{
	sink->sync.phase = EVS_NATS_SYNC_NONE;
	set_resume(sink, EVS_NATS_RESUME_KNOWN, sink->resume_position, "");
	if (sink->config.expect == EVS_NATS_EXPECT_SEQUENCE)
		evs_nats_expect_synced(sink);
}

/* The next message to read, or the end. */
static void
go_on(EvsNats *sink)
{
	if (sink->sync.left > 0)
		ask_for_message(sink);
	else
		finish(sink);
}

static void
take_info(EvsNats *sink, const EvsNatsAnswer *answer)
{
	EvsNatsSync *sync = &sink->sync;
	uint64_t	before = answer->first > 0 ? answer->first - 1 : 0;
	uint64_t	wanted = sink->resume == EVS_NATS_RESUME_ASKED ? 1 : 0;

	sync->last = sync->at = answer->last;
	sync->first = answer->first;
	if (sink->config.expect == EVS_NATS_EXPECT_SEQUENCE && answer->last > sink->confirmed)
	{
		wanted = answer->last - sink->confirmed;
		if (wanted > (uint64_t) evs_nats_sync_depth(sink))
			wanted = evs_nats_sync_depth(sink);
	}
	if (answer->last <= before)
		wanted = 0;				/* the stream is empty */
	else if (wanted > answer->last - before)
		wanted = answer->last - before;
	sync->left = (int) wanted;
	sink->resume_position = 0;
	go_on(sink);
}

static void
take_message(EvsNats *sink, const EvsNatsAnswer *answer)
{
	EvsNatsSync *sync = &sink->sync;

	if (answer->ours && sync->at == sync->last)
		sink->resume_position = answer->settled;
	if (answer->ours && sync->recent != NULL)
		memcpy(sync->recent[sync->nrecent++], answer->id, EVS_NATS_ID_MAX);
	sync->at--;
	sync->left--;
	go_on(sink);
}

void
evs_nats_sync_answered(EvsNats *sink, const EvsNatsMessage *message)
{
	EvsNatsSync *sync = &sink->sync;
	EvsNatsAnswer answer = {0};
	char		token[32];

	snprintf(token, sizeof(token), "q%llx", (unsigned long long) sync->request);
	if (sync->phase == EVS_NATS_SYNC_NONE || message->token_length != strlen(token) ||
		memcmp(message->token, token, message->token_length) != 0)
		return;
	evs_nats_read_answer(sink, message, &answer);
	if (answer.err_code != 0 &&
		(answer.err_code != NO_MESSAGE || sync->phase == EVS_NATS_SYNC_INFO))
		failed(sink, &answer);
	else if (sync->phase == EVS_NATS_SYNC_INFO)
		take_info(sink, &answer);
	else if (sync->phase == EVS_NATS_SYNC_MESSAGE)
		take_message(sink, &answer);
	else
	{
		sync->phase = EVS_NATS_SYNC_NONE;
		evs_nats_expect_subject_synced(sink, &answer);
	}
}
