/*
 * http_gcp_status.c
 *	  What responses of Google Cloud mean.
 *
 * A publish request is taken as a whole or not at all; the answer has an id for
 * each message.  An error is {"error": {"code": ..., "message": ..., "status":
 * ...}}, where status, google.rpc.Code, says more than the status of HTTP.
 */
#include <stdlib.h>
#include <string.h>

#include "http_gcp.h"

/* Longer than that is a mistake. */
#define RETRY_DELAY_MAX_S (30 * 24 * 3600)

typedef struct Meaning
{
	const char *status;
	evs_sink_class what;
} Meaning;

/*
 * Quotas, locks and what is not there now concern the topic and not a message.  An
 * error inside may be the message's fault, so it counts as an attempt.
 */
static const Meaning meanings[] = {
	{"UNAUTHENTICATED", EVS_SINK_RETRY_SINK},
	{"PERMISSION_DENIED", EVS_SINK_RETRY_SINK},
	{"RESOURCE_EXHAUSTED", EVS_SINK_RETRY_SINK},
	{"UNAVAILABLE", EVS_SINK_RETRY_SINK},
	{"ABORTED", EVS_SINK_RETRY_SINK},
	{"FAILED_PRECONDITION", EVS_SINK_RETRY_SINK},
	{"UNIMPLEMENTED", EVS_SINK_RETRY_SINK},
	{"DEADLINE_EXCEEDED", EVS_SINK_RETRY},
	{"CANCELLED", EVS_SINK_RETRY},
	{"INTERNAL", EVS_SINK_RETRY},
	{"UNKNOWN", EVS_SINK_RETRY},
	{"INVALID_ARGUMENT", EVS_SINK_PERMANENT},
	{"OUT_OF_RANGE", EVS_SINK_PERMANENT},
};

#define NMEANINGS ((int) (sizeof(meanings) / sizeof(meanings[0])))

typedef struct Answer
{
	int			nids;
	char		status[64];
	char		message[EVS_HTTP_BODY_SHOWN + 1];
	int64_t		delay_ms;		/* -1: none */
} Answer;

static bool
begins_with(const char *text, const char *beginning)
{
	return strncmp(text, beginning, strlen(beginning)) == 0;
}

static bool
ends_with(const char *text, const char *end)
{
	size_t		length = strlen(text);

	return length >= strlen(end) && strcmp(text + length - strlen(end), end) == 0;
}

/* A google.protobuf.Duration: "1.5s" */
static int64_t
read_duration(const evs_sink_json_value *value)
{
	char		text[32];
	char	   *end;
	double		seconds;

	if (!evs_sink_json_string(value, text, sizeof(text)))
		return -1;
	seconds = strtod(text, &end);
	if (end == text || strcmp(end, "s") != 0 || !(seconds >= 0))
		return -1;
	return (int64_t) ((seconds < RETRY_DELAY_MAX_S ? seconds : RETRY_DELAY_MAX_S) * 1000);
}

static void
look_at(void *arg, const evs_sink_json_value *value)
{
	Answer	   *answer = arg;

	if (value->kind != '"')
		return;
	if (begins_with(value->path, "messageIds."))
		answer->nids++;
	else if (strcmp(value->path, "error.status") == 0)
		evs_http_json_excerpt(value, answer->status, sizeof(answer->status));
	else if (strcmp(value->path, "error.message") == 0)
		evs_http_json_excerpt(value, answer->message, sizeof(answer->message));
	else if (begins_with(value->path, "error.details.") && ends_with(value->path, ".retryDelay"))
		answer->delay_ms = read_duration(value);
}

static void
judge_success(EvsHttpRequest *request, const Answer *answer)
{
	int32_t		status = request->result.code;

	if (answer->nids == request->ncookies)
		return;
	evs_http_result(request, EVS_SINK_RETRY_SINK, "HTTP %d: the answer has %d ids for %d messages",
					(int) status, answer->nids, request->ncookies);
	request->result.code = status;
}

static void
judge_error(EvsHttpRequest *request, const Answer *answer)
{
	const Meaning *meaning = meanings;

	while (meaning < meanings + NMEANINGS && strcmp(meaning->status, answer->status) != 0)
		meaning++;
	if (meaning < meanings + NMEANINGS)
		evs_cloud_reclassify(request, meaning->what);
	else if (request->result.code == 429)
		evs_cloud_reclassify(request, EVS_SINK_RETRY_SINK);
	if (answer->status[0] != '\0' || answer->message[0] != '\0')
		evs_cloud_explain(request, answer->status, answer->message);
	if (request->result.retry_after_ms < 0 &&
		(request->result.result == EVS_SINK_RETRY || request->result.result == EVS_SINK_RETRY_SINK))
		request->result.retry_after_ms = answer->delay_ms;
	if (request->result.code == 401)
		evs_gcp_refused(request);
}

void
evs_gcp_judge(EvsHttpRequest *request, long status)
{
	Answer		answer = {.delay_ms = -1};

	evs_http_judge_status(request, status);
	if (request->answer.data == NULL ||
		!evs_sink_json_scan(request->answer.data, request->answer.length, look_at, &answer))
		answer = (Answer) {.delay_ms = -1};
	if (request->result.result == EVS_SINK_OK)
		judge_success(request, &answer);
	else
		judge_error(request, &answer);
}
