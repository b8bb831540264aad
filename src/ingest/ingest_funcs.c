/*
 * ingest_funcs.c
 *	  SQL functions that take in what brokers and web hooks deliver.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "base/errors.h"
#include "catalog/catalog.h"
#include "ingest/decode.h"
#include "ingest/in_json.h"
#include "ingest/ingest.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_ingest);
PG_FUNCTION_INFO_V1(evs_ingest_bytes);

static const char *const status_names[] = {
	[EVS_IN_PENDING] = "pending",
	[EVS_IN_APPENDED] = "appended",
	[EVS_IN_DUPLICATE] = "duplicate",
	[EVS_IN_FAILED] = "failed",
	[EVS_IN_NOT_TRIED] = "not_tried",
	[EVS_IN_HANDSHAKE] = "handshake",
};

/* ---- rows ---- */

enum
{
	COLUMN_INDEX,
	COLUMN_STATUS,
	COLUMN_SOURCE,
	COLUMN_ID,
	COLUMN_TYPE,
	COLUMN_STREAM,
	COLUMN_VERSION,
	COLUMN_POSITION,
	COLUMN_EVENT_ID,
	COLUMN_MESSAGE_ID,
	COLUMN_DETAIL,
	NCOLUMNS
};

static void
set_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = text == NULL;
	if (text != NULL)
		values[column] = CStringGetTextDatum(text);
}

static void
put_row(ReturnSetInfo *rsinfo, int index, const EvsIncoming *row)
{
	Datum		values[NCOLUMNS] = {0};
	bool		nulls[NCOLUMNS] = {false};
	bool		is_known = row->status == EVS_IN_APPENDED || row->status == EVS_IN_DUPLICATE;

	values[COLUMN_INDEX] = Int32GetDatum(index);
	set_text(values, nulls, COLUMN_STATUS, status_names[row->status]);
	set_text(values, nulls, COLUMN_SOURCE, row->source);
	set_text(values, nulls, COLUMN_ID, row->id);
	set_text(values, nulls, COLUMN_TYPE, row->type);
	set_text(values, nulls, COLUMN_STREAM, row->has_place ? row->stream : NULL);
	values[COLUMN_VERSION] = Int64GetDatum(row->version);
	values[COLUMN_POSITION] = Int64GetDatum(row->position);
	nulls[COLUMN_VERSION] = nulls[COLUMN_POSITION] = !row->has_place;
	values[COLUMN_EVENT_ID] = UUIDPGetDatum(&row->event_id);
	nulls[COLUMN_EVENT_ID] = !is_known;
	set_text(values, nulls, COLUMN_MESSAGE_ID, row->message_id);
	values[COLUMN_DETAIL] = PointerGetDatum(row->detail);
	nulls[COLUMN_DETAIL] = row->detail == NULL;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* ---- arguments ---- */

static char *
get_text(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* (payload, format, attributes, stream, type, options) but for the payload */
static void
get_options(FunctionCallInfo fcinfo, EvsInOptions *options)
{
	char	   *stream = get_text(fcinfo, 3);
	char	   *type = get_text(fcinfo, 4);

	memset(options, 0, sizeof(*options));
	if (PG_ARGISNULL(0))
		evs_throw_null("payload");
	if (PG_ARGISNULL(1))
		evs_throw_null("format");
	options->format = evs_in_format_parse(get_text(fcinfo, 1));
	if (!PG_ARGISNULL(2) && !JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(2)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"attributes\" must be a JSON object")));
	if (stream != NULL)
		options->stream = evs_in_template_compile(stream, "stream");
	if (type != NULL)
		options->type = evs_in_template_compile(type, "type");
	if (!PG_ARGISNULL(5))
		evs_in_options_read(options, PG_GETARG_JSONB_P(5));
}

static Datum
ingest(FunctionCallInfo fcinfo, const EvsInOptions *options, EvsBytes payload)
{
	EvsDecoding d = {.options = options};

	PreventCommandIfReadOnly("evstore ingest");
	PreventCommandIfParallelMode("evstore ingest");
	evs_check_right(ACL_INSERT);
	evs_decode(&d, payload, PG_ARGISNULL(2) ? NULL : &PG_GETARG_JSONB_P(2)->root);
	evs_ingest_rows(d.rows, d.nrows, options);
	for (int i = 0; i < d.nrows; i++)
		put_row((ReturnSetInfo *) fcinfo->resultinfo, i, &d.rows[i]);
	return (Datum) 0;
}

/* ingest(payload text, format, attributes, stream, type, options) */
Datum
evs_ingest(PG_FUNCTION_ARGS)
{
	EvsInOptions options;
	text	   *payload;

	InitMaterializedSRF(fcinfo, 0);
	get_options(fcinfo, &options);
	payload = PG_GETARG_TEXT_PP(0);
	return ingest(fcinfo, &options, evs_in_bytes(VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload),
												 0, "payload"));
}

/* ingest_bytes(payload bytea, format, attributes, stream, type, options) */
Datum
evs_ingest_bytes(PG_FUNCTION_ARGS)
{
	EvsInOptions options;
	bytea	   *payload;

	InitMaterializedSRF(fcinfo, 0);
	get_options(fcinfo, &options);
	payload = PG_GETARG_BYTEA_PP(0);
	return ingest(fcinfo, &options, (EvsBytes) {VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload)});
}
