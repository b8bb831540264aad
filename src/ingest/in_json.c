/*
 * in_json.c
 *	  JSON and Base64 that come from outside.
 */
#include "postgres.h"

#include "common/base64.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/errors.h"
#include "base/utf8.h"
#include "ingest/in_json.h"
#include "relay/outgoing.h"
#include "compat.h"

#define BYTE_ORDER_MARK "\xEF\xBB\xBF"

/* ---- text ---- */

const char *
evs_in_text(EvsBytes bytes)
{
	char	   *copy = palloc(bytes.length + 1);

	/* what follows the bytes may be more of the same, and there may be a zero among them */
	memcpy(copy, bytes.data, bytes.length);
	copy[bytes.length] = '\0';
	return evs_utf8_to(copy, bytes.length);
}

EvsBytes
evs_in_bytes(const char *text, int length, int index, const char *field)
{
	const char *utf8 = evs_utf8_from(text, length);
	EvsBytes	bytes = {utf8, utf8 == text ? length : 0};

	if (utf8 == NULL)
		evs_in_throw(index, field, "%s cannot be converted to UTF-8", field);
	if (utf8 != text)
		bytes.length = strlen(utf8);
	return bytes;
}

/* ---- JSON ---- */

/*
 * In JSON, which the text has been found to be, there is one colon outside of strings
 * for each member.
 */
static int64
count_members_of_text(const char *json)
{
	int64		n = 0;
	bool		in_string = false;

	for (; *json != '\0'; json++)
	{
		if (*json == '"')
			in_string = !in_string;
		else if (in_string && *json == '\\')
			json++;
		else if (!in_string && *json == ':')
			n++;
	}
	return n;
}

static int64
count_members(Jsonb *document)
{
	JsonbIterator *it = JsonbIteratorInit(&document->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	int64		n = 0;

	while ((token = JsonbIteratorNext(&it, &value, false)) != WJB_DONE)
		if (token == WJB_KEY)
			n++;
	return n;
}

/*
 * What is wrong with it, or NULL.  Of an object that has a key twice jsonb keeps one.
 */
static char *
parse(const char *json, Jsonb **document, int *sqlstate)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *volatile problem = NULL;

	*sqlstate = 0;
	PG_TRY();
	{
		*document = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
	}
	PG_CATCH();
	{
		ErrorData  *error;
		int			category = ERRCODE_TO_CATEGORY(geterrcode());

		if (category != ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION) &&
			category != ERRCODE_TO_CATEGORY(ERRCODE_PROGRAM_LIMIT_EXCEEDED))
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		*sqlstate = error->sqlerrcode;
		problem = error->detail != NULL ? error->detail : error->message;
	}
	PG_END_TRY();
	if (problem == NULL && count_members_of_text(json) != count_members(*document))
		problem = pstrdup("A key occurs twice in one object.");
	return problem;
}

pg_noreturn static void
throw_not_json(int index, const char *field, const char *reason)
{
	StringInfoData detail;

	evs_detail_begin(&detail);
	evs_detail_int(&detail, "index", index);
	evs_detail_string(&detail, "field", field);
	evs_detail_string(&detail, "reason", reason);
	ereport(ERROR,
			(errcode(ERRCODE_EVS_INVALID_EVENT),
			 errmsg("%s cannot be read as JSON", field),
			 errdetail_internal("%s", evs_detail_end(&detail))));
}

static EvsBytes
without_byte_order_mark(EvsBytes bytes)
{
	int			length = strlen(BYTE_ORDER_MARK);

	if (bytes.length >= length && memcmp(bytes.data, BYTE_ORDER_MARK, length) == 0)
	{
		bytes.data += length;
		bytes.length -= length;
	}
	return bytes;
}

static Jsonb *
parse_bytes(EvsBytes bytes, int index, const char *field, bool may_be_other)
{
	const char *text = bytes.data != NULL ? evs_in_text(without_byte_order_mark(bytes)) : "";
	Jsonb	   *document = NULL;
	char	   *problem;
	int			sqlstate;

	if (text == NULL)
	{
		if (may_be_other)
			return NULL;
		evs_in_throw(index, field, "%s is not text in UTF-8, or has characters that the database cannot have", field);
	}
	problem = parse(text, &document, &sqlstate);
	if (problem == NULL)
		return document;
	if (may_be_other && sqlstate == ERRCODE_INVALID_TEXT_REPRESENTATION)
		return NULL;
	throw_not_json(index, field, problem);
}

Jsonb *
evs_in_json_parse(EvsBytes bytes, int index, const char *field)
{
	return parse_bytes(bytes, index, field, false);
}

