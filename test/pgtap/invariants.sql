-- Invariants over random histories: each operation is done twice, by evstore and
-- by a model of it in plain SQL, and both must agree on the result and on what
-- can be read afterwards.  The model's tables are in the same database, so what
-- is rolled back is rolled back in both.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;
LOAD 'evstore';
SET evstore.partition_size = 10;

-- ---- the model ----

CREATE TABLE model_stream (
	name text PRIMARY KEY,
	version bigint NOT NULL DEFAULT -1,
	deleted boolean NOT NULL DEFAULT false,
	tombstoned boolean NOT NULL DEFAULT false,
	truncate_before bigint NOT NULL DEFAULT 0,
	max_count bigint);
CREATE TABLE model_event (
	stream text REFERENCES model_stream,
	version bigint,
	type text NOT NULL,
	data jsonb NOT NULL,
	event_id uuid NOT NULL UNIQUE,
	PRIMARY KEY (stream, version));
CREATE VIEW model_visible AS
SELECT e.stream, e.version, e.type, e.data, e.event_id
FROM model_event AS e JOIN model_stream AS s ON s.name = e.stream
WHERE NOT s.deleted AND NOT s.tombstoned AND e.version >= s.truncate_before
	AND (s.max_count IS NULL OR e.version > s.version - s.max_count);

