# shellcheck shell=bash
#
# The sink "kafka" against a bare program with librdkafka: messages that have been
# acknowledged, with the same window.  librdkafka's mock cluster, in a process of its
# own, takes the place of the brokers.

KAFKA_MESSAGES=${KAFKA_MESSAGES:-500000}
KAFKA_BYTES=200
KAFKA_WINDOW=10000

case_kafka() {
	local lib
	lib=$INST$("$PG_CONFIG" --pkglibdir)/evstore_sink_kafka.so
	if [[ ! -f $lib ]] || ! make_kafka_clients; then
		progress 'case kafka is skipped: it needs librdkafka-dev and the sink'
		return
	fi
	start_kafka
	KAFKA_SINK=$lib compare kafka "$KAFKA_BYTES bytes, $KAFKA_WINDOW in flight; a bare idempotent producer" 0.7 kafka_sink kafka_bare
	exec 8>&-
	wait "$KAFKA_PID" || true
}

make_kafka_clients() {
	local program
	for program in bench/kafka_client tools/kafka_mock; do
		gcc -O2 -Wall -std=gnu99 "$ROOT/test/$program.c" -o "$WORK/${program#*/}" -lrdkafka 2>"$TMP/kafka.log" || return
	done
	gcc -O2 -std=gnu99 -D_GNU_SOURCE -I"$ROOT/src/include" -o "$WORK/sink_client" "$BENCH_DIR/sink_client.c" -ldl
}

# It ends with its standard input.
start_kafka() {
	mkfifo "$WORK/kafka.commands"
	"$WORK/kafka_mock" 1 <"$WORK/kafka.commands" >"$WORK/kafka.out" 9>&- &
	KAFKA_PID=$!
	exec 8>"$WORK/kafka.commands"
	until KAFKA_BROKERS=$(sed -n 's/^brokers=//p' "$WORK/kafka.out") && [[ -n $KAFKA_BROKERS ]]; do
		kill -0 "$KAFKA_PID" 2>/dev/null || die 'kafka_mock has ended'
		sleep 0.05
	done
}

# A new topic for each run, which is there before it begins.
new_kafka_topic() {
	local answers name=t$EPOCHSECONDS$RANDOM
	answers=$(wc -l <"$WORK/kafka.out")
	echo "topic $name 4" >&8
	until (($(wc -l <"$WORK/kafka.out") > answers)); do sleep 0.01; done
	say "$name"
}

kafka_bare() {
	"$WORK/kafka_client" "$KAFKA_BROKERS" "$(new_kafka_topic)" "$KAFKA_MESSAGES" "$KAFKA_BYTES" "$KAFKA_WINDOW"
}

kafka_sink() {
	"$WORK/sink_client" "$KAFKA_SINK" "$(new_kafka_topic)" "$KAFKA_MESSAGES" "$KAFKA_BYTES" "$KAFKA_WINDOW" \
		"brokers=$KAFKA_BROKERS"
}
