/*
 * nats_config.c
 *	  Settings of the sink "nats".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nats_client.h"
#include "nats_sink.h"

#define DEFAULT_PORT 4222
#define MAX_STREAM_NAME 255

static const char *const names[] = {
	"url", "servers.", "subject", "stream", "expect", "user", "password", "token",
	"tls", "tls.ca_file", "tls.cert_file", "tls.key_file", NULL
};

static bool
parse_port(const char *text, int *port)
{
	char	   *end;
	long		value = strtol(text, &end, 10);

	*port = (int) value;
	return *text >= '0' && *text <= '9' && *end == '\0' && value > 0 && value < 65536;
}

bool
evs_nats_parse_server(const char *url, EvsNatsServer *server)
{
	const char *host = url;
	const char *end;

	memset(server, 0, sizeof(*server));
	server->port = DEFAULT_PORT;
	server->configured = true;
	if (strncmp(url, "nats://", 7) == 0)
		host += 7;
	else if (strncmp(url, "tls://", 6) == 0)
	{
		host += 6;
		server->tls = true;
	}
	if (*host == '[')
		end = strchr(++host, ']');
	else
		end = host + strcspn(host, ":");
	if (end == NULL || end == host || end - host >= EVS_NATS_HOST_MAX)
		return false;
	memcpy(server->host, host, end - host);
	if (strpbrk(server->host, "@/?# \t\r\n") != NULL)
		return false;
	if (*end == ']')
		end++;
	return *end == '\0' || (*end == ':' && parse_port(end + 1, &server->port));
}

static int
add_server(EvsNatsConfig *config, const evs_sink_host *host, const evs_sink_setting *setting,
		   char *error, size_t size)
{
	EvsNatsServer *server = &config->servers[config->nservers];

	if (config->nservers == EVS_NATS_SERVERS)
	{
		snprintf(error, size, "setting \"servers\" has more than %d servers", EVS_NATS_SERVERS);
		return -1;
	}
	if (setting->kind != EVS_SINK_SETTING_STRING || !evs_nats_parse_server(setting->value, server))
	{
		snprintf(error, size, "setting \"%s\" must be like nats://host:port or tls://host:port, "
				 "without a user", setting->name);
		return -1;
	}
	if (host->egress_allowed(host->ctx, server->host, NULL, server->port) != 1)
	{
		snprintf(error, size, "setting \"%s\": a connection to %s port %d is not allowed",
				 setting->name, server->host, server->port);
		return -1;
	}
	config->nservers++;
	return 0;
}

static int
read_servers(EvsNatsConfig *config, const evs_sink_host *host, const evs_sink_settings *settings,
			 char *error, size_t size)
{
	const evs_sink_setting *url = evs_sink_find(settings, "url");

	if (url != NULL && add_server(config, host, url, error, size) != 0)
		return -1;
	for (int i = 0; i < settings->nitems; i++)
	{
		const evs_sink_setting *setting = &settings->items[i];

		if (strncmp(setting->name, "servers.", 8) != 0)
			continue;
		if (url != NULL)
		{
			snprintf(error, size, "settings \"url\" and \"servers\" exclude each other");
			return -1;
		}
		if (add_server(config, host, setting, error, size) != 0)
			return -1;
	}
	if (config->nservers > 0)
		return 0;
	snprintf(error, size, "setting \"url\" or \"servers\" is missing");
	return -1;
}

/* Names that become part of a subject of the API. */
static bool
is_stream_name(const char *name)
{
	return *name != '\0' && strlen(name) <= MAX_STREAM_NAME && strpbrk(name, " \t\r\n.*>/\\") == NULL;
}

