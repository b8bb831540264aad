/*
 * kafka_net.c
 *	  Names and connections of the sink "kafka".
 *
 * librdkafka's threads make the connections, to the brokers that are configured
 * and to those that these tell of.  Each is asked about at the host, by name and
 * by address; the host may only be called by the main thread.  So the question is
 * left here and the main thread woken.  The other thread waits a little while for
 * the answer, not longer since it has locks of librdkafka; if it comes later, it
 * is there for the next attempt, which librdkafka makes soon.
 *
 * Names are looked up by a thread that nobody has to wait for, so that a producer
 * can be closed at any time.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kafka.h"

/* So long a thread of librdkafka waits for an answer, in ms. */
#define PATIENCE 10

/* An answer that was not fetched in time is asked for once more after so many us. */
#define ANSWER_LIFE (INT64_C(5) * 1000000)

/* So many us after a connection was put off nobody wonders that none is there. */
#define DEFERRED_LIFE 1000000

/* How often a lookup sees whether it is still wanted, in ms. */
#define LOOK_UP_SLICE 20

bool
evs_kafka_net_init(EvsKafkaNet *net, int wake_fd)
{
	pthread_condattr_t attributes;
	bool		ok;

	net->wake_fd = wake_fd;
	pthread_mutex_init(&net->lock, NULL);
	ok = pthread_condattr_init(&attributes) == 0;
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	ok = pthread_cond_init(&net->answered, &attributes) == 0 && ok;
	pthread_condattr_destroy(&attributes);
	return ok;
}

void
evs_kafka_net_free(EvsKafkaNet *net)
{
	pthread_cond_destroy(&net->answered);
	pthread_mutex_destroy(&net->lock);
}

void
evs_kafka_wake(int wake_fd)
{
	uint64_t	one = 1;
	ssize_t		written = write(wake_fd, &one, sizeof(one));

	/* It fails only when it is at its maximum, and awake then. */
	(void) written;
}

bool
evs_kafka_split(const char *broker, size_t length, char *host, size_t size, int *port)
{
	const char *end = broker + length;
	const char *colon = end;
	char		digits[8];

	while (colon > broker && *colon != ':')
		colon--;
	if (colon == broker || end - colon - 1 >= (ptrdiff_t) sizeof(digits) || end - colon < 2)
		return false;
	memcpy(digits, colon + 1, end - colon - 1);
	digits[end - colon - 1] = '\0';
	if (strspn(digits, "0123456789") != strlen(digits))
		return false;
	*port = atoi(digits);
	if (*broker == '[' && colon[-1] == ']')
	{
		broker++;
		colon--;
	}
	else if (memchr(broker, ':', colon - broker) != NULL)
		return false;
	if (colon <= broker || (size_t) (colon - broker) >= size || *port < 1 || *port > 65535)
		return false;
	memcpy(host, broker, colon - broker);
	host[colon - broker] = '\0';
	return true;
}

/* ---- questions ---- */

static int64_t
monotonic_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

static bool
is_about(const EvsKafkaQuestion *question, const EvsKafkaQuestion *wanted)
{
	return question->port == wanted->port && strcmp(question->host, wanted->host) == 0 &&
		strcmp(question->address, wanted->address) == 0;
}

/* The one about this connection, or a new one; NULL: there is no room. */
static EvsKafkaQuestion *
find_question(EvsKafkaNet *net, const EvsKafkaQuestion *wanted)
{
	int64_t		now = monotonic_us();
	EvsKafkaQuestion *room = NULL;

	for (int i = 0; i < EVS_KAFKA_QUESTIONS; i++)
	{
		EvsKafkaQuestion *question = &net->questions[i];

		if (question->answer > EVS_KAFKA_ASKED && question->answered_at + ANSWER_LIFE < now)
			question->answer = EVS_KAFKA_FREE;
		if (question->answer == EVS_KAFKA_FREE)
			room = question;
		else if (is_about(question, wanted))
			return question;
	}
	if (room != NULL)
	{
		*room = *wanted;
		room->answer = EVS_KAFKA_ASKED;
	}
	return room;
}

/* 0: allowed; otherwise an errno. */
static int
ask(EvsKafkaNet *net, const EvsKafkaQuestion *wanted)
{
	EvsKafkaQuestion *question;
	struct timespec until;
	int			result = EAGAIN;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += PATIENCE * 1000000;
	if (until.tv_nsec >= 1000000000)
	{
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&net->lock);
	question = find_question(net, wanted);
	evs_kafka_wake(net->wake_fd);
	while (question != NULL && question->answer == EVS_KAFKA_ASKED && !net->closing)
		if (pthread_cond_timedwait(&net->answered, &net->lock, &until) == ETIMEDOUT)
			break;
	/* Another thread with the same question may have fetched the answer, and its place be another's. */
	if (question != NULL && question->answer > EVS_KAFKA_ASKED && is_about(question, wanted))
	{
		result = question->answer == EVS_KAFKA_ALLOWED ? 0 : EACCES;
		question->answer = EVS_KAFKA_FREE;
	}
	else
		net->deferred_at = monotonic_us();
	if (net->closing)
		result = ECANCELED;
	pthread_mutex_unlock(&net->lock);
	return result;
}

