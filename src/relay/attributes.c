/*
 * attributes.c
 *	  The attributes of an event, as CloudEvents has them.
 *
 * They are those of to_cloudevent(), which is the reference: see
 * sql/modules/54_envelope.sql.  They are gathered in a list first, since the event
 * may replace some: the members of metadata.cloudevent, where append_cloudevent()
 * keeps what has no column.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/utf8.h"
#include "relay/encoding.h"
#include "compat.h"

/* Attributes that every event can have. */
#define OWN_ATTRIBUTES 16

/* Longest name that the specification recommends. */
#define EXTENSION_NAME_MAX 20

/* As in "2000-01-01T00:00:00". */
#define SECOND_LENGTH 19

/* Of the attribute sequence. */
#define SEQUENCE_DIGITS 20

#define CONTENT_TYPE_JSON "application/json"

void
evs_encoding_fail(EvsEncoding *e, char *error)
{
	if (e->error == NULL)
		e->error = error;
}

const char *
evs_encoding_utf8(EvsEncoding *e, const char *text, const char *what)
{
	const char *result;

	if (text == NULL)
		return NULL;
	result = evs_utf8(text);
	if (result == NULL)
		evs_encoding_fail(e, psprintf("%s cannot be converted to UTF-8", what));
	return result;
}

static JsonbContainer *
metadata_of(EvsEncoding *e)
{
	return e->event->metadata != NULL ? &e->event->metadata->root : NULL;
}

JsonbContainer *
evs_encoding_object(EvsEncoding *e, const char *name)
{
	JsonbValue	value;

	if (!evs_json_member(metadata_of(e), name, &value) || value.type != jbvBinary ||
		!JsonContainerIsObject(value.val.binary.data))
		return NULL;
	return value.val.binary.data;
}

/* strspn() would begin with a table of all of them. */
Size
evs_uri_span(const char *text, const char *marks)
{
	const char *end = text;

	while ((*end >= 'a' && *end <= 'z') || (*end >= 'A' && *end <= 'Z') ||
		   (*end >= '0' && *end <= '9') || (*end != '\0' && strchr(marks, *end) != NULL))
		end++;
	return end - text;
}

/* Percent-encode the bytes that are neither letters, digits nor marks. */
static const char *
uri_encode(const char *text, const char *marks)
{
	Size		span = evs_uri_span(text, marks);
	StringInfoData buf;

	if (text[span] == '\0')
		return text;
	initStringInfo(&buf);
	for (; text[span] != '\0'; text += span + 1, span = evs_uri_span(text, marks))
	{
		appendBinaryStringInfo(&buf, text, span);
		appendStringInfo(&buf, "%%%02X", (unsigned char) text[span]);
	}
	appendStringInfoString(&buf, text);
	return buf.data;
}

/* What the sources of events without one begin with.  Nobody is connected to a database while it is renamed. */
static const char *
source_prefix(EvsEncoding *e)
{
	static char *prefix = NULL;

	if (prefix == NULL)
	{
		const char *database = get_database_name(MyDatabaseId);

		if (database == NULL)
			elog(ERROR, "database %u has no name", MyDatabaseId);
		database = evs_encoding_utf8(e, database, "name of the database");
		if (database == NULL)
			return NULL;
		prefix = MemoryContextStrdup(TopMemoryContext,
									 psprintf("/evstore/%s/", uri_encode(database, EVS_URI_UNRESERVED)));
	}
	return prefix;
}

static const char *
join(const char *first, const char *second)
{
	Size		length = strlen(first);
	Size		size = strlen(second) + 1;
	char	   *joined = palloc(length + size);

	memcpy(joined, first, length);
	memcpy(joined + length, second, size);
	return joined;
}

static const char *
source_of(EvsEncoding *e)
{
	const char *source = e->event->source;
	const char *prefix;
	const char *category;

	if (source == NULL || *source == '\0')
		source = e->encoder->source;
	if (source != NULL && *source != '\0')
	{
		source = evs_encoding_utf8(e, source, "source");
		return source != NULL ? uri_encode(source, EVS_URI_REFERENCE) : NULL;
	}
	prefix = source_prefix(e);
	category = evs_encoding_utf8(e, e->event->category, "category");
	if (prefix == NULL || category == NULL)
		return NULL;
	return join(prefix, uri_encode(category, EVS_URI_UNRESERVED));
}

static char *
add_digits(char *at, int number, int width, char separator)
{
	at = pg_ultostr_zeropad(at, number, width);
	*at++ = separator;
	return at;
}

/* Up to its seconds; NULL if not in the years 1 to 9999. */
static const char *
text_of_second(TimestampTz second)
{
	static TimestampTz known;
	static char text[SECOND_LENGTH + 1];
	struct pg_tm tm;
	fsec_t		fsec;
	char	   *at = text;

	/* events come in about the order of their times */
	if (second == known && *text != '\0')
		return text;
	if (timestamp2tm(second, NULL, &tm, &fsec, NULL, NULL) != 0 ||
		tm.tm_year < 1 || tm.tm_year > 9999)
		return NULL;
	at = add_digits(at, tm.tm_year, 4, '-');
	at = add_digits(at, tm.tm_mon, 2, '-');
	at = add_digits(at, tm.tm_mday, 2, 'T');
	at = add_digits(at, tm.tm_hour, 2, ':');
	at = add_digits(at, tm.tm_min, 2, ':');
	*pg_ultostr_zeropad(at, tm.tm_sec, 2) = '\0';
	known = second;
	return text;
}

