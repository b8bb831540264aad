/*
 * cloudevents.c
 *	  Events as messages for sinks: CloudEvents 1.0, or their data only.
 */
#include "postgres.h"

#include "common/base64.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/json_text.h"
#include "base/utf8.h"
#include "relay/encoding.h"
#include "compat.h"

/* Of header names: "token" of RFC 9110. */
#define TOKEN "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~"

static const char *const format_names[] = {
	[EVS_FORMAT_CLOUDEVENTS] = "cloudevents",
	[EVS_FORMAT_CLOUDEVENTS_BATCH] = "cloudevents-batch",
	[EVS_FORMAT_CLOUDEVENTS_BINARY] = "cloudevents-binary",
	[EVS_FORMAT_RAW] = "raw",
};

bool
evs_format_parse(const char *name, EvsFormat *format)
{
	for (int i = 0; i < (int) lengthof(format_names); i++)
		if (strcmp(name, format_names[i]) == 0)
		{
			*format = (EvsFormat) i;
			return true;
		}
	return false;
}

const char *
evs_format_name(EvsFormat format)
{
	return format_names[format];
}

/* ---- data ---- */

static void
look_at_kept(EvsEncoding *e)
{
	JsonbValue	value;

	e->base64.type = jbvNull;
	e->kept = evs_encoding_object(e, "cloudevent");
	if (evs_json_member(e->kept, "data_base64", &e->base64) && e->base64.type != jbvString)
		evs_encoding_fail(e, pstrdup("metadata.cloudevent.data_base64 must be a string"));
	e->no_data = evs_json_member(e->kept, "no_data", &value) && value.type == jbvBool &&
		value.val.boolean;
	if (e->event->without_data)
	{
		e->base64.type = jbvNull;
		e->no_data = true;
	}
}

/* The data as JSON in UTF-8, at the end of the buffer. */
static void
append_json(EvsEncoding *e, StringInfo buf)
{
	int			start = buf->len;
	const char *utf8;

	evs_json_append(buf, &e->event->data->root);
	utf8 = evs_utf8_from(buf->data + start, buf->len - start);
	if (utf8 == NULL)
		evs_encoding_fail(e, pstrdup("data cannot be converted to UTF-8"));
	else if (utf8 != buf->data + start)
	{
		buf->len = start;
		buf->data[start] = '\0';
		appendStringInfoString(buf, utf8);
	}
}

/* As escape_json(), of what is known to have no control characters; returns the end. */
static char *
add_quoted(char *at, const char *text)
{
	*at++ = '"';
	for (; *text != '\0'; text++)
	{
		if (*text == '"' || *text == '\\')
			*at++ = '\\';
		*at++ = *text;
	}
	*at++ = '"';
	return at;
}

static void
append_member(StringInfo buf, const EvsAttribute *attribute)
{
	int			name = strlen(attribute->name);
	int			value = strlen(attribute->value);
	char	   *at;

	/* each character may have to be escaped */
	enlargeStringInfo(buf, name + 2 * value + sizeof(",\"\":\"\""));
	at = buf->data + buf->len;
	*at++ = buf->len == 0 ? '{' : ',';
	*at++ = '"';
	memcpy(at, attribute->name, name);
	at += name;
	*at++ = '"';
	*at++ = ':';
	if (attribute->is_json)
	{
		memcpy(at, attribute->value, value);
		at += value;
	}
	else
		at = add_quoted(at, attribute->value);
	*at = '\0';
	buf->len = at - buf->data;
}

/* One line: JSON escapes line feeds. */
static void
encode_structured(EvsEncoding *e)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < e->nattributes; i++)
		append_member(&buf, &e->attributes[i]);
	if (e->base64.type == jbvString)
	{
		appendStringInfoString(&buf, ",\"data_base64\":");
		escape_json(&buf, evs_json_scalar_text(&e->base64));
	}
	else if (!e->no_data && e->event->data != NULL)
	{
		appendStringInfoString(&buf, ",\"data\":");
		append_json(e, &buf);
	}
	appendStringInfoChar(&buf, '}');
	e->message->content_type = EVS_CONTENT_TYPE_EVENT;
	e->message->data = buf.data;
	e->message->length = buf.len;
}

/* As decode() does, white space is passed over. */
static void
set_decoded(EvsEncoding *e)
{
	char	   *packed = palloc(e->base64.val.string.len + 1);
	int			npacked = 0;
	int			size;
	int			length;
	void	   *data;

	for (int i = 0; i < e->base64.val.string.len; i++)
		if (strchr(" \t\r\n", e->base64.val.string.val[i]) == NULL)
			packed[npacked++] = e->base64.val.string.val[i];
	size = pg_b64_dec_len(npacked);
	data = palloc(size + 1);
	length = pg_b64_decode(packed, npacked, data, size);
	if (length < 0)
		evs_encoding_fail(e, pstrdup("metadata.cloudevent.data_base64 is not Base64"));
	else
	{
		e->message->data = data;
		e->message->length = length;
	}
}

bool
evs_content_type_is_json(const char *content_type)
{
	int			length = strcspn(content_type, "; ");

	return length > 5 && pg_strncasecmp(content_type + length - 4, "json", 4) == 0 &&
		(content_type[length - 5] == '/' || content_type[length - 5] == '+') &&
		memchr(content_type, '/', length) != NULL;
}

/* A string of another content type than JSON is itself the payload. */
static void
set_text(EvsEncoding *e, const JsonbValue *value, const char *content_type)
{
	const char *text;

	if (value->type != jbvString)
	{
		evs_encoding_fail(e, psprintf("data of content type \"%s\" must be a string", content_type));
		return;
	}
	text = evs_encoding_utf8(e, evs_json_scalar_text(value), "data");
	if (text == NULL)
		return;
	e->message->data = text;
	e->message->length = strlen(text);
}

