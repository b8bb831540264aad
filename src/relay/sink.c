/*
 * sink.c
 *	  Sink modules, as the host sees them.
 *
 * A module is a file evstore_sink_<name> in a directory of evstore.sink_path, and
 * nowhere else.  It is loaded in the processes that need it: workers of relays, and
 * sessions that define or test one.  It does not know of PostgreSQL, so it is loaded
 * with dlopen(), and what it calls of the host throws nothing.
 */
#include "postgres.h"

#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "storage/pmsignal.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "base/errors.h"
#include "base/guc.h"
#include "relay/egress.h"
#include "relay/secret.h"
#include "relay/sink.h"
#include "compat.h"

#define NAME_MAX_LENGTH 32
#define LOG_LINES 32
#define LOG_LINE 256

/* What modules log from any thread, until the main one takes it out. */
typedef struct EvsSinkLog
{
	pthread_mutex_t lock;
	int			n;
	int			lost;
	struct
	{
		int			level;
		char		text[LOG_LINE];
	}			lines[LOG_LINES];
} EvsSinkLog;

typedef struct Secret
{
	char	   *name;
	char	   *value;
	int			length;
} Secret;

typedef struct Module
{
	char		name[NAME_MAX_LENGTH + 1];
	const evs_sink *sink;
} Module;

static List *modules = NIL;		/* loaded ones, in TopMemoryContext */

/* ---- loading ---- */

static void
throw_no_module(const char *name, const char *detail)
{
	StringInfoData json;

	evs_detail_begin(&json);
	evs_detail_string(&json, "path", "$.sink");
	evs_detail_string(&json, "sink", name);
	evs_detail_string(&json, "reason", detail);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_INVALID_DEFINITION),
			 errmsg("sink \"%s\" is not available: %s", name, detail),
			 errdetail_internal("%s", evs_detail_end(&json)),
			 errhint("Sink modules are libraries evstore_sink_<name> in a directory of evstore.sink_path; each is built where the library it needs is found.")));
}

/* The name becomes that of a file. */
static void
check_name(const char *name)
{
	if (strlen(name) == 0 || strlen(name) > NAME_MAX_LENGTH ||
		strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(name))
		throw_no_module(name, "a name has 1 to 32 lower-case letters, digits and underscores");
}

/* In the first of the directories that has it. */
static char *
module_path(const char *name)
{
	char	   *directories = pstrdup(evs_guc_sink_path);
	char	   *path = NULL;
	char	   *rest;

	for (char *directory = strtok_r(directories, ":", &rest); directory != NULL;
		 directory = strtok_r(NULL, ":", &rest))
	{
		if (strncmp(directory, "$libdir", 7) == 0)
			directory = psprintf("%s%s", pkglib_path, directory + 7);
		path = psprintf("%s/evstore_sink_%s%s", directory, name, DLSUFFIX);
		if (access(path, R_OK) == 0)
			return path;
	}
	if (path == NULL)
		throw_no_module(name, "evstore.sink_path is empty");
	return path;
}

static const evs_sink *
load(const char *name)
{
	void	   *library = dlopen(module_path(name), RTLD_NOW | RTLD_LOCAL);
	const evs_sink *(*init) (uint32_t);
	const evs_sink *sink;

	if (library == NULL)
		throw_no_module(name, pstrdup(dlerror()));
	*(void **) &init = dlsym(library, "evs_sink_init");
	sink = init != NULL ? init(EVS_SINK_ABI) : NULL;
	if (sink == NULL || sink->abi != EVS_SINK_ABI || sink->size < sizeof(evs_sink) ||
		strcmp(sink->name, name) != 0)
	{
		dlclose(library);
		throw_no_module(name, init == NULL ? "the library is no sink module" :
						"the module is made for another version of evstore");
	}
	return sink;
}

const evs_sink *
evs_sink_load(const char *name)
{
	ListCell   *cell;
	Module	   *module;
	const evs_sink *sink;
	MemoryContext old;

	check_name(name);
	foreach(cell, modules)
	{
		module = lfirst(cell);
		if (strcmp(module->name, name) == 0)
			return module->sink;
	}
	sink = load(name);
	old = MemoryContextSwitchTo(TopMemoryContext);
	module = palloc(sizeof(Module));
	strlcpy(module->name, name, sizeof(module->name));
	module->sink = sink;
	modules = lappend(modules, module);
	MemoryContextSwitchTo(old);
	return sink;
}

