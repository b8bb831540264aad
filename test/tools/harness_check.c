/*
 * harness_check.c
 *	  What sink_harness can check without sending anything: the module's table,
 *	  what it says to settings, and that it leaves its host's process alone.
 */
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

#define ALL_CAPS (EVS_SINK_CAP_PIPELINE | EVS_SINK_CAP_BATCH | EVS_SINK_CAP_DEDUPLICATES | \
	EVS_SINK_CAP_RESUMES | EVS_SINK_CAP_THREADS | EVS_SINK_CAP_NETWORK)

/* ---- the table ---- */

static void
check_name(const evs_sink *sink, const char *path)
{
	const char *base = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
	char		expected[256];

	if (sink->name == NULL || sink->name[0] == '\0')
	{
		violation("the module has no name");
		return;
	}
	snprintf(expected, sizeof(expected), "evstore_sink_%s.so", sink->name);
	if (strcmp(base, expected) != 0)
		violation("the name is \"%s\", but the file is %s", sink->name, base);
	if (sink->description == NULL || sink->description[0] == '\0' ||
		strchr(sink->description, '\n') != NULL)
		violation("the description is not one line");
}

void
check_table(const evs_sink *sink, const char *path)
{
	if (sink->abi != EVS_SINK_ABI)
		violation("abi is %u, not %d", sink->abi, EVS_SINK_ABI);
	if (sink->size < sizeof(evs_sink))
		die("size is %u, less than %zu", sink->size, sizeof(evs_sink));
	check_name(sink, path);
	if (sink->caps & ~(uint64_t) ALL_CAPS)
		violation("unknown capabilities in %#llx", (unsigned long long) sink->caps);
	if (sink->validate == NULL || sink->open == NULL || sink->submit == NULL ||
		sink->wait_fd == NULL || sink->progress == NULL || sink->destroy == NULL)
		die("a function is missing");
	if ((sink->resume != NULL) != ((sink->caps & EVS_SINK_CAP_RESUMES) != 0))
		violation("resume() and CAP_RESUMES do not agree");
}

/* ---- settings ---- */

/*
 * validate(), into a buffer that shows whether more was written than there is.
 * Returns what it returned.
 */
static int
validate(const evs_sink *sink, const evs_sink_host *host, const evs_sink_settings *settings,
		 char *error, size_t size)
{
	char		buffer[EVS_SINK_ERROR_MAX + 16];
	int			result;

	memset(buffer, 0x5A, sizeof(buffer));
	result = sink->validate(host, settings, buffer, size);
	for (size_t i = size; i < sizeof(buffer); i++)
		if (buffer[i] != 0x5A)
		{
			violation("validate() writes behind its buffer of %zu", size);
			break;
		}
	error[0] = '\0';
	if (result == 0)
		return 0;
	if (result != -1)
		violation("validate() returned %d", result);
	if (memchr(buffer, '\0', size) == NULL)
		violation("the error of validate() does not end");
	else if (buffer[0] == '\0')
		violation("validate() gives no reason");
	else
		strcpy(error, buffer);
	host_check_text("an error of validate()", error);
	return -1;
}

/* The settings with one more, or with another value of one. */
static int
validate_with(const evs_sink *sink, const evs_sink_host *host, const evs_sink_settings *settings,
			  evs_sink_setting setting, char *error, size_t size)
{
	evs_sink_setting items[HARNESS_MAX + 1];
	evs_sink_settings changed = {items, settings->nitems};
	int			i;

	memcpy(items, settings->items, settings->nitems * sizeof(items[0]));
	for (i = 0; i < settings->nitems; i++)
		if (strcmp(items[i].name, setting.name) == 0)
			break;
	if (i == settings->nitems)
		changed.nitems++;
	items[i] = setting;
	return validate(sink, host, &changed, error, size);
}

