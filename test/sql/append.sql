-- Appending: every function, what is stored, what the session's settings add.
-- Partitions of ten positions, so that the file crosses many of them.
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_append;
CREATE DATABASE evstore_append;
\c evstore_append
CREATE EXTENSION evstore;
LOAD 'evstore';
SET evstore.partition_size = 10;
SET timezone = 'UTC';
SET datestyle = 'ISO';

-- ---- one event ----

-- The first version is 0, the first position 1.
SELECT * FROM evstore.append('order-1', 'OrderPlaced');
SELECT * FROM evstore.append('order-1', 'OrderPaid', '{"amount": 10}', expected_version => 0);
SELECT * FROM evstore.append('order-2', 'OrderPlaced', '{"amount": 20}');
SELECT evstore.append_one('order-2', 'OrderPaid');
SELECT evstore.append_one('order-2', 'OrderShipped', expected_version => 1);

-- What was not given: data and metadata are {}, schema_version is 1, the id is
-- a UUIDv7, occurred_at is recorded_at, the rest is null.
SELECT position, stream, version, type, schema_version, data, metadata,
	correlation_id, causation_id, source, tags
FROM evstore.read_stream('order-1') WHERE version = 0;
SELECT bool_and(occurred_at = recorded_at) AS occurred_as_recorded,
	bool_and(recorded_at BETWEEN now() - interval '1 day' AND clock_timestamp()) AS recorded_by_the_server,
	bool_and(substr(event_id::text, 15, 1) = '7' AND substr(event_id::text, 20, 1) IN ('8', '9', 'a', 'b')) AS uuid7,
	count(DISTINCT event_id) AS ids,
	array_agg(event_id ORDER BY position) = array_agg(event_id ORDER BY event_id) AS ids_increase
FROM evstore.read_all();

-- Everything given.
SELECT * FROM evstore.append('order-3', 'OrderPlaced', '{"a": [1, {"b": null}]}', '{"user": "ann"}',
	-1, '6ba7b810-9dad-41d1-80b4-00c04fd430c8', 'checkout-17', '6ba7b811-9dad-41d1-80b4-00c04fd430c8',
	3, '2020-02-29 12:34:56.789012+02', '/shop/web', '{new,"with space"}');
SELECT position, version, event_id, type, schema_version, data, metadata FROM evstore.read_stream('order-3');
SELECT correlation_id, causation_id, source, occurred_at, recorded_at > occurred_at AS recorded_later, tags
FROM evstore.read_stream('order-3');

-- Data may be any JSON value; null is {}.  An empty array of tags stays one.
SELECT * FROM evstore.append('values-1', 'T', '7');
SELECT * FROM evstore.append('values-1', 'T', '"text"', tags => '{}');
SELECT * FROM evstore.append('values-1', 'T', '[]');
SELECT * FROM evstore.append('values-1', 'T', 'null');
SELECT * FROM evstore.append('values-1', 'T', NULL);
SELECT version, data, tags FROM evstore.read_stream('values-1');

-- ---- several events ----

-- One call, and its rows follow each other; position is that of the last one.
SELECT * FROM evstore.append_events('cart-1', '[{"type": "A"}, {"type": "B", "data": {"n": 1}}, {"type": "C"}]');
SELECT * FROM evstore.append_events('cart-1', '[{"type": "D"}]', 2);
SELECT * FROM evstore.append_events('cart-1', '[
	{"type": "E", "data": [1, 2], "metadata": {"m": 1}, "event_id": "6ba7b812-9dad-41d1-80b4-00c04fd430c8",
	 "correlation_id": "c", "causation_id": "6ba7b813-9dad-41d1-80b4-00c04fd430c8", "schema_version": 2,
	 "occurred_at": "2021-01-01T00:00:00Z", "source": "s", "tags": ["x", "y"]},
	{"type": "F", "metadata": null, "event_id": null, "correlation_id": null, "causation_id": null,
	 "schema_version": null, "occurred_at": null, "source": null, "tags": null}]');
