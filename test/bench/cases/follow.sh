# shellcheck shell=bash
#
# What it costs the appends that somebody asks for the safe position all the time.

FOLLOW_RATE=500
FOREIGN_LOCKS=50000

case_follow() {
	evstore_database follow
	evstore_load follow 1 "$STREAMS" 1
	append_workloads
	warm_up evstore_append 32 1 follow
	compare follow "32 clients, followed $FOLLOW_RATE times a second, not" 0.98 followed not_followed
	hold_locks
	BENCH_RUNS=1 compare follow "the same with $FOREIGN_LOCKS foreign locks" - followed not_followed
	release_locks
}

not_followed() { rate evstore_append 32 1 follow; }

followed() {
	follow "$TMP/follow.out" &
	rate evstore_append 32 1 follow
	wait "$!"
	progress "followed $(cat "$TMP/follow.out")"
}

# The loop is in the server, so that a client's own work is not counted.  A turn
# that took too long makes the next ones shorter.
follow() {
	sql -d follow >"$1" 2>&1 <<-SQL
		DO \$body\$
		DECLARE
			start timestamptz := clock_timestamp();
			n int := 0;
		BEGIN
			WHILE clock_timestamp() < start + interval '$BENCH_SECONDS s' LOOP
				PERFORM evstore.safe_position();
				n := n + 1;
				PERFORM pg_sleep(extract(epoch FROM start - clock_timestamp()) + n / $FOLLOW_RATE.0);
			END LOOP;
			PERFORM set_config('bench.followed', n::text, false);
		END \$body\$;
		SELECT current_setting('bench.followed') || ' times in $BENCH_SECONDS s';
	SQL
}

# hold_locks: a session with many advisory locks, until release_locks
hold_locks() {
	PGAPPNAME=locks sql -d postgres -c "SELECT count(pg_advisory_lock(i)) FROM generate_series(1, $FOREIGN_LOCKS) i" \
		-c 'SELECT pg_sleep(100000)' >/dev/null 2>&1 &
	until (($(sql -d postgres -c "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid <= $FOREIGN_LOCKS") >= FOREIGN_LOCKS)); do
		sleep 0.1
	done
}

release_locks() {
	sql -d postgres -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'locks'" >/dev/null
	wait "$!" || true
}
