/*
 * redis_sink.h
 *	  The sink "redis": what its files share.
 *
 * The head of evstore_sink_redis.c tells how it works.
 */
#ifndef EVSTORE_REDIS_SINK_H
#define EVSTORE_REDIS_SINK_H

#include "sink_flight.h"
#include "sink_link.h"

#define EVS_REDIS_KEY_MAX 1024
#define EVS_REDIS_ERROR_MAX 224

/* Elements of an array; those of our scripts have fewer. */
#define EVS_REDIS_ITEMS 8

/* Answers that may be awaited. */
#define EVS_REDIS_REQUESTS 1024

/* The relay's settings; strings are those of the settings. */
typedef struct EvsRedisConfig
{
	evs_sink_link_config link;
	const char *key;			/* of the stream, with {topic} */
	bool		one_stream;		/* without it */
	const char *user;			/* NULL: Redis's default user */
	const char *password;		/* name of a secret; NULL: none */
	int64_t		database;
	bool		create;			/* a stream that is not there */
	int64_t		max_length;		/* 0: streams are not trimmed by their length */
	int64_t		keep_positions; /* 0: nor by position */
	bool		exact;			/* trimmed to the entry */
	int64_t		wait_replicas;
	int64_t		wait_timeout;	/* ms */
} EvsRedisConfig;

/* A stream that was written to on this connection. */
typedef struct EvsRedisStream
{
	char	   *key;			/* NULL: the entry is free */

	/* The last id, once all batches in flight are stored. */
	bool		known;
	uint64_t	ms;				/* its parts */
	uint64_t	seq;
	int			nbatches;		/* in flight */
	bool		broken;			/* one of them was not stored as a whole */

	/* The batch that is being put together: slots from first to last, by their tags. */
	int			n;
	uint64_t	first;
	uint64_t	last;
	int64_t		bytes;
	char		expected[48];	/* the last id that it expects; "": any */
	struct EvsRedisStream *next_open;
} EvsRedisStream;

typedef enum EvsRedisKind
{
	EVS_REDIS_SIGN_IN,			/* an error ends the connection */
	EVS_REDIS_NAME,				/* an error does not matter */
	EVS_REDIS_FIRST_PING,		/* signed in when it is answered */
	EVS_REDIS_PING,
	EVS_REDIS_BATCH,
	EVS_REDIS_WAIT,				/* for replicas: completes the batches before it */
	EVS_REDIS_RESUME
} EvsRedisKind;

/* What the script says of a batch. */
typedef struct EvsRedisAnswer
{
	int			done;			/* so many are in the stream; -1: its end is not the expected one */
	uint64_t	ms;				/* the last id of the stream */
	uint64_t	seq;
	char	   *marks;			/* one letter for each that is done; NULL: all stored as asked for */
	char		error[EVS_REDIS_ERROR_MAX]; /* of the one behind them; "": none */
} EvsRedisAnswer;

typedef struct EvsRedisRequest
{
	EvsRedisKind kind;
	EvsRedisStream *stream;		/* of a batch */
	uint64_t	first;			/* slot */
	int			n;
	EvsRedisAnswer answer;		/* waits for replicas */
} EvsRedisRequest;

typedef enum EvsRedisResume
{
	EVS_REDIS_RESUME_NONE,
	EVS_REDIS_RESUME_WANTED,
	EVS_REDIS_RESUME_ASKED,
	EVS_REDIS_RESUME_KNOWN,
	EVS_REDIS_RESUME_FAILED
} EvsRedisResume;

typedef struct EvsRedis
{
	const evs_sink_host *host;
	EvsRedisConfig config;
	evs_sink_link link;
	evs_sink_flight flight;
	evs_sink_claim claim;

	/* A ring: answers come in the order of requests. */
	EvsRedisRequest requests[EVS_REDIS_REQUESTS];
	uint64_t	head;			/* before it: forgotten */
	uint64_t	awaited;		/* the next answer is of this one */
	uint64_t	tail;
	int			nbatches;		/* in flight */

	EvsRedisStream *streams;	/* a hash table; NULL: empty */
	int			nstreams;
	EvsRedisStream *open;		/* with a batch that is being put together */
	int			nopen;
	size_t		open_bytes;

	char		sha[41];		/* of the script */
	bool		loaded;			/* the server knows it */
	int			alone;			/* so many messages go one by one: one of them is to blame */
	int64_t		suspects;		/* so many may be there already, under another id */
	bool		told_late;
	bool		told_trim;

	EvsRedisResume resume;
	int64_t		resume_position;
	int64_t		resume_deadline;
	char		resume_error[256];
} EvsRedis;

