/*
 * client.c
 *	  What pgbench cannot do: waiting, listening, batches, and when they come.
 *
 *	client listen DATABASE CHANNEL SESSIONS
 *		LISTEN in so many sessions
 *	client wait DATABASE SUBSCRIPTION...
 *		a session for each, which waits in fetch() and acknowledges
 *	client consume DATABASE evstore|queue|pgq NAME CONSUMERS EVENTS SECONDS
 *		take so many events by hundreds, or for so long: prints events a second
 *	client latency DATABASE fetch|fetch_durable|notify|plain RATE SECONDS
 *		from sending COMMIT to its arrival in another session: prints
 *		all times, sorted, in microseconds
 *	client latency DATABASE consumer|projection RATE SECONDS
 *		the same until a row that is written for it can be seen, with BATCH_SENT
 *		events in a transaction; uses functions of cases/projection.sh
 *	client latency DATABASE tasks RATE SECONDS
 *		the same from the start of a saga until its first task has been fetched; uses
 *		functions of cases/saga.sh
 *	client latency DATABASE relay RATE SECONDS
 *		the same until a request of the relay "arrivals" has arrived: this is then the
 *		receiver of its sink "http", and gives the relay its URL
 *	client flush FILE
 *		prints how long a flush of 8 kB takes in microseconds
 *
 * Where to connect comes from the environment.  listen and wait say "ready",
 * go on until SIGTERM, and then print how many notifications or events came.
 * All statements are prepared, and all values are text, on every side.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

#define BATCH "100"
#define WAIT_MS "20000"
#define MAX_SESSIONS 64
#define MAX_SLOTS 16
#define FLUSHES 500

/* Events in a transaction where they are written to a read model. */
#define BATCH_SENT "4"

/* The largest request with an event of ours. */
#define REQUEST_MAX 8192

/* A run in which nothing comes for so long has failed. */
#define STALL_SECONDS 20

static volatile sig_atomic_t stopped = 0;

static void
die(const char *what, const char *why)
{
	fprintf(stderr, "client: %s: %s\n", what, why);
	exit(1);
}

static int64_t
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000000000 + t.tv_nsec;
}

static int
compare_int64(const void *a, const void *b)
{
	int64_t		x = *(const int64_t *) a;
	int64_t		y = *(const int64_t *) b;

	return (x > y) - (x < y);
}

/* Sorts the values; in microseconds. */
static double
percentile(int64_t *values, int n, double p)
{
	qsort(values, n, sizeof(int64_t), compare_int64);
	return values[(int) ((n - 1) * p)] / 1000.0;
}

/* ---- statements ---- */

static PGconn *
open_session(const char *database)
{
	const char *keys[] = {"dbname", "application_name", NULL};
	const char *values[] = {database, "bench client", NULL};
	PGconn	   *conn = PQconnectdbParams(keys, values, 0);

	if (PQstatus(conn) != CONNECTION_OK)
		die("connect", PQerrorMessage(conn));
	return conn;
}

static PGresult *
check(PGconn *conn, PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		die("statement", PQerrorMessage(conn));
	return result;
}

static void
prepare(PGconn *conn, const char *name, const char *sql)
{
	PQclear(check(conn, PQprepare(conn, name, sql, 0, NULL)));
}

static void
command(PGconn *conn, const char *sql)
{
	PQclear(check(conn, PQexec(conn, sql)));
}

static PGresult *
call(PGconn *conn, const char *name, int nparams, const char *const *params)
{
	return check(conn, PQexecPrepared(conn, name, nparams, params, NULL, NULL, 0));
}

static void
send_call(PGconn *conn, const char *name, int nparams, const char *const *params)
{
	if (!PQsendQueryPrepared(conn, name, nparams, params, NULL, NULL, 0))
		die(name, PQerrorMessage(conn));
}

/* The one result of what was sent, if it has come; else NULL. */
static PGresult *
take_result(PGconn *conn)
{
	PGresult   *result;

	if (!PQconsumeInput(conn))
		die("read", PQerrorMessage(conn));
	if (PQisBusy(conn))
		return NULL;
	result = check(conn, PQgetResult(conn));
	PQclear(PQgetResult(conn));
	return result;
}

