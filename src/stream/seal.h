/*
 * seal.h
 *	  Closing the store to direct INSERTs, and knowing that it is no copy.
 */
#ifndef EVSTORE_SEAL_H
#define EVSTORE_SEAL_H

#include "utils/relcache.h"

/* Before the first append: from now on only evstore's functions write. */
extern void evs_seal(Relation log);

/* Has a first append (or somebody's transaction in progress here) sealed? */
extern bool evs_is_sealed(void);

/* Make this database of this cluster the one that acts. */
extern void evs_instance_adopt(void);

#endif							/* EVSTORE_SEAL_H */
