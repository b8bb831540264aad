/*
 * secret.h
 *	  What relays need to log in: passwords, tokens, keys.
 *
 * A secret is stored sealed (secret_cipher.h) with a key that is in a file of the
 * data directory (secret_key.h), and is opened by C code only: no SQL returns it.
 */
#ifndef EVSTORE_SECRET_H
#define EVSTORE_SECRET_H

#include "fmgr.h"

/* In bytes.  The name is one of the kind that subscriptions have. */
#define EVS_SECRET_NAME_MAX 51
#define EVS_SECRET_VALUE_MAX (64 * 1024)

/*
 * The value of a secret, as last committed, in UTF-8: *length bytes and a zero byte,
 * in the current memory context; length may be NULL.  The caller wipes it with
 * evs_secret_forget().  Throws VS009 if there is none, 55000 if it cannot be opened.
 */
extern char *evs_secret_get(const char *name, int *length);

/* Overwrite and free a value. */
extern void evs_secret_forget(char *value, int length);

/*
 * Changes when any secret may have changed.  Needs no transaction; changes of other
 * sessions are noticed as invalidation messages are, at the next transaction.
 */
extern uint64 evs_secret_version(void);

#endif							/* EVSTORE_SECRET_H */
