/*
 * catalog.c
 *	  Where evstore's relations are, and who may use them.
 *
 * OIDs are looked up by name once and kept until any of them is invalidated,
 * which also happens when the extension is dropped by another session.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "catalog/catalog.h"
#include "compat.h"

#define EVS_MAX_HOOKS 8

static EvsCatalog catalog;
static bool catalog_valid = false;
static bool callback_registered = false;
static EvsInvalidateHook hooks[EVS_MAX_HOOKS];
static int	nhooks = 0;
static EvsTableVersion *versions = NULL;

static void
relcache_callback(Datum arg, Oid relid)
{
	if (relid == InvalidOid ||
		relid == catalog.event_log || relid == catalog.stream ||
		relid == catalog.early_id || relid == catalog.sealed || relid == catalog.instance ||
		relid == catalog.safe_point || relid == catalog.position_seq ||
		relid == catalog.stream_id_seq || relid == catalog.events_view ||
		relid == catalog.subscription ||
		relid == catalog.slot_state || relid == catalog.subscription_member ||
		relid == catalog.subscriptions_view || relid == catalog.snapshot ||
		relid == catalog.projection || relid == catalog.aggregate || relid == catalog.relay ||
		relid == catalog.saga || relid == catalog.saga_instance || relid == catalog.saga_step ||
		relid == catalog.saga_mail)
		catalog_valid = false;

	for (EvsTableVersion *version = versions; version != NULL; version = version->next)
		if (relid == InvalidOid || relid == version->relid || !OidIsValid(version->relid))
			version->number++;
	for (int i = 0; i < nhooks; i++)
		hooks[i] (relid);
}

uint64
evs_table_version(EvsTableVersion *version)
{
	if (!version->watched)
	{
		version->next = versions;
		versions = version;
		version->watched = true;
	}
	return version->number;
}

void
evs_catalog_on_invalidate(EvsInvalidateHook hook)
{
	Assert(nhooks < EVS_MAX_HOOKS);
	hooks[nhooks++] = hook;
}

static void
throw_not_installed(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("extension \"evstore\" is not installed in this database"),
			 errhint("Run CREATE EXTENSION evstore.")));
}

static Oid
lookup(Oid schema, const char *name)
{
	Oid			relid = get_relname_relid(name, schema);

	if (!OidIsValid(relid))
		throw_not_installed();
	return relid;
}

/*
 * Citus keeps the rows of a distributed table in shards; a direct insert into
 * the table of that name would succeed and never be seen again.
 */
static void
refuse_distributed_tables(void)
{
	Oid			relid = get_relname_relid("pg_dist_partition", PG_CATALOG_NAMESPACE);
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	AttrNumber	attno;

	if (likely(!OidIsValid(relid)))
		return;
	attno = get_attnum(relid, "logicalrelid");
	if (attno == InvalidAttrNumber)
		return;

	rel = table_open(relid, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;
		Oid			distributed = DatumGetObjectId(heap_getattr(tuple, attno,
																RelationGetDescr(rel),
																&isnull));

		if (distributed == catalog.event_log || distributed == catalog.stream)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("evstore's tables cannot be distributed by Citus"),
					 errhint("Undistribute table \"%s\" with undistribute_table().",
							 get_rel_name(distributed))));
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
}

