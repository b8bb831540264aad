-- Reading: streams, the log, categories, correlations, single events.
-- What filters do is in filter.sql, what lifecycles hide in lifecycle.sql.
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_read;
CREATE DATABASE evstore_read;
\c evstore_read
CREATE EXTENSION evstore;
LOAD 'evstore';
SET evstore.partition_size = 10;

-- ---- an empty store ----

SELECT evstore.safe_position(), evstore.stream_version('none'), evstore.stream_exists('none');
SELECT * FROM evstore.read_stream('none');
SELECT * FROM evstore.read_stream('none', NULL, NULL, 'backward');
SELECT * FROM evstore.read_all();
SELECT * FROM evstore.read_all(NULL, NULL, NULL, 'backward');
SELECT * FROM evstore.read_category('none');
SELECT * FROM evstore.read_correlation('none');
SELECT * FROM evstore.get_event('00000000-0000-4000-8000-000000000001');
SELECT count(*) AS events FROM evstore.events;

-- ---- a stream ----

-- Versions 0 to 24, each between two events of other streams: eight partitions.
SELECT count(*) FROM (
	SELECT evstore.append_one(s.name, 'T' || n % 3, to_jsonb(n))
	FROM generate_series(0, 24) AS n,
		unnest('{before-1,line-1,after-1}'::text[]) WITH ORDINALITY AS s (name, o) ORDER BY n, o) AS a;
SELECT count(*) >= 7 AS many_partitions FROM evstore.partitions;

