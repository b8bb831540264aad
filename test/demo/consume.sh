# shellcheck shell=bash
# shellcheck disable=SC2154 # here and scratch are those of demo.sh
#
# Two consumers, one of which is killed; a listener.  Sourced by demo.sh.

# poll_for SECONDS COMMAND...: until the command succeeds
poll_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		if ((SECONDS > end)); then
			echo "It has not come true in time: $*" >&2
			return 1
		fi
		sleep 0.02 # poll
	done
}

# client NAME: a psql that is told what to do one statement after the other; its
# process in $client, what goes to it by tell, what comes back in $scratch/NAME.out
client() {
	mkfifo "$scratch/$1.in"
	psql -X -q -A -t -v ON_ERROR_STOP=1 <"$scratch/$1.in" >"$scratch/$1.out" 2>&1 &
	client=$!
	exec {client_in}>"$scratch/$1.in"
}
tell() {
	echo "$*" >&"$client_in"
}

said() {
	grep -q "$2" "$scratch/$1.out"
}

# ask NAME STATEMENT: its result, a line
ask() {
	questions=$((${questions:-0} + 1))
	tell "$2; \\echo answer $questions"
	poll_for 60 said "$1" "^answer $questions\$"
	answer=$(tail -n 2 "$scratch/$1.out" | head -n 1)
}

is_true() {
	[[ $(sql -c "SELECT $1") == t ]]
}

both_have_slots() {
	is_true "count(DISTINCT consumer) = 2 FROM evstore.subscription_slots WHERE subscription = 'flights' AND claimed"
}

# worker-1 is a procedure; worker-2 a client that works a batch in two
# transactions, and is killed in the middle of the second.
consume_in_a_group() {
	local started worker_1 done_by_2=0

	sql -f "$here/consume_setup.sql"
	started=$(sql -c 'SELECT clock_timestamp()')
	client worker-2
	ask worker-2 "SELECT demo.take('flights', 'worker-2', 0)"
	sql -c "CALL demo.consume('flights', 'worker-1', 60000)" &
	worker_1=$!
	while ((done_by_2 < 5000 || answer == 0)) || ! both_have_slots; do
		ask worker-2 "SELECT demo.work('flights', 'worker-2')"
		done_by_2=$((done_by_2 + answer))
		ask worker-2 "SELECT demo.take('flights', 'worker-2', 1000)"
	done

	tell 'INSERT INTO demo.held SELECT position FROM batch;'
	ask worker-2 "BEGIN; SELECT demo.work('flights', 'worker-2')"
	sql -f "$here/consuming.sql"
	kill -9 "$client"
	wait "$client" 2>/dev/null || true
	exec {client_in}>&-
	sql -c "SELECT demo.note('kill -9 of worker-2: $answer events written, not committed')"
	wait "$worker_1"
	sql -v started="$started" -f "$here/consumed.sql"
}

# A session that has said LISTEN, and one that waits in fetch().
wake_up() {
	local position

	sql -f "$here/listen.sql"
	client listener
	ask listener 'LISTEN evstore_sub_news; SELECT 1'
	sql -c "SELECT demo.wait_for_news()" >"$scratch/waiter.out" &
	poll_for 60 is_true "count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%demo.wait_for_news()' AND wait_event_type = 'Extension'"

	position=$(sql -c "SELECT position FROM evstore.append('news-1', 'Published')")
	wait $!
	poll_for 60 hears "Asynchronous notification \"evstore_sub_news\" with payload \"$position\""
	exec {client_in}>&-
	sql -v waited="$(<"$scratch/waiter.out")" -v position="$position" -f "$here/woken.sql"
	sql -c "SELECT demo.check(true, 'LISTEN evstore_sub_news: the listener is told of position $position')"
}

# psql shows notifications with the next statement
hears() {
	ask listener 'SELECT 1'
	said listener "$1"
}
