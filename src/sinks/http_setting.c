/*
 * http_setting.c
 *	  Kinds of settings of the http sink, and the URLs among them.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_profile.h"

/* Say what is wrong; false, for the caller to return. */
bool
__attribute__((format(printf, 2, 3)))
evs_http_fail(EvsHttpReader *reader, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vsnprintf(reader->error, reader->size, format, args);
	va_end(args);
	return false;
}

/* ---- kinds of settings ---- */

bool
evs_http_has_setting(const EvsHttpReader *reader, const char *name)
{
	return evs_sink_find(reader->settings, name) != NULL;
}

bool
evs_http_read_string(EvsHttpReader *reader, const char *name, const char *otherwise, const char **value)
{
	const evs_sink_setting *setting = evs_sink_find(reader->settings, name);

	*value = setting != NULL ? setting->value : otherwise;
	if (setting == NULL || setting->kind == EVS_SINK_SETTING_STRING)
		return true;
	return evs_http_fail(reader, "setting \"%s\" must be a string", name);
}

/* The name of a secret. */
bool
evs_http_read_secret(EvsHttpReader *reader, const char *name, const char **value)
{
	const evs_sink_setting *setting = evs_sink_find(reader->settings, name);

	*value = setting != NULL ? setting->value : NULL;
	if (setting == NULL || setting->kind == EVS_SINK_SETTING_SECRET)
		return true;
	return evs_http_fail(reader, "setting \"%s\" must not be in the configuration itself: use {\"secret\": name}", name);
}

bool
evs_http_read_bool(EvsHttpReader *reader, const char *name, bool *value)
{
	return evs_sink_get_bool(reader->settings, name, false, value, reader->error, reader->size) == 0;
}

bool
evs_http_read_int(EvsHttpReader *reader, const char *name, int64_t otherwise, int64_t min, int64_t max, int64_t *value)
{
	return evs_sink_get_int(reader->settings, name, otherwise, min, max, value,
							reader->error, reader->size) == 0;
}

/* One of some words, which end with NULL; the first is the default. */
bool
evs_http_read_word(EvsHttpReader *reader, const char *name, const EvsHttpWord *words, long *value)
{
	const char *word = evs_sink_get(reader->settings, name, words[0].word);
	evs_sink_buffer list = {0};

	for (int i = 0; words[i].word != NULL; i++)
	{
		if (strcmp(word, words[i].word) == 0)
		{
			*value = words[i].value;
			evs_sink_buffer_free(&list);
			return true;
		}
		evs_sink_printf(&list, "%s%s", i > 0 ? ", " : "", words[i].word);
	}
	evs_http_fail(reader, "setting \"%s\" must be one of: %s", name, list.data ? list.data : "");
	evs_sink_buffer_free(&list);
	return false;
}

bool
evs_http_read_file(EvsHttpReader *reader, const char *name, const char **path)
{
	if (!evs_http_read_string(reader, name, NULL, path))
		return false;
	if (*path != NULL && (*path)[0] != '/')
		return evs_http_fail(reader, "setting \"%s\" must be an absolute path", name);
	return true;
}

/* ---- url and proxy ---- */

/* A part of a URL, to be freed; NULL if it has none. */
static char *
url_part(CURLU *url, CURLUPart part, unsigned flags)
{
	char	   *value = NULL;
	char	   *copy;

	if (curl_url_get(url, part, &value, flags) != CURLUE_OK)
		return NULL;
	copy = strdup(value);
	curl_free(value);
	return copy;
}

static bool
has_part(CURLU *url, CURLUPart part)
{
	char	   *value = url_part(url, part, 0);
	bool		has = value != NULL;

	free(value);
	return has;
}

static void
strip_brackets(char *host)
{
	size_t		length = strlen(host);

	if (host[0] == '[' && length > 2 && host[length - 1] == ']')
	{
		memmove(host, host + 1, length - 2);
		host[length - 2] = '\0';
	}
}

/* May it be connected to, as far as can be said without its address? */
static bool
check_egress(EvsHttpReader *reader, const char *name, const char *host, int port)
{
	if (reader->host->egress_allowed(reader->host->ctx, host, NULL, port) == 1)
		return true;
	return evs_http_fail(reader, "setting \"%s\": connections to %s, port %d, are not allowed by evstore.egress_allow",
						 name, host, port);
}

