/*
 * nats_message.c
 *	  Subjects and headers of what the sink "nats" publishes.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "nats_sink.h"

/* --- subjects --- */

/* A subject to publish to: words that are joined with dots, without wildcards. */
static const char *
check_subject(const char *subject)
{
	const char *word = subject;

	if (*subject == '\0')
		return "the subject is empty";
	if (*subject == '$')
		return "the subject begins with \"$\": those are the server's";
	for (const char *at = subject;; at++)
	{
		unsigned char c = *at;

		if (c == '.' || c == '\0')
		{
			if (at == word)
				return "a word of the subject is empty";
			word = at + 1;
			if (c == '\0')
				return NULL;
		}
		else if (c <= ' ' || c == 0x7f)
			return "the subject has a space or a control character";
		else if (c == '*' || c == '>')
			return "the subject has a wildcard";
	}
}

const char *
evs_nats_fill_subject(const char *pattern, const char *topic, char *subject, size_t size)
{
	switch (evs_sink_fill_topic(pattern, topic, subject, size))
	{
		case EVS_SINK_STRAY_BRACE:
			return "only {topic} can be filled in";
		case EVS_SINK_TOO_LONG:
			return "the subject is too long";
		default:
			return check_subject(subject);
	}
}

/* --- headers --- */

void
evs_nats_add_encoded(evs_sink_buffer *buffer, const char *value)
{
	const char *from = value;

	for (;; value++)
	{
		unsigned char c = *value;

		if (c > ' ' && c < 0x7f && c != '"' && c != '%')
			continue;
		evs_sink_add(buffer, from, value - from);
		if (c == '\0')
			return;
		evs_sink_printf(buffer, "%%%02X", c);
		from = value + 1;
	}
}

static void
add_header(evs_sink_buffer *buffer, const char *prefix, const char *name, const char *value)
{
	evs_sink_add_string(buffer, prefix);
	evs_sink_add_string(buffer, name);
	evs_sink_add(buffer, ": ", 2);
	evs_nats_add_encoded(buffer, value);
	evs_sink_add(buffer, "\r\n", 2);
}

static void
add_number(evs_sink_buffer *buffer, const char *name, uint64_t number)
{
	evs_sink_printf(buffer, "%s: %llu\r\n", name, (unsigned long long) number);
}

/* Tokens of HTTP: what servers and clients understand as a name. */
static bool
is_header_name(const char *name)
{
	if (*name == '\0')
		return false;
	for (; *name != '\0'; name++)
		if (*name <= ' ' || *name >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", *name) != NULL)
			return false;
	return true;
}

/*
 * An application must not be able to say what is the sink's to say: Nats-Rollup,
 * for one, deletes all older messages.
 */
static const char *
add_application_headers(evs_sink_buffer *buffer, const evs_sink_message *message)
{
	for (int i = 0; i < message->nheaders; i++)
	{
		const evs_sink_pair *header = &message->headers[i];

		if (!is_header_name(header->name))
			return "a header's name has characters that NATS does not allow";
		if (strncasecmp(header->name, "Nats-", 5) == 0 ||
			strncasecmp(header->name, "Evstore-", 8) == 0)
			return "headers Nats-* and Evstore-* are not the application's";
		if (strpbrk(header->value, "\r\n") != NULL)
			return "a header's value has more than one line";
		evs_sink_printf(buffer, "%s: %s\r\n", header->name, header->value);
	}
	return NULL;
}

static void
add_own_headers(EvsNats *sink, const evs_sink_message *message)
{
	evs_sink_buffer *buffer = &sink->headers;
	int64_t		settled = evs_sink_claim_position(&sink->claim, &sink->flight);

	evs_sink_add_string(buffer, "Evstore-Relay: ");
	evs_sink_add_string(buffer, sink->relay);
	evs_sink_add(buffer, "\r\n", 2);
	if (message->flags & EVS_SINK_MESSAGE_TEST)
		evs_sink_add_string(buffer, "Evstore-Test: true\r\n");
	else
		add_number(buffer, "Evstore-Position", message->position);
	if (message->flags & EVS_SINK_MESSAGE_REPLAY)
		evs_sink_add_string(buffer, "Evstore-Replay: true\r\n");
	if (settled > 0)
		add_number(buffer, "Evstore-Settled", settled);
}

const char *
evs_nats_make_headers(EvsNats *sink, const evs_sink_message *message, const uint64_t *expected)
{
	evs_sink_buffer *buffer = &sink->headers;
	bool		binary = message->nattributes > 0;

	buffer->length = 0;
	evs_sink_add_string(buffer, "NATS/1.0\r\n");
	add_header(buffer, "", "Nats-Msg-Id", message->id);
	if (sink->config.stream != NULL)
		add_header(buffer, "", "Nats-Expected-Stream", sink->config.stream);
	if (expected != NULL)
		add_number(buffer, sink->config.expect == EVS_NATS_EXPECT_SEQUENCE ?
				   "Nats-Expected-Last-Sequence" : "Nats-Expected-Last-Subject-Sequence", *expected);
	add_own_headers(sink, message);
	for (int i = 0; i < message->nattributes; i++)
		add_header(buffer, "ce-", message->attributes[i].name, message->attributes[i].value);
	if (message->content_type != NULL)
		add_header(buffer, "", binary ? "ce-datacontenttype" : "content-type", message->content_type);
	return add_application_headers(buffer, message);
}
