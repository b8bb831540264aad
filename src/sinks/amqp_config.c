/*
 * amqp_config.c
 *	  Settings of the sink "amqp".
 */
#include <stdio.h>
#include <string.h>

#include "amqp_sink.h"

#define DEFAULT_HEARTBEAT 20
#define MAX_EXPIRATION_MS INT64_C(4294967295)

static const char *const names[] = {
	EVS_SINK_LINK_SETTINGS, "vhost", "exchange", "routing_key", "user", "password", "app_id",
	"mandatory", "persistent", "heartbeat", "expiration_ms", "priority", NULL
};

static const evs_sink_scheme schemes[] = {
	{"amqp", 5672, false}, {"amqps", 5671, true}, {NULL, 5672, false}
};

static int
read_string(const evs_sink_settings *settings, const char *name, const char *otherwise,
			const char **value, char *error, size_t size)
{
	const evs_sink_setting *setting = evs_sink_find(settings, name);

	*value = setting != NULL ? setting->value : otherwise;
	if (setting == NULL || setting->kind == EVS_SINK_SETTING_STRING)
		return 0;
	snprintf(error, size, "setting \"%s\" must be a string", name);
	return -1;
}

/* A setting that is sent as a short string. */
static int
read_short(const evs_sink_settings *settings, const char *name, const char *otherwise,
		   const char **value, char *error, size_t size)
{
	if (read_string(settings, name, otherwise, value, error, size) != 0)
		return -1;
	if (*value == NULL || strlen(*value) <= EVS_AMQP_SHORT_MAX)
		return 0;
	snprintf(error, size, "setting \"%s\" is longer than %d bytes", name, EVS_AMQP_SHORT_MAX);
	return -1;
}

static int
read_template(const evs_sink_settings *settings, const char *name, const char *otherwise,
			  const char **value, char *error, size_t size)
{
	char		filled[EVS_AMQP_SHORT_MAX + 1];
	const char *why;

	if (read_string(settings, name, otherwise, value, error, size) != 0)
		return -1;
	if (*value == NULL)
	{
		snprintf(error, size, "setting \"%s\" is missing", name);
		return -1;
	}
	why = evs_amqp_fill(*value, "", filled);
	if (why == NULL)
		return 0;
	snprintf(error, size, "setting \"%s\" %s", name, why);
	return -1;
}

static int
read_credentials(EvsAmqpConfig *config, const evs_sink_settings *settings, char *error, size_t size)
{
	if (read_short(settings, "user", NULL, &config->user, error, size) != 0 ||
		evs_sink_get_secret(settings, "password", &config->password, error, size) != 0)
		return -1;
	if ((config->user != NULL) != (config->password != NULL))
		snprintf(error, size, "settings \"user\" and \"password\" belong together");
	else if (config->user == NULL && config->link.files.cert_file == NULL)
		snprintf(error, size, "settings \"user\" and \"password\", or \"tls.cert_file\", are missing");
	else
		return 0;
	return -1;
}

static int
read_properties(EvsAmqpConfig *config, const evs_sink_settings *settings, char *error, size_t size)
{
	if (read_short(settings, "app_id", "evstore", &config->app_id, error, size) != 0 ||
		evs_sink_get_bool(settings, "mandatory", true, &config->mandatory, error, size) != 0 ||
		evs_sink_get_bool(settings, "persistent", true, &config->persistent, error, size) != 0 ||
		evs_sink_get_int(settings, "heartbeat", DEFAULT_HEARTBEAT, 0, UINT16_MAX,
						 &config->heartbeat, error, size) != 0 ||
		evs_sink_get_int(settings, "expiration_ms", -1, 0, MAX_EXPIRATION_MS,
						 &config->expiration_ms, error, size) != 0 ||
		evs_sink_get_int(settings, "priority", -1, 0, UINT8_MAX, &config->priority, error, size) != 0)
		return -1;
	return 0;
}

int
evs_amqp_config_read(EvsAmqpConfig *config, const evs_sink_host *host,
					 const evs_sink_settings *settings, char *error, size_t size)
{
	memset(config, 0, sizeof(*config));
	if (evs_sink_check_names(settings, names, error, size) != 0 ||
		evs_sink_link_configure(&config->link, host, settings, schemes, error, size) != 0 ||
		read_short(settings, "vhost", "/", &config->vhost, error, size) != 0 ||
		read_template(settings, "exchange", NULL, &config->exchange, error, size) != 0 ||
		read_template(settings, "routing_key", "{topic}", &config->routing_key, error, size) != 0 ||
		read_credentials(config, settings, error, size) != 0 ||
		read_properties(config, settings, error, size) != 0)
		return -1;
	if (strcmp(host->format, "cloudevents-batch") != 0)
		return 0;
	snprintf(error, size, "the sink \"amqp\" does not know the format cloudevents-batch");
	return -1;
}
