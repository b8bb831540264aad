/*
 * read_funcs.c
 *	  SQL functions that read: arguments in, events out.
 */
#include "postgres.h"

#include "access/relation.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/supportnodes.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

#include "base/errors.h"
#include "catalog/catalog.h"
#include "stream/filter.h"
#include "stream/position.h"
#include "stream/read.h"
#include "stream/stream.h"
#include "stream/version.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_read_stream);
PG_FUNCTION_INFO_V1(evs_read_all);
PG_FUNCTION_INFO_V1(evs_test_filter);
PG_FUNCTION_INFO_V1(evs_read_category);
PG_FUNCTION_INFO_V1(evs_read_correlation);
PG_FUNCTION_INFO_V1(evs_get_event);
PG_FUNCTION_INFO_V1(evs_stream_version);
PG_FUNCTION_INFO_V1(evs_stream_exists);
PG_FUNCTION_INFO_V1(evs_safe_position);
PG_FUNCTION_INFO_V1(evs_visible_position);
PG_FUNCTION_INFO_V1(evs_visible_position_support);
PG_FUNCTION_INFO_V1(evs_last_version);

/* A limit: 0 is nothing, NULL everything, below 0 an error. */
static int64
get_max_count(FunctionCallInfo fcinfo, int arg)
{
	int64		max_count;

	if (PG_ARGISNULL(arg))
		return EVS_READ_ALL;
	max_count = PG_GETARG_INT64(arg);
	if (max_count < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"max_count\" must not be negative"),
				 errhint("0 returns nothing, null everything.")));
	return max_count;
}

static bool
get_backward(FunctionCallInfo fcinfo, int arg)
{
	char	   *direction;

	if (PG_ARGISNULL(arg))
		return false;
	direction = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	if (strcmp(direction, "forward") == 0)
		return false;
	if (strcmp(direction, "backward") == 0)
		return true;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("argument \"direction\" must not be \"%s\"", direction),
			 errhint("Use 'forward' or 'backward'.")));
	return false;
}

static char *
get_stream_name(FunctionCallInfo fcinfo, int arg)
{
	return evs_stream_check_name(PG_ARGISNULL(arg) ? NULL :
								 (struct varlena *) PG_GETARG_TEXT_PP(arg),
								 "stream");
}

/* read_stream(stream, from_version, max_count, direction) */
Datum
evs_read_stream(PG_FUNCTION_ARGS)
{
	EvsReadStream request = {0};

	InitMaterializedSRF(fcinfo, 0);
	request.stream = get_stream_name(fcinfo, 0);
	request.has_from = !PG_ARGISNULL(1);
	if (request.has_from)
	{
		request.from_version = PG_GETARG_INT64(1);
		if (request.from_version < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"from_version\" must not be negative")));
	}
	request.max_count = get_max_count(fcinfo, 2);
	request.backward = get_backward(fcinfo, 3);
	evs_check_right(ACL_SELECT);
	if (request.max_count != 0)
		evs_read_stream_events(&request, (ReturnSetInfo *) fcinfo->resultinfo);
	return (Datum) 0;
}

static void
get_after(FunctionCallInfo fcinfo, int arg, EvsReadLog *request)
{
	request->has_after = !PG_ARGISNULL(arg);
	if (!request->has_after)
		return;
	request->after = PG_GETARG_INT64(arg);
	if (request->after < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"after\" must not be negative")));
}

/* read_all(after, max_count, filter, direction) */
Datum
evs_read_all(PG_FUNCTION_ARGS)
{
	EvsReadLog	request = {0};

	InitMaterializedSRF(fcinfo, 0);
	get_after(fcinfo, 0, &request);
	request.max_count = get_max_count(fcinfo, 1);
	request.filter = evs_filter_compile(PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2));
	request.backward = get_backward(fcinfo, 3);
	evs_check_right(ACL_SELECT);
	if (request.max_count != 0)
		evs_read_log(&request, (ReturnSetInfo *) fcinfo->resultinfo);
	return (Datum) 0;
}

/* read_category(category, after, max_count) */
Datum
evs_read_category(PG_FUNCTION_ARGS)
{
	EvsReadLog	request = {0};

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		evs_throw_null("category");
	request.category = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (strchr(request.category, '-') != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"category\" must not contain \"-\""),
				 errhint("The category of a stream is its name up to the first \"-\".")));
	get_after(fcinfo, 1, &request);
	request.max_count = get_max_count(fcinfo, 2);
	evs_check_right(ACL_SELECT);
	if (request.max_count != 0)
		evs_read_log(&request, (ReturnSetInfo *) fcinfo->resultinfo);
	return (Datum) 0;
}

