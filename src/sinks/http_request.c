/*
 * http_request.c
 *	  Requests: from messages, by the profile, to libcurl.
 *
 * What a message says about itself comes from who appended the event.  So it is
 * encoded or checked before it becomes a part of a URL or a header; a message
 * that fails is PERMANENT.  Secrets are asked for each request, because they
 * may have been changed; one that is not there stops the relay.
 */
#include <stdlib.h>
#include <string.h>

#include "http_profile.h"

/* ---- memory ---- */

/* Forget what a request was; its easy handle and its buffers stay. */
static void
reset_request(EvsHttpRequest *request)
{
	evs_http_clear(&request->lines);
	evs_http_clear(&request->secrets);
	request->nheaders = 0;
	request->url.length = request->body.length = 0;
	request->url.failed = request->body.failed = false;
	request->ncookies = request->nreturned = 0;
	request->is_sent = request->has_head = false;
	request->nallowed = 0;
	request->refused[0] = request->curl_error[0] = '\0';
	request->retry_after[0] = request->location[0] = '\0';
	request->allowed_origin[0] = request->allowed_rate[0] = '\0';
	request->nkept = request->nread = 0;
	request->is_cut = request->is_split = false;
	request->answer.length = 0;
	request->answer.failed = false;
}

void
evs_http_request_free(EvsHttpRequest *request)
{
	curl_easy_cleanup(request->easy);
	reset_request(request);
	/* Those of the sink's own requests have tokens. */
	evs_http_clear(&request->body);
	evs_http_clear(&request->answer);
	evs_sink_buffer_free(&request->url);
	evs_sink_buffer_free(&request->body);
	evs_sink_buffer_free(&request->answer);
	evs_sink_buffer_free(&request->lines);
	evs_sink_buffer_free(&request->secrets);
	free(request->headers);
	free(request->cookies);
	free(request->results);
	free(request);
}

/* The request is over: keep its handle for another one. */
void
evs_http_recycle(EvsHttpRequest *request)
{
	EvsHttpSink *sink = request->sink;

	evs_http_take(request);
	reset_request(request);
	/* The body of a batch may have been large; those of others are not ours. */
	evs_sink_buffer_free(&request->body);
	evs_sink_buffer_free(&request->answer);
	evs_http_put(&sink->free, request);
}

static EvsHttpRequest *
get_request(EvsHttpSink *sink)
{
	EvsHttpRequest *request = sink->free.first;

	if (request != NULL)
	{
		evs_http_take(request);
		return request;
	}
	request = calloc(1, sizeof(*request));
	if (request == NULL)
		return NULL;
	request->sink = sink;
	request->to = &sink->config.to;
	if (evs_http_easy_init(request))
		return request;
	evs_http_request_free(request);
	return NULL;
}

/* ---- where it goes ---- */

/* If that depends on the message. */
bool
evs_http_make_url(EvsHttpRequest *request)
{
	const EvsHttpConfig *config = &request->sink->config;
	const evs_sink_message *message = request->message;
	evs_sink_buffer *url = &request->url;
	const char *rest = config->to.url;
	const char *place;

	if (!config->has_topic)
		return true;
	if (message->topic[0] == '\0')
	{
		evs_http_result(request, EVS_SINK_PERMANENT, "the message has no topic, and url has a place for it");
		return false;
	}
	while ((place = strstr(rest, "{topic}")) != NULL)
	{
		evs_sink_add(url, rest, place - rest);
		evs_http_add_uri(url, message->topic);
		rest = place + strlen("{topic}");
	}
	evs_sink_add_string(url, rest);
	if (url->failed)
		return evs_http_no_memory(request);
	if (evs_http_has_dot_segment(url->data))
	{
		evs_http_result(request, EVS_SINK_PERMANENT, "the topic \"%s\" would lead out of the path of url", message->topic);
		return false;
	}
	return true;
}

void
evs_http_go_to(EvsHttpRequest *request, const EvsHttpPlace *place)
{
	request->to = place;
	evs_sink_add_string(&request->url, place->url);
}

/* ---- making and sending ---- */

bool
evs_http_add_message(EvsHttpRequest *request, const evs_sink_message *message)
{
	if (request->ncookies == request->max_cookies)
	{
		int			max = request->max_cookies > 0 ? request->max_cookies * 2 : 1;
		uint64_t   *cookies = realloc(request->cookies, max * sizeof(*cookies));

		if (cookies == NULL)
			return false;
		request->cookies = cookies;
		request->max_cookies = max;
	}
	request->cookies[request->ncookies++] = message->cookie;
	return true;
}

EvsHttpRequest *
evs_http_request_new(EvsHttpSink *sink, const evs_sink_message *messages, int n)
{
	EvsHttpRequest *request = get_request(sink);

	if (request == NULL)
		return NULL;
	request->message = messages;
	if (!evs_http_add_message(request, messages))
	{
		evs_http_recycle(request);
		return NULL;
	}
	/* Never NULL: that would make libcurl ask for a body. */
	request->data = messages->data != NULL ? messages->data : "";
	request->length = messages->data != NULL ? messages->length : 0;
	if (!sink->config.profile->make(request, n))
		evs_http_put(&sink->done, request);
	return request;
}

EvsHttpRequest *
evs_http_request_ask(EvsHttpSink *sink)
{
	EvsHttpRequest *request = get_request(sink);

	if (request == NULL)
		return NULL;
	request->is_ours = true;
	request->data = NULL;
	request->length = 0;
	if (!sink->config.profile->ask(request))
		evs_http_put(&sink->done, request);
	return request;
}

/*
 * Only now, as a token may have come meanwhile, and signatures have the time of
 * sending.
 */
void
evs_http_send(EvsHttpRequest *request)
{
	const EvsHttpProfile *profile = request->sink->config.profile;

	evs_http_take(request);
	if ((request->is_ours || profile->sign == NULL || profile->sign(request)) &&
		evs_http_end_headers(request))
		evs_http_start(request);
	else if (request->is_ours)
		evs_http_answered(request, 0);
	else
		evs_http_put(&request->sink->done, request);
}
