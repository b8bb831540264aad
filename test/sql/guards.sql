-- Append-only: nobody changes the log but evstore's own functions.
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_guards;
CREATE DATABASE evstore_guards;
\c evstore_guards
CREATE EXTENSION evstore;
LOAD 'evstore';
SET evstore.partition_size = 10;

-- ---- before the first append ----

-- A restore has to load rows, so INSERT and COPY pass ...
INSERT INTO evstore.stream (id, first_position, last_leaf, truncate_before, scavenged_version, created_at, deleted, tombstoned, restricted, name)
VALUES (nextval('evstore.stream_id_seq'), 1, 1, 0, -1, '2020-01-01', false, false, false, 'restored-1');
SELECT evstore.create_partitions(2);
COPY evstore.event_log_1 (position, stream_id, version, category_hash, schema_version, event_id, recorded_at, type, data) FROM stdin;
1	1	0	0	1	00000000-0000-4000-8000-000000000001	2020-01-01 00:00:00+00	Restored	{"n": 1}
\.
INSERT INTO evstore.event_log (position, stream_id, version, category_hash, schema_version, event_id, recorded_at, type, data)
VALUES (2, 1, 1, 0, 1, '00000000-0000-4000-8000-000000000002', '2020-01-01', 'Restored', '{"n": 2}');
SELECT setval('evstore.position_seq', 2);
SELECT position, version, type, data FROM evstore.read_stream('restored-1');
-- ... but nothing else, and the mark that closes the store cannot be made by hand.
\set VERBOSITY sqlstate
UPDATE evstore.event_log SET type = 'x';
DELETE FROM evstore.event_log_1;
TRUNCATE evstore.stream;
INSERT INTO evstore.sealed VALUES (now());
\set VERBOSITY default
-- A rolled-back first append leaves the store open.
BEGIN;
SELECT version FROM evstore.append('restored-1', 'New');
SELECT count(*) AS seals FROM evstore.sealed;
ROLLBACK;
INSERT INTO evstore.stream (id, first_position, last_leaf, truncate_before, scavenged_version, created_at, deleted, tombstoned, restricted, name)
VALUES (nextval('evstore.stream_id_seq'), 1, 1, 0, -1, '2020-01-01', false, false, false, 'restored-2');

-- ---- after it ----

SELECT version FROM evstore.append('restored-1', 'New', expected_version => 1);
SELECT count(*) > 0 AS sealed FROM evstore.sealed;
SELECT version FROM evstore.append_arrays('order-1', array_fill('T'::text, '{25}'));

-- What an attempt gives: a SQLSTATE, or that it went through.
CREATE FUNCTION attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	RETURN 'DONE';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
CREATE TABLE attempts (statement text);
INSERT INTO attempts
SELECT format(s, t) FROM unnest('{evstore.event_log,evstore.event_log_1,evstore.event_log_11,evstore.stream,evstore.sealed}'::text[]) AS t,
	unnest(ARRAY[
		'INSERT INTO %s SELECT * FROM %1$s',
		'INSERT INTO %s SELECT * FROM %1$s WHERE false',
		'INSERT INTO %s SELECT * FROM %1$s ON CONFLICT DO NOTHING',
		'DELETE FROM %s',
		'DELETE FROM %s WHERE false',
		'DELETE FROM ONLY %s WHERE false',
		'TRUNCATE %s',
		'TRUNCATE %s CASCADE',
		'WITH d AS (DELETE FROM %s RETURNING *) SELECT count(*) FROM d',
		'COPY %s FROM PROGRAM ''true''']) AS s;
