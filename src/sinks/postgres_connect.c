/*
 * postgres_connect.c
 *	  The connection of the sink "postgres": making it, and losing it.
 *
 * Names are looked up here, since libpq would wait for the answer, and because
 * each address has to be allowed.  Connections take a lock with the relay's name
 * at the target, for as long as they live: of two relays of that name only one
 * can write.
 */
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "postgres_sink.h"

/* The pause after failures doubles, from and to: */
#define PAUSE_US INT64_C(50000)
#define PAUSE_SHIFT 6

#define MAX_OPTIONS 24

/* A path where no file can be, instead of one in the user's home. */
#define NO_FILE "/dev/null/none"

static int64_t
now_us(const EvsPg *sink)
{
	return sink->host->now_us(sink->host->ctx);
}

static void
set_state(EvsPg *sink, EvsPgState state)
{
	sink->state = state;
	sink->deadline = state == EVS_PG_IDLE || state == EVS_PG_READY ? 0 :
		now_us(sink) + sink->host->timeout_ms * INT64_C(1000);
}

void
evs_pg_connect_close(EvsPg *sink)
{
	evs_pg_results_clear(sink);
	evs_sink_lookup_free(sink->lookup);
	sink->lookup = NULL;
	PQfinish(sink->conn);
	sink->conn = NULL;
	sink->running = false;
	set_state(sink, EVS_PG_IDLE);
}

/* libpq's messages end with a line feed, and may have more than one line. */
static void
trim(char *text)
{
	size_t		length = strlen(text);

	while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' '))
		text[--length] = '\0';
	for (; *text != '\0'; text++)
		if (*text == '\n' || *text == '\t')
			*text = ' ';
}

void
evs_pg_fail(EvsPg *sink, const char *format,...)
{
	char		why[256];
	va_list		args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	trim(why);
	if (sink->config.to_table)
		evs_pg_table_lost(sink);
	evs_pg_connect_close(sink);
	sink->retry_at = now_us(sink) +
		(PAUSE_US << (sink->failures < PAUSE_SHIFT ? sink->failures : PAUSE_SHIFT));
	sink->failures++;
	evs_pg_complete_all(sink, EVS_SINK_RETRY_SINK, why);
	if (!sink->resuming)
		return;
	sink->resuming = false;
	sink->resumed = -1;
	snprintf(sink->resume_error, sizeof(sink->resume_error), "%s", why);
}

static void
ignore_notice(void *arg, const PGresult *result)
{
}

/* --- parameters of libpq --- */

typedef struct Options
{
	const char *names[MAX_OPTIONS];
	const char *values[MAX_OPTIONS];
	int			n;
} Options;

static void
add(Options *options, const char *name, const char *value)
{
	if (value == NULL || options->n == MAX_OPTIONS - 1)
		return;
	options->names[options->n] = name;
	options->values[options->n++] = value;
}

/*
 * Nothing may come from the server's environment or its user's files instead of
 * the settings: what could has a value here.
 */
static void
add_options(EvsPg *sink, Options *options, const char *address, const char *password,
			const char *application, const char *session, const char *timeout)
{
	const EvsPgConfig *config = &sink->config;

	add(options, "host", config->host);
	add(options, "hostaddr", address);
	add(options, "port", config->port);
	add(options, "dbname", config->dbname);
	add(options, "user", config->user);
	add(options, "password", password);
	add(options, "passfile", NO_FILE);
	add(options, "sslmode", config->sslmode);
	add(options, "sslrootcert", config->ca_file);
	add(options, "sslcert", config->cert_file != NULL ? config->cert_file : NO_FILE);
	add(options, "sslkey", config->key_file);
	add(options, "gssencmode", "disable");
	add(options, "application_name", application);
	add(options, "client_encoding", "UTF8");
	add(options, "options", session);
	add(options, "target_session_attrs", "read-write");
	add(options, "keepalives_idle", "10");
	add(options, "keepalives_interval", "5");
	add(options, "keepalives_count", "3");
	add(options, "tcp_user_timeout", timeout);
}

static bool
get_password(EvsPg *sink, char *password, size_t size)
{
	int			length;

	*password = '\0';
	if (sink->config.password == NULL)
		return true;
	length = sink->host->secret(sink->host->ctx, sink->config.password, password, size);
	if (length >= 0 && length < (int) size)
		return true;
	evs_pg_fail(sink, "secret \"%s\" %s", sink->config.password,
				length < 0 ? "does not exist" : "is too long");
	return false;
}