/* ---- settings ---- */

typedef struct Settings
{
	evs_sink_setting *items;
	int			n;
	int			max;
} Settings;

static char *
to_utf8(char *text)
{
	return pg_server_to_any(text, strlen(text), PG_UTF8);
}

static void
add_setting(Settings *settings, char *name, char *value, evs_sink_setting_kind kind)
{
	if (settings->n == settings->max)
	{
		settings->max = settings->max * 2 + 8;
		settings->items = settings->items == NULL ?
			palloc(sizeof(evs_sink_setting) * settings->max) :
			repalloc(settings->items, sizeof(evs_sink_setting) * settings->max);
	}
	settings->items[settings->n].name = to_utf8(name);
	settings->items[settings->n].value = to_utf8(value);
	settings->items[settings->n++].kind = kind;
}

/* {"secret": "name"}: the name, or NULL for any other object. */
static char *
secret_name(JsonbContainer *object)
{
	JsonbValue	value;

	if (!JsonContainerIsObject(object) || JsonContainerSize(object) != 1 ||
		getKeyJsonValueFromContainer(object, "secret", 6, &value) == NULL ||
		value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

static void flatten(Settings *settings, const char *path, JsonbContainer *container);

static void
add_value(Settings *settings, char *name, JsonbValue *value)
{
	char	   *secret;

	switch (value->type)
	{
		case jbvString:
			add_setting(settings, name, pnstrdup(value->val.string.val, value->val.string.len),
						EVS_SINK_SETTING_STRING);
			break;
		case jbvNumeric:
			add_setting(settings, name,
						DatumGetCString(DirectFunctionCall1(numeric_out,
															NumericGetDatum(value->val.numeric))),
						EVS_SINK_SETTING_NUMBER);
			break;
		case jbvBool:
			add_setting(settings, name, pstrdup(value->val.boolean ? "true" : "false"),
						EVS_SINK_SETTING_BOOLEAN);
			break;
		case jbvBinary:
			secret = secret_name(value->val.binary.data);
			if (secret != NULL)
				add_setting(settings, name, secret, EVS_SINK_SETTING_SECRET);
			else
				flatten(settings, name, value->val.binary.data);
			break;
		default:
			break;
	}
}

/* Members of members get names with dots in between. */
static void
flatten(Settings *settings, const char *path, JsonbContainer *container)
{
	JsonbIterator *it = JsonbIteratorInit(container);
	JsonbIteratorToken token;
	JsonbValue	value;
	char	   *name = NULL;
	int			index = 0;

	check_stack_depth();
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			name = psprintf("%s%s%.*s", path, *path != '\0' ? "." : "",
							value.val.string.len, value.val.string.val);
		else if (token == WJB_VALUE)
			add_value(settings, name, &value);
		else if (token == WJB_ELEM)
			add_value(settings, psprintf("%s.%d", path, index++), &value);
	}
}

static evs_sink_settings
make_settings(Jsonb *config)
{
	Settings	settings = {0};
	evs_sink_settings result;

	if (!JB_ROOT_IS_OBJECT(config))
		ereport(ERROR,
				(errcode(ERRCODE_EVS_INVALID_DEFINITION),
				 errmsg("the configuration of a sink must be a JSON object"),
				 errdetail_internal("%s", "{\"path\": \"$.config\"}")));
	flatten(&settings, "", &config->root);
	result.items = settings.items;
	result.nitems = settings.n;
	return result;
}

/* ---- what the host offers ---- */

static void
host_log(void *ctx, int level, const char *message)
{
	EvsSinkLog *log = ((EvsSink *) ctx)->log;

	pthread_mutex_lock(&log->lock);
	if (log->n < LOG_LINES)
	{
		log->lines[log->n].level = level;
		strlcpy(log->lines[log->n++].text, message, LOG_LINE);
	}
	else
		log->lost++;
	pthread_mutex_unlock(&log->lock);
}

/* A latch may be set by any thread: that is what signal handlers do, too. */
static void
host_wake(void *ctx)
{
	SetLatch(MyLatch);
}

static int64_t
host_now(void *ctx)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64_t) INSTR_TIME_GET_MICROSEC(now);
}

