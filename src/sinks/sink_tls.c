/*
 * sink_tls.c
 *	  TLS of a sink: OpenSSL between two buffers.
 *
 * OpenSSL never sees the socket, so it can neither block nor raise SIGPIPE, and
 * its owner reads and writes the same way with and without TLS.
 */
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

#include "sink_tls.h"

struct evs_sink_tls
{
	SSL_CTX    *context;
	SSL		   *ssl;
	BIO		   *in;				/* both belong to ssl */
	BIO		   *out;
};

static void
take_error(const char *what, char *error, size_t size)
{
	unsigned long code = ERR_get_error();
	const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

	snprintf(error, size, "%s: %s", what, reason != NULL ? reason : "unknown error");
	ERR_clear_error();
}

static bool
load_files(SSL_CTX *context, const evs_sink_tls_files *files, char *error, size_t size)
{
	const char *key = files->key_file != NULL ? files->key_file : files->cert_file;

	if (files->ca_file != NULL ?
		SSL_CTX_load_verify_locations(context, files->ca_file, NULL) != 1 :
		SSL_CTX_set_default_verify_paths(context) != 1)
	{
		take_error("tls.ca_file", error, size);
		return false;
	}
	if (files->cert_file == NULL)
		return true;
	if (SSL_CTX_use_certificate_chain_file(context, files->cert_file) != 1)
	{
		take_error("tls.cert_file", error, size);
		return false;
	}
	if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 ||
		SSL_CTX_check_private_key(context) != 1)
	{
		take_error("tls.key_file", error, size);
		return false;
	}
	return true;
}

/* The certificate must be for the name, or the address, that was asked for. */
static bool
set_name(SSL *ssl, const char *name)
{
	if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1)
		return true;
	ERR_clear_error();
	return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1;
}

static bool
make_ssl(evs_sink_tls *tls, const char *name)
{
	tls->ssl = SSL_new(tls->context);
	tls->in = BIO_new(BIO_s_mem());
	tls->out = BIO_new(BIO_s_mem());
	if (tls->ssl == NULL || tls->in == NULL || tls->out == NULL)
	{
		BIO_free(tls->in);
		BIO_free(tls->out);
		return false;
	}
	SSL_set_bio(tls->ssl, tls->in, tls->out);
	SSL_set_connect_state(tls->ssl);
	return set_name(tls->ssl, name);
}

evs_sink_tls *
evs_sink_tls_start(const evs_sink_tls_files *files, const char *name, char *error, size_t size)
{
	evs_sink_tls *tls = calloc(1, sizeof(*tls));

	if (tls == NULL || (tls->context = SSL_CTX_new(TLS_client_method())) == NULL)
	{
		snprintf(error, size, "no memory for TLS");
		free(tls);
		return NULL;
	}
	SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION);
	SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER, NULL);
	if (load_files(tls->context, files, error, size))
	{
		if (make_ssl(tls, name))
			return tls;
		take_error("TLS", error, size);
	}
	evs_sink_tls_free(tls);
	return NULL;
}

int
evs_sink_tls_handshake(evs_sink_tls *tls, char *error, size_t size)
{
	long		verified;
	int			rc;

	ERR_clear_error();
	rc = SSL_do_handshake(tls->ssl);
	if (rc == 1)
		return 1;
	if (SSL_get_error(tls->ssl, rc) == SSL_ERROR_WANT_READ)
		return 0;
	verified = SSL_get_verify_result(tls->ssl);
	if (verified == X509_V_OK)
		take_error("TLS handshake", error, size);
	else
		snprintf(error, size, "the server's certificate is not accepted: %s",
				 X509_verify_cert_error_string(verified));
	ERR_clear_error();
	return -1;
}

bool
evs_sink_tls_decrypt(evs_sink_tls *tls, const char *data, size_t length, evs_sink_buffer *plain,
					 char *error, size_t size)
{
	char		chunk[16384];
	int			n;
	int			why;

	if (length > 0 && BIO_write(tls->in, data, (int) length) != (int) length)
	{
		snprintf(error, size, "no memory for TLS");
		return false;
	}
	if (!SSL_is_init_finished(tls->ssl))
		return true;
	ERR_clear_error();
	while ((n = SSL_read(tls->ssl, chunk, sizeof(chunk))) > 0)
		evs_sink_add(plain, chunk, n);
	why = SSL_get_error(tls->ssl, n);
	if (why == SSL_ERROR_WANT_READ)
		return true;
	if (why == SSL_ERROR_ZERO_RETURN)
		snprintf(error, size, "the server has closed the connection");
	else
		take_error("TLS", error, size);
	return false;
}

bool
evs_sink_tls_encrypt(evs_sink_tls *tls, const evs_sink_buffer *plain, evs_sink_buffer *wire)
{
	size_t		done = 0;

	ERR_clear_error();
	while (done < plain->length)
	{
		size_t		n;

		if (SSL_write_ex(tls->ssl, plain->data + done, plain->length - done, &n) != 1)
		{
			ERR_clear_error();
			return false;
		}
		done += n;
		evs_sink_tls_output(tls, wire);
	}
	return true;
}

void
evs_sink_tls_output(evs_sink_tls *tls, evs_sink_buffer *wire)
{
	char		chunk[16384];
	int			n;

	while ((n = BIO_read(tls->out, chunk, sizeof(chunk))) > 0)
		evs_sink_add(wire, chunk, n);
}

void
evs_sink_tls_free(evs_sink_tls *tls)
{
	if (tls == NULL)
		return;
	SSL_free(tls->ssl);
	SSL_CTX_free(tls->context);
	free(tls);
}