char *
evs_encoding_time(TimestampTz time)
{
	int			fsec = (int) (time % USECS_PER_SEC);
	const char *second;
	char	   *text;
	char	   *at;

	/* before 2000 */
	if (fsec < 0)
		fsec += USECS_PER_SEC;
	second = TIMESTAMP_NOT_FINITE(time) ? NULL : text_of_second(time - fsec);
	if (second == NULL)
		return NULL;
	text = palloc(SECOND_LENGTH + sizeof(".000000Z"));
	memcpy(text, second, SECOND_LENGTH);
	at = text + SECOND_LENGTH;
	if (fsec != 0)
	{
		*at++ = '.';
		at = pg_ultostr_zeropad(at, fsec, 6);
		while (at[-1] == '0')
			at--;
	}
	*at++ = 'Z';
	*at = '\0';
	return text;
}

static const char *
time_of(EvsEncoding *e)
{
	const char *text = evs_encoding_time(e->event->time);

	if (text == NULL)
		evs_encoding_fail(e, pstrdup("time is not between the years 1 and 9999"));
	return text;
}

/* As uuid_out() has it, which takes a kilobyte for each. */
const char *
evs_encoding_uuid(const pg_uuid_t *uuid)
{
	static const char digits[] = "0123456789abcdef";
	char	   *text = palloc(2 * UUID_LEN + 5);
	char	   *at = text;

	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*at++ = '-';
		*at++ = digits[uuid->data[i] >> 4];
		*at++ = digits[uuid->data[i] & 0xf];
	}
	*at = '\0';
	return text;
}

static char *
number_text(int64 value)
{
	char	   *text = palloc(MAXINT8LEN + 1);

	pg_lltoa(value, text);
	return text;
}

/* Positions compare as texts: with leading zeros. */
static const char *
sequence_text(int64 position)
{
	char		text[MAXINT8LEN + 1];
	int			length = pg_lltoa(position, text);
	char	   *result = palloc(SEQUENCE_DIGITS + 1);

	memset(result, '0', SEQUENCE_DIGITS);
	memcpy(result + SEQUENCE_DIGITS - length, text, length + 1);
	return result;
}

/* ---- attributes ---- */

static EvsAttribute *
find_attribute(EvsEncoding *e, const char *name, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(e->attributes[i].name, name) == 0)
			return &e->attributes[i];
	return NULL;
}

static void
add_attribute(EvsEncoding *e, const char *name, const char *value)
{
	EvsAttribute *attribute;

	if (value == NULL)
		return;
	attribute = &e->attributes[e->nattributes++];
	attribute->name = name;
	attribute->value = value;
	attribute->is_json = attribute->is_foreign = false;
}

/* A CloudEvents Integer has 32 bits; what is larger is a string. */
static void
add_number(EvsEncoding *e, const char *name, int64 value)
{
	add_attribute(e, name, number_text(value));
	e->attributes[e->nattributes - 1].is_json = value <= PG_INT32_MAX;
}

static void
add_text(EvsEncoding *e, const char *name, const char *text)
{
	text = evs_encoding_utf8(e, text, name);
	add_attribute(e, name, text);
	if (text != NULL)
		e->attributes[e->nattributes - 1].is_foreign = true;
}

static void
add_from_metadata(EvsEncoding *e, const char *name)
{
	JsonbValue	value;

	if (evs_json_member(metadata_of(e), name, &value) && value.type == jbvString)
		add_text(e, name, evs_json_scalar_text(&value));
}

static void
add_own_attributes(EvsEncoding *e)
{
	const EvsOutgoing *event = e->event;

	add_attribute(e, "specversion", "1.0");
	add_attribute(e, "id", e->message->id);
	add_attribute(e, "source", source_of(e));
	add_text(e, "type", event->type);
	add_text(e, "subject", event->subject != NULL ? event->subject : event->stream);
	add_attribute(e, "time", time_of(e));
	add_attribute(e, "datacontenttype", CONTENT_TYPE_JSON);
	add_text(e, "correlationid", event->correlation_id);
	if (event->has_causation_id)
		add_attribute(e, "causationid", evs_encoding_uuid(&event->causation_id));
	add_attribute(e, "sequence", sequence_text(event->position));
	add_number(e, "streamversion", event->version);
	add_number(e, "schemaversion", event->schema_version);
	add_text(e, "partitionkey", event->key);
	add_from_metadata(e, "traceparent");
	add_from_metadata(e, "tracestate");
}

