/*
 * secret.c
 *	  What relays need to log in: passwords, tokens, keys.
 *
 * A row has the value sealed.  As with subscriptions, a trigger invalidates the table's
 * relcache entry with each change, so all sessions hear of it when it commits.
 *
 * Values are handled in C alone: a PL/pgSQL function would pass them on as parameters of
 * statements, which modules such as auto_explain write to the log.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/errors.h"
#include "base/utf8.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "relay/secret.h"
#include "relay/secret_cipher.h"
#include "relay/secret_key.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_create_secret);
PG_FUNCTION_INFO_V1(evs_alter_secret);
PG_FUNCTION_INFO_V1(evs_secret_is);
PG_FUNCTION_INFO_V1(evs_secret_version_sql);

static EvsTableVersion version = {.number = 1};

uint64
evs_secret_version(void)
{
	return evs_table_version(&version);
}

void
evs_secret_forget(char *value, int length)
{
	explicit_bzero(value, length);
	pfree(value);
}

static char *
make_detail(const char *name)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "secret", name);
	return evs_detail_end(&detail);
}

static void
throw_not_found(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_EVS_OBJECT_NOT_FOUND),
			 errmsg("secret \"%s\" does not exist", name),
			 errdetail_internal("%s", make_detail(name))));
}

/* ---- reading ---- */

static bytea *
find_sealed(const char *name)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT s.sealed FROM evstore.secret s WHERE s.name = $1",
		.nargs = 1, .types = {TEXTOID},
	};
	Datum		arg = CStringGetTextDatum(name);
	EvsSpiRows	rows;

	version.relid = evs_catalog_lookup("secret");
	rows = evs_spi_call_latest(&plan, &arg, NULL);
	if (rows.nrows == 0)
		throw_not_found(name);
	return DatumGetByteaPP(rows.values[0]);
}

char *
evs_secret_get(const char *name, int *length)
{
	bytea	   *sealed = find_sealed(name);
	uint8		key[EVS_SECRET_KEY_SIZE];
	bool		has_key = evs_secret_key_read(key);
	char	   *value = NULL;
	int			n = 0;

	if (has_key)
		value = evs_secret_open(key, name, sealed, &n);
	explicit_bzero(key, sizeof(key));
	if (value == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("secret \"%s\" cannot be opened", name),
				 has_key ? errdetail("It has been changed, or was sealed with another key than that in file \"%s\" of the data directory.",
									 EVS_SECRET_KEY_FILE) :
				 errdetail("File \"%s\" is not in the data directory.", EVS_SECRET_KEY_FILE),
				 errhint("Set it again with evstore.alter_secret().")));
	if (length != NULL)
		*length = n;
	return value;
}

/* ---- writing ---- */

static char *
get_name(FunctionCallInfo fcinfo)
{
	char	   *name;

	if (PG_ARGISNULL(0))
		evs_throw_null("name");
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (name[0] == '\0' || strlen(name) > EVS_SECRET_NAME_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a secret must have 1 to %d bytes", EVS_SECRET_NAME_MAX)));
	return name;
}

/* No message says anything about the value but its length. */
static bytea *
seal(const char *name, const text *value)
{
	char	   *copy = text_to_cstring(value);
	int			copied = strlen(copy);
	const char *utf8 = evs_utf8(copy);
	int			length;
	uint8		key[EVS_SECRET_KEY_SIZE];
	bytea	   *sealed;

	if (utf8 == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
				 errmsg("the value of a secret must be one that can be converted to UTF-8")));
	length = strlen(utf8);
	if (length == 0 || length > EVS_SECRET_VALUE_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the value of a secret must have 1 to %d bytes", EVS_SECRET_VALUE_MAX)));
	evs_secret_key_make(key);
	sealed = evs_secret_seal(key, name, utf8, length);
	explicit_bzero(key, sizeof(key));
	if (utf8 != copy)
		evs_secret_forget(unconstify(char *, utf8), length);
	evs_secret_forget(copy, copied);
	return sealed;
}

/* Run a statement with the name and the sealed value; is there a row? */
static bool
write_row(EvsSpiPlan *plan, FunctionCallInfo fcinfo, const char *command)
{
	char	   *name = get_name(fcinfo);
	text	   *value;
	Datum		values[2];

	if (PG_ARGISNULL(1))
		evs_throw_null("value");
	/* a standby has no business with a key of its own */
	PreventCommandIfReadOnly(command);
	PreventCommandDuringRecovery(command);
	value = PG_GETARG_TEXT_P_COPY(1);
	values[0] = CStringGetTextDatum(name);
	values[1] = PointerGetDatum(seal(name, value));
	evs_secret_forget((char *) value, VARSIZE(value));
	return evs_spi_call(plan, values, NULL).nrows > 0;
}

static void
audit(const char *action, const char *name)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._audit($1, $2)",
		.nargs = 2, .types = {TEXTOID, JSONBOID},
	};
	Datum		values[2] = {
		CStringGetTextDatum(action),
		DirectFunctionCall1(jsonb_in, CStringGetDatum(make_detail(name))),
	};

	(void) evs_spi_call(&plan, values, NULL);
}

/* create_secret(name, value) */
Datum
evs_create_secret(PG_FUNCTION_ARGS)
{
	static EvsSpiPlan plan = {
		.sql = "INSERT INTO evstore.secret (name, sealed, created_at, changed_at)"
		" SELECT $1, $2, now, now FROM clock_timestamp() now ON CONFLICT DO NOTHING RETURNING true",
		.nargs = 2, .types = {TEXTOID, BYTEAOID},
	};
	bool		created = write_row(&plan, fcinfo, "create_secret()");
	char	   *name = get_name(fcinfo);

	if (!created)
		ereport(ERROR,
				(errcode(ERRCODE_EVS_OBJECT_EXISTS),
				 errmsg("secret \"%s\" already exists", name),
				 errdetail_internal("%s", make_detail(name)),
				 errhint("Change it with evstore.alter_secret().")));
	audit("create_secret", name);
	PG_RETURN_VOID();
}

/* alter_secret(name, value) */
Datum
evs_alter_secret(PG_FUNCTION_ARGS)
{
	static EvsSpiPlan plan = {
		.sql = "UPDATE evstore.secret SET sealed = $2, changed_at = clock_timestamp()"
		" WHERE name = $1 RETURNING true",
		.nargs = 2, .types = {TEXTOID, BYTEAOID},
	};
	bool		changed = write_row(&plan, fcinfo, "alter_secret()");
	char	   *name = get_name(fcinfo);

	if (!changed)
		throw_not_found(name);
	audit("alter_secret", name);
	PG_RETURN_VOID();
}

/* ---- for tests ---- */

/* _secret_is(name, value) → boolean.  Who owns the tables could read the key, too. */
Datum
evs_secret_is(PG_FUNCTION_ARGS)
{
	int			length;
	char	   *expected;
	char	   *value;
	bool		result;

	evs_check_internal();
	expected = text_to_cstring(PG_GETARG_TEXT_PP(1));
	value = evs_secret_get(text_to_cstring(PG_GETARG_TEXT_PP(0)), &length);
	result = strcmp(value, expected) == 0 && (int) strlen(value) == length;
	evs_secret_forget(value, length);
	PG_RETURN_BOOL(result);
}

/* _secret_version() → bigint */
Datum
evs_secret_version_sql(PG_FUNCTION_ARGS)
{
	evs_check_internal();
	PG_RETURN_INT64((int64) evs_secret_version());
}
