/*
 * sink_resolve.c
 *	  Names of hosts to addresses, without blocking the caller.
 *
 * getaddrinfo() may take half a minute, so each name has a thread of its own.
 * The thread shares no memory with anybody: it is given a copy of the name, and
 * writes what it found into a pipe, in one write that fits.  Who has lost
 * interest closes the other end and leaves the thread to itself; therefore the
 * library with the thread's code must stay where it is, and is never unloaded.
 */
#define _GNU_SOURCE				/* for dladdr() */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sink_resolve.h"

struct evs_sink_lookup
{
	int			fd;				/* the pipe's end to read from; -1: found is the result */
	evs_sink_addresses found;
};

/* What the thread is given. */
typedef struct Job
{
	int			fd;
	char		name[];
} Job;

/* A write that does not fit would not be atomic. */
typedef char found_fits_into_a_pipe[sizeof(evs_sink_addresses) <= 4096 ? 1 : -1];

static void
look_up(const char *name, int flags, evs_sink_addresses *found)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,.ai_flags = flags};
	struct addrinfo *list = NULL;

	memset(found, 0, sizeof(*found));
	found->error = getaddrinfo(name, NULL, &hints, &list);
	if (found->error != 0)
		return;
	for (struct addrinfo *a = list; a != NULL && found->count < EVS_SINK_ADDRESSES; a = a->ai_next)
		if (getnameinfo(a->ai_addr, a->ai_addrlen, found->address[found->count],
						EVS_SINK_ADDRESS_MAX, NULL, 0, NI_NUMERICHOST) == 0)
			found->count++;
	freeaddrinfo(list);
}

static void *
run_job(void *arg)
{
	Job		   *job = arg;
	evs_sink_addresses found;
	ssize_t		written;

	look_up(job->name, AI_ADDRCONFIG, &found);
	do
		written = write(job->fd, &found, sizeof(found));
	while (written < 0 && errno == EINTR);
	close(job->fd);
	free(job);
	return NULL;
}

/* Once is enough, but another time does no harm. */
static void
keep_library(void)
{
	Dl_info		info;

	if (dladdr((void *) keep_library, &info) != 0 && info.dli_fname != NULL)
		(void) dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

/* No signal is for the new thread: it would run the host's handlers. */
static int
start_thread(Job *job)
{
	sigset_t	all;
	sigset_t	before;
	pthread_attr_t attributes;
	pthread_t	thread;
	int			rc;

	keep_library();
	if (pthread_attr_init(&attributes) != 0)
		return -1;
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&thread, &attributes, run_job, job);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return rc == 0 ? 0 : -1;
}

static int
start_job(const char *name)
{
	int			ends[2];
	Job		   *job = malloc(sizeof(Job) + strlen(name) + 1);

	if (job == NULL)
		return -1;
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
	{
		free(job);
		return -1;
	}
	job->fd = ends[1];
	strcpy(job->name, name);
	if (start_thread(job) == 0)
		return ends[0];
	close(ends[0]);
	close(ends[1]);
	free(job);
	return -1;
}

evs_sink_lookup *
evs_sink_lookup_start(const char *name)
{
	evs_sink_lookup *lookup = calloc(1, sizeof(*lookup));

	if (lookup == NULL)
		return NULL;
	lookup->fd = -1;
	look_up(name, AI_NUMERICHOST, &lookup->found);
	if (lookup->found.error == 0)
		return lookup;
	lookup->fd = start_job(name);
	if (lookup->fd >= 0)
		return lookup;
	free(lookup);
	return NULL;
}

int
evs_sink_lookup_fd(const evs_sink_lookup *lookup)
{
	return lookup->fd;
}

int
evs_sink_lookup_poll(evs_sink_lookup *lookup, evs_sink_addresses *addresses)
{
	if (lookup->fd >= 0)
	{
		ssize_t		n = read(lookup->fd, &lookup->found, sizeof(lookup->found));

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n != (ssize_t) sizeof(lookup->found))
			lookup->found.error = EAI_SYSTEM;
		close(lookup->fd);
		lookup->fd = -1;
	}
	*addresses = lookup->found;
	return 1;
}

void
evs_sink_lookup_free(evs_sink_lookup *lookup)
{
	if (lookup == NULL)
		return;
	if (lookup->fd >= 0)
		close(lookup->fd);
	free(lookup);
}
