/*
 * recipient.c
 *	  The instance that something is for.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/errors.h"
#include "exec/spi.h"
#include "saga/recipient.h"
#include "saga/saga.h"
#include "compat.h"

#define COLUMNS \
	"SELECT i.id, i.definition_id, i.version, d.name, d.owner, i.status, i.ended_at IS NOT NULL" \
	" FROM evstore.saga_instance i JOIN evstore.saga d ON d.id = i.definition_id"

static char *
uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

/* false: there is none. */
static bool
from_rows(const EvsSpiRows *rows, EvsRecipient *recipient)
{
	const Datum *values = rows->values;

	if (rows->nrows == 0)
		return false;
	recipient->id = *DatumGetUUIDP(values[0]);
	recipient->id_text = uuid_text(&recipient->id);
	recipient->definition_id = DatumGetInt64(values[1]);
	recipient->version = DatumGetInt32(values[2]);
	recipient->saga = TextDatumGetCString(values[3]);
	recipient->owner = TextDatumGetCString(values[4]);
	recipient->status = TextDatumGetCString(values[5]);
	recipient->has_ended = DatumGetBool(values[6]);
	return true;
}

void
evs_recipient_find(const pg_uuid_t *id, EvsRecipient *recipient)
{
	static EvsSpiPlan plan = {
		.sql = COLUMNS " WHERE i.id = $1",
		.nargs = 1, .types = {UUIDOID},
	};
	Datum		arg = UUIDPGetDatum(id);
	EvsSpiRows	rows = evs_spi_call_latest(&plan, &arg, NULL);
	StringInfoData detail;

	if (from_rows(&rows, recipient))
		return;
	evs_detail_begin(&detail);
	evs_detail_string(&detail, "saga_id", uuid_text(id));
	ereport(ERROR,
			(errcode(ERRCODE_EVS_OBJECT_NOT_FOUND),
			 errmsg("there is no instance of a saga with id %s", uuid_text(id)),
			 errdetail_internal("%s", evs_detail_end(&detail))));
}

void
evs_recipient_find_by_key(const char *saga, const char *business_key, EvsRecipient *recipient)
{
	static EvsSpiPlan plan = {
		.sql = COLUMNS " WHERE i.definition_id = $1 AND i.business_key = $2",
		.nargs = 2, .types = {INT8OID, TEXTOID},
	};
	Datum		args[] = {
		Int64GetDatum(evs_saga_find(saga)->id),
		CStringGetTextDatum(business_key),
	};
	EvsSpiRows	rows = evs_spi_call_latest(&plan, args, NULL);
	StringInfoData detail;

	if (from_rows(&rows, recipient))
		return;
	evs_detail_begin(&detail);
	evs_detail_string(&detail, "saga", saga);
	evs_detail_string(&detail, "business_key", business_key);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_OBJECT_NOT_FOUND),
			 errmsg("saga \"%s\" has no instance with business key \"%s\"", saga, business_key),
			 errdetail_internal("%s", evs_detail_end(&detail))));
}

void
evs_saga_check_size(int64 definition_id, int version, Jsonb *data, const char *what)
{
	int			limit = evs_saga_definition(definition_id, version)->max_data;

	if (VARSIZE(data) > limit)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not have more than %d bytes", what, limit),
				 errdetail("It has %u bytes.", (unsigned) VARSIZE(data)),
				 errhint("The limit is the option max_data of the saga.")));
}
