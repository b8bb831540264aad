-- Filters of read_all: each member alone, all of them together, and what is
-- not a filter.
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_filter;
CREATE DATABASE evstore_filter;
\c evstore_filter
CREATE EXTENSION evstore;
LOAD 'evstore';
SET evstore.partition_size = 10;

-- The data's "n" is the event's number, which is its position too.
CREATE FUNCTION put(n int, stream text, type text, more jsonb DEFAULT '{}', tags text[] DEFAULT NULL, correlation text DEFAULT NULL)
RETURNS bigint LANGUAGE sql AS $$
	SELECT evstore.append_one(stream, type, jsonb_build_object('n', n) || more, tags => tags, correlation_id => correlation)
$$;
SELECT count(*) FROM (VALUES
	(1, 'order-1', 'Placed', '{"total": 50, "items": [{"sku": "a", "qty": 1}]}', '{eu,new}', 'c1'),
	(2, 'order-2', 'Placed', '{"total": 150, "items": [{"sku": "b", "qty": 2}, {"sku": "x", "qty": 9}]}', '{us}', 'c2'),
	(3, 'payment-1', 'Paid', '{"total": 50, "ok": true}', '{eu}', 'c1'),
	(4, 'payment-2', 'Paid', '{"total": 150, "ok": false}', '{us,vip}', 'c2'),
	(5, 'order-1', 'Shipped', '{"note": null}', '{}', 'c1'),
	(6, 'order', 'Placed', '{"total": "many"}', NULL, NULL),
	(7, 'orders-1', 'Placed', '{"total": 1000}', '{eu,vip,new}', 'c3'),
	(8, 'ORDER-1', 'placed', '{"total": 100.5}', '{EU}', 'C1'),
	(9, 'order-10', 'Cancelled', '{"items": []}', '{eu}', NULL),
	(10, 'order-2', 'Cancelled', '{"items": {}, "ok": "false"}', '{new,eu}', 'c2'),
	(11, 'ümlaut-1', 'Größe', '{"größe": "ü"}', '{ä}', 'ö'),
	(12, 'order-1', 'Paid', '{"items": [null, false], "ok": 0}', '{"with space","with\"quote"}', 'c 1')
) AS e (n, stream, type, more, tags, correlation),
	LATERAL (SELECT put(n, stream, type, more::jsonb, tags::text[], correlation)) AS p;
-- enough of something else that the matches are far apart
SELECT version FROM evstore.append_arrays('noise-1', array_fill('Noise'::text, '{25}'));
SELECT put(13, 'order-1', 'Placed', '{"total": 50, "items": [{"sku": "x", "qty": 1}]}', '{eu,new}', 'c1');

-- The numbers of the events that match.
CREATE FUNCTION f(filter jsonb, direction text DEFAULT 'forward') RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(coalesce(data->>'n', '.'), ' '), 'nothing') FROM evstore.read_all(NULL, NULL, filter, direction)
$$;

-- ---- nothing to filter by ----

SELECT count(*) FROM evstore.read_all(NULL, NULL, NULL);
SELECT count(*) FROM evstore.read_all(NULL, NULL, '{}');

-- ---- each member alone ----

-- categories: any of them; the whole category, case counts
SELECT f('{"categories": ["order"]}');
SELECT f('{"categories": ["payment", "orders"]}');
SELECT f('{"categories": ["ORDER"]}'), f('{"categories": ["ümlaut"]}'), f('{"categories": ["ord"]}'), f('{"categories": ["order-1"]}');
SELECT f('{"categories": ["order"]}', 'backward');
SELECT f('{"categories": ["order", "order"]}') = f('{"categories": ["order"]}') AS twice_is_once;
-- streams: any of them
SELECT f('{"streams": ["order-1"]}');
SELECT f('{"streams": ["order-2", "payment-1", "none"]}');
SELECT f('{"streams": ["order"]}'), f('{"streams": ["none"]}');
-- stream_prefix: by bytes; the empty one is any
SELECT f('{"stream_prefix": "order-1"}');
SELECT f('{"stream_prefix": "order"}');
SELECT f('{"stream_prefix": "ü"}'), f('{"stream_prefix": "order-1000000000000000"}'), f('{"stream_prefix": "%"}');
SELECT count(*) FROM evstore.read_all(NULL, NULL, '{"stream_prefix": ""}');
-- types: any of them
SELECT f('{"types": ["Placed"]}');
SELECT f('{"types": ["Shipped", "Cancelled", "Größe"]}');
SELECT f('{"types": ["place"]}');
-- tags: all of them, in whatever order
SELECT f('{"tags": ["eu"]}');
SELECT f('{"tags": ["eu", "new"]}'), f('{"tags": ["new", "eu"]}');
SELECT f('{"tags": ["eu", "new", "vip"]}'), f('{"tags": ["eu", "us"]}'), f('{"tags": ["ä"]}');
SELECT f('{"tags": ["with space"]}'), f('{"tags": ["with\"quote", "with space"]}');
SELECT f('{"tags": ["eu", "eu"]}') = f('{"tags": ["eu"]}') AS twice_is_once;
-- correlation_id: exactly this one
SELECT f('{"correlation_id": "c1"}'), f('{"correlation_id": "C1"}'), f('{"correlation_id": "c"}'), f('{"correlation_id": ""}'), f('{"correlation_id": "ö"}');

