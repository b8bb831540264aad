#!/bin/bash
#
# run.sh
#
# Measure evstore against a hand-written table of the same columns and indexes,
# and subscriptions against a queue and NOTIFY, on a private server.  Prints a table;
# writes tmp_bench/results.json.  lib.sh and the cases have the settings.

. "$(dirname "$0")/lib.sh"

# The last two have servers of their own.
CASES=(append async batch snapshot read follow wake wake-vs-notify latency consume slots consume-snapshot aggregate projection amqp kafka mqtt nats redis relay saga idle history)

for file in "$BENCH_DIR"/cases/*.sh; do
	# shellcheck source=/dev/null
	. "$file"
done

bench_init
make_parameters
bench_server main
print_machine
print_head
for case in "${CASES[@]}"; do
	wanted "$case" || continue
	progress "case $case"
	"case_$case"
done
say
print_table
json_results "$TMP/results.json"
say "written to ${TMP#"$ROOT/"}/results.json"