SELECT position, version, type, data, metadata, schema_version, correlation_id, causation_id, source, tags
FROM evstore.read_stream('cart-1');
SELECT event_id, occurred_at FROM evstore.read_stream('cart-1', 4, 1);
SELECT occurred_at = recorded_at AS same FROM evstore.read_stream('cart-1', 5);

-- Arrays in parallel; each optional one may be null, and so may its elements.
SELECT * FROM evstore.append_arrays('cart-2', '{A,B,C}');
SELECT * FROM evstore.append_arrays('cart-2', ARRAY['D', 'E'], ARRAY['{"n": 1}', NULL]::jsonb[],
	ARRAY[NULL, '{"m": 2}']::jsonb[], ARRAY['6ba7b814-9dad-41d1-80b4-00c04fd430c8', NULL]::uuid[], 2);
SELECT version, type, data, metadata,
	CASE WHEN version = 3 THEN event_id END AS event_id
FROM evstore.read_stream('cart-2');

-- A batch of 35 events lies in at least four partitions.
SELECT first_version, version
FROM (SELECT array_agg('T' || n ORDER BY n) AS types, array_agg(to_jsonb(n) ORDER BY n) AS data
	FROM generate_series(0, 34) AS n) AS batch,
	evstore.append_arrays('batch-1', types, data);
SELECT count(*), count(DISTINCT position / 10) >= 4 AS four_partitions,
	bool_and(type = 'T' || version AND data = to_jsonb(version)) AS in_order,
	max(position) - min(position) AS distance
FROM evstore.read_stream('batch-1');

-- try_append: as append_events, and a conflict is a row; see expected_version.
SELECT * FROM evstore.try_append('cart-3', '[{"type": "A"}, {"type": "B"}]', -1);
SELECT * FROM evstore.try_append('cart-3', '[{"type": "C"}]', 0);
SELECT * FROM evstore.try_append('cart-3', '[{"type": "C"}]', 1);

-- append_streams: a row a stream; see multi_stream.
SELECT * FROM evstore.append_streams('[
	{"stream": "cart-4", "events": [{"type": "A"}, {"type": "B"}]},
	{"stream": "cart-3", "expected_version": 2, "events": [{"type": "D"}]}]');

-- All or nothing: the third of five is refused, and nothing is stored, no
-- stream, no position drawn.
SELECT evstore.safe_position() AS before \gset
SELECT * FROM evstore.append_events('none-1', '[{"type": "A"}, {"type": "B"}, {"type": ""}, {"type": "D"}, {"type": "E"}]');
\echo :SQLSTATE
SELECT evstore.stream_exists('none-1'), evstore.safe_position() - :before AS drawn;

-- ... and so is it with the caller's other writes.
CREATE TABLE account (id int PRIMARY KEY, balance numeric);
BEGIN;
INSERT INTO account VALUES (1, 100);
SELECT version FROM evstore.append('account-1', 'Opened', '{"balance": 100}');
ROLLBACK;
SELECT count(*) AS accounts, (SELECT evstore.stream_version('account-1')) FROM account;
BEGIN;
INSERT INTO account VALUES (1, 100);
SELECT version FROM evstore.append('account-1', 'Opened', '{"balance": 100}');
COMMIT;
SELECT count(*) AS accounts, (SELECT evstore.stream_version('account-1')) FROM account;

-- A transaction can append to many streams, and sees what it appended.
BEGIN;
SELECT version FROM evstore.append('tx-1', 'A');
SELECT version FROM evstore.append('tx-2', 'A');
SELECT version FROM evstore.append('tx-1', 'B', expected_version => 0);
SELECT stream, version, type FROM evstore.read_stream('tx-1');
SELECT evstore.stream_version('tx-1'), evstore.stream_version('tx-2');
COMMIT;

