/*
 * instance.h
 *	  Instances of sagas as they are stored.
 */
#ifndef EVSTORE_SAGA_INSTANCE_H
#define EVSTORE_SAGA_INSTANCE_H

#include "utils/uuid.h"

#include "saga/machine.h"
#include "saga/saga.h"

/* Length of the text of a UUID, with its end. */
#define EVS_UUID_TEXT 37

typedef struct EvsInstance
{
	pg_uuid_t	id;
	char		id_text[EVS_UUID_TEXT];
	int64		definition_id;
	int			version;
	EvsSagaStatus status;
	int			priority;
	TimestampTz next_due;		/* DT_NOEND: when something comes in */
	char	   *business_key;	/* or NULL */
	int64		started_after;	/* events up to this position are not for it */
	TimestampTz started_at;
	TimestampTz ended_at;		/* 0: it has not */
	bool		has_parent;
	pg_uuid_t	parent_id;
	int64		parent_step;
	char	   *correlation_id;
	bool		has_cause;
	pg_uuid_t	causation_id;	/* the event that the next ones follow from */
	int			transitions;
	int			failures;		/* transitions in a row that could not be made */
	char	   *error;			/* what it has come to, or NULL */
	char	   *cause;
	Jsonb	   *input;
	Jsonb	   *output;			/* or NULL */
	Jsonb	   *execution;
} EvsInstance;

/* A new instance. */
typedef struct EvsInstanceStart
{
	const EvsSaga *saga;
	Jsonb	   *input;
	const char *business_key;	/* or NULL: as the definition says */
	int			priority;		/* -1: as the definition says */
	const char *correlation_id; /* or NULL: its own */
	const pg_uuid_t *causation_id;	/* or NULL */
	int64		started_after;	/* position of the event that starts it; -1: what is safe now */
	const pg_uuid_t *parent_id; /* or NULL */
	int64		parent_step;
} EvsInstanceStart;

/*
 * Start an instance, in the current transaction, which is to be committed for workers to
 * see it; no step runs here.  false: there is one with this business key, of any status,
 * and id is its.  Rights are the caller's business.  Throws 22023 if the input has more
 * than max_data bytes.
 */
extern bool evs_instance_start(const EvsInstanceStart *start, pg_uuid_t *id);

/* Its stream: saga-<id>. */
extern char *evs_instance_stream(const EvsInstance *instance);

extern void evs_uuid_text(const pg_uuid_t *id, char *text);

#endif							/* EVSTORE_SAGA_INSTANCE_H */
