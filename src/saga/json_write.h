/*
 * json_write.h
 *	  Writing jsonb objects and arrays, member by member.
 *
 * Documents become parts as they are, in one piece: core's pushJsonbValue() would take them
 * to pieces and build them again, which is most of what a transition with much data costs.
 */
#ifndef EVSTORE_SAGA_JSON_WRITE_H
#define EVSTORE_SAGA_JSON_WRITE_H

#include "utils/jsonb.h"

typedef struct EvsJsonFrame EvsJsonFrame;

/* What is being written: {0} to begin with. */
typedef struct EvsJson
{
	EvsJsonFrame *frame;		/* the object or array that is open */
	const char *key;			/* of the next value */
} EvsJson;

/* Members of an object; keys are not copied, and must not come twice. */
extern void evs_json_key(EvsJson *json, const char *key);
extern void evs_json_text(EvsJson *json, const char *key, const char *value);
extern void evs_json_int(EvsJson *json, const char *key, int64 value);
extern void evs_json_value(EvsJson *json, const char *key, Jsonb *value);

/* An element of an array; NULL: null. */
extern void evs_json_element(EvsJson *json, Jsonb *value);
extern void evs_json_int_element(EvsJson *json, int64 value);

extern void evs_json_begin_object(EvsJson *json);
extern void evs_json_begin_array(EvsJson *json);
extern void evs_json_end(EvsJson *json);

/* End the outermost one. */
extern Jsonb *evs_json_finish(EvsJson *json);

/* A whole number that is a member; false: there is none. */
extern bool evs_json_read_int(Jsonb *object, const char *key, int64 *value);

#endif							/* EVSTORE_SAGA_JSON_WRITE_H */
