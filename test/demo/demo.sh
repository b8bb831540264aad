#!/usr/bin/env bash
#
# The demo: 20,000 real flights as 60,000 events, with every figure checked.
#
# Then two consumers share them, and one is killed; and a projection makes a read
# model of them, which is rebuilt while it is read and while more events come.  At the
# end they leave the database, to a file and to a receiver that is killed in between; and
# sagas care for the passengers of flights that are very late.
#
# Wants a running server with evstore installed, in PGHOST, PGPORT, PGUSER and
# PGDATABASE: a superuser and a database without evstore.  "make demo" starts
# a private one.  The exit status is 1 as soon as a step fails or a number
# differs.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
data=$here/../data/flights.csv.gz
writers=4

export PGOPTIONS="${PGOPTIONS:-} -c timezone=UTC -c client_min_messages=warning"

failed= scratch=$(mktemp -d)
trap '[ $? -eq 0 ] || failed=1
	[ -z "$receiver" ] || kill_receiver
	rm -rf "$scratch"
	[ -z "$failed" ] || { echo "The demo FAILED." >&2; exit 1; }' EXIT

sql() {
	psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"
}

# shellcheck source=consume.sh
. "$here/consume.sh"
# shellcheck source=relay.sh
. "$here/relay.sh"
# shellcheck source=saga.sh
. "$here/saga.sh"

# A rebuild with appends and a reader beside it.
project() {
	local writer
	sql -f "$here/project.sql"
	sql -c 'CALL demo.load_single(20001, 20500)' &
	writer=$!
	sql -f "$here/rebuild.sql"
	wait "$writer"
	sql -f "$here/projected.sql"
}

# The setting belongs to the library, which the first session has to load.
sql -f "$here/partition_size.sql"
sql -f "$here/setup.sql"
gzip -dc "$data" | sql -c '\copy flight_raw FROM pstdin WITH (FORMAT csv, HEADER)'
sql -f "$here/load.sql"

started=$(sql -c 'SELECT clock_timestamp()')
pids=()
for ((writer = 0; writer < writers; writer++)); do
	sql -c "CALL demo.load_arrays(1, 18000, $writer, $writers)" &
	pids+=($!)
done
for pid in "${pids[@]}"; do
	wait "$pid"
done

sql -v started="$started" -v writers="$writers" -f "$here/loaded.sql"
sql -f "$here/promises.sql"
sql -f "$here/read.sql"
sql -f "$here/totals.sql"
consume_in_a_group
sql -f "$here/poison.sql"
wake_up
project
relay
care

wrong=$(sql -c 'SELECT count(*) FROM demo.checked WHERE NOT ok')
passed=$(sql -c 'SELECT count(*) FROM demo.checked WHERE ok')
echo
if [ "$wrong" -ne 0 ]; then
	echo "$wrong checks FAILED, $passed passed."
	exit 1
fi
echo "All $passed checks passed."