/* ---- evstore ---- */

/* One slot's part of a batch. */
typedef struct Part
{
	const char *slot;
	const char *epoch;
	const char *up_to;
} Part;

static void
prepare_consumer(PGconn *conn)
{
	/* what the queues that it is compared with give of a message, and the stream */
	prepare(conn, "fetch", "SELECT slot, epoch, attempt, position, stream, type, data, recorded_at"
			" FROM evstore.fetch($1, $2, " BATCH ", $3)");
	prepare(conn, "ack", "SELECT evstore.ack($1, $2, $3, $4)");
	/* who has several slots is done with all of them in one transaction */
	prepare(conn, "acks", "SELECT evstore.ack($1, slot, epoch, up_to)"
			" FROM unnest($2::int[], $3::bigint[], $4::bigint[]) AS a (slot, epoch, up_to)");
}

/* What is to be acknowledged: within a slot, events come in order. */
static int
parts_of(PGresult *result, Part *parts)
{
	int			n = 0;

	for (int i = 0; i < PQntuples(result); i++)
	{
		const char *slot = PQgetvalue(result, i, 0);
		int			k = 0;

		while (k < n && strcmp(parts[k].slot, slot) != 0)
			k++;
		if (k == MAX_SLOTS)
			die("fetch", "too many slots");
		if (k == n)
			n++;
		parts[k].slot = slot;
		parts[k].epoch = PQgetvalue(result, i, 1);
		parts[k].up_to = PQgetvalue(result, i, 3);
	}
	return n;
}

static void
send_fetch(PGconn *conn, const char *name, const char *consumer)
{
	const char *params[] = {name, consumer, WAIT_MS};

	send_call(conn, "fetch", 3, params);
}

/* Of a subscription with one slot. */
static void
send_ack(PGconn *conn, const char *name, PGresult *fetched)
{
	Part		parts[MAX_SLOTS];
	const char *params[4] = {name};

	if (parts_of(fetched, parts) != 1)
		die("ack", "one slot expected");
	params[1] = parts[0].slot;
	params[2] = parts[0].epoch;
	params[3] = parts[0].up_to;
	send_call(conn, "ack", 4, params);
}

/* ---- listen, wait ---- */

static void
stop(int signal_number)
{
	stopped = 1;
}

/* Until a session has something to read, or SIGTERM comes. */
static bool
wait_for_input(struct pollfd *fds, int n)
{
	sigset_t	none;

	sigemptyset(&none);
	if (stopped)
		return false;
	if (ppoll(fds, n, NULL, &none) >= 0)
		return true;
	if (errno != EINTR)
		die("poll", strerror(errno));
	return !stopped;
}

/* SIGTERM comes in while waiting only. */
static void
begin_until_stopped(void)
{
	struct sigaction action = {.sa_handler = stop};
	sigset_t	term;

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	sigaction(SIGTERM, &action, NULL);
}

static void
say_ready(void)
{
	puts("ready");
	fflush(stdout);
}

static long
count_notifications(PGconn *conn)
{
	PGnotify   *notify;
	long		n = 0;

	if (!PQconsumeInput(conn))
		die("read", PQerrorMessage(conn));
	for (; (notify = PQnotifies(conn)) != NULL; n++)
		PQfreemem(notify);
	return n;
}

static void
run_listen(const char *database, const char *channel, int n)
{
	PGconn	   *conns[MAX_SESSIONS];
	struct pollfd fds[MAX_SESSIONS];
	char		sql[128];
	long		total = 0;

	begin_until_stopped();
	snprintf(sql, sizeof(sql), "LISTEN \"%s\"", channel);
	for (int i = 0; i < n; i++)
	{
		conns[i] = open_session(database);
		command(conns[i], sql);
		fds[i] = (struct pollfd) {.fd = PQsocket(conns[i]), .events = POLLIN};
	}
	say_ready();
	while (wait_for_input(fds, n))
		for (int i = 0; i < n; i++)
			if (fds[i].revents != 0)
				total += count_notifications(conns[i]);
	printf("%ld\n", total);
}