-- The outcome of an append: 'ok FIRST LAST', or a SQLSTATE.
CREATE FUNCTION model_append(s text, types text[], data jsonb[], ids uuid[], expected bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	m model_stream;
	n CONSTANT int := cardinality(types);
	known int;
	same int;
	first bigint;
	there boolean;
	open boolean;
BEGIN
	IF (SELECT count(i) <> count(DISTINCT i) FROM unnest(ids) AS i) THEN
		RETURN 'VS003';
	END IF;
	-- a retry?
	SELECT count(*) INTO known FROM model_event AS e WHERE e.event_id = ANY (ids);
	IF known > 0 THEN
		SELECT min(e.version) INTO first FROM model_event AS e WHERE e.event_id = ANY (ids);
		SELECT count(*) INTO same
		FROM unnest(types, data, ids) WITH ORDINALITY AS u (type, data, id, o) JOIN model_event AS e ON e.event_id = u.id
		WHERE e.stream = s AND e.type = u.type AND e.data = u.data AND e.version = first + u.o - 1;
		RETURN CASE WHEN same = n THEN format('ok %s %s', first, first + n - 1) ELSE 'VS003' END;
	END IF;
	-- the expected version
	SELECT * INTO m FROM model_stream WHERE name = s;
	there := FOUND;
	open := there AND NOT m.deleted;
	IF there AND m.tombstoned THEN
		RETURN 'VS002';
	ELSIF expected = -1 AND open THEN
		RETURN 'VS001';
	ELSIF expected = -4 AND there AND NOT open THEN
		RETURN 'VS002';
	ELSIF expected = -4 AND NOT there THEN
		RETURN 'VS001';
	ELSIF expected >= 0 AND (NOT open OR m.version <> expected) THEN
		RETURN 'VS001';
	END IF;
	IF n = 0 THEN
		RETURN format('ok %s %s', NULL, CASE WHEN open THEN m.version ELSE -1 END);
	END IF;
	-- the events
	IF NOT there THEN
		INSERT INTO model_stream (name) VALUES (s) RETURNING * INTO m;
	ELSIF m.deleted THEN
		UPDATE model_stream SET deleted = false, truncate_before = m.version + 1 WHERE name = s;
	END IF;
	INSERT INTO model_event
	SELECT s, m.version + u.o, u.type, u.data, coalesce(u.id, gen_random_uuid())
	FROM unnest(types, data, ids) WITH ORDINALITY AS u (type, data, id, o);
	UPDATE model_stream SET version = m.version + n WHERE name = s;
	RETURN format('ok %s %s', m.version + 1, m.version + n);
END $$;

CREATE FUNCTION model_change(what text, s text, arg bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	m model_stream;
	actual bigint;
BEGIN
	SELECT * INTO m FROM model_stream WHERE name = s;
	IF NOT FOUND THEN
		RETURN 'VS004';
	ELSIF m.tombstoned THEN
		RETURN 'VS002';
	END IF;
	actual := CASE WHEN m.deleted THEN -1 ELSE m.version END;
	IF what IN ('delete', 'tombstone') AND arg IS NOT NULL AND arg <> actual THEN
		RETURN 'VS001';
	END IF;
	CASE what
	WHEN 'delete' THEN
		UPDATE model_stream SET deleted = true, truncate_before = m.version + 1 WHERE name = s;
		RETURN m.version;
	WHEN 'tombstone' THEN
		UPDATE model_stream SET tombstoned = true WHERE name = s;
		RETURN m.version;
	WHEN 'truncate' THEN
		UPDATE model_stream SET truncate_before = greatest(truncate_before, least(arg, m.version + 1)) WHERE name = s
		RETURNING truncate_before INTO arg;
		RETURN arg;
	WHEN 'limit' THEN
		UPDATE model_stream SET max_count = nullif(arg, 0) WHERE name = s;
		RETURN 'done';
	END CASE;
END $$;

CREATE FUNCTION model_scavenge() RETURNS text LANGUAGE sql AS $$
	WITH removed AS (
		DELETE FROM model_event AS e
		WHERE NOT EXISTS (SELECT FROM model_visible AS v WHERE v.stream = e.stream AND v.version = e.version)
		RETURNING e.stream, e.version),
	streams AS (SELECT stream, min(version) AS first, max(version) AS last, count(*) AS events FROM removed GROUP BY stream)
	SELECT coalesce(string_agg(format('%s %s %s %s', stream, first, last, events), ', ' ORDER BY stream COLLATE "C"), 'none') FROM streams
$$;

-- ---- the same by evstore ----

CREATE FUNCTION real_append(via text, s text, types text[], data jsonb[], ids uuid[], expected bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	events jsonb;
	r record;
BEGIN
	SELECT coalesce(jsonb_agg(jsonb_build_object('type', u.type, 'data', u.data, 'event_id', u.id) ORDER BY u.o), '[]') INTO events
	FROM unnest(types, data, ids) WITH ORDINALITY AS u (type, data, id, o);
	CASE via
	WHEN 'arrays' THEN
		SELECT * INTO r FROM evstore.append_arrays(s, types, data, NULL, ids, expected);
	WHEN 'events' THEN
		SELECT * INTO r FROM evstore.append_events(s, events, expected);
	WHEN 'streams' THEN
		SELECT * INTO r FROM evstore.append_streams(jsonb_build_array(jsonb_build_object('stream', s, 'expected_version', expected, 'events', events)));
	WHEN 'try' THEN
		SELECT * INTO r FROM evstore.try_append(s, events, expected);
		IF NOT r.ok THEN
			RETURN 'conflict';
		END IF;
	END CASE;
	RETURN format('ok %s %s', r.first_version, r.version);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;

CREATE FUNCTION real_change(what text, s text, arg bigint) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	CASE what
	WHEN 'delete' THEN
		RETURN evstore.delete_stream(s, arg);
	WHEN 'tombstone' THEN
		RETURN evstore.tombstone_stream(s, arg);
	WHEN 'truncate' THEN
		RETURN evstore.truncate_stream(s, arg);
	WHEN 'limit' THEN
		PERFORM evstore.set_stream(s, arg);
		RETURN 'done';
	END CASE;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;

CREATE FUNCTION real_scavenge() RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(format('%s %s %s %s', stream, first_version, last_version, events), ', ' ORDER BY stream COLLATE "C"), 'none')
	FROM evstore.scavenge()
$$;

-- ---- histories ----

CREATE TABLE log (n int, what text, model text, evstore text);

CREATE FUNCTION pick(VARIADIC options text[]) RETURNS text LANGUAGE sql AS
$$ SELECT options[1 + floor(random() * cardinality(options))::int] $$;

-- An append of 0 to 14 events, new or repeated, right or nearly right.
CREATE FUNCTION random_append(n int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	s text := 'h-' || floor(random() * 6);
	types text[] := '{}';
	data jsonb[] := '{}';
	ids uuid[] := '{}';
	via text := pick('arrays', 'events', 'streams', 'try');
	expected bigint;
	model text;
	size int := CASE WHEN random() < 0.5 THEN 1 ELSE floor(random() * 15) END;
	again model_event;
BEGIN
	IF random() < 0.15 THEN
		s := 'new-' || n;
	END IF;
	FOR i IN 1 .. size LOOP
		types := types || pick('A', 'B', 'C');
		data := data || to_jsonb(floor(random() * 1000));
		ids := ids || CASE WHEN random() < 0.7 THEN gen_random_uuid() END;
	END LOOP;
	-- what has been appended, as it was or with a difference
	IF random() < 0.25 THEN
		SELECT * INTO again FROM model_event ORDER BY random() LIMIT 1;
		IF FOUND THEN
			SELECT array_agg(e.type ORDER BY e.version), array_agg(e.data ORDER BY e.version), array_agg(e.event_id ORDER BY e.version), again.stream
			INTO types, data, ids, s
			FROM model_event AS e WHERE e.stream = again.stream AND e.version BETWEEN again.version AND again.version + floor(random() * 8)::int
				-- ids made by the store are not known to the model
				AND EXISTS (SELECT FROM evstore.event_log AS l WHERE l.event_id = e.event_id);
			IF types IS NULL THEN
				RETURN;
			END IF;
			IF random() < 0.5 THEN
				CASE pick('type', 'data', 'stream', 'more', 'order', 'twice')
				WHEN 'type' THEN types[cardinality(types)] := 'D';
				WHEN 'data' THEN data[1] := '"other"';
				WHEN 'stream' THEN s := 'h-9';
				WHEN 'more' THEN types := types || 'A'::text; data := data || '1'::jsonb; ids := ids || gen_random_uuid();
				WHEN 'order' THEN SELECT array_agg(i ORDER BY o DESC) INTO ids FROM unnest(ids) WITH ORDINALITY AS u (i, o);
				WHEN 'twice' THEN types := types || types; data := data || data; ids := ids || ids;
				END CASE;
			END IF;
		END IF;
	END IF;
	expected := (ARRAY[NULL, NULL, -2, -1, -4, 0])[1 + floor(random() * 6)::int];
	IF random() < 0.5 THEN
		SELECT CASE WHEN random() < 0.8 THEN m.version ELSE m.version - 1 END INTO expected
		FROM model_stream AS m WHERE m.name = s AND m.version > 0;
	END IF;
	model := model_append(s, types, data, ids, expected);
	IF via = 'try' THEN
		model := regexp_replace(model, 'VS00[12]', 'conflict');
	END IF;
	INSERT INTO log VALUES (n, format('append via %s: %s events to %s, expected %s', via, cardinality(types), s, expected), model,
		real_append(via, s, types, data, ids, expected));
END $$;

CREATE FUNCTION random_change(n int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	s text := 'h-' || floor(random() * 7);
	what text := pick('delete', 'delete', 'truncate', 'truncate', 'truncate', 'limit', 'limit', 'tombstone');
	arg bigint;
BEGIN
	-- few are closed for ever, or nothing would be left to append to
	IF what = 'tombstone' AND random() < 0.8 THEN
		s := 'new-' || floor(random() * n);
	END IF;
	arg := CASE what WHEN 'truncate' THEN floor(random() * 40) WHEN 'limit' THEN floor(random() * 6) END;
	IF what IN ('delete', 'tombstone') AND random() < 0.5 THEN
		SELECT m.version - floor(random() * 1.3)::int INTO arg FROM model_stream AS m WHERE m.name = s AND m.version > 0;
	END IF;
	INSERT INTO log VALUES (n, format('%s of %s, %s', what, s, arg), model_change(what, s, arg), real_change(what, s, arg));
END $$;

-- Done and taken back: nothing is left of it in either.
CREATE FUNCTION rolled_back(n int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 3 LOOP
		PERFORM random_append(n);
	END LOOP;
	PERFORM random_change(n);
	RAISE EXCEPTION USING ERRCODE = 'ZZ999';
EXCEPTION WHEN SQLSTATE 'ZZ999' THEN
	NULL;
END $$;

-- What can be read, by all ways.
CREATE FUNCTION compare_reads(n int) RETURNS void LANGUAGE sql AS $$
	INSERT INTO log
	SELECT n, 'read ' || m.name,
		(SELECT coalesce(string_agg(format('%s %s %s', v.version, v.type, v.data), ', ' ORDER BY v.version), 'nothing') FROM model_visible AS v WHERE v.stream = m.name),
		(SELECT coalesce(string_agg(format('%s %s %s', r.version, r.type, r.data), ', ' ORDER BY r.version), 'nothing') FROM evstore.read_stream(m.name) AS r)
	FROM model_stream AS m
	UNION ALL
	SELECT n, 'version of ' || m.name, CASE WHEN m.deleted OR m.tombstoned THEN -1 ELSE m.version END::text, evstore.stream_version(m.name)::text
	FROM model_stream AS m
	UNION ALL
	SELECT n, 'view', (SELECT count(*) || md5(string_agg(format('%s %s %s %s', v.stream, v.version, v.type, v.data), ',' ORDER BY v.stream COLLATE "C", v.version)) FROM model_visible AS v),
		(SELECT count(*) || md5(string_agg(format('%s %s %s %s', e.stream, e.version, e.type, e.data), ',' ORDER BY e.stream COLLATE "C", e.version)) FROM evstore.events_uncapped AS e)
	UNION ALL
	SELECT n, 'streams', (SELECT string_agg(name, ' ' ORDER BY name COLLATE "C") FROM model_stream), (SELECT string_agg(stream, ' ' ORDER BY stream COLLATE "C") FROM evstore.streams)
$$;

CREATE PROCEDURE history(seed float8, n int) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM setseed(seed);
	FOR i IN 1 .. n LOOP
		CASE
		WHEN random() < 0.75 THEN PERFORM random_append(i);
		WHEN random() < 0.60 THEN PERFORM random_change(i);
		WHEN random() < 0.30 THEN INSERT INTO log VALUES (i, 'scavenge', model_scavenge(), real_scavenge());
		ELSE PERFORM rolled_back(i);
		END CASE;
		-- what both have done is kept, or lost, together
		IF random() < 0.3 THEN
			COMMIT;
		ELSIF random() < 0.1 THEN
			ROLLBACK;
		END IF;
		IF i % 25 = 0 THEN
			PERFORM compare_reads(i);
		END IF;
	END LOOP;
	PERFORM compare_reads(n);
	COMMIT;
END $$;

-- What must hold after a history; one row for each that does not.
CREATE FUNCTION broken() RETURNS SETOF text LANGUAGE sql AS $$
	-- the model and evstore agree
	SELECT format('%s. %s: %s by the model, %s by evstore', n, what, model, evstore) FROM log WHERE model IS DISTINCT FROM evstore
	-- I1: versions without a gap, from what was removed on
	UNION ALL
	SELECT format('I1: %s has %s events from %s to %s', s.name, count(*), min(e.version), max(e.version))
	FROM evstore.event_log AS e JOIN evstore.stream AS s ON s.id = e.stream_id
	GROUP BY s.name, s.scavenged_version HAVING count(*) <> max(e.version) - s.scavenged_version OR min(e.version) <> s.scavenged_version + 1
	-- I2: positions grow with versions, and none is there twice
	UNION ALL
	SELECT format('I2: %s of stream %s', position, stream_id)
	FROM (SELECT *, lag(position) OVER (PARTITION BY stream_id ORDER BY version) AS previous FROM evstore.event_log) AS e WHERE position <= previous
	UNION ALL
	SELECT format('I2: position %s is there %s times', position, count(*)) FROM evstore.event_log GROUP BY position HAVING count(*) > 1
	-- I3: all is committed, so all is safe and can be followed
	UNION ALL
	SELECT 'I3: safe position ' || evstore.safe_position() WHERE evstore.safe_position() <> evstore._last_position()
	UNION ALL
	SELECT 'I3: the log lacks ' || position FROM (SELECT position FROM evstore.events_uncapped EXCEPT SELECT position FROM evstore.read_all(NULL, NULL)) AS l
	-- I6: an id is there once
	UNION ALL
	SELECT format('I6: %s is there %s times', event_id, count(*)) FROM evstore.event_log GROUP BY event_id HAVING count(*) > 1
	UNION ALL
	SELECT format('verify: %s: %s', check_name, detail) FROM evstore.verify() WHERE NOT ok
$$;

SELECT plan(15);

-- The model itself: what it says of a few cases that are easy to tell.
SELECT results_eq($$
	SELECT model_append(s, types, data, ids, expected) FROM (VALUES
		(1, 'm', '{A,B}'::text[], '{1,2}'::jsonb[], ARRAY['00000000-0000-4000-8000-000000000001', NULL]::uuid[], -1),
		(2, 'm', '{C}', '{3}', ARRAY[NULL]::uuid[], 0),
		(3, 'm', '{C}', '{3}', ARRAY[NULL]::uuid[], 1),
		(4, 'm', '{A}', '{1}', ARRAY['00000000-0000-4000-8000-000000000001']::uuid[], 7),
		(5, 'm', '{A}', '{2}', ARRAY['00000000-0000-4000-8000-000000000001']::uuid[], 7),
		(6, 'm', '{}', '{}', '{}', -4),
		(7, 'x', '{}', '{}', '{}', NULL)) AS v (n, s, types, data, ids, expected) ORDER BY n $$,
	ARRAY['ok 0 1', 'VS001', 'ok 2 2', 'ok 0 0', 'VS003', 'ok  2', 'ok  -1'], 'the model appends');
SELECT is(model_change('delete', 'm', 2) || model_append('m', '{A}', '{4}', ARRAY[NULL]::uuid[], -1), '2ok 3 3', 'the model deletes and goes on');
SELECT is(model_scavenge(), 'm 0 2 3', 'the model scavenges');
TRUNCATE model_event, model_stream, log;

CALL history(0.1, 300);
SELECT is_empty('SELECT * FROM broken()', 'history 1');
SELECT cmp_ok((SELECT count(*) FROM log WHERE what LIKE 'append%' AND model LIKE 'ok%'), '>', 30::bigint, 'history 1: appends that succeed');
SELECT cmp_ok((SELECT count(DISTINCT model) FROM log WHERE what LIKE 'append%' AND model IN ('VS001', 'VS002', 'VS003', 'conflict')), '>=', 3::bigint, 'history 1: errors of several kinds');
TRUNCATE log;

-- the store goes on where it is
CALL history(0.2, 150);
SELECT is_empty('SELECT * FROM broken()', 'history 2');
TRUNCATE log;

-- partitions of another size, and a clock that is ahead
SET evstore.partition_size = 50;
SET evstore.now_override = '2030-01-01';
CALL history(0.3, 200);
SELECT is_empty('SELECT * FROM broken()', 'history 3');
SELECT cmp_ok((SELECT count(*) FROM log WHERE what = 'scavenge' AND model <> 'none'), '>', 0::bigint, 'history 3: events were removed');
TRUNCATE log;
RESET evstore.now_override;

-- at the other isolation levels
SET default_transaction_isolation = 'repeatable read';
CALL history(0.4, 100);
SELECT is_empty('SELECT * FROM broken()', 'history 4, REPEATABLE READ');
TRUNCATE log;
SET default_transaction_isolation = 'serializable';
CALL history(0.5, 100);
SELECT is_empty('SELECT * FROM broken()', 'history 5, SERIALIZABLE');
TRUNCATE log;
RESET default_transaction_isolation;

-- I4: a transaction that is rolled back leaves nothing but holes in the positions
SELECT md5(string_agg(e::text, ',' ORDER BY position)) AS before FROM evstore.event_log AS e \gset
SELECT md5(string_agg(s::text, ',' ORDER BY id)) AS streams FROM evstore.stream AS s \gset
SELECT md5(string_agg(a::text, ',' ORDER BY id)) AS audit FROM evstore.audit AS a \gset
BEGIN;
SELECT count(random_append(n)) + count(random_change(n)) AS done FROM generate_series(1, 40) AS n \gset
SELECT evstore.scavenge() \g /dev/null
ROLLBACK;
SELECT is((SELECT md5(string_agg(e::text, ',' ORDER BY position)) FROM evstore.event_log AS e), :'before', 'I4: no event');
SELECT is((SELECT md5(string_agg(s::text, ',' ORDER BY id)) FROM evstore.stream AS s), :'streams', 'I4: no stream, and none changed');
SELECT is((SELECT md5(string_agg(a::text, ',' ORDER BY id)) FROM evstore.audit AS a), :'audit', 'I4: no record of it');
SELECT is_empty('SELECT * FROM broken()', 'I4: all holds');

SELECT finish();
