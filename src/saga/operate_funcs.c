/*
 * operate_funcs.c
 *	  SQL functions that tell an instance of a saga what to do.
 *
 * What the status forbids already is refused at once; the rest is mail, which the
 * saga's worker takes in.  All of it is written down in evstore.audit.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/errors.h"
#include "catalog/catalog.h"
#include "exec/spi.h"
#include "asl/asl.h"
#include "saga/mail.h"
#include "saga/recipient.h"
#include "saga/signal.h"
#include "compat.h"

PG_FUNCTION_INFO_V1(evs_signal_saga);
PG_FUNCTION_INFO_V1(evs_signal_saga_by_key);
PG_FUNCTION_INFO_V1(evs_cancel_saga);
PG_FUNCTION_INFO_V1(evs_retry_saga);
PG_FUNCTION_INFO_V1(evs_resolve_saga);
PG_FUNCTION_INFO_V1(evs_compensate_saga);

#define NAME_MAX_BYTES 256
#define REASON_MAX_BYTES 32768
#define COMPENSATIONS_MAX 1000

static char *
get_text(FunctionCallInfo fcinfo, int arg, const char *argument, int high)
{
	char	   *value;

	if (PG_ARGISNULL(arg))
		evs_throw_null(argument);
	value = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	if (value[0] == '\0' || strlen(value) > high)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must have 1 to %d bytes", argument, high)));
	return value;
}

static Jsonb *
get_jsonb(FunctionCallInfo fcinfo, int arg, const char *argument)
{
	if (PG_ARGISNULL(arg))
		evs_throw_null(argument);
	return PG_GETARG_JSONB_P(arg);
}

static pg_uuid_t *
get_id(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		evs_throw_null("saga_id");
	return PG_GETARG_UUID_P(0);
}

/* ---- signals: whoever may consume ---- */

/* signal_saga(saga_id, name, payload) → is it the first of this name? */
Datum
evs_signal_saga(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = get_id(fcinfo);
	char	   *name = get_text(fcinfo, 1, "name", NAME_MAX_BYTES);
	Jsonb	   *payload = get_jsonb(fcinfo, 2, "payload");
	EvsRecipient recipient;

	PreventCommandIfReadOnly("evstore signal_saga");
	evs_check_consumer(ACL_UPDATE);
	evs_recipient_find(id, &recipient);
	PG_RETURN_BOOL(evs_saga_signal(&recipient, name, payload));
}

/* signal_saga_by_key(saga, business_key, name, payload) */
Datum
evs_signal_saga_by_key(PG_FUNCTION_ARGS)
{
	char	   *saga = get_text(fcinfo, 0, "saga", NAME_MAX_BYTES);
	char	   *key;
	char	   *name = get_text(fcinfo, 2, "name", NAME_MAX_BYTES);
	Jsonb	   *payload = get_jsonb(fcinfo, 3, "payload");
	EvsRecipient recipient;

	if (PG_ARGISNULL(1))
		evs_throw_null("business_key");
	key = text_to_cstring(PG_GETARG_TEXT_PP(1));
	PreventCommandIfReadOnly("evstore signal_saga_by_key");
	evs_check_consumer(ACL_UPDATE);
	evs_recipient_find_by_key(saga, key, &recipient);
	PG_RETURN_BOOL(evs_saga_signal(&recipient, name, payload));
}

/* ---- operators: who can act as the saga's owner ---- */

static bool
is_one_of(const char *status, const char *const *statuses)
{
	for (; *statuses != NULL; statuses++)
		if (strcmp(status, *statuses) == 0)
			return true;
	return false;
}

static void
find_for_operator(const pg_uuid_t *id, const char *function, const char *const *statuses,
				  const char *hint, EvsRecipient *recipient)
{
	StringInfoData detail;
	Oid			owner;

	PreventCommandIfReadOnly(psprintf("evstore %s", function));
	evs_check_consumer(ACL_SELECT);
	evs_recipient_find(id, recipient);
	/* one that nobody owns any more is evstore's owner's business */
	owner = get_role_oid(recipient->owner, true);
	evs_check_may_act_as(OidIsValid(owner) ? owner : evs_catalog()->owner, recipient->owner);
	if (is_one_of(recipient->status, statuses))
		return;
	evs_detail_begin(&detail);
	evs_detail_string(&detail, "saga_id", recipient->id_text);
	evs_detail_string(&detail, "status", recipient->status);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("instance %s of saga \"%s\" has the status %s", recipient->id_text,
					recipient->saga, recipient->status),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 errhint("%s", hint)));
}

/* more: members of the detail, or NULL */
static void
audit(const char *action, const EvsRecipient *recipient, const char *key, const char *value,
	  const char *reason)
{
	static EvsSpiPlan plan = {
		.sql = "SELECT evstore._audit($1, jsonb_strip_nulls(jsonb_build_object('saga', $2, 'saga_id', $3,"
		" 'reason', $4)) || CASE WHEN $5 IS NULL THEN '{}' ELSE jsonb_build_object($5, $6::jsonb) END)",
		.nargs = 6, .types = {TEXTOID, TEXTOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID},
	};
	Datum		args[] = {
		CStringGetTextDatum(action),
		CStringGetTextDatum(recipient->saga),
		UUIDPGetDatum(&recipient->id),
		reason != NULL ? CStringGetTextDatum(reason) : (Datum) 0,
		key != NULL ? CStringGetTextDatum(key) : (Datum) 0,
		value != NULL ? CStringGetTextDatum(value) : (Datum) 0,
	};
	char		nulls[] = "      ";

	if (reason == NULL)
		nulls[3] = 'n';
	if (key == NULL)
		nulls[4] = nulls[5] = 'n';
	(void) evs_spi_call(&plan, args, nulls);
}

