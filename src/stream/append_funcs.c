/*
 * append_funcs.c
 *	  SQL functions that append: arguments in, one row out.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "base/errors.h"
#include "base/guc.h"
#include "stream/append.h"
#include "stream/batch.h"
#include "stream/stream.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_append);
PG_FUNCTION_INFO_V1(evs_append_one);
PG_FUNCTION_INFO_V1(evs_append_events);
PG_FUNCTION_INFO_V1(evs_append_arrays);
PG_FUNCTION_INFO_V1(evs_try_append);
PG_FUNCTION_INFO_V1(evs_append_streams);

static void
get_stream(FunctionCallInfo fcinfo, int arg, EvsBatch *batch)
{
	batch->stream = evs_stream_check_name(PG_ARGISNULL(arg) ? NULL :
										  (struct varlena *) PG_GETARG_TEXT_PP(arg),
										  "stream");
}

static int64
get_expected(FunctionCallInfo fcinfo, int arg)
{
	return evs_batch_expected(PG_ARGISNULL(arg),
							  PG_ARGISNULL(arg) ? 0 : PG_GETARG_INT64(arg));
}

/*
 * The functions' rows have fixed types, so their descriptors are made once:
 * working them out from the OUT arguments would cost more than the rows.
 */
typedef enum RowKind
{
	ROW_VERSION_POSITION,
	ROW_FIRST_VERSION_POSITION,
	ROW_TRY
} RowKind;

static TupleDesc
row_type(RowKind kind)
{
	static TupleDesc types[ROW_TRY + 1];
	static const struct
	{
		const char *name;
		Oid			type;
	}			columns[][5] = {
		[ROW_VERSION_POSITION] = {{"version", INT8OID}, {"position", INT8OID}},
		[ROW_FIRST_VERSION_POSITION] = {{"first_version", INT8OID}, {"version", INT8OID},
										{"position", INT8OID}},
		[ROW_TRY] = {{"ok", BOOLOID}, {"first_version", INT8OID}, {"version", INT8OID},
					 {"position", INT8OID}, {"actual_version", INT8OID}},
	};
	static const int natts[] = {2, 3, 5};
	MemoryContext old;
	TupleDesc	desc;

	if (likely(types[kind] != NULL))
		return types[kind];
	old = MemoryContextSwitchTo(TopMemoryContext);
	desc = CreateTemplateTupleDesc(natts[kind]);
	for (int i = 0; i < natts[kind]; i++)
		TupleDescInitEntry(desc, i + 1, columns[kind][i].name, columns[kind][i].type, -1, 0);
	types[kind] = BlessTupleDesc(desc);
	MemoryContextSwitchTo(old);
	return types[kind];
}

static Datum
make_row(RowKind kind, Datum *values, bool *nulls)
{
	return HeapTupleGetDatum(heap_form_tuple(row_type(kind), values, nulls));
}

/* append(stream, type, data, metadata, expected_version, event_id, …) */
static void
append_from_args(FunctionCallInfo fcinfo, EvsAppendResult *result)
{
	EvsNewEvent event;
	EvsBatch	batch = {.nevents = 1, .events = &event};

	get_stream(fcinfo, 0, &batch);
	evs_batch_init_event(&event);
	if (!PG_ARGISNULL(1))
		event.type = PG_GETARG_TEXT_PP(1);
	if (!PG_ARGISNULL(2))
		event.data = PG_GETARG_JSONB_P(2);
	if (!PG_ARGISNULL(3))
		event.metadata = PG_GETARG_JSONB_P(3);
	batch.expected = get_expected(fcinfo, 4);
	if (!PG_ARGISNULL(5))
	{
		event.has_event_id = true;
		event.event_id = *PG_GETARG_UUID_P(5);
	}
	if (!PG_ARGISNULL(6))
		event.correlation_id = PG_GETARG_TEXT_PP(6);
	if (!PG_ARGISNULL(7))
	{
		event.has_causation_id = true;
		event.causation_id = *PG_GETARG_UUID_P(7);
	}
	if (!PG_ARGISNULL(8))
		event.schema_version = PG_GETARG_INT32(8);
	if (!PG_ARGISNULL(9))
	{
		event.has_occurred_at = true;
		event.occurred_at = PG_GETARG_TIMESTAMPTZ(9);
	}
	if (!PG_ARGISNULL(10))
		event.source = PG_GETARG_TEXT_PP(10);
	if (!PG_ARGISNULL(11))
		event.tags = PG_GETARG_ARRAYTYPE_P(11);

	evs_batch_validate(&batch);
	evs_append_execute(&batch, 1, false, result);
}

Datum
evs_append(PG_FUNCTION_ARGS)
{
	EvsAppendResult result;
	Datum		values[2];
	bool		nulls[2] = {false};

	append_from_args(fcinfo, &result);
	values[0] = Int64GetDatum(result.version);
	values[1] = Int64GetDatum(result.position);
	return make_row(ROW_VERSION_POSITION, values, nulls);
}

