/*
 * kafka.h
 *	  What the parts of the sink "kafka" share.
 *
 *	  evstore_sink_kafka.c	the functions of the ABI; messages, from submit() to their result
 *	  kafka_config.c		settings
 *	  kafka_client.c		librdkafka's producer: made, and closed
 *	  kafka_event.c			what it reports, and what errors mean
 *	  kafka_net.c			names and connections: asked for by librdkafka's threads
 *	  kafka_message.c		from a message to a record
 *	  kafka_transaction.c	transactions, and the position that is stored in them
 *	  kafka_job.c			the thread that waits for what blocks
 *
 * The head of evstore_sink_kafka.c tells how it works.
 */
#ifndef EVSTORE_KAFKA_H
#define EVSTORE_KAFKA_H

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "evstore_sink.h"
#include "sink_flight.h"
#include "sink_resolve.h"
#include "sink_util.h"

#define EVS_KAFKA_HOST_MAX 256
#define EVS_KAFKA_TOPIC_MAX 249
#define EVS_KAFKA_SECRET_MAX 8192
#define EVS_KAFKA_TEXT_MAX 256
#define EVS_KAFKA_TAG_MAX 64

/* The settings, checked.  Strings are those of evs_sink_settings, or brokers. */
typedef struct EvsKafkaConfig
{
	const evs_sink_settings *settings;	/* for what goes to librdkafka as it is */
	evs_sink_buffer brokers;	/* joined with commas */
	const char *topic;
	bool		has_topic;		/* {topic} is in it */
	int64_t		max_message_bytes;
	bool		transactional;
	const char *id_prefix;
	const char *position_topic;
	bool		tls;
	const char *mechanism;		/* of SASL; NULL: none */
	const char *password;		/* names of secrets; NULL: none */
	const char *key_password;
} EvsKafkaConfig;

/* A connection that librdkafka wants to make. */
typedef enum EvsKafkaAnswer
{
	EVS_KAFKA_FREE,
	EVS_KAFKA_ASKED,
	EVS_KAFKA_ALLOWED,
	EVS_KAFKA_DENIED
} EvsKafkaAnswer;

typedef struct EvsKafkaQuestion
{
	EvsKafkaAnswer answer;
	int64_t		answered_at;
	int			port;
	char		host[EVS_KAFKA_HOST_MAX];
	char		address[EVS_SINK_ADDRESS_MAX];
} EvsKafkaQuestion;

#define EVS_KAFKA_QUESTIONS 16

/* Used by several threads, under its lock. */
typedef struct EvsKafkaNet
{
	pthread_mutex_t lock;
	pthread_cond_t answered;
	bool		closing;		/* nobody answers any more */
	int64_t		deferred_at;	/* a connection was put off since its answer was late; 0: none */
	int			wake_fd;		/* an eventfd: progress() has something to do */
	EvsKafkaQuestion questions[EVS_KAFKA_QUESTIONS];
} EvsKafkaNet;

/* What may take long is done by a thread. */
typedef enum EvsKafkaTask
{
	EVS_KAFKA_NO_TASK,
	EVS_KAFKA_INIT,
	EVS_KAFKA_COMMIT
} EvsKafkaTask;

typedef struct EvsKafkaJob
{
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t	thread;
	bool		started;
	bool		ending;			/* the thread is to end */
	bool		cancelled;		/* the task is to be given up */
	int			wake_fd;
	EvsKafkaTask task;			/* to be done, or being done */
	rd_kafka_t *producer;
	rd_kafka_topic_partition_list_t *offsets;	/* COMMIT: what is still to be stored with it */
	int			offsets_slice;
	rd_kafka_consumer_group_metadata_t *group;
	rd_kafka_error_t *error;	/* of the task that has ended; NULL: success */
} EvsKafkaJob;

/* A result, and why. */
typedef struct EvsKafkaReason
{
	evs_sink_class class;
	int			code;
	char		why[EVS_KAFKA_TEXT_MAX];
} EvsKafkaReason;

/* Why the producer is to be given up, or the transaction. */
typedef struct EvsKafkaTrouble
{
	bool		outage;			/* reason says which */
	bool		at_once;		/* no use to wait for answers */
	EvsKafkaReason reason;
	int			nsuspects;		/* messages that were refused, perhaps for others in their batch */
	uint64_t	suspect;		/* the last one */
	EvsKafkaReason suspicion;
} EvsKafkaTrouble;

