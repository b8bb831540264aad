-- What relays make of events: CloudEvents in three forms, data alone, topics, headers.
\set main :DBNAME
\set SHOW_CONTEXT never
\set VERBOSITY default
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_cloudevents;
DROP DATABASE IF EXISTS evstore_latin1;
DROP DATABASE IF EXISTS evstore_sql_ascii;
CREATE DATABASE evstore_cloudevents;
\c evstore_cloudevents
CREATE EXTENSION evstore;
LOAD 'evstore';
SET timezone = 'Asia/Kathmandu';
SET datestyle = 'SQL, DMY';

SELECT version FROM evstore.append('order-1', 'com.example.order.placed', '{"total": 99.90, "note": "naïve ☃ \"quoted\"\n"}',
	metadata => '{"actor": "ann", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b"}',
	event_id => '00000000-0000-4000-8000-000000000001', correlation_id => 'checkout-17',
	causation_id => '00000000-0000-4000-8000-000000000009', schema_version => 2,
	occurred_at => '2025-11-17 10:30:00.25+00', source => '/shop/käse 100%', tags => '{a,b}');
SELECT version FROM evstore.append('order-1', 'Plain', event_id => '00000000-0000-4000-8000-000000000002',
	occurred_at => '2025-11-17 10:30:00+00');

-- ---- formats ----

SELECT evstore._encode_event(e, 'cloudevents') ->> 'data' AS data FROM evstore.read_stream('order-1') AS e;
SELECT jsonb_pretty(evstore._encode_event(e, 'cloudevents') - 'data') AS message FROM evstore.read_stream('order-1', 0, 1) AS e;
SELECT evstore._encode_event(e, 'cloudevents') = evstore._encode_event(e, 'cloudevents-batch') AS same FROM evstore.read_stream('order-1') AS e;
SELECT jsonb_pretty(evstore._encode_event(e, 'cloudevents-binary')) AS message FROM evstore.read_stream('order-1', 0, 1) AS e;
SELECT jsonb_pretty(evstore._encode_event(e, 'raw')) AS message FROM evstore.read_stream('order-1', 0, 1) AS e;
SELECT evstore._encode_event(e, 'cloudevents-text') FROM evstore.read_stream('order-1', 0, 1) AS e;

-- ---- the same as to_cloudevent() ----

SELECT version FROM evstore.append_cloudevent('{"specversion": "1.0", "id": "A234-1234", "source": "https://example.com/über", "type": "com.example.xml",
	"time": "2018-04-05T17:31:00+02:00", "subject": "doc-1", "datacontenttype": "text/xml; charset=utf-8", "dataschema": "https://example.com/s",
	"comexampleextension1": "value", "comexampleothervalue": 5, "flag": true, "sequence": "7", "partitionkey": "p", "data": "<much wow=\"xml\"/>"}');
SELECT version FROM evstore.append_cloudevent('{"specversion": "1.0", "id": "b", "source": "/s", "type": "bytes", "subject": "doc-1",
	"datacontenttype": "application/octet-stream", "data_base64": "AAEC/w=="}');
SELECT version FROM evstore.append_cloudevent('{"specversion": "1.0", "id": "c", "source": "/s", "type": "no data", "subject": "doc-1"}');
SELECT version FROM evstore.append_cloudevent('{"specversion": "1.0", "id": "d", "source": "/s", "type": "null", "subject": "doc-1", "data": null}');
SELECT version FROM evstore.append_arrays('doc-2', array_fill('t'::text, '{8}'),
	ARRAY['null', 'true', '"text"', '[1, 2.50, {"a": null}]', '{}', '12345678901234567890.120', '""', '{"a": "\u0001\t\u007f"}']::jsonb[],
	ARRAY['{}', '{"cloudevent": 1}', '{"cloudevent": {"UPPER": 1, "ok": "", "list": [1], "nul": null, "type": "", "id": 5, "specversion": "2", "data": 1}}',
		'{"traceparent": 5}', '{"cloudevent": {"no_data": false}}', '{"cloudevent": {"fraction": 1.50, "large": 99999999999}}',
		'{"cloudevent": {"time": "2001-01-01T00:00:00+01:00"}}', '{"cloudevent": []}']::jsonb[]);
