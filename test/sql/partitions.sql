-- Partitions of the log: crossing them, making them, and leaves whose columns
-- are not in the same places.
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_partitions;
CREATE DATABASE evstore_partitions;
\c evstore_partitions
SET client_min_messages = warning;
-- An empty store can be dropped as any extension.
CREATE EXTENSION evstore;
DROP EXTENSION evstore;
SELECT count(*) FROM pg_namespace WHERE nspname = 'evstore';

-- ---- the extension and its first append in one transaction ----

BEGIN;
CREATE EXTENSION evstore;
SET LOCAL evstore.partition_size = 10;
SELECT version, position FROM evstore.append('first-1', 'T');
SELECT first_version, version, position FROM evstore.append_arrays('first-1', array_fill('T'::text, '{24}'));
SELECT count(*) FROM evstore.read_stream('first-1');
COMMIT;
LOAD 'evstore';
SET evstore.partition_size = 10;
SELECT count(*), max(position) FROM evstore.read_all();
SELECT version, position FROM evstore.append('first-1', 'T', expected_version => 24);
-- rolled back, there is no extension
BEGIN;
DROP EXTENSION evstore CASCADE;
CREATE EXTENSION evstore;
SELECT version, position FROM evstore.append('other-1', 'T');
ROLLBACK;
SELECT version, position FROM evstore.append('first-1', 'T', expected_version => 25);
SELECT stream, version FROM evstore.streams;
-- the same in a session that had known the one before
DROP EXTENSION evstore CASCADE;
SELECT count(*) AS leaves_left FROM pg_class WHERE relname LIKE 'event\_log%';
\set VERBOSITY sqlstate
SELECT evstore.append('first-1', 'T');
\set VERBOSITY default
CREATE EXTENSION evstore;
SELECT evstore.stream_version('first-1'), evstore.safe_position(), evstore.stream_exists('first-1');
SELECT version, position FROM evstore.append('first-1', 'T');
SELECT stream, version, position FROM evstore.read_all();

-- ---- crossing ----

-- One event at a time, and batches that begin and end anywhere in a partition.
SELECT count(*) FROM generate_series(2, 60) AS n, evstore.append('single-1', 'T', to_jsonb(n));
SELECT n, a.first_version, a.version, a.position FROM generate_series(1, 12) AS n, evstore.append_arrays('batch-' || n % 2, array_fill('T'::text, ARRAY[n])) AS a;
SELECT a.first_version, a.version, a.position FROM evstore.append_arrays('batch-3', array_fill('T'::text, '{100}')) AS a;
SELECT count(*), count(DISTINCT position), min(position), max(position) FROM evstore.event_log;
-- each event lies where its position says, and its stream knows the newest place
SELECT count(*) AS misplaced FROM evstore.event_log AS e
WHERE NOT EXISTS (SELECT FROM evstore.partitions AS p WHERE p.partition = (SELECT relname FROM pg_class WHERE oid = e.tableoid)
	AND e.position BETWEEN p.first_position AND p.last_position);
SELECT stream, first_position, last_partition FROM evstore.streams ORDER BY stream;
SELECT partition, first_position, last_position, sealed, guarded FROM evstore.partitions WHERE first_position IN (1, 21, 131, 221) ORDER BY 2;
SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;

-- ---- making them ahead ----

SELECT max(last_position) AS last FROM evstore.partitions \gset
SELECT evstore.create_partitions(3);
SELECT partition = 'event_log_' || first_position AS named_so, first_position - :last AS "from", last_position - :last AS "to", sealed, guarded, estimated_rows
FROM evstore.partitions WHERE first_position > :last ORDER BY first_position;
-- another size is for new ones only
SET evstore.partition_size = 40;
SELECT evstore.create_partitions(1);
SELECT first_position - :last AS "from", last_position - :last AS "to" FROM evstore.partitions WHERE first_position > :last ORDER BY first_position;
BEGIN;
SELECT evstore.create_partitions(2);
ROLLBACK;
SELECT max(last_position) - :last AS "to" FROM evstore.partitions;
SELECT a.version FROM evstore.append_arrays('ahead-1', array_fill('T'::text, '{200}')) AS a;
SET evstore.partition_size = 10;
SELECT evstore.create_partitions(1);
SELECT a.version FROM evstore.append_arrays('ahead-1', array_fill('T'::text, '{100}')) AS a;
SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;