/* How many events came; an acknowledgement is none. */
static int
step_waiter(PGconn *conn, const char *name)
{
	PGresult   *result = take_result(conn);
	int			n;

	if (result == NULL)
		return 0;
	if (PQnfields(result) > 1 && PQntuples(result) > 0)
		send_ack(conn, name, result);
	else
		send_fetch(conn, name, "waiter");
	n = PQnfields(result) > 1 ? PQntuples(result) : 0;
	PQclear(result);
	return n;
}

static void
run_wait(const char *database, char **names, int n)
{
	PGconn	   *conns[MAX_SESSIONS];
	struct pollfd fds[MAX_SESSIONS];
	long		total = 0;

	begin_until_stopped();
	for (int i = 0; i < n; i++)
	{
		const char *params[] = {names[i], "waiter", "0"};

		conns[i] = open_session(database);
		prepare_consumer(conns[i]);
		/* the first one claims, and so would not wait */
		PQclear(call(conns[i], "fetch", 3, params));
		send_fetch(conns[i], names[i], "waiter");
		fds[i] = (struct pollfd) {.fd = PQsocket(conns[i]), .events = POLLIN};
	}
	say_ready();
	while (wait_for_input(fds, n))
		for (int i = 0; i < n; i++)
			if (fds[i].revents != 0)
				total += step_waiter(conns[i], names[i]);
	printf("%ld\n", total);
}

/* ---- consume ---- */

/* One system's way: take a batch and be done with it; returns how many events. */
typedef struct Side
{
	const char *name;
	void		(*prepare) (PGconn *conn);
	int			(*take) (PGconn *conn, const char *name, const char *consumer);
} Side;

/* {a,b,c} */
static const char *
array_of(char *buffer, size_t size, const Part *parts, int n, size_t field)
{
	int			length = 0;

	for (int i = 0; i < n; i++)
		length += snprintf(buffer + length, size - length, "%c%s", i == 0 ? '{' : ',',
						   *(const char *const *) ((const char *) &parts[i] + field));
	snprintf(buffer + length, size - length, "}");
	return buffer;
}

static int
take_from_evstore(PGconn *conn, const char *name, const char *consumer)
{
	const char *params[4] = {name, consumer, "0"};
	PGresult   *result = call(conn, "fetch", 3, params);
	Part		parts[MAX_SLOTS];
	int			nparts = parts_of(result, parts);
	int			n = PQntuples(result);
	char		arrays[3][24 * MAX_SLOTS];

	if (nparts == 1)
	{
		params[1] = parts[0].slot;
		params[2] = parts[0].epoch;
		params[3] = parts[0].up_to;
		PQclear(call(conn, "ack", 4, params));
	}
	else if (nparts > 1)
	{
		params[1] = array_of(arrays[0], sizeof(arrays[0]), parts, nparts, offsetof(Part, slot));
		params[2] = array_of(arrays[1], sizeof(arrays[1]), parts, nparts, offsetof(Part, epoch));
		params[3] = array_of(arrays[2], sizeof(arrays[2]), parts, nparts, offsetof(Part, up_to));
		PQclear(call(conn, "acks", 4, params));
	}
	PQclear(result);
	return n;
}

/* As pgmq's functions do, without the functions. */
static void
prepare_queue(PGconn *conn)
{
	prepare(conn, "read",
			"WITH claimed AS (SELECT msg_id FROM queue.message WHERE vt <= clock_timestamp()"
			" ORDER BY msg_id LIMIT " BATCH " FOR UPDATE SKIP LOCKED)"
			" UPDATE queue.message m SET vt = clock_timestamp() + interval '30 s', read_ct = read_ct + 1"
			" FROM claimed WHERE m.msg_id = claimed.msg_id"
			" RETURNING m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message, m.headers");
	prepare(conn, "delete", "DELETE FROM queue.message WHERE msg_id = ANY ($1::bigint[]) RETURNING msg_id");
}

