/*
 * path.h
 *	  JSONPath as the Amazon States Language has it: Goessner's, as Jayway reads it.
 *
 * $, $$ and $variable at the root; .name (with \ before what would end it), ['name'],
 * [n], [-n], [a,b], [a:b:c], .*, [*], ..name, [?(@.price < 10 && @.name == 'x')].
 * A definite path names one value; an indefinite one (a wildcard, a slice, a union, a
 * filter, ..) gives an array of what it finds.
 */
#ifndef EVSTORE_ASL_PATH_H
#define EVSTORE_ASL_PATH_H

#include "asl/asl.h"

typedef struct EvsAslPath EvsAslPath;

/* In the current memory context.  NULL: it is none; *problem says why. */
extern EvsAslPath *evs_asl_path_compile(const char *text, char **problem);

/* $, names and indexes only, of the input: what ResultPath may be. */
extern bool evs_asl_path_is_reference(const EvsAslPath *path);
extern bool evs_asl_path_is_definite(const EvsAslPath *path);
extern const char *evs_asl_path_text(const EvsAslPath *path);

/*
 * What it names; NULL: a definite path names nothing there.  Of an indefinite one NULL
 * means that it finds too much, which is States.DataLimitExceeded.  It may be a document
 * of the scope itself: nobody may change it.
 */
extern Jsonb *evs_asl_path_get(const EvsAslPath *path, const EvsAslScope *scope);

/* The document with the value at a reference path, which is made as far as it is not there. */
extern Jsonb *evs_asl_path_put(const EvsAslPath *path, Jsonb *document, Jsonb *value,
							   EvsAslError *error);

#endif							/* EVSTORE_ASL_PATH_H */
