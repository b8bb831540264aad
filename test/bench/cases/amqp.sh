# shellcheck shell=bash
#
# The sink "amqp" against a bare program that sends the same bytes: messages that
# RabbitMQ has confirmed, persistent ones in a durable queue, with the same window.

AMQP_MESSAGES=${AMQP_MESSAGES:-100000}
AMQP_BYTES=200
AMQP_WINDOW=1000
# what sink_harness puts around the filling
AMQP_AROUND=52

case_amqp() {
	local lib
	lib=$INST$("$PG_CONFIG" --pkglibdir)/evstore_sink_amqp.so
	if [[ ! -x /usr/lib/rabbitmq/bin/rabbitmq-server || ! -f $lib ]]; then
		progress 'case amqp is skipped: it needs rabbitmq-server and the sink'
		return
	fi
	make_amqp_clients
	start_rabbitmq
	AMQP_SINK=$lib compare amqp "$AMQP_BYTES bytes, $AMQP_WINDOW in flight; a bare publisher" 0.7 amqp_sink amqp_bare
	kill -KILL "$RABBITMQ_PID" "$EPMD_PID"
	wait "$RABBITMQ_PID" "$EPMD_PID" 2>/dev/null || true
}

make_amqp_clients() {
	gcc -O2 -std=gnu99 -o "$WORK/amqp_client" "$BENCH_DIR/amqp_client.c"
	gcc -O2 -std=gnu99 -I"$ROOT/src/include" -o "$WORK/sink_harness" "$ROOT"/test/tools/harness_*.c \
		"$ROOT/test/tools/sink_harness.c" -ldl
}

# Takes the place of the shell that it is called in, so that its process is the program's.
exec_as_server_user() {
	exec 9>&- </dev/null
	((EUID != 0)) || exec setpriv --reuid="$(id -u "$SERVER_USER")" --regid="$(id -g "$SERVER_USER")" --init-groups "$@"
	exec "$@"
}

start_rabbitmq() {
	local dir=$WORK/rabbitmq ports
	read -ra ports < <(perl -MIO::Socket::INET -e '@s = map { IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1) } 1 .. 3;
		print join(" ", map { $_->sockport } @s), "\n"')
	AMQP_PORT=${ports[2]}
	mkdir "$dir"
	printf '%s\n' "listeners.tcp.default = 127.0.0.1:$AMQP_PORT" 'disk_free_limit.absolute = 1MB' >"$dir/rabbitmq.conf"
	cp "$ROOT/test/tools/rabbitmq.sh" "$dir"
	own_by_server_user "$dir"
	exec_as_server_user epmd -port "${ports[0]}" -address 127.0.0.1 >/dev/null 2>&1 &
	EPMD_PID=$!
	until (: <>"/dev/tcp/127.0.0.1/${ports[0]}") 2>/dev/null; do
		kill -0 "$EPMD_PID" 2>/dev/null || die 'epmd has ended'
		sleep 0.05
	done
	exec_as_server_user "$dir/rabbitmq.sh" "$dir" "${ports[0]}" "${ports[1]}" >"$WORK/rabbitmq.log" 2>&1 &
	RABBITMQ_PID=$!
	until "$WORK/amqp_client" "$AMQP_PORT" bench 0 0 0 2>/dev/null; do
		kill -0 "$RABBITMQ_PID" 2>/dev/null || die 'rabbitmq-server has ended'
		sleep 0.05
	done
}

amqp_bare() {
	"$WORK/amqp_client" "$AMQP_PORT" bench "$AMQP_MESSAGES" $((AMQP_BYTES + AMQP_AROUND)) "$AMQP_WINDOW"
}

# The queue is made anew for each run.
amqp_sink() {
	"$WORK/amqp_client" "$AMQP_PORT" bench 0 0 0
	"$WORK/sink_harness" --bench --messages="$AMQP_MESSAGES" --size="$AMQP_BYTES" --in-flight="$AMQP_WINDOW" --format=raw \
		--headers=0 --topic=bench --secret=pw=guest "$AMQP_SINK" "url=amqp://127.0.0.1:$AMQP_PORT" exchange= user=guest password@=pw |
		sed -n 's/^messages_per_second=//p'
}
