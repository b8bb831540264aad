-- Relays at work: order, retries, parked events, outages, and sinks that misbehave.
-- The doubles write down what arrives; a script says what becomes of it, and begins
-- anew with each run.
\set main :DBNAME
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_relay_delivery;
CREATE DATABASE evstore_relay_delivery;
\c evstore_relay_delivery
SET client_min_messages = warning;
CREATE EXTENSION evstore;
LOAD 'evstore';
\pset format unaligned
\pset tuples_only on
SET evstore.now_override = '2030-01-01 12:00+00';
CREATE SCHEMA app;

CREATE TABLE app.marks (file text PRIMARY KEY, lines int NOT NULL);
-- what has arrived since the last look: position of the event, r if it comes again, attempt if it is not the first
CREATE FUNCTION arrived(file text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	lines text[] := string_to_array(rtrim(COALESCE(pg_read_file('evstore_relay/' || file, 0, 1000000, true), ''), E'\n'), E'\n');
	seen int := COALESCE((SELECT m.lines FROM app.marks m WHERE m.file = arrived.file), 0);
BEGIN
	INSERT INTO app.marks AS m VALUES (arrived.file, cardinality(lines))
	ON CONFLICT ON CONSTRAINT marks_pkey DO UPDATE SET lines = excluded.lines;
	RETURN (SELECT string_agg(f[1] || CASE f[3] WHEN '1' THEN 'r' ELSE '' END || CASE f[2] WHEN '1' THEN '' ELSE '*' || f[2] END, ' ' ORDER BY n)
		FROM unnest(lines) WITH ORDINALITY l (line, n), string_to_array(line, ' ') f WHERE n > seen);
END $$;
-- a minute later, run it, and say what arrived
CREATE FUNCTION later(relay text, max_count bigint DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	PERFORM set_config('evstore.now_override', (current_setting('evstore.now_override')::timestamptz + interval '1 minute')::text, false);
	n := evstore.run_relay(relay, max_count);
	RETURN format('%s: %s', n, arrived(relay));
END $$;
CREATE VIEW app.failed AS
SELECT string_agg(concat_ws(' ', f."position", f.state, f.reason, f.attempts, f.error), ', ' ORDER BY f."position") AS failed FROM evstore.failed_event f;
CREATE VIEW app.state AS
SELECT relay, state, checkpoint, retrying, waiting, parked, sent, failures, circuit, outages, opened, last_error FROM evstore.relays ORDER BY relay;
-- events 1, 3, 5 .. of stream a-1, 2, 4 .. of b-1
CREATE PROCEDURE events(n int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		PERFORM evstore.append(CASE i % 2 WHEN 1 THEN 'a-1' ELSE 'b-1' END, 'T', jsonb_build_object('n', i));
	END LOOP;
END $$;
\set retry '{"retry": {"max_attempts": 3, "initial": 60, "max": 60, "jitter": 0}}'
CALL events(6);

-- all of it; then what is new; nothing twice
SELECT evstore.create_relay('plain', 'double', '{"record": "plain"}');
SELECT evstore.run_relay('plain'), arrived('plain');
SELECT evstore.run_relay('plain'), arrived('plain');
SELECT relay, checkpoint, lag_events, sent, duplicates, failures, bytes > 0 AS bytes, latency_ms >= 0 AS latency, last_sent_at FROM evstore.relays;
-- one after the other
SELECT evstore.seek_relay('plain', '2');
SELECT evstore.run_relay('plain', 1), arrived('plain');
SELECT evstore.run_relay('plain', 2), arrived('plain');
SELECT evstore.run_relay('plain', 10), arrived('plain');
-- in the caller's transaction: taken back, it is sent again
SELECT evstore.seek_relay('plain', '5');
BEGIN;
SELECT evstore.run_relay('plain'), arrived('plain');
ROLLBACK;
SELECT evstore.run_relay('plain'), arrived('plain');
-- few at a time, in flight and accepted
SELECT evstore.alter_relay('plain', '{"record": "plain", "accept": 1}', options => '{"in_flight": 2}');
SELECT evstore.seek_relay('plain', 'beginning');
SELECT evstore.run_relay('plain'), arrived('plain');
-- results in another order than messages
SELECT evstore.alter_relay('plain', '{"record": "plain", "order": "reversed", "delay": 1}', options => '{"in_flight": 64}');
SELECT evstore.seek_relay('plain', 'beginning');
SELECT evstore.run_relay('plain'), length(arrived('plain'));
SELECT checkpoint, lag_events FROM evstore.relays;
-- a filter
SELECT evstore.alter_relay('plain', '{"record": "plain"}', '{"streams": ["b-1"]}');
SELECT evstore.seek_relay('plain', 'beginning');
SELECT evstore.run_relay('plain'), arrived('plain');
-- paused, and not
SELECT evstore.pause_relay('plain');
SELECT evstore.run_relay('plain');
SELECT state FROM evstore.relays;
SELECT evstore.resume_relay('plain');
SELECT evstore.run_relay('plain');
-- what the other side has from another time does not count
SELECT evstore.alter_relay('plain', '{"record": "plain", "resume": 4, "resume_later": 3}', '{}');
SELECT evstore.seek_relay('plain', 'beginning');
SELECT evstore.run_relay('plain'), arrived('plain');
SELECT evstore.drop_relay('plain');

-- one fails: the others of its key wait, and come after it; those of other keys do not
SELECT evstore.create_relay('retry', 'gated', '{"record": "retry", "script": "1:retry*0"}', options => :'retry');
SELECT evstore.run_relay('retry'), arrived('retry');
SELECT * FROM app.state;
SELECT failed FROM app.failed;
SELECT evstore.run_relay('retry'), arrived('retry');
SELECT later('retry');
SELECT evstore.alter_relay('retry', '{"record": "retry"}');
SELECT later('retry');
SELECT * FROM app.state;
-- the same, where several of a key are on their way together: what has arrived comes again
SELECT evstore.create_relay('pipe', 'double', '{"record": "pipe", "script": "3:retry*0"}', options => :'retry');
SELECT evstore.run_relay('pipe'), arrived('pipe');
SELECT failed FROM app.failed;
SELECT evstore.alter_relay('pipe', '{"record": "pipe"}');
SELECT later('pipe');
-- ... whatever order the results have
SELECT evstore.alter_relay('pipe', '{"record": "pipe", "script": "3:retry*0", "order": "reversed"}');
SELECT evstore.seek_relay('pipe', 'beginning');
SELECT evstore.run_relay('pipe'), arrived('pipe');
SELECT failed FROM app.failed;
SELECT evstore.alter_relay('pipe', '{"record": "pipe"}');
SELECT later('pipe');
SELECT failed FROM app.failed;
-- an outage takes those with it that wait for one that has failed before
SELECT evstore.alter_relay('pipe', '{"record": "pipe", "script": "1:retry*0,2:outage*0"}');
SELECT evstore.seek_relay('pipe', 'beginning');
SELECT evstore.run_relay('pipe'), arrived('pipe');
SELECT evstore.alter_relay('pipe', '{"record": "pipe", "script": "1:retry*0"}');
SELECT later('pipe');
SELECT evstore.alter_relay('pipe', '{"record": "pipe"}');
SELECT later('pipe');
SELECT failed FROM app.failed;
-- several of a key are due together, and one of them fails
SELECT evstore.alter_relay('pipe', '{"record": "pipe", "script": "1:retry*0"}');
SELECT evstore.seek_relay('pipe', 'beginning');
SELECT later('pipe');
SELECT evstore.alter_relay('pipe', '{"record": "pipe", "script": "3:retry*0"}');
SELECT later('pipe');
SELECT failed FROM app.failed;
SELECT evstore.alter_relay('pipe', '{"record": "pipe"}');
SELECT later('pipe');
SELECT failed FROM app.failed;
SELECT evstore.drop_relay('pipe');
-- an event that waits is still there when the one before it is done in the same turn
SELECT evstore.alter_relay('retry', '{"record": "retry", "script": "5:retry*0"}');
SELECT evstore.seek_relay('retry', '4');
SELECT evstore.run_relay('retry'), arrived('retry');
CALL events(2);
SELECT evstore.alter_relay('retry', '{"record": "retry"}');
SELECT later('retry');
SELECT failed FROM app.failed;
SELECT checkpoint, lag_events FROM evstore.relays;

-- parked after so many attempts: its key is blocked
SELECT evstore.create_relay('block', 'gated', '{"record": "block", "script": "1:retry*0"}', options => :'retry');
SELECT later('block'), later('block'), later('block'), later('block');
SELECT failed FROM app.failed;
SELECT "position", reason, attempts FROM evstore.parked_events WHERE subscription = 'block' ORDER BY 1;
-- discarded: the others go on
SELECT evstore.discard_parked('block', 1);
SELECT later('block');
-- a permanent failure is parked at once; the event is sent again with other data, when it is told so
SELECT evstore.alter_relay('block', '{"record": "block", "script": "3:permanent*0"}', options => '{"transform": null}');
SELECT evstore.seek_relay('block', 'beginning');
SELECT later('block');
SELECT failed FROM app.failed;
SELECT evstore.replay_parked_relay('block', 3, data => '{"n": 1234567890}');
SELECT later('block');
SELECT evstore.alter_relay('block', '{"record": "block"}');
SELECT evstore.replay_parked_relay('block', 3, data => '{"n": 1234567890}');
SELECT later('block');
SELECT regexp_replace(pg_read_file('evstore_relay/block'), '.*\n(3 \d \d \S* \S* \d+) [^\n]*\n.*', '\1', 's') AS longer;
SELECT failed FROM app.failed;
SELECT evstore.drop_relay('block');

-- ... with all of its key
SELECT evstore.create_relay('key', 'gated', '{"record": "key", "script": "1:permanent*0"}', options => '{"on_failure": "park_key"}');
SELECT later('key');
CALL events(2);
SELECT later('key');
SELECT failed FROM app.failed;
SELECT evstore.alter_relay('key', '{"record": "key"}');
SELECT evstore.replay_parked_relay('key', key => 'a-1', max_count => 2);
SELECT later('key');
SELECT evstore.replay_parked_relay('key', key => 'b-1'), evstore.replay_parked_relay('key');
SELECT later('key');
SELECT failed FROM app.failed;
SELECT evstore.drop_relay('key');

-- ... alone
SELECT evstore.create_relay('skip', 'gated', '{"record": "skip", "script": "1:permanent*0,3:retry*0"}', options => :'retry'::jsonb || '{"on_failure": "skip"}');
SELECT later('skip');
SELECT failed FROM app.failed;
SELECT later('skip'), later('skip');
SELECT failed FROM app.failed;
SELECT evstore.alter_relay('skip', '{"record": "skip"}');
SELECT evstore.replay_parked_relay('skip');
SELECT later('skip');
SELECT checkpoint, parked, lag_events FROM evstore.relays WHERE relay = 'skip';
SELECT evstore.drop_relay('skip');

-- without keys nothing waits
SELECT evstore.create_relay('none', 'gated', '{"record": "none", "script": "1:permanent*0"}', options => '{"key": "none"}');
SELECT later('none');
SELECT failed FROM app.failed;
SELECT evstore.drop_relay('none');
SELECT evstore.drop_relay('retry');

-- an outage counts no attempt.  One is enough to open this circuit; what is tried
-- after a while finds out
SELECT evstore.create_relay('out', 'double', '{"record": "out", "script": "all:outage*0", "code": 0, "retry_after": 10000}',
	options => '{"circuit": {"failures": 1, "open_for": 5, "max_open_for": 60}}');
SELECT evstore.run_relay('out');
SELECT * FROM app.state;
-- what the other side asks for is longer than the pause
SELECT open_until - current_setting('evstore.now_override')::timestamptz FROM evstore.relays;
SELECT check_name, ok, detail FROM evstore.health() WHERE check_name LIKE 'relays%';
SELECT evstore.alter_relay('out', '{"record": "out", "script": "all:outage*1"}');
SELECT later('out');
SELECT * FROM app.state;
SELECT evstore.alter_relay('out', '{"record": "out"}');
SELECT later('out');
SELECT failed FROM app.failed;
SELECT * FROM app.state;
SELECT ok FROM evstore.health() WHERE check_name LIKE 'relays%';
-- how long to wait for an event, too, is what the other side asks for
SELECT evstore.alter_relay('out', '{"record": "out", "script": "1:retry*0", "retry_after": 90000}');
SELECT evstore.seek_relay('out', 'beginning');
SELECT evstore.run_relay('out', 1);
SELECT retry_at - current_setting('evstore.now_override')::timestamptz FROM evstore.failed_event;
-- within reason
SELECT evstore.alter_relay('out', '{"record": "out", "script": "1:retry*0", "retry_after": 9223372036854775807}');
SELECT evstore.seek_relay('out', 'beginning');
SELECT evstore.run_relay('out', 1);
SELECT retry_at - current_setting('evstore.now_override')::timestamptz FROM evstore.failed_event;
SELECT evstore.drop_relay('out');

-- a sink that says that there is no point in going on
SELECT evstore.create_relay('fatal', 'gated', '{"record": "fatal", "script": "3:fatal*0", "code": 410}');
SELECT evstore.run_relay('fatal', 4), arrived('fatal');
SELECT * FROM app.state;
SELECT evstore.run_relay('fatal');
SELECT check_name, ok, detail FROM evstore.health() WHERE check_name LIKE 'relays%';
SELECT evstore.alter_relay('fatal', '{"record": "fatal"}');
SELECT evstore.run_relay('fatal');
SELECT evstore.resume_relay('fatal');
SELECT later('fatal');
SELECT state, checkpoint, parked, failures FROM evstore.relays;
SELECT ok FROM evstore.health() WHERE check_name LIKE 'relays%';
SELECT evstore.drop_relay('fatal');

-- sinks that say what they must not: of a message they never had, of one twice, something that there is not
SELECT evstore.create_relay('rogue', 'double', '{"record": "rogue", "misbehave": "unknown@2"}');
SELECT later('rogue');
SELECT evstore.alter_relay('rogue', '{"record": "rogue", "misbehave": "twice@2"}');
SELECT evstore.seek_relay('rogue', 'beginning');
SELECT later('rogue');
SELECT state, checkpoint, sent, lag_events FROM evstore.relays;
SELECT evstore.alter_relay('rogue', '{"record": "rogue", "misbehave": "class@9"}');
SELECT evstore.seek_relay('rogue', '8');
SELECT later('rogue');
SELECT state, checkpoint, last_error FROM evstore.relays;
-- ... and of one that says nothing: it is opened anew, by a worker or the next run
SELECT evstore.resume_relay('rogue');
SELECT evstore.alter_relay('rogue', '{"record": "rogue", "misbehave": "lost@9"}', options => '{"timeout": "10 ms"}');
SELECT later('rogue');
SELECT evstore.alter_relay('rogue', '{"record": "rogue"}');
SELECT later('rogue');
SELECT state, checkpoint, lag_events FROM evstore.relays;
SELECT evstore.drop_relay('rogue');

-- a rate: what is allowed now, and no more
SELECT evstore.create_relay('rate', 'double', '{"record": "rate"}', options => '{"rate": 0.001, "burst": 3}');
SELECT evstore.run_relay('rate'), arrived('rate');
SELECT evstore.run_relay('rate', 2), arrived('rate');
SELECT checkpoint, lag_events FROM evstore.relays;
-- the sink's own, if it is less
SELECT evstore.alter_relay('rate', '{"record": "rate", "rate": 1}', options => '{"rate": 1000000, "burst": 1}');
SELECT evstore.run_relay('rate', 1), arrived('rate');
SELECT evstore.drop_relay('rate');

-- requests with several messages, which need no company in a session
SELECT evstore.create_relay('batch', 'double', '{"record": "batch"}', options => '{"format": "cloudevents-batch", "batch_size": 3, "batch_wait": 10}');
SELECT evstore.run_relay('batch'), arrived('batch');
SELECT evstore.drop_relay('batch');

-- transforms: other data, nothing at all, an error, and an event of their own
CREATE FUNCTION app.change(e evstore.event) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	CASE (e.data ->> 'n')::int
	WHEN 1 THEN RETURN '{"n": 1234567890}';
	WHEN 2 THEN RETURN NULL;
	WHEN 3 THEN RAISE EXCEPTION 'not this one';
	WHEN 4 THEN RETURN 'null';
	WHEN 6 THEN RAISE division_by_zero;
	ELSE RETURN e.data;
	END CASE;
END $$;
SELECT evstore.create_relay('change', 'gated', '{"record": "change"}', options => :'retry'::jsonb || '{"format": "raw", "transform": "app.change(evstore.event)"}');
SELECT later('change');
SELECT array_agg(split_part(line, ' ', 6)) AS lengths FROM string_to_table(rtrim(pg_read_file('evstore_relay/change'), E'\n'), E'\n') line;
SELECT failed FROM app.failed;
SELECT later('change'), later('change');
SELECT failed FROM app.failed;
CREATE OR REPLACE FUNCTION app.change(e evstore.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT e.data $$;
SELECT evstore.replay_parked_relay('change');
SELECT later('change');
SELECT checkpoint, parked, waiting, lag_events FROM evstore.relays;
-- with data of the operator, the transform gets that
SELECT evstore.alter_relay('change', '{"record": "change", "script": "1:permanent*0"}', options => '{"on_failure": "skip"}');
SELECT evstore.seek_relay('change', 'beginning');
SELECT later('change');
SELECT evstore.alter_relay('change', '{"record": "change"}');
CREATE OR REPLACE FUNCTION app.change(e evstore.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT e.data || '{"seen": true}' $$;
SELECT evstore.replay_parked_relay('change', 1, data => '{"m": 1}');
SELECT later('change');
SELECT length('{"m": 1, "seen": true}') - split_part(split_part(pg_read_file('evstore_relay/change'), E'\n', -2), ' ', 6)::int AS spaces;
-- gone, or out of reach: not the events' fault
DROP FUNCTION app.change;
SELECT evstore.seek_relay('change', 'beginning');
SELECT later('change');
SELECT failed FROM app.failed;
SELECT evstore.drop_relay('change');

-- what cannot be sent is parked: too old, too large, too often, or no header
CALL events(1);
SELECT "position" FROM evstore.append('c-1', 'T', jsonb_build_object('long', repeat('x', 1000)));
SELECT "position" FROM evstore.append('d-1', 'T', '{}', '{"cloudevent": {"hops": 3}}');
SELECT "position" FROM evstore.append('e-1', 'T', '{}', '{"cloudevent": {"hops": 1e300}}');
SELECT "position" FROM evstore.append('e-2', 'T', '{}', '{"cloudevent": {"hops": -1e300}}');
SELECT "position" FROM evstore.append('e-3', 'T', '{}', '{"cloudevent": {"hops": "x"}}');
SELECT stream, "position" FROM evstore.publish('t', '{}', headers => '{"x": "a\r\nInjected: yes"}');
SELECT stream, "position" FROM evstore.publish('t', '{}', headers => '{"bad name": "x"}');
SELECT evstore.create_relay('fit', 'gated', '{"record": "fit"}', '{}', '10', '{"max_bytes": 1000, "max_hops": 3}');
SELECT later('fit');
SELECT f."position", f.reason, f.error FROM evstore.failed_event f ORDER BY 1;
SELECT checkpoint, parked, failures, sent FROM evstore.relays;
SELECT evstore.alter_relay('fit', options => '{"max_bytes": null, "max_hops": 1000}');
SELECT evstore.replay_parked_relay('fit');
SELECT later('fit');
SELECT f."position", f.reason FROM evstore.failed_event f ORDER BY 1;
SELECT evstore.drop_relay('fit');
SET evstore.now_override = '2100-01-01';
SELECT evstore.create_relay('old', 'gated', '{"record": "old"}', '{}', '10', '{"max_age": "1 hour", "on_failure": "skip"}');
SELECT evstore.run_relay('old'), arrived('old');
SELECT DISTINCT f.state, f.reason, f.error FROM evstore.failed_event f ORDER BY f.reason;
SELECT evstore.drop_relay('old');

-- a message for the outside: its stream, topic and key
SELECT stream, version FROM evstore.publish('orders', '{"a": 1}', 'k1', '{"trace": "x"}');
SELECT stream, version FROM evstore.publish('orders', '{"a": 2}', 'k1');
SELECT stream, version FROM evstore.publish('orders', NULL);
SELECT evstore.publish(NULL, '{}');
SELECT evstore.publish('', '{}');
SELECT evstore.publish('t', '{}', headers => '[]');
SELECT evstore.publish('t', '{}', headers => '{"a": 1}');
SELECT type, data, metadata FROM evstore.read_stream('outbox-orders-k1');
CREATE FUNCTION topics(file text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(split_part(line, ' ', 4) || '>' || split_part(line, ' ', 5), ', ')
	FROM string_to_table(rtrim(pg_read_file('evstore_relay/' || file), E'\n'), E'\n') line $$;
SELECT evstore.create_relay('own', 'gated', '{"record": "own"}', '{"categories": ["outbox"]}', '18');
SELECT evstore.run_relay('own'), topics('own');
SELECT evstore.create_relay('template', 'gated', '{"record": "template"}', '{"categories": ["outbox"]}', '18', '{"topic": "{relay}.{category}.{type}"}');
SELECT evstore.run_relay('template'), topics('template');
SELECT evstore.create_relay('keyless', 'gated', '{"record": "keyless"}', '{"categories": ["outbox"]}', '18', '{"key": "none"}');
SELECT evstore.run_relay('keyless'), topics('keyless');

-- a test: one message, which is no event
SELECT result, code, detail, latency_ms >= 0 AS latency FROM evstore.test_relay('own');
SELECT evstore.alter_relay('own', '{"script": "0:retry", "code": 503}');
SELECT result, code, detail FROM evstore.test_relay('own');
SELECT evstore.alter_relay('own', '{"script": "0:outage"}');
SELECT result, code, detail FROM evstore.test_relay('own');
SELECT evstore.alter_relay('own', '{"script": "0:fatal"}');
SELECT result FROM evstore.test_relay('own');
SELECT evstore.alter_relay('own', '{"misbehave": "class@0"}');
SELECT result FROM evstore.test_relay('own');
SELECT evstore.alter_relay('own', '{"delay": 60000}');
SELECT result, code, detail, latency_ms BETWEEN 20 AND 30000 AS latency FROM evstore.test_relay('own', '20 ms');
SELECT state, checkpoint, sent, failures, last_error FROM evstore.relays WHERE relay = 'own';

-- what the other side has already is not sent again
SELECT format('{"record": "resumes", "resume": %s, "resume_later": 3}', evstore._last_position() + 2) AS config \gset
SELECT evstore.create_relay('resumes', 'double', :'config', start => 'end');
SELECT count(*) FROM generate_series(1, 4) i, evstore.append('resumes-' || i, 'T');
SELECT evstore.run_relay('resumes');
SELECT sent, duplicates, lag_events FROM evstore.relays WHERE relay = 'resumes';
SELECT evstore.drop_relay('resumes');
-- nor is anything taken for sent that cannot have been: the log has been set back
SELECT format('{"record": "set-back", "resume": %s}', evstore._last_position() + 100) AS config \gset
SELECT evstore.create_relay('set-back', 'double', :'config', start => (evstore._last_position() - 2)::text);
SELECT token AS before FROM evstore.relay r JOIN evstore.subscription s USING (id) WHERE s.name = 'set-back' \gset
SET client_min_messages = error;
SELECT evstore.run_relay('set-back');
SET client_min_messages = warning;
SELECT token <> :'before' AS renewed FROM evstore.relay r JOIN evstore.subscription s USING (id) WHERE s.name = 'set-back';
SELECT sent, duplicates, lag_events FROM evstore.relays WHERE relay = 'set-back';
SELECT evstore.alter_relay('set-back', '{"record": "set-back"}');
SELECT evstore.run_relay('set-back');
SELECT evstore.drop_relay('set-back');
-- one of several in a request is refused: each by itself, and only that one is parked
SELECT (evstore._last_position() - 4)::text AS start, format('{"record": "request", "script": "%s:permanent*0,%s:permanent"}',
	evstore._last_position() - 1, evstore._last_position() - 2) AS config \gset
SELECT evstore.create_relay('request', 'double', :'config', start => :'start', options => '{"format": "cloudevents-batch"}');
SELECT evstore.run_relay('request');
SELECT sent, failures, parked, lag_events FROM evstore.relays WHERE relay = 'request';
SELECT f.reason, f.attempts FROM evstore.parked_events f WHERE f.subscription = 'request';
SELECT evstore.drop_relay('request');

-- a message with an id of its own is published once
SELECT version FROM evstore.publish('once', '{}', event_id => '01890000-0000-7000-8000-000000000001');
SELECT version FROM evstore.publish('once', '{}', event_id => '01890000-0000-7000-8000-000000000001');

\c :main
SET client_min_messages = warning;
DROP DATABASE evstore_relay_delivery;
