-- Idempotent appends: repeating one with the same event ids returns its first
-- result and writes nothing; the same id with something else is an error.
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_idempotency;
CREATE DATABASE evstore_idempotency;
\c evstore_idempotency
CREATE EXTENSION evstore;
LOAD 'evstore';
SET evstore.partition_size = 10;

-- id(7) is 00000000-0000-4000-8000-000000000007, a version 4 UUID.
CREATE FUNCTION id(n int) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
CREATE FUNCTION ids(VARIADIC n int[]) RETURNS uuid[] LANGUAGE sql IMMUTABLE AS
$$ SELECT array_agg(id(i) ORDER BY o) FROM unnest(n) WITH ORDINALITY AS u (i, o) $$;

-- ---- the first attempt, and its retry at once ----

SELECT * FROM evstore.append('one', 'T', '{"n": 1}', '{"m": 1}', -1, id(1));
SELECT evstore._last_position() AS drawn \gset
SELECT * FROM evstore.append('one', 'T', '{"n": 1}', '{"m": 1}', -1, id(1));
-- With any expected version, also one that never was right: the ids decide.
SELECT e AS expected, a.* FROM unnest('{NULL,-2,-1,-4,0,1,99}'::bigint[]) WITH ORDINALITY AS x (e, n),
	evstore.append('one', 'T', '{"n": 1}', '{"m": 1}', e, id(1)) AS a ORDER BY n;
SELECT evstore.append_one('one', 'T', '{"n": 1}', '{"m": 1}', -1, id(1));
SELECT evstore._last_position() - :drawn AS drawn_by_retries, count(*) AS events FROM evstore.read_stream('one');

