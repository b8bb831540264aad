/*
 * sink_json.h
 *	  A small strict reader of JSON for what brokers answer.
 */
#ifndef EVSTORE_SINK_JSON_H
#define EVSTORE_SINK_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sink_util.h"

/* A scalar.  The text of a string is without its quotes, its escapes as they are. */
typedef struct evs_sink_json_value
{
	const char *path;			/* names joined with dots; elements of arrays by number */
	char		kind;			/* '"' string, '0' number, 't' true, 'f' false, 'n' null */
	const char *text;
	size_t		length;
} evs_sink_json_value;

typedef void (*evs_sink_json_callback) (void *arg, const evs_sink_json_value *value);

/*
 * Call back for each scalar, in order.  false if it is not JSON, or nested more
 * than 32 deep; some callbacks may have been made then.  Scalars whose path has
 * more than 255 bytes are left out.
 */
extern bool evs_sink_json_scan(const char *text, size_t length, evs_sink_json_callback callback,
							   void *arg);

/* A string without its escapes; false if it does not fit.  Surrogates become '?'. */
extern bool evs_sink_json_string(const evs_sink_json_value *value, char *out, size_t size);

/* A whole number that is not negative; false if it is none. */
extern bool evs_sink_json_uint(const evs_sink_json_value *value, uint64_t *number);

/* Add a string with its quotes and escapes. */
extern void evs_sink_json_add(evs_sink_buffer *buffer, const char *string);

#endif							/* EVSTORE_SINK_JSON_H */