void
evs_kafka_net_answer(EvsKafka *sink)
{
	EvsKafkaNet *net = &sink->net;
	const evs_sink_host *host = sink->host;

	pthread_mutex_lock(&net->lock);
	for (int i = 0; i < EVS_KAFKA_QUESTIONS; i++)
	{
		EvsKafkaQuestion *question = &net->questions[i];
		bool		allowed;

		if (question->answer != EVS_KAFKA_ASKED)
			continue;
		allowed = host->egress_allowed(host->ctx, question->host, NULL, question->port) == 1 &&
			host->egress_allowed(host->ctx, question->host, question->address, question->port) == 1;
		question->answer = allowed ? EVS_KAFKA_ALLOWED : EVS_KAFKA_DENIED;
		question->answered_at = monotonic_us();
		if (allowed)
			continue;
		sink->is_denied = true;
		snprintf(sink->last_error, sizeof(sink->last_error),
				 "a connection to %.100s (%s) port %d is not allowed", question->host,
				 question->address, question->port);
	}
	pthread_cond_broadcast(&net->answered);
	pthread_mutex_unlock(&net->lock);
}

bool
evs_kafka_net_deferred(EvsKafkaNet *net)
{
	bool		deferred;

	pthread_mutex_lock(&net->lock);
	deferred = net->deferred_at != 0 && monotonic_us() - net->deferred_at < DEFERRED_LIFE;
	pthread_mutex_unlock(&net->lock);
	return deferred;
}

/* ---- hooks of librdkafka, called in its threads ---- */

/* id is the broker as librdkafka knows it: "host:port". */
static int
connect_broker(int fd, const struct sockaddr *address, int length, const char *id, void *opaque)
{
	EvsKafkaQuestion wanted = {.answer = EVS_KAFKA_FREE};
	char		port[8];
	int			result;

	if (!evs_kafka_split(id, strlen(id), wanted.host, sizeof(wanted.host), &wanted.port) ||
		getnameinfo(address, length, wanted.address, sizeof(wanted.address), port, sizeof(port),
					NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return EINVAL;
	wanted.port = atoi(port);
	result = ask(opaque, &wanted);
	if (result != 0)
		return result;
	return connect(fd, address, length) == 0 || errno == EINPROGRESS ? 0 : errno;
}

/* An address in a list; both are freed together. */
typedef struct Entry
{
	struct addrinfo info;
	struct sockaddr_storage address;
} Entry;

static void
free_list(struct addrinfo *list)
{
	while (list != NULL)
	{
		struct addrinfo *next = list->ai_next;

		free(list);
		list = next;
	}
}

static struct addrinfo *
make_entry(const char *address, const char *service, const struct addrinfo *hints)
{
	struct addrinfo numeric = *hints;
	struct addrinfo *found = NULL;
	Entry	   *entry = calloc(1, sizeof(*entry));

	numeric.ai_flags = AI_NUMERICHOST;
	if (entry == NULL || getaddrinfo(address, service, &numeric, &found) != 0)
	{
		free(entry);
		return NULL;
	}
	entry->info = *found;
	memcpy(&entry->address, found->ai_addr, found->ai_addrlen);
	entry->info.ai_addr = (struct sockaddr *) &entry->address;
	entry->info.ai_canonname = NULL;
	entry->info.ai_next = NULL;
	freeaddrinfo(found);
	return &entry->info;
}

static bool
is_closing(EvsKafkaNet *net)
{
	bool		closing;

	pthread_mutex_lock(&net->lock);
	closing = net->closing;
	pthread_mutex_unlock(&net->lock);
	return closing;
}

static int
look_up(EvsKafkaNet *net, const char *name, evs_sink_addresses *addresses)
{
	evs_sink_lookup *lookup = evs_sink_lookup_start(name);
	int			ended = 0;

	if (lookup == NULL)
		return EAI_MEMORY;
	while ((ended = evs_sink_lookup_poll(lookup, addresses)) == 0 && !is_closing(net))
	{
		struct pollfd fd = {.fd = evs_sink_lookup_fd(lookup), .events = POLLIN};

		poll(&fd, 1, LOOK_UP_SLICE);
	}
	evs_sink_lookup_free(lookup);
	return ended ? addresses->error : EAI_AGAIN;
}

static int
resolve_broker(const char *name, const char *service, const struct addrinfo *hints,
			   struct addrinfo **result, void *opaque)
{
	evs_sink_addresses addresses;
	int			error;

	if (name == NULL)
	{
		free_list(*result);
		return 0;
	}
	*result = NULL;
	error = look_up(opaque, name, &addresses);
	for (int i = addresses.count - 1; error == 0 && i >= 0; i--)
	{
		struct addrinfo *entry = make_entry(addresses.address[i], service, hints);

		if (entry == NULL)
			continue;			/* of another family than is wanted */
		entry->ai_next = *result;
		*result = entry;
	}
	return error != 0 ? error : *result != NULL ? 0 : EAI_NONAME;
}

void
evs_kafka_net_open(EvsKafkaNet *net, rd_kafka_conf_t *conf)
{
	net->closing = false;
	net->deferred_at = 0;
	memset(net->questions, 0, sizeof(net->questions));
	rd_kafka_conf_set_opaque(conf, net);
	rd_kafka_conf_set_connect_cb(conf, connect_broker);
	rd_kafka_conf_set_resolve_cb(conf, resolve_broker);
}

void
evs_kafka_net_close(EvsKafkaNet *net)
{
	pthread_mutex_lock(&net->lock);
	net->closing = true;
	pthread_cond_broadcast(&net->answered);
	pthread_mutex_unlock(&net->lock);
}