Jsonb *
evs_in_json_try(EvsBytes bytes, int index, const char *field)
{
	return parse_bytes(bytes, index, field, true);
}

/* ---- Base64 ---- */

bool
evs_in_base64_decode(const char *text, bool lenient, EvsBytes *bytes)
{
	char	   *packed = palloc(strlen(text) + 4);
	int			npacked = 0;
	int			size;
	char	   *data;

	for (; *text != '\0'; text++)
		if (strchr(" \t\r\n", *text) == NULL)
			packed[npacked++] = !lenient ? *text : *text == '-' ? '+' : *text == '_' ? '/' : *text;
	if (lenient && npacked > 0 && packed[npacked - 1] != '=')
		while (npacked % 4 != 0)
			packed[npacked++] = '=';
	size = pg_b64_dec_len(npacked);
	data = palloc(size + 1);
	bytes->length = pg_b64_decode(packed, npacked, (void *) data, size);
	bytes->data = data;
	pfree(packed);
	return bytes->length >= 0;
}

const char *
evs_in_base64_encode(EvsBytes bytes)
{
	int			size = pg_b64_enc_len(bytes.length) + 1;
	char	   *text = palloc(size);
	int			length = pg_b64_encode((void *) unconstify(char *, bytes.data), bytes.length, text, size);

	text[length] = '\0';
	return text;
}

/* ---- members ---- */

const char *
evs_in_member_text(JsonbContainer *object, const char *name)
{
	JsonbValue	value;

	return evs_json_member(object, name, &value) ? evs_json_scalar_text(&value) : NULL;
}

const char *
evs_in_member_string(JsonbContainer *object, const char *name)
{
	JsonbValue	value;

	return evs_json_member(object, name, &value) && value.type == jbvString ?
		evs_json_scalar_text(&value) : NULL;
}

static JsonbContainer *
member_container(JsonbContainer *object, const char *name)
{
	JsonbValue	value;

	return evs_json_member(object, name, &value) && value.type == jbvBinary ?
		value.val.binary.data : NULL;
}

JsonbContainer *
evs_in_member_object(JsonbContainer *object, const char *name)
{
	JsonbContainer *member = member_container(object, name);

	return member != NULL && JsonContainerIsObject(member) ? member : NULL;
}

JsonbContainer *
evs_in_member_array(JsonbContainer *object, const char *name)
{
	JsonbContainer *member = member_container(object, name);

	return member != NULL && JsonContainerIsArray(member) ? member : NULL;
}

bool
evs_in_has_member(JsonbContainer *object, const char *name)
{
	JsonbValue	value;

	return evs_json_member(object, name, &value);
}

Jsonb *
evs_in_document(const JsonbValue *value)
{
	return JsonbValueToJsonb(unconstify(JsonbValue *, value));
}

void
evs_in_object_begin(EvsInObject *object)
{
	object->state = NULL;
	object->nmembers = 0;
	(void) pushJsonbValue(&object->state, WJB_BEGIN_OBJECT, NULL);
}

void
evs_in_object_add(EvsInObject *object, const char *name, const JsonbValue *value)
{
	JsonbValue	key = {.type = jbvString};
	JsonbValue	copy = *value;

	key.val.string.val = unconstify(char *, name);
	key.val.string.len = strlen(name);
	(void) pushJsonbValue(&object->state, WJB_KEY, &key);
	(void) pushJsonbValue(&object->state, WJB_VALUE, &copy);
	object->nmembers++;
}

void
evs_in_object_add_text(EvsInObject *object, const char *name, const char *text)
{
	JsonbValue	value = {.type = jbvString};

	if (text == NULL)
		return;
	value.val.string.val = unconstify(char *, text);
	value.val.string.len = strlen(text);
	evs_in_object_add(object, name, &value);
}

void
evs_in_object_add_json(EvsInObject *object, const char *name, Jsonb *json)
{
	JsonbValue	value;

	if (json == NULL)
		return;
	if (!JB_ROOT_IS_SCALAR(json) || !JsonbExtractScalar(&json->root, &value))
	{
		value.type = jbvBinary;
		value.val.binary.data = &json->root;
		value.val.binary.len = VARSIZE(json) - VARHDRSZ;
	}
	evs_in_object_add(object, name, &value);
}

Jsonb *
evs_in_object_end(EvsInObject *object)
{
	JsonbValue *value = pushJsonbValue(&object->state, WJB_END_OBJECT, NULL);

	return object->nmembers > 0 ? JsonbValueToJsonb(value) : NULL;
}
