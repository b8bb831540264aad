/*
 * http_config.c
 *	  Settings of the http sink.
 *
 * All of them are checked here, before anything is sent: when the relay is
 * made, and again when it starts, since what may be connected to can change.
 * Passwords, tokens and keys must be names of secrets.  Nothing can switch the
 * verification of certificates off.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http.h"

typedef struct Reader
{
	const evs_sink_host *host;
	const evs_sink_settings *settings;
	EvsHttpConfig *config;
	char	   *error;
	size_t		size;
} Reader;

typedef struct Word
{
	const char *word;
	long		value;
} Word;

static const char *const names[] = {
	"url", "method", "headers.", "http_version", "proxy", "connect_timeout_ms",
	"auth.type", "auth.user", "auth.password", "auth.token",
	"signature.type", "signature.secret", "signature.header",
	"idempotency_header", "conflict_is_duplicate",
	"handshake", "handshake_origin", "handshake_rate",
	"tls.ca_file", "tls.cert_file", "tls.key_file", "tls.min_version",
	NULL
};

/* Say what is wrong; false, for the caller to return. */
static bool
__attribute__((format(printf, 2, 3)))
fail(Reader *reader, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vsnprintf(reader->error, reader->size, format, args);
	va_end(args);
	return false;
}

/* ---- kinds of settings ---- */

static bool
read_string(Reader *reader, const char *name, const char *otherwise, const char **value)
{
	const evs_sink_setting *setting = evs_sink_find(reader->settings, name);

	*value = setting != NULL ? setting->value : otherwise;
	if (setting == NULL || setting->kind == EVS_SINK_SETTING_STRING)
		return true;
	return fail(reader, "setting \"%s\" must be a string", name);
}

/* The name of a secret. */
static bool
read_secret(Reader *reader, const char *name, const char **value)
{
	const evs_sink_setting *setting = evs_sink_find(reader->settings, name);

	*value = setting != NULL ? setting->value : NULL;
	if (setting == NULL || setting->kind == EVS_SINK_SETTING_SECRET)
		return true;
	return fail(reader, "setting \"%s\" must not be in the configuration itself: use {\"secret\": name}", name);
}

static bool
read_bool(Reader *reader, const char *name, bool *value)
{
	return evs_sink_get_bool(reader->settings, name, false, value, reader->error, reader->size) == 0;
}

static bool
read_int(Reader *reader, const char *name, int64_t otherwise, int64_t min, int64_t max, int64_t *value)
{
	return evs_sink_get_int(reader->settings, name, otherwise, min, max, value,
							reader->error, reader->size) == 0;
}

/* One of some words, which end with NULL; the first is the default. */
static bool
read_word(Reader *reader, const char *name, const Word *words, long *value)
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
	fail(reader, "setting \"%s\" must be one of: %s", name, list.data ? list.data : "");
	evs_sink_buffer_free(&list);
	return false;
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
check_egress(Reader *reader, const char *name, const char *host, int port)
{
	if (reader->host->egress_allowed(reader->host->ctx, host, NULL, port) == 1)
		return true;
	return fail(reader, "setting \"%s\": connections to %s, port %d, are not allowed by evstore.egress_allow",
				name, host, port);
}