-- ---- an empty list matches nothing, of tags everything: no tag is asked for ----

SELECT f('{"categories": []}'), f('{"streams": []}'), f('{"types": []}');
SELECT count(*) FROM evstore.read_all(NULL, NULL, '{"tags": []}');

-- ---- jsonpath ----

-- A predicate matches where it is true.
SELECT f('{"jsonpath": "$.total > 100"}');
SELECT f('{"jsonpath": "$.total == 50 && $.ok == true"}');
SELECT f('{"jsonpath": "exists($.note)"}');
SELECT f('{"jsonpath": "$.größe == \"ü\""}');
-- A path matches where its first item is neither false nor null.
SELECT f('{"jsonpath": "$.items[*] ? (@.sku == \"x\")"}');
SELECT f('{"jsonpath": "$.items"}');
SELECT f('{"jsonpath": "$.items[*]"}');
SELECT f('{"jsonpath": "$.ok"}');
SELECT f('{"jsonpath": "$.note"}');
SELECT f('{"jsonpath": "$.none"}');
SELECT f('{"jsonpath": "$ ? (@.total > 100 && @.n < 7)"}');
SELECT f('{"jsonpath": "$.items.size() > 1"}');
-- One that fails on some data does not match there, and breaks nothing.
SELECT f('{"jsonpath": "strict $.total > 100"}');
SELECT f('{"jsonpath": "strict $.items[*].qty > 1"}');
SELECT f('{"jsonpath": "$.total.double() > 100"}');
SELECT f('{"jsonpath": "1 / $.n > 0"}') = f('{"categories": ["order", "orders", "ORDER", "payment", "ümlaut"]}') AS all_but_noise;
SELECT f('{"jsonpath": "1 / ($.n - 3) < 0"}');
-- Nor does one that PostgreSQL throws for even when told to be silent: a date or
-- time without a zone, which is taken to be of the session's; a wrong template.
SELECT evstore.append_one('dated-1', 'D', jsonb_build_object('at', at))
FROM unnest('{2023-12-31,2024-01-01,2023-12-31 20:00:00,2023-12-31 20:00:00+00,20:00:00,never}'::text[]) AS at;
CREATE FUNCTION dated(path text) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(data->>'at', ', '), 'nothing')
	FROM evstore.read_all(NULL, NULL, jsonb_build_object('categories', '{dated}'::text[], 'jsonpath', path))
$$;
SET TimeZone = 'UTC';
SELECT dated('$.at.datetime() < "2024-01-01 00:00:00+00".datetime()');
SELECT dated('$.at.datetime() < "20:30:00+00".datetime()');
SET TimeZone = 'America/Los_Angeles';
SELECT dated('$.at.datetime() < "2024-01-01 00:00:00+00".datetime()');
RESET TimeZone;
SELECT dated('$.at.datetime("wrong!") < "2024-01-01".datetime()');
SELECT dated('$.at == "never" || $.at.datetime("wrong!") < "2024-01-01".datetime()');
-- Data that is no object.
SELECT evstore.append_one('scalar-1', 'S', v::jsonb) FROM unnest('{5,"\"text\"",true,false,"null","[1, 2]","[]"}'::text[]) AS v;
SELECT version, data FROM evstore.read_all(NULL, NULL, '{"categories": ["scalar"], "jsonpath": "$"}');
SELECT version, data FROM evstore.read_all(NULL, NULL, '{"categories": ["scalar"], "jsonpath": "$ == 5"}');
SELECT version, data FROM evstore.read_all(NULL, NULL, '{"categories": ["scalar"], "jsonpath": "$[*] > 1"}');

