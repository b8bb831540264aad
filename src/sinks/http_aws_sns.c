/*
 * http_aws_sns.c
 *	  Amazon SNS: PublishBatch.  Its protocol is a form; what it answers is XML.
 *
 *	  https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_aws.h"

#define SUBJECT_MAX_LENGTH 100

static const char *const names[] = {
	EVS_AWS_NAMES, "topic_arn", "subject", "group_id", "attributes.", NULL
};

/* ASCII on one line, up to 100 characters, which does not begin with a space. */
static bool
is_subject(const char *subject)
{
	if (strlen(subject) > SUBJECT_MAX_LENGTH || subject[0] == ' ' || subject[0] == '\0')
		return false;
	for (; *subject != '\0'; subject++)
		if ((unsigned char) *subject < ' ' || (unsigned char) *subject >= 0x7F)
			return false;
	return true;
}

static bool
configure(EvsHttpReader *reader)
{
	EvsAws	   *aws = evs_aws_configure(reader, "sns", "topic_arn", NULL);

	if (aws == NULL)
		return false;
	aws->content_type = "application/x-www-form-urlencoded; charset=utf-8";
	if (strncmp(aws->destination, "arn:", 4) != 0)
		return evs_http_fail(reader, "setting \"topic_arn\" must be the ARN of a topic: arn:aws:sns:region:account:name");
	if (!evs_http_read_template(reader, "subject", NULL, &aws->subject))
		return false;
	if (aws->subject != NULL && !evs_http_has_place(aws->subject) && !is_subject(aws->subject))
		return evs_http_fail(reader, "setting \"subject\" must have 1 to 100 ASCII characters on one line");
	return evs_http_read_template(reader, "group_id", NULL, &aws->group_id) &&
		evs_aws_check_attributes(reader) && evs_aws_read_limits(reader, 1048576, NULL) &&
		evs_aws_configure_endpoint(reader, aws->destination, NULL);
}

static void
begin(EvsHttpRequest *request)
{
	evs_sink_add_string(&request->body, "Action=PublishBatch&Version=2010-03-31");
}

/* &PREFIX.NAME=value */
static void
add_parameter(evs_sink_buffer *body, const char *prefix, const char *name, const void *value, size_t length)
{
	evs_sink_printf(body, "&%s.%s=", prefix, name);
	evs_http_add_uri_bytes(body, value, length);
}

static void
add_attribute(evs_sink_buffer *body, const char *prefix, int i, const char *name, const char *type,
			  const char *value)
{
	char		entry[96];

	snprintf(entry, sizeof(entry), "%s.MessageAttributes.entry.%d", prefix, i + 1);
	add_parameter(body, entry, "Name", name, strlen(name));
	add_parameter(body, entry, "Value.DataType", type, strlen(type));
	add_parameter(body, entry, "Value.StringValue", value, strlen(value));
}

static bool
add_subject(EvsHttpRequest *request, const evs_sink_message *message, const char *prefix)
{
	const EvsAws *aws = evs_aws(request);
	evs_sink_buffer subject = {0};
	bool		ok = true;

	if (aws->subject == NULL)
		return true;
	evs_http_fill(&subject, aws->subject, message);
	if (subject.failed)
		ok = evs_http_no_memory(request);
	else if (is_subject(subject.data))
		add_parameter(&request->body, prefix, "Subject", subject.data, subject.length);
	else
	{
		evs_http_result(request, EVS_SINK_PERMANENT,
						"the subject \"%.100s\" has not 1 to 100 ASCII characters on one line", subject.data);
		ok = false;
	}
	evs_sink_buffer_free(&subject);
	return ok;
}

static void
add_group(EvsHttpRequest *request, const evs_sink_message *message, const char *prefix)
{
	const EvsAws *aws = evs_aws(request);
	bool		is_fifo = evs_aws_is_fifo(request, message);
	evs_sink_buffer group = {0};

	if (!is_fifo && aws->group_id == NULL)
		return;
	evs_aws_group(aws, message, &group);
	add_parameter(&request->body, prefix, "MessageGroupId", group.data, group.length);
	request->body.failed = request->body.failed || group.failed;
	evs_sink_buffer_free(&group);
	if (is_fifo)
		add_parameter(&request->body, prefix, "MessageDeduplicationId", message->id, strlen(message->id));
}