static int
take_from_queue(PGconn *conn, const char *name, const char *consumer)
{
	PGresult   *result = call(conn, "read", 0, NULL);
	int			n = PQntuples(result);
	char		ids[4096];
	int			length = 0;
	const char *params[] = {ids};

	for (int i = 0; i < n; i++)
		length += snprintf(ids + length, sizeof(ids) - length, "%c%s", i == 0 ? '{' : ',',
						   PQgetvalue(result, i, 0));
	snprintf(ids + length, sizeof(ids) - length, "}");
	if (n > 0)
		PQclear(call(conn, "delete", 1, params));
	PQclear(result);
	return n;
}

static void
prepare_pgq(PGconn *conn)
{
	prepare(conn, "next", "SELECT pgq.next_batch($1, $2)");
	prepare(conn, "events", "SELECT * FROM pgq.get_batch_events($1)");
	prepare(conn, "finish", "SELECT pgq.finish_batch($1)");
}

static int
take_from_pgq(PGconn *conn, const char *name, const char *consumer)
{
	const char *params[] = {"account", name};
	PGresult   *batch = call(conn, "next", 2, params);
	PGresult   *result;
	const char *id = PQgetvalue(batch, 0, 0);
	int			n = 0;

	if (!PQgetisnull(batch, 0, 0))
	{
		result = call(conn, "events", 1, &id);
		n = PQntuples(result);
		PQclear(result);
		PQclear(call(conn, "finish", 1, &id));
	}
	PQclear(batch);
	return n;
}

static const Side sides[] = {
	{"evstore", prepare_consumer, take_from_evstore},
	{"queue", prepare_queue, take_from_queue},
	{"pgq", prepare_pgq, take_from_pgq},
};

/* Let each of several consumers have its share of the slots before the clock runs. */
static void
share_slots(PGconn **conns, const char *name, int n)
{
	const char *params[] = {name, NULL};

	for (int round = 0; round < 4; round++)
		for (int i = 0; i < n; i++)
		{
			char		consumer[16];

			snprintf(consumer, sizeof(consumer), "c%d", i);
			params[1] = consumer;
			PQclear(check(conns[i], PQexecParams(conns[i], "SELECT count(*) FROM evstore.fetch($1, $2, 1)",
												 2, NULL, params, NULL, NULL, 0)));
		}
}

/* One process; taken is shared by all. */
static void
consume(PGconn *conn, const Side *side, const char *name, int number, long *taken, long events, int64_t end)
{
	char		consumer[16];
	int64_t		last = now();

	snprintf(consumer, sizeof(consumer), "c%d", number);
	while (__atomic_load_n(taken, __ATOMIC_RELAXED) < events)
	{
		int			n = side->take(conn, name, consumer);
		int64_t		t = now();

		__atomic_add_fetch(taken, n, __ATOMIC_RELAXED);
		if (n > 0)
			last = t;
		else if (t - last > STALL_SECONDS * INT64_C(1000000000))
			die(side->name, "no events come any more");
		else
			usleep(500);
		if (t > end)
			break;
	}
}

