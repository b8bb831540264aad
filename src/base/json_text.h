/*
 * json_text.h
 *	  The text of a jsonb.
 */
#ifndef EVSTORE_JSON_TEXT_H
#define EVSTORE_JSON_TEXT_H

#include "lib/stringinfo.h"
#include "utils/jsonb.h"

/* Append the same text that jsonb's output function makes. */
extern void evs_json_append(StringInfo buf, JsonbContainer *container);

#endif							/* EVSTORE_JSON_TEXT_H */