-- Each has what readers and writers look for.
SELECT count(DISTINCT d.definition) AS same_indexes, count(*) / count(DISTINCT d.leaf) AS indexes
FROM (SELECT i.tablename AS leaf, replace(regexp_replace(i.indexdef, 'event_log_\d+', 'leaf', 'g'), i.tablename, 'leaf') AS definition
	FROM pg_indexes AS i WHERE i.schemaname = 'evstore' AND i.tablename ~ '^event_log_\d+$') AS d;
-- and is no member of the extension: pg_dump takes it along
SELECT count(*) AS members FROM pg_depend WHERE deptype = 'e' AND classid = 'pg_class'::regclass
	AND objid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'evstore.event_log'::regclass);

-- ---- an append that makes one itself ----

-- In a transaction that has made the extension no worker can help.  An append
-- then makes the partition itself, but not while its own statement reads the log.
CREATE FUNCTION attempt(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE call;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ' ' || hint;
END $$;
BEGIN;
DROP EXTENSION evstore CASCADE;
CREATE EXTENSION evstore;
SELECT a.version FROM evstore.append_arrays('first-1', array_fill('T'::text, '{20}')) AS a;
SELECT partition, first_position, last_position, sealed FROM evstore.partitions;
SELECT attempt($$SELECT evstore.append('second-1', 'T') FROM evstore.event_log WHERE position >= (SELECT 1)$$);
SELECT evstore.stream_exists('second-1');
-- reading by functions is over before the first row is used
SELECT count(evstore.append_one('second-1', 'T')) FROM evstore.read_stream('first-1');
SELECT evstore.stream_version('second-1');
ROLLBACK;

-- ---- rolled back ----

-- What an aborted append had made is there or not, but nothing is broken.
BEGIN;
SELECT a.version FROM evstore.append_arrays('aborted-1', array_fill('T'::text, '{55}')) AS a;
ROLLBACK;
SELECT version FROM evstore.append('after-1', 'T');
SELECT stream, version, type FROM evstore.read_stream('after-1');
-- where no worker can help, since the table is this transaction's own
CREATE TABLE keep (n int);
BEGIN;
DROP EXTENSION evstore CASCADE;
CREATE EXTENSION evstore;
SAVEPOINT s;
SELECT a.version, a.position FROM evstore.append_arrays('inline-1', array_fill('T'::text, '{25}')) AS a;
SELECT count(*) >= 3 AS partitions FROM evstore.partitions;
ROLLBACK TO s;
SELECT count(*) AS partitions FROM evstore.partitions;
-- positions are burned, and so are the leaves of long ago: one long one is made
SELECT a.version, a.position FROM evstore.append('inline-1', 'T') AS a;
SELECT a.version, a.position FROM evstore.append_arrays('inline-1', array_fill('T'::text, '{25}')) AS a;
SELECT count(*), min(version), max(version) FROM evstore.read_stream('inline-1');
COMMIT;
SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;
SELECT count(*), min(version), max(version) FROM evstore.read_stream('inline-1');

-- ---- columns in other places ----

-- An update script that drops columns and adds others: the partitions from before
-- keep the places of those that were dropped, those made afterwards never had them.
SELECT a.version FROM evstore.append_arrays('columns-1', array_fill('Before'::text, '{30}'), NULL,
	array_fill('{"m": 1}'::jsonb, '{30}')) AS a;
ALTER TABLE evstore.event_log ADD COLUMN scratch text DEFAULT 'x';
SELECT evstore.create_partitions(2);
SELECT a.version FROM evstore.append_arrays('columns-1', array_fill('Before'::text, '{15}'), NULL,
	array_fill('{"m": 1}'::jsonb, '{15}')) AS a;
ALTER TABLE evstore.event_log DROP COLUMN scratch, DROP COLUMN category_hash;
ALTER TABLE evstore.event_log ADD COLUMN category_hash integer NOT NULL DEFAULT 0;
-- what such a script has to do for the column: its index, and its values
DO $$
DECLARE
	leaf text;
BEGIN
	FOR leaf IN SELECT partition FROM evstore.partitions LOOP
		EXECUTE format('CREATE INDEX %I ON evstore.%I (category_hash, position)', leaf || '_category_idx', leaf);
		EXECUTE format('ALTER TABLE evstore.%I DISABLE TRIGGER evstore_guard', leaf);
		EXECUTE format('UPDATE evstore.%I SET category_hash = $1', leaf) USING x'8ab31a3c'::int;
		EXECUTE format('ALTER TABLE evstore.%I ENABLE ALWAYS TRIGGER evstore_guard', leaf);
	END LOOP;
END $$;
-- old partitions that are not full yet, and new ones
SELECT evstore.create_partitions(1);
SELECT a.version FROM evstore.append_arrays('columns-1', array_fill('Middle'::text, '{35}')) AS a;
SELECT attname, count(DISTINCT attnum) AS places FROM pg_attribute
WHERE attname IN ('position', 'category_hash', 'tags') AND NOT attisdropped
	AND attrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'evstore.event_log'::regclass)
