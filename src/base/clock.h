/*
 * clock.h
 *	  The one source of time.
 */
#ifndef EVSTORE_CLOCK_H
#define EVSTORE_CLOCK_H

#include "datatype/timestamp.h"

extern TimestampTz evs_clock_now(void);
extern bool evs_clock_is_overridden(void);

#endif							/* EVSTORE_CLOCK_H */