CREATE FUNCTION versions(VARIADIC args text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format('SELECT string_agg(version::text, '' '') FROM evstore.read_stream(%s)', array_to_string(args, ', '))
	INTO result;
	RETURN coalesce(result, 'nothing');
END $$;

-- from_version is inclusive, in both directions; no limit is everything.
SELECT versions('''line-1''');
SELECT versions('''line-1''', '0', 'NULL', '''forward''') = versions('''line-1''', 'NULL', 'NULL', 'NULL') AS same_as_default;
SELECT versions('''line-1''', '20');
SELECT versions('''line-1''', '24');
SELECT versions('''line-1''', '25');
SELECT versions('''line-1''', '9223372036854775807');
SELECT versions('''line-1''', '8', '5');
SELECT versions('''line-1''', 'NULL', 'NULL', '''backward''');
SELECT versions('''line-1''', '12', 'NULL', '''backward''');
SELECT versions('''line-1''', '12', '4', '''backward''');
SELECT versions('''line-1''', '0', 'NULL', '''backward''');
SELECT versions('''line-1''', '9223372036854775807', '2', '''backward''');
SELECT versions('''line-1''', 'NULL', '1', '''backward''') AS newest;
-- a limit of 0 is nothing, one that is larger than the stream all of it
SELECT versions('''line-1''', '0', '0'), versions('''line-1''', 'NULL', '0', '''backward''');
SELECT versions('''line-1''', '22', '1000'), versions('''line-1''', '22', '9223372036854775807');
SELECT versions('''none''', '3'), versions('''none''', 'NULL', '5', '''backward''');
-- named arguments
SELECT version, data FROM evstore.read_stream(stream => 'line-1', max_count => 2, direction => 'backward', from_version => 10);

-- Each page begins where the one before ended, at every page size.
CREATE FUNCTION paged(page bigint, backward boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	e evstore.event;
	next bigint;
	result text := '';
	found boolean;
BEGIN
	LOOP
		found := false;
		FOR e IN SELECT * FROM evstore.read_stream('line-1', next, page, CASE WHEN backward THEN 'backward' ELSE 'forward' END) LOOP
			result := result || ' ' || e.version;
			next := CASE WHEN backward THEN e.version - 1 ELSE e.version + 1 END;
			found := true;
		END LOOP;
		EXIT WHEN NOT found OR next < 0;
	END LOOP;
	RETURN ltrim(result);
END $$;
SELECT bool_and(paged(n, false) = versions('''line-1''')) AS forward,
	bool_and(paged(n, true) = versions('''line-1''', 'NULL', 'NULL', '''backward''')) AS backward
FROM generate_series(1, 26) AS n;

-- Names are compared byte by byte, no prefix, no pattern, no case.
SELECT version FROM evstore.append('line-10', 'Other');
SELECT version FROM evstore.append('LINE-1', 'Other');
SELECT version FROM evstore.append('line_1', 'Other');
SELECT version FROM evstore.append('line-%', 'Other');
SELECT count(*), count(DISTINCT stream) FROM evstore.read_stream('line-1');
SELECT stream, type FROM evstore.read_stream('line-%');
SELECT count(*) FROM evstore.read_stream('line-1 ');

-- ---- the log ----

CREATE FUNCTION positions(VARIADIC args text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format('SELECT string_agg(position::text, '' '') FROM evstore.read_all(%s)', array_to_string(args, ', '))
	INTO result;
	RETURN coalesce(result, 'nothing');
END $$;

SELECT evstore.safe_position();
-- after is exclusive, in both directions
SELECT positions('0', '5'), positions('NULL', '5'), positions('5', '3'), positions('77'), positions('79');
SELECT positions('NULL', '5', 'NULL', '''backward'''), positions('5', 'NULL', 'NULL', '''backward'''),
	positions('1', 'NULL', 'NULL', '''backward'''), positions('0', 'NULL', 'NULL', '''backward''');
SELECT positions('9223372036854775807'), positions('9223372036854775807', '2', 'NULL', '''backward'''),
	positions('1000000'), positions('1000000', '2', 'NULL', '''backward''');
SELECT positions('0', '0'), positions('NULL', '0', 'NULL', '''backward''');
SELECT count(*), min(position), max(position) FROM evstore.read_all(NULL, NULL);
-- without a limit given it is 1,000
SELECT version FROM evstore.append_arrays('bulk-1', array_fill('B'::text, '{1000}'));
SELECT count(*), max(position) FROM evstore.read_all();
SELECT count(*), max(position) FROM evstore.read_all(NULL, NULL);

-- A follower that remembers the last position sees every event once and in order.
CREATE FUNCTION follow(page bigint) RETURNS TABLE (events bigint, in_order boolean, pages bigint) LANGUAGE plpgsql AS $$
DECLARE
	e evstore.event;
	cursor bigint := 0;
	before bigint;
BEGIN
	events := 0;
	pages := 0;
	in_order := true;
	LOOP
		before := cursor;
		FOR e IN SELECT * FROM evstore.read_all(cursor, page) LOOP
			in_order := in_order AND e.position > cursor;
			cursor := e.position;
			events := events + 1;
		END LOOP;
		EXIT WHEN cursor = before;
		pages := pages + 1;
	END LOOP;
	in_order := in_order AND cursor = evstore.safe_position();
	RETURN NEXT;
END $$;
SELECT page, f.* FROM unnest('{7,10,100,1079,5000}'::bigint[]) AS page, follow(page) AS f;

-- Holes are stepped over.
BEGIN;
SELECT version FROM evstore.append_arrays('hole-1', array_fill('H'::text, '{35}'));
ROLLBACK;
SELECT position, stream FROM evstore.read_all(1079);
SELECT version, position FROM evstore.append('hole-2', 'H');
SELECT position, stream FROM evstore.read_all(1079);
SELECT position, stream FROM evstore.read_all(NULL, 2, NULL, 'backward');

-- ---- categories ----

-- The category is the name up to the first '-', all of the name if it has none.
SELECT s, a.version FROM unnest('{user-1,user-1-2-3,user,user-,users-1,-,-x,USER-1,user_1,benutzer-ü}'::text[]) AS s, evstore.append(s, 'C') AS a;
SELECT stream, category FROM evstore.streams WHERE first_position > (SELECT position FROM evstore.read_stream('hole-2')) ORDER BY first_position;
SELECT stream FROM evstore.read_category('user');
SELECT stream FROM evstore.read_category('users');
SELECT stream FROM evstore.read_category('');
SELECT stream FROM evstore.read_category('use');
SELECT stream FROM evstore.read_category('user_1');
SELECT stream FROM evstore.read_category('benutzer');
SELECT count(*) FROM evstore.read_category('none');
SELECT count(*), bool_and(stream = 'line-1' OR stream IN ('line-10', 'line-%')) FROM evstore.read_category('line');
-- after is exclusive, the limit as elsewhere
SELECT position, version FROM evstore.read_category('before', 4, 3);
SELECT count(*) FROM evstore.read_category('before', 0, 0);
SELECT count(*) FROM evstore.read_category('bulk');
SELECT count(*) FROM evstore.read_category('bulk', 0, NULL);
SELECT evstore.read_category('user-1');
\echo :SQLSTATE
-- The stored hash is FNV-1a, 32 bits, as published: 'a' gives e40c292c, 'foobar' bf9cf968.
SELECT s, a.version FROM unnest('{a-1,foobar-1}'::text[]) AS s, evstore.append(s, 'C') AS a;
SELECT s.name, lpad(to_hex(e.category_hash), 8, '0') AS hash
FROM evstore.event_log AS e JOIN evstore.stream AS s ON s.id = e.stream_id WHERE s.name IN ('a-1', 'foobar-1', '-x') ORDER BY 1;
-- Two categories with the same hash, a1bc9a4f, do not mix.
SELECT s, a.version FROM unnest('{glbvs-1,yacxa-1,glbvs,yacxa}'::text[]) AS s, evstore.append(s, 'C') AS a;
SELECT count(DISTINCT category_hash) AS hashes
FROM evstore.event_log AS e JOIN evstore.stream AS s ON s.id = e.stream_id WHERE s.name ~ '^(glbvs|yacxa)';
SELECT stream FROM evstore.read_category('glbvs');
SELECT stream FROM evstore.read_category('yacxa');
SELECT stream FROM evstore.read_all(NULL, NULL, '{"categories": ["yacxa"]}');
SELECT stream FROM evstore.read_all(NULL, NULL, '{"categories": ["yacxa", "foobar"]}');

-- ---- correlations and single events ----

SELECT version FROM evstore.append('order-1', 'Placed', correlation_id => 'flow-1', event_id => '00000000-0000-4000-8000-000000000001');
SELECT version FROM evstore.append_arrays('bulk-2', array_fill('B'::text, '{25}'));
SELECT version FROM evstore.append('payment-1', 'Paid', correlation_id => 'flow-1', causation_id => '00000000-0000-4000-8000-000000000001');
SELECT version FROM evstore.append('order-2', 'Placed', correlation_id => 'flow-10');
SELECT version FROM evstore.append('order-1', 'Shipped', correlation_id => 'flow-1');
SELECT stream, version, type, causation_id FROM evstore.read_correlation('flow-1');
SELECT count(*) FROM evstore.read_correlation('flow');
SELECT count(*) FROM evstore.read_correlation('');
SELECT stream, version, type, correlation_id FROM evstore.get_event('00000000-0000-4000-8000-000000000001');
SELECT count(*) FROM evstore.get_event('00000000-0000-4000-8000-000000000002');
SELECT count(*) AS events, count(*) FILTER (WHERE g.position = r.position AND g.stream = r.stream) AS found
FROM evstore.read_all(NULL, NULL) AS r, evstore.get_event(r.event_id) AS g;

-- ---- everything that reads agrees ----

SELECT count(*) AS differences FROM (
	(SELECT * FROM evstore.events EXCEPT ALL SELECT * FROM evstore.read_all(NULL, NULL))
	UNION ALL (SELECT * FROM evstore.read_all(NULL, NULL) EXCEPT ALL SELECT * FROM evstore.events)
	UNION ALL (SELECT e.* FROM evstore.streams AS s, evstore.read_stream(s.stream) AS e EXCEPT ALL SELECT * FROM evstore.events)
	UNION ALL (SELECT * FROM evstore.events EXCEPT ALL SELECT e.* FROM evstore.streams AS s, evstore.read_stream(s.stream) AS e)
	UNION ALL (SELECT * FROM evstore.events EXCEPT ALL SELECT e.* FROM (SELECT DISTINCT category FROM evstore.streams) AS s, evstore.read_category(s.category, NULL, NULL) AS e)
	UNION ALL (SELECT * FROM evstore.read_all(NULL, NULL) EXCEPT ALL SELECT * FROM evstore.read_all(NULL, NULL, NULL, 'backward'))) AS d;
SELECT count(*) AS wrong_versions FROM evstore.streams WHERE version <> evstore.stream_version(stream);

-- ---- a stream that does not fit into work_mem ----

SET evstore.partition_size = 6000;
SET work_mem = '64kB';
SELECT version FROM (SELECT array_agg(to_jsonb(md5(n::text)) ORDER BY n) AS data FROM generate_series(0, 19999) AS n) AS d,
	evstore.append_arrays('large-1', array_fill('L'::text, '{20000}'), data);
SELECT count(*), min(version), max(version), bool_and(data = to_jsonb(md5(version::text))) FROM evstore.read_stream('large-1');
SELECT count(*), bool_and(version = 20000 - row)
FROM (SELECT version, row_number() OVER () AS row FROM evstore.read_stream('large-1', NULL, NULL, 'backward')) AS r;
SELECT count(*) FROM evstore.read_category('large', NULL, NULL);
SELECT min(version), count(*) FROM evstore.read_stream('large-1', 19990);
-- through a cursor, row by row, while it is appended to: the read is over
BEGIN;
DECLARE c CURSOR FOR SELECT version FROM evstore.read_stream('large-1', 19997);
FETCH 2 FROM c;
SELECT version FROM evstore.append('large-1', 'L');
FETCH ALL FROM c;
CLOSE c;
COMMIT;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT version FROM evstore.read_stream('large-1');
MOVE 20000 FROM c;
FETCH 1 FROM c;
FETCH BACKWARD 2 FROM c;
COMMIT;
-- a LIMIT outside is right too, only dearer
SELECT version FROM evstore.read_stream('large-1') LIMIT 2;
RESET work_mem;

-- ---- large values ----

SELECT version FROM evstore.append_arrays('blob-1', '{A,B,C}', ARRAY[
	to_jsonb(repeat('x', 100000)), '{}', (SELECT jsonb_object_agg('k' || n, md5(n::text)) FROM generate_series(1, 5000) AS n)]);
SELECT version, length(data::text), data->>'k17' = md5('17') AS k17 FROM evstore.read_stream('blob-1');
SELECT version, length(data::text) FROM evstore.read_all(NULL, 1, NULL, 'backward');
BEGIN;
DECLARE c CURSOR FOR SELECT version, length(data::text) FROM evstore.read_stream('blob-1');
FETCH 1 FROM c;
SELECT evstore.truncate_stream('blob-1', 3);
FETCH ALL FROM c;
ROLLBACK;

SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;
\c :main
DROP DATABASE evstore_read WITH (FORCE);
