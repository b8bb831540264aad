/*
 * mqtt_sink.h
 *	  What the parts of the sink "mqtt" share.
 */
#ifndef EVSTORE_MQTT_SINK_H
#define EVSTORE_MQTT_SINK_H

#include "mqtt_packet.h"
#include "sink_flight.h"
#include "sink_link.h"

/* The relay's settings; strings are those of the settings. */
typedef struct EvsMqttConfig
{
	evs_sink_link_config link;
	const evs_sink_settings *settings;
	int			version;		/* EVS_MQTT_VERSION_... */
	int			qos;			/* 1 or 2 */
	bool		retain;
	const char *topic;			/* with {topic} */
	const char *client_id;		/* NULL: one is made of the host's id */
	const char *user;			/* NULL: none */
	const char *password;		/* name of a secret; NULL: none */
	int64_t		session_expiry; /* seconds */
	int64_t		keepalive;		/* seconds; 0: none */
	int64_t		message_expiry; /* seconds; -1: never */
	int64_t		max_in_flight;	/* whatever the server allows */
} EvsMqttConfig;

/* What begins a setting that becomes a user property. */
#define EVS_MQTT_PROPERTIES "properties."

/*
 * A packet identifier, and the exchange that it stands for.
 *
 *	            PUBLISH            PUBACK, PUBCOMP
 *	   FREE ──────────▶ PUBLISHED ────────────────▶ FREE
 *	                     │  ▲  │ PUBREC, and PUBREL   ▲
 *	     connection lost │  │  └──────▶ RELEASED ─────┤ PUBCOMP
 *	                     ▼  │ PUBLISH    ▲  │         │
 *	              INTERRUPTED ───────────┘  │ PUBCOMP, of an earlier connection
 *	                           PUBREL       ▼
 *	                                  COMPLETED ── the message comes again: it is OK
 *
 * Only QoS 2 has more than the first line, and only while the server keeps the
 * session: otherwise all that is not COMPLETED is FREE when the connection is lost.
 */
typedef enum EvsMqttState
{
	EVS_MQTT_FREE,
	EVS_MQTT_PUBLISHED,
	EVS_MQTT_INTERRUPTED,		/* the server may have it or not */
	EVS_MQTT_RELEASED,			/* has it, but may not have published it yet */
	EVS_MQTT_COMPLETED			/* has published it, and the host does not know */
} EvsMqttState;

#define EVS_MQTT_ID_MAX 40
#define EVS_MQTT_NO_SLOT UINT64_MAX

typedef struct EvsMqttExchange
{
	EvsMqttState state;
	bool		again;			/* PUBREL was sent on an earlier connection */
	uint64_t	serial;			/* of the message's slot, or EVS_MQTT_NO_SLOT */
	uint64_t	order;			/* in which they were published */
	char		id[EVS_MQTT_ID_MAX];	/* without slot: of the event; "": it is to come as a new one */
} EvsMqttExchange;

/* What is known of the session that the server keeps for us. */
typedef struct EvsMqttSession
{
	EvsMqttExchange *exchanges; /* by packet identifier; 0 is none */
	int		   *sorted;			/* scratch space, as many */
	int			size;			/* identifiers are less than it */
	int			last_id;		/* that was taken for a message */
	int			last_found;		/* that was found to be a message's */
	uint64_t	next_order;
	int			nopen;			/* PUBLISHED, INTERRUPTED, RELEASED: as the server counts them */
	int			nleft;			/* without slot, but not FREE */
	int			norphans;		/* RELEASED without slot, while there is a connection */
	int64_t		orphans_until;	/* when PUBCOMP of these is overdue */

	bool		kept;			/* by the server at this address, when the connection ends */
	char		address[EVS_SINK_ADDRESS_MAX];
	int			port;
	bool		is_test;
	bool		clean;			/* the present connection has asked for a new session */
	bool		wipe;			/* 3.1.1: the server has one that is not ours, the next one is new */
} EvsMqttSession;

