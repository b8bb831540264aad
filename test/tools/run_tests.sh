#!/bin/bash
#
# run_tests.sh SUITE...
#
# Run test suites on private servers: style, regress, isolation, pgtap, tap.
# One line a suite, then what failed in it, then "N passed, N failed".
#
# Settings from the environment, besides those in server.sh:
#   TESTS         names of the tests to run, without directory and suffix
#   PROVE_FLAGS   more arguments for prove and pg_prove
#   EVS_JOBS      TAP tests at the same time (default: 2)
#   EVS_TIMEOUT   seconds after which a suite is ended (default: 1500)
#   EVS_KEEP      1: keep tmp_test/work, the servers' data included

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/server.sh"
. "$(dirname "$0")/check_logs.sh"

total_passed=0 total_failed=0 total_skipped=0
TIMEOUT=(timeout --foreground -k 10 "${EVS_TIMEOUT:-1500}")

finish() {
	stop_server
	[[ ${EVS_KEEP:-} == 1 ]] || remove_work
}

# --- which tests there are ---

# names SUFFIX FILE...: base names, sorted; of those in TESTS when that is set
names() {
	local suffix=$1 file name
	shift
	for file; do
		name=$(basename "$file" "$suffix")
		if [[ -z ${TESTS:-} || " $TESTS " == *" $name "* ]]; then
			say "$name"
		fi
	done | LC_ALL=C sort
}

