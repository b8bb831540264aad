/*
 * http_response.c
 *	  What a response, or that there is none, means for a message.
 *
 * docs/reference/sink-http.md has the table for users.  What is wrong with the
 * relay's configuration or with the receiver as a whole is RETRY_SINK, so that
 * the relay waits and goes on by itself when that has been mended: a token has
 * been changed, a path appears.  FATAL is for what somebody has to decide.
 */
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "http_profile.h"

/* Longer than that is a mistake of the other side, and must not overflow. */
#define RETRY_AFTER_MAX_S (30 * 24 * 3600)

/* ---- reading it ---- */

typedef struct KnownHeader
{
	const char *name;
	size_t		offset;			/* of its value in the request */
} KnownHeader;

static const KnownHeader known_headers[] = {
	{"Retry-After", offsetof(EvsHttpRequest, retry_after)},
	{"Location", offsetof(EvsHttpRequest, location)},
	{"WebHook-Allowed-Origin", offsetof(EvsHttpRequest, allowed_origin)},
	{"WebHook-Allowed-Rate", offsetof(EvsHttpRequest, allowed_rate)},
};

#define NKNOWN_HEADERS ((int) (sizeof(known_headers) / sizeof(known_headers[0])))

/* What was there of an earlier response, an interim one or of another attempt, is gone. */
static void
forget_response(EvsHttpRequest *request)
{
	for (int i = 0; i < NKNOWN_HEADERS; i++)
		((char *) request)[known_headers[i].offset] = '\0';
	request->nkept = request->nread = request->answer.length = 0;
	request->has_head = request->is_cut = false;
}

static void
keep_value(char *into, const char *value, size_t length)
{
	while (length > 0 && (*value == ' ' || *value == '\t'))
	{
		value++;
		length--;
	}
	while (length > 0 && strchr(" \t\r\n", value[length - 1]) != NULL)
		length--;
	if (length > EVS_HTTP_VALUE_MAX - 1)
		length = EVS_HTTP_VALUE_MAX - 1;
	memcpy(into, value, length);
	into[length] = '\0';
}

static size_t
on_header(char *line, size_t size, size_t n, void *state)
{
	EvsHttpRequest *request = state;
	size_t		length = size * n;

	if (length > 5 && memcmp(line, "HTTP/", 5) == 0)
		forget_response(request);
	if (line[0] == '\r' || line[0] == '\n')
		request->has_head = true;
	for (int i = 0; i < NKNOWN_HEADERS; i++)
	{
		size_t		name = strlen(known_headers[i].name);

		if (length > name && line[name] == ':' &&
			strncasecmp(line, known_headers[i].name, name) == 0)
			keep_value((char *) request + known_headers[i].offset, line + name + 1, length - name - 1);
	}
	return length;
}

/* Keep the beginning; of a body that does not end the rest is not even read. */
static size_t
on_body(char *data, size_t size, size_t n, void *state)
{
	EvsHttpRequest *request = state;
	size_t		length = size * n;
	size_t		room = sizeof(request->kept) - request->nkept;

	memcpy(request->kept + request->nkept, data, length < room ? length : room);
	request->nkept += length < room ? length : room;
	request->nread += length;
	request->is_cut = request->nread > EVS_HTTP_BODY_READ;
	if (!request->is_cut && (request->is_ours || request->sink->config.profile->judge != NULL))
		evs_sink_add(&request->answer, data, length);
	return request->is_cut ? 0 : length;
}

bool
evs_http_response_hooks(EvsHttpRequest *request)
{
	CURL	   *easy = request->easy;

	return curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
		curl_easy_setopt(easy, CURLOPT_HEADERDATA, request) == CURLE_OK &&
		curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
		curl_easy_setopt(easy, CURLOPT_WRITEDATA, request) == CURLE_OK;
}

/* ---- what people may see of it ---- */

/* Make valid UTF-8 of it, on one line, without growing. */
static void
make_readable(char *string)
{
	unsigned char *c = (unsigned char *) string;
	const unsigned char *end = c + strlen(string);

	while (c < end)
	{
		size_t		n = evs_http_utf8_length(c, end);

		/* A character that has been cut off by the end is dropped. */
		if (n == 0 && *c >= 0xC2 && end - c < 4 && (c + 1 == end || (c[1] & 0xC0) == 0x80))
			break;
		if (n == 0)
			*c = '?';
		else if (*c < 0x20 || *c == 0x7F || (*c == 0xC2 && c[1] < 0xA0))
			memset(c, ' ', n);
		c += n > 0 ? n : 1;
	}
	*c = '\0';
}

