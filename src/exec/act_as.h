/*
 * act_as.h
 *	  Calling a function as somebody else.
 */
#ifndef EVSTORE_ACT_AS_H
#define EVSTORE_ACT_AS_H

#include "fmgr.h"

/* Who it was before. */
typedef struct EvsActAs
{
	Oid			user;
	int			sec_context;
	int			guc_level;
	bool		has_timer;
} EvsActAs;

/*
 * Become a role: until the end of the (sub)transaction, or evs_act_end(), no other can be
 * had.  timeout is the limit of a call in ms, 0 = none.  In a worker, may_wait tells
 * whether calls may wait for locks longer than the worker does.
 */
extern void evs_act_begin(EvsActAs *act, Oid role, const char *search_path, int timeout,
						  bool may_wait);
extern void evs_act_end(EvsActAs *act);

/* Instead of evs_act_end() when something has been thrown: what an abort does not undo. */
extern void evs_act_abandon(EvsActAs *act);

/* Call a function of one argument. */
extern Datum evs_act_call(const EvsActAs *act, FmgrInfo *function, Datum argument, bool *isnull);

/* Check constraints, and run triggers, that were deferred: as a call, which can be ended. */
extern void evs_act_check_constraints(const EvsActAs *act);

/* Was the call that has just thrown ended by the limit?  Asked once. */
extern bool evs_act_timed_out(void);

/* A worker is to end: interrupt a call that is going on.  For signal handlers. */
extern void evs_act_interrupt(void);

/*
 * Is this an error that is nobody's fault who is being called?  Of resources, operators
 * and other sessions; and that a table, a schema or a right has gone.
 */
extern bool evs_error_is_transient(int sqlerrcode);

#endif							/* EVSTORE_ACT_AS_H */
