/*
 * http_sigv4.c
 *	  Signature Version 4 of AWS, for requests without a query.
 *
 *	  canonical request	method, path, headers and hash of the body, in one form
 *	  string to sign	time, scope (day, region, service), hash of the former
 *	  signature			HMAC of that, with a key derived of secret and scope
 */
#include <ctype.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http_profile.h"
#include "http_sigv4.h"

#define HASH_SIZE 32

typedef struct Signing
{
	const EvsSigv4 *request;
	char		date[20];		/* YYYYMMDDThhmmssZ */
	evs_sink_buffer scope;
	evs_sink_pair headers[EVS_SIGV4_HEADERS_MAX];
	int			nheaders;
	evs_sink_buffer names;		/* of headers that are signed */
	evs_sink_buffer canonical;
} Signing;

static bool
add_hash(evs_sink_buffer *buffer, const void *data, size_t length)
{
	unsigned char hash[EVP_MAX_MD_SIZE];

	if (EVP_Digest(data, length, hash, NULL, EVP_sha256(), NULL) != 1)
		return false;
	evs_http_add_hex(buffer, hash, HASH_SIZE);
	return true;
}

static bool
hmac(const void *key, size_t key_length, const void *data, size_t length, unsigned char *mac)
{
	return HMAC(EVP_sha256(), key, (int) key_length, data, length, mac, NULL) != NULL;
}

/* ---- the canonical request ---- */

static int
compare_headers(const void *a, const void *b)
{
	return strcasecmp(((const evs_sink_pair *) a)->name, ((const evs_sink_pair *) b)->name);
}

/* In lower case, values trimmed, with one space for several. */
static void
add_header(Signing *signing, const evs_sink_pair *header)
{
	evs_sink_buffer *canonical = &signing->canonical;
	const char *value = header->value;
	bool		space = false;

	if (signing->names.length > 0)
		evs_sink_add(&signing->names, ";", 1);
	for (const char *c = header->name; *c != '\0'; c++)
	{
		char		lower = (char) tolower((unsigned char) *c);

		evs_sink_add(canonical, &lower, 1);
		evs_sink_add(&signing->names, &lower, 1);
	}
	evs_sink_add(canonical, ":", 1);
	while (*value == ' ')
		value++;
	for (; *value != '\0'; value++)
	{
		if (space && *value != ' ')
			evs_sink_add(canonical, " ", 1);
		space = *value == ' ';
		if (!space)
			evs_sink_add(canonical, value, 1);
	}
	evs_sink_add(canonical, "\n", 1);
}

static void
put_header(Signing *signing, const char *name, const char *value)
{
	evs_sink_pair *header = &signing->headers[signing->nheaders++];

	header->name = name;
	header->value = value;
}

static void
gather_headers(Signing *signing)
{
	const EvsSigv4 *request = signing->request;

	for (int i = 0; i < request->nheaders && i < EVS_SIGV4_HEADERS_MAX - 2; i++)
		put_header(signing, request->headers[i].name, request->headers[i].value);
	put_header(signing, "x-amz-date", signing->date);
	if (request->session_token[0] != '\0')
		put_header(signing, "x-amz-security-token", request->session_token);
	qsort(signing->headers, signing->nheaders, sizeof(evs_sink_pair), compare_headers);
}

/* The path is encoded once more than it is where it is sent; slashes stay. */
static void
add_path(Signing *signing)
{
	const char *path = signing->request->path;

	while (*path != '\0')
	{
		size_t		n = strcspn(path, "/");

		evs_http_add_uri_bytes(&signing->canonical, path, n);
		path += n;
		if (*path == '/')
			evs_sink_add(&signing->canonical, path++, 1);
	}
}

static bool
make_canonical(Signing *signing)
{
	const EvsSigv4 *request = signing->request;
	evs_sink_buffer *canonical = &signing->canonical;

	evs_sink_printf(canonical, "%s\n", request->method);
	add_path(signing);
	/* The query is empty. */
	evs_sink_add_string(canonical, "\n\n");
	gather_headers(signing);
	for (int i = 0; i < signing->nheaders; i++)
		add_header(signing, &signing->headers[i]);
	if (signing->names.failed || canonical->failed)
		return false;
	evs_sink_printf(canonical, "\n%s\n", signing->names.data);
	return add_hash(canonical, request->data, request->length) && !canonical->failed;
}

/* ---- the signature ---- */

static bool
sign_scope(const Signing *signing, unsigned char *key)
{
	const EvsSigv4 *request = signing->request;
	evs_sink_buffer secret = {0};
	bool		ok;

	evs_sink_printf(&secret, "AWS4%s", request->secret_access_key);
	ok = !secret.failed &&
		hmac(secret.data, secret.length, signing->date, strlen("YYYYMMDD"), key) &&
		hmac(key, HASH_SIZE, request->region, strlen(request->region), key) &&
		hmac(key, HASH_SIZE, request->service, strlen(request->service), key) &&
		hmac(key, HASH_SIZE, "aws4_request", strlen("aws4_request"), key);
	evs_http_clear(&secret);
	evs_sink_buffer_free(&secret);
	return ok;
}

static bool
sign(Signing *signing, unsigned char *mac)
{
	evs_sink_buffer to_sign = {0};
	unsigned char key[HASH_SIZE];
	bool		ok;

	evs_sink_printf(&to_sign, "AWS4-HMAC-SHA256\n%s\n%s\n", signing->date, signing->scope.data);
	ok = add_hash(&to_sign, signing->canonical.data, signing->canonical.length) && !to_sign.failed &&
		sign_scope(signing, key) && hmac(key, sizeof(key), to_sign.data, to_sign.length, mac);
	OPENSSL_cleanse(key, sizeof(key));
	evs_sink_buffer_free(&to_sign);
	return ok;
}

static void
add_lines(const Signing *signing, const unsigned char *mac, evs_sink_buffer *lines)
{
	const EvsSigv4 *request = signing->request;

	evs_sink_printf(lines, "X-Amz-Date: %s\n", signing->date);
	if (request->session_token[0] != '\0')
		evs_sink_printf(lines, "X-Amz-Security-Token: %s\n", request->session_token);
	evs_sink_printf(lines, "Authorization: AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=",
					request->access_key_id, signing->scope.data, signing->names.data);
	evs_http_add_hex(lines, mac, HASH_SIZE);
}

bool
evs_http_sigv4(const EvsSigv4 *request, evs_sink_buffer *lines)
{
	Signing		signing = {.request = request};
	unsigned char mac[HASH_SIZE];
	struct tm	utc;
	bool		ok;

	gmtime_r(&request->now, &utc);
	strftime(signing.date, sizeof(signing.date), "%Y%m%dT%H%M%SZ", &utc);
	evs_sink_printf(&signing.scope, "%.8s/%s/%s/aws4_request", signing.date, request->region, request->service);
	ok = !signing.scope.failed && make_canonical(&signing) && sign(&signing, mac);
	if (ok)
		add_lines(&signing, mac, lines);
	/* It has the token. */
	evs_http_clear(&signing.canonical);
	evs_sink_buffer_free(&signing.canonical);
	evs_sink_buffer_free(&signing.names);
	evs_sink_buffer_free(&signing.scope);
	return ok && !lines->failed;
}