SELECT version FROM evstore.append('doc-2', 't', source => '');
SELECT version FROM evstore.append('-', 't', '{}', occurred_at => '0001-01-01 00:00:00+00');
SELECT version FROM evstore.append('straße &-1', 't', '{}', occurred_at => '9999-12-31 23:59:59.999999+00');
SELECT count(*), bool_and((evstore._encode_event(e, 'cloudevents') ->> 'data')::jsonb = evstore.to_cloudevent(e)) AS all_the_same
FROM evstore.read_all() AS e;
-- to the letter: digits of numbers, too
SELECT count(*) AS different
FROM evstore.read_all() AS e, LATERAL (SELECT (evstore._encode_event(e, 'cloudevents') ->> 'data')::jsonb AS made, evstore.to_cloudevent(e) AS wanted) AS t
WHERE made::text <> wanted::text;
SELECT bool_or(position(E'\n' IN evstore._encode_event(e, 'cloudevents') ->> 'data') > 0) AS any_line_feed FROM evstore.read_all() AS e;
-- binary: the same attributes, as text
SELECT count(*) AS different
FROM evstore.read_all() AS e, LATERAL (SELECT evstore._encode_event(e, 'cloudevents-binary') -> 'attributes' AS made,
	(SELECT jsonb_object_agg(key, value) FROM jsonb_each_text(evstore.to_cloudevent(e) - 'data' - 'data_base64' - 'datacontenttype')) AS wanted) AS t
WHERE made <> wanted;
SELECT evstore._encode_event(e, 'raw') ->> 'source' AS source FROM evstore.read_stream('straße &-1') AS e;

-- ---- payloads ----

