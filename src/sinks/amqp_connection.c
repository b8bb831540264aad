/*
 * amqp_connection.c
 *	  A connection to an AMQP server: signing in, and what comes in frames.
 *
 * Signing in goes through the states of EvsAmqpState.  When the server closes the
 * channel, as it does for one message that it cannot take, the last ones are gone
 * through again on the same connection.
 *
 * A frame is looked at when all of it is there; none is longer than was agreed,
 * so no more than one is kept.  Bodies of returned messages are not kept at all.
 */
#include <stdio.h>
#include <string.h>

#include "amqp_sink.h"

/* A password may be a token. */
#define SECRET_MAX 8192
#define START_OK_MAX (4 * SECRET_MAX)

/* Properties of a returned message before the one that we look for. */
#define HAS_CONTENT_TYPE 0x8000
#define HAS_CONTENT_ENCODING 0x4000
#define HAS_HEADERS 0x2000
#define HAS_DELIVERY_MODE 0x1000
#define HAS_PRIORITY 0x0800
#define HAS_CORRELATION_ID 0x0400
#define HAS_REPLY_TO 0x0200
#define HAS_EXPIRATION 0x0100
#define HAS_MESSAGE_ID 0x0080

static int64_t
now_us(const EvsAmqp *sink)
{
	return sink->host->now_us(sink->host->ctx);
}

/* --- signing in --- */

void
evs_amqp_connection_begin(EvsAmqp *sink)
{
	static const char hello[8] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};

	sink->state = EVS_AMQP_AWAIT_START;
	sink->frame_max = EVS_AMQP_FRAME_MAX;
	sink->channel_deadline = 0;
	sink->paused = 0;
	sink->proven = false;
	sink->link.beat_us = 0;
	memset(&sink->returned, 0, sizeof(sink->returned));
	evs_amqp_confirm_reset(sink);
	evs_sink_add(&sink->link.out, hello, sizeof(hello));
}

/* Who we are, for the people who look after the server, and what we understand. */
static void
add_client_properties(const EvsAmqp *sink, evs_sink_buffer *buffer)
{
	size_t		table = evs_amqp_begin(buffer);
	size_t		capabilities;
	char		name[128];

	snprintf(name, sizeof(name), "evstore relay %s", sink->host->relay);
	evs_amqp_add_string_member(buffer, "", "product", "evstore");
	evs_amqp_add_string_member(buffer, "", "connection_name", name);
	evs_amqp_add_short(buffer, "capabilities", strlen("capabilities"));
	evs_sink_add(buffer, "F", 1);
	capabilities = evs_amqp_begin(buffer);
	evs_amqp_add_true_member(buffer, "publisher_confirms");
	evs_amqp_add_true_member(buffer, "basic.nack");
	evs_amqp_add_true_member(buffer, "connection.blocked");
	evs_amqp_add_true_member(buffer, "authentication_failure_close");
	evs_amqp_end(buffer, capabilities);
	evs_amqp_end(buffer, table);
}

/* "\0user\0password" of PLAIN, or nothing of EXTERNAL.  false: there is no such secret. */
static bool
add_response(EvsAmqp *sink, evs_sink_buffer *buffer)
{
	const EvsAmqpConfig *config = &sink->config;
	size_t		response = evs_amqp_begin(buffer);
	char		password[SECRET_MAX];
	int			length = 0;

	if (config->user != NULL)
	{
		length = sink->host->secret(sink->host->ctx, config->password, password, sizeof(password));
		if (length < 0 || length >= (int) sizeof(password))
		{
			explicit_bzero(password, sizeof(password));
			evs_sink_link_fail(&sink->link, "secret \"%s\" %s", config->password,
							   length < 0 ? "does not exist" : "is too long");
			return false;
		}
		evs_sink_add(buffer, "", 1);
		evs_sink_add_string(buffer, config->user);
		evs_sink_add(buffer, "", 1);
		evs_sink_add(buffer, password, length);
		explicit_bzero(password, sizeof(password));
	}
	evs_amqp_end(buffer, response);
	return true;
}

