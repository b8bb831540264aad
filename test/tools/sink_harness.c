/*
 * sink_harness.c
 *	  The conformance harness of sink modules: loads one, drives it as a relay
 *	  does, and holds it to the contract in evstore_sink.h.  No PostgreSQL.
 *
 *	  sink_harness [option...] MODULE.so [setting...]
 *
 * Settings of the module: name=text, name:=number or true or false, name@=name
 * of a secret, whose value is given with --secret or is in the environment.
 *
 * What it prints is name=value, one a line; results have a line a class.
 * --help lists the options.  Exit status: 0 all messages were delivered or
 * parked, or what was asked for has happened; 1 the contract was violated, which
 * lines that begin with "violation=" say; 2 messages are left, because of an
 * outage or a FATAL; 3 wrong usage, or the module cannot be used at all.
 */
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "harness.h"

HarnessOptions opt = {
	.format = "cloudevents", .topic = "topic", .directory = ".",
	.messages = 1000, .size = 200, .keys = 10, .headers = 1, .first = 1, .step = 1,
	.in_flight = 1000, .batch = 100, .batch_bytes = 1024 * 1024, .max = 100,
	.attempts = 5, .retry_delay = 10, .timeout = 10000, .give_up = 20
};

static int	nviolations;

/* ---- errors ---- */

/* The first of them; a broken module would fill the screen. */
#define MAX_VIOLATIONS 50

