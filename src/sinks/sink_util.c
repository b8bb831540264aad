/*
 * sink_util.c
 *	  Small things that sink modules share; nothing of PostgreSQL.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sink_util.h"

const evs_sink_setting *
evs_sink_find(const evs_sink_settings *settings, const char *name)
{
	for (int i = 0; i < settings->nitems; i++)
		if (strcmp(settings->items[i].name, name) == 0)
			return &settings->items[i];
	return NULL;
}

const char *
evs_sink_get(const evs_sink_settings *settings, const char *name, const char *otherwise)
{
	const evs_sink_setting *setting = evs_sink_find(settings, name);

	return setting != NULL ? setting->value : otherwise;
}

int
evs_sink_get_string(const evs_sink_settings *settings, const char *name, const char *otherwise,
					const char **value, char *error, size_t size)
{
	const evs_sink_setting *setting = evs_sink_find(settings, name);

	*value = setting != NULL ? setting->value : otherwise;
	if (setting == NULL || setting->kind == EVS_SINK_SETTING_STRING)
		return 0;
	snprintf(error, size, "setting \"%s\" must be a string", name);
	return -1;
}

static bool
is_among(const char *name, const char *const *names)
{
	for (; *names != NULL; names++)
	{
		size_t		length = strlen(*names);

		if (strcmp(name, *names) == 0 ||
			(length > 0 && (*names)[length - 1] == '.' && strncmp(name, *names, length) == 0 &&
			 name[length] != '\0'))
			return true;
	}
	return false;
}

int
evs_sink_check_names(const evs_sink_settings *settings, const char *const *names,
					 char *error, size_t size)
{
	for (int i = 0; i < settings->nitems; i++)
		if (!is_among(settings->items[i].name, names))
		{
			snprintf(error, size, "setting \"%s\" is not known", settings->items[i].name);
			return -1;
		}
	return 0;
}

int
evs_sink_get_int(const evs_sink_settings *settings, const char *name, int64_t otherwise,
				 int64_t min, int64_t max, int64_t *value, char *error, size_t size)
{
	const evs_sink_setting *setting = evs_sink_find(settings, name);
	char	   *end;

	*value = otherwise;
	if (setting == NULL)
		return 0;
	errno = 0;
	*value = strtoll(setting->value, &end, 10);
	if (setting->kind == EVS_SINK_SETTING_NUMBER && errno == 0 && end != setting->value &&
		*end == '\0' && *value >= min && *value <= max)
		return 0;
	snprintf(error, size, "setting \"%s\" must be a whole number between %lld and %lld",
			 name, (long long) min, (long long) max);
	return -1;
}

int
evs_sink_get_bool(const evs_sink_settings *settings, const char *name, bool otherwise,
				  bool *value, char *error, size_t size)
{
	const evs_sink_setting *setting = evs_sink_find(settings, name);

	*value = otherwise;
	if (setting == NULL)
		return 0;
	*value = strcmp(setting->value, "true") == 0;
	if (setting->kind == EVS_SINK_SETTING_BOOLEAN)
		return 0;
	snprintf(error, size, "setting \"%s\" must be true or false", name);
	return -1;
}

static bool
make_room(evs_sink_buffer *buffer, size_t more)
{
	size_t		size = buffer->size > 0 ? buffer->size : 256;
	char	   *data;

	if (buffer->failed || more > SIZE_MAX / 4 || buffer->length > SIZE_MAX / 4)
		return !(buffer->failed = true);
	while (size < buffer->length + more + 1)
		size *= 2;
	if (size == buffer->size)
		return true;
	data = realloc(buffer->data, size);
	if (data == NULL)
		return !(buffer->failed = true);
	buffer->data = data;
	buffer->size = size;
	return true;
}

evs_sink_filled
evs_sink_fill_topic(const char *pattern, const char *topic, char *filled, size_t size)
{
	size_t		length = 0;
	size_t		topic_length = strlen(topic);

	while (*pattern != '\0')
	{
		bool		is_topic = strncmp(pattern, "{topic}", 7) == 0;
		size_t		n = is_topic ? topic_length : 1;

		if (!is_topic && (*pattern == '{' || *pattern == '}'))
			return EVS_SINK_STRAY_BRACE;
		if (length + n >= size)
			return EVS_SINK_TOO_LONG;
		memcpy(filled + length, is_topic ? topic : pattern, n);
		length += n;
		pattern += is_topic ? 7 : 1;
	}
	filled[length] = '\0';
	return EVS_SINK_FILLED;
}

void
evs_sink_add(evs_sink_buffer *buffer, const void *data, size_t length)
{
	if (!make_room(buffer, length))
		return;
	if (length > 0)
		memcpy(buffer->data + buffer->length, data, length);
	buffer->length += length;
	buffer->data[buffer->length] = '\0';
}

void
evs_sink_add_string(evs_sink_buffer *buffer, const char *string)
{
	evs_sink_add(buffer, string, strlen(string));
}

void
evs_sink_printf(evs_sink_buffer *buffer, const char *format,...)
{
	va_list		args;
	int			length;

	va_start(args, format);
	length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (length < 0 || !make_room(buffer, length))
		return;
	va_start(args, format);
	vsnprintf(buffer->data + buffer->length, length + 1, format, args);
	va_end(args);
	buffer->length += length;
}

void
evs_sink_buffer_free(evs_sink_buffer *buffer)
{
	free(buffer->data);
	memset(buffer, 0, sizeof(*buffer));
}

void
evs_sink_set_result(evs_sink_result *result, uint64_t cookie, evs_sink_class what,
					int code, const char *detail)
{
	size_t		length = strnlen(detail, sizeof(result->detail) - 1);

	result->cookie = cookie;
	result->result = what;
	result->code = code;
	result->retry_after_ms = -1;
	memcpy(result->detail, detail, length);
	result->detail[length] = '\0';
}
