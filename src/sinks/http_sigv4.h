/*
 * http_sigv4.h
 *	  Signature Version 4 of AWS, for requests without a query.
 *
 *	  https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html
 */
#ifndef EVSTORE_HTTP_SIGV4_H
#define EVSTORE_HTTP_SIGV4_H

#include <stddef.h>
#include <time.h>

#include "sink_util.h"

/* Headers that can be signed, with those that the signature brings itself. */
#define EVS_SIGV4_HEADERS_MAX 16

typedef struct EvsSigv4
{
	const char *region;
	const char *service;
	const char *access_key_id;
	const char *secret_access_key;
	const char *session_token;	/* "" for none */
	const char *method;
	const char *path;			/* as it is sent */
	const evs_sink_pair *headers;	/* that are signed, "host" among them */
	int			nheaders;
	const void *data;			/* the body */
	size_t		length;
	time_t		now;
} EvsSigv4;

/*
 * Add the header lines of a signature: X-Amz-Date, X-Amz-Security-Token if there is
 * one, and Authorization, separated by newlines.  False: no memory.
 */
extern bool evs_http_sigv4(const EvsSigv4 *request, evs_sink_buffer *lines);

#endif							/* EVSTORE_HTTP_SIGV4_H */
