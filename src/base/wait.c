/*
 * wait.c
 *	  Waiting to be woken, without losing a wake-up.
 *
 * A wait queue of shared memory and the process's latch.  The dispatcher wakes
 * a queue after it has looked at the log; transactions that change something
 * about a subscription do so when they have committed.  When there is no
 * dispatcher, or no shared memory, sessions look again by themselves.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/proclist.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "base/shmem.h"
#include "base/wait.h"
#include "compat.h"

/* How often to look without a dispatcher, in ms: less often as time goes by. */
#define POLL_FIRST 5
#define POLL_MAX 100

/* And with one, in case that it is restarting. */
#define LOOK_MAX 5000

static ConditionVariable *queue = NULL;
static long poll_interval = POLL_FIRST;

static ConditionVariable *
find_queue(EvsSharedDatabase *database, int bucket, EvsWaitFor what)
{
	switch (what)
	{
		case EVS_WAIT_EVENTS:
			return &database->buckets[bucket];
		case EVS_WAIT_CHANGE:
			return &database->standby[bucket];
		case EVS_WAIT_TASKS:
			return &database->tasks[bucket];
	}
	return NULL;
}

void
evs_wait_announce(int bucket, EvsWaitFor what)
{
	EvsSharedDatabase *database = evs_shmem_database();

	poll_interval = POLL_FIRST;
	queue = NULL;
	if (database == NULL)
		return;
	queue = find_queue(database, bucket, what);
	ConditionVariablePrepareToSleep(queue);
}

/*
 * Whatever was done between looking and sleeping may have eaten the signal of
 * the latch; the place in the queue tells.
 */
static bool
was_woken(void)
{
	bool		result;

	SpinLockAcquire(&queue->mutex);
	result = !proclist_contains(&queue->wakeup, evs_procno(), cvWaitLink);
	SpinLockRelease(&queue->mutex);
	return result;
}

static bool
has_dispatcher(void)
{
	EvsSharedDatabase *database = evs_shmem_database();

	return database != NULL && database->dispatcher.pid != 0 &&
		database->dispatcher.state == EVS_WORKER_RUNNING;
}

static void
sleep_alone(long ms, uint32 wait_event)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, wait_event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

void
evs_wait_sleep(TimestampTz until)
{
	static uint32 wait_event = 0;
	long		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

	if (wait_event == 0)
		wait_event = evs_wait_event_new("EvstoreEvents");
	if (has_dispatcher())
		ms = Min(ms, LOOK_MAX);
	else
	{
		ms = Min(ms, poll_interval);
		poll_interval = Min(poll_interval * 2, POLL_MAX);
	}
	ms = Max(ms, 1);
	if (queue == NULL)
	{
		sleep_alone(ms, wait_event);
		return;
	}
	if (was_woken())
		SetLatch(MyLatch);
	(void) ConditionVariableTimedSleep(queue, ms, wait_event);
}

void
evs_wait_end(void)
{
	if (queue != NULL)
		ConditionVariableCancelSleep();
	queue = NULL;
}
