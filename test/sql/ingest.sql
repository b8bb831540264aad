-- ingest() in databases with other encodings, and payloads that are made to hurt.
\set main :DBNAME
\set SHOW_CONTEXT never
SET client_min_messages = warning;
DROP DATABASE IF EXISTS ingest_latin1;
DROP DATABASE IF EXISTS ingest_sql_ascii;
DROP DATABASE IF EXISTS ingest_hostile;
CREATE DATABASE ingest_hostile;
CREATE DATABASE ingest_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;
CREATE DATABASE ingest_sql_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0;

-- ---- LATIN1: characters that it has, and those that it has not ----

\c ingest_latin1
SET client_encoding = 'UTF8';
SET client_min_messages = warning;
CREATE EXTENSION evstore;
SELECT i.status, i.source, i.id, evstore.to_cloudevent(e) -> 'data' AS data
FROM evstore.ingest('{"specversion": "1.0", "id": "é", "source": "/ü", "type": "t", "data": {"a": "ä"}}') AS i, evstore.get_event(i.event_id) AS e;
SELECT i.status, evstore.to_cloudevent(e) -> 'data' AS data, e.event_id = evstore._name_uuid('/ü', 'ö') AS same_id
FROM evstore.ingest_bytes('\x7b22c3a4223a2022c3bc227d', 'auto', '{"ce-specversion": "1.0", "ce-id": "%C3%B6", "ce-source": "/ü", "ce-type": "t"}') AS i, evstore.get_event(i.event_id) AS e;
\set VERBOSITY default
-- the euro sign: in the data, in a header, as text
SELECT * FROM evstore.ingest_bytes(decode('eyJzcGVjdmVyc2lvbiI6ICIxLjAiLCAiaWQiOiAi4oKsIn0=', 'base64'), 'cloudevents');
SELECT * FROM evstore.ingest('x', 'cloudevents-binary', '{"ce-specversion": "1.0", "ce-id": "%E2%82%AC", "ce-source": "/s", "ce-type": "t"}');
SELECT i.status, e.metadata FROM evstore.ingest_bytes('\xe282ac', 'cloudevents-binary',
	'{"ce-specversion": "1.0", "ce-id": "euro", "ce-source": "/s", "ce-type": "t", "content-type": "text/plain"}') AS i, evstore.get_event(i.event_id) AS e;

-- ---- SQL_ASCII: bytes as they are ----

\c ingest_sql_ascii
SET client_min_messages = warning;
CREATE EXTENSION evstore;
SELECT i.status, encode(convert_to(i.id, 'SQL_ASCII'), 'hex') AS id
FROM evstore.ingest_bytes(decode('eyJzcGVjdmVyc2lvbiI6ICIxLjAiLCAiaWQiOiAi4oKsIiwgInNvdXJjZSI6ICIvcyIsICJ0eXBlIjogInQifQ==', 'base64')) AS i;

-- ---- hostile payloads ----

\c ingest_hostile
SET client_min_messages = warning;
CREATE EXTENSION evstore;

-- what becomes of a payload, or SQLSTATE and message
CREATE FUNCTION pg_temp.outcome(payload text, format text DEFAULT 'auto', attributes jsonb DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT string_agg(DISTINCT i.status, ' ') || ' ' || count(*) FROM evstore.ingest(payload, format, attributes) AS i);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || left(SQLERRM, 80);
END $$;
CREATE FUNCTION pg_temp.event(id text, more text DEFAULT '') RETURNS text LANGUAGE sql AS
$$ SELECT format('{"specversion": "1.0", "id": "%s", "source": "/hostile", "type": "t"%s}', id, more) $$;

SELECT pg_temp.outcome(repeat('{"a":', 100000), 'cloudevents') AS objects, pg_temp.outcome(repeat('[', 5000000)) AS arrays;
SELECT pg_temp.outcome(pg_temp.event('nested', ', "data": ' || repeat('[', 2000) || repeat(']', 2000))) AS nested;
SELECT pg_temp.outcome(pg_temp.event('nested attribute', ', "x": {"y": [1]}')) AS attribute;
SET evstore.max_batch = 5000;
SELECT pg_temp.outcome('[' || repeat('1,', 4999) || '1]', 'cloudevents-batch') AS numbers, pg_temp.outcome('[' || repeat('1,', 5000) || '1]', 'cloudevents-batch') AS too_many;
SELECT pg_temp.outcome('[' || string_agg(pg_temp.event('many' || n), ',') || ']') AS many FROM generate_series(1, 5000) AS n;
SELECT pg_temp.outcome('[' || string_agg(pg_temp.event('more' || n), ',') || ']') AS more FROM generate_series(1, 5001) AS n;
SELECT pg_temp.outcome('[' || repeat(pg_temp.event('same') || ',', 999) || pg_temp.event('same') || ']') AS same;
SELECT pg_temp.outcome(pg_temp.event('members', ', ' || string_agg(format('"x%s": 1', n), ', '))) AS members FROM generate_series(1, 50000) AS n;
SELECT pg_temp.outcome(pg_temp.event('headers'), 'auto', (SELECT jsonb_object_agg('h' || n, 'x') FROM generate_series(1, 20000) AS n)) AS headers;
SELECT pg_temp.outcome(pg_temp.event('number', ', "data": 1e100000')) AS number, pg_temp.outcome(pg_temp.event('exponent', ', "data": 1e1000000')) AS exponent,
	pg_temp.outcome(pg_temp.event('integer', ', "x": 1e1000')) AS integer;
SELECT pg_temp.outcome(pg_temp.event('surrogate', ', "data": "\ud800"')) AS surrogate, pg_temp.outcome(pg_temp.event('pair', ', "data": "\ud83d\ude00"')) AS pair;
SELECT pg_temp.outcome(pg_temp.event('base64', ', "data_base64": "' || repeat('A', 1000000) || '"')) AS base64,
	pg_temp.outcome(pg_temp.event('padding', ', "data_base64": "===="')) AS padding;
SELECT pg_temp.outcome(payload, format) AS outcome, payload, format
FROM unnest('{cloudevents,cloudevents-batch,cloudevents-binary,sns-sqs,sqs,pubsub-push,eventbridge,eventgrid,auto}'::text[]) WITH ORDINALITY AS f (format, n),
	unnest(ARRAY['', 'null', '1', '"x"', '[]', '{}', '[[]]', '[null]', '{"Records": []}', '{"Records": [{}]}', '{"Records": 1}', '{"message": {}}', '{"message": []}', '{"Type": 1}', '{"detail": {}}'])
		WITH ORDINALITY AS p (payload, m)
ORDER BY n, m;
-- the store is well
SELECT check_name FROM evstore.verify('inbox-/hostile') WHERE NOT ok;

\c :main
DROP DATABASE ingest_latin1;
DROP DATABASE ingest_sql_ascii;
DROP DATABASE ingest_hostile;
