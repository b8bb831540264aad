/*
 * http_aws_answer.c
 *	  What AWS answers: errors of requests and of entries.
 *
 * Failures inside are tried again.  Throttling, and what is wrong with credentials,
 * the clock or the destination, is an outage: it mends itself when that has been
 * mended, and it is no message's fault.  What is wrong with a message is
 * permanent; of several in a request that was refused as a whole each is sent by
 * itself then.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_aws.h"

/* Limits are by the second. */
#define THROTTLED_MS 1000

typedef enum Kind
{
	THROTTLED,
	INSIDE,
	UNAVAILABLE,
	CREDENTIALS,
	CLOCK,
	NOT_FOUND,
	REFUSED,					/* the message */
	UNKNOWN
} Kind;

typedef struct Known
{
	const char *code;			/* a part of it */
	Kind		kind;
} Known;

/* The first that is a part of a code counts. */
static const Known known[] = {
	{"TooSkewed", CLOCK},
	{"NotAuthorizedFor", REFUSED},	/* a source or detail type of EventBridge */
	{"Throttl", THROTTLED},
	{"TooManyRequests", THROTTLED},
	{"ThroughputExceeded", THROTTLED},
	{"LimitExceeded", THROTTLED},
	{"SlowDown", THROTTLED},
	{"Concurrent", THROTTLED},
	{"PriorRequestNotComplete", THROTTLED},
	{"ServiceUnavailable", UNAVAILABLE},
	{"UnknownOperation", UNAVAILABLE},	/* it is another service */
	{"InvalidAction", UNAVAILABLE},
	{"UnsupportedOperation", UNAVAILABLE},	/* a queue of another kind */
	{"QueueDeletedRecently", UNAVAILABLE},
	{"Internal", INSIDE},
	{"ServiceFailure", INSIDE},
	{"RequestTimeout", INSIDE},
	{"AccessDenied", CREDENTIALS},
	{"AuthorizationError", CREDENTIALS},
	{"AuthFailure", CREDENTIALS},
	{"UnrecognizedClient", CREDENTIALS},
	{"InvalidClientTokenId", CREDENTIALS},
	{"InvalidAccessKeyId", CREDENTIALS},
	{"InvalidSecurity", CREDENTIALS},
	{"InvalidSignature", CREDENTIALS},
	{"IncompleteSignature", CREDENTIALS},
	{"SignatureDoesNotMatch", CREDENTIALS},
	{"MissingAuthenticationToken", CREDENTIALS},
	{"ExpiredToken", CREDENTIALS},
	{"RequestExpired", CREDENTIALS},
	{"NotAuthorized", CREDENTIALS},
	{"OptInRequired", CREDENTIALS},
	{"KMS", CREDENTIALS},		/* the key of a queue, topic or stream */
	{"Kms", CREDENTIALS},
	{"ResourceNotFound", NOT_FOUND},
	{"NonExistentQueue", NOT_FOUND},
	{"QueueDoesNotExist", NOT_FOUND},
	{"NotFound", NOT_FOUND},
	{"InvalidAddress", NOT_FOUND},
	{"UnknownEndpoint", NOT_FOUND},
	{"Invalid", REFUSED},
	{"Malformed", REFUSED},
	{"Validation", REFUSED},
	{"TooLong", REFUSED},
	{NULL, UNKNOWN}
};

static Kind
find_kind(const EvsAwsError *error)
{
	const Known *k = known;

	while (k->code != NULL && strstr(error->code, k->code) == NULL)
		k++;
	/* What is said of a signature that is too old, or of the future. */
	if (k->kind == CREDENTIALS &&
		(strstr(error->message, "Signature expired") != NULL || strstr(error->message, "Signature not yet current") != NULL))
		return CLOCK;
	return k->kind;
}

static evs_sink_class
class_of(const EvsHttpRequest *request, Kind kind, const EvsAwsError *error)
{
	switch (kind)
	{
		case INSIDE:
			return EVS_SINK_RETRY;
		case THROTTLED:
		case UNAVAILABLE:
		case CREDENTIALS:
		case CLOCK:
			return EVS_SINK_RETRY_SINK;
		case NOT_FOUND:
			/* It may be the message that names a wrong place. */
			return evs_aws(request)->has_place ? EVS_SINK_PERMANENT : EVS_SINK_RETRY_SINK;
		case REFUSED:
			return EVS_SINK_PERMANENT;
		case UNKNOWN:
			break;
	}
	return error->is_senders ? EVS_SINK_PERMANENT : EVS_SINK_RETRY;
}

static const char *
explain(Kind kind)
{
	switch (kind)
	{
		case CREDENTIALS:
			return "the credentials are refused, or do not allow it: ";
		case CLOCK:
			return "the clock of this server and that of AWS differ: ";
		case NOT_FOUND:
			return "there is no such destination: ";
		default:
			return "";
	}
}

static int64_t
time_to_wait(const EvsHttpRequest *request, Kind kind)
{
	int64_t		ms = evs_http_retry_after(request);

	return ms < 0 && kind == THROTTLED ? THROTTLED_MS : ms;
}

