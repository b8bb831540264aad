/*
 * mqtt_packet.h
 *	  Packets of MQTT as bytes: nothing of connections, nothing of messages in flight.
 */
#ifndef EVSTORE_MQTT_PACKET_H
#define EVSTORE_MQTT_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sink_util.h"

/* As on the wire. */
#define EVS_MQTT_VERSION_3_1_1 4
#define EVS_MQTT_VERSION_5 5

/* What a packet begins with, its flags included where they are fixed. */
enum
{
	EVS_MQTT_CONNECT = 0x10,
	EVS_MQTT_CONNACK = 0x20,
	EVS_MQTT_PUBLISH = 0x30,
	EVS_MQTT_PUBACK = 0x40,
	EVS_MQTT_PUBREC = 0x50,
	EVS_MQTT_PUBREL = 0x62,
	EVS_MQTT_PUBCOMP = 0x70,
	EVS_MQTT_PINGREQ = 0xC0,
	EVS_MQTT_PINGRESP = 0xD0,
	EVS_MQTT_DISCONNECT = 0xE0
};

#define EVS_MQTT_PUBLISH_DUP 0x08
#define EVS_MQTT_PUBLISH_RETAIN 0x01

/* Properties that are sent. */
enum
{
	EVS_MQTT_PAYLOAD_FORMAT = 0x01,
	EVS_MQTT_MESSAGE_EXPIRY = 0x02,
	EVS_MQTT_CONTENT_TYPE = 0x03,
	EVS_MQTT_SESSION_EXPIRY = 0x11,
	EVS_MQTT_USER_PROPERTY = 0x26,
	EVS_MQTT_MAXIMUM_PACKET_SIZE = 0x27
};

/* The longest string, and the largest number of bytes behind a packet's length. */
#define EVS_MQTT_STRING_MAX 65535
#define EVS_MQTT_LENGTH_MAX 268435455

/* --- writing --- */

extern void evs_mqtt_add_byte(evs_sink_buffer *buffer, unsigned value);
extern void evs_mqtt_add_uint16(evs_sink_buffer *buffer, unsigned value);
extern void evs_mqtt_add_uint32(evs_sink_buffer *buffer, uint32_t value);

/* A number of up to EVS_MQTT_LENGTH_MAX, in one to four bytes. */
extern void evs_mqtt_add_number(evs_sink_buffer *buffer, uint32_t value);

/* How many bytes that takes. */
extern size_t evs_mqtt_number_size(uint32_t value);

/* At most EVS_MQTT_STRING_MAX bytes. */
extern void evs_mqtt_add_string(evs_sink_buffer *buffer, const char *string, size_t length);
extern void evs_mqtt_add_user_property(evs_sink_buffer *buffer, const char *name, const char *value);

/* --- reading --- */

/* What a server's packet says besides its kind; what it does not say is as if it had. */
typedef struct EvsMqttAnswer
{
	bool		session_present;	/* CONNACK */
	int			packet_id;
	int			code;			/* reason code, or return code of 3.1.1; 0: success */
	int			keep_alive;		/* seconds; -1: as we want it */
	uint32_t	receive_maximum;
	uint32_t	packet_maximum; /* bytes of a packet */
	int			qos_maximum;
	bool		retain_available;
	const char *reason;			/* for people, UTF-8 perhaps; NULL: none */
	size_t		reason_length;
	const char *reference;		/* another server; NULL: none */
	size_t		reference_length;
} EvsMqttAnswer;

/*
 * The first packet of some bytes: *body and *length are what follows its header.
 * Returns the bytes that it takes, 0 if they are not all there, or -1 if it is no
 * packet, or has more than max.
 */
extern int64_t evs_mqtt_find_packet(const char *data, size_t size, size_t max,
									const char **body, size_t *length);

/* CONNACK, PUBACK, PUBREC, PUBCOMP or DISCONNECT; false: it is malformed. */
extern bool evs_mqtt_read_answer(int kind, int version, const char *body, size_t length,
								 EvsMqttAnswer *answer);

/* --- text --- */

/* What every server takes as a string: UTF-8 without control and other odd characters. */
extern bool evs_mqtt_is_text(const char *text, size_t length);

/* Any characters, but UTF-8. */
extern bool evs_mqtt_is_utf8(const char *text, size_t length);

/* --- reason codes --- */

/* For people. */
extern const char *evs_mqtt_reason_name(int version, int code);

/* What a code in PUBACK or PUBREC means for its message. */
extern evs_sink_class evs_mqtt_reason_of_message(int code);

/*
 * What a code in CONNACK or DISCONNECT means: EVS_SINK_RETRY_SINK; EVS_SINK_FATAL if
 * nothing but other settings will help; EVS_SINK_PERMANENT or EVS_SINK_RETRY if it is
 * about a message, which the server does not name.
 */
extern evs_sink_class evs_mqtt_reason_of_connection(int version, int code);

#endif							/* EVSTORE_MQTT_PACKET_H */
