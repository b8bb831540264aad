/*
 * kafka_config.c
 *	  Settings of the sink "kafka".
 *
 * librdkafka has some hundred properties.  What a relay promises depends on some
 * of them, and others run programs, load libraries or read files; so only those of
 * a list are taken from the configuration.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kafka.h"

#define DEFAULT_MAX_MESSAGE_BYTES 1000000

typedef struct Reader
{
	EvsKafkaConfig *config;
	const evs_sink_host *host;
	const evs_sink_settings *settings;
	char	   *error;
	size_t		size;
} Reader;

static const char *const names[] = {
	"brokers", "brokers.", "topic", "acks", "compression", "transactional", "id_prefix",
	"position_topic", "linger_ms", "max_message_bytes", "partitioner",
	"tls", "tls.ca_file", "tls.cert_file", "tls.key_file", "tls.key_password",
	"sasl.mechanism", "sasl.user", "sasl.password", "properties.", NULL
};

/* What may be set as it is. */
static const char *const properties[] = {
	"batch.num.messages", "batch.size", "broker.address.family", "broker.address.ttl", "client.id",
	"compression.level", "connections.max.idle.ms", "metadata.max.age.ms", "queue.buffering.max.kbytes", "reconnect.backoff.max.ms",
	"reconnect.backoff.ms", "request.timeout.ms", "retry.backoff.ms", "socket.connection.setup.timeout.ms",
	"socket.keepalive.enable", "socket.nagle.disable", "socket.receive.buffer.bytes",
	"socket.send.buffer.bytes", "socket.timeout.ms", "ssl.cipher.suites", "ssl.curves.list",
	"ssl.sigalgs.list", "sticky.partitioning.linger.ms", "topic.metadata.propagation.max.ms",
	"topic.metadata.refresh.interval.ms", "transaction.timeout.ms", NULL
};

static bool
is_among(const char *word, const char *const *words)
{
	for (; *words != NULL; words++)
		if (strcmp(word, *words) == 0)
			return true;
	return false;
}

/* ---- kinds of settings ---- */

static bool
read_string(Reader *reader, const char *name, const char *otherwise, const char **value)
{
	const evs_sink_setting *setting = evs_sink_find(reader->settings, name);

	*value = setting != NULL ? setting->value : otherwise;
	if (setting == NULL || setting->kind == EVS_SINK_SETTING_STRING)
		return true;
	snprintf(reader->error, reader->size, "setting \"%s\" must be a string", name);
	return false;
}

static bool
read_secret(Reader *reader, const char *name, const char **value)
{
	const evs_sink_setting *setting = evs_sink_find(reader->settings, name);

	*value = setting != NULL ? setting->value : NULL;
	if (setting == NULL || setting->kind == EVS_SINK_SETTING_SECRET)
		return true;
	snprintf(reader->error, reader->size, "setting \"%s\" must be a secret", name);
	return false;
}

static bool
read_word(Reader *reader, const char *name, const char *const *words, const char **value)
{
	evs_sink_buffer list = {0};

	if (!read_string(reader, name, NULL, value))
		return false;
	if (*value == NULL || is_among(*value, words))
		return true;
	for (int i = 0; words[i] != NULL; i++)
		evs_sink_printf(&list, "%s%s", i > 0 ? ", " : "", words[i]);
	snprintf(reader->error, reader->size, "setting \"%s\" must be one of: %s", name,
			 list.data != NULL ? list.data : "");
	evs_sink_buffer_free(&list);
	return false;
}

/* ---- brokers ---- */

static bool
add_broker(Reader *reader, const char *name, const char *broker, size_t length)
{
	char		host[EVS_KAFKA_HOST_MAX];
	int			port;

	if (!evs_kafka_split(broker, length, host, sizeof(host), &port))
	{
		snprintf(reader->error, reader->size, "setting \"%s\" must have brokers as host:port", name);
		return false;
	}
	if (reader->host->egress_allowed(reader->host->ctx, host, NULL, port) != 1)
	{
		snprintf(reader->error, reader->size,
				 "setting \"%s\": a connection to %.100s port %d is not allowed", name, host, port);
		return false;
	}
	if (reader->config->brokers.length > 0)
		evs_sink_add_string(&reader->config->brokers, ",");
	evs_sink_add(&reader->config->brokers, broker, length);
	return true;
}