static int64_t
add(EvsHttpRequest *request, const evs_sink_message *message, int i)
{
	char		prefix[48];
	char		id[16];
	int64_t		bytes;

	if (!evs_aws_check_payload(request, message))
		return -1;
	snprintf(prefix, sizeof(prefix), "PublishBatchRequestEntries.member.%d", i + 1);
	add_parameter(&request->body, prefix, "Id", id, snprintf(id, sizeof(id), "%d", i));
	add_parameter(&request->body, prefix, "Message", message->data, message->length);
	if (!add_subject(request, message, prefix))
		return -1;
	bytes = evs_aws_add_attributes(request, message, prefix, add_attribute);
	add_group(request, message, prefix);
	return bytes < 0 ? -1 : bytes + (int64_t) message->length;
}

static void
end(EvsHttpRequest *request)
{
	evs_sink_add_string(&request->body, "&TopicArn=");
}

static void
add_topic(evs_sink_buffer *body, const evs_sink_buffer *arn)
{
	evs_http_add_uri_bytes(body, arn->data, arn->length);
}

static bool
make(EvsHttpRequest *request, int n)
{
	static const EvsHttpEntries entries = {begin, add, end, evs_aws_goes_with};

	return evs_http_make_entries(request, n, &entries, &evs_aws(request)->limits) &&
		evs_aws_end_body(request, add_topic) && evs_aws_add_headers(request);
}

/* ---- the answer ---- */

typedef struct Answer
{
	EvsHttpRequest *request;
	int			id;				/* of the entry that is read; -1: not known */
	EvsAwsError error;
} Answer;

static void
take_member(Answer *answer, const char *member, const char *text, size_t length)
{
	if (strcmp(member, ".Id") == 0)
	{
		char		id[16];

		evs_http_xml_excerpt(text, length, id, sizeof(id));
		answer->id = id[0] >= '0' && id[0] <= '9' ? atoi(id) : -1;
	}
	else if (strcmp(member, ".Code") == 0)
		evs_http_xml_excerpt(text, length, answer->error.code, sizeof(answer->error.code));
	else if (strcmp(member, ".Message") == 0)
		evs_http_xml_excerpt(text, length, answer->error.message, sizeof(answer->error.message));
	else if (strcmp(member, ".SenderFault") == 0)
		answer->error.is_senders = length == 4 && memcmp(text, "true", 4) == 0;
}

static void
take_element(void *arg, const char *path, const char *text, size_t length)
{
	static const char successful[] = "PublishBatchResponse.PublishBatchResult.Successful.member";
	static const char failed[] = "PublishBatchResponse.PublishBatchResult.Failed.member";
	Answer	   *answer = arg;
	bool		is_failed = strncmp(path, failed, strlen(failed)) == 0;
	const char *member = path + (is_failed ? strlen(failed) : strlen(successful));

	if (!is_failed && strncmp(path, successful, strlen(successful)) != 0)
		return;
	if (*member == '.')
	{
		take_member(answer, member, text, length);
		return;
	}
	answer->error.is_wrong = is_failed;
	if (answer->id >= 0)
		evs_aws_entry_done(answer->request, answer->id, &answer->error);
	answer->id = -1;
	memset(&answer->error, 0, sizeof(answer->error));
}

static void
judge(EvsHttpRequest *request, long status)
{
	Answer		answer = {.request = request, .id = -1};

	if (!evs_aws_begin_entries(request, status))
		return;
	if (!evs_http_xml_scan(request->answer.data, request->answer.length, take_element, &answer))
		evs_aws_not_understood(request, status);
}

const EvsHttpProfile evs_http_aws_sns = {
	.name = "aws-sns",
	.names = names,
	.formats = EVS_HTTP_TAKES(EVS_HTTP_STRUCTURED) | EVS_HTTP_TAKES(EVS_HTTP_RAW),
	.configure = configure,
	.release = evs_aws_release,
	.make = make,
	.sign = evs_aws_sign,
	.judge = judge
};
