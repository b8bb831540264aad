/*
 * saga.h
 *	  Sagas as they are stored.
 */
#ifndef EVSTORE_SAGA_H
#define EVSTORE_SAGA_H

#include "saga/definition.h"

typedef struct EvsSaga
{
	int64		id;
	char	   *name;
	char	   *owner;			/* name of a role */
	int			version;		/* that new instances get */
	bool		paused;
	int			workers;		/* at the same time, by its options */
} EvsSaga;

/* All, by id, kept by the session: valid until the next call.  And one of them, or NULL. */
extern List *evs_saga_kept(void);
extern const EvsSaga *evs_saga_find_kept(int64 id);

/* The saga of this name, likewise; throws VS009 if there is none. */
extern const EvsSaga *evs_saga_find(const char *name);

/*
 * The same, in the current memory context, for who starts an instance, or changes it: it
 * stays there to the end of the transaction, or is all ours.
 */
extern EvsSaga *evs_saga_lock(const char *name, bool exclusive);

/* Its owner; throws if there is no such role. */
extern Oid	evs_saga_owner(const EvsSaga *saga);

/* Changes when any saga does.  Needs no transaction. */
extern uint64 evs_saga_version(void);

/*
 * A definition, compiled; kept by the session, or in the current memory context.  Throws
 * VS009 if there is none, VS010 if this version of evstore has no use for it.
 */
extern const EvsSagaDefinition *evs_saga_definition(int64 id, int version);

#endif							/* EVSTORE_SAGA_H */
