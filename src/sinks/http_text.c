/*
 * http_text.c
 *	  Encodings of the http sink, what may stand in a header, and signatures.
 */
#include <ctype.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "http.h"

/* A field name of HTTP. */
bool
evs_http_is_token(const char *name)
{
	static const char others[] = "!#$%&'*+-.^_`|~";

	if (*name == '\0')
		return false;
	for (; *name != '\0'; name++)
	{
		unsigned char c = *name;

		if (c >= 0x80 || (!isalnum(c) && strchr(others, c) == NULL))
			return false;
	}
	return true;
}

/* Nothing that ends a line or is invisible: a header cannot become two. */
bool
evs_http_is_header_value(const char *value)
{
	for (; *value != '\0'; value++)
	{
		unsigned char c = *value;

		if ((c < 0x20 && c != '\t') || c == 0x7F)
			return false;
	}
	return true;
}

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

static void
add_percent_byte(evs_sink_buffer *buffer, unsigned char c)
{
	static const char digits[] = "0123456789ABCDEF";
	char		encoded[3] = {'%', digits[c >> 4], digits[c & 15]};

	evs_sink_add(buffer, encoded, sizeof(encoded));
}

/* A value of a ce- header: CloudEvents' HTTP binding, 3.1.3.2. */
void
evs_http_add_percent(evs_sink_buffer *buffer, const char *value)
{
	for (; *value != '\0'; value++)
	{
		unsigned char c = *value;

		if (c > 0x20 && c < 0x7F && c != '"' && c != '%')
			evs_sink_add(buffer, &c, 1);
		else
			add_percent_byte(buffer, c);
	}
}

/* A piece of a URL's path or query: all but the unreserved characters are encoded. */
void
evs_http_add_uri(evs_sink_buffer *buffer, const char *value)
{
	for (; *value != '\0'; value++)
	{
		unsigned char c = *value;

		if (c < 0x80 && (isalnum(c) || strchr("-._~", c) != NULL))
			evs_sink_add(buffer, &c, 1);
		else
			add_percent_byte(buffer, c);
	}
}

void
evs_http_add_base64(evs_sink_buffer *buffer, const void *data, size_t length)
{
	const unsigned char *from = data;
	unsigned char encoded[65];

	/* Whole groups of three, so that the pieces can be joined. */
	while (length > 0)
	{
		size_t		n = length < 48 ? length : 48;

		evs_sink_add(buffer, encoded, EVP_EncodeBlock(encoded, from, (int) n));
		from += n;
		length -= n;
	}
	OPENSSL_cleanse(encoded, sizeof(encoded));
}

void
evs_http_add_hex(evs_sink_buffer *buffer, const unsigned char *data, size_t length)
{
	for (size_t i = 0; i < length; i++)
		evs_sink_printf(buffer, "%02x", data[i]);
}

/*
 * Has the path a segment "." or ".."?  Servers, and libcurl, take such segments
 * out with what stands before them, so a topic could leave the configured path.
 */
bool
evs_http_has_dot_segment(const char *url)
{
	const char *c = strstr(url, "://");

	c = strchr(c != NULL ? c + 3 : url, '/');
	while (c != NULL && *c == '/')
	{
		size_t		length = strcspn(++c, "/?#");

		if ((length == 1 && c[0] == '.') || (length == 2 && c[0] == '.' && c[1] == '.'))
			return true;
		c += length;
	}
	return false;
}

/* Empty a buffer so that nothing of it stays in memory; what it had allocated is kept. */
void
evs_http_clear(evs_sink_buffer *buffer)
{
	if (buffer->data != NULL)
		OPENSSL_cleanse(buffer->data, buffer->size);
	buffer->length = 0;
	buffer->failed = false;
}

/* ---- signatures ---- */

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
bool
evs_http_sign(EvsHttpRequest *request, const char *secret, size_t length,
			  evs_sink_buffer *lines)
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