/* Where does a URL lead?  http or https, with a host, and nothing secret in it. */
static bool
read_endpoint(Reader *reader, const char *name, CURLU *url, char **host, int *port, bool *is_tls)
{
	char	   *scheme = url_part(url, CURLUPART_SCHEME, 0);
	char	   *number = url_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
	bool		ok = false;

	*host = url_part(url, CURLUPART_HOST, 0);
	if (scheme == NULL || (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
		fail(reader, "setting \"%s\" must begin with http:// or https://", name);
	else if (*host == NULL || number == NULL)
		fail(reader, "setting \"%s\" has no host", name);
	else if (has_part(url, CURLUPART_USER) || has_part(url, CURLUPART_PASSWORD))
		fail(reader, "setting \"%s\" must not contain a user or password", name);
	else if (has_part(url, CURLUPART_FRAGMENT))
		fail(reader, "setting \"%s\" must not contain a fragment", name);
	else
	{
		*is_tls = strcmp(scheme, "https") == 0;
		*port = atoi(number);
		strip_brackets(*host);
		ok = check_egress(reader, name, *host, *port);
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
fill_topic(Reader *reader, const char *url, evs_sink_buffer *filled)
{
	const char *authority = strstr(url, "://");
	const char *path = authority != NULL ? authority + 3 + strcspn(authority + 3, "/?#") : url;
	const char *rest = url;
	const char *place;

	while ((place = strstr(rest, "{topic}")) != NULL)
	{
		if (place < path)
			return fail(reader, "setting \"url\" can have {topic} in its path and query only");
		reader->config->has_topic = true;
		evs_sink_add(filled, rest, place - rest);
		evs_sink_add_string(filled, "topic");
		rest = place + strlen("{topic}");
	}
	evs_sink_add_string(filled, rest);
	if (filled->failed)
		return fail(reader, "out of memory");
	if (strpbrk(filled->data, "{}") != NULL)
		return fail(reader, "setting \"url\" can have no other place to fill in than {topic}");
	return true;
}

static bool
check_url(Reader *reader, const char *string)
{
	EvsHttpConfig *config = reader->config;
	CURLU	   *url = curl_url();
	bool		ok = false;

	if (url == NULL)
		fail(reader, "out of memory");
	else if (evs_http_has_dot_segment(string))
		fail(reader, "setting \"url\" must not have \".\" or \"..\" in its path");
	else if (curl_url_set(url, CURLUPART_URL, string, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
		fail(reader, "setting \"url\" is not a URL");
	else
		ok = read_endpoint(reader, "url", url, &config->host, &config->port, &config->is_tls);
	if (ok && !config->has_topic)
		config->target = url;
	else
		curl_url_cleanup(url);
	return ok;
}

static bool
read_url(Reader *reader)
{
	evs_sink_buffer filled = {0};
	bool		ok;

	if (!read_string(reader, "url", NULL, &reader->config->url))
		return false;
	if (reader->config->url == NULL)
		return fail(reader, "setting \"url\" is missing");
	ok = fill_topic(reader, reader->config->url, &filled) && check_url(reader, filled.data);
	evs_sink_buffer_free(&filled);
	return ok;
}

static bool
read_proxy(Reader *reader)
{
	EvsHttpConfig *config = reader->config;
	CURLU	   *url;
	bool		is_tls;
	bool		ok;

	if (!read_string(reader, "proxy", "", &config->proxy))
		return false;
	if (config->proxy[0] == '\0')
		return true;
	url = curl_url();
	if (url == NULL || curl_url_set(url, CURLUPART_URL, config->proxy, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK)
		ok = fail(reader, "setting \"proxy\" is not a URL");
	else if (!has_part(url, CURLUPART_PORT))
		/* libcurl's default for proxies is 1080, whatever the scheme. */
		ok = fail(reader, "setting \"proxy\" must have a port");
	else
		ok = read_endpoint(reader, "proxy", url, &config->proxy_host, &config->proxy_port, &is_tls);
	curl_url_cleanup(url);
	return ok;
}

/* ---- groups of settings ---- */

static bool
read_request(Reader *reader)
{
	static const Word formats[] = {
		{"cloudevents", EVS_HTTP_STRUCTURED}, {"cloudevents-batch", EVS_HTTP_BATCH},
		{"cloudevents-binary", EVS_HTTP_BINARY}, {"raw", EVS_HTTP_RAW}, {NULL}
	};
	static const Word methods[] = {{"POST"}, {"PUT"}, {"PATCH"}, {NULL}};
	static const Word versions[] = {
		{"auto", CURL_HTTP_VERSION_2TLS}, {"1.1", CURL_HTTP_VERSION_1_1}, {NULL}
	};
	EvsHttpConfig *config = reader->config;
	const Word *format = formats;
	long		unused;

	while (format->word != NULL && strcmp(format->word, reader->host->format) != 0)
		format++;
	if (format->word == NULL)
		return fail(reader, "the http sink cannot send the format \"%s\"", reader->host->format);
	config->format = format->value;
	config->method = evs_sink_get(reader->settings, "method", "POST");
	return read_word(reader, "method", methods, &unused) &&
		read_word(reader, "http_version", versions, &config->http_version) &&
		read_int(reader, "connect_timeout_ms", 10000, 1, 600000, &config->connect_timeout_ms) &&
		read_bool(reader, "conflict_is_duplicate", &config->conflict_is_duplicate);
}

static bool
read_auth(Reader *reader)
{
	static const Word types[] = {
		{"none", EVS_HTTP_AUTH_NONE}, {"basic", EVS_HTTP_AUTH_BASIC}, {"bearer", EVS_HTTP_AUTH_BEARER}, {NULL}
	};
	EvsHttpConfig *config = reader->config;
	const char *password;
	const char *token;
	long		type;

	if (!read_word(reader, "auth.type", types, &type) ||
		!read_string(reader, "auth.user", NULL, &config->user) ||
		!read_secret(reader, "auth.password", &password) ||
		!read_secret(reader, "auth.token", &token))
		return false;
	config->auth = type;
	config->auth_secret = type == EVS_HTTP_AUTH_BASIC ? password : token;
	if (type != EVS_HTTP_AUTH_BASIC && (config->user != NULL || password != NULL))
		return fail(reader, "settings \"auth.user\" and \"auth.password\" need \"auth.type\": \"basic\"");
	if (type != EVS_HTTP_AUTH_BEARER && token != NULL)
		return fail(reader, "setting \"auth.token\" needs \"auth.type\": \"bearer\"");
	if (type == EVS_HTTP_AUTH_BASIC && (config->user == NULL || password == NULL))
		return fail(reader, "\"auth.type\": \"basic\" needs \"auth.user\" and \"auth.password\"");
	if (type == EVS_HTTP_AUTH_BEARER && token == NULL)
		return fail(reader, "\"auth.type\": \"bearer\" needs \"auth.token\"");
	if (config->user != NULL && (strchr(config->user, ':') != NULL || !evs_http_is_header_value(config->user)))
		return fail(reader, "setting \"auth.user\" must not contain a colon or control characters");
	return true;
}

static bool
read_signature(Reader *reader)
{
	static const Word types[] = {
		{"sha256", EVS_HTTP_SHA256}, {"standard-webhooks", EVS_HTTP_STANDARD_WEBHOOKS}, {NULL}
	};
	EvsHttpConfig *config = reader->config;
	long		type;

	if (!read_word(reader, "signature.type", types, &type) ||
		!read_secret(reader, "signature.secret", &config->signature_secret) ||
		!read_string(reader, "signature.header", "X-Evstore-Signature", &config->signature_header))
		return false;
	if (config->signature_secret == NULL && (evs_sink_find(reader->settings, "signature.type") != NULL ||
											 evs_sink_find(reader->settings, "signature.header") != NULL))
		return fail(reader, "setting \"signature.secret\" is missing");
	if (type == EVS_HTTP_STANDARD_WEBHOOKS && evs_sink_find(reader->settings, "signature.header") != NULL)
		return fail(reader, "setting \"signature.header\" is for \"signature.type\": \"sha256\": the names of Standard Webhooks are fixed");
	config->signature = config->signature_secret != NULL ? type : EVS_HTTP_UNSIGNED;
	return true;
}

static bool
read_handshake(Reader *reader)
{
	EvsHttpConfig *config = reader->config;

	if (!read_bool(reader, "handshake", &config->handshake) ||
		!read_string(reader, "handshake_origin", NULL, &config->handshake_origin) ||
		!read_int(reader, "handshake_rate", 0, 1, 1000000000, &config->handshake_rate))
		return false;
	if (!config->handshake)
		return config->handshake_origin == NULL && config->handshake_rate == 0 ? true :
			fail(reader, "settings \"handshake_origin\" and \"handshake_rate\" need \"handshake\": true");
	if (config->handshake_origin == NULL || config->handshake_origin[0] == '\0' ||
		!evs_http_is_header_value(config->handshake_origin))
		return fail(reader, "\"handshake\" needs \"handshake_origin\", the name of a host, to say who asks");
	if (config->has_topic)
		return fail(reader, "\"handshake\" is for one receiver: \"url\" must not contain {topic}");
	return true;
}

static bool
read_file(Reader *reader, const char *name, const char **path)
{
	if (!read_string(reader, name, NULL, path))
		return false;
	if (*path != NULL && (*path)[0] != '/')
		return fail(reader, "setting \"%s\" must be an absolute path", name);
	return true;
}

static bool
read_tls(Reader *reader)
{
	static const Word versions[] = {
		{"1.2", CURL_SSLVERSION_TLSv1_2}, {"1.3", CURL_SSLVERSION_TLSv1_3}, {NULL}
	};
	EvsHttpConfig *config = reader->config;

	for (int i = 0; i < reader->settings->nitems; i++)
		if (strncmp(reader->settings->items[i].name, "tls.", 4) == 0 && !config->is_tls)
			return fail(reader, "setting \"%s\" needs a url that begins with https://", reader->settings->items[i].name);
	if (!read_word(reader, "tls.min_version", versions, &config->min_tls) ||
		!read_file(reader, "tls.ca_file", &config->ca_file) ||
		!read_file(reader, "tls.cert_file", &config->cert_file) ||
		!read_file(reader, "tls.key_file", &config->key_file))
		return false;
	if ((config->cert_file == NULL) != (config->key_file == NULL))
		return fail(reader, "settings \"tls.cert_file\" and \"tls.key_file\" need each other");
	return true;
}

/* ---- headers ---- */

static bool
check_header(Reader *reader, const evs_sink_setting *setting)
{
	const char *name = setting->name + strlen("headers.");
	bool		is_authorization = strcasecmp(name, "Authorization") == 0;

	if (!evs_http_is_token(name))
		return fail(reader, "setting \"%s\": this cannot be the name of a header", setting->name);
	if (evs_http_is_reserved(reader->config, name))
		return fail(reader, "setting \"%s\": the sink sets this header itself", setting->name);
	if (is_authorization && reader->config->auth != EVS_HTTP_AUTH_NONE)
		return fail(reader, "setting \"%s\" and \"auth.type\" exclude each other", setting->name);
	if (setting->kind == EVS_SINK_SETTING_SECRET)
		return true;
	if (is_authorization)
		return fail(reader, "setting \"%s\" must not be in the configuration itself: use {\"secret\": name}", setting->name);
	if (setting->kind != EVS_SINK_SETTING_STRING)
		return fail(reader, "setting \"%s\" must be a string", setting->name);
	if (!evs_http_is_header_value(setting->value))
		return fail(reader, "setting \"%s\" must not contain line ends or other control characters", setting->name);
	return true;
}

static bool
read_own_headers(Reader *reader)
{
	EvsHttpConfig *config = reader->config;
	const char *idempotency;

	if (!read_string(reader, "idempotency_header", "Idempotency-Key", &idempotency))
		return false;
	/* Compared with the others that the sink sets. */
	config->idempotency_header = "";
	if (idempotency[0] != '\0' && (!evs_http_is_token(idempotency) || evs_http_is_reserved(config, idempotency)))
		return fail(reader, "setting \"idempotency_header\" cannot be the name of a header, or the sink sets it itself");
	config->idempotency_header = idempotency;
	return true;
}

static bool
check_signature_header(Reader *reader)
{
	EvsHttpConfig *config = reader->config;
	const char *header = config->signature_header;

	config->signature_header = "";
	if (!evs_http_is_token(header) || evs_http_is_reserved(config, header))
		return fail(reader, "setting \"signature.header\" cannot be the name of a header, or the sink sets it itself");
	config->signature_header = header;
	return true;
}

static bool
read_headers(Reader *reader)
{
	const evs_sink_settings *settings = reader->settings;

	if (!read_own_headers(reader) || !check_signature_header(reader))
		return false;
	for (int i = 0; i < settings->nitems; i++)
		if (strncmp(settings->items[i].name, "headers.", 8) == 0 &&
			!check_header(reader, &settings->items[i]))
			return false;
	return true;
}

int
evs_http_configure(const evs_sink_host *host, const evs_sink_settings *settings,
				   EvsHttpConfig *config, char *error, size_t size)
{
	Reader		reader = {host, settings, config, error, size};

	config->settings = settings;
	if (evs_sink_check_names(settings, names, error, size) != 0)
		return -1;
	return read_request(&reader) && read_url(&reader) && read_proxy(&reader) &&
		read_auth(&reader) && read_signature(&reader) && read_handshake(&reader) &&
		read_tls(&reader) && read_headers(&reader) ? 0 : -1;
}

void
evs_http_config_free(EvsHttpConfig *config)
{
	curl_url_cleanup(config->target);
	free(config->host);
	free(config->proxy_host);
}
