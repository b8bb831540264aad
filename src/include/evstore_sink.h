/*
 * evstore_sink.h
 *	  The interface between evstore's relays and sink modules.
 *
 * A sink module is a shared library that owns the bytes on the wire to one kind
 * of broker.  A relay, the host, owns everything else: which events are sent,
 * in which order, in which format, when one is tried again, and what has been
 * sent.  The module exports one symbol, evs_sink_init().
 *
 * This header needs nothing of PostgreSQL: the same module is loaded by
 * evstore's relay workers and by the conformance harness.  It is C99 and C++.
 *
 * Rules.
 *
 * - All functions of a sink are called from one thread, the main one.  No
 *   function blocks on the network: what cannot be done now is continued by
 *   progress().  validate() and open() do not touch the network at all, though
 *   open() may begin to connect.
 * - A module that makes threads has CAP_THREADS, blocks all signals while it
 *   makes them, and calls nothing of the host from them but wake() and log().
 * - Nothing longjmps, throws, or exits.  Errors are return values.
 * - The host's memory is not freed by the module, nor the other way round.  A
 *   message, and what it points to, stays as it is until its result has been
 *   returned by progress(), or destroy() returns.
 * - Each message that submit() has accepted gets one result, exactly.  With
 *   CAP_PIPELINE, when the connection is lost, all messages that were in flight
 *   get EVS_SINK_RETRY_SINK; the host submits them again, in order.  Without it
 *   that is each message's own affair: one may get EVS_SINK_RETRY_SINK while
 *   others, on other connections, go on.
 * - What resume() tells, of a sink with CAP_RESUMES, stays below a message without
 *	 REPLAY that was not OK.  The simplest way: after a RETRY or PERMANENT, those
 *	 that were accepted after it, and have not gone out, are EVS_SINK_RETURNED,
 *	 until progress() has returned all of them.  The host writes the failure down
 *	 before it submits anything else.
 * - The messages of an array are as far apart as the size of the first says.
 * - A result is OK only when the other side has taken responsibility for the
 *   message: an acknowledgement, not a successful write to a socket.
 *
 * Structures begin with their size, so that later versions can add members at
 * the end: a member is there if size says so.
 */
#ifndef EVSTORE_SINK_H
#define EVSTORE_SINK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when something changes that modules cannot be compatible with. */
#define EVS_SINK_ABI 1

/* Size of the buffers for error messages of validate() and open(). */
#define EVS_SINK_ERROR_MAX 512

/* Levels of log(). */
enum
{
	EVS_SINK_LOG_DEBUG,
	EVS_SINK_LOG_INFO,
	EVS_SINK_LOG_WARNING
};

/* What a sink can do. */
enum
{
	/*
	 * Messages of a key may be in flight together: they arrive in the order of
	 * submission.  After one that failed the host sends the later ones of its
	 * key again; what the sink has not sent when an earlier one of its key fails is
	 * EVS_SINK_RETURNED.  Without it the host has one message of a key in flight.
	 */
	EVS_SINK_CAP_PIPELINE = 1 << 0,

	/* Messages that are submitted together may go out as one request. */
	EVS_SINK_CAP_BATCH = 1 << 1,

	/* The other side recognises a message that comes again: effectively once. */
	EVS_SINK_CAP_DEDUPLICATES = 1 << 2,

	/* resume() can tell what the other side has. */
	EVS_SINK_CAP_RESUMES = 1 << 3,

	/* The module makes threads. */
	EVS_SINK_CAP_THREADS = 1 << 4,

	/* It opens connections: evstore.egress_allow is asked. */
	EVS_SINK_CAP_NETWORK = 1 << 5
};

