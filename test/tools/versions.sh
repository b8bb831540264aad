#!/bin/bash
#
# versions.sh [MAJOR...]
#
# Run the regress, isolation and pgTAP suites on other PostgreSQL versions, by
# default 17 and 18: each in a root directory of its own with the Debian release
# that has that version.  A root takes a minute and 800 MB; it is made once and
# kept in tmp_roots (EVS_ROOTS: elsewhere).  Needs root, mmdebstrap and a mirror;
# without them it fails.
#
# SUITES   what to run (default: regress isolation pgtap)

. "$(dirname "$0")/lib.sh"

ROOTS=${EVS_ROOTS:-$ROOT/tmp_roots}
SUITES=${SUITES:-regress isolation pgtap}
COMMON=gcc,make,libc6-dev,perl,libtap-parser-sourcehandler-pgtap-perl,pkg-config,libcurl4-openssl-dev,libssl-dev
# A root made by another recipe is made again.
RECIPE=2

total_passed=0 total_failed=0 total_skipped=0

# The releases to try for a version, the best first.
releases_of() {
	case $1 in
	15) say bookworm ;;
	17) say trixie ;;
	18) say forky sid ;;
	19) say sid ;;
	*) die "no Debian release has PostgreSQL $1" ;;
	esac
}

check_prerequisites() {
	((EUID == 0)) || die 'making roots for other versions needs root'
	PG_CONFIG='' "$ROOT/test/tools/setup.sh" --versions || die 'mmdebstrap could not be installed'
	command -v mmdebstrap >/dev/null || die 'mmdebstrap not found'
}

# Debian's mirror, from apt's own configuration.
mirror() {
	local format="\$(REPO_URI)" # expanded by apt
	apt-get indextargets --format "$format" 'Identifier: Packages' 'Label: Debian' 'Component: main' 2>/dev/null | head -n 1
}

find_mirror() {
	MIRROR=$(mirror)
	[[ -n $MIRROR ]] || { apt-get -qq update </dev/null; MIRROR=$(mirror); }
	[[ -n $MIRROR ]] || die 'apt knows no Debian mirror'
}

# --- roots ---

