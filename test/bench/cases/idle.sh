# shellcheck shell=bash
#
# What waiting costs when nothing happens: the processor time of all of the server's
# processes.  It has a server of its own, without the dispatchers of other cases.

IDLE_SESSIONS=20
IDLE_SECONDS=10

case_idle() {
	local i used=() ratios=()
	stop_server
	bench_server idle
	evstore_database idle
	evstore_load idle 1 100 10
	sql -d idle -o /dev/null -c "SELECT evstore.create_subscription('idle_' || i, start => 'end') FROM generate_series(1, $IDLE_SESSIONS) i"
	start_client wait idle $(seq -f 'idle_%.0f' "$IDLE_SESSIONS")
	# what was just appended has been looked at by now
	sleep 2
	for ((i = 0; i < (BENCH_RUNS < 3 ? BENCH_RUNS : 3); i++)); do
		used[i]=$(server_milliseconds "$IDLE_SECONDS")
		ratios[i]=$(quotient "${used[i]}" $((IDLE_SECONDS * 1000)))
	done
	stop_clients
	record idle "$IDLE_SESSIONS waiting fetches: ms of processor, ms passed" '<=0.01' \
		"$(median "${used[@]}")" $((IDLE_SECONDS * 1000)) "${ratios[@]}"
}

# server_milliseconds SECONDS: what the server's processes use in this time.  None of
# them begins or ends meanwhile.
server_milliseconds() {
	local before
	before=$(server_nanoseconds)
	sleep "$1"
	awk -v a="$before" -v b="$(server_nanoseconds)" 'BEGIN { print (b - a) / 1e6 }'
}

server_nanoseconds() {
	local postmaster
	postmaster=$(head -n 1 "$SERVER_DATA/postmaster.pid")
	for pid in "$postmaster" $(cat "/proc/$postmaster/task/$postmaster/children"); do
		cat "/proc/$pid/schedstat"
	done | awk '{ sum += $1 } END { printf "%.0f\n", sum }'
}
