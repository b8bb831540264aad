-- Projections, run in this session: options, order, errors and what becomes of
-- the events that cause them, inline projections, causation, reset, waiting.
\set QUIET 1
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS dblink;
CREATE EXTENSION IF NOT EXISTS evstore;
LOAD 'evstore';
SET jit = off;

SELECT plan(165);

CREATE SCHEMA rm;
CREATE TABLE rm.seen (n bigserial, position bigint, stream text, type text, data jsonb);
CREATE TABLE rm.total (stream text PRIMARY KEY, n bigint NOT NULL, amount numeric NOT NULL);
CREATE TABLE rm.call (n bigserial, events int);
CREATE FUNCTION rm.see(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO seen (position, stream, type, data) VALUES (e.position, e.stream, e.type, e.data);
	IF e.type = 'Bad' AND e.data ->> 'fixed' IS NULL THEN
		RAISE EXCEPTION 'cannot see %', e.data ->> 'what' USING ERRCODE = 'P0007';
	ELSIF e.type = 'Deadlock' THEN
		RAISE deadlock_detected;
	ELSIF e.type = 'Slow' THEN
		LOOP END LOOP;
	END IF;
END $$;
CREATE FUNCTION rm.add(es evstore.event[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO total SELECT e.stream, count(*), sum((e.data ->> 'amount')::numeric) FROM unnest(es) AS e GROUP BY 1
	ON CONFLICT (stream) DO UPDATE SET n = total.n + excluded.n, amount = total.amount + excluded.amount;
	INSERT INTO call (events) VALUES (cardinality(es));
END $$;
CREATE FUNCTION rm.not_void(e evstore.event) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION rm.two(e evstore.event, x int) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION rm.of_text(e text) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION rm.set_of(e evstore.event) RETURNS SETOF int LANGUAGE sql AS 'SELECT 1';

-- how a statement ends
CREATE FUNCTION pg_temp.outcome(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE query;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || COALESCE(' ' || NULLIF(detail, ''), '');
END $$;
CREATE FUNCTION pg_temp.later(by interval) RETURNS void LANGUAGE sql AS $$ SELECT set_config('evstore.now_override', (evstore._now() + by)::text, false) $$;
CREATE FUNCTION pg_temp.positions() RETURNS bigint[] LANGUAGE sql AS 'SELECT array_agg(position ORDER BY n) FROM rm.seen';
SELECT set_config('evstore.now_override', '2026-01-01T00:00:00Z', false) \g /dev/null

-- names have collation C, and results_eq() compares rows
CREATE TEMP VIEW p AS SELECT projection COLLATE "default" AS projection, state, mode, checkpoint, lag_events, retrying, waiting, parked, last_error, last_error_position, retry_at FROM evstore.projections;
CREATE TEMP VIEW parked AS SELECT subscription COLLATE "default" AS subscription, position, version, reason, error, behind FROM evstore.parked_events;

-- ---- definitions ----

SELECT is(pg_temp.outcome($$ SELECT evstore.create_projection('p', 'rm.not_void(evstore.event)') $$), 'VS010 {"path": "handler", "function": "rm.not_void(evstore.event)"}', 'a handler returns void');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_projection('p', 'rm.two(evstore.event,int)') $$), 'VS010 {"path": "handler", "function": "rm.two(evstore.event,integer)"}', 'it has one argument');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_projection('p', 'rm.of_text(text)') $$), 'VS010 {"path": "handler", "function": "rm.of_text(text)"}', 'of type event, or an array');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_projection('p', 'rm.set_of(evstore.event)') $$), 'VS010 {"path": "handler", "function": "rm.set_of(evstore.event)"}', 'and returns no set');
CREATE FUNCTION pg_temp.temporary(e evstore.event) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
SELECT is(pg_temp.outcome($$ SELECT evstore.create_projection('p', 'pg_temp.temporary(evstore.event)') $$), 'VS010 {"path": "handler"}', 'it is not temporary');
SELECT is(pg_temp.outcome(format('SELECT evstore.create_projection(%L, %L, options => %L)', 'p', 'rm.see(evstore.event)', o)), 'VS010 {"path": "' || path || '"}', 'option ' || o)
FROM (VALUES ('{"mode": "sync"}', '$.options.mode'), ('{"mode": 1}', '$.options.mode'), ('{"on_error": "retry"}', '$.options.on_error'), ('{"batch_size": 0}', '$.options.batch_size'),
	('{"batch_size": 1.5}', '$.options.batch_size'), ('{"batch_size": "10"}', '$.options.batch_size'), ('{"partitions": 65}', '$.options.partitions'), ('{"partitions": 0}', '$.options.partitions'),
	('{"mode": "inline", "partitions": 2}', '$.options.partitions'), ('{"retry": "no"}', '$.retry.preset'), ('{"statement_timeout": -1}', '$.options.statement_timeout'),
	('{"statement_timeout": "2 days"}', '$.options.statement_timeout'), ('{"schema": ""}', '$.options.schema'), ('{"schema": null}', '$.options.schema'), ('{"tables": "seen"}', '$.options.tables'),
	('{"tables": [1]}', '$.options.tables'), ('{"tables": ["nowhere"]}', '$.options.tables'), ('{"tables": ["seen"], "schema": "public"}', '$.options.tables'), ('{"notify": 1}', '$.options.notify'), ('{"depends_on": "x"}', '$.options.depends_on'), ('{"depends_on": [1]}', '$.options.depends_on'), ('{"depends_on": ["nobody"]}', '$.options.depends_on'), ('{"depends_on": ["p"]}', '$.options.depends_on'),
	('{"nothing": 1}', '$.options.nothing'), ('[]', '$.options')) AS o (o, path);
