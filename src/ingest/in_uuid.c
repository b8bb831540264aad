/*
 * in_uuid.c
 *	  Event ids for the ids of others.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/utf8.h"
#include "ingest/in_uuid.h"
#include "compat.h"

static bool
is_uuid(const char *text)
{
	for (int i = 0; i < 36; i++)
	{
		bool		dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? text[i] != '-' : !isxdigit((unsigned char) text[i]))
			return false;
	}
	return text[36] == '\0';
}

/* In UTF-8, so that it is the same in each database; SQL_ASCII has what it has. */
static const char *
utf8(const char *text)
{
	const char *result = evs_utf8(text);

	return result != NULL ? result : text;
}

void
evs_in_uuid_of_name(pg_uuid_t *uuid, const char *source, const char *id)
{
	Size		length;
	bytea	   *name;
	bytea	   *hash;

	source = utf8(source);
	id = utf8(id);
	length = strlen(source) + 1 + strlen(id);
	name = palloc(VARHDRSZ + length);
	SET_VARSIZE(name, VARHDRSZ + length);
	memcpy(VARDATA(name), source, strlen(source) + 1);
	memcpy(VARDATA(name) + strlen(source) + 1, id, strlen(id));
	hash = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea, PointerGetDatum(name)));
	memcpy(uuid->data, VARDATA_ANY(hash), UUID_LEN);
	uuid->data[6] = (uuid->data[6] & 0x0f) | 0x80;	/* version 8 */
	uuid->data[8] = (uuid->data[8] & 0x3f) | 0x80;	/* variant */
}

bool
evs_in_uuid(pg_uuid_t *uuid, const char *source, const char *id)
{
	if (is_uuid(id))
	{
		*uuid = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(id)));
		return true;
	}
	evs_in_uuid_of_name(uuid, source, id);
	return false;
}
