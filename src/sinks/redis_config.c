/*
 * redis_config.c
 *	  Settings of the sink "redis".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis_sink.h"

static const char *const names[] = {
	EVS_SINK_LINK_SETTINGS, "stream", "user", "password", "database", "create",
	"max_length", "keep_positions", "trim", "wait_replicas", "wait_timeout", NULL
};

static const evs_sink_scheme schemes[] = {
	{"redis", 6379, false}, {"rediss", 6379, true}, {NULL, 6379, false}
};

/* The part of the pattern at *at, and what it stands for; false if it is wrong. */
static bool
next_part(const char **at, const char *topic, const char **part, size_t *length)
{
	*part = *at;
	*length = 1;
	if (strncmp(*at, "{topic}", 7) == 0)
	{
		*part = topic;
		*length = strlen(topic);
		*at += 7;
		return true;
	}
	if (**at == '{' || **at == '}')
	{
		if ((*at)[1] != **at)
			return false;
		(*at)++;
	}
	(*at)++;
	return true;
}

/* Braces that are meant are written twice: clusters have hash tags. */
const char *
evs_redis_fill_key(const char *pattern, const char *topic, char *key, size_t size)
{
	size_t		length = 0;

	while (*pattern != '\0')
	{
		const char *part;
		size_t		n;

		if (!next_part(&pattern, topic, &part, &n))
			return "only {topic} can be filled in; a brace is written twice";
		if (length + n >= size)
			return "the key is too long";
		memcpy(key + length, part, n);
		length += n;
	}
	key[length] = '\0';
	return length > 0 ? NULL : "the key is empty";
}

static bool
has_topic(const char *pattern)
{
	const char *part;
	size_t		n;

	while (*pattern != '\0')
		if (next_part(&pattern, "", &part, &n) && n == 0)
			return true;
	return false;
}

static int
read_key(EvsRedisConfig *config, const evs_sink_settings *settings, char *error, size_t size)
{
	char		filled[EVS_REDIS_KEY_MAX];
	const char *why;

	if (evs_sink_get_string(settings, "stream", "{topic}", &config->key, error, size) != 0)
		return -1;
	why = evs_redis_fill_key(config->key, "t", filled, sizeof(filled));
	if (why != NULL)
	{
		snprintf(error, size, "setting \"stream\": %s", why);
		return -1;
	}
	config->one_stream = !has_topic(config->key);
	return evs_sink_get_bool(settings, "create", true, &config->create, error, size);
}

static int
read_login(EvsRedisConfig *config, const evs_sink_settings *settings, char *error, size_t size)
{
	if (evs_sink_get_string(settings, "user", NULL, &config->user, error, size) != 0 ||
		evs_sink_get_secret(settings, "password", &config->password, error, size) != 0)
		return -1;
	if (config->user != NULL && config->password == NULL)
	{
		snprintf(error, size, "setting \"user\" needs \"password\"");
		return -1;
	}
	return evs_sink_get_int(settings, "database", 0, 0, 65535, &config->database, error, size);
}

/* What is trimmed must not be what may have to be sent again. */
static int
read_trim(EvsRedisConfig *config, const evs_sink_host *host, const evs_sink_settings *settings,
		  char *error, size_t size)
{
	const char *trim = evs_sink_get(settings, "trim", "approximate");

	if (evs_sink_get_int(settings, "max_length", 0, host->in_flight, INT64_C(1) << 50,
						 &config->max_length, error, size) != 0 ||
		evs_sink_get_int(settings, "keep_positions", 0, 1, INT64_C(1) << 50,
						 &config->keep_positions, error, size) != 0)
		return -1;
	config->exact = strcmp(trim, "exact") == 0;
	if (!config->exact && strcmp(trim, "approximate") != 0)
		snprintf(error, size, "setting \"trim\" must be approximate or exact");
	else if (config->max_length > 0 && config->keep_positions > 0)
		snprintf(error, size, "settings \"max_length\" and \"keep_positions\" exclude each other");
	else if (evs_sink_find(settings, "trim") != NULL && config->max_length == 0 &&
			 config->keep_positions == 0)
		snprintf(error, size, "setting \"trim\" needs \"max_length\" or \"keep_positions\"");
	else
		return 0;
	return -1;
}

static int
read_wait(EvsRedisConfig *config, const evs_sink_host *host, const evs_sink_settings *settings,
		  char *error, size_t size)
{
	int64_t		otherwise = host->timeout_ms > 2000 ? 1000 : (host->timeout_ms + 1) / 2;

	if (evs_sink_get_int(settings, "wait_replicas", 0, 0, 1000, &config->wait_replicas,
						 error, size) != 0 ||
		evs_sink_get_int(settings, "wait_timeout", otherwise, 1, INT32_MAX,
						 &config->wait_timeout, error, size) != 0)
		return -1;
	if (config->wait_replicas > 0 && config->wait_timeout >= host->timeout_ms)
		snprintf(error, size, "setting \"wait_timeout\" must be less than the relay's timeout");
	else if (config->wait_replicas == 0 && evs_sink_find(settings, "wait_timeout") != NULL)
		snprintf(error, size, "setting \"wait_timeout\" needs \"wait_replicas\"");
	else
		return 0;
	return -1;
}

int
evs_redis_config_read(EvsRedisConfig *config, const evs_sink_host *host,
					  const evs_sink_settings *settings, char *error, size_t size)
{
	memset(config, 0, sizeof(*config));
	if (evs_sink_check_names(settings, names, error, size) != 0 ||
		evs_sink_link_configure(&config->link, host, settings, schemes, error, size) != 0 ||
		read_key(config, settings, error, size) != 0 ||
		read_login(config, settings, error, size) != 0 ||
		read_trim(config, host, settings, error, size) != 0 ||
		read_wait(config, host, settings, error, size) != 0)
		return -1;
	if (strcmp(host->format, "cloudevents-batch") != 0)
		return 0;
	snprintf(error, size, "the sink \"redis\" does not know the format cloudevents-batch");
	return -1;
}