Datum
evs_append_one(PG_FUNCTION_ARGS)
{
	EvsAppendResult result;

	append_from_args(fcinfo, &result);
	PG_RETURN_INT64(result.version);
}

/* (first_version, version, position) into an array of datums */
static void
result_columns(const EvsAppendResult *result, Datum *values, bool *nulls)
{
	values[0] = Int64GetDatum(result->first_version);
	nulls[0] = result->first_version < 0;
	values[1] = Int64GetDatum(result->version);
	nulls[1] = false;
	values[2] = Int64GetDatum(result->position);
	nulls[2] = result->position == 0;
}

static Datum
three_columns(const EvsAppendResult *result)
{
	Datum		values[3];
	bool		nulls[3];

	result_columns(result, values, nulls);
	return make_row(ROW_FIRST_VERSION_POSITION, values, nulls);
}

/* (stream, events jsonb, expected_version, commutes_with) */
static void
get_json_batch(FunctionCallInfo fcinfo, EvsBatch *batch)
{
	memset(batch, 0, sizeof(EvsBatch));
	get_stream(fcinfo, 0, batch);
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"events\" must not be null"),
				 errhint("An empty array checks the expected version and appends nothing.")));
	batch->expected = get_expected(fcinfo, 2);
	if (!PG_ARGISNULL(3))
		batch->commutes_with = PG_GETARG_ARRAYTYPE_P(3);
	evs_batch_parse(batch, PG_GETARG_JSONB_P(1));
	evs_batch_validate(batch);
}

Datum
evs_append_events(PG_FUNCTION_ARGS)
{
	EvsBatch	batch;
	EvsAppendResult result;

	get_json_batch(fcinfo, &batch);
	evs_append_execute(&batch, 1, false, &result);
	return three_columns(&result);
}

Datum
evs_try_append(PG_FUNCTION_ARGS)
{
	EvsBatch	batch;
	EvsAppendResult result;
	Datum		values[5];
	bool		nulls[5];
	bool		ok;

	get_json_batch(fcinfo, &batch);
	evs_append_execute(&batch, 1, true, &result);
	ok = result.status == EVS_APPENDED || result.status == EVS_RETRIED;
	values[0] = BoolGetDatum(ok);
	nulls[0] = false;
	result_columns(&result, values + 1, nulls + 1);
	nulls[1] |= !ok;
	nulls[2] |= !ok;
	nulls[3] |= !ok;
	values[4] = Int64GetDatum(ok ? result.version : result.actual);
	nulls[4] = false;
	return make_row(ROW_TRY, values, nulls);
}

/* ---- arrays ---- */

typedef struct ColumnArray
{
	Datum	   *values;
	bool	   *nulls;
	int			n;				/* -1 = not given */
} ColumnArray;

static void
get_array(FunctionCallInfo fcinfo, int arg, Oid type, int16 len, bool byval, char align,
		  const char *name, ColumnArray *column)
{
	ArrayType  *array;

	column->n = -1;
	if (PG_ARGISNULL(arg))
		return;
	array = PG_GETARG_ARRAYTYPE_P(arg);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("argument \"%s\" must have one dimension", name)));
	evs_batch_check_count(ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)), name);
	deconstruct_array(array, type, len, byval, align, &column->values, &column->nulls,
					  &column->n);
}

static void
check_length(const ColumnArray *column, const char *name, int expected)
{
	if (column->n >= 0 && column->n != expected)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("arguments \"types\" and \"%s\" must have the same length", name),
				 errdetail("{\"types\": %d, \"%s\": %d}", expected, name, column->n)));
}

static bool
has_value(const ColumnArray *column, int i)
{
	return column->n >= 0 && !column->nulls[i];
}

/* append_arrays(stream, types, data, metadata, event_ids, expected_version) */
Datum
evs_append_arrays(PG_FUNCTION_ARGS)
{
	EvsBatch	batch = {0};
	EvsAppendResult result;
	ColumnArray types;
	ColumnArray data;
	ColumnArray metadata;
	ColumnArray ids;

	get_stream(fcinfo, 0, &batch);
	get_array(fcinfo, 1, TEXTOID, -1, false, TYPALIGN_INT, "types", &types);
	get_array(fcinfo, 2, JSONBOID, -1, false, TYPALIGN_INT, "data", &data);
	get_array(fcinfo, 3, JSONBOID, -1, false, TYPALIGN_INT, "metadata", &metadata);
	get_array(fcinfo, 4, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, "event_ids", &ids);
	if (types.n < 0)
		evs_throw_null("types");
	check_length(&data, "data", types.n);
	check_length(&metadata, "metadata", types.n);
	check_length(&ids, "event_ids", types.n);
	batch.expected = get_expected(fcinfo, 5);

	batch.nevents = types.n;
	batch.events = palloc_extended(sizeof(EvsNewEvent) * Max(1, types.n), MCXT_ALLOC_HUGE);
	for (int i = 0; i < types.n; i++)
	{
		EvsNewEvent *event = &batch.events[i];

		evs_batch_init_event(event);
		if (!types.nulls[i])
			event->type = DatumGetTextPP(types.values[i]);
		if (has_value(&data, i))
			event->data = DatumGetJsonbP(data.values[i]);
		if (has_value(&metadata, i))
			event->metadata = DatumGetJsonbP(metadata.values[i]);
		if (has_value(&ids, i))
		{
			event->has_event_id = true;
			event->event_id = *DatumGetUUIDP(ids.values[i]);
		}
	}
	evs_batch_validate(&batch);
	evs_append_execute(&batch, 1, false, &result);
	return three_columns(&result);
}

