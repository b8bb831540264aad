/*
 * postgres_array.c
 *	  Values as PostgreSQL reads them.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "postgres_sink.h"

void
evs_pg_array_add(evs_sink_buffer *array, const char *value, size_t length)
{
	const char *end = value + length;

	evs_sink_add(array, array->length == 0 ? "{" : ",", 1);
	if (value == NULL)
	{
		evs_sink_add(array, "NULL", 4);
		return;
	}
	evs_sink_add(array, "\"", 1);
	for (const char *from = value; from < end;)
	{
		const char *at = from;

		while (at < end && *at != '"' && *at != '\\')
			at++;
		evs_sink_add(array, from, at - from);
		if (at < end)
		{
			evs_sink_add(array, "\\", 1);
			evs_sink_add(array, at, 1);
			at++;
		}
		from = at;
	}
	evs_sink_add(array, "\"", 1);
}

void
evs_pg_array_add_string(evs_sink_buffer *array, const char *value)
{
	evs_pg_array_add(array, value, value != NULL ? strlen(value) : 0);
}

void
evs_pg_array_end(evs_sink_buffer *array)
{
	evs_sink_add_string(array, array->length == 0 ? "{}" : "}");
}

void
evs_pg_format_time(int64_t time_us, char *text, size_t size)
{
	int64_t		micros = time_us % 1000000;
	time_t		seconds = time_us / 1000000;
	struct tm	tm;
	int			year;

	if (micros < 0)
	{
		micros += 1000000;
		seconds--;
	}
	gmtime_r(&seconds, &tm);
	year = tm.tm_year + 1900;
	snprintf(text, size, "%04d-%02d-%02d %02d:%02d:%02d.%06d+00%s",
			 year > 0 ? year : 1 - year, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
			 (int) micros, year > 0 ? "" : " BC");
}
