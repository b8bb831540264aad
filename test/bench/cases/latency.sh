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
	rm -f "$TMP"/*.times
	for ((i = 0; i < BENCH_RUNS; i++)); do
		for way in plain fetch fetch_durable notify_1ms notify; do
			"latency_$way" >"$TMP/$way.$i.times"
		done
	done
	compare_times latency fetch plain 'fetch that waits, plain NOTIFY' '<=1.5'
	compare_times latency fetch_durable plain 'the same, acks wait for the disk as well' -
	compare_times latency notify_1ms plain "NOTIFY with notify_interval 1 ms, plain" '<=1.5'
	compare_times latency notify plain "NOTIFY with the default of 10 ms, plain" -
}

latency_plain() { "$CLIENT" latency latency plain "$LATENCY_RATE" "$BENCH_SECONDS"; }
latency_fetch() { "$CLIENT" latency latency fetch "$LATENCY_RATE" "$BENCH_SECONDS"; }
latency_fetch_durable() { "$CLIENT" latency latency fetch_durable "$LATENCY_RATE" "$BENCH_SECONDS"; }
latency_notify() { "$CLIENT" latency latency notify "$LATENCY_RATE" "$BENCH_SECONDS"; }
latency_notify_1ms() { "$CLIENT" latency latency_1ms notify "$LATENCY_RATE" "$BENCH_SECONDS"; }
