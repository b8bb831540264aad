/*
 * mqtt_config.c
 *	  Settings of the sink "mqtt".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mqtt_sink.h"

static const evs_sink_scheme schemes[] = {{"mqtt", 1883, false}, {"mqtts", 8883, true}, {NULL, 1883, false}};

static const char *const names[] = {
	EVS_SINK_LINK_SETTINGS, "version", "qos", "retain", "topic", "client_id", "user", "password",
	"session_expiry", "keepalive", "message_expiry", "max_in_flight", EVS_MQTT_PROPERTIES, NULL
};

/* So many exchanges of QoS 2 every server of 3.1.1 takes: those that have a limit have this. */
#define IN_FLIGHT_3_1_1 20

/* How long a session of QoS 2 outlives its connection, unless set. */
#define SESSION_EXPIRY 3600

static int
read_version(EvsMqttConfig *config, const evs_sink_host *host, const evs_sink_settings *settings,
			 char *error, size_t size)
{
	static const char *const only_5[] = {"session_expiry", "message_expiry"};
	const char *version = evs_sink_get(settings, "version", "5");

	config->version = strcmp(version, "5") == 0 ? EVS_MQTT_VERSION_5 : EVS_MQTT_VERSION_3_1_1;
	if (config->version == EVS_MQTT_VERSION_5)
		return 0;
	if (strcmp(version, "3.1.1") != 0)
	{
		snprintf(error, size, "setting \"version\" must be \"5\" or \"3.1.1\"");
		return -1;
	}
	if (strcmp(host->format, "cloudevents-binary") == 0)
	{
		snprintf(error, size, "setting \"version\": the format cloudevents-binary needs MQTT 5");
		return -1;
	}
	for (int i = 0; i < settings->nitems; i++)
	{
		const char *name = settings->items[i].name;

		if (strcmp(name, only_5[0]) != 0 && strcmp(name, only_5[1]) != 0 &&
			strncmp(name, EVS_MQTT_PROPERTIES, strlen(EVS_MQTT_PROPERTIES)) != 0)
			continue;
		snprintf(error, size, "setting \"%s\" needs MQTT 5", name);
		return -1;
	}
	return 0;
}

/* A string as it may be in a packet; *value is NULL if it is not set. */
static int
read_text(const evs_sink_settings *settings, const char *name, const char **value,
		  char *error, size_t size)
{
	const evs_sink_setting *setting = evs_sink_find(settings, name);

	*value = setting != NULL ? setting->value : NULL;
	if (setting == NULL ||
		(setting->kind == EVS_SINK_SETTING_STRING && *setting->value != '\0' &&
		 strlen(setting->value) < EVS_MQTT_STRING_MAX &&
		 evs_mqtt_is_text(setting->value, strlen(setting->value))))
		return 0;
	snprintf(error, size, "setting \"%s\" must be a string of 1 to %d bytes, without control characters",
			 name, EVS_MQTT_STRING_MAX - 1);
	return -1;
}

static int
read_topic(EvsMqttConfig *config, const evs_sink_settings *settings, char *error, size_t size)
{
	evs_sink_buffer buffer = {0};
	const char *filled;
	const char *why;
	size_t		length;

	if (read_text(settings, "topic", &config->topic, error, size) != 0)
		return -1;
	if (config->topic == NULL)
		config->topic = "{topic}";
	why = evs_mqtt_fill_topic(config->topic, "t", &buffer, &filled, &length);
	evs_sink_buffer_free(&buffer);
	if (why == NULL)
		return 0;
	snprintf(error, size, "setting \"topic\": %s", why);
	return -1;
}

static int
read_credentials(EvsMqttConfig *config, const evs_sink_settings *settings, char *error, size_t size)
{
	if (read_text(settings, "client_id", &config->client_id, error, size) != 0 ||
		read_text(settings, "user", &config->user, error, size) != 0 ||
		evs_sink_get_secret(settings, "password", &config->password, error, size) != 0)
		return -1;
	if (config->version == EVS_MQTT_VERSION_5 || config->password == NULL || config->user != NULL)
		return 0;
	snprintf(error, size, "setting \"password\" needs \"user\" in MQTT 3.1.1");
	return -1;
}

