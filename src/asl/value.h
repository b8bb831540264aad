/*
 * value.h
 *	  JSON values within the interpreter: scalars, and the insides of documents.
 *
 * A JsonbValue here is a scalar or binary, and points into what it was taken from.
 */
#ifndef EVSTORE_ASL_VALUE_H
#define EVSTORE_ASL_VALUE_H

#include "asl/asl.h"

/*
 * What an expression may make, in bytes; beyond it is States.DataLimitExceeded.  Far more
 * than the language's payloads, and far less than jsonb and memory bear.
 */
#define EVS_ASL_VALUE_MAX	(16 * 1024 * 1024)

/* How deep a text may nest: JSON, filters, rules. */
#define EVS_ASL_DEPTH_MAX	100

/* Longest path or call of an intrinsic function, in bytes. */
#define EVS_ASL_TEXT_MAX	32768

/* "an object", "a string", ... */
extern const char *evs_asl_kind(const JsonbValue *value);

/* Roughly what it takes in a document. */
extern Size evs_asl_size(const JsonbValue *value);

extern bool evs_asl_is_object(const JsonbValue *value);
extern bool evs_asl_is_array(const JsonbValue *value);

/* A member of an object, an element of an array (a negative index counts from its end). */
extern bool evs_asl_find_member(const JsonbValue *object, const char *key, int len, JsonbValue *member);
extern bool evs_asl_find_element(const JsonbValue *array, int64 index, JsonbValue *element);
extern int	evs_asl_array_length(const JsonbValue *array);

extern void evs_asl_set_string(JsonbValue *value, const char *s, int len);
extern void evs_asl_set_integer(JsonbValue *value, int64 number);
extern void evs_asl_set_bool(JsonbValue *value, bool b);

/* The copy does not point into a document. */
extern JsonbValue evs_asl_copy(const JsonbValue *value);

/* End what has been pushed: the document, unpacked. */
extern JsonbValue evs_asl_pushed(JsonbParseState **state, JsonbIteratorToken end);

/* The same type and value; numbers by what they are worth. */
extern bool evs_asl_equal(const JsonbValue *a, const JsonbValue *b);

/*
 * Which is less, of two numbers or two strings (by code point); false if they are not
 * both the one or the other.
 */
extern bool evs_asl_compare(const JsonbValue *a, const JsonbValue *b, int *result);

/* Any order of all values in which equal ones, and only they, are equal. */
extern int	evs_asl_order(const JsonbValue *a, const JsonbValue *b);

/* A number of JSON's syntax at the beginning of a text: its length, 0 if there is none. */
extern int	evs_asl_number_length(const char *s);

/* Such a number; NULL: it is too large, or too long. */
extern Numeric evs_asl_number_in(const char *s, int len);

/* Rounded, half of it upwards, as Java does; false: it is beyond int64. */
extern bool evs_asl_round(Numeric number, int64 *result);

/* The same; false also if there is something to round. */
extern bool evs_asl_whole_number(Numeric number, int64 *result);

/* JSON without spaces.  NULL: longer than EVS_ASL_VALUE_MAX. */
extern char *evs_asl_json_out(const JsonbValue *value);

/* Parsed; false: it is none, and *problem says why. */
extern bool evs_asl_json_in(const char *text, int len, JsonbValue *value, char **problem);

#endif							/* EVSTORE_ASL_VALUE_H */
