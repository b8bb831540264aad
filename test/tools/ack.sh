#!/bin/bash
#
# Take the results of the last run of the regress and isolation suites as the
# expected ones.  Look at the differences first; git diff shows them afterwards.

. "$(dirname "$0")/lib.sh"

# newest SUITE: the results of its last run
newest() {
	local dirs=("$ROOT"/tmp_test*/"$1"/results)
	# shellcheck disable=SC2012 # our own names
	[[ -d ${dirs[0]} ]] && ls -td "${dirs[@]}" | head -n 1
}

# take SUITE EXPECTED
take() {
	local results file to
	results=$(newest "$1") || { say "$1: no results"; return; }
	for file in "$results"/*.out; do
		[[ -f $file ]] || continue
		to=$2/$(basename "$file")
		# A result equal to an alternative, x_1.out, is expected already.
		! same_as_one "$file" "${to%.out}"*.out || continue
		cp "$file" "$to"
		say "${to#"$ROOT/"}"
	done
}

same_as_one() {
	local file=$1 name other
	name=$(basename "$1" .out)
	shift
	for other; do
		[[ $(basename "$other") =~ ^"$name"(_[0-9])?\.out$ ]] || continue
		! cmp -s "$file" "$other" || return 0
	done
	return 1
}

take regress "$ROOT/expected"
take isolation "$ROOT/test/isolation/expected"
