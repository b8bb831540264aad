# shellcheck shell=bash
#
# Reading a stream, and the whole log.  The plain table has the name of the stream
# in each row, which evstore looks up.

READ_STREAMS=1000
READ_EVENTS=1000

case_read() {
	prepare_read
	compare read "read_stream, $READ_EVENTS events" 0.9 \
		"rate evstore_read_stream 1 $READ_EVENTS read" "rate plain_read_stream 1 $READ_EVENTS read"
	compare read "read_all by 1000 through $((READ_STREAMS * READ_EVENTS))" 0.9 \
		"rate evstore_read_all 1 1000 read" "rate plain_read_all 1 1000 read"
	compare read 'read_stream, the newest event' - \
		"rate evstore_read_last 1 1 read" "rate plain_read_last 1 1 read"
}

prepare_read() {
	local i
	evstore_database read
	for ((i = 0; i < READ_EVENTS; i += BATCH)); do
		evstore_load read 1 "$READ_STREAMS" "$BATCH"
	done
	# the same rows in the same order
	sql -d read -f "$BENCH_DIR/plain.sql" -f - <<-'END'
		ALTER TABLE plain.event ADD stream text NOT NULL;
		INSERT INTO plain.event ("position", stream_id, version, category_hash, schema_version, event_id, recorded_at, type, data,
			metadata, correlation_id, causation_id, source, tags, stream)
		SELECT "position", substr(stream, 9)::bigint, version, 4711, schema_version, event_id, recorded_at, type, data,
			metadata, correlation_id, causation_id, source, tags, stream
		FROM evstore.events ORDER BY "position";
		VACUUM (ANALYZE);
	END
	read_workloads
	warm_up evstore_read_all 1 1000 read
	warm_up plain_read_all 1 1000 read
}

read_workloads() {
	local columns='"position", stream, version, event_id, type, schema_version, data, metadata, correlation_id,
		causation_id, source, coalesce(occurred_at, recorded_at) AS occurred_at, recorded_at, tags'
	PARAMETERS+=(-D after=0)
	one_script evstore_read_stream <<-END
		\set s random(1, $READ_STREAMS)
		SELECT * FROM evstore.read_stream('account-' || :s, 0, $READ_EVENTS);
	END
	one_script plain_read_stream <<-END
		\set s random(1, $READ_STREAMS)
		SELECT $columns FROM plain.event WHERE stream_id = :s AND version >= 0 ORDER BY version LIMIT $READ_EVENTS;
	END
	one_script evstore_read_all <<-END
		SELECT * FROM evstore.read_all(:after, 1000);
		\set after (:after + 1000) % $((READ_STREAMS * READ_EVENTS))
	END
	one_script plain_read_all <<-END
		SELECT $columns FROM plain.event WHERE "position" > :after ORDER BY "position" LIMIT 1000;
		\set after (:after + 1000) % $((READ_STREAMS * READ_EVENTS))
	END
	one_script evstore_read_last <<-END
		\set s random(1, $READ_STREAMS)
		SELECT * FROM evstore.read_stream('account-' || :s, NULL, 1, 'backward');
	END
	one_script plain_read_last <<-END
		\set s random(1, $READ_STREAMS)
		SELECT $columns FROM plain.event WHERE stream_id = :s ORDER BY version DESC LIMIT 1;
	END
}
