-- Input that is refused, and unusual input that is not.
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_input;
CREATE DATABASE evstore_input;
\c evstore_input
CREATE EXTENSION evstore;
LOAD 'evstore';
SET evstore.partition_size = 10;
SET timezone = 'UTC';

-- What is refused leaves the session usable, and nothing behind: no event, no
-- stream, no position.  Each row is one attempt, with the SQLSTATE, the message
-- and the DETAIL that it gave, or what it returned.
SELECT version FROM evstore.append_arrays('s', '{A,B,C}');
CREATE FUNCTION attempt(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
	detail text;
	state text;
	message text;
	events bigint := (SELECT count(*) FROM evstore.event_log);
	streams bigint := (SELECT count(*) FROM evstore.stream);
	last bigint := evstore._last_position();
BEGIN
	BEGIN
		EXECUTE 'SELECT ' || call INTO result;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
		state := SQLSTATE;
		message := SQLERRM;
	END;
	IF state IS NULL THEN
		RETURN 'accepted: ' || coalesce(result, 'null');
	END IF;
	IF (SELECT count(*) FROM evstore.event_log) <> events OR (SELECT count(*) FROM evstore.stream) <> streams
		OR evstore._last_position() <> last THEN
		RETURN 'left something behind: ' || state;
	END IF;
	-- the server's own messages differ between versions
	RETURN state || CASE WHEN state LIKE 'VS%' OR message LIKE 'argument%' THEN concat(': ', message, ' ', detail) ELSE '' END;
END $$;
\pset format unaligned
\pset tuples_only on

-- ---- names of streams ----

SELECT call, attempt(call) FROM unnest(ARRAY[
	$$evstore.append(NULL, 'T')$$,
	$$evstore.append('', 'T')$$,
	$$evstore.append(repeat('x', 513), 'T')$$,
	$$evstore.append(repeat('ü', 257), 'T')$$,
	$$evstore.append(E'a\nb', 'T')$$,
	$$evstore.append(E'\x01', 'T')$$,
	$$evstore.append(E'tab\t', 'T')$$,
	$$evstore.append(E'del\x7f', 'T')$$,
	$$evstore.append_one(NULL, 'T')$$,
	$$evstore.append_events('', '[]')$$,
	$$evstore.append_arrays(NULL, '{T}')$$,
	$$evstore.try_append(NULL, '[]')$$,
	$$evstore.append_streams('[{"stream": "", "events": []}]')$$,
	$$evstore.append_streams('[{"stream": "a\tb", "events": []}]')$$,
	$$evstore.read_stream(NULL)$$,
	$$evstore.read_stream('')$$,
	$$evstore.read_stream(repeat('x', 513))$$,
	$$evstore.stream_version(NULL)$$,
	$$evstore.stream_exists('')$$,
	$$evstore.delete_stream(NULL)$$,
	$$evstore.tombstone_stream('')$$,
	$$evstore.truncate_stream(NULL, 1)$$,
	$$evstore.set_stream(NULL)$$]) AS call;

-- ---- events ----

SELECT call, attempt(call) FROM unnest(ARRAY[
	$$evstore.append('s', NULL)$$,
	$$evstore.append('s', '')$$,
	$$evstore.append('s', repeat('t', 513))$$,
	$$evstore.append('s', E'a\nb')$$,
	$$evstore.append('s', 'T', schema_version => 0)$$,
	$$evstore.append('s', 'T', schema_version => -1)$$,
	$$evstore.append('s', 'T', metadata => '[]')$$,
	$$evstore.append('s', 'T', metadata => '5')$$,
	$$evstore.append('s', 'T', metadata => 'null')$$,
	$$evstore.append('s', 'T', correlation_id => '')$$,
	$$evstore.append('s', 'T', correlation_id => repeat('c', 513))$$,
	$$evstore.append('s', 'T', correlation_id => E'\x01')$$,
	$$evstore.append('s', 'T', source => repeat('s', 2049))$$,
	$$evstore.append('s', 'T', occurred_at => 'infinity')$$,
	$$evstore.append('s', 'T', occurred_at => '-infinity')$$,
	$$evstore.append('s', 'T', tags => '{a,NULL}')$$,
	$$evstore.append('s', 'T', tags => '{a,""}')$$,
	$$evstore.append('s', 'T', tags => '{{a,b},{c,d}}')$$,
	$$evstore.append('s', 'T', tags => ARRAY[repeat('t', 513)])$$,
	$$evstore.append('s', 'T', tags => array_fill('t'::text, '{101}'))$$,
	$$evstore.append('s', 'T', expected_version => -3)$$,
	$$evstore.append('s', 'T', expected_version => -5)$$,
	$$evstore.append('s', 'T', event_id => 'x')$$,
	$$evstore.append('s', 'T', '{"a": ')$$,
	$$evstore.append('s', 'T', '{"a": "\u0000"}')$$,
	$$evstore.append('s', 'T', '{"a\u0000": 1}')$$,
	$$evstore.append('s', 'T', '"\ud800"')$$]) AS call;

-- ---- arrays ----

SELECT call, attempt(call) FROM unnest(ARRAY[
	$$evstore.append_arrays('s', NULL)$$,
	$$evstore.append_arrays('s', '{T,NULL}')$$,
	$$evstore.append_arrays('s', '{T,T,""}')$$,
	$$evstore.append_arrays('s', '{{A,B},{C,D}}')$$,
	$$evstore.append_arrays('s', '{A,B}', ARRAY['{}']::jsonb[])$$,
	$$evstore.append_arrays('s', '{A,B}', '{}')$$,
	$$evstore.append_arrays('s', '{}', ARRAY['{}']::jsonb[])$$,
	$$evstore.append_arrays('s', '{A,B}', NULL, ARRAY['{}', '{}', '{}']::jsonb[])$$,
	$$evstore.append_arrays('s', '{A,B}', NULL, NULL, ARRAY[NULL]::uuid[])$$,
	$$evstore.append_arrays('s', '{A,B}', ARRAY[['{}'], ['{}']]::jsonb[])$$,
	$$evstore.append_arrays('s', '{A,B}', NULL, ARRAY['{}', '7']::jsonb[])$$,
	$$evstore.append_arrays('s', '{A,B}', NULL, NULL, ARRAY['00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000001']::uuid[])$$]) AS call;

-- ---- JSON ----

SELECT call, attempt(call) FROM unnest(ARRAY[
	$$evstore.append_events('s', NULL)$$,
	$$evstore.append_events('s', '{}')$$,
	$$evstore.append_events('s', '{"type": "T"}')$$,
	$$evstore.append_events('s', '5')$$,
	$$evstore.append_events('s', '"T"')$$,
	$$evstore.append_events('s', 'null')$$,
	$$evstore.append_events('s', '[7]')$$,
	$$evstore.append_events('s', '[null]')$$,
	$$evstore.append_events('s', '["T"]')$$,
	$$evstore.append_events('s', '[{"type": "T"}, [{"type": "T"}]]')$$,
	$$evstore.append_events('s', '[{}]')$$,
	$$evstore.append_events('s', '[{"type": "T"}, {"data": {}}]')$$,
	$$evstore.append_events('s', '[{"type": null}]')$$,
	$$evstore.append_events('s', '[{"type": 7}]')$$,
	$$evstore.append_events('s', '[{"type": ["T"]}]')$$,
	$$evstore.append_events('s', '[{"type": "a\nb"}]')$$,
	$$evstore.append_events('s', '[{"type": "T"}, {"type": "T"}, {"type": "T", "Data": {}}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "": 1}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "stream": "s"}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "expected_version": 2}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "metadata": "x"}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "metadata": [1]}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "event_id": 7}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "event_id": "x"}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "causation_id": "x"}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "causation_id": {}}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "correlation_id": 5}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "schema_version": "1"}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "schema_version": 0}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "schema_version": 1.5}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "schema_version": 2147483648}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "occurred_at": 5}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "occurred_at": "yesterday week"}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "occurred_at": "infinity"}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "source": {}}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "tags": "x"}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "tags": {}}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "tags": ["a", 7]}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "tags": ["a", null]}]')$$,
	$$evstore.append_events('s', '[{"type": "T", "tags": ["a", ["b"]]}]')$$,
	$$evstore.append_streams('[{"stream": "s", "expected_version": 1.5, "events": []}]')$$,
	$$evstore.append_streams('[{"stream": "s", "expected_version": 1e30, "events": []}]')$$,
	$$evstore.append_streams('[{"stream": "s", "expected_version": "2", "events": []}]')$$,
	$$evstore.append_streams('[{"stream": "s", "expected_version": -3, "events": []}]')$$,
	$$evstore.append_streams('[{"stream": "s", "events": [{"type": "T", "x": 1}]}]')$$,
	$$evstore.append_streams('[[]]')$$,
	$$evstore.append_streams('7')$$]) AS call;

-- ---- sizes ----

SET evstore.max_batch = 3;
SET evstore.max_event_size = 1024;
SELECT call, attempt(call) FROM unnest(ARRAY[
	$$evstore.append_arrays('s', '{A,B,C,D}')$$,
	$$evstore.append_events('s', '[{"type": "T"}, {"type": "T"}, {"type": "T"}, {"type": "T"}]')$$,
	$$evstore.try_append('s', '[{}, {}, {}, {}]')$$,
	$$evstore.append_streams('[{"stream": "s", "events": [{"type": "T"}, {"type": "T"}, {"type": "T"}, {"type": "T"}]}]')$$,
	$$evstore.append('s', 'T', to_jsonb(repeat('x', 1024)))$$,
	$$evstore.append('s', 'T', to_jsonb(repeat('x', 600)), jsonb_build_object('k', repeat('x', 600)))$$,
	$$evstore.append_arrays('s', '{A,B}', ARRAY['{}', to_jsonb(repeat('x', 1024))])$$]) AS call;
RESET evstore.max_batch;
RESET evstore.max_event_size;

-- ---- reading ----

SELECT call, attempt(call) FROM unnest(ARRAY[
	$$evstore.read_stream('s', -1)$$,
	$$evstore.read_stream('s', 0, -1)$$,
	$$evstore.read_stream('s', 0, 5, 'back')$$,
	$$evstore.read_stream('s', 0, 5, 'FORWARD')$$,
	$$evstore.read_stream('s', 0, 5, '')$$,
	$$evstore.read_all(-1)$$,
	$$evstore.read_all(0, -5)$$,
	$$evstore.read_all(0, 5, NULL, 'sideways')$$,
	$$evstore.read_category(NULL)$$,
	$$evstore.read_category('a-b')$$,
	$$evstore.read_category('a', -1)$$,
	$$evstore.read_category('a', 0, -1)$$,
	$$evstore.read_correlation(NULL)$$,
	$$evstore.get_event(NULL)$$,
	$$evstore.create_partitions(0)$$,
	$$evstore.create_partitions(-1)$$,
	$$evstore.create_partitions(10001)$$]) AS call;

-- ---- read-only transactions ----

SET default_transaction_read_only = on;
SELECT call, attempt(call) FROM unnest(ARRAY[
	$$evstore.append('s', 'T')$$,
	$$evstore.append('new', 'T')$$,
	$$evstore.append_one('s', 'T')$$,
	$$evstore.append_events('s', '[]')$$,
	$$evstore.append_arrays('s', '{T}')$$,
	$$evstore.try_append('s', '[{"type": "T"}]', 99)$$,
	$$evstore.append_streams('[{"stream": "s", "events": []}]')$$,
	$$evstore.delete_stream('s')$$,
	$$evstore.tombstone_stream('s')$$,
	$$evstore.truncate_stream('s', 1)$$,
	$$evstore.set_stream('s', 1)$$,
	$$evstore.scavenge()$$,
	$$evstore.create_partitions(1)$$,
	$$evstore.record_safe_position()$$,
	$$evstore.adopt()$$]) AS call;
-- reading is allowed there
SELECT count(*), evstore.safe_position(), evstore.stream_version('s') FROM evstore.read_all();
SELECT count(*) FROM evstore.read_stream('s');
SELECT count(*) FROM evstore.events;
SELECT bool_and(ok) FROM evstore.verify();
RESET default_transaction_read_only;

-- ---- after all that ----

SELECT count(*), max(version) FROM evstore.read_stream('s');
SELECT stream FROM evstore.streams;
SELECT version, position FROM evstore.append('s', 'D', expected_version => 2);
\pset tuples_only off
\pset format aligned

-- ---- unusual, but right ----

-- names: of 512 bytes, with quotes, backslashes, spaces, emoji; what looks the
-- same but is composed differently is another stream
CREATE TABLE names (n int, name text);
INSERT INTO names VALUES
	(1, repeat('x', 512)), (2, repeat('ü', 256)), (3, ' '), (4, $$o'brien"s \path\$$), (5, '%s %d %n'), (6, '"'), (7, '\'),
	(8, '😀👩‍👩‍👧'), (9, U&'caf\00e9'), (10, U&'cafe\0301'), (11, 'שלום'), (12, '{}'), (13, 'null'), (14, $$'; DROP TABLE names; --$$),
	(15, '--'), (16, ' leading'), (17, 'trailing '), (18, 'ﬀ'), (19, 'İ'), (20, '漢字-1');
SELECT count(*) FILTER (WHERE version = 0) AS new_streams FROM names, evstore.append(name, name, to_jsonb(name), jsonb_build_object(name, name),
	correlation_id => name, source => name, tags => ARRAY[name]);
SELECT count(*) AS same FROM names, evstore.read_stream(name) AS e
WHERE e.stream = name AND e.type = name AND e.data = to_jsonb(name) AND e.metadata->>name = name AND e.correlation_id = name
	AND e.source = name AND e.tags = ARRAY[name];
SELECT count(*) AS by_correlation FROM names, evstore.read_correlation(name) AS e WHERE e.stream = name;
SELECT count(*) AS by_category FROM names, evstore.read_category(split_part(name, '-', 1)) AS e WHERE e.stream = name;
SELECT count(*) AS by_filter FROM names, evstore.read_all(NULL, NULL, jsonb_build_object('streams', jsonb_build_array(name),
	'types', jsonb_build_array(name), 'tags', jsonb_build_array(name), 'stream_prefix', name, 'correlation_id', name)) AS e WHERE e.stream = name;
SELECT count(*) AS through_json FROM names,
	evstore.append_streams(jsonb_build_array(jsonb_build_object('stream', name, 'expected_version', 0, 'events', jsonb_build_array(jsonb_build_object('type', name))))) AS a
WHERE a.stream = name AND a.version = 1;
-- an error names the stream as it is, and its DETAIL is JSON
CREATE FUNCTION conflict(name text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	PERFORM evstore.append(name, 'T', expected_version => 7);
EXCEPTION WHEN SQLSTATE 'VS001' THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN detail;
END $$;
SELECT count(*) AS same FROM names WHERE conflict(name) = jsonb_build_object('stream', name, 'expected', 7, 'actual', 1);

-- payloads: empty, deep, wide, of every size up to the limit
SELECT version FROM evstore.append('payload', 'T', '""');
SELECT version FROM evstore.append('payload', 'T', (repeat('[', 500) || repeat(']', 500))::jsonb);
SELECT version FROM evstore.append('payload', 'T', (SELECT jsonb_object_agg(n, n) FROM generate_series(1, 20000) AS n));
SELECT version FROM evstore.append('payload', 'T', to_jsonb(repeat('x', 16 * 1024 * 1024 - 12)));
SELECT attempt($$evstore.append('payload', 'T', to_jsonb(repeat('x', 16 * 1024 * 1024)))$$);
SELECT version, length(data::text) AS length, md5(data::text) = CASE version
	WHEN 0 THEN md5('""')
	WHEN 1 THEN md5(repeat('[', 500) || repeat(']', 500))
	WHEN 3 THEN md5('"' || repeat('x', 16 * 1024 * 1024 - 12) || '"')
	ELSE md5(data::text) END AS same
FROM evstore.read_stream('payload');
SELECT data->>'19999' AS last FROM evstore.read_stream('payload', 2, 1);
-- a batch as large as it may be, small events and large ones mixed
SET evstore.max_batch = 2000;
SELECT version FROM (SELECT array_agg('T'::text) AS types, array_agg(to_jsonb(repeat('x', CASE n % 500 WHEN 0 THEN 100000 ELSE n % 50 END)) ORDER BY n) AS data
	FROM generate_series(0, 1999) AS n) AS d, evstore.append_arrays('large-batch', types, data);
SELECT count(*), bool_and(length(data->>0) = CASE version % 500 WHEN 0 THEN 100000 ELSE version % 50 END) FROM evstore.read_stream('large-batch');
RESET evstore.max_batch;
-- limits that are just not reached
SELECT version FROM evstore.append('limits', repeat('t', 512), schema_version => 2147483647, correlation_id => repeat('c', 512),
	source => repeat('s', 2048), tags => (SELECT array_agg(lpad(n::text, 512, 't')) FROM generate_series(1, 100) AS n),
	occurred_at => '4713-01-01 BC');
SELECT length(type), schema_version, length(correlation_id), length(source), cardinality(tags), occurred_at < '0001-01-01' AS long_ago FROM evstore.read_stream('limits');
SELECT version FROM evstore.append('limits', 'T', occurred_at => '294276-12-31', source => '');

SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;
\c :main
DROP DATABASE evstore_input WITH (FORCE);
