/*
 * nats_protocol.c
 *	  What NATS servers say, and how a client signs in.
 */
#define _GNU_SOURCE				/* for memrchr() */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "nats_client.h"
#include "sink_json.h"

/* Lines of servers, INFO being the longest; those of messages are short. */
#define MAX_LINE 262144

/* What comes in besides acknowledgements is at most a stored message in base64. */
#define MAX_MESSAGE_SLACK 262144
#define MAX_PAYLOAD_DEFAULT 1048576
#define MAX_PAYLOAD UINT64_C(67108864)

/* --- INFO --- */

typedef struct Info
{
	EvsNatsClient *client;
	bool		headers;
} Info;

/* A server that another one tells of; TLS as for those that were configured. */
static void
add_server(EvsNatsClient *client, const char *url)
{
	evs_sink_server server;

	if (client->link.nservers == EVS_SINK_SERVERS || !evs_sink_parse_server(url, evs_nats_schemes, &server))
		return;
	for (int i = 0; i < client->link.nservers; i++)
		if (strcmp(client->link.servers[i].host, server.host) == 0 &&
			client->link.servers[i].port == server.port)
			return;
	if (client->link.host->egress_allowed(client->link.host->ctx, server.host, NULL, server.port) != 1)
		return;
	server.tls = client->link.servers[client->link.current].tls;
	client->link.servers[client->link.nservers++] = server;
}

static void
info_member(void *arg, const evs_sink_json_value *value)
{
	Info	   *info = arg;
	EvsNatsClient *client = info->client;
	uint64_t	number;
	char		url[EVS_SINK_HOST_MAX + 16];

	if (strcmp(value->path, "headers") == 0)
		info->headers = value->kind == 't';
	else if (strcmp(value->path, "tls_required") == 0)
		client->info_tls = value->kind == 't';
	else if (strcmp(value->path, "ldm") == 0)
		client->lame = value->kind == 't';
	else if (strcmp(value->path, "max_payload") == 0 && evs_sink_json_uint(value, &number))
		client->max_payload = number < MAX_PAYLOAD ? number : MAX_PAYLOAD;
	else if (strncmp(value->path, "connect_urls.", 13) == 0 &&
			 evs_sink_json_string(value, url, sizeof(url)))
		add_server(client, url);
}

static void
read_info(EvsNatsClient *client, const char *text, size_t length)
{
	Info		info = {client, client->info_headers};

	if (client->greeting)
	{
		client->info_tls = client->lame = info.headers = false;
		client->max_payload = MAX_PAYLOAD_DEFAULT;
	}
	if (!evs_sink_json_scan(text, length, info_member, &info))
		evs_sink_link_fail(&client->link, "the server's INFO is not JSON");
	else if (!info.headers)
		evs_sink_link_fail(&client->link, "the server knows no headers: 2.2 or later is needed");
	client->info_headers = info.headers;
}

/* --- signing in --- */

static void
add_member(EvsNatsClient *client, const char *name, const char *value)
{
	evs_sink_printf(&client->link.out, ",\"%s\":", name);
	evs_sink_json_add(&client->link.out, value);
}

static void
add_secret(EvsNatsClient *client, const char *name, const char *secret)
{
	char		value[1024];
	int			length;

	if (secret == NULL)
		return;
	length = client->link.host->secret(client->link.host->ctx, secret, value, sizeof(value));
	if (length < 0 || length >= (int) sizeof(value))
		evs_sink_link_fail(&client->link, "secret \"%s\" %s", secret,
						   length < 0 ? "does not exist" : "is too long");
	else
		add_member(client, name, value);
	explicit_bzero(value, sizeof(value));
}

static bool
make_inbox(EvsNatsClient *client)
{
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	unsigned char bytes[22];
	char	   *at = client->inbox;

	if (getentropy(bytes, sizeof(bytes)) != 0)
		return false;
	at += sprintf(at, "_INBOX.");
	for (size_t i = 0; i < sizeof(bytes); i++)
		*at++ = digits[bytes[i] % 62];
	strcpy(at, ".");
	return true;
}

void
evs_nats_protocol_sign_in(EvsNatsClient *client)
{
	char		name[128];

	if (!make_inbox(client))
	{
		evs_sink_link_fail(&client->link, "no random numbers");
		return;
	}
	snprintf(name, sizeof(name), "evstore relay %s", client->link.host->relay);
	evs_sink_printf(&client->link.out, "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\","
					"\"version\":\"1\",\"protocol\":1,\"echo\":false,\"headers\":true,"
					"\"no_responders\":true,\"tls_required\":%s",
					client->link.tls != NULL ? "true" : "false");
	add_member(client, "name", name);
	if (client->config->user != NULL)
		add_member(client, "user", client->config->user);
	add_secret(client, "pass", client->config->password);
	add_secret(client, "auth_token", client->config->token);
	evs_sink_printf(&client->link.out, "}\r\nSUB %s* 1\r\nPING\r\n", client->inbox);
}

/* --- messages --- */

/* The next word of a line; its length is 0 at the end. */
static const char *
next_word(const char **at, const char *end, size_t *length)
{
	const char *start;

	while (*at < end && (**at == ' ' || **at == '\t'))
		(*at)++;
	start = *at;
	while (*at < end && **at != ' ' && **at != '\t')
		(*at)++;
	*length = *at - start;
	return start;
}

