/*
 * http_gcp.h
 *	  The http sink's profile for Google Cloud Pub/Sub.
 *
 *	  http_gcp_jwt.c		service accounts, and tokens that they sign
 *	  http_gcp_token.c		access tokens
 *	  http_gcp_pubsub.c		settings, requests
 *	  http_gcp_status.c		what responses mean
 */
#ifndef EVSTORE_HTTP_GCP_H
#define EVSTORE_HTTP_GCP_H

#include <openssl/evp.h>

#include "http_cloud.h"

/* For so many seconds a token that we sign is good; more than an hour is refused. */
#define EVS_GCP_JWT_SECONDS 3600

typedef enum EvsGcpAuth
{
	EVS_GCP_ACCOUNT,			/* a service account asks for access tokens */
	EVS_GCP_SELF_SIGNED,		/* a service account signs them */
	EVS_GCP_BEARER,				/* somebody else gets them */
	EVS_GCP_NONE				/* an emulator */
} EvsGcpAuth;

/* EvsHttpConfig.own */
typedef struct EvsGcp
{
	evs_sink_buffer url;		/* where a topic takes messages */
	bool		is_ordered;		/* keys are ordering keys */
	EvsGcpAuth	auth;
	const char *secret;			/* name of it: an account's key, or a token */
	const char *audience;		/* of tokens that we sign */
	EvsHttpPlace token_place;

	/* The present token; data is NULL if there is none. */
	evs_sink_buffer token;
	int64_t		token_until_us; /* of those that we sign */
	unsigned char signed_with[32];	/* hash of the secret */
} EvsGcp;

static inline EvsGcp *
evs_gcp(const EvsHttpRequest *request)
{
	return request->sink->config.own;
}

/* ---- http_gcp_jwt.c ---- */

/* Of a service account's key file. */
typedef struct EvsGcpAccount
{
	char		email[320];
	char		key_id[128];	/* "" if it has none */
	char		token_uri[512]; /* the same */
	EVP_PKEY   *key;
} EvsGcpAccount;

/* NULL, or what is wrong with the file.  The account is to be freed in both cases. */
extern const char *evs_gcp_read_account(EvsGcpAccount *account, const char *json, size_t length);
extern void evs_gcp_free_account(EvsGcpAccount *account);

/*
 * A JSON Web Token by RS256.  claims are members of an object, without the times,
 * which are added: from now on, in seconds since 1970.  False if it cannot be signed.
 */
extern bool evs_gcp_add_jwt(evs_sink_buffer *out, const EvsGcpAccount *account,
							const evs_sink_buffer *claims, int64_t now);

/* ---- http_gcp_token.c ---- */

extern bool evs_gcp_read_auth(EvsHttpReader *reader);
extern void evs_gcp_forget_token(EvsGcp *gcp);

/* As of EvsHttpProfile */
extern bool evs_gcp_ask(EvsHttpRequest *request);
extern int64_t evs_gcp_answered(EvsHttpRequest *request, long status);
extern bool evs_gcp_sign(EvsHttpRequest *request);

/* The service does not like a request's token: the next ones have another, if there is one. */
extern void evs_gcp_refused(EvsHttpRequest *request);

/* ---- http_gcp_status.c ---- */

extern void evs_gcp_judge(EvsHttpRequest *request, long status);

#endif							/* EVSTORE_HTTP_GCP_H */
