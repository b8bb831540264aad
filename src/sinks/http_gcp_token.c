/*
 * http_gcp_token.c
 *	  Access tokens for Google Cloud.
 *
 *	  service-account	a token that the account has signed is exchanged for an access token,
 *						which is good for an hour; a new one is asked for before it ends
 *	  self-signed		the token that the account has signed is the access token
 *	  bearer			somebody else gets them, and keeps them in a secret
 *
 * Where tokens are exchanged is a setting.  The key file says it as well, and must
 * say the same: otherwise whoever writes the secret could have us connect anywhere,
 * and what was allowed when the relay was made would not be what happens.
 */
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http_gcp.h"

#define TOKEN_URI "https://oauth2.googleapis.com/token"
#define AUDIENCE "https://pubsub.googleapis.com/"
#define SCOPE "https://www.googleapis.com/auth/pubsub"
#define GRANT_TYPE "urn:ietf:params:oauth:grant-type:jwt-bearer"

/* A token is renewed so many seconds before its end, or a tenth of its time. */
#define RENEW_SECONDS 300

/* What an answer without expires_in means, and the most that is believed. */
#define DEFAULT_SECONDS 300
#define MAX_SECONDS 86400

/* ---- settings ---- */

static bool
read_token_uri(EvsHttpReader *reader)
{
	EvsGcp	   *gcp = reader->config->own;
	const char *uri;

	if (!evs_http_read_string(reader, "auth.token_uri", TOKEN_URI, &uri))
		return false;
	if (gcp->auth != EVS_GCP_ACCOUNT)
		return !evs_http_has_setting(reader, "auth.token_uri") ||
			evs_http_fail(reader, "setting \"auth.token_uri\" needs \"auth.type\": \"service-account\"");
	reader->config->must_ask = true;
	return evs_http_read_other_url(reader, "auth.token_uri", uri, &gcp->token_place) &&
		evs_cloud_require_tls(reader, "auth.token_uri", &gcp->token_place);
}

static bool
read_audience(EvsHttpReader *reader)
{
	EvsGcp	   *gcp = reader->config->own;

	return evs_http_read_string(reader, "auth.audience", AUDIENCE, &gcp->audience) &&
		(gcp->auth == EVS_GCP_SELF_SIGNED || !evs_http_has_setting(reader, "auth.audience") ||
		 evs_http_fail(reader, "setting \"auth.audience\" needs \"auth.type\": \"self-signed\""));
}

bool
evs_gcp_read_auth(EvsHttpReader *reader)
{
	static const EvsHttpWord types[] = {
		{"service-account", EVS_GCP_ACCOUNT}, {"self-signed", EVS_GCP_SELF_SIGNED},
		{"bearer", EVS_GCP_BEARER}, {"none", EVS_GCP_NONE}, {NULL}
	};
	EvsGcp	   *gcp = reader->config->own;
	const char *credentials;
	const char *token;
	long		type;

	if (!evs_http_read_word(reader, "auth.type", types, &type) ||
		!evs_http_read_secret(reader, "auth.credentials", &credentials) ||
		!evs_http_read_secret(reader, "auth.token", &token))
		return false;
	gcp->auth = type;
	gcp->secret = type == EVS_GCP_BEARER ? token : credentials;
	if (credentials != NULL && (type == EVS_GCP_BEARER || type == EVS_GCP_NONE))
		return evs_http_fail(reader, "setting \"auth.credentials\" needs \"auth.type\": \"service-account\" or \"self-signed\"");
	if (token != NULL && type != EVS_GCP_BEARER)
		return evs_http_fail(reader, "setting \"auth.token\" needs \"auth.type\": \"bearer\"");
	if (gcp->secret == NULL && type != EVS_GCP_NONE)
		return evs_http_fail(reader, "setting \"%s\" is missing", type == EVS_GCP_BEARER ? "auth.token" : "auth.credentials");
	return read_token_uri(reader) && read_audience(reader);
}

/* ---- the present token ---- */

void
evs_gcp_forget_token(EvsGcp *gcp)
{
	evs_http_clear(&gcp->token);
}

