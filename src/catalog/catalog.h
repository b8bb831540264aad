/*
 * catalog.h
 *	  Where evstore's relations are, and who may use them.
 */
#ifndef EVSTORE_CATALOG_H
#define EVSTORE_CATALOG_H

#include "nodes/parsenodes.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

typedef struct EvsCatalog
{
	Oid			schema;
	Oid			owner;			/* of the extension's tables */
	Oid			event_log;
	Oid			stream;
	Oid			stream_pkey;
	Oid			stream_name_key;
	Oid			stream_restricted_idx;
	Oid			early_id;
	Oid			early_id_pkey;
	Oid			sealed;
	Oid			instance;
	Oid			safe_point;
	Oid			position_seq;
	Oid			stream_id_seq;
	Oid			events_view;
	Oid			subscription;
	Oid			subscription_name_key;
	Oid			epoch_seq;
	Oid			slot_state;
	Oid			slot_state_pkey;
	Oid			subscription_member;
	Oid			subscription_member_pkey;
	Oid			subscriptions_view;
	Oid			snapshot;
	Oid			snapshot_pkey;
	Oid			projection;
	Oid			relay;
	Oid			aggregate;
	Oid			saga;
	Oid			saga_instance;
	Oid			saga_instance_pkey;
	Oid			saga_instance_key;	/* the business key */
	Oid			saga_instance_due_idx;
	Oid			saga_step;
	Oid			saga_mail;
	Oid			saga_mail_saga_idx;
	Oid			saga_mail_definition_idx;
	Oid			saga_step_activity_idx;
	Oid			saga_step_lease_idx;
	Oid			saga_step_relay_idx;
	Oid			event_type;		/* evstore.event */
} EvsCatalog;

/*
 * The OIDs of this database's evstore.  Throws if the extension is not
 * installed.  The result is valid until the next call; a caller that reads
 * tables in between keeps copies.
 */
extern const EvsCatalog *evs_catalog(void);

/* Is the extension installed? */
extern bool evs_catalog_exists(void);

/* The OID of one of our relations that is not in there, by its name. */
extern Oid	evs_catalog_lookup(const char *name);

/* Open one of our relations; a clear error if the extension is just gone. */
extern Relation evs_open(Oid relid, LOCKMODE lockmode);

/*
 * Throw unless the current user has the right on evstore: ACL_SELECT to read,
 * ACL_INSERT to append, ACL_UPDATE to change streams, ACL_DELETE to scavenge.
 * The functions bypass the executor, so they check this themselves; the right
 * is that on the view evstore.events, see grant_access().
 */
extern void evs_check_right(AclMode right);

/* The same for the view evstore.subscriptions: ACL_UPDATE to consume. */
extern void evs_check_consumer(AclMode right);

/* Throw unless the current user can act as a role, which has this name. */
extern void evs_check_may_act_as(Oid role, const char *name);

/*
 * Throw unless the current user is as good as evstore's owner: for functions that
 * others of evstore's call.
 */
extern void evs_check_internal(void);

/*
 * A number that changes when a table of ours does, as its triggers tell: in this session
 * at once, in others when they hear of the commit.  Declare it static, with number 1;
 * who has read the table sets relid, and until then any change counts.
 */
typedef struct EvsTableVersion
{
	Oid			relid;
	uint64		number;
	bool		watched;
	struct EvsTableVersion *next;
} EvsTableVersion;

/* Needs no transaction. */
extern uint64 evs_table_version(EvsTableVersion *version);

/* Called when the schema's relations change; for caches built on them. */
typedef void (*EvsInvalidateHook) (Oid relid);
extern void evs_catalog_on_invalidate(EvsInvalidateHook hook);

#endif							/* EVSTORE_CATALOG_H */
