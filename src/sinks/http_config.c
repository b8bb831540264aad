/*
 * http_config.c
 *	  Settings of the http sink: those that all profiles have, and which it is.
 *
 * All settings are checked here, before anything is sent: when the relay is
 * made, and again when it starts, since what may be connected to can change.
 * Passwords, tokens and keys must be names of secrets.  Nothing can switch the
 * verification of certificates off.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_profile.h"

#define MAX_NAMES 64

/* The first is the default. */
static const EvsHttpProfile *const profiles[] = {
	&evs_http_webhook,
	&evs_http_aws_eventbridge,
	&evs_http_aws_kinesis,
	&evs_http_aws_sns,
	&evs_http_aws_sqs,
	&evs_http_azure_eventgrid,
	&evs_http_azure_eventhubs,
	&evs_http_azure_servicebus,
	&evs_http_gcp_pubsub
};

#define NPROFILES ((int) (sizeof(profiles) / sizeof(profiles[0])))

static const char *const common_names[] = {
	"profile", "http_version", "proxy", "connect_timeout_ms",
	"tls.ca_file", "tls.cert_file", "tls.key_file", "tls.min_version"
};

#define NCOMMON ((int) (sizeof(common_names) / sizeof(common_names[0])))

static bool
read_profile(EvsHttpReader *reader)
{
	EvsHttpWord words[NPROFILES + 1] = {{NULL}};
	long		i;

	for (i = 0; i < NPROFILES; i++)
	{
		words[i].word = profiles[i]->name;
		words[i].value = i;
	}
	if (!evs_http_read_word(reader, "profile", words, &i))
		return false;
	reader->config->profile = profiles[i];
	return true;
}

static bool
check_names(EvsHttpReader *reader)
{
	const char *const *own = reader->config->profile->names;
	const char *names[NCOMMON + MAX_NAMES + 1];
	int			n = NCOMMON;

	memcpy(names, common_names, sizeof(common_names));
	while (*own != NULL && n < NCOMMON + MAX_NAMES)
		names[n++] = *own++;
	names[n] = NULL;
	return evs_sink_check_names(reader->settings, names, reader->error, reader->size) == 0;
}

static bool
read_format(EvsHttpReader *reader)
{
	static const char *const formats[] = {
		[EVS_HTTP_STRUCTURED] = "cloudevents", [EVS_HTTP_BATCH] = "cloudevents-batch",
		[EVS_HTTP_BINARY] = "cloudevents-binary", [EVS_HTTP_RAW] = "raw"
	};
	const EvsHttpProfile *profile = reader->config->profile;

	for (int i = 0; i < (int) (sizeof(formats) / sizeof(formats[0])); i++)
		if (strcmp(formats[i], reader->host->format) == 0 && (profile->formats & EVS_HTTP_TAKES(i)))
		{
			reader->config->format = i;
			return true;
		}
	if (profile == profiles[0])
		return evs_http_fail(reader, "the http sink cannot send the format \"%s\"", reader->host->format);
	return evs_http_fail(reader, "the profile \"%s\" of the http sink cannot send the format \"%s\"",
						 profile->name, reader->host->format);
}

static bool
read_connection(EvsHttpReader *reader)
{
	static const EvsHttpWord versions[] = {
		{"auto", CURL_HTTP_VERSION_2TLS}, {"1.1", CURL_HTTP_VERSION_1_1}, {NULL}
	};
	EvsHttpConfig *config = reader->config;

	config->method = "POST";
	return evs_http_read_word(reader, "http_version", versions, &config->http_version) &&
		evs_http_read_int(reader, "connect_timeout_ms", 10000, 1, 600000, &config->connect_timeout_ms) &&
		evs_http_read_proxy(reader);
}

/* When it is known where it goes. */
static bool
read_tls(EvsHttpReader *reader)
{
	static const EvsHttpWord versions[] = {
		{"1.2", CURL_SSLVERSION_TLSv1_2}, {"1.3", CURL_SSLVERSION_TLSv1_3}, {NULL}
	};
	EvsHttpConfig *config = reader->config;

	for (int i = 0; i < reader->settings->nitems; i++)
		if (strncmp(reader->settings->items[i].name, "tls.", 4) == 0 && !config->to.is_tls)
			return evs_http_fail(reader, "setting \"%s\" needs a url that begins with https://",
								 reader->settings->items[i].name);
	if (!evs_http_read_word(reader, "tls.min_version", versions, &config->min_tls) ||
		!evs_http_read_file(reader, "tls.ca_file", &config->ca_file) ||
		!evs_http_read_file(reader, "tls.cert_file", &config->cert_file) ||
		!evs_http_read_file(reader, "tls.key_file", &config->key_file))
		return false;
	if ((config->cert_file == NULL) != (config->key_file == NULL))
		return evs_http_fail(reader, "settings \"tls.cert_file\" and \"tls.key_file\" need each other");
	return true;
}

int
evs_http_configure(const evs_sink_host *host, const evs_sink_settings *settings,
				   EvsHttpConfig *config, char *error, size_t size)
{
	EvsHttpReader reader = {host, settings, config, error, size};

	config->settings = settings;
	return read_profile(&reader) && check_names(&reader) && read_format(&reader) &&
		read_connection(&reader) && config->profile->configure(&reader) &&
		read_tls(&reader) ? 0 : -1;
}

void
evs_http_config_free(EvsHttpConfig *config)
{
	if (config->own != NULL)
		config->profile->release(config);
	curl_url_cleanup(config->target);
	free(config->to.host);
	free(config->proxy_host);
}
