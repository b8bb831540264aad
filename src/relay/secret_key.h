/*
 * secret_key.h
 *	  The key that secrets are sealed with: a file in the data directory.
 *
 * There it is part of a base backup, but not of a dump, of WAL or of a table: who has
 * only these cannot open a secret.
 */
#ifndef EVSTORE_SECRET_KEY_H
#define EVSTORE_SECRET_KEY_H

#include "relay/secret_cipher.h"

#define EVS_SECRET_KEY_FILE "evstore_secret.key"

/*
 * Read the key; false if there is no file.  Throws if it cannot be read, or is none.
 * The caller wipes it with explicit_bzero().
 */
extern bool evs_secret_key_read(uint8 key[EVS_SECRET_KEY_SIZE]);

/* The same; makes the file if there is none. */
extern void evs_secret_key_make(uint8 key[EVS_SECRET_KEY_SIZE]);

#endif							/* EVSTORE_SECRET_KEY_H */