/* Where does a URL lead?  http or https, with a host, and nothing secret in it. */
static bool
read_place(EvsHttpReader *reader, const char *name, CURLU *url, EvsHttpPlace *place)
{
	char	   *scheme = url_part(url, CURLUPART_SCHEME, 0);
	char	   *number = url_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
	bool		ok = false;

	place->host = url_part(url, CURLUPART_HOST, 0);
	if (scheme == NULL || (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
		evs_http_fail(reader, "setting \"%s\" must begin with http:// or https://", name);
	else if (place->host == NULL || number == NULL)
		evs_http_fail(reader, "setting \"%s\" has no host", name);
	else if (has_part(url, CURLUPART_USER) || has_part(url, CURLUPART_PASSWORD))
		evs_http_fail(reader, "setting \"%s\" must not contain a user or password", name);
	else if (has_part(url, CURLUPART_FRAGMENT))
		evs_http_fail(reader, "setting \"%s\" must not contain a fragment", name);
	else
	{
		place->is_tls = strcmp(scheme, "https") == 0;
		place->port = atoi(number);
		strip_brackets(place->host);
		ok = check_egress(reader, name, place->host, place->port);
	}
	free(scheme);
	free(number);
	return ok;
}

/*
 * The URL with something in place of each {topic}, to see whether it is one.
 * Places are allowed in the path and the query only: the host is not the
 * message's to choose.
 */
static bool
fill_topic(EvsHttpReader *reader, const char *name, const char *url, evs_sink_buffer *filled,
		   bool *has_topic)
{
	const char *authority = strstr(url, "://");
	const char *path = authority != NULL ? authority + 3 + strcspn(authority + 3, "/?#") : url;
	const char *rest = url;
	const char *place;

	while ((place = strstr(rest, "{topic}")) != NULL)
	{
		if (place < path)
			return evs_http_fail(reader, "setting \"%s\" can have {topic} in its path and query only", name);
		*has_topic = true;
		evs_sink_add(filled, rest, place - rest);
		evs_sink_add_string(filled, "topic");
		rest = place + strlen("{topic}");
	}
	evs_sink_add_string(filled, rest);
	if (filled->failed)
		return evs_http_fail(reader, "out of memory");
	if (strpbrk(filled->data, "{}") != NULL)
		return evs_http_fail(reader, "setting \"%s\" can have no other place to fill in than {topic}", name);
	return true;
}

/* *url is to be cleaned up; NULL without memory. */
static bool
check_url(EvsHttpReader *reader, const char *name, const char *string, CURLU **url, EvsHttpPlace *place)
{
	*url = curl_url();
	if (*url == NULL)
		return evs_http_fail(reader, "out of memory");
	if (evs_http_has_dot_segment(string))
		return evs_http_fail(reader, "setting \"%s\" must not have \".\" or \"..\" in its path", name);
	if (curl_url_set(*url, CURLUPART_URL, string, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
		return evs_http_fail(reader, "setting \"%s\" is not a URL", name);
	return read_place(reader, name, *url, place);
}

bool
evs_http_read_url(EvsHttpReader *reader, const char *name, const char *url)
{
	EvsHttpConfig *config = reader->config;
	evs_sink_buffer filled = {0};
	CURLU	   *parsed = NULL;
	bool		ok;

	config->to.url = url;
	ok = fill_topic(reader, name, url, &filled, &config->has_topic) &&
		check_url(reader, name, filled.data, &parsed, &config->to);
	if (ok && !config->has_topic)
		config->target = parsed;
	else
		curl_url_cleanup(parsed);
	evs_sink_buffer_free(&filled);
	return ok;
}

bool
evs_http_read_other_url(EvsHttpReader *reader, const char *name, const char *url, EvsHttpPlace *place)
{
	CURLU	   *parsed = NULL;
	bool		ok;

	place->url = url;
	ok = check_url(reader, name, url, &parsed, place);
	curl_url_cleanup(parsed);
	return ok;
}

bool
evs_http_read_proxy(EvsHttpReader *reader)
{
	EvsHttpConfig *config = reader->config;
	EvsHttpPlace place = {NULL};
	CURLU	   *url;
	bool		ok;

	if (!evs_http_read_string(reader, "proxy", "", &config->proxy))
		return false;
	if (config->proxy[0] == '\0')
		return true;
	url = curl_url();
	if (url == NULL || curl_url_set(url, CURLUPART_URL, config->proxy, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
		ok = evs_http_fail(reader, "setting \"proxy\" is not a URL");
	else if (!has_part(url, CURLUPART_PORT))
		/* libcurl's default for proxies is 1080, whatever the scheme. */
		ok = evs_http_fail(reader, "setting \"proxy\" must have a port");
	else
		ok = read_place(reader, "proxy", url, &place);
	config->proxy_host = place.host;
	config->proxy_port = place.port;
	curl_url_cleanup(url);
	return ok;
}
