-- Subscriptions: how they are defined, and how events are given and acknowledged.
\set main :DBNAME
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_subscription;
DROP ROLE IF EXISTS regress_evstore_sub_reader, regress_evstore_sub_consumer;
CREATE DATABASE evstore_subscription;
\c evstore_subscription
CREATE EXTENSION evstore;
LOAD 'evstore';
SET evstore.now_override = '2030-01-01 12:00+00';

-- What a statement comes to: its value, or SQLSTATE, message and detail.
CREATE FUNCTION try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
	detail text;
BEGIN
	EXECUTE statement INTO result;
	RETURN 'ok ' || COALESCE(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN rtrim(format('%s %s %s', SQLSTATE, SQLERRM, detail));
END $$;
-- The epoch of a slot: a claim, for whoever has it.
CREATE FUNCTION epoch(sub text, slot int DEFAULT 0) RETURNS bigint LANGUAGE sql AS
$$ SELECT t.epoch FROM evstore.subscription_slots t WHERE t.subscription = sub AND t.slot = epoch.slot $$;
-- What is fetched, by slot; #n: it is delivered for the nth time.
CREATE FUNCTION get(sub text, consumer text DEFAULT 'c', n bigint DEFAULT 100) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(s.events, ' | ' ORDER BY s.slot) FROM (
		SELECT f.slot, f.slot || ':' || string_agg(f.position || CASE WHEN f.attempt > 1 THEN '#' || f.attempt ELSE '' END, ' ' ORDER BY f.n) AS events
		FROM (SELECT *, row_number() OVER () AS n FROM evstore.fetch(sub, consumer, n)) AS f GROUP BY f.slot) AS s $$;
CREATE FUNCTION done(sub text, up_to bigint, slot int DEFAULT 0) RETURNS bigint LANGUAGE sql AS
$$ SELECT evstore.ack(sub, slot, epoch(sub, slot), up_to) $$;

-- Positions 1 to 12, a minute each from noon on.
DO $$
BEGIN
	FOR i IN 1 .. 12 LOOP
		PERFORM set_config('evstore.now_override', format('2030-01-01 12:%s:00+00', lpad((i - 1)::text, 2, '0')), false);
		PERFORM evstore.append(CASE WHEN i % 3 = 0 THEN 'item-' ELSE 'order-' END || i % 4, CASE i % 2 WHEN 0 THEN 'Even' ELSE 'Odd' END,
			jsonb_build_object('n', i, 'who', CASE WHEN i % 5 > 0 THEN 'p' || i % 5 END), correlation_id => 'c' || i % 2, tags => CASE i WHEN 7 THEN '{seven,prime}'::text[] WHEN 5 THEN '{prime}' END);
	END LOOP;
END $$;
SET evstore.now_override = '2030-01-01 13:00+00';

-- ---- create: where it begins ----

SELECT start, try(format('SELECT evstore.create_subscription(%L, start => %L)', 'start ' || n, start)) AS result
FROM unnest(ARRAY['beginning', 'end', '0', '5', '12', '100', '007', '999999999999999999', '2030-01-01T12:04:00Z', '2030-01-01 12:04:00.000001+00',
	'2030-01-01T14:04:00+02:00', '2030-01-01 12:05', '2030-01-01', '1900-01-01', '2031-01-01T00:00:00Z']) WITH ORDINALITY AS s (start, n);
SELECT start, try(format('SELECT evstore.create_subscription(%L, start => %L)', 'bad', start)) AS result
FROM unnest(ARRAY[NULL, '', ' ', '-1', '+1', '1.5', '1e3', '0x10', '9999999999999999999', 'Beginning', 'END', 'now', 'today', 'infinity', '-infinity', 'epoch', '5 ',
	E'5\n', '2030-13-01', '2030-02-30', '2030-01-01T25:00', '2030-01-01 nowhere', '30-01-01', '٥', '$1', ''';DROP TABLE x;--']) AS start;
-- What is given begins there.
SELECT get('start 1'), get('start 2'), get('start 4'), get('start 6'), get('start 9'), get('start 10'), get('start 14', n => 3), get('start 15');
SELECT evstore.append_one('order-1', 'Late');
SELECT get('start 2'), get('start 5'), get('start 6'), get('start 15');
SELECT count(evstore.drop_subscription(subscription)) FROM evstore.subscriptions;

-- ---- create: names, slots, options ----

SELECT evstore.create_subscription('mails');
SELECT evstore.create_subscription('mails');
\echo :SQLSTATE
SELECT evstore.create_subscription('mails', '{"types": ["Other"]}', '7', 3, '{}', if_not_exists => true) AS there_already;
SELECT subscription, state, filter, key, slots, next_slots, lease, retry, on_failure, notify, checkpoint, consumers,
	lag_events, lag_is_exact, lag_seconds, retrying, waiting, parked, last_error, last_error_at
FROM evstore.subscriptions \gx
SELECT get('mails'), done('mails', 3), evstore.create_subscription('mails', if_not_exists => true) AS there_already;
SELECT evstore.drop_subscription('mails');

SELECT left(name, 10) AS name, octet_length(name) AS bytes, try(format('SELECT evstore.create_subscription(%L)', name)) AS result
FROM unnest(ARRAY[NULL, '', ' ', 'A', 'a', 'Über', U&'U\0308ber', '🐘', 'a.b/c-d "e" ''f''', repeat('x', 51), repeat('x', 52), repeat('é', 25) || 'x', repeat('é', 26), E'a\nb']) AS name;
SELECT subscription, lag_events FROM evstore.subscriptions ORDER BY subscription;
SELECT get('🐘', '🐘', 2), get(repeat('é', 25) || 'x', repeat('é', 128), 2);
SELECT count(evstore.drop_subscription(subscription)) FROM evstore.subscriptions;

SELECT args, try(format('SELECT evstore.create_subscription(''x'', %s)', args)) AS result, try($$SELECT evstore.drop_subscription('x')$$) = 'ok ' AS created
FROM unnest(ARRAY['slots => 0', 'slots => -1', 'slots => 257', 'slots => NULL', 'slots => 1', 'slots => 256', 'slots => 2147483647',
	'filter => NULL', 'filter => ''[]''', 'filter => ''"x"''', 'filter => ''null''', 'filter => ''{"type": ["T"]}''', 'filter => ''{"types": "T"}''', 'filter => ''{"types": [1]}''',
	'filter => ''{"categories": {}}''', 'filter => ''{"streams": null}''', 'filter => ''{"stream_prefix": 1}''', 'filter => ''{"tags": [null]}''', 'filter => ''{"correlation_id": []}''',
	'filter => ''{"jsonpath": 5}''', 'filter => ''{"jsonpath": "$..["}''', 'filter => ''{"types": [], "": 1}''',
	'options => NULL', 'options => ''[]''', 'options => ''1''', 'options => ''{"Lease": 1}''', 'options => ''{"": 1}''', 'options => ''{"a\"b": 1}''',
	'options => ''{"lease": 0.1}''', 'options => ''{"lease": "1 day"}''', 'options => ''{"lease": 0.09}''', 'options => ''{"lease": 86401}''', 'options => ''{"lease": 3000000}''',
	'options => ''{"lease": -1}''', 'options => ''{"lease": "soon"}''', 'options => ''{"lease": null}''', 'options => ''{"lease": [1]}''', 'options => ''{"lease": 1e300}''',
	'options => ''{"on_failure": "stop"}''', 'options => ''{"on_failure": null}''', 'options => ''{"on_failure": ["skip"]}''',
	'options => ''{"notify": "true"}''', 'options => ''{"notify": 1}''', 'options => ''{"notify": null}''', 'options => ''{"notify": true}''',
	'options => ''{"key": 1}''', 'options => ''{"key": null}''', 'options => ''{"key": ""}''', 'options => ''{"key": "$.["}''', 'options => ''{"key": "streams"}''', 'options => ''{"key": "$.who"}''',
	'options => ''{"retry": []}''', 'options => ''{"retry": null}''', 'options => ''{"retry": "never"}''', 'options => ''{"retry": "sqs"}''', 'options => ''{"retry": {"preset": "none", "initial": "1 min"}}''',
	'options => ''{"retry": {"max_attempts": 0}}''', 'options => ''{"retry": {"max_attempts": 1.5}}''', 'options => ''{"retry": {"max_attempts": 1000001}}''', 'options => ''{"retry": {"max_attempts": "3"}}''',
	'options => ''{"retry": {"max_attempts": 3.0}}''', 'options => ''{"retry": {"factor": 0.5}}''', 'options => ''{"retry": {"factor": 1001}}''', 'options => ''{"retry": {"factor": "2"}}''',
	'options => ''{"retry": {"jitter": -0.1}}''', 'options => ''{"retry": {"jitter": 1.1}}''', 'options => ''{"retry": {"jitter": true}}''', 'options => ''{"retry": {"initial": -1}}''',
	'options => ''{"retry": {"max": "no"}}''', 'options => ''{"retry": {"max_age": "-1 s"}}''', 'options => ''{"retry": {"max_age": null}}''', 'options => ''{"retry": {"backoff": 1}}''']) AS args;

-- ---- retry policies ----

SELECT preset, evstore.retry_policy(to_jsonb(preset)) AS policy
FROM unnest('{default,eventbridge,eventgrid,servicebus,pubsub,kinesis,sqs,kafka,poll,none}'::text[]) AS preset;
SELECT evstore.retry_policy() = evstore.retry_policy(NULL) AS same,
	evstore.retry_policy('{"preset": "sqs", "max_attempts": 7.0, "max": "2 hours", "max_age": "1 day 0.5 s"}') AS changed;
-- Exponential, up to the maximum; no attempt is too many.
SELECT attempt, evstore.retry_delay('{"initial": 1, "factor": 2, "max": 300, "jitter": 0}', attempt) AS delay
FROM unnest('{-1,0,1,2,3,4,8,9,10,64,1024,1000000,2147483647}'::int[]) AS attempt;
SELECT policy, string_agg(extract(epoch FROM evstore.retry_delay(evstore.retry_policy(policy), n, 0))::float8::text, ' ' ORDER BY n) AS seconds
FROM unnest('{"{\"initial\": 0}", "{\"max\": 0}", "{\"factor\": 1, \"initial\": 7}", "{\"initial\": 600}", "{\"factor\": 1000, \"max\": 31536000}", "{\"initial\": 0.001, \"factor\": 1.5}"}'::jsonb[]) AS policy,
	generate_series(1, 6) AS n GROUP BY policy ORDER BY policy;
-- Jitter takes away up to that part.
SELECT jitter, random, evstore.retry_delay(evstore.retry_policy(jsonb_build_object('initial', 100, 'jitter', jitter)), 1, random) AS delay
FROM unnest('{0,0.25,1}'::numeric[]) AS jitter, unnest('{0,0.5,0.9999}'::float8[]) AS random;
SELECT setseed(0.5) AS seed \gset
SELECT array_agg(evstore.retry_delay(evstore.retry_policy('{"initial": 100}'), 1)) AS first FROM generate_series(1, 50) \gset
SELECT setseed(0.5) AS seed \gset
SELECT array_agg(evstore.retry_delay(evstore.retry_policy('{"initial": 100}'), 1)) = :'first' AS repeatable FROM generate_series(1, 50);
SELECT bool_and(d BETWEEN interval '0' AND interval '100 s') AS in_range, count(DISTINCT d) > 40 AS differ, max(d) - min(d) > interval '50 s' AS full_range
FROM unnest(:'first'::interval[]) AS d;

-- ---- fetch and ack ----

SELECT evstore.create_subscription('s', options => '{"lease": "1 min"}');
-- The same ones until they are acknowledged; what is given is the event.
SELECT get('s', n => 3) AS first, get('s', n => 3) AS again, get('s', n => 5) AS more;
SELECT slot, attempt, f.position, f.stream, f.version, f.type, f.schema_version, f.data, f.correlation_id, f.tags, f.recorded_at, f.event_id = e.event_id AS same_id, f.metadata IS NOT DISTINCT FROM e.metadata AS same_metadata
FROM evstore.fetch('s', 'c', 7) AS f JOIN evstore.events AS e USING (position) WHERE position >= 6;
SELECT done('s', 2) AS checkpoint, get('s', n => 3);
-- Acknowledging again, or less, changes nothing.
SELECT done('s', 2), done('s', 1), done('s', 0), get('s', n => 3);
-- Nothing, or everything.
SELECT get('s', n => 0), (SELECT count(*) FROM evstore.fetch('s', 'c', 10000));
SELECT done('s', 13), get('s'), get('s');
SELECT lag_events, lag_seconds FROM evstore.subscriptions;
-- A rollback takes everything back.
SELECT evstore.append_one('order-1', 'More');
BEGIN;
SELECT get('s'), done('s', 14), get('s');
ROLLBACK;
SELECT get('s'), (SELECT checkpoint FROM evstore.subscription_slots);
BEGIN;
SAVEPOINT a;
SELECT done('s', 14), get('s');
ROLLBACK TO a;
SELECT get('s');
COMMIT;
-- So it does with what is made and changed.
BEGIN;
SELECT evstore.create_subscription('t', start => '12');
SELECT get('t');
SAVEPOINT a;
SELECT evstore.alter_subscription('t', '{"types": ["More"]}');
SELECT get('t');
ROLLBACK TO a;
SELECT get('t');
SELECT evstore.pause_subscription('t');
SELECT get('t');
ROLLBACK;
SELECT get('t');
-- Own events are given once they are committed.
BEGIN;
SELECT evstore.append_one('order-1', 'Own'), get('s');
SELECT * FROM evstore.fetch('s', 'c', 10, 100);
\echo :SQLSTATE
ROLLBACK;
-- An aborted append leaves a hole.
SELECT evstore.append_one('order-1', 'After'), get('s');
SELECT done('s', 16);

SELECT statement, try(statement) AS result FROM unnest(ARRAY[
	$$SELECT * FROM evstore.fetch('nobody', 'c')$$, $$SELECT * FROM evstore.fetch('nobody', 'c', 0)$$, $$SELECT * FROM evstore.fetch(NULL, 'c')$$, $$SELECT * FROM evstore.fetch('', 'c')$$,
	$$SELECT * FROM evstore.fetch(repeat('x', 52), 'c')$$, $$SELECT * FROM evstore.fetch('s', NULL)$$, $$SELECT * FROM evstore.fetch('s', '')$$,
	$$SELECT * FROM evstore.fetch('s', repeat('x', 256))$$, $$SELECT * FROM evstore.fetch('s', repeat('é', 129))$$,
	$$SELECT * FROM evstore.fetch('s', 'c', -1)$$, $$SELECT * FROM evstore.fetch('s', 'c', 10001)$$, $$SELECT * FROM evstore.fetch('s', 'c', NULL)$$,
	$$SELECT * FROM evstore.fetch('s', 'c', 1, -1)$$, $$SELECT * FROM evstore.fetch('s', 'c', 1, 3600001)$$, $$SELECT * FROM evstore.fetch('s', 'c', 1, NULL)$$,
	$$SELECT evstore.ack('nobody', 0, 1, 1)$$, $$SELECT evstore.ack(NULL, 0, 1, 1)$$, $$SELECT evstore.ack('s', NULL, 1, 1)$$, $$SELECT evstore.ack('s', 0, NULL, 1)$$,
	$$SELECT evstore.ack('s', 0, epoch('s'), NULL)$$, $$SELECT evstore.ack('s', 0, epoch('s'), -1)$$, $$SELECT evstore.ack('s', 0, epoch('s'), 17)$$, $$SELECT evstore.ack('s', 0, epoch('s'), 9223372036854775807)$$,
	$$SELECT evstore.ack_events('s', 0, epoch('s'), NULL)$$, $$SELECT evstore.ack_events('s', 0, epoch('s'), '{1,NULL}')$$, $$SELECT evstore.ack_events('s', 0, epoch('s'), '{}')$$,
	$$SELECT evstore.ack_events('s', 0, epoch('s'), '{17}')$$, $$SELECT evstore.ack_events('s', 0, epoch('s'), '{-5,3}')$$,
	$$SELECT evstore.nack('s', 0, epoch('s'), NULL)$$, $$SELECT evstore.nack('s', 0, epoch('s'), 1)$$, $$SELECT evstore.nack('s', 0, epoch('s'), 15)$$, $$SELECT evstore.nack('s', 0, epoch('s'), 17)$$,
	$$SELECT evstore.nack('s', 0, epoch('s'), 0)$$, $$SELECT evstore.nack('s', 0, epoch('s'), -1)$$,
	$$SELECT evstore.nack('s', 0, epoch('s'), 16, action => NULL)$$, $$SELECT evstore.nack('s', 0, epoch('s'), 16, action => 'Retry')$$, $$SELECT evstore.nack('s', 0, epoch('s'), 16, action => '')$$,
	$$SELECT evstore.extend('s', 0, epoch('s'), '0')$$, $$SELECT evstore.extend('s', 0, epoch('s'), '-1 s')$$, $$SELECT evstore.extend('s', 0, epoch('s'), '8 days')$$,
	$$SELECT evstore.extend('s', 0, epoch('s'), '178000000 years')$$,
	$$SELECT evstore.release('nobody', 'c')$$, $$SELECT evstore.release('s', NULL)$$, $$SELECT evstore.release('s', '')$$, $$SELECT evstore.release('s', 'stranger')$$,
	$$SELECT evstore.seek('nobody', 'end')$$, $$SELECT evstore.seek(NULL, 'end')$$, $$SELECT evstore.seek('s', NULL)$$, $$SELECT evstore.seek('s', 'start')$$,
	$$SELECT evstore.pause_subscription('nobody')$$, $$SELECT evstore.resume_subscription(NULL)$$, $$SELECT evstore.drop_subscription('nobody')$$, $$SELECT evstore.drop_subscription(NULL)$$,
	$$SELECT evstore.alter_subscription('nobody')$$, $$SELECT evstore.alter_subscription('s', '[]')$$, $$SELECT evstore.alter_subscription('s', slots => 0)$$,
	$$SELECT evstore.alter_subscription('s', options => '{"key": "correlation"}')$$, $$SELECT evstore.alter_subscription('s', options => '{"key": "stream"}')$$,
	$$SELECT evstore.alter_subscription('s', options => '{"lag": 1}')$$, $$SELECT evstore.replay_parked('nobody')$$, $$SELECT evstore.replay_parked('s')$$, $$SELECT evstore.replay_parked('s', 5)$$,
	$$SELECT evstore.replay_parked('s', data => '{}')$$, $$SELECT evstore.replay_parked('s', key => 'order-1')$$, $$SELECT evstore.discard_parked('s')$$, $$SELECT evstore.discard_parked('s', 5)$$]) AS statement;
SELECT try(format('SELECT evstore.ack(''s'', %s, 1, 1)', slot)) AS result FROM unnest('{-1,1,255,256,2147483647,-2147483648}'::int[]) AS slot;
SELECT regexp_replace(try(format('SELECT evstore.%s', call)), 'epoch": [1-9]\d*', 'epoch": N', 'g') AS fenced
FROM unnest(ARRAY['ack(''s'', 0, epoch(''s'') - 1, 16)', 'ack(''s'', 0, epoch(''s'') + 1, 16)', 'nack(''s'', 0, epoch(''s'') - 1, 16)', 'extend(''s'', 0, 0)', 'ack_events(''s'', 0, -1, ''{16}'')']) AS call;
CALL evstore.wait_for_events('nobody', 0);
\echo :SQLSTATE
CALL evstore.wait_for_events('s', -1);
\echo :SQLSTATE
CALL evstore.wait_for_events('s', NULL);
\echo :SQLSTATE
CALL evstore.wait_for_events('s', 0, '');
\echo :SQLSTATE
CALL evstore.wait_for_events('s', 0);

-- ---- claims ----

-- One consumer at a time; who comes next gets it when the lease is over.
SELECT evstore.append_one('order-1', 'Next');
SELECT get('s', 'c'), get('s', 'd');
SELECT consumer, claimed, cursor, checkpoint, lease_until, attempts, batch_limit FROM evstore.subscription_slots;
SET evstore.now_override = '2030-01-01 13:00:59+00';
SELECT get('s', 'd');
SELECT evstore.extend('s', 0, epoch('s')), evstore.extend('s', 0, epoch('s'), '10 s'), evstore.extend('s', 0, epoch('s'), '1 hour');
SET evstore.now_override = '2030-01-01 14:00:58+00';
SELECT get('s', 'd'), (SELECT claimed FROM evstore.subscription_slots);
SET evstore.now_override = '2030-01-01 14:00:59+00';
SELECT epoch('s') AS before \gset
-- Who is late but has not been replaced has not lost anything.
BEGIN;
SELECT (SELECT claimed FROM evstore.subscription_slots), get('s', 'c'), evstore.ack('s', 0, :before, 17);
ROLLBACK;
SELECT get('s', 'd'), epoch('s') > :before AS is_new;
SELECT left(try(format('SELECT evstore.ack(''s'', 0, %s, 17)', :before)), 5) AS fenced, get('s', 'c');
SELECT evstore.release('s', 'd'), get('s', 'c');
SELECT consumer, claimed, attempts FROM evstore.subscription_slots;
SELECT evstore.release('s', 'd'), evstore.release('s', 'c'), evstore.release('s', 'c');
SELECT left(try($$SELECT done('s', 17)$$), 5) AS released, (SELECT consumer IS NULL AND pid IS NULL AND lease_until IS NULL AND NOT claimed FROM evstore.subscription_slots) AS nobody;
SELECT get('s', 'd'), done('s', 17);

-- Many acknowledgements do not leave many rows.
DO $$ BEGIN FOR i IN 1 .. 300 LOOP PERFORM evstore.append('order-9', 'Many'); END LOOP; END $$;
CREATE PROCEDURE consume() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 300 LOOP
		PERFORM evstore.ack('s', f.slot, f.epoch, f.position) FROM evstore.fetch('s', 'd', 1) AS f;
		COMMIT;
	END LOOP;
END $$;
CALL consume();
SELECT count(*) < 150 AS few, max(cursor) AS cursor FROM evstore.slot_state;

-- ---- slots ----

-- All events, each in one slot, a stream in one slot.
SELECT evstore.create_subscription('four', slots => 4);
CREATE TABLE given AS SELECT * FROM evstore.fetch('four', 'c', 20);
SELECT count(*), count(DISTINCT position), count(DISTINCT slot) > 1 AS spread, (SELECT count(*) FROM (SELECT stream FROM given GROUP BY stream HAVING count(DISTINCT slot) > 1) AS t) AS torn FROM given;
-- The order within a slot is that of the log.
SELECT bool_and(position > last) AS ordered FROM (SELECT position, lag(position, 1, 0::bigint) OVER (PARTITION BY slot ORDER BY n) AS last FROM (SELECT *, row_number() OVER () AS n FROM evstore.fetch('four', 'c', 50)) AS f) AS g;
SELECT count(*) AS slots, sum((evstore.ack('four', slot, epoch, up_to) = up_to)::int) AS acknowledged FROM (SELECT slot, epoch, max(position) AS up_to FROM given GROUP BY 1, 2) AS g;
SELECT count(*) AS again FROM evstore.fetch('four', 'c', 10000) AS f JOIN given USING (position);
SELECT checkpoint < 20 AS lowest_counts FROM evstore.subscriptions WHERE subscription = 'four';
DROP TABLE given;
SELECT evstore.drop_subscription('four');
-- 256 slots, more than there are streams.
SELECT evstore.create_subscription('lots', slots => 256);
SELECT count(*), count(DISTINCT position) FROM evstore.fetch('lots', 'c', 10000);
SELECT count(*), count(consumer) FROM evstore.subscription_slots WHERE subscription = 'lots';
SELECT evstore.release('lots', 'c');
SELECT evstore.drop_subscription('lots');

-- More slots, or fewer: when the old ones have done all there was.
SELECT evstore.create_subscription('grow', '{"types": ["Odd", "Even"]}', slots => 2);
SELECT get('grow', n => 4) IS NOT NULL AS given;
SELECT evstore.alter_subscription('grow', slots => 4);
SELECT state, slots, next_slots FROM evstore.subscriptions WHERE subscription = 'grow';
SELECT evstore.append_one('order-3', 'Odd');
SELECT count(*), max(position) FROM evstore.fetch('grow', 'c', 100);
SELECT epoch('grow', 0) AS before \gset
SELECT count(evstore.ack('grow', slot, epoch('grow', slot), up_to)) FROM (SELECT slot, max(position) AS up_to FROM evstore.fetch('grow', 'c', 100) GROUP BY slot) AS f;
-- The next ones to fetch move the other slots on, and switch over.
SELECT count(*) FROM evstore.fetch('grow', 'c', 100);
SELECT count(*) FROM evstore.fetch('grow', 'c', 100);
SELECT count(*), min(position) FROM evstore.fetch('grow', 'c', 100);
SELECT state, slots, next_slots FROM evstore.subscriptions WHERE subscription = 'grow';
SELECT left(try(format('SELECT evstore.ack(''grow'', 0, %s, 12)', :before)), 5) AS fenced;
SELECT count(*) AS slots FROM evstore.subscription_slots WHERE subscription = 'grow';
-- To one; and seek does not wait.
SELECT evstore.alter_subscription('grow', slots => 1), evstore.alter_subscription('grow', slots => 3);
SELECT evstore.seek('grow', '10');
SELECT state, slots, next_slots, lag_events, checkpoint FROM evstore.subscriptions WHERE subscription = 'grow';
SELECT bool_and(epoch > :before) AS all_new FROM evstore.subscription_slots WHERE subscription = 'grow';
-- No claim of a removed slot is one of a slot that is there again.
SELECT max(epoch) AS highest FROM evstore.subscription_slots WHERE subscription = 'grow' \gset
SELECT evstore.alter_subscription('grow', slots => 1), evstore.seek('grow', '10');
SELECT evstore.alter_subscription('grow', slots => 3), evstore.seek('grow', '10');
SELECT bool_and(epoch > :highest) AS all_new FROM evstore.subscription_slots WHERE subscription = 'grow';
-- From a position that is still to come.
SELECT evstore.seek('grow', '1000'), evstore.alter_subscription('grow', slots => 1);
SELECT get('grow'), get('grow');
SELECT slots, next_slots, checkpoint FROM evstore.subscriptions WHERE subscription = 'grow';
-- Nor is one of a subscription that has been dropped.
SELECT max(epoch) AS highest FROM evstore.subscription_slots WHERE subscription = 'grow' \gset
SELECT evstore.drop_subscription('grow');
SELECT evstore.create_subscription('grow');
SELECT get('grow', n => 1), epoch('grow') > :highest AS all_new;
SELECT evstore.drop_subscription('grow');

-- ---- ordering keys ----

SELECT evstore.create_subscription('by stream', '{"types": ["Odd", "Even"]}', slots => 64), evstore.create_subscription('by correlation', '{"types": ["Odd", "Even"]}', slots => 64, options => '{"key": "correlation"}'),
	evstore.create_subscription('by path', '{"types": ["Odd", "Even"]}', slots => 64, options => '{"key": "$.who"}');
CREATE VIEW keys AS
SELECT s.name, (SELECT count(DISTINCT (slot, CASE s.name WHEN 'by stream' THEN f.stream WHEN 'by correlation' THEN f.correlation_id ELSE coalesce(f.data ->> 'who', f.stream) END)) FROM evstore.fetch(s.name, 'c') AS f) AS pairs,
	(SELECT count(DISTINCT slot) FROM evstore.fetch(s.name, 'c') AS f) AS slots
FROM unnest(ARRAY['by stream', 'by correlation', 'by path']) AS s (name);
-- streams; correlations; values of who, and the streams of those without one
SELECT name, pairs FROM keys;
SELECT (SELECT count(DISTINCT stream) FROM evstore.events WHERE type IN ('Odd', 'Even')) AS streams,
	(SELECT count(DISTINCT coalesce(data ->> 'who', stream)) FROM evstore.events WHERE type IN ('Odd', 'Even')) AS paths;
SELECT evstore.nack('by path', f.slot, f.epoch, f.position, 'x', 'park') IS NOT NULL AS parked FROM evstore.fetch('by path', 'c') AS f WHERE position IN (1, 5);
SELECT position, key FROM evstore.failed_events WHERE subscription = 'by path' ORDER BY position;
SELECT count(evstore.drop_subscription(name)) FROM keys;
DROP VIEW keys;

-- ---- filters ----

SELECT filter, evstore.create_subscription('f', filter) AS create, get('f') AS given, (SELECT lag_events FROM evstore.subscriptions WHERE subscription = 'f') AS lag, try($$SELECT evstore.drop_subscription('f')$$) = 'ok ' AS dropped
FROM unnest('{"{\"categories\": [\"item\"]}", "{\"categories\": [\"item\", \"none\"], \"types\": [\"Odd\"]}", "{\"categories\": []}", "{\"stream_prefix\": \"order-1\"}", "{\"streams\": [\"order-1\", \"item-0\"]}",
	"{\"types\": [\"Even\"]}", "{\"tags\": [\"prime\"]}", "{\"tags\": [\"prime\", \"seven\"]}", "{\"correlation_id\": \"c0\"}", "{\"jsonpath\": \"$.n > 9\"}", "{\"jsonpath\": \"$.who ? (@ like_regex \\\"^p[12]\\\")\"}",
	"{\"jsonpath\": \"strict $.who.size() > 0\"}", "{\"jsonpath\": \"12 / ($.n - 3) > 5\"}", "{\"jsonpath\": \"strict $.n > 3\", \"categories\": [\"order\"]}"}'::jsonb[]) AS filter;
-- A filter is changed for what is not acknowledged yet.
SELECT evstore.create_subscription('f', '{"types": ["Odd"]}');
SELECT get('f'), done('f', 3);
SELECT evstore.alter_subscription('f', '{"types": ["Even"]}');
SELECT get('f'), (SELECT filter FROM evstore.subscriptions WHERE subscription = 'f');
-- What is null stays; {} is everything.
SELECT evstore.alter_subscription('f', NULL, NULL, '{"lease": 5}');
SELECT filter, lease, slots, on_failure FROM evstore.subscriptions WHERE subscription = 'f';
SELECT evstore.alter_subscription('f', '{}');
SELECT get('f', n => 5);
SELECT evstore.drop_subscription('f');

-- ---- pause and resume, seek ----

SELECT evstore.create_subscription('p', '{"types": ["Odd", "Even"]}');
SELECT get('p', n => 4);
SELECT evstore.pause_subscription('p'), evstore.pause_subscription('p');
SELECT get('p'), (SELECT state FROM evstore.subscriptions WHERE subscription = 'p'), done('p', 4) AS what_was_given;
SELECT evstore.resume_subscription('p'), evstore.resume_subscription('p');
SELECT get('p'), (SELECT state FROM evstore.subscriptions WHERE subscription = 'p');
SELECT epoch('p') AS before \gset
SELECT evstore.seek('p', '2030-01-01T12:06:00Z');
SELECT left(try(format('SELECT evstore.ack(''p'', 0, %s, 12)', :before)), 5) AS fenced, get('p');
SELECT evstore.seek('p', 'beginning'), (SELECT checkpoint FROM evstore.subscription_slots WHERE subscription = 'p'), get('p', n => 3);
SELECT evstore.seek('p', 'end') = evstore.safe_position() AS at_end, get('p');
SELECT evstore.drop_subscription('p');
SELECT actor = session_user AS me, action, detail FROM evstore.audit WHERE detail ->> 'subscription' = 'p' ORDER BY id;

-- ---- lag ----

SELECT evstore.create_subscription('lag', '{"types": ["Odd", "Even"]}', slots => 3);
SET evstore.now_override = '2030-01-01 12:30+00';
SELECT lag_events, lag_is_exact, lag_seconds FROM evstore.subscriptions WHERE subscription = 'lag';
SELECT count(evstore.ack('lag', slot, epoch, 6)) > 0 AS acknowledged FROM (SELECT DISTINCT slot, epoch FROM evstore.fetch('lag', 'c')) AS f;
SELECT lag_events, lag_seconds, checkpoint FROM evstore.subscriptions WHERE subscription = 'lag';
SELECT count(evstore.ack('lag', slot, epoch, 12)) > 0 AS acknowledged FROM (SELECT DISTINCT slot, epoch FROM evstore.fetch('lag', 'c')) AS f;
SELECT evstore.append_one('other-1', 'Other');
SET evstore.now_override = '2030-01-02 12:30+00';
SELECT lag_events, lag_seconds FROM evstore.subscriptions WHERE subscription = 'lag';
SELECT evstore.drop_subscription('lag');

-- ---- events of all sizes, and those that are gone ----

SELECT evstore.append_one('big-1', 'Big', jsonb_build_object('x', repeat('0123456789', 100000)), metadata => jsonb_build_object('m', repeat('metadata', 20000)));
SELECT evstore.append_one('big-1', 'Big', jsonb_build_object('x', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 32768) AS i)));
SELECT evstore.append_one('big-1', 'Big', '""'), evstore.append_one('big-1', 'Big', 'null'), evstore.append_one('big-1', 'Big', '{}');
SELECT evstore.create_subscription('big', '{"categories": ["big"]}');
SELECT version, pg_column_size(f.data) > 0 AS sized, length(f.data::text), md5(f.data::text) = md5(e.data::text) AS same_data, f.metadata = e.metadata AS same_metadata
FROM evstore.fetch('big', 'c') AS f JOIN evstore.read_stream('big-1') AS e USING (version) ORDER BY version;
-- Kept beyond the fetch.
CREATE TABLE kept AS SELECT data FROM evstore.fetch('big', 'c');
SELECT sum(length(data::text)) FROM kept;
DROP TABLE kept;
SELECT evstore.drop_subscription('big');
SELECT evstore.create_subscription('gone', '{"categories": ["gone"]}');
SELECT evstore.append_one('gone-' || n % 3, 'T') FROM generate_series(0, 8) AS n;
SELECT count(*) FROM evstore.fetch('gone', 'c');
SELECT evstore.truncate_stream('gone-0', 1), evstore.delete_stream('gone-1');
SELECT stream, version FROM evstore.fetch('gone', 'c');
SELECT lag_events FROM evstore.subscriptions WHERE subscription = 'gone';
SELECT evstore.tombstone_stream('gone-0'), evstore.delete_stream('gone-2');
SELECT count(*) FROM evstore.fetch('gone', 'c');
SELECT evstore.drop_subscription('gone');

