/*
 * member.h
 *	  Who takes part in a consumer group.
 */
#ifndef EVSTORE_MEMBER_H
#define EVSTORE_MEMBER_H

#include "datatype/timestamp.h"

#include "subscription/definition.h"

/*
 * Note that the consumer is there, and how many slots are its share.  Sets
 * *wrote if a row had to be written.
 */
extern int	evs_member_join(const EvsSubscription *subscription, const char *consumer,
							TimestampTz now, bool *wrote);

/* It has gone. */
extern void evs_member_leave(int64 subscription_id, const char *consumer);

#endif							/* EVSTORE_MEMBER_H */
