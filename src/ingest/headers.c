/*
 * headers.c
 *	  Headers, and the attributes that brokers have for a message.
 *
 * Each protocol's binding of CloudEvents has a prefix of its own.  The one that
 * specversion has is that of the message; others are none of CloudEvents'.
 */
#include "postgres.h"

#include "base/utf8.h"
#include "ingest/headers.h"
#include "ingest/in_json.h"
#include "relay/outgoing.h"
#include "compat.h"

/* In lower case, as names are. */
static const struct
{
	const char *prefix;
	EvsHeaderFamily family;
}			prefixes[] = {
	{"ce-", EVS_HEADERS_DASH},
	{"ce_", EVS_HEADERS_UNDERSCORE},
	{"cloudevents_", EVS_HEADERS_AMQP},
	{"cloudevents:", EVS_HEADERS_AMQP},
	{"", EVS_HEADERS_BARE},
};

/* More than any broker or server lets through. */
#define HEADERS_MAX 1000

/* What different libraries call the property of a message. */
static const char *const content_types[] = {
	"content-type", "content_type", "contenttype", "content type",
};

/* What AWS calls the text of a value, and its Base64. */
static const char *const value_names[] = {
	"Value", "stringValue", "StringValue", "binaryValue", "BinaryValue",
};

/* ---- reading ---- */

static char *
lower(const char *name, int length)
{
	char	   *result = pnstrdup(name, length);

	for (char *c = result; *c != '\0'; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c += 'a' - 'A';
	return result;
}

/* Of a header that came several times. */
static const char *
join(JsonbContainer *array, const char *name, int index)
{
	JsonbIterator *it = JsonbIteratorInit(array);
	JsonbIteratorToken token;
	JsonbValue	element;
	StringInfoData text;

	initStringInfo(&text);
	while ((token = JsonbIteratorNext(&it, &element, true)) != WJB_DONE)
	{
		const char *one;

		if (token != WJB_ELEM || element.type == jbvNull)
			continue;
		one = evs_json_scalar_text(&element);
		if (one == NULL)
			evs_in_throw(index, "attributes", "attribute \"%s\" of the message has no value that is text", name);
		appendStringInfo(&text, "%s%s", text.len > 0 ? ", " : "", one);
	}
	return text.data;
}

static const char *
text_of_container(JsonbContainer *container, const char *name, int index)
{
	if (JsonContainerIsArray(container))
		return join(container, name, index);
	for (int i = 0; i < (int) lengthof(value_names); i++)
	{
		const char *text = evs_in_member_text(container, value_names[i]);

		if (text != NULL)
			return text;
	}
	evs_in_throw(index, "attributes", "attribute \"%s\" of the message has no value that is text", name);
}

static void
read_header(EvsHeaders *headers, const JsonbValue *key, const JsonbValue *value, int index)
{
	char	   *name = lower(key->val.string.val, key->val.string.len);
	JsonbValue	text = {.type = jbvString};

	if (value->type == jbvNull)
		return;
	if (value->type == jbvBinary)
	{
		text.val.string.val = unconstify(char *, text_of_container(value->val.binary.data, name, index));
		text.val.string.len = strlen(text.val.string.val);
		value = &text;
	}
	evs_in_attribute_add(&headers->all, name, value);
	evs_in_attribute_add(&headers->as_written,
						 pnstrdup(key->val.string.val, key->val.string.len), value);
}

static EvsHeaderFamily
family_of(const EvsHeaders *headers)
{
	for (int i = 0; i < (int) lengthof(prefixes); i++)
		if (evs_in_attribute_find(&headers->all, psprintf("%sspecversion", prefixes[i].prefix)) != NULL)
			return prefixes[i].family;
	return EVS_HEADERS_NONE;
}

void
evs_headers_read(EvsHeaders *headers, JsonbContainer *object, int index)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;

	memset(headers, 0, sizeof(*headers));
	if (object == NULL)
		return;
	if (JsonContainerSize(object) > HEADERS_MAX)
		evs_in_throw(index, "attributes", "message has more than %d attributes", HEADERS_MAX);
	it = JsonbIteratorInit(object);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		read_header(headers, &key, &value, index);
	}
	for (int i = 0; i < (int) lengthof(content_types) && headers->content_type == NULL; i++)
		headers->content_type = evs_in_attribute_text(&headers->all, content_types[i]);
	headers->family = family_of(headers);
}

