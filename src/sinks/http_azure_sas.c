/*
 * http_azure_sas.c
 *	  Shared access signatures of Azure: HMAC-SHA256 of a resource and a time.
 *
 * There are two forms.  Service Bus and Event Hubs sign the encoded resource, a
 * line feed and the seconds; the key's text is the key.  Event Grid signs the
 * token as far as it goes, with a date as Americans write it; the key is base64.
 * The service computes over what stands in the token, so it does not matter how
 * the resource is encoded, only that it is.
 */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <time.h>

#include "http_azure.h"

#define MAC_SIZE 32

/* The signature as it stands in a token: base64, and that encoded. */
static bool
add_signature(evs_sink_buffer *out, const void *key, size_t length, const evs_sink_buffer *text)
{
	unsigned char mac[MAC_SIZE];
	unsigned int size = sizeof(mac);
	evs_sink_buffer base64 = {0};

	if (length == 0 || text->failed ||
		HMAC(EVP_sha256(), key, (int) length, (const unsigned char *) text->data, text->length,
			 mac, &size) == NULL)
		return false;
	evs_http_add_base64(&base64, mac, size);
	if (!base64.failed)
		evs_http_add_uri(out, base64.data);
	out->failed |= base64.failed;
	evs_sink_buffer_free(&base64);
	return true;
}

bool
evs_azure_add_bus_sas(evs_sink_buffer *out, const char *resource, const char *policy,
					  const char *key, size_t length, int64_t expiry)
{
	evs_sink_buffer encoded = {0};
	evs_sink_buffer text = {0};
	bool		ok = false;

	evs_http_add_uri(&encoded, resource);
	if (!encoded.failed)
	{
		evs_sink_printf(&text, "%s\n%lld", encoded.data, (long long) expiry);
		evs_sink_printf(out, "SharedAccessSignature sr=%s&sig=", encoded.data);
		ok = add_signature(out, key, length, &text);
		evs_sink_printf(out, "&se=%lld&skn=%s", (long long) expiry, policy);
	}
	evs_sink_buffer_free(&encoded);
	evs_sink_buffer_free(&text);
	return ok;
}

/* 1/31/2020 12:05:00 AM */
static void
add_american_time(evs_sink_buffer *out, int64_t when)
{
	time_t		seconds = (time_t) when;
	struct tm	tm;
	char		text[64] = "";

	if (gmtime_r(&seconds, &tm) != NULL)
		snprintf(text, sizeof(text), "%d/%d/%d %d:%02d:%02d %s", tm.tm_mon + 1, tm.tm_mday,
				 tm.tm_year + 1900, tm.tm_hour % 12 == 0 ? 12 : tm.tm_hour % 12,
				 tm.tm_min, tm.tm_sec, tm.tm_hour < 12 ? "AM" : "PM");
	evs_http_add_uri(out, text);
}

/* Returns the length, or -1 if it is not base64.  The bytes have room for as much as the text. */
static int
decode_base64(const char *text, size_t length, unsigned char *bytes)
{
	int			decoded;

	if (length == 0 || length % 4 != 0)
		return -1;
	decoded = EVP_DecodeBlock(bytes, (const unsigned char *) text, (int) length);
	/* What it returns counts the padding as if it were data. */
	for (size_t i = length; decoded > 0 && i > length - 2 && text[i - 1] == '='; i--)
		decoded--;
	return decoded;
}

bool
evs_azure_add_grid_sas(evs_sink_buffer *out, const char *resource, const char *key,
					   size_t length, int64_t expiry)
{
	unsigned char bytes[EVS_HTTP_SECRET_MAX];
	evs_sink_buffer text = {0};
	int			nbytes = length < sizeof(bytes) ? decode_base64(key, length, bytes) : -1;
	bool		ok = false;

	evs_sink_add_string(&text, "r=");
	evs_http_add_uri(&text, resource);
	evs_sink_add_string(&text, "&e=");
	add_american_time(&text, expiry);
	if (nbytes > 0 && !text.failed)
	{
		evs_sink_printf(out, "%s&s=", text.data);
		ok = add_signature(out, bytes, nbytes, &text);
	}
	OPENSSL_cleanse(bytes, sizeof(bytes));
	evs_sink_buffer_free(&text);
	return ok;
}
