/*
 * signal.h
 *	  Signals: what is said to an instance by name, now or before it asks.
 */
#ifndef EVSTORE_SAGA_SIGNAL_H
#define EVSTORE_SAGA_SIGNAL_H

#include "saga/recipient.h"

/*
 * false: there has been one of this name, and this one counts for nothing.  Throws VS009 if
 * the instance has ended, 22023 if the payload is too large.
 */
extern bool evs_saga_signal(const EvsRecipient *recipient, const char *name, Jsonb *payload);

#endif							/* EVSTORE_SAGA_SIGNAL_H */
