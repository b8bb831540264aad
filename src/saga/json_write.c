/*
 * json_write.c
 *	  Writing jsonb objects and arrays, member by member.
 *
 * The format is that of utils/jsonb.h: a header, an entry for each key and value, and then
 * their data; every JB_OFFSET_STRIDE-th entry has the offset of its end, the others their
 * length.  Numbers and containers are aligned, and what that takes is part of their length.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "asl/asl.h"
#include "saga/json_write.h"

typedef struct Item
{
	const char *key;
	int			key_len;
	JEntry		type;
	const void *data;
	uint32		len;
} Item;

struct EvsJsonFrame
{
	EvsJsonFrame *up;
	const char *key;			/* that it has where it stands */
	bool		is_object;
	int			n;
	int			max;
	Item	   *items;
};

/* ---- the format ---- */

static bool
is_aligned(JEntry type)
{
	return type == JENTRY_ISNUMERIC || type == JENTRY_ISCONTAINER;
}

/* As lengthCompareJsonbStringValue(): objects are searched by it. */
static int
compare_keys(const void *a, const void *b)
{
	const Item *x = a;
	const Item *y = b;

	if (x->key_len != y->key_len)
		return x->key_len < y->key_len ? -1 : 1;
	return memcmp(x->key, y->key, x->key_len);
}

typedef struct Writer
{
	JEntry	   *entries;
	char	   *data;
	int			n;				/* entries written */
	uint32		len;			/* of the data */
} Writer;

static void
put(Writer *writer, JEntry type, const void *data, uint32 len)
{
	uint32		start = writer->len;
	int			i = writer->n++;

	if (is_aligned(type))
		while (writer->len % sizeof(int) != 0)
			writer->data[writer->len++] = '\0';
	memcpy(writer->data + writer->len, data, len);
	writer->len += len;
	if (i % JB_OFFSET_STRIDE == 0)
		writer->entries[i] = type | JENTRY_HAS_OFF | writer->len;
	else
		writer->entries[i] = type | (writer->len - start);
}

static Size
size_of(const EvsJsonFrame *frame)
{
	Size		size = sizeof(JsonbContainer);

	for (int i = 0; i < frame->n; i++)
		size += 2 * sizeof(JEntry) + frame->items[i].key_len + frame->items[i].len + sizeof(int);
	if (size > JENTRY_OFFLENMASK)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("state of a saga is too large"),
				 errdetail("It would have %zu bytes.", size)));
	return size;
}

/* The container, behind room for a header: of *len bytes, without it. */
static char *
serialize(EvsJsonFrame *frame, Size header, uint32 *len)
{
	int			nentries = frame->is_object ? 2 * frame->n : frame->n;
	char	   *buffer = palloc(header + size_of(frame));
	JsonbContainer *container = (JsonbContainer *) (buffer + header);
	Writer		writer = {.entries = container->children};

	writer.data = (char *) (container->children + nentries);
	container->header = frame->n | (frame->is_object ? JB_FOBJECT : JB_FARRAY);
	if (frame->is_object)
	{
		qsort(frame->items, frame->n, sizeof(Item), compare_keys);
		for (int i = 0; i < frame->n; i++)
			put(&writer, JENTRY_ISSTRING, frame->items[i].key, frame->items[i].key_len);
	}
	for (int i = 0; i < frame->n; i++)
		put(&writer, frame->items[i].type, frame->items[i].data, frame->items[i].len);
	*len = writer.data + writer.len - (char *) container;
	return buffer;
}

/* ---- values ---- */

static void
add(EvsJson *json, JEntry type, const void *data, uint32 len)
{
	EvsJsonFrame *frame = json->frame;
	Item	   *item;

	if (frame->n == frame->max)
	{
		frame->max *= 2;
		frame->items = repalloc_huge(frame->items, sizeof(Item) * frame->max);
	}
	item = &frame->items[frame->n++];
	item->key = json->key;
	item->key_len = frame->is_object ? strlen(json->key) : 0;
	item->type = type;
	item->data = data;
	item->len = len;
	json->key = NULL;
}

static void
add_text(EvsJson *json, const char *value)
{
	add(json, JENTRY_ISSTRING, value, strlen(value));
}

static void
add_int(EvsJson *json, int64 value)
{
	Numeric		number = int64_to_numeric(value);

	add(json, JENTRY_ISNUMERIC, number, VARSIZE_ANY(number));
}

static void
add_value(EvsJson *json, Jsonb *document)
{
	JsonbValue	value = evs_asl_unpack(document);

	switch (value.type)
	{
		case jbvNull:
			add(json, JENTRY_ISNULL, "", 0);
			break;
		case jbvBool:
			add(json, value.val.boolean ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE, "", 0);
			break;
		case jbvString:
			add(json, JENTRY_ISSTRING, value.val.string.val, value.val.string.len);
			break;
		case jbvNumeric:
			add(json, JENTRY_ISNUMERIC, value.val.numeric, VARSIZE_ANY(value.val.numeric));
			break;
		default:
			add(json, JENTRY_ISCONTAINER, value.val.binary.data, value.val.binary.len);
			break;
	}
}

void
evs_json_key(EvsJson *json, const char *key)
{
	json->key = key;
}

void
evs_json_text(EvsJson *json, const char *key, const char *value)
{
	json->key = key;
	add_text(json, value);
}

void
evs_json_int(EvsJson *json, const char *key, int64 value)
{
	json->key = key;
	add_int(json, value);
}

void
evs_json_value(EvsJson *json, const char *key, Jsonb *value)
{
	json->key = key;
	add_value(json, value);
}

void
evs_json_element(EvsJson *json, Jsonb *value)
{
	if (value == NULL)
		add(json, JENTRY_ISNULL, "", 0);
	else
		add_value(json, value);
}

void
evs_json_int_element(EvsJson *json, int64 value)
{
	add_int(json, value);
}

/* ---- containers ---- */

static void
begin(EvsJson *json, bool is_object)
{
	EvsJsonFrame *frame = palloc(sizeof(EvsJsonFrame));

	frame->up = json->frame;
	frame->key = json->key;
	frame->is_object = is_object;
	frame->n = 0;
	frame->max = 16;
	frame->items = palloc(sizeof(Item) * frame->max);
	json->frame = frame;
	json->key = NULL;
}

void
evs_json_begin_object(EvsJson *json)
{
	begin(json, true);
}

void
evs_json_begin_array(EvsJson *json)
{
	begin(json, false);
}

void
evs_json_end(EvsJson *json)
{
	EvsJsonFrame *frame = json->frame;
	uint32		len;
	char	   *container = serialize(frame, 0, &len);

	json->frame = frame->up;
	json->key = frame->key;
	add(json, JENTRY_ISCONTAINER, container, len);
}

Jsonb *
evs_json_finish(EvsJson *json)
{
	uint32		len;
	Jsonb	   *document = (Jsonb *) serialize(json->frame, VARHDRSZ, &len);

	Assert(json->frame->up == NULL);
	SET_VARSIZE(document, VARHDRSZ + len);
	return document;
}

/* ---- reading ---- */

bool
evs_json_read_int(Jsonb *object, const char *key, int64 *value)
{
	JsonbValue	member;

	if (getKeyJsonValueFromContainer(&object->root, key, strlen(key), &member) == NULL ||
		member.type != jbvNumeric)
		return false;
	*value = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(member.val.numeric)));
	return true;
}
