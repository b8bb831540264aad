/*
 * http.h
 *	  What the parts of the http sink share.
 *
 *	  evstore_sink_http.c	the functions of the ABI
 *	  http_config.c			settings that all profiles have, and which profile it is
 *	  http_setting.c		kinds of settings, and URLs
 *	  http_text.c			encodings, what may stand in a header
 *	  http_header.c			header lines, and secrets
 *	  http_request.c		requests
 *	  http_entries.c		arrays of messages, results of each
 *	  http_loop.c			libcurl's multi handle, its sockets and times
 *	  http_response.c		from responses to results
 *	  http_permission.c		what must be had before anything is sent
 *	  http_template.c		settings with places for what a message says
 *	  http_xml.c			answers in XML
 *
 * http_profile.h has what the profiles see, which are the services' views of it:
 *
 *	  http_webhook*.c		web hooks; http_handshake.c: their permission
 *	  http_aws*.c			AWS, signed by http_sigv4.c
 *	  http_azure*.c			Event Grid, Service Bus and Event Hubs: see http_azure.h
 *	  http_gcp*.c			Google Cloud Pub/Sub: see http_gcp.h
 *	  http_cloud.c			what the latter share
 *
 * A request is in one list of the sink at any time: "waiting" for the
 * permission, "running" in the multi handle, "sent" as soon as a connection is
 * its own, "done" until its results have been fetched, then "free", where its
 * easy handle is kept for the next one.
 */
#ifndef EVSTORE_HTTP_H
#define EVSTORE_HTTP_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

#include "evstore_sink.h"
#include "sink_util.h"

/* A numeric address, with the zero byte. */
#define EVS_HTTP_ADDRESS_MAX 64

/* A secret's length, with the zero byte. */
#define EVS_HTTP_SECRET_MAX 8192

/* Of a response's body: what is looked at, what is shown, and what is read. */
#define EVS_HTTP_BODY_KEPT 1024
#define EVS_HTTP_BODY_SHOWN 200
#define EVS_HTTP_BODY_READ (1024 * 1024)

/* Of the response headers that mean something to us; longer ones are cut. */
#define EVS_HTTP_VALUE_MAX 256

typedef enum EvsHttpFormat
{
	EVS_HTTP_STRUCTURED,
	EVS_HTTP_BATCH,
	EVS_HTTP_BINARY,
	EVS_HTTP_RAW
} EvsHttpFormat;

typedef enum EvsHttpAuth
{
	EVS_HTTP_AUTH_NONE,
	EVS_HTTP_AUTH_BASIC,
	EVS_HTTP_AUTH_BEARER
} EvsHttpAuth;

typedef enum EvsHttpSignature
{
	EVS_HTTP_UNSIGNED,
	EVS_HTTP_SHA256,
	EVS_HTTP_STANDARD_WEBHOOKS
} EvsHttpSignature;

typedef struct EvsHttpProfile EvsHttpProfile;
typedef struct EvsHttpReader EvsHttpReader;
typedef struct EvsHttpSink EvsHttpSink;
typedef struct EvsHttpRequest EvsHttpRequest;

/* Where a URL leads. */
typedef struct EvsHttpPlace
{
	const char *url;
	char	   *host;			/* allocated, without brackets */
	int			port;
	bool		is_tls;
} EvsHttpPlace;

/*
 * The settings, checked.  Strings are those of evs_sink_settings, or a place's
 * host, or proxy_host.
 */