-- Prepared statements, whose plans are reused.
PREPARE put(text, text, jsonb, bigint) AS SELECT version FROM evstore.append($1, $2, $3, expected_version => $4);
EXECUTE put('prepared-1', 'A', '{}', -1);
EXECUTE put('prepared-1', 'A', '{"n": 1}', 0);
EXECUTE put('prepared-1', 'A', '{"n": 2}', 0);
EXECUTE put('prepared-1', 'A', '{"n": 2}', NULL);
EXECUTE put('prepared-1', 'A', '{"n": 3}', 2);
EXECUTE put('prepared-1', 'A', '{"n": 4}', 3);
EXECUTE put('prepared-1', 'A', '{"n": 5}', 4);
SELECT version, data FROM evstore.read_stream('prepared-1');

-- ---- numbers ----

-- jsonb holds decimal numbers as they are: money does not lose a cent.
SELECT version FROM evstore.append('money-1', 'Paid', '{"a": 0.1, "b": 0.2, "total": 12345678901234567890.12, "price": 19.90, "tiny": 1e-30}');
SELECT data,
	(data->'a')::numeric + (data->'b')::numeric AS sum,
	(data->'a')::numeric + (data->'b')::numeric = 0.3 AS exact,
	(data->'total')::numeric + 0.01 AS total,
	data->>'price' AS price
FROM evstore.read_stream('money-1');
SELECT version FROM evstore.append_events('money-1', '[{"type": "Paid", "data": {"a": 0.1, "total": 12345678901234567890.12}}]');
SELECT version FROM evstore.append_arrays('money-1', '{Paid}', ARRAY['{"a": 0.1, "total": 12345678901234567890.12}'::jsonb]);
SELECT sum((data->'a')::numeric), sum((data->'total')::numeric) FROM evstore.read_stream('money-1');

-- ---- when it happened, and when it was recorded ----

-- The caller says when, the server records when it was told; the order of a
-- stream is that of its versions, whatever both say.
SET evstore.now_override = '2026-03-01 10:00+00';
SELECT version FROM evstore.append('clock-1', 'Late', occurred_at => '2026-02-01 00:00+00');
SET evstore.now_override = '2026-02-28 10:00+00';
SELECT version FROM evstore.append('clock-1', 'Early', occurred_at => '2027-01-01 00:00:00.000001+00');
SELECT version FROM evstore.append('clock-1', 'Local', occurred_at => '2026-01-01 12:00+05:30');
SELECT version FROM evstore.append('clock-1', 'Unsaid');
RESET evstore.now_override;
SELECT version, type, occurred_at, recorded_at FROM evstore.read_stream('clock-1');
SELECT version, type, occurred_at FROM evstore.events WHERE stream = 'clock-1' ORDER BY occurred_at;

-- The events of one call are recorded at one moment.
SELECT version FROM evstore.append_events('clock-2', '[{"type": "A"}, {"type": "B"}]');
SELECT count(DISTINCT recorded_at) FROM evstore.read_stream('clock-2');

-- ---- what the session adds ----

SET evstore.correlation_id = 'request-9';
SET evstore.causation_id = '6ba7b815-9dad-41d1-80b4-00c04fd430c8';
SET evstore.actor = 'ann';
SET evstore.traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
SELECT version FROM evstore.append('session-1', 'A');
SELECT version FROM evstore.append('session-1', 'B', metadata => '{"k": 1}');
-- what the call says goes before
SELECT version FROM evstore.append('session-1', 'C', metadata => '{"actor": "bob", "traceparent": "mine"}',
	correlation_id => 'other', causation_id => '6ba7b816-9dad-41d1-80b4-00c04fd430c8');
SELECT version FROM evstore.append_events('session-1', '[{"type": "D"}, {"type": "E", "correlation_id": "own", "metadata": {"actor": "eve"}}]');
SELECT version FROM evstore.append_arrays('session-1', '{F}');
SELECT version FROM evstore.append_streams('[{"stream": "session-1", "events": [{"type": "G"}]}]');
RESET evstore.correlation_id;
RESET evstore.causation_id;
RESET evstore.actor;
RESET evstore.traceparent;
SELECT version FROM evstore.append('session-1', 'H');
SELECT type, correlation_id, right(causation_id::text, 31) AS cause, metadata FROM evstore.read_stream('session-1');