/* address is NULL for a socket in the file system. */
static void
start_connection(EvsPg *sink, const char *address)
{
	Options		options = {.n = 0};
	char		password[1024];
	char		application[128];
	char		session[128];
	char		timeout[16];

	if (!get_password(sink, password, sizeof(password)))
		return;
	snprintf(application, sizeof(application), "evstore relay %s", sink->host->relay);
	snprintf(session, sizeof(session), "-c statement_timeout=%d -c lock_timeout=0",
			 sink->host->timeout_ms);
	snprintf(timeout, sizeof(timeout), "%d", sink->host->timeout_ms * 2);
	add_options(sink, &options, address, *password != '\0' ? password : NULL, application, session,
				timeout);
	sink->conn = PQconnectStartParams(options.names, options.values, 0);
	explicit_bzero(password, sizeof(password));
	if (sink->conn == NULL || PQstatus(sink->conn) == CONNECTION_BAD)
	{
		evs_pg_fail(sink, "%s", sink->conn != NULL ? PQerrorMessage(sink->conn) : "no memory");
		return;
	}
	PQsetNoticeReceiver(sink->conn, ignore_notice, NULL);
	sink->polling = PGRES_POLLING_WRITING;
	set_state(sink, EVS_PG_CONNECTING);
}

/* --- the states --- */

/* The next address that is allowed; false if there is none. */
static bool
try_address(EvsPg *sink)
{
	while (sink->next_address < sink->addresses.count)
	{
		const char *address = sink->addresses.address[sink->next_address++];

		if (sink->host->egress_allowed(sink->host->ctx, sink->config.host, address,
									   atoi(sink->config.port)) != 1)
			continue;
		start_connection(sink, address);
		return true;
	}
	return false;
}

static void
begin(EvsPg *sink)
{
	const EvsPgConfig *config = &sink->config;
	int			port = config->is_socket ? 0 : atoi(config->port);

	set_state(sink, EVS_PG_RESOLVING);
	sink->addresses.count = sink->next_address = 0;
	if (sink->host->egress_allowed(sink->host->ctx, config->is_socket ? "unix" : config->host,
								   NULL, port) != 1)
		evs_pg_fail(sink, "a connection to %s is not allowed", config->host);
	else if (config->is_socket)
		start_connection(sink, NULL);
	else if ((sink->lookup = evs_sink_lookup_start(config->host)) == NULL)
		evs_pg_fail(sink, "%s cannot be looked up: no memory or no thread", config->host);
}

static void
finish_lookup(EvsPg *sink)
{
	if (!evs_sink_lookup_poll(sink->lookup, &sink->addresses))
		return;
	evs_sink_lookup_free(sink->lookup);
	sink->lookup = NULL;
	if (sink->addresses.error != 0)
		evs_pg_fail(sink, "%s cannot be looked up: %s", sink->config.host,
					gai_strerror(sink->addresses.error));
	else if (!try_address(sink))
		evs_pg_fail(sink, "a connection to %s is not allowed: its address is not",
					sink->config.host);
}

static void
finish_setup(EvsPg *sink)
{
	if (sink->error.sqlstate[0] != '\0')
		evs_pg_fail(sink, "[%s] %s", sink->error.sqlstate, sink->error.message);
	else if (strcmp(PQgetvalue(sink->results[0], 0, 0), "t") != 0)
		evs_pg_fail(sink, "another session has the lock of relay \"%s\" at the target",
					sink->host->relay);
	else if (!sink->config.to_table || evs_pg_table_is_set_up(sink, 1))
	{
		sink->failures = 0;
		set_state(sink, EVS_PG_READY);
	}
}

static void
set_up(EvsPg *sink)
{
	const char *relay = sink->host->id;

	set_state(sink, EVS_PG_SETUP);
	if (PQsetnonblocking(sink->conn, 1) != 0 || PQenterPipelineMode(sink->conn) != 1)
	{
		evs_pg_fail(sink, "%s", PQerrorMessage(sink->conn));
		return;
	}
	evs_pg_send(sink, "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended("
				"'evstore relay ' || $1, 0))", 1, &relay);
	if (sink->config.to_table)
		evs_pg_table_setup(sink);
	evs_pg_sync(sink, finish_setup);
}

static void
continue_connecting(EvsPg *sink)
{
	struct pollfd wait = {.fd = PQsocket(sink->conn)};
	char		why[256];

	/* It must not be called before the socket is ready. */
	wait.events = sink->polling == PGRES_POLLING_READING ? POLLIN : POLLOUT;
	if (poll(&wait, 1, 0) <= 0)
		return;
	sink->polling = PQconnectPoll(sink->conn);
	if (sink->polling == PGRES_POLLING_OK)
		set_up(sink);
	if (sink->polling != PGRES_POLLING_FAILED)
		return;
	snprintf(why, sizeof(why), "%s", PQerrorMessage(sink->conn));
	PQfinish(sink->conn);
	sink->conn = NULL;
	if (!try_address(sink))
		evs_pg_fail(sink, "%s", why);
}

void
evs_pg_connect_run(EvsPg *sink, bool wanted)
{
	if (sink->state == EVS_PG_IDLE && wanted && now_us(sink) >= sink->retry_at)
		begin(sink);
	if (sink->state == EVS_PG_RESOLVING)
		finish_lookup(sink);
	if (sink->state == EVS_PG_CONNECTING)
		continue_connecting(sink);
	if (sink->state >= EVS_PG_SETUP)
		evs_pg_read(sink);
	if (sink->deadline > 0 && now_us(sink) >= sink->deadline)
		evs_pg_fail(sink, sink->state >= EVS_PG_SETUP ? "no answer from %s in time" :
					"no connection to %s in time", sink->config.host);
}