/* What became of a message. */
typedef enum evs_sink_class
{
	EVS_SINK_OK,				/* the other side has it */
	EVS_SINK_DUPLICATE,			/* had it before: as good as OK */
	EVS_SINK_RETRY,				/* not now; an attempt of this message */
	EVS_SINK_RETRY_SINK,		/* nobody there: an outage, no attempt of a message */
	EVS_SINK_PERMANENT,			/* never: it is parked */
	EVS_SINK_FATAL,				/* the relay must stop: configuration, credentials, 410 Gone */
	EVS_SINK_RETURNED			/* not tried, since one before it failed: no attempt */
} evs_sink_class;

/* A name and its value; both end with a zero byte.  UTF-8. */
typedef struct evs_sink_pair
{
	const char *name;
	const char *value;
} evs_sink_pair;

/* Flags of a message. */
enum
{
	/*
	 * It failed before, or was parked and is replayed: its position may be
	 * below those that were sent already.
	 */
	EVS_SINK_MESSAGE_REPLAY = 1 << 0,

	/* Synthetic, of test_relay(): not an event of the log.  Its position is 0. */
	EVS_SINK_MESSAGE_TEST = 1 << 1
};

typedef struct evs_sink_message
{
	uint32_t	size;			/* of this structure */
	uint32_t	flags;
	uint64_t	cookie;			/* the host's; comes back in the result */
	int64_t		position;		/* in the log: grows from message to message, unless REPLAY */
	int64_t		version;		/* in the stream */
	int64_t		time_us;		/* when it occurred, microseconds since 1970 */
	int32_t		attempt;		/* 1 = the first */
	const char *id;				/* UUID, the same each time it is sent */
	const char *type;
	const char *source;			/* CloudEvents source */
	const char *stream;
	const char *key;			/* ordering key; NULL: none */
	const char *topic;			/* the relay's topic template, filled in; "" if it has none */
	const char *content_type;	/* of data; NULL if there is none */
	const void *data;			/* the payload in the relay's format; NULL: none */
	size_t		length;			/* in bytes */

	/*
	 * Binary formats only: CloudEvents attributes, without a prefix and not
	 * encoded for a protocol: specversion, id, source, type, time, subject and
	 * extensions.  datacontenttype is content_type.
	 */
	const evs_sink_pair *attributes;
	int32_t		nattributes;

	/* What the application wants to go along, as it is, in each format. */
	int32_t		nheaders;
	const evs_sink_pair *headers;
} evs_sink_message;

typedef struct evs_sink_result
{
	uint64_t	cookie;
	evs_sink_class result;
	int32_t		code;			/* of the protocol, e.g. the HTTP status; 0: none */
	int64_t		retry_after_ms; /* what the other side asks for; -1: nothing */
	char		detail[256];	/* for people: the error, or an excerpt of the response */
} evs_sink_result;

typedef enum evs_sink_setting_kind
{
	EVS_SINK_SETTING_STRING,
	EVS_SINK_SETTING_NUMBER,
	EVS_SINK_SETTING_BOOLEAN,	/* "true" or "false" */
	EVS_SINK_SETTING_SECRET		/* value is the secret's name: see secret() */
} evs_sink_setting_kind;

/*
 * A member of the relay's config.  Names of members of members are joined with
 * dots: {"tls": {"ca_file": "x"}, "servers": ["a", "b"]} gives tls.ca_file,
 * servers.0 and servers.1.  Members that are null are left out.
 */
typedef struct evs_sink_setting
{
	const char *name;
	const char *value;
	evs_sink_setting_kind kind;
} evs_sink_setting;

typedef struct evs_sink_settings
{
	const evs_sink_setting *items;
	int32_t		nitems;
} evs_sink_settings;