static bool
is_one_of(const char *name, const char *const *names, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* Attributes of the specification: strings that are not empty. */
static bool
is_core_name(const char *name)
{
	static const char *const names[] = {
		"id", "source", "type", "subject", "time", "datacontenttype", "dataschema",
	};

	return is_one_of(name, names, lengthof(names));
}

/* Members of a structured message that are never attributes of the event's choice. */
static bool
is_reserved_name(const char *name)
{
	static const char *const names[] = {"specversion", "data"};

	return is_one_of(name, names, lengthof(names));
}

static bool
is_attribute_name(const char *name)
{
	return *name != '\0' && name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789")] == '\0';
}

/* Of raw messages only what describes the data is known. */
static bool
is_wanted(EvsEncoding *e, const char *name)
{
	static const char *const names[] = {"source", "datacontenttype"};

	return e->encoder->format != EVS_FORMAT_RAW || is_one_of(name, names, lengthof(names));
}

/* A member of metadata.cloudevent: as it is, and before the event's own. */
static void
set_kept_attribute(EvsEncoding *e, int nown, const char *name, const JsonbValue *value)
{
	const char *text = evs_json_scalar_text(value);
	EvsAttribute *attribute;

	if (text == NULL || !is_attribute_name(name) || is_reserved_name(name) || !is_wanted(e, name))
		return;
	if (is_core_name(name) && (value->type != jbvString || *text == '\0'))
		return;
	text = evs_encoding_utf8(e, text, name);
	attribute = find_attribute(e, name, nown);
	if (attribute == NULL)
	{
		attribute = &e->attributes[e->nattributes++];
		attribute->name = name;
	}
	attribute->value = text;
	attribute->is_json = value->type != jbvString;
	attribute->is_foreign = true;
}

/* Can the text of a JSON number be that of an Integer? */
static bool
is_integer(const char *text)
{
	char	   *end;
	long		number;

	errno = 0;
	number = strtol(text, &end, 10);
	return errno == 0 && *end == '\0' && number >= PG_INT32_MIN && number <= PG_INT32_MAX;
}

/* Another member of the metadata: if it can be an extension that there is not yet. */
static void
add_metadata_attribute(EvsEncoding *e, int nown, const char *name, const JsonbValue *value)
{
	const char *text = evs_json_scalar_text(value);

	if (text == NULL || *text == '\0' || !is_attribute_name(name) ||
		strlen(name) > EXTENSION_NAME_MAX || is_core_name(name) || is_reserved_name(name) ||
		find_attribute(e, name, nown) != NULL)
		return;
	add_text(e, name, text);
	if (value->type == jbvBool || (value->type == jbvNumeric && is_integer(text)))
		e->attributes[e->nattributes - 1].is_json = true;
}

typedef void (*MemberFunction) (EvsEncoding *e, int nown, const char *name,
								const JsonbValue *value);

/* Keys of an object are unique, so only the attributes from before can be meant again. */
static void
for_each_member(EvsEncoding *e, JsonbContainer *object, MemberFunction function)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;
	int			nown = e->nattributes;

	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		function(e, nown, pnstrdup(key.val.string.val, key.val.string.len), &value);
	}
}

static int
count_members(JsonbContainer *object)
{
	return object != NULL ? (int) JsonContainerSize(object) : 0;
}

static void
set_extensions(EvsEncoding *e)
{
	for (int i = 0; i < e->event->nextensions; i++)
	{
		const evs_sink_pair *extension = &e->event->extensions[i];
		EvsAttribute *attribute = find_attribute(e, extension->name, e->nattributes);

		if (attribute == NULL)
			attribute = &e->attributes[e->nattributes++];
		attribute->name = extension->name;
		attribute->value = extension->value;
		attribute->is_json = false;
		attribute->is_foreign = true;
	}
}

void
evs_encoding_gather_attributes(EvsEncoding *e)
{
	JsonbContainer *metadata = e->encoder->publishes_metadata ? metadata_of(e) : NULL;
	int			n = OWN_ATTRIBUTES + count_members(e->kept) + count_members(metadata) +
		e->event->nextensions;

	e->attributes = palloc(sizeof(EvsAttribute) * n);
	if (e->encoder->format == EVS_FORMAT_RAW)
	{
		add_attribute(e, "source", source_of(e));
		add_attribute(e, "datacontenttype", CONTENT_TYPE_JSON);
	}
	else
		add_own_attributes(e);
	if (e->kept != NULL)
		for_each_member(e, e->kept, set_kept_attribute);
	if (metadata != NULL && e->encoder->format != EVS_FORMAT_RAW)
		for_each_member(e, metadata, add_metadata_attribute);
	if (e->encoder->format != EVS_FORMAT_RAW)
		set_extensions(e);
}

/* A String of CloudEvents has no control characters. */
void
evs_encoding_check_attributes(EvsEncoding *e)
{
	for (int i = 0; i < e->nattributes && e->error == NULL; i++)
		if (e->attributes[i].is_foreign && evs_utf8_has_control(e->attributes[i].value))
			evs_encoding_fail(e, psprintf("attribute \"%s\" has control characters",
										  e->attributes[i].name));
}

const char *
evs_encoding_attribute(EvsEncoding *e, const char *name)
{
	EvsAttribute *attribute = find_attribute(e, name, e->nattributes);

	return attribute != NULL ? attribute->value : NULL;
}