static int
host_secret(void *ctx, const char *name, char *value, size_t size)
{
	EvsSink    *sink = ctx;
	ListCell   *cell;

	if (sink == NULL)
		return -1;
	foreach(cell, sink->secrets)
	{
		Secret	   *secret = lfirst(cell);

		if (strcmp(secret->name, name) != 0)
			continue;
		if ((size_t) secret->length < size)
			memcpy(value, secret->value, secret->length + 1);
		return secret->length;
	}
	return -1;
}

static int
host_egress_allowed(void *ctx, const char *host, const char *address, int port)
{
	return evs_egress_allowed(host, address, port);
}

static void
host_set_rate(void *ctx, double per_second)
{
	if (ctx != NULL)
		((EvsSink *) ctx)->rate = per_second > 0 ? per_second : 0;
}

static void
log_nothing(void *ctx, int level, const char *message)
{
}

static char *
file_directory(void)
{
	if (is_absolute_path(evs_guc_file_directory))
		return pstrdup(evs_guc_file_directory);
	return psprintf("%s/%s", DataDir, evs_guc_file_directory);
}

static void
fill_host(evs_sink_host *host, const EvsRelay *relay, void *ctx)
{
	memset(host, 0, sizeof(*host));
	host->abi = EVS_SINK_ABI;
	host->size = sizeof(*host);
	host->ctx = ctx;
	host->relay = to_utf8(pstrdup(relay->name));
	host->id = relay->identity != NULL ? to_utf8(pstrdup(relay->identity)) : host->relay;
	host->format = evs_format_name(relay->format);
	host->in_flight = relay->in_flight;
	host->batch_size = relay->batch_size;
	host->batch_bytes = relay->batch_bytes;
	host->timeout_ms = relay->timeout;
	host->directory = file_directory();
	host->log = ctx != NULL ? host_log : log_nothing;
	host->wake = host_wake;
	host->now_us = host_now;
	host->secret = host_secret;
	host->egress_allowed = host_egress_allowed;
	host->set_rate = host_set_rate;
}

/* ---- use ---- */

void
evs_sink_check(const EvsRelay *relay)
{
	const evs_sink *module = evs_sink_load(relay->sink);
	evs_sink_settings settings = make_settings(relay->config);
	evs_sink_host host;
	char		error[EVS_SINK_ERROR_MAX] = "";
	StringInfoData detail;

	fill_host(&host, relay, NULL);
	if (module->validate(&host, &settings, error, sizeof(error)) == 0)
		return;
	evs_sink_clean_text(error);
	evs_detail_begin(&detail);
	evs_detail_string(&detail, "path", "$.config");
	evs_detail_string(&detail, "sink", relay->sink);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_INVALID_DEFINITION),
			 errmsg("sink \"%s\" cannot work with this: %s", relay->sink, error),
			 errdetail_internal("%s", evs_detail_end(&detail))));
}

static void
load_secrets(EvsSink *sink)
{
	for (int i = 0; i < sink->settings.nitems; i++)
	{
		Secret	   *secret;

		if (sink->settings.items[i].kind != EVS_SINK_SETTING_SECRET)
			continue;
		secret = palloc(sizeof(Secret));
		secret->name = pstrdup(sink->settings.items[i].value);
		secret->value = evs_secret_get(secret->name, &secret->length);
		sink->secrets = lappend(sink->secrets, secret);
	}
}

static void
forget_secrets(EvsSink *sink)
{
	ListCell   *cell;

	foreach(cell, sink->secrets)
	{
		Secret	   *secret = lfirst(cell);

		evs_secret_forget(secret->value, secret->length);
	}
	sink->secrets = NIL;
}

void
evs_sink_refresh(EvsSink *sink)
{
	uint64		version = evs_secret_version();
	List	   *before = sink->secrets;
	List	   *after;
	MemoryContext old;

	if (sink->secrets_version == version)
		return;
	old = MemoryContextSwitchTo(sink->context);
	sink->secrets = NIL;
	PG_TRY();
	{
		load_secrets(sink);
	}
	PG_CATCH();
	{
		/* one that cannot be read now is used as it was */
		sink->secrets = before;
		PG_RE_THROW();
	}
	PG_END_TRY();
	after = sink->secrets;
	sink->secrets = before;
	forget_secrets(sink);
	sink->secrets = after;
	sink->secrets_version = version;
	MemoryContextSwitchTo(old);
}

