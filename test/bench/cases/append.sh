# shellcheck shell=bash
#
# One event a transaction, to streams that exist.

case_append() {
	prepare_append
	compare_append 1 0.9 rate ''
	compare_append 8 1.0 rate ''
	compare_append 32 1.0 rate ''
}

case_async() {
	prepare_append
	compare_append 8 0.9 rate_async ', asynchronous commit'
}

prepare_append() {
	[[ -z ${APPEND_PREPARED:-} ]] || return 0
	APPEND_PREPARED=1
	evstore_database append
	sql -d append -f "$BENCH_DIR/plain.sql"
	evstore_load append 1 "$STREAMS" 1
	append_workloads
	warm_up evstore_append 8 1 append
	warm_up plain_append 8 1 append
}

append_workloads() {
	workload evstore_append <<-END
		\set s random(1, $STREAMS)
		SELECT * FROM evstore.append('account-' || :s, :t@K@, :p@K@);
	END
	workload plain_append <<-END
		\set s random(1, $STREAMS)
		INSERT INTO plain.event (stream_id, version, category_hash, schema_version, event_id, recorded_at, type, data)
		VALUES (:s, nextval('plain.version_seq'), 4711, 1, gen_random_uuid(), clock_timestamp(), :t@K@, :p@K@);
	END
}

# compare_append CLIENTS TARGET COMMAND TEXT
compare_append() {
	compare append "$1 clients, 1 event, plain INSERT$4" "$2" "$3 evstore_append $1 1 append" "$3 plain_append $1 1 append"
}
