/*
 * sink_util.h
 *	  Small things that sink modules share; nothing of PostgreSQL.
 */
#ifndef EVSTORE_SINK_UTIL_H
#define EVSTORE_SINK_UTIL_H

#include <stdbool.h>
#include <stdint.h>

#include "evstore_sink.h"

/* The value of a setting, or the default. */
extern const char *evs_sink_get(const evs_sink_settings *settings, const char *name,
								const char *otherwise);
extern const evs_sink_setting *evs_sink_find(const evs_sink_settings *settings, const char *name);

/* The same of one that must be a string; -1 and an error: not a secret's name, for one. */
extern int	evs_sink_get_string(const evs_sink_settings *settings, const char *name,
								const char *otherwise, const char **value, char *error, size_t size);

/*
 * -1 and an error if a setting is none of these.  The list ends with NULL; a
 * name that ends with a dot stands for all that begin with it.
 */
extern int	evs_sink_check_names(const evs_sink_settings *settings, const char *const *names,
								 char *error, size_t size);

/* A whole number within bounds, or the default; -1 and an error. */
extern int	evs_sink_get_int(const evs_sink_settings *settings, const char *name, int64_t otherwise,
							 int64_t min, int64_t max, int64_t *value, char *error, size_t size);
extern int	evs_sink_get_bool(const evs_sink_settings *settings, const char *name, bool otherwise,
							  bool *value, char *error, size_t size);

/* What became of a pattern. */
typedef enum evs_sink_filled
{
	EVS_SINK_FILLED,
	EVS_SINK_STRAY_BRACE,		/* one that is not of {topic} */
	EVS_SINK_TOO_LONG
} evs_sink_filled;

/* The pattern with the topic in the place of {topic}; size is with the zero byte. */
extern evs_sink_filled evs_sink_fill_topic(const char *pattern, const char *topic, char *filled, size_t size);

/* A buffer that grows.  Out of memory shows in failed, and nothing is added any more. */
typedef struct evs_sink_buffer
{
	char	   *data;
	size_t		length;
	size_t		size;
	bool		failed;
} evs_sink_buffer;

extern void evs_sink_add(evs_sink_buffer *buffer, const void *data, size_t length);
extern void evs_sink_add_string(evs_sink_buffer *buffer, const char *string);
extern void evs_sink_printf(evs_sink_buffer *buffer, const char *format, ...)
			__attribute__((format(printf, 2, 3)));
extern void evs_sink_buffer_free(evs_sink_buffer *buffer);

/* A message of an array: the host's structure may be longer than the one known here. */
static inline const evs_sink_message *
evs_sink_message_at(const evs_sink_message *messages, int i)
{
	return (const evs_sink_message *) ((const char *) messages + (size_t) messages->size * i);
}

/* A result; the detail is cut to fit. */
extern void evs_sink_set_result(evs_sink_result *result, uint64_t cookie, evs_sink_class what,
								int code, const char *detail);

#endif							/* EVSTORE_SINK_UTIL_H */
