/*
 * json_build.h
 *	  jsonb_build_object() and its like, in an expression that is evaluated often.
 */
#ifndef EVSTORE_JSON_BUILD_H
#define EVSTORE_JSON_BUILD_H

#include "nodes/execnodes.h"

/*
 * Have the calls of jsonb_build_object(), jsonb_build_array() and to_jsonb() in the
 * compiled expression made by functions that do the same and know the types of
 * the arguments.  Calls with arguments of other types than those stay as they are:
 * boolean, smallint, integer, bigint, numeric, text, varchar, jsonb, domains over
 * these, and literals.  The expression must not have been evaluated yet, and must
 * belong to no plan.
 */
extern void evs_json_build_prepare(ExprState *expr);

#endif							/* EVSTORE_JSON_BUILD_H */
