/*
 * mqtt_client.c
 *	  What a bare program does to publish by MQTT 5 without waiting, as the sink
 *	  "mqtt" is compared with: no library, no checks, one packet made once.
 *
 *	mqtt_client PORT TOPIC MESSAGES BYTES WINDOW QOS
 *
 * At most WINDOW messages wait for PUBACK, or PUBCOMP.  Prints messages a second,
 * from the first publication to the last acknowledgement.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER 262144

static int	sock;
static unsigned char out[BUFFER];
static size_t used;

static void
die(const char *what)
{
	fprintf(stderr, "mqtt_client: %s\n", what);
	exit(1);
}

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static void
flush(void)
{
	for (size_t done = 0; done < used;)
	{
		ssize_t		n = write(sock, out + done, used - done);

		if (n <= 0)
			die("write");
		done += n;
	}
	used = 0;
}

static void
add(const void *data, size_t length)
{
	if (used + length > sizeof(out))
		flush();
	memcpy(out + used, data, length);
	used += length;
}

static void
sign_in(int port)
{
	static const unsigned char connect_packet[] = {
		0x10, 17, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, 4, 'b', 'a', 'r', 'e'
	};
	struct sockaddr_in address = {.sin_family = AF_INET,.sin_port = htons(port)};
	unsigned char answer[256];
	int			on = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	sock = socket(AF_INET, SOCK_STREAM, 0);
	if (sock < 0 || connect(sock, (struct sockaddr *) &address, sizeof(address)) != 0)
		die("connect");
	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	add(connect_packet, sizeof(connect_packet));
	flush();
	if (read(sock, answer, sizeof(answer)) < 4 || answer[0] != 0x20 || answer[3] != 0)
		die("not signed in");
}

/* PUBLISH; returns where the packet's identifier is. */
static size_t
make_packet(unsigned char *packet, size_t *size, const char *topic, int bytes, int qos)
{
	size_t		topic_length = strlen(topic);
	size_t		rest = 2 + topic_length + 2 + 1 + bytes;
	unsigned char *at = packet;

	*at++ = 0x30 | qos << 1;
	for (; rest > 127; rest >>= 7)
		*at++ = (rest & 0x7F) | 0x80;
	*at++ = rest;
	*at++ = topic_length >> 8;
	*at++ = topic_length;
	memcpy(at, topic, topic_length);
	at += topic_length;
	at[2] = 0;
	memset(at + 3, 'x', bytes);
	*size = at + 3 + bytes - packet;
	return at - packet;
}

/* Take acknowledgements; returns how many messages are done. */
static int
read_answers(void)
{
	static unsigned char in[BUFFER];
	static size_t have;
	ssize_t		n = read(sock, in + have, sizeof(in) - have);
	size_t		at = 0;
	int			done = 0;

	if (n <= 0)
		die("read");
	for (have += n; have - at >= 2 && have - at >= 2u + in[at + 1]; at += 2 + in[at + 1])
		if ((in[at] & 0xF0) == 0x50)
		{
			unsigned char release[4] = {0x62, 2, in[at + 2], in[at + 3]};

			add(release, sizeof(release));
		}
		else
			done++;
	memmove(in, in + at, have - at);
	have -= at;
	return done;
}

int
main(int argc, char **argv)
{
	unsigned char *packet;
	size_t		size;
	size_t		id_at;
	long		messages;
	long		sent = 0;
	long		done = 0;
	long		window;
	double		start;

	if (argc != 7)
		die("usage: mqtt_client PORT TOPIC MESSAGES BYTES WINDOW QOS");
	messages = atol(argv[3]);
	window = atol(argv[5]);
	packet = malloc(strlen(argv[2]) + atoi(argv[4]) + 16);
	if (packet == NULL)
		die("memory");
	id_at = make_packet(packet, &size, argv[2], atoi(argv[4]), atoi(argv[6]));
	sign_in(atoi(argv[1]));
	start = seconds();
	while (done < messages)
	{
		for (; sent < messages && sent - done < window; sent++)
		{
			int			id = sent % 65535 + 1;

			packet[id_at] = id >> 8;
			packet[id_at + 1] = id;
			add(packet, size);
		}
		flush();
		done += read_answers();
	}
	printf("%.0f\n", messages / (seconds() - start));
	return 0;
}
