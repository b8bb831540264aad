/*
 * http_handshake.c
 *	  Permission to send: the abuse protection of CloudEvents' web hooks.
 *
 * The receiver is asked by OPTIONS before the first message.  A receiver that
 * wants to give its permission later, by a callback, would need a server here,
 * so that counts as denied.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http_webhook.h"

bool
evs_http_handshake_ask(EvsHttpRequest *request)
{
	const EvsHttpConfig *config = &request->sink->config;
	char		rate[32];

	request->method = "OPTIONS";
	snprintf(rate, sizeof(rate), "%lld", (long long) config->handshake_rate);
	return evs_http_add_header(request, "WebHook-Request-Origin", config->handshake_origin) &&
		(config->handshake_rate == 0 || evs_http_add_header(request, "WebHook-Request-Rate", rate)) &&
		evs_http_webhook_credentials(request);
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

int64_t
evs_http_handshake_answered(EvsHttpRequest *request, long status)
{
	if (is_allowed(request, status))
	{
		if (request->allowed_rate[0] != '\0')
			obey_rate(request->sink, request->allowed_rate);
		return INT64_MAX;
	}
	if (is_outage(&request->result))
		request->result.result = EVS_SINK_RETRY_SINK;
	else if (status > 0)
		deny(request, status);
	/* What is FATAL without a status says itself what is wrong. */
	return -1;
}
