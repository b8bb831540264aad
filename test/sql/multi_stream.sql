-- Appends to several streams: one call, one transaction, one command.
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_multi;
CREATE DATABASE evstore_multi;
\c evstore_multi
CREATE EXTENSION evstore;
LOAD 'evstore';
SET evstore.partition_size = 10;

-- ---- append_streams ----

-- Rows come in the order of the entries; locks, and so positions, in that of names.
SELECT * FROM evstore.append_streams('[
	{"stream": "z", "events": [{"type": "A"}, {"type": "B"}]},
	{"stream": "a", "expected_version": -1, "events": [{"type": "A"}]},
	{"stream": "m", "expected_version": null, "events": [{"type": "A", "data": {"n": 1}}, {"type": "B"}, {"type": "C"}]}]');
SELECT stream, version, type, data FROM evstore.read_all();
-- Bytes decide, whatever the database's collation is.
SELECT * FROM evstore.append_streams('[
	{"stream": "a", "events": [{"type": "A"}]},
	{"stream": "Z", "events": [{"type": "A"}]},
	{"stream": "ä", "events": [{"type": "A"}]},
	{"stream": "B", "events": [{"type": "A"}]}]') ORDER BY position;

-- Each entry has its own expected version.
SELECT * FROM evstore.append_streams('[
	{"stream": "z", "expected_version": 1, "events": [{"type": "C"}]},
	{"stream": "a", "expected_version": -4, "events": [{"type": "C"}]},
	{"stream": "q", "expected_version": -1, "events": [{"type": "C"}]},
	{"stream": "m", "expected_version": 2, "events": []}]');

-- All conflicts are in the DETAIL, in the order of the entries, and nothing is done.
SELECT evstore.delete_stream('q'), evstore.tombstone_stream('Z', NULL, 'test');
SELECT * FROM evstore.append_streams('[
	{"stream": "z", "expected_version": 0, "events": [{"type": "D"}]},
	{"stream": "new", "expected_version": -1, "events": [{"type": "D"}]},
	{"stream": "m", "expected_version": 2, "events": [{"type": "D"}]},
	{"stream": "a", "expected_version": -1, "events": [{"type": "D"}]},
	{"stream": "none", "expected_version": 3, "events": []}]');
\echo :SQLSTATE
SELECT * FROM evstore.append_streams('[
	{"stream": "z", "expected_version": 0, "events": [{"type": "D"}]},
	{"stream": "q", "expected_version": -4, "events": [{"type": "D"}]},
	{"stream": "Z", "events": [{"type": "D"}]}]');
\echo :SQLSTATE
-- of one stream it is an object, as elsewhere
SELECT * FROM evstore.append_streams('[{"stream": "z", "expected_version": 0, "events": [{"type": "D"}]}]');
\echo :SQLSTATE
SELECT stream, evstore.stream_version(stream) FROM unnest('{z,new,m,a,none,q}'::text[]) AS s (stream);
-- What came before the first conflict had been written already: it is taken back.
SELECT * FROM evstore.append_streams('[
	{"stream": "z", "expected_version": 0, "events": [{"type": "D"}]},
	{"stream": "new", "expected_version": -1, "events": [{"type": "D"}]},
	{"stream": "m", "expected_version": 2, "events": [{"type": "D"}]}]');
\echo :SQLSTATE
SELECT evstore.stream_version('m'), evstore.stream_version('new'), count(*) AS events
FROM evstore.events_uncapped WHERE type = 'D';
SELECT stream FROM evstore.streams WHERE stream = 'new';

-- A stream is named once.
SELECT * FROM evstore.append_streams('[
	{"stream": "b-1", "events": [{"type": "A"}]},
	{"stream": "b-2", "events": [{"type": "A"}]},
	{"stream": "b-1", "events": [{"type": "B"}]}]');
\echo :SQLSTATE
SELECT evstore.stream_exists('b-1'), evstore.stream_exists('b-2');

