/*
 * compensation.h
 *	  Undoing what has been done, one compensator after another.
 *
 * Private to the files of the machine.
 */
#ifndef EVSTORE_SAGA_COMPENSATION_H
#define EVSTORE_SAGA_COMPENSATION_H

#include "saga/move.h"

/* What undoes an effect. */
typedef struct EvsRemedy
{
	const EvsResource *resource;
	const EvsAslTemplate *parameters;	/* or NULL */
	int			nretriers;
	const EvsRetrier *retriers;
	double		timeout;		/* seconds; 0 = none */
	bool		when_succeeded;
	bool		when_unknown;
} EvsRemedy;

/* The policy where no definition says anything; no resource. */
extern void evs_default_remedy(EvsRemedy *remedy);

/* That of a state; false: it has none. */
extern bool evs_state_remedy(const EvsSagaState *state, EvsRemedy *remedy);

/* There is something that undoes it, with its outcome. */
extern bool evs_effect_can_be_undone(const EvsEffect *effect);

/* ---- the cursor: compensation.c ---- */

/* When it goes on by itself. */
extern TimestampTz evs_undo_due(const EvsExecution *execution);

/* Is there something to undo yet?  With all of it, if the saga compensates. */
extern bool evs_undo_is_left(const EvsMove *move);

/* Start the compensator whose turn it is, if it is due. */
extern bool evs_undo_start(EvsMove *move);

/* The one in flight has ended. */
extern void evs_undo_succeeded(EvsMove *move, Jsonb *output);
extern void evs_undo_failed(EvsMove *move, const char *error, const char *cause, EvsOutcome outcome);
extern void evs_undo_timed_out(EvsMove *move);

/* An attempt that was given up has replied all the same; false: it was none. */
extern bool evs_undo_late(EvsMove *move, bool succeeded);

/* Go on after one that gave up: with other attempts, or without it. */
extern void evs_undo_again(EvsMove *move);
extern void evs_undo_skip(EvsMove *move);

/* The effect whose compensator is under way, or NULL. */
extern EvsEffect *evs_undo_effect(const EvsExecution *execution);

/* ---- an explicit list: plan.c ---- */

/* As it came in; false: it cannot be followed, and *problem says why. */
extern bool evs_plan_read(const EvsMove *move, Jsonb *list, List **plan, char **problem);

/* The effect that an entry is about; NULL: there is none, or none that is to be undone. */
extern EvsEffect *evs_plan_effect(const EvsMove *move, const EvsPlanned *entry);

/* There is something to do for it. */
extern bool evs_plan_is_due(const EvsMove *move, const EvsPlanned *entry);
extern void evs_plan_remedy(const EvsMove *move, const EvsPlanned *entry, EvsRemedy *remedy);

/* A state of any machine of the definition, or NULL. */
extern const EvsSagaState *evs_saga_find_state(const EvsMachine *machine, const char *name);

#endif							/* EVSTORE_SAGA_COMPENSATION_H */
