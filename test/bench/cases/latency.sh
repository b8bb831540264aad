# shellcheck shell=bash
#
# From sending COMMIT to the event's arrival in another session, against INSERT and
# pg_notify() received by LISTEN.  The dispatcher sends one NOTIFY in
# evstore.notify_interval: at the default, events of the same 10 ms share one, so
# what it does itself is seen with the interval at 1 ms.
#
# A listener acknowledges nothing, a consumer does.  For as many flushes on both
# sides its acknowledgements do not wait for the disk; those that do are in the way of
# the appends' commits there, which is a line of its own.

LATENCY_RATE=500

case_latency() {
	evstore_database latency
	evstore_database latency_1ms evstore.notify_interval=1
	# the dispatcher that CREATE EXTENSION started may have been first
	sql -d latency_1ms -o /dev/null -c 'SELECT evstore.stop()' -c 'SELECT evstore.start()'
	sql -d latency -o /dev/null -c "SELECT evstore.create_subscription('latency')" -c 'CREATE SCHEMA plain' \
		-c 'CREATE TABLE plain.message (id bigserial PRIMARY KEY, type text, data jsonb)'
	compare_latencies
}

# A figure is lost to noise easily, so all ways take turns, and NOTIFY is one of them.
compare_latencies() {
	local i way
	local -A p50=() p99=()
	for ((i = 0; i < BENCH_RUNS; i++)); do
		for way in plain fetch fetch_durable notify_1ms notify; do
			read -r p50[$way.$i] p99[$way.$i] < <(latency_"$way")
		done
	done
	record_latency fetch 'fetch that waits, plain NOTIFY' '<=1.5'
	record_latency fetch_durable 'the same, acks wait for the disk as well' -
	record_latency notify_1ms "NOTIFY with notify_interval 1 ms, plain" '<=1.5'
	record_latency notify "NOTIFY with the default of 10 ms, plain" -
}

latency_plain() { "$CLIENT" latency latency plain "$LATENCY_RATE" "$BENCH_SECONDS"; }
latency_fetch() { "$CLIENT" latency latency fetch "$LATENCY_RATE" "$BENCH_SECONDS"; }
latency_fetch_durable() { "$CLIENT" latency latency fetch_durable "$LATENCY_RATE" "$BENCH_SECONDS"; }
latency_notify() { "$CLIENT" latency latency notify "$LATENCY_RATE" "$BENCH_SECONDS"; }
latency_notify_1ms() { "$CLIENT" latency latency_1ms notify "$LATENCY_RATE" "$BENCH_SECONDS"; }

# record_latency WAY TEXT TARGET, from p50 and p99 of the caller
record_latency() {
	local way=$1 figure i ours=() plain=() ratios=()
	for figure in p50 p99; do
		local -n values=$figure
		for ((i = 0; i < BENCH_RUNS; i++)); do
			ours[i]=${values[$way.$i]}
			plain[i]=${values[plain.$i]}
			ratios[i]=$(quotient "${ours[i]}" "${plain[i]}")
		done
		record latency "$2: $figure, us" "$3" "$(median "${ours[@]}")" "$(median "${plain[@]}")" "${ratios[@]}"
	done
}