/* With commas in between. */
static bool
add_brokers(Reader *reader, const evs_sink_setting *setting)
{
	const char *at = setting->value;

	if (setting->kind != EVS_SINK_SETTING_STRING)
	{
		snprintf(reader->error, reader->size, "setting \"%s\" must be a string", setting->name);
		return false;
	}
	for (;;)
	{
		const char *end = at + strcspn(at, ",");
		const char *last = end;

		at += strspn(at, " ");
		while (last > at && last[-1] == ' ')
			last--;
		if (!add_broker(reader, setting->name, at, last > at ? last - at : 0))
			return false;
		if (*end == '\0')
			return true;
		at = end + 1;
	}
}

static bool
read_brokers(Reader *reader)
{
	const evs_sink_settings *settings = reader->settings;

	for (int i = 0; i < settings->nitems; i++)
	{
		const evs_sink_setting *setting = &settings->items[i];

		if (strncmp(setting->name, "brokers", 7) == 0 && !add_brokers(reader, setting))
			return false;
	}
	if (reader->config->brokers.length == 0 && !reader->config->brokers.failed)
	{
		snprintf(reader->error, reader->size, "setting \"brokers\" is missing");
		return false;
	}
	return true;
}

/* ---- the others ---- */

static bool
read_topic(Reader *reader)
{
	EvsKafkaConfig *config = reader->config;
	char		name[EVS_KAFKA_TOPIC_MAX + 1];
	const char *wrong;

	if (!read_string(reader, "topic", "{topic}", &config->topic))
		return false;
	config->has_topic = strstr(config->topic, "{topic}") != NULL;
	wrong = evs_kafka_fill_topic(config->topic, "t", name);
	if (wrong != NULL)
		snprintf(reader->error, reader->size, "setting \"topic\": %s", wrong);
	return wrong == NULL;
}

static bool
read_transactional(Reader *reader)
{
	static const char *const only[] = {"id_prefix", "position_topic", NULL};
	EvsKafkaConfig *config = reader->config;
	char		name[EVS_KAFKA_TOPIC_MAX + 1];
	const char *wrong;

	if (evs_sink_get_bool(reader->settings, "transactional", false, &config->transactional,
						  reader->error, reader->size) != 0 ||
		!read_string(reader, "id_prefix", "evstore-", &config->id_prefix) ||
		!read_string(reader, "position_topic", "__evstore_positions", &config->position_topic))
		return false;
	for (int i = 0; only[i] != NULL && !config->transactional; i++)
		if (evs_sink_find(reader->settings, only[i]) != NULL)
		{
			snprintf(reader->error, reader->size, "setting \"%s\" needs \"transactional\": true", only[i]);
			return false;
		}
	wrong = strchr(config->position_topic, '{') != NULL ? "nothing can be filled in" :
		evs_kafka_fill_topic(config->position_topic, "", name);
	if (wrong != NULL)
		snprintf(reader->error, reader->size, "setting \"position_topic\": %s", wrong);
	return wrong == NULL;
}

static bool
read_limits(Reader *reader)
{
	int64_t		linger;
	const char *acks;

	if (evs_sink_get_int(reader->settings, "linger_ms", 5, 0, 5000, &linger, reader->error,
						 reader->size) != 0 ||
		evs_sink_get_int(reader->settings, "max_message_bytes", DEFAULT_MAX_MESSAGE_BYTES, 1000, 1000000000,
						 &reader->config->max_message_bytes, reader->error, reader->size) != 0 ||
		!read_string(reader, "acks", "all", &acks))
		return false;
	if (strcmp(acks, "all") == 0)
		return true;
	snprintf(reader->error, reader->size, "setting \"acks\" must be all: what fewer brokers have "
			 "acknowledged may still be lost, and come out of order");
	return false;
}

static bool
read_words(Reader *reader)
{
	static const char *const codecs[] = {"none", "gzip", "snappy", "lz4", "zstd", NULL};
	static const char *const partitioners[] = {
		"murmur2_random", "murmur2", "consistent_random", "consistent", "fnv1a_random", "fnv1a", NULL
	};
	const char *word;

	return read_word(reader, "compression", codecs, &word) &&
		read_word(reader, "partitioner", partitioners, &word);
}

