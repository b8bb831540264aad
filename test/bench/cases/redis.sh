# shellcheck shell=bash
#
# The sink "redis" against a bare program: entries that Redis has acknowledged, with
# the same window.  Redis writes its log, and has the system bring it to the disk.

REDIS_MESSAGES=${REDIS_MESSAGES:-500000}
REDIS_BYTES=200
REDIS_WINDOW=1000

case_redis() {
	local lib
	lib=$INST$("$PG_CONFIG" --pkglibdir)/evstore_sink_redis.so
	if ! command -v redis-server >/dev/null || [[ ! -f $lib ]]; then
		progress 'case redis is skipped: it needs redis-server and the sink'
		return
	fi
	make_redis_clients
	start_redis
	REDIS_SINK=$lib compare redis "$REDIS_BYTES bytes, $REDIS_WINDOW in flight; a bare program's XADD" 0.7 redis_sink redis_bare
	kill "$REDIS_PID"
	wait "$REDIS_PID" || true
}

make_redis_clients() {
	gcc -O2 -Wall "$BENCH_DIR/redis_client.c" -o "$WORK/redis_client"
	gcc -O2 -std=gnu99 -D_GNU_SOURCE -I"$ROOT/src/include" -o "$WORK/sink_client" "$BENCH_DIR/sink_client.c" -ldl
}

# On a port that nobody uses: another one is tried if somebody does.
start_redis() {
	local dir=$WORK/redis
	mkdir -p "$dir"
	while true; do
		REDIS_PORT=$((20000 + RANDOM % 20000))
		redis-server --port "$REDIS_PORT" --bind 127.0.0.1 --dir "$dir" --save '' --appendonly yes --auto-aof-rewrite-percentage 0 --logfile "$dir/log" 9>&- &
		REDIS_PID=$!
		while kill -0 "$REDIS_PID" 2>/dev/null; do
			[[ $(redis-cli -p "$REDIS_PORT" info server 2>/dev/null) == *process_id:${REDIS_PID}[^0-9]* ]] && return
			sleep 0.05
		done
	done
}

# Nothing of the run before is in its way.
new_redis_stream() {
	redis-cli -p "$REDIS_PORT" flushall >/dev/null
	say "s$EPOCHSECONDS$RANDOM"
}

redis_bare() {
	"$WORK/redis_client" "$REDIS_PORT" "$(new_redis_stream)" "$REDIS_MESSAGES" "$REDIS_BYTES" "$REDIS_WINDOW"
}

redis_sink() {
	"$WORK/sink_client" "$REDIS_SINK" x "$REDIS_MESSAGES" "$REDIS_BYTES" "$REDIS_WINDOW" \
		"url=redis://127.0.0.1:$REDIS_PORT" "stream=$(new_redis_stream)"
}
