#!/bin/sh
#
# rabbitmq.sh DIR EPMD_PORT DIST_PORT [rabbitmqctl ARGUMENT...]
#
# Becomes a RabbitMQ server that has all its files in DIR, or the tool that talks to
# it; as whoever calls it.  DIR/rabbitmq.conf says the rest, its ports too.  An epmd has to
# listen on EPMD_PORT, otherwise Erlang would start one that nobody ends.

set -eu
dir=$1 epmd=$2 dist=$3
shift 3

cd "$dir"
mkdir -p log mnesia
[ -e plugins ] || echo '[].' >plugins
export HOME="$dir" ERL_EPMD_PORT="$epmd" ERL_EPMD_ADDRESS=127.0.0.1 ERL_CRASH_DUMP_SECONDS=0
export RABBITMQ_NODENAME=evs@localhost RABBITMQ_DIST_PORT="$dist"
export RABBITMQ_CONF_ENV_FILE="$dir/none" RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf"
export RABBITMQ_ENABLED_PLUGINS_FILE="$dir/plugins" RABBITMQ_MNESIA_BASE="$dir/mnesia"
export RABBITMQ_LOG_BASE="$dir/log" RABBITMQ_LOGS="$dir/log/rabbit.log"
# not a shell that waits, but the server itself
export RABBITMQ_ALLOW_INPUT=1 RABBITMQ_SERVER_START_ARGS=-noinput
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='+S 2:2 -kernel inet_dist_use_interface {127,0,0,1}'
export RABBITMQ_CTL_DIST_PORT_MIN=0 RABBITMQ_CTL_DIST_PORT_MAX=0

if [ $# -gt 0 ]; then
	shift
	exec /usr/lib/rabbitmq/bin/rabbitmqctl "$@"
fi
exec /usr/lib/rabbitmq/bin/rabbitmq-server