/* Made in a buffer that is large enough, so that no copy of the password is left behind. */
static void
send_start_ok(EvsAmqp *sink, const char *mechanism)
{
	char		memory[START_OK_MAX];
	evs_sink_buffer frame = {.data = memory, .size = sizeof(memory)};
	evs_sink_buffer *out = &sink->link.out;
	size_t		where = evs_amqp_begin_method(&frame, 0, EVS_AMQP_CONNECTION_START_OK);

	add_client_properties(sink, &frame);
	evs_amqp_add_short(&frame, mechanism, strlen(mechanism));
	if (add_response(sink, &frame))
	{
		evs_amqp_add_short(&frame, "en_US", 5);
		evs_amqp_end_frame(&frame, where);
		evs_sink_add(out, frame.data, frame.length);
		evs_sink_link_flush(&sink->link);
		if (out->length == 0 && out->data != NULL)
			explicit_bzero(out->data, out->size);
	}
	explicit_bzero(memory, sizeof(memory));
	sink->state = EVS_AMQP_AWAIT_TUNE;
}

static void
on_start(EvsAmqp *sink, EvsAmqpReader *reader)
{
	const char *mechanism = sink->config.user != NULL ? "PLAIN" : "EXTERNAL";
	EvsAmqpString mechanisms;
	char		text[128];
	int			major = evs_amqp_read(reader, 1);
	int			minor = evs_amqp_read(reader, 1);

	evs_amqp_read_long(reader); /* the server's properties */
	mechanisms = evs_amqp_read_long(reader);
	evs_amqp_read_long(reader); /* its locales */
	evs_amqp_copy_text(mechanisms, text, sizeof(text));
	if (reader->failed)
		return;
	if (major != 0 || minor != 9)
		evs_sink_link_fail(&sink->link, "the server speaks AMQP %d.%d", major, minor);
	else if (!evs_amqp_has_word(mechanisms, mechanism))
		evs_sink_link_fail(&sink->link, "the server does not let anybody sign in by %s, but by: %s",
						   mechanism, text);
	else
		send_start_ok(sink, mechanism);
}

/* Of two limits where 0 is none, the lower one. */
static uint64_t
lower(uint64_t a, uint64_t b)
{
	return a == 0 || (b > 0 && b < a) ? b : a;
}

static void
on_tune(EvsAmqp *sink, EvsAmqpReader *reader)
{
	evs_sink_buffer *out = &sink->link.out;
	uint64_t	frame_max;
	uint64_t	heartbeat;
	size_t		frame;

	evs_amqp_read(reader, 2);	/* channels: one is enough */
	frame_max = lower(EVS_AMQP_FRAME_MAX, evs_amqp_read(reader, 4));
	heartbeat = evs_amqp_read(reader, 2);
	if (reader->failed)
		return;
	if (frame_max < EVS_AMQP_FRAME_MIN)
	{
		evs_sink_link_fail(&sink->link, "the server wants frames of %d bytes at most", (int) frame_max);
		return;
	}
	sink->frame_max = (uint32_t) frame_max;
	if (sink->config.heartbeat > 0)
		heartbeat = lower(sink->config.heartbeat, heartbeat);
	sink->link.beat_us = heartbeat * INT64_C(500000);
	sink->link.silence_us = heartbeat * INT64_C(2000000);
	frame = evs_amqp_begin_method(out, 0, EVS_AMQP_CONNECTION_TUNE_OK);
	evs_amqp_add(out, EVS_AMQP_CHANNEL, 2);
	evs_amqp_add(out, frame_max, 4);
	evs_amqp_add(out, heartbeat, 2);
	evs_amqp_end_frame(out, frame);
	frame = evs_amqp_begin_method(out, 0, EVS_AMQP_CONNECTION_OPEN);
	evs_amqp_add_short(out, sink->config.vhost, strlen(sink->config.vhost));
	evs_amqp_add(out, 0, 2);	/* reserved */
	evs_amqp_end_frame(out, frame);
	sink->state = EVS_AMQP_AWAIT_OPEN;
}

static void
open_channel(EvsAmqp *sink)
{
	evs_sink_buffer *out = &sink->link.out;
	size_t		frame = evs_amqp_begin_method(out, EVS_AMQP_CHANNEL, EVS_AMQP_CHANNEL_OPEN);

	evs_amqp_add(out, 0, 1);	/* reserved */
	evs_amqp_end_frame(out, frame);
	sink->state = EVS_AMQP_AWAIT_CHANNEL;
}

