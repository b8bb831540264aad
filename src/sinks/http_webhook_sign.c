/*
 * http_webhook_sign.c
 *	  Signatures of web hooks.
 */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include <time.h>

#include "http_webhook.h"

/*
 * HMAC-SHA256 of a prefix and a request's body, which may be many megabytes and
 * is not copied.
 */
static bool
hmac_sha256(const unsigned char *key, size_t length, const evs_sink_buffer *prefix,
			const EvsHttpRequest *request, unsigned char *mac)
{
	EVP_PKEY   *pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_HMAC, NULL, key, length);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t		size = 32;
	bool		ok;

	ok = pkey != NULL && ctx != NULL &&
		EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, pkey) == 1 &&
		EVP_DigestSignUpdate(ctx, prefix->data, prefix->length) == 1 &&
		EVP_DigestSignUpdate(ctx, request->data, request->length) == 1 &&
		EVP_DigestSignFinal(ctx, mac, &size) == 1;
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(pkey);
	return ok;
}

/*
 * The key of Standard Webhooks: "whsec_" and base64, or the bytes themselves.
 * Returns its length, or -1 if it is not base64.
 */
static int
webhook_key(const char *secret, size_t length, unsigned char *key)
{
	static const char prefix[] = "whsec_";
	int			decoded;

	if (strncmp(secret, prefix, strlen(prefix)) != 0)
	{
		memcpy(key, secret, length);
		return (int) length;
	}
	secret += strlen(prefix);
	length -= strlen(prefix);
	decoded = EVP_DecodeBlock(key, (const unsigned char *) secret, (int) length);
	/* What it returns counts the padding as if it were data. */
	while (decoded > 0 && length > 0 && secret[length - 1] == '=')
	{
		decoded--;
		length--;
	}
	return decoded;
}

/*
 * The identity of what is signed, by which a receiver knows it again: the
 * event's id, or for a batch one that is the same only for the same events in
 * the same order.
 */
static void
add_webhook_id(evs_sink_buffer *id, const EvsHttpRequest *request)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	evs_sink_buffer ids = {0};

	if (request->ncookies == 1)
	{
		evs_sink_add_string(id, request->message->id);
		return;
	}
	for (int i = 0; i < request->ncookies; i++)
		evs_sink_printf(&ids, "%s\n", evs_sink_message_at(request->message, i)->id);
	if (ids.failed || EVP_Digest(ids.data, ids.length, digest, NULL, EVP_sha256(), NULL) != 1)
		id->failed = true;
	else
	{
		evs_sink_add_string(id, "batch_");
		evs_http_add_hex(id, digest, 16);
	}
	evs_sink_buffer_free(&ids);
}

static bool
sign_standard_webhook(EvsHttpRequest *request, const char *secret, size_t length,
					  evs_sink_buffer *lines)
{
	unsigned char key[EVS_HTTP_SECRET_MAX];
	unsigned char mac[32];
	int			nkey = webhook_key(secret, length, key);
	long long	now = (long long) time(NULL);
	evs_sink_buffer id = {0};
	evs_sink_buffer signed_part = {0};
	bool		ok = false;

	add_webhook_id(&id, request);
	evs_sink_printf(&signed_part, "%s.%lld.", id.data ? id.data : "", now);
	if (nkey > 0 && !id.failed && !signed_part.failed &&
		hmac_sha256(key, nkey, &signed_part, request, mac))
	{
		evs_sink_printf(lines, "webhook-id: %s\nwebhook-timestamp: %lld\nwebhook-signature: v1,",
						id.data, now);
		evs_http_add_base64(lines, mac, sizeof(mac));
		ok = true;
	}
	OPENSSL_cleanse(key, sizeof(key));
	evs_sink_buffer_free(&id);
	evs_sink_buffer_free(&signed_part);
	return ok;
}

/*
 * Add the signature of a request's body as header lines, separated by newlines.
 * False if the secret is no key.
 */
static bool
add_signature(EvsHttpRequest *request, const char *secret, size_t length, evs_sink_buffer *lines)
{
	static const evs_sink_buffer nothing = {.data = ""};
	unsigned char mac[32];

	if (request->sink->config.signature == EVS_HTTP_STANDARD_WEBHOOKS)
		return sign_standard_webhook(request, secret, length, lines);
	if (length == 0 ||
		!hmac_sha256((const unsigned char *) secret, length, &nothing, request, mac))
		return false;
	evs_sink_printf(lines, "%s: sha256=", request->sink->config.signature_header);
	evs_http_add_hex(lines, mac, sizeof(mac));
	return true;
}

/* Signatures are of the body as it is sent. */
bool
evs_http_webhook_sign(EvsHttpRequest *request)
{
	const EvsHttpConfig *config = &request->sink->config;
	evs_sink_buffer lines = {0};
	char		secret[EVS_HTTP_SECRET_MAX];
	int			length;
	bool		ok = true;

	if (config->signature == EVS_HTTP_UNSIGNED)
		return true;
	length = evs_http_get_secret(request, config->signature_secret, secret);
	if (length < 0)
		return false;
	if (!add_signature(request, secret, length, &lines))
	{
		evs_http_result(request, EVS_SINK_FATAL, "the secret \"%s\" is not a key to sign with", config->signature_secret);
		ok = false;
	}
	OPENSSL_cleanse(secret, sizeof(secret));
	ok = ok && (!lines.failed || evs_http_no_memory(request));
	ok = ok && evs_http_add_header_lines(request, lines.data);
	evs_sink_buffer_free(&lines);
	return ok;
}