INSERT INTO attempts VALUES
	('UPDATE evstore.event_log SET data = ''{}'''),
	('UPDATE evstore.event_log SET data = ''{}'' WHERE false'),
	('UPDATE evstore.event_log SET position = position + 100'),
	('UPDATE evstore.event_log_1 SET type = type'),
	('UPDATE ONLY evstore.event_log_11 SET type = type WHERE false'),
	('UPDATE evstore.stream SET name = name || ''x'''),
	('UPDATE evstore.stream SET deleted = true WHERE false'),
	('UPDATE evstore.sealed SET sealed_at = now()'),
	('WITH u AS (UPDATE evstore.event_log SET type = ''x'' WHERE version = 0 RETURNING *) SELECT count(*) FROM u'),
	('WITH i AS (INSERT INTO evstore.event_log_11 SELECT * FROM evstore.event_log_11 LIMIT 0 RETURNING *) SELECT count(*) FROM i'),
	('MERGE INTO evstore.event_log AS e USING (VALUES (0)) AS v (n) ON e.version = v.n WHEN MATCHED THEN UPDATE SET type = ''x'''),
	('MERGE INTO evstore.event_log_1 AS e USING (VALUES (0)) AS v (n) ON e.version = v.n WHEN MATCHED THEN DELETE'),
	('MERGE INTO evstore.stream AS e USING (VALUES (''new'')) AS v (n) ON e.name = v.n WHEN MATCHED THEN DELETE'),
	('UPDATE evstore.events SET type = ''x'''),
	('DELETE FROM evstore.events'),
	('INSERT INTO evstore.events (stream, type) VALUES (''order-1'', ''x'')'),
	('UPDATE evstore.events_uncapped SET type = ''x'''),
	('UPDATE evstore.streams SET deleted = true'),
	('DELETE FROM evstore.streams');

SELECT count(*) AS attempts, string_agg(DISTINCT attempt(statement), ' ') AS outcomes FROM attempts WHERE statement !~ 'evstore\.(events|streams)';
-- not even where triggers are off
SET session_replication_role = replica;
SELECT count(*) AS attempts, string_agg(DISTINCT attempt(statement), ' ') AS outcomes FROM attempts WHERE statement !~ 'evstore\.(events|streams)';
SET session_replication_role = local;
SELECT count(*) AS attempts, string_agg(DISTINCT attempt(statement), ' ') AS outcomes FROM attempts WHERE statement !~ 'evstore\.(events|streams)';
RESET session_replication_role;
-- the views over joins cannot be written to at all
SELECT statement, attempt(statement) FROM attempts WHERE statement ~ 'evstore\.(events|streams)';
-- and it all is still there
SELECT stream, version, deleted FROM evstore.streams ORDER BY stream;
SELECT count(*), min(position), max(position) FROM evstore.event_log;

-- The error, and COPY by its real way.
UPDATE evstore.event_log SET data = '{}' WHERE version = 0;
\echo :SQLSTATE
DELETE FROM evstore.event_log_1;
\echo :SQLSTATE
TRUNCATE evstore.stream;
\echo :SQLSTATE
COPY evstore.event_log_1 (position, stream_id, version, category_hash, schema_version, event_id, recorded_at, type, data) FROM stdin;
3	1	9	0	1	00000000-0000-4000-8000-000000000009	2020-01-01 00:00:00+00	Sneaked	{}
\.
\echo :SQLSTATE
-- a savepoint, a function and a transaction are no way around
BEGIN;
SELECT version FROM evstore.append('order-1', 'T');
SAVEPOINT s;
DELETE FROM evstore.event_log;
\echo :SQLSTATE
ROLLBACK TO s;
COMMIT;
-- A trigger function is no function.
SELECT evstore._guard();
\echo :SQLSTATE

-- New partitions are guarded as the first is.
SELECT bool_and(guarded) AS guarded, count(*) >= 3 AS partitions FROM evstore.partitions;
SELECT check_name, ok FROM evstore.health() WHERE check_name IN ('guards are in place', 'DROP EXTENSION is guarded');

-- ---- DROP EXTENSION ----

\set VERBOSITY sqlstate
DROP EXTENSION evstore;
\set VERBOSITY default
SELECT count(*) FROM evstore.events;

-- ---- what an owner can do by DDL is seen ----