static void
select_confirms(EvsAmqp *sink)
{
	evs_sink_buffer *out = &sink->link.out;
	size_t		frame = evs_amqp_begin_method(out, EVS_AMQP_CHANNEL, EVS_AMQP_CONFIRM_SELECT);

	evs_amqp_add(out, 0, 1);	/* wait for the answer */
	evs_amqp_end_frame(out, frame);
	sink->state = EVS_AMQP_AWAIT_CONFIRM;
}

static void
become_ready(EvsAmqp *sink)
{
	sink->state = EVS_AMQP_READY;
	sink->channel_deadline = 0;
	if (sink->link.state == EVS_SINK_LINK_SIGNING_IN)
		evs_sink_link_ready(&sink->link);
}

/* --- the end --- */

/* "404 NOT_FOUND - no exchange ..." */
static int
read_close(EvsAmqpReader *reader, char *text, size_t size)
{
	int			code = evs_amqp_read(reader, 2);
	int			length = snprintf(text, size, "%d ", code);

	evs_amqp_copy_text(evs_amqp_read_short(reader), text + length, size - length);
	evs_amqp_read(reader, 4);	/* class and method that are to blame */
	return code;
}

static void
on_connection_close(EvsAmqp *sink, EvsAmqpReader *reader)
{
	char		text[200];
	int			code = read_close(reader, text, sizeof(text));

	if (reader->failed)
		return;
	evs_amqp_add_method(&sink->link.out, 0, EVS_AMQP_CONNECTION_CLOSE_OK);
	evs_sink_link_flush(&sink->link);
	if (sink->state == EVS_AMQP_READY)
		evs_amqp_confirm_connection_closed(sink, code, text);
	evs_sink_link_fail(&sink->link, "the server closes the connection: %s", text);
}

static void
on_channel_close(EvsAmqp *sink, EvsAmqpReader *reader)
{
	char		text[200];
	int			code = read_close(reader, text, sizeof(text));

	if (reader->failed)
		return;
	if (sink->state != EVS_AMQP_READY)
	{
		evs_sink_link_fail(&sink->link, "the server opens no channel: %s", text);
		return;
	}
	evs_amqp_add_method(&sink->link.out, EVS_AMQP_CHANNEL, EVS_AMQP_CHANNEL_CLOSE_OK);
	memset(&sink->returned, 0, sizeof(sink->returned));
	evs_amqp_confirm_channel_closed(sink, code, text);
	sink->paused &= ~EVS_AMQP_PAUSE_FLOW;	/* it was that channel's */
	sink->channel_deadline = now_us(sink) + sink->host->timeout_ms * INT64_C(1000);
	open_channel(sink);
}

/* --- from channel and connection --- */

static void
pause_sending(EvsAmqp *sink, EvsAmqpPause what, EvsAmqpString why)
{
	if (sink->paused == 0)
		sink->paused_at = now_us(sink);
	sink->paused |= what;
	evs_amqp_copy_text(why, sink->paused_why, sizeof(sink->paused_why));
}

static void
resume_sending(EvsAmqp *sink, EvsAmqpPause what)
{
	sink->paused &= ~what;
	if (sink->paused == 0)
		sink->resumed_at = now_us(sink);
}

static void
on_flow(EvsAmqp *sink, EvsAmqpReader *reader)
{
	static const EvsAmqpString why = {"flow", 4};
	evs_sink_buffer *out = &sink->link.out;
	bool		active = evs_amqp_read(reader, 1) & 1;
	size_t		frame;

	if (reader->failed)
		return;
	if (active)
		resume_sending(sink, EVS_AMQP_PAUSE_FLOW);
	else
		pause_sending(sink, EVS_AMQP_PAUSE_FLOW, why);
	frame = evs_amqp_begin_method(out, EVS_AMQP_CHANNEL, EVS_AMQP_CHANNEL_FLOW_OK);
	evs_amqp_add(out, active, 1);
	evs_amqp_end_frame(out, frame);
}

static void
on_acknowledgement(EvsAmqp *sink, EvsAmqpReader *reader, bool ack)
{
	uint64_t	tag = evs_amqp_read(reader, 8);
	bool		multiple = evs_amqp_read(reader, 1) & 1;

	if (!reader->failed)
		evs_amqp_confirm_ack(sink, tag, multiple, ack);
}

