/*
 * http_cloud.h
 *	  What the profiles of clouds share.
 */
#ifndef EVSTORE_HTTP_CLOUD_H
#define EVSTORE_HTTP_CLOUD_H

#include "http_profile.h"

/*
 * Credentials go where requests go, so that must be by TLS, but for this machine:
 * emulators, and tests.  False and an error that names the setting.
 */
extern bool evs_cloud_require_tls(EvsHttpReader *reader, const char *name, const EvsHttpPlace *place);

/* A JSON string of ASCII, with its quotes: for headers.  The text is UTF-8. */
extern void evs_cloud_add_ascii_json(evs_sink_buffer *buffer, const char *text);

/*
 * Nothing but text can be a JSON string; false with a result.  Messages in
 * CloudEvents' JSON are text.
 */
extern bool evs_cloud_check_text(EvsHttpRequest *request, const evs_sink_message *message);

/* The content type of a message, or of its CloudEvents format; "" if it has none. */
extern const char *evs_cloud_content_type(const EvsHttpRequest *request, const evs_sink_message *message);

/* "Authorization: Bearer ..." with a secret's value; false with a result. */
extern bool evs_cloud_add_bearer(EvsHttpRequest *request, const char *secret);

/* A result with another class and text; the status and the time to wait stay. */
extern void evs_cloud_reclassify(EvsHttpRequest *request, evs_sink_class what);
extern void evs_cloud_explain(EvsHttpRequest *request, const char *code, const char *text);

#endif							/* EVSTORE_HTTP_CLOUD_H */