static void
run_consume(const char *database, const char *side_name, const char *name, int n, long events, double seconds)
{
	PGconn	   *conns[MAX_SESSIONS];
	const Side *side = sides;
	long	   *taken = mmap(NULL, sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int64_t		begin;
	int			status;

	while (strcmp(side->name, side_name) != 0)
		if (++side == sides + sizeof(sides) / sizeof(*sides))
			die(side_name, "no such system");
	for (int i = 0; i < n; i++)
	{
		conns[i] = open_session(database);
		side->prepare(conns[i]);
	}
	if (n > 1)
		share_slots(conns, name, n);
	begin = now();
	for (int i = 0; i < n; i++)
		if (fork() == 0)
		{
			consume(conns[i], side, name, i, taken, events, begin + (int64_t) (seconds * 1e9));
			_exit(0);
		}
	while (wait(&status) > 0)
		if (status != 0)
			exit(1);
	printf("%.1f\n", *taken * 1e9 / (now() - begin));
}

/* ---- latency ---- */

/* What has been sent, in order, and when it came. */
static int64_t *sent_at;
static int64_t *position_of;
static int64_t *latency;
static int	nsent = 0;
static int	nseen = 0;

static PGconn *receiver;
static int	requests = -1;		/* those of a relay: a descriptor of epoll */
static int	listener = -1;
static bool receiver_listens;
static bool receiver_reads;		/* what is written for events */
static int64_t read_to = 0;

static void
seen(int64_t up_to, int64_t when)
{
	for (; nseen < nsent && position_of[nseen] <= up_to; nseen++)
		latency[nseen] = when - sent_at[nseen];
}

static void
receive_notifications(int64_t when)
{
	PGnotify   *notify;

	if (!PQconsumeInput(receiver))
		die("read", PQerrorMessage(receiver));
	while ((notify = PQnotifies(receiver)) != NULL)
	{
		seen(atoll(notify->extra), when);
		PQfreemem(notify);
	}
}

static void
receive_events(int64_t when)
{
	PGresult   *result = take_result(receiver);

	if (result == NULL)
		return;
	if (PQnfields(result) > 1 && PQntuples(result) > 0)
	{
		seen(atoll(PQgetvalue(result, PQntuples(result) - 1, 3)), when);
		send_ack(receiver, "latency", result);
	}
	else
		send_fetch(receiver, "latency", "c");
	PQclear(result);
}

static void
send_read(void)
{
	char		position[24];
	const char *params[] = {position};

	snprintf(position, sizeof(position), "%lld", (long long) read_to);
	send_call(receiver, "read", 1, params);
}

static void
receive_rows(int64_t when)
{
	PGresult   *result = take_result(receiver);

	if (result == NULL)
		return;
	read_to = atoll(PQgetvalue(result, 0, 0));
	seen(read_to, when);
	PQclear(result);
	send_read();
}

/* A connection of the relay; the listener has none. */
typedef struct Connection
{
	int			fd;
	int			used;
	char		data[REQUEST_MAX + 1];
} Connection;

static int
listen_on_loopback(int *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t	length = sizeof(address);
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *) &address, length) != 0 || listen(fd, 1024) != 0 ||
		getsockname(fd, (struct sockaddr *) &address, &length) != 0)
		die("listen", strerror(errno));
	*port = ntohs(address.sin_port);
	return fd;
}

static void
watch(int fd, Connection *connection)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};

	if (epoll_ctl(requests, EPOLL_CTL_ADD, fd, &event) != 0)
		die("epoll_ctl", strerror(errno));
}

static void
accept_relay(int listener)
{
	int			one = 1;
	int			fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
	{
		Connection *connection = calloc(1, sizeof(Connection));

		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		connection->fd = fd;
		watch(fd, connection);
	}
}

/* Requests of a relay without an order come as they like. */
static void
arrived(int64_t position, int64_t when)
{
	for (int i = nsent - 1; i >= 0 && position_of[i] >= position; i--)
		if (position_of[i] == position && latency[i] == 0)
		{
			latency[i] = when - sent_at[i];
			nseen++;
		}
}

/* The request that has arrived completely, or 0: its length. */
static int
request_length(const Connection *connection)
{
	static const char name[] = "\r\nContent-Length:";
	const char *end = strstr(connection->data, "\r\n\r\n");
	const char *length = strcasestr(connection->data, name);
	int			n;

	if (end == NULL || length == NULL || length > end)
		return 0;
	n = (int) (end + 4 - connection->data) + atoi(length + sizeof(name) - 1);
	return n <= connection->used ? n : 0;
}

static void
answer_requests(Connection *connection, int64_t when)
{
	static const char answer[] = "HTTP/1.1 204 No Content\r\n\r\n";
	static const char member[] = "\"sequence\":\"";
	int			n;

	while ((n = request_length(connection)) > 0)
	{
		const char *sequence = strstr(connection->data, member);

		if (sequence == NULL)
			die("request", "no event is in it");
		arrived(atoll(sequence + sizeof(member) - 1), when);
		if (send(connection->fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL) != sizeof(answer) - 1)
			die("answer", strerror(errno));
		connection->used -= n;
		memmove(connection->data, connection->data + n, connection->used + 1);
	}
}

static void
receive_request(Connection *connection, int64_t when)
{
	int			n = read(connection->fd, connection->data + connection->used, REQUEST_MAX - connection->used);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
	{
		close(connection->fd);
		free(connection);
		return;
	}
	connection->used += n;
	connection->data[connection->used] = '\0';
	answer_requests(connection, when);
}