static bool
read_file(Reader *reader, const char *name, const char **path)
{
	if (!read_string(reader, name, NULL, path))
		return false;
	if (*path == NULL || **path == '/')
		return true;
	snprintf(reader->error, reader->size, "setting \"%s\" must be an absolute path", name);
	return false;
}

static bool
read_tls(Reader *reader)
{
	EvsKafkaConfig *config = reader->config;
	const char *ca;
	const char *cert;
	const char *key;

	if (!read_file(reader, "tls.ca_file", &ca) || !read_file(reader, "tls.cert_file", &cert) ||
		!read_file(reader, "tls.key_file", &key) ||
		!read_secret(reader, "tls.key_password", &config->key_password) ||
		evs_sink_get_bool(reader->settings, "tls", ca != NULL || cert != NULL, &config->tls,
						  reader->error, reader->size) != 0)
		return false;
	if ((cert == NULL) != (key == NULL))
		snprintf(reader->error, reader->size, "settings \"tls.cert_file\" and \"tls.key_file\" belong together");
	else if (config->key_password != NULL && key == NULL)
		snprintf(reader->error, reader->size, "setting \"tls.key_password\" needs \"tls.key_file\"");
	else if (!config->tls && (ca != NULL || cert != NULL))
		snprintf(reader->error, reader->size, "settings \"tls\": false and \"tls.*\" exclude each other");
	else
		return true;
	return false;
}

