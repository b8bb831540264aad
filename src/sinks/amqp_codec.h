/*
 * amqp_codec.h
 *	  Numbers, strings, tables and frames of AMQP 0-9-1.
 *
 * A reader never reads behind its end: what is not there is zero or empty, and
 * shows in failed.  A writer adds to a buffer; lengths that are known only at the
 * end of what they count are set then.
 */
#ifndef EVSTORE_AMQP_CODEC_H
#define EVSTORE_AMQP_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sink_util.h"

/* Types of frames. */
#define EVS_AMQP_METHOD 1
#define EVS_AMQP_HEADER 2
#define EVS_AMQP_BODY 3
#define EVS_AMQP_HEARTBEAT 8
#define EVS_AMQP_FRAME_END 0xCE

/* Type, channel and size before the payload, and the end behind it. */
#define EVS_AMQP_FRAME_HEAD 7
#define EVS_AMQP_FRAME_EXTRA 8

/* A short string. */
#define EVS_AMQP_SHORT_MAX 255

/* Class and id of a method in one number, as they stand in its frame. */
#define EVS_AMQP_ID(class_id, method_id) ((uint32_t) (class_id) << 16 | (method_id))

#define EVS_AMQP_CONNECTION_START EVS_AMQP_ID(10, 10)
#define EVS_AMQP_CONNECTION_START_OK EVS_AMQP_ID(10, 11)
#define EVS_AMQP_CONNECTION_TUNE EVS_AMQP_ID(10, 30)
#define EVS_AMQP_CONNECTION_TUNE_OK EVS_AMQP_ID(10, 31)
#define EVS_AMQP_CONNECTION_OPEN EVS_AMQP_ID(10, 40)
#define EVS_AMQP_CONNECTION_OPEN_OK EVS_AMQP_ID(10, 41)
#define EVS_AMQP_CONNECTION_CLOSE EVS_AMQP_ID(10, 50)
#define EVS_AMQP_CONNECTION_CLOSE_OK EVS_AMQP_ID(10, 51)
#define EVS_AMQP_CONNECTION_BLOCKED EVS_AMQP_ID(10, 60)
#define EVS_AMQP_CONNECTION_UNBLOCKED EVS_AMQP_ID(10, 61)
#define EVS_AMQP_CHANNEL_OPEN EVS_AMQP_ID(20, 10)
#define EVS_AMQP_CHANNEL_OPEN_OK EVS_AMQP_ID(20, 11)
#define EVS_AMQP_CHANNEL_FLOW EVS_AMQP_ID(20, 20)
#define EVS_AMQP_CHANNEL_FLOW_OK EVS_AMQP_ID(20, 21)
#define EVS_AMQP_CHANNEL_CLOSE EVS_AMQP_ID(20, 40)
#define EVS_AMQP_CHANNEL_CLOSE_OK EVS_AMQP_ID(20, 41)
#define EVS_AMQP_BASIC_PUBLISH EVS_AMQP_ID(60, 40)
#define EVS_AMQP_BASIC_RETURN EVS_AMQP_ID(60, 50)
#define EVS_AMQP_BASIC_ACK EVS_AMQP_ID(60, 80)
#define EVS_AMQP_BASIC_NACK EVS_AMQP_ID(60, 120)
#define EVS_AMQP_CONFIRM_SELECT EVS_AMQP_ID(85, 10)
#define EVS_AMQP_CONFIRM_SELECT_OK EVS_AMQP_ID(85, 11)

typedef struct EvsAmqpReader
{
	const unsigned char *at;
	const unsigned char *end;
	bool		failed;
} EvsAmqpReader;

/* A string that was read; it does not end with a zero byte. */
typedef struct EvsAmqpString
{
	const char *data;
	size_t		length;
} EvsAmqpString;

extern uint64_t evs_amqp_read(EvsAmqpReader *reader, int bytes);
extern EvsAmqpString evs_amqp_read_short(EvsAmqpReader *reader);
extern EvsAmqpString evs_amqp_read_long(EvsAmqpReader *reader);

/* Is it one of the words, which spaces separate? */
extern bool evs_amqp_has_word(EvsAmqpString words, const char *word);

/* For people: what is not printable becomes '?'.  Cut to fit. */
extern void evs_amqp_copy_text(EvsAmqpString string, char *out, size_t size);

extern void evs_amqp_add(evs_sink_buffer *buffer, uint64_t number, int bytes);
extern void evs_amqp_add_short(evs_sink_buffer *buffer, const char *data, size_t length);
extern void evs_amqp_add_long(evs_sink_buffer *buffer, const char *data, size_t length);

/* What a length of four bytes counts: begin gives where it stands. */
extern size_t evs_amqp_begin(evs_sink_buffer *buffer);
extern void evs_amqp_end(evs_sink_buffer *buffer, size_t where);

/* Members of a table.  Names that are longer than a short string are the caller's error. */
extern void evs_amqp_add_string_member(evs_sink_buffer *buffer, const char *prefix,
									   const char *name, const char *value);
extern void evs_amqp_add_number_member(evs_sink_buffer *buffer, const char *name, int64_t value);
extern void evs_amqp_add_true_member(evs_sink_buffer *buffer, const char *name);

extern size_t evs_amqp_begin_frame(evs_sink_buffer *buffer, int type, int channel);
extern size_t evs_amqp_begin_method(evs_sink_buffer *buffer, int channel, uint32_t method);
extern void evs_amqp_end_frame(evs_sink_buffer *buffer, size_t where);

/* A method without arguments. */
extern void evs_amqp_add_method(evs_sink_buffer *buffer, int channel, uint32_t method);

#endif							/* EVSTORE_AMQP_CODEC_H */
