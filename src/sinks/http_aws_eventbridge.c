/*
 * http_aws_eventbridge.c
 *	  Amazon EventBridge: PutEvents.
 *
 *	  https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html
 */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "http_aws.h"

static const char *const names[] = {
	EVS_AWS_NAMES, "event_bus", "source", "detail_type", "resources.", "trace_header", NULL
};

/* What Time counts in the size of an entry. */
#define TIME_BYTES 14

static bool
check_resources(EvsHttpReader *reader)
{
	for (int i = 0; i < reader->settings->nitems; i++)
	{
		const char *name = reader->settings->items[i].name;
		const char *template;

		if (strncmp(name, "resources.", 10) == 0 && !evs_http_read_template(reader, name, NULL, &template))
			return false;
	}
	return true;
}

static bool
configure(EvsHttpReader *reader)
{
	EvsAws	   *aws = evs_aws_configure(reader, "events", "event_bus", "default");

	if (aws == NULL)
		return false;
	aws->target = "AWSEvents.PutEvents";
	return evs_http_read_template(reader, "source", "{source}", &aws->source) &&
		evs_http_read_template(reader, "detail_type", "{type}", &aws->detail_type) &&
		evs_http_read_string(reader, "trace_header", "x-amzn-trace-id", &aws->trace_header) &&
		check_resources(reader) && evs_aws_read_limits(reader, 1048576, NULL) &&
		evs_aws_configure_endpoint(reader, aws->destination, NULL);
}

static void
begin(EvsHttpRequest *request)
{
	evs_sink_add_string(&request->body, "{\"Entries\":[");
}

/* "NAME":"template, filled in"; its bytes */
static int64_t
add_filled(EvsHttpRequest *request, const char *before, const char *template, const evs_sink_message *message)
{
	evs_sink_buffer value = {0};
	int64_t		length;

	evs_http_fill(&value, template, message);
	length = value.length;
	evs_sink_add_string(&request->body, before);
	evs_http_add_json(&request->body, value.data, value.length);
	request->body.failed = request->body.failed || value.failed;
	evs_sink_buffer_free(&value);
	return length;
}

static int64_t
add_resources(EvsHttpRequest *request, const evs_sink_message *message)
{
	const evs_sink_settings *settings = request->sink->config.settings;
	int64_t		bytes = 0;
	bool		is_first = true;

	for (int i = 0; i < settings->nitems; i++)
	{
		if (strncmp(settings->items[i].name, "resources.", 10) != 0)
			continue;
		bytes += add_filled(request, is_first ? ",\"Resources\":[" : ",", settings->items[i].value, message);
		is_first = false;
	}
	if (!is_first)
		evs_sink_add(&request->body, "]", 1);
	return bytes;
}

static void
add_trace(EvsHttpRequest *request, const evs_sink_message *message)
{
	for (int i = 0; i < message->nheaders; i++)
	{
		if (strcasecmp(message->headers[i].name, evs_aws(request)->trace_header) != 0)
			continue;
		evs_sink_add(&request->body, ",", 1);
		evs_aws_add_member(&request->body, "TraceHeader", message->headers[i].value);
		return;
	}
}

/* What EventBridge looks into must be an object. */
static bool
check_detail(EvsHttpRequest *request, const evs_sink_message *message)
{
	const char *c = message->data;
	const char *end = c + message->length;

	while (c < end && isspace((unsigned char) *c))
		c++;
	if (c < end && *c == '{' && evs_http_is_xml_text(message->data, message->length))
		return true;
	evs_http_result(request, EVS_SINK_PERMANENT, "the payload is not a JSON object, which EventBridge wants");
	return false;
}

static int64_t
add(EvsHttpRequest *request, const evs_sink_message *message, int i)
{
	const EvsAws *aws = evs_aws(request);
	evs_sink_buffer *body = &request->body;
	evs_sink_buffer bus = {0};
	int64_t		bytes = message->length;

	if (!check_detail(request, message) || !evs_aws_destination(request, message, &bus))
	{
		evs_sink_buffer_free(&bus);
		return -1;
	}
	evs_sink_add_string(body, i > 0 ? ",{" : "{");
	evs_aws_add_member(body, "EventBusName", bus.data);
	evs_sink_buffer_free(&bus);
	bytes += add_filled(request, ",\"Source\":", aws->source, message);
	bytes += add_filled(request, ",\"DetailType\":", aws->detail_type, message);
	if (message->time_us >= 0)
	{
		evs_sink_printf(body, ",\"Time\":%lld", (long long) (message->time_us / 1000000));
		bytes += TIME_BYTES;
	}
	bytes += add_resources(request, message);
	add_trace(request, message);
	evs_sink_add_string(body, ",\"Detail\":");
	evs_http_add_json(body, message->data, message->length);
	evs_sink_add(body, "}", 1);
	return bytes;
}

static void
end(EvsHttpRequest *request)
{
	evs_sink_add(&request->body, "]}", 2);
}

/* Each entry names its bus. */
static bool
goes_with(const EvsHttpRequest *request, const evs_sink_message *message)
{
	return true;
}

static bool
make(EvsHttpRequest *request, int n)
{
	static const EvsHttpEntries entries = {begin, add, end, goes_with};

	return evs_http_make_entries(request, n, &entries, &evs_aws(request)->limits) &&
		evs_aws_add_headers(request);
}

static void
judge(EvsHttpRequest *request, long status)
{
	evs_aws_judge_array(request, status, "Entries", "EventId");
}

const EvsHttpProfile evs_http_aws_eventbridge = {
	.name = "aws-eventbridge",
	.names = names,
	.formats = EVS_HTTP_TAKES(EVS_HTTP_STRUCTURED) | EVS_HTTP_TAKES(EVS_HTTP_RAW),
	.configure = configure,
	.release = evs_aws_release,
	.make = make,
	.sign = evs_aws_sign,
	.judge = judge
};