/* --- returned messages --- */

static void
on_return(EvsAmqp *sink, EvsAmqpReader *reader)
{
	EvsAmqpReturn *returned = &sink->returned;
	char		text[80];
	char		exchange[80];
	char		routing_key[80];

	memset(returned, 0, sizeof(*returned));
	returned->open = true;
	returned->code = evs_amqp_read(reader, 2);
	evs_amqp_copy_text(evs_amqp_read_short(reader), text, sizeof(text));
	evs_amqp_copy_text(evs_amqp_read_short(reader), exchange, sizeof(exchange));
	evs_amqp_copy_text(evs_amqp_read_short(reader), routing_key, sizeof(routing_key));
	snprintf(returned->text, sizeof(returned->text), "returned: %d %s, exchange \"%s\", routing key \"%s\"",
			 returned->code, text, exchange, routing_key);
}

/* Its id is enough to know which one it was. */
static void
on_return_header(EvsAmqp *sink, EvsAmqpReader *reader)
{
	EvsAmqpReturn *returned = &sink->returned;
	EvsAmqpString id = {"", 0};
	int			present;

	evs_amqp_read(reader, 4);	/* class and weight */
	returned->left = evs_amqp_read(reader, 8);
	present = evs_amqp_read(reader, 2);
	if (present & HAS_CONTENT_TYPE)
		evs_amqp_read_short(reader);
	if (present & HAS_CONTENT_ENCODING)
		evs_amqp_read_short(reader);
	if (present & HAS_HEADERS)
		evs_amqp_read_long(reader);
	evs_amqp_read(reader, ((present & HAS_DELIVERY_MODE) != 0) + ((present & HAS_PRIORITY) != 0));
	if (present & HAS_CORRELATION_ID)
		evs_amqp_read_short(reader);
	if (present & HAS_REPLY_TO)
		evs_amqp_read_short(reader);
	if (present & HAS_EXPIRATION)
		evs_amqp_read_short(reader);
	if (present & HAS_MESSAGE_ID)
		id = evs_amqp_read_short(reader);
	if (reader->failed)
		return;
	returned->has_header = true;
	returned->open = returned->left > 0;
	evs_amqp_confirm_returned(sink, id, returned->code, returned->text);
}

/* --- frames --- */

static void
unexpected(EvsAmqp *sink)
{
	evs_sink_link_fail(&sink->link, "the server sends what cannot be understood");
}

/* What comes when the server is to do as it was asked, and in no other state. */
static bool
on_answer(EvsAmqp *sink, uint32_t method, EvsAmqpReader *reader)
{
	EvsAmqpState state = sink->state;

	if (method == EVS_AMQP_CONNECTION_START && state == EVS_AMQP_AWAIT_START)
		on_start(sink, reader);
	else if (method == EVS_AMQP_CONNECTION_TUNE && state == EVS_AMQP_AWAIT_TUNE)
		on_tune(sink, reader);
	else if (method == EVS_AMQP_CONNECTION_OPEN_OK && state == EVS_AMQP_AWAIT_OPEN)
		open_channel(sink);
	else if (method == EVS_AMQP_CHANNEL_OPEN_OK && state == EVS_AMQP_AWAIT_CHANNEL)
		select_confirms(sink);
	else if (method == EVS_AMQP_CONFIRM_SELECT_OK && state == EVS_AMQP_AWAIT_CONFIRM)
		become_ready(sink);
	else
		return false;
	return true;
}

static void
on_connection_method(EvsAmqp *sink, uint32_t method, EvsAmqpReader *reader)
{
	if (method == EVS_AMQP_CONNECTION_CLOSE)
		on_connection_close(sink, reader);
	else if (method == EVS_AMQP_CONNECTION_BLOCKED)
		pause_sending(sink, EVS_AMQP_PAUSE_BLOCKED, evs_amqp_read_short(reader));
	else if (method == EVS_AMQP_CONNECTION_UNBLOCKED)
		resume_sending(sink, EVS_AMQP_PAUSE_BLOCKED);
	else if (!on_answer(sink, method, reader))
		unexpected(sink);
}