SELECT is(pg_temp.outcome($$ SELECT evstore.create_projection('p', 'rm.see(evstore.event)', '{"type": "x"}') $$), 'VS010 {"path": "$.type"}', 'the filter is checked');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_projection('p', 'rm.see(evstore.event)', start => 'then') $$), '22023', 'so is the start');
SELECT is(pg_temp.outcome(format('SELECT evstore.create_projection(%L, %L)', name, 'rm.see(evstore.event)')), '22023', 'a name: ' || quote_literal(left(name, 10)))
FROM unnest(ARRAY['', repeat('x', 52), '$p']) AS name;
SELECT is(pg_temp.outcome($$ SELECT evstore.create_projection(NULL, 'rm.see(evstore.event)') $$), '22004', 'a null name');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_projection('p', NULL) $$), '22004', 'a null handler');
SELECT is(left(pg_temp.outcome(format('SELECT evstore.%s', f)), 5), 'VS009', 'no such projection: ' || f) FROM unnest(ARRAY['alter_projection(''no'')', 'run_projection(''no'')', 'drop_projection(''no'')',
	'rebuild_projection(''no'')', 'cancel_rebuild(''no'')', 'reset_projection(''no'')', 'wait_for_projection(''no'')', 'wait_for_projections(''{no}'')']) AS f;
SELECT is((SELECT count(*) FROM p), 0::bigint, 'nothing of these was made');

-- ---- a projection like a subscription, and unlike one ----

SELECT evstore.append('a-1', 'One') \g /dev/null
SELECT evstore.append('b-1', 'Two') \g /dev/null
SELECT lives_ok($$ SELECT evstore.create_projection('see', 'rm.see(evstore.event)') $$, 'a projection of everything');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_projection('see', 'rm.see(evstore.event)') $$), 'VS008 {"projection": "see"}', 'its name is taken');
SELECT throws_ok($$ SELECT evstore.create_subscription('see') $$, 'VS008', 'projection "see" already exists', '... for a subscription, too');
SELECT is(pg_temp.outcome('SELECT ' || f), '55000', 'consumers keep off: ' || f) FROM unnest(ARRAY['evstore.fetch(''see'', ''me'')', 'evstore.ack(''see'', 0, 1, 1)', 'evstore.release(''see'', ''me'')',
	'evstore.seek(''see'', ''end'')', 'evstore.pause_subscription(''see'')', 'evstore.alter_subscription(''see'')', 'evstore.drop_subscription(''see'')']) AS f;
SELECT is((SELECT count(*) FROM evstore.subscriptions), 0::bigint, 'it is not among the subscriptions');
SELECT evstore.create_subscription('sub') \g /dev/null
SELECT is(pg_temp.outcome($$ SELECT evstore.pause_projection('sub') $$), '55000', 'nor a subscription among projections');
SELECT evstore.drop_subscription('sub') \g /dev/null
SELECT results_eq($$ SELECT projection, state, mode, lag_events, checkpoint FROM p $$, $$ VALUES ('see', 'running', 'async', 2::bigint, 0::bigint) $$, 'it has all before it');

-- ---- batches ----

SELECT is(evstore.run_projection('see', 1), 1::bigint, 'one event');
SELECT is(evstore.run_projection('see'), 1::bigint, 'and the rest');
SELECT is(evstore.run_projection('see'), 0::bigint, 'and no more');
SELECT is(pg_temp.positions(), ARRAY[1, 2]::bigint[], 'each once, in order');
SELECT results_eq($$ SELECT lag_events, checkpoint FROM p $$, 'VALUES (0::bigint, 2::bigint)', 'the checkpoint is a position');
SELECT is(pg_temp.outcome($$ SELECT evstore.run_projection('see', 0) $$), '22023', 'max_count 0');
BEGIN;
SELECT evstore.append('a-1', 'Three') \g /dev/null
SELECT is(pg_temp.outcome($$ SELECT evstore.run_projection('see') $$), '55000', 'not in a transaction that has appended');
SELECT is(left(pg_temp.outcome($$ SELECT evstore.wait_for_projection('see') $$), 5), '55000', '... nor is waited there');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT is(pg_temp.outcome($$ SELECT evstore.run_projection('see') $$), '55000', 'nor with an old snapshot');
ROLLBACK;
SELECT evstore.append('a-1', 'Three') \g /dev/null
BEGIN;
SELECT evstore.run_projection('see') \g /dev/null
ROLLBACK;
SELECT is(evstore.run_projection('see'), 1::bigint, 'what is rolled back comes again');
SELECT is(cardinality(pg_temp.positions()), 3, '... and is there once');

