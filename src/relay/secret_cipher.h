/*
 * secret_cipher.h
 *	  Authenticated encryption of secrets, from PostgreSQL's HMAC-SHA256 alone, so that
 *	  it is there in each build.
 */
#ifndef EVSTORE_SECRET_CIPHER_H
#define EVSTORE_SECRET_CIPHER_H

#include "fmgr.h"

#define EVS_SECRET_KEY_SIZE 32

/* Seal length bytes for this name, in the current memory context. */
extern bytea *evs_secret_seal(const uint8 *key, const char *name, const char *value, int length);

/*
 * Open what has been sealed: *length bytes and a zero byte, in the current memory
 * context.  NULL if it has been sealed with another key, for another name or in a form that
 * is not known, or has been changed since.
 */
extern char *evs_secret_open(const uint8 *key, const char *name, const bytea *sealed, int *length);

#endif							/* EVSTORE_SECRET_CIPHER_H */
