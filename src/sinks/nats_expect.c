/*
 * nats_expect.c
 *	  Compare and append: each message says what it expects to come after.
 *
 * "sequence": the message says what the stream's last sequence must be.  That is
 * known once the end of the stream has been read (nats_sync.c); from then on each
 * message that is sent is expected to get the next one, so many can be in
 * flight.  As soon as one is not stored, for whatever reason, those behind it
 * are refused, since they expect a sequence that nobody has got: order is kept
 * even when the server loses one of them.  Then nothing is sent until all are
 * answered; the end of the stream is read again; of those that were refused the
 * ones that are in the stream already are duplicates, and the others are sent again.
 *
 * "subject": the message says what the last sequence of its subject must be.
 * Nobody can foresee it, since others write to the stream, so each subject has
 * one message in flight, and messages wait for their turn in order.  When it is not
 * known, the last message of the subject is asked for; it may be ours.
 *
 * A sequence that others take again and again is an outage after a few attempts.
 */
#include <stdlib.h>
#include <string.h>

#include "nats_sink.h"

#define WRONG_LAST_SEQUENCE 10071
#define MAX_ATTEMPTS 5

/* Of the table of subjects: its size, and when it is emptied. */
#define SUBJECTS 4096
#define MAX_SUBJECTS 3000

/* --- subjects --- */

static void
forget_subjects(EvsNats *sink)
{
	if (sink->subjects == NULL)
		return;
	for (int i = 0; i < SUBJECTS; i++)
		free(sink->subjects[i].name);
	free(sink->subjects);
	sink->subjects = NULL;
	sink->nsubjects = 0;
}

static uint32_t
hash(const char *name)
{
	uint32_t	h = 2166136261u;	/* FNV-1a */

	for (; *name != '\0'; name++)
		h = (h ^ (unsigned char) *name) * 16777619u;
	return h;
}

/* The entry of the subject, made if need be; NULL without memory. */
static EvsNatsSubject *
find_subject(EvsNats *sink, const char *name)
{
	EvsNatsSubject *entry;
	uint32_t	i = hash(name);

	if (sink->subjects == NULL)
		sink->subjects = calloc(SUBJECTS, sizeof(EvsNatsSubject));
	if (sink->subjects == NULL)
		return NULL;
	for (;; i++)
	{
		entry = &sink->subjects[i % SUBJECTS];
		if (entry->name == NULL)
			break;
		if (strcmp(entry->name, name) == 0)
			return entry;
	}
	entry->name = strdup(name);
	if (entry->name == NULL)
		return NULL;
	sink->nsubjects++;
	return entry;
}

static bool
subject_ready(EvsNats *sink, evs_sink_slot *slot, const char *subject)
{
	EvsNatsSubject *entry;

	if (sink->nsubjects >= MAX_SUBJECTS)
	{
		if (sink->flight.nsent > 0)
			return false;
		forget_subjects(sink);
	}
	entry = find_subject(sink, subject);
	if (entry == NULL || entry->busy)
		return false;
	slot->tag = entry->last;
	if (!entry->known && sink->sync.phase == EVS_NATS_SYNC_NONE)
		evs_nats_sync_subject(sink, subject);
	return entry->known;
}

/* The subject as it was when the message was sent. */
static EvsNatsSubject *
subject_of(EvsNats *sink, const evs_sink_slot *slot)
{
	char		subject[EVS_NATS_SUBJECT_MAX];

	if (evs_nats_fill_subject(sink->config.subject, slot->message->topic, subject,
							  sizeof(subject)) != NULL)
		return NULL;
	return find_subject(sink, subject);
}

static bool
subject_answered(EvsNats *sink, evs_sink_slot *slot, const EvsNatsAck *ack)
{
	EvsNatsSubject *entry = subject_of(sink, slot);

	if (entry != NULL)
	{
		entry->busy = false;
		entry->known = ack->stored && !ack->duplicate;
		entry->last = ack->sequence;
	}
	if (ack->stored)
		sink->attempts = 0;
	if (ack->err_code != WRONG_LAST_SEQUENCE || ++sink->attempts > MAX_ATTEMPTS)
		return false;
	evs_sink_flight_requeue(&sink->flight, slot);
	return true;
}