typedef struct EvsMqtt
{
	const evs_sink_host *host;
	EvsMqttConfig config;
	evs_sink_link link;
	evs_sink_flight flight;
	EvsMqttSession session;
	evs_sink_buffer fixed;		/* user properties of each message */
	evs_sink_buffer properties; /* of the message that is being made */
	evs_sink_buffer filled;		/* its topic, unless that is the message's */

	/* What the present connection allows. */
	uint32_t	packet_maximum;
	int			window;			/* exchanges at the same time */

	bool		explained;		/* the end of the connection has another reason than a message */
	char		suspect[EVS_MQTT_ID_MAX];	/* that was alone when the server ended it */
	int			nends;			/* how often, one after the other */
} EvsMqtt;

/* --- mqtt_config.c --- */

extern int	evs_mqtt_config_read(EvsMqttConfig *config, const evs_sink_host *host,
								 const evs_sink_settings *settings, char *error, size_t size);

/* Appends the user properties that are configured, as on the wire. */
extern void evs_mqtt_config_properties(const EvsMqttConfig *config, evs_sink_buffer *buffer);

/* --- mqtt_message.c --- */

/* Topics: NULL, or what is wrong.  *topic is the message's, or is in the buffer. */
extern const char *evs_mqtt_fill_topic(const char *pattern, const char *message_topic,
									   evs_sink_buffer *buffer, const char **topic, size_t *length);

/* PUBLISH into the link, unless it cannot be: then what is wrong. */
extern const char *evs_mqtt_publish(EvsMqtt *sink, const evs_sink_message *message, int packet_id,
									bool again);

/* --- mqtt_connect.c --- */

/* CONNECT; the link is condemned if that is not possible. */
extern void evs_mqtt_connect(EvsMqtt *sink);

/* CONNECT was sent, or will not be: its bytes need not be there any more. */
extern void evs_mqtt_forget_password(EvsMqtt *sink);

/* Take what is complete of the link's input. */
extern void evs_mqtt_input(EvsMqtt *sink);

/* A packet that is but its header. */
extern void evs_mqtt_send_ping(EvsMqtt *sink);

/* Good-bye, as far as it can be sent now; the server forgets the session. */
extern void evs_mqtt_disconnect(EvsMqtt *sink);

/* --- mqtt_session.c --- */

extern bool evs_mqtt_session_init(EvsMqtt *sink);
extern void evs_mqtt_session_free(EvsMqtt *sink);

/* Before CONNECT: is the session to be a new one?  Tests have one of their own. */
extern bool evs_mqtt_session_begin(EvsMqtt *sink, bool is_test);

/* CONNACK: the server has a session, or not.  false: not one to go on with. */
extern bool evs_mqtt_session_opened(EvsMqtt *sink, bool present);

/* The connection is lost; the flight still has the messages. */
extern void evs_mqtt_session_lost(EvsMqtt *sink);

/*
 * Send a message, or find that it need not be.  false: it has to wait, and with it
 * all that come after it.
 */
extern bool evs_mqtt_session_send(EvsMqtt *sink, evs_sink_slot *slot);

/* PUBACK, PUBREC and PUBCOMP. */
extern void evs_mqtt_session_answered(EvsMqtt *sink, int kind, const EvsMqttAnswer *answer);

/*
 * A message has failed: those behind it come again, after it.  So what was
 * interrupted before is not to be recognised any more.
 */
extern void evs_mqtt_session_forget(EvsMqtt *sink);

/* Nothing of the server's session is to be used any more, if it still has it. */
extern void evs_mqtt_session_drop(EvsMqtt *sink);

/* --- evstore_sink_mqtt.c --- */

/* What the server said, for people: the code's name and number, and its own words. */
extern void evs_mqtt_describe(const EvsMqtt *sink, const EvsMqttAnswer *answer, char *text,
							  size_t size);

/* The connection cannot go on; what the code means for messages is done first. */
extern void evs_mqtt_refused(EvsMqtt *sink, const char *what, const EvsMqttAnswer *answer);

/* The settings cannot work: all messages are FATAL, unless there is another server to try. */
extern void evs_mqtt_fatal(EvsMqtt *sink, int code, const char *why);

#endif							/* EVSTORE_MQTT_SINK_H */
