/*
 * sink_tls.h
 *	  TLS of a sink: OpenSSL between two buffers.
 *
 * OpenSSL never sees the socket, so it can neither block nor raise SIGPIPE, and
 * its owner reads and writes the same way with and without TLS.
 */
#ifndef EVSTORE_SINK_TLS_H
#define EVSTORE_SINK_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "sink_util.h"

/* Paths of PEM files; NULL: none, or for ca_file the system's authorities. */
typedef struct evs_sink_tls_files
{
	const char *ca_file;
	const char *cert_file;
	const char *key_file;		/* NULL: it is in cert_file */
} evs_sink_tls_files;

typedef struct evs_sink_tls evs_sink_tls;

/* The certificate must be for this name, or numeric address.  NULL and an error. */
extern evs_sink_tls *evs_sink_tls_start(const evs_sink_tls_files *files, const char *name,
										char *error, size_t size);

/* 1: done.  0: more has to come.  -1: failed. */
extern int	evs_sink_tls_handshake(evs_sink_tls *tls, char *error, size_t size);

/* Bytes from the network; what they say is added to plain.  false: failed. */
extern bool evs_sink_tls_decrypt(evs_sink_tls *tls, const char *data, size_t length,
								 evs_sink_buffer *plain, char *error, size_t size);
extern bool evs_sink_tls_encrypt(evs_sink_tls *tls, const evs_sink_buffer *plain,
								 evs_sink_buffer *wire);

/* Adds to wire what TLS itself has to say. */
extern void evs_sink_tls_output(evs_sink_tls *tls, evs_sink_buffer *wire);
extern void evs_sink_tls_free(evs_sink_tls *tls);

#endif							/* EVSTORE_SINK_TLS_H */
