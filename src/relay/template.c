/*
 * template.c
 *	  Templates of topics.
 *
 * A template is a list of parts: a text, or a placeholder that an event fills.
 * "{{" and "}}" stand for single braces.
 */
#include "postgres.h"

#include "base/errors.h"
#include "base/utf8.h"
#include "relay/template.h"
#include "compat.h"

typedef enum PartKind
{
	PART_TEXT,
	PART_CATEGORY,
	PART_STREAM,
	PART_TYPE,
	PART_KEY,
	PART_RELAY,
	PART_METADATA
} PartKind;

typedef struct Part
{
	PartKind	kind;
	bool		lower;
	char	   *text;			/* the text in UTF-8, or the member of the metadata */
} Part;

struct EvsTemplate
{
	int			nparts;
	Part		parts[FLEXIBLE_ARRAY_MEMBER];
};

static const struct
{
	const char *name;
	PartKind	kind;
}			placeholders[] = {
	{"category", PART_CATEGORY},
	{"stream", PART_STREAM},
	{"type", PART_TYPE},
	{"key", PART_KEY},
	{"relay", PART_RELAY},
};

#define METADATA_PREFIX "metadata."
#define LOWER_SUFFIX ":lower"

/* ---- compiling ---- */

static void
throw_invalid(const char *reason)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_string(&detail, "path", "$.topic");
	evs_detail_string(&detail, "reason", reason);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_INVALID_DEFINITION),
			 errmsg("invalid definition: $.topic is not a valid template"),
			 errdetail_internal("%s", evs_detail_end(&detail)),
			 errhint("Placeholders are {category}, {stream}, {type}, {key}, {relay} and {metadata.<member>}, each with :lower if wanted.")));
}

/* What needs no rules for quoting. */
static bool
is_member_name(const char *name)
{
	static const char *const allowed =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

	return *name != '\0' && name[strspn(name, allowed)] == '\0';
}

static bool
strip_suffix(char *text, const char *suffix)
{
	Size		length = strlen(text);
	Size		suffix_length = strlen(suffix);

	if (length < suffix_length || strcmp(text + length - suffix_length, suffix) != 0)
		return false;
	text[length - suffix_length] = '\0';
	return true;
}

/* What stands between the braces; keeps the text. */
static Part
parse_placeholder(char *text)
{
	char	   *shown = pstrdup(text);
	Part		part = {.lower = strip_suffix(text, LOWER_SUFFIX)};

	for (int i = 0; i < (int) lengthof(placeholders); i++)
		if (strcmp(text, placeholders[i].name) == 0)
		{
			part.kind = placeholders[i].kind;
			return part;
		}
	if (strncmp(text, METADATA_PREFIX, strlen(METADATA_PREFIX)) == 0 &&
		is_member_name(text + strlen(METADATA_PREFIX)))
	{
		part.kind = PART_METADATA;
		part.text = text + strlen(METADATA_PREFIX);
		return part;
	}
	throw_invalid(psprintf("{%s} is not known", shown));
	return part;
}

static void
add_part(EvsTemplate *template, Part part)
{
	template->parts[template->nparts++] = part;
}

/* What has been gathered since the last placeholder. */
static void
add_text(EvsTemplate *template, StringInfo text)
{
	Part		part = {.kind = PART_TEXT};

	if (text->len == 0)
		return;
	part.text = pstrdup(evs_utf8(text->data));
	add_part(template, part);
	resetStringInfo(text);
}

/* The whole text can be converted, and so can its parts. */
static void
parse(EvsTemplate *template, const char *s)
{
	StringInfoData text;

	initStringInfo(&text);
	while (*s != '\0')
	{
		const char *end;

		if ((*s == '{' || *s == '}') && s[1] == *s)
			s++;
		else if (*s == '}')
			throw_invalid("there is a } without {; one that is meant is }}");
		else if (*s == '{')
		{
			end = strchr(s, '}');
			if (end == NULL)
				throw_invalid("there is a { without }; one that is meant is {{");
			add_text(template, &text);
			add_part(template, parse_placeholder(pnstrdup(s + 1, end - s - 1)));
			s = end + 1;
			continue;
		}
		appendStringInfoChar(&text, *s++);
	}
	add_text(template, &text);
	pfree(text.data);
}

EvsTemplate *
evs_template_compile(const char *text)
{
	EvsTemplate *template;
	const char *utf8;

	if (text == NULL)
		text = EVS_TEMPLATE_DEFAULT;
	utf8 = evs_utf8(text);
	if (utf8 == NULL)
		throw_invalid("it cannot be converted to UTF-8");
	if (strlen(utf8) > EVS_TEMPLATE_MAX)
		throw_invalid(psprintf("it has more than %d bytes", EVS_TEMPLATE_MAX));
	if (evs_utf8_has_control(utf8))
		throw_invalid("it has control characters");
	/* each part has at least one byte */
	template = palloc0(offsetof(EvsTemplate, parts) + sizeof(Part) * strlen(text));
	parse(template, text);
	return template;
}

/* ---- filling in ---- */

/* NULL if there is none, or it is null, an object or an array. */
static const char *
metadata_member(Jsonb *metadata, const char *name)
{
	JsonbValue	value;

	if (metadata == NULL || !evs_json_member(&metadata->root, name, &value))
		return NULL;
	return evs_json_scalar_text(&value);
}

static const char *
value_of(const Part *part, const EvsOutgoing *event, const char *relay)
{
	switch (part->kind)
	{
		case PART_TEXT:
			return part->text;
		case PART_CATEGORY:
			return event->category;
		case PART_STREAM:
			return event->stream;
		case PART_TYPE:
			return event->type;
		case PART_KEY:
			return event->key;
		case PART_RELAY:
			return relay;
		case PART_METADATA:
			return metadata_member(event->metadata, part->text);
	}
	return NULL;
}

static const char *
describe(const Part *part)
{
	for (int i = 0; i < (int) lengthof(placeholders); i++)
		if (part->kind == placeholders[i].kind)
			return placeholders[i].name;
	return psprintf(METADATA_PREFIX "%s", part->text);
}

/* ASCII letters only: a topic must not depend on a locale. */
static void
append_lower(StringInfo buf, const char *s)
{
	for (; *s != '\0'; s++)
		appendStringInfoChar(buf, *s >= 'A' && *s <= 'Z' ? *s - 'A' + 'a' : *s);
}

/* What is wrong with the value, or NULL and it has been appended. */
static const char *
append_value(StringInfo buf, const Part *part, const char *value)
{
	if (value == NULL || *value == '\0')
		return "has no value";
	value = evs_utf8(value);
	if (value == NULL)
		return "cannot be converted to UTF-8";
	if (evs_utf8_has_control(value))
		return "has control characters";
	if (part->lower)
		append_lower(buf, value);
	else
		appendStringInfoString(buf, value);
	return NULL;
}

char *
evs_template_fill(const EvsTemplate *template, const EvsOutgoing *event, const char *relay,
				  char **error)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < template->nparts; i++)
	{
		const Part *part = &template->parts[i];
		const char *problem;

		/* has been converted and checked */
		if (part->kind == PART_TEXT)
		{
			appendStringInfoString(&buf, part->text);
			continue;
		}
		problem = append_value(&buf, part, value_of(part, event, relay));
		if (problem != NULL)
		{
			*error = psprintf("topic: {%s} %s", describe(part), problem);
			return NULL;
		}
	}
	return buf.data;
}
