/*
 * http_profile.h
 *	  What services the http sink can talk to, and how.
 *
 * A profile is a service's view of the sink: how messages become a request, how
 * it is signed, and what the response means.  The setting "profile" chooses one;
 * without it the sink sends web hooks, which are a profile too, the first.
 * Everything else is shared: settings of the connection, libcurl, deadlines,
 * batches, and what must be had before anything is sent.
 *
 * A new profile is a file http_NAME.c that defines one EvsHttpProfile, and a
 * line in http_config.c.
 *
 * A request's life:
 *
 *	  make		from the first messages of an array; what cannot be sent has its result
 *	  ask		only if config.must_ask, and what is needed is not there: see below
 *	  sign		right before it is handed over to libcurl, each time
 *	  judge		the response is there: a result for all messages, or one for each
 *
 * Messages of a request.  The sink has no CAP_PIPELINE: in formats other than
 * cloudevents-batch the host has one message of a key in flight.  So no request
 * has two of one key, several requests may be on their way in any order, and one
 * whose messages fail in part keeps each key's order.  The price is that one key
 * is bound by round trips.
 */
#ifndef EVSTORE_HTTP_PROFILE_H
#define EVSTORE_HTTP_PROFILE_H

#include "http.h"
#include "sink_json.h"

/* What a profile's settings are read with. */
struct EvsHttpReader
{
	const evs_sink_host *host;
	const evs_sink_settings *settings;
	EvsHttpConfig *config;
	char	   *error;
	size_t		size;
};

/* Formats that a profile takes. */
#define EVS_HTTP_TAKES(format) (1u << (format))

struct EvsHttpProfile
{
	const char *name;			/* the value of the setting "profile" */

	/*
	 * Its settings, and then NULL; in addition to those that all have:
	 * "profile", "http_version", "proxy", "connect_timeout_ms", "tls.".
	 */
	const char *const *names;
	unsigned	formats;		/* EVS_HTTP_TAKES(...) | ... */

	/*
	 * Read and check the settings.  It must call evs_http_read_url().  What
	 * it keeps is config->own, which release() frees: also when configure()
	 * failed, if own is not NULL.  Secrets that are kept there must be
	 * cleansed.  It is called by validate() as well, where there are no
	 * secrets.
	 */
	bool		(*configure) (EvsHttpReader *reader);
	void		(*release) (EvsHttpConfig *config);

	/*
	 * Headers and, unless the message's data is the body, body of a request
	 * of the first of n messages.  request->message is the first, its cookie
	 * is added already; evs_http_add_message() adds the next.
	 * evs_http_make_entries() does that for services that take arrays.  False
	 * with a result if it cannot be sent; it is the result of all that have
	 * been added.
	 */
	bool		(*make) (EvsHttpRequest *request, int n);

	/*
	 * Add the headers that depend on body, time or secrets; false with a
	 * result.  May be NULL.
	 */
	bool		(*sign) (EvsHttpRequest *request);

	/*
	 * What does the response say?  Either evs_http_result() for all or, with
	 * evs_http_split_result(), one for each message.  NULL:
	 * evs_http_judge_status().
	 *
	 * PERMANENT for a request of several messages means that one of them is
	 * to blame: each is then sent by itself.
	 *
	 * Not called without a whole response.  Its body is in request->answer;
	 * if it was longer than EVS_HTTP_BODY_READ, is_cut is set and the end is
	 * missing.
	 */
	void		(*judge) (EvsHttpRequest *request, long status);

	/*
	 * What must be had before sending, a permission or a token, with must_ask
	 * in the config.  ask() makes a request of the sink's own: method,
	 * headers, url (evs_http_go_to()) and body; false with a result.
	 *
	 * answered() looks at the response; status 0 if there is none and result
	 * says why.  It returns how many milliseconds what was given is good for,
	 * after which ask() is called again; INT64_MAX: for ever.  Or it returns
	 * -1 with a result for all that wait: RETRY_SINK, to ask again with the
	 * next message, or FATAL, which is remembered.
	 */
	bool		(*ask) (EvsHttpRequest *request);
	int64_t		(*answered) (EvsHttpRequest *request, long status);
};