/* What the host offers; lives as long as the sink's state. */
typedef struct evs_sink_host
{
	uint32_t	abi;
	uint32_t	size;
	void	   *ctx;			/* first argument of the functions */

	const char *relay;			/* its name, for people */

	/*
	 * Among all relays of all stores only this one has it.  What the other side keeps
	 * of the relay is found again by it; a copy of the store that acts has others.
	 */
	const char *id;
	const char *format;			/* cloudevents, cloudevents-batch, cloudevents-binary, raw */
	int32_t		in_flight;		/* the host has at most so many messages in flight */
	int32_t		batch_size;		/* messages in a request, at most */
	int64_t		batch_bytes;	/* of payload in a request, at most, unless one message has more */
	int32_t		timeout_ms;		/* of a request, from when it is sent */
	const char *directory;		/* for files: nothing outside of it may be written */

	/* Any thread.  Messages must not contain secrets. */
	void		(*log) (void *ctx, int level, const char *message);

	/* Any thread: progress() has something to do. */
	void		(*wake) (void *ctx);

	/* Microseconds of a clock that is never set. */
	int64_t		(*now_us) (void *ctx);

	/*
	 * The present value of a secret; ask for it each time it is used, since it
	 * may change.  Returns its length, without the zero byte that is added, or
	 * -1 if there is none, or more than size - 1 if it does not fit.  Not in
	 * validate(): returns -1 there.
	 */
	int			(*secret) (void *ctx, const char *name, char *value, size_t size);

	/*
	 * May a connection be made?  host is the name as configured; address the
	 * numeric one that it was resolved to, or NULL before that: then the answer
	 * is whether it is possible at all.  1: yes.
	 */
	int			(*egress_allowed) (void *ctx, const char *host, const char *address, int port);

	/* The other side takes at most so many messages a second; 0: as many as you like. */
	void		(*set_rate) (void *ctx, double per_second);
} evs_sink_host;

typedef struct evs_sink
{
	uint32_t	abi;			/* EVS_SINK_ABI */
	uint32_t	size;			/* sizeof(evs_sink) */
	const char *name;			/* of the module: evstore_sink_<name> */
	const char *description;	/* a line, with the client library and its version */
	uint64_t	caps;

	/*
	 * Is the configuration possible?  0, or -1 and a message that names the
	 * setting.  Unknown settings are errors.
	 */
	int			(*validate) (const evs_sink_host *host, const evs_sink_settings *settings,
							 char *error, size_t size);

	/* A state to work with, or NULL and a message.  settings live as long as it does. */
	void	   *(*open) (const evs_sink_host *host, const evs_sink_settings *settings,
						 char *error, size_t size);

	/*
	 * CAP_RESUMES, otherwise NULL: up to which position does the other side have
	 * all messages that were submitted in order?  1: *position is set, 0 if it has
	 * none.  0: not known yet, call progress() first.  -1: the other side cannot
	 * be asked now, an outage; error says why.
	 */
	int			(*resume) (void *state, int64_t *position, char *error, size_t size);

	/*
	 * Take messages, in this order; returns how many were accepted, from the
	 * front.  A connection that is not there yet is no reason to accept none.
	 */
	int			(*submit) (void *state, const evs_sink_message *messages, int n);

	/*
	 * What to wait for: a file descriptor, or -1.  *events is POLLIN, POLLOUT or
	 * both; *timeout_ms when progress() should be called at the latest, -1 if
	 * only then.  A sink with several descriptors returns one that stands for
	 * them, as epoll's does.
	 */
	int			(*wait_fd) (void *state, short *events, int *timeout_ms);

	/* Do what can be done without waiting; returns up to max results. */
	int			(*progress) (void *state, evs_sink_result *results, int max);

	/*
	 * Drop everything, messages in flight included, and free the state.  Called
	 * with nothing in flight if the relay was stopped in time.  Closes connections
	 * without waiting for the other side.
	 */
	void		(*destroy) (void *state);
} evs_sink;

/* NULL if the module cannot work with a host of this ABI. */
extern const evs_sink *evs_sink_init(uint32_t host_abi);

#ifdef __cplusplus
}
#endif

#if defined(__GNUC__)
#define EVS_SINK_EXPORT __attribute__((visibility("default")))
#else
#define EVS_SINK_EXPORT
#endif

#endif							/* EVSTORE_SINK_H */
