/*
 * utf8.c
 *	  Texts of the database in UTF-8, which is what the outside speaks.
 *
 * pg_server_to_any() does this, too, but its errors name the bytes that it does
 * not like, and these may be a secret's.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "base/utf8.h"
#include "compat.h"

static bool
is_ascii(const char *text, int length)
{
	for (int i = 0; i < length; i++)
		if (IS_HIGHBIT_SET(text[i]))
			return false;
	return true;
}

/*
 * The other encodings of a server have one byte for ASCII, and no ASCII byte in others.
 * length bytes from one encoding in the other, one of them the server's; NULL: a
 * character has none there.
 */
static const char *
convert(int from, int to, const char *text, int length)
{
	Oid			proc = FindDefaultConversionProc(from, to);
	Size		size = (Size) length * MAX_CONVERSION_GROWTH + 1;
	char	   *result;

	if (!OidIsValid(proc))
		return NULL;
	if (size > INT_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("text is too long to be converted to %s", pg_encoding_to_char(to))));
	result = MemoryContextAllocHuge(CurrentMemoryContext, size);
	if (pg_do_encoding_conversion_buf(proc, from, to,
									  (unsigned char *) unconstify(char *, text), length,
									  (unsigned char *) result, (int) size, true) < length)
	{
		explicit_bzero(result, size);
		pfree(result);
		return NULL;
	}
	/* of a large text most of it is not used */
	return repalloc(result, strlen(result) + 1);
}

const char *
evs_utf8_from(const char *text, int length)
{
	if (GetDatabaseEncoding() == PG_UTF8 || is_ascii(text, length))
		return text;
	if (GetDatabaseEncoding() == PG_SQL_ASCII)
		return pg_verify_mbstr(PG_UTF8, text, length, true) ? text : NULL;
	return convert(GetDatabaseEncoding(), PG_UTF8, text, length);
}

const char *
evs_utf8_to(const char *utf8, int length)
{
	if (!pg_verify_mbstr(PG_UTF8, utf8, length, true))
		return NULL;
	if (GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII ||
		is_ascii(utf8, length))
		return utf8;
	return convert(PG_UTF8, GetDatabaseEncoding(), utf8, length);
}

const char *
evs_utf8(const char *text)
{
	return evs_utf8_from(text, strlen(text));
}

bool
evs_utf8_has_control(const char *text)
{
	for (const unsigned char *s = (const unsigned char *) text; *s != '\0'; s++)
		if (*s < 0x20 || *s == 0x7f || (*s == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0))
			return true;
	return false;
}
