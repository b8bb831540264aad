/*
 * postgres_config.c
 *	  Settings of the sink "postgres".
 *
 * TLS is either required or switched off: with sslmode "prefer" and "allow" who
 * is on the way decides.  The default verifies the server, since with "require"
 * an impostor gets the events, and the password's proof.  A socket in the file
 * system needs no TLS, and has none.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postgres_sink.h"

static const char *const names[] = {
	"host", "port", "dbname", "user", "password", "sslmode", "tls.ca_file", "tls.cert_file",
	"tls.key_file", "target", "stream", "table", "columns.", "create", NULL
};

static const struct
{
	const char *name;
	EvsPgField	field;
}			fields[] =
{
	{"position", EVS_PG_POSITION}, {"id", EVS_PG_ID}, {"type", EVS_PG_TYPE},
	{"source", EVS_PG_SOURCE}, {"stream", EVS_PG_STREAM}, {"key", EVS_PG_KEY},
	{"topic", EVS_PG_TOPIC}, {"time", EVS_PG_TIME}, {"data", EVS_PG_DATA},
	{"version", EVS_PG_VERSION}
};

static int
refuse(char *error, size_t size, const char *name, const char *why)
{
	snprintf(error, size, "setting \"%s\" %s", name, why);
	return -1;
}

static bool
is_one_of(const char *value, const char *const *list)
{
	for (; *list != NULL; list++)
		if (strcmp(value, *list) == 0)
			return true;
	return false;
}

static int
read_password(EvsPgConfig *config, const evs_sink_settings *settings, char *error, size_t size)
{
	const evs_sink_setting *password = evs_sink_find(settings, "password");

	config->password = password != NULL ? password->value : NULL;
	if (password != NULL && password->kind != EVS_SINK_SETTING_SECRET)
		return refuse(error, size, "password", "must be a secret");
	return 0;
}

static int
read_tls(EvsPgConfig *config, const evs_sink_settings *settings, char *error, size_t size)
{
	static const char *const modes[] = {"disable", "require", "verify-ca", "verify-full", NULL};

	config->sslmode = evs_sink_get(settings, "sslmode", config->is_socket ? "disable" : "verify-full");
	config->ca_file = evs_sink_get(settings, "tls.ca_file", NULL);
	config->cert_file = evs_sink_get(settings, "tls.cert_file", NULL);
	config->key_file = evs_sink_get(settings, "tls.key_file", NULL);
	if (!is_one_of(config->sslmode, modes))
		return refuse(error, size, "sslmode", "must be disable, require, verify-ca or verify-full");
	if ((config->cert_file != NULL) != (config->key_file != NULL))
		return refuse(error, size, "tls.cert_file", "and tls.key_file belong together");
	return 0;
}

static int
read_server(EvsPgConfig *config, const evs_sink_host *host, const evs_sink_settings *settings,
			char *error, size_t size)
{
	int64_t		port;
	int			allowed;

	config->host = evs_sink_get(settings, "host", "");
	config->dbname = evs_sink_get(settings, "dbname", "");
	config->user = evs_sink_get(settings, "user", "");
	config->is_socket = *config->host == '/';
	if (*config->host == '\0' || *config->host == '@' || strchr(config->host, ',') != NULL)
		return refuse(error, size, "host", "must be one name, address or directory");
	/* libpq would take it for a connection string. */
	if (*config->dbname == '\0' || strchr(config->dbname, '=') != NULL ||
		strstr(config->dbname, "://") != NULL)
		return refuse(error, size, "dbname", "must be the name of a database");
	if (*config->user == '\0')
		return refuse(error, size, "user", "is missing");
	if (evs_sink_get_int(settings, "port", 5432, 1, 65535, &port, error, size) != 0)
		return -1;
	snprintf(config->port, sizeof(config->port), "%d", (int) port);
	allowed = config->is_socket ? host->egress_allowed(host->ctx, "unix", NULL, 0) :
		host->egress_allowed(host->ctx, config->host, NULL, (int) port);
	if (allowed != 1)
		return refuse(error, size, "host", config->is_socket ?
					  "is a socket, and connections to \"unix\" are not allowed" :
					  "is one that connections are not allowed to");
	return 0;
}

