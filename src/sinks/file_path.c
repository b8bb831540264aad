/*
 * file_path.c
 *	  Paths of the file sink: always below the host's directory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "sink_util.h"

#define TOPIC "{topic}"
#define PATH_LENGTH_MAX 1024

/* What is wrong with a part of a path?  NULL: nothing. */
static const char *
wrong_part(const char *part, size_t length)
{
	if (length == 0)
		return "must not have empty parts, nor begin or end with \"/\"";
	if ((length == 1 && part[0] == '.') || (length == 2 && part[0] == '.' && part[1] == '.'))
		return "must not have \".\" or \"..\" as a part";
	if (length > NAME_MAX - EVS_FILE_SUFFIX_MAX)
		return "has a part that is too long";
	for (size_t i = 0; i < length; i++)
	{
		if ((unsigned char) part[i] < ' ' || part[i] == 127)
			return "must not have control characters";
		if (part[i] == '{' && strncmp(part + i, TOPIC, strlen(TOPIC)) != 0)
			return "has a placeholder that is not \"{topic}\"";
	}
	return NULL;
}

static const char *
wrong_path(const char *path)
{
	size_t		length = strlen(path);

	if (length == 0 || length > PATH_LENGTH_MAX)
		return "must not be empty, nor have more than 1024 bytes";
	if (length >= 6 && strcmp(path + length - 6, ".state") == 0)
		return "must not end with \".state\"";
	for (const char *part = path;; part++)
	{
		const char *end = strchrnul(part, '/');
		const char *wrong = wrong_part(part, end - part);

		if (wrong != NULL)
			return wrong;
		if (*end == '\0')
			return NULL;
		part = end;
	}
}

int
evs_file_check_path(const char *path, char *error, size_t size)
{
	const char *wrong = wrong_path(path);

	if (wrong == NULL)
		return 0;
	snprintf(error, size, "setting \"path\" %s", wrong);
	return -1;
}

/*
 * Topics that differ have names that differ: a character that could be trouble is
 * written as % and two digits, and so is a first dot.  No topic is "%".
 */
static void
add_topic(evs_sink_buffer *buffer, const char *topic)
{
	if (*topic == '\0')
		evs_sink_add_string(buffer, "%");
	for (const char *at = topic; *at != '\0'; at++)
	{
		unsigned char c = *at;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			c == '-' || c == '_' || (c == '.' && at > topic))
			evs_sink_add(buffer, at, 1);
		else
			evs_sink_printf(buffer, "%%%02X", c);
	}
}

char *
evs_file_expand(const char *path, const char *topic)
{
	evs_sink_buffer buffer = {0};
	const char *sign;

	for (; (sign = strstr(path, TOPIC)) != NULL; path = sign + strlen(TOPIC))
	{
		evs_sink_add(&buffer, path, sign - path);
		add_topic(&buffer, topic);
	}
	evs_sink_add_string(&buffer, path);
	if (buffer.failed)
		evs_sink_buffer_free(&buffer);
	return buffer.data;
}

bool
evs_file_too_long(const char *path, const char *topic)
{
	char	   *expanded;
	bool		too_long = false;

	/*
	 * A topic in the path once, all of its characters written as three:
	 * nearly always all.
	 */
	if (strstr(strstr(path, TOPIC) + 1, TOPIC) == NULL &&
		strlen(path) + 3 * strlen(topic) <= NAME_MAX - EVS_FILE_SUFFIX_MAX)
		return false;
	expanded = evs_file_expand(path, topic);
	if (expanded == NULL)
		return false;			/* whoever needs it will notice */
	for (const char *part = expanded; !too_long; part++)
	{
		const char *end = strchrnul(part, '/');

		too_long = end - part > NAME_MAX - EVS_FILE_SUFFIX_MAX;
		part = end;
		if (*end == '\0')
			break;
	}
	free(expanded);
	return too_long;
}

/* A directory in another; -1 and errno. */
static int
open_part(int parent, const char *name, bool durable)
{
	const int	flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int			dir = openat(parent, name, flags);

	if (dir >= 0 || errno != ENOENT)
		return dir;
	if (mkdirat(parent, name, 0700) != 0 && errno != EEXIST)
		return -1;
	if (durable && fsync(parent) != 0)
		return -1;
	return openat(parent, name, flags);
}

int
evs_file_open_directory(EvsFile *file)
{
	char		part[NAME_MAX + 1];
	const char *start = file->path;
	const char *slash;
	int			dir = open(file->options->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return evs_file_failed(file, "open directory of");
	for (; (slash = strchr(start, '/')) != NULL; start = slash + 1)
	{
		int			parent = dir;
		int			code;

		snprintf(part, sizeof(part), "%.*s", (int) (slash - start), start);
		dir = open_part(parent, part, file->options->fsync);
		code = errno;
		close(parent);
		errno = code;
		if (dir < 0)
			return evs_file_failed(file, "open directory of");
	}
	file->dir = dir;
	file->name = start;
	return 0;
}