-- ---- waiting ----

SELECT ok(evstore.wait_for_projection('see'), 'it has come');
SELECT evstore.append('a-1', 'Four') \g /dev/null
SELECT ok(NOT evstore.wait_for_projection('see', timeout => '10 ms'), 'it has not');
SELECT ok(evstore.wait_for_projection('see', 4, '0'), 'up to where it has');
SELECT ok(NOT evstore.wait_for_projections('{see,see}', timeout => '0'), 'of several, one that has not');
SELECT evstore.run_projection('see') \g /dev/null
SELECT ok(evstore.wait_for_projections('{see,see}', timeout => '0'), 'all of them have');
SELECT ok(evstore.wait_for_projections('{}'), 'of none, all have');
SELECT is(pg_temp.outcome($$ SELECT evstore.wait_for_projections('{see,null}') $$), '22004', 'a null among the names');

-- ---- stop ----

SELECT evstore.append_events('a-1', '[{"type": "Five"}, {"type": "Bad", "data": {"what": "this"}}, {"type": "Seven"}]') \g /dev/null
SELECT is(evstore.run_projection('see'), 1::bigint, 'an event before one that fails is done');
SELECT results_eq($$ SELECT state, last_error, last_error_position, checkpoint, lag_events FROM p $$,
	$$ VALUES ('failing', 'cannot see this', 7::bigint, 6::bigint, 2::bigint) $$, 'the view tells what it fails on');