void
evs_aws_entry_done(EvsHttpRequest *request, int i, const EvsAwsError *error)
{
	Kind		kind;
	evs_sink_result *result;

	if (!error->is_wrong)
	{
		(void) evs_http_entry_result(request, i, EVS_SINK_OK, "%s", "");
		return;
	}
	kind = find_kind(error);
	result = evs_http_entry_result(request, i, class_of(request, kind, error), "%s%s: %s", explain(kind),
								   error->code[0] != '\0' ? error->code : "an error without a code", error->message);
	if (result->result != EVS_SINK_PERMANENT)
		result->retry_after_ms = time_to_wait(request, kind);
}

/* ---- errors of a whole request ---- */

static void
take_json_error(void *arg, const evs_sink_json_value *value)
{
	EvsAwsError *error = arg;

	if (strcmp(value->path, "__type") == 0 || strcmp(value->path, "code") == 0)
	{
		char		code[sizeof(error->code)];
		const char *name;

		/* com.amazonaws.sqs#QueueDoesNotExist, or with ":http://..." behind */
		evs_http_json_excerpt(value, code, sizeof(code));
		name = strrchr(code, '#');
		name = name != NULL ? name + 1 : code;
		snprintf(error->code, sizeof(error->code), "%.*s", (int) strcspn(name, ":"), name);
	}
	else if (strcmp(value->path, "message") == 0 || strcmp(value->path, "Message") == 0)
		evs_http_json_excerpt(value, error->message, sizeof(error->message));
}

static void
take_xml_error(void *arg, const char *path, const char *text, size_t length)
{
	EvsAwsError *error = arg;

	if (strcmp(path, "ErrorResponse.Error.Code") == 0)
		evs_http_xml_excerpt(text, length, error->code, sizeof(error->code));
	else if (strcmp(path, "ErrorResponse.Error.Message") == 0)
		evs_http_xml_excerpt(text, length, error->message, sizeof(error->message));
}

void
evs_aws_judge_error(EvsHttpRequest *request, long status)
{
	const evs_sink_buffer *answer = &request->answer;
	EvsAwsError error = {.is_wrong = true, .is_senders = status >= 400 && status < 500 && status != 429};
	Kind		kind;

	if (answer->length == 0 || request->is_cut ||
		!(answer->data[0] == '<' ? evs_http_xml_scan(answer->data, answer->length, take_xml_error, &error) :
		  evs_sink_json_scan(answer->data, answer->length, take_json_error, &error)) ||
		error.code[0] == '\0')
	{
		evs_http_judge_status(request, status);
		return;
	}
	kind = find_kind(&error);
	if (kind == UNKNOWN && (status == 502 || status == 503 || status == 504))
		kind = UNAVAILABLE;
	evs_http_result(request, class_of(request, kind, &error), "%s%s: %s", explain(kind), error.code, error.message);
	request->result.code = (int32_t) status;
	if (request->result.result != EVS_SINK_PERMANENT)
		request->result.retry_after_ms = time_to_wait(request, kind);
}

/* ---- entries ---- */

void
evs_aws_not_understood(EvsHttpRequest *request, long status)
{
	request->is_split = false;
	evs_http_result(request, EVS_SINK_RETRY_SINK, "HTTP %ld, but the response is not what the service answers", status);
	request->result.code = (int32_t) status;
}

bool
evs_aws_begin_entries(EvsHttpRequest *request, long status)
{
	if (status != 200)
		evs_aws_judge_error(request, status);
	else if (request->is_cut || request->answer.length == 0)
		evs_aws_not_understood(request, status);
	else
	{
		evs_http_result(request, EVS_SINK_RETRY, "the response does not mention this message");
		return evs_http_split_result(request);
	}
	return false;
}

typedef struct ArrayReader
{
	EvsHttpRequest *request;
	const char *array;			/* its name */
	const char *taken;			/* member of an entry that was taken */
	int			i;				/* entry that is read; -1: none yet */
	bool		is_taken;
	EvsAwsError error;
} ArrayReader;

static void
end_entry(ArrayReader *reader)
{
	if (reader->i >= 0 && (reader->is_taken || reader->error.is_wrong))
		evs_aws_entry_done(reader->request, reader->i, &reader->error);
	memset(&reader->error, 0, sizeof(reader->error));
	reader->is_taken = false;
}

static void
take_member(void *arg, const evs_sink_json_value *value)
{
	ArrayReader *reader = arg;
	size_t		length = strlen(reader->array);
	char	   *end;
	long		i;

	if (strncmp(value->path, reader->array, length) != 0 || value->path[length] != '.' || value->kind != '"')
		return;
	i = strtol(value->path + length + 1, &end, 10);
	if (*end != '.')
		return;
	if (i != reader->i)
		end_entry(reader);
	reader->i = (int) i;
	if (strcmp(end + 1, reader->taken) == 0)
		reader->is_taken = true;
	else if (strcmp(end + 1, "ErrorCode") == 0)
	{
		reader->error.is_wrong = true;
		evs_http_json_excerpt(value, reader->error.code, sizeof(reader->error.code));
	}
	else if (strcmp(end + 1, "ErrorMessage") == 0)
		evs_http_json_excerpt(value, reader->error.message, sizeof(reader->error.message));
}

void
evs_aws_judge_array(EvsHttpRequest *request, long status, const char *array, const char *taken)
{
	ArrayReader reader = {.request = request, .array = array, .taken = taken, .i = -1};

	if (!evs_aws_begin_entries(request, status))
		return;
	if (evs_sink_json_scan(request->answer.data, request->answer.length, take_member, &reader))
		end_entry(&reader);
	else
		evs_aws_not_understood(request, status);
}