extern const EvsHttpProfile evs_http_webhook;
extern const EvsHttpProfile evs_http_aws_eventbridge;
extern const EvsHttpProfile evs_http_aws_kinesis;
extern const EvsHttpProfile evs_http_aws_sns;
extern const EvsHttpProfile evs_http_aws_sqs;
extern const EvsHttpProfile evs_http_azure_eventgrid;
extern const EvsHttpProfile evs_http_azure_eventhubs;
extern const EvsHttpProfile evs_http_azure_servicebus;
extern const EvsHttpProfile evs_http_gcp_pubsub;

/* ---- http_setting.c: reading settings; false and an error that names the setting ---- */

typedef struct EvsHttpWord
{
	const char *word;
	long		value;
} EvsHttpWord;

extern bool evs_http_fail(EvsHttpReader *reader, const char *format,...)
			__attribute__((format(printf, 2, 3)));
extern bool evs_http_has_setting(const EvsHttpReader *reader, const char *name);
extern bool evs_http_read_string(EvsHttpReader *reader, const char *name, const char *otherwise,
								 const char **value);

/* The name of a secret; NULL if it is not set. */
extern bool evs_http_read_secret(EvsHttpReader *reader, const char *name, const char **value);
extern bool evs_http_read_bool(EvsHttpReader *reader, const char *name, bool *value);
extern bool evs_http_read_int(EvsHttpReader *reader, const char *name, int64_t otherwise,
							  int64_t min, int64_t max, int64_t *value);

/* One of some words, which end with NULL; the first is the default. */
extern bool evs_http_read_word(EvsHttpReader *reader, const char *name, const EvsHttpWord *words,
							   long *value);
extern bool evs_http_read_file(EvsHttpReader *reader, const char *name, const char **path);

/*
 * Where requests go.  The string must live as long as the config; name is that of
 * the setting it comes from.  It may have {topic} in path and query.
 */
extern bool evs_http_read_url(EvsHttpReader *reader, const char *name, const char *url);

/* Another place, for ask(): checked in the same way, and without {topic}. */
extern bool evs_http_read_other_url(EvsHttpReader *reader, const char *name, const char *url,
									EvsHttpPlace *place);
extern bool evs_http_read_proxy(EvsHttpReader *reader);

/* ---- http_template.c: settings with places for what a message says about itself ---- */

extern bool evs_http_read_template(EvsHttpReader *reader, const char *name, const char *otherwise,
								   const char **value);
extern bool evs_http_has_place(const char *template);

/* Is it nothing but the place of a number? */
extern bool evs_http_is_number_place(const char *template);

/* Add a template with a message's values, as they are. */
extern void evs_http_fill(evs_sink_buffer *buffer, const char *template, const evs_sink_message *message);

/* ---- http_header.c: header lines, and secrets; false with a result ---- */

extern bool evs_http_no_memory(EvsHttpRequest *request);
extern bool evs_http_add_header(EvsHttpRequest *request, const char *name, const char *value);

/* A header whose value the caller adds to the buffer that is returned. */
extern evs_sink_buffer *evs_http_begin_header(EvsHttpRequest *request, const char *name);
extern bool evs_http_end_header(EvsHttpRequest *request);

/* Lines "name: value", separated by newlines. */
extern bool evs_http_add_header_lines(EvsHttpRequest *request, char *lines);

/* Not even what libcurl would set by itself. */
extern bool evs_http_omit_header(EvsHttpRequest *request, const char *name);

/* Before it is handed over: what every request has, and the list that libcurl wants. */
extern bool evs_http_end_headers(EvsHttpRequest *request);

/*
 * Read a secret into value, of EVS_HTTP_SECRET_MAX bytes, which the caller
 * cleanses; its length, or -1 with a result.  A missing one is FATAL.
 */
extern int	evs_http_get_secret(EvsHttpRequest *request, const char *name, char *value);

/* The same for one that will stand in a header; it is remembered, too. */
extern bool evs_http_get_header_secret(EvsHttpRequest *request, const char *name, char *value);

/* What is sent, and must not be shown when the other side sends it back. */
extern void evs_http_remember_secret(EvsHttpRequest *request, const char *value);

/* ---- http_request.c, http_entries.c: messages of a request ---- */

extern bool evs_http_add_message(EvsHttpRequest *request, const evs_sink_message *message);