BEGIN;
ALTER TABLE evstore.event_log_1 DISABLE TRIGGER evstore_guard;
SELECT check_name, ok, detail FROM evstore.health() WHERE NOT ok;
SELECT partition, guarded FROM evstore.partitions WHERE NOT guarded;
SELECT check_name, ok, detail FROM evstore.verify() WHERE NOT ok;
ROLLBACK;
BEGIN;
ALTER TABLE evstore.event_log_11 ENABLE TRIGGER evstore_guard;
SELECT check_name, ok, detail FROM evstore.health() WHERE NOT ok;
ROLLBACK;
BEGIN;
DROP TRIGGER evstore_guard ON evstore.event_log_1;
SELECT check_name, ok, detail FROM evstore.health() WHERE NOT ok;
ROLLBACK;
BEGIN;
ALTER TABLE evstore.stream DISABLE TRIGGER ALL;
SELECT check_name, ok, detail FROM evstore.health() WHERE NOT ok;
ROLLBACK;
BEGIN;
DROP VIEW evstore.drop_guard;
SELECT check_name, ok, detail FROM evstore.health() WHERE NOT ok;
ROLLBACK;
BEGIN;
DROP INDEX evstore.event_log_1_event_id_key;
SELECT check_name, ok, detail FROM evstore.health() WHERE NOT ok;
ROLLBACK;
BEGIN;
ALTER TABLE evstore.event_log DETACH PARTITION evstore.event_log_11;
SELECT check_name, ok, detail FROM evstore.health() WHERE NOT ok;
ROLLBACK;
-- without the partition of a stream's newest events, nobody can number the next one
BEGIN;
ALTER TABLE evstore.event_log DETACH PARTITION evstore.event_log_21;
SELECT stream, version, last_partition FROM evstore.streams WHERE stream = 'order-1';
SAVEPOINT s;
SELECT evstore.append_one('order-1', 'Next');
ROLLBACK TO s;
SELECT evstore.delete_stream('order-1');
ROLLBACK;
BEGIN;
DROP TABLE evstore.event_log_21;
SELECT evstore.append_one('order-1', 'Next');
ROLLBACK;
BEGIN;
ALTER TABLE evstore.event_log_1 DISABLE TRIGGER evstore_guard;
TRUNCATE evstore.event_log_1;
SELECT stream, version FROM evstore.streams WHERE stream = 'restored-1';
SELECT evstore.append_one('restored-1', 'Next');
ROLLBACK;
BEGIN;
ALTER SEQUENCE evstore.position_seq CACHE 10 INCREMENT 2 CYCLE;
SELECT check_name, ok, detail FROM evstore.health() WHERE NOT ok;
ROLLBACK;

-- ---- and what is wrong in the log is found ----

-- by somebody who takes the guard off: a gap, a wrong position, a twin
CREATE FUNCTION damage(statement text) RETURNS TABLE (check_name text, detail text) LANGUAGE plpgsql AS $$
BEGIN
	ALTER TABLE evstore.event_log DISABLE TRIGGER evstore_guard;
	ALTER TABLE evstore.event_log_1 DISABLE TRIGGER evstore_guard;
	ALTER TABLE evstore.event_log_11 DISABLE TRIGGER evstore_guard;
	ALTER TABLE evstore.stream DISABLE TRIGGER evstore_guard;
	EXECUTE statement;
	RETURN QUERY SELECT v.check_name, v.detail FROM evstore.verify() AS v
		WHERE NOT v.ok AND v.check_name <> 'guards are in place';
END $$;
BEGIN;
SELECT * FROM damage($$DELETE FROM evstore.event_log WHERE stream_id = 1 AND version = 1$$);
ROLLBACK;
BEGIN;
SELECT * FROM damage($$DELETE FROM evstore.event_log WHERE stream_id = 1 AND version = 0$$);
ROLLBACK;
BEGIN;
SELECT * FROM damage($$
	UPDATE evstore.event_log SET version = 99 WHERE stream_id = 1 AND version = 1;
	UPDATE evstore.event_log SET version = 1 WHERE stream_id = 1 AND version = 2;
	UPDATE evstore.event_log SET version = 2 WHERE stream_id = 1 AND version = 99$$);
ROLLBACK;
BEGIN;
SELECT * FROM damage($$UPDATE evstore.event_log SET event_id = '00000000-0000-4000-8000-000000000001' WHERE position = 11$$);
ROLLBACK;
BEGIN;
SELECT * FROM damage($$DELETE FROM evstore.stream WHERE name = 'restored-1'$$);
ROLLBACK;
BEGIN;
SELECT * FROM damage($$UPDATE evstore.stream SET last_leaf = 11 WHERE name = 'restored-1'$$);
ROLLBACK;
BEGIN;
SELECT * FROM damage($$SELECT setval('evstore.position_seq', 20)$$);
SELECT setval('evstore.position_seq', 100);
ROLLBACK;
-- one stream alone
BEGIN;
SELECT * FROM damage($$DELETE FROM evstore.event_log WHERE stream_id = 1 AND version = 1$$);
SELECT check_name FROM evstore.verify('restored-1') WHERE NOT ok AND check_name LIKE 'versions%';
SELECT check_name FROM evstore.verify('order-1') WHERE NOT ok AND check_name LIKE 'versions%';
ROLLBACK;
SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;

\c :main
DROP DATABASE evstore_guards WITH (FORCE);
