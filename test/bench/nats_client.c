/*
 * nats_client.c
 *	  What a bare program does with the NATS client library: publish to JetStream
 *	  without waiting, as the sink "nats" is compared with.
 *
 *	nats_client URL SUBJECT MESSAGES BYTES WINDOW
 *
 * At most WINDOW messages wait for their acknowledgement.  Each has an id of its
 * own.  Prints messages a second, from the first publication to the last
 * acknowledgement.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <nats/nats.h>

static void
check(natsStatus status, const char *what)
{
	if (status == NATS_OK)
		return;
	fprintf(stderr, "nats_client: %s: %s\n", what, natsStatus_GetText(status));
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
on_error(jsCtx *js, jsPubAckErr *error, void *closure)
{
	fprintf(stderr, "nats_client: not acknowledged: %s\n", error->ErrText);
	exit(1);
}

static void
publish(jsCtx *js, const char *subject, const char *data, int bytes, long messages)
{
	jsPubOptions options;
	char		id[64];
	uint64_t	run = (uint64_t) time(NULL);

	jsPubOptions_Init(&options);
	options.MaxWait = 60000;
	options.MsgId = id;
	for (long i = 0; i < messages; i++)
	{
		snprintf(id, sizeof(id), "%08" PRIx64 "-0000-7000-8000-%012lx", run, i);
		check(js_PublishAsync(js, subject, data, bytes, &options), "publish");
	}
	check(js_PublishAsyncComplete(js, &options), "acknowledgements");
}

int
main(int argc, char **argv)
{
	natsConnection *connection;
	jsOptions	options;
	jsCtx	   *js;
	char	   *data;
	long		messages;
	int			bytes;
	double		start;

	if (argc != 6)
	{
		fprintf(stderr, "usage: nats_client URL SUBJECT MESSAGES BYTES WINDOW\n");
		return 2;
	}
	messages = atol(argv[3]);
	bytes = atoi(argv[4]);
	data = malloc(bytes + 1);
	if (data == NULL || messages <= 0 || bytes < 0)
		return 2;
	memset(data, 'x', bytes);
	check(jsOptions_Init(&options), "options");
	options.PublishAsync.MaxPending = atol(argv[5]);
	options.PublishAsync.StallWait = 60000;
	options.PublishAsync.ErrHandler = on_error;
	check(natsConnection_ConnectTo(&connection, argv[1]), "connect");
	check(natsConnection_JetStream(&js, connection, &options), "JetStream");
	start = seconds();
	publish(js, argv[2], data, bytes, messages);
	printf("%.0f\n", messages / (seconds() - start));
	jsCtx_Destroy(js);
	natsConnection_Destroy(connection);
	nats_Close();
	free(data);
	return 0;
}
