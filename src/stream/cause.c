/*
 * cause.c
 *	  What events that are appended now are caused by.
 */
#include "postgres.h"

#include "stream/cause.h"

static EvsCause current = {NULL};

void
evs_cause_set(EvsCause cause)
{
	current = cause;
}

EvsCause
evs_cause_get(void)
{
	return current;
}
