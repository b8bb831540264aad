/*
 * fake_time.c
 *	  To be preloaded: what the time is stands in a file, whose name is in
 *	  EVS_FAKE_TIME.  "+N": N seconds later than it is; "=N": N seconds after 1970.
 *	  With the former the clock that is never set goes ahead as well.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* The character before the number, or 0 if there is no file. */
static int
read_file(long long *seconds)
{
	const char *path = getenv("EVS_FAKE_TIME");
	FILE	   *file = path != NULL ? fopen(path, "r") : NULL;
	char		how = 0;

	*seconds = 0;
	if (file != NULL && fscanf(file, "%c%lld", &how, seconds) != 2)
		how = 0;
	if (file != NULL)
		fclose(file);
	return how;
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
	int			(*real) (clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
	int			rc = real(clock, now);
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

	clock_gettime(CLOCK_REALTIME, &real);
	result = how == '=' ? (time_t) seconds : how == '+' ? real.tv_sec + (time_t) seconds : real.tv_sec;
	if (now != NULL)
		*now = result;
	return result;
}
