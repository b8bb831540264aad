# shellcheck shell=bash
# shellcheck disable=SC2154 # here and scratch are those of demo.sh
#
# Events leave the database: into a file, and to a web hook that dies in between.
# Sourced by demo.sh.

receiver=

# start_receiver [PORT]: a receiver on the loopback, which logs what it gets; sets
# receiver, and port.  It ends with its standard input, and so with us.
start_receiver() {
	[[ -p $scratch/receiver.in ]] || mkfifo "$scratch/receiver.in"
	perl "$here/../tools/http_server.pl" --port "${1:-0}" --log "$scratch/received.log" \
		--control "$scratch/receiver.control" <"$scratch/receiver.in" >"$scratch/receiver.out" &
	receiver=$!
	exec {receiver_in}>"$scratch/receiver.in"
	poll_for 20 grep -q '^port=' "$scratch/receiver.out"
	port=$(sed -n 's/^port=//p' "$scratch/receiver.out")
}

kill_receiver() {
	kill -9 "$receiver"
	wait "$receiver" 2>/dev/null || true
	receiver=
	exec {receiver_in}>&-
}

# lines_into TABLE COLUMN: lines of JSON, which has no control characters
lines_into() {
	sql -c "\\copy $1 ($2) FROM pstdin WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')"
}

received() {
	(($(wc -l <"$scratch/received.log") >= $1))
}

partner() {
	is_true "$1 FROM evstore.relays WHERE relay = 'partner'"
}

# The receiver answers 500 to a few messages, becomes slow, and is killed with requests
# in its hands; later there is one again, which answers 500 to a few, too.
relay() {
	local key before started took

	sql -f "$here/egress.sql"
	key=$(head -c 30 /dev/urandom | base64)
	start_receiver
	sql -v key="$key" -v port="$port" -f "$here/relay.sql"
	poll_for 60 received 3000

	before=$(wc -l <"$scratch/received.log")
	echo 'delay=1000' >"$scratch/receiver.control"
	poll_for 60 received $((before + 65))
	kill_receiver
	rm "$scratch/receiver.control"
	sql -c "SELECT demo.note('kill -9 of the receiver, which had become slow')"
	poll_for 60 partner "circuit = 'open' AND opened >= 2"
	poll_for 60 is_true "lag_events = 0 FROM evstore.relays WHERE relay = 'archive'"
	sql -f "$here/relaying.sql"

	started=$(sql -c 'SELECT clock_timestamp()')
	start_receiver "$port"
	poll_for 60 partner "lag_events = 0 AND retrying = 0 AND waiting = 0 AND circuit = 'closed'"
	took=$(sql -c "SELECT demo.seconds_since('$started')")
	kill_receiver
	lines_into demo.request request <"$scratch/received.log"
	sql -v key="$key" -v took="$took" -f "$here/relayed.sql"
}