static void
on_channel_method(EvsAmqp *sink, uint32_t method, EvsAmqpReader *reader)
{
	if (method == EVS_AMQP_CHANNEL_CLOSE)
		on_channel_close(sink, reader);
	else if (on_answer(sink, method, reader))
		return;
	else if (sink->state != EVS_AMQP_READY || sink->returned.open)
		unexpected(sink);
	else if (method == EVS_AMQP_BASIC_ACK || method == EVS_AMQP_BASIC_NACK)
		on_acknowledgement(sink, reader, method == EVS_AMQP_BASIC_ACK);
	else if (method == EVS_AMQP_BASIC_RETURN)
		on_return(sink, reader);
	else if (method == EVS_AMQP_CHANNEL_FLOW)
		on_flow(sink, reader);
	else
		unexpected(sink);
}

static void
on_content(EvsAmqp *sink, int type, EvsAmqpReader *reader)
{
	EvsAmqpReturn *returned = &sink->returned;
	size_t		length = reader->end - reader->at;

	if (type == EVS_AMQP_HEADER && returned->open && !returned->has_header)
		on_return_header(sink, reader);
	else if (type == EVS_AMQP_BODY && returned->open && returned->has_header && length <= returned->left)
	{
		returned->left -= length;
		returned->open = returned->left > 0;
	}
	else
		unexpected(sink);
}

static void
on_frame(EvsAmqp *sink, int type, int channel, EvsAmqpReader *reader)
{
	if (type == EVS_AMQP_HEARTBEAT)
		return;
	if (type == EVS_AMQP_METHOD)
	{
		uint32_t	method = (uint32_t) evs_amqp_read(reader, 4);

		if (channel == 0 && method >> 16 == 10)
			on_connection_method(sink, method, reader);
		else if (channel == EVS_AMQP_CHANNEL && method >> 16 != 10)
			on_channel_method(sink, method, reader);
		else
			unexpected(sink);
	}
	else if (channel == EVS_AMQP_CHANNEL)
		on_content(sink, type, reader);
	else
		unexpected(sink);
	if (reader->failed)
		evs_sink_link_fail(&sink->link, "the server sends a frame that is too short");
}

/* What cannot be the head of a frame: false, and the connection is condemned. */
static bool
check_head(EvsAmqp *sink, const unsigned char *frame, size_t available, size_t size)
{
	if (size + EVS_AMQP_FRAME_EXTRA <= sink->frame_max)
		return true;
	if (sink->state != EVS_AMQP_AWAIT_START)
		evs_sink_link_fail(&sink->link, "the server sends a frame of %zu bytes", size);
	else if (available >= 8 && memcmp(frame, "AMQP", 4) == 0)
		evs_sink_link_fail(&sink->link, "the server does not speak AMQP 0-9-1, but %d-%d-%d",
						   frame[5], frame[6], frame[7]);
	else
		evs_sink_link_fail(&sink->link, "this is not an AMQP server");
	return false;
}

void
evs_amqp_connection_input(EvsAmqp *sink)
{
	evs_sink_link *link = &sink->link;

	while (!link->closing && link->in.length - link->in_at >= EVS_AMQP_FRAME_HEAD)
	{
		const unsigned char *frame = (const unsigned char *) link->in.data + link->in_at;
		size_t		available = link->in.length - link->in_at;
		EvsAmqpReader head = {frame, frame + EVS_AMQP_FRAME_HEAD, false};
		EvsAmqpReader payload;
		int			type = evs_amqp_read(&head, 1);
		int			channel = evs_amqp_read(&head, 2);
		size_t		size = evs_amqp_read(&head, 4);

		if (!check_head(sink, frame, available, size) || available < size + EVS_AMQP_FRAME_EXTRA)
			return;
		payload.at = head.end;
		payload.end = head.end + size;
		payload.failed = false;
		if (*payload.end != EVS_AMQP_FRAME_END)
		{
			evs_sink_link_fail(link, "the server sends a frame without its end");
			return;
		}
		link->in_at += size + EVS_AMQP_FRAME_EXTRA;
		on_frame(sink, type, channel, &payload);
	}
}

void
evs_amqp_connection_beat(EvsAmqp *sink)
{
	evs_sink_buffer *out = &sink->link.out;

	evs_amqp_end_frame(out, evs_amqp_begin_frame(out, EVS_AMQP_HEARTBEAT, 0));
}