static bool
add_token(EvsHttpRequest *request)
{
	const EvsGcp *gcp = evs_gcp(request);

	evs_http_remember_secret(request, gcp->token.data);
	if (request->secrets.failed)
		return evs_http_no_memory(request);
	evs_sink_printf(evs_http_begin_header(request, "Authorization"), "Bearer %s", gcp->token.data);
	return evs_http_end_header(request);
}

/* Was it sent with the present token?  There may be a new one already. */
static bool
has_present_token(const EvsHttpRequest *request)
{
	const EvsGcp *gcp = evs_gcp(request);
	const evs_sink_buffer *secrets = &request->secrets;

	for (size_t i = 0; i < secrets->length; i += strlen(secrets->data + i) + 1)
		if (gcp->token.length > 0 && strcmp(secrets->data + i, gcp->token.data) == 0)
			return true;
	return false;
}

void
evs_gcp_refused(EvsHttpRequest *request)
{
	EvsGcp	   *gcp = evs_gcp(request);

	if (!has_present_token(request))
		return;
	if (gcp->auth == EVS_GCP_SELF_SIGNED)
		evs_gcp_forget_token(gcp);
	evs_http_forget_permission(request->sink);
}

/* ---- tokens that an account signs ---- */

/* Of the account in a secret, from now on.  False with a result. */
static bool
add_signed(EvsHttpRequest *request, const char *secret, size_t length, const char *claim,
		   const char *value, const char *audience, evs_sink_buffer *token)
{
	EvsGcp	   *gcp = evs_gcp(request);
	EvsGcpAccount account;
	evs_sink_buffer claims = {0};
	const char *error = evs_gcp_read_account(&account, secret, length);

	evs_sink_add_string(&claims, "\"iss\":");
	evs_sink_json_add(&claims, account.email);
	evs_sink_printf(&claims, ",\"%s\":", claim);
	evs_sink_json_add(&claims, value != NULL ? value : account.email);
	evs_sink_add_string(&claims, ",\"aud\":");
	evs_sink_json_add(&claims, audience);
	if (error == NULL && gcp->auth == EVS_GCP_ACCOUNT && account.token_uri[0] != '\0' &&
		strcmp(account.token_uri, gcp->token_place.url) != 0)
		error = "its token_uri is not the setting \"auth.token_uri\"";
	if (error == NULL && !evs_gcp_add_jwt(token, &account, &claims, (int64_t) time(NULL)))
		error = "it cannot sign";
	evs_gcp_free_account(&account);
	evs_sink_buffer_free(&claims);
	if (error != NULL)
		evs_http_result(request, EVS_SINK_FATAL,
						"the secret \"%s\" is not the key of a service account: %s", gcp->secret, error);
	return error == NULL;
}

/* A signature takes longer than all the rest of a request, so that tokens are kept. */
static bool
sign_self(EvsHttpRequest *request)
{
	EvsGcp	   *gcp = evs_gcp(request);
	const evs_sink_host *host = request->sink->host;
	int64_t		now_us = host->now_us(host->ctx);
	char		secret[EVS_HTTP_SECRET_MAX];
	unsigned char hash[32];
	int			length = evs_http_get_secret(request, gcp->secret, secret);
	bool		ok = length >= 0;

	if (ok)
		SHA256((const unsigned char *) secret, length, hash);
	if (ok && (gcp->token.length == 0 || now_us >= gcp->token_until_us ||
			   memcmp(hash, gcp->signed_with, sizeof(hash)) != 0))
	{
		evs_gcp_forget_token(gcp);
		ok = add_signed(request, secret, length, "sub", NULL, gcp->audience, &gcp->token) &&
			(!gcp->token.failed || evs_http_no_memory(request));
		memcpy(gcp->signed_with, hash, sizeof(hash));
		gcp->token_until_us = now_us + (int64_t) (EVS_GCP_JWT_SECONDS - RENEW_SECONDS) * 1000000;
	}
	OPENSSL_cleanse(secret, sizeof(secret));
	return ok && add_token(request);
}

bool
evs_gcp_sign(EvsHttpRequest *request)
{
	const EvsGcp *gcp = evs_gcp(request);

	switch (gcp->auth)
	{
		case EVS_GCP_ACCOUNT:
			return add_token(request);
		case EVS_GCP_SELF_SIGNED:
			return sign_self(request);
		case EVS_GCP_BEARER:
			return evs_cloud_add_bearer(request, gcp->secret);
		default:
			return true;
	}
}

