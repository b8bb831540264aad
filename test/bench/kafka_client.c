/*
 * kafka_client.c
 *	  What a bare program does with librdkafka: an idempotent producer that keeps a
 *	  window of messages in flight, as the sink "kafka" is compared with.  Its records
 *	  are the same: with a key, a time and a header.
 *
 *	kafka_client BROKERS TOPIC MESSAGES BYTES WINDOW
 *
 * Prints messages a second, from the first that is produced to the last
 * acknowledgement.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <librdkafka/rdkafka.h>

static long acknowledged;

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static void
on_report(rd_kafka_t *producer, const rd_kafka_message_t *report, void *opaque)
{
	(void) producer;
	(void) opaque;
	if (report->err)
	{
		fprintf(stderr, "kafka_client: %s\n", rd_kafka_err2str(report->err));
		exit(1);
	}
	acknowledged++;
}

static void
set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char		error[512];

	if (rd_kafka_conf_set(conf, name, value, error, sizeof(error)) == RD_KAFKA_CONF_OK)
		return;
	fprintf(stderr, "kafka_client: %s\n", error);
	exit(1);
}

static void
produce(rd_kafka_t *producer, const char *topic, const char *data, int bytes, long messages, long window)
{
	rd_kafka_topic_t *handle = rd_kafka_topic_new(producer, topic, NULL);
	char		key[32];

	for (long i = 0; i < messages; i++)
	{
		while (i - acknowledged >= window)
			rd_kafka_poll(producer, 100);
		snprintf(key, sizeof(key), "key-%ld", i % 10);
		if (rd_kafka_producev(producer, RD_KAFKA_V_RKT(handle), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
							  RD_KAFKA_V_KEY(key, strlen(key)), RD_KAFKA_V_VALUE((void *) data, bytes),
							  RD_KAFKA_V_TIMESTAMP(1700000000000),
							  RD_KAFKA_V_HEADER("content-type", "application/json", -1), RD_KAFKA_V_END) != 0)
			exit(1);
		rd_kafka_poll(producer, 0);
	}
	while (acknowledged < messages)
		rd_kafka_poll(producer, 100);
	rd_kafka_topic_destroy(handle);
}

int
main(int argc, char **argv)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *producer;
	char		error[512];
	char	   *data;
	double		start;

	if (argc != 6)
	{
		fprintf(stderr, "usage: kafka_client BROKERS TOPIC MESSAGES BYTES WINDOW\n");
		return 2;
	}
	set(conf, "bootstrap.servers", argv[1]);
	set(conf, "enable.idempotence", "true");
	set(conf, "partitioner", "murmur2_random");
	rd_kafka_conf_set_dr_msg_cb(conf, on_report);
	producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	data = malloc(atoi(argv[4]) + 1);
	if (producer == NULL || data == NULL)
		return 1;
	memset(data, 'x', atoi(argv[4]));
	start = seconds();
	produce(producer, argv[2], data, atoi(argv[4]), atol(argv[3]), atol(argv[5]));
	printf("%.0f\n", atol(argv[3]) / (seconds() - start));
	rd_kafka_destroy(producer);
	free(data);
	return 0;
}
