-- append_retry(): decide, append, and decide again if another writer was quicker.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS dblink;
CREATE EXTENSION IF NOT EXISTS evstore;

SELECT plan(35);

CREATE SCHEMA shop;
-- counts calls, also those of transactions that fail
CREATE SEQUENCE shop.calls;
CREATE TABLE shop.price (sku text, cents int);
INSERT INTO shop.price VALUES ('a', 999);

-- append as many events as args.events says; before, let "another" writer append
-- while the stream has at most args.disturb events
CREATE FUNCTION shop.decide(stream text, version bigint, args jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM nextval('shop.calls');
	IF version < (args ->> 'disturb')::int THEN
		PERFORM evstore.append(stream, 'Disturbed');
	END IF;
	RETURN (
		SELECT jsonb_agg(jsonb_build_object('type', 'Decided', 'data', jsonb_build_object('seen', version)))
		FROM generate_series(1, (args ->> 'events')::int));
END $$;
CREATE FUNCTION pg_temp.calls() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	result bigint;
BEGIN
	SELECT CASE WHEN is_called THEN last_value ELSE 0 END INTO result FROM shop.calls;
	PERFORM setval('shop.calls', 1, false);
	RETURN result;
END $$;
-- how a statement ends, run as a role
CREATE FUNCTION pg_temp.outcome(query text, role text DEFAULT current_user) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', role, true);
	EXECUTE query;
	RESET ROLE;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;

-- ---- without a conflict ----

SELECT results_eq(
	$$ SELECT first_version, version, "position" > 0, attempts
		FROM evstore.append_retry('a-1', 'shop.decide(text,bigint,jsonb)', '{"events": 2}') $$,
	'VALUES (0::bigint, 1::bigint, true, 1)', 'a new stream');
SELECT results_eq(
	$$ SELECT first_version, version, "position" > 0, attempts
		FROM evstore.append_retry('a-1', 'shop.decide(text,bigint,jsonb)', '{"events": 1}') $$,
	'VALUES (2::bigint, 2::bigint, true, 1)', 'one that is there');
SELECT is((SELECT array_agg(data ->> 'seen' ORDER BY version) FROM evstore.read_stream('a-1')), '{-1,-1,1}',
	'decide is told the version');
SELECT is(pg_temp.calls(), 2::bigint, 'and called once each time');

CREATE FUNCTION shop.decide_nothing(stream text, version bigint, args jsonb) RETURNS jsonb LANGUAGE sql AS
$$ SELECT args $$;
SELECT results_eq(
	format($$ SELECT first_version, version, "position", attempts
		FROM evstore.append_retry('a-1', 'shop.decide_nothing(text,bigint,jsonb)', %s) $$, n.nothing),
	'VALUES (NULL::bigint, 2::bigint, NULL::bigint, 1)', 'nothing to append: ' || n.nothing)
FROM unnest(ARRAY['NULL', '''[]''', '''null''']) AS n (nothing);
SELECT results_eq(
	$$ SELECT version FROM evstore.append_retry('a-2', 'shop.decide_nothing(text,bigint,jsonb)', NULL) $$,
	'VALUES (-1::bigint)', 'nothing to append to no stream');
SELECT throws_ok(
	$$ SELECT evstore.append_retry('a-1', 'shop.decide_nothing(text,bigint,jsonb)', '{"type": "T"}') $$,
	'VS005', NULL, 'what is no array of events is an error');

-- ---- with a conflict ----

SELECT results_eq(
	$$ SELECT first_version, version, attempts
		FROM evstore.append_retry('b-1', 'shop.decide(text,bigint,jsonb)', '{"events": 1, "disturb": 0}') $$,
	'VALUES (1::bigint, 1::bigint, 2)', 'decided again after a conflict');
SELECT is((SELECT string_agg(concat_ws(' ', type, data ->> 'seen'), ', ' ORDER BY version) FROM evstore.read_stream('b-1')),
	'Disturbed, Decided 0', 'on the new version');
SELECT is(pg_temp.calls(), 2::bigint, 'two calls');
SELECT results_eq(
	$$ SELECT version, attempts
		FROM evstore.append_retry('b-2', 'shop.decide(text,bigint,jsonb)', '{"events": 1, "disturb": 3}') $$,
	'VALUES (4::bigint, 5)', 'the fifth attempt');
SELECT is(pg_temp.calls(), 5::bigint, 'five calls');
SELECT throws_ok(
	$$ SELECT evstore.append_retry('b-3', 'shop.decide(text,bigint,jsonb)', '{"events": 1, "disturb": 4}') $$,
	'VS001', NULL, 'not the sixth');
SELECT is(pg_temp.calls(), 5::bigint, 'there is none');
SELECT is(evstore.stream_version('b-3'), -1::bigint, 'nothing is left');
SELECT throws_ok(
	$$ SELECT evstore.append_retry('b-3', 'shop.decide(text,bigint,jsonb)', '{"events": 1, "disturb": 9}', 2) $$,
	'VS001', NULL, 'max_attempts');
SELECT is(pg_temp.calls(), 2::bigint, 'is a maximum');
SELECT throws_ok(
	$$ SELECT evstore.append_retry('b-3', 'shop.decide(text,bigint,jsonb)', '{"events": 1}', 0) $$,
	'22023', 'argument "max_attempts" must be from 1 to 1000', 'and 1 at least');

-- ---- the function ----

CREATE FUNCTION shop.returns_text(stream text, version bigint, args jsonb) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;
CREATE FUNCTION shop.returns_set(stream text, version bigint, args jsonb) RETURNS SETOF jsonb LANGUAGE sql AS $$ SELECT args $$;
CREATE FUNCTION shop.takes_int(stream text, version int, args jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT args $$;
SELECT throws_ok(format('SELECT evstore.append_retry(%L, %L, NULL)', 'c-1', f.decide), 'VS010',
	format('function %s cannot be used to decide', f.decide), 'not ' || f.decide)
FROM unnest(ARRAY['shop.returns_text(text,bigint,jsonb)', 'shop.returns_set(text,bigint,jsonb)',
	'shop.takes_int(text,integer,jsonb)']) AS f (decide);

-- it runs with the caller's search_path, and its name may need quotes
CREATE SCHEMA "My Shop";
CREATE FUNCTION "My Shop"."De;cide"(stream text, version bigint, args jsonb) RETURNS jsonb LANGUAGE plpgsql AS
$$ BEGIN RETURN jsonb_build_array(jsonb_build_object('type', 'Priced', 'data', (SELECT to_jsonb(p) FROM price AS p))); END $$;
SET search_path = shop, public;
SELECT evstore.append_retry('c-1', '"My Shop"."De;cide"(text,bigint,jsonb)', NULL) \g /dev/null
SELECT is(current_setting('search_path'), 'shop, public', 'search_path is the caller''s, before and after');
RESET search_path;
SELECT is((SELECT data FROM evstore.read_stream('c-1')), '{"sku": "a", "cents": 999}', 'and in decide');
SELECT throws_ok($$ SELECT evstore.append_retry('c-1', '"My Shop"."De;cide"(text,bigint,jsonb)', NULL) $$, '42P01', NULL,
	'an error of decide is the caller''s');
SELECT lives_ok($$ SELECT evstore.append_retry('c-1', '"My Shop"."De;cide"(text,bigint,jsonb)', NULL, search_path => 'shop') $$,
	'another search_path can be passed');

REVOKE ALL ON FUNCTION shop.decide FROM PUBLIC;
CREATE ROLE evstore_test_buyer;
GRANT USAGE ON SCHEMA evstore, shop TO evstore_test_buyer;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA evstore TO evstore_test_buyer;
SELECT is(pg_temp.outcome($$ SELECT evstore.append_retry('c-2', 'shop.decide(text,bigint,jsonb)', '{"events": 1}') $$,
	'evstore_test_buyer'), '42501', 'the caller must be allowed to execute it');
DROP OWNED BY evstore_test_buyer;
DROP ROLE evstore_test_buyer;

-- ---- a real other session ----

SELECT dblink_connect('other', format('host=%s port=%s dbname=%L user=%L',
	split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'),
	current_database(), current_user)) \g /dev/null
SELECT evstore.append('d-1', 'Begun') \g /dev/null

-- its append is committed after this transaction's snapshot was taken, and no
-- read of decide can see it
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) AS before FROM evstore.read_stream('d-1') \gset
SELECT * FROM dblink('other', $$ SELECT version FROM evstore.append('d-1', 'Disturbed') $$) AS t (version bigint) \g /dev/null
SELECT pg_temp.outcome($$ SELECT evstore.append_retry('d-1', 'shop.decide(text,bigint,jsonb)', '{"events": 1}') $$) AS conflict \gset
ROLLBACK;
SELECT is(:before, 1, 'REPEATABLE READ: an event is seen');
SELECT is(:'conflict'::text, 'VS001', 'one that came after is a conflict, also for decide who cannot see it');
SELECT is(pg_temp.calls(), 1::bigint, 'raised at once');
SELECT is(evstore.stream_version('d-1'), 1::bigint, 'nothing was appended');

BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT version AS serializable FROM evstore.append_retry('d-1', 'shop.decide(text,bigint,jsonb)', '{"events": 1}') \gset
COMMIT;
SELECT is(:serializable, 2, 'SERIALIZABLE: without a conflict as ever');

-- under READ COMMITTED decide sees what the other session has committed meanwhile
CREATE FUNCTION shop.decide_slowly(stream text, version bigint, args jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	IF version = 2 THEN
		PERFORM * FROM dblink('other', format('SELECT version FROM evstore.append(%L, ''Disturbed'')', stream)) AS t (version bigint);
	END IF;
	RETURN jsonb_build_array(jsonb_build_object('type', 'Decided',
		'data', jsonb_build_object('events', (SELECT count(*) FROM evstore.read_stream(stream)))));
END $$;
SELECT results_eq(
	$$ SELECT version, attempts FROM evstore.append_retry('d-1', 'shop.decide_slowly(text,bigint,jsonb)', NULL) $$,
	'VALUES (4::bigint, 2)', 'READ COMMITTED: decided again');
SELECT is((SELECT e.data -> 'events' FROM evstore.read_stream('d-1') AS e ORDER BY e.version DESC LIMIT 1), '4'::jsonb,
	'with the other session''s event in sight');
SELECT dblink_disconnect('other') \g /dev/null

SELECT * FROM finish();
