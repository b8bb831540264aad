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
	EVS_SINK_LINK_SETTINGS, "subject", "stream", "expect", "user", "password", "token", NULL
};

const evs_sink_scheme evs_nats_schemes[] = {
	{"nats", DEFAULT_PORT, false}, {"tls", DEFAULT_PORT, true}, {NULL, DEFAULT_PORT, false}
};

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

	if (evs_sink_get_string(settings, "stream", NULL, &config->stream, error, size) != 0)
		return -1;
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

	if (evs_sink_get_string(settings, "subject", "{topic}", &config->subject, error, size) != 0)
		return -1;
	why = evs_nats_fill_subject(config->subject, "t", filled, sizeof(filled));
	if (why == NULL)
		return 0;
	snprintf(error, size, "setting \"subject\": %s", why);
	return -1;
}

static int
read_credentials(EvsNatsConfig *config, const evs_sink_settings *settings, char *error, size_t size)
{
	if (evs_sink_get_string(settings, "user", NULL, &config->user, error, size) != 0 ||
		evs_sink_get_secret(settings, "password", &config->password, error, size) != 0 ||
		evs_sink_get_secret(settings, "token", &config->token, error, size) != 0)
		return -1;
	if ((config->user != NULL) != (config->password != NULL))
		snprintf(error, size, "settings \"user\" and \"password\" belong together");
	else if (config->user != NULL && config->token != NULL)
		snprintf(error, size, "settings \"user\" and \"token\" exclude each other");
	else
		return 0;
	return -1;
}

int
evs_nats_config_read(EvsNatsConfig *config, const evs_sink_host *host,
					 const evs_sink_settings *settings, char *error, size_t size)
{
	memset(config, 0, sizeof(*config));
	if (evs_sink_check_names(settings, names, error, size) != 0 ||
		evs_sink_link_configure(&config->link, host, settings, evs_nats_schemes, error, size) != 0 ||
		read_stream(config, settings, error, size) != 0 ||
		read_subject(config, settings, error, size) != 0 ||
		read_credentials(config, settings, error, size) != 0)
		return -1;
	if (strcmp(host->format, "cloudevents-batch") != 0)
		return 0;
	snprintf(error, size, "the sink \"nats\" does not know the format cloudevents-batch");
	return -1;
}
