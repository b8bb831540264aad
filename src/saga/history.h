/*
 * history.h
 *	  The history of an instance: events of its stream.
 */
#ifndef EVSTORE_SAGA_HISTORY_H
#define EVSTORE_SAGA_HISTORY_H

#include "saga/instance.h"
#include "stream/batch.h"

/* Events that are to be appended.  Begin with zeros, and the instance. */
typedef struct EvsHistory
{
	EvsInstance *instance;
	int			nevents;
	int			room;
	EvsNewEvent *events;
} EvsHistory;

/* What an action records, if it does: from now on, what the instance does follows from it. */
extern void evs_history_add(EvsHistory *history, const EvsSagaAction *action);

/* Append them, in one go. */
extern void evs_history_write(EvsHistory *history);

#endif							/* EVSTORE_SAGA_HISTORY_H */
