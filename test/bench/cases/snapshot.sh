# shellcheck shell=bash
#
# One hot stream, and a session that holds an old snapshot.
#
# Dead row versions would pile up behind the snapshot, if appends left any, and
# make each append slower than the one before.

case_snapshot() {
	local seconds=$((BENCH_SECONDS * 2))
	sql -d postgres -c 'ALTER SYSTEM SET autovacuum = on' -c 'SELECT pg_reload_conf()' >/dev/null
	evstore_database hot
	workload evstore_hot <<-'END'
		SELECT * FROM evstore.append('account-1', :t@K@, :p@K@);
	END
	warm_up evstore_hot 8 1 hot
	BENCH_SECONDS=$seconds compare snapshot '8 clients, one stream, no snapshot held' 0.9 hot_with_snapshot hot_without_snapshot
	compare_end_with_beginning
	sql -d postgres -c 'ALTER SYSTEM RESET autovacuum' -c 'SELECT pg_reload_conf()' >/dev/null
}

hot_without_snapshot() { rate_async evstore_hot 8 1 hot; }

hot_with_snapshot() {
	hold_snapshot $((BENCH_SECONDS + 1))
	rate_async evstore_hot 8 1 hot
	wait "$SNAPSHOT_HOLDER"
}

# hold_snapshot SECONDS [DATABASE]: in the background; returns once the snapshot is taken
hold_snapshot() {
	sql -d "${2:-hot}" >/dev/null 2>"$TMP/snapshot.err" 9>&- <<-END &
		SET application_name = 'snapshot';
		BEGIN ISOLATION LEVEL REPEATABLE READ;
		SELECT count(*) FROM evstore.streams;
		SELECT pg_sleep($1);
		COMMIT;
	END
	SNAPSHOT_HOLDER=$!
	until [[ $(sql -d postgres -c "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'snapshot' AND wait_event = 'PgSleep'") == 1 ]]; do
		sleep 0.05
	done
}

# before its time
release_snapshot() {
	sql -d postgres -o /dev/null -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'snapshot'"
	wait "$SNAPSHOT_HOLDER" 2>/dev/null || true
}

# One long run under a snapshot: its last quarter against its first.
compare_end_with_beginning() {
	local rates n quarter BENCH_SECONDS=$((BENCH_SECONDS * 5))
	hold_snapshot $((BENCH_SECONDS + 1))
	rate_async evstore_hot 8 1 -P 1 hot >/dev/null
	wait "$SNAPSHOT_HOLDER"
	# the first second has the connections in it
	mapfile -t rates < <(awk '/^progress:/ && n++ > 0 { print $4 }' "$TMP/pgbench.out")
	n=${#rates[@]}
	quarter=$((n / 4 > 0 ? n / 4 : 1))
	set -- "$(median "${rates[@]:n - quarter}")" "$(median "${rates[@]:0:quarter}")"
	record snapshot "$((n + 1)) s under a snapshot: last quarter, first" 0.9 "$1" "$2" \
		"$(awk -v a="$1" -v b="$2" 'BEGIN { print a / b }')"
}
