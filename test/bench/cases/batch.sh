# shellcheck shell=bash
#
# A hundred events a transaction.

case_batch() {
	evstore_database batch
	sql -d batch -f "$BENCH_DIR/plain.sql"
	evstore_load batch 1 "$STREAMS" 1
	batch_workloads
	warm_up evstore_batch 4 "$BATCH" batch
	warm_up plain_batch 4 "$BATCH" batch
	warm_up plain_copy 4 "$BATCH" batch
	compare batch "8 clients, $BATCH events, INSERT ... SELECT unnest" 1.5 \
		"rate evstore_batch 8 $BATCH batch" "rate plain_batch 8 $BATCH batch"
	compare batch "8 clients, $BATCH events, COPY" 1.5 \
		"rate evstore_batch 8 $BATCH batch" "rate plain_copy 8 $BATCH batch"
}

batch_workloads() {
	local k
	workload evstore_batch <<-END
		\set s random(1, $STREAMS)
		SELECT * FROM evstore.append_arrays('account-' || :s, :ts@K@, :ps@K@);
	END
	workload plain_batch <<-END
		\set s random(1, $STREAMS)
		INSERT INTO plain.event (stream_id, version, category_hash, schema_version, event_id, recorded_at, type, data)
		SELECT :s, nextval('plain.version_seq'), 4711, 1, gen_random_uuid(), clock_timestamp(), e.type, e.data
		FROM unnest(CAST(:ts@K@ AS text[]), CAST(:ps@K@ AS jsonb[])) AS e (type, data);
	END

	# COPY has no expressions, so the table's defaults supply what the client would
	# have; the file is read by the server, which spares COPY the way over the socket.
	sql -d batch <<-END
		CREATE TABLE plain.copied (LIKE plain.event INCLUDING ALL);
		ALTER TABLE plain.copied
			ALTER stream_id SET DEFAULT nextval('plain.version_seq') / $BATCH % $STREAMS,
			ALTER version SET DEFAULT currval('plain.version_seq'),
			ALTER category_hash SET DEFAULT 4711,
			ALTER schema_version SET DEFAULT 1,
			ALTER event_id SET DEFAULT gen_random_uuid(),
			ALTER recorded_at SET DEFAULT clock_timestamp();
	END
	for ((k = 1; k <= PAYLOADS; k++)); do
		payloads $((k * 1000)) "$BATCH" >"$WORK/batch.$k.copy"
	done
	workload plain_copy <<-END
		COPY plain.copied (type, data) FROM '$WORK/batch.@K@.copy';
	END
}
