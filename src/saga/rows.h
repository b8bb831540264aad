/*
 * rows.h
 *	  Rows of sagas' tables, as a transition reads and writes them.
 *
 * Directly, and with SnapshotSelf: the instance is locked first, and what is read
 * afterwards is the latest truth at every isolation level.
 */
#ifndef EVSTORE_SAGA_ROWS_H
#define EVSTORE_SAGA_ROWS_H

#include "executor/tuptable.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"

#include "saga/instance.h"

/* Columns of the tables; a test compares them with the catalog. */
enum
{
	Anum_saga_instance_id = 1,
	Anum_saga_instance_definition_id,
	Anum_saga_instance_version,
	Anum_saga_instance_status,
	Anum_saga_instance_priority,
	Anum_saga_instance_next_due,
	Anum_saga_instance_business_key,
	Anum_saga_instance_started_after,
	Anum_saga_instance_started_at,
	Anum_saga_instance_updated_at,
	Anum_saga_instance_ended_at,
	Anum_saga_instance_parent_id,
	Anum_saga_instance_parent_step,
	Anum_saga_instance_correlation_id,
	Anum_saga_instance_causation_id,
	Anum_saga_instance_transitions,
	Anum_saga_instance_failures,
	Anum_saga_instance_error,
	Anum_saga_instance_cause,
	Anum_saga_instance_last_error,
	Anum_saga_instance_input,
	Anum_saga_instance_output,
	Anum_saga_instance_execution
};

enum
{
	Anum_saga_step_saga_id = 1,
	Anum_saga_step_step,
	Anum_saga_step_state,
	Anum_saga_step_visit,
	Anum_saga_step_attempt,
	Anum_saga_step_kind,
	Anum_saga_step_resource,
	Anum_saga_step_compensates,
	Anum_saga_step_status,
	Anum_saga_step_outcome,
	Anum_saga_step_started_at,
	Anum_saga_step_ended_at,
	Anum_saga_step_timeout_at,
	Anum_saga_step_heartbeat,
	Anum_saga_step_heartbeat_at,
	Anum_saga_step_token,
	Anum_saga_step_name,
	Anum_saga_step_key,
	Anum_saga_step_owner,
	Anum_saga_step_worker,
	Anum_saga_step_fetched_at,
	Anum_saga_step_position,
	Anum_saga_step_child_id,
	Anum_saga_step_error,
	Anum_saga_step_cause,
	Anum_saga_step_input,
	Anum_saga_step_output
};

enum
{
	Anum_saga_mail_id = 1,
	Anum_saga_mail_saga_id,
	Anum_saga_mail_definition_id,
	Anum_saga_mail_kind,
	Anum_saga_mail_step,
	Anum_saga_mail_name,
	Anum_saga_mail_payload,
	Anum_saga_mail_error,
	Anum_saga_mail_cause,
	Anum_saga_mail_created_by,
	Anum_saga_mail_created_at
};

typedef enum EvsLockResult
{
	EVS_LOCKED,
	EVS_LOCK_BUSY,				/* somebody else has it */
	EVS_LOCK_GONE
} EvsLockResult;

/* An instance that is locked to the end of the transaction. */
typedef struct EvsLockedInstance
{
	EvsInstance instance;
	TupleTableSlot *slot;		/* as it was */
} EvsLockedInstance;

/* Without waiting.  In the current memory context. */
extern EvsLockResult evs_rows_lock_instance(Relation rel, const pg_uuid_t *id,
											EvsLockedInstance *locked);

/* Store what has changed of it; nothing has kept it from going on. */
extern void evs_rows_store_instance(Relation rel, EvsLockedInstance *locked, TimestampTz now);
extern void evs_rows_unlock_instance(EvsLockedInstance *locked);

/*
 * Insert it unless there is one with its business key, or somebody is making one, for
 * whom it waits: then false, and *id is that one's.
 */
extern bool evs_rows_insert_instance(const EvsInstance *instance, TimestampTz now, pg_uuid_t *id);

/* What has come in for an instance. */
typedef struct EvsMail
{
	ItemPointerData tid;
	char	   *kind;
	int64		step;			/* 0 = of none */
	char	   *name;			/* or NULL, as are all that follow */
	Jsonb	   *payload;
	char	   *error;
	char	   *cause;
} EvsMail;

/* The oldest one; false if there is none. */
extern bool evs_rows_oldest_mail(Relation rel, const pg_uuid_t *saga_id, EvsMail *mail);
extern void evs_rows_delete_mail(Relation rel, EvsMail *mail);

/* A new row of saga_step; ended_at 0: it is running, then result is NULL. */
struct EvsStartedStep;
struct EvsStepResult;
extern void evs_rows_insert_step(const struct EvsStartedStep *step,
								 const struct EvsStepResult *result, TimestampTz ended_at);

#endif							/* EVSTORE_SAGA_ROWS_H */
