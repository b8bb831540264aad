/*
 * inline.h
 *	  Projections that run in the transaction of the append.
 */
#ifndef EVSTORE_INLINE_H
#define EVSTORE_INLINE_H

#include "projection/definition.h"

/* In _PG_init(). */
extern void evs_inline_init(void);

/*
 * Have an inline projection handle the events in (after, up_to] that are there
 * already, of which there will be no more.  Returns how many.
 */
extern int64 evs_inline_catch_up(const EvsProjection *projection, int64 after, int64 up_to);

#endif							/* EVSTORE_INLINE_H */
