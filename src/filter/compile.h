/*
 * compile.h
 *	  What the compilers of filters have in common.
 */
#ifndef EVSTORE_FILTER_COMPILE_H
#define EVSTORE_FILTER_COMPILE_H

#include "utils/jsonb.h"

/*
 * Filters are compiled once and evaluated for each event, at whatever depth of
 * the stack: what nests deeper is refused when it is compiled.
 */
#define EVS_FILTER_DEPTH_MAX	100

/* Longest text in one of the languages, in bytes. */
#define EVS_FILTER_TEXT_MAX		32768

/* Where in the filter we are: a member of, or an element in, what is up. */
typedef struct EvsWhere
{
	const struct EvsWhere *up;	/* NULL: of the filter itself */
	const char *key;			/* NULL: an element */
	int			index;
} EvsWhere;

/* Throw VS010: the DETAIL has the path and the reason. */
extern void evs_filter_invalid(const EvsWhere *where, const char *reason);

/* The same for a place in a text, in bytes; the DETAIL's offset counts characters, from 1. */
extern void evs_filter_invalid_text(const EvsWhere *where, const char *text, int at,
									const char *reason);

/* Throw unless it has the type; the string is a copy. */
extern char *evs_filter_string(const JsonbValue *value, const EvsWhere *where);
extern char *evs_filter_text(const JsonbValue *value, const EvsWhere *where);
extern JsonbContainer *evs_filter_object(const JsonbValue *value, const EvsWhere *where);
extern JsonbContainer *evs_filter_array(const JsonbValue *value, const EvsWhere *where);

/* A number, copied. */
extern Numeric evs_filter_number(const JsonbValue *value, const EvsWhere *where);

/* Go through an object or an array: false at its end. */
typedef struct EvsEach
{
	JsonbIterator *it;
	char	   *key;			/* of an object's member */
	int			index;			/* of an array's element */
	JsonbValue	value;
} EvsEach;

extern void evs_each_begin(EvsEach *each, JsonbContainer *container);
extern bool evs_each_next(EvsEach *each);

#endif							/* EVSTORE_FILTER_COMPILE_H */