static void
fill_catalog(void)
{
	Oid			schema = get_namespace_oid("evstore", true);

	if (!OidIsValid(schema))
		throw_not_installed();
	catalog.schema = schema;
	catalog.event_log = lookup(schema, "event_log");
	catalog.stream = lookup(schema, "stream");
	catalog.stream_pkey = lookup(schema, "stream_pkey");
	catalog.stream_name_key = lookup(schema, "stream_name_key");
	catalog.stream_restricted_idx = lookup(schema, "stream_restricted_idx");
	catalog.early_id = lookup(schema, "early_id");
	catalog.early_id_pkey = lookup(schema, "early_id_pkey");
	catalog.sealed = lookup(schema, "sealed");
	catalog.instance = lookup(schema, "instance");
	catalog.safe_point = lookup(schema, "safe_point");
	catalog.position_seq = lookup(schema, "position_seq");
	catalog.stream_id_seq = lookup(schema, "stream_id_seq");
	catalog.events_view = lookup(schema, "events");
	catalog.subscription = lookup(schema, "subscription");
	catalog.subscription_name_key = lookup(schema, "subscription_name_key");
	catalog.epoch_seq = lookup(schema, "epoch_seq");
	catalog.slot_state = lookup(schema, "slot_state");
	catalog.slot_state_pkey = lookup(schema, "slot_state_pkey");
	catalog.subscription_member = lookup(schema, "subscription_member");
	catalog.subscription_member_pkey = lookup(schema, "subscription_member_pkey");
	catalog.subscriptions_view = lookup(schema, "subscriptions");
	catalog.snapshot = lookup(schema, "snapshot");
	catalog.snapshot_pkey = lookup(schema, "snapshot_pkey");
	catalog.projection = lookup(schema, "projection");
	catalog.relay = lookup(schema, "relay");
	catalog.aggregate = lookup(schema, "aggregate");
	catalog.saga = lookup(schema, "saga");
	catalog.saga_instance = lookup(schema, "saga_instance");
	catalog.saga_instance_pkey = lookup(schema, "saga_instance_pkey");
	catalog.saga_instance_key = lookup(schema, "saga_instance_business_key_key");
	catalog.saga_instance_due_idx = lookup(schema, "saga_instance_due_idx");
	catalog.saga_step = lookup(schema, "saga_step");
	catalog.saga_mail = lookup(schema, "saga_mail");
	catalog.saga_mail_saga_idx = lookup(schema, "saga_mail_saga_idx");
	catalog.saga_mail_definition_idx = lookup(schema, "saga_mail_definition_idx");
	catalog.saga_step_activity_idx = lookup(schema, "saga_step_activity_idx");
	catalog.saga_step_lease_idx = lookup(schema, "saga_step_lease_idx");
	catalog.saga_step_relay_idx = lookup(schema, "saga_step_relay_idx");
	catalog.event_type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("event"),
										 ObjectIdGetDatum(schema));
	refuse_distributed_tables();
}

const EvsCatalog *
evs_catalog(void)
{
	if (likely(catalog_valid))
		return &catalog;

	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
		callback_registered = true;
	}

	/* An invalidation that arrives during the look-ups must not be lost. */
	do
	{
		Relation	log;

		CHECK_FOR_INTERRUPTS();
		catalog_valid = true;
		PG_TRY();
		{
			fill_catalog();
			log = try_relation_open(catalog.event_log, AccessShareLock);
			if (log == NULL)
				throw_not_installed();
			catalog.owner = log->rd_rel->relowner;
			relation_close(log, AccessShareLock);
		}
		PG_CATCH();
		{
			catalog_valid = false;
			PG_RE_THROW();
		}
		PG_END_TRY();
	} while (!catalog_valid);

	return &catalog;
}

bool
evs_catalog_exists(void)
{
	Oid			schema = get_namespace_oid("evstore", true);

	return OidIsValid(schema) && OidIsValid(get_relname_relid("event_log", schema)) &&
		OidIsValid(get_extension_oid("evstore", true));
}

Oid
evs_catalog_lookup(const char *name)
{
	return lookup(evs_catalog()->schema, name);
}

Relation
evs_open(Oid relid, LOCKMODE lockmode)
{
	Relation	rel = try_relation_open(relid, lockmode);

	if (rel == NULL)
		throw_not_installed();
	return rel;
}

static void
check_right(Oid view, const char *name, AclMode right)
{
	AclResult	result = pg_class_aclcheck(view, GetUserId(), right);

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_VIEW, name);
}

void
evs_check_right(AclMode right)
{
	check_right(evs_catalog()->events_view, "evstore.events", right);
}

void
evs_check_consumer(AclMode right)
{
	check_right(evs_catalog()->subscriptions_view, "evstore.subscriptions", right);
}

void
evs_check_internal(void)
{
	if (!has_privs_of_role(GetUserId(), evs_catalog()->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("this function is internal to evstore")));
}

void
evs_check_may_act_as(Oid role, const char *name)
{
	if (!has_privs_of_role(GetUserId(), role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be able to act as role \"%s\"", name)));
}
