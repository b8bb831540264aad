/*
 * nats_client.c
 *	  A connection to NATS, over the link that sinks share.
 *
 * The server greets with INFO, always in the clear.  If TLS is wanted, by us or by
 * the server, the handshake follows, and only then anything of ours is sent.
 */
#include <string.h>

#include "nats_client.h"

static void
on_opened(void *arg)
{
	EvsNatsClient *client = arg;

	if (client->link.tls != NULL)
		evs_nats_protocol_sign_in(client);
	else
	{
		client->greeting = true;
		client->lame = client->info_headers = client->info_tls = false;
	}
}

static void
on_input(void *arg)
{
	evs_nats_protocol_read(arg);
}

static void
on_silent(void *arg)
{
	EvsNatsClient *client = arg;

	evs_sink_add_string(&client->link.out, "PING\r\n");
}

static void
on_lost(void *arg, const char *why)
{
	EvsNatsClient *client = arg;

	client->events->lost(client->arg, why);
}

static const evs_sink_link_events link_events = {
	.opened = on_opened,
	.input = on_input,
	.silent = on_silent,
	.lost = on_lost
};

void
evs_nats_client_init(EvsNatsClient *client, const evs_sink_host *host, const EvsNatsConfig *config,
					 const EvsNatsEvents *events, void *arg)
{
	memset(client, 0, sizeof(*client));
	client->config = config;
	client->events = events;
	client->arg = arg;
	evs_sink_link_init(&client->link, host, &config->link, &link_events, client);
	client->link.late_tls = true;
}
