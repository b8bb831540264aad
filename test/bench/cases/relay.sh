# shellcheck shell=bash
#
# Relays: each sink against what does the same with nothing else; what they cost the
# appends; and how soon an event has arrived.

# enough for seconds: beginning and end of a run, with connections and the last record, are no throughput
RELAYED_STREAMS=30000
RELAYED_EVENTS=$((RELAYED_STREAMS * 10))
RELAY_IN_FLIGHT=64
RELAY_NATS_WINDOW=1000
RELAY_RATE=500

case_relay() {
	prepare_relays
	case_relay_file
	case_relay_http
	case_relay_nats
	case_relay_cost
	case_relay_latency
}

# relay_database NAME: one from which relays may connect to this machine
relay_database() {
	evstore_database "$1"
	sql -d "$1" -o /dev/null -c "ALTER DATABASE $1 SET evstore.egress_allow = '127.0.0.1'"
	# the dispatcher that CREATE EXTENSION started may have been first
	sql -d "$1" -o /dev/null -c 'SELECT evstore.stop()' -c 'SELECT evstore.start()'
	# SQL that polls sees the table itself, as the view counts what is behind
	sql -d "$1" <<-'SQL'
		CREATE FUNCTION checkpoint(relay text) RETURNS bigint LANGUAGE sql AS $$
			SELECT t.checkpoint FROM evstore.slot_state t JOIN evstore.subscription s ON s.id = t.subscription_id
			WHERE s.name = relay ORDER BY t.seq DESC LIMIT 1
		$$;
		CREATE PROCEDURE wait_for_relay(relay text) LANGUAGE plpgsql AS $$
		DECLARE
			last bigint := evstore.safe_position();
			ends timestamptz := clock_timestamp() + interval '5 minutes';
		BEGIN
			WHILE checkpoint(relay) < last LOOP
				IF clock_timestamp() > ends THEN
					RAISE 'relay % has not come to the end', relay;
				END IF;
				PERFORM pg_sleep(0.05);
				-- no snapshot that keeps what the relay has written before
				COMMIT;
			END LOOP;
		END $$;
	SQL
}