static int
read_stream(EvsNatsConfig *config, const evs_sink_settings *settings, char *error, size_t size)
{
	const char *expect = evs_sink_get(settings, "expect", "none");

	config->stream = evs_sink_get(settings, "stream", NULL);
	if (config->stream != NULL && !is_stream_name(config->stream))
	{
		snprintf(error, size, "setting \"stream\" is not the name of a stream");
		return -1;
	}
	if (strcmp(expect, "none") == 0)
		config->expect = EVS_NATS_EXPECT_NONE;
	else if (strcmp(expect, "sequence") == 0)
		config->expect = EVS_NATS_EXPECT_SEQUENCE;
	else if (strcmp(expect, "subject") == 0)
		config->expect = EVS_NATS_EXPECT_SUBJECT;
	else
	{
		snprintf(error, size, "setting \"expect\" must be none, sequence or subject");
		return -1;
	}
	if (config->expect != EVS_NATS_EXPECT_NONE && config->stream == NULL)
	{
		snprintf(error, size, "setting \"expect\" needs \"stream\"");
		return -1;
	}
	return 0;
}

static int
read_subject(EvsNatsConfig *config, const evs_sink_settings *settings, char *error, size_t size)
{
	char		filled[EVS_NATS_SUBJECT_MAX];
	const char *why;

	config->subject = evs_sink_get(settings, "subject", "{topic}");
	why = evs_nats_fill_subject(config->subject, "t", filled, sizeof(filled));
	if (why == NULL)
		return 0;
	snprintf(error, size, "setting \"subject\": %s", why);
	return -1;
}

static int
read_secret(const evs_sink_settings *settings, const char *name, const char **value,
			char *error, size_t size)
{
	const evs_sink_setting *setting = evs_sink_find(settings, name);

	*value = NULL;
	if (setting == NULL)
		return 0;
	*value = setting->value;
	if (setting->kind == EVS_SINK_SETTING_SECRET)
		return 0;
	snprintf(error, size, "setting \"%s\" must be a secret", name);
	return -1;
}

static int
read_credentials(EvsNatsConfig *config, const evs_sink_settings *settings, char *error, size_t size)
{
	config->user = evs_sink_get(settings, "user", NULL);
	if (read_secret(settings, "password", &config->password, error, size) != 0 ||
		read_secret(settings, "token", &config->token, error, size) != 0)
		return -1;
	if ((config->user != NULL) != (config->password != NULL))
		snprintf(error, size, "settings \"user\" and \"password\" belong together");
	else if (config->user != NULL && config->token != NULL)
		snprintf(error, size, "settings \"user\" and \"token\" exclude each other");
	else
		return 0;
	return -1;
}

static int
read_tls(EvsNatsConfig *config, const evs_sink_settings *settings, char *error, size_t size)
{
	config->ca_file = evs_sink_get(settings, "tls.ca_file", NULL);
	config->cert_file = evs_sink_get(settings, "tls.cert_file", NULL);
	config->key_file = evs_sink_get(settings, "tls.key_file", NULL);
	if (config->key_file != NULL && config->cert_file == NULL)
	{
		snprintf(error, size, "setting \"tls.key_file\" needs \"tls.cert_file\"");
		return -1;
	}
	return evs_sink_get_bool(settings, "tls", config->ca_file != NULL || config->cert_file != NULL,
							 &config->tls, error, size);
}

int
evs_nats_config_read(EvsNatsConfig *config, const evs_sink_host *host,
					 const evs_sink_settings *settings, char *error, size_t size)
{
	memset(config, 0, sizeof(*config));
	if (evs_sink_check_names(settings, names, error, size) != 0 ||
		read_servers(config, host, settings, error, size) != 0 ||
		read_stream(config, settings, error, size) != 0 ||
		read_subject(config, settings, error, size) != 0 ||
		read_credentials(config, settings, error, size) != 0 ||
		read_tls(config, settings, error, size) != 0)
		return -1;
	if (strcmp(host->format, "cloudevents-batch") != 0)
		return 0;
	snprintf(error, size, "the sink \"nats\" does not know the format cloudevents-batch");
	return -1;
}
