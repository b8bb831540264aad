/*
 * path.h
 *	  A jsonpath, applied to events' data.
 */
#ifndef EVSTORE_PATH_H
#define EVSTORE_PATH_H

#include "utils/jsonb.h"

/*
 * Parse a path; throws VS010 that says what should be one, and the JSON path of
 * where it stands in the definition.  There are no variables.
 */
extern Datum evs_path_parse(char *path, const char *what, const char *where);

/*
 * The first item that the path finds in the data, a jsonb; NULL if there is
 * none, or if the path fails on this data.
 */
extern Jsonb *evs_path_first(Datum path, Datum data);

/* The same as text: a string without quotes; NULL also for null. */
extern text *evs_path_text(Datum path, Datum data);

#endif							/* EVSTORE_PATH_H */