# bootstrap RELEASE INCLUDE VARIANT DIRECTORY [SOURCE...]
# What is excluded is the bulk, and is not used with with_llvm=no.
bootstrap() {
	local release=$1 include=$2 variant=$3 dir=$4
	shift 4
	mmdebstrap --quiet --mode=root --variant="$variant" ${include:+--include="$include"} \
		--aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
		--aptopt='Acquire::Retries "3"' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/lib/llvm-*' \
		--dpkgopt='path-exclude=/usr/include/llvm*' --dpkgopt='path-exclude=/usr/lib/*/libclang*' \
		--essential-hook='mkdir -p "$1/etc/postgresql-common"' \
		--essential-hook='echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"' \
		"$release" "$dir" "deb $MIRROR $release main" "$@"
}

# Keeps systemd itself out where postgresql-common wants its tmpfiles.
tmpfiles() {
	case $1 in
	sid | forky) say ,systemd-standalone-tmpfiles ;;
	esac
}

root_stable() {
	bootstrap "$2" "postgresql-$1,postgresql-server-dev-$1,postgresql-$1-pgtap,$COMMON$(tmpfiles "$2")" essential "$3"
}

# A version not released yet is in experimental, from where only its own
# packages are taken; pgTAP is not packaged for it and comes from the host.
root_experimental() {
	local v=$1 dir=$3
	bootstrap "$2" '' apt "$dir" "deb $MIRROR experimental main" &&
		printf '#!/bin/sh\nexit 101\n' >"$dir/usr/sbin/policy-rc.d" &&
		chmod +x "$dir/usr/sbin/policy-rc.d" &&
		enter "$dir" sh -c "apt-get -q update && apt-get install -q -y ${COMMON//,/ } systemd-standalone-tmpfiles \
			postgresql-$v/experimental postgresql-server-dev-$v/experimental postgresql-client-$v/experimental \
			libpq5/experimental libpq-dev/experimental" &&
		cp "$(PG_CONFIG='' && find_postgres && "$PG_CONFIG" --sharedir)"/extension/pgtap* \
			"$dir/usr/share/postgresql/$v/extension/"
}

# prepare_root VERSION: set DIR; a root that is not complete is made again.
prepare_root() {
	local v=$1 release kind=stable
	DIR=$ROOTS/$v
	[[ $(cat "$DIR/.evstore-recipe" 2>/dev/null) != "$RECIPE" ]] || return 0
	((v < 19)) || kind=experimental
	for release in $(releases_of "$v"); do
		rm -rf --one-file-system "$DIR"
		check_space
		say "$v: making a root with $release" >&2
		if (root_$kind "$v" "$release" "$DIR") </dev/null >"$ROOTS/$v.log" 2>&1; then
			say "$RECIPE" >"$DIR/.evstore-recipe"
			return 0
		fi
		say "$v: $release failed:" >&2
		tail -n 20 "$ROOTS/$v.log" >&2
	done
	rm -rf --one-file-system "$DIR"
	return 1
}

check_space() {
	local free
	free=$(df -Pk "$ROOTS" | awk 'NR == 2 { print int($4 / 1024) }')
	((free > 1500)) || die "a root needs 1500 MB, $ROOTS has $free"
}

# enter DIRECTORY COMMAND...: run in a root.  The mounts and every process vanish
# with the namespaces.
enter() {
	unshare --mount --pid --fork --kill-child --propagation private -- sh -c '
		root=$1; shift
		mount -t proc proc "$root/proc" && mount -t tmpfs -o size=1g,mode=1777 tmpfs "$root/dev/shm" || exit 1
		exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@"
	' sh "$@"
}

# --- tests ---

# The objects of the last run stay; the build finds out what is old.
copy_sources() {
	mkdir -p "$DIR/build/evstore"
	find "$DIR/build/evstore" -mindepth 1 -maxdepth 1 ! -name tmp_build -exec rm -rf {} +
	tar -C "$ROOT" -cf - --exclude='./tmp_*' --exclude='./.git' . | tar -C "$DIR/build/evstore" -xf - --no-same-owner
}

# add_sum VERSION: add the last line of the version's output to the totals
add_sum() {
	local line
	line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$ROOTS/$1.out" | tail -n 1 || true)
	if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed(,\ ([0-9]+)\ skipped)?$ ]]; then
		total_passed=$((total_passed + BASH_REMATCH[1]))
		total_failed=$((total_failed + BASH_REMATCH[2]))
		total_skipped=$((total_skipped + ${BASH_REMATCH[4]:-0}))
		(($2 == 0 || BASH_REMATCH[2] > 0)) || total_failed=$((total_failed + 1))
	else
		say "$1: the tests did not run to their end"
		total_failed=$((total_failed + 1))
	fi
}

test_version() {
	local v=$1 rc=0 var settings=()
	if ! prepare_root "$v"; then
		say "$v: no root: FAILED"
		total_failed=$((total_failed + 1))
		return
	fi
	copy_sources
	for var in TESTS PROVE_FLAGS EVS_PRELOAD EVS_TIMEOUT EVS_JOBS; do
		[[ -z ${!var:-} ]] || settings+=("$var=${!var}")
	done
	# shellcheck disable=SC2086 # suites are words
	enter "$DIR" env PG_CONFIG="/usr/lib/postgresql/$v/bin/pg_config" "${settings[@]}" \
		/build/evstore/test/tools/run_tests.sh $SUITES </dev/null 2>&1 |
		tee "$ROOTS/$v.out" | sed -u "/^[0-9]* passed, [0-9]* failed/d; s/^/$v  /" || rc=$?
	add_sum "$v" "$rc"
}

main() {
	(($# > 0)) || set -- 17 18
	local v
	for v; do
		releases_of "$v" >/dev/null
	done
	renice -n 10 $$ >/dev/null
	check_prerequisites
	find_mirror
	mkdir -p "$ROOTS"
	exec 9>"$ROOTS/.lock"
	flock -n 9 || die "another run uses $ROOTS"
	for v; do
		test_version "$v"
	done
	say "$total_passed passed, $total_failed failed$( ((total_skipped == 0)) || say ", $total_skipped skipped")"
	((total_failed == 0 && total_passed > 0))
}

main "$@"
