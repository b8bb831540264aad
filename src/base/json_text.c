/*
 * json_text.c
 *	  The text of a jsonb.
 *
 * JsonbToCString() makes a value of each member, and looks at each character by
 * itself, which is much of what it takes to make a message of an event.  This
 * walks through the containers as they are stored: see utils/jsonb.h.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/json_text.h"
#include "compat.h"

#define EACH_BYTE UINT64CONST(0x0101010101010101)
#define HIGH_BITS (EACH_BYTE * 0x80)

/* The high bits of bytes that are less than n; after the first one there may be others. */
#define BYTES_BELOW(word, n) (((word) - EACH_BYTE * (n)) & ~(word) & HIGH_BITS)

/* Is there nothing to escape among eight characters?  Sometimes false nevertheless. */
static inline bool
is_clean(const char *text)
{
	uint64		word;

	memcpy(&word, text, sizeof(word));
	return (BYTES_BELOW(word, ' ') | BYTES_BELOW(word ^ EACH_BYTE * '"', 1) |
			BYTES_BELOW(word ^ EACH_BYTE * '\\', 1)) == 0;
}

static inline bool
is_plain(char c)
{
	return (unsigned char) c >= ' ' && c != '"' && c != '\\';
}

/* The first character from here on that is to be escaped, or the end. */
static const char *
skip_plain(const char *text, const char *end)
{
	while (end - text >= (ptrdiff_t) sizeof(uint64) && is_clean(text))
		text += sizeof(uint64);
	while (text < end && is_plain(*text))
		text++;
	return text;
}

static void
append_escaped(StringInfo buf, char c)
{
	static const char letters[] = {
		['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't', ['"'] = '"',
		['\\'] = '\\',
	};

	if (letters[(unsigned char) c] == '\0')
		appendStringInfo(buf, "\\u%04x", (unsigned char) c);
	else
	{
		appendStringInfoChar(buf, '\\');
		appendStringInfoChar(buf, letters[(unsigned char) c]);
	}
}

static void
append_string(StringInfo buf, const char *text, int length)
{
	const char *end = text + length;

	enlargeStringInfo(buf, length + 2);
	appendStringInfoCharMacro(buf, '"');
	for (;;)
	{
		const char *stop = skip_plain(text, end);

		appendBinaryStringInfo(buf, text, stop - text);
		if (stop == end)
			break;
		append_escaped(buf, *stop);
		text = stop + 1;
	}
	appendStringInfoChar(buf, '"');
}

static void
append_value(StringInfo buf, JEntry entry, char *base, uint32 offset, uint32 end)
{
	if (JBE_ISSTRING(entry))
		append_string(buf, base + offset, end - offset);
	else if (JBE_ISNUMERIC(entry))
		appendStringInfoString(buf, DatumGetCString(DirectFunctionCall1(numeric_out,
																		PointerGetDatum(base + INTALIGN(offset)))));
	else if (JBE_ISCONTAINER(entry))
		evs_json_append(buf, (JsonbContainer *) (base + INTALIGN(offset)));
	else if (JBE_ISNULL(entry))
		appendBinaryStringInfo(buf, "null", 4);
	else if (JBE_ISBOOL_TRUE(entry))
		appendBinaryStringInfo(buf, "true", 4);
	else
		appendBinaryStringInfo(buf, "false", 5);
}

static void
append_elements(StringInfo buf, JsonbContainer *array)
{
	int			n = JsonContainerSize(array);
	char	   *base = (char *) &array->children[n];
	uint32		offset = 0;

	for (int i = 0; i < n; i++)
	{
		uint32		end = offset;

		JBE_ADVANCE_OFFSET(end, array->children[i]);
		if (i > 0)
			appendBinaryStringInfo(buf, ", ", 2);
		append_value(buf, array->children[i], base, offset, end);
		offset = end;
	}
}

/* All keys are stored before the first value. */
static void
append_members(StringInfo buf, JsonbContainer *object)
{
	int			n = JsonContainerSize(object);
	char	   *base = (char *) &object->children[2 * n];
	uint32		key = 0;
	uint32		value = n > 0 ? getJsonbOffset(object, n) : 0;

	for (int i = 0; i < n; i++)
	{
		uint32		key_end = key;
		uint32		value_end = value;

		JBE_ADVANCE_OFFSET(key_end, object->children[i]);
		JBE_ADVANCE_OFFSET(value_end, object->children[n + i]);
		if (i > 0)
			appendBinaryStringInfo(buf, ", ", 2);
		append_string(buf, base + key, key_end - key);
		appendBinaryStringInfo(buf, ": ", 2);
		append_value(buf, object->children[n + i], base, value, value_end);
		key = key_end;
		value = value_end;
	}
}

void
evs_json_append(StringInfo buf, JsonbContainer *container)
{
	check_stack_depth();
	if (JsonContainerIsScalar(container))
		append_elements(buf, container);
	else if (JsonContainerIsArray(container))
	{
		appendStringInfoChar(buf, '[');
		append_elements(buf, container);
		appendStringInfoChar(buf, ']');
	}
	else
	{
		appendStringInfoChar(buf, '{');
		append_members(buf, container);
		appendStringInfoChar(buf, '}');
	}
}
