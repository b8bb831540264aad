/*
 * file_state.c
 *	  PATH.state: what the file sink has to remember of a file.
 *
 * resume() says up to which position everything that was submitted in order is
 * in the file.  In a file that has been written in order only, that is the
 * position in its last line.  But replays and tests are appended, too, and their
 * positions say nothing.  So lines count from an offset on, counts_from, which
 * the state has:
 *
 *	in order		the file has had no others since counts_from.  The last line
 *					counts if there is one behind it, otherwise position does.
 *	not in order	counts_from is -1, position counts.
 *
 * A change from the one to the other is made durable before the first line that
 * follows it.  So what is in the state may be too little after a crash, and never
 * too much.  While lines are in order, which is nearly always, the state is not
 * written.
 *
 * A state belongs to an inode and a relay.  If it is another's, is missing, or
 * does not fit the file's size, lines count from the end of the file on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "file.h"

#define STATE_MAX 1024

static void
state_name(const EvsFile *file, char *name, const char *suffix)
{
	snprintf(name, NAME_MAX + 1, "%s.state%s", file->name, suffix);
}

/* The content, or "" if there is none. */
static int
read_state(EvsFile *file, char *content)
{
	char		name[NAME_MAX + 1];
	ssize_t		n;
	int			fd;

	content[0] = '\0';
	state_name(file, name, "");
	fd = openat(file->dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? 0 : evs_file_failed(file, "open the state of");
	n = read(fd, content, STATE_MAX - 1);
	if (n < 0)
		evs_file_failed(file, "read the state of");
	close(fd);
	if (n < 0)
		return EIO;
	content[n] = '\0';
	return 0;
}

/* Is it the state of this file, of this relay, and of this size? */
static bool
parse_state(EvsFile *file, const char *content)
{
	int64_t		first,
				since,
				counts_from,
				position;
	uint64_t	inode;
	int			length = 0;
	size_t		relay = strlen(file->options->relay);

	if (sscanf(content, "1 %" SCNu64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %n", &inode,
			   &first, &since, &counts_from, &position, &length) != 5 || length == 0)
		return false;
	if (strncmp(content + length, file->options->relay, relay) != 0 ||
		strcmp(content + length + relay, "\n") != 0)
		return false;
	if (inode != file->inode || counts_from > file->size || counts_from < -1 || position < 0)
		return false;
	file->first = first;
	file->since = since;
	file->counts_from = counts_from;
	file->position = position;
	return true;
}

/* Sets first, since, counts_from and position. */
int
evs_file_load_state(EvsFile *file)
{
	char		content[STATE_MAX];
	int			code = read_state(file, content);

	if (code != 0)
		return code;
	if (!parse_state(file, content))
	{
		file->first = 0;
		file->since = time(NULL);
		file->counts_from = file->options->fsync ? file->size : -1;
		file->position = 0;
		return evs_file_save_state(file);
	}
	if (file->counts_from < 0 || file->counts_from == file->size)
		return 0;
	code = evs_file_last_position(file->fd, file->size, &file->position);
	if (code != 0)
	{
		errno = code;
		return evs_file_failed(file, "read");
	}
	return 0;
}

static int
write_state(EvsFile *file, const char *name, const char *content)
{
	size_t		length = strlen(content);
	int			fd = openat(file->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
							0600);
	ssize_t		n;
	int			code = 0;

	if (fd < 0)
		return errno;
	n = write(fd, content, length);
	if (n < 0 || (file->options->fsync && fsync(fd) != 0))
		code = errno;
	else if ((size_t) n != length)
		code = ENOSPC;
	close(fd);
	return code;
}

/* Replaces the state: after a crash it is the one or the other. */
int
evs_file_save_state(EvsFile *file)
{
	char		name[NAME_MAX + 1];
	char		new_name[NAME_MAX + 1];
	char		content[STATE_MAX];
	int			code;

	state_name(file, name, "");
	state_name(file, new_name, ".new");
	snprintf(content, sizeof(content),
			 "1 %" PRIu64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %s\n",
			 (uint64_t) file->inode, file->first, file->since, (int64_t) file->counts_from,
			 file->position, file->options->relay);
	code = write_state(file, new_name, content);
	if (code == 0 && (renameat(file->dir, new_name, file->dir, name) != 0 ||
					  (file->options->fsync && fsync(file->dir) != 0)))
		code = errno;
	errno = code;
	return code == 0 ? 0 : evs_file_failed(file, "write the state of");
}

/* Without fsync nothing counts: the system may have lost a part of it. */
int
evs_file_begin_lines(EvsFile *file, bool count)
{
	off_t		before = file->counts_from;
	int			code;

	count = count && file->options->fsync;
	if (count == (before >= 0))
		return 0;
	file->counts_from = count ? file->size : -1;
	code = evs_file_save_state(file);
	if (code != 0)
		file->counts_from = before;
	return code;
}