-- ---- rights ----

CREATE ROLE regress_evstore_sub_reader;
CREATE ROLE regress_evstore_sub_consumer;
SELECT evstore.grant_access('regress_evstore_sub_reader', 'reader'), evstore.grant_access('regress_evstore_sub_consumer', 'consumer');
GRANT EXECUTE ON FUNCTION try(text), epoch(text, int) TO PUBLIC;
CREATE TABLE calls (n int GENERATED ALWAYS AS IDENTITY, call text);
GRANT SELECT ON calls TO PUBLIC;
INSERT INTO calls (call) VALUES ($$SELECT evstore.create_subscription('r', start => '3')$$), ($$SELECT position FROM evstore.fetch('r', 'c', 1)$$), ($$SELECT evstore.nack('r', 0, epoch('r'), 4, 'e', 'park')$$),
	($$SELECT evstore.replay_parked('r')$$), ($$SELECT evstore.ack('r', 0, epoch('r'), 4)$$), ($$SELECT evstore.ack_events('r', 0, epoch('r'), '{5}')$$), ($$SELECT count(evstore.extend('r', 0, epoch('r')))$$), ($$SELECT evstore.discard_parked('r')$$),
	($$SELECT evstore.release('r', 'c')$$), ($$SELECT evstore.pause_subscription('r')$$), ($$SELECT evstore.resume_subscription('r')$$), ($$SELECT evstore.alter_subscription('r', options => '{"lease": 1}')$$), ($$SELECT evstore.seek('r', '1')$$),
	($$SELECT lag_events > 0 FROM evstore.subscriptions WHERE subscription = 'r'$$), ($$SELECT count(*) FROM evstore.subscription_slots WHERE subscription = 'r'$$), ($$SELECT count(*) FROM evstore.failed_events$$), ($$SELECT count(*) FROM evstore.parked_events$$),
	($$SELECT evstore.drop_subscription('r')$$), ($$SELECT count(*) FROM evstore.subscription$$), ($$SELECT count(*) FROM evstore.slot_state$$), ($$SELECT count(*) FROM evstore.failed_event$$),
	($$SELECT evstore._slot_reset(1, 0, 0)$$), ($$SELECT evstore._slot_refresh(1, 0)$$), ($$SELECT evstore._slot_lock(1, 0)$$), ($$SELECT evstore._kick(1)$$), ($$SELECT evstore._slot_events('s', 0, 0, 5)$$),
	($$SELECT evstore._failed_resolve(1, 1)$$), ($$SELECT evstore._slots_switch(1)$$), ($$SELECT evstore._subscription('s'::text)$$), ($$SELECT evstore._audit('a', '{}')$$);