EvsSink *
evs_sink_open(const EvsRelay *relay, char **error)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "evstore sink",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	EvsSink    *sink = palloc0(sizeof(EvsSink));
	char		message[EVS_SINK_ERROR_MAX] = "";

	sink->context = context;
	sink->module = evs_sink_load(relay->sink);
	sink->settings = make_settings(relay->config);
	fill_host(&sink->host, relay, sink);
	sink->secrets_version = evs_secret_version();
	load_secrets(sink);
	sink->log = palloc0(sizeof(EvsSinkLog));
	pthread_mutex_init(&sink->log->lock, NULL);
	/* a directory that cannot be made is reported by who needs it */
	(void) mkdir(sink->host.directory, S_IRWXU);
	sink->state = sink->module->open(&sink->host, &sink->settings, message, sizeof(message));
	MemoryContextSwitchTo(old);
	if (sink->state != NULL)
		return sink;
	evs_sink_clean_text(message);
	*error = pstrdup(message);
	evs_sink_close(sink);
	return NULL;
}

void
evs_sink_tell(EvsSink *sink, const char *relay)
{
	EvsSinkLog *log = sink->log;
	EvsSinkLog	copy;

	pthread_mutex_lock(&log->lock);
	copy.n = log->n;
	copy.lost = log->lost;
	memcpy(copy.lines, log->lines, sizeof(log->lines[0]) * log->n);
	log->n = log->lost = 0;
	pthread_mutex_unlock(&log->lock);
	for (int i = 0; i < copy.n; i++)
	{
		evs_sink_clean_text(copy.lines[i].text);
		ereport(copy.lines[i].level == EVS_SINK_LOG_DEBUG ? DEBUG1 :
				copy.lines[i].level == EVS_SINK_LOG_INFO ? LOG : WARNING,
				(errmsg("relay \"%s\": %s", relay, copy.lines[i].text)));
	}
	if (copy.lost > 0)
		ereport(LOG,
				(errmsg("relay \"%s\": %d more messages of its sink", relay, copy.lost)));
}

/* WaitLatchOrSocket() makes an epoll set each time: not for what is there already. */
static bool
has_something(int fd, short events)
{
	struct pollfd poll_fd = {.fd = fd, .events = events};

	return !MyLatch->is_set && PostmasterIsAlive() && poll(&poll_fd, 1, 0) > 0;
}

int
evs_sink_wait(const EvsSink *sink, long ms, uint32 wait_event)
{
	int			wakeup = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;
	short		events = 0;
	int			timeout = -1;
	int			fd = sink != NULL ? sink->module->wait_fd(sink->state, &events, &timeout) : -1;

	if (timeout >= 0)
		ms = Min(ms, timeout);
	if (fd < 0 || events == 0)
		return WaitLatch(MyLatch, wakeup, ms, wait_event);
	if (has_something(fd, events))
		return WL_SOCKET_MASK;
	return WaitLatchOrSocket(MyLatch, wakeup | ((events & POLLIN) != 0 ? WL_SOCKET_READABLE : 0) |
							 ((events & POLLOUT) != 0 ? WL_SOCKET_WRITEABLE : 0),
							 fd, ms, wait_event);
}

void
evs_sink_close(EvsSink *sink)
{
	if (sink->state != NULL)
		sink->module->destroy(sink->state);
	forget_secrets(sink);
	pthread_mutex_destroy(&sink->log->lock);
	MemoryContextDelete(sink->context);
}

/* It may be cut within a character, or come from anywhere. */
void
evs_sink_clean_text(char *text)
{
	bool		valid = GetDatabaseEncoding() == PG_UTF8 &&
		pg_verify_mbstr(PG_UTF8, text, strlen(text), true);

	for (unsigned char *c = (unsigned char *) text; *c != '\0'; c++)
		if (*c < ' ' || *c == 127 || (*c > 127 && !valid))
			*c = '?';
}

const char *
evs_sink_class_name(evs_sink_class class)
{
	switch (class)
	{
		case EVS_SINK_OK:
			return "ok";
		case EVS_SINK_DUPLICATE:
			return "duplicate";
		case EVS_SINK_RETRY:
			return "retry";
		case EVS_SINK_RETRY_SINK:
			return "outage";
		case EVS_SINK_PERMANENT:
			return "permanent";
		case EVS_SINK_FATAL:
			return "fatal";
		case EVS_SINK_RETURNED:
			return "returned";
	}
	return "unknown";
}
