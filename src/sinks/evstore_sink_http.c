/*
 * evstore_sink_http.c
 *	  The http sink: web hooks, and services that take events by HTTP.
 *
 * http.h says where what is, http_profile.h how services differ.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <poll.h>

#include "http.h"

static int
validate(const evs_sink_host *host, const evs_sink_settings *settings, char *error, size_t size)
{
	EvsHttpConfig config = {NULL};
	int			rc = evs_http_configure(host, settings, &config, error, size);

	evs_http_config_free(&config);
	return rc;
}

static void
destroy(void *state)
{
	EvsHttpSink *sink = state;

	evs_http_loop_close(sink);
	evs_http_config_free(&sink->config);
	free(sink);
	/* libcurl counts: the last one cleans up. */
	curl_global_cleanup();
}

static void *
open_sink(const evs_sink_host *host, const evs_sink_settings *settings, char *error, size_t size)
{
	EvsHttpSink *sink = calloc(1, sizeof(*sink));

	if (sink == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
	{
		snprintf(error, size, "could not initialise libcurl");
		free(sink);
		return NULL;
	}
	sink->host = host;
	sink->epoll_fd = -1;
	if (evs_http_configure(host, settings, &sink->config, error, size) == 0 &&
		evs_http_loop_open(sink, error, size))
		return sink;
	destroy(sink);
	return NULL;
}

/* How many are before the first, from "to" on, whose key is that of one between "from" and "to"? */
static int
count_with_other_keys(const evs_sink_message *messages, int from, int to, int n)
{
	for (int i = to; i < n; i++)
	{
		const char *key = evs_sink_message_at(messages, i)->key;

		for (int j = from; key != NULL && j < to; j++)
		{
			const char *other = evs_sink_message_at(messages, j)->key;

			if (other != NULL && strcmp(key, other) == 0)
				return i;
		}
	}
	return n;
}

/*
 * Two requests on their way must not have messages of the same key.  The relay sees
 * to that, but for those that it submits together as a batch.  If they are not one
 * request, the rest is not accepted from where a key would be in two.
 */
static int
submit(void *state, const evs_sink_message *messages, int n)
{
	EvsHttpSink *sink = state;
	int			accepted = 0;

	while (accepted < n)
	{
		EvsHttpRequest *request = evs_http_request_new(sink, evs_sink_message_at(messages, accepted), n - accepted);
		int			before = accepted;

		if (request == NULL)
			break;
		accepted += request->ncookies;
		if (sink->config.format == EVS_HTTP_BATCH)
			n = count_with_other_keys(messages, before, accepted, n);
		if (request->list == NULL)
			evs_http_admit(sink, request);
	}
	return accepted;
}

static int
wait_fd(void *state, short *events, int *timeout_ms)
{
	EvsHttpSink *sink = state;

	*events = POLLIN;
	evs_http_register_sockets(sink);
	*timeout_ms = evs_http_timeout(sink);
	return sink->epoll_fd;
}

static int
progress(void *state, evs_sink_result *results, int max)
{
	EvsHttpSink *sink = state;
	EvsHttpRequest *request;
	int			n = 0;

	evs_http_drive(sink);
	while (n < max && (request = sink->done.first) != NULL)
	{
		results[n] = request->is_split ? request->results[request->nreturned] : request->result;
		results[n++].cookie = request->cookies[request->nreturned++];
		if (request->nreturned == request->ncookies)
			evs_http_recycle(request);
	}
	return n;
}

static const evs_sink http_sink = {
	.abi = EVS_SINK_ABI,
	.size = sizeof(evs_sink),
	.name = "http",
	.description = "HTTP and web hooks, by libcurl " LIBCURL_VERSION,
	.caps = EVS_SINK_CAP_NETWORK | EVS_SINK_CAP_THREADS | EVS_SINK_CAP_BATCH,
	.validate = validate,
	.open = open_sink,
	.submit = submit,
	.wait_fd = wait_fd,
	.progress = progress,
	.destroy = destroy
};

EVS_SINK_EXPORT const evs_sink *
evs_sink_init(uint32_t host_abi)
{
	return host_abi == EVS_SINK_ABI ? &http_sink : NULL;
}
