/*
 * outgoing.c
 *	  An event on its way out, as a relay has read it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "base/errors.h"
#include "relay/outgoing.h"
#include "stream/event.h"
#include "stream/stream.h"
#include "compat.h"

static void
deform(Datum event, Datum *values, bool *nulls)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(event);
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header),
											  HeapTupleHeaderGetTypMod(header));
	HeapTupleData tuple;

	Assert(desc->natts == EVS_EVENT_NCOLUMNS);
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = header;
	heap_deform_tuple(&tuple, desc, values, nulls);
	ReleaseTupleDesc(desc);
}

/* Only those of events that somebody has made by hand can be missing. */
static void
check_required(const bool *nulls)
{
	static const int required[] = {
		EVS_EVENT_POSITION, EVS_EVENT_STREAM, EVS_EVENT_VERSION, EVS_EVENT_EVENT_ID,
		EVS_EVENT_TYPE, EVS_EVENT_SCHEMA_VERSION, EVS_EVENT_RECORDED_AT,
	};

	for (int i = 0; i < (int) lengthof(required); i++)
		if (nulls[required[i]])
			evs_throw_null("event");
}

void
evs_outgoing_from_event(Datum event, EvsOutgoing *outgoing)
{
	Datum		values[EVS_EVENT_NCOLUMNS];
	bool		nulls[EVS_EVENT_NCOLUMNS];

	deform(event, values, nulls);
	check_required(nulls);
	evs_outgoing_from_columns(values, nulls, outgoing);
}

void
evs_outgoing_from_columns(const Datum *values, const bool *nulls, EvsOutgoing *outgoing)
{
	char	   *stream;

	memset(outgoing, 0, sizeof(*outgoing));
#define TEXT(column) (nulls[column] ? NULL : TextDatumGetCString(values[column]))
#define JSON(column) (nulls[column] ? NULL : DatumGetJsonbP(values[column]))
	outgoing->position = DatumGetInt64(values[EVS_EVENT_POSITION]);
	outgoing->version = DatumGetInt64(values[EVS_EVENT_VERSION]);
	outgoing->id = *DatumGetUUIDP(values[EVS_EVENT_EVENT_ID]);
	outgoing->has_causation_id = !nulls[EVS_EVENT_CAUSATION_ID];
	if (outgoing->has_causation_id)
		outgoing->causation_id = *DatumGetUUIDP(values[EVS_EVENT_CAUSATION_ID]);
	outgoing->schema_version = DatumGetInt32(values[EVS_EVENT_SCHEMA_VERSION]);
	outgoing->time = DatumGetTimestampTz(values[nulls[EVS_EVENT_OCCURRED_AT] ?
												EVS_EVENT_RECORDED_AT : EVS_EVENT_OCCURRED_AT]);
	stream = TEXT(EVS_EVENT_STREAM);
	outgoing->stream = stream;
	outgoing->category = pnstrdup(stream, evs_category_length(stream));
	outgoing->type = TEXT(EVS_EVENT_TYPE);
	outgoing->source = TEXT(EVS_EVENT_SOURCE);
	outgoing->correlation_id = TEXT(EVS_EVENT_CORRELATION_ID);
	outgoing->data = JSON(EVS_EVENT_DATA);
	outgoing->metadata = JSON(EVS_EVENT_METADATA);
#undef TEXT
#undef JSON
}

bool
evs_json_member(JsonbContainer *object, const char *name, JsonbValue *value)
{
	return object != NULL && JsonContainerIsObject(object) &&
		getKeyJsonValueFromContainer(object, name, strlen(name), value) != NULL;
}

const char *
evs_json_scalar_text(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return value->val.boolean ? "true" : "false";
		default:
			return NULL;
	}
}
