/*
 * secret_key.c
 *	  The key that secrets are sealed with: a file in the data directory.
 *
 * The file appears complete and once: it is written and flushed under another name and
 * linked to its own, which fails if there is one.  Who comes second uses the first's.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"

#include "base/debug_point.h"
#include "relay/secret_key.h"
#include "compat.h"

static void
throw_file_error(const char *action, const char *path)
{
	ereport(ERROR,
			(errcode_for_file_access(),
			 errmsg("could not %s file \"%s\": %m", action, path)));
}

bool
evs_secret_key_read(uint8 key[EVS_SECRET_KEY_SIZE])
{
	/* one more, to see that there is none */
	uint8		buf[EVS_SECRET_KEY_SIZE + 1];
	int			fd = OpenTransientFile(EVS_SECRET_KEY_FILE, O_RDONLY | PG_BINARY);
	ssize_t		length;

	if (fd < 0)
	{
		if (errno == ENOENT)
			return false;
		throw_file_error("open", EVS_SECRET_KEY_FILE);
	}
	length = read(fd, buf, sizeof(buf));
	if (length < 0)
		throw_file_error("read", EVS_SECRET_KEY_FILE);
	CloseTransientFile(fd);
	memcpy(key, buf, EVS_SECRET_KEY_SIZE);
	explicit_bzero(buf, sizeof(buf));
	if (length != EVS_SECRET_KEY_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("file \"%s\" does not hold a key of %d bytes", EVS_SECRET_KEY_FILE,
						EVS_SECRET_KEY_SIZE)));
	return true;
}

/* Only who runs the server may read it, whatever the data directory's mode is. */
static void
write_key(const char *path, const uint8 *key)
{
	int			fd;

	/* of a process that had this id and crashed */
	if (unlink(path) != 0 && errno != ENOENT)
		throw_file_error("remove", path);
	fd = OpenTransientFilePerm(path, O_CREAT | O_EXCL | O_WRONLY | PG_BINARY, S_IRUSR | S_IWUSR);
	if (fd < 0)
		throw_file_error("create", path);
	errno = 0;
	if (write(fd, key, EVS_SECRET_KEY_SIZE) != EVS_SECRET_KEY_SIZE)
	{
		if (errno == 0)
			errno = ENOSPC;
		throw_file_error("write", path);
	}
	if (pg_fsync(fd) != 0)
		throw_file_error("fsync", path);
	if (CloseTransientFile(fd) != 0)
		throw_file_error("close", path);
}

void
evs_secret_key_make(uint8 key[EVS_SECRET_KEY_SIZE])
{
	char		path[MAXPGPATH];

	if (evs_secret_key_read(key))
		return;
	if (!pg_strong_random(key, EVS_SECRET_KEY_SIZE))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	snprintf(path, sizeof(path), EVS_SECRET_KEY_FILE ".%d", MyProcPid);
	write_key(path, key);
	EVS_DEBUG_POINT("secret_key_link");
	if (link(path, EVS_SECRET_KEY_FILE) != 0 && errno != EEXIST)
		throw_file_error("link", path);
	if (unlink(path) != 0)
		throw_file_error("remove", path);
	fsync_fname(".", true);
	if (!evs_secret_key_read(key))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("file \"%s\" has been removed", EVS_SECRET_KEY_FILE)));
}
