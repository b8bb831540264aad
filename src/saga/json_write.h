/*
 * json_write.h
 *	  Writing jsonb objects and arrays, member by member.
 */
#ifndef EVSTORE_SAGA_JSON_WRITE_H
#define EVSTORE_SAGA_JSON_WRITE_H

#include "utils/jsonb.h"

extern void evs_json_key(JsonbParseState **state, const char *key);
extern void evs_json_text(JsonbParseState **state, const char *key, const char *value);
extern void evs_json_int(JsonbParseState **state, const char *key, int64 value);
extern void evs_json_value(JsonbParseState **state, const char *key, Jsonb *value);

/* An element of an array; NULL: null. */
extern void evs_json_element(JsonbParseState **state, Jsonb *value);
extern void evs_json_int_element(JsonbParseState **state, int64 value);

extern void evs_json_begin_object(JsonbParseState **state);
extern void evs_json_end_object(JsonbParseState **state);
extern void evs_json_begin_array(JsonbParseState **state);
extern void evs_json_end_array(JsonbParseState **state);

/* A whole number that is a member; false: there is none. */
extern bool evs_json_read_int(Jsonb *object, const char *key, int64 *value);

/* End the outermost object. */
extern Jsonb *evs_json_finish(JsonbParseState **state);

#endif							/* EVSTORE_SAGA_JSON_WRITE_H */
