/*
 * in_json.h
 *	  JSON and Base64 that come from outside.
 */
#ifndef EVSTORE_IN_JSON_H
#define EVSTORE_IN_JSON_H

#include "ingest/incoming.h"

/*
 * The bytes as a JSON document.  Throws VS005 about the field, if they are no UTF-8 or no
 * JSON, nest too deeply, have U+0000 in a string, or the same key twice in an object:
 * readers do not agree on which of the two counts.
 */
extern Jsonb *evs_in_json_parse(EvsBytes bytes, int index, const char *field);

/*
 * The same; NULL if they are no JSON at all.  What is JSON and cannot be stored is an
 * error nevertheless.
 */
extern Jsonb *evs_in_json_try(EvsBytes bytes, int index, const char *field);

/* Bytes in the encoding of the database, or NULL. */
extern const char *evs_in_text(EvsBytes bytes);

/* A text of the database in UTF-8; throws VS005 about the field if it has none. */
extern EvsBytes evs_in_bytes(const char *text, int length, int index, const char *field);

/*
 * Base64, white space passed over as decode() does; false if it is none.  Lenient: the
 * alphabet may be that for URLs, and padding missing.
 */
extern bool evs_in_base64_decode(const char *text, bool lenient, EvsBytes *bytes);
extern const char *evs_in_base64_encode(EvsBytes bytes);

/* ---- members ---- */

/* An object's member that is a string, a number or a boolean, as text; else NULL. */
extern const char *evs_in_member_text(JsonbContainer *object, const char *name);

/* A member that is a string; NULL if there is none, or it is something else. */
extern const char *evs_in_member_string(JsonbContainer *object, const char *name);

/* A member that is an object or an array; NULL otherwise. */
extern JsonbContainer *evs_in_member_object(JsonbContainer *object, const char *name);
extern JsonbContainer *evs_in_member_array(JsonbContainer *object, const char *name);

extern bool evs_in_has_member(JsonbContainer *object, const char *name);

/* The value as a document of its own. */
extern Jsonb *evs_in_document(const JsonbValue *value);

/* An object that is built member by member; those without a value are left out. */
typedef struct EvsInObject
{
	JsonbParseState *state;
	int			nmembers;
} EvsInObject;

extern void evs_in_object_begin(EvsInObject *object);
extern void evs_in_object_add(EvsInObject *object, const char *name, const JsonbValue *value);
extern void evs_in_object_add_text(EvsInObject *object, const char *name, const char *text);
extern void evs_in_object_add_json(EvsInObject *object, const char *name, Jsonb *json);

/* NULL if it has no members. */
extern Jsonb *evs_in_object_end(EvsInObject *object);

#endif							/* EVSTORE_IN_JSON_H */