prepare_relays() {
	relay_database relay
	evstore_load relay 1 "$RELAYED_STREAMS" 10
	sql -d relay -o /dev/null -c 'VACUUM ANALYZE'
	# the text of an event, as one would write it who has no relay
	sql -d relay <<-'SQL'
		CREATE FUNCTION public.rfc3339(t timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
			SELECT to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
		$$;
		CREATE VIEW public.as_json AS
		SELECT json_build_object('specversion', '1.0', 'id', event_id, 'source', '/evstore/relay/account', 'type', type,
			'subject', stream, 'time', public.rfc3339(recorded_at), 'datacontenttype', 'application/json',
			'sequence', lpad("position"::text, 20, '0'), 'streamversion', version, 'schemaversion', schema_version,
			'partitionkey', stream, 'hops', 1, 'data', data) AS line
		FROM evstore.events ORDER BY "position";
	SQL
}

# add_relay NAME SINK CONFIG OPTIONS [FILTER]: at the end of the log, and paused
add_relay() {
	local filter=${5:-}
	sql -d "${RELAY_DATABASE:-relay}" -o /dev/null -v name="$1" -v sink="$2" -v config="$3" -v options="$4" -v filter="${filter:-"{}"}" <<-'SQL'
		SELECT evstore.create_relay(:'name', :'sink', :'config', :'filter', 'end', :'options');
		SELECT evstore.pause_relay(:'name');
	SQL
}

# relayed NAME: messages a second when it sends all events
relayed() {
	local seconds
	sql -d relay -o /dev/null -c "SELECT evstore.resume_relay('$1')"
	until [[ $(sql -d relay -c "SELECT pid IS NOT NULL FROM evstore.relays WHERE relay = '$1'") == t ]]; do
		sleep 0.05
	done
	seconds=$(relay_seconds "SELECT evstore.seek_relay('$1', 'beginning')" "CALL wait_for_relay('$1')")
	sql -d relay -o /dev/null -c "SELECT evstore.pause_relay('$1')"
	until [[ $(sql -d relay -c "SELECT pid IS NULL FROM evstore.relays WHERE relay = '$1'") == t ]]; do
		sleep 0.05
	done
	check_relay "$1"
	quotient "$RELAYED_EVENTS" "$seconds"
}

# relay_seconds STATEMENT...: how long they take; \! is a command of the shell
relay_seconds() {
	local seconds statement
	seconds=$({
		printf '%s\n' 'SELECT clock_timestamp() AS begun \gset'
		for statement; do
			[[ $statement == \\* ]] || statement+=';'
			printf '%s\n' "$statement"
		done
		printf '%s\n' "SELECT 'took ' || extract(epoch FROM clock_timestamp() - :'begun'::timestamptz);"
	} | sql -d relay | sed -n 's/^took //p')
	[[ -n $seconds ]] || die "one of these has failed: $*"
	printf '%s\n' "$seconds"
}

check_relay() {
	local parked
	parked=$(sql -d relay -c "SELECT parked + retrying + waiting FROM evstore.relays WHERE relay = '$1'")
	[[ $parked == 0 ]] || die "$parked events of relay $1 have failed"
}

# --- file ---

case_relay_file() {
	add_relay lazy file '{"path": "lazy.ndjson", "fsync": false}' '{"batch_size": 1000, "in_flight": 1000}'
	add_relay synced file '{"path": "synced.ndjson"}' '{"batch_size": 1000, "in_flight": 1000}'
	compare relay 'file, batches of 1,000, no fsync; COPY TO' 0.5 'relayed_to_file lazy' copied
	compare relay 'the same with an fsync each; COPY TO, then one sync' 0.5 'relayed_to_file synced' copied_and_synced
}

relayed_to_file() {
	local file=$SERVER_DATA/evstore_relay/$1.ndjson
	relayed "$1"
	check_lines "$file"
	rm -f "$file" "$file.state"
}

copied() { copied_by "$SERVER_DATA/copied.ndjson"; }

copied_and_synced() { copied_by "$SERVER_DATA/copied.ndjson" "\\! sync '$SERVER_DATA/copied.ndjson'"; }

# copied_by FILE [STATEMENT]
copied_by() {
	local seconds
	seconds=$(relay_seconds "COPY (SELECT line FROM public.as_json) TO '$1'" "${@:2}")
	check_lines "$1"
	rm -f "$1"
	quotient "$RELAYED_EVENTS" "$seconds"
}

check_lines() {
	local lines
	lines=$(wc -l <"$1")
	[[ $lines == "$RELAYED_EVENTS" ]] || die "$1 has $lines lines"
}

# --- http ---

case_relay_http() {
	if [[ ! -f $INST$("$PG_CONFIG" --pkglibdir)/evstore_sink_http.so ]] || ! make_http_tools; then
		progress 'relay, http: skipped, it needs the sink and libcurl'
		return
	fi
	start_http_server
	add_relay http http "{\"url\": \"http://127.0.0.1:$HTTP_PORT/\"}" "{\"key\": \"none\", \"in_flight\": $RELAY_IN_FLIGHT}"
	# the size of a message, from a first run
	relayed http >/dev/null
	RELAY_BYTES=$(sql -d relay -c "SELECT bytes / sent FROM evstore.relays WHERE relay = 'http'")
	compare relay "http, $RELAY_IN_FLIGHT in flight, $RELAY_BYTES bytes; bare libcurl" 0.7 'relayed http' posted
	stop_http_server
}

make_http_tools() {
	gcc -O2 -Wall -std=gnu99 "$BENCH_DIR/http_server.c" -o "$WORK/http_server" &&
		gcc -O2 -Wall -std=gnu99 "$BENCH_DIR/http_client.c" -o "$WORK/http_client" -lcurl
}

start_http_server() {
	coproc HTTP_SERVER { "$WORK/http_server" 9>&-; }
	read -r HTTP_PORT <&"${HTTP_SERVER[0]}"
	HTTP_PORT=${HTTP_PORT#port=}
}

stop_http_server() {
	local pid=$HTTP_SERVER_PID in=${HTTP_SERVER[1]}
	exec {in}>&-
	wait "$pid"
}

posted() {
	"$WORK/http_client" "http://127.0.0.1:$HTTP_PORT/" "$RELAYED_EVENTS" "$RELAY_IN_FLIGHT" "$RELAY_BYTES" |
		sed -n 's/^requests_per_second=//p'
}

# --- nats: see nats.sh ---

case_relay_nats() {
	if ! command -v nats-server >/dev/null || [[ ! -f $INST$("$PG_CONFIG" --pkglibdir)/evstore_sink_nats.so ]] ||
		! make_nats_clients; then
		progress 'relay, nats: skipped, it needs nats-server, libnats-dev and the sink'
		return
	fi
	start_nats
	add_relay nats nats "{\"url\": \"$NATS_URL\"}" "{\"key\": \"none\", \"in_flight\": $RELAY_NATS_WINDOW, \"topic\": \"x\"}"
	relayed_to_nats >/dev/null
	RELAY_BYTES=$(sql -d relay -c "SELECT bytes / sent FROM evstore.relays WHERE relay = 'nats'")
	compare relay "nats, $RELAY_NATS_WINDOW in flight, $RELAY_BYTES bytes; bare publisher" 0.7 relayed_to_nats published
	kill "$NATS_PID"
	wait "$NATS_PID" || true
}

relayed_to_nats() {
	sql -d relay -o /dev/null -c "SELECT evstore.alter_relay('nats', options => '{\"topic\": \"$(new_nats_stream).x\"}')"
	relayed nats
}

published() {
	"$WORK/nats_client" "$NATS_URL" "$(new_nats_stream).x" "$RELAYED_EVENTS" "$RELAY_BYTES" "$RELAY_NATS_WINDOW"
}

# --- what they cost the appends ---

case_relay_cost() {
	RELAY_DATABASE=relaying
	relay_database relaying
	evstore_load relaying 1 "$STREAMS" 1
	append_workloads
	make_http_tools || return 0
	start_http_server
	add_relay all file '{"path": "all.ndjson"}' '{"batch_size": 1000, "in_flight": 1000, "batch_wait": 0.05}'
	add_relay some file '{"path": "some.ndjson"}' '{"batch_size": 1000, "in_flight": 1000, "batch_wait": 0.05}' '{"jsonpath": "$.amount ? (@ > 4500)"}'
	add_relay hook http "{\"url\": \"http://127.0.0.1:$HTTP_PORT/\"}" \
		"{\"format\": \"cloudevents-batch\", \"batch_size\": 100, \"in_flight\": 1000, \"batch_wait\": 0.05}"
	warm_up evstore_append 32 1 relaying
	: >"$TMP/relay.lag"
	compare relay '32 clients append, three relays that gather for 50 ms; none' 0.85 append_relayed append_unrelayed
	record_relay_lag
	# each request costs about as much as an append
	sql -d relaying -o /dev/null -c "SELECT evstore.alter_relay('hook',
		options => '{\"format\": \"cloudevents\", \"batch_wait\": 0, \"batch_size\": 1, \"in_flight\": $RELAY_IN_FLIGHT}')"
	compare relay 'the same, but the web hook gets each event by itself; none' - append_relayed append_unrelayed
	stop_http_server
	unset RELAY_DATABASE
}

append_relayed() {
	local rate
	sql -d relaying -o /dev/null -c "SELECT evstore.seek_relay(relay, 'end'), evstore.resume_relay(relay) FROM evstore.relays"
	until [[ $(sql -d relaying -c 'SELECT count(pid) FROM evstore.relays') == 3 ]]; do
		sleep 0.05
	done
	rate=$(rate evstore_append 32 1 relaying)
	sql -d relaying -c "SELECT max(lag_events) || ' $rate ' || string_agg(relay || ' ' || lag_events, ', ' ORDER BY relay)
		FROM evstore.relays" >>"$TMP/relay.lag"
	progress "behind at the end: $(tail -n 1 "$TMP/relay.lag" | cut -d ' ' -f 3-)"
	printf '%s\n' "$rate"
}

append_unrelayed() {
	sql -d relaying -o /dev/null -c "SELECT evstore.pause_relay(relay) FROM evstore.relays"
	rate evstore_append 32 1 relaying
}

# They have kept up if they are less than a second behind.
record_relay_lag() {
	local lag rate rest lags=() rates=() ratios=()
	while read -r lag rate rest; do
		lags+=("$lag") rates+=("$rate") ratios+=("$(quotient "$lag" "$rate")")
	done <"$TMP/relay.lag"
	record relay 'events behind at the end; that come in a second' '<=1' "$(median "${lags[@]}")" "$(median "${rates[@]}")" "${ratios[@]}"
}

# --- how soon it arrives ---

case_relay_latency() {
	local i way
	relay_database arriving
	RELAY_DATABASE=arriving add_relay arrivals http '{"url": "http://127.0.0.1:1/"}' '{"key": "none"}'
	sql -d arriving -o /dev/null -c "SELECT evstore.create_subscription('latency')"
	rm -f "$TMP"/*.times
	for ((i = 0; i < BENCH_RUNS; i++)); do
		for way in fetch relay; do
			sql -d arriving -o /dev/null -c "SELECT evstore.seek('latency', 'end')"
			"$CLIENT" latency arriving "$way" "$RELAY_RATE" "$BENCH_SECONDS" >"$TMP/$way.$i.times"
		done
	done
	compare_times relay relay fetch "$RELAY_RATE events/s until received by HTTP; waiting fetch" -
	record_relay_delay
}

record_relay_delay() {
	local i ours theirs more=()
	for ((i = 0; i < BENCH_RUNS; i++)); do
		more[i]=$(milliseconds_more "$(percentile 99 "$TMP/relay.$i.times")" "$(percentile 99 "$TMP/fetch.$i.times")")
	done
	ours=$(percentile 99 "$TMP"/relay.*.times)
	theirs=$(percentile 99 "$TMP"/fetch.*.times)
	record_as relay 'the same: p99, us; ratio is how many ms more' '<=10' "$ours" "$theirs" \
		"$(milliseconds_more "$ours" "$theirs")" "${more[@]}"
}

milliseconds_more() { awk -v a="$1" -v b="$2" 'BEGIN { print (a - b) / 1000 }'; }
