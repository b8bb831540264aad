/*
 * definition.h
 *	  Subscriptions as they are defined, and where their events belong.
 */
#ifndef EVSTORE_DEFINITION_H
#define EVSTORE_DEFINITION_H

#include "nodes/pg_list.h"

#include "stream/cursor.h"
#include "stream/filter.h"

/* Longest name of a subscription, so that evstore_sub_<name> is a channel's. */
#define EVS_SUBSCRIPTION_NAME_MAX 51
#define EVS_SUBSCRIPTION_SLOTS_MAX 256

/* Columns of evstore.subscription that C code reads. */
enum
{
	Anum_subscription_id = 1,
	Anum_subscription_name,
	Anum_subscription_filter,
	Anum_subscription_key,
	Anum_subscription_slots,
	Anum_subscription_lease,
	Anum_subscription_retry,
	Anum_subscription_on_failure,
	Anum_subscription_notify,
	Anum_subscription_paused,
	Anum_subscription_next_slots,
	Anum_subscription_drain_to,
	Anum_subscription_created_at,
	Anum_subscription_kind
};

typedef enum EvsKeyKind
{
	EVS_KEY_STREAM,
	EVS_KEY_CORRELATION,
	EVS_KEY_NONE,				/* no two events have the same */
	EVS_KEY_PATH
} EvsKeyKind;

typedef struct EvsSubscription
{
	char	   *name;
	int64		id;
	EvsFilter  *filter;
	EvsKeyKind	key_kind;
	Datum		key_path;		/* a jsonpath */
	int			slots;
	int			lease;			/* ms */
	int			max_attempts;
	bool		notify;
	bool		paused;
	int			next_slots;		/* 0 = no change under way */
	int64		drain_to;
	char	   *kind;			/* subscription, or whose workers consume it */
} EvsSubscription;

/* The ordering key of an event. */
typedef struct EvsOrderingKey
{
	uint32		hash;
	text	   *key;
} EvsOrderingKey;

/*
 * The subscription of this name; throws VS009 if there is none.  Valid until
 * the next call; what it points to, as long as definitions are pinned.
 */
extern const EvsSubscription *evs_subscription_find(const char *name);

/* Throw if clients may not consume it. */
extern void evs_subscription_check_open(const EvsSubscription *subscription);

/* Keep what definitions point to, until the current memory context is reset. */
extern void evs_subscription_pin(void);

/*
 * Is it still so, as far as the division into slots goes?  With one of its
 * slots locked the answer stays true.
 */
extern bool evs_subscription_is_current(const EvsSubscription *subscription);

/* All of them, in the current memory context. */
extern List *evs_subscription_list(void);

/* Changes when any subscription does. */
extern uint64 evs_subscription_version(void);

/* Throw unless it can be the name of a subscription. */
extern char *evs_subscription_check_name(struct varlena *name);

/* Which wait bucket belongs to it? */
extern int	evs_subscription_bucket(int64 id);

/* Stable hash of a stream, which is its ordering key by default. */
extern uint32 evs_stream_key_hash(int64 stream_id);

/* The key of the event that the cursor is on; the text only if wanted. */
extern EvsOrderingKey evs_subscription_key(const EvsSubscription *subscription,
										   EvsLogCursor *cursor, bool with_text);

extern int	evs_subscription_slot_of(uint32 key_hash, int slots);

/* For EvsLogRange.skip, with streams as keys: is the stream of another slot? */
typedef struct EvsSlotFilter
{
	int			slots;
	int			slot;
} EvsSlotFilter;

extern bool evs_subscription_is_other_slot(void *arg, int64 stream_id);

#endif							/* EVSTORE_DEFINITION_H */
