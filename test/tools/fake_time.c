/*
 * fake_time.c
 *	  To be preloaded: what the time is stands in a file, whose name is in
 *	  EVS_FAKE_TIME.  "+N": N seconds later than it is; "=N": N seconds after 1970.
 *	  With the former the clock that is never set goes ahead as well.
 *
 * Nothing of the C library but system calls: sanitizers ask for the time before they
 * can do with anything else.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The character before the number, or 0 if there is no file. */
static int
read_file(long long *seconds)
{
	const char *path = getenv("EVS_FAKE_TIME");
	char		text[32];
	long		fd = path != NULL ? syscall(SYS_openat, AT_FDCWD, path, O_RDONLY) : -1;
	long		length = 0;

	*seconds = 0;
	if (fd >= 0)
	{
		length = syscall(SYS_read, fd, text, sizeof(text));
		syscall(SYS_close, fd);
	}
	for (long i = 1; i < length && text[i] >= '0' && text[i] <= '9'; i++)
		*seconds = *seconds * 10 + (text[i] - '0');
	return length > 1 ? text[0] : 0;
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
	int			rc = (int) syscall(SYS_clock_gettime, clock, now);
	long long	seconds;

	if (clock == CLOCK_MONOTONIC && read_file(&seconds) == '+')
		now->tv_sec += seconds;
	return rc;
}

time_t
time(time_t *now)
{
	struct timespec real;
	long long	seconds;
	int			how = read_file(&seconds);
	time_t		result;

	syscall(SYS_clock_gettime, CLOCK_REALTIME, &real);
	result = how == '=' ? (time_t) seconds : how == '+' ? real.tv_sec + (time_t) seconds : real.tv_sec;
	if (now != NULL)
		*now = result;
	return result;
}
