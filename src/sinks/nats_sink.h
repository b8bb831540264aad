/*
 * nats_sink.h
 *	  The sink "nats": messages in flight, and what its files share.
 *
 * The head of evstore_sink_nats.c tells how it works.
 */
#ifndef EVSTORE_NATS_SINK_H
#define EVSTORE_NATS_SINK_H

#include "nats_client.h"
#include "sink_flight.h"

#define EVS_NATS_SUBJECT_MAX 1024
#define EVS_NATS_ID_MAX 64

/* What is known of a subject, for "expect": "subject". */
typedef struct EvsNatsSubject
{
	char	   *name;			/* NULL: the entry is free */
	uint64_t	last;
	bool		known;
	bool		busy;			/* a message is in flight */
} EvsNatsSubject;

typedef enum EvsNatsSyncPhase
{
	EVS_NATS_SYNC_NONE,
	EVS_NATS_SYNC_INFO,			/* the stream's last sequence was asked for */
	EVS_NATS_SYNC_MESSAGE,		/* a message by its sequence */
	EVS_NATS_SYNC_SUBJECT		/* the last message of a subject */
} EvsNatsSyncPhase;

typedef enum EvsNatsResume
{
	EVS_NATS_RESUME_NONE,
	EVS_NATS_RESUME_ASKED,
	EVS_NATS_RESUME_KNOWN,
	EVS_NATS_RESUME_FAILED
} EvsNatsResume;

/* What is asked of JetStream's API; one request at a time. */
typedef struct EvsNatsSync
{
	EvsNatsSyncPhase phase;
	uint64_t	request;		/* its number */
	int64_t		deadline;
	uint64_t	last;			/* of the stream */
	uint64_t	first;
	uint64_t	at;				/* the message that is asked for */
	int			left;			/* so many are to be read, this one included */
	char		subject[EVS_NATS_SUBJECT_MAX];
	char		(*recent)[EVS_NATS_ID_MAX]; /* ids of this relay's last messages */
	int			nrecent;
	int			unknown;		/* so many messages were none of them */
} EvsNatsSync;

typedef struct EvsNats
{
	const evs_sink_host *host;
	EvsNatsConfig config;
	EvsNatsClient client;
	evs_sink_buffer headers;	/* of the message that is being sent */
	char	   *relay;			/* its name as in the header */

	evs_sink_flight flight;		/* tag: what the stream's last sequence should be */
	evs_sink_claim claim;
	bool		proven;			/* the stream takes messages: many may be in flight */
	EvsNatsSync sync;
	EvsNatsResume resume;
	int64_t		resume_position;
	char		resume_error[256];

	/* "expect": "sequence" */
	bool		synced;			/* predicted is right */
	bool		broken;			/* a message was not stored: it is not any more */
	uint64_t	predicted;
	uint64_t	confirmed;		/* the last sequence that was acknowledged to us */
	int			attempts;		/* to agree, without a message stored since */

	/* "expect": "subject"; a hash table */
	EvsNatsSubject *subjects;
	int			nsubjects;
} EvsNats;

/* An answer to a publication. */
typedef struct EvsNatsAck
{
	int			status;			/* of NATS itself: 503; 0: none */
	bool		stored;			/* it has "stream" and "seq" */
	bool		duplicate;
	uint64_t	sequence;
	int			code;			/* of JetStream, like HTTP's */
	int			err_code;
	char		description[160];
} EvsNatsAck;

/* What was asked of a stored message or a stream. */
typedef struct EvsNatsAnswer
{
	int			err_code;		/* 0: none; -1: not understood */
	char		error[160];
	uint64_t	first;
	uint64_t	last;
	uint64_t	sequence;
	bool		ours;			/* sent by this relay */
	int64_t		settled;		/* the header of this name; 0: none */
	char		id[EVS_NATS_ID_MAX];
} EvsNatsAnswer;

/* --- nats_message.c --- */

/* NULL, or what is wrong. */
extern const char *evs_nats_fill_subject(const char *pattern, const char *topic, char *subject,
										 size_t size);

/* Adds the value percent-encoded as in CloudEvents' binding for HTTP. */
extern void evs_nats_add_encoded(evs_sink_buffer *buffer, const char *value);

/* Headers of the message into sink->headers; NULL, or what is wrong. */
extern const char *evs_nats_make_headers(EvsNats *sink, const evs_sink_message *message,
										 const uint64_t *expected);

/* --- nats_answer.c --- */

extern void evs_nats_read_ack(const EvsNatsMessage *message, EvsNatsAck *ack);
extern evs_sink_class evs_nats_classify(const EvsNatsAck *ack);

/* Of STREAM.INFO and STREAM.MSG.GET. */
extern void evs_nats_read_answer(const EvsNats *sink, const EvsNatsMessage *message,
								 EvsNatsAnswer *answer);

/* --- nats_expect.c --- */

/*
 * May it be sent now?  slot->tag is then the value for the header, if there
 * is one.  Otherwise it waits, or is found to be a duplicate and has its result.
 */
extern bool evs_nats_expect_ready(EvsNats *sink, evs_sink_slot *slot, const char *subject);
extern void evs_nats_expect_sent(EvsNats *sink, evs_sink_slot *slot, const char *subject);

/* An answer came.  true: the message will be sent again, this is not its result. */
extern bool evs_nats_expect_answered(EvsNats *sink, evs_sink_slot *slot, const EvsNatsAck *ack);

/* The connection is lost: nothing is known any more. */
extern void evs_nats_expect_forget(EvsNats *sink);

/* --- nats_sync.c --- */

extern bool evs_nats_sync_init(EvsNats *sink);

/* So many of this relay's messages may have been in flight when it was interrupted. */
extern int	evs_nats_sync_depth(const EvsNats *sink);

/* Ask for the stream's last messages, or for the last of a subject. */
extern void evs_nats_sync_stream(EvsNats *sink);
extern void evs_nats_sync_subject(EvsNats *sink, const char *subject);
extern void evs_nats_sync_answered(EvsNats *sink, const EvsNatsMessage *message);
extern void evs_nats_sync_refused(EvsNats *sink, const char *why);

/* The stream has been read: take what it says. */
extern void evs_nats_expect_synced(EvsNats *sink);
extern void evs_nats_expect_subject_synced(EvsNats *sink, const EvsNatsAnswer *answer);

#endif							/* EVSTORE_NATS_SINK_H */
