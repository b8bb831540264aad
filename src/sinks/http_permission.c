/*
 * http_permission.c
 *	  What must be had before anything is sent: a permission, or a token.
 *
 *	  not asked --submit--> asked --given--> allowed
 *	      ^                   |  \--FATAL--> denied    |
 *	      +--any other answer-+                        |
 *	      +----------------it is not good any more-----+
 *
 * The profile asks with a request of the sink's own.  Messages that come in the
 * meantime wait.  If it is not given they get the result that the profile makes of
 * the answer; after RETRY_SINK the next ones ask again.
 */
#include "http_profile.h"

static void
copy_result(EvsHttpSink *sink, EvsHttpRequest *request, const evs_sink_result *result)
{
	evs_http_take(request);
	request->result = *result;
	evs_http_put(&sink->done, request);
}

/* All that wait get the same result. */
static void
answer_waiting(EvsHttpSink *sink, const evs_sink_result *result)
{
	while (sink->waiting.first != NULL)
		copy_result(sink, sink->waiting.first, result);
}

static void
ask(EvsHttpSink *sink)
{
	EvsHttpRequest *request = evs_http_request_ask(sink);
	evs_sink_result result;

	if (request == NULL)
	{
		evs_sink_set_result(&result, 0, EVS_SINK_RETRY_SINK, 0, "out of memory");
		answer_waiting(sink, &result);
	}
	else if (request->list != NULL)
	{
		/* A secret is missing. */
		answer_waiting(sink, &request->result);
		evs_http_take(request);
		evs_http_request_free(request);
	}
	else
	{
		sink->permission = EVS_HTTP_ASKED;
		evs_http_send(request);
	}
}

static bool
is_over(const EvsHttpSink *sink)
{
	return sink->permitted_until_us != INT64_MAX &&
		sink->host->now_us(sink->host->ctx) >= sink->permitted_until_us;
}

void
evs_http_admit(EvsHttpSink *sink, EvsHttpRequest *request)
{
	if (sink->permission == EVS_HTTP_ALLOWED && is_over(sink))
		sink->permission = EVS_HTTP_NOT_ASKED;
	if (!sink->config.must_ask || sink->permission == EVS_HTTP_ALLOWED)
		evs_http_send(request);
	else if (sink->permission == EVS_HTTP_DENIED)
		copy_result(sink, request, &sink->denial);
	else
	{
		evs_http_put(&sink->waiting, request);
		if (sink->permission == EVS_HTTP_NOT_ASKED)
			ask(sink);
	}
}

void
evs_http_forget_permission(EvsHttpSink *sink)
{
	if (sink->permission == EVS_HTTP_ALLOWED)
		sink->permission = EVS_HTTP_NOT_ASKED;
}

static void
allow(EvsHttpSink *sink, int64_t ms)
{
	sink->permission = EVS_HTTP_ALLOWED;
	sink->permitted_until_us = ms > INT64_MAX / 2000 ? INT64_MAX :
		sink->host->now_us(sink->host->ctx) + ms * 1000;
	while (sink->waiting.first != NULL)
		evs_http_send(sink->waiting.first);
}

/* A request of ours has ended: status, or 0 if there is no response and result says why. */
void
evs_http_answered(EvsHttpRequest *request, long status)
{
	EvsHttpSink *sink = request->sink;
	int64_t		ms = sink->config.profile->answered(request, status);

	if (ms >= 0)
		allow(sink, ms);
	else
	{
		sink->permission = EVS_HTTP_NOT_ASKED;
		if (request->result.result == EVS_SINK_FATAL)
		{
			sink->permission = EVS_HTTP_DENIED;
			sink->denial = request->result;
		}
		answer_waiting(sink, &request->result);
	}
	evs_http_request_free(request);
}