SELECT * FROM evstore.append_events('many', format('[{"type": "A", "event_id": "%s"}, {"type": "B", "event_id": "%s"}, {"type": "C", "event_id": "%s"}]', id(2), id(3), id(4))::jsonb, -1);
SELECT * FROM evstore.append_arrays('bulk', '{A,B,C}', NULL, NULL, ids(5, 6, 7), -1);
SELECT * FROM evstore.append_streams(format('[{"stream": "two-b", "expected_version": -1, "events": [{"type": "A", "event_id": "%s"}]},
	{"stream": "two-a", "expected_version": -1, "events": [{"type": "A", "event_id": "%s"}, {"type": "B", "event_id": "%s"}]}]', id(8), id(9), id(10))::jsonb);

-- ---- after more appends, in other partitions ----

SELECT version FROM unnest('{one,many,bulk,two-a,two-b}'::text[]) AS s, evstore.append_arrays(s, array_fill('More'::text, '{12}'));
SELECT evstore._last_position() AS drawn \gset
SELECT * FROM evstore.append('one', 'T', '{"n": 1}', '{"m": 1}', -1, id(1));
SELECT * FROM evstore.append_events('many', format('[{"type": "A", "event_id": "%s"}, {"type": "B", "event_id": "%s"}, {"type": "C", "event_id": "%s"}]', id(2), id(3), id(4))::jsonb, -1);
SELECT * FROM evstore.try_append('many', format('[{"type": "A", "event_id": "%s"}, {"type": "B", "event_id": "%s"}, {"type": "C", "event_id": "%s"}]', id(2), id(3), id(4))::jsonb, -1);
SELECT * FROM evstore.append_arrays('bulk', '{A,B,C}', NULL, NULL, ids(5, 6, 7), -1);
SELECT * FROM evstore.append_streams(format('[{"stream": "two-b", "expected_version": -1, "events": [{"type": "A", "event_id": "%s"}]},
	{"stream": "two-a", "expected_version": -1, "events": [{"type": "A", "event_id": "%s"}, {"type": "B", "event_id": "%s"}]}]', id(8), id(9), id(10))::jsonb);
-- With another function: what counts are ids and content.
SELECT * FROM evstore.append_arrays('many', '{A,B,C}', NULL, NULL, ids(2, 3, 4), -1);
SELECT * FROM evstore.append_events('bulk', format('[{"type": "A", "event_id": "%s"}, {"type": "B", "event_id": "%s"}, {"type": "C", "event_id": "%s"}]', id(5), id(6), id(7))::jsonb, 0);
-- A part of the first batch, its events following each other, is one too.
SELECT * FROM evstore.append_arrays('many', '{B,C}', NULL, NULL, ids(3, 4), 0);
SELECT evstore._last_position() - :drawn AS drawn_by_retries;

-- ---- what is compared, and what is not ----

SELECT version FROM evstore.append('facts', 'T', '{"a": 1, "b": 2.0}', '{"m": 1}', event_id => id(20),
	schema_version => 2, correlation_id => 'c', causation_id => id(1), source => 's', occurred_at => '2020-01-01', tags => '{x}');
-- the same JSON value, however it is written; metadata need not be repeated
SELECT version FROM evstore.append('facts', 'T', '{"b": 2.00, "a": 1}', event_id => id(20), schema_version => 2);
SELECT version FROM evstore.append('facts', 'T', '{"a": 1, "b": 2}', '{"m": 1.0}', event_id => id(20), schema_version => 2);
-- what describes the sending may differ
SELECT version FROM evstore.append('facts', 'T', '{"a": 1, "b": 2}', event_id => id(20), schema_version => 2,
	correlation_id => 'other', causation_id => id(2), source => 'other', occurred_at => '2021-01-01', tags => '{y}');
-- stream, type, data, schema version and given metadata may not
SELECT evstore.append('other', 'T', '{"a": 1, "b": 2}', event_id => id(20), schema_version => 2);
\echo :SQLSTATE
SELECT evstore.append('one', 'T', '{"a": 1, "b": 2}', event_id => id(20), schema_version => 2);
\echo :SQLSTATE
SELECT evstore.append('facts', 'U', '{"a": 1, "b": 2}', event_id => id(20), schema_version => 2);
\echo :SQLSTATE
SELECT evstore.append('facts', 'T', '{"a": 1, "b": 3}', event_id => id(20), schema_version => 2);
\echo :SQLSTATE
SELECT evstore.append('facts', 'T', event_id => id(20), schema_version => 2);
\echo :SQLSTATE
SELECT evstore.append('facts', 'T', '{"a": 1, "b": 2}', event_id => id(20), schema_version => 3);
\echo :SQLSTATE
SELECT evstore.append('facts', 'T', '{"a": 1, "b": 2}', '{"m": 2}', event_id => id(20), schema_version => 2);
\echo :SQLSTATE
SELECT evstore.append('facts', 'T', '{"a": 1, "b": 2}', '{"m": 1, "n": 1}', event_id => id(20), schema_version => 2);
\echo :SQLSTATE
SELECT evstore.append('facts', 'T', '{"a": 1, "b": 2}', '{}', event_id => id(20), schema_version => 2);
\echo :SQLSTATE
-- data that was not given is {}
SELECT version FROM evstore.append('facts', 'T', event_id => id(21));
SELECT version FROM evstore.append('facts', 'T', '{}', '{}', event_id => id(21));
SELECT evstore.append('facts', 'T', '[]', event_id => id(21));
SELECT evstore.append('facts', 'T', 'null', event_id => id(21));
SELECT version FROM evstore.append('facts', 'T', '[]', event_id => id(22));
SELECT version FROM evstore.append('facts', 'T', '[]', event_id => id(22));
SELECT evstore.append('facts', 'T', event_id => id(22));
SELECT version FROM evstore.append('facts', 'T', '5', event_id => id(23));
SELECT version FROM evstore.append('facts', 'T', '5.0', event_id => id(23));
SELECT evstore.append('facts', 'T', '[5]', event_id => id(23));

-- try_append makes a result of conflicts, not of this.
SELECT * FROM evstore.try_append('facts', format('[{"type": "V", "event_id": "%s"}]', id(20))::jsonb);
\echo :SQLSTATE

-- ---- metadata that settings add ----

SET evstore.actor = 'ann';
SET evstore.traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
SELECT version FROM evstore.append('settings', 'T', metadata => '{"m": 1}', event_id => id(30));
SELECT version FROM evstore.append('settings', 'T', event_id => id(31));
-- a retry has another trace, another actor, or none
SET evstore.traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-1111111111111111-01';
SET evstore.actor = 'bob';
SELECT version FROM evstore.append('settings', 'T', metadata => '{"m": 1}', event_id => id(30));
RESET evstore.traceparent;
RESET evstore.actor;
SELECT version FROM evstore.append('settings', 'T', metadata => '{"m": 1}', event_id => id(30));
SELECT version FROM evstore.append('settings', 'T', event_id => id(30));
SELECT version FROM evstore.append('settings', 'T', metadata => '{}', event_id => id(31));
-- but what it passes itself must be what is there
SELECT version FROM evstore.append('settings', 'T', metadata => '{"m": 1, "actor": "ann"}', event_id => id(30));
SELECT evstore.append('settings', 'T', metadata => '{"m": 1, "actor": "bob"}', event_id => id(30));
SELECT evstore.append('settings', 'T', metadata => '{"m": 2}', event_id => id(30));
SELECT version, metadata FROM evstore.read_stream('settings');
SET evstore.capture_context = on;
SELECT version FROM evstore.append('settings', 'T', metadata => '{"m": 1}', event_id => id(32));
SET application_name = 'another';
SELECT version FROM evstore.append('settings', 'T', metadata => '{"m": 1}', event_id => id(32));
RESET evstore.capture_context;
SELECT version FROM evstore.append('settings', 'T', metadata => '{"m": 1}', event_id => id(32));

-- ---- a partial match ----

SELECT evstore._last_position() AS drawn \gset
-- two of four are known: the error lists them
SELECT evstore.append_arrays('many', '{A,X,C,Y}', NULL, NULL, ids(2, 40, 4, 41));
\echo :SQLSTATE
-- all are known, but not in this order, or not next to each other
SELECT evstore.append_arrays('many', '{C,B,A}', NULL, NULL, ids(4, 3, 2));
\echo :SQLSTATE
SELECT evstore.append_arrays('many', '{A,C}', NULL, NULL, ids(2, 4));
\echo :SQLSTATE
-- a retry is as long as what it repeats
SELECT evstore.append_arrays('many', '{A,B,C,D}', NULL, NULL, ids(2, 3, 4, 42));
\echo :SQLSTATE
-- events without an id cannot be recognised
SELECT version FROM evstore.append_arrays('mixed', '{A,B}', NULL, NULL, ARRAY[id(43), NULL]);
SELECT evstore.append_arrays('mixed', '{A,B}', NULL, NULL, ARRAY[id(43), NULL]);
\echo :SQLSTATE
-- twice in one batch
SELECT evstore.append_arrays('twice', '{A,B,A}', NULL, NULL, ids(44, 45, 44));
\echo :SQLSTATE
SELECT evstore.append_events('twice', format('[{"type": "A"}, {"type": "B", "event_id": "%s"}, {"type": "B", "event_id": "%s"}]', id(46), id(46))::jsonb);
\echo :SQLSTATE
-- in two streams of one call, new or known
SELECT evstore.append_streams(format('[{"stream": "twice-1", "events": [{"type": "A", "event_id": "%s"}]},
	{"stream": "twice-2", "events": [{"type": "A", "event_id": "%s"}]}]', id(47), id(47))::jsonb);
\echo :SQLSTATE
SELECT evstore.append_streams(format('[{"stream": "twice-1", "events": [{"type": "A", "event_id": "%s"}]},
	{"stream": "twice-2", "events": [{"type": "A", "event_id": "%s"}]}]', id(48), id(3))::jsonb);
\echo :SQLSTATE
SELECT stream FROM evstore.streams WHERE stream LIKE 'twice%';

-- A call with a stream that has been done and one that has not does the rest.
SELECT stream, first_version, version FROM evstore.append_streams(format('[{"stream": "two-a", "events": [{"type": "A", "event_id": "%s"}, {"type": "B", "event_id": "%s"}]},
	{"stream": "two-c", "events": [{"type": "A", "event_id": "%s"}]}]', id(9), id(10), id(49))::jsonb);

-- ---- the same id in one transaction, and in one command ----

BEGIN;
SELECT version FROM evstore.append('tx', 'T', event_id => id(50));
SELECT version FROM evstore.append('tx', 'T', event_id => id(50));
SAVEPOINT s;
SELECT evstore.append('tx', 'U', event_id => id(50));
ROLLBACK TO s;
SELECT version FROM evstore.append('tx', 'T', event_id => id(51));
ROLLBACK TO s;
-- 51 was rolled back, so it is new; 50 was not
SELECT version FROM evstore.append('tx', 'U', event_id => id(51));
SELECT version FROM evstore.append('tx', 'T', event_id => id(50));
COMMIT;
SELECT version, type, event_id FROM evstore.read_stream('tx');
SELECT evstore.append_one('command', 'T', event_id => id(52)) FROM generate_series(1, 3);
SELECT evstore.append_one('command', 'T', event_id => id(53 + n % 2)) FROM generate_series(1, 4) AS n;
-- an attempt that was rolled back never happened
BEGIN;
SELECT version FROM evstore.append('rolled-back', 'T', event_id => id(55));
ROLLBACK;
SELECT version FROM evstore.append('rolled-back', 'U', '{"other": true}', event_id => id(55));

-- ---- after delete, truncate, tombstone and scavenge ----

SELECT evstore.delete_stream('many');
SELECT * FROM evstore.append_arrays('many', '{A,B,C}', NULL, NULL, ids(2, 3, 4), -1);
SELECT evstore.stream_exists('many') AS opened_by_the_retry;
SELECT evstore.truncate_stream('bulk', 10);
SELECT * FROM evstore.append_arrays('bulk', '{A,B,C}', NULL, NULL, ids(5, 6, 7), -1);
SELECT evstore.tombstone_stream('one');
SELECT * FROM evstore.append('one', 'T', '{"n": 1}', '{"m": 1}', -1, id(1));
SELECT evstore.append('one', 'T', '{"n": 1}', '{"m": 1}', -1, id(60));
\echo :SQLSTATE
-- Other content is still an error, even where nobody can read the first.
SELECT evstore.append_arrays('many', '{A,B,Z}', NULL, NULL, ids(2, 3, 4), -1);
\echo :SQLSTATE
SELECT evstore.append('new', 'T', event_id => id(1));
\echo :SQLSTATE
-- Scavenging forgets the events, ids and all; the expected version still stops a retry.
SELECT stream, first_version, last_version FROM evstore.scavenge() WHERE stream = 'bulk';
SELECT ok, actual_version FROM evstore.try_append('bulk', format('[{"type": "A", "event_id": "%s"}]', id(5))::jsonb, -1);

-- ---- ids and time ----

-- A UUIDv7 says when it was made; it is found although many partitions lie between.
SELECT version FROM evstore.append('v7', 'T', event_id => '01970000-0000-7000-8000-000000000001');
SELECT version FROM evstore.append_arrays('filler', array_fill('F'::text, '{45}'));
SELECT version FROM evstore.append('v7', 'T', event_id => '01970000-0000-7000-8000-000000000001');
SELECT evstore.append('v7', 'U', event_id => '01970000-0000-7000-8000-000000000001');
SELECT evstore.append('other', 'T', event_id => '01970000-0000-7000-8000-000000000001');
-- One that is ahead of the server's clock by an hour, and one by years.
SELECT to_hex(((extract(epoch FROM clock_timestamp()) + 3600) * 1000)::bigint) AS hour,
	to_hex(((extract(epoch FROM clock_timestamp()) + 3e8) * 1000)::bigint) AS years \gset
SELECT '0' || left(:'hour', 7) || '-' || right(:'hour', 4) || '-7000-8000-000000000001' AS hour,
	'0' || left(:'years', 7) || '-' || right(:'years', 4) || '-7000-8000-000000000001' AS years \gset
SELECT version FROM evstore.append('v7', 'H', event_id => :'hour');
SELECT version FROM evstore.append('v7', 'Y', event_id => :'years');
SELECT version FROM evstore.append_arrays('filler', array_fill('F'::text, '{45}'));
SELECT version FROM evstore.append('v7', 'H', event_id => :'hour');
SELECT version FROM evstore.append('v7', 'Y', event_id => :'years');

-- When the time of the one that was years ahead has come, it is still found.
SET evstore.now_override = '2045-01-01';
SELECT version FROM evstore.append_arrays('filler', array_fill('F'::text, '{45}'));
SELECT version FROM evstore.append('v7', 'Y', event_id => :'years');
\set VERBOSITY sqlstate
SELECT evstore.append_one('other', 'Y', event_id => :'years');
\set VERBOSITY default
RESET evstore.now_override;

-- Any other id is looked for everywhere, however old the event is ...
SET evstore.now_override = '2036-01-01';
SELECT version FROM evstore.append_arrays('filler', array_fill('F'::text, '{30}'));
SELECT version FROM evstore.append('tx', 'T', event_id => id(50));
SELECT evstore.append('tx', 'X', event_id => id(50));
-- ... unless a window says how far back.
SET evstore.id_window = '1d';
SELECT version FROM evstore.append('tx', 'X', event_id => id(50));
SELECT version FROM evstore.append('tx', 'X', event_id => id(50));
RESET evstore.id_window;
RESET evstore.now_override;

-- Nothing was stored twice but that.
SELECT event_id, count(*) FROM evstore.event_log GROUP BY event_id HAVING count(*) > 1;
SELECT check_name FROM evstore.verify() WHERE NOT ok;
\c :main
DROP DATABASE evstore_idempotency WITH (FORCE);
