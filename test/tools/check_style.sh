#!/bin/bash
#
# check_style.sh [BUILD_DIRECTORY]
#
# The rules that a machine can check, one TAP line each.  The build is where the
# exported names are read from.

. "$(dirname "$0")/lib.sh"
cd "$ROOT"
shopt -s nullglob globstar

BUILD=${1:-}
# What a directory of src/ may include: itself and what stands before it.
LAYERS=(include sinks base catalog exec filter asl stream subscription projection aggregate saga relay ingest worker)
SOURCES=(src/**/*.[ch])
TESTS=(test/{sql,isolation,pgtap,t,upgrade}/**/*.{sql,spec,pl,pm,sh})
MAX_LINES=800

n=0 bad=0

# rule TITLE FUNCTION: the function prints the offending lines; none is good
rule() {
	local lines
	lines=$("$2" 2>&1) || lines+=$'\nthe check itself failed'
	n=$((n + 1))
	if [[ -z $lines ]]; then
		say "ok $n - $1"
	else
		bad=1
		say "not ok $n - $1"
		sed 's/^/# /' <<<"$lines"
	fi
}

# code FILE...: the C code without comments and strings, as FILE:LINE:TEXT
code() {
	(($# == 0)) || perl -0777 -ne '
		s{("(?:[^"\\\n]|\\.)*"|\x27(?:[^\x27\\\n]|\\.)*\x27)|(/\*.*?\*/|//[^\n]*)}
		 {defined $1 ? ($1 =~ /^"/ ? "\"\"" : $1) : do { (my $c = $2) =~ s/[^\n]//g; $c }}gse;
		my $line = 0;
		print "$ARGV:", ++$line, ":$_\n" for split /\n/;
	' "$@"
}

layer() {
	local i
	for i in "${!LAYERS[@]}"; do
		[[ ${LAYERS[i]} != "$1" ]] || { say "$i"; return; }
	done
}

# Includes of a layer further down, and layers that are not in the list.
layers() {
	local file dir own line included other
	for file in "${SOURCES[@]}"; do
		dir=${file#src/}
		[[ $dir == */* ]] || continue
		dir=${dir%%/*}
		[[ $dir != sinks ]] || continue
		own=$(layer "$dir")
		[[ -n $own ]] || { say "$file: src/$dir is not one of the layers"; continue; }
		while IFS=: read -r line included; do
			other=$(layer "${included%%/*}")
			[[ -z $other || ! -e src/$included ]] || ((other <= own)) || say "$file:$line: includes $included"
		done < <(sed -n '/^#include "/{=;s/^#include "\([^"]*\)".*/\1/p}' "$file" | paste -d: - -)
	done
}

relative_includes() {
	((${#SOURCES[@]} == 0)) || grep -nE '^#include "\.' "${SOURCES[@]}" /dev/null || true
}

exports() {
	local objects=("$BUILD"/src/**/*.o)
	((${#objects[@]} > 0)) || { say 'no objects'; return; }
	nm -A --extern-only --defined-only "${objects[@]}" |
		awk '$NF !~ /^(evs_|Evs|_PG_|pg_finfo_evs_|Pg_magic_func$)/ { sub(/.*\/src\//, "src/"); print }'
}

# ereport(ERROR, ...) up to its closing parenthesis
errors_without_code() {
	code "${SOURCES[@]}" | perl -ne '
		BEGIN { $text = "" }
		if (!$text && /\bereport\s*\(\s*(ERROR|FATAL|PANIC)\b(.*)/) { ($where) = /^([^:]*:\d+)/; $text = "($2"; }
		elsif ($text) { /^[^:]*:\d+:(.*)/; $text .= $1; }
		next unless $text;
		($open, $close) = (($text =~ tr/(//), ($text =~ tr/)//));
		next if $open > $close;
		print "$where: ereport without errcode\n" unless $text =~ /errcode|evs_err/;
		$text = "";
	'
}

spi_calls() { code "${SOURCES[@]}" | grep -E '\bSPI_[a-z]\w*' | grep -v '^src/exec/spi\.[ch]:' || true; }
version_tests() { code "${SOURCES[@]}" | grep 'PG_VERSION_NUM' | grep -v '^src/compat\.h:' || true; }

long_files() {
	((${#SOURCES[@]} == 0)) || awk -v max="$MAX_LINES" 'FNR == max + 1 { print FILENAME ": more than " max " lines" }' "${SOURCES[@]}"
}

# A poll in a loop that has a condition says so: "-- poll" or "# poll".
sleeps() {
	((${#TESTS[@]} == 0)) || grep -nE '\b(pg_sleep(_for|_until)?|u?sleep)\b' "${TESTS[@]}" /dev/null |
		grep -vE '(--|#) *poll\b' || true
}

markers() {
	grep -rnIE '\b(TODO|FIXME)\b' src sql test docs Makefile README.md CONTRIBUTING.md 2>/dev/null |
		grep -vE '^test/tools/(check_style|run_tests)\.sh:' || true
}

# pg_regress runs ./sql/x.sql in place of test/sql/x.sql.
files_in_sql() {
	local file
	for file in sql/*; do
		[[ -d $file || $file == sql/evstore--* ]] || say "$file"
	done
}

# In a database with another encoding the script could not be read.
other_than_ascii() { LC_ALL=C grep -n '[^ -~	]' sql/modules/*.sql sql/updates/*.sql 2>/dev/null || true; }

# unpaired TESTS_DIR SUFFIX EXPECTED_DIR: tests without results, results without tests
unpaired() {
	local file name
	for file in "$1"/*"$2"; do
		[[ -e $3/$(basename "$file" "$2").out ]] || say "$file has no expected result"
	done
	for file in "$3"/*.out; do
		name=$(basename "$file" .out)
		[[ -e $1/$name$2 || -e $1/${name%_[0-9]}$2 ]] || say "$file has no test"
	done
}

unpaired_tests() {
	unpaired test/sql .sql expected
	unpaired test/isolation/specs .spec test/isolation/expected
}

rule 'a layer includes only itself and the layers before it' layers
rule 'includes name their directory' relative_includes
[[ -z $BUILD ]] || rule 'exported names have our prefixes' exports
rule 'errors have an errcode' errors_without_code
rule 'only src/exec/spi.c calls SPI' spi_calls
rule 'only src/compat.h looks at the PostgreSQL version' version_tests
rule "no C file has more than $MAX_LINES lines" long_files
rule 'tests do not sleep' sleeps
rule 'no work is left marked in the files' markers
rule 'sql/ holds only directories and built scripts' files_in_sql
rule 'SQL of the extension is ASCII' other_than_ascii
rule 'every test has a result and every result a test' unpaired_tests
say "1..$n"
exit $bad
