/*
 * http_aws_kinesis.c
 *	  Amazon Kinesis Data Streams: PutRecords.
 *
 *	  https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html
 *
 * PutRecords does not keep the order of records.  No request has two of one key,
 * and the next of a key is sent when the one before has its answer.
 */
#include <string.h>

#include "http_aws.h"

#define KEY_MAX_CHARACTERS 256

static const char *const names[] = {
	EVS_AWS_NAMES, "stream", "partition_key", "max_record_bytes", NULL
};

static bool
configure(EvsHttpReader *reader)
{
	EvsAws	   *aws = evs_aws_configure(reader, "kinesis", "stream", NULL);

	if (aws == NULL)
		return false;
	aws->target = "Kinesis_20131202.PutRecords";
	aws->limits.entries = 500;
	aws->limits.bytes = 5242880;
	aws->limits.entry_bytes = 1048576;
	return evs_http_read_template(reader, "partition_key", "{key}", &aws->partition_key) &&
		evs_aws_read_limits(reader, 10485760, "max_record_bytes") &&
		evs_aws_configure_endpoint(reader, aws->destination, NULL);
}

static int
count_characters(const char *string)
{
	int			n = 0;

	for (; *string != '\0'; string++)
		if (((unsigned char) *string & 0xC0) != 0x80)
			n++;
	return n;
}

/* Never empty, and not too long. */
static void
fill_key(const EvsAws *aws, const evs_sink_message *message, evs_sink_buffer *key)
{
	evs_http_fill(key, aws->partition_key, message);
	if (key->length == 0)
		evs_sink_add_string(key, message->id);
	if (!key->failed && count_characters(key->data) > KEY_MAX_CHARACTERS)
		evs_aws_hash(key);
}

static void
begin(EvsHttpRequest *request)
{
	evs_sink_add_string(&request->body, "{\"Records\":[");
}

static int64_t
add(EvsHttpRequest *request, const evs_sink_message *message, int i)
{
	evs_sink_buffer *body = &request->body;
	evs_sink_buffer key = {0};
	int64_t		bytes;

	fill_key(evs_aws(request), message, &key);
	body->failed = body->failed || key.failed;
	bytes = message->length + key.length;
	if (!body->failed)
	{
		evs_sink_add_string(body, i > 0 ? ",{" : "{");
		evs_aws_add_member(body, "PartitionKey", key.data);
		evs_sink_add_string(body, ",\"Data\":\"");
		evs_http_add_base64(body, message->data, message->length);
		evs_sink_add_string(body, "\"}");
	}
	evs_sink_buffer_free(&key);
	return bytes;
}

static void
end(EvsHttpRequest *request)
{
	evs_sink_add(&request->body, "],", 2);
}

static void
add_stream(evs_sink_buffer *body, const evs_sink_buffer *stream)
{
	evs_aws_add_member(body, strncmp(stream->data, "arn:", 4) == 0 ? "StreamARN" : "StreamName", stream->data);
	evs_sink_add(body, "}", 1);
}

static bool
make(EvsHttpRequest *request, int n)
{
	static const EvsHttpEntries entries = {begin, add, end, evs_aws_goes_with};

	return evs_http_make_entries(request, n, &entries, &evs_aws(request)->limits) &&
		evs_aws_end_body(request, add_stream) && evs_aws_add_headers(request);
}

static void
judge(EvsHttpRequest *request, long status)
{
	evs_aws_judge_array(request, status, "Records", "SequenceNumber");
}

const EvsHttpProfile evs_http_aws_kinesis = {
	.name = "aws-kinesis",
	.names = names,
	.formats = EVS_HTTP_TAKES(EVS_HTTP_STRUCTURED) | EVS_HTTP_TAKES(EVS_HTTP_RAW),
	.configure = configure,
	.release = evs_aws_release,
	.make = make,
	.sign = evs_aws_sign,
	.judge = judge
};