-- Entries that are wrong, and which of them.
SELECT evstore.append_streams('{"stream": "b-1", "events": []}');
\echo :SQLSTATE
SELECT evstore.append_streams('[{"stream": "b-1", "events": []}, 7]');
\echo :SQLSTATE
SELECT evstore.append_streams('[{"stream": "b-1", "events": []}, {"events": []}]');
\echo :SQLSTATE
SELECT evstore.append_streams('[{"stream": "b-1"}]');
\echo :SQLSTATE
SELECT evstore.append_streams('[{"stream": 7, "events": []}]');
\echo :SQLSTATE
SELECT evstore.append_streams('[{"stream": null, "events": []}]');
\echo :SQLSTATE
SELECT evstore.append_streams('[{"stream": "b-1", "events": {}}]');
\echo :SQLSTATE
SELECT evstore.append_streams('[{"stream": "b-1", "events": [], "expected_version": "0"}]');
\echo :SQLSTATE
SELECT evstore.append_streams('[{"stream": "b-1", "events": [], "version": 0}]');
\echo :SQLSTATE
SELECT evstore.append_streams('[{"stream": "b-1", "events": []}, {"stream": "b-2", "events": [{"type": "A"}, {"type": "B", "tags": "x"}]}]');
\echo :SQLSTATE
SELECT evstore.append_streams(NULL);
\echo :SQLSTATE

-- ---- many streams ----

SET evstore.partition_size = 5000;

-- 10,000 streams in one call, all or nothing.
SELECT count(*), count(DISTINCT stream), min(first_version), max(version),
	bool_and(stream = 'call-' || 10001 - row) AS in_order_of_entries
FROM (SELECT jsonb_agg(jsonb_build_object('stream', 'call-' || n, 'events', '[{"type": "A"}]'::jsonb) ORDER BY n DESC) AS appends
		FROM generate_series(1, 10000) AS n) AS a,
	evstore.append_streams(appends) WITH ORDINALITY AS r (stream, first_version, version, "position", row);
SELECT count(*) FROM evstore.streams WHERE category = 'call' AND version = 0;
\set VERBOSITY sqlstate
SELECT count(*) FROM (SELECT jsonb_agg(jsonb_build_object('stream', 'call-' || n, 'expected_version', CASE n WHEN 77 THEN 5 ELSE 0 END,
			'events', '[{"type": "B"}]'::jsonb)) AS appends
		FROM generate_series(1, 10000) AS n) AS a, evstore.append_streams(appends);
\set VERBOSITY default
SELECT version, count(*) FROM evstore.streams WHERE category = 'call' GROUP BY version;

-- 20,000 new streams in one transaction, a call each, take no lock each: a few for each partition.
BEGIN;
SELECT count(*) FROM generate_series(1, 20000) AS n, evstore.append('loop-' || n, 'A', jsonb_build_object('n', n));
SELECT count(*) < 100 AS few_locks FROM pg_locks WHERE pid = pg_backend_pid();
-- again to the same ones, now old
SELECT count(*) FROM generate_series(1, 20000) AS n, evstore.append('loop-' || n, 'B', expected_version => 0);
SELECT count(*) < 100 AS few_locks FROM pg_locks WHERE pid = pg_backend_pid();
COMMIT;
SELECT count(*), min(version), max(version) FROM evstore.streams WHERE category = 'loop';

-- The same rolled back leaves nothing but a hole in the positions.
BEGIN;
SELECT count(*) FROM generate_series(1, 2000) AS n, evstore.append('loop-' || n, 'C');
SELECT count(*) FROM generate_series(1, 2000) AS n, evstore.append('other-' || n, 'C');
ROLLBACK;
SELECT count(*), min(version), max(version) FROM evstore.streams WHERE category = 'loop';
SELECT count(*) FROM evstore.streams WHERE category = 'other';

SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;
\c :main
DROP DATABASE evstore_multi WITH (FORCE);