typedef struct EvsHttpConfig
{
	const evs_sink_settings *settings;	/* for headers.* */
	const EvsHttpProfile *profile;
	void	   *own;			/* the profile's */
	bool		must_ask;		/* the profile's ask() comes before the first message */
	EvsHttpFormat format;
	EvsHttpPlace to;
	CURLU	   *target;			/* the same, parsed, if it is that of all messages */
	bool		has_topic;		/* {topic} is in the url */
	const char *method;
	long		http_version;	/* CURL_HTTP_VERSION_... */
	const char *proxy;			/* "" for none */
	char	   *proxy_host;		/* NULL without a proxy */
	int			proxy_port;
	int64_t		connect_timeout_ms;
	const char *ca_file;
	const char *cert_file;
	const char *key_file;
	long		min_tls;		/* CURL_SSLVERSION_... */

	/* Of web hooks. */
	EvsHttpAuth auth;
	const char *user;
	const char *auth_secret;	/* names of secrets */
	const char *signature_secret;
	EvsHttpSignature signature;
	const char *signature_header;
	const char *idempotency_header; /* "" for none */
	bool		conflict_is_duplicate;
	const char *handshake_origin;
	int64_t		handshake_rate; /* requests a minute to ask for; 0: none */
} EvsHttpConfig;

typedef struct EvsHttpList
{
	EvsHttpRequest *first;
	EvsHttpRequest *last;
} EvsHttpList;

struct EvsHttpRequest
{
	EvsHttpRequest *previous;
	EvsHttpRequest *next;
	EvsHttpList *list;			/* that it is in */
	EvsHttpSink *sink;
	CURL	   *easy;

	bool		is_ours;		/* of the profile's ask(): no message's */
	const char *method;			/* NULL: that of the config */
	const EvsHttpPlace *to;
	const evs_sink_message *message;	/* the first */
	uint64_t   *cookies;		/* of the messages, which follow each other */
	int			ncookies;
	int			max_cookies;
	int			nreturned;		/* results fetched */

	/* What is sent.  Without a body of its own it is the message's data. */
	evs_sink_buffer lines;		/* headers; zero bytes end them */
	struct curl_slist *headers; /* an array: the same as libcurl wants it */
	int			nheaders;
	int			max_headers;
	size_t		value_at;		/* in lines: value of the header that is being added */
	evs_sink_buffer url;		/* if it depends on the message */
	evs_sink_buffer body;
	const char *data;
	size_t		length;
	evs_sink_buffer secrets;	/* not to be shown; zero bytes end them */

	/* How it goes. */
	bool		is_sent;		/* a connection was its own */
	curl_off_t	uploaded;
	int64_t		deadline_us;	/* in "running" and "sent" */
	int			nallowed;		/* addresses that may be connected to */
	char		refused[EVS_HTTP_ADDRESS_MAX];	/* one that may not */
	char		curl_error[CURL_ERROR_SIZE];

	/* What came back. */
	bool		has_head;		/* all of it */
	char		kept[EVS_HTTP_BODY_KEPT];
	size_t		nkept;
	size_t		nread;
	bool		is_cut;			/* there was more than EVS_HTTP_BODY_READ */
	evs_sink_buffer answer;		/* all of the body, if the profile looks at it */
	char		retry_after[EVS_HTTP_VALUE_MAX];
	char		location[EVS_HTTP_VALUE_MAX];
	char		allowed_origin[EVS_HTTP_VALUE_MAX];
	char		allowed_rate[EVS_HTTP_VALUE_MAX];

	/*
	 * What it means for all messages or, if they are split, for each; cookies are
	 * filled in later.
	 */
	evs_sink_result result;
	bool		is_split;
	evs_sink_result *results;
	int			max_results;
};

typedef enum EvsHttpPermission
{
	EVS_HTTP_NOT_ASKED,
	EVS_HTTP_ASKED,
	EVS_HTTP_ALLOWED,
	EVS_HTTP_DENIED
} EvsHttpPermission;

/* What the epoll set knows of a socket, and what it has to. */
typedef struct EvsHttpSocket
{
	uint32_t	registered;		/* events; 0: it is not in the set */
	uint32_t	wanted;
	bool		is_ours;		/* from opening to closing; others are libcurl's own */
	bool		is_changed;
} EvsHttpSocket;

