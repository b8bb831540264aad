/*
 * http_azure.h
 *	  What the http sink's profiles for Azure share.
 *
 *	  http_azure_sas.c			shared access signatures
 *	  http_azure.c				credentials, errors
 *	  http_azure_eventgrid.c	Event Grid
 *	  http_azure_bus.c			Service Bus and Event Hubs, which are one protocol
 */
#ifndef EVSTORE_HTTP_AZURE_H
#define EVSTORE_HTTP_AZURE_H

#include "http_cloud.h"

/* For so many seconds a signature is good; each request has its own. */
#define EVS_AZURE_SAS_SECONDS 3600

typedef enum EvsAzureAuth
{
	EVS_AZURE_SAS,				/* a signature by the key */
	EVS_AZURE_KEY,				/* the key itself */
	EVS_AZURE_BEARER			/* a token of Microsoft Entra ID, which
								 * somebody renews */
} EvsAzureAuth;

/* What becomes of a message's key. */
typedef enum EvsAzureKeyUse
{
	EVS_AZURE_SESSION,			/* SessionId, which is the partition key as
								 * well */
	EVS_AZURE_PARTITION,		/* PartitionKey */
	EVS_AZURE_UNUSED
} EvsAzureKeyUse;

/* EvsHttpConfig.own of all of these profiles. */
typedef struct EvsAzure
{
	evs_sink_buffer url;		/* with all that the service wants to see in
								 * it */
	EvsAzureAuth auth;
	const char *policy;			/* the key's name */
	const char *secret;			/* name of the secret: a key, or a token */
	EvsAzureKeyUse key_use;
	bool		mixes_keys;		/* a request may have messages of several keys */
	int64_t		max_bytes;		/* of a request */
	int64_t		time_to_live_s; /* 0: the entity's */
} EvsAzure;

/* ---- http_azure_sas.c ---- */

/*
 * "SharedAccessSignature sr=...": Service Bus and Event Hubs.  The key is taken as
 * the bytes it is written with.  expiry is in seconds since 1970.  False if it
 * cannot be computed.
 */
extern bool evs_azure_add_bus_sas(evs_sink_buffer *out, const char *resource, const char *policy,
								  const char *key, size_t length, int64_t expiry);

/* "r=...&e=...&s=...": Event Grid.  False if the key is not base64, too. */
extern bool evs_azure_add_grid_sas(evs_sink_buffer *out, const char *resource, const char *key,
								   size_t length, int64_t expiry);

/* ---- http_azure.c ---- */

/* own, of zeros; false with an error. */
extern bool evs_azure_begin(EvsHttpReader *reader);
extern void evs_azure_release(EvsHttpConfig *config);

/* Of config->own */
static inline EvsAzure *
evs_azure(const EvsHttpRequest *request)
{
	return request->sink->config.own;
}

/* auth.*, of these types */
extern bool evs_azure_read_auth(EvsHttpReader *reader, const EvsHttpWord *types, bool needs_policy);

/* own->url, which must be by TLS, as credentials go there. */
extern bool evs_azure_end_url(EvsHttpReader *reader);

/* As evs_http_judge_status(), with what the body says; throttling is an outage. */
extern void evs_azure_judge(EvsHttpRequest *request, long status);

/* Does the response's body have this word, in any case? */
extern bool evs_azure_mentions(const EvsHttpRequest *request, const char *word);

#endif							/* EVSTORE_HTTP_AZURE_H */