typedef enum EvsKafkaPhase
{
	EVS_KAFKA_CLOSED,			/* there is no producer */
	EVS_KAFKA_CLOSING,			/* the thread still uses it, but not for long */
	EVS_KAFKA_RUNNING,
	EVS_KAFKA_DRAINING,			/* one has failed: nothing is sent until all have their answer */

	/* With transactions. */
	EVS_KAFKA_STARTING,			/* older transactions of ours are being ended */
	EVS_KAFKA_ASKING,			/* for the position */
	EVS_KAFKA_READY,
	EVS_KAFKA_FILLING,			/* a transaction has begun */
	EVS_KAFKA_COMMITTING
} EvsKafkaPhase;

/* Of a transaction of which nobody knows whether it has been committed. */
typedef struct EvsKafkaDoubt
{
	char		tag[EVS_KAFKA_TAG_MAX]; /* what is stored if it was; "": no doubt */
	int64_t    *positions;		/* of its messages, sorted */
	int			n;
	bool		committed;		/* it was: these messages are there already */
} EvsKafkaDoubt;

typedef enum EvsKafkaResume
{
	EVS_KAFKA_NOT_ASKED,
	EVS_KAFKA_WANTED,
	EVS_KAFKA_KNOWN,
	EVS_KAFKA_FAILED
} EvsKafkaResume;

typedef struct EvsKafka
{
	const evs_sink_host *host;
	EvsKafkaConfig config;
	evs_sink_flight flight;
	EvsKafkaNet net;
	EvsKafkaJob job;

	rd_kafka_t *producer;
	rd_kafka_queue_t *queue;
	rd_kafka_topic_t *topic;	/* of the last message; NULL: none yet */
	rd_kafka_topic_t *position_topic;
	char		topic_name[EVS_KAFKA_TOPIC_MAX + 1];

	EvsKafkaPhase phase;
	int64_t		deadline;		/* of the present phase, where messages have none */
	int64_t		watch_at;		/* deadlines are not looked at before */
	bool		proven;			/* this producer has had an acknowledgement */
	int			nunanswered;	/* messages that are sent, and have no delivery report */
	EvsKafkaTrouble trouble;
	uint64_t	alone_until;	/* messages before this serial number are sent one at a time */
	bool		has_condemned;	/* one is to be refused when it is its turn */
	uint64_t	condemned;
	EvsKafkaReason verdict;
	char		last_error[EVS_KAFKA_TEXT_MAX]; /* of a connection */
	bool		is_denied;		/* it was not allowed, says last_error */

	/* Transactions */
	bool		is_test;		/* the producer is for a test message, and fences nobody */
	uint64_t	run;			/* random */
	uint64_t	ntransactions;
	char		tag[EVS_KAFKA_TAG_MAX]; /* of the present one */
	int64_t		position;		/* that is stored */
	int64_t		next_position;	/* if the present transaction is committed */
	int64_t		ask_at;			/* ASKING: when to ask once more; INT64_MAX: is under way */
	EvsKafkaDoubt doubt;
	EvsKafkaResume resume;
	char		resume_error[EVS_KAFKA_TEXT_MAX];
} EvsKafka;

/* What became of something, in the eyes of the relay. */
typedef enum EvsKafkaBlame
{
	EVS_KAFKA_NOBODY,			/* another one has failed */
	EVS_KAFKA_MESSAGE,			/* this one, whatever goes with it */
	EVS_KAFKA_BATCH,			/* it, or one that was in a batch with it */
	EVS_KAFKA_SINK
} EvsKafkaBlame;

static inline int64_t
evs_kafka_now(const EvsKafka *sink)
{
	return sink->host->now_us(sink->host->ctx);
}

/* --- kafka_config.c --- */

/* Fills a config of zeros; 0, or -1 and an error that names the setting. */
extern int	evs_kafka_configure(EvsKafkaConfig *config, const evs_sink_host *host,
								const evs_sink_settings *settings, char *error, size_t size);
extern void evs_kafka_config_free(EvsKafkaConfig *config);

