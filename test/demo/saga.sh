# shellcheck shell=bash
# shellcheck disable=SC2154 # here and scratch are those of demo.sh
#
# Passengers of flights that are very late are cared for by a saga.  Sourced by demo.sh.

# Flights land late, which starts sagas.  One desk is killed with tasks in its hands, the
# other one does what comes.
care() {
	local desk loader started took

	sql -f "$here/saga.sql"
	started=$(sql -c 'SELECT clock_timestamp()')
	sql -c 'CALL demo.load_single(30001, 30093)' &
	loader=$!
	client desk-1
	ask desk-1 "SELECT count(*) FROM evstore.fetch_tasks('voucher', 'desk-1', 5, 30000)"
	kill -9 "$client"
	wait "$client" 2>/dev/null || true
	exec {client_in}>&-
	sql -c "SELECT demo.note('kill -9 of a desk, which had $answer tasks in its hands')"
	sql -c "CALL care.desk('desk-2')" &
	desk=$!
	wait "$loader"
	poll_for 60 is_true "count(*) = 93 AND count(*) = count(s.ended_at) FROM evstore.sagas AS s WHERE s.saga = 'care'"
	took=$(sql -c "SELECT demo.seconds_since('$started')")
	wait "$desk"
	sql -v took="$took" -f "$here/cared.sql"
}
