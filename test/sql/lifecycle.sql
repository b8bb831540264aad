-- Deleting, closing, truncating, limiting and scavenging streams.
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_lifecycle;
CREATE DATABASE evstore_lifecycle;
\c evstore_lifecycle
CREATE EXTENSION evstore;
LOAD 'evstore';
SET evstore.partition_size = 10;
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';

-- What each way of reading makes of a stream: the versions that it returns.
CREATE FUNCTION seen(name text) RETURNS TABLE (version bigint, read_stream text, backward text, read_all text, events text, get_event text)
LANGUAGE sql AS $$
	SELECT evstore.stream_version(name),
		(SELECT string_agg(r.version::text, ' ') FROM evstore.read_stream(name) AS r),
		(SELECT string_agg(r.version::text, ' ') FROM evstore.read_stream(name, NULL, NULL, 'backward') AS r),
		(SELECT string_agg(r.version::text, ' ') FROM evstore.read_all(NULL, NULL) AS r WHERE r.stream = name),
		(SELECT string_agg(e.version::text, ' ' ORDER BY e.version) FROM evstore.events AS e WHERE e.stream = name),
		(SELECT string_agg(g.version::text, ' ' ORDER BY g.version)
			FROM evstore.event_log AS e JOIN evstore.stream AS s ON s.id = e.stream_id, evstore.get_event(e.event_id) AS g
			WHERE s.name = seen.name)
