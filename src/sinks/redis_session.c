/*
 * redis_session.c
 *	  A connection to Redis: signing in, requests, and their answers.
 *
 * Redis answers in the order of requests, so these are a ring.  With
 * "wait_replicas" the answer to a batch is kept until the WAIT behind it is
 * answered.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis_sink.h"

static EvsRedisRequest *
request_at(EvsRedis *sink, uint64_t i)
{
	return &sink->requests[i % EVS_REDIS_REQUESTS];
}

EvsRedisRequest *
evs_redis_add_request(EvsRedis *sink, EvsRedisKind kind)
{
	EvsRedisRequest *request = request_at(sink, sink->tail);

	if (sink->tail - sink->head == EVS_REDIS_REQUESTS)
		return NULL;
	sink->tail++;
	memset(request, 0, sizeof(*request));
	request->kind = kind;
	return request;
}

static void
forget_requests(EvsRedis *sink)
{
	for (; sink->head < sink->tail; sink->head++)
	{
		free(request_at(sink, sink->head)->answer.marks);
		request_at(sink, sink->head)->answer.marks = NULL;
	}
	sink->awaited = sink->tail;
	sink->nbatches = 0;
	evs_redis_forget_streams(sink);
}

/* --- signing in --- */

static void
write_command(EvsRedis *sink, EvsRedisKind kind, int n, ...)
{
	va_list		args;

	if (evs_redis_add_request(sink, kind) == NULL)
		return;
	evs_sink_printf(&sink->link.out, "*%d\r\n", n);
	va_start(args, n);
	for (int i = 0; i < n; i++)
		evs_redis_write_string(sink, va_arg(args, const char *));
	va_end(args);
}

static void
write_auth(EvsRedis *sink)
{
	const EvsRedisConfig *config = &sink->config;
	char		password[1024];
	int			length;

	if (config->password == NULL)
		return;
	length = sink->host->secret(sink->host->ctx, config->password, password, sizeof(password));
	if (length < 0 || length >= (int) sizeof(password))
		evs_sink_link_fail(&sink->link, "secret \"%s\" %s", config->password,
						   length < 0 ? "does not exist" : "is too long");
	else if (config->user != NULL)
		write_command(sink, EVS_REDIS_SIGN_IN, 3, "AUTH", config->user, password);
	else
		write_command(sink, EVS_REDIS_SIGN_IN, 2, "AUTH", password);
	explicit_bzero(password, sizeof(password));
}

/* Redis wants a name without spaces. */
static void
write_name(EvsRedis *sink)
{
	char		name[128];

	snprintf(name, sizeof(name), "evstore-relay-%s", sink->host->relay);
	for (char *at = name; *at != '\0'; at++)
		if (*at <= ' ' || *at >= 0x7f)
			*at = '-';
	write_command(sink, EVS_REDIS_NAME, 3, "CLIENT", "SETNAME", name);
}

static void
on_opened(void *arg)
{
	EvsRedis   *sink = arg;
	char		database[32];

	forget_requests(sink);
	write_auth(sink);
	if (sink->config.database > 0)
	{
		snprintf(database, sizeof(database), "%" PRId64, sink->config.database);
		write_command(sink, EVS_REDIS_SIGN_IN, 2, "SELECT", database);
	}
	/* A server that turns everybody away says so to whatever comes first. */
	write_command(sink, EVS_REDIS_FIRST_PING, 1, "PING");
	write_name(sink);
}

static void
on_silent(void *arg)
{
	write_command(arg, EVS_REDIS_PING, 1, "PING");
}

/* --- what is asked --- */

void
evs_redis_write_wait(EvsRedis *sink)
{
	char		replicas[32];
	char		timeout[32];

	snprintf(replicas, sizeof(replicas), "%" PRId64, sink->config.wait_replicas);
	snprintf(timeout, sizeof(timeout), "%" PRId64, sink->config.wait_timeout);
	write_command(sink, EVS_REDIS_WAIT, 3, "WAIT", replicas, timeout);
}