const char *
evs_headers_text(const EvsHeaders *headers, const char *name)
{
	return evs_in_attribute_text(&headers->all, name);
}

/* ---- attributes ---- */

static bool
is_content_type(const char *name)
{
	for (int i = 0; i < (int) lengthof(content_types); i++)
		if (strcmp(name, content_types[i]) == 0)
			return true;
	return false;
}

/* The name of the attribute that a header is; NULL: it is none. */
static const char *
attribute_name(const EvsHeaders *headers, const char *name)
{
	if (is_content_type(name))
		return NULL;
	for (int i = 0; i < (int) lengthof(prefixes); i++)
	{
		Size		length = strlen(prefixes[i].prefix);

		if (prefixes[i].family != headers->family ||
			strncmp(name, prefixes[i].prefix, length) != 0)
			continue;
		/* without a prefix there may be anything */
		if (length == 0 &&
			name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789")] != '\0')
			return NULL;
		return name + length;
	}
	return NULL;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* RFC 9110, 5.6.4: a quoted string.  Anything else stays as it is. */
static char *
unquote(const char *text)
{
	Size		length = strlen(text);
	char	   *result = pstrdup(text);
	char	   *to = result;

	if (length < 2 || text[0] != '"' || text[length - 1] != '"')
		return result;
	for (const char *from = text + 1; from < text + length - 1; from++)
	{
		if (*from == '\\' && from + 1 < text + length - 1)
			from++;
		*to++ = *from;
	}
	*to = '\0';
	return result;
}

/* One round of percent-decoding; a percent sign that begins no code is one. */
static EvsBytes
percent_decode(EvsBytes text)
{
	char	   *result = palloc(text.length + 1);
	int			length = 0;

	for (int i = 0; i < text.length; i++)
	{
		if (text.data[i] == '%' && i + 2 < text.length &&
			hex_digit(text.data[i + 1]) >= 0 && hex_digit(text.data[i + 2]) >= 0)
		{
			result[length++] = hex_digit(text.data[i + 1]) * 16 + hex_digit(text.data[i + 2]);
			i += 2;
		}
		else
			result[length++] = text.data[i];
	}
	return (EvsBytes) {result, length};
}

/* What the binding for HTTP does to a value, undone. */
static JsonbValue
decode_value(const JsonbValue *value, const char *name, int index)
{
	JsonbValue	decoded = {.type = jbvString};
	char	   *unquoted;
	const char *text;

	if (value->type != jbvString)
		return *value;
	unquoted = unquote(pnstrdup(value->val.string.val, value->val.string.len));
	text = evs_in_text(percent_decode(evs_in_bytes(unquoted, strlen(unquoted), index, name)));
	if (text == NULL)
		evs_in_throw(index, name, "CloudEvents attribute \"%s\" is not percent-encoded UTF-8", name);
	decoded.val.string.val = unconstify(char *, text);
	decoded.val.string.len = strlen(text);
	return decoded;
}

void
evs_headers_add_attributes(const EvsHeaders *headers, bool percent_encoded,
						   EvsInAttributes *attributes, int index)
{
	percent_encoded = percent_encoded && headers->family == EVS_HEADERS_DASH;
	for (int i = 0; i < headers->all.n; i++)
	{
		const char *name = attribute_name(headers, headers->all.list[i].name);
		JsonbValue	value = headers->all.list[i].value;

		if (name == NULL)
			continue;
		if (evs_in_attribute_find(attributes, name) != NULL)
			evs_in_throw(index, name, "CloudEvents attribute \"%s\" occurs twice", name);
		if (percent_encoded)
			value = decode_value(&value, name, index);
		evs_in_attribute_add(attributes, name, &value);
	}
	if (headers->content_type != NULL &&
		evs_in_attribute_find(attributes, "datacontenttype") == NULL)
		evs_in_attribute_add_text(attributes, "datacontenttype", headers->content_type);
}

Jsonb *
evs_headers_others(const EvsHeaders *headers)
{
	EvsInObject object;

	evs_in_object_begin(&object);
	for (int i = 0; i < headers->all.n; i++)
	{
		const char *name = headers->all.list[i].name;
		const EvsInAttribute *header = &headers->as_written.list[i];

		if (attribute_name(headers, name) == NULL && !is_content_type(name))
			evs_in_object_add(&object, header->name, &header->value);
	}
	return evs_in_object_end(&object);
}
