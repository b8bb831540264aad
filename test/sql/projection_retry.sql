-- A projection sets events aside that its handler fails on: events of a key are
-- handled in their order, each once, however often one of them fails.

\set main :DBNAME
SET client_min_messages = error;
DROP DATABASE IF EXISTS evstore_projection_retry;
CREATE DATABASE evstore_projection_retry;
\c evstore_projection_retry
SET client_min_messages = error;
CREATE EXTENSION evstore;
LOAD 'evstore';
CREATE SCHEMA app;
SET evstore.now_override = '2030-01-01 12:00+00';

CREATE TABLE app.bad (n int);
CREATE TABLE app.seen (id int GENERATED ALWAYS AS IDENTITY, stream text, n int);
CREATE FUNCTION app.handle(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM bad WHERE n = (e.data ->> 'n')::int) THEN
		RAISE EXCEPTION 'no %', e.data ->> 'n';
	END IF;
	INSERT INTO seen (stream, n) VALUES (e.stream, (e.data ->> 'n')::int);
END $$;
SELECT evstore.create_projection('park', 'app.handle(evstore.event)',
	options => '{"on_error": "park", "retry": {"max_attempts": 3, "initial": 60, "max": 60, "jitter": 0}}');
DO $$ BEGIN
	PERFORM evstore.append('a-1', 'T', '{"n": 1}');
	PERFORM evstore.append('b-1', 'T', '{"n": 10}');
	PERFORM evstore.append('a-1', 'T', jsonb_build_object('n', i)) FROM generate_series(2, 6) i;
END $$;

CREATE PROCEDURE pg_temp.run(numbers int[]) LANGUAGE plpgsql AS $$
BEGIN
	TRUNCATE app.bad;
	INSERT INTO app.bad SELECT unnest(numbers);
	COMMIT;
	PERFORM evstore.run_projection('park');
	PERFORM set_config('evstore.now_override',
		(current_setting('evstore.now_override')::timestamptz + interval '2 minutes')::text, false);
END $$;
CREATE VIEW pg_temp.state AS
SELECT (SELECT string_agg(stream || ':' || n, ' ' ORDER BY id) FROM app.seen) AS seen,
	(SELECT string_agg(data ->> 'n' || ' ' || state || ' ' || attempts, ', ' ORDER BY "position") FROM evstore.failed_events) AS failed;

-- the first fails, the others of its stream wait
CALL pg_temp.run('{1}');
SELECT * FROM pg_temp.state;
-- it is done, and the others are due
CALL pg_temp.run('{}');
SELECT * FROM pg_temp.state;
-- one in the middle fails: those behind it are not handled yet
CALL pg_temp.run('{4}');
SELECT * FROM pg_temp.state;
CALL pg_temp.run('{}');
SELECT * FROM pg_temp.state;
-- the first of what is due fails, until it is parked, and all behind it
CALL pg_temp.run('{5}');
CALL pg_temp.run('{5}');
SELECT * FROM pg_temp.state;
CALL pg_temp.run('{5}');
SELECT * FROM pg_temp.state;
SELECT evstore.replay_parked('park');
CALL pg_temp.run('{6}');
SELECT * FROM pg_temp.state;
CALL pg_temp.run('{}');
SELECT * FROM pg_temp.state;
SELECT checkpoint = evstore._last_position() AS at_end, parked, retrying, waiting FROM evstore.projections;

\c :main
DROP DATABASE evstore_projection_retry;