void
evs_redis_write_resume(EvsRedis *sink)
{
	char		depth[32];

	snprintf(depth, sizeof(depth), "%" PRId64, evs_redis_depth(sink));
	write_command(sink, EVS_REDIS_RESUME, 6, "EVAL", evs_redis_resume_script, "1",
				  sink->config.key, sink->host->id, depth);
}

/* --- answers --- */

/*
 * Requests whose answers nobody needs any more; batches that wait for replicas only
 * if wanted.
 */
static void
drop_answered(EvsRedis *sink, bool also_batches)
{
	for (; sink->head < sink->awaited; sink->head++)
	{
		EvsRedisRequest *request = request_at(sink, sink->head);

		if (request->kind == EVS_REDIS_BATCH && !also_batches)
			return;
		free(request->answer.marks);
		request->answer.marks = NULL;
	}
}

static void
sign_in_answered(EvsRedis *sink, EvsRedisRequest *request, const char *error)
{
	char		why[EVS_REDIS_ERROR_MAX];
	evs_sink_buffer *out = &sink->link.out;

	/* The password was sent, so it need not be there any more. */
	if (out->data != NULL && evs_sink_link_pending(&sink->link) == 0)
		explicit_bzero(out->data, out->size);
	/* One who must not PING is signed in all the same. */
	if (error[0] != '\0' && (request->kind != EVS_REDIS_FIRST_PING || !evs_redis_is_denied(error)))
	{
		evs_redis_explain(error, why, sizeof(why));
		evs_sink_link_fail(&sink->link, "%s", why);
	}
	else if (request->kind == EVS_REDIS_FIRST_PING)
		evs_sink_link_ready(&sink->link);
}

static void
tell_trim(EvsRedis *sink, const EvsRedisReply *reply)
{
	char		error[EVS_REDIS_ERROR_MAX];
	char		message[EVS_REDIS_ERROR_MAX + 64];

	if (sink->told_trim || reply->items[4].length == 0)
		return;
	sink->told_trim = true;
	evs_redis_copy_text(&reply->items[4], error, sizeof(error));
	snprintf(message, sizeof(message), "the stream cannot be trimmed: %s", error);
	sink->host->log(sink->host->ctx, EVS_SINK_LOG_WARNING, message);
}

static void
batch_answered(EvsRedis *sink, EvsRedisRequest *request, const EvsRedisReply *reply, const char *error)
{
	if (error[0] != '\0')
	{
		evs_redis_refused(sink, request, error);
		request->n = 0;			/* nothing of it waits for replicas */
	}
	else if (!evs_redis_read_answer(reply, request->n, &request->answer))
		evs_sink_link_fail(&sink->link, "the server's answer cannot be understood");
	else
	{
		tell_trim(sink, reply);
		if (sink->config.wait_replicas == 0)
			evs_redis_apply(sink, request);
	}
}

/* Batches from the first that is kept up to this request. */
static void
wait_answered(EvsRedis *sink, const EvsRedisReply *reply, const char *error)
{
	if (error[0] != '\0')
		/* That is no message's fault, such as a server that has become a replica. */
		evs_sink_link_fail(&sink->link, "the server does not wait for replicas: %s", error);
	else if (reply->value.type != ':')
		evs_sink_link_fail(&sink->link, "the server's answer cannot be understood");
	if (sink->link.closing)
		return;
	for (uint64_t i = sink->head; i < sink->awaited; i++)
	{
		EvsRedisRequest *request = request_at(sink, i);

		if (request->kind != EVS_REDIS_BATCH || request->n == 0)
			continue;
		if (reply->value.number >= sink->config.wait_replicas)
			evs_redis_apply(sink, request);
		else
			evs_redis_not_replicated(sink, request, reply->value.number);
	}
	drop_answered(sink, true);
}

