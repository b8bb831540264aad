-- The sequence of positions, misused: an append is refused rather than that a
-- follower could skip it.
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_sequence;
CREATE DATABASE evstore_sequence;
\c evstore_sequence
CREATE EXTENSION evstore;
LOAD 'evstore';
SET evstore.partition_size = 10;
SELECT version, position FROM evstore.append_arrays('s-1', array_fill('T'::text, '{25}'));
SELECT evstore.safe_position();

-- ---- options ----

ALTER SEQUENCE evstore.position_seq CACHE 10;
SELECT evstore.append('s-1', 'T');
\echo :SQLSTATE
SELECT evstore.append('new-1', 'T');
\echo :SQLSTATE
SELECT check_name, ok, detail FROM evstore.health() WHERE NOT ok;
-- what appends nothing is not refused
SELECT version FROM evstore.append_events('s-1', '[]', 24);
SELECT ok FROM evstore.try_append('s-1', '[{"type": "T"}]', 3);
ALTER SEQUENCE evstore.position_seq CACHE 1 INCREMENT 2;
SELECT evstore.append('s-1', 'T');
\echo :SQLSTATE
ALTER SEQUENCE evstore.position_seq INCREMENT -1 MINVALUE -1000;
SELECT evstore.append('s-1', 'T');
\echo :SQLSTATE
ALTER SEQUENCE evstore.position_seq INCREMENT 1 MINVALUE 1 CYCLE;
SELECT evstore.append('s-1', 'T');
\echo :SQLSTATE
ALTER SEQUENCE evstore.position_seq NO CYCLE;
SELECT version, position FROM evstore.append('s-1', 'T', expected_version => 24);
SELECT check_name, ok, detail FROM evstore.health() WHERE NOT ok;

-- ---- moved back ----

-- to right before what is stored, into an older partition, to the start
\set VERBOSITY terse
SELECT setval('evstore.position_seq', 25);
SELECT evstore.append('s-1', 'T');
\echo :SQLSTATE
SELECT setval('evstore.position_seq', 26, false);
SELECT evstore.append('new-1', 'T');
\echo :SQLSTATE
SELECT setval('evstore.position_seq', 12);
SELECT evstore.append('new-1', 'T');
\echo :SQLSTATE
ALTER SEQUENCE evstore.position_seq RESTART;
SELECT evstore.append('s-1', 'T');
\echo :SQLSTATE
SELECT evstore.append_arrays('s-1', array_fill('T'::text, '{100}'));
\echo :SQLSTATE
\set VERBOSITY default
SELECT check_name, ok, detail FROM evstore.verify() WHERE NOT ok;
-- the safe position does not go back with it
SELECT evstore.safe_position();
SELECT count(*), max(position) FROM evstore.read_all();
-- nothing was written, and put right it goes on
SELECT stream, version FROM evstore.streams;
SELECT setval('evstore.position_seq', 26);
SELECT version, position FROM evstore.append('s-1', 'T', expected_version => 25);
SELECT evstore.safe_position();

-- in a transaction that has appended already
BEGIN;
SELECT version, position FROM evstore.append('s-1', 'T');
SELECT setval('evstore.position_seq', 20);
\set VERBOSITY terse
SELECT evstore.append('s-1', 'T');
\echo :SQLSTATE
\set VERBOSITY default
ROLLBACK;
SELECT setval('evstore.position_seq', 28);
SELECT version, position FROM evstore.append('s-1', 'T', expected_version => 26);

-- nextval by hand only makes holes
SELECT nextval('evstore.position_seq'), nextval('evstore.position_seq');
SELECT version, position FROM evstore.append('s-1', 'T', expected_version => 27);
SELECT evstore.safe_position();

-- ---- moved forward ----

-- leaves a hole, and one long partition instead of thousands
SELECT max(last_position) AS last FROM evstore.partitions \gset
SELECT setval('evstore.position_seq', 100000);
SELECT version, position FROM evstore.append('s-1', 'T', expected_version => 28);
SELECT version, position FROM evstore.append_arrays('s-2', array_fill('T'::text, '{45}'));
SELECT count(*) < 10 AS few_partitions FROM evstore.partitions WHERE first_position > :last;
SELECT evstore.safe_position();
SELECT position, version FROM evstore.read_stream('s-1', 26);
SELECT position, stream FROM evstore.read_all(27, 3);
SELECT position, stream FROM evstore.read_all(100002, 3, NULL, 'backward');
SELECT stream, version, first_position FROM evstore.streams ORDER BY stream;
SELECT count(*) FROM evstore.events;
SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;
-- within a partition, and to the exact end of one
SELECT setval('evstore.position_seq', (SELECT max(last_position) FROM evstore.partitions));
SELECT version FROM evstore.append('s-1', 'T');
SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;

-- ---- at its end ----

\set VERBOSITY sqlstate
SELECT setval('evstore.position_seq', 9223372036854775807);
SELECT evstore.append('s-1', 'T');
SELECT evstore.append_arrays('s-1', '{A,B,C}');
\set VERBOSITY default
SELECT evstore.stream_version('s-1');

\c :main
DROP DATABASE evstore_sequence WITH (FORCE);
