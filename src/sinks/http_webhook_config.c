/*
 * http_webhook_config.c
 *	  Settings of web hooks.
 */
#include <string.h>
#include <strings.h>

#include "http_webhook.h"

/*
 * Is it a header that only the sink sets?  Those that frame a message or say
 * where it goes could be used to smuggle a second request; the others would be
 * there twice.
 */
bool
evs_http_is_reserved(const EvsHttpConfig *config, const char *name)
{
	static const char *const names[] = {
		"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host",
		"HTTP2-Settings", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "TE",
		"Trailer", "Transfer-Encoding", "Upgrade",
		"webhook-id", "webhook-timestamp", "webhook-signature"
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcasecmp(name, names[i]) == 0)
			return true;
	return strncasecmp(name, "ce-", 3) == 0 ||
		strcasecmp(name, config->idempotency_header) == 0 ||
		strcasecmp(name, config->signature_header) == 0;
}

static bool
read_request(EvsHttpReader *reader)
{
	static const EvsHttpWord methods[] = {{"POST"}, {"PUT"}, {"PATCH"}, {NULL}};
	EvsHttpConfig *config = reader->config;
	const char *url;
	long		unused;

	if (!evs_http_read_string(reader, "url", NULL, &url))
		return false;
	if (url == NULL)
		return evs_http_fail(reader, "setting \"url\" is missing");
	config->method = evs_sink_get(reader->settings, "method", "POST");
	return evs_http_read_word(reader, "method", methods, &unused) &&
		evs_http_read_bool(reader, "conflict_is_duplicate", &config->conflict_is_duplicate) &&
		evs_http_read_url(reader, "url", url);
}

static bool
read_auth(EvsHttpReader *reader)
{
	static const EvsHttpWord types[] = {
		{"none", EVS_HTTP_AUTH_NONE}, {"basic", EVS_HTTP_AUTH_BASIC}, {"bearer", EVS_HTTP_AUTH_BEARER}, {NULL}
	};
	EvsHttpConfig *config = reader->config;
	const char *password;
	const char *token;
	long		type;

	if (!evs_http_read_word(reader, "auth.type", types, &type) ||
		!evs_http_read_string(reader, "auth.user", NULL, &config->user) ||
		!evs_http_read_secret(reader, "auth.password", &password) ||
		!evs_http_read_secret(reader, "auth.token", &token))
		return false;
	config->auth = type;
	config->auth_secret = type == EVS_HTTP_AUTH_BASIC ? password : token;
	if (type != EVS_HTTP_AUTH_BASIC && (config->user != NULL || password != NULL))
		return evs_http_fail(reader, "settings \"auth.user\" and \"auth.password\" need \"auth.type\": \"basic\"");
	if (type != EVS_HTTP_AUTH_BEARER && token != NULL)
		return evs_http_fail(reader, "setting \"auth.token\" needs \"auth.type\": \"bearer\"");
	if (type == EVS_HTTP_AUTH_BASIC && (config->user == NULL || password == NULL))
		return evs_http_fail(reader, "\"auth.type\": \"basic\" needs \"auth.user\" and \"auth.password\"");
	if (type == EVS_HTTP_AUTH_BEARER && token == NULL)
		return evs_http_fail(reader, "\"auth.type\": \"bearer\" needs \"auth.token\"");
	if (config->user != NULL && (strchr(config->user, ':') != NULL || !evs_http_is_header_value(config->user)))
		return evs_http_fail(reader, "setting \"auth.user\" must not contain a colon or control characters");
	return true;
}

static bool
read_signature(EvsHttpReader *reader)
{
	static const EvsHttpWord types[] = {
		{"sha256", EVS_HTTP_SHA256}, {"standard-webhooks", EVS_HTTP_STANDARD_WEBHOOKS}, {NULL}
	};
	EvsHttpConfig *config = reader->config;
	long		type;

	if (!evs_http_read_word(reader, "signature.type", types, &type) ||
		!evs_http_read_secret(reader, "signature.secret", &config->signature_secret) ||
		!evs_http_read_string(reader, "signature.header", "X-Evstore-Signature", &config->signature_header))
		return false;
	if (config->signature_secret == NULL && (evs_sink_find(reader->settings, "signature.type") != NULL ||
											 evs_sink_find(reader->settings, "signature.header") != NULL))
		return evs_http_fail(reader, "setting \"signature.secret\" is missing");
	if (type == EVS_HTTP_STANDARD_WEBHOOKS && evs_sink_find(reader->settings, "signature.header") != NULL)
		return evs_http_fail(reader, "setting \"signature.header\" is for \"signature.type\": \"sha256\": the names of Standard Webhooks are fixed");
	config->signature = config->signature_secret != NULL ? type : EVS_HTTP_UNSIGNED;
	return true;
}

