-- Row changes of ordinary tables as events.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;
BEGIN;
SET LOCAL timezone = 'Asia/Kathmandu';
SET LOCAL datestyle = 'SQL, DMY';

SELECT plan(63);

CREATE FUNCTION pg_temp.types(stream text) RETURNS text LANGUAGE sql AS
$$ SELECT string_agg(e.type, ' ' ORDER BY e.version) FROM evstore.read_stream(stream) AS e $$;
CREATE FUNCTION pg_temp.newest(stream text) RETURNS evstore.event LANGUAGE sql AS
$$ SELECT e FROM evstore.read_stream(stream) AS e ORDER BY e.version DESC LIMIT 1 $$;
CREATE FUNCTION pg_temp.detail_of(query text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	EXECUTE query;
	RETURN NULL;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN detail::jsonb;
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

CREATE SCHEMA shop;
CREATE TABLE shop.order_lines (
	id int PRIMARY KEY,
	total numeric,
	at timestamptz,
	took interval,
	raw bytea,
	extra json);
INSERT INTO shop.order_lines VALUES (1, 1);

-- ---- what is appended ----

SELECT lives_ok($$ SELECT evstore.track_table('shop.order_lines') $$, 'track a table');
SELECT is(pg_temp.types('order_lines-1'), NULL, 'rows that are there already give no events');

INSERT INTO shop.order_lines VALUES (7, 99.90, '2025-11-17 10:30:00.5Z', '1 day 02:00', '\x00ff', '{"b": 1}');
SELECT is((pg_temp.newest('order_lines-7')).type, 'OrderLinesInserted', 'INSERT: type');
SELECT is((pg_temp.newest('order_lines-7')).data::text,
	'{"new": {"at": "2025-11-17T10:30:00.5+00:00", "id": 7, "raw": "\\x00ff", "took": "1 day 02:00:00", "extra": {"b": 1}, "total": 99.90}, "old": null}',
	'INSERT: data, exact and the same in every session');
SELECT is((pg_temp.newest('order_lines-7')).source, 'table:shop.order_lines', 'the source is the table');

UPDATE shop.order_lines SET total = 100, extra = '{"b": 2}' WHERE id = 7;
SELECT is((pg_temp.newest('order_lines-7')).type, 'OrderLinesUpdated', 'UPDATE: type');
SELECT is((pg_temp.newest('order_lines-7')).data -> 'changed', '["extra", "total"]', 'UPDATE: changed columns');
SELECT is((pg_temp.newest('order_lines-7')).data #> '{old,total}', '99.90', 'UPDATE: old row');
SELECT is((pg_temp.newest('order_lines-7')).data #> '{new,total}', '100', 'UPDATE: new row');
UPDATE shop.order_lines SET total = total WHERE id = 7;
SELECT is((pg_temp.newest('order_lines-7')).version, 1::bigint, 'an UPDATE that changes nothing gives no event');
UPDATE shop.order_lines SET total = 100.00 WHERE id = 7;
SELECT is((pg_temp.newest('order_lines-7')).version, 2::bigint, '100 to 100.00 is a change');
UPDATE shop.order_lines SET total = NULL WHERE id = 7;
SELECT is((pg_temp.newest('order_lines-7')).data -> 'changed', '["total"]', 'NULL is a value');
INSERT INTO shop.order_lines VALUES (7, 5) ON CONFLICT (id) DO UPDATE SET total = excluded.total;
SELECT is((pg_temp.newest('order_lines-7')).type, 'OrderLinesUpdated', 'an upsert that finds a row is an update');
DELETE FROM shop.order_lines WHERE id = 7;
SELECT is((pg_temp.newest('order_lines-7')).type, 'OrderLinesDeleted', 'DELETE: type');
SELECT is((pg_temp.newest('order_lines-7')).data -> 'new', 'null', 'DELETE: no new row');
SELECT is((pg_temp.newest('order_lines-7')).data #> '{old,total}', '5', 'DELETE: old row');

INSERT INTO shop.order_lines (id) SELECT generate_series(100, 199);
SELECT is((SELECT count(*) FROM generate_series(100, 199) AS n, evstore.read_stream('order_lines-' || n)),
	100::bigint, 'an event a row');

SAVEPOINT before;
INSERT INTO shop.order_lines VALUES (8, 1);
ROLLBACK TO before;
SELECT is(evstore.stream_version('order_lines-8'), -1::bigint, 'a row that is rolled back leaves no event');

-- ---- the key changes ----

INSERT INTO shop.order_lines VALUES (20, 1);
UPDATE shop.order_lines SET id = 21, total = 2 WHERE id = 20;
SELECT is(pg_temp.types('order_lines-20'), 'OrderLinesInserted OrderLinesDeleted', 'the old stream ends');
SELECT is((pg_temp.newest('order_lines-20')).data -> 'moved_to', '"order_lines-21"', 'and says where the row went');
SELECT is(pg_temp.types('order_lines-21'), 'OrderLinesInserted', 'the new one begins');
SELECT is((pg_temp.newest('order_lines-21')).data -> 'moved_from', '"order_lines-20"', 'and says where the row came from');

-- ---- keys ----

CREATE TABLE shop.pairs (b text, a text, n int, PRIMARY KEY (a, b));
SELECT lives_ok($$ SELECT evstore.track_table('shop.pairs', 'pair') $$, 'a key of two columns');
INSERT INTO shop.pairs VALUES ('b', 'a', 1), ('2', 'x/1', 2), ('1/2', 'x', 3), ('%2F', '%', 4);
SELECT is(pg_temp.types(s.stream), 'PairsInserted', 'stream ' || s.stream)
FROM unnest('{pair-a/b,pair-x%2F1/2,pair-x/1%2F2,pair-%25/%252F}'::text[]) AS s (stream);

CREATE TABLE shop.texts (code text PRIMARY KEY);
SELECT lives_ok($$ SELECT evstore.track_table('shop.texts', 't') $$, 'a key of type text');
INSERT INTO shop.texts VALUES ('a-b-c'), ('größe'), (repeat('x', 510)), (repeat('x', 511)), (repeat('ä', 300)), (E'a\nb'), ('');
SELECT is((SELECT count(*) FROM evstore.read_stream(s.stream)), 1::bigint, 'stream ' || left(s.stream, 30))
FROM (VALUES ('t-a-b-c'), ('t-größe'), ('t-'), ('t-' || repeat('x', 510)),
	('t-sha256:' || encode(sha256(convert_to(repeat('x', 511), 'UTF8')), 'hex')),
	('t-sha256:' || encode(sha256(convert_to(repeat('ä', 300), 'UTF8')), 'hex')),
	('t-sha256:' || encode(sha256('\x610a62'::bytea), 'hex'))) AS s (stream);

CREATE TABLE "Bestell-Posten «ä»" ("Nr'\1" int PRIMARY KEY);
SELECT lives_ok($$ SELECT evstore.track_table('"Bestell-Posten «ä»"') $$, 'names that need quotes');
INSERT INTO "Bestell-Posten «ä»" VALUES (5);
SELECT is(pg_temp.types('Bestell_Posten «ä»-5'), 'BestellPosten«ä»Inserted', 'a category has no "-", a type no ASCII punctuation');

-- a stream an order, with events of the order and of its items
CREATE TABLE shop.orders (id int PRIMARY KEY);
CREATE TABLE shop.items (order_id int NOT NULL REFERENCES shop.orders ON DELETE CASCADE, sku text);
SELECT evstore.track_table('shop.orders', 'order') \g /dev/null
SELECT evstore.track_table('shop.items', 'order', '{order_id}') \g /dev/null
INSERT INTO shop.orders VALUES (1);
INSERT INTO shop.items VALUES (1, 'a'), (1, 'b');
DELETE FROM shop.orders WHERE id = 1;
SELECT is(pg_temp.types('order-1'), 'OrdersInserted ItemsInserted ItemsInserted OrdersDeleted ItemsDeleted ItemsDeleted',
	'tables may share streams, cascades are seen');

-- ---- partitions ----

CREATE TABLE shop.parted (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
CREATE TABLE shop.parted_1 PARTITION OF shop.parted FOR VALUES FROM (0) TO (10);
SELECT lives_ok($$ SELECT evstore.track_table('shop.parted') $$, 'a partitioned table');
CREATE TABLE shop.parted_2 PARTITION OF shop.parted FOR VALUES FROM (10) TO (20);
INSERT INTO shop.parted VALUES (1), (11);
INSERT INTO shop.parted_2 VALUES (12);
SELECT is(pg_temp.types('parted-1') || ' ' || pg_temp.types('parted-11') || ' ' || pg_temp.types('parted-12'),
	'PartedInserted PartedInserted PartedInserted', 'all partitions, later ones too');
SELECT is((pg_temp.newest('parted-12')).source, 'table:shop.parted', 'the source is the table they belong to');
SELECT throws_ok($$ SELECT evstore.track_table('shop.parted_1') $$, 'VS008', NULL, 'a partition of it is tracked already');

-- ---- TRUNCATE ----

SELECT throws_ok('TRUNCATE shop.texts', '0A000', 'table "texts" is tracked and cannot be truncated', 'TRUNCATE is refused');
CREATE TABLE shop.parent (id int PRIMARY KEY);
ALTER TABLE shop.texts ADD parent int REFERENCES shop.parent;
SELECT throws_ok('TRUNCATE shop.parent CASCADE', '0A000', NULL, 'by way of a foreign key too');

-- ---- definitions that are wrong ----

CREATE TABLE shop.heap (n int, m int NOT NULL);
CREATE VIEW shop.seen AS SELECT 1 AS id;
CREATE SCHEMA other;
CREATE TABLE other.order_lines (id int PRIMARY KEY);
SELECT throws_ok(format('SELECT evstore.track_table(%s)', d.arguments), 'VS010', d.message, d.message)
FROM (VALUES
	($$ 'shop.heap' $$, 'table shop.heap has no primary key'),
	($$ 'shop.heap', NULL, '{x}' $$, 'table shop.heap has no column "x"'),
	($$ 'shop.heap', NULL, '{n}' $$, 'key column "n" of table shop.heap may be null'),
	($$ 'shop.heap', NULL, '{m,m}' $$, 'argument "key_columns" must name one or more different columns'),
	($$ 'shop.heap', 'a-b', '{m}' $$, 'argument "category" must have 1 to 400 bytes and neither "-" nor control characters'),
	($$ 'shop.seen' $$, 'shop.seen is not a table that can be tracked'),
	($$ 'evstore.stream' $$, 'evstore.stream is not a table that can be tracked'),
	($$ NULL $$, 'null is not a table that can be tracked'),
	($$ 'other.order_lines' $$, 'category "order_lines" is that of tracked table shop.order_lines')
) AS d (arguments, message);
SELECT is(pg_temp.detail_of($$ SELECT evstore.track_table('shop.heap') $$),
	'{"table": "shop.heap", "path": "key_columns"}', 'DETAIL has the facts');
SELECT throws_ok($$ SELECT evstore.track_table('shop.texts') $$, 'VS008', 'table shop.texts is tracked already', 'twice');
SELECT lives_ok($$ SELECT evstore.track_table('shop.heap', NULL, '{m}') $$, 'a key that is not the primary key');
ALTER TABLE shop.heap RENAME m TO k;
SELECT throws_ok('INSERT INTO shop.heap VALUES (1, 2)', 'VS010',
	'key column "m" of the tracked table is gone or null', 'the key column is renamed');

-- ---- rights ----

CREATE ROLE evstore_test_clerk;
GRANT USAGE ON SCHEMA shop TO evstore_test_clerk;
GRANT INSERT ON shop.orders TO evstore_test_clerk;
SELECT is(pg_temp.outcome('INSERT INTO shop.orders VALUES (2)', 'evstore_test_clerk'), '42501',
	'who may not append may not change a tracked table');
SELECT evstore.untrack_table('shop.orders') \g /dev/null
SELECT is(pg_temp.outcome('INSERT INTO shop.orders VALUES (2)', 'evstore_test_clerk'), 'ok',
	'but any other');

-- ---- and no more ----

SELECT lives_ok($$ SELECT evstore.untrack_table('shop.order_lines') $$, 'untrack');
INSERT INTO shop.order_lines VALUES (300, 1);
TRUNCATE shop.order_lines;
SELECT is(evstore.stream_version('order_lines-300'), -1::bigint, 'no more events');
SELECT throws_ok($$ SELECT evstore.untrack_table('shop.order_lines') $$, 'VS009', 'table shop.order_lines is not tracked', 'untrack twice');
SELECT lives_ok($$ SELECT evstore.track_table('shop.order_lines') $$, 'track it again');

SELECT * FROM finish();
ROLLBACK;
