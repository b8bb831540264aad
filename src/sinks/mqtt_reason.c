/*
 * mqtt_reason.c
 *	  Reason codes of MQTT 5, return codes of 3.1.1, and what they mean for a relay.
 */
#include "mqtt_packet.h"

static const struct
{
	int			code;
	const char *name;
	evs_sink_class of_message;
	evs_sink_class of_connection;
}			reasons[] =
{
	{0x00, "normal disconnection", EVS_SINK_OK, EVS_SINK_RETRY_SINK},
	{0x10, "no matching subscribers", EVS_SINK_OK, EVS_SINK_RETRY_SINK},
	{0x80, "unspecified error", EVS_SINK_RETRY, EVS_SINK_RETRY_SINK},
	{0x81, "malformed packet", EVS_SINK_RETRY, EVS_SINK_RETRY},
	{0x82, "protocol error", EVS_SINK_RETRY, EVS_SINK_RETRY},
	{0x83, "implementation specific error", EVS_SINK_RETRY, EVS_SINK_RETRY_SINK},
	{0x84, "unsupported protocol version", EVS_SINK_RETRY, EVS_SINK_FATAL},
	{0x85, "client identifier not valid", EVS_SINK_RETRY, EVS_SINK_FATAL},
	{0x86, "bad user name or password", EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{0x87, "not authorized", EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{0x88, "server unavailable", EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{0x89, "server busy", EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{0x8A, "banned", EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{0x8B, "server shutting down", EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{0x8C, "bad authentication method", EVS_SINK_RETRY, EVS_SINK_RETRY_SINK},
	{0x8D, "keep alive timeout", EVS_SINK_RETRY, EVS_SINK_RETRY_SINK},
	{0x8E, "session taken over", EVS_SINK_RETRY, EVS_SINK_FATAL},
	{0x90, "topic name invalid", EVS_SINK_PERMANENT, EVS_SINK_PERMANENT},
	{0x91, "packet identifier in use", EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{0x92, "packet identifier not found", EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{0x93, "receive maximum exceeded", EVS_SINK_RETRY, EVS_SINK_RETRY_SINK},
	{0x94, "topic alias invalid", EVS_SINK_RETRY, EVS_SINK_RETRY_SINK},
	{0x95, "packet too large", EVS_SINK_PERMANENT, EVS_SINK_PERMANENT},
	{0x96, "message rate too high", EVS_SINK_RETRY, EVS_SINK_RETRY_SINK},
	{0x97, "quota exceeded", EVS_SINK_RETRY, EVS_SINK_RETRY_SINK},
	{0x98, "administrative action", EVS_SINK_RETRY, EVS_SINK_RETRY_SINK},
	{0x99, "payload format invalid", EVS_SINK_PERMANENT, EVS_SINK_PERMANENT},
	{0x9A, "retain not supported", EVS_SINK_RETRY, EVS_SINK_FATAL},
	{0x9B, "QoS not supported", EVS_SINK_RETRY, EVS_SINK_FATAL},
	{0x9C, "use another server", EVS_SINK_RETRY, EVS_SINK_RETRY_SINK},
	{0x9D, "server moved", EVS_SINK_RETRY, EVS_SINK_FATAL},
	{0x9F, "connection rate exceeded", EVS_SINK_RETRY, EVS_SINK_RETRY_SINK}
};

/* Of CONNACK in 3.1.1. */
static const char *const return_codes[] = {
	"connection accepted", "unacceptable protocol version", "client identifier rejected",
	"server unavailable", "bad user name or password", "not authorized"
};

#define lengthof(array) ((int) (sizeof(array) / sizeof((array)[0])))

static int
find_reason(int code)
{
	for (int i = 0; i < lengthof(reasons); i++)
		if (reasons[i].code == code)
			return i;
	return -1;
}

const char *
evs_mqtt_reason_name(int version, int code)
{
	int			i = find_reason(code);

	if (version == EVS_MQTT_VERSION_3_1_1)
		return code < lengthof(return_codes) ? return_codes[code] : "unknown return code";
	return i >= 0 ? reasons[i].name : "unknown reason code";
}

evs_sink_class
evs_mqtt_reason_of_message(int code)
{
	int			i = find_reason(code);

	if (i >= 0)
		return reasons[i].of_message;
	return code < 0x80 ? EVS_SINK_OK : EVS_SINK_RETRY;
}

evs_sink_class
evs_mqtt_reason_of_connection(int version, int code)
{
	int			i = find_reason(code);

	if (version == EVS_MQTT_VERSION_3_1_1)
		return code == 1 || code == 2 ? EVS_SINK_FATAL : EVS_SINK_RETRY_SINK;
	return i >= 0 ? reasons[i].of_connection : EVS_SINK_RETRY_SINK;
}