-- ---- together: all of the members ----

SELECT f('{"categories": ["order"], "types": ["Placed", "Paid"]}');
SELECT f('{"categories": ["order", "payment"], "tags": ["eu"]}');
SELECT f('{"categories": ["order"], "streams": ["payment-1", "order-2"]}');
SELECT f('{"categories": ["order"], "stream_prefix": "payment"}');
SELECT f('{"stream_prefix": "order-", "types": ["Placed"], "jsonpath": "$.total < 100"}');
SELECT f('{"correlation_id": "c1", "types": ["Paid", "Placed"]}');
SELECT f('{"categories": ["order"], "stream_prefix": "order-1", "streams": ["order-1", "order-2"], "types": ["Placed", "Shipped"],
	"tags": ["eu"], "correlation_id": "c1", "jsonpath": "$.items[*] ? (@.sku == \"x\")"}');
SELECT f('{"categories": ["order"], "types": []}');

-- ---- with after, limit and direction ----

SELECT position, data->'n' AS n FROM evstore.read_all(2, 2, '{"categories": ["order"], "types": ["Placed"]}');
SELECT position, data->'n' AS n FROM evstore.read_all(13, 2, '{"tags": ["eu"]}', 'backward');
SELECT count(*) FROM evstore.read_all(0, 0, '{"tags": ["eu"]}');
-- the limit counts matches, not what is read
SELECT count(*), max(position) FROM evstore.read_all(11, 2, '{"categories": ["order"]}');

-- ---- several categories, compared with plain SQL ----

-- Twenty categories in turn and two with the same hash, over many partitions;
-- some of the streams hide events.
SELECT count(*) FROM (SELECT evstore.append_one(
		CASE n % 11 WHEN 3 THEN 'glbvs' WHEN 8 THEN 'yacxa' ELSE 'k' || n % 20 END || '-' || n % 3,
		'T' || n % 4, correlation_id => 'flow-' || n % 5)
	FROM generate_series(1, 300) AS n) AS a;
SELECT evstore.truncate_stream('k7-1', 3);
SELECT evstore.delete_stream('k14-2');
SELECT count(*) >= 30 AS many_partitions FROM evstore.partitions;
CREATE TABLE wanted (categories text[], types text[], correlation text);
INSERT INTO wanted VALUES
	('{k7,k14}', NULL, NULL), ('{k1,k2,k3,k4,k5}', NULL, NULL), ('{k6,none,k6}', NULL, NULL),
	('{glbvs,yacxa}', NULL, NULL), ('{yacxa,none}', NULL, NULL), ('{k7,glbvs}', NULL, NULL),
	('{none,nobody}', NULL, NULL), ('{}', NULL, NULL), ('{noise,order}', NULL, NULL),
	('{k7,glbvs,k14}', '{T1,T3}', NULL), ('{k7,glbvs,k14}', '{T1,T3}', 'flow-3'),
	('{glbvs}', NULL, 'flow-3'), ('{glbvs,yacxa}', '{T3}', 'flow-3'), (NULL, '{T3,T2}', 'flow-2'), (NULL, NULL, 'flow');
-- as many as are merged, and one more
INSERT INTO wanted SELECT array_agg('k' || k), NULL, NULL FROM generate_series(4, 19) AS k;
INSERT INTO wanted SELECT array_agg('k' || k), NULL, NULL FROM generate_series(3, 19) AS k;
CREATE FUNCTION by_read(w wanted, after bigint, max_count bigint, direction text) RETURNS bigint[] LANGUAGE sql AS $$
	SELECT array_agg(position ORDER BY n) FROM evstore.read_all(after, max_count, jsonb_strip_nulls(jsonb_build_object(
		'categories', w.categories, 'types', w.types, 'correlation_id', w.correlation)), direction)
	WITH ORDINALITY AS e (position, s, v, i, t, sv, d, m, co, ca, so, o, r, ta, n)
