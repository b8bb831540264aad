# shellcheck shell=bash
#
# Paired measurements and their report; sourced by lib.sh.
#
# On a machine that others use too, only two runs in direct succession compare.
# So each comparison alternates its sides, and its result is the median of the
# ratios of neighbours, with the smallest and the largest of them.

stats_init() {
	RESULTS=$TMP/results.tsv
	FACTS=$TMP/facts.tsv
	MACHINE={}
	: >"$RESULTS"
	: >"$FACTS"
}

median() { printf '%s\n' "$@" | sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

quotient() { awk -v a="$1" -v b="$2" 'BEGIN { print a / b }'; }

# compare CASE TEXT TARGET A B: A and B are commands, words split at blanks, that
# print a rate.  TARGET is the ratio A / B that is wanted, as 0.9, at least, or
# <=1.5, at most; or - for none.
compare() {
	local case=$1 text=$2 target=$3 side_a side_b rates_a=() rates_b=() ratios=() i
	read -ra side_a <<<"$4"
	read -ra side_b <<<"$5"
	for ((i = 0; i < BENCH_RUNS; i++)); do
		rates_a[i]=$("${side_a[@]}")
		rates_b[i]=$("${side_b[@]}")
		ratios[i]=$(quotient "${rates_a[i]}" "${rates_b[i]}")
	done
	record "$case" "$text" "$target" "$(median "${rates_a[@]}")" "$(median "${rates_b[@]}")" "${ratios[@]}"
}

# record CASE TEXT TARGET A B RATIO...
record() { record_as "${@:1:5}" "$(median "${@:6}")" "${@:6}"; }

# record_as CASE TEXT TARGET A B RESULT RATIO...: where the result is not the median
record_as() {
	local fields=("${@:1:6}") sorted
	shift 6
	mapfile -t sorted < <(printf '%s\n' "$@" | sort -g)
	printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "${fields[@]}" "${sorted[0]}" "${sorted[-1]}" >>"$RESULTS"
	tail -n 1 "$RESULTS" | print_rows
}

# percentile P FILE...: of the numbers in all of them
percentile() {
	local p=$1
	shift
	sort -g -m "$@" | awk -v p="$p" '{ v[NR] = $1 } END { if (NR == 0) exit 1; print v[1 + int((NR - 1) * p / 100)] }'
}

# compare_times CASE WAY PLAIN TEXT TARGET: the median and the 99th percentile of the
# times in $TMP/WAY.*.times and $TMP/PLAIN.*.times, a sorted file for each run.  The 99th
# percentile of a run is that of its 30 slowest, which the disk makes as it likes: the
# result is that of all runs together, and the range that of single runs.
compare_times() {
	local p i ours theirs ratios
	for p in 50 99; do
		ratios=()
		for ((i = 0; i < BENCH_RUNS; i++)); do
			ratios[i]=$(quotient "$(percentile "$p" "$TMP/$2.$i.times")" "$(percentile "$p" "$TMP/$3.$i.times")")
		done
		ours=$(percentile "$p" "$TMP/$2".*.times)
		theirs=$(percentile "$p" "$TMP/$3".*.times)
		record_as "$1" "$4: p$p, us" "$5" "$ours" "$theirs" "$(quotient "$ours" "$theirs")" "${ratios[@]}"
	done
}

# fact NAME VALUE: a figure that is no comparison
fact() {
	printf '%s\t%s\n' "$1" "$2" >>"$FACTS"
	printf '%-64s %s\n' "$1" "$2"
}

print_head() {
	printf '%-16s %-58s %10s %10s %6s %13s %6s\n' case comparison A/s B/s ratio min..max wanted
}

print_rows() {
	awk -F '\t' '{
		at_most = sub(/^<=/, "", $3)
		verdict = $3 == "-" ? "" : (at_most ? $6 + 0 <= $3 + 0 : $6 + 0 >= $3 + 0) ? "  ok" : "  MISSED"
		digits = ($3 == "-" ? $6 : $3) >= 0.1 ? 2 : 4
		printf "%-16s %-58s %10.0f %10.0f %6.*f %13s %6s%s\n", $1, $2, $4, $5, digits, $6,
			sprintf("%.*f..%.*f", digits, $7, digits, $8), (at_most ? "<=" : "") $3, verdict
	}'
}

print_table() {
	print_head
	print_rows <"$RESULTS"
}

# json_results FILE
json_results() {
	{
		printf '{"machine": %s,\n "comparisons": [' "$MACHINE"
		awk -F '\t' '{
			at_most = sub(/^<=/, "", $3)
			printf "%s\n  {\"case\": \"%s\", \"comparison\": \"%s\", \"a\": %s, \"b\": %s, \"ratio\": %s, \"min\": %s, \"max\": %s, \"wanted\": %s%s}",
				(NR > 1 ? "," : ""), $1, $2, $4, $5, $6, $7, $8, ($3 == "-" ? "null" : $3), (at_most ? ", \"at_most\": true" : "")
		}' "$RESULTS"
		printf '\n ],\n "facts": {'
		awk -F '\t' '{ printf "%s\n  \"%s\": \"%s\"", (NR > 1 ? "," : ""), $1, $2 }' "$FACTS"
		printf '\n }}\n'
	} >"$1"
}
