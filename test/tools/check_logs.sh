# shellcheck shell=bash
#
# What no server log may contain; sourced by run_tests.sh.

# Messages of a broken server or of something not given back.
BAD_ALWAYS='PANIC:|TRAP:|WARNING:.*(leak|resource was not closed)|you don.t own a lock|detected write past chunk end|problem in alloc set'

# A test that kills on purpose says so by a line in the server's log, or by a
# file beside the log named like it with .crash_on_purpose at the end.
BAD_UNLESS_MEANT='terminated by signal|server process .* was terminated'
MEANT='evstore-test: crash on purpose'

# check_logs FILE...: print the lines found
check_logs() {
	local log pattern
	for log; do
		[[ -f $log ]] || continue
		pattern="$BAD_ALWAYS|$BAD_UNLESS_MEANT"
		if [[ -e $log.crash_on_purpose ]] || grep -qF "$MEANT" "$log"; then
			pattern=$BAD_ALWAYS
		fi
		grep -HnE "$pattern" "$log" || true
	done
}