SET ROLE regress_evstore_sub_reader;
SELECT n, left(try(call), 80) AS reader FROM calls ORDER BY n;
SET ROLE regress_evstore_sub_consumer;
SELECT n, left(try(call), 80) AS consumer FROM calls ORDER BY n;
RESET ROLE;
REVOKE ALL ON ALL ROUTINES IN SCHEMA evstore FROM regress_evstore_sub_consumer;
REVOKE ALL ON evstore.subscriptions FROM regress_evstore_sub_consumer;
SET ROLE regress_evstore_sub_consumer;
SELECT try($$SELECT * FROM evstore.fetch('s', 'c')$$), try($$SELECT * FROM evstore.subscriptions$$);
RESET ROLE;
-- The right to the view is what the C functions look at.
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA evstore TO regress_evstore_sub_consumer;
SET ROLE regress_evstore_sub_consumer;
SELECT try(call) FROM unnest(ARRAY[$$SELECT * FROM evstore.fetch('s', 'c')$$, $$SELECT evstore.ack('s', 0, 1, 1)$$, $$SELECT evstore.nack('s', 0, 1, 1)$$, $$SELECT evstore.release('s', 'c')$$]) AS call;
RESET ROLE;
-- Not in a transaction that may only read.
BEGIN READ ONLY;
SELECT try(call) FROM unnest(ARRAY[$$SELECT * FROM evstore.fetch('s', 'c')$$, $$SELECT evstore.ack('s', 0, epoch('s'), 1)$$, $$SELECT evstore.release('s', 'c')$$, $$SELECT evstore.extend('s', 0, epoch('s'))$$,
	$$SELECT evstore.create_subscription('ro')$$, $$SELECT evstore.seek('s', 'end')$$, $$SELECT count(*) FROM evstore.subscriptions$$]) AS call;
COMMIT;

-- ---- nothing is left of what has been dropped ----

SELECT count(evstore.drop_subscription(subscription)) FROM evstore.subscriptions;
SELECT (SELECT count(*) FROM evstore.subscription) AS subscriptions, (SELECT count(*) FROM evstore.slot_state) AS states, (SELECT count(*) FROM evstore.failed_event) AS failed, (SELECT count(*) FROM evstore.subscription_member) AS members;

\c :main
DROP DATABASE evstore_subscription;
DROP ROLE regress_evstore_sub_reader, regress_evstore_sub_consumer;
