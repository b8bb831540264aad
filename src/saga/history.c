/*
 * history.c
 *	  The history of an instance: events of its stream.
 *
 * All have the instance's correlation id, and each follows from the one before.  They are
 * written as evstore's owner, since an instance has a history whatever its owner may
 * append.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "catalog/catalog.h"
#include "saga/history.h"
#include "stream/append.h"
#include "stream/event.h"
#include "compat.h"

char *
evs_instance_stream(const EvsInstance *instance)
{
	return psprintf("saga-%s", instance->id_text);
}

static void
fill_event(EvsNewEvent *event, const EvsInstance *instance, const EvsSagaAction *action)
{
	evs_batch_init_event(event);
	event->type = cstring_to_text(action->type);
	event->data = action->data;
	event->correlation_id = cstring_to_text(instance->correlation_id);
	event->has_causation_id = instance->has_cause;
	event->causation_id = instance->causation_id;
	event->has_own_id = true;
	evs_uuid7(&event->event_id);
}

void
evs_history_add(EvsHistory *history, const EvsSagaAction *action)
{
	EvsNewEvent *event;

	if (action->kind != EVS_ACTION_RECORD)
		return;
	if (history->events == NULL)
	{
		history->room = 8;
		history->events = palloc(sizeof(EvsNewEvent) * history->room);
	}
	else if (history->nevents == history->room)
	{
		history->room *= 2;
		history->events = repalloc(history->events, sizeof(EvsNewEvent) * history->room);
	}
	event = &history->events[history->nevents++];
	fill_event(event, history->instance, action);
	history->instance->has_cause = true;
	history->instance->causation_id = event->event_id;
}

static void
append_as_owner(EvsBatch *batch)
{
	EvsAppendResult result;
	Oid			user;
	int			sec_context;

	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(evs_catalog()->owner, sec_context | SECURITY_LOCAL_USERID_CHANGE);
	evs_batch_validate(batch);
	evs_append_execute(batch, 1, false, &result);
	SetUserIdAndSecContext(user, sec_context);
}

void
evs_history_write(EvsHistory *history)
{
	EvsBatch	batch = {
		.stream = evs_instance_stream(history->instance), .expected = EVS_ANY_VERSION,
		.nevents = history->nevents, .events = history->events,
	};

	if (batch.nevents > 0)
		append_as_owner(&batch);
}