static bool
read_handshake(EvsHttpReader *reader)
{
	EvsHttpConfig *config = reader->config;

	if (!evs_http_read_bool(reader, "handshake", &config->must_ask) ||
		!evs_http_read_string(reader, "handshake_origin", NULL, &config->handshake_origin) ||
		!evs_http_read_int(reader, "handshake_rate", 0, 1, 1000000000, &config->handshake_rate))
		return false;
	if (!config->must_ask)
		return config->handshake_origin == NULL && config->handshake_rate == 0 ? true :
			evs_http_fail(reader, "settings \"handshake_origin\" and \"handshake_rate\" need \"handshake\": true");
	if (config->handshake_origin == NULL || config->handshake_origin[0] == '\0' ||
		!evs_http_is_header_value(config->handshake_origin))
		return evs_http_fail(reader, "\"handshake\" needs \"handshake_origin\", the name of a host, to say who asks");
	if (config->has_topic)
		return evs_http_fail(reader, "\"handshake\" is for one receiver: \"url\" must not contain {topic}");
	return true;
}

/* ---- headers ---- */

static bool
check_header(EvsHttpReader *reader, const evs_sink_setting *setting)
{
	const char *name = setting->name + strlen("headers.");
	bool		is_authorization = strcasecmp(name, "Authorization") == 0;

	if (!evs_http_is_token(name))
		return evs_http_fail(reader, "setting \"%s\": this cannot be the name of a header", setting->name);
	if (evs_http_is_reserved(reader->config, name))
		return evs_http_fail(reader, "setting \"%s\": the sink sets this header itself", setting->name);
	if (is_authorization && reader->config->auth != EVS_HTTP_AUTH_NONE)
		return evs_http_fail(reader, "setting \"%s\" and \"auth.type\" exclude each other", setting->name);
	if (setting->kind == EVS_SINK_SETTING_SECRET)
		return true;
	if (is_authorization)
		return evs_http_fail(reader, "setting \"%s\" must not be in the configuration itself: use {\"secret\": name}", setting->name);
	if (setting->kind != EVS_SINK_SETTING_STRING)
		return evs_http_fail(reader, "setting \"%s\" must be a string", setting->name);
	if (!evs_http_is_header_value(setting->value))
		return evs_http_fail(reader, "setting \"%s\" must not contain line ends or other control characters", setting->name);
	return true;
}

static bool
read_own_headers(EvsHttpReader *reader)
{
	EvsHttpConfig *config = reader->config;
	const char *idempotency;

	if (!evs_http_read_string(reader, "idempotency_header", "Idempotency-Key", &idempotency))
		return false;
	/* Compared with the others that the sink sets. */
	config->idempotency_header = "";
	if (idempotency[0] != '\0' && (!evs_http_is_token(idempotency) || evs_http_is_reserved(config, idempotency)))
		return evs_http_fail(reader, "setting \"idempotency_header\" cannot be the name of a header, or the sink sets it itself");
	config->idempotency_header = idempotency;
	return true;
}

static bool
check_signature_header(EvsHttpReader *reader)
{
	EvsHttpConfig *config = reader->config;
	const char *header = config->signature_header;

	config->signature_header = "";
	if (!evs_http_is_token(header) || evs_http_is_reserved(config, header))
		return evs_http_fail(reader, "setting \"signature.header\" cannot be the name of a header, or the sink sets it itself");
	config->signature_header = header;
	return true;
}

static bool
read_headers(EvsHttpReader *reader)
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

bool
evs_http_webhook_configure(EvsHttpReader *reader)
{
	return read_request(reader) && read_auth(reader) && read_signature(reader) &&
		read_handshake(reader) && read_headers(reader);
}
