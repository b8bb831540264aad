/*
 * instance.c
 *	  Starting instances of sagas.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/guc.h"
#include "base/xact.h"
#include "catalog/catalog.h"
#include "saga/history.h"
#include "saga/instance.h"
#include "saga/mail.h"
#include "saga/rows.h"
#include "stream/cause.h"
#include "stream/event.h"
#include "stream/position.h"
#include "compat.h"

/* Longest business key, in bytes. */
#define BUSINESS_KEY_MAX 512

void
evs_uuid_text(const pg_uuid_t *id, char *text)
{
	strlcpy(text, DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id))), EVS_UUID_TEXT);
}

static void
check_input(const EvsSagaDefinition *definition, Jsonb *input)
{
	StringInfoData detail;

	if (VARSIZE_ANY(input) <= definition->max_data)
		return;
	evs_detail_begin(&detail);
	evs_detail_int(&detail, "size", VARSIZE_ANY(input));
	evs_detail_int(&detail, "limit", definition->max_data);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the input of a saga is too large"),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 errhint("Store large objects elsewhere and refer to them, or raise the saga's option \"max_data\".")));
}

/* Text of what the option's path names; NULL if there is no option. */
static char *
key_of_input(const EvsSagaDefinition *definition, Jsonb *input)
{
	EvsAslScope scope = {.input = input, .context = evs_asl_empty_object()};
	Jsonb	   *value;
	JsonbValue	scalar;

	if (definition->business_key == NULL)
		return NULL;
	value = evs_asl_path_get(definition->business_key, &scope);
	if (value != NULL)
	{
		scalar = evs_asl_unpack(value);
		if (scalar.type == jbvString)
			return pnstrdup(scalar.val.string.val, scalar.val.string.len);
		if (scalar.type == jbvNumeric || scalar.type == jbvBool)
			return JsonbToCString(NULL, &value->root, VARSIZE(value));
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the input of the saga has no business key at %s",
					evs_asl_path_text(definition->business_key)),
			 errhint("A business key is a string, a number, or true or false.")));
	return NULL;
}

static void
check_business_key(const char *key)
{
	if (key != NULL && (key[0] == '\0' || strlen(key) > BUSINESS_KEY_MAX))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a business key must have 1 to %d bytes", BUSINESS_KEY_MAX)));
}

/* Given, or that of the flow which starts it, or its own. */
static char *
choose_correlation(const EvsInstanceStart *start, const EvsInstance *instance)
{
	EvsCause	cause = evs_cause_get();

	if (start->correlation_id != NULL)
		return pstrdup(start->correlation_id);
	if (cause.correlation_id != NULL)
		return text_to_cstring(cause.correlation_id);
	if (evs_guc_correlation_id != NULL && evs_guc_correlation_id[0] != '\0')
		return pstrdup(evs_guc_correlation_id);
	return pstrdup(instance->id_text);
}

static void
fill_instance(const EvsInstanceStart *start, const EvsSagaDefinition *definition,
			  EvsInstance *instance)
{
	evs_uuid7(&instance->id);
	evs_uuid_text(&instance->id, instance->id_text);
	instance->definition_id = start->saga->id;
	instance->version = start->saga->version;
	instance->priority = start->priority >= 0 ? start->priority : definition->priority;
	instance->business_key = start->business_key != NULL ? pstrdup(start->business_key) :
		key_of_input(definition, start->input);
	check_business_key(instance->business_key);
	instance->started_after = start->started_after >= 0 ? start->started_after :
		evs_position_safe();
	instance->started_at = evs_clock_now();
	instance->next_due = instance->started_at;
	if (start->parent_id != NULL)
	{
		instance->has_parent = true;
		instance->parent_id = *start->parent_id;
		instance->parent_step = start->parent_step;
	}
	instance->correlation_id = choose_correlation(start, instance);
	if (start->causation_id != NULL)
	{
		instance->has_cause = true;
		instance->causation_id = *start->causation_id;
	}
	instance->input = start->input;
}

/* The execution's first transition: it is there, and has done nothing yet. */
static List *
begin_execution(const EvsInstanceStart *start, const EvsSagaDefinition *definition,
				EvsInstance *instance)
{
	EvsTransition transition = {.definition = definition};
	EvsExecution *execution = evs_execution_new();
	EvsSagaEvent event = {
		.kind = EVS_SAGA_START, .now = instance->started_at, .data = start->input,
		.input = start->input, .random = &pg_global_prng_state, .saga_id = instance->id_text,
		.saga = start->saga->name, .business_key = instance->business_key,
		.started_at = instance->started_at,
	};

	(void) evs_saga_transition(&transition, execution, &event);
	instance->status = evs_execution_status(execution);
	instance->execution = evs_execution_store(execution, definition);
	return transition.actions;
}

bool
evs_instance_start(const EvsInstanceStart *start, pg_uuid_t *id)
{
	const EvsSagaDefinition *definition = evs_saga_definition(start->saga->id, start->saga->version);
	EvsInstance instance = {0};
	EvsHistory	history = {.instance = &instance};
	ListCell   *cell;

	check_input(definition, start->input);
	fill_instance(start, definition, &instance);
	foreach(cell, begin_execution(start, definition, &instance))
		evs_history_add(&history, lfirst(cell));
	if (!evs_rows_insert_instance(&instance, instance.started_at, id))
		return false;
	evs_history_write(&history);
	evs_saga_wake_workers(instance.definition_id);
	return true;
}
