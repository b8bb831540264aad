# shellcheck shell=bash
#
# The sink "mqtt" against a bare program without a library: messages that mosquitto has
# acknowledged, with the same window.  Nobody has subscribed.

MQTT_MESSAGES=${MQTT_MESSAGES:-200000}
MQTT_BYTES=200
MQTT_WINDOW=1000

case_mqtt() {
	local lib
	lib=$INST$("$PG_CONFIG" --pkglibdir)/evstore_sink_mqtt.so
	if ! command -v mosquitto >/dev/null || [[ ! -f $lib ]]; then
		progress 'case mqtt is skipped: it needs mosquitto and the sink'
		return
	fi
	make_mqtt_clients
	start_mosquitto
	for MQTT_QOS in 1 2; do
		MQTT_SINK=$lib compare "mqtt_qos$MQTT_QOS" "$MQTT_BYTES bytes, QoS $MQTT_QOS, $MQTT_WINDOW in flight; a bare publisher" 0.7 \
			mqtt_sink mqtt_bare
	done
	kill "$MQTT_PID"
	wait "$MQTT_PID" || true
}

make_mqtt_clients() {
	gcc -O2 -Wall -o "$WORK/mqtt_client" "$BENCH_DIR/mqtt_client.c"
	gcc -O2 -std=gnu99 -I"$ROOT/src/include" -o "$WORK/sink_harness" "$ROOT"/test/tools/harness_*.c \
		"$ROOT/test/tools/sink_harness.c" -ldl
}

# Its default of 20 messages in flight would be all that is measured.
start_mosquitto() {
	local tries=0
	MQTT_PORT=$((20000 + RANDOM % 10000))
	printf '%s\n' "listener $MQTT_PORT 127.0.0.1" 'allow_anonymous true' 'max_inflight_messages 0' 'max_queued_messages 0' \
		'log_type error' >"$WORK/mosquitto.conf"
	mosquitto -c "$WORK/mosquitto.conf" >"$WORK/mosquitto.log" 2>&1 9>&- &
	MQTT_PID=$!
	until (exec 7<>"/dev/tcp/127.0.0.1/$MQTT_PORT") 2>/dev/null; do
		kill -0 "$MQTT_PID" 2>/dev/null && ((tries++ < 200)) || die 'mosquitto does not start'
		sleep 0.05
	done
}

mqtt_bare() { "$WORK/mqtt_client" "$MQTT_PORT" bench/x "$MQTT_MESSAGES" "$MQTT_BYTES" "$MQTT_WINDOW" "$MQTT_QOS"; }

mqtt_sink() {
	"$WORK/sink_harness" --bench --messages="$MQTT_MESSAGES" --size="$MQTT_BYTES" --in-flight="$MQTT_WINDOW" --format=raw \
		--headers=0 --topic=bench/x "$MQTT_SINK" "url=mqtt://127.0.0.1:$MQTT_PORT" "qos:=$MQTT_QOS" |
		sed -n 's/^messages_per_second=//p'
}
