#!/bin/bash
#
# readme_sql.sh [--write]
#
# Print the regress test that README.md's quick start is: its SQL blocks, one
# after the other.  With --write, put it into test/sql/readme.sql, after which
# "make test-regress TESTS=readme" and "make ack" renew the expected result.
# test/t/020_docs.pl checks that both are those of the README.

. "$(dirname "$0")/lib.sh"

print_test() {
	cat <<-'END'
		-- The quick start of README.md.  Made by test/tools/readme_sql.sh: do not edit.
		\set main :DBNAME
		SET client_min_messages = warning;
		DROP DATABASE IF EXISTS evstore_readme;
		CREATE DATABASE evstore_readme;
		\c evstore_readme
	END
	awk '
		/^## / { inside = $0 == "## Quick start" }
		inside && /^```sql/ { printing = 1; print ""; next }
		/^```/ { printing = 0 }
		printing
	' "$ROOT/README.md"
	cat <<-'END'

		\c :main
		DROP DATABASE evstore_readme;
	END
}

case ${1:-} in
'') print_test ;;
--write) print_test >"$ROOT/test/sql/readme.sql" ;;
*) die 'usage: readme_sql.sh [--write]' ;;
esac