static void
receive_requests(int64_t when)
{
	struct epoll_event events[MAX_SESSIONS];
	int			n = epoll_wait(requests, events, MAX_SESSIONS, 0);

	for (int i = 0; i < n; i++)
		if (events[i].data.ptr == NULL)
			accept_relay(listener);
		else
			receive_request(events[i].data.ptr, when);
}

/* Until then, or until the sender has an answer if it is waited for. */
static PGresult *
receive_until(PGconn *sender, int64_t until)
{
	struct pollfd fds[2] = {
		{.fd = requests >= 0 ? requests : PQsocket(receiver), .events = POLLIN},
		{.fd = PQsocket(sender), .events = POLLIN},
	};

	for (;;)
	{
		int64_t		left = until - now();
		struct timespec timeout = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
		int64_t		when;

		if (left <= 0)
			return NULL;
		if (ppoll(fds, 2, &timeout, NULL) < 0 && errno != EINTR)
			die("poll", strerror(errno));
		when = now();
		if (fds[0].revents != 0)
		{
			if (requests >= 0)
				receive_requests(when);
			else if (receiver_listens)
				receive_notifications(when);
			else if (receiver_reads)
				receive_rows(when);
			else
				receive_events(when);
		}
		if (fds[1].revents != 0)
		{
			PGresult   *result = take_result(sender);

			if (result != NULL)
				return result;
		}
	}
}

static PGresult *
answer(PGconn *sender)
{
	PGresult   *result = receive_until(sender, now() + STALL_SECONDS * INT64_C(1000000000));

	if (result == NULL)
		die("answer", "none");
	return result;
}

static void
send_one(PGconn *sender)
{
	PGresult   *result;

	send_call(sender, "begin", 0, NULL);
	PQclear(answer(sender));
	send_call(sender, "append", 0, NULL);
	result = answer(sender);
	position_of[nsent] = atoll(PQgetvalue(result, 0, 0));
	PQclear(result);
	sent_at[nsent] = now();
	nsent++;
	send_call(sender, "commit", 0, NULL);
	PQclear(answer(sender));
}

/* The relay "arrivals" sends what comes from now on to us. */
static void
start_relay(void)
{
	char		sql[256];
	PGresult   *result;
	int			port;
	bool		running;

	requests = epoll_create1(0);
	listener = listen_on_loopback(&port);
	watch(listener, NULL);
	snprintf(sql, sizeof(sql), "SELECT evstore.alter_relay('arrivals', jsonb_build_object('url', 'http://127.0.0.1:%d/'))", port);
	command(receiver, sql);
	command(receiver, "SELECT evstore.seek_relay('arrivals', 'end'), evstore.resume_relay('arrivals')");
	do
	{
		usleep(10000);
		result = check(receiver, PQexec(receiver, "SELECT pid IS NOT NULL FROM evstore.relays WHERE relay = 'arrivals'"));
		running = strcmp(PQgetvalue(result, 0, 0), "t") == 0;
		PQclear(result);
	} while (!running);
}

static void
open_receiver(const char *database, const char *side)
{
	const char *params[] = {"latency", "c", "0"};

	receiver = open_session(database);
	if (strcmp(side, "relay") == 0)
	{
		start_relay();
		return;
	}
	receiver_reads = strcmp(side, "consumer") == 0 || strcmp(side, "projection") == 0 ||
		strcmp(side, "tasks") == 0;
	if (receiver_reads)
	{
		command(receiver, "SET synchronous_commit = off");
		prepare(receiver, "read", strcmp(side, "consumer") == 0 ? "SELECT consume_and_write($1)" :
				strcmp(side, "tasks") == 0 ? "SELECT take_tasks($1)" : "SELECT wait_and_read($1)");
		read_to = atoll(PQgetvalue(check(receiver, PQexec(receiver, "SELECT evstore.safe_position()")), 0, 0));
		send_read();
		return;
	}
	receiver_listens = strncmp(side, "fetch", 5) != 0;
	if (strcmp(side, "notify") == 0)
		command(receiver, "LISTEN evstore");
	else if (strcmp(side, "plain") == 0)
		command(receiver, "LISTEN bench");
	else
	{
		if (strcmp(side, "fetch_durable") != 0)
			command(receiver, "SET synchronous_commit = off");
		prepare_consumer(receiver);
		PQclear(call(receiver, "fetch", 3, params));
		send_fetch(receiver, "latency", "c");
	}
}