SELECT is(evstore.run_projection('see'), 0::bigint, 'it is not tried again at once');
SELECT pg_temp.later('2 minutes') \g /dev/null
SELECT evstore.run_projection('see'), pg_temp.later('2 minutes') FROM generate_series(1, 3) \g /dev/null
SELECT is((SELECT state FROM p), 'failing', 'four attempts');
SELECT evstore.run_projection('see') \g /dev/null
SELECT results_eq($$ SELECT state, retry_at FROM p $$, $$ VALUES ('stopped', NULL::timestamptz) $$, 'after the fifth it stops');
SELECT alike(pg_temp.outcome($$ SELECT evstore.wait_for_projection('see') $$), 'VS012 %cannot see this%', 'who waits for it is told');
SELECT is((SELECT detail FROM evstore.health() WHERE check_name = 'projections go on' AND NOT ok), 'see: cannot see this', '... and so is monitoring');
SELECT is((SELECT count(*) FROM rm.seen WHERE type IN ('Bad', 'Seven')), 0::bigint, 'nothing of it is left, and nothing has passed it');
SELECT evstore.resume_projection('see') \g /dev/null
SELECT is((SELECT state FROM p), 'running', 'it may try again');
SELECT is(evstore.run_projection('see'), 0::bigint, '... and fails again');
CREATE OR REPLACE FUNCTION rm.see(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO seen (position, stream, type, data) VALUES (e.position, e.stream, e.type, e.data);
	IF e.type = 'Bad' AND e.data ->> 'what' <> 'this' AND e.data ->> 'fixed' IS NULL THEN
		RAISE EXCEPTION 'cannot see %', e.data ->> 'what' USING ERRCODE = 'P0007';
	ELSIF e.type = 'Deadlock' THEN
		RAISE deadlock_detected;
	ELSIF e.type = 'Slow' THEN
		LOOP END LOOP;
	END IF;
END $$;
SELECT evstore.resume_projection('see') \g /dev/null
SELECT evstore.run_projection('see'), evstore.run_projection('see') \g /dev/null
SELECT results_eq($$ SELECT state, last_error, checkpoint FROM p $$, 'VALUES (''running'', NULL::text, 8::bigint)', 'with the function mended it goes on');

-- ---- what is nobody's fault ----

SELECT evstore.append('a-1', 'Deadlock') \g /dev/null
SELECT is(pg_temp.outcome($$ SELECT evstore.run_projection('see') $$), '40P01', 'a deadlock is thrown, and no event''s fault');
SELECT is((SELECT state FROM p), 'running', '... nor counted');
SELECT evstore.alter_projection('see', options => '{"statement_timeout": 0.1, "retry": "none"}') \g /dev/null
SELECT evstore.drop_projection('see') \g /dev/null
SELECT is((SELECT count(*) FROM p) + (SELECT count(*) FROM evstore.slot_state), 0::bigint, 'dropped, with its slots');
SELECT evstore.append('a-2', 'Slow') \g /dev/null
SELECT evstore.create_projection('slow', 'rm.see(evstore.event)', '{"streams": ["a-2"]}', options => '{"statement_timeout": 0.1, "retry": "none"}') \g /dev/null
SELECT is(evstore.run_projection('slow'), 0::bigint, 'a handler without end is ended');
SELECT results_eq($$ SELECT state, last_error FROM p $$, $$ VALUES ('stopped', 'the handler was ended after 100 ms') $$, '... which counts');
ALTER FUNCTION rm.see(evstore.event) RENAME TO unseen;
SELECT evstore.resume_projection('slow') \g /dev/null
SELECT is(pg_temp.outcome($$ SELECT evstore.run_projection('slow') $$), '42883', 'a function that has gone is no event''s fault, either');
ALTER FUNCTION rm.unseen(evstore.event) RENAME TO see;
SELECT evstore.drop_projection('slow') \g /dev/null

-- ---- park and skip ----

TRUNCATE rm.seen;
SELECT evstore.append_events('p-1', '[{"type": "Bad", "data": {"what": "p"}}, {"type": "Good"}]') \g /dev/null
SELECT evstore.append_events('p-2', '[{"type": "Good"}]') \g /dev/null
SELECT evstore.create_projection('park', 'rm.see(evstore.event)', '{"categories": ["p"]}', options => '{"on_error": "park", "retry": {"max_attempts": 2, "initial": 1, "jitter": 0}}') \g /dev/null
SELECT evstore.create_projection('skip', 'rm.see(evstore.event)', '{"categories": ["p"]}', options => '{"on_error": "skip", "retry": {"max_attempts": 2, "initial": 1, "jitter": 0}}') \g /dev/null
SELECT is(evstore.run_projection('park'), 1::bigint, 'park: other streams go on');
SELECT is(evstore.run_projection('skip'), 2::bigint, 'skip: so does the same stream');
SELECT results_eq($$ SELECT projection, state, retrying, waiting, parked FROM p ORDER BY 1 $$,
	$$ VALUES ('park', 'failing', 1::bigint, 1::bigint, 0::bigint), ('skip', 'failing', 1, 0, 0) $$, 'the event is to be retried, and with park the next one waits');
SELECT pg_temp.later('5 seconds') \g /dev/null
SELECT is(evstore.run_projection('park') + evstore.run_projection('skip'), 0::bigint, 'the second attempt');
SELECT results_eq($$ SELECT subscription, position, reason, error, behind FROM parked ORDER BY 1, 2 $$,
	$$ VALUES ('park', 11::bigint, 'max_attempts', 'cannot see p', NULL::bigint), ('park', 12, 'behind', NULL, 11), ('skip', 11, 'max_attempts', 'cannot see p', NULL) $$, 'is the last one');
SELECT results_eq($$ SELECT projection, state, checkpoint FROM p ORDER BY 1 $$, $$ VALUES ('park', 'running', 13::bigint), ('skip', 'running', 13) $$, 'the checkpoint passes what is parked');
SELECT is(evstore.replay_parked('park', 11, data => '{"fixed": true}'), 1, 'replayed, with other data');
SELECT is(evstore.replay_parked('park', 12), 1, '... and what was behind it');
SELECT is(evstore.run_projection('park') + evstore.run_projection('park'), 2::bigint, '... is handled');
SELECT is((SELECT array_agg(position || COALESCE(data ->> 'fixed', '') ORDER BY n) FROM rm.seen WHERE stream = 'p-1' AND n > (SELECT max(n) - 2 FROM rm.seen)), ARRAY['11true', '12'], '... in order');
SELECT is((SELECT parked FROM p WHERE projection = 'park'), 0::bigint, 'nothing is parked any more');
SELECT is(evstore.discard_parked('skip'), 1, 'discarded');
SELECT evstore.drop_projection('park'), evstore.drop_projection('skip') \g /dev/null

-- ---- arrays: one poison event of a hundred ----

SELECT evstore.append_arrays('q-1', array_fill('Paid'::text, ARRAY[100]), ARRAY(SELECT jsonb_build_object('amount', CASE i WHEN 63 THEN 'poison' ELSE '0.1' END) FROM generate_series(1, 100) AS i)) \g /dev/null
SELECT evstore.create_projection('add', 'rm.add(evstore.event[])', '{"categories": ["q"]}', options => '{"on_error": "skip", "retry": "none", "tables": ["total", "call"]}') \g /dev/null
SELECT is(evstore.run_projection('add'), 99::bigint, 'the other 99 are done');
SELECT results_eq('SELECT n, amount FROM rm.total', 'VALUES (99::bigint, 9.9)', '... once, and add up exactly');
SELECT results_eq($$ SELECT version, error FROM parked $$, $$ VALUES (62::bigint, 'invalid input syntax for type numeric: "poison"') $$, 'the one is parked');
SELECT ok((SELECT count(*) FROM rm.call) <= 14, 'found by halving');
SELECT is(pg_temp.outcome($$ SELECT evstore.run_projection('add') $$), 'ok', 'nothing is left to do');

-- ---- reset ----

SELECT lives_ok($$ SELECT evstore.reset_projection('add') $$, 'reset');
SELECT is((SELECT count(*) FROM rm.total), 0::bigint, 'the tables are empty');
SELECT is((SELECT checkpoint FROM p), 0::bigint, 'it begins anew');
SELECT evstore.run_projection('add') \g /dev/null
SELECT results_eq('SELECT n, amount FROM rm.total', 'VALUES (99::bigint, 9.9)', '... with the same result');
SELECT evstore.drop_projection('add') \g /dev/null

-- ---- partitions ----

TRUNCATE rm.seen;
SELECT evstore.append('r-' || i % 20, 'N', jsonb_build_object('i', i)) FROM generate_series(1, 200) AS i \g /dev/null
SELECT evstore.create_projection('parts', 'rm.see(evstore.event)', '{"categories": ["r"]}', options => '{"partitions": 7, "batch_size": 10}') \g /dev/null
SELECT evstore.run_projection('parts') FROM generate_series(1, 20) \g /dev/null
SELECT is((SELECT count(DISTINCT position) FROM rm.seen), 200::bigint, 'all partitions together have all events');
SELECT is_empty($$ SELECT 1 FROM (SELECT position, lag(position) OVER (PARTITION BY stream ORDER BY n) AS before FROM rm.seen) AS s WHERE before > position $$, '... each stream in order');
SELECT is((SELECT count(*) FROM rm.seen), 200::bigint, '... once');
SELECT evstore.drop_projection('parts') \g /dev/null

-- ---- projections that depend on others ----

TRUNCATE rm.seen;
SELECT evstore.append('d-1', 'First') \g /dev/null
SELECT evstore.append('e-1', 'Other') \g /dev/null
SELECT evstore.append('d-1', 'Second') \g /dev/null
SELECT evstore.create_projection('base', 'rm.see(evstore.event)', '{"categories": ["d"]}', options => '{"partitions": 2, "on_error": "park", "retry": {"max_attempts": 2, "initial": 1, "jitter": 0}}') \g /dev/null
SELECT evstore.create_projection('upon', 'rm.see(evstore.event)', '{"categories": ["d", "e"]}', options => '{"depends_on": ["base"]}') \g /dev/null
SELECT is(pg_temp.outcome($$ SELECT evstore.alter_projection('base', options => '{"depends_on": ["upon"]}') $$), 'VS010 {"path": "$.options.depends_on"}', 'no two depend on each other');
SELECT is(pg_temp.outcome($$ SELECT evstore.create_projection('x', 'rm.see(evstore.event)', options => '{"depends_on": ["base"], "mode": "inline"}') $$), 'VS010 {"path": "$.options.depends_on"}', 'an inline one depends on none');
SELECT is(evstore.run_projection('upon'), 0::bigint, 'nothing is handled before the other has');
SELECT is(evstore.run_projection('base', 1), 1::bigint, 'the other handles one');
SELECT is(evstore.run_projection('upon'), 2::bigint, '... which may be handled now, and what does not concern the other');
SELECT is(evstore.run_projection('base') + evstore.run_projection('upon'), 2::bigint, 'then the rest');
SELECT evstore.append('d-1', 'Bad', '{"what": "d"}') \g /dev/null
SELECT is(evstore.run_projection('base') + evstore.run_projection('upon'), 0::bigint, 'an event that the other is still trying is waited for');
SELECT pg_temp.later('5 seconds') \g /dev/null
CREATE OR REPLACE FUNCTION rm.see_all(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen (position, stream, type, data) VALUES (e.position, e.stream, e.type, e.data); END $$;
SELECT evstore.alter_projection('upon', 'rm.see_all(evstore.event)') \g /dev/null
SELECT is(evstore.run_projection('base') + evstore.run_projection('upon'), 1::bigint, '... until it is parked');
SELECT is(pg_temp.outcome($$ SELECT evstore.drop_projection('base') $$), '55000', 'what others depend on is not dropped');
SELECT evstore.drop_projection('upon'), evstore.drop_projection('base') \g /dev/null

-- ---- causation ----

CREATE FUNCTION rm.react(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.append('reaction-' || e.version, 'Reacted');
END $$;
SELECT evstore.append('cause-1', 'Asked', correlation_id => 'flow-7') \g /dev/null
SELECT evstore.append('cause-1', 'Asked') \g /dev/null
SELECT evstore.create_projection('react', 'rm.react(evstore.event)', '{"categories": ["cause"]}') \g /dev/null
SELECT evstore.run_projection('react') \g /dev/null
SELECT results_eq($$ SELECT r.correlation_id, r.causation_id = c.event_id FROM evstore.events AS r JOIN evstore.events AS c ON c.stream = 'cause-1' AND r.stream = 'reaction-' || c.version ORDER BY c.version $$,
	$$ SELECT e.correlation_id, true FROM evstore.flow('flow-7') AS e WHERE e.stream = 'reaction-0' UNION ALL SELECT r.correlation_id, true FROM evstore.events AS r WHERE r.stream = 'reaction-1' $$, 'what a handler appends is linked to its event');
SELECT is((SELECT correlation_id FROM evstore.events WHERE stream = 'reaction-0'), 'flow-7', '... and of its correlation');
SELECT evstore.append('later', 'Other') \g /dev/null
SELECT results_eq($$ SELECT causation_id, correlation_id FROM evstore.events WHERE stream = 'later' $$, 'VALUES (NULL::uuid, NULL::text)', 'but no event of others is');
SELECT evstore.drop_projection('react') \g /dev/null

-- ---- NOTIFY ----

-- the next notification, with which the answer to a statement comes at the latest
CREATE FUNCTION pg_temp.heard() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	FOR i IN 1 .. 1000 LOOP
		PERFORM * FROM dblink('listener', 'SELECT 1') AS t (one int);
		SELECT notify_name || ' ' || extra INTO result FROM dblink_get_notify('listener');
		EXIT WHEN result IS NOT NULL;
	END LOOP;
	RETURN result;
END $$;
SELECT dblink_connect('listener', 'dbname=' || current_database() || ' host=' || split_part(current_setting('unix_socket_directories'), ',', 1) || ' port=' || current_setting('port')) \g /dev/null
SELECT dblink_exec('listener', 'LISTEN evstore_prj_told') \g /dev/null
SELECT evstore.create_projection('told', 'rm.see_all(evstore.event)', '{"categories": ["told"]}', options => '{"notify": true}') \g /dev/null
SELECT position AS told FROM evstore.append('told-1', 'Said') \gset
SELECT evstore.run_projection('told') \g /dev/null
SELECT is(pg_temp.heard(), 'evstore_prj_told ' || :told, 'a listener is told of the checkpoint');
SELECT dblink_disconnect('listener') \g /dev/null
SELECT evstore.drop_projection('told') \g /dev/null

-- ---- inline ----

TRUNCATE rm.seen, rm.total;
SELECT evstore.create_projection('first', 'rm.see(evstore.event)', '{"categories": ["i"]}', 'end', '{"mode": "inline"}') \g /dev/null
SELECT evstore.create_projection('second', 'rm.add(evstore.event[])', '{"categories": ["i"]}', options => '{"mode": "inline", "tables": ["total"]}') \g /dev/null
BEGIN;
SELECT evstore.append_events('i-1', '[{"type": "Paid", "data": {"amount": 0.1}}, {"type": "Paid", "data": {"amount": 0.2}}]') \g /dev/null
SELECT is((SELECT amount FROM rm.total), 0.3, 'an inline projection is there in the same transaction');
ROLLBACK;
SELECT is((SELECT count(*) FROM rm.total) + (SELECT count(*) FROM rm.seen), 0::bigint, 'and goes with it');
SELECT is(pg_temp.outcome($$ SELECT evstore.append('i-1', 'Paid', '{"amount": "x"}') $$) ~ '^VS012 \{"projection": "second", "position": \d+, "sqlstate": "22P02"', true, 'what it throws is VS012');
SELECT is(pg_temp.outcome($$ SELECT evstore.append('i-1', 'Bad', '{"what": "y", "amount": "x"}') $$) ~ '"projection": "first"', true, 'in the order in which they were made');
SELECT is(evstore.stream_version('i-1'), -1::bigint, 'and the append is undone');
SELECT is(pg_temp.outcome($$ SELECT evstore.append('i-1', 'Deadlock', '{"amount": 1}') $$), '40P01', 'an error that may pass keeps its code');
SELECT results_eq($$ SELECT count(*), min(s.version) FROM evstore.append_streams('[{"stream": "i-2", "events": [{"type": "Paid", "data": {"amount": 1}}]}, {"stream": "j-2", "events": [{"type": "Paid"}]}, {"stream": "i-1", "events": [{"type": "Paid", "data": {"amount": 2}}]}]') AS s $$,
	'VALUES (3::bigint, 0::bigint)', 'several streams at once');
SELECT results_eq('SELECT stream, amount FROM rm.total ORDER BY 1', $$ VALUES ('i-1', 2::numeric), ('i-2', 1) $$, '... are filtered');
SELECT is(pg_temp.outcome($$ SELECT evstore.pause_projection('first') $$), '55000', 'an inline projection cannot be paused');
SELECT is(pg_temp.outcome($$ SELECT evstore.reset_projection('second') $$), '55000', '... nor reset');
SELECT results_eq($$ SELECT state, lag_events, checkpoint FROM p WHERE projection = 'second' $$, $$ VALUES ('inline', NULL::bigint, NULL::bigint) $$, 'it has no lag');
SELECT ok(evstore.wait_for_projection('second', timeout => '0'), 'nor is it waited for');
SELECT evstore.drop_projection('second') \g /dev/null
SELECT evstore.append('i-2', 'Paid', '{"amount": 5}') \g /dev/null
TRUNCATE rm.total;
SELECT evstore.create_projection('again', 'rm.add(evstore.event[])', '{"categories": ["i"]}', options => '{"mode": "inline"}') \g /dev/null
SELECT results_eq('SELECT stream, amount FROM rm.total ORDER BY 1', $$ VALUES ('i-1', 2::numeric), ('i-2', 6) $$, 'a new one catches up at once');
-- what a handler appends comes after what it was called with, also for the others
CREATE TABLE rm.ordered (n bigserial, by text, version bigint);
CREATE FUNCTION rm.first_of_all(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO ordered (by, version) VALUES ('g1', e.version);
	IF e.version = 0 THEN PERFORM evstore.append(e.stream, 'Nested'); END IF;
END $$;
CREATE FUNCTION rm.second_of_all(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO ordered (by, version) VALUES ('g2', e.version); END $$;
SELECT evstore.create_projection('g1', 'rm.first_of_all(evstore.event)', '{"categories": ["g"]}', options => '{"mode": "inline"}') \g /dev/null
SELECT evstore.create_projection('g2', 'rm.second_of_all(evstore.event)', '{"categories": ["g"]}', options => '{"mode": "inline"}') \g /dev/null
SELECT evstore.append_events('g-1', '[{"type": "A"}, {"type": "C"}]') \g /dev/null
SELECT results_eq('SELECT by, array_agg(version ORDER BY n) FROM rm.ordered GROUP BY 1 ORDER BY 1', $$ VALUES ('g1', '{0,1,2}'::bigint[]), ('g2', '{0,1,2}') $$, 'each has the events of a stream in order, those that a handler appends included');
SELECT evstore.drop_projection('g1'), evstore.drop_projection('g2') \g /dev/null

CREATE FUNCTION rm.endless(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM evstore.append('endless-1', 'Again'); END $$;
SELECT evstore.create_projection('endless', 'rm.endless(evstore.event)', '{"categories": ["endless"]}', options => '{"mode": "inline"}') \g /dev/null
SELECT is(left(pg_temp.outcome($$ SELECT evstore.append('endless-1', 'First') $$), 5), 'VS012', 'handlers that append for each other come to an end');
-- more than one event in a call
SELECT evstore.create_projection('limited', 'rm.see(evstore.event)', '{"categories": ["l"]}', options => '{"mode": "inline", "statement_timeout": 0.1}') \g /dev/null
SET statement_timeout = '20s';
SELECT is(pg_temp.outcome($$ SELECT evstore.append_events('l-1', '[{"type": "A"}, {"type": "Slow"}]') $$) ~ 'ended after 100 ms', true, 'the limit is one of each call, not of the first');
RESET statement_timeout;
SELECT evstore.append_events('l-1', '[{"type": "A"}, {"type": "B"}]') \g /dev/null
SELECT evstore.append('l-2', 'A') \g /dev/null
SELECT is((SELECT count(*) FROM evstore.events WHERE stream LIKE 'l-%' AND causation_id IS NOT NULL), 0::bigint, 'what was handled before causes nothing afterwards');
SELECT evstore.drop_projection('limited') \g /dev/null
-- in sessions that have not appended yet
CREATE FUNCTION rm.echo(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM evstore.append_one('i-echo', 'Paid', '{"amount": 100}'); END $$;
SELECT evstore.append('m-1', 'A') \g /dev/null
SELECT dblink_connect('other', 'dbname=' || current_database() || ' host=' || split_part(current_setting('unix_socket_directories'), ',', 1) || ' port=' || current_setting('port')) \g /dev/null
SELECT * FROM dblink('other', $$ SELECT evstore.create_projection('echo', 'rm.echo(evstore.event)', '{"categories": ["m"]}', options => '{"mode": "inline"}')::text $$) AS t (x text) \g /dev/null
SELECT is((SELECT amount FROM rm.total WHERE stream = 'i-echo'), 100::numeric, 'what a handler appends while a new projection catches up is handled by the others');
SELECT dblink_exec('other', 'BEGIN ISOLATION LEVEL REPEATABLE READ') \g /dev/null
SELECT * FROM dblink('other', 'SELECT count(*) FROM rm.total') AS t (n bigint) \g /dev/null
SELECT evstore.create_projection('unknown', 'rm.see(evstore.event)', '{"categories": ["k"]}', options => '{"mode": "inline"}') \g /dev/null
SELECT * FROM dblink('other', $$ SELECT evstore.append_one('k-1', 'A') $$) AS t (version bigint) \g /dev/null
SELECT dblink_exec('other', 'COMMIT') \g /dev/null
SELECT * FROM dblink('other', $$ SELECT evstore.append_one('k-2', 'A') $$) AS t (version bigint) \g /dev/null
SELECT is((SELECT array_agg(stream ORDER BY n) FROM rm.seen WHERE stream LIKE 'k-%'), '{k-1,k-2}', 'a transaction whose snapshot is older than a projection does not miss it, nor does its session');
SELECT dblink_disconnect('other') \g /dev/null
SELECT evstore.drop_projection('echo'), evstore.drop_projection('unknown') \g /dev/null
SELECT evstore.drop_projection('endless'), evstore.drop_projection('again'), evstore.drop_projection('first') \g /dev/null

-- ---- for tests: in the append's transaction ----

TRUNCATE rm.total;
SELECT evstore.create_projection('later', 'rm.add(evstore.event[])', '{"categories": ["t"]}') \g /dev/null
SET evstore.delivery = sync;
BEGIN;
SELECT evstore.append('t-1', 'Paid', '{"amount": 4}') \g /dev/null
SELECT results_eq('SELECT stream, amount FROM rm.total', $$ VALUES ('t-1', 4::numeric) $$, 'a projection of workers is run by the append');
SELECT is((SELECT checkpoint FROM p), 0::bigint, 'its checkpoint stays');
ROLLBACK;
SELECT is(pg_temp.outcome($$ SELECT evstore.append('u-1', 'Other') $$), 'ok', 'an event that is in none of them may be committed');
SELECT throws_ok($$ SELECT * FROM dblink('dbname=' || current_database() || ' host=' || split_part(current_setting('unix_socket_directories'), ',', 1) || ' port=' || current_setting('port'),
	'SET evstore.delivery = sync; SELECT evstore.append_one(''t-1'', ''Paid'', ''{"amount": 4}'')') AS t (version bigint) $$, '2D000', NULL, 'one that was handled may not');
RESET evstore.delivery;
SELECT is((SELECT count(*) FROM rm.total), 0::bigint, 'nothing is left');
SELECT evstore.drop_projection('later') \g /dev/null

-- ---- rebuilds ----

CREATE TABLE rm.once (id bigint PRIMARY KEY, u bigint NOT NULL);
CREATE UNIQUE INDEX once_u ON rm.once (u);
ALTER TABLE rm.once REPLICA IDENTITY USING INDEX once_u;
CREATE ROLE rm_reader;
CREATE ROLE rm_owner;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO rm_reader;
CREATE FUNCTION rm.note(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF e.type = 'Bad' AND current_setting('search_path') LIKE 'evstore_rebuild%' THEN
		RAISE EXCEPTION 'cannot note';
	END IF;
	INSERT INTO once VALUES (e.position, e.position);
END $$;
SELECT evstore.create_projection('note', 'rm.note(evstore.event)', '{"categories": ["n"]}', options => '{"tables": ["once"]}') \g /dev/null
SELECT evstore.append('n-1', 'A') \g /dev/null
SELECT evstore.run_projection('note') \g /dev/null
SELECT evstore.rebuild_projection('note') \g /dev/null
SELECT is(pg_temp.outcome($$ SELECT evstore.alter_projection('note', owner => 'rm_owner') $$), '55000', 'the owner of a rebuild''s tables stays');
SELECT evstore.run_projection('note'), evstore.run_projection('note') \g /dev/null
SELECT results_eq($$ SELECT r.rebuild_state, c.relreplident, has_table_privilege('rm_reader', c.oid, 'SELECT') FROM evstore.projections AS r, pg_class AS c WHERE r.projection = 'note' AND c.oid = 'rm.once'::regclass $$,
	$$ VALUES (NULL::text, 'i'::"char", false) $$, 'the new table has the old one''s replica identity, and no more rights');
ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM rm_reader;
SELECT evstore.drop_projection('note') \g /dev/null
TRUNCATE rm.once;
SELECT evstore.create_projection('note', 'rm.note(evstore.event)', '{"categories": ["n"]}', options => '{"mode": "inline", "tables": ["once"], "on_error": "park", "retry": "none"}') \g /dev/null
SELECT evstore.append('n-1', 'Bad') \g /dev/null
SELECT evstore.rebuild_projection('note') \g /dev/null
SELECT evstore.run_projection('note'), evstore.run_projection('note') \g /dev/null
SELECT results_eq($$ SELECT (SELECT count(*) FROM rm.once), (SELECT rebuild_state FROM evstore.projections), (SELECT count(*) FROM parked) $$, $$ VALUES (2::bigint, 'failed', 0::bigint) $$, 'one of an inline projection misses no event: it fails');
SELECT evstore.drop_projection('note') \g /dev/null
DROP ROLE rm_reader, rm_owner;

-- ---- automatic snapshots ----

SELECT is(pg_temp.outcome($$ SELECT evstore.create_subscription('$snapshots-s') $$), '22023', 'names with $ are not for clients');

CREATE FUNCTION rm.count_up(state jsonb, e evstore.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('n', (state ->> 'n')::int + 1) $$;
SELECT is(pg_temp.outcome($$ SELECT evstore.create_aggregate('s', '{"n": 0}', 'rm.count_up(jsonb,evstore.event)', options => '{"snapshot_every": 0}') $$), 'VS010 {"path": "$.options.snapshot_every"}', 'snapshots after no event');
SELECT evstore.create_aggregate('s', '{"n": 0}', 'rm.count_up(jsonb,evstore.event)', options => '{"snapshot_every": 10}') \g /dev/null
SELECT is((SELECT state FROM p WHERE projection = '$snapshots-s'), 'running', 'they are saved by a projection');
CREATE PROCEDURE pg_temp.in_threes(n int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		PERFORM evstore.append_events('s-1', '[{"type": "A"}, {"type": "B"}, {"type": "C"}]');
		COMMIT;
		PERFORM evstore.run_projection('$snapshots-s');
		COMMIT;
	END LOOP;
END $$;
SELECT evstore.alter_aggregate('s', options => '{"keep": 100}') \g /dev/null
CALL pg_temp.in_threes(100);
SELECT is((SELECT array_agg(version ORDER BY version) FROM evstore.snapshots WHERE stream = 's-1'), ARRAY(SELECT 12 * i - 1 FROM generate_series(1, 25) AS i)::bigint[], 'no multiple of ten is stepped over: after each ten events, or the append that completes them');
SELECT results_eq($$ SELECT state ->> 'n', snapshot_version, events_read FROM evstore.load_aggregate('s-1') $$, $$ VALUES ('300', 299::bigint, 0::bigint) $$, 'loading begins with them');
SELECT is(pg_temp.outcome($$ SELECT evstore.drop_projection('$snapshots-s') $$), '55000', 'the projection is the aggregate''s');
SELECT evstore.alter_aggregate('s', options => '{"snapshot_every": null}') \g /dev/null
SELECT is((SELECT count(*) FROM p), 0::bigint, 'and goes when they are not wanted');
SELECT evstore.drop_aggregate('s') \g /dev/null

SELECT * FROM finish();
