# shellcheck shell=bash
#
# What is written and read; sourced by lib.sh.
#
# The data of an event reach the server as parameters of a prepared statement,
# as from any client.  pgbench has no text functions, so there are PAYLOADS
# scripts, one for each payload, of which it takes one at random each time.

PAYLOADS=8
STREAMS=10000
BATCH=100

# payloads FIRST COUNT [FORM]: see payload.awk
payloads() { awk -v first="$1" -v count="$2" -v form="${3:-rows}" -f "$BENCH_DIR/payload.awk"; }

# Values for pgbench's -D: t1 p1, t2 p2, ... for one event and ts1 ps1, ... for a batch
make_parameters() {
	local k type data
	PARAMETERS=()
	for ((k = 1; k <= PAYLOADS; k++)); do
		IFS=$'\t' read -r type data < <(payloads "$k" 1)
		PARAMETERS+=(-D "t$k=$type" -D "p$k=$data")
		{ read -r type; read -r data; } < <(payloads $((k * 1000)) "$BATCH" array)
		PARAMETERS+=(-D "ts$k=$type" -D "ps$k=$data")
	done
}

# workload NAME < TEMPLATE: one script for each payload; K in @K@ is its number
workload() {
	local k template
	template=$(cat)
	for ((k = 1; k <= PAYLOADS; k++)); do
		printf '%s\n' "${template//@K@/$k}" >"$WORK/scripts/$1.$k.sql"
	done
}

# one_script NAME < SCRIPT: a workload without payloads
one_script() { cat >"$WORK/scripts/$1.1.sql"; }

# rate NAME CLIENTS EVENTS [PGBENCH_OPTION...] DATABASE: events a second of a workload whose
# transactions have EVENTS events each
rate() {
	local name=$1 clients=$2 events=$3 files=() file
	shift 3
	for file in "$WORK/scripts/$name".*.sql; do
		files+=(-f "$file")
	done
	if ! pgbench -n -M prepared -c "$clients" -j $((clients > 1 ? 2 : 1)) -T "$BENCH_SECONDS" \
		"${PARAMETERS[@]}" "${files[@]}" "$@" >"$TMP/pgbench.out" 2>&1; then
		grep -m 5 -E 'ERROR|FATAL|error:' "$TMP/pgbench.out" >&2
		die "workload $name failed"
	fi
	awk -v n="$events" '/^tps = / { printf "%.1f\n", $3 * n }' "$TMP/pgbench.out"
}

# The same with commits that do not wait for the disk
rate_async() { PGOPTIONS="$PGOPTIONS -c synchronous_commit=off" rate "$@"; }

warm_up() { BENCH_SECONDS=2 rate "$@" >/dev/null; }

# --- evstore ---

# evstore_database NAME [SETTING=VALUE...]: a database with an empty store
evstore_database() {
	local name=$1 setting
	shift
	sql -d postgres -c "CREATE DATABASE $name"
	sql -d "$name" -c 'CREATE EXTENSION evstore'
	for setting; do
		sql -d "$name" -c "ALTER DATABASE $name SET ${setting%%=*} = '${setting#*=}'"
	done
	make_payload_table "$name"
}

# The payloads as a table, for loading from within the server
make_payload_table() {
	sql -d "$1" -c 'CREATE TABLE public.payload (k serial, type text, data jsonb)'
	payloads 1 "$BATCH" | sql -d "$1" -c 'COPY public.payload (type, data) FROM STDIN'
}

# evstore_load DATABASE FIRST LAST N: N events (up to BATCH) to each of these streams, by two sessions
evstore_load() {
	local database=$1 first=$2 last=$3 n=$4 middle
	middle=$(((first + last) / 2))
	evstore_load_range "$database" "$first" "$middle" "$n" &
	evstore_load_range "$database" $((middle + 1)) "$last" "$n"
	wait "$!"
}

evstore_load_range() {
	local from to
	for ((from = $2; from <= $3; from += 1000)); do
		to=$((from + 999 < $3 ? from + 999 : $3))
		printf '%s;\n' "SELECT count(*) FROM
			(SELECT array_agg(type ORDER BY k) AS types, array_agg(data ORDER BY k) AS data FROM public.payload WHERE k <= $4) p,
			generate_series($from, $to) s,
			LATERAL evstore.append_arrays('account-' || s, p.types, p.data)"
	done | PGOPTIONS="$PGOPTIONS -c synchronous_commit=off" sql -d "$1" -o /dev/null
}
