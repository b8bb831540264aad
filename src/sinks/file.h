/*
 * file.h
 *	  What the parts of the file sink share.
 *
 * Functions return 0, or an errno; then what was being done, and with what, is
 * in the error of the sink.
 */
#ifndef EVSTORE_SINK_FILE_H
#define EVSTORE_SINK_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "evstore_sink.h"

/*
 * A write has at most so many bytes, unless one message has more.  So that is what
 * a crash can damage: recovery looks at no more.
 */
#define EVS_FILE_RUN_MAX ((size_t) 8 * 1024 * 1024)

/* Room for what is appended to the name of a file: rotated ones, its state. */
#define EVS_FILE_SUFFIX_MAX 48

/* The settings. */
typedef struct EvsFileOptions
{
	const char *directory;		/* the host's */
	const char *path;			/* below it */
	const char *relay;
	bool		has_topic;		/* path has {topic} */
	bool		structured;		/* lines are CloudEvents, with their position */
	bool		fsync;
	int64_t		rotate_bytes;	/* 0: never */
	int64_t		rotate_seconds; /* 0: never */
	int64_t		keep;			/* 0: all */
	mode_t		mode;
} EvsFileOptions;

/* A file that is written to, and has our lock. */
typedef struct EvsFile
{
	const EvsFileOptions *options;
	char	   *path;			/* below the host's directory */
	const char *name;			/* its last part */
	char		error[EVS_SINK_ERROR_MAX];
	int			dir;			/* where it is; -1: not open */
	int			fd;
	ino_t		inode;
	off_t		size;			/* whole lines, durable ones with fsync; what
								 * follows is not ours */
	bool		torn;			/* something may follow */
	int64_t		first;			/* position of the first line; 0: not known */
	int64_t		since;			/* when it was begun, seconds since 1970 */
	off_t		counts_from;	/* see file_state.c; -1: nowhere */
	int64_t		position;		/* all that was submitted in order up to here
								 * is in it; 0: not known */
	uint64_t	used;			/* when it was used last, in calls */
} EvsFile;

/* ---- file_path.c ---- */

/* Can it be below a directory?  -1 and an error, for validate(). */
extern int	evs_file_check_path(const char *path, char *error, size_t size);

/* The path of a message; malloc'ed, NULL if there is no memory. */
extern char *evs_file_expand(const char *path, const char *topic);

/* Would a part of a message's path be too long for a name? */
extern bool evs_file_too_long(const char *path, const char *topic);

/*
 * Open the directory that a path's last part is in, and make it if it is not
 * there.  No part of the path may be a symbolic link.
 */
extern int	evs_file_open_directory(EvsFile *file);

/* ---- file_line.c ---- */

/* The position in a structured event, its member "sequence"; 0: it has none. */
extern int64_t evs_file_line_position(const char *line, size_t length);

/* The last line of the first size bytes, which end with one. */
extern int	evs_file_last_position(int fd, off_t size, int64_t *position);

/* How many bytes are whole lines, which a crash has left as they were? */
extern int	evs_file_find_end(int fd, off_t size, off_t *end);

/* ---- file_state.c ---- */

extern int	evs_file_load_state(EvsFile *file);
extern int	evs_file_save_state(EvsFile *file);

/* Before lines are appended: do they count for position? */
extern int	evs_file_begin_lines(EvsFile *file, bool count);

/* ---- file_rotate.c ---- */

/* Is it time for a new file, when so many bytes are to be added? */
extern bool evs_file_is_full(const EvsFile *file, size_t more);

/* Seconds until it is, if nothing is added; -1: never. */
extern int64_t evs_file_seconds_left(const EvsFile *file);

/* The file gets its name for ever, and is closed.  Old ones are removed. */
extern int	evs_file_rotate(EvsFile *file);

/* ---- file_log.c ---- */

/* Takes over the path.  NULL if there is no memory; not open yet. */
extern EvsFile *evs_file_create(const EvsFileOptions *options, char *path);
extern int	evs_file_open(EvsFile *file);
extern void evs_file_close(EvsFile *file);
extern void evs_file_free(EvsFile *file);

/*
 * Append whole lines, durably with fsync, or nothing.  first and last are the
 * positions in them; count: they are in order.
 */
extern int	evs_file_append(EvsFile *file, const char *data, size_t length, int64_t first,
							int64_t last, bool count);

/* Sets the error from errno, which it returns. */
extern int	evs_file_failed(EvsFile *file, const char *what);

#endif							/* EVSTORE_SINK_FILE_H */
