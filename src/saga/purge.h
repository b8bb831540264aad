/*
 * purge.h
 *	  Removing instances that have ended long ago.
 */
#ifndef EVSTORE_SAGA_PURGE_H
#define EVSTORE_SAGA_PURGE_H

#include "datatype/timestamp.h"

#include "saga/saga.h"

/*
 * Remove instances of a saga that ended before a time, at most so many; returns how many.
 * 0: as its option "retention" says.
 */
extern int64 evs_saga_purge(const EvsSaga *saga, TimestampTz before, int max);

#endif							/* EVSTORE_SAGA_PURGE_H */
