# shellcheck shell=bash
#
# What the test tools share; sourced, not run.

set -euo pipefail
umask 022

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# The caller's connection settings must not lead a test to another server.
clear_pg_environment() {
	local v
	for v in "${!PG@}"; do
		[[ $v == PG_* ]] || unset "$v"
	done
	unset LC_ALL LANGUAGE
	export LC_MESSAGES=C TZ=UTC
}

# PG_CONFIG and what it says.  A PG_CONFIG that was given is never replaced by another.
find_postgres() {
	if [[ -z ${PG_CONFIG:-} ]]; then
		PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config
		[[ -x $PG_CONFIG ]] || PG_CONFIG=$(command -v pg_config) || die 'pg_config not found: run "make setup"'
	fi
	PG_VERSION=$("$PG_CONFIG" --version) || die "$PG_CONFIG does not work: run \"make setup\""
	PG_MAJOR=$(sed 's/^[^0-9]*\([0-9]*\).*/\1/' <<<"$PG_VERSION")
	PG_BINDIR=$("$PG_CONFIG" --bindir)
	PGXS_TREE=$(dirname "$("$PG_CONFIG" --pgxs)")/../..
	[[ -d $PGXS_TREE ]] || die "no PostgreSQL $PG_MAJOR development files: run \"make setup\""
	PGXS_TREE=$(cd "$PGXS_TREE" && pwd -P)
	export PG_CONFIG
}

# Take tmp_NAME for this run, or tmp_NAME.1 and so on when another run has it.
# Sets TMP.  File descriptor 9 holds the lock; what outlives us must close it.
claim_tmp() {
	local n=
	while :; do
		TMP=$ROOT/tmp_$1${n:+.$n}
		mkdir -p "$TMP"
		exec 9>"$TMP/.lock"
		flock -n 9 && return
		n=$((${n:-0} + 1))
		((n < 20)) || die "too many runs at the same time: $TMP"
	done
}

# PostgreSQL refuses to run as root.
choose_server_user() {
	SERVER_USER=$(id -un)
	if ((EUID == 0)); then
		SERVER_USER=postgres
		id -u postgres >/dev/null 2>&1 || SERVER_USER=nobody
	fi
}

as_server_user() {
	(
		cd "$WORK"
		if ((EUID == 0)); then
			exec setpriv --reuid="$(id -u "$SERVER_USER")" --regid="$(id -g "$SERVER_USER")" --init-groups \
				env HOME="$WORK" "$@" 9>&-
		fi
		exec "$@" 9>&-
	)
}

# $TMP/work, where the unprivileged user can write.  When that user cannot get
# there (a repository in root's home), it is a link to a place where it can.
make_work() {
	choose_server_user
	remove_work
	WORK=$TMP/work
	mkdir "$WORK"
	own_by_server_user "$WORK"
	if ((EUID == 0)) && ! (cd / && setpriv --reuid="$(id -u "$SERVER_USER")" --regid="$(id -g "$SERVER_USER")" \
		--clear-groups test -w "$WORK"); then
		rmdir "$WORK"
		ln -s "$(mktemp -d "${TMPDIR:-/tmp}/evstore.XXXXXX")" "$WORK"
		WORK=$(readlink "$TMP/work")
		chmod 755 "$WORK"
		own_by_server_user "$WORK"
	fi
}

own_by_server_user() {
	((EUID != 0)) || chown -R "$SERVER_USER:" "$@"
}

# Also what a run that was killed left behind, its servers first.
remove_work() {
	local link
	if [[ -d $TMP/work ]]; then
		stop_left_servers
		for link in "$TMP"/work/*.sockets "$TMP/work"; do
			[[ ! -L $link ]] || rm -rf "$(readlink "$link")"
		done
	fi
	rm -rf "$TMP/work"
}

stop_left_servers() {
	local pidfile pid data i
	find "$TMP/work/" -name postmaster.pid | while read -r pidfile; do
		pid=$(head -n 1 "$pidfile")
		data=$(readlink -f "$(dirname "$pidfile")")
		# The number alone may be somebody else's by now.
		[[ $(readlink "/proc/$pid/cwd") == "$data" ]] || continue
		kill -QUIT "$pid"
		for ((i = 0; i < 100; i++)); do
			kill -0 "$pid" 2>/dev/null || break
			sleep 0.1 # poll
		done
	done
}
