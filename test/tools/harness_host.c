/*
 * harness_host.c
 *	  What sink_harness offers to a module: the functions of evs_sink_host.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "harness.h"

int			host_wake_fd = -1;
int64_t		host_egress_asked;
double		host_rate;

static bool secrets_given;

static void
host_log(void *ctx, int level, const char *message)
{
	static const char *const names[] = {"debug", "info", "warning"};

	(void) ctx;
	if (level < EVS_SINK_LOG_DEBUG || level > EVS_SINK_LOG_WARNING)
		violation("log() with level %d", level);
	else if (opt.verbose)
		fprintf(stderr, "%s: %s\n", names[level], message);
	host_check_text("log()", message);
}

static void
host_wake(void *ctx)
{
	uint64_t	one = 1;

	(void) ctx;
	if (write(host_wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		die("eventfd: %s", strerror(errno));
}

static int64_t
host_now(void *ctx)
{
	(void) ctx;
	return now_us();
}

static const char *
find_secret(const char *name)
{
	for (int i = 0; i < opt.nsecrets; i++)
		if (strcmp(opt.secrets[i].name, name) == 0)
			return opt.secrets[i].value;
	return getenv(name);
}

static int
host_secret(void *ctx, const char *name, char *value, size_t size)
{
	const char *secret = secrets_given ? find_secret(name) : NULL;
	size_t		length;

	(void) ctx;
	if (secret == NULL)
		return -1;
	length = strlen(secret);
	if (length < size)
		memcpy(value, secret, length + 1);
	return length;
}

static int
host_egress_allowed(void *ctx, const char *host, const char *address, int port)
{
	(void) ctx;
	(void) port;
	host_egress_asked++;
	for (int i = 0; i < opt.ndenied; i++)
		if (strcmp(opt.denied[i], host) == 0 ||
			(address != NULL && strcmp(opt.denied[i], address) == 0))
			return 0;
	return 1;
}

static void
host_set_rate(void *ctx, double per_second)
{
	(void) ctx;
	host_rate = per_second;
}

void
host_init(evs_sink_host *host)
{
	host_wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (host_wake_fd < 0)
		die("eventfd: %s", strerror(errno));
	*host = (evs_sink_host)
	{
		.abi = EVS_SINK_ABI,
		.size = sizeof(*host),
		.relay = "harness",
		.id = "harness",
		.format = opt.format,
		.in_flight = opt.in_flight,
		.batch_size = opt.batch,
		.batch_bytes = opt.batch_bytes,
		.timeout_ms = opt.timeout,
		.directory = opt.directory,
		.log = host_log,
		.wake = host_wake,
		.now_us = host_now,
		.secret = host_secret,
		.egress_allowed = host_egress_allowed,
		.set_rate = host_set_rate
	};
}

void
host_set_secret(const char *name, const char *value)
{
	for (int i = 0; i < opt.nsecrets; i++)
		if (strcmp(opt.secrets[i].name, name) == 0)
		{
			opt.secrets[i].value = strdup(value);
			return;
		}
	if (opt.nsecrets == HARNESS_MAX)
		die("too many secrets");
	opt.secrets[opt.nsecrets++] = (HarnessPair) {strdup(name), strdup(value)};
}

void
host_give_secrets(bool give)
{
	secrets_given = give;
}

/* Values of a few characters occur by chance. */
void
host_check_text(const char *what, const char *text)
{
	for (int i = 0; i < opt.nsettings; i++)
	{
		const char *secret;

		if (opt.settings[i].kind != EVS_SINK_SETTING_SECRET)
			continue;
		secret = find_secret(opt.settings[i].value);
		if (secret != NULL && strlen(secret) >= 4 && strstr(text, secret) != NULL)
			violation("%s has the value of secret \"%s\"", what, opt.settings[i].value);
	}
}
