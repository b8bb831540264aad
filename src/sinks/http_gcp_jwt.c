/*
 * http_gcp_jwt.c
 *	  Service accounts of Google Cloud, and JSON Web Tokens that they sign.
 *
 * A service account's key is a file of JSON with an RSA key in PEM.
 */
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

#include "http_gcp.h"

/* ---- the key file ---- */

typedef struct Reader
{
	EvsGcpAccount *account;
	bool		is_account;
	bool		too_long;
	char		pem[EVS_HTTP_SECRET_MAX];
} Reader;

static void
look_at_member(void *arg, const evs_sink_json_value *value)
{
	Reader	   *reader = arg;
	EvsGcpAccount *account = reader->account;
	char		type[32];
	bool		fits = true;

	if (strcmp(value->path, "type") == 0)
		reader->is_account = evs_sink_json_string(value, type, sizeof(type)) &&
			strcmp(type, "service_account") == 0;
	else if (strcmp(value->path, "client_email") == 0)
		fits = evs_sink_json_string(value, account->email, sizeof(account->email));
	else if (strcmp(value->path, "private_key_id") == 0)
		fits = evs_sink_json_string(value, account->key_id, sizeof(account->key_id));
	else if (strcmp(value->path, "token_uri") == 0)
		fits = evs_sink_json_string(value, account->token_uri, sizeof(account->token_uri));
	else if (strcmp(value->path, "private_key") == 0)
		fits = evs_sink_json_string(value, reader->pem, sizeof(reader->pem));
	reader->too_long |= !fits;
}

/* OpenSSL would ask somebody at a terminal. */
static int
no_password(char *buffer, int size, int for_writing, void *arg)
{
	return -1;
}

static EVP_PKEY *
read_key(const char *pem)
{
	BIO		   *bio = BIO_new_mem_buf(pem, -1);
	EVP_PKEY   *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;

	BIO_free(bio);
	if (key != NULL && EVP_PKEY_base_id(key) != EVP_PKEY_RSA)
	{
		EVP_PKEY_free(key);
		return NULL;
	}
	return key;
}

static const char *
check_account(const Reader *reader)
{
	if (!reader->is_account)
		return "its type is not service_account";
	if (reader->too_long)
		return "a member of it is not a string, or too long";
	if (reader->account->email[0] == '\0')
		return "it has no client_email";
	if (reader->account->key == NULL)
		return "its private_key is not an RSA key in PEM without a password";
	return NULL;
}

const char *
evs_gcp_read_account(EvsGcpAccount *account, const char *json, size_t length)
{
	Reader		reader = {.account = account};
	const char *error;

	memset(account, 0, sizeof(*account));
	if (!evs_sink_json_scan(json, length, look_at_member, &reader))
		error = "it is not JSON";
	else
	{
		account->key = read_key(reader.pem);
		error = check_account(&reader);
	}
	OPENSSL_cleanse(&reader, sizeof(reader));
	return error;
}

void
evs_gcp_free_account(EvsGcpAccount *account)
{
	EVP_PKEY_free(account->key);
	account->key = NULL;
}

/* ---- tokens ---- */

/* Base64 for URLs: two other characters, and no padding. */
static void
add_base64url(evs_sink_buffer *out, const void *data, size_t length)
{
	size_t		start = out->length;

	evs_http_add_base64(out, data, length);
	if (out->failed)
		return;
	for (size_t i = start; i < out->length; i++)
	{
		if (out->data[i] == '+')
			out->data[i] = '-';
		else if (out->data[i] == '/')
			out->data[i] = '_';
	}
	while (out->length > start && out->data[out->length - 1] == '=')
		out->data[--out->length] = '\0';
}

static bool
add_signature(evs_sink_buffer *out, EVP_PKEY *key, const evs_sink_buffer *text)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char signature[2048];
	size_t		size = sizeof(signature);
	bool		ok;

	ok = ctx != NULL && (size_t) EVP_PKEY_size(key) <= sizeof(signature) &&
		EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
		EVP_DigestSign(ctx, signature, &size, (const unsigned char *) text->data, text->length) == 1;
	EVP_MD_CTX_free(ctx);
	if (ok)
		add_base64url(out, signature, size);
	return ok;
}

bool
evs_gcp_add_jwt(evs_sink_buffer *out, const EvsGcpAccount *account, const evs_sink_buffer *claims,
				int64_t now)
{
	evs_sink_buffer header = {0};
	evs_sink_buffer payload = {0};
	evs_sink_buffer token = {0};
	bool		ok = false;

	evs_sink_add_string(&header, "{\"alg\":\"RS256\",\"typ\":\"JWT\"");
	if (account->key_id[0] != '\0')
	{
		evs_sink_add_string(&header, ",\"kid\":");
		evs_sink_json_add(&header, account->key_id);
	}
	evs_sink_add(&header, "}", 1);
	evs_sink_printf(&payload, "{%s,\"iat\":%lld,\"exp\":%lld}", claims->data != NULL ? claims->data : "",
					(long long) now, (long long) now + EVS_GCP_JWT_SECONDS);
	if (!header.failed && !payload.failed && !claims->failed)
	{
		evs_sink_buffer signature = {0};

		add_base64url(&token, header.data, header.length);
		evs_sink_add(&token, ".", 1);
		add_base64url(&token, payload.data, payload.length);
		ok = !token.failed && add_signature(&signature, account->key, &token) && !signature.failed;
		if (ok)
			evs_sink_printf(out, "%s.%s", token.data, signature.data);
		evs_sink_buffer_free(&signature);
	}
	evs_sink_buffer_free(&header);
	evs_sink_buffer_free(&payload);
	evs_sink_buffer_free(&token);
	return ok;
}
