/*
 * nats_answer.c
 *	  What JetStream answers, and what it means for a message.
 */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "nats_sink.h"
#include "sink_json.h"

/* The status in the first line of headers, such as "NATS/1.0 503"; 0: none. */
static int
read_status(const EvsNatsMessage *message)
{
	char		line[16];
	int			status = 0;

	if (message->headers == NULL || message->headers_length < 12)
		return 0;
	memcpy(line, message->headers, 12);
	line[12] = '\0';
	return sscanf(line, "NATS/1.0 %3d", &status) == 1 ? status : 0;
}

static int
small_number(const evs_sink_json_value *value)
{
	uint64_t	number;

	return evs_sink_json_uint(value, &number) && number <= INT32_MAX ? (int) number : -1;
}

/* --- acknowledgements --- */

static void
ack_member(void *arg, const evs_sink_json_value *value)
{
	EvsNatsAck *ack = arg;

	if (strcmp(value->path, "seq") == 0)
		ack->stored = evs_sink_json_uint(value, &ack->sequence) && ack->sequence > 0;
	else if (strcmp(value->path, "duplicate") == 0)
		ack->duplicate = value->kind == 't';
	else if (strcmp(value->path, "error.code") == 0)
		ack->code = small_number(value);
	else if (strcmp(value->path, "error.err_code") == 0)
		ack->err_code = small_number(value);
	else if (strcmp(value->path, "error.description") == 0 &&
			 !evs_sink_json_string(value, ack->description, sizeof(ack->description)))
		snprintf(ack->description, sizeof(ack->description), "(a long description)");
}

void
evs_nats_read_ack(const EvsNatsMessage *message, EvsNatsAck *ack)
{
	memset(ack, 0, sizeof(*ack));
	ack->status = read_status(message);
	if (ack->status == 503)
		snprintf(ack->description, sizeof(ack->description), "nobody takes the subject: no stream has it, "
				 "or JetStream is off");
	else if (!evs_sink_json_scan(message->payload, message->length, ack_member, ack) ||
			 (!ack->stored && ack->err_code == 0 && ack->code == 0))
	{
		ack->stored = false;
		snprintf(ack->description, sizeof(ack->description), "the answer is not an acknowledgement "
				 "of JetStream");
	}
	if (ack->code != 0 || ack->err_code != 0)
		ack->stored = false;
}

/* JetStream's errors; what is not here is decided by its code. */
static const struct
{
	int			err_code;
	evs_sink_class result;
}			classes[] =
{
	{10008, EVS_SINK_RETRY_SINK},	/* JetStream temporarily unavailable */
	{10023, EVS_SINK_RETRY},	/* insufficient resources */
	{10039, EVS_SINK_RETRY_SINK},	/* JetStream not enabled for the account */
	{10047, EVS_SINK_RETRY},	/* insufficient storage resources */
	{10052, EVS_SINK_PERMANENT},	/* a header is wrong */
	{10054, EVS_SINK_PERMANENT},	/* message size exceeds maximum allowed */
	{10059, EVS_SINK_RETRY_SINK},	/* stream not found */
	{10060, EVS_SINK_FATAL},	/* expected stream does not match */
	{10070, EVS_SINK_RETRY_SINK},	/* wrong last message id */
	{10071, EVS_SINK_RETRY_SINK},	/* wrong last sequence */
	{10074, EVS_SINK_RETRY_SINK},	/* no majority of peers */
	{10076, EVS_SINK_RETRY_SINK},	/* JetStream not enabled */
	{10077, EVS_SINK_RETRY},	/* maximum messages or bytes exceeded */
	{10097, EVS_SINK_PERMANENT},	/* headers exceed their maximum of 64 kB */
	{10109, EVS_SINK_FATAL}		/* the stream is sealed */
};

evs_sink_class
evs_nats_classify(const EvsNatsAck *ack)
{
	if (ack->stored)
		return ack->duplicate ? EVS_SINK_DUPLICATE : EVS_SINK_OK;
	if (ack->status == 503)
		return EVS_SINK_RETRY_SINK;
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
		if (classes[i].err_code == ack->err_code)
			return classes[i].result;
	return ack->code == 503 ? EVS_SINK_RETRY_SINK : EVS_SINK_RETRY;
}

/* --- answers of the API --- */

typedef struct Reading
{
	EvsNatsAnswer *answer;
	const EvsNats *sink;
} Reading;

/* The value of a header, or NULL; both end with the line. */
static const char *
find_header(const char *headers, const char *name, size_t *length)
{
	size_t		name_length = strlen(name);

	for (const char *line = strstr(headers, "\r\n"); line != NULL; line = strstr(line, "\r\n"))
	{
		line += 2;
		if (strncasecmp(line, name, name_length) != 0 || line[name_length] != ':')
			continue;
		line += name_length + 1;
		while (*line == ' ')
			line++;
		*length = strcspn(line, "\r");
		return line;
	}
	return NULL;
}

static void
read_stored_headers(Reading *reading, const char *headers)
{
	EvsNatsAnswer *answer = reading->answer;
	const char *relay = reading->sink->relay;
	size_t		length;
	const char *value = find_header(headers, "Evstore-Relay", &length);

	answer->ours = value != NULL && length == strlen(relay) && memcmp(value, relay, length) == 0;
	value = find_header(headers, "Evstore-Settled", &length);
	if (value != NULL)
		answer->settled = strtoll(value, NULL, 10);
	value = find_header(headers, "Nats-Msg-Id", &length);
	if (value != NULL && length < sizeof(answer->id))
		memcpy(answer->id, value, length);
}

static void
decode_headers(Reading *reading, const evs_sink_json_value *value)
{
	unsigned char *headers;

	if (value->kind != '"' || value->length > INT32_MAX / 2)
		return;
	headers = calloc(1, value->length / 4 * 3 + 4);
	if (headers == NULL)
		return;
	if (EVP_DecodeBlock(headers, (const unsigned char *) value->text, (int) value->length) > 0)
		read_stored_headers(reading, (char *) headers);
	free(headers);
}

static void
answer_member(void *arg, const evs_sink_json_value *value)
{
	Reading    *reading = arg;
	EvsNatsAnswer *answer = reading->answer;

	if (strcmp(value->path, "state.first_seq") == 0)
		evs_sink_json_uint(value, &answer->first);
	else if (strcmp(value->path, "state.last_seq") == 0)
		evs_sink_json_uint(value, &answer->last);
	else if (strcmp(value->path, "message.seq") == 0)
		evs_sink_json_uint(value, &answer->sequence);
	else if (strcmp(value->path, "message.hdrs") == 0)
		decode_headers(reading, value);
	else if (strcmp(value->path, "error.err_code") == 0)
		answer->err_code = small_number(value);
	else if (strcmp(value->path, "error.description") == 0 &&
			 !evs_sink_json_string(value, answer->error, sizeof(answer->error)))
		snprintf(answer->error, sizeof(answer->error), "(a long description)");
}

void
evs_nats_read_answer(const EvsNats *sink, const EvsNatsMessage *message, EvsNatsAnswer *answer)
{
	Reading		reading = {answer, sink};

	memset(answer, 0, sizeof(*answer));
	if (read_status(message) == 503)
	{
		answer->err_code = -1;
		snprintf(answer->error, sizeof(answer->error), "JetStream does not answer: it is off");
	}
	else if (!evs_sink_json_scan(message->payload, message->length, answer_member, &reading))
	{
		answer->err_code = -1;
		snprintf(answer->error, sizeof(answer->error), "JetStream's answer is not JSON");
	}
}