$$;
-- Rows on disk.
CREATE FUNCTION stored(name text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(e.version::text, ' ' ORDER BY e.version)
	FROM evstore.event_log AS e JOIN evstore.stream AS s ON s.id = e.stream_id WHERE s.name = stored.name
$$;

-- Twelve events in each stream, in turns, so that each lies in many partitions.
CREATE FUNCTION fill(VARIADIC streams text[]) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(evstore.append_one(s, 'T', to_jsonb(n))) FROM generate_series(0, 11) AS n, unnest(streams) AS s
$$;

-- ---- delete ----

SELECT fill('del-1', 'del-2', 'tomb-1', 'trunc-1', 'count-1', 'age-1', 'other-1');
SELECT * FROM seen('del-1');
-- the expected version is checked
SELECT evstore.delete_stream('del-1', 10);
\echo :SQLSTATE
SELECT evstore.delete_stream('del-1', -1);
\echo :SQLSTATE
SELECT evstore.delete_stream('none');
\echo :SQLSTATE
SELECT evstore.delete_stream('del-1', 11), evstore.delete_stream('del-2', -4);
SELECT * FROM seen('del-1');
SELECT evstore.stream_exists('del-1');
SELECT stream, version, deleted, tombstoned, truncate_before FROM evstore.streams WHERE stream = 'del-1';
-- again changes nothing, and expects what appends do: none, version -1
SELECT evstore.delete_stream('del-1'), evstore.delete_stream('del-1', -1);
SELECT evstore.delete_stream('del-1', 11);
\echo :SQLSTATE
SELECT evstore.delete_stream('del-1', -4);
\echo :SQLSTATE
-- appended to again, its versions go on and what was deleted stays hidden
SELECT version FROM evstore.append('del-1', 'Again', expected_version => -1);
SELECT * FROM seen('del-1');
SELECT evstore.stream_exists('del-1');
SELECT version FROM evstore.append_arrays('del-1', '{Again,Again}', expected_version => 12);
SELECT * FROM seen('del-1');
SELECT version FROM evstore.read_stream('del-1', 5, 2);
SELECT deleted, truncate_before FROM evstore.streams WHERE stream = 'del-1';
-- rolled back, it was not deleted
BEGIN;
SELECT evstore.delete_stream('del-1');
SELECT version, read_stream FROM seen('del-1');
ROLLBACK;
SELECT version, read_stream, read_all FROM seen('del-1');

-- ---- tombstone ----

SELECT evstore.tombstone_stream('tomb-1', 3);
\echo :SQLSTATE
SELECT evstore.tombstone_stream('none');
\echo :SQLSTATE
SELECT evstore.tombstone_stream('tomb-1', 11, 'closed by court order');
SELECT * FROM seen('tomb-1');
SELECT version, deleted, tombstoned, tombstone_reason FROM evstore.streams WHERE stream = 'tomb-1';
-- nothing is written to it any more
SELECT evstore.append('tomb-1', 'T');
\echo :SQLSTATE
SELECT evstore.delete_stream('tomb-1');
\echo :SQLSTATE
SELECT evstore.tombstone_stream('tomb-1');
\echo :SQLSTATE
SELECT evstore.truncate_stream('tomb-1', 1);
\echo :SQLSTATE
SELECT evstore.set_stream('tomb-1', 5);
\echo :SQLSTATE
-- one that was deleted can be closed, too
SELECT evstore.tombstone_stream('del-2');
SELECT evstore.append('del-2', 'T', expected_version => -1);
\echo :SQLSTATE

-- ---- truncate ----

SELECT evstore.truncate_stream('trunc-1', 4);
SELECT * FROM seen('trunc-1');
SELECT version FROM evstore.read_stream('trunc-1', 0, 2);
SELECT version FROM evstore.read_stream('trunc-1', 5, NULL, 'backward');
SELECT version FROM evstore.read_stream('trunc-1', 3, NULL, 'backward');
-- it only goes forward, and not beyond the end
SELECT evstore.truncate_stream('trunc-1', 2);
SELECT version, read_stream FROM seen('trunc-1');
SELECT evstore.truncate_stream('trunc-1', 0), evstore.truncate_stream('trunc-1', 4);
SELECT evstore.truncate_stream('trunc-1', 9223372036854775807);
SELECT * FROM seen('trunc-1');
SELECT evstore.stream_exists('trunc-1') AS exists, truncate_before FROM evstore.streams WHERE stream = 'trunc-1';
SELECT version FROM evstore.append('trunc-1', 'T', expected_version => 11);
SELECT * FROM seen('trunc-1');
SELECT evstore.truncate_stream('none', 1);
\echo :SQLSTATE
SELECT evstore.truncate_stream('trunc-1', NULL);
\echo :SQLSTATE
SELECT evstore.truncate_stream('trunc-1', -1);
\echo :SQLSTATE

-- ---- max_count ----

SELECT evstore.set_stream('count-1', max_count => 3);
SELECT * FROM seen('count-1');
SELECT version FROM evstore.append('count-1', 'T');
SELECT * FROM seen('count-1');
SELECT version FROM evstore.read_stream('count-1', 0, 2);
SELECT evstore.set_stream('count-1', max_count => 100);
SELECT version, read_stream FROM seen('count-1');
-- with a truncation the higher bound counts
SELECT evstore.truncate_stream('count-1', 10), evstore.set_stream('count-1', 5);
SELECT * FROM seen('count-1');
SELECT evstore.set_stream('count-1', 1);
SELECT * FROM seen('count-1');

-- Null leaves a setting, 0 removes a limit.
SELECT evstore.set_stream('count-1', metadata => '{"owner": "ann"}');
SELECT max_count, max_age, metadata FROM evstore.streams WHERE stream = 'count-1';
SELECT evstore.set_stream('count-1', max_age => '1 month 2 days');
SELECT max_count, max_age, metadata FROM evstore.streams WHERE stream = 'count-1';
SELECT evstore.set_stream('count-1');
SELECT max_count, max_age, metadata FROM evstore.streams WHERE stream = 'count-1';
SELECT evstore.set_stream('count-1', 0, '0', '{}');
SELECT max_count, max_age, metadata FROM evstore.streams WHERE stream = 'count-1';
SELECT version, read_stream FROM seen('count-1');
SELECT evstore.set_stream('count-1', -1);
\echo :SQLSTATE
SELECT evstore.set_stream('count-1', NULL, '-1 second');
\echo :SQLSTATE
SELECT evstore.set_stream('count-1', NULL, '1 month -31 days');
\echo :SQLSTATE
SELECT evstore.set_stream('count-1', metadata => '[]');
\echo :SQLSTATE
SELECT evstore.set_stream('none', 1);
\echo :SQLSTATE
-- a deleted one keeps its limits
SELECT evstore.set_stream('del-1', 2, NULL, '{"k": 1}');
SELECT evstore.delete_stream('del-1');
SELECT version FROM evstore.append_arrays('del-1', '{A,B,C}');
SELECT version, read_stream FROM seen('del-1');

-- ---- max_age ----

SET evstore.now_override = '2006-01-10 00:00+00';
SELECT version FROM evstore.append('aged', 'Old');
SET evstore.now_override = '2006-01-20 00:00+00';
SELECT version FROM evstore.append_arrays('aged', '{Middle,Middle}');
SET evstore.now_override = '2006-01-30 00:00+00';
SELECT version FROM evstore.append('aged', 'New');
SELECT evstore.set_stream('aged', max_age => '15 days');
SELECT * FROM seen('aged');
-- time alone hides; an event is hidden when it is max_age old
SET evstore.now_override = '2006-02-03 23:59:59.999999+00';
SELECT version, read_stream FROM seen('aged');
SET evstore.now_override = '2006-02-04 00:00+00';
SELECT * FROM seen('aged');
SET evstore.now_override = '2006-03-01 00:00+00';
SELECT * FROM seen('aged');
SELECT evstore.stream_exists('aged');
SELECT version FROM evstore.append('aged', 'Newest', expected_version => 3);
SELECT * FROM seen('aged');
SELECT evstore.set_stream('aged', max_age => '0');
SELECT version, read_stream FROM seen('aged');

-- ---- scavenge ----

SELECT evstore.set_stream('aged', max_age => '15 days');
SELECT evstore.set_stream('count-1', max_count => 2);
SELECT stored('del-1') AS del, stored('tomb-1') AS tomb, stored('trunc-1') AS trunc, stored('count-1') AS count, stored('aged') AS aged;
SELECT stream, first_version, last_version, events, bytes > 0 AS bytes FROM evstore.scavenge();
SELECT stored('del-1') AS del, stored('tomb-1') AS tomb, stored('trunc-1') AS trunc, stored('count-1') AS count, stored('aged') AS aged;
-- readers see what they saw, and versions go on
SELECT name, s.* FROM unnest('{del-1,del-2,tomb-1,trunc-1,count-1,aged,other-1}'::text[]) AS name, seen(name) AS s;
SELECT stream, version, scavenged_version FROM evstore.streams ORDER BY stream;
SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;
SELECT * FROM evstore.scavenge();
-- what is gone stays gone when the limit goes
SELECT evstore.set_stream('count-1', 0);
SELECT version, read_stream FROM seen('count-1');
SELECT version FROM evstore.append('count-1', 'T', expected_version => 12);
SELECT version FROM evstore.append('aged', 'T', expected_version => 4);
SELECT version FROM evstore.append('trunc-1', 'T', expected_version => 12);
SELECT version, read_stream FROM seen('trunc-1');
-- a stream of which nothing is left
SELECT evstore.truncate_stream('other-1', 12);
SELECT stream, events FROM evstore.scavenge();
SELECT stored('other-1'), evstore.stream_version('other-1'), evstore.stream_exists('other-1');
SELECT * FROM evstore.read_stream('other-1', NULL, 1, 'backward');
SELECT version FROM evstore.append('other-1', 'T', expected_version => 11);
SELECT version, read_stream FROM seen('other-1');
-- rolled back, nothing is gone
SELECT evstore.truncate_stream('other-1', 13);
BEGIN;
SELECT stream, first_version, last_version FROM evstore.scavenge();
SELECT version FROM evstore.append('other-1', 'T', expected_version => 12);
ROLLBACK;
SELECT stored('other-1'), evstore.stream_version('other-1');
SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;
RESET evstore.now_override;

-- ---- space ----

-- VACUUM after scavenge gives the space back to what is appended later.
SET evstore.partition_size = 100000;
SELECT evstore.create_partitions(1);
SELECT setval('evstore.position_seq', (SELECT last_position FROM evstore.partitions WHERE last_position - first_position > 50000 ORDER BY 1 LIMIT 1) - 100000);
SELECT 'evstore.' || partition AS leaf FROM evstore.partitions WHERE last_position - first_position > 50000 ORDER BY first_position LIMIT 1 \gset
CREATE FUNCTION load(stream text, n int) RETURNS bigint LANGUAGE sql AS $$
	SELECT version FROM (SELECT array_agg('T'::text) AS types, array_agg(to_jsonb(repeat(md5(g::text), 10))) AS data FROM generate_series(1, n) AS g) AS d,
		evstore.append_arrays(stream, types, data)
$$;
SELECT load('space-1', 3000);
SELECT evstore.truncate_stream('space-1', 3000);
SELECT stream, events, bytes > 3000 * 300 AS bytes FROM evstore.scavenge();
SELECT pg_relation_size(:'leaf') AS before \gset
VACUUM :leaf;
SELECT load('space-1', 3000);
SELECT pg_relation_size(:'leaf') <= :before AS refilled;
-- also where a younger event keeps the file from shrinking
SELECT load('space-2', 1);
SELECT evstore.truncate_stream('space-1', 6000);
SELECT stream, events FROM evstore.scavenge();
VACUUM :leaf;
SELECT load('space-1', 2900);
SELECT pg_relation_size(:'leaf') <= :before + 8192 AS refilled;
SELECT count(*), min(version), max(version) FROM evstore.read_stream('space-1');

-- ---- who did it ----

SELECT action, stream, detail, actor = current_user AS me, at BETWEEN now() - interval '1 day' AND clock_timestamp() AS today
FROM evstore.audit_log WHERE stream IN ('del-1', 'tomb-1', 'trunc-1', 'aged', 'other-1') OR stream IS NULL ORDER BY at;

SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;
\c :main
DROP DATABASE evstore_lifecycle WITH (FORCE);
