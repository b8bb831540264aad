/*
 * inbox.h
 *	  The idempotent inbox: what has been processed already.
 */
#ifndef EVSTORE_INBOX_H
#define EVSTORE_INBOX_H

#include "utils/jsonb.h"

/* Longest part of a key, in bytes: the three fit into an index entry. */
#define EVS_INBOX_KEY_MAX 512

/*
 * What is remembered.  inbox_begin() has (consumer, source, event id),
 * execute_once() has ('', scope, key), ingest() has a consumer of its own:
 * those of inbox_begin() have other names, so the three cannot meet.
 */
#define EVS_INBOX_INGEST "evstore.ingest"

typedef struct EvsInboxKey
{
	text	   *consumer;
	text	   *source;
	text	   *key;
} EvsInboxKey;

/*
 * true: the key is new, and now this transaction's; it is known to others
 * when this (sub)transaction commits.  false: it has been processed, or this
 * transaction has it already; *result is what evs_inbox_set_result() stored,
 * or NULL.  Waits for other transactions that have the key.
 */
extern bool evs_inbox_claim(const EvsInboxKey *key, Jsonb **result);

/* Store a result for a key that this transaction has claimed. */
extern void evs_inbox_set_result(const EvsInboxKey *key, Jsonb *result);

/*
 * Empty the tables in which everything is older than evstore.inbox_retention;
 * returns how many.  Never waits: a table that is in use is left for the next
 * time.  The emptied ones are locked to the end of the transaction, so it had
 * better be a short one.
 */
extern int	evs_inbox_expire_tables(void);

#endif							/* EVSTORE_INBOX_H */