/* ---- exchanging them ---- */

bool
evs_gcp_ask(EvsHttpRequest *request)
{
	EvsGcp	   *gcp = evs_gcp(request);
	evs_sink_buffer *body = &request->body;
	char		secret[EVS_HTTP_SECRET_MAX];
	int			length = evs_http_get_secret(request, gcp->secret, secret);
	size_t		start;
	bool		ok;

	evs_sink_add_string(body, "grant_type=");
	evs_http_add_uri(body, GRANT_TYPE);
	evs_sink_add_string(body, "&assertion=");
	start = body->length;
	ok = length >= 0 && add_signed(request, secret, length, "scope", SCOPE, gcp->token_place.url, body);
	OPENSSL_cleanse(secret, sizeof(secret));
	if (!ok)
		return false;
	if (body->failed)
		return evs_http_no_memory(request);
	evs_http_remember_secret(request, body->data + start);
	request->data = body->data;
	request->length = body->length;
	evs_http_go_to(request, &gcp->token_place);
	return evs_http_add_header(request, "Content-Type", "application/x-www-form-urlencoded") &&
		evs_http_omit_header(request, "Expect");
}

typedef struct TokenAnswer
{
	EvsGcp	   *gcp;			/* its token is the answer's */
	uint64_t	seconds;
	char		error[64];
	char		description[160];
} TokenAnswer;

static void
look_at_answer(void *arg, const evs_sink_json_value *value)
{
	TokenAnswer *answer = arg;
	char		token[EVS_HTTP_SECRET_MAX];

	if (strcmp(value->path, "access_token") == 0)
	{
		evs_gcp_forget_token(answer->gcp);
		if (evs_sink_json_string(value, token, sizeof(token)) && evs_http_is_header_value(token))
			evs_sink_add_string(&answer->gcp->token, token);
		OPENSSL_cleanse(token, sizeof(token));
	}
	else if (strcmp(value->path, "expires_in") == 0)
		(void) evs_sink_json_uint(value, &answer->seconds);
	else if (strcmp(value->path, "error") == 0)
		evs_http_json_excerpt(value, answer->error, sizeof(answer->error));
	else if (strcmp(value->path, "error_description") == 0)
		evs_http_json_excerpt(value, answer->description, sizeof(answer->description));
}

/* An outage: what is wrong with a key or an account is mended elsewhere. */
static int64_t
no_token(EvsHttpRequest *request, long status, const TokenAnswer *answer)
{
	evs_sink_result before = request->result;
	evs_sink_class what = before.result == EVS_SINK_FATAL ? EVS_SINK_FATAL : EVS_SINK_RETRY_SINK;

	if (answer->error[0] != '\0')
		evs_http_result(request, what, "no access token: HTTP %ld %s%s%s", status, answer->error,
						answer->description[0] != '\0' ? ": " : "", answer->description);
	else if (before.result == EVS_SINK_OK)
		evs_http_result(request, what, "no access token: HTTP %ld without one", status);
	else
		evs_http_result(request, what, "no access token: %.200s", before.detail);
	request->result.code = (int32_t) status;
	request->result.retry_after_ms = what == EVS_SINK_RETRY_SINK && status != 0 ? evs_http_retry_after(request) : -1;
	return -1;
}

int64_t
evs_gcp_answered(EvsHttpRequest *request, long status)
{
	TokenAnswer answer = {.gcp = evs_gcp(request), .seconds = DEFAULT_SECONDS};
	int64_t		seconds;

	evs_gcp_forget_token(answer.gcp);
	if (status != 0 && request->answer.data != NULL &&
		!evs_sink_json_scan(request->answer.data, request->answer.length, look_at_answer, &answer))
		evs_gcp_forget_token(answer.gcp);
	if (request->result.result != EVS_SINK_OK || answer.gcp->token.failed || answer.gcp->token.length == 0)
	{
		evs_gcp_forget_token(answer.gcp);
		return no_token(request, status, &answer);
	}
	seconds = answer.seconds < MAX_SECONDS ? (int64_t) answer.seconds : MAX_SECONDS;
	seconds -= seconds / 10 < RENEW_SECONDS ? seconds / 10 : RENEW_SECONDS;
	return seconds * 1000;
}
