/*
 * http_handshake.c
 *	  Permission to send: the abuse protection of CloudEvents' web hooks.
 *
 *	  not asked --submit--> asked --allowed--> allowed
 *	      ^                   |  \--denied---> denied
 *	      +----no answer------+
 *
 * The receiver is asked by OPTIONS before the first message.  Messages that
 * come in the meantime wait.  When it does not answer they get RETRY_SINK, and
 * the next ones ask again.  A receiver that wants to give its permission later,
 * by a callback, would need a server here, so that counts as denied.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http.h"

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
	EvsHttpRequest *request = evs_http_request_options(sink);
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
		evs_http_start(request);
	}
}

/* Send a request as soon as that is allowed; it is in no list. */
void
evs_http_admit(EvsHttpSink *sink, EvsHttpRequest *request)
{
	if (!sink->config.handshake || sink->permission == EVS_HTTP_ALLOWED)
		evs_http_start(request);
	else if (sink->permission == EVS_HTTP_DENIED)
		copy_result(sink, request, &sink->denial);
	else
	{
		evs_http_put(&sink->waiting, request);
		if (sink->permission == EVS_HTTP_NOT_ASKED)
			ask(sink);
	}
}

/* The rate is in requests a minute, or "*".  One it does not state is no limit. */
static void
obey_rate(EvsHttpSink *sink, const char *rate)
{
	char	   *end;
	double		per_minute = strtod(rate, &end);

	if (end == rate || *end != '\0' || !(per_minute > 0 && per_minute < 1e9))
		per_minute = 0;
	sink->host->set_rate(sink->host->ctx, per_minute / 60);
}

static bool
is_allowed(const EvsHttpRequest *request, long status)
{
	const char *origin = request->allowed_origin;

	return status >= 200 && status < 300 &&
		(strcmp(origin, "*") == 0 ||
		 strcasecmp(origin, request->sink->config.handshake_origin) == 0);
}

static void
deny(EvsHttpRequest *request, long status)
{
	evs_sink_result because = request->result;

	if (status >= 200 && status < 300 && request->allowed_origin[0] == '\0')
		evs_http_result(request, EVS_SINK_FATAL, "the receiver did not answer the handshake with WebHook-Allowed-Origin; permission by callback is not supported");
	else if (status >= 200 && status < 300)
		evs_http_result(request, EVS_SINK_FATAL, "the receiver's handshake allows the origin \"%s\", not \"%s\"",
						request->allowed_origin, request->sink->config.handshake_origin);
	else
		evs_http_result(request, EVS_SINK_FATAL, "the receiver refused the handshake: %.200s", because.detail);
	request->result.code = because.code;
}

/* Nobody there, or not now; every other refusal is an answer. */
static bool
is_outage(const evs_sink_result *result)
{
	if (result->code >= 400 && result->code < 500)
		return result->result == EVS_SINK_RETRY;
	return result->result == EVS_SINK_RETRY || result->result == EVS_SINK_RETRY_SINK;
}

/* The answer is there: status, or 0 if there is none and result says why. */
void
evs_http_handshake_done(EvsHttpRequest *request, long status)
{
	EvsHttpSink *sink = request->sink;

	if (is_allowed(request, status))
	{
		sink->permission = EVS_HTTP_ALLOWED;
		if (request->allowed_rate[0] != '\0')
			obey_rate(sink, request->allowed_rate);
		while (sink->waiting.first != NULL)
			evs_http_start(sink->waiting.first);
	}
	else if (is_outage(&request->result))
	{
		sink->permission = EVS_HTTP_NOT_ASKED;
		request->result.result = EVS_SINK_RETRY_SINK;
		answer_waiting(sink, &request->result);
	}
	else
	{
		/* What is FATAL without a status says itself what is wrong. */
		if (status > 0)
			deny(request, status);
		sink->permission = EVS_HTTP_DENIED;
		sink->denial = request->result;
		answer_waiting(sink, &request->result);
	}
	evs_http_request_free(request);
}
