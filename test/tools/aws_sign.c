/*
 * aws_sign.c
 *	  Signs a request as the http sink does, at a time that the test chooses.
 *
 *	  aws_sign ID SECRET TOKEN REGION SERVICE TIME METHOD PATH [NAME VALUE]... <BODY
 *
 * TIME is seconds since 1970, an empty TOKEN none.  The headers are those that are
 * signed; what the signature adds is printed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_sigv4.h"

int
main(int argc, char **argv)
{
	evs_sink_pair headers[EVS_SIGV4_HEADERS_MAX];
	evs_sink_buffer lines = {0};
	static char body[1024 * 1024];
	EvsSigv4	request = {.headers = headers,.data = body};

	if (argc < 9)
		return 2;
	request.access_key_id = argv[1];
	request.secret_access_key = argv[2];
	request.session_token = argv[3];
	request.region = argv[4];
	request.service = argv[5];
	request.now = atoll(argv[6]);
	request.method = argv[7];
	request.path = argv[8];
	for (int i = 9; i + 1 < argc && request.nheaders < EVS_SIGV4_HEADERS_MAX - 2; i += 2)
		headers[request.nheaders++] = (evs_sink_pair) {argv[i], argv[i + 1]};
	request.length = fread(body, 1, sizeof(body), stdin);
	if (!evs_http_sigv4(&request, &lines))
		return 1;
	puts(lines.data);
	evs_sink_buffer_free(&lines);
	return 0;
}