/* The subject's last message may be one that waits: it was stored, and nobody has told us. */
void
evs_nats_expect_subject_synced(EvsNats *sink, const EvsNatsAnswer *answer)
{
	EvsNatsSubject *entry = find_subject(sink, sink->sync.subject);

	if (entry == NULL)
		return;
	entry->known = true;
	entry->last = answer->sequence;
	for (uint64_t serial = sink->flight.head; answer->ours && serial < sink->flight.tail; serial++)
	{
		evs_sink_slot *slot = evs_sink_flight_slot(&sink->flight, serial);

		if (slot->state == EVS_SINK_SLOT_WAITING && strcmp(answer->id, slot->message->id) == 0)
			evs_sink_flight_complete(&sink->flight, slot, EVS_SINK_DUPLICATE, 0, "the subject's last message");
	}
}

/* --- the stream --- */

/* Is it one of those that were found in the stream?  Each is there once. */
static bool
is_recent(EvsNats *sink, const char *id)
{
	EvsNatsSync *sync = &sink->sync;

	if (sync->nrecent == 0)
		return false;
	for (int i = 0; i < sync->nrecent; i++)
		if (strcmp(sync->recent[i], id) == 0)
		{
			memcpy(sync->recent[i], sync->recent[--sync->nrecent], EVS_NATS_ID_MAX);
			return true;
		}
	/* What can have been in flight has come again by now. */
	if (++sync->unknown > evs_nats_sync_depth(sink) * 2)
		sync->nrecent = 0;
	return false;
}

static bool
sequence_ready(EvsNats *sink, evs_sink_slot *slot)
{
	if (sink->broken)
	{
		if (sink->flight.nsent > 0)
			return false;
		sink->broken = sink->synced = false;
	}
	if (!sink->synced)
	{
		if (sink->sync.phase == EVS_NATS_SYNC_NONE)
			evs_nats_sync_stream(sink);
		return false;
	}
	if (is_recent(sink, slot->message->id))
	{
		evs_sink_flight_complete(&sink->flight, slot, EVS_SINK_DUPLICATE, 0, "found in the stream");
		return false;
	}
	slot->tag = sink->predicted;
	return true;
}

static bool
sequence_answered(EvsNats *sink, evs_sink_slot *slot, const EvsNatsAck *ack)
{
	bool		stored = ack->stored && !ack->duplicate;

	if (stored)
	{
		sink->attempts = 0;
		sink->confirmed = ack->sequence;
	}
	if (!stored || ack->sequence != slot->tag + 1)
	{
		sink->attempts += sink->broken ? 0 : 1;
		sink->broken = true;
	}
	if (ack->err_code != WRONG_LAST_SEQUENCE || sink->attempts > MAX_ATTEMPTS)
		return false;
	evs_sink_flight_requeue(&sink->flight, slot);
	return true;
}

void
evs_nats_expect_synced(EvsNats *sink)
{
	sink->synced = true;
	sink->predicted = sink->sync.last;
}

/* --- both --- */

bool
evs_nats_expect_ready(EvsNats *sink, evs_sink_slot *slot, const char *subject)
{
	switch (sink->config.expect)
	{
		case EVS_NATS_EXPECT_SEQUENCE:
			return sequence_ready(sink, slot);
		case EVS_NATS_EXPECT_SUBJECT:
			return subject_ready(sink, slot, subject);
		default:
			return true;
	}
}

void
evs_nats_expect_sent(EvsNats *sink, evs_sink_slot *slot, const char *subject)
{
	if (sink->config.expect == EVS_NATS_EXPECT_SEQUENCE)
		sink->predicted++;
	else if (sink->config.expect == EVS_NATS_EXPECT_SUBJECT)
		find_subject(sink, subject)->busy = true;
}

bool
evs_nats_expect_answered(EvsNats *sink, evs_sink_slot *slot, const EvsNatsAck *ack)
{
	switch (sink->config.expect)
	{
		case EVS_NATS_EXPECT_SEQUENCE:
			return sequence_answered(sink, slot, ack);
		case EVS_NATS_EXPECT_SUBJECT:
			return subject_answered(sink, slot, ack);
		default:
			return false;
	}
}

void
evs_nats_expect_forget(EvsNats *sink)
{
	sink->synced = sink->broken = false;
	sink->attempts = 0;
	sink->sync.phase = EVS_NATS_SYNC_NONE;
	forget_subjects(sink);
}