$$;
CREATE FUNCTION by_query(w wanted, after bigint, max_count bigint, direction text) RETURNS bigint[] LANGUAGE sql AS $$
	SELECT array_agg(position ORDER BY nr) FROM (
		SELECT position, row_number() OVER (ORDER BY CASE direction WHEN 'forward' THEN position ELSE -position END) AS nr
		FROM evstore.events
		WHERE (w.categories IS NULL OR split_part(stream, '-', 1) = ANY (w.categories))
			AND (w.types IS NULL OR type = ANY (w.types))
			AND (w.correlation IS NULL OR correlation_id = w.correlation)
			AND (after IS NULL OR CASE direction WHEN 'forward' THEN position > after ELSE position < after END)) AS e
	WHERE max_count IS NULL OR nr <= max_count
$$;
SELECT direction, count(*) AS reads, sum(cardinality(by_query)) > 5000 AS many_events,
	count(*) FILTER (WHERE by_read IS DISTINCT FROM by_query) AS differences
FROM unnest('{forward,backward}'::text[]) AS direction, wanted AS w,
	unnest('{NULL,0,1,39,50,100,101,200,1000,9223372036854775807}'::bigint[]) AS after,
	unnest('{NULL,0,1,2,9,1000}'::bigint[]) AS max_count,
	by_read(w, after, max_count, direction), by_query(w, after, max_count, direction)
GROUP BY direction ORDER BY direction DESC;
SELECT cardinality(categories) AS categories, types, correlation, cardinality(by_read(w, NULL, NULL, 'forward')) AS events
FROM wanted AS w ORDER BY w.categories COLLATE "C", types, correlation;

-- ---- what is not a filter ----

SELECT evstore.read_all(NULL, NULL, '{"category": "order"}');
\echo :SQLSTATE
SELECT evstore.read_all(NULL, NULL, '{"types": ["Placed"], "Types": ["Placed"]}');
\echo :SQLSTATE
SELECT evstore.read_all(NULL, NULL, '{"categories": "order"}');
\echo :SQLSTATE
SELECT evstore.read_all(NULL, NULL, '{"types": ["Placed", 7]}');
\echo :SQLSTATE
SELECT evstore.read_all(NULL, NULL, '{"streams": {"0": "order-1"}}');
\echo :SQLSTATE
SELECT evstore.read_all(NULL, NULL, '{"tags": [["eu"]]}');
\echo :SQLSTATE
SELECT evstore.read_all(NULL, NULL, '{"tags": [null]}');
\echo :SQLSTATE
SELECT evstore.read_all(NULL, NULL, '{"tags": null}');
\echo :SQLSTATE
SELECT evstore.read_all(NULL, NULL, '{"stream_prefix": ["order"]}');
\echo :SQLSTATE
SELECT evstore.read_all(NULL, NULL, '{"correlation_id": 7}');
\echo :SQLSTATE
SELECT evstore.read_all(NULL, NULL, '{"jsonpath": true}');
\echo :SQLSTATE
SELECT evstore.read_all(NULL, NULL, '[]');
\echo :SQLSTATE
SELECT evstore.read_all(NULL, NULL, '"order"');
\echo :SQLSTATE
SELECT evstore.read_all(NULL, NULL, 'null');
\echo :SQLSTATE
-- A path that cannot be parsed; the reason, not shown here, is PostgreSQL's.
CREATE FUNCTION path_error(path text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	PERFORM evstore.read_all(NULL, 0, jsonb_build_object('jsonpath', path));
	RETURN 'none';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN format('%s %s %s', SQLSTATE, SQLERRM, CASE WHEN detail::jsonb->>'reason' <> '' THEN detail::jsonb - 'reason' END);
END $$;
SELECT path, path_error(path) FROM unnest(ARRAY['$.total >', '', '$[', 'total', '$.a like_regex "("']) AS path;
-- A variable has no value: it is refused before it can end a read.
SELECT evstore.read_all(NULL, NULL, '{"jsonpath": "$.total > $limit"}');
\echo :SQLSTATE
SELECT path, path_error(path) FROM unnest(ARRAY['$"x"', '$.items[*] ? (@.sku == $sku)', '$.a == "$\"x\""', '$."$x" == 1']) AS path;

\c :main
DROP DATABASE evstore_filter WITH (FORCE);
