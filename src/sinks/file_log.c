/*
 * file_log.c
 *	  A file that lines are appended to, all of a call or none.
 *
 * Up to its size the file has whole lines only, and with fsync they are durable.
 * What a write that failed, or a crash, has left behind that is cut off before
 * anything else is written.  That is right after a failed fdatasync, too: what
 * the kernel may have dropped is written again, into pages that are new.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "file.h"

int
evs_file_failed(EvsFile *file, const char *what)
{
	int			code = errno;

	snprintf(file->error, sizeof(file->error), "could not %s \"%.200s\": %s", what, file->path,
			 strerror(code));
	return code;
}

EvsFile *
evs_file_create(const EvsFileOptions *options, char *path)
{
	EvsFile    *file = calloc(1, sizeof(*file));

	if (file == NULL)
		return NULL;
	file->options = options;
	file->path = path;
	file->dir = file->fd = -1;
	return file;
}

void
evs_file_close(EvsFile *file)
{
	if (file->fd >= 0)
		close(file->fd);
	if (file->dir >= 0)
		close(file->dir);
	file->fd = file->dir = -1;
	file->torn = false;
}

void
evs_file_free(EvsFile *file)
{
	evs_file_close(file);
	free(file->path);
	free(file);
}

/* ---- opening ---- */

/* Of the name: a new file, or one that is there. */
static int
open_or_create(EvsFile *file)
{
	const int	flags = O_RDWR | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;

	file->fd = openat(file->dir, file->name, flags);
	if (file->fd >= 0)
		return 0;
	if (errno != ENOENT)
		return evs_file_failed(file, "open");
	file->fd = openat(file->dir, file->name, flags | O_CREAT | O_EXCL, file->options->mode);
	if (file->fd < 0)
		return evs_file_failed(file, "create");
	/* Not less than the mode because of a umask. */
	if (fchmod(file->fd, file->options->mode) != 0)
		return evs_file_failed(file, "set the mode of");
	return 0;
}

/* Is the name still that of the file that is open? */
static bool
is_same(const EvsFile *file, const struct stat *status)
{
	struct stat named;

	return fstatat(file->dir, file->name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
		named.st_ino == status->st_ino && named.st_dev == status->st_dev;
}

static int
refuse(EvsFile *file, int code, const char *why)
{
	snprintf(file->error, sizeof(file->error), "\"%.200s\" %s", file->path, why);
	return code;
}

/* Nobody else writes.  Who had the lock before us may have renamed the file meanwhile. */
static int
take(EvsFile *file)
{
	struct stat status;

	if (fstat(file->fd, &status) != 0)
		return evs_file_failed(file, "stat");
	if (!S_ISREG(status.st_mode))
		return refuse(file, EINVAL, "is not a regular file");
	if (flock(file->fd, LOCK_EX | LOCK_NB) != 0)
		return errno == EWOULDBLOCK ? refuse(file, EBUSY, "is written to by another process") :
			evs_file_failed(file, "lock");
	/* Again: its size is certain only now. */
	if (fstat(file->fd, &status) != 0)
		return evs_file_failed(file, "stat");
	if (!is_same(file, &status))
		return refuse(file, EBUSY, "has just been replaced");
	file->inode = status.st_ino;
	file->size = status.st_size;
	return 0;
}

/*
 * After this what is in the file is whole lines, and durable: the process that
 * wrote them may have been killed before it could see to that.
 */
static int
recover(EvsFile *file)
{
	off_t		end;
	int			code = evs_file_find_end(file->fd, file->size, &end);

	if (code != 0)
	{
		errno = code;
		return evs_file_failed(file, "read");
	}
	if (end < file->size && ftruncate(file->fd, end) != 0)
		return evs_file_failed(file, "truncate");
	file->size = end;
	if (file->options->fsync && (fdatasync(file->fd) != 0 || fsync(file->dir) != 0))
		return evs_file_failed(file, "synchronise");
	return 0;
}

int
evs_file_open(EvsFile *file)
{
	int			code;

	if (file->fd >= 0)
		return 0;
	code = evs_file_open_directory(file);
	if (code == 0)
		code = open_or_create(file);
	if (code == 0)
		code = take(file);
	if (code == 0)
		code = recover(file);
	if (code == 0)
		code = evs_file_load_state(file);
	if (code != 0)
		evs_file_close(file);
	return code;
}

/* ---- writing ---- */

/* Cut off what a failed write has left. */
static int
mend(EvsFile *file)
{
	if (!file->torn)
		return 0;
	if (ftruncate(file->fd, file->size) != 0)
		return evs_file_failed(file, "truncate");
	file->torn = false;
	return 0;
}

/*
 * Open, whole, and what it was: others may have renamed the file, or truncated
 * it, as logrotate does.  Then it is opened anew.
 */
static int
make_ready(EvsFile *file)
{
	struct stat status;
	int			code;

	if (file->fd >= 0)
	{
		code = mend(file);
		if (code != 0)
			return code;
		if (fstat(file->fd, &status) != 0)
			return evs_file_failed(file, "stat");
		if (status.st_size != file->size || !is_same(file, &status))
			evs_file_close(file);
	}
	return evs_file_open(file);
}

static int
write_all(EvsFile *file, const char *data, size_t length)
{
	while (length > 0)
	{
		ssize_t		n = write(file->fd, data, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = ENOSPC;
		if (n <= 0)
			return evs_file_failed(file, "write to");
		data += n;
		length -= n;
	}
	if (file->options->fsync && fdatasync(file->fd) != 0)
		return evs_file_failed(file, "synchronise");
	return 0;
}

/* The first lines of a file that is to be rotated: when, and with which position. */
static int
note_first(EvsFile *file, int64_t first)
{
	if (file->size > 0 || (file->options->rotate_bytes == 0 && file->options->rotate_seconds == 0))
		return 0;
	file->first = first;
	file->since = time(NULL);
	return evs_file_save_state(file);
}

int
evs_file_append(EvsFile *file, const char *data, size_t length, int64_t first, int64_t last,
				bool count)
{
	int			code = make_ready(file);

	if (code == 0 && evs_file_is_full(file, length))
	{
		code = evs_file_rotate(file);
		if (code == 0)
			code = evs_file_open(file);
	}
	if (code == 0)
		code = note_first(file, first);
	if (code == 0)
		code = evs_file_begin_lines(file, count);
	if (code != 0)
		return code;
	file->torn = true;
	code = write_all(file, data, length);
	if (code != 0)
	{
		char		error[EVS_SINK_ERROR_MAX];

		/* If this fails it is tried again before the next write. */
		memcpy(error, file->error, sizeof(error));
		mend(file);
		memcpy(file->error, error, sizeof(error));
		return code;
	}
	file->torn = false;
	file->size += length;
	if (file->counts_from >= 0)
		file->position = last;
	return 0;
}
