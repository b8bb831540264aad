#!/bin/bash
#
# indent.sh [FILE...]: format the C code (default: all of it) as PostgreSQL's
# pgindent does.  The names of types come from the debug information of a build.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/server.sh"

INDENT=$(command -v pg_bsd_indent) || die 'pg_bsd_indent not found: install the package pg-bsd-indent'

# pgindent's own options
OPTIONS=(-bad -bap -bbb -bc -bl -cli1 -cp33 -cdb -nce -d0 -di12 -nfc1 -i4 -l79 -lp -lpl -nip -npro -sac -tpg -ts4)

# pgindent leaves names out that are types in one place and words in another.
typedefs() {
	{
		find "$BUILD" -name '*.o' -exec objdump -W {} + 2>/dev/null |
			awk '/DW_TAG_/ { typedef = /DW_TAG_typedef/ } typedef && /DW_AT_name/ { print $NF; typedef = 0 }'
		# Ours also from the text: they may be in a file that does not compile yet.
		find "$ROOT/src" -name '*.[ch]' -exec sed -nE 's/^(typedef .*|\})[ \t*]+([A-Za-z_][A-Za-z0-9_]*);.*/\2/p' {} +
	} | grep -E '^[A-Za-z_][A-Za-z0-9_]*$' | grep -vxE 'date|interval|timestamp|string|other|type|stat' | LC_ALL=C sort -u
}

# With pgindent's own corrections: a block comment with a dashed first line keeps
# its lines, comments do not run together, and "type *" stands on its line.
format() {
	local file=$1
	sed 's|/\* \{1,\}---|/*---X_X|g' "$file" >"$work/in.c"
	"$INDENT" "${OPTIONS[@]}" -U"$work/typedefs" "$work/in.c" "$work/out.c" || die "$file: not formatted"
	sed -i -e 's|/\*---X_X|/* ---|g' -e 's|\*/\(/\*.*\*/\)$|*/\t\1|' -e 's|,\.\([a-z_]\)|, .\1|g' \
		-e 's|^\([A-Za-z_][^[:space:]]*\)[[:space:]]\{1,\}\*$|\1 *|' "$work/out.c"
	cmp -s "$work/out.c" "$file" || { cat "$work/out.c" >"$file"; say "$file"; }
}

find_postgres
# What does not compile at the moment is formatted all the same.
build release -k >/dev/null 2>&1 || true
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
typedefs >"$work/typedefs"
[[ -s $work/typedefs ]] || die 'nothing compiles, so the names of types are not known'
cd "$ROOT"
if (($# == 0)); then
	mapfile -t files < <(find src -name '*.[ch]' | LC_ALL=C sort)
	set -- "${files[@]}"
fi
for file; do
	format "$file"
done
