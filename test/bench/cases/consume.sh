# shellcheck shell=bash
#
# Taking events out: by hundreds, acknowledged each time.
#
# The queue is a table as pgmq has it, with the same events: rows are claimed by
# UPDATE for half a minute and then deleted, by the statements of pgmq's functions.
# It is filled anew for each run, so it has no dead rows when a run begins.
#
# Settings from the environment:
#   BENCH_BACKLOG   events to take (default: 200000)

BENCH_BACKLOG=${BENCH_BACKLOG:-200000}

case_consume() {
	prepare_consume
	prepare_queue
	compare consume "1 consumer, fetch 100 and ack; SKIP LOCKED" 3 'consumed one 1' queue_consumed
}

case_slots() {
	prepare_consume
	compare slots '4 slots with 4 consumers; 1 slot with 1' 1.7 'consumed four 4' 'consumed one 1'
}

case_consume-snapshot() {
	prepare_consume
	compare consume-snapshot '1 consumer under an old snapshot; without' 0.9 consumed_under_snapshot 'consumed one 1'
	# what was kept for the snapshot goes after it, which is not the run's own
	record_dead_rows 'rows that have died, events taken' : -
	record_dead_rows 'the same under the snapshot' hold_snapshot_of_consume '<=0.01'
}

# Events of 1000 streams, ten of each in turn.
prepare_consume() {
	local i
	[[ -z ${CONSUME_PREPARED:-} ]] || return 0
	CONSUME_PREPARED=1
	evstore_database consume
	for ((i = 0; i < BENCH_BACKLOG; i += 10000)); do
		evstore_load consume 1 1000 10
	done
	BENCH_BACKLOG=$(sql -d consume -c 'SELECT count(*) FROM evstore.event_log')
	sql -d consume -o /dev/null -c "SELECT evstore.create_subscription('one'), evstore.create_subscription('four', slots => 4)" \
		-c 'VACUUM (ANALYZE)'
	# the first one reads everything into the caches
	consumed one 1 >/dev/null
}

prepare_queue() {
	sql -d consume <<-'END'
		CREATE SCHEMA queue;
		CREATE TABLE queue.message (
			msg_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
			read_ct int NOT NULL DEFAULT 0,
			enqueued_at timestamptz NOT NULL DEFAULT now(),
			vt timestamptz NOT NULL DEFAULT now(),
			message jsonb,
			headers jsonb
		);
		CREATE INDEX ON queue.message (vt);
	END
}

# consumed SUBSCRIPTION CONSUMERS: events a second
consumed() {
	sql -d consume -o /dev/null -c "SELECT evstore.seek('$1', 'beginning')"
	"$CLIENT" consume consume evstore "$1" "$2" "$BENCH_BACKLOG" "$BENCH_SECONDS"
}

queue_consumed() {
	sql -d consume <<-'END'
		TRUNCATE queue.message;
		INSERT INTO queue.message (message, headers)
		SELECT data, jsonb_build_object('type', type) FROM evstore.events ORDER BY "position";
		VACUUM (ANALYZE) queue.message;
	END
	"$CLIENT" consume consume queue message 1 "$BENCH_BACKLOG" "$BENCH_SECONDS"
}

consumed_under_snapshot() {
	hold_snapshot_of_consume
	consumed one 1
	release_snapshot
}

hold_snapshot_of_consume() { hold_snapshot 1000 consume; }

# record_dead_rows TEXT BEFORE WANTED: those of all of evstore's tables, after one run
record_dead_rows() {
	local before dead
	before=$(dead_rows)
	"$2"
	sql -d consume -o /dev/null -c "SELECT evstore.seek('one', 'beginning')"
	"$CLIENT" consume consume evstore one 1 "$BENCH_BACKLOG" 1000 >/dev/null
	dead=$(($(dead_rows) - before))
	[[ $2 == : ]] || release_snapshot
	record consume-snapshot "$1" "$3" "$dead" "$BENCH_BACKLOG" "$(quotient "$dead" "$BENCH_BACKLOG")"
}

# When all who took part have gone, and so have told the statistics.
dead_rows() {
	until [[ $(sql -d consume -c "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bench client'") == 0 ]]; do
		sleep 0.05
	done
	sql -d consume -c "SELECT sum(n_dead_tup) FROM pg_stat_user_tables WHERE schemaname = 'evstore'"
}
