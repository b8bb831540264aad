#!/bin/bash
#
# setup.sh [--versions] [--pg-config]
#
# Install the Debian packages that building and testing need, those that are
# missing.  Needs root or sudo when there are any.
#
#   --versions    also what versions.sh needs
#   --pg-config   print the path of pg_config on standard output
#
# PG_CONFIG chooses the server; without it 15, or the newest that is offered.

. "$(dirname "$0")/lib.sh"

MAJORS=(15 18 17 16)

usage() { die 'usage: setup.sh [--versions] [--pg-config]'; }
step() { say "setup: $*" >&2; }

as_root() {
	if ((EUID == 0)); then
		"$@"
	else
		command -v sudo >/dev/null || die "missing packages: ${missing:-}; install them, or run this as root"
		sudo "$@"
	fi
}

# The output of apt is shown only when it fails.
apt() {
	local log
	log=$(mktemp)
	if ! as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=600 \
		"$@" </dev/null >"$log" 2>&1; then
		tail -n 30 "$log" >&2
		rm -f "$log"
		die "apt-get $1 failed"
	fi
	rm -f "$log"
}

installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }
offered() { [[ -n $(apt-cache madison "$1" 2>/dev/null) ]]; }

# not_installed PACKAGE...: print those that are not
not_installed() {
	comm -23 <(printf '%s\n' "$@" | sort -u) \
		<(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null | sed -n 's/ installed$//p' | sort -u)
}

update_once() {
	[[ -n ${updated:-} ]] || { step 'reading the package lists'; apt update; }
	updated=1
}

choose_major() {
	if [[ -n ${PG_CONFIG:-} ]]; then
		major=$("$PG_CONFIG" --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/') || die "$PG_CONFIG does not work"
		return
	fi
	for major in "${MAJORS[@]}"; do
		! installed "postgresql-server-dev-$major" || return 0
	done
	update_once
	for major in "${MAJORS[@]}"; do
		! offered "postgresql-server-dev-$major" || return 0
	done
	die "no PostgreSQL of ${MAJORS[*]} is offered by this distribution"
}

# A server of one's own in a place of its own brings its own files.
from_debian() {
	[[ -z ${PG_CONFIG:-} || $("$PG_CONFIG" --bindir) == "/usr/lib/postgresql/$major/bin" ]]
}

wanted() {
	printf '%s\n' gcc make libc6-dev perl libtap-parser-sourcehandler-pgtap-perl libipc-run-perl
	! from_debian || printf '%s\n' "postgresql-$major" "postgresql-server-dev-$major" "postgresql-$major-pgtap" libpq-dev
	printf '%s\n' pkg-config libcurl4-openssl-dev libssl-dev openssl libio-socket-ssl-perl librdkafka-dev
	# brokers that the tests talk to, and who reads what Kafka and MQTT have
	printf '%s\n' nats-server rabbitmq-server mosquitto mosquitto-clients redis-server kcat
	# from wherever they are
	command -v node >/dev/null && command -v npm >/dev/null || printf '%s\n' nodejs npm
	[[ -z ${versions:-} ]] || printf '%s\n' mmdebstrap
}

# The package of a server makes a cluster and starts it.  We need none, so that
# is switched off while we install, and then left as the user had it.  The same
# for brokers: unless the machine has a policy about what is started, ours is nothing.
CLUSTER_CONF=/etc/postgresql-common/createcluster.conf
SERVICE_POLICY=/usr/sbin/policy-rc.d

install_without_cluster() {
	if ! installed postgresql-common; then
		step 'installing postgresql-common'
		apt install -y --no-install-recommends postgresql-common
	fi
	conf_before=$(mktemp)
	cp "$CLUSTER_CONF" "$conf_before"
	trap restore_cluster_conf EXIT
	as_root sh -c "echo 'create_main_cluster = false' >>$CLUSTER_CONF"
	install_missing
}

restore_cluster_conf() {
	as_root sh -c "cat >$CLUSTER_CONF" <"$conf_before"
	rm -f "$conf_before"
}

install_missing() {
	local ours='' result=0
	step "installing $missing"
	if [[ ! -e $SERVICE_POLICY ]]; then
		ours=1
		as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$SERVICE_POLICY && chmod 755 $SERVICE_POLICY"
	fi
	# shellcheck disable=SC2086 # names are words
	(apt install -y --no-install-recommends $missing) || result=$?
	[[ -z $ours ]] || as_root rm -f "$SERVICE_POLICY"
	((result == 0)) || exit 1
}

check_result() {
	[[ -x /usr/lib/postgresql/$major/bin/pg_config ]] && from_debian && PG_CONFIG=/usr/lib/postgresql/$major/bin/pg_config
	find_postgres
	[[ -f $("$PG_CONFIG" --sharedir)/extension/pgtap.control ]] ||
		step "pgTAP is missing in $("$PG_CONFIG" --sharedir): its tests will fail"
}

main() {
	local print=''
	major='' missing='' versions=''
	for arg; do
		case $arg in
		--versions) versions=1 ;;
		--pg-config) print=1 ;;
		*) usage ;;
		esac
	done
	if ! command -v dpkg-query >/dev/null; then
		find_postgres
		step 'not a Debian system: packages are not checked'
	else
		choose_major
		# shellcheck disable=SC2046 # names are words
		missing=$(not_installed $(wanted) | paste -sd ' ')
		if [[ -n $missing ]]; then
			update_once
			if [[ " $missing " == *" postgresql-$major "* ]]; then
				install_without_cluster
			else
				install_missing
			fi
		fi
		check_result
	fi
	[[ -z $print ]] || say "$PG_CONFIG"
}

main "$@"
