/*
 * sink_link_config.c
 *	  Settings of a connection: servers, TLS, secrets.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sink_link.h"

static bool
parse_port(const char *text, int *port)
{
	char	   *end;
	long		value = strtol(text, &end, 10);

	*port = (int) value;
	return *text >= '0' && *text <= '9' && *end == '\0' && value > 0 && value < 65536;
}

bool
evs_sink_parse_server(const char *url, const evs_sink_scheme *schemes, evs_sink_server *server)
{
	const char *host = url;
	const char *end = strstr(url, "://");

	memset(server, 0, sizeof(*server));
	server->port = schemes->port;
	if (end != NULL)
	{
		while (schemes->name != NULL && (strlen(schemes->name) != (size_t) (end - url) ||
										 strncmp(url, schemes->name, end - url) != 0))
			schemes++;
		if (schemes->name == NULL)
			return false;
		server->port = schemes->port;
		server->tls = schemes->tls;
		host = end + 3;
	}
	if (*host == '[')
		end = strchr(++host, ']');
	else
		end = host + strcspn(host, ":");
	if (end == NULL || end == host || end - host >= EVS_SINK_HOST_MAX)
		return false;
	memcpy(server->host, host, end - host);
	if (strpbrk(server->host, "@/?# \t\r\n") != NULL)
		return false;
	if (*end == ']')
		end++;
	return *end == '\0' || (*end == ':' && parse_port(end + 1, &server->port));
}

/* "nats://host:port or tls://host:port" */
static void
describe_schemes(const evs_sink_scheme *schemes, char *text, size_t size)
{
	size_t		length = 0;

	text[0] = '\0';
	for (int i = 0; schemes[i].name != NULL && length < size; i++)
		length += snprintf(text + length, size - length, "%s%s://host:port", i > 0 ? " or " : "",
						   schemes[i].name);
}

static int
add_server(evs_sink_link_config *config, const evs_sink_host *host, const evs_sink_setting *setting,
		   const evs_sink_scheme *schemes, char *error, size_t size)
{
	evs_sink_server *server = &config->servers[config->nservers];
	char		wanted[128];

	if (config->nservers == EVS_SINK_SERVERS)
	{
		snprintf(error, size, "setting \"servers\" has more than %d servers", EVS_SINK_SERVERS);
		return -1;
	}
	if (setting->kind != EVS_SINK_SETTING_STRING ||
		!evs_sink_parse_server(setting->value, schemes, server))
	{
		describe_schemes(schemes, wanted, sizeof(wanted));
		snprintf(error, size, "setting \"%s\" must be like %s, without a user", setting->name, wanted);
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
read_servers(evs_sink_link_config *config, const evs_sink_host *host,
			 const evs_sink_settings *settings, const evs_sink_scheme *schemes,
			 char *error, size_t size)
{
	const evs_sink_setting *url = evs_sink_find(settings, "url");

	if (url != NULL && add_server(config, host, url, schemes, error, size) != 0)
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
		if (add_server(config, host, setting, schemes, error, size) != 0)
			return -1;
	}
	if (config->nservers > 0)
		return 0;
	snprintf(error, size, "setting \"url\" or \"servers\" is missing");
	return -1;
}

int
evs_sink_get_secret(const evs_sink_settings *settings, const char *name, const char **value,
					char *error, size_t size)
{
	const evs_sink_setting *setting = evs_sink_find(settings, name);

	*value = setting != NULL ? setting->value : NULL;
	if (setting == NULL || setting->kind == EVS_SINK_SETTING_SECRET)
		return 0;
	snprintf(error, size, "setting \"%s\" must be a secret", name);
	return -1;
}

static int
read_tls(evs_sink_link_config *config, const evs_sink_settings *settings, char *error, size_t size)
{
	evs_sink_tls_files *files = &config->files;

	if (evs_sink_get_string(settings, "tls.ca_file", NULL, &files->ca_file, error, size) != 0 ||
		evs_sink_get_string(settings, "tls.cert_file", NULL, &files->cert_file, error, size) != 0 ||
		evs_sink_get_string(settings, "tls.key_file", NULL, &files->key_file, error, size) != 0)
		return -1;
	if (files->key_file != NULL && files->cert_file == NULL)
	{
		snprintf(error, size, "setting \"tls.key_file\" needs \"tls.cert_file\"");
		return -1;
	}
	return evs_sink_get_bool(settings, "tls", files->ca_file != NULL || files->cert_file != NULL,
							 &config->tls, error, size);
}

int
evs_sink_link_configure(evs_sink_link_config *config, const evs_sink_host *host,
						const evs_sink_settings *settings, const evs_sink_scheme *schemes,
						char *error, size_t size)
{
	memset(config, 0, sizeof(*config));
	if (read_servers(config, host, settings, schemes, error, size) != 0)
		return -1;
	return read_tls(config, settings, error, size);
}
