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

# compare CASE TEXT TARGET A B: A and B are commands, words split at blanks, that
# print a rate.  TARGET is the ratio A / B that is wanted, or - for none.
compare() {
	local case=$1 text=$2 target=$3 side_a side_b rates_a=() rates_b=() ratios=() i
	read -ra side_a <<<"$4"
	read -ra side_b <<<"$5"
	for ((i = 0; i < BENCH_RUNS; i++)); do
		rates_a[i]=$("${side_a[@]}")
		rates_b[i]=$("${side_b[@]}")
		ratios[i]=$(awk -v a="${rates_a[i]}" -v b="${rates_b[i]}" 'BEGIN { print a / b }')
	done
	record "$case" "$text" "$target" "$(median "${rates_a[@]}")" "$(median "${rates_b[@]}")" "${ratios[@]}"
}

# record CASE TEXT TARGET A B RATIO...
record() {
	local fields=("${@:1:5}") sorted
	shift 5
	mapfile -t sorted < <(printf '%s\n' "$@" | sort -g)
	printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "${fields[@]}" "$(median "$@")" "${sorted[0]}" "${sorted[-1]}" >>"$RESULTS"
	tail -n 1 "$RESULTS" | print_rows
}

# fact NAME VALUE: a figure that is no comparison
fact() {
	printf '%s\t%s\n' "$1" "$2" >>"$FACTS"
	printf '%-64s %s\n' "$1" "$2"
}

print_head() {
	printf '%-9s %-48s %10s %10s %6s %13s %6s\n' case comparison A/s B/s ratio min..max wanted
}

print_rows() {
	awk -F '\t' '{
		verdict = $3 == "-" ? "" : $6 >= $3 ? "  ok" : "  MISSED"
		printf "%-9s %-48s %10.0f %10.0f %6.2f %13s %6s%s\n", $1, $2, $4, $5, $6,
			sprintf("%.2f..%.2f", $7, $8), $3, verdict
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
			printf "%s\n  {\"case\": \"%s\", \"comparison\": \"%s\", \"a\": %s, \"b\": %s, \"ratio\": %s, \"min\": %s, \"max\": %s, \"wanted\": %s}",
				(NR > 1 ? "," : ""), $1, $2, $4, $5, $6, $7, $8, ($3 == "-" ? "null" : $3)
		}' "$RESULTS"
		printf '\n ],\n "facts": {'
		awk -F '\t' '{ printf "%s\n  \"%s\": \"%s\"", (NR > 1 ? "," : ""), $1, $2 }' "$FACTS"
		printf '\n }}\n'
	} >"$1"
}
