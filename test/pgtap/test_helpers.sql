-- test_given(), test_when(), test_then(): what they accept, and that they fail when
-- they should.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS dblink;
CREATE EXTENSION IF NOT EXISTS evstore;

SELECT plan(56);

CREATE SCHEMA door;
CREATE FUNCTION door.apply(state jsonb, e evstore.event) RETURNS jsonb LANGUAGE sql STABLE AS $$
	SELECT CASE e.type
		WHEN 'Opened' THEN state || '{"status": "open"}'
		WHEN 'Closed' THEN state || '{"status": "closed"}'
		WHEN 'Counted' THEN state || jsonb_build_object('n', e.data -> 'n')
	END $$;
SELECT evstore.create_aggregate('door', '{"status": "closed"}', 'door.apply(jsonb,evstore.event)', options => '{"transitions": [
	{"type": "Opened", "from": "closed", "to": "open"},
	{"type": "Closed", "from": "open", "to": "closed"},
	{"type": "Opened", "guard": "false", "message": "The door is open"},
	{"type": "Counted"}]}') \g /dev/null
CREATE FUNCTION door.open(state jsonb, args jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	RETURN CASE WHEN args ? 'lazy' AND state ->> 'status' = 'open' THEN NULL
		ELSE jsonb_build_array(jsonb_build_object('type', 'Opened', 'data', args, 'tags', '["a", "b"]'::jsonb, 'occurred_at', '2026-01-05T10:00:00Z')) END;
END $$;
CREATE FUNCTION door.slam(state jsonb, args jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '[{"type": "Closed"}, {"type": "Opened"}, {"type": "Closed"}]'::jsonb $$;
CREATE FUNCTION door.burn(state jsonb, args jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.append('door-fire', 'Counted');
	RAISE EXCEPTION 'it is %', args ->> 'what' USING ERRCODE = 'XX042';
END $$;

-- SQLSTATE, message and detail of a statement that fails, on a fresh stream
CREATE FUNCTION pg_temp.failure(query text, OUT code text, OUT message text, OUT detail jsonb) LANGUAGE plpgsql AS $$
DECLARE
	d text;
BEGIN
	EXECUTE query;
	code := 'ok';
EXCEPTION WHEN OTHERS OR ASSERT_FAILURE THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL;
	detail := CASE WHEN d LIKE '{%' THEN d::jsonb END;
END $$;

-- ---- what has happened ----

BEGIN;
SELECT evstore.test_given('door-1', '[{"type": "Opened"}, {"type": "Closed"}]') \g /dev/null
SELECT is(evstore.stream_version('door-1'), 1::bigint, 'test_given() appends');
SELECT evstore.test_when('door-1', 'door.open(jsonb,jsonb)', '{"key": 1.50}') \g /dev/null
SELECT ok(evstore.test_then('door-1', expected::jsonb), what)
FROM (VALUES
	('[{"type": "Opened", "data": {"key": 1.5}}]', 'type and data'),
	('[{"type": "Opened"}]', 'the type only'),
	('[{}]', 'some event'),
	('[{"version": 2, "stream": "door-1", "schema_version": 1, "causation_id": null}]', 'other members'),
	('[{"tags": ["a", "b"]}]', 'tags'),
	('[{"occurred_at": "2026-01-05T11:00:00+01:00"}]', 'a time, written in another way')) AS t (expected, what);
SELECT results_eq(format('SELECT code, message FROM pg_temp.failure(%L)', format('SELECT evstore.test_then(''door-1'', %L)', expected)),
	format('VALUES (''P0004'', %L)', message), 'not so: ' || message)
FROM (VALUES
	('[]', '0 events were expected, and there are 1'),
	('[{}, {}]', '2 events were expected, and there are 1'),
	('[{"type": "Closed"}]', 'event 0 is not as expected: type differs'),
	('[{"type": "Opened", "data": {}}]', 'event 0 is not as expected: data differs'),
	('[{"data": {"key": 1.5, "more": 1}}]', 'event 0 is not as expected: data differs'),
	('[{"data": null, "version": 3}]', 'event 0 is not as expected: data, version differs'),
	('[{"tags": ["b", "a"]}]', 'event 0 is not as expected: tags differs')) AS t (expected, message);
SELECT is((pg_temp.failure($$ SELECT evstore.test_then('door-1', '[{"data": {"key": 2}}]') $$)).detail,
	'{"expected": {"data": {"key": 2}}, "actual": {"type": "Opened", "data": {"key": 1.5}}}'::jsonb, 'DETAIL has both');
SELECT is((pg_temp.failure($$ SELECT evstore.test_then('door-1', '[]') $$)).detail,
	'{"expected": [], "actual": [{"type": "Opened", "data": {"key": 1.5}}]}'::jsonb, 'also of how many there are');
SELECT results_eq(format('SELECT code, message FROM pg_temp.failure(%L)', query), format('VALUES (''22023'', %L)', message), message)
FROM (VALUES
	($$ SELECT evstore.test_then('door-1', '{}') $$, 'argument "expected" must be an array of objects'),
	($$ SELECT evstore.test_then('door-1', NULL) $$, 'argument "expected" must be an array of objects'),
	($$ SELECT evstore.test_then('door-1', '[1]') $$, 'argument "expected" must be an array of objects'),
	($$ SELECT evstore.test_then('door-1', '[{"typ": "Opened"}]') $$, 'an event has no member "typ"'),
	($$ SELECT evstore.test_then('door-2', '[]') $$, 'the last test_when() was about stream "door-1"')) AS t (query, message);
SELECT is((pg_temp.failure($$ SELECT evstore.test_then_error() $$)).message, 'an error was expected, and there is none', 'no error');
SELECT evstore.append('door-1', 'Counted') \g /dev/null
SELECT ok(evstore.test_then('door-1', '[{"type": "Opened"}]'), 'events after test_when() are none of its own');

-- a command that appends several, and one that appends none
SELECT evstore.test_when('door-1', 'door.slam(jsonb,jsonb)') \g /dev/null
SELECT ok(evstore.test_then('door-1', '[{"type": "Closed"}, {"type": "Opened"}, {"type": "Closed"}]'), 'several events');
SELECT is((pg_temp.failure($$ SELECT evstore.test_then('door-1', '[{}, {"type": "Closed"}, {}]') $$)).message, 'event 1 is not as expected: type differs', 'which of several differs');
SELECT evstore.test_when_append('door-1', '[{"type": "Opened"}]') \g /dev/null
SELECT ok(evstore.test_then('door-1', '[{"type": "Opened"}]'), 'test_when_append()');
SELECT evstore.test_when('door-1', 'door.open(jsonb,jsonb)', '{"lazy": true}') \g /dev/null
SELECT ok(evstore.test_then('door-1', '[]'), 'a command that decides on nothing');
SELECT evstore.test_when_append('door-1', '[]') \g /dev/null
SELECT ok(evstore.test_then('door-1', '[]'), 'no events');

-- ---- errors ----

SELECT evstore.test_when('door-1', 'door.open(jsonb,jsonb)') \g /dev/null
SELECT ok(evstore.test_then_error(), 'an error, any');
SELECT ok(evstore.test_then_error('VS013'), 'its code');
SELECT ok(evstore.test_then_error(message_like => 'The door is %'), 'its message');
SELECT ok(evstore.test_then_error('VS013', 'The door is open'), 'both');
SELECT results_eq($$ SELECT * FROM pg_temp.failure($q$ SELECT evstore.test_then_error('VS001') $q$) $$,
	$$ VALUES ('P0004', 'another error was expected', '{"expected": {"sqlstate": "VS001", "message_like": null}, "actual": {"sqlstate": "VS013", "message": "The door is open"}}'::jsonb) $$, 'another code');
SELECT is((pg_temp.failure($$ SELECT evstore.test_then_error('VS013', 'The door') $$)).message, 'another error was expected', 'another message');
SELECT is((pg_temp.failure($$ SELECT evstore.test_then('door-1', '[]') $$)).message, 'events were expected, and it has failed: The door is open', 'an error is not the same as no events');
SELECT evstore.test_when_append('door-1', '[{"type": "Counted"}, {"type": "Opened"}]') \g /dev/null
SELECT ok(evstore.test_then_error('VS013'), 'test_when_append() checks transitions');
SELECT is(evstore.stream_version('door-1'), 7::bigint, 'and appends none of the events then');
SELECT evstore.test_when('door-1', 'door.burn(jsonb,jsonb)', '{"what": "hot"}') \g /dev/null
SELECT ok(evstore.test_then_error('XX042', 'it is hot'), 'an error of the command itself');
SELECT is(evstore.stream_version('door-fire'), -1::bigint, 'what it has done is undone');
SELECT evstore.test_when('none-1', 'door.open(jsonb,jsonb)') \g /dev/null
SELECT ok(evstore.test_then_error('VS009'), 'no aggregate');

-- ---- states ----

SELECT evstore.test_given('door-2', '[{"type": "Opened"}, {"type": "Counted", "data": {"n": 0.30}}]') \g /dev/null
SELECT ok(evstore.test_then_state('door-2', expected::jsonb), 'a state: ' || expected) FROM unnest('{"{}","{\"n\": 0.3}","{\"status\": \"open\", \"n\": 0.300}"}'::text[]) AS expected;
SELECT results_eq($$ SELECT * FROM pg_temp.failure($q$ SELECT evstore.test_then_state('door-2', '{"n": 1, "m": null, "status": "open"}') $q$) $$,
	$$ VALUES ('P0004', 'the state is not as expected: m, n differs', '{"expected": {"n": 1, "m": null, "status": "open"}, "actual": {"n": 0.3, "status": "open"}}'::jsonb) $$, 'another state');
SELECT is((pg_temp.failure($$ SELECT evstore.test_then_state('door-2', '1') $$)).code, 'P0004', 'one of another kind');
SELECT is((pg_temp.failure($$ SELECT evstore.test_then_state('door-2', NULL) $$)).code, '22004', 'null');

-- ---- in a transaction, and no longer ----

SELECT is((pg_temp.failure($$ SELECT evstore.test_then('door-2', '[]') $$)).code, '55000', 'test_given() forgets the last test_when()');
ROLLBACK;
SELECT is(evstore.stream_version('door-1'), -1::bigint, 'after ROLLBACK nothing remains');
BEGIN;
SELECT is((pg_temp.failure($$ SELECT evstore.test_then_error() $$)).code, '55000', 'without test_when() there is nothing to look at');
SAVEPOINT s;
SELECT evstore.test_given('door-3', '[{"type": "Opened"}]') \g /dev/null
ROLLBACK TO s;
COMMIT;
SELECT throws_ok($$ SELECT evstore.test_given('door-3', '[{"type": "Opened"}]'); SET CONSTRAINTS ALL IMMEDIATE $$, '2D000', NULL, 'what is not undone cannot be committed');
SELECT dblink_connect('other', format('host=%s port=%s dbname=%L user=%L',
	split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), current_database(), current_user)) \g /dev/null
SELECT throws_ok($$ SELECT dblink_exec('other', 'DO $q$ BEGIN PERFORM evstore.test_given(''door-4'', ''[{"type": "Opened"}]''); END $q$') $$, '2D000', NULL, 'nor is anything stored without BEGIN');
SELECT is(evstore.stream_version('door-4'), -1::bigint, 'nothing');
SELECT dblink_exec('other', 'BEGIN') \g /dev/null
SELECT dblink_exec('other', 'DO $q$ BEGIN PERFORM evstore.test_when(''door-4'', ''door.open(jsonb,jsonb)''); END $q$') \g /dev/null
SELECT throws_ok($$ SELECT dblink_exec('other', 'COMMIT') $$, '2D000', NULL, 'nor after test_when() alone');
SELECT dblink_disconnect('other') \g /dev/null
SELECT is_empty('SELECT * FROM evstore.test_outcome', 'outcomes are never stored');

-- the command runs with the caller's search_path, and a writer may test
CREATE ROLE tester;
SELECT evstore.grant_access('tester', 'writer') \g /dev/null
GRANT USAGE ON SCHEMA door TO tester;
SET ROLE tester;
SET search_path = door, public;
BEGIN;
SELECT evstore.test_given('door-5'), evstore.test_when('door-5', 'open(jsonb,jsonb)') \g /dev/null
SELECT ok(evstore.test_then('door-5', '[{"type": "Opened"}]') AND evstore.test_then_state('door-5', '{"status": "open"}'), 'a writer may, with a search_path');
ROLLBACK;
RESET search_path;
RESET ROLE;
SELECT is(evstore.stream_version('door-5'), -1::bigint, 'it leaves nothing either');

SELECT finish();