suite_tests() {
	shopt -s nullglob
	case $1 in
	regress) names .sql "$ROOT"/test/sql/*.sql ;;
	isolation) names .spec "$ROOT"/test/isolation/specs/*.spec ;;
	pgtap) names .sql "$ROOT"/test/pgtap/*.sql ;;
	tap) names .pl "$ROOT"/test/t/*.pl ;;
	style) say style ;;
	*) die "no such suite: $1" ;;
	esac
	shopt -u nullglob
}

# --- counting: sets passed, failed and skipped from the output of a test program ---

# PostgreSQL 15 prints "test x ... ok", 16 and later "ok 1 - x".
count_regress() {
	passed=$(grep -cE '^(test .*|     .*)\.\.\. ok |^ok [0-9]' "$1" || true)
	failed=$(grep -ciE '^(test .*|     .*)\.\.\. failed|^not ok [0-9]' "$1" || true)
	skipped=0
}

# Numbered lines only: prove has an "ok" of its own.
count_tap() {
	local todo
	todo=$(grep -ciE '^not ok [0-9].*# todo' "$1" || true)
	skipped=$(grep -ciE '^ok [0-9]+\b.*# skip|^1\.\.0 # skip' "$1" || true)
	passed=$(($(grep -E '^ok [0-9]+\b' "$1" | grep -civE '# skip' || true) + todo))
	failed=$(($(grep -cE '^not ok [0-9]+\b' "$1" || true) - todo))
}

# --- suites: each writes to $OUT, and sets passed, failed and skipped ---

# run_regress PROGRAM ARGUMENT...: pg_regress and its relative; run in $OUT,
# because that is where they put results, and from where they look for expected.
run_regress() {
	local program=$1 rc=0
	shift
	(cd "$OUT" && "${TIMEOUT[@]}" "$PGXS_TREE/src/test/$program" --bindir="$BINDIR" --host="$PGHOST" --port="$PGPORT" \
		--user=postgres "$@") >"$OUT/output" 2>&1 || rc=$?
	count_regress "$OUT/output"
	if ((rc != 0 || failed > 0)); then
		if [[ -s $OUT/regression.diffs ]]; then
			cp "$OUT/regression.diffs" "$OUT/failures"
		else
			tail -n 50 "$OUT/output" >"$OUT/failures"
		fi
		((failed > 0)) || failed=1
	fi
}

run_suite_regress() {
	ln -s "$ROOT/expected" "$OUT/expected"
	# shellcheck disable=SC2046 # names are words
	run_regress regress/pg_regress --inputdir="$ROOT/test" --dbname=evstore_regress $(suite_tests regress)
}

run_suite_isolation() {
	# shellcheck disable=SC2046 # names are words
	run_regress isolation/pg_isolation_regress --inputdir="$ROOT/test/isolation" \
		--dbname=evstore_isolation $(suite_tests isolation)
}

# tap_result FILE RC NAME: count one file's output into the suite's sums
tap_result() {
	local sum=("$passed" "$failed" "$skipped")
	count_tap "$1"
	if (($2 != 0 && failed == 0)); then
		failed=1
		say "not ok: $3 ended with status $2" >>"$1"
	fi
	if ((failed > 0)); then
		say "--- $3"
		grep -vE '^ *ok\b' "$1" || true
	fi >>"$OUT/failures"
	passed=$((passed + sum[0])) failed=$((failed + sum[1])) skipped=$((skipped + sum[2]))
}

# A fresh database for each file, with pgTAP in it but not evstore.
run_suite_pgtap() {
	local name rc
	createdb pgtap_template
	psql -Xqd pgtap_template -c 'SET client_min_messages = warning; CREATE EXTENSION pgtap' >"$OUT/output" 2>&1 ||
		{ cat "$OUT/output"; die 'pgTAP is not installed: run "make setup"'; }
	for name in $(suite_tests pgtap); do
		rc=0
		dropdb --if-exists pgtap 2>/dev/null
		createdb -T pgtap_template pgtap
		# shellcheck disable=SC2086 # flags are words
		(cd "$ROOT/test/pgtap" && "${TIMEOUT[@]}" pg_prove --verbose --merge ${PROVE_FLAGS:-} --psql-bin "$BINDIR/psql" -d pgtap \
			"$name.sql") >"$OUT/$name.out" 2>&1 || rc=$?
		tap_result "$OUT/$name.out" "$rc" "$name"
	done
}

# The nodes cannot run as root, and the user they run as cannot always read the
# repository: they work on a copy.
run_suite_tap() {
	local name
	[[ -f $PGXS_TREE/src/test/perl/PostgreSQL/Test/Cluster.pm ]] || die 'PostgreSQL::Test not found: run "make setup"'
	mkdir -p "$WORK/tap/tree" "$WORK/tap/ports"
	tar -C "$ROOT" -cf - --exclude='./tmp_*' --exclude='./.git' . | tar -C "$WORK/tap/tree" -xf - --no-same-owner
	cp "$BUILD"/test/tools/sink_{harness,send} "$BUILD"/test/tools/*.so "$WORK/tap/tree/test/tools/"
	# There is none where the http sink is not built.
	[[ ! -e $BUILD/test/tools/aws_sign ]] || cp "$BUILD/test/tools/aws_sign" "$WORK/tap/tree/test/tools/"
	own_by_server_user "$WORK/tap"
	suite_tests tap | xargs -P "${EVS_JOBS:-2}" -I '{}' "$0" --one-tap-file "$TMP" "$WORK" "$BINDIR" '{}'
	for name in $(suite_tests tap); do
		tap_result "$OUT/$name.out" "$(cat "$OUT/$name.rc")" "$name"
	done
}

# Called back by xargs for one file, with what the parent knows.
one_tap_file() {
	local dir rc=0
	TMP=$1 WORK=$2 BINDIR=$3
	dir=$WORK/tap/$4
	mkdir -p "$dir"
	own_by_server_user "$dir"
	# shellcheck disable=SC2086 # flags are words
	PATH=$BINDIR:$PATH as_server_user "${TIMEOUT[@]}" env TESTDIR="$dir" TESTDATADIR="$dir/tmp_check" \
		TESTLOGDIR="$dir/tmp_check/log" PG_TEST_PORT_DIR="$WORK/tap/ports" PGPORT=65432 \
		PG_REGRESS="$PGXS_TREE/src/test/regress/pg_regress" \
		bash -c 'cd "$1" && shift && exec "$@"' - "$WORK/tap/tree" \
		prove --verbose --merge ${PROVE_FLAGS:-} -I "$PGXS_TREE/src/test/perl" -I test/t "test/t/$4.pl" \
		>"$TMP/tap/$4.out" 2>&1 || rc=$?
	say "$rc" >"$TMP/tap/$4.rc"
}

run_suite_style() {
	local rc=0
	"$ROOT/test/tools/check_style.sh" "$BUILD" >"$OUT/output" 2>&1 || rc=$?
	tap_result "$OUT/output" "$rc" style
}

# --- the run ---

run_suite() {
	local suite=$1 start=$EPOCHREALTIME n hits
	passed=0 failed=0 skipped=0
	n=$(suite_tests "$suite" | wc -l)
	OUT=$TMP/$suite
	rm -rf "$OUT"
	mkdir -p "$OUT"
	if ((n == 0)); then
		printf '%-10s no tests\n' "$suite"
		return
	fi
	: >"$OUT/failures"
	case $suite in
	regress | isolation | pgtap) start_server "$suite" ;;
	esac
	"run_suite_$suite"
	stop_server
	keep_logs "$suite"
	if ((passed + failed == 0)); then
		failed=1
		say "$suite has $n test files but ran no test" >>"$OUT/failures"
	fi
	check_logs "$OUT"/log/*.log >"$OUT/log_hits" || true
	hits=$(wc -l <"$OUT/log_hits")
	failed=$((failed + (hits > 0)))
	printf '%-10s %5d passed, %d failed%s  (%.1f s)\n' "$suite" "$passed" "$failed" \
		"$( ((skipped == 0)) || printf ', %d skipped' "$skipped")" \
		"$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')"
	((failed == 0)) || explain
	total_passed=$((total_passed + passed))
	total_failed=$((total_failed + failed))
	total_skipped=$((total_skipped + skipped))
}

# The servers' logs outlive the servers: $OUT/log/NAME.log
keep_logs() {
	local file
	mkdir -p "$OUT/log"
	[[ ! -f $WORK/$1.log ]] || cp "$WORK/$1.log" "$OUT/log/server.log"
	for file in "$WORK/$1"/*/tmp_check/log/*; do
		[[ -f $file ]] || continue
		cp "$file" "$OUT/log/$(basename "${file%/tmp_check/*}")-$(basename "$file")"
	done
}

explain() {
	local log
	{
		head -n 400 "$OUT/failures"
		if [[ -s $OUT/log_hits ]]; then
			say "--- in a server's log:"
			head -n 50 "$OUT/log_hits"
		fi
		for log in "$OUT/log/server.log" $(failed_tap_logs); do
			[[ -f $log ]] || continue
			say "--- last lines of $log:"
			tail -n 50 "$log"
		done
	} | sed "s|$ROOT/||g"
}

# The logs of the TAP tests that failed: what they did, and their nodes'
failed_tap_logs() {
	local name
	sed -n 's/^--- //p' "$OUT/failures" | while read -r name; do
		printf '%s\n' "$OUT/log/$name"-*
	done
}

main() {
	local suite
	(($# > 0)) || die 'which suite?  style, regress, isolation, pgtap, tap'
	for suite; do
		suite_tests "$suite" >/dev/null
	done
	claim_tmp test
	make_work
	trap finish EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	private_install test || { say 'build failed'; say '0 passed, 1 failed'; exit 1; }
	export PATH=$BINDIR:$PATH
	for suite; do
		run_suite "$suite"
	done
	((total_passed + total_failed > 0)) || { say 'no test ran'; total_failed=1; }
	say "$total_passed passed, $total_failed failed$( ((total_skipped == 0)) || say ", $total_skipped skipped")"
	((total_failed == 0))
}

clear_pg_environment
find_postgres
if [[ ${1:-} == --one-tap-file ]]; then
	shift
	choose_server_user
	one_tap_file "$@"
else
	main "$@"
fi
