/*
 * admin_funcs.c
 *	  SQL functions for the lifecycle of streams and for operators.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/guc.h"
#include "base/xact.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "stream/batch.h"
#include "stream/leaf.h"
#include "stream/lifecycle.h"
#include "stream/partition.h"
#include "stream/position.h"
#include "stream/safe_point.h"
#include "stream/seal.h"
#include "stream/stream.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_delete_stream);
PG_FUNCTION_INFO_V1(evs_tombstone_stream);
PG_FUNCTION_INFO_V1(evs_truncate_stream);
PG_FUNCTION_INFO_V1(evs_set_stream);
PG_FUNCTION_INFO_V1(evs_scavenge);
PG_FUNCTION_INFO_V1(evs_create_partitions);
PG_FUNCTION_INFO_V1(evs_record_safe_position);
PG_FUNCTION_INFO_V1(evs_adopt);
PG_FUNCTION_INFO_V1(evs_is_adopted);
PG_FUNCTION_INFO_V1(evs_last_position);
PG_FUNCTION_INFO_V1(evs_now);

static char *
get_stream_name(FunctionCallInfo fcinfo)
{
	return evs_stream_check_name(PG_ARGISNULL(0) ? NULL :
								 (struct varlena *) PG_GETARG_TEXT_PP(0), "stream");
}

static int64
get_expected(FunctionCallInfo fcinfo)
{
	return evs_batch_expected(PG_ARGISNULL(1), PG_ARGISNULL(1) ? 0 : PG_GETARG_INT64(1));
}

Datum
evs_delete_stream(PG_FUNCTION_ARGS)
{
	char	   *stream = get_stream_name(fcinfo);

	PG_RETURN_INT64(evs_lifecycle_delete(stream, get_expected(fcinfo)));
}

Datum
evs_tombstone_stream(PG_FUNCTION_ARGS)
{
	char	   *stream = get_stream_name(fcinfo);
	char	   *reason = PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2));

	PG_RETURN_INT64(evs_lifecycle_tombstone(stream, get_expected(fcinfo), reason));
}

Datum
evs_truncate_stream(PG_FUNCTION_ARGS)
{
	char	   *stream = get_stream_name(fcinfo);

	if (PG_ARGISNULL(1))
		evs_throw_null("before_version");
	if (PG_GETARG_INT64(1) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"before_version\" must not be negative")));
	PG_RETURN_INT64(evs_lifecycle_truncate(stream, PG_GETARG_INT64(1)));
}

static bool
is_negative(const Interval *interval)
{
	Interval	zero = {0};

	return DatumGetBool(DirectFunctionCall2(interval_lt,
											IntervalPGetDatum(unconstify(Interval *, interval)),
											IntervalPGetDatum(&zero)));
}

/* set_stream(stream, max_count, max_age, metadata) */
Datum
evs_set_stream(PG_FUNCTION_ARGS)
{
	char	   *stream = get_stream_name(fcinfo);
	int64		max_count = PG_ARGISNULL(1) ? -1 : PG_GETARG_INT64(1);
	Interval   *max_age = PG_ARGISNULL(2) ? NULL : PG_GETARG_INTERVAL_P(2);
	Jsonb	   *metadata = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3);

	if (!PG_ARGISNULL(1) && max_count < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max_count\" must not be negative"),
				 errhint("0 removes the limit, null leaves it as it is.")));
	if (max_age != NULL && is_negative(max_age))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max_age\" must not be negative"),
				 errhint("0 removes the limit, null leaves it as it is.")));
	if (metadata != NULL && !JB_ROOT_IS_OBJECT(metadata))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"metadata\" must be a JSON object")));
	evs_lifecycle_set(stream, max_count, max_age, metadata);
	PG_RETURN_VOID();
}

Datum
evs_scavenge(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	evs_lifecycle_scavenge((ReturnSetInfo *) fcinfo->resultinfo);
	return (Datum) 0;
}

/* create_partitions(n): n leaves more after the newest; returns how many */
Datum
evs_create_partitions(PG_FUNCTION_ARGS)
{
	int32		n = PG_GETARG_INT32(0);

	PreventCommandIfReadOnly("evstore create_partitions");
	if (n < 1 || n > 10000)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"n\" must be between 1 and 10000")));
	evs_check_right(ACL_UPDATE);
	PG_RETURN_INT32(evs_partition_make(0, n, evs_guc_partition_size));
}

/* record_safe_position(): write the safe position down for standbys */
Datum
evs_record_safe_position(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("evstore record_safe_position");
	evs_check_right(ACL_UPDATE);
	PG_RETURN_INT64(evs_safe_point_record());
}

/* adopt(): this database is the one that acts from now on; a restore is over */
Datum
evs_adopt(PG_FUNCTION_ARGS)
{
	/* what the other side has of a relay may be the original's */
	static EvsSpiPlan plan = {.sql = "UPDATE evstore.relay SET token = gen_random_uuid()"};

	PreventCommandIfReadOnly("evstore adopt");
	evs_check_right(ACL_UPDATE);
	evs_seal();
	if (!evs_instance_is_ours())
		(void) evs_spi_call(&plan, NULL, NULL);
	evs_instance_adopt();
	CommandCounterIncrement();
	evs_xact_request_worker();
	PG_RETURN_VOID();
}

/* _is_adopted(system_identifier, database_oid): is the instance row ours? */
Datum
evs_is_adopted(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(evs_instance_is_here(PG_GETARG_INT64(0), PG_GETARG_OID(1)));
}

/* _last_position(): the last position that was drawn */
Datum
evs_last_position(PG_FUNCTION_ARGS)
{
	evs_check_right(ACL_SELECT);
	PG_RETURN_INT64(evs_position_last());
}

/* _now(): what evstore takes for now */
Datum
evs_now(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(evs_clock_now());
}
