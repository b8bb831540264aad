/*
 * http_webhook.h
 *	  What the parts of the profile of web hooks share.
 *
 *	  http_webhook_config.c	its settings
 *	  http_webhook.c		from messages to requests
 *	  http_webhook_sign.c	signatures of bodies
 *	  http_handshake.c		the permission of CloudEvents' web hooks
 */
#ifndef EVSTORE_HTTP_WEBHOOK_H
#define EVSTORE_HTTP_WEBHOOK_H

#include "http_profile.h"

/* http_webhook_config.c */
extern bool evs_http_webhook_configure(EvsHttpReader *reader);

/* Is it a header that only the sink sets? */
extern bool evs_http_is_reserved(const EvsHttpConfig *config, const char *name);

/* http_webhook.c: headers of every request; false with a result */
extern bool evs_http_webhook_credentials(EvsHttpRequest *request);

/* http_webhook_sign.c */
extern bool evs_http_webhook_sign(EvsHttpRequest *request);

/* http_handshake.c */
extern bool evs_http_handshake_ask(EvsHttpRequest *request);
extern int64_t evs_http_handshake_answered(EvsHttpRequest *request, long status);

#endif							/* EVSTORE_HTTP_WEBHOOK_H */