/* A value that came in; text does not end with a zero byte. */
typedef struct EvsRedisValue
{
	char		type;			/* '+', '-', ':', '$'; as sent by the server */
	const char *text;			/* NULL: null */
	size_t		length;
	int64_t		number;			/* ':' */
} EvsRedisValue;

typedef struct EvsRedisReply
{
	EvsRedisValue value;		/* its type is '*' for an array */
	int			nitems;			/* -1: null */
	EvsRedisValue items[EVS_REDIS_ITEMS];
} EvsRedisReply;

/* Whom an error is about. */
typedef enum EvsRedisScope
{
	EVS_REDIS_OF_MESSAGE,
	EVS_REDIS_OF_STREAM,
	EVS_REDIS_OF_SERVER,		/* the connection is of no use: another server may be */
	EVS_REDIS_OF_SCRIPT			/* it has to be sent as a whole */
} EvsRedisScope;

/* --- redis_config.c --- */

extern int	evs_redis_config_read(EvsRedisConfig *config, const evs_sink_host *host,
								  const evs_sink_settings *settings, char *error, size_t size);

/* The stream's key; NULL, or what is wrong. */
extern const char *evs_redis_fill_key(const char *pattern, const char *topic, char *key, size_t size);

/* --- redis_reply.c --- */

/* 1: reply is set, and its length.  0: there is more to come.  -1: this is not what we asked for. */
extern int	evs_redis_parse(const char *data, size_t length, EvsRedisReply *reply, size_t *taken);

/* As text for people: one line, printable, cut to fit. */
extern void evs_redis_copy_text(const EvsRedisValue *value, char *text, size_t size);

/* --- redis_answer.c --- */

/* Of the script; false: it is none. */
extern bool evs_redis_read_answer(const EvsRedisReply *reply, int n, EvsRedisAnswer *answer);
extern EvsRedisScope evs_redis_classify(const EvsRedisConfig *config, const char *text,
										evs_sink_class *result);

/* Are rights missing? */
extern bool evs_redis_is_denied(const char *text);

/* What a server that is of no use says, in words that help. */
extern void evs_redis_explain(const char *text, char *why, size_t size);

/* --- redis_script.c --- */

extern const char *const evs_redis_script;
extern const char *const evs_redis_resume_script;

/* Arguments of the script before those of messages. */
#define EVS_REDIS_SCRIPT_ARGS 9

/* Lua hands less than 8000 arguments to one command. */
#define EVS_REDIS_MAX_FIELDS 2000

extern bool evs_redis_script_sha(char sha[41]);

/* --- redis_batch.c --- */

/* Put it into a batch; false: it has to wait, and with it all that come after it. */
extern bool evs_redis_add_message(EvsRedis *sink, evs_sink_slot *slot);

/* Write all that has been put together. */
extern void evs_redis_write_batches(EvsRedis *sink);

/* So many of the last entries are looked through. */
extern int64_t evs_redis_depth(const EvsRedis *sink);
extern void evs_redis_write_argument(EvsRedis *sink, const void *data, size_t length);
extern void evs_redis_write_string(EvsRedis *sink, const char *string);

/* --- redis_stream.c --- */

/* The entry of the stream, made if need be.  NULL: no room, or no memory, now. */
extern EvsRedisStream *evs_redis_find_stream(EvsRedis *sink, const char *key);
extern void evs_redis_forget_streams(EvsRedis *sink);

/* --- redis_outcome.c --- */

/* A batch was answered, and if wanted replicas have it: results of its messages. */
extern void evs_redis_apply(EvsRedis *sink, EvsRedisRequest *request);

/* A batch was refused as a whole. */
extern void evs_redis_refused(EvsRedis *sink, EvsRedisRequest *request, const char *text);

/* Not enough replicas have it. */
extern void evs_redis_not_replicated(EvsRedis *sink, EvsRedisRequest *request, int64_t replicas);

/* --- redis_session.c --- */

extern const evs_sink_link_events evs_redis_link_events;

/* NULL if there is no room for another request. */
extern EvsRedisRequest *evs_redis_add_request(EvsRedis *sink, EvsRedisKind kind);
extern void evs_redis_write_wait(EvsRedis *sink);
extern void evs_redis_write_resume(EvsRedis *sink);

#endif							/* EVSTORE_REDIS_SINK_H */
