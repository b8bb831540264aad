-- Expected versions: every one of them, on a stream in every state, with every
-- function that appends.
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_expected;
CREATE DATABASE evstore_expected;
\c evstore_expected
CREATE EXTENSION evstore;
LOAD 'evstore';
SET evstore.partition_size = 10;

SELECT evstore.any_version(), evstore.no_stream(), evstore.stream_exists_version();

-- ---- streams in each state, all of whose events lie in partitions of long ago ----

SELECT stream, version FROM unnest('{open,deleted,reopened,tombstoned,truncated,scavenged}'::text[]) AS s (stream),
	evstore.append_arrays(s.stream, '{A,B,C}');
SELECT evstore.delete_stream('deleted');
SELECT evstore.delete_stream('reopened');
SELECT version FROM evstore.append('reopened', 'D');
SELECT evstore.tombstone_stream('tombstoned');
SELECT evstore.truncate_stream('truncated', 3);
SELECT evstore.truncate_stream('scavenged', 3);
SELECT stream, first_version, last_version, events FROM evstore.scavenge();
SELECT version FROM evstore.append_arrays('filler', array_fill('F'::text, '{25}'));

-- Run a call, note what it did, and take it back.
CREATE FUNCTION outcome(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	BEGIN
		EXECUTE call INTO result;
		RAISE EXCEPTION USING ERRCODE = 'ZZ999';
	EXCEPTION
		WHEN SQLSTATE 'ZZ999' THEN
			RETURN result;
		WHEN OTHERS THEN
			RETURN SQLSTATE;
	END;
END $$;

-- What each function makes of an expected version.
CREATE VIEW functions AS
SELECT * FROM (VALUES
	('append', $$SELECT version FROM evstore.append(%1$L, 'N', expected_version => %2$s)$$),
	('append_one', $$SELECT evstore.append_one(%1$L, 'N', expected_version => %2$s)$$),
	('append_events', $$SELECT version FROM evstore.append_events(%1$L, '[{"type": "N"}]', %2$s)$$),
	('append_arrays', $$SELECT version FROM evstore.append_arrays(%1$L, '{N}', expected_version => %2$s)$$),
	('append_streams', $$SELECT version FROM evstore.append_streams(jsonb_build_array(jsonb_build_object(
		'stream', %1$L, 'expected_version', %2$s::bigint, 'events', '[{"type": "N"}]'::jsonb)))$$),
	('empty', $$SELECT version FROM evstore.append_events(%1$L, '[]', %2$s)$$),
	('empty arrays', $$SELECT version FROM evstore.append_arrays(%1$L, '{}', expected_version => %2$s)$$),
	('try_append', $$SELECT coalesce(version, actual_version) || ' ' || ok FROM evstore.try_append(%1$L, '[{"type": "N"}]', %2$s)$$)
) AS f (name, call);

-- The version after the append, or the SQLSTATE: the same with each function.
CREATE VIEW outcomes AS
SELECT s.n, s.stream, e.n AS m, coalesce(e.expected, 'null') AS expected, f.name,
	outcome(format(f.call, s.stream, coalesce(e.expected, 'NULL'))) AS outcome
FROM unnest('{none,open,deleted,reopened,tombstoned,truncated,scavenged}'::text[]) WITH ORDINALITY AS s (stream, n),
	unnest('{NULL,-2,-1,-4,0,1,2,3,4,9223372036854775807}'::text[]) WITH ORDINALITY AS e (expected, n),
	functions AS f;

SELECT stream,
	max(outcome) FILTER (WHERE m = 1) AS "null",
	max(outcome) FILTER (WHERE m = 2) AS "any -2",
	max(outcome) FILTER (WHERE m = 3) AS "none -1",
	max(outcome) FILTER (WHERE m = 4) AS "exists -4",
	max(outcome) FILTER (WHERE m = 5) AS "0",
	max(outcome) FILTER (WHERE m = 6) AS "1",
	max(outcome) FILTER (WHERE m = 7) AS "2",
	max(outcome) FILTER (WHERE m = 8) AS "3",
	max(outcome) FILTER (WHERE m = 9) AS "4",
	max(outcome) FILTER (WHERE m = 10) AS "max"
FROM outcomes WHERE name = 'append' GROUP BY n, stream ORDER BY n;

SELECT a.stream, a.expected, a.name, a.outcome
FROM outcomes AS a JOIN outcomes AS b ON b.name = 'append' AND b.stream = a.stream AND b.expected = a.expected
WHERE a.name NOT IN ('append', 'try_append', 'empty', 'empty arrays') AND a.outcome <> b.outcome
ORDER BY a.n, a.m, a.name;

-- An empty array checks the same and returns the current version.
SELECT stream,
	max(outcome) FILTER (WHERE m = 1) AS "null",
	max(outcome) FILTER (WHERE m = 2) AS "any -2",
	max(outcome) FILTER (WHERE m = 3) AS "none -1",
	max(outcome) FILTER (WHERE m = 4) AS "exists -4",
	max(outcome) FILTER (WHERE m = 5) AS "0",
	max(outcome) FILTER (WHERE m = 6) AS "1",
	max(outcome) FILTER (WHERE m = 7) AS "2",
	max(outcome) FILTER (WHERE m = 8) AS "3",
	max(outcome) FILTER (WHERE m = 9) AS "4",
	max(outcome) FILTER (WHERE m = 10) AS "max"
FROM outcomes WHERE name = 'empty' GROUP BY n, stream ORDER BY n;

SELECT a.stream, a.expected, a.outcome AS empty_arrays, b.outcome AS empty
FROM outcomes AS a JOIN outcomes AS b ON b.name = 'empty' AND b.stream = a.stream AND b.expected = a.expected
WHERE a.name = 'empty arrays' AND a.outcome <> b.outcome;

-- try_append succeeds exactly where append does, and else says the version.
SELECT stream,
	max(outcome) FILTER (WHERE m = 1) AS "null",
	max(outcome) FILTER (WHERE m = 2) AS "any -2",
	max(outcome) FILTER (WHERE m = 3) AS "none -1",
	max(outcome) FILTER (WHERE m = 4) AS "exists -4",
	max(outcome) FILTER (WHERE m = 5) AS "0",
	max(outcome) FILTER (WHERE m = 6) AS "1",
	max(outcome) FILTER (WHERE m = 7) AS "2",
	max(outcome) FILTER (WHERE m = 8) AS "3",
	max(outcome) FILTER (WHERE m = 9) AS "4",
	max(outcome) FILTER (WHERE m = 10) AS "max"
FROM outcomes WHERE name = 'try_append' GROUP BY n, stream ORDER BY n;

-- ---- errors, and what they say ----

SELECT evstore.append('open', 'N', expected_version => 1);
\echo :SQLSTATE
SELECT evstore.append('none', 'N', expected_version => -4);
\echo :SQLSTATE
SELECT evstore.append('none', 'N', expected_version => 0);
\echo :SQLSTATE
SELECT evstore.append('open', 'N', expected_version => evstore.no_stream());
\echo :SQLSTATE
SELECT evstore.append('deleted', 'N', expected_version => evstore.stream_exists_version());
\echo :SQLSTATE
SELECT evstore.append('deleted', 'N', expected_version => 2);
\echo :SQLSTATE
SELECT evstore.append('tombstoned', 'N');
\echo :SQLSTATE
SELECT evstore.append_events('tombstoned', '[]', -4);
\echo :SQLSTATE

-- Below -1 there are only two.
SELECT evstore.append('open', 'N', expected_version => -3);
\echo :SQLSTATE
SELECT evstore.append('open', 'N', expected_version => -5);
\echo :SQLSTATE
SELECT evstore.try_append('open', '[]', -9223372036854775808);
\echo :SQLSTATE
SELECT evstore.append_streams('[{"stream": "open", "expected_version": -3, "events": []}]');
\echo :SQLSTATE

-- ---- what a conflict leaves behind: nothing ----

-- It draws no position, makes no stream, and the caller may go on.
SELECT evstore.safe_position() AS before \gset
SELECT ok, actual_version FROM evstore.try_append('none', '[{"type": "N"}, {"type": "N"}]', 5);
SELECT ok, actual_version FROM evstore.try_append('open', '[{"type": "N"}]', -1);
\set VERBOSITY sqlstate
SELECT evstore.append('open', 'N', expected_version => 7);
SELECT evstore.append('none', 'N', expected_version => 7);
\set VERBOSITY default
SELECT evstore._last_position() - :before AS drawn, evstore.stream_exists('none');
SELECT stream, version FROM evstore.streams WHERE stream = 'none';

BEGIN;
CREATE TABLE command (n int);
SELECT ok, actual_version FROM evstore.try_append('open', '[{"type": "N"}]', 0);
SELECT ok, version, actual_version FROM evstore.try_append('open', '[{"type": "N"}]', 2);
COMMIT;
SELECT count(*) AS table_is_there, (SELECT evstore.stream_version('open')) FROM pg_class WHERE relname = 'command';

-- ---- an empty append in full ----

SELECT * FROM evstore.append_events('none', '[]');
SELECT * FROM evstore.append_events('none', '[]', -1);
SELECT first_version, version, position = (SELECT max(position) FROM evstore.read_stream('open')) AS newest
FROM evstore.append_events('open', '[]', 3);
SELECT * FROM evstore.try_append('none', '[]', 3);
SELECT * FROM evstore.append_streams('[]');
SELECT * FROM evstore.append_streams('[{"stream": "none", "events": []}]');
SELECT evstore.stream_exists('none');

-- ---- a reader that decides on what it read ----

-- The version to expect is that of the last event read, or -1.
SELECT coalesce(max(version), -1) AS seen FROM evstore.read_stream('decide-1') \gset
SELECT version FROM evstore.append('decide-1', 'A', expected_version => :seen);
SELECT coalesce(max(version), -1) AS seen FROM evstore.read_stream('decide-1') \gset
SELECT version FROM evstore.append('decide-1', 'B', expected_version => :seen);
SELECT evstore.stream_version('decide-1') AS seen \gset
SELECT version FROM evstore.append('decide-1', 'C', expected_version => :seen);

-- ---- appends that commute ----

-- What was decided at version 0 may still go on when all that came since is of
-- types that do not matter to it.
SELECT version FROM evstore.append_arrays('commute-1', '{Opened,Noted,Noted,Noted}');
SELECT version FROM evstore.append_events('commute-1', '[{"type": "Renamed"}]', 0, '{Noted}');
SELECT version FROM evstore.append_events('commute-1', '[{"type": "Renamed"}]', 0, '{Noted}');
\echo :SQLSTATE
SELECT version FROM evstore.append_events('commute-1', '[{"type": "Renamed"}]', 0, '{Renamed,Noted}');
SELECT ok, version, actual_version FROM evstore.try_append('commute-1', '[{"type": "Renamed"}]', 0, '{Noted,NULL}');
SELECT ok, version, actual_version FROM evstore.try_append('commute-1', '[{"type": "Renamed"}]', 4, '{Renamed}');
-- no types, or a version that is not there yet: nothing changes
SELECT ok, actual_version FROM evstore.try_append('commute-1', '[{"type": "Renamed"}]', 5, '{}');
SELECT ok, actual_version FROM evstore.try_append('commute-1', '[{"type": "Renamed"}]', 7, '{Renamed,Noted}');
SELECT ok, actual_version FROM evstore.try_append('commute-1', '[{"type": "Renamed"}]', -1, '{Opened,Renamed,Noted}');
-- across partitions
SELECT version FROM evstore.append_arrays('commute-1', array_fill('Noted'::text, '{35}'));
SELECT ok, version FROM evstore.try_append('commute-1', '[{"type": "Renamed"}]', 6, '{Noted}');
SELECT ok, actual_version FROM evstore.try_append('commute-1', '[{"type": "Renamed"}]', 5, '{Noted}');
-- what was scavenged since cannot be looked at, so it does not commute
SELECT evstore.truncate_stream('commute-1', 20);
SELECT stream, last_version FROM evstore.scavenge() WHERE stream = 'commute-1';
SELECT ok, actual_version FROM evstore.try_append('commute-1', '[{"type": "Renamed"}]', 6, '{Noted,Renamed}');
SELECT ok, version FROM evstore.try_append('commute-1', '[{"type": "Renamed"}]', 19, '{Noted,Renamed}');

SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;
\c :main
DROP DATABASE evstore_expected WITH (FORCE);