/* schema.table, both as they are in the catalog */
static bool
split_table(EvsPgConfig *config, const char *name)
{
	const char *dot = strchr(name, '.');

	if (dot == NULL || dot == name || dot - name >= (ptrdiff_t) sizeof(config->schema) ||
		dot[1] == '\0' || strlen(dot + 1) >= sizeof(config->table))
		return false;
	memcpy(config->schema, name, dot - name);
	strcpy(config->table, dot + 1);
	return true;
}

static int
add_column(EvsPgConfig *config, const evs_sink_setting *setting, char *error, size_t size)
{
	EvsPgColumn *column = &config->columns[config->ncolumns];

	if (config->ncolumns == EVS_PG_COLUMNS)
		return refuse(error, size, "columns", "has more than 32 columns");
	column->name = setting->name + strlen("columns.");
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (strcmp(fields[i].name, setting->value) == 0)
		{
			column->field = fields[i].field;
			config->ncolumns++;
			return 0;
		}
	return refuse(error, size, setting->name, "must be position, id, type, source, stream, key, "
				  "topic, time, data or version");
}

static int
read_table(EvsPgConfig *config, const evs_sink_settings *settings, char *error, size_t size)
{
	if (evs_sink_find(settings, "stream") != NULL)
		return refuse(error, size, "stream", "is for the target evstore");
	if (!split_table(config, evs_sink_get(settings, "table", "")))
		return refuse(error, size, "table", "must be schema.table");
	for (int i = 0; i < settings->nitems; i++)
		if (strncmp(settings->items[i].name, "columns.", 8) == 0 &&
			add_column(config, &settings->items[i], error, size) != 0)
			return -1;
	if (config->ncolumns == 0)
		return refuse(error, size, "columns", "is missing");
	return evs_sink_get_bool(settings, "create", false, &config->create, error, size);
}

static int
read_evstore(EvsPgConfig *config, const evs_sink_host *host, const evs_sink_settings *settings,
			 char *error, size_t size)
{
	static const char *const formats[] = {"raw", "cloudevents-binary", NULL};

	for (int i = 0; i < settings->nitems; i++)
		if (strcmp(settings->items[i].name, "table") == 0 ||
			strcmp(settings->items[i].name, "create") == 0 ||
			strncmp(settings->items[i].name, "columns.", 8) == 0)
			return refuse(error, size, settings->items[i].name, "is for the target table");
	config->stream = evs_sink_get(settings, "stream", "{stream}");
	if (*config->stream == '\0')
		return refuse(error, size, "stream", "is empty");
	if (is_one_of(host->format, formats))
		return 0;
	snprintf(error, size, "the target evstore needs the format raw or cloudevents-binary");
	return -1;
}

int
evs_pg_config_read(EvsPgConfig *config, const evs_sink_host *host,
				   const evs_sink_settings *settings, char *error, size_t size)
{
	const char *target = evs_sink_get(settings, "target", "evstore");

	memset(config, 0, sizeof(*config));
	if (evs_sink_check_names(settings, names, error, size) != 0 ||
		read_server(config, host, settings, error, size) != 0 ||
		read_password(config, settings, error, size) != 0 ||
		read_tls(config, settings, error, size) != 0)
		return -1;
	config->to_table = strcmp(target, "table") == 0;
	if (!config->to_table && strcmp(target, "evstore") != 0)
		return refuse(error, size, "target", "must be evstore or table");
	if (strcmp(host->format, "cloudevents-batch") == 0)
	{
		snprintf(error, size, "the sink \"postgres\" does not know the format cloudevents-batch");
		return -1;
	}
	return config->to_table ? read_table(config, settings, error, size) :
		read_evstore(config, host, settings, error, size);
}