static void
set_json(EvsEncoding *e)
{
	StringInfoData buf;

	initStringInfo(&buf);
	append_json(e, &buf);
	e->message->data = buf.data;
	e->message->length = buf.len;
}

/* The data only, with its content type; null is no payload. */
static void
encode_payload(EvsEncoding *e)
{
	const char *content_type = evs_encoding_attribute(e, "datacontenttype");
	JsonbValue	scalar = {.type = jbvObject};

	if (e->base64.type == jbvString)
		set_decoded(e);
	else if (e->no_data || e->event->data == NULL)
		return;
	else
	{
		(void) JsonbExtractScalar(&e->event->data->root, &scalar);
		if (scalar.type == jbvNull)
			return;
		if (evs_content_type_is_json(content_type))
			set_json(e);
		else
			set_text(e, &scalar, content_type);
	}
	e->message->content_type = content_type;
}

static void
encode_attributes(EvsEncoding *e)
{
	evs_sink_pair *pairs = palloc(sizeof(evs_sink_pair) * e->nattributes);
	int			n = 0;

	for (int i = 0; i < e->nattributes; i++)
	{
		if (strcmp(e->attributes[i].name, "datacontenttype") == 0)
			continue;
		pairs[n].name = e->attributes[i].name;
		pairs[n++].value = e->attributes[i].value;
	}
	e->message->attributes = pairs;
	e->message->nattributes = n;
}

/* ---- headers ---- */

static void
add_header(EvsEncoding *e, evs_sink_pair *header, const JsonbValue *key, const JsonbValue *value)
{
	char	   *name = pnstrdup(key->val.string.val, key->val.string.len);
	const char *text = evs_json_scalar_text(value);

	if (*name == '\0' || name[strspn(name, TOKEN)] != '\0')
		evs_encoding_fail(e, psprintf("\"%s\" cannot be the name of a header", name));
	else if (text == NULL)
		evs_encoding_fail(e, psprintf("header \"%s\" must be a string, a number or a boolean", name));
	else
	{
		text = evs_encoding_utf8(e, text, psprintf("header \"%s\"", name));
		if (text != NULL && evs_utf8_has_control(text))
			evs_encoding_fail(e, psprintf("header \"%s\" has control characters", name));
	}
	header->name = name;
	header->value = text;
}

/* metadata.headers; members that are null are left out. */
static void
encode_headers(EvsEncoding *e)
{
	JsonbContainer *object = evs_encoding_object(e, "headers");
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	value;
	evs_sink_pair *headers;
	int			n = 0;

	if (object == NULL)
		return;
	headers = palloc(sizeof(evs_sink_pair) * (JsonContainerSize(object) + 1));
	it = JsonbIteratorInit(object);
	while (e->error == NULL && (token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &value, true);
		if (value.type != jbvNull)
			add_header(e, &headers[n++], &key, &value);
	}
	e->message->headers = headers;
	e->message->nheaders = n;
}

/* ---- messages ---- */

/* What the message has in each format. */
static void
set_members(EvsEncoding *e)
{
	const EvsOutgoing *event = e->event;
	evs_sink_message *message = e->message;

	message->size = sizeof(evs_sink_message);
	message->attempt = 1;
	message->position = event->position;
	message->version = event->version;
	message->time_us = event->time +
		(int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	message->id = evs_encoding_uuid(&event->id);
	message->type = evs_encoding_utf8(e, event->type, "type");
	message->stream = evs_encoding_utf8(e, event->stream, "stream");
	message->key = evs_encoding_utf8(e, event->key, "key");
	message->topic = "";
	if (e->encoder->topic != NULL && e->error == NULL)
		message->topic = evs_template_fill(e->encoder->topic, event, e->encoder->relay, &e->error);
}

static void
encode(EvsEncoding *e)
{
	set_members(e);
	look_at_kept(e);
	evs_encoding_gather_attributes(e);
	e->message->source = evs_encoding_attribute(e, "source");
	evs_encoding_check_attributes(e);
	if (e->error == NULL)
		encode_headers(e);
	if (e->error != NULL)
		return;
	switch (e->encoder->format)
	{
		case EVS_FORMAT_CLOUDEVENTS:
		case EVS_FORMAT_CLOUDEVENTS_BATCH:
			encode_structured(e);
			break;
		case EVS_FORMAT_CLOUDEVENTS_BINARY:
			encode_attributes(e);
			encode_payload(e);
			break;
		case EVS_FORMAT_RAW:
			encode_payload(e);
			break;
	}
}

/*
 * What throws nevertheless is a text of more than 1 GB: it says so about the
 * event.  Nothing is held that would have to be cleaned up.
 */
bool
evs_encode(const EvsEncoder *encoder, const EvsOutgoing *event, evs_sink_message *message,
		   char **error)
{
	MemoryContext context = CurrentMemoryContext;
	EvsEncoding	e = {.encoder = encoder, .event = event, .message = message};

	memset(message, 0, sizeof(*message));
	PG_TRY();
	{
		encode(&e);
	}
	PG_CATCH();
	{
		ErrorData  *thrown;

		if (ERRCODE_TO_CATEGORY(geterrcode()) !=
			ERRCODE_TO_CATEGORY(ERRCODE_PROGRAM_LIMIT_EXCEEDED))
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		thrown = CopyErrorData();
		FlushErrorState();
		evs_encoding_fail(&e, thrown->message);
	}
	PG_END_TRY();
	*error = e.error;
	return e.error == NULL;
}
