/*
 * in_uuid.h
 *	  Event ids for the ids of others.
 */
#ifndef EVSTORE_IN_UUID_H
#define EVSTORE_IN_UUID_H

#include "utils/uuid.h"

/*
 * As _foreign_uuid(): an id that is a UUID is itself, and true is returned; any other
 * gives a UUID made of source and id.
 */
extern bool evs_in_uuid(pg_uuid_t *uuid, const char *source, const char *id);

/* As _name_uuid(): made of both, whatever the id looks like. */
extern void evs_in_uuid_of_name(pg_uuid_t *uuid, const char *source, const char *id);

#endif							/* EVSTORE_IN_UUID_H */