static void
run_latency(const char *database, const char *side, int rate, double seconds)
{
	PGconn	   *sender = open_session(database);
	int			n = (int) (rate * seconds);
	int64_t		begin;

	sent_at = calloc(n, sizeof(int64_t));
	position_of = calloc(n, sizeof(int64_t));
	latency = calloc(n, sizeof(int64_t));
	prepare(sender, "begin", "BEGIN");
	prepare(sender, "commit", "COMMIT");
	if (strcmp(side, "consumer") == 0 || strcmp(side, "projection") == 0)
		prepare(sender, "append",
				"SELECT a.\"position\" FROM (SELECT array_agg(type) AS types, array_agg(data) AS data"
				" FROM public.payload WHERE k <= " BATCH_SENT ") p,"
				" evstore.append_arrays('account-1', p.types, p.data) a");
	else if (strcmp(side, "tasks") == 0)
		prepare(sender, "append", "SELECT start_numbered()");
	else
		prepare(sender, "append", strcmp(side, "plain") == 0 ?
				"WITH i AS (INSERT INTO plain.message (type, data) SELECT type, data FROM public.payload WHERE k = 1 RETURNING id)"
				" SELECT id, pg_notify('bench', id::text) FROM i" :
				"SELECT a.\"position\" FROM public.payload p, evstore.append('account-1', p.type, p.data) a WHERE p.k = 1");
	open_receiver(database, side);
	begin = now();
	for (int i = 0; i < n; i++)
	{
		(void) receive_until(sender, begin + (int64_t) i * 1000000000 / rate);
		send_one(sender);
	}
	while (nseen < nsent && now() - sent_at[nsent - 1] < STALL_SECONDS * INT64_C(1000000000))
		(void) receive_until(sender, now() + 100000000);
	if (nseen < nsent)
		die("latency", "not everything has come");
	if (requests >= 0)
		command(receiver, "SELECT evstore.pause_relay('arrivals')");
	qsort(latency, n, sizeof(int64_t), compare_int64);
	for (int i = 0; i < n; i++)
		printf("%.1f\n", latency[i] / 1000.0);
}

/* ---- flush ---- */

static void
run_flush(const char *file)
{
	static char page[8192];
	int64_t		took[FLUSHES];
	int			fd = open(file, O_RDWR | O_CREAT, 0600);

	if (fd < 0)
		die(file, strerror(errno));
	for (int i = 0; i < FLUSHES; i++)
	{
		int64_t		begin = now();

		if (pwrite(fd, page, sizeof(page), i % 16 * sizeof(page)) < 0 || fdatasync(fd) != 0)
			die(file, strerror(errno));
		took[i] = now() - begin;
	}
	unlink(file);
	printf("%.0f\n", percentile(took, FLUSHES, 0.5));
}

int
main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (strcmp(mode, "listen") == 0 && argc == 5 && atoi(argv[4]) <= MAX_SESSIONS)
		run_listen(argv[2], argv[3], atoi(argv[4]));
	else if (strcmp(mode, "wait") == 0 && argc > 3 && argc - 3 <= MAX_SESSIONS)
		run_wait(argv[2], argv + 3, argc - 3);
	else if (strcmp(mode, "consume") == 0 && argc == 8 && atoi(argv[5]) <= MAX_SESSIONS)
		run_consume(argv[2], argv[3], argv[4], atoi(argv[5]), atol(argv[6]), atof(argv[7]));
	else if (strcmp(mode, "latency") == 0 && argc == 6)
		run_latency(argv[2], argv[3], atoi(argv[4]), atof(argv[5]));
	else if (strcmp(mode, "flush") == 0 && argc == 3)
		run_flush(argv[2]);
	else
		die("usage", "see client.c");
	return 0;
}
