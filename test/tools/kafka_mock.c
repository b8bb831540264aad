/*
 * kafka_mock.c
 *	  librdkafka's mock cluster, in a process of its own.
 *
 *	  kafka_mock BROKERS
 *
 * Prints "brokers=" and where they are, then obeys the lines on standard input,
 * until that ends.  Each is answered by "ok", or by what is wrong.
 *
 *	topic NAME PARTITIONS
 *	error APIKEY CODE [N]	the next N requests of this kind are answered with this code;
 *							-195 closes the connection
 *	clear APIKEY			no more such errors
 *	slow MS					all answers come so much later
 *	down, up				all brokers
 *	topic_error NAME CODE	in what is said of the topic; 0: none
 *	version APIKEY MIN MAX	versions of a kind of requests; -1 -1: there is none
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#define MAX_ERRORS 1000

static rd_kafka_resp_err_t
push_errors(rd_kafka_mock_cluster_t *cluster, int key, int code, int n)
{
	static rd_kafka_resp_err_t codes[MAX_ERRORS];

	if (n < 1 || n > MAX_ERRORS)
		return RD_KAFKA_RESP_ERR__INVALID_ARG;
	for (int i = 0; i < n; i++)
		codes[i] = code;
	rd_kafka_mock_push_request_errors_array(cluster, key, n, codes);
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t
obey(rd_kafka_mock_cluster_t *cluster, const char *line)
{
	char		name[256];
	int			a;
	int			b;
	int			c = 1;

	if (sscanf(line, "topic %255s %d", name, &a) == 2)
		return rd_kafka_mock_topic_create(cluster, name, a, 1);
	if (sscanf(line, "error %d %d %d", &a, &b, &c) >= 2)
		return push_errors(cluster, a, b, c);
	if (sscanf(line, "clear %d", &a) == 1)
	{
		rd_kafka_mock_clear_request_errors(cluster, a);
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	}
	if (sscanf(line, "slow %d", &a) == 1)
		return rd_kafka_mock_broker_set_rtt(cluster, -1, a);
	if (strcmp(line, "down\n") == 0)
		return rd_kafka_mock_broker_set_down(cluster, -1);
	if (strcmp(line, "up\n") == 0)
		return rd_kafka_mock_broker_set_up(cluster, -1);
	if (sscanf(line, "topic_error %255s %d", name, &a) == 2)
	{
		rd_kafka_mock_topic_set_error(cluster, name, a);
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	}
	if (sscanf(line, "version %d %d %d", &a, &b, &c) == 3)
		return rd_kafka_mock_set_apiversion(cluster, a, b, c);
	return RD_KAFKA_RESP_ERR__INVALID_ARG;
}

int
main(int argc, char **argv)
{
	char		error[512];
	char		line[512];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_mock_cluster_t *cluster;
	rd_kafka_t *handle;

	/* It says that it has no brokers itself. */
	rd_kafka_conf_set(conf, "log_level", "3", error, sizeof(error));
	handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof(error));
	if (argc != 2 || handle == NULL ||
		(cluster = rd_kafka_mock_cluster_new(handle, atoi(argv[1]))) == NULL)
	{
		fprintf(stderr, "usage: kafka_mock BROKERS\n");
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("brokers=%s\n", rd_kafka_mock_cluster_bootstraps(cluster));
	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		rd_kafka_resp_err_t code = obey(cluster, line);

		printf("%s\n", code == RD_KAFKA_RESP_ERR_NO_ERROR ? "ok" : rd_kafka_err2str(code));
	}
	rd_kafka_mock_cluster_destroy(cluster);
	rd_kafka_destroy(handle);
	return 0;
}
