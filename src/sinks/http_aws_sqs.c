/*
 * http_aws_sqs.c
 *	  Amazon SQS: SendMessageBatch, by its JSON protocol.
 *
 *	  https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html
 */
#include <stdlib.h>
#include <string.h>

#include "http_aws.h"

static const char *const names[] = {
	EVS_AWS_NAMES, "queue_url", "group_id", "attributes.", NULL
};

/* The scheme and the host of the queue are those of the endpoint. */
static bool
read_queue_url(EvsHttpReader *reader, const EvsAws *aws)
{
	const char *url = aws->destination;
	const char *host = strstr(url, "://");
	const char *path = host != NULL ? strchr(host + 3, '/') : NULL;
	char	   *endpoint;
	bool		ok;

	if (host == NULL || path == NULL || (strncmp(url, "https://", 8) != 0 && strncmp(url, "http://", 7) != 0))
		return evs_http_fail(reader, "setting \"queue_url\" must be the URL of a queue: https://host/account/name");
	if (memchr(url, '{', path - url) != NULL)
		return evs_http_fail(reader, "setting \"queue_url\" can have places to fill in in its path only");
	endpoint = strndup(url, path - url);
	if (endpoint == NULL)
		return evs_http_fail(reader, "out of memory");
	ok = evs_aws_configure_endpoint(reader, endpoint, endpoint);
	free(endpoint);
	return ok;
}

static bool
configure(EvsHttpReader *reader)
{
	EvsAws	   *aws = evs_aws_configure(reader, "sqs", "queue_url", NULL);

	if (aws == NULL)
		return false;
	aws->target = "AmazonSQS.SendMessageBatch";
	aws->content_type = "application/x-amz-json-1.0";
	return evs_http_read_template(reader, "group_id", NULL, &aws->group_id) &&
		evs_aws_check_attributes(reader) && evs_aws_read_limits(reader, 1048576, NULL) &&
		read_queue_url(reader, aws);
}

static void
begin(EvsHttpRequest *request)
{
	evs_sink_add_string(&request->body, "{\"Entries\":[");
}

static void
add_attribute(evs_sink_buffer *body, const char *prefix, int i, const char *name, const char *type,
			  const char *value)
{
	evs_sink_add_string(body, i > 0 ? "," : ",\"MessageAttributes\":{");
	evs_http_add_json(body, name, strlen(name));
	evs_sink_add_string(body, ":{");
	evs_aws_add_member(body, "DataType", type);
	evs_sink_add(body, ",", 1);
	evs_aws_add_member(body, "StringValue", value);
	evs_sink_add(body, "}", 1);
}

static void
add_group(EvsHttpRequest *request, const evs_sink_message *message)
{
	const EvsAws *aws = evs_aws(request);
	evs_sink_buffer *body = &request->body;
	evs_sink_buffer group = {0};
	bool		is_fifo = evs_aws_is_fifo(request, message);

	if (!is_fifo && aws->group_id == NULL)
		return;
	evs_aws_group(aws, message, &group);
	evs_sink_add(body, ",", 1);
	evs_aws_add_member(body, "MessageGroupId", group.failed ? "" : group.data);
	body->failed = body->failed || group.failed;
	evs_sink_buffer_free(&group);
	if (!is_fifo)
		return;
	evs_sink_add(body, ",", 1);
	evs_aws_add_member(body, "MessageDeduplicationId", message->id);
}

static int64_t
add(EvsHttpRequest *request, const evs_sink_message *message, int i)
{
	evs_sink_buffer *body = &request->body;
	int64_t		bytes;
	size_t		before;

	if (!evs_aws_check_payload(request, message))
		return -1;
	evs_sink_printf(body, "%s{\"Id\":\"%d\",\"MessageBody\":", i > 0 ? "," : "", i);
	evs_http_add_json(body, message->data, message->length);
	before = body->length;
	bytes = evs_aws_add_attributes(request, message, NULL, add_attribute);
	if (bytes < 0)
		return -1;
	if (body->length > before)
		evs_sink_add(body, "}", 1);
	add_group(request, message);
	evs_sink_add(body, "}", 1);
	return bytes + message->length;
}

static void
end(EvsHttpRequest *request)
{
	evs_sink_add(&request->body, "],", 2);
}

static void
add_queue(evs_sink_buffer *body, const evs_sink_buffer *url)
{
	evs_aws_add_member(body, "QueueUrl", url->data);
	evs_sink_add(body, "}", 1);
}

static bool
make(EvsHttpRequest *request, int n)
{
	static const EvsHttpEntries entries = {begin, add, end, evs_aws_goes_with};

	return evs_http_make_entries(request, n, &entries, &evs_aws(request)->limits) &&
		evs_aws_end_body(request, add_queue) && evs_aws_add_headers(request);
}

/* ---- the answer: entries that were taken, and others, by their ids ---- */

typedef struct Answer
{
	EvsHttpRequest *request;
	char		place[32];		/* Successful.3 */
	int			id;				/* -1: not known */
	EvsAwsError error;
} Answer;

static void
end_entry(Answer *answer)
{
	if (answer->id >= 0)
		evs_aws_entry_done(answer->request, answer->id, &answer->error);
	answer->id = -1;
	memset(&answer->error, 0, sizeof(answer->error));
}

static void
take_member(void *arg, const evs_sink_json_value *value)
{
	Answer	   *answer = arg;
	const char *member = strrchr(value->path, '.');
	size_t		length = member != NULL ? member - value->path : 0;
	bool		is_failed = strncmp(value->path, "Failed.", 7) == 0;

	if (length >= sizeof(answer->place) || (!is_failed && strncmp(value->path, "Successful.", 11) != 0))
		return;
	if (strncmp(answer->place, value->path, length) != 0 || answer->place[length] != '\0')
	{
		end_entry(answer);
		memcpy(answer->place, value->path, length);
		answer->place[length] = '\0';
		answer->error.is_wrong = is_failed;
	}
	if (strcmp(member, ".Id") == 0 && value->kind == '"')
	{
		char		id[16];

		evs_http_json_excerpt(value, id, sizeof(id));
		answer->id = id[0] >= '0' && id[0] <= '9' ? atoi(id) : -1;
	}
	else if (strcmp(member, ".Code") == 0)
		evs_http_json_excerpt(value, answer->error.code, sizeof(answer->error.code));
	else if (strcmp(member, ".Message") == 0)
		evs_http_json_excerpt(value, answer->error.message, sizeof(answer->error.message));
	else if (strcmp(member, ".SenderFault") == 0)
		answer->error.is_senders = value->kind == 't';
}

static void
judge(EvsHttpRequest *request, long status)
{
	Answer		answer = {.request = request, .id = -1};

	if (!evs_aws_begin_entries(request, status))
		return;
	if (evs_sink_json_scan(request->answer.data, request->answer.length, take_member, &answer))
		end_entry(&answer);
	else
		evs_aws_not_understood(request, status);
}

const EvsHttpProfile evs_http_aws_sqs = {
	.name = "aws-sqs",
	.names = names,
	.formats = EVS_HTTP_TAKES(EVS_HTTP_STRUCTURED) | EVS_HTTP_TAKES(EVS_HTTP_RAW),
	.configure = configure,
	.release = evs_aws_release,
	.make = make,
	.sign = evs_aws_sign,
	.judge = judge
};