SELECT e.type, m -> 'data' AS data, m -> 'content_type' AS content_type, m -> 'source' AS source, m = (evstore._encode_event(e, 'cloudevents-binary') || '{"attributes": {}}') AS as_binary
FROM evstore.read_category('doc') AS e, evstore._encode_event(e, 'raw') AS m;
CREATE FUNCTION changed(data jsonb, metadata jsonb DEFAULT '{}', format text DEFAULT 'cloudevents-binary', options jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
	e evstore.event;
BEGIN
	SELECT r.* INTO e FROM evstore.read_stream('order-1', 1, 1) AS r;
	e.data := changed.data;
	e.metadata := changed.metadata;
	RETURN evstore._encode_event(e, format, options);
END
$$;
SELECT f AS format, changed(NULL, NULL, f) -> 'data' AS data, changed(NULL, NULL, f) -> 'content_type' AS content_type
FROM unnest('{cloudevents,cloudevents-binary,raw}'::text[]) AS f;
SELECT changed('"eA=="', '{"cloudevent": {"data_base64": " e A=\n= "}}') -> 'data' AS spaces, changed('1', '{"cloudevent": {"data_base64": ""}}') -> 'data' AS empty,
	changed('1', '{"cloudevent": {"datacontenttype": "application/vnd.x+JSON; v=1"}}') - 'attributes' AS json_of_a_kind;
SELECT changed(d::jsonb, m::jsonb, f) ->> 'error' AS error FROM (VALUES
	('1', '{"cloudevent": {"data_base64": "%"}}', 'raw'),
	('1', '{"cloudevent": {"data_base64": "%"}}', 'cloudevents-binary'),
	('1', '{"cloudevent": {"data_base64": 1}}', 'cloudevents'),
	('1', '{"cloudevent": {"datacontenttype": "text/plain"}}', 'raw'),
	('{}', '{"cloudevent": {"datacontenttype": "json"}}', 'cloudevents-binary')) AS v (d, m, f);

-- the text is that of jsonb: each character at each place of a word, many members, all kinds of values
SELECT count(*) AS documents, count(*) FILTER (WHERE changed(d, format => 'raw') ->> 'data' <> d::text OR
	changed(d, format => 'cloudevents') ->> 'data' NOT LIKE '%,"data":' || replace(replace(replace(d::text, '\', '\\'), '%', '\%'), '_', '\_') || '}') AS different
FROM (
	SELECT to_jsonb(repeat('x', n) || chr(c) || repeat('ä', m)) FROM generate_series(1, 130) AS c, generate_series(0, 9) AS n, unnest('{0,1,9}'::int[]) AS m
	UNION ALL SELECT jsonb_build_object(repeat('k', n) || chr(c), n) FROM generate_series(1, 40) AS c, generate_series(0, 9) AS n
	UNION ALL SELECT jsonb_object_agg('k' || i, i % 7) FROM generate_series(1, 3) AS n, generate_series(1, 50 * n) AS i GROUP BY n
	UNION ALL SELECT jsonb_agg(repeat('"', i)) FROM generate_series(1, 3) AS n, generate_series(0, 40 * n) AS i GROUP BY n
	UNION ALL SELECT v::jsonb FROM (VALUES ('null'), ('true'), ('false'), ('0'), ('-0.00'), ('1e131000'), ('1E-16383'), ('123456789012345678901234567890.0123456789'),
		('""'), ('"\u2603\n\u0001\u007f"'), ('[]'), ('{}'), ('[[]]'), ('[{}]'), ('{"": {}}'),
		('[null, true, false, 1, "a", [1.50, [2]], {"b": [], "a": {"c": null, "\"\\": -1}}]')) AS v (v)
	UNION ALL SELECT (repeat('[{"a":', 2000) || '1' || repeat('}, 2]', 2000))::jsonb
) AS t (d);

-- ---- large ----

SELECT length(m ->> 'data') AS length, md5(m ->> 'data') = md5((SELECT jsonb_build_object('a', repeat('ä"', 3000000))::text)) AS same
FROM changed(jsonb_build_object('a', repeat('ä"', 3000000)), format => 'raw') AS m;

-- ---- control characters, names, defaults ----

SELECT changed('{}', m::jsonb, f) ->> 'error' AS error FROM (VALUES
	('{"tracestate": "a\nb"}', 'cloudevents'),
	('{"tracestate": "a\nb"}', 'cloudevents-binary'),
	('{"cloudevent": {"x": "\u0085"}}', 'cloudevents-binary'),
	('{"cloudevent": {"x": "\u007f"}}', 'cloudevents-batch'),
	('{"cloudevent": {"x": "\u00a0\u00e9"}}', 'cloudevents-binary'),
	('{"cloudevent": {"x": "\u007f"}}', 'raw'),
	('{"cloudevent": {"datacontenttype": "text/json\r\nx: y"}}', 'raw'),
	('{"cloudevent": {"datacontenttype": "text/json\r\nx: y"}}', 'cloudevents-binary')) AS v (m, f);
SELECT changed('{}', options => '{"key": null}') -> 'key' AS key, changed('{}', options => '{"key": null}') -> 'attributes' ? 'partitionkey' AS has_partitionkey,
	changed('{}', options => '{"key": "k ü"}') -> 'attributes' ->> 'partitionkey' AS partitionkey, changed('{}', options => '{"source": "urn:x y"}') ->> 'source' AS source,
	changed('{}', options => '{"source": ""}') ->> 'source' AS by_default;
SELECT changed('{}', '{"actor": "ann", "n": 5, "big": 3000000000, "fraction": 1.5, "yes": true, "Upper": "x", "type": "no", "data": 1, "specversion": "2", "sequence": "no",
	"averyveryverylongname": 1, "aveveryverylongname1": 1, "list": [1], "nul": null, "empty": "", "cloudevent": {"n": 6}}', f, '{"metadata": true}') #> p AS with_metadata
FROM (VALUES ('cloudevents-binary', '{attributes}'::text[]), ('cloudevents', '{data}'), ('raw', '{attributes}')) AS v (f, p);
SELECT evstore._encode_event(e, 'cloudevents') AS message FROM (SELECT (jsonb_populate_record(r, '{"occurred_at": "10000-01-01 00:00:00+00"}')).* FROM evstore.read_stream('order-1', 1, 1) AS r) AS e;
SELECT evstore._encode_event(e, 'raw') ->> 'time_us' AS raw_may FROM (SELECT (jsonb_populate_record(r, '{"occurred_at": "0044-03-15 00:00:00+00 BC"}')).* FROM evstore.read_stream('order-1', 1, 1) AS r) AS e;
SELECT at AT TIME ZONE 'UTC' AS at, (evstore._encode_event(e, 'cloudevents') ->> 'data')::jsonb ->> 'time' AS time,
	evstore._encode_event(e, 'cloudevents') ->> 'error' AS error
FROM unnest('{2000-01-01 00:00:00.000001+00, 2000-01-01 00:00:00+00, 1999-12-31 23:59:59.999999+00, 1999-12-31 23:59:59+00, 1999-12-31 23:59:58.9+00,
	1999-12-31 23:59:59.000001+00, 0001-01-01 00:00:00.5+00, 0001-12-31 23:59:59.9+00 BC, 0001-01-01 00:00:00.25+00, 9999-12-31 23:59:59.999999+00,
	10000-01-01 00:00:00+00, infinity, -infinity, 2024-02-29 12:00:00.120+00, 2024-02-29 12:00:00.12+00, 2024-02-29 12:00:01.12+00}'::timestamptz[]) WITH ORDINALITY AS u (at, n),
	LATERAL (SELECT (jsonb_populate_record(r, jsonb_build_object('occurred_at', at))).* FROM evstore.read_stream('order-1', 1, 1) AS r) AS e ORDER BY n;
SELECT evstore._encode_event(NULL::evstore.event, 'raw') IS NULL AS strict;
SELECT evstore._encode_event(jsonb_populate_record(NULL::evstore.event, '{"position": 1}'), 'raw');

-- ---- what the relay adds ----

SELECT f AS format, m -> 'data' AS data, m -> 'attributes' -> 'dataref' AS dataref, m -> 'content_type' AS content_type
FROM unnest('{cloudevents,cloudevents-binary,raw}'::text[]) AS f,
	changed('{"large": 1}', '{"cloudevent": {"dataref": 5, "data_base64": "eA=="}}', f, '{"dataref": "https://example.com/1"}') AS m;

-- ---- headers ----

SELECT changed('{}', '{"headers": {"x-a": "ü b", "n": 1.50, "t": true, "nul": null, "!#$%&''*+-.^_`|~": ""}}', f) -> 'headers' AS headers
FROM unnest('{cloudevents,cloudevents-binary,raw}'::text[]) AS f;
SELECT h AS headers, changed('{}', jsonb_build_object('headers', h), 'raw') ->> 'error' AS error
FROM unnest(ARRAY['{"a b": "x"}', '{"": "x"}', '{"ä": "x"}', '{"a:": "x"}', '{"a": "x\r\ny"}', '{"a": "\u007f"}', '{"a": {}}', '{"a": [1]}', '[{"a b": 1}]', '"a b"', '{}']::jsonb[]) AS h;

-- ---- topics ----

CREATE FUNCTION topic(template text, key text DEFAULT 'order-1') RETURNS jsonb LANGUAGE sql AS $$
	SELECT coalesce(m -> 'topic', m -> 'error')
	FROM changed('{}', '{"tenant": "Acme", "n": 1.50, "yes": true, "empty": "", "nul": null, "list": [], "control": "a\u0001", "ü": "x"}', 'raw',
		jsonb_build_object('topic', template, 'relay', 'to_broker', 'key', key)) AS m $$;
SELECT t AS template, topic(t) AS topic FROM unnest(ARRAY['{category}', 'events.{type:lower}', '{stream}/{key}', '{relay}-{metadata.tenant}-{metadata.tenant:lower}',
	'{metadata.n}{metadata.yes}', 'straight', '', '{{{category}}}', '{{category}}', 'Größe.{category:lower}', '{relay:lower}{stream:lower}{key:lower}']) AS t;
SELECT t AS template, topic(t) AS error FROM unnest(ARRAY['{metadata.none}', '{metadata.empty}', '{metadata.nul}', '{metadata.list}', '{metadata.control}']) AS t;
SELECT topic('{key}', NULL) AS no_key, topic('{key}', 'Ä:b') AS key, topic('{key:lower}', 'ÄB') AS ascii_only;
SELECT changed('{}', NULL, 'raw', '{"topic": "{metadata.x}"}') ->> 'error' AS no_metadata;
SELECT topic('{nothing}');
SELECT topic('{');
SELECT topic('a } b');
SELECT topic('{}');
SELECT topic('{type:upper}');
SELECT topic('{metadata.}');
SELECT topic('{metadata.a.b}');
SELECT topic('{metadata.ü}');
SELECT topic(E'a\tb');
SELECT topic(repeat('x', 513));
SELECT length(topic(repeat('x', 512)) #>> '{}') AS longest;

-- ---- other encodings: what goes out is UTF-8 ----

CREATE DATABASE evstore_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
\c evstore_latin1
SET client_encoding = 'UTF8';
CREATE EXTENSION evstore;
SELECT version FROM evstore.append('größe-1', 'Käse', '{"naïve": "ÿ"}', metadata => '{"headers": {"x": "ä"}, "cloudevent": {"x": "ö"}}',
	event_id => '00000000-0000-4000-8000-000000000001', occurred_at => '2025-11-17 10:30:00+00');
SELECT evstore._encode_event(e, f, '{"topic": "ß.{category}"}') - 'attributes' AS message
FROM evstore.read_stream('größe-1') AS e, unnest('{cloudevents,cloudevents-binary,raw}'::text[]) AS f;
SELECT (evstore._encode_event(e, 'cloudevents') ->> 'data')::jsonb = evstore.to_cloudevent(e) AS same FROM evstore.read_stream('größe-1') AS e;

\c :main
CREATE DATABASE evstore_sql_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0;
\c evstore_sql_ascii
CREATE EXTENSION evstore;
SELECT version FROM evstore.append('a-1', 'T', jsonb_build_object('a', E'\303\244'), event_id => '00000000-0000-4000-8000-000000000001');
SELECT version FROM evstore.append('a-1', 'T', jsonb_build_object('a', E'\344'));
SELECT version FROM evstore.append('a-1', E'T\344');
SELECT version FROM evstore.append('a-1', 'T', '{}', metadata => jsonb_build_object('headers', jsonb_build_object('x', E'\344')));
SELECT version FROM evstore.append(E'\344-1', 'T', event_id => '00000000-0000-4000-8000-000000000002');
SELECT f AS format, coalesce(m -> 'error', to_jsonb(m ->> 'data' ~ E'\303\244')) AS error_or_there
FROM unnest('{cloudevents,cloudevents-binary,raw}'::text[]) AS f, evstore.read_all() AS e, evstore._encode_event(e, f) AS m;
SELECT evstore._encode_event(e, 'raw', jsonb_build_object('topic', E'\344')) FROM evstore.read_all(0, 1) AS e;

\c :main
DROP DATABASE evstore_cloudevents;
DROP DATABASE evstore_latin1;
DROP DATABASE evstore_sql_ascii;