/* ---- several streams ---- */

static void
throw_invalid_entry(int index, const char *field, const char *what)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_int(&detail, "append", index);
	evs_detail_string(&detail, "field", field);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_INVALID_EVENT),
			 errmsg("member \"%s\" of an append %s", field, what),
			 errdetail_internal("%s", evs_detail_end(&detail))));
}

static void
parse_entry_member(EvsBatch *batch, int index, const char *key, JsonbValue *value, bool *has_events)
{
	int64		expected;

	if (strcmp(key, "stream") == 0)
	{
		if (value->type != jbvString)
			throw_invalid_entry(index, key, "must be a string");
		batch->stream =
			evs_stream_check_name((struct varlena *) cstring_to_text_with_len(value->val.string.val,
																			  value->val.string.len),
								  "stream");
	}
	else if (strcmp(key, "expected_version") == 0)
	{
		if (value->type == jbvNull)
			return;
		if (!evs_batch_json_integer(value, PG_INT64_MIN, PG_INT64_MAX, &expected))
			throw_invalid_entry(index, key, "must be an integer");
		batch->expected = evs_batch_expected(false, expected);
	}
	else if (strcmp(key, "events") == 0)
	{
		evs_batch_parse(batch, JsonbValueToJsonb(value));
		*has_events = true;
	}
	else
		throw_invalid_entry(index, key, "is not known");
}

static void
parse_entry(EvsBatch *batch, int index, const JsonbValue *entry)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;
	bool		has_events = false;

	memset(batch, 0, sizeof(EvsBatch));
	batch->expected = EVS_ANY_VERSION;
	if (entry->type != jbvBinary || !JsonContainerIsObject(entry->val.binary.data))
	{
		StringInfoData detail;

		evs_detail_begin(&detail);
		evs_detail_int(&detail, "append", index);
		ereport(ERROR,
				(errcode(ERRCODE_EVS_INVALID_EVENT),
				 errmsg("an append must be a JSON object"),
				 errdetail_internal("%s", evs_detail_end(&detail))));
	}
	it = JsonbIteratorInit(entry->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		parse_entry_member(batch, index,
						   pnstrdup(key.val.string.val, key.val.string.len), &value,
						   &has_events);
	}
	if (batch->stream == NULL)
		throw_invalid_entry(index, "stream", "is missing");
	if (!has_events)
		throw_invalid_entry(index, "events", "is missing");
	evs_batch_validate(batch);
}

/* append_streams(appends jsonb) → a row a stream, in the order given */
Datum
evs_append_streams(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Jsonb	   *appends;
	EvsBatch   *batches;
	EvsAppendResult *results;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	entry;
	int			n = 0;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		evs_throw_null("appends");
	appends = PG_GETARG_JSONB_P(0);
	if (!JB_ROOT_IS_ARRAY(appends) || JB_ROOT_IS_SCALAR(appends))
		ereport(ERROR,
				(errcode(ERRCODE_EVS_INVALID_EVENT),
				 errmsg("argument \"appends\" must be a JSON array of objects")));

	batches = palloc_extended(sizeof(EvsBatch) * Max(1, JB_ROOT_COUNT(appends)), MCXT_ALLOC_HUGE);
	results = palloc_extended(sizeof(EvsAppendResult) * Max(1, JB_ROOT_COUNT(appends)),
							  MCXT_ALLOC_HUGE);
	it = JsonbIteratorInit(&appends->root);
	while ((token = JsonbIteratorNext(&it, &entry, true)) != WJB_DONE)
		if (token == WJB_ELEM)
		{
			CHECK_FOR_INTERRUPTS();
			parse_entry(&batches[n], n, &entry);
			n++;
		}

	if (n > 0)
		evs_append_execute(batches, n, false, results);
	for (int i = 0; i < n; i++)
	{
		Datum		values[4];
		bool		nulls[4] = {false};

		values[0] = CStringGetTextDatum(batches[i].stream);
		result_columns(&results[i], values + 1, nulls + 1);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
