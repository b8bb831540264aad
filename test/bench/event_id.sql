-- The two ways of event_id.sh.  Variables: way (a, b), kind (v4, v7).

SELECT :'way' = 'b' AS with_key, :'kind' = 'v7' AS time_ordered \gset

CREATE SEQUENCE position_seq;
CREATE SEQUENCE version_seq;

CREATE TABLE log (
	"position" bigint NOT NULL DEFAULT nextval('position_seq'),
	stream_id bigint NOT NULL,
	version bigint NOT NULL,
	category_hash int NOT NULL,
	event_id uuid NOT NULL,
	recorded_at timestamptz NOT NULL,
	type text NOT NULL,
	data jsonb NOT NULL
) PARTITION BY RANGE ("position");

\if :time_ordered
CREATE FUNCTION new_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
	SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7' ||
		right(replace(gen_random_uuid()::text, '-', ''), 19))::uuid
$$;
\else
CREATE FUNCTION new_id() RETURNS uuid LANGUAGE sql VOLATILE AS 'SELECT gen_random_uuid()';
\endif

CREATE PROCEDURE add_partition(lower bigint, upper bigint) LANGUAGE plpgsql AS $$
DECLARE
	leaf text := 'log_' || lower;
BEGIN
	EXECUTE format('CREATE TABLE %I PARTITION OF log (PRIMARY KEY ("position")) FOR VALUES FROM (%s) TO (%s)', leaf, lower, upper);
	EXECUTE format('CREATE UNIQUE INDEX ON %I (stream_id, version)', leaf);
	EXECUTE format('CREATE INDEX ON %I (category_hash, "position")', leaf);
	IF to_regclass('event_key') IS NULL THEN
		EXECUTE format('CREATE UNIQUE INDEX ON %I (event_id)', leaf);
	END IF;
END $$;

-- make_rows(n): n new events
CREATE FUNCTION make_rows(n int) RETURNS TABLE (stream_id bigint, version bigint, category_hash int, event_id uuid,
	recorded_at timestamptz, type text, data jsonb) LANGUAGE sql VOLATILE AS $$
	SELECT (random() * 9999)::bigint, nextval('version_seq'), 4711, new_id(), clock_timestamp(), 'MoneyDeposited',
		jsonb_build_object('account', i, 'currency', 'EUR', 'by', md5(i::text), 'note', 'monthly rent of the flat')
	FROM generate_series(1, n) i
$$;

-- load(batches, rows): so many statements of so many rows each
\if :with_key
CREATE TABLE event_key (event_id uuid PRIMARY KEY, "position" bigint NOT NULL);

CREATE PROCEDURE load(batches int, rows int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..batches LOOP
		WITH e AS (
			INSERT INTO log (stream_id, version, category_hash, event_id, recorded_at, type, data)
			SELECT * FROM make_rows(rows)
			RETURNING event_id, "position")
		INSERT INTO event_key SELECT * FROM e;
	END LOOP;
END $$;
\else
CREATE PROCEDURE load(batches int, rows int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..batches LOOP
		INSERT INTO log (stream_id, version, category_hash, event_id, recorded_at, type, data)
		SELECT * FROM make_rows(rows);
	END LOOP;
END $$;
\endif
