/*
 * file_rotate.c
 *	  Rotation: a file that is full gets the position of its first line as the
 *	  last part of its name.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "file.h"

#define DIGITS 20

bool
evs_file_is_full(const EvsFile *file, size_t more)
{
	const EvsFileOptions *options = file->options;

	if (file->size == 0)
		return false;
	if (options->rotate_bytes > 0 && file->size + (int64_t) more > options->rotate_bytes)
		return true;
	return evs_file_seconds_left(file) == 0;
}

int64_t
evs_file_seconds_left(const EvsFile *file)
{
	int64_t		left;

	if (file->options->rotate_seconds == 0 || file->fd < 0 || file->size == 0)
		return -1;
	left = file->since + file->options->rotate_seconds - time(NULL);
	return left > 0 ? left : 0;
}

/*
 * A name that is free.  It can be taken when the relay was set back and sends the
 * same again.
 */
static void
choose_name(const EvsFile *file, char *name)
{
	struct stat other;

	snprintf(name, NAME_MAX + 1, "%s.%0*" PRId64, file->name, DIGITS, file->first);
	for (int i = 1; fstatat(file->dir, name, &other, AT_SYMLINK_NOFOLLOW) == 0; i++)
		snprintf(name, NAME_MAX + 1, "%s.%0*" PRId64 ".%d", file->name, DIGITS, file->first, i);
}

/* ---- keep ---- */

typedef struct Old
{
	char	   *name;
	struct timespec written;
} Old;

/* NAME.DIGITS or NAME.DIGITS.NUMBER */
static bool
is_rotated(const EvsFile *file, const char *name)
{
	size_t		length = strlen(file->name);

	if (strncmp(name, file->name, length) != 0 || name[length] != '.')
		return false;
	name += length + 1;
	if (strspn(name, "0123456789") != DIGITS)
		return false;
	name += DIGITS;
	if (*name == '.')
		name += 1 + strspn(name + 1, "0123456789");
	return *name == '\0';
}

static int
compare_old(const void *a, const void *b)
{
	const Old  *x = a;
	const Old  *y = b;

	if (x->written.tv_sec != y->written.tv_sec)
		return x->written.tv_sec < y->written.tv_sec ? -1 : 1;
	if (x->written.tv_nsec != y->written.tv_nsec)
		return x->written.tv_nsec < y->written.tv_nsec ? -1 : 1;
	return strcmp(x->name, y->name);
}

/* Adds one to the list; returns false if there is no memory. */
static bool
add_old(Old **list, int *n, const char *name, struct timespec written)
{
	Old		   *larger = realloc(*list, (*n + 1) * sizeof(Old));
	char	   *copy = strdup(name);

	if (larger != NULL)
		*list = larger;
	if (larger == NULL || copy == NULL)
	{
		free(copy);
		return false;
	}
	larger[*n].name = copy;
	larger[*n].written = written;
	(*n)++;
	return true;
}

/*
 * Remove the oldest.  What fails now is tried again at the next rotation: that
 * there are too many files is no reason to stop.
 */
static void
remove_old(const EvsFile *file)
{
	int			fd = openat(file->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR		   *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;
	struct stat status;
	Old		   *list = NULL;
	int			n = 0;

	if (dir == NULL)
	{
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(dir)) != NULL)
		if (is_rotated(file, entry->d_name) &&
			fstatat(file->dir, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
			!add_old(&list, &n, entry->d_name, status.st_mtim))
			break;
	closedir(dir);
	qsort(list, n, sizeof(Old), compare_old);
	for (int i = 0; i < n; i++)
	{
		if (i < n - file->options->keep)
			unlinkat(file->dir, list[i].name, 0);
		free(list[i].name);
	}
	free(list);
}

/*
 * The next file, and its state, come with the next open.  A crash before that
 * leaves a state of another inode, which is not believed.
 */
int
evs_file_rotate(EvsFile *file)
{
	char		name[NAME_MAX + 1];

	choose_name(file, name);
	if (renameat(file->dir, file->name, file->dir, name) != 0)
		return evs_file_failed(file, "rename");
	if (file->options->fsync && fsync(file->dir) != 0)
		return evs_file_failed(file, "synchronise the directory of");
	if (file->options->keep > 0)
		remove_old(file);
	evs_file_close(file);
	return 0;
}
