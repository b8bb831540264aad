/*
 * act_as.c
 *	  Calling a function as somebody else.
 *
 * It runs as that role in a context from which no other role can be had, as a
 * SECURITY DEFINER function does, and what it SETs ends with it.
 *
 * The limit of a call is kept by a timer that ticks a few times within it:
 * setting one for each call would cost more than many a function.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "utils/guc.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "exec/act_as.h"
#include "compat.h"

/* The timer ticks so often within the limit of a call, but not more often than this, in ms. */
#define TICKS 10
#define TICK_MIN 10

/* For the timer. */
static volatile TimestampTz call_started = 0;
static volatile sig_atomic_t timed_out = false;
static volatile sig_atomic_t in_call = false;
static int64 limit = 0;			/* microseconds; 0 = none */
static TimeoutId timer = MAX_TIMEOUTS;

static void
tick(void)
{
	if (in_call && limit > 0 && call_started + limit <= GetCurrentTimestamp())
	{
		timed_out = true;
		InterruptPending = true;
		QueryCancelPending = true;
	}
}

void
evs_act_interrupt(void)
{
	if (in_call)
	{
		InterruptPending = true;
		QueryCancelPending = true;
	}
}

bool
evs_act_timed_out(void)
{
	bool		result = timed_out;

	timed_out = false;
	return result;
}

/* false: none is wanted, or that of an outer call is going already. */
static bool
start_timer(int ms)
{
	int			interval = Max(ms / TICKS, TICK_MIN);

	if (ms == 0 || limit > 0)
		return false;
	timed_out = false;
	limit = (int64) ms * 1000;
	if (timer == MAX_TIMEOUTS)
		timer = RegisterTimeout(USER_TIMEOUT, tick);
	enable_timeout_every(timer, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), interval),
						 interval);
	return true;
}

static void
stop_timer(void)
{
	disable_timeout(timer, false);
	limit = 0;
	/* it may have fired when there was no call any more to end */
	if (timed_out)
		QueryCancelPending = false;
	timed_out = false;
}

static void
set_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/*
 * Deferred triggers run at the end of the transaction, as whoever has begun it:
 * who calls the function of somebody else must not run his triggers, too.
 */
static int
restriction(Oid user, Oid role)
{
	return SECURITY_LOCAL_USERID_CHANGE |
		(user == role ? 0 : SECURITY_RESTRICTED_OPERATION);
}

void
evs_act_begin(EvsActAs *act, Oid role, const char *search_path, int timeout, bool may_wait)
{
	GetUserIdAndSecContext(&act->user, &act->sec_context);
	act->guc_level = NewGUCNestLevel();
	SetUserIdAndSecContext(role, act->sec_context | restriction(act->user, role));
	set_local("search_path", search_path);
	if (may_wait && MyBgworkerEntry != NULL)
		set_local("lock_timeout", "0");
	act->has_timer = start_timer(timeout);
}

void
evs_act_abandon(EvsActAs *act)
{
	if (act->has_timer)
		stop_timer();
	act->has_timer = false;
}

void
evs_act_end(EvsActAs *act)
{
	evs_act_abandon(act);
	/* not what it has set, either */
	AtEOXact_GUC(false, act->guc_level);
	SetUserIdAndSecContext(act->user, act->sec_context);
}

static void
start_clock(const EvsActAs *act)
{
	if (act->has_timer)
		call_started = GetCurrentTimestamp();
	in_call = true;
}

Datum
evs_act_call(const EvsActAs *act, FmgrInfo *function, Datum argument, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 1);
	PgStat_FunctionCallUsage usage;
	bool		was_in_call = in_call;
	Datum		result = (Datum) 0;

	InitFunctionCallInfoData(*fcinfo, function, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = argument;
	fcinfo->args[0].isnull = false;
	pgstat_init_function_usage(fcinfo, &usage);
	start_clock(act);
	PG_TRY();
	{
		result = FunctionCallInvoke(fcinfo);
	}
	PG_FINALLY();
	{
		in_call = was_in_call;
	}
	PG_END_TRY();
	pgstat_end_function_usage(&usage, true);
	CommandCounterIncrement();
	*isnull = fcinfo->isnull;
	return result;
}

void
evs_act_check_constraints(const EvsActAs *act)
{
	ConstraintsSetStmt *statement = makeNode(ConstraintsSetStmt);
	bool		was_in_call = in_call;

	start_clock(act);
	PG_TRY();
	{
		AfterTriggerSetState(statement);
	}
	PG_FINALLY();
	{
		in_call = was_in_call;
	}
	PG_END_TRY();
}

bool
evs_error_is_transient(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case MAKE_SQLSTATE('0', '8', '0', '0', '0'):
		case MAKE_SQLSTATE('4', '0', '0', '0', '0'):
		case MAKE_SQLSTATE('5', '3', '0', '0', '0'):
		case MAKE_SQLSTATE('5', '7', '0', '0', '0'):
		case MAKE_SQLSTATE('5', '8', '0', '0', '0'):
			return true;
	}
	return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		sqlerrcode == ERRCODE_READ_ONLY_SQL_TRANSACTION ||
		sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE ||
		sqlerrcode == ERRCODE_UNDEFINED_TABLE || sqlerrcode == ERRCODE_UNDEFINED_SCHEMA;
}