/* Overwrite a secret where a string has it, or ends with its beginning. */
static void
hide(char *string, size_t length, const char *secret)
{
	size_t		size = strlen(secret);

	for (size_t i = 0; i < length; i++)
	{
		size_t		here = length - i < size ? length - i : size;

		if (here >= (size < 4 ? size : 4) && memcmp(string + i, secret, here) == 0)
			memset(string + i, '*', here);
	}
}

/* A receiver that sends back what it got must not make us show our secrets. */
static void
hide_secrets(EvsHttpRequest *request, char *string, size_t length)
{
	const evs_sink_buffer *secrets = &request->secrets;

	for (size_t i = 0; i < secrets->length; i += strlen(secrets->data + i) + 1)
		hide(string, length, secrets->data + i);
}

static void
__attribute__((format(printf, 4, 0)))
set_result(EvsHttpRequest *request, evs_sink_result *result, evs_sink_class what,
		   const char *format, va_list args)
{
	char	   *detail = result->detail;

	vsnprintf(detail, sizeof(result->detail), format, args);
	hide_secrets(request, detail, strlen(detail));
	make_readable(detail);
	result->result = what;
	result->code = 0;
	result->retry_after_ms = -1;
}

/* Set the result, with no code and no time to wait; the detail is made fit to show. */
void
evs_http_result(EvsHttpRequest *request, evs_sink_class what, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	set_result(request, &request->result, what, format, args);
	va_end(args);
}

/* The same for one of several messages. */
evs_sink_result *
evs_http_entry_result(EvsHttpRequest *request, int i, evs_sink_class what, const char *format,...)
{
	static evs_sink_result nobody;
	evs_sink_result *result = &nobody;
	va_list		args;

	if (request->is_split && i >= 0 && i < request->ncookies)
		result = &request->results[i];
	va_start(args, format);
	set_result(request, result, what, format, args);
	va_end(args);
	return result;
}

/* ---- classes ---- */

static evs_sink_class
status_class(const EvsHttpConfig *config, long status)
{
	if (status >= 200 && status < 300)
		return EVS_SINK_OK;
	if (status >= 300 && status < 400)
		return EVS_SINK_FATAL;
	switch (status)
	{
		case 401:
		case 403:
		case 407:
			return EVS_SINK_RETRY_SINK;
		case 404:
		case 405:
			/* With {topic} it is the message that names a wrong place. */
			return config->has_topic ? EVS_SINK_PERMANENT : EVS_SINK_RETRY_SINK;
		case 408:
		case 425:
		case 429:
			return EVS_SINK_RETRY;
		case 409:
			return config->conflict_is_duplicate ? EVS_SINK_DUPLICATE : EVS_SINK_PERMANENT;
		case 410:
			return EVS_SINK_FATAL;
		case 502:
		case 503:
		case 504:
			return EVS_SINK_RETRY_SINK;
	}
	if (status >= 400 && status < 500)
		return EVS_SINK_PERMANENT;
	return status >= 500 && status < 600 ? EVS_SINK_RETRY : EVS_SINK_RETRY_SINK;
}

/* Milliseconds of Retry-After, which has seconds or a date; -1 if it says nothing. */
int64_t
evs_http_retry_after(const EvsHttpRequest *request)
{
	const char *value = request->retry_after;
	size_t		digits = strspn(value, "0123456789");
	double		seconds;

	if (*value == '\0')
		return -1;
	if (value[digits] == '\0')
		seconds = strtod(value, NULL);
	else
	{
		time_t		when = curl_getdate(value, NULL);

		if (when == (time_t) -1)
			return -1;
		seconds = difftime(when, time(NULL));
	}
	if (seconds < 0)
		seconds = 0;
	if (seconds > RETRY_AFTER_MAX_S)
		seconds = RETRY_AFTER_MAX_S;
	return (int64_t) (seconds * 1000);
}