struct EvsHttpSink
{
	const evs_sink_host *host;
	EvsHttpConfig config;
	CURLM	   *multi;
	int			epoll_fd;
	EvsHttpSocket *sockets;		/* by descriptor */
	int			nsockets;
	int		   *changed;		/* descriptors that the epoll set has to be told of */
	int			nchanged;
	int64_t		timer_us;		/* when libcurl wants to be called; -1: not */
	EvsHttpList waiting;
	EvsHttpList running;		/* both in the order of deadlines */
	EvsHttpList sent;
	EvsHttpList done;
	EvsHttpList free;
	EvsHttpPermission permission;
	int64_t		permitted_until_us; /* when it is EVS_HTTP_ALLOWED; INT64_MAX: for ever */
	evs_sink_result denial;		/* when it is EVS_HTTP_DENIED */
};

/* http_config.c: fills a config of zeros; 0, or -1 and an error that names the setting. */
extern int	evs_http_configure(const evs_sink_host *host, const evs_sink_settings *settings,
							   EvsHttpConfig *config, char *error, size_t size);
extern void evs_http_config_free(EvsHttpConfig *config);

/* http_text.c */
extern bool evs_http_is_token(const char *name);
extern bool evs_http_is_header_value(const char *value);
extern void evs_http_add_percent(evs_sink_buffer *buffer, const char *value);
extern void evs_http_add_uri(evs_sink_buffer *buffer, const char *value);
extern void evs_http_add_base64(evs_sink_buffer *buffer, const void *data, size_t length);
extern bool evs_http_has_dot_segment(const char *url);
extern void evs_http_add_hex(evs_sink_buffer *buffer, const unsigned char *data, size_t length);
extern void evs_http_clear(evs_sink_buffer *buffer);

/*
 * http_request.c: a request of the first messages of an array, 1 or, in
 * batches, several; how many is in ncookies.  What cannot be sent has its
 * result, and is in "done"; otherwise it is in no list.  NULL: no memory.
 */
extern EvsHttpRequest *evs_http_request_new(EvsHttpSink *sink, const evs_sink_message *messages, int n);

/* The same for a request of the sink's own, by the profile's ask(). */
extern EvsHttpRequest *evs_http_request_ask(EvsHttpSink *sink);

/* Sign a request and hand it over; it has its result at once if that cannot be. */
extern void evs_http_send(EvsHttpRequest *request);
extern void evs_http_request_free(EvsHttpRequest *request);
extern void evs_http_recycle(EvsHttpRequest *request);

/* http_entries.c: the messages of a request that was refused, each by itself. */
extern void evs_http_isolate(EvsHttpRequest *request);

/* http_loop.c */
extern bool evs_http_loop_open(EvsHttpSink *sink, char *error, size_t size);
extern void evs_http_loop_close(EvsHttpSink *sink);
extern bool evs_http_easy_init(EvsHttpRequest *request);
extern void evs_http_start(EvsHttpRequest *request);
extern void evs_http_drive(EvsHttpSink *sink);
extern int	evs_http_timeout(EvsHttpSink *sink);

/* Tell the epoll set what has changed: before somebody waits for it. */
extern void evs_http_register_sockets(EvsHttpSink *sink);
extern void evs_http_put(EvsHttpList *list, EvsHttpRequest *request);
extern void evs_http_take(EvsHttpRequest *request);

/* http_response.c */
extern bool evs_http_response_hooks(EvsHttpRequest *request);
extern void evs_http_finish(EvsHttpRequest *request, CURLcode code);
extern void evs_http_result(EvsHttpRequest *request, evs_sink_class what, const char *format,...)
			__attribute__((format(printf, 3, 4)));

/* http_permission.c: send a request, which is in no list, as soon as that is allowed. */
extern void evs_http_admit(EvsHttpSink *sink, EvsHttpRequest *request);
extern void evs_http_answered(EvsHttpRequest *request, long status);

#endif							/* EVSTORE_HTTP_H */