GROUP BY 1 ORDER BY 1;
SELECT count(DISTINCT tableoid) >= 3 AS several_partitions FROM evstore.event_log WHERE type = 'Middle';
SELECT version FROM evstore.append('columns-1', 'After', '{"n": 1}', '{"m": 2}', 79, '00000000-0000-4000-8000-000000000001', 'c',
	'00000000-0000-4000-8000-000000000002', 3, '2020-01-01', 'somewhere', '{a,b}');
-- both kinds are read, written and looked into
SELECT count(*), count(*) FILTER (WHERE type = 'Before' AND metadata = '{"m": 1}') AS before, count(*) FILTER (WHERE type = 'Middle' AND source IS NULL) AS middle
FROM evstore.read_stream('columns-1');
SELECT version, type, data, metadata, correlation_id, causation_id, schema_version, source, tags FROM evstore.read_stream('columns-1', 80);
SELECT version, source, tags FROM evstore.get_event('00000000-0000-4000-8000-000000000001');
SELECT version, source FROM evstore.read_correlation('c');
SELECT count(*) FROM evstore.read_all(NULL, NULL, '{"tags": ["a"], "types": ["After"]}');
SELECT type, count(*) FROM evstore.read_category('columns', NULL, NULL) GROUP BY type ORDER BY type;
SELECT version FROM evstore.append('columns-1', 'After', '{"n": 1}', event_id => '00000000-0000-4000-8000-000000000001', schema_version => 3);
SELECT ok, actual_version FROM evstore.try_append('columns-1', '[{"type": "X"}]', 44);
SELECT version FROM evstore.append_events('columns-1', '[{"type": "X"}]', 44, '{Middle,After}');
SELECT count(*) AS differences FROM (SELECT * FROM evstore.events EXCEPT ALL SELECT * FROM evstore.read_all(NULL, NULL)) AS d;
SELECT count(*) AS events, count(*) FILTER (WHERE stream = 'columns-1') AS of_the_stream FROM evstore.events;
SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;
-- removing looks at both kinds, too
SELECT evstore.truncate_stream('columns-1', 50);
SELECT stream, events FROM evstore.scavenge();
SELECT count(*), min(version), max(version) FROM evstore.read_stream('columns-1');
SELECT version FROM evstore.append('columns-1', 'Last', expected_version => 81);
SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;

\c :main
DROP DATABASE evstore_partitions WITH (FORCE);
