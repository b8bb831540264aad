/*
 * http_aws.h
 *	  What the profiles of AWS share.
 *
 *	  http_aws.c				settings, endpoint, credentials
 *	  http_aws_answer.c			what errors mean
 *	  http_aws_message.c		attributes and group ids of SNS and SQS
 *	  http_aws_eventbridge.c	PutEvents
 *	  http_aws_kinesis.c		PutRecords
 *	  http_aws_sns.c			PublishBatch
 *	  http_aws_sqs.c			SendMessageBatch
 */
#ifndef EVSTORE_HTTP_AWS_H
#define EVSTORE_HTTP_AWS_H

#include "http_profile.h"

/* Names of attributes of a message, and the most it can have. */
#define EVS_AWS_ATTRIBUTES_MAX 10

/* Settings that all of them have. */
#define EVS_AWS_NAMES \
	"endpoint", "region", "auth.credentials", "auth.access_key_id", \
	"auth.secret_access_key", "auth.session_token", "max_bytes"

typedef struct EvsAws
{
	const char *service;		/* as it stands in the signature's scope */
	char	   *endpoint;		/* with a path */
	char	   *host;			/* as libcurl sends it */
	char	   *region;
	const char *content_type;
	const char *target;			/* X-Amz-Target; NULL: none */
	EvsHttpLimits limits;

	/* Names of secrets: one with all, or two or three. */
	const char *credentials;
	const char *access_key_id;
	const char *secret_access_key;
	const char *session_token;

	/* The queue, topic, stream or bus; a template.  And the setting's name. */
	const char *destination;
	const char *destination_name;
	bool		has_place;		/* it depends on the message */

	/* Of single profiles; templates, or NULL. */
	const char *source;
	const char *detail_type;
	const char *trace_header;
	const char *subject;
	const char *partition_key;
	const char *group_id;
} EvsAws;

static inline EvsAws *
evs_aws(const EvsHttpRequest *request)
{
	return request->sink->config.own;
}

/* ---- http_aws.c ---- */

/* Begin with the settings; NULL with an error.  The name is that of the destination's. */
extern EvsAws *evs_aws_configure(EvsHttpReader *reader, const char *service,
								 const char *destination, const char *otherwise);

/* The settings max_bytes and, if it has a name, what limits an entry. */
extern bool evs_aws_read_limits(EvsHttpReader *reader, int64_t max, const char *entry_name);

/*
 * Go on, when it is known where the destination is: the beginning of a URL or
 * ARN that says which region it is, or NULL; and an endpoint, or NULL for the
 * region's.
 */
extern bool evs_aws_configure_endpoint(EvsHttpReader *reader, const char *place, const char *endpoint);
extern void evs_aws_release(EvsHttpConfig *config);
extern bool evs_aws_add_headers(EvsHttpRequest *request);
extern bool evs_aws_sign(EvsHttpRequest *request);

/* Add where a message goes; false with a result. */
extern bool evs_aws_destination(EvsHttpRequest *request, const evs_sink_message *message,
								evs_sink_buffer *buffer);

/*
 * The end of a body that says once where all its messages go: add() writes that, and
 * what closes the body.  false with a result.
 */
extern bool evs_aws_end_body(EvsHttpRequest *request,
							 void (*add) (evs_sink_buffer *body, const evs_sink_buffer *destination));

/* Does the name of the destination end with .fifo? */
extern bool evs_aws_is_fifo(const EvsHttpRequest *request, const evs_sink_message *message);

/* As evs_http_entries' goes_with: the same destination. */
extern bool evs_aws_goes_with(const EvsHttpRequest *request, const evs_sink_message *message);

/* "name":"value" */
extern void evs_aws_add_member(evs_sink_buffer *body, const char *name, const char *value);

/* ---- http_aws_answer.c ---- */

/* What is said of an entry, or of all. */
typedef struct EvsAwsError
{
	bool		is_wrong;		/* there is an error */
	bool		is_senders;		/* the service says that it is our fault */
	char		code[128];
	char		message[256];
} EvsAwsError;

extern void evs_aws_entry_done(EvsHttpRequest *request, int i, const EvsAwsError *error);

/* judge() of services that answer with an array in the order of the request's. */
extern void evs_aws_judge_array(EvsHttpRequest *request, long status, const char *array, const char *taken);

/* judge() of a response that is not 200; its body is JSON, or XML if that is what it looks like. */
extern void evs_aws_judge_error(EvsHttpRequest *request, long status);

/* Before the entries of a response are looked at: false with a result if there are none. */
extern bool evs_aws_begin_entries(EvsHttpRequest *request, long status);

/* For those that have looked: it is no answer. */
extern void evs_aws_not_understood(EvsHttpRequest *request, long status);

/* ---- http_aws_message.c ---- */

extern bool evs_aws_check_attributes(EvsHttpReader *reader);

/* A message's attribute: what to add it with. */
typedef void (*EvsAwsAddAttribute) (evs_sink_buffer *body, const char *prefix, int i, const char *name,
									const char *type, const char *value);

/* Add all; how many bytes they have as the service counts, or -1 with a result. */
extern int64_t evs_aws_add_attributes(EvsHttpRequest *request, const evs_sink_message *message,
									  const char *prefix, EvsAwsAddAttribute add);

/* The group of a message, which is not empty. */
extern void evs_aws_group(const EvsAws *aws, const evs_sink_message *message, evs_sink_buffer *group);

/* What AWS would not take, in place of it: its hash. */
extern void evs_aws_hash(evs_sink_buffer *value);

/* Is the payload a text that can be a message?  False with a result. */
extern bool evs_aws_check_payload(EvsHttpRequest *request, const evs_sink_message *message);

#endif							/* EVSTORE_HTTP_AWS_H */
