# shellcheck shell=bash
#
# A private installation and a private server; sourced after lib.sh.
#
# The tests do not touch the system's installation, nor need the right to: the
# server's executables are copied and its files linked below $WORK/inst, which
# works because PostgreSQL finds its files relative to its executable, and
# evstore is installed there.  So runs of different trees cannot meet.
#
# Settings from the environment:
#   EVS_PRELOAD   shared_preload_libraries, empty by default
#   EVS_FSYNC     on or off (default)
#   EVS_CONF      a file to append to postgresql.conf

SOCKETS=
SERVER_DATA=

# build VARIANT [MAKE_ARGUMENT...]: build in a copy of the sources, one for each
# variant and major version, and remember it as BUILD.
build() {
	local variant=$1
	shift
	BUILD=$ROOT/tmp_build/$variant-$PG_MAJOR
	mkdir -p "$BUILD"
	# Joined by && because a caller that asks for the status switches -e off.
	(
		flock 8 && copy_sources_to_build &&
			make_in_build "$@" all &&
			{ [[ -z ${INST:-} ]] || make_in_build "$@" install DESTDIR="$INST" >/dev/null; }
	) 8>"$BUILD.lock"
}

# Not the objects: the make in there has its own, by its own flags.
copy_sources_to_build() {
	find "$BUILD" -name '*.[ch]' -delete
	rm -rf "$BUILD/sql"
	(cd "$ROOT" && tar -cf - --exclude='*.[od]' --exclude='*.so' --exclude='evstore--*.sql' \
		Makefile evstore.control src sql test/tools/*.[ch]) | tar -C "$BUILD" -xf - --no-same-owner
}

# Free of what a make that called us says to its own children.
make_in_build() {
	env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -s --no-print-directory -j"$(nproc)" -C "$BUILD" PG_CONFIG="$PG_CONFIG" "$@"
}

# The flags of a build for tests and of one for use.
test_build() { build test test-tools COPT='-Werror -DUSE_ASSERT_CHECKING -DEVS_DEBUG_POINTS'; }
release_build() { build release; }

# private_install VARIANT: set INST and BINDIR; VARIANT is test or release.
private_install() {
	local share lib
	share=$("$PG_CONFIG" --sharedir)
	lib=$("$PG_CONFIG" --pkglibdir)
	INST=$WORK/inst
	BINDIR=$INST$PG_BINDIR
	mkdir -p "$BINDIR" "$INST$share" "$INST$lib"
	cp -p "$PG_BINDIR"/* "$BINDIR/"
	cp -rs "$share/." "$INST$share/"
	cp -rs "$lib/." "$INST$lib/"
	rm -f "$INST$share"/extension/evstore* "$INST$lib"/evstore*
	"$1_build" || return
	# sinks for tests of relays, beside the real ones
	[[ $1 != test ]] || cp "$BUILD"/test/tools/evstore_sink_*.so "$INST$lib/"
}

# start_server NAME: a new cluster, log in $WORK/NAME.log; sets the client's environment.
start_server() {
	SERVER_DATA=$WORK/$1.data
	SERVER_LOG=$WORK/$1.log
	# Not below the repository: the path of a socket may have 107 bytes only.
	SOCKETS=$(mktemp -d /tmp/evs.XXXXXX)
	ln -sfn "$SOCKETS" "$WORK/$1.sockets"
	own_by_server_user "$SOCKETS"
	as_server_user "$BINDIR/initdb" -D "$SERVER_DATA" -U postgres -A trust -E UTF8 --no-locale --no-sync \
		>"$TMP/initdb.log" 2>&1 || { cat "$TMP/initdb.log"; die 'initdb failed'; }
	server_settings >>"$SERVER_DATA/postgresql.conf"
	if ! as_server_user "$BINDIR/pg_ctl" -D "$SERVER_DATA" -l "$SERVER_LOG" -w -t 60 start >"$TMP/pg_ctl.log" 2>&1; then
		cat "$TMP/pg_ctl.log"
		tail -n 50 "$SERVER_LOG" || true
		die 'the server does not start'
	fi
	export PGHOST=$SOCKETS PGPORT=5432 PGUSER=postgres PGDATABASE=postgres
	export EVS_SERVER_LOG=$SERVER_LOG EVS_SERVER_DATA=$SERVER_DATA
}

server_settings() {
	cat <<-END
		listen_addresses = ''
		port = 5432
		unix_socket_directories = '$SOCKETS'
		max_prepared_transactions = 20
		max_worker_processes = 16
		shared_preload_libraries = '${EVS_PRELOAD:-}'
		fsync = ${EVS_FSYNC:-off}
		log_checkpoints = off
		log_line_prefix = '%m [%p] [%a] '
		timezone = 'UTC'
		log_timezone = 'UTC'
	END
	[[ -z ${EVS_CONF:-} ]] || cat "$EVS_CONF"
}

stop_server() {
	[[ -n $SERVER_DATA ]] || return 0
	if [[ -f $SERVER_DATA/postmaster.pid ]]; then
		as_server_user "$BINDIR/pg_ctl" -D "$SERVER_DATA" -m fast -w -t 30 stop >/dev/null 2>&1 ||
			as_server_user "$BINDIR/pg_ctl" -D "$SERVER_DATA" -m immediate -w stop >/dev/null 2>&1 || true
	fi
	SERVER_DATA=
	rm -rf "$SOCKETS"
}
