#!/bin/bash
#
# with_server.sh [-n NAME] [-t] [--] COMMAND [ARGUMENT...]
#
# Run a command with a private server that has evstore installed, and stop the
# server when the command ends.  The command finds the server by PGHOST and the
# like, its programs first in PATH, its log in EVS_SERVER_LOG.
#
#   -n NAME   work in tmp_NAME (default: server)
#   -t        a build for tests: assertions, debug points
#
# server.sh lists the settings taken from the environment.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/server.sh"

name=server variant=release
while getopts n:t option; do
	case $option in
	n) name=$OPTARG ;;
	t) variant='test' ;;
	*) die 'usage: with_server.sh [-n NAME] [-t] [--] COMMAND...' ;;
	esac
done
shift $((OPTIND - 1))
(($# > 0)) || die 'which command?'

finish() {
	stop_server
	[[ ! -f $WORK/server.log ]] || cp "$WORK/server.log" "$TMP/server.log"
	remove_work
}

clear_pg_environment
find_postgres
claim_tmp "$name"
make_work
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
private_install "$variant"
start_server server
export PATH=$BINDIR:$PATH
"$@" 9>&-
