/*
 * kafka_job.c
 *	  The thread of the sink "kafka" that waits for what blocks.
 *
 * Beginning and ending transactions are functions of librdkafka that return when
 * the brokers have answered.  They can be called with a short time to wait and then
 * called again, which continues them.  So the thread can leave a task at any time.
 * It has one task at a time, and touches nothing but what is in EvsKafkaJob.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "kafka.h"

/* How long a function of librdkafka may take, in ms. */
#define SLICE 50

/* One that cannot be continued, but begins anew: the first time, and at most. */
#define OFFSETS_SLICE 250
#define OFFSETS_SLICE_MAX 2000

/* Before one is called again that has failed at once, in ms. */
#define PAUSE 20

/*
 * What is waited for the end of a task at most, in ms: longer than a function may take.
 * rd_kafka_send_offsets_to_transaction() may take for ever, whatever time it is given
 * (librdkafka's issue 5456).
 */
#define PATIENCE 5000

bool
evs_kafka_job_init(EvsKafkaJob *job, int wake_fd)
{
	pthread_condattr_t attributes;
	bool		ok;

	job->wake_fd = wake_fd;
	pthread_mutex_init(&job->lock, NULL);
	ok = pthread_condattr_init(&attributes) == 0;
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	ok = pthread_cond_init(&job->changed, &attributes) == 0 && ok;
	pthread_condattr_destroy(&attributes);
	return ok;
}

/* ---- the thread ---- */

/* Once is enough, however often the commit is continued. */
static rd_kafka_error_t *
store_offsets(EvsKafkaJob *job)
{
	rd_kafka_error_t *error;

	if (job->offsets == NULL)
		return NULL;
	error = rd_kafka_send_offsets_to_transaction(job->producer, job->offsets, job->group,
												 job->offsets_slice);
	if (error == NULL)
	{
		rd_kafka_topic_partition_list_destroy(job->offsets);
		job->offsets = NULL;
	}
	else if (job->offsets_slice < OFFSETS_SLICE_MAX)
		job->offsets_slice *= 2;
	return error;
}

static rd_kafka_error_t *
call(EvsKafkaJob *job, EvsKafkaTask task)
{
	rd_kafka_error_t *error;

	if (task == EVS_KAFKA_INIT)
		return rd_kafka_init_transactions(job->producer, SLICE);
	error = store_offsets(job);
	return error != NULL ? error : rd_kafka_commit_transaction(job->producer, SLICE);
}

static struct timespec
from_now(int ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += ms % 1000 * 1000000;
	if (until.tv_nsec >= 1000000000)
	{
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	return until;
}

static bool
is_cancelled(EvsKafkaJob *job, bool pause)
{
	struct timespec until = from_now(PAUSE);
	bool		cancelled;

	pthread_mutex_lock(&job->lock);
	while (pause && !job->cancelled &&
		   pthread_cond_timedwait(&job->changed, &job->lock, &until) != ETIMEDOUT)
		;
	cancelled = job->cancelled;
	pthread_mutex_unlock(&job->lock);
	return cancelled;
}

static rd_kafka_error_t *
do_task(EvsKafkaJob *job, EvsKafkaTask task)
{
	rd_kafka_error_t *error;

	while ((error = call(job, task)) != NULL && rd_kafka_error_is_retriable(error) &&
		   !rd_kafka_error_txn_requires_abort(error) && !rd_kafka_error_is_fatal(error) &&
		   !is_cancelled(job, rd_kafka_error_code(error) != RD_KAFKA_RESP_ERR__TIMED_OUT))
		rd_kafka_error_destroy(error);
	return error;
}

static void *
run(void *arg)
{
	EvsKafkaJob *job = arg;

	pthread_mutex_lock(&job->lock);
	while (!job->ending)
	{
		rd_kafka_error_t *error;
		EvsKafkaTask task = job->task;

		if (task == EVS_KAFKA_NO_TASK)
		{
			pthread_cond_wait(&job->changed, &job->lock);
			continue;
		}
		pthread_mutex_unlock(&job->lock);
		error = do_task(job, task);
		pthread_mutex_lock(&job->lock);
		job->task = EVS_KAFKA_NO_TASK;
		job->error = error;
		pthread_cond_broadcast(&job->changed);
		evs_kafka_wake(job->wake_fd);
	}
	pthread_mutex_unlock(&job->lock);
	return NULL;
}

/* ---- for the main thread ---- */

/* No signal is for it: it would run the host's handlers. */
static bool
start_thread(EvsKafkaJob *job)
{
	sigset_t	all;
	sigset_t	before;

	if (job->started)
		return true;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	job->started = pthread_create(&job->thread, NULL, run, job) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return job->started;
}

bool
evs_kafka_job_start(EvsKafkaJob *job, EvsKafkaTask task, rd_kafka_t *producer)
{
	if (!start_thread(job))
		return false;
	pthread_mutex_lock(&job->lock);
	job->task = task;
	job->producer = producer;
	job->cancelled = false;
	job->offsets_slice = OFFSETS_SLICE;
	pthread_cond_broadcast(&job->changed);
	pthread_mutex_unlock(&job->lock);
	return true;
}

bool
evs_kafka_job_ended(EvsKafkaJob *job, rd_kafka_error_t **error)
{
	bool		ended;

	pthread_mutex_lock(&job->lock);
	ended = job->task == EVS_KAFKA_NO_TASK;
	*error = ended ? job->error : NULL;
	if (ended)
		job->error = NULL;
	pthread_mutex_unlock(&job->lock);
	return ended;
}

void
evs_kafka_job_cancel(EvsKafkaJob *job)
{
	pthread_mutex_lock(&job->lock);
	job->cancelled = true;
	pthread_cond_broadcast(&job->changed);
	pthread_mutex_unlock(&job->lock);
}

bool
evs_kafka_job_wait(EvsKafkaJob *job)
{
	struct timespec until = from_now(PATIENCE);
	rd_kafka_error_t *error;
	bool		ended;

	evs_kafka_job_cancel(job);
	pthread_mutex_lock(&job->lock);
	while (job->task != EVS_KAFKA_NO_TASK &&
		   pthread_cond_timedwait(&job->changed, &job->lock, &until) != ETIMEDOUT)
		;
	pthread_mutex_unlock(&job->lock);
	ended = evs_kafka_job_ended(job, &error);
	if (error != NULL)
		rd_kafka_error_destroy(error);
	return ended;
}

void
evs_kafka_job_free(EvsKafkaJob *job)
{
	if (job->started)
	{
		pthread_mutex_lock(&job->lock);
		job->ending = true;
		pthread_cond_broadcast(&job->changed);
		pthread_mutex_unlock(&job->lock);
		pthread_join(job->thread, NULL);
	}
	if (job->offsets != NULL)
		rd_kafka_topic_partition_list_destroy(job->offsets);
	if (job->group != NULL)
		rd_kafka_consumer_group_metadata_destroy(job->group);
	pthread_cond_destroy(&job->changed);
	pthread_mutex_destroy(&job->lock);
}
