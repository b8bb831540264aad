/*
 * amqp_sink.h
 *	  The sink "amqp": what its files share.
 *
 * The head of evstore_sink_amqp.c tells how it works.
 */
#ifndef EVSTORE_AMQP_SINK_H
#define EVSTORE_AMQP_SINK_H

#include "amqp_codec.h"
#include "sink_flight.h"
#include "sink_link.h"

/* What we ask for at most, and what a frame has before that was settled. */
#define EVS_AMQP_FRAME_MAX 131072
#define EVS_AMQP_FRAME_MIN 4096

/* The only channel. */
#define EVS_AMQP_CHANNEL 1

/* The relay's settings; strings are those of the settings. */
typedef struct EvsAmqpConfig
{
	evs_sink_link_config link;
	const char *vhost;
	const char *exchange;
	const char *routing_key;
	const char *user;			/* NULL: by certificate, EXTERNAL */
	const char *password;		/* name of a secret */
	const char *app_id;
	bool		mandatory;
	bool		persistent;
	int64_t		heartbeat;		/* seconds; 0: none is asked for */
	int64_t		expiration_ms;	/* -1: never */
	int64_t		priority;		/* -1: not said */
} EvsAmqpConfig;

/* What is waited for. */
typedef enum EvsAmqpState
{
	EVS_AMQP_AWAIT_START,		/* the server's greeting */
	EVS_AMQP_AWAIT_TUNE,		/* are we let in? */
	EVS_AMQP_AWAIT_OPEN,		/* into the virtual host */
	EVS_AMQP_AWAIT_CHANNEL,		/* a channel, perhaps another one */
	EVS_AMQP_AWAIT_CONFIRM,		/* that it will acknowledge */
	EVS_AMQP_READY
} EvsAmqpState;

/* A returned message that is being read. */
typedef struct EvsAmqpReturn
{
	bool		open;			/* its header or body is to come */
	bool		has_header;
	int			code;
	char		text[160];
	uint64_t	left;			/* bytes of the body */
} EvsAmqpReturn;

/* Bits: both may be at once. */
typedef enum EvsAmqpPause
{
	EVS_AMQP_PAUSE_BLOCKED = 1,	/* the connection */
	EVS_AMQP_PAUSE_FLOW = 2		/* the channel */
} EvsAmqpPause;

typedef struct EvsAmqp
{
	const evs_sink_host *host;
	EvsAmqpConfig config;
	evs_sink_link link;
	evs_sink_flight flight;
	evs_sink_buffer header;		/* of what is being sent: payload of the frame */

	EvsAmqpState state;
	uint32_t	frame_max;
	int64_t		channel_deadline;	/* of opening a channel again; 0: none */
	EvsAmqpReturn returned;

	bool		proven;			/* the server takes messages: many may be in flight */
	uint64_t	careful_until;	/* a serial number: those before it are sent alone */

	int			paused;			/* why the server wants nothing now; 0: it does */
	int64_t		paused_at;
	int64_t		resumed_at;		/* when it last took messages again */
	char		paused_why[128];

	size_t		pending;		/* bytes that had not gone out, the last time */
	int64_t		moved_at;		/* when some of them last did */

	/*
	 * Serial numbers by delivery tag, from first_tag up to, not including,
	 * next_tag: a ring of the flight's capacity.
	 */
	uint64_t   *serials;
	uint64_t	first_tag;		/* not acknowledged */
	uint64_t	next_tag;
} EvsAmqp;

/* --- amqp_config.c --- */

extern int	evs_amqp_config_read(EvsAmqpConfig *config, const evs_sink_host *host,
								 const evs_sink_settings *settings, char *error, size_t size);

/* --- amqp_message.c --- */

/* Fills {topic} in: at most EVS_AMQP_SHORT_MAX bytes and a zero byte.  NULL, or what is wrong. */
extern const char *evs_amqp_fill(const char *pattern, const char *topic,
								 char filled[EVS_AMQP_SHORT_MAX + 1]);

/* Writes the message to the link; NULL, or why it never can be sent. */
extern const char *evs_amqp_write_message(EvsAmqp *sink, const evs_sink_message *message);

/* --- amqp_connection.c --- */

/* The transport is there: all begins anew. */
extern void evs_amqp_connection_begin(EvsAmqp *sink);

/* Take all frames that are complete. */
extern void evs_amqp_connection_input(EvsAmqp *sink);
extern void evs_amqp_connection_beat(EvsAmqp *sink);

/* --- amqp_confirm.c --- */

/* A new channel: tags count from 1. */
extern void evs_amqp_confirm_reset(EvsAmqp *sink);

/* May one more be sent?  Its tag is then noted by sent(). */
extern bool evs_amqp_confirm_has_room(const EvsAmqp *sink);
extern void evs_amqp_confirm_sent(EvsAmqp *sink, evs_sink_slot *slot);
extern void evs_amqp_confirm_ack(EvsAmqp *sink, uint64_t tag, bool multiple, bool ack);

/* The message of this id, which is in flight, has come back. */
extern void evs_amqp_confirm_returned(EvsAmqp *sink, EvsAmqpString id, int code, const char *text);

/* The channel, or with the connection everything, was closed because of what we have sent. */
extern void evs_amqp_confirm_channel_closed(EvsAmqp *sink, int code, const char *text);
extern void evs_amqp_confirm_connection_closed(EvsAmqp *sink, int code, const char *text);

#endif							/* EVSTORE_AMQP_SINK_H */