/* The url with the first message's topic, if it has {topic}; false with a result. */
extern bool evs_http_make_url(EvsHttpRequest *request);

/* Address a request of ask(), which is not to go to config->url. */
extern void evs_http_go_to(EvsHttpRequest *request, const EvsHttpPlace *place);

/* Limits of a service, and of the relay's options, which are asked by themselves. */
typedef struct EvsHttpLimits
{
	int64_t		entries;		/* messages in a request */
	int64_t		bytes;			/* of a request, as the service counts them */
	int64_t		entry_bytes;	/* of a message */
} EvsHttpLimits;

/*
 * An array in the request's body.  begin() writes what stands before the
 * entries, end() what stands behind them.
 *
 * add() writes entry i, with the comma before it if it is not the first, and
 * returns its size as the service counts it; -1 with a result if it cannot be
 * one.  What it has written is taken back when it does not fit any more, or
 * cannot be one: then it is the first of the next request, and fails there.
 *
 * goes_with() says whether a message can be in the request of request->message;
 * NULL: if it has the same topic, or the url has no {topic}.
 */
typedef struct EvsHttpEntries
{
	void		(*begin) (EvsHttpRequest *request);
	int64_t		(*add) (EvsHttpRequest *request, const evs_sink_message *message, int i);
	void		(*end) (EvsHttpRequest *request);
	bool		(*goes_with) (const EvsHttpRequest *request, const evs_sink_message *message);
} EvsHttpEntries;

extern bool evs_http_make_entries(EvsHttpRequest *request, int n, const EvsHttpEntries *entries,
								  const EvsHttpLimits *limits);

/*
 * For judge(): each message has a result of its own from now on, at first that of
 * the request, to which evs_http_result() must have been applied: what is true of
 * a message that the response does not mention.  False: no memory, all have the
 * result RETRY_SINK.
 */
extern bool evs_http_split_result(EvsHttpRequest *request);

/* ---- http_response.c ---- */

/*
 * The result of message i of a split request; i is what the response says, and may
 * be anything.  As with evs_http_result(), code is 0 and retry_after_ms -1 then, for
 * the caller to change in what is returned.
 */
extern evs_sink_result *evs_http_entry_result(EvsHttpRequest *request, int i, evs_sink_class what,
											  const char *format,...)
			__attribute__((format(printf, 4, 5)));

/* By the status alone, as web hooks do; Retry-After is obeyed. */
extern void evs_http_judge_status(EvsHttpRequest *request, long status);

/* What Retry-After says, in milliseconds; -1: nothing. */
extern int64_t evs_http_retry_after(const EvsHttpRequest *request);

/* ---- http_permission.c ---- */

/* For judge(): what was given is not good any more; the next message asks again. */
extern void evs_http_forget_permission(EvsHttpSink *sink);

/* ---- http_text.c ---- */

/* The length of a character; 0 if it is not valid UTF-8. */
extern size_t evs_http_utf8_length(const unsigned char *c, const unsigned char *end);

/* A JSON string of any bytes, with its quotes.  They must be UTF-8. */
extern void evs_http_add_json(evs_sink_buffer *buffer, const void *data, size_t length);

/* Valid UTF-8 of characters that XML 1.0 allows: no control characters but tab, LF, CR. */
extern bool evs_http_is_xml_text(const void *data, size_t length);

/* As evs_http_add_uri(). */
extern void evs_http_add_uri_bytes(evs_sink_buffer *buffer, const void *data, size_t length);

/* A JSON string without its escapes, as much of it as fits. */
extern void evs_http_json_excerpt(const evs_sink_json_value *value, char *out, size_t size);

/* ---- http_xml.c: a small strict reader of what services answer ---- */

/*
 * Called at the end of each element, with the names of those it is in and its own,
 * without prefixes and joined with dots, and its text if it has no elements.
 */
typedef void (*EvsHttpXmlCallback) (void *arg, const char *path, const char *text, size_t length);

/* False if it is not XML, is nested too deep, or has a document type. */
extern bool evs_http_xml_scan(const char *text, size_t length, EvsHttpXmlCallback callback, void *arg);

/* A text without its entities, as much of it as fits. */
extern void evs_http_xml_excerpt(const char *text, size_t length, char *out, size_t size);

#endif							/* EVSTORE_HTTP_PROFILE_H */
