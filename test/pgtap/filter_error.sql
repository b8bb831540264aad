-- Events that the filter fails on: parked once, under every policy, never given
-- and never lost; nobody waits for them.
\set QUIET 1
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;
LOAD 'evstore';

SELECT plan(48);
SELECT set_config('evstore.now_override', '2030-01-01T12:00:00Z', false) \g /dev/null

CREATE TEMP VIEW parked AS SELECT subscription COLLATE "default" AS subscription, position, reason, error FROM evstore.parked_events;
CREATE FUNCTION pg_temp.epoch(sub text, slot int DEFAULT 0) RETURNS bigint LANGUAGE sql AS
$$ SELECT t.epoch FROM evstore.subscription_slots t WHERE t.subscription = sub AND t.slot = epoch.slot $$;
CREATE FUNCTION pg_temp.checkpoint(sub text, slot int DEFAULT 0) RETURNS bigint LANGUAGE sql AS
$$ SELECT t.checkpoint FROM evstore.subscription_slots t WHERE t.subscription = sub AND t.slot = checkpoint.slot $$;
-- what is given, to consumer c
CREATE FUNCTION pg_temp.get(sub text, n bigint DEFAULT 100) RETURNS text LANGUAGE sql VOLATILE AS
$$ SELECT string_agg(f.position::text, ' ' ORDER BY f.position) FROM evstore.fetch(sub, 'c', n) f $$;
CREATE FUNCTION pg_temp.parked(sub text) RETURNS text LANGUAGE sql VOLATILE AS
$$ SELECT string_agg(p.position || ' ' || p.reason, ', ' ORDER BY p.position) FROM evstore.parked_events p WHERE p.subscription = sub $$;
CREATE FUNCTION pg_temp.outcome(query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE query;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;

-- Positions 1 to 8; n is a number, another, or none.  2, 5 and 6 fail; 3 and 7 do not match.
SELECT evstore.append_one(s, 'T', '{}', metadata => m::jsonb) FROM (VALUES
	('a-1', '{"n": 5}'), ('a-1', '{"n": "x"}'), ('a-1', '{"n": 0}'), ('a-1', '{"n": 6}'),
	('b-1', '{}'), ('b-1', '{"n": "y"}'), ('b-1', '{"n": 0}'), ('b-1', '{"n": 7}')) AS v (s, m) \g /dev/null

-- ---- each policy ----

SELECT evstore.create_subscription('s_' || policy, '{"sql": "n > 0"}', options => jsonb_build_object('on_failure', policy))
FROM unnest('{block_key,park_key,skip}'::text[]) AS policy \g /dev/null
SELECT is(pg_temp.get('s_' || policy), '1 4 8', policy || ': the others are given, of the same key too') FROM unnest('{block_key,park_key,skip}'::text[]) AS policy;
SELECT is(pg_temp.parked('s_' || policy), '2 filter_error, 5 filter_error, 6 filter_error', policy || ': those are parked') FROM unnest('{block_key,park_key,skip}'::text[]) AS policy;
SELECT is(pg_temp.get('s_' || policy), '1 4 8', policy || ': fetched again, the same') FROM unnest('{block_key,park_key,skip}'::text[]) AS policy;
SELECT results_eq($$ SELECT count(*), count(DISTINCT position) FROM parked $$, 'VALUES (9::bigint, 3::bigint)', 'each is parked once');
SELECT results_eq($$ SELECT position, error FROM parked WHERE subscription = 's_skip' ORDER BY 1 $$,
	$$ VALUES (2::bigint, 'CastError: "x" is not an integer'), (5, 'MissingAttributeError: the event has no attribute "n"'), (6, 'CastError: "y" is not an integer') $$, 'with the error');
SELECT is(evstore.ack('s_' || policy, 0, pg_temp.epoch('s_' || policy), 8), 8::bigint, policy || ': the checkpoint passes them') FROM unnest('{block_key,park_key,skip}'::text[]) AS policy;
SELECT is((SELECT count(*) FROM parked), 9::bigint, 'once is enough');
SELECT is(pg_temp.get('s_' || policy), NULL, policy || ': nothing is left') FROM unnest('{block_key,park_key,skip}'::text[]) AS policy;
SELECT evstore.append_one('a-1', 'T', '{}', metadata => '{"n": 9}') \g /dev/null
SELECT is(pg_temp.get('s_' || policy), '9', policy || ': a later event of such a key is given') FROM unnest('{block_key,park_key,skip}'::text[]) AS policy;
SELECT is(pg_temp.outcome($$ SELECT evstore.nack('s_block_key', 0, pg_temp.epoch('s_block_key'), 9, 'no') $$), 'ok', 'and may fail');
SELECT is((SELECT state FROM evstore.failed_events WHERE subscription = 's_block_key' AND position = 9), 'retry', 'and does not wait for it');

-- ---- replay and discard ----

SELECT is(evstore.replay_parked('s_skip', 2), 1, 'one is replayed');
SELECT is(pg_temp.get('s_skip'), '2 9', 'and given, whatever the filter says');
SELECT evstore.ack('s_skip', 0, pg_temp.epoch('s_skip'), 9) \g /dev/null
SELECT is(pg_temp.parked('s_skip'), '5 filter_error, 6 filter_error', 'and done');
SELECT is(evstore.discard_parked('s_skip'), 2, 'the others are given up');
SELECT is(pg_temp.parked('s_skip'), NULL, 'and gone');

-- ---- nothing but such events; a call of it that is rolled back ----

SELECT evstore.create_subscription('none', '{"sql": "n > 0", "streams": ["b-1"]}', options => '{"on_failure": "block_key"}') \g /dev/null
SELECT pg_temp.get('none'), evstore.ack('none', 0, pg_temp.epoch('none'), 8) \g /dev/null
SELECT evstore.append_one('b-1', 'T', '{}', metadata => '{"n": "z"}') \g /dev/null
SELECT evstore.append_one('b-1', 'T', '{}', metadata => '{"n": 10}') \g /dev/null
BEGIN;
SELECT is(pg_temp.get('none'), '11', 'given in a transaction');
SELECT is(pg_temp.parked('none'), '5 filter_error, 6 filter_error, 10 filter_error', 'with one parked');
ROLLBACK;
SELECT is(pg_temp.parked('none'), '5 filter_error, 6 filter_error', 'that is rolled back');
SELECT is(evstore.ack('none', 0, pg_temp.epoch('none'), 11), 11::bigint, 'acknowledged nevertheless');
SELECT is(pg_temp.parked('none'), '5 filter_error, 6 filter_error, 10 filter_error', 'it is parked then');

-- ---- the cursor moves over them where there is nothing else ----

SELECT evstore.create_subscription('only', '{"sql_filter": "actor > 5", "streams": ["c-1"]}') \g /dev/null
SELECT evstore.append_one('c-1', 'T', '{}', metadata => '{"actor": "x"}') FROM generate_series(1, 3) \g /dev/null
-- it ends at once: there is something to park
SET statement_timeout = '30s';
CALL evstore.wait_for_events('only', 3600000);
RESET statement_timeout;
SELECT is(pg_temp.parked('only'), NULL, 'who only waits is told, and parks nothing');
SELECT is(pg_temp.get('only'), NULL, 'nothing to give');
SELECT is(pg_temp.parked('only'), '12 filter_error, 13 filter_error, 14 filter_error', 'all are parked');
SELECT is(pg_temp.checkpoint('only'), 14::bigint, 'and the checkpoint is behind them');

-- ---- several slots; more than are parked in one call ----

SELECT evstore.create_subscription('many', '{"sql": "n > 0", "categories": ["m"]}', slots => 4) \g /dev/null
SELECT evstore.append_one('m-' || i % 7, 'T', '{}', metadata => CASE i % 2 WHEN 0 THEN '{"n": 1}' ELSE '{}' END::jsonb) FROM generate_series(1, 2400) i \g /dev/null
CREATE TEMP TABLE got (position bigint);
CREATE PROCEDURE pg_temp.work() LANGUAGE plpgsql AS $$
DECLARE
	quiet int := 0;
BEGIN
	WHILE quiet < 3 LOOP
		WITH f AS (SELECT * FROM evstore.fetch('many', 'c', 500)), g AS (INSERT INTO got SELECT f.position FROM f RETURNING 1)
		SELECT CASE WHEN EXISTS (SELECT FROM f) THEN 0 ELSE quiet + 1 END INTO quiet;
		PERFORM evstore.ack('many', t.slot, t.epoch, (SELECT max(position) FROM got)) FROM evstore.subscription_slots t WHERE t.subscription = 'many' AND t.claimed;
	END LOOP;
END $$;
CALL pg_temp.work();
SELECT results_eq('SELECT count(*), count(DISTINCT position) FROM got', 'VALUES (1200::bigint, 1200::bigint)', 'four slots: each that matches is given once');
SELECT is((SELECT count(*) FROM parked WHERE subscription = 'many' AND reason = 'filter_error'), 1200::bigint, 'and each that fails is parked');
SELECT is((SELECT count(*) FROM parked p JOIN got USING (position) WHERE p.subscription = 'many'), 0::bigint, 'none is both');

-- ---- projections ----

CREATE SCHEMA rm;
CREATE TABLE rm.seen (position bigint);
CREATE FUNCTION rm.one(e evstore.event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (e.position); END $$;
CREATE FUNCTION rm.all_of(es evstore.event[]) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen SELECT e.position FROM unnest(es) AS e; END $$;
CREATE FUNCTION pg_temp.projected() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text := (SELECT string_agg(position::text, ' ' ORDER BY position) FROM rm.seen);
BEGIN
	DELETE FROM rm.seen;
	RETURN result;
END $$;
SELECT evstore.create_projection('one', 'rm.one(evstore.event)', '{"sql": "n > 0", "categories": ["a", "b"]}', options => '{"on_error": "stop", "tables": ["seen"]}') \g /dev/null
SELECT evstore.create_projection('batch', 'rm.all_of(evstore.event[])', '{"sql": "n > 0", "categories": ["a", "b"]}', options => '{"on_error": "park", "partitions": 2, "tables": ["seen"]}') \g /dev/null
SELECT evstore.run_projection('one') \g /dev/null
SELECT is(pg_temp.projected(), '1 4 8 9 11', 'a projection goes on over them');
SELECT is(pg_temp.parked('one'), '2 filter_error, 5 filter_error, 6 filter_error, 10 filter_error', 'they are parked');
SELECT is((SELECT state FROM evstore.projections WHERE projection = 'one'), 'running', 'though it stops at others');
SELECT evstore.run_projection('batch') \g /dev/null
SELECT is(pg_temp.projected(), '1 4 8 9 11', 'one with arrays and partitions, too');
SELECT is(pg_temp.parked('batch'), '2 filter_error, 5 filter_error, 6 filter_error, 10 filter_error', 'and parks them');
SELECT evstore.replay_parked('batch', 5) \g /dev/null
SELECT evstore.run_projection('batch') \g /dev/null
SELECT is(pg_temp.projected(), '5', 'replayed, it is handled');

-- ---- a projection in the append itself has nowhere to park ----

SELECT evstore.create_projection('inline', 'rm.one(evstore.event)', '{"sql": "n > 0", "categories": ["i"]}', options => '{"mode": "inline"}') \g /dev/null
SELECT is(pg_temp.outcome($$ SELECT evstore.append_one('i-1', 'T', '{}', metadata => '{"n": 1}') $$), 'ok', 'inline: an event that matches');
SELECT is(pg_temp.outcome($$ SELECT evstore.append_one('i-1', 'T', '{}', metadata => '{}') $$),
	'VS012 inline projection "inline" failed: its filter failed: MissingAttributeError: the event has no attribute "n"', 'one that the filter fails on cannot be appended');

SELECT * FROM finish();
