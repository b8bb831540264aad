/*
 * http_entries.c
 *	  Requests with an array of messages, and results for each of them.
 */
#include <stdlib.h>
#include <string.h>

#include "http_profile.h"

static bool
has_same_topic(const EvsHttpRequest *request, const evs_sink_message *message)
{
	return !request->sink->config.has_topic || strcmp(message->topic, request->message->topic) == 0;
}

/* What is too large by itself. */
static bool
check_first(EvsHttpRequest *request, int64_t size, const EvsHttpLimits *limits)
{
	int64_t		max = limits->entry_bytes < limits->bytes ? limits->entry_bytes : limits->bytes;

	if (size > max)
		evs_http_result(request, EVS_SINK_PERMANENT,
						"the message has %lld bytes as the service counts them, more than the %lld that it may have",
						(long long) size, (long long) max);
	return size >= 0 && size <= max;
}

bool
evs_http_make_entries(EvsHttpRequest *request, int n, const EvsHttpEntries *entries,
					  const EvsHttpLimits *limits)
{
	const evs_sink_host *host = request->sink->host;
	bool		(*goes_with) (const EvsHttpRequest *request, const evs_sink_message *message) = entries->goes_with;
	evs_sink_buffer *body = &request->body;
	int64_t		bytes = 0;
	int64_t		payload = 0;

	if (goes_with == NULL)
		goes_with = has_same_topic;
	entries->begin(request);
	for (int i = 0; i < n && i < limits->entries && (i == 0 || i < host->batch_size); i++)
	{
		const evs_sink_message *message = evs_sink_message_at(request->message, i);
		size_t		before = body->length;
		int64_t		size;

		payload += message->length;
		if (i > 0 && (payload > host->batch_bytes || !goes_with(request, message)))
			break;
		size = entries->add(request, message, i);
		if (body->failed)
			return evs_http_no_memory(request);
		if (i == 0 && !check_first(request, size, limits))
			return false;
		if (i > 0 && (size < 0 || size > limits->entry_bytes || bytes + size > limits->bytes ||
					  !evs_http_add_message(request, message)))
		{
			body->length = before;
			break;
		}
		bytes += size;
	}
	entries->end(request);
	request->data = body->data;
	request->length = body->length;
	return body->failed ? evs_http_no_memory(request) : true;
}

bool
evs_http_split_result(EvsHttpRequest *request)
{
	if (request->max_results < request->ncookies)
	{
		evs_sink_result *results = realloc(request->results, sizeof(*results) * request->ncookies);

		if (results == NULL)
			return evs_http_no_memory(request);
		request->results = results;
		request->max_results = request->ncookies;
	}
	for (int i = 0; i < request->ncookies; i++)
		request->results[i] = request->result;
	request->is_split = true;
	return true;
}

void
evs_http_isolate(EvsHttpRequest *request)
{
	EvsHttpSink *sink = request->sink;

	for (int i = 0; i < request->ncookies; i++)
	{
		EvsHttpRequest *one = evs_http_request_new(sink, evs_sink_message_at(request->message, i), 1);

		if (one == NULL)
		{
			request->ncookies -= i;
			memmove(request->cookies, request->cookies + i, sizeof(*request->cookies) * request->ncookies);
			(void) evs_http_no_memory(request);
			evs_http_put(&sink->done, request);
			return;
		}
		if (one->list == NULL)
			evs_http_admit(sink, one);
	}
	evs_http_recycle(request);
}