/* read_correlation(correlation_id) */
Datum
evs_read_correlation(PG_FUNCTION_ARGS)
{
	EvsReadLog	request = {.max_count = EVS_READ_ALL};

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		evs_throw_null("correlation_id");
	request.correlation_id = text_to_cstring(PG_GETARG_TEXT_PP(0));
	evs_check_right(ACL_SELECT);
	evs_read_log(&request, (ReturnSetInfo *) fcinfo->resultinfo);
	return (Datum) 0;
}

/* get_event(event_id): one row or none */
Datum
evs_get_event(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		evs_throw_null("event_id");
	evs_check_right(ACL_SELECT);
	evs_read_one_event(PG_GETARG_UUID_P(0), (ReturnSetInfo *) fcinfo->resultinfo);
	return (Datum) 0;
}

/*
 * The version of a stream's newest event, or -1 if it does not exist or is
 * deleted.  With the snapshot that read_stream() would use: who decides by what
 * it has read must not be told of versions that it has not.
 */
static int64
look_up_version(const char *name)
{
	Relation	log = evs_open(evs_catalog()->event_log, AccessShareLock);
	Relation	streams = evs_open(evs_catalog()->stream, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	EvsStream	stream;
	int64		version = -1;
	int64		position;

	if (evs_stream_find(streams, name, snapshot, &stream) &&
		!stream.deleted && !stream.tombstoned)
		version = evs_version_current(log, &stream, snapshot, &position);
	UnregisterSnapshot(snapshot);
	relation_close(streams, AccessShareLock);
	relation_close(log, AccessShareLock);
	return version;
}

Datum
evs_stream_version(PG_FUNCTION_ARGS)
{
	char	   *name = get_stream_name(fcinfo, 0);

	evs_check_right(ACL_SELECT);
	PG_RETURN_INT64(look_up_version(name));
}

Datum
evs_stream_exists(PG_FUNCTION_ARGS)
{
	char	   *name = get_stream_name(fcinfo, 0);

	evs_check_right(ACL_SELECT);
	PG_RETURN_BOOL(look_up_version(name) >= 0);
}

/* _last_version(stream_id): also of deleted streams; for views, with their snapshot */
Datum
evs_last_version(PG_FUNCTION_ARGS)
{
	Relation	log = evs_open(evs_catalog()->event_log, AccessShareLock);
	Relation	streams = evs_open(evs_catalog()->stream, AccessShareLock);
	EvsStream	stream;
	int64		version = -1;
	int64		position;

	evs_check_right(ACL_SELECT);
	if (evs_stream_find_by_id(streams, PG_GETARG_INT64(0), GetActiveSnapshot(), &stream))
		version = evs_version_current(log, &stream, GetActiveSnapshot(), &position);
	relation_close(streams, AccessShareLock);
	relation_close(log, AccessShareLock);
	PG_RETURN_INT64(version);
}

Datum
evs_safe_position(PG_FUNCTION_ARGS)
{
	evs_check_right(ACL_SELECT);
	PG_RETURN_INT64(evs_position_safe_covered());
}

Datum
evs_visible_position(PG_FUNCTION_ARGS)
{
	evs_check_right(ACL_SELECT);
	PG_RETURN_INT64(evs_position_visible());
}

/*
 * The planner calls this before the executor takes the statement's snapshot:
 * the moment for a reading of the safe position that the snapshot will cover.
 */
Datum
evs_visible_position_support(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);

	if (IsA(request, SupportRequestSimplify))
		evs_position_remember();
	PG_RETURN_POINTER(NULL);
}

/* test_filter(filter, event) → (matches, error) */
Datum
evs_test_filter(PG_FUNCTION_ARGS)
{
	EvsFilter  *filter = evs_filter_compile(PG_ARGISNULL(0) ? NULL : PG_GETARG_JSONB_P(0));
	EvsFilterResult matches = EVS_FILTER_YES;
	const char *error = NULL;
	TupleDesc	desc;
	Datum		values[2] = {0};
	bool		nulls[2] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (PG_ARGISNULL(1))
		evs_throw_null("event");
	if (filter != NULL)
	{
		HeapTupleHeader header = PG_GETARG_HEAPTUPLEHEADER(1);
		HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header), .t_data = header};
		TupleDesc	event = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header),
												   HeapTupleHeaderGetTypMod(header));
		Datum		columns[EVS_EVENT_NCOLUMNS];
		bool		isnull[EVS_EVENT_NCOLUMNS];

		heap_deform_tuple(&tuple, event, columns, isnull);
		ReleaseTupleDesc(event);
		matches = evs_filter_matches_event(filter, columns, isnull, &error);
	}
	values[0] = BoolGetDatum(matches == EVS_FILTER_YES);
	nulls[1] = matches != EVS_FILTER_ERROR;
	if (!nulls[1])
		values[1] = CStringGetTextDatum(error);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