/* cancel_saga(saga_id, compensate) */
Datum
evs_cancel_saga(PG_FUNCTION_ARGS)
{
	static const char *const statuses[] = {"running", NULL};
	pg_uuid_t  *id = get_id(fcinfo);
	const char *compensate;
	EvsRecipient recipient;
	Datum		payload;

	if (PG_ARGISNULL(1))
		evs_throw_null("compensate");
	compensate = PG_GETARG_BOOL(1) ? "true" : "false";
	find_for_operator(id, "cancel_saga", statuses,
					  "Only one that is running can be cancelled.", &recipient);
	payload = DirectFunctionCall1(jsonb_in,
								  CStringGetDatum(psprintf("{\"compensate\": %s}", compensate)));
	evs_saga_mail(&recipient.id, recipient.definition_id, EVS_MAIL_CANCEL, 0, NULL,
				  DatumGetJsonbP(payload), NULL, NULL);
	audit("cancel_saga", &recipient, "compensate", compensate, NULL);
	PG_RETURN_VOID();
}

/* retry_saga(saga_id) */
Datum
evs_retry_saga(PG_FUNCTION_ARGS)
{
	static const char *const statuses[] = {"failed", "timed_out", "cancelled", "compensation_failed", NULL};
	EvsRecipient recipient;

	find_for_operator(get_id(fcinfo), "retry_saga", statuses,
					  "Only one that has failed, timed out or been cancelled, or whose compensation has failed, can be tried again.",
					  &recipient);
	evs_saga_mail(&recipient.id, recipient.definition_id, EVS_MAIL_RETRY, 0, NULL, NULL, NULL, NULL);
	audit("retry_saga", &recipient, NULL, NULL, NULL);
	PG_RETURN_VOID();
}

/* resolve_saga(saga_id, outcome, reason) */
Datum
evs_resolve_saga(PG_FUNCTION_ARGS)
{
	static const char *const statuses[] = {"compensation_failed", NULL};
	static const char *const outcomes[] = {"skip", "compensated", "failed", NULL};
	pg_uuid_t  *id = get_id(fcinfo);
	char	   *outcome = get_text(fcinfo, 1, "outcome", NAME_MAX_BYTES);
	char	   *reason = get_text(fcinfo, 2, "reason", REASON_MAX_BYTES);
	EvsRecipient recipient;

	if (!is_one_of(outcome, outcomes))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"outcome\" must not be \"%s\"", outcome),
				 errhint("Use 'skip', 'compensated' or 'failed'.")));
	find_for_operator(id, "resolve_saga", statuses,
					  "Only one whose compensation has failed can be resolved.", &recipient);
	evs_saga_mail(&recipient.id, recipient.definition_id, EVS_MAIL_RESOLVE, 0, NULL, NULL,
				  outcome, reason);
	audit("resolve_saga", &recipient, "outcome", psprintf("\"%s\"", outcome), reason);
	PG_RETURN_VOID();
}

static bool
has_text(Jsonb *object, const char *key)
{
	Jsonb	   *value = evs_asl_member(object, key);

	return value != NULL && evs_asl_text(value) != NULL;
}

/*
 * A list that the saga can make something of, or an event with one; what it names, the
 * saga looks up itself.
 */
static void
check_compensations(Jsonb *list)
{
	bool		ok;

	if (JB_ROOT_IS_OBJECT(list))
		list = evs_asl_member(list, "compensationRequired");
	ok = list != NULL && JB_ROOT_IS_ARRAY(list) && !JB_ROOT_IS_SCALAR(list) &&
		JB_ROOT_COUNT(list) > 0 && JB_ROOT_COUNT(list) <= COMPENSATIONS_MAX;
	for (uint32 i = 0; ok && i < JB_ROOT_COUNT(list); i++)
	{
		Jsonb	   *item = evs_asl_element(list, i);

		ok = JB_ROOT_IS_OBJECT(item) && (has_text(item, "state") || has_text(item, "eventType"));
	}
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"compensations\" must be a list of 1 to %d objects with a state or an eventType",
						COMPENSATIONS_MAX)));
}

/* compensate_saga(saga_id, compensations) */
Datum
evs_compensate_saga(PG_FUNCTION_ARGS)
{
	static const char *const statuses[] = {"running", "succeeded", "failed", "timed_out", "cancelled", NULL};
	pg_uuid_t  *id = get_id(fcinfo);
	Jsonb	   *list = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	EvsRecipient recipient;

	if (list != NULL)
		check_compensations(list);
	find_for_operator(id, "compensate_saga", statuses,
					  "What is being compensated, or has been, cannot be compensated once more.",
					  &recipient);
	if (list != NULL)
		evs_saga_check_size(recipient.definition_id, recipient.version, list, "compensations");
	evs_saga_mail(&recipient.id, recipient.definition_id, EVS_MAIL_COMPENSATE, 0, NULL, list,
				  NULL, NULL);
	audit("compensate_saga", &recipient, list != NULL ? "compensations" : NULL,
		  list != NULL ? JsonbToCString(NULL, &list->root, VARSIZE(list)) : NULL, NULL);
	PG_RETURN_VOID();
}
