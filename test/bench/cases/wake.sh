# shellcheck shell=bash
#
# What it costs the appends that others wait for events.
#
# On one side the dispatcher runs, WAKE_SESSIONS sessions listen and as many wait
# in fetch().  On the other there is nothing of the kind, not even a dispatcher; or
# each append notifies WAKE_SESSIONS listeners itself.

WAKE_SESSIONS=10

# A commit that takes a millisecond, with group commit as it is: for machines whose
# disk answers at once.
SLOW_FLUSH='-c commit_delay=1000 -c commit_siblings=0'

case_wake() {
	prepare_wake
	WAKE_SUBSCRIPTIONS=other compare wake "32 clients, $WAKE_SESSIONS listen, $WAKE_SESSIONS fetch other things; nobody" 0.95 \
		appends_waited_for appends_alone
	WAKE_SUBSCRIPTIONS=all compare wake "32 clients, $WAKE_SESSIONS listen, $WAKE_SESSIONS fetch all of it; nobody" - \
		appends_waited_for appends_alone
}

case_wake-vs-notify() {
	prepare_wake
	fact 'microseconds that a flush takes' "$(flush_time)"
	WAKE_SUBSCRIPTIONS=other compare wake-vs-notify "32 clients, the same, NOTIFY in each append" 3 \
		appends_waited_for appends_notifying
	WAKE_SUBSCRIPTIONS=other PGOPTIONS="$PGOPTIONS $SLOW_FLUSH" compare wake-vs-notify \
		"the same with commit_delay = 1 ms" 3 appends_waited_for appends_notifying
}

prepare_wake() {
	local i
	[[ -z ${WAKE_PREPARED:-} ]] || return 0
	WAKE_PREPARED=1
	evstore_database wake
	evstore_load wake 1 "$STREAMS" 1
	append_workloads
	workload notifying_append <<-END
		\set s random(1, $STREAMS)
		SELECT a.*, pg_notify('bench', '') FROM evstore.append('account-' || :s, :t@K@, :p@K@) a;
	END
	# what others do with the log: half of them name categories, half types
	for ((i = 1; i <= WAKE_SESSIONS; i++)); do
		sql -d wake -o /dev/null -c "SELECT evstore.create_subscription('all_$i'), evstore.create_subscription('other_$i', jsonb_build_object(
			CASE WHEN $i % 2 = 0 THEN 'categories' ELSE 'types' END, jsonb_build_array('other_$i')))"
	done
	warm_up evstore_append 32 1 wake
}

flush_time() { as_server_user "$CLIENT" flush "$SERVER_DATA/flush"; }

appends_alone() {
	sql -d wake -o /dev/null -c 'SELECT evstore.stop()'
	rate evstore_append 32 1 wake
}

appends_waited_for() {
	sql -d wake -o /dev/null -c 'SELECT evstore.start()' \
		-c "SELECT evstore.seek(name, 'end') FROM evstore.subscription WHERE name ~ '^${WAKE_SUBSCRIPTIONS}_'"
	start_client listen wake evstore "$WAKE_SESSIONS"
	start_client wait wake $(seq -f "${WAKE_SUBSCRIPTIONS}_%.0f" "$WAKE_SESSIONS")
	rate evstore_append 32 1 wake
	stop_clients
}

appends_notifying() {
	sql -d wake -o /dev/null -c 'SELECT evstore.stop()'
	start_client listen wake bench "$WAKE_SESSIONS"
	rate notifying_append 32 1 wake
	stop_clients
}
