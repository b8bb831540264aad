# shellcheck shell=bash
#
# The sink "nats" against a bare program with the client library: messages that
# JetStream has acknowledged, with the same window.

NATS_MESSAGES=${NATS_MESSAGES:-200000}
NATS_BYTES=200
NATS_WINDOW=1000

case_nats() {
	local lib
	lib=$INST$("$PG_CONFIG" --pkglibdir)/evstore_sink_nats.so
	if ! command -v nats-server >/dev/null || [[ ! -f $lib ]] || ! make_nats_clients; then
		progress 'case nats is skipped: it needs nats-server, libnats-dev and the sink'
		return
	fi
	start_nats
	NATS_SINK=$lib compare nats "$NATS_BYTES bytes, $NATS_WINDOW in flight; a bare publisher" 0.7 nats_sink nats_bare
	kill "$NATS_PID"
	wait "$NATS_PID" || true
}

make_nats_clients() {
	gcc -O2 -Wall "$BENCH_DIR/nats_client.c" -o "$WORK/nats_client" -lnats 2>"$TMP/nats_client.log" &&
		gcc -O2 -std=gnu99 -I"$ROOT/src/include" -o "$WORK/sink_harness" "$ROOT"/test/tools/harness_*.c \
			"$ROOT/test/tools/sink_harness.c" -ldl
}

start_nats() {
	nats-server -a 127.0.0.1 -p -1 -js -sd "$WORK/nats" --ports_file_dir "$WORK" -l "$WORK/nats.log" 9>&- &
	NATS_PID=$!
	until NATS_URL=$(grep -o 'nats://[0-9.:]*' "$WORK"/*.ports 2>/dev/null | head -n 1) && [[ -n $NATS_URL ]]; do
		kill -0 "$NATS_PID" 2>/dev/null || die 'nats-server has ended'
		sleep 0.05
	done
	NATS_URL=nats://${NATS_URL#*//}
}

# A new stream for each run.  The reply is not awaited by itself: PONG comes after it.
new_nats_stream() {
	local host=${NATS_URL#nats://} body line name=S$EPOCHSECONDS$RANDOM
	body="{\"name\":\"$name\",\"subjects\":[\"$name.>\"],\"retention\":\"limits\",\"discard\":\"old\",\"storage\":\"file\"}"
	exec 7<>"/dev/tcp/${host%:*}/${host#*:}"
	read -r line <&7
	printf 'CONNECT {"verbose":false}\r\nSUB r 1\r\nPUB $JS.API.STREAM.CREATE.%s r %d\r\n%s\r\n' "$name" "${#body}" "$body" >&7
	until [[ $line == MSG* ]]; do read -r line <&7; done
	read -r line <&7
	exec 7>&-
	[[ $line == *'"config"'* ]] || die "no stream: $line"
	say "$name"
}

nats_bare() {
	"$WORK/nats_client" "$NATS_URL" "$(new_nats_stream).x" "$NATS_MESSAGES" "$NATS_BYTES" "$NATS_WINDOW"
}

nats_sink() {
	"$WORK/sink_harness" --bench --messages="$NATS_MESSAGES" --size="$NATS_BYTES" --in-flight="$NATS_WINDOW" --format=raw \
		--headers=0 --topic="$(new_nats_stream).x" "$NATS_SINK" "url=$NATS_URL" | sed -n 's/^messages_per_second=//p'
}
