/*
 * definition.h
 *	  Projections as they are defined.
 *
 * A projection is a subscription that workers consume.  The term is that of
 * CQRS (Young): a read model that is a function of the events.
 */
#ifndef EVSTORE_PROJECTION_DEFINITION_H
#define EVSTORE_PROJECTION_DEFINITION_H

#include "nodes/pg_list.h"

/* Columns of evstore.projection that C code reads without SQL. */
#define ANUM_PROJECTION_MODE 5

typedef struct EvsProjection
{
	int64		id;				/* that of its subscription */
	char	   *name;			/* likewise */
	char	   *owner;			/* name of a role */
	char	   *handler;		/* quoted name of a function */
	char	   *search_path;	/* that the handler runs with */
	char	   *title;			/* for messages: of a rebuild, the projection's name */
	bool		batched;		/* the handler takes an array */
	bool		transforms;		/* the handler returns jsonb: it is a relay's */
	bool		is_route;		/* what the handler appends is counted */
	bool		is_inline;
	bool		stops;			/* on an error; else the event is parked */
	bool		notify;
	bool		paused;			/* or stopped by an error, or inline */
	bool		faulted;		/* stopped by an error */
	int			batch_size;
	int			timeout;		/* of one call, ms; 0 = none */
	int			slots;
	int64		rebuild_of;		/* 0 = it is not the rebuild of another one */
	List	   *depends_on;		/* names of others that must have handled an event before */
	uint32		dependents;		/* wait buckets of those that depend on it */
} EvsProjection;

/* All, rebuilds too, by id; in the current memory context. */
extern List *evs_projection_list(void);

/* The same, kept by the session: valid until the next call. */
extern List *evs_projection_kept(void);

/* The projection of this name; throws VS009 if there is none. */
extern EvsProjection *evs_projection_find(const char *name);

/* The rebuild of a projection, or NULL. */
extern EvsProjection *evs_projection_find_rebuild(int64 id);

/* Changes when any projection does, or a subscription.  Needs no transaction. */
extern uint64 evs_projection_version(void);

/* Are there inline ones?  Cheap. */
extern bool evs_projection_any_inline(void);

/* The role that it runs as; throws if it has been dropped. */
extern Oid	evs_projection_owner(const EvsProjection *projection);

#endif							/* EVSTORE_PROJECTION_DEFINITION_H */