static bool
read_size(const char *word, size_t length, size_t *size)
{
	*size = 0;
	if (length == 0 || length > 9)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		if (word[i] < '0' || word[i] > '9')
			return false;
		*size = *size * 10 + (word[i] - '0');
	}
	return true;
}

/*
 * MSG subject sid [reply] size, HMSG subject sid [reply] headers size.  line is
 * the part behind the first word; body is where the payload begins.  Returns the bytes
 * that the payload takes, 0 if they are not there yet or the line is wrong.
 */
static size_t
read_message(EvsNatsClient *client, const char *line, const char *line_end, bool headers,
			 const char *body, const char *end)
{
	EvsNatsMessage message = {0};
	const char *words[5];
	size_t		lengths[5];
	size_t		header_size = 0;
	size_t		size;
	int			n = 0;

	while (n < 5 && (words[n] = next_word(&line, line_end, &lengths[n]), lengths[n] > 0))
		n++;
	if (n < (headers ? 4 : 3) || !read_size(words[n - 1], lengths[n - 1], &size) ||
		(headers && (!read_size(words[n - 2], lengths[n - 2], &header_size) || header_size > size)))
	{
		evs_sink_link_fail(&client->link, "the server sends what cannot be understood");
		return 0;
	}
	if (size > client->max_payload * 2 + MAX_MESSAGE_SLACK)
	{
		evs_sink_link_fail(&client->link, "the server sends a message of %zu bytes", size);
		return 0;
	}
	if ((size_t) (end - body) < size + 2)
		return 0;
	message.token = memrchr(words[0], '.', lengths[0]);
	message.token = message.token != NULL ? message.token + 1 : words[0];
	message.token_length = words[0] + lengths[0] - message.token;
	message.headers = headers ? body : NULL;
	message.headers_length = header_size;
	message.payload = body + header_size;
	message.length = size - header_size;
	client->events->message(client->arg, &message);
	return size + 2;
}

static void
read_error(EvsNatsClient *client, const char *text, size_t length)
{
	char		error[256];

	while (length > 0 && (*text == ' ' || *text == '\''))
		text	  ++,
					length--;

	while (length > 0 && (text[length - 1] == ' ' || text[length - 1] == '\''))
		length--;
	snprintf(error, sizeof(error), "%.*s", (int) (length < 200 ? length : 200), text);
	if (client->link.state == EVS_SINK_LINK_READY && strncasecmp(error, "Permissions Violation", 21) == 0)
		client->events->error(client->arg, error);
	else
		evs_sink_link_fail(&client->link, "the server refuses: %s", error);
}

static void
read_pong(EvsNatsClient *client)
{
	if (client->link.state == EVS_SINK_LINK_SIGNING_IN)
		evs_sink_link_ready(&client->link);
}

static bool
begins(const char *line, const char *end, const char *word)
{
	size_t		length = strlen(word);

	return (size_t) (end - line) >= length && strncasecmp(line, word, length) == 0;
}

/*
 * One line, from line to line_end, and for messages what follows behind body.
 * Returns the bytes taken behind body, or -1 if they are not all there.
 */
static ssize_t
read_line(EvsNatsClient *client, const char *line, const char *line_end, const char *body,
		  const char *end)
{
	bool		headers = begins(line, line_end, "HMSG ");

	if (client->greeting && !begins(line, line_end, "INFO "))
		evs_sink_link_fail(&client->link, "this is not a NATS server");
	else if (headers || begins(line, line_end, "MSG "))
	{
		size_t		taken = read_message(client, line + (headers ? 5 : 4), line_end, headers, body, end);

		return taken > 0 || client->link.closing ? (ssize_t) taken : -1;
	}
	else if (begins(line, line_end, "INFO "))
		read_info(client, line + 5, line_end - line - 5);
	else if (begins(line, line_end, "PING"))
		evs_sink_add_string(&client->link.out, "PONG\r\n");
	else if (begins(line, line_end, "PONG"))
		read_pong(client);
	else if (begins(line, line_end, "-ERR"))
		read_error(client, line + 4, line_end - line - 4);
	else if (!begins(line, line_end, "+OK"))
		evs_sink_link_fail(&client->link, "the server sends what cannot be understood");
	return 0;
}

/* INFO was read: the protocol goes on in TLS, or at once. */
static void
after_greeting(EvsNatsClient *client)
{
	client->greeting = false;
	if (client->info_tls || evs_sink_link_wants_tls(&client->link))
		evs_sink_link_start_tls(&client->link);
	else
		evs_nats_protocol_sign_in(client);
}

void
evs_nats_protocol_read(EvsNatsClient *client)
{
	evs_sink_link *link = &client->link;

	while (!link->closing && link->in_at < link->in.length && link->state != EVS_SINK_LINK_HANDSHAKE)
	{
		const char *line = link->in.data + link->in_at;
		const char *end = link->in.data + link->in.length;
		const char *newline = memchr(line, '\n', end - line);
		ssize_t		taken;

		if (newline == NULL)
		{
			if (end - line > MAX_LINE)
				evs_sink_link_fail(link, "the server sends a line without an end");
			break;
		}
		taken = read_line(client, line, newline > line && newline[-1] == '\r' ? newline - 1 : newline,
						  newline + 1, end);
		if (taken < 0)
			break;
		link->in_at = newline + 1 + taken - link->in.data;
		if (client->greeting && !link->closing)
			after_greeting(client);
	}
}
