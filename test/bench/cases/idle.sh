# shellcheck shell=bash
#
# What waiting costs when nothing happens: the processor time of all of the server's
# processes, and what the same server uses without evstore's.  It has a server of
# its own, without the dispatchers of other cases.

IDLE_SESSIONS=20
IDLE_SECONDS=10

case_idle() {
	stop_server
	bench_server idle
	evstore_database idle
	evstore_load idle 1 100 10
	sql -d idle -o /dev/null -c "SELECT evstore.create_subscription('idle_' || i, start => 'end') FROM generate_series(1, $IDLE_SESSIONS) i"
	start_client wait idle $(seq -f 'idle_%.0f' "$IDLE_SESSIONS")
	# what was just appended has been looked at by now
	sleep 2
	record_idle idle "$IDLE_SESSIONS waiting fetches: ms of processor, ms passed" '<=0.01'
	stop_clients
	sql -d idle -o /dev/null -c 'SELECT evstore.stop()'
	start_client listen idle bench "$IDLE_SESSIONS"
	record_idle idle "$IDLE_SESSIONS sessions that do nothing, no dispatcher" -
	stop_clients
}

# record_idle CASE TEXT TARGET
record_idle() {
	local i used=() ratios=()
	for ((i = 0; i < (BENCH_RUNS < 3 ? BENCH_RUNS : 3); i++)); do
		used[i]=$(server_milliseconds "$IDLE_SECONDS")
		ratios[i]=$(quotient "${used[i]}" $((IDLE_SECONDS * 1000)))
	done
	record "$1" "$2" "$3" "$(median "${used[@]}")" $((IDLE_SECONDS * 1000)) "${ratios[@]}"
}

# server_milliseconds SECONDS: what the server's processes use in this time
server_milliseconds() {
	server_nanoseconds >"$TMP/before"
	sleep "$1"
	server_nanoseconds >"$TMP/after"
	# NR == FNR: the first file; what has begun meanwhile counts as a whole
	awk 'NR == FNR { before[$1] = $2; next }
		{
			used = ($2 - before[$1]) / 1e6
			sum += used
			if (used > most) { most = used; $1 = $2 = ""; who = $0 }
		}
		END {
			printf "# most of it:%s, %.1f ms\n", who, most >"/dev/stderr"
			printf "%.1f\n", sum
		}' "$TMP/before" "$TMP/after"
}

# Process, nanoseconds and title of each.
server_nanoseconds() {
	local postmaster pid
	postmaster=$(head -n 1 "$SERVER_DATA/postmaster.pid")
	for pid in "$postmaster" $(cat "/proc/$postmaster/task/$postmaster/children"); do
		printf '%s %s %s\n' "$pid" "$(cut -d ' ' -f 1 "/proc/$pid/schedstat")" "$(tr '\0' ' ' <"/proc/$pid/cmdline")"
	done
}
