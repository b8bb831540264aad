#!/bin/bash
#
# run.sh
#
# Measure evstore against a hand-written table of the same columns and indexes,
# on a private server.  The cases: append async batch snapshot history read follow.
# Prints a table; writes tmp_bench/results.json.  lib.sh and cases/history.sh have the settings.

. "$(dirname "$0")/lib.sh"

CASES=(append async batch snapshot read follow history)

for case in "${CASES[@]}"; do
	# shellcheck source=/dev/null
	[[ $case == async ]] || . "$BENCH_DIR/cases/$case.sh"
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