void
violation(const char *format, ...)
{
	va_list		args;

	if (__atomic_add_fetch(&nviolations, 1, __ATOMIC_RELAXED) > MAX_VIOLATIONS)
		return;
	printf("violation=");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

/* With the module nothing more can be done: that is its violation, if it ran. */
void
die(const char *format, ...)
{
	va_list		args;

	printf("violation=");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\nviolations=%d\n", nviolations + 1);
	exit(1);
}

static void usage_error(const char *format, ...)
			__attribute__((format(printf, 1, 2), noreturn));

static void
usage_error(const char *format, ...)
{
	va_list		args;

	fprintf(stderr, "sink_harness: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	exit(3);
}

void *
allocate(size_t size)
{
	void	   *memory = calloc(1, size);

	if (memory == NULL)
		die("out of memory");
	return memory;
}

int64_t
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* ---- options ---- */

typedef struct OptionText
{
	const char *name;
	const char **value;
	const char *help;
} OptionText;

static const OptionText texts[] = {
	{"format", &opt.format, "the relay's format (cloudevents)"},
	{"topic", &opt.topic, "topic of the messages; {key} is their key (topic)"},
	{"directory", &opt.directory, "for the module's files (.)"},
	{"log", &opt.log_path, "write position, key, class, code, attempt, detail of each result"},
};

typedef struct OptionNumber
{
	const char *name;
	int64_t    *value;
	int64_t		min;
	const char *help;
} OptionNumber;

static const OptionNumber numbers[] = {
	{"messages", &opt.messages, 1, "so many messages (1000)"},
	{"size", &opt.size, 0, "bytes of filling in each (200)"},
	{"keys", &opt.keys, 0, "so many keys; 0: messages have none (10)"},
	{"headers", &opt.headers, 0, "headers of a message (1)"},
	{"first", &opt.first, 1, "position of the first (1)"},
	{"step", &opt.step, 1, "distance of positions (1)"},
	{"replay", &opt.replay, 0, "send the first so many again at the end, as replays"},
	{"in-flight", &opt.in_flight, 1, "messages in flight at most (1000)"},
	{"batch", &opt.batch, 1, "batch_size (100)"},
	{"batch-bytes", &opt.batch_bytes, 1, "batch_bytes (1 MB)"},
	{"submit", &opt.submit, 1, "messages in one call of submit() (batch_size)"},
	{"max", &opt.max, 1, "results of one call of progress() (100)"},
	{"line-feed", &opt.line_feed, 1, "a line feed is in the data of the Nth message"},
	{"rate", &opt.rate, 0, "messages a second"},
	{"attempts", &opt.attempts, 1, "RETRY so many times parks a message (5)"},
	{"retry-delay", &opt.retry_delay, 0, "ms before it is sent again (10)"},
	{"timeout", &opt.timeout, 1, "timeout_ms, of a request (10000)"},
	{"give-up", &opt.give_up, 1, "seconds without a result, or without a delivery (20)"},
	{"pause-at", &opt.pause_at, 1, "when so many were submitted print \"paused=\", wait for a line"},
	{"destroy-at", &opt.destroy_at, 1, "destroy() when so many were submitted"},
	{"kill-at", &opt.kill_at, 1, "kill -9 ourselves when so many were submitted"},
	{"max-call", &opt.max_call, 1, "ms that a call may take; otherwise only reported"},
};

typedef struct OptionFlag
{
	const char *name;
	bool	   *value;
	const char *help;
} OptionFlag;

static const OptionFlag flags[] = {
	{"edge", &opt.edge, "empty, 16 MB, without key, with odd names: the first 7 messages"},
	{"test", &opt.test, "a TEST message comes first"},
	{"resume", &opt.resume, "begin behind what resume() says"},
	{"bench", &opt.bench, "as fast as possible: memory is not checked"},
	{"invalid", &opt.invalid, "the settings must be refused: print the error, send nothing"},
	{"verbose", &opt.verbose, "show what the module logs"},
};

static void
help(void)
{
	printf("usage: sink_harness [option...] MODULE.so [setting...]\n\n"
		   "  setting: name=text, name:=number or boolean, name@=name of a secret\n\n");
	for (int i = 0; i < lengthof(texts); i++)
		printf("  --%s=TEXT\t%s\n", texts[i].name, texts[i].help);
	for (int i = 0; i < lengthof(numbers); i++)
		printf("  --%s=N\t%s\n", numbers[i].name, numbers[i].help);
	for (int i = 0; i < lengthof(flags); i++)
		printf("  --%s\t%s\n", flags[i].name, flags[i].help);
	printf("  --secret=NAME=VALUE\ta secret\n"
		   "  --rotate=N:NAME=VALUE\tits value when N messages are done\n"
		   "  --deny=HOST\tegress_allowed() says no to this name or address\n"
		   "  --bad=SETTING\tvalidate() must refuse the settings with this one\n");
	exit(0);
}

static int64_t
parse_number(const char *name, const char *text, int64_t min)
{
	char	   *end;
	int64_t		value;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < min)
		usage_error("--%s must be a number from %" PRId64 " on", name, min);
	return value;
}

/* name=value, in memory of its own */
static HarnessPair
parse_pair(const char *text)
{
	HarnessPair pair = {strdup(text), NULL};

	pair.value = strchr(pair.name, '=');
	if (pair.value == NULL || pair.value == pair.name)
		usage_error("not NAME=VALUE: %s", text);
	*pair.value++ = '\0';
	return pair;
}

static evs_sink_setting
parse_setting(const char *text)
{
	HarnessPair pair = parse_pair(text);
	char	   *last = pair.name + strlen(pair.name) - 1;
	evs_sink_setting setting = {pair.name, pair.value, EVS_SINK_SETTING_STRING};

	if (*last == '@')
		setting.kind = EVS_SINK_SETTING_SECRET;
	else if (*last == ':' && (strcmp(pair.value, "true") == 0 || strcmp(pair.value, "false") == 0))
		setting.kind = EVS_SINK_SETTING_BOOLEAN;
	else if (*last == ':')
		setting.kind = EVS_SINK_SETTING_NUMBER;
	if (setting.kind != EVS_SINK_SETTING_STRING)
		*last = '\0';
	return setting;
}

static void
parse_rotation(const char *text)
{
	HarnessRotation *rotation = &opt.rotations[opt.nrotations++];
	const char *colon = strchr(text, ':');

	if (colon == NULL)
		usage_error("not N:NAME=VALUE: %s", text);
	rotation->after = strtoll(text, NULL, 10);
	rotation->secret = parse_pair(colon + 1);
}

/* Options that can be there many times. */
static bool
parse_list(const char *name, const char *value)
{
	if (opt.nsecrets == HARNESS_MAX || opt.nrotations == HARNESS_MAX ||
		opt.ndenied == HARNESS_MAX || opt.nbad == HARNESS_MAX)
		usage_error("too many options");
	if (strcmp(name, "secret") == 0)
		opt.secrets[opt.nsecrets++] = parse_pair(value);
	else if (strcmp(name, "rotate") == 0)
		parse_rotation(value);
	else if (strcmp(name, "deny") == 0)
		opt.denied[opt.ndenied++] = value;
	else if (strcmp(name, "bad") == 0)
		opt.bad[opt.nbad++] = parse_setting(value);
	else
		return false;
	return true;
}

static bool
parse_flag(const char *name)
{
	for (int i = 0; i < lengthof(flags); i++)
		if (strcmp(flags[i].name, name) == 0)
			return *flags[i].value = true;
	return false;
}

static void
parse_value(const char *name, const char *value)
{
	for (int i = 0; i < lengthof(texts); i++)
		if (strcmp(texts[i].name, name) == 0)
		{
			*texts[i].value = value;
			return;
		}
	for (int i = 0; i < lengthof(numbers); i++)
		if (strcmp(numbers[i].name, name) == 0)
		{
			*numbers[i].value = parse_number(name, value, numbers[i].min);
			return;
		}
	if (!parse_list(name, value))
		usage_error("unknown option --%s", name);
}

/* --name=value, or --name value; returns whether the next argument was taken. */
static bool
parse_option(char *argument, char *next)
{
	char	   *name = argument + 2;
	char	   *value = strchr(name, '=');

	if (strcmp(name, "help") == 0)
		help();
	if (value == NULL && parse_flag(name))
		return false;
	if (value != NULL)
	{
		*value = '\0';
		parse_value(name, value + 1);
		return false;
	}
	if (next == NULL)
		usage_error("--%s needs a value", name);
	parse_value(name, next);
	return true;
}

static void
parse_arguments(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
	{
		if (strncmp(argv[i], "--", 2) == 0)
			i += parse_option(argv[i], argv[i + 1]);
		else if (opt.module == NULL)
			opt.module = argv[i];
		else if (opt.nsettings == HARNESS_MAX)
			usage_error("too many settings");
		else
			opt.settings[opt.nsettings++] = parse_setting(argv[i]);
	}
	if (opt.module == NULL)
		usage_error("which module?  --help lists the options");
	if (opt.replay > opt.messages)
		usage_error("--replay is more than --messages");
	if (opt.submit == 0)
		opt.submit = opt.batch;
}

/* ---- the module ---- */

static const evs_sink *
load(const char *path)
{
	void	   *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const evs_sink *(*init) (uint32_t);
	const evs_sink *sink;

	if (handle == NULL)
		usage_error("%s", dlerror());
	*(void **) &init = dlsym(handle, "evs_sink_init");
	if (init == NULL)
		usage_error("%s", dlerror());
	if (init(EVS_SINK_ABI + 1000) != NULL)
		violation("the module works with an ABI that it cannot know");
	sink = init(EVS_SINK_ABI);
	if (sink == NULL)
		usage_error("the module does not work with ABI %d", EVS_SINK_ABI);
	check_table(sink, path);
	return sink;
}

static void *
open_sink(const evs_sink *sink, const evs_sink_host *host, const evs_sink_settings *settings)
{
	char		error[EVS_SINK_ERROR_MAX] = "";
	void	   *state = sink->open(host, settings, error, sizeof(error));

	if (state == NULL)
		die("open() fails: %s", error);
	process_check(sink, "after open()");
	return state;
}

/* open() once more: what does the other side say that it has? */
static void
check_resume(const evs_sink *sink, const evs_sink_host *host, const evs_sink_settings *settings)
{
	void	   *state = open_sink(sink, host, settings);
	int64_t		position = run_resume(sink, state);

	printf("resume_after=%" PRId64 "\n", position);
	if (position > run_highest_claim())
		violation("resume() says %" PRId64 ", but not more than %" PRId64 " was delivered in order",
				  position, run_highest_claim());
	sink->destroy(state);
}

/* Sinks that were opened and destroyed leave nothing behind. */
static void
check_descriptors(const evs_sink *sink, const evs_sink_host *host,
				  const evs_sink_settings *settings)
{
	int			before;

	sink->destroy(open_sink(sink, host, settings));
	before = process_count_fds();
	sink->destroy(open_sink(sink, host, settings));
	if (process_count_fds() > before)
		violation("destroy() leaves descriptors open");
}

static HarnessEnd
send_messages(const evs_sink *sink, const evs_sink_host *host, const evs_sink_settings *settings)
{
	void	   *state = open_sink(sink, host, settings);
	int64_t		from = 0;
	HarnessEnd	end;

	if (sink->caps & EVS_SINK_CAP_RESUMES)
	{
		from = run_resume(sink, state);
		printf("resume=%" PRId64 "\n", from);
	}
	end = run(sink, state, opt.resume ? from : 0);
	process_check(sink, "before destroy()");
	sink->destroy(state);
	run_report();
	run_release();
	return end;
}

static HarnessEnd
drive(const evs_sink *sink)
{
	evs_sink_settings settings = {opt.settings, opt.nsettings};
	evs_sink_host host;
	HarnessEnd	end;

	host_init(&host);
	check_validate(sink, &host, &settings);
	if (opt.invalid || nviolations > 0)
		return END_FINISHED;
	end = send_messages(sink, &host, &settings);
	if (end == END_FINISHED && sink->caps & EVS_SINK_CAP_RESUMES)
		check_resume(sink, &host, &settings);
	if (!opt.bench)
		check_descriptors(sink, &host, &settings);
	if (sink->caps & EVS_SINK_CAP_NETWORK && host_egress_asked == 0)
		violation("egress_allowed() was not asked");
	printf("egress_asked=%" PRId64 "\nrate=%.0f\nfinished=%d\n", host_egress_asked, host_rate,
		   end == END_FINISHED);
	return end;
}

int
main(int argc, char **argv)
{
	const evs_sink *sink;
	HarnessEnd	end;

	parse_arguments(argc, argv);
	/* As in a worker of PostgreSQL. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	message_init();
	process_remember();
	sink = load(opt.module);
	printf("name=%s\ndescription=%s\ncaps=%#" PRIx64 "\n", sink->name, sink->description,
		   sink->caps);
	process_check(sink, "after loading");
	end = drive(sink);
	printf("violations=%d\n", nviolations);
	if (nviolations > 0)
		return 1;
	return end == END_UNFINISHED ? 2 : 0;
}