static void
resume_answered(EvsRedis *sink, const EvsRedisReply *reply, const char *error)
{
	const EvsRedisValue *value = &reply->value;
	evs_sink_class result;
	char		text[32];

	if (sink->resume != EVS_REDIS_RESUME_ASKED)
		return;
	if (error[0] != '\0' && !evs_redis_is_denied(error) && strncmp(error, "WRONGTYPE ", 10) != 0)
	{
		sink->resume = EVS_REDIS_RESUME_FAILED;
		evs_redis_explain(error, sink->resume_error, sizeof(sink->resume_error));
		if (evs_redis_classify(&sink->config, error, &result) == EVS_REDIS_OF_SERVER)
			evs_sink_link_fail(&sink->link, "%s", sink->resume_error);
		return;
	}
	/* Without rights the position is not known; the messages will tell the rest. */
	sink->resume = EVS_REDIS_RESUME_KNOWN;
	sink->resume_position = 0;
	if (error[0] != '\0')
		sink->host->log(sink->host->ctx, EVS_SINK_LOG_WARNING, error);
	else if (value->type == '$' && value->text != NULL && value->length > 0 && value->length < 19)
	{
		snprintf(text, sizeof(text), "%.*s", (int) value->length, value->text);
		if (strspn(text, "0123456789") == value->length)
			sink->resume_position = strtoll(text, NULL, 10);
	}
}

static void
answered(EvsRedis *sink, const EvsRedisReply *reply)
{
	EvsRedisRequest *request = request_at(sink, sink->awaited);
	char		error[EVS_REDIS_ERROR_MAX] = "";

	if (reply->value.type == '-')
		evs_redis_copy_text(&reply->value, error, sizeof(error));
	if (reply->value.type == '-' && error[0] == '\0')
		strcpy(error, "ERR");
	if (sink->awaited == sink->tail)
	{
		evs_sink_link_fail(&sink->link, "the server says what nobody asked for: %s", error);
		return;
	}
	sink->awaited++;
	switch (request->kind)
	{
		case EVS_REDIS_SIGN_IN:
		case EVS_REDIS_FIRST_PING:
			sign_in_answered(sink, request, error);
			break;
		case EVS_REDIS_BATCH:
			batch_answered(sink, request, reply, error);
			break;
		case EVS_REDIS_WAIT:
			wait_answered(sink, reply, error);
			break;
		case EVS_REDIS_RESUME:
			resume_answered(sink, reply, error);
			break;
		default:
			break;
	}
}

static void
on_input(void *arg)
{
	EvsRedis   *sink = arg;
	evs_sink_link *link = &sink->link;

	while (!link->closing && link->in_at < link->in.length)
	{
		EvsRedisReply reply;
		size_t		taken;
		int			rc = evs_redis_parse(link->in.data + link->in_at, link->in.length - link->in_at,
										 &reply, &taken);

		if (rc < 0)
			evs_sink_link_fail(link, "this is not a Redis server, or it sends what cannot be understood");
		if (rc <= 0)
			return;
		link->in_at += taken;
		answered(sink, &reply);
		drop_answered(sink, sink->config.wait_replicas == 0);
	}
}

static void
on_lost(void *arg, const char *why)
{
	EvsRedis   *sink = arg;

	forget_requests(sink);
	sink->loaded = false;
	sink->suspects = evs_redis_depth(sink);
	if (why == NULL)
		return;
	evs_sink_flight_complete_all(&sink->flight, true, EVS_SINK_RETRY_SINK, 0, why);
	if (sink->resume == EVS_REDIS_RESUME_WANTED || sink->resume == EVS_REDIS_RESUME_ASKED)
	{
		sink->resume = EVS_REDIS_RESUME_FAILED;
		snprintf(sink->resume_error, sizeof(sink->resume_error), "%s", why);
	}
}

const evs_sink_link_events evs_redis_link_events = {
	.opened = on_opened,
	.input = on_input,
	.silent = on_silent,
	.lost = on_lost
};
