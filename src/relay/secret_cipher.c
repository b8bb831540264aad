/*
 * secret_cipher.c
 *	  Authenticated encryption of secrets.
 *
 * Encrypt-then-MAC.  With a master key M, a random nonce N of 16 bytes and a name:
 *
 *		E = HMAC(M, "evstore secret 1 encrypt"), A = HMAC(M, "evstore secret 1 authenticate")
 *		ciphertext = value xor HMAC(E, N || 0) || HMAC(E, N || 1) || ...
 *		tag = HMAC(A, version || length of name || name || N || ciphertext)
 *		sealed = version || N || ciphertext || tag
 *
 * HMAC-SHA256 is a pseudo-random function, and a counter makes a stream of one; numbers
 * are 64 bits, big-endian.  The name is authenticated, so that who may write rows cannot
 * have one secret used in the place of another.
 */
#include "postgres.h"

#include "common/cryptohash.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"

#include "relay/secret_cipher.h"
#include "compat.h"

#define VERSION 1
#define NONCE_SIZE 16
#define BLOCK_SIZE PG_SHA256_DIGEST_LENGTH
#define TAG_SIZE PG_SHA256_DIGEST_LENGTH

/* Where the parts are. */
#define NONCE_OFFSET 1
#define TEXT_OFFSET (NONCE_OFFSET + NONCE_SIZE)
#define OVERHEAD (TEXT_OFFSET + TAG_SIZE)

StaticAssertDecl(EVS_SECRET_KEY_SIZE == BLOCK_SIZE, "derived keys are as long as the master key");

typedef struct Part
{
	const void *data;
	Size		length;
} Part;

static void
throw_hmac_error(pg_hmac_ctx *ctx)
{
	ereport(ERROR,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg("could not compute HMAC: %s", pg_hmac_error(ctx))));
}

/* HMAC-SHA256 of some parts, one after the other. */
static void
hmac(const uint8 *key, const Part *parts, int nparts, uint8 *result)
{
	pg_hmac_ctx *ctx = pg_hmac_create(PG_SHA256);

	if (ctx == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	if (pg_hmac_init(ctx, key, EVS_SECRET_KEY_SIZE) < 0)
		throw_hmac_error(ctx);
	for (int i = 0; i < nparts; i++)
		if (pg_hmac_update(ctx, parts[i].data, parts[i].length) < 0)
			throw_hmac_error(ctx);
	if (pg_hmac_final(ctx, result, PG_SHA256_DIGEST_LENGTH) < 0)
		throw_hmac_error(ctx);
	pg_hmac_free(ctx);
}

static void
derive(const uint8 *key, const char *purpose, uint8 *result)
{
	Part		part = {purpose, strlen(purpose)};

	hmac(key, &part, 1, result);
}

/* From value to ciphertext, or back. */
static void
apply_stream(const uint8 *key, const uint8 *nonce, const uint8 *from, uint8 *to, int length)
{
	uint8		derived[EVS_SECRET_KEY_SIZE];
	uint8		block[BLOCK_SIZE];

	derive(key, "evstore secret 1 encrypt", derived);
	for (int i = 0; i < length; i++)
	{
		if (i % BLOCK_SIZE == 0)
		{
			uint64		counter = pg_hton64((uint64) (i / BLOCK_SIZE));
			Part		parts[] = {{nonce, NONCE_SIZE}, {&counter, sizeof(counter)}};

			CHECK_FOR_INTERRUPTS();
			hmac(derived, parts, lengthof(parts), block);
		}
		to[i] = from[i] ^ block[i % BLOCK_SIZE];
	}
	explicit_bzero(derived, sizeof(derived));
	explicit_bzero(block, sizeof(block));
}

/* sealed has length bytes of ciphertext. */
static void
compute_tag(const uint8 *key, const char *name, const uint8 *sealed, int length, uint8 *tag)
{
	uint8		derived[EVS_SECRET_KEY_SIZE];
	uint64		name_length = pg_hton64((uint64) strlen(name));
	Part		parts[] = {
		{sealed, NONCE_OFFSET},
		{&name_length, sizeof(name_length)},
		{name, strlen(name)},
		{sealed + NONCE_OFFSET, NONCE_SIZE + length},
	};

	derive(key, "evstore secret 1 authenticate", derived);
	hmac(derived, parts, lengthof(parts), tag);
	explicit_bzero(derived, sizeof(derived));
}

bytea *
evs_secret_seal(const uint8 *key, const char *name, const char *value, int length)
{
	bytea	   *result = palloc(VARHDRSZ + OVERHEAD + length);
	uint8	   *sealed = (uint8 *) VARDATA(result);

	SET_VARSIZE(result, VARHDRSZ + OVERHEAD + length);
	sealed[0] = VERSION;
	if (!pg_strong_random(sealed + NONCE_OFFSET, NONCE_SIZE))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	apply_stream(key, sealed + NONCE_OFFSET, (const uint8 *) value, sealed + TEXT_OFFSET, length);
	compute_tag(key, name, sealed, length, sealed + TEXT_OFFSET + length);
	return result;
}

char *
evs_secret_open(const uint8 *key, const char *name, const bytea *sealed_value, int *length)
{
	const uint8 *sealed = (const uint8 *) VARDATA_ANY(sealed_value);
	int			size = VARSIZE_ANY_EXHDR(sealed_value);
	int			n = size - OVERHEAD;
	uint8		tag[TAG_SIZE];
	char	   *value;

	if (n < 0 || sealed[0] != VERSION)
		return NULL;
	compute_tag(key, name, sealed, n, tag);
	if (timingsafe_bcmp(tag, sealed + TEXT_OFFSET + n, TAG_SIZE) != 0)
		return NULL;
	value = palloc(n + 1);
	apply_stream(key, sealed + NONCE_OFFSET, sealed + TEXT_OFFSET, (uint8 *) value, n);
	value[n] = '\0';
	*length = n;
	return value;
}
