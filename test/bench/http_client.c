/*
 * http_client.c
 *	  What libcurl can do at most: as many requests as the http sink has in
 *	  flight, of the same kind, and nothing else.
 *
 *	http_client URL REQUESTS [IN_FLIGHT [BYTES]]
 *		POSTs so many bodies (200 bytes, 64 in flight), and prints requests a second
 *
 * A request has the headers that one of the sink has, so that it is as long.
 * The multi handle with its own poll(); easy handles and connections are used
 * again.  A response that is none of the 200s ends it.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static CURLM *multi;
static long started;
static long wanted;

static void
die(const char *what, const char *why)
{
	fprintf(stderr, "http_client: %s: %s\n", what, why);
	exit(1);
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static size_t
ignore(char *data, size_t size, size_t n, void *state)
{
	(void) data;
	(void) state;
	return size * n;
}

static CURL *
new_handle(const char *url, const char *body, size_t length, struct curl_slist *headers)
{
	CURL	   *easy = curl_easy_init();

	if (easy == NULL)
		die("curl_easy_init", "out of memory");
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) length);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, ignore);
	return easy;
}

static void
start(CURL *easy)
{
	started++;
	if (curl_multi_add_handle(multi, easy) != CURLM_OK)
		die("curl_multi_add_handle", "failed");
}

/* Returns how many requests have ended; others begin in their place. */
static long
collect(void)
{
	CURLMsg    *message;
	int			left;
	long		n = 0;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURL	   *easy = message->easy_handle;
		long		status;

		if (message->data.result != CURLE_OK)
			die("a request failed", curl_easy_strerror(message->data.result));
		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		if (status < 200 || status > 299)
			die("a request failed", "its status is none of the 200s");
		curl_multi_remove_handle(multi, easy);
		n++;
		if (started < wanted)
			start(easy);
		else
			curl_easy_cleanup(easy);
	}
	return n;
}

int
main(int argc, char **argv)
{
	struct curl_slist *headers;
	long		in_flight = argc > 3 ? atol(argv[3]) : 64;
	size_t		length = argc > 4 ? strtoul(argv[4], NULL, 10) : 200;
	long		ended = 0;
	double		begin;
	char	   *body;

	if (argc < 3 || (wanted = atol(argv[2])) < 1 || in_flight < 1)
		die("usage", "http_client URL REQUESTS [IN_FLIGHT [BYTES]]");
	curl_global_init(CURL_GLOBAL_DEFAULT);
	multi = curl_multi_init();
	body = malloc(length + 1);
	if (multi == NULL || body == NULL)
		die("start", "out of memory");
	memset(body, 'x', length);
	headers = curl_slist_append(NULL, "Content-Type: application/cloudevents+json; charset=utf-8");
	headers = curl_slist_append(headers, "Expect:");
	headers = curl_slist_append(headers, "Idempotency-Key: 01900000-0000-7000-8000-000000000000");
	headers = curl_slist_append(headers, "User-Agent: evstore");
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, in_flight + 1);
	begin = now();
	for (long i = 0; i < in_flight && i < wanted; i++)
		start(new_handle(argv[1], body, length, headers));
	while (ended < wanted)
	{
		int			running;

		curl_multi_perform(multi, &running);
		ended += collect();
		if (ended < wanted)
			curl_multi_poll(multi, NULL, 0, 1000, NULL);
	}
	printf("requests_per_second=%.0f\n", ended / (now() - begin));
	curl_multi_cleanup(multi);
	curl_slist_free_all(headers);
	free(body);
	return 0;
}
