/*
 * http_template.c
 *	  Settings with places for what a message says about itself.
 *
 * {id}, {type}, {source}, {stream}, {key}, {topic}, {position} and {version};
 * "{{" and "}}" stand for braces.
 */
#include <stdio.h>
#include <string.h>

#include "http_profile.h"

typedef struct Place
{
	const char *name;
	size_t		offset;			/* of a string, or of a number */
	bool		is_number;
} Place;

static const Place places[] = {
	{"id", offsetof(evs_sink_message, id)},
	{"type", offsetof(evs_sink_message, type)},
	{"source", offsetof(evs_sink_message, source)},
	{"stream", offsetof(evs_sink_message, stream)},
	{"key", offsetof(evs_sink_message, key)},
	{"topic", offsetof(evs_sink_message, topic)},
	{"position", offsetof(evs_sink_message, position), true},
	{"version", offsetof(evs_sink_message, version), true},
};

#define NPLACES ((int) (sizeof(places) / sizeof(places[0])))

/* The place whose name begins behind a brace, and how long it is with the other brace. */
static const Place *
find_place(const char *text, size_t *length)
{
	for (int i = 0; i < NPLACES; i++)
	{
		size_t		n = strlen(places[i].name);

		if (strncmp(text, places[i].name, n) == 0 && text[n] == '}')
		{
			*length = n + 1;
			return &places[i];
		}
	}
	return NULL;
}

static void
add_place(evs_sink_buffer *buffer, const Place *place, const evs_sink_message *message)
{
	const char *member = (const char *) message + place->offset;

	if (place->is_number)
		evs_sink_printf(buffer, "%lld", (long long) *(const int64_t *) member);
	else if (*(const char *const *) member != NULL)
		evs_sink_add_string(buffer, *(const char *const *) member);
}

bool
evs_http_read_template(EvsHttpReader *reader, const char *name, const char *otherwise, const char **value)
{
	if (!evs_http_read_string(reader, name, otherwise, value))
		return false;
	for (const char *c = *value; c != NULL && *c != '\0'; c++)
	{
		size_t		length;

		if (*c != '{' && *c != '}')
			continue;
		if (c[1] == *c)
			c++;
		else if (*c == '}' || find_place(c + 1, &length) == NULL)
			return evs_http_fail(reader, "setting \"%s\" can have the places {id}, {type}, {source}, {stream}, {key}, {topic}, {position} and {version}, and {{ and }} for braces", name);
		else
			c += length;
	}
	return true;
}

bool
evs_http_has_place(const char *template)
{
	for (const char *c = template; *c != '\0'; c++)
		if (*c == '{' || *c == '}')
		{
			if (c[1] != *c)
				return true;
			c++;
		}
	return false;
}

bool
evs_http_is_number_place(const char *template)
{
	size_t		length = 0;
	const Place *place = *template == '{' ? find_place(template + 1, &length) : NULL;

	return place != NULL && place->is_number && template[1 + length] == '\0';
}

void
evs_http_fill(evs_sink_buffer *buffer, const char *template, const evs_sink_message *message)
{
	while (*template != '\0')
	{
		size_t		n = strcspn(template, "{}");
		size_t		length;
		const Place *place;

		evs_sink_add(buffer, template, n);
		template += n;
		if (*template == '\0')
			return;
		place = template[0] == '{' && template[1] != '{' ? find_place(template + 1, &length) : NULL;
		if (place != NULL)
		{
			add_place(buffer, place, message);
			template += 1 + length;
		}
		else
		{
			evs_sink_add(buffer, template, 1);
			template += 2;
		}
	}
}
