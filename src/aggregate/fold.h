/*
 * fold.h
 *	  A left fold of events into a state by a transition function.
 *
 * The term is that of functional programming: state = f(... f(f(initial, e1),
 * e2) ..., en).
 */
#ifndef EVSTORE_FOLD_H
#define EVSTORE_FOLD_H

#include "access/htup.h"
#include "utils/jsonb.h"

typedef struct EvsFold EvsFold;

/*
 * Throw unless the function has the form f(jsonb, evstore.event) RETURNS jsonb,
 * and the current user may execute it.
 */
extern void evs_fold_check(Oid transition);

/*
 * Begin with this state.  All memory is below the current memory context.  The
 * transition is called as the current user.  Where it returns NULL, the event
 * is unknown to it: the state stays, or that is an error.
 */
extern EvsFold *evs_fold_begin(Oid transition, const Jsonb *initial, bool unknown_is_error);

/*
 * The next event, of type evstore.event; or as the columns of one, which must stay
 * where they are during the call.
 */
extern void evs_fold_event(EvsFold *fold, HeapTupleHeader event);
extern void evs_fold_columns(EvsFold *fold, const Datum *values, const bool *nulls);

/* The state now; valid until the next event, and gone with the end. */
extern Jsonb *evs_fold_state(EvsFold *fold);

extern void evs_fold_end(EvsFold *fold);

#endif							/* EVSTORE_FOLD_H */
