# shellcheck shell=bash
#
# What the benchmarks share; sourced, not run.  Parameters, the private server
# and the report on the machine.
#
# Settings from the environment:
#   BENCH_SECONDS  length of one run (default: 6)
#   BENCH_RUNS     runs of each side of a comparison (default: 5)
#   BENCH_CASES    names of the cases to run (default: all)

BENCH_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
. "$BENCH_DIR/../tools/lib.sh"
. "$BENCH_DIR/../tools/server.sh"
. "$BENCH_DIR/stats.sh"
. "$BENCH_DIR/workload.sh"

BENCH_SECONDS=${BENCH_SECONDS:-6}
BENCH_RUNS=${BENCH_RUNS:-5}
BENCH_CASES=${BENCH_CASES:-}

# wanted NAME: is the case to be run?
wanted() { [[ -z $BENCH_CASES || " $BENCH_CASES " == *" $1 "* ]]; }

CLIENTS=()

progress() { printf '# %s\n' "$*" >&2; }

sql() { psql -XqAt -v ON_ERROR_STOP=1 "$@"; }

# bench_init: a place to work, and an installation with evstore in it.
bench_init() {
	clear_pg_environment
	export PGOPTIONS='-c client_min_messages=warning'
	find_postgres
	claim_tmp bench
	make_work
	trap bench_finish EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	private_install release
	export PATH=$BINDIR:$PATH
	mkdir -p "$WORK/scripts"
	make_client
	stats_init
}

# client.c does what pgbench cannot.
make_client() {
	CLIENT=$WORK/client
	gcc -O2 -Wall -D_GNU_SOURCE -I"$("$PG_CONFIG" --includedir)" "$BENCH_DIR/client.c" -o "$CLIENT" \
		-L"$("$PG_CONFIG" --libdir)" -lpq
}

# start_client ARGUMENT...: one that goes on until stop_clients; returns when it is ready
start_client() {
	local out=$TMP/client.${#CLIENTS[@]}.out
	"$CLIENT" "$@" >"$out" 9>&- &
	CLIENTS+=("$!")
	until grep -q ready "$out"; do
		kill -0 "$!" 2>/dev/null || die "client $* has ended"
		sleep 0.05
	done
}

# What came to each of them is reported, so that one can see that they did wait.
stop_clients() {
	local i
	kill "${CLIENTS[@]}"
	for i in "${!CLIENTS[@]}"; do
		wait "${CLIENTS[i]}" || die "a client has failed"
		progress "to client $i: $(tail -n 1 "$TMP/client.$i.out")"
	done
	CLIENTS=()
}

bench_finish() {
	local job
	for job in $(jobs -p); do
		kill "$job" 2>/dev/null || true
	done
	stop_server
	[[ ! -d ${WORK:-} ]] || cp "$WORK"/*.log "$TMP/" 2>/dev/null || true
	remove_work
}

# bench_server NAME [SETTING...]: a fresh server with these settings besides the
# common ones.  Whoever had one before must have stopped it.
bench_server() {
	local name=$1
	shift
	EVS_CONF=$WORK/$name.conf
	{ bench_settings; printf '%s\n' "$@"; } >"$EVS_CONF"
	EVS_PRELOAD=${EVS_PRELOAD-evstore} EVS_FSYNC=on start_server "$name"
}

# Durable, and with nothing in the background that would hit one side only: a
# checkpoint or an autovacuum in the middle of a run of six seconds.
bench_settings() {
	cat <<-'END'
		shared_buffers = 1GB
		max_wal_size = 16GB
		checkpoint_timeout = 1h
		autovacuum = off
		synchronous_commit = on
		full_page_writes = on
		wal_compression = off
		jit = off
		max_locks_per_transaction = 1024
	END
}

SETTINGS_SHOWN=(server_version fsync synchronous_commit full_page_writes wal_sync_method shared_buffers max_wal_size
	checkpoint_timeout autovacuum max_locks_per_transaction shared_preload_libraries)

# Print what the figures depend on, and keep it for json_results.
print_machine() {
	local name
	MACHINE=$(json_machine)
	say "cores:    $(nproc)"
	say "memory:   $(awk '/^MemTotal/ { printf "%.1f GiB", $2 / 1048576 }' /proc/meminfo)"
	say "kernel:   $(uname -sr)"
	say "runs:     $BENCH_RUNS of $BENCH_SECONDS s for each side, alternating"
	for name in "${SETTINGS_SHOWN[@]}"; do
		say "$(printf '%-26s %s' "$name" "$(sql -c "SHOW $name")")"
	done
}

json_machine() {
	local name
	printf '{"cores": %s, "memory_bytes": %s, "kernel": "%s"' "$(nproc)" \
		"$(awk '/^MemTotal/ { printf "%.0f", $2 * 1024 }' /proc/meminfo)" "$(uname -sr)"
	printf ', "seconds": %s, "runs": %s' "$BENCH_SECONDS" "$BENCH_RUNS"
	for name in "${SETTINGS_SHOWN[@]}"; do
		printf ', "%s": "%s"' "$name" "$(sql -c "SHOW $name")"
	done
	printf '}'
}