/* All settings but secrets, as librdkafka wants them; NULL and an error. */
extern rd_kafka_conf_t *evs_kafka_make_conf(const EvsKafkaConfig *config, const evs_sink_host *host,
											char *error, size_t size);

/* --- kafka_client.c --- */

/* Make a producer; if that is not possible there is an outage. */
extern bool evs_kafka_client_open(EvsKafka *sink);

/* Does not wait for the other side. */
extern void evs_kafka_client_close(EvsKafka *sink);

/* --- kafka_event.c --- */

extern void evs_kafka_take_events(EvsKafka *sink);

/* What an error means for a message, and whose it is. */
extern EvsKafkaBlame evs_kafka_blame(const EvsKafka *sink, rd_kafka_resp_err_t code,
									 evs_sink_class *class);

/* Remember why nothing goes on; the first reason counts. */
extern void evs_kafka_outage(EvsKafka *sink, bool at_once, evs_sink_class class, int code,
							 const char *format, ...) __attribute__((format(printf, 5, 6)));

/* --- kafka_net.c --- */

extern bool evs_kafka_net_init(EvsKafkaNet *net, int wake_fd);
extern void evs_kafka_net_free(EvsKafkaNet *net);
extern void evs_kafka_wake(int wake_fd);

/* From now on librdkafka asks, of a producer that is about to be made; until close(). */
extern void evs_kafka_net_open(EvsKafkaNet *net, rd_kafka_conf_t *conf);
extern void evs_kafka_net_close(EvsKafkaNet *net);

/* Answer what librdkafka's threads want to know; only the main thread may ask the host. */
extern void evs_kafka_net_answer(EvsKafka *sink);

/* Was a connection put off just now?  That is no sign of an outage. */
extern bool evs_kafka_net_deferred(EvsKafkaNet *net);

/* Split "host:port", or "[address]:port"; false if it is none. */
extern bool evs_kafka_split(const char *broker, size_t length, char *host, size_t size, int *port);

/* --- kafka_message.c --- */

/* NULL, or what is wrong.  name has room for EVS_KAFKA_TOPIC_MAX + 1. */
extern const char *evs_kafka_fill_topic(const char *pattern, const char *topic, char *name);

/* NULL, or what makes that this message can never be sent. */
extern const char *evs_kafka_check(const EvsKafka *sink, const evs_sink_message *message, char *topic);

/* Hand it to librdkafka; opaque comes back in its delivery report. */
extern rd_kafka_resp_err_t evs_kafka_produce(EvsKafka *sink, const evs_sink_message *message,
											 const char *topic, uint64_t opaque);

/* --- evstore_sink_kafka.c --- */

/* Hand over what waits, in order, as long as that is possible. */
extern void evs_kafka_fill(EvsKafka *sink);

/* Nothing is under way: those that have failed, and what was behind them, wait again. */
extern void evs_kafka_settle(EvsKafka *sink);

/* --- kafka_transaction.c --- */

/* The next step, if there is one. */
extern void evs_kafka_transact(EvsKafka *sink);

/* Begin a transaction unless there is one. */
extern bool evs_kafka_begin(EvsKafka *sink);
extern void evs_kafka_take_position(EvsKafka *sink, rd_kafka_event_t *event);

/* The producer is given up, with what is under way. */
extern void evs_kafka_abandon(EvsKafka *sink);

/* It is there already, by a transaction that was in doubt. */
extern bool evs_kafka_is_committed(EvsKafka *sink, const evs_sink_message *message);

/* --- kafka_job.c --- */

extern bool evs_kafka_job_init(EvsKafkaJob *job, int wake_fd);
extern void evs_kafka_job_free(EvsKafkaJob *job);

/* false: no thread can be had. */
extern bool evs_kafka_job_start(EvsKafkaJob *job, EvsKafkaTask task, rd_kafka_t *producer);

/* Has it ended?  Then *error is the caller's; NULL: success. */
extern bool evs_kafka_job_ended(EvsKafkaJob *job, rd_kafka_error_t **error);

/* It is to end soon.  wait() returns when it has; false: a call does not return. */
extern void evs_kafka_job_cancel(EvsKafkaJob *job);
extern bool evs_kafka_job_wait(EvsKafkaJob *job);

#endif							/* EVSTORE_KAFKA_H */
