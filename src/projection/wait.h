/*
 * wait.h
 *	  Waiting for projections.
 */
#ifndef EVSTORE_PROJECTION_WAIT_H
#define EVSTORE_PROJECTION_WAIT_H

#include "datatype/timestamp.h"

/*
 * Until the projection has handled or parked all its events up to a position, or
 * this time.  false: it has not.
 */
extern bool evs_projection_wait(const char *name, int64 up_to, TimestampTz deadline);

#endif							/* EVSTORE_PROJECTION_WAIT_H */