static bool
read_sasl(Reader *reader)
{
	static const char *const mechanisms[] = {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", NULL};
	EvsKafkaConfig *config = reader->config;
	const char *user;

	if (!read_word(reader, "sasl.mechanism", mechanisms, &config->mechanism) ||
		!read_string(reader, "sasl.user", NULL, &user) ||
		!read_secret(reader, "sasl.password", &config->password))
		return false;
	if ((config->mechanism == NULL) != (user == NULL) || (user == NULL) != (config->password == NULL))
	{
		snprintf(reader->error, reader->size, "settings \"sasl.mechanism\", \"sasl.user\" and "
				 "\"sasl.password\" belong together");
		return false;
	}
	return true;
}

static bool
check_properties(Reader *reader)
{
	for (int i = 0; i < reader->settings->nitems; i++)
	{
		const evs_sink_setting *setting = &reader->settings->items[i];

		if (strncmp(setting->name, "properties.", 11) != 0)
			continue;
		if (!is_among(setting->name + 11, properties))
			snprintf(reader->error, reader->size, "setting \"%s\": this property is not the configuration's to set",
					 setting->name);
		else if (setting->kind == EVS_SINK_SETTING_SECRET)
			snprintf(reader->error, reader->size, "setting \"%s\" must not be a secret", setting->name);
		/* With @SECLEVEL=0 there are ciphers without certificates: nothing would be verified. */
		else if (strcmp(setting->name + 11, "ssl.cipher.suites") == 0 && strchr(setting->value, '@') != NULL)
			snprintf(reader->error, reader->size, "setting \"%s\" must have names of ciphers, without \"@\"",
					 setting->name);
		else
			continue;
		return false;
	}
	return true;
}

static bool
check_format(Reader *reader)
{
	if (strcmp(reader->host->format, "cloudevents-batch") != 0)
		return true;
	snprintf(reader->error, reader->size, "the sink \"kafka\" does not know the format cloudevents-batch");
	return false;
}

/* ---- for librdkafka ---- */

typedef struct Property
{
	const char *setting;
	const char *property;
} Property;

/* Settings that are a property under another name. */
static const Property renamed[] = {
	{"compression", "compression.type"}, {"linger_ms", "linger.ms"},
	{"max_message_bytes", "message.max.bytes"}, {"partitioner", "partitioner"},
	{"tls.ca_file", "ssl.ca.location"}, {"tls.cert_file", "ssl.certificate.location"},
	{"tls.key_file", "ssl.key.location"}, {"sasl.mechanism", "sasl.mechanism"},
	{"sasl.user", "sasl.username"}
};

static bool
set(rd_kafka_conf_t *conf, const char *setting, const char *property, const char *value,
	char *error, size_t size)
{
	char		why[EVS_KAFKA_TEXT_MAX];

	if (rd_kafka_conf_set(conf, property, value, why, sizeof(why)) == RD_KAFKA_CONF_OK)
		return true;
	snprintf(error, size, "setting \"%s\": %s", setting, why);
	return false;
}

static bool
set_number(rd_kafka_conf_t *conf, const char *property, int64_t value, char *error, size_t size)
{
	char		number[32];

	snprintf(number, sizeof(number), "%lld", (long long) value);
	return set(conf, property, property, number, error, size);
}

static int64_t
within(int64_t value, int64_t min, int64_t max)
{
	return value < min ? min : value > max ? max : value;
}

/*
 * What the sink relies on.  Messages do not time out in librdkafka, but by the
 * flight's deadlines; without "gapless", after a refused batch the next one of
 * its partition would be sent.  In a transaction there is nothing to be missing.
 */
static bool
set_own(rd_kafka_conf_t *conf, const EvsKafkaConfig *config, const evs_sink_host *host,
		char *error, size_t size)
{
	static const char *const protocols[] = {"plaintext", "ssl", "sasl_plaintext", "sasl_ssl"};
	int			protocol = (config->tls ? 1 : 0) + (config->mechanism != NULL ? 2 : 0);
	int64_t		timeout = host->timeout_ms;

	return set(conf, "brokers", "bootstrap.servers", config->brokers.data, error, size) &&
		set(conf, "brokers", "security.protocol", protocols[protocol], error, size) &&
		set(conf, "transactional", "enable.idempotence", "true", error, size) &&
		(config->transactional ||
		 (set(conf, "transactional", "enable.gapless.guarantee", "true", error, size) &&
		  set_number(conf, "message.timeout.ms", 0, error, size))) &&
		set(conf, "partitioner", "partitioner", "murmur2_random", error, size) &&
		set(conf, "properties", "log.queue", "true", error, size) &&
		set_number(conf, "log_level", 4, error, size) &&
		set_number(conf, "socket.timeout.ms", within(timeout, 1000, 60000), error, size) &&
		set_number(conf, "reconnect.backoff.ms", 20, error, size) &&
		set_number(conf, "reconnect.backoff.max.ms", 2000, error, size) &&
		set_number(conf, "topic.metadata.propagation.max.ms", within(timeout / 2, 500, 30000), error, size) &&
		set_number(conf, "queue.buffering.max.messages", within(host->in_flight * INT64_C(4), 1000, 10000000),
				   error, size);
}

static bool
set_configured(rd_kafka_conf_t *conf, const EvsKafkaConfig *config, char *error, size_t size)
{
	const evs_sink_settings *settings = config->settings;

	for (size_t i = 0; i < sizeof(renamed) / sizeof(renamed[0]); i++)
	{
		const char *value = evs_sink_get(settings, renamed[i].setting, NULL);

		if (value != NULL && !set(conf, renamed[i].setting, renamed[i].property, value, error, size))
			return false;
	}
	for (int i = 0; i < settings->nitems; i++)
	{
		const evs_sink_setting *setting = &settings->items[i];

		if (strncmp(setting->name, "properties.", 11) == 0 &&
			!set(conf, setting->name, setting->name + 11, setting->value, error, size))
			return false;
	}
	return true;
}

rd_kafka_conf_t *
evs_kafka_make_conf(const EvsKafkaConfig *config, const evs_sink_host *host, char *error, size_t size)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	if (!config->brokers.failed && set_own(conf, config, host, error, size) &&
		set_configured(conf, config, error, size))
		return conf;
	if (config->brokers.failed)
		snprintf(error, size, "out of memory");
	rd_kafka_conf_destroy(conf);
	return NULL;
}

int
evs_kafka_configure(EvsKafkaConfig *config, const evs_sink_host *host,
					const evs_sink_settings *settings, char *error, size_t size)
{
	Reader		reader = {config, host, settings, error, size};
	rd_kafka_conf_t *conf;

	config->settings = settings;
	if (evs_sink_check_names(settings, names, error, size) != 0)
		return -1;
	if (!read_brokers(&reader) || !read_topic(&reader) || !read_transactional(&reader) ||
		!read_limits(&reader) || !read_words(&reader) || !read_tls(&reader) || !read_sasl(&reader) ||
		!check_properties(&reader) || !check_format(&reader))
		return -1;
	conf = evs_kafka_make_conf(config, host, error, size);
	if (conf == NULL)
		return -1;
	rd_kafka_conf_destroy(conf);
	return 0;
}

void
evs_kafka_config_free(EvsKafkaConfig *config)
{
	evs_sink_buffer_free(&config->brokers);
}
