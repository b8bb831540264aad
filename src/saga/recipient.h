/*
 * recipient.h
 *	  The instance that something is for.
 */
#ifndef EVSTORE_SAGA_RECIPIENT_H
#define EVSTORE_SAGA_RECIPIENT_H

#include "utils/jsonb.h"
#include "utils/uuid.h"

typedef struct EvsRecipient
{
	pg_uuid_t	id;
	char	   *id_text;
	int64		definition_id;
	int			version;
	char	   *saga;
	char	   *owner;
	char	   *status;
	bool		has_ended;
} EvsRecipient;

/* As it is committed now.  Throws VS009 if there is none. */
extern void evs_recipient_find(const pg_uuid_t *id, EvsRecipient *recipient);
extern void evs_recipient_find_by_key(const char *saga, const char *business_key,
									  EvsRecipient *recipient);

/* Throw 22023 if the saga has no use for so much data. */
extern void evs_saga_check_size(int64 definition_id, int version, Jsonb *data, const char *what);

#endif							/* EVSTORE_SAGA_RECIPIENT_H */