-- Without a correlation id an event has that of its cause, if that is there.
SELECT version FROM evstore.append('cause-1', 'Cause', event_id => '6ba7b817-9dad-41d1-80b4-00c04fd430c8', correlation_id => 'flow-1');
SELECT version FROM evstore.append('cause-2', 'Effect', causation_id => '6ba7b817-9dad-41d1-80b4-00c04fd430c8');
SELECT version FROM evstore.append('cause-2', 'Other', causation_id => '6ba7b817-9dad-41d1-80b4-00c04fd430c8', correlation_id => 'own');
SELECT version FROM evstore.append('cause-2', 'None', causation_id => '6ba7b818-9dad-41d1-80b4-00c04fd430c8');
SELECT version FROM evstore.append_events('cause-2', '[{"type": "Json", "causation_id": "6ba7b817-9dad-41d1-80b4-00c04fd430c8"}]');
SET evstore.causation_id = '6ba7b817-9dad-41d1-80b4-00c04fd430c8';
SELECT version FROM evstore.append_arrays('cause-2', '{Session}');
SET evstore.correlation_id = 'setting';
SELECT version FROM evstore.append('cause-2', 'Setting');
RESET evstore.causation_id;
RESET evstore.correlation_id;
SELECT type, correlation_id FROM evstore.read_stream('cause-2');

-- SET LOCAL is for one transaction.
BEGIN;
SET LOCAL evstore.correlation_id = 'local';
SELECT version FROM evstore.append('session-2', 'A');
COMMIT;
SELECT version FROM evstore.append('session-2', 'B');
SELECT version, correlation_id FROM evstore.read_stream('session-2');

-- Settings are checked when they are set; an empty one is none.
SET evstore.causation_id = 'not-a-uuid';
\echo :SQLSTATE
SET evstore.traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7';
\echo :SQLSTATE
SET evstore.traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x';
\echo :SQLSTATE
\set VERBOSITY sqlstate
SELECT set_config('evstore.correlation_id', repeat('x', 513), false);
\set VERBOSITY default
SELECT length(set_config('evstore.correlation_id', repeat('x', 512), false));
SELECT version FROM evstore.append('session-3', 'A');
SET evstore.correlation_id = '';
SELECT version FROM evstore.append('session-3', 'B');
SELECT version, length(correlation_id) AS length, correlation_id IS NULL AS none FROM evstore.read_stream('session-3');

-- capture_context says who it was; the client can neither leave it out nor fake it.
SET evstore.capture_context = on;
SET application_name = 'shop';
SELECT version FROM evstore.append('context-1', 'A');
SELECT version FROM evstore.append('context-1', 'B', metadata => '{"context": {"session_user": "nobody"}, "k": 1}');
CREATE ROLE regress_evstore_writer;
SELECT evstore.grant_access('regress_evstore_writer', 'writer');
SET ROLE regress_evstore_writer;
SET evstore.capture_context = off;
\echo :SQLSTATE
BEGIN;
SELECT version FROM evstore.append('context-1', 'C');
SELECT metadata->'context'->>'transaction' = txid_current()::text AS this_transaction
FROM evstore.read_stream('context-1', 2);
COMMIT;
RESET ROLE;
RESET evstore.capture_context;
SELECT version, metadata->'context'->>'session_user' = session_user AS session_user,
	replace(metadata->'context'->>'user', current_user, 'owner') AS "user",
	metadata->'context'->>'application_name' AS application,
	metadata - 'context' AS rest
FROM evstore.read_stream('context-1');
DROP OWNED BY regress_evstore_writer;
DROP ROLE regress_evstore_writer;

SELECT check_name, detail FROM evstore.verify() WHERE NOT ok;
\c :main
DROP DATABASE evstore_append WITH (FORCE);
