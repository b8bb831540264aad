#!/bin/bash
#
# event_id.sh
#
# Two ways to keep event ids unique although the log is partitioned:
#
#   a  a unique index on event_id in each partition and, for an id that may be in
#      an older one, a look at the others
#   b  one table of all ids, event_key(event_id primary key, position), in place
#      of the partitions' indexes
#
# Plain tables stand for both, with small buffers, so it is not evstore that is
# measured.  Part one is what an event costs while the store grows, part two what
# the look at other partitions costs.  The conclusion is in
# docs/decisions/0002-event-id-uniqueness.md.
#
# Settings from the environment, besides those in lib.sh:
#   BENCH_MILLIONS   events in the store at the end, in millions (default: 10)

. "$(dirname "$0")/lib.sh"

MILLIONS=${BENCH_MILLIONS:-10}
PARTITION=1000000
PROBED=(10 100 200)
PROBED_SIZE=50000

# --- part one: what an event costs ---

# Fill one store of each way, partition by partition in turn; a line for the
# first and for the last.
measure_growth() {
	local kind=$1 way million
	for way in a b; do
		createdb "ids_${way}_$kind"
		sql -d "ids_${way}_$kind" -v way="$way" -v kind="$kind" -f "$BENCH_DIR/event_id.sql"
	done
	for ((million = 1; million <= MILLIONS; million++)); do
		for way in a b; do
			load_partition "ids_${way}_$kind" "$million" "$way $kind"
		done
	done
}

load_partition() {
	local database=$1 million=$2 size lsn start line
	sql -d "$database" -c CHECKPOINT \
		-c "CALL add_partition($(((million - 1) * PARTITION + 1)), $((million * PARTITION + 1)))"
	size=$(sql -d "$database" -c "SELECT pg_database_size('$database')")
	lsn=$(sql -d "$database" -c 'SELECT pg_current_wal_insert_lsn()')
	start=$EPOCHREALTIME
	sql -d "$database" -c "CALL load($((PARTITION / 1000)), 1000)" -c CHECKPOINT
	line=$(awk -v what="$3" -v million="$million" -v n="$PARTITION" -v start="$start" -v end="$EPOCHREALTIME" \
		-v wal="$(sql -d "$database" -c "SELECT pg_current_wal_insert_lsn() - '$lsn'")" \
		-v size="$(sql -d "$database" -c "SELECT pg_database_size('$database') - $size")" 'BEGIN {
			printf "%-6s %8d %10.0f %10.0f %10.0f", what, million, n / (end - start), wal / n, size / n
		}')
	if ((million == 1 || million == MILLIONS)); then
		say "$line"
	else
		progress "$line"
	fi
}

# One event a transaction, into the stores as they are now
measure_single() {
	local kind=$1 way
	for way in a b; do
		sql -d "ids_${way}_$kind" \
			-c "CALL add_partition($((MILLIONS * PARTITION + 1)), $((MILLIONS * PARTITION * 2)))"
	done
	compare event_id "$kind, 8 clients, asynchronous commit, a against b" - \
		"rate_async single 8 1 ids_a_$kind" "rate_async single 8 1 ids_b_$kind"
	compare event_id "$kind, 8 clients, a against b" - \
		"rate single 8 1 ids_a_$kind" "rate single 8 1 ids_b_$kind"
}

# --- part two: what the look at other partitions costs ---

# Ids that are in none of them, as those of new events are.
measure_probes() {
	local n
	make_probed
	one_script probe_none <<-'END'
		SELECT new_id();
	END
	one_script probe_key <<-'END'
		SELECT "position" FROM event_key WHERE event_id = new_id();
	END
	print_probe 'no look' probe_none
	for n in "${PROBED[@]}"; do
		one_script "probe_$n" <<-END
			SELECT "position" FROM log WHERE event_id = new_id() AND "position" < $(((n + 1) * PROBED_SIZE));
		END
		print_probe "a, $n partitions" "probe_$n"
	done
	print_probe 'b, the table of ids' probe_key
}

make_probed() {
	local n from
	createdb probed
	sql -d probed <<-'END'
		CREATE FUNCTION new_id() RETURNS uuid LANGUAGE plpgsql STABLE AS 'BEGIN RETURN gen_random_uuid(); END';
		CREATE TABLE log (event_id uuid NOT NULL, "position" bigint NOT NULL) PARTITION BY RANGE ("position");
		CREATE TABLE event_key (event_id uuid PRIMARY KEY, "position" bigint NOT NULL);
	END
	for ((n = 1; n <= PROBED[-1]; n++)); do
		from=$((n * PROBED_SIZE))
		printf 'CREATE TABLE log_%s PARTITION OF log FOR VALUES FROM (%s) TO (%s);\n' "$n" "$from" $((from + PROBED_SIZE))
		printf 'INSERT INTO log SELECT gen_random_uuid(), i FROM generate_series(%s, %s) i;\n' "$from" $((from + PROBED_SIZE - 1))
		printf 'CREATE UNIQUE INDEX ON log_%s (event_id);\n' "$n"
	done | sql -d probed
	sql -d probed -c 'INSERT INTO event_key SELECT * FROM log' -c 'VACUUM (ANALYZE)'
}

# The round trip is in it: the first line tells how much.
print_probe() {
	warm_up "$2" 1 1 probed
	fact "$1, microseconds a statement" "$(awk -v r="$(rate "$2" 1 1 probed)" 'BEGIN { printf "%.1f", 1e6 / r }')"
}

bench_init
PARAMETERS=()
EVS_PRELOAD='' bench_server ids 'shared_buffers = 128MB' 'max_wal_size = 4GB'
print_machine
say
printf '%-6s %8s %10s %10s %10s\n' way million events/s WAL/event disk/event
one_script single <<-'END'
	CALL load(1, 1);
END
for kind in v7 v4; do
	measure_growth "$kind"
	measure_single "$kind"
	dropdb "ids_a_$kind"
	dropdb "ids_b_$kind"
done
measure_probes