static void
describe_status(EvsHttpRequest *request, evs_sink_class what, long status)
{
	char		excerpt[EVS_HTTP_BODY_SHOWN + 1];
	size_t		n = request->nkept < EVS_HTTP_BODY_SHOWN ? request->nkept : EVS_HTTP_BODY_SHOWN;

	/* In all that was kept: also a secret that begins in what is shown. */
	hide_secrets(request, request->kept, request->nkept);
	for (size_t i = 0; i < n; i++)
		excerpt[i] = request->kept[i] != '\0' ? request->kept[i] : ' ';
	excerpt[n] = '\0';
	make_readable(excerpt);
	if (status >= 300 && status < 400)
		evs_http_result(request, what, "HTTP %ld: redirects are not followed; set url to %s",
						status, request->location[0] ? request->location : "where it leads");
	else if (status == 410)
		evs_http_result(request, what, "HTTP 410: the receiver is gone and wants nothing more%s%s",
						excerpt[0] ? ": " : "", excerpt);
	else
		evs_http_result(request, what, "HTTP %ld%s%s", status, excerpt[0] ? ": " : "", excerpt);
}

void
evs_http_judge_status(EvsHttpRequest *request, long status)
{
	evs_sink_class what = status_class(&request->sink->config, status);

	if (what == EVS_SINK_OK)
		evs_sink_set_result(&request->result, 0, what, 0, "");
	else
		describe_status(request, what, status);
	request->result.code = (int32_t) status;
	if (what == EVS_SINK_RETRY || what == EVS_SINK_RETRY_SINK)
		request->result.retry_after_ms = evs_http_retry_after(request);
}

static evs_sink_class
failure_class(const EvsHttpRequest *request, CURLcode code)
{
	switch (code)
	{
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_CRL_BADFILE:
		case CURLE_SSL_INVALIDCERTSTATUS:
		case CURLE_SSL_ISSUER_ERROR:
			return EVS_SINK_FATAL;
		case CURLE_URL_MALFORMAT:
			/* The configured one is not: it is what became of the topic. */
			return EVS_SINK_PERMANENT;
		case CURLE_OPERATION_TIMEDOUT:
			return request->is_sent ? EVS_SINK_RETRY : EVS_SINK_RETRY_SINK;
		default:
			return EVS_SINK_RETRY_SINK;
	}
}

static void
judge_failure(EvsHttpRequest *request, CURLcode code)
{
	const EvsHttpConfig *config = &request->sink->config;

	if (request->refused[0] != '\0' && request->nallowed == 0 && !request->is_sent)
		evs_http_result(request, EVS_SINK_FATAL, "connections to %s, to which %s was resolved, are not allowed by evstore.egress_allow",
						request->refused, config->proxy_host ? config->proxy_host : request->to->host);
	else
		evs_http_result(request, failure_class(request, code), "%s",
						request->curl_error[0] ? request->curl_error : curl_easy_strerror(code));
}

static void
judge(EvsHttpRequest *request, long status)
{
	const EvsHttpProfile *profile = request->sink->config.profile;

	if (request->answer.failed)
		(void) evs_http_no_memory(request);
	else if (profile->judge != NULL && !request->is_ours)
		profile->judge(request, status);
	else
		evs_http_judge_status(request, status);
}

/*
 * Several messages were refused, and one of them is to blame.  Of those that
 * were made one request because the relay wants it, the host tries each.
 */
static bool
must_isolate(const EvsHttpRequest *request)
{
	return request->ncookies > 1 && !request->is_split &&
		request->result.result == EVS_SINK_PERMANENT &&
		request->sink->config.format != EVS_HTTP_BATCH;
}

/* A request has ended, with a response or without. */
void
evs_http_finish(EvsHttpRequest *request, CURLcode code)
{
	long		status = 0;

	curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
	/* A body that we did not want to read to its end is no failure. */
	if (code == CURLE_WRITE_ERROR && request->is_cut)
		code = CURLE_OK;
	/* libcurl is content with the first line of a head. */
	if (code == CURLE_OK && !request->has_head)
	{
		snprintf(request->curl_error, sizeof(request->curl_error), "the response ended in its head");
		code = CURLE_PARTIAL_FILE;
	}
	if (code == CURLE_OK)
		judge(request, status);
	else
		judge_failure(request, code);
	if (request->is_ours)
		evs_http_answered(request, code == CURLE_OK ? status : 0);
	else if (must_isolate(request))
		evs_http_isolate(request);
	else
		evs_http_put(&request->sink->done, request);
}
