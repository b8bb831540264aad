/*
 * asl.h
 *	  What the parts of the interpreter of the Amazon States Language share.
 *
 * The language is that of https://states-language.net/, with JSONPath as its query
 * language.  Values are jsonb: object members have no order, and there is no \u0000.
 *
 * Nothing here does I/O or throws for what a document or its data do: what goes wrong
 * is an EvsAslError, with a name as the language has them.
 */
#ifndef EVSTORE_ASL_H
#define EVSTORE_ASL_H

#include "common/pg_prng.h"
#include "datatype/timestamp.h"
#include "utils/jsonb.h"

typedef struct EvsAslError
{
	const char *name;			/* NULL = there is none */
	char	   *cause;
} EvsAslError;

/* Names of errors that the interpreter itself raises. */
#define EVS_ASL_ALL						"States.ALL"
#define EVS_ASL_TIMEOUT					"States.Timeout"
#define EVS_ASL_HEARTBEAT_TIMEOUT		"States.HeartbeatTimeout"
#define EVS_ASL_TASK_FAILED				"States.TaskFailed"
#define EVS_ASL_PERMISSIONS				"States.Permissions"
#define EVS_ASL_RESULT_PATH				"States.ResultPathMatchFailure"
#define EVS_ASL_PARAMETER_PATH			"States.ParameterPathFailure"
#define EVS_ASL_BRANCH_FAILED			"States.BranchFailed"
#define EVS_ASL_NO_CHOICE				"States.NoChoiceMatched"
#define EVS_ASL_INTRINSIC				"States.IntrinsicFailure"
#define EVS_ASL_TOLERANCE				"States.ExceedToleratedFailureThreshold"
#define EVS_ASL_RUNTIME					"States.Runtime"
#define EVS_ASL_DATA_LIMIT				"States.DataLimitExceeded"

/* What paths are looked up in. */
typedef struct EvsAslScope
{
	Jsonb	   *input;			/* $ */
	Jsonb	   *context;		/* $$, the context object */
	Jsonb	   *variables;		/* $name, set by Assign: an object, or NULL */
	pg_prng_state *random;		/* of States.MathRandom and States.UUID */
} EvsAslScope;

/* Set the error, once: the first one counts.  The format makes the cause.  Returns NULL. */
extern void *evs_asl_fail(EvsAslError *error, const char *name, const char *format,...)
			pg_attribute_printf(3, 4);

/* ---- values ---- */

/* A value of any kind from one that may be scalar, and back: the binary must be unpacked. */
extern Jsonb *evs_asl_value(JsonbValue *value);
extern JsonbValue evs_asl_unpack(Jsonb *json);

extern Jsonb *evs_asl_null(void);
extern Jsonb *evs_asl_empty_object(void);
extern Jsonb *evs_asl_string(const char *text);
extern Jsonb *evs_asl_integer(int64 value);
extern Jsonb *evs_asl_bool(bool value);

/* A member of an object, or NULL; an element of an array, or NULL. */
extern Jsonb *evs_asl_member(Jsonb *object, const char *key);
extern Jsonb *evs_asl_element(Jsonb *array, int index);

/* Text of a JSON string; NULL if it is something else. */
extern char *evs_asl_text(Jsonb *json);

/* A finite number; false if it is something else.  A whole one that fits. */
extern bool evs_asl_number(Jsonb *json, double *value);
extern bool evs_asl_whole(Jsonb *json, int64 *value);

/* Members of b over those of a. */
extern Jsonb *evs_asl_merge(Jsonb *a, Jsonb *b);

/* An object from members, an array from elements, a NULL one being left out (object) or null (array). */
extern Jsonb *evs_asl_object(int n, const char *const *keys, Jsonb *const *values);
extern Jsonb *evs_asl_array(int n, Jsonb *const *elements);

/* A time as the language wants it (RFC 3339, T and Z or an offset with a colon); false: it is none. */
extern bool evs_asl_timestamp(const char *text, TimestampTz *time);
extern char *evs_asl_format_time(TimestampTz time);

#endif							/* EVSTORE_ASL_H */