static void
check_bad_settings(const evs_sink *sink, const evs_sink_host *host,
				   const evs_sink_settings *settings)
{
	const evs_sink_setting unknown = {"no_such_setting", "1", EVS_SINK_SETTING_NUMBER};
	char		error[EVS_SINK_ERROR_MAX];

	if (validate_with(sink, host, settings, unknown, error, sizeof(error)) == 0)
		violation("a setting that does not exist is accepted");
	else if (strstr(error, unknown.name) == NULL)
		violation("the error does not name the unknown setting: %s", error);
	validate_with(sink, host, settings, unknown, error, 8);
	for (int i = 0; i < opt.nbad; i++)
	{
		if (validate_with(sink, host, settings, opt.bad[i], error, sizeof(error)) == 0)
			violation("%s=%s is accepted", opt.bad[i].name, opt.bad[i].value);
		else
			printf("refused=%s=%s: %s\n", opt.bad[i].name, opt.bad[i].value, error);
	}
}

void
check_validate(const evs_sink *sink, const evs_sink_host *host, const evs_sink_settings *settings)
{
	char		error[EVS_SINK_ERROR_MAX];

	host_give_secrets(false);
	if (validate(sink, host, settings, error, sizeof(error)) == 0)
	{
		if (opt.invalid)
			violation("the settings are accepted");
		else
			check_bad_settings(sink, host, settings);
	}
	else if (opt.invalid)
		printf("error=%s\n", error);
	else
		violation("the settings are refused: %s", error);
	host_give_secrets(true);
}

/* ---- the process ---- */

static struct
{
	sigset_t	mask;
	struct sigaction actions[32];
	char		directory[4096];
	mode_t		umask;
}			remembered;

static mode_t
current_umask(void)
{
	mode_t		mask = umask(077);

	umask(mask);
	return mask;
}

void
process_remember(void)
{
	sigprocmask(SIG_SETMASK, NULL, &remembered.mask);
	for (int i = 1; i < lengthof(remembered.actions); i++)
		sigaction(i, NULL, &remembered.actions[i]);
	if (getcwd(remembered.directory, sizeof(remembered.directory)) == NULL)
		die("no current directory");
	remembered.umask = current_umask();
}

static void
check_signals(const char *when)
{
	sigset_t	mask;
	struct sigaction action;

	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int i = 1; i < lengthof(remembered.actions); i++)
	{
		if (sigismember(&mask, i) != sigismember(&remembered.mask, i))
			violation("%s: signal %d is blocked or unblocked", when, i);
		sigaction(i, NULL, &action);
		if (action.sa_handler != remembered.actions[i].sa_handler)
			violation("%s: signal %d has another handler", when, i);
	}
}

/* What the host uses must be blocked in threads of the module's. */
static bool
blocks_signals(const char *thread)
{
	static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGCHLD,
	SIGALRM, SIGURG};
	char		path[512];
	char		line[256];
	unsigned long long blocked = 0;
	FILE	   *file;

	snprintf(path, sizeof(path), "/proc/self/task/%s/status", thread);
	file = fopen(path, "r");
	if (file == NULL)
		return true;			/* it has ended */
	while (fgets(line, sizeof(line), file) != NULL)
		if (sscanf(line, "SigBlk: %llx", &blocked) == 1)
			break;
	fclose(file);
	for (int i = 0; i < lengthof(signals); i++)
		if (!(blocked & (1ull << (signals[i] - 1))))
			return false;
	return true;
}

static void
check_threads(const evs_sink *sink, const char *when)
{
	DIR		   *dir = opendir("/proc/self/task");
	struct dirent *entry;

	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL)
	{
		if (entry->d_name[0] == '.' || atol(entry->d_name) == getpid())
			continue;
		if (!(sink->caps & EVS_SINK_CAP_THREADS))
			violation("%s: there is a thread, without CAP_THREADS", when);
		else if (!blocks_signals(entry->d_name))
			violation("%s: a thread does not block signals", when);
	}
	closedir(dir);
}

void
process_check(const evs_sink *sink, const char *when)
{
	char		directory[4096];

	check_signals(when);
	check_threads(sink, when);
	if (getcwd(directory, sizeof(directory)) == NULL ||
		strcmp(directory, remembered.directory) != 0)
		violation("%s: the current directory is another", when);
	if (current_umask() != remembered.umask)
		violation("%s: the umask is another", when);
}

/* -1: cannot be told */
int
process_count_fds(void)
{
	DIR		   *dir = opendir("/proc/self/fd");
	int			n = 0;

	if (dir == NULL)
		return -1;
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}
