/*
 * incoming.c
 *	  Events on their way in: attributes and errors.
 */
#include "postgres.h"

#include "base/errors.h"
#include "ingest/incoming.h"
#include "relay/outgoing.h"
#include "compat.h"

void
evs_in_attribute_add(EvsInAttributes *attributes, const char *name, const JsonbValue *value)
{
	if (attributes->n == attributes->size)
	{
		attributes->size = Max(16, attributes->size * 2);
		attributes->list = attributes->list == NULL ?
			palloc(sizeof(EvsInAttribute) * attributes->size) :
			repalloc(attributes->list, sizeof(EvsInAttribute) * attributes->size);
	}
	attributes->list[attributes->n].name = name;
	attributes->list[attributes->n++].value = *value;
}

void
evs_in_attribute_add_text(EvsInAttributes *attributes, const char *name, const char *text)
{
	JsonbValue	value = {.type = jbvString};

	if (text == NULL || *text == '\0')
		return;
	value.val.string.val = unconstify(char *, text);
	value.val.string.len = strlen(text);
	evs_in_attribute_add(attributes, name, &value);
}

EvsInAttribute *
evs_in_attribute_find(const EvsInAttributes *attributes, const char *name)
{
	for (int i = 0; i < attributes->n; i++)
		if (strcmp(attributes->list[i].name, name) == 0)
			return &attributes->list[i];
	return NULL;
}

const char *
evs_in_attribute_text(const EvsInAttributes *attributes, const char *name)
{
	EvsInAttribute *attribute = evs_in_attribute_find(attributes, name);

	return attribute != NULL ? evs_json_scalar_text(&attribute->value) : NULL;
}

void
evs_in_throw(int index, const char *field, const char *fmt,...)
{
	StringInfoData detail;
	StringInfoData message;

	initStringInfo(&message);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, fmt);
		needed = appendStringInfoVA(&message, fmt, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&message, needed);
	}
	evs_detail_begin(&detail);
	evs_detail_int(&detail, "index", index);
	evs_detail_string(&detail, "field", field);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_INVALID_EVENT),
			 errmsg_internal("%s", message.data),
			 errdetail_internal("%s", evs_detail_end(&detail))));
}
