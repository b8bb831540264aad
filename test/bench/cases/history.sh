# shellcheck shell=bash
#
# Appending to a large store against appending to a small one, with buffers that
# hold only a part of the large one.  It has a server of its own, so it comes last.
#
# Settings from the environment:
#   BENCH_BIG    events in the large store (default: 5000000)
#   BENCH_FULL   1: 20000000 events

case_history() {
	local big=${BENCH_BIG:-5000000} small=100000
	[[ ${BENCH_FULL:-} != 1 ]] || big=${BENCH_BIG:-20000000}
	stop_server
	bench_server history "shared_buffers = 128MB"
	fact 'shared_buffers for this case' "$(sql -d postgres -c 'SHOW shared_buffers')"
	evstore_database small evstore.partition_size=1000000
	evstore_database big evstore.partition_size=1000000
	append_workloads
	history_load small "$small"
	history_load big "$big"
	sql -d postgres -c CHECKPOINT
	warm_up evstore_append 8 1 small
	warm_up evstore_append 8 1 big
	compare history "8 clients, $big stored, $small stored" 0.95 'rate evstore_append 8 1 big' 'rate evstore_append 8 1 small'
	compare history 'the same, asynchronous commit' - 'rate_async evstore_append 8 1 big' 'rate_async evstore_append 8 1 small'
	fact 'bytes of the large database' "$(sql -d big -c "SELECT pg_database_size('big')")"
}

# history_load DATABASE EVENTS: to all streams in turn, so each has events in each partition
history_load() {
	local left=$2 n start=$EPOCHREALTIME
	while ((left > 0)); do
		n=$((left / STREAMS < BATCH ? (left + STREAMS - 1) / STREAMS : BATCH))
		evstore_load "$1" 1 "$STREAMS" "$n"
		left=$((left - n * STREAMS))
	done
	fact "events a second while loading $2" "$(awk -v n="$2" -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.0f", n / (b - a) }')"
}