static int
read_delivery(EvsMqttConfig *config, const evs_sink_settings *settings, char *error, size_t size)
{
	int64_t		qos;
	bool		is_2;

	if (evs_sink_get_int(settings, "qos", 1, 1, 2, &qos, error, size) != 0)
		return -1;
	config->qos = (int) qos;
	is_2 = qos == 2;
	if (!is_2 && evs_sink_find(settings, "session_expiry") != NULL)
	{
		snprintf(error, size, "setting \"session_expiry\" needs \"qos\": 2");
		return -1;
	}
	return evs_sink_get_bool(settings, "retain", false, &config->retain, error, size) != 0 ||
		evs_sink_get_int(settings, "session_expiry", is_2 ? SESSION_EXPIRY : 0, 0, UINT32_MAX,
						 &config->session_expiry, error, size) != 0 ||
		evs_sink_get_int(settings, "keepalive", 60, 0, 65535, &config->keepalive, error, size) != 0 ||
		evs_sink_get_int(settings, "message_expiry", -1, 0, UINT32_MAX, &config->message_expiry,
						 error, size) != 0 ||
		evs_sink_get_int(settings, "max_in_flight",
						 is_2 && config->version != EVS_MQTT_VERSION_5 ? IN_FLIGHT_3_1_1 : 65535,
						 1, 65535, &config->max_in_flight, error, size) != 0 ? -1 : 0;
}

/* In a binary CloudEvent user properties are attributes: these are the event's. */
static bool
is_attribute(const char *name)
{
	static const char *const attributes[] = {
		"specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema"
	};

	for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++)
		if (strcmp(name, attributes[i]) == 0)
			return true;
	return false;
}

/* The name of a user property that is configured, or NULL if the setting is another. */
static const char *
property_name(const evs_sink_setting *setting)
{
	size_t		length = strlen(EVS_MQTT_PROPERTIES);

	return strncmp(setting->name, EVS_MQTT_PROPERTIES, length) == 0 ? setting->name + length : NULL;
}

static int
check_properties(const evs_sink_host *host, const evs_sink_settings *settings,
				 char *error, size_t size)
{
	for (int i = 0; i < settings->nitems; i++)
	{
		const evs_sink_setting *setting = &settings->items[i];
		const char *name = property_name(setting);

		if (name == NULL)
			continue;
		if (setting->kind != EVS_SINK_SETTING_STRING || strlen(setting->value) > EVS_MQTT_STRING_MAX ||
			!evs_mqtt_is_text(setting->value, strlen(setting->value)) ||
			strlen(name) > EVS_MQTT_STRING_MAX || !evs_mqtt_is_text(name, strlen(name)))
			snprintf(error, size, "setting \"%.100s\" must be a string without control characters",
					 setting->name);
		else if (strcmp(host->format, "cloudevents-binary") == 0 && is_attribute(name))
			snprintf(error, size, "setting \"%s\": that is an attribute of the event", setting->name);
		else
			continue;
		return -1;
	}
	return 0;
}

void
evs_mqtt_config_properties(const EvsMqttConfig *config, evs_sink_buffer *buffer)
{
	for (int i = 0; i < config->settings->nitems; i++)
	{
		const evs_sink_setting *setting = &config->settings->items[i];
		const char *name = property_name(setting);

		if (name != NULL)
			evs_mqtt_add_user_property(buffer, name, setting->value);
	}
}

int
evs_mqtt_config_read(EvsMqttConfig *config, const evs_sink_host *host,
					 const evs_sink_settings *settings, char *error, size_t size)
{
	memset(config, 0, sizeof(*config));
	config->settings = settings;
	if (evs_sink_check_names(settings, names, error, size) != 0 ||
		evs_sink_link_configure(&config->link, host, settings, schemes, error, size) != 0 ||
		read_version(config, host, settings, error, size) != 0 ||
		read_topic(config, settings, error, size) != 0 ||
		read_credentials(config, settings, error, size) != 0 ||
		read_delivery(config, settings, error, size) != 0 ||
		check_properties(host, settings, error, size) != 0)
		return -1;
	if (strcmp(host->format, "cloudevents-batch") != 0)
		return 0;
	snprintf(error, size, "the sink \"mqtt\" does not know the format cloudevents-batch");
	return -1;
}
