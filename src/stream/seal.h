/*
 * seal.h
 *	  Closing the store to direct INSERTs, and knowing that it is no copy.
 */
#ifndef EVSTORE_SEAL_H
#define EVSTORE_SEAL_H

/* Before the first append: from now on only evstore's functions write. */
extern void evs_seal(void);

/* Has a first append (or somebody's transaction in progress here) sealed? */
extern bool evs_is_sealed(void);

/*
 * With the very first partition: note that this database of this cluster is
 * the one that acts.
 */
extern void evs_instance_init(void);

/* Does a row of evstore.instance name this database of this cluster? */
extern bool evs_instance_is_here(int64 system_identifier, Oid database);

/* May this database act?  Not if it is a restored copy or a clone. */
extern bool evs_instance_is_ours(void);

/* Make this database of this cluster the one that acts. */
extern void evs_instance_adopt(void);

#endif							/* EVSTORE_SEAL_H */
