/*
 * cesql_value.h
 *	  Values of CloudEvents SQL, their casts, and the attributes that have them.
 */
#ifndef EVSTORE_CESQL_VALUE_H
#define EVSTORE_CESQL_VALUE_H

#include "filter/cesql_node.h"

typedef struct EvsCesqlValue
{
	EvsCesqlType type;			/* never unknown */
	bool		boolean;
	int32		integer;
	const char *s;				/* not terminated */
	int			len;
} EvsCesqlValue;

/* These return true, as what can fail does when it has not. */
extern bool evs_cesql_set_boolean(EvsCesqlValue *value, bool boolean);
extern bool evs_cesql_set_integer(EvsCesqlValue *value, int32 integer);
extern bool evs_cesql_set_string(EvsCesqlValue *value, const char *s, int len);

/* Make it a value of this type; false, and nothing done, if that cannot be. */
extern bool evs_cesql_cast(EvsCesqlValue *value, EvsCesqlType type);

/* An attribute as a relay would send it; false if the event has none of the name. */
extern bool evs_cesql_get_attribute(EvsDocument *document, const char *name, EvsCesqlValue *value);

#endif							/* EVSTORE_CESQL_VALUE_H */
