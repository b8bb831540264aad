/*
 * in_template.c
 *	  Templates of streams and types.
 */
#include "postgres.h"

#include "base/errors.h"
#include "ingest/in_json.h"
#include "ingest/options.h"
#include "compat.h"

#define MESSAGE_PREFIX "attributes."

typedef struct Part
{
	const char *text;			/* or NULL, and it is filled with */
	List	   *names;			/* the first of these (char *) that there is */
	const char *written;
} Part;

struct EvsInTemplate
{
	const char *argument;
	int			nparts;
	Part		parts[FLEXIBLE_ARRAY_MEMBER];
};

pg_noreturn static void
throw_invalid(const char *argument, const char *reason)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("argument \"%s\" is not a valid template: %s", argument, reason),
			 errhint("Placeholders are {attribute}, {attribute|another} and {attributes.name}; a brace that is meant is {{ or }}.")));
}

static void
check_name(const char *argument, const char *name)
{
	bool		of_message = strncmp(name, MESSAGE_PREFIX, strlen(MESSAGE_PREFIX)) == 0;
	const char *rest = of_message ? name + strlen(MESSAGE_PREFIX) : name;

	if (*rest == '\0' ||
		(!of_message && rest[strspn(rest, "abcdefghijklmnopqrstuvwxyz0123456789")] != '\0'))
		throw_invalid(argument, psprintf("\"%s\" is not the name of an attribute", name));
}

static Part
parse_placeholder(const char *argument, char *text)
{
	Part		part = {.written = pstrdup(text)};

	for (;;)
	{
		char	   *bar = strchr(text, '|');

		if (bar != NULL)
			*bar = '\0';
		check_name(argument, text);
		part.names = lappend(part.names, text);
		if (bar == NULL)
			return part;
		text = bar + 1;
	}
}

static void
add_text(EvsInTemplate *template, StringInfo text)
{
	if (text->len == 0)
		return;
	template->parts[template->nparts++] = (Part) {.text = pstrdup(text->data)};
	resetStringInfo(text);
}

EvsInTemplate *
evs_in_template_compile(const char *s, const char *argument)
{
	/* each part has at least one byte */
	EvsInTemplate *template = palloc0(offsetof(EvsInTemplate, parts) + sizeof(Part) * (strlen(s) + 1));
	StringInfoData text;

	if (*s == '\0')
		throw_invalid(argument, "it is empty");
	template->argument = argument;
	initStringInfo(&text);
	while (*s != '\0')
	{
		const char *end;

		if ((*s == '{' || *s == '}') && s[1] == *s)
			s++;
		else if (*s == '}')
			throw_invalid(argument, "there is a } without {");
		else if (*s == '{')
		{
			end = strchr(s, '}');
			if (end == NULL)
				throw_invalid(argument, "there is a { without }");
			add_text(template, &text);
			template->parts[template->nparts++] =
				parse_placeholder(argument, pnstrdup(s + 1, end - s - 1));
			s = end + 1;
			continue;
		}
		appendStringInfoChar(&text, *s++);
	}
	add_text(template, &text);
	return template;
}

static const char *
value_of(const EvsCloudEvent *event, const char *name)
{
	if (strncmp(name, MESSAGE_PREFIX, strlen(MESSAGE_PREFIX)) == 0)
		return event->message_attributes == NULL ? NULL :
			evs_in_member_text(&event->message_attributes->root, name + strlen(MESSAGE_PREFIX));
	return evs_in_attribute_text(&event->attributes, name);
}

static const char *
first_value(const EvsCloudEvent *event, const Part *part)
{
	ListCell   *cell;

	foreach(cell, part->names)
	{
		const char *value = value_of(event, lfirst(cell));

		if (value != NULL && *value != '\0')
			return value;
	}
	return NULL;
}

const char *
evs_in_template_fill(const EvsInTemplate *template, const EvsCloudEvent *event, int index)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < template->nparts; i++)
	{
		const Part *part = &template->parts[i];
		const char *value = part->text != NULL ? part->text : first_value(event, part);

		if (value == NULL)
			evs_in_throw(index, template->argument,
						 "the event has no {%s}, which argument \"%s\" asks for",
						 part->written, template->argument);
		appendStringInfoString(&buf, value);
	}
	return buf.data;
}
