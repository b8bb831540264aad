-- CloudEvents and the envelope dialects: what comes in goes out again, to the digit.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;
BEGIN;
-- a zone and formats that would show if any of them mattered
SET LOCAL timezone = 'Asia/Kathmandu';
SET LOCAL datestyle = 'SQL, DMY';

SELECT plan(114);

-- ---- helpers ----

-- the newest event of a stream
CREATE FUNCTION pg_temp.newest(stream text) RETURNS evstore.event LANGUAGE sql AS
$$ SELECT e FROM evstore.read_stream(stream) AS e ORDER BY e.version DESC LIMIT 1 $$;

-- append, read, and give back those members that the event had on its way in
CREATE FUNCTION pg_temp.there_and_back(cloudevent jsonb, stream text DEFAULT NULL)
RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	result jsonb;
BEGIN
	PERFORM evstore.append_cloudevent(cloudevent, stream);
	result := evstore.to_cloudevent(pg_temp.newest(coalesce(stream, cloudevent ->> 'subject')));
	RETURN (
		SELECT jsonb_object_agg(r.key, r.value)
		FROM jsonb_each(result) AS r
		WHERE cloudevent ? r.key OR r.key IN ('data', 'data_base64'));
END $$;

-- import, append where it says, read, export
CREATE FUNCTION pg_temp.through_store(envelope jsonb, dialect text, stream text DEFAULT NULL)
RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	i jsonb := evstore.import_event(envelope, dialect, stream);
BEGIN
	PERFORM evstore.append_events(i ->> 'stream', jsonb_build_array(i -> 'event'),
		expected_version => (i ->> 'version')::bigint - 1);
	RETURN evstore.export_event(pg_temp.newest(i ->> 'stream'), dialect);
END $$;

-- the JSON object in an error's DETAIL
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

-- ---- to_cloudevent ----

SELECT lives_ok($$
	SELECT evstore.append('order-1', 'OrderPlaced', '{"total": 99.90}',
		metadata => '{"actor": "ann", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}',
		event_id => '01890a5d-ac96-774b-bcce-b302099a8057',
		correlation_id => 'c-1', causation_id => '01890a5d-ac96-774b-bcce-b302099a8000',
		schema_version => 3, occurred_at => '2025-11-17 12:00:00.25+01:30')
	$$, 'append an ordinary event');
SELECT is(
	evstore.to_cloudevent(pg_temp.newest('order-1')) - 'sequence',
	jsonb_build_object(
		'specversion', '1.0', 'id', '01890a5d-ac96-774b-bcce-b302099a8057',
		'source', '/evstore/' || current_database() || '/order', 'type', 'OrderPlaced',
		'subject', 'order-1', 'time', '2025-11-17T10:30:00.25Z',
		'datacontenttype', 'application/json',
		'correlationid', 'c-1', 'causationid', '01890a5d-ac96-774b-bcce-b302099a8000',
		'streamversion', 0, 'schemaversion', 3, 'partitionkey', 'order-1',
		'traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
		'data', '{"total": 99.90}'::jsonb),
	'every attribute, and no more: the actor stays here');
SELECT matches(evstore.to_cloudevent(pg_temp.newest('order-1')) ->> 'sequence', '^[0-9]{20}$',
	'sequence is zero-padded');
SELECT is((evstore.to_cloudevent(pg_temp.newest('order-1')) ->> 'sequence')::bigint,
	(pg_temp.newest('order-1'))."position", 'sequence is the position');
SELECT is((evstore.to_cloudevent(pg_temp.newest('order-1')) -> 'data')::text, '{"total": 99.90}',
	'99.90 stays 99.90');
SELECT is(evstore.to_cloudevent(NULL), NULL, 'NULL gives NULL');

SELECT lives_ok($$ SELECT evstore.append('größe 1/2-x', 'Measured', 'null', source => 'plant 7/ä') $$,
	'an event with characters that a URI cannot have');
SELECT is(evstore.to_cloudevent(pg_temp.newest('größe 1/2-x')) ->> 'source', 'plant%207/%C3%A4',
	'source is a URI reference');
SELECT is(evstore.to_cloudevent(pg_temp.newest('größe 1/2-x')) -> 'data', 'null', 'data may be null');
SELECT lives_ok($$ SELECT evstore.append('größe 1/2-x', 'Measured') $$, 'without a source');
SELECT is(evstore.to_cloudevent(pg_temp.newest('größe 1/2-x')) ->> 'source',
	'/evstore/' || current_database() || '/gr%C3%B6%C3%9Fe%201%2F2', 'the category is one path segment');
SELECT is(evstore.to_cloudevent(pg_temp.newest('größe 1/2-x')) - '{correlationid,causationid,traceparent}'::text[],
	evstore.to_cloudevent(pg_temp.newest('größe 1/2-x')), 'attributes without a value are left out');

SELECT lives_ok($$ SELECT evstore.append('attr-1', 'T', metadata => '{"cloudevent": {"dataschema": "https://example.com/s",
	"tenant": "acme", "hot": true, "specversion": "9", "id": 5, "Bad": "x", "deep": {"a": 1}}}') $$,
	'attributes of the application''s own in metadata.cloudevent');
SELECT is((SELECT array_agg(a ORDER BY a) FROM jsonb_object_keys(evstore.to_cloudevent(pg_temp.newest('attr-1'))) AS a
	WHERE a IN ('dataschema', 'tenant', 'hot', 'Bad', 'deep')), '{dataschema,hot,tenant}'::text[],
	'those that can be attributes are');
SELECT is(evstore.to_cloudevent(pg_temp.newest('attr-1')) ->> 'specversion', '1.0', 'specversion cannot be overridden');
SELECT is(evstore.to_cloudevent(pg_temp.newest('attr-1')) ->> 'id', (pg_temp.newest('attr-1')).event_id::text,
	'nor an id that is no string');
SELECT lives_ok($$ SELECT evstore.append('attr-1', 'T', metadata => '{"cloudevent": "odd"}') $$, 'something else under the key');
SELECT is(evstore.to_cloudevent(pg_temp.newest('attr-1')) -> 'data', '{}', 'is passed over');

-- ---- append_cloudevent: attributes in = attributes out ----

SELECT is(pg_temp.there_and_back(c.cloudevent, c.stream)::text, (c.expected)::text, 'round trip: ' || c.name)
FROM (
	SELECT v.name, v.stream, v.cloudevent::jsonb,
		(SELECT jsonb_object_agg(key, value) FROM jsonb_each(v.cloudevent::jsonb)
		 WHERE value <> 'null' OR key = 'data') AS expected
	FROM (VALUES
		('an order', NULL, '{"specversion": "1.0", "type": "com.example.order.created", "source": "/orders/order-service",
			"id": "A234-1234-1234", "time": "2024-01-15T10:00:00Z", "datacontenttype": "application/json",
			"subject": "order-12345", "data": {"orderId": "order-12345", "total": 99.990,
			"items": [{"productId": "prod-111", "quantity": 2, "price": 49.99}]}}'),
		('a UUID', NULL, '{"specversion": "1.0", "type": "t", "source": "s", "subject": "rt-1",
			"id": "01890a5d-ac96-774b-bcce-b302099a8111", "data": 1}'),
		('a UUID in upper case', NULL, '{"specversion": "1.0", "type": "t", "source": "s", "subject": "rt-2",
			"id": "01890A5D-AC96-774B-BCCE-B302099A8112", "data": 1}'),
		('every attribute of evstore''s', NULL, '{"specversion": "1.0", "type": "t", "source": "https://example.com/a?b=c#d",
			"subject": "rt-3", "id": "1", "time": "2025-11-17T10:30:00.123456Z", "correlationid": "c", "causationid":
			"01890a5d-ac96-774b-bcce-b302099a8000", "sequence": "00000000000000000042", "streamversion": 7, "schemaversion": 3,
			"partitionkey": "p", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
			"tracestate": "a=b", "dataschema": "https://example.com/schema", "data": {}}'),
		('a causation id that is no UUID', NULL, '{"specversion": "1.0", "type": "t", "source": "/a", "subject": "rt-4",
			"id": "2", "causationid": "order-123", "data": {}}'),
		('a time in another zone, nanoseconds', NULL, '{"specversion": "1.0", "type": "t", "source": "/a", "subject": "rt-5",
			"id": "3", "time": "2025-11-17T12:00:00.123456789+01:30", "data": {}}'),
		('a time in lower case', NULL, '{"specversion": "1.0", "type": "t", "source": "/a", "subject": "rt-6",
			"id": "4", "time": "2025-11-17t12:00:00.500z", "data": {}}'),
		('no data', NULL, '{"specversion": "1.0", "type": "t", "source": "/a", "subject": "rt-7", "id": "5"}'),
		('data null', NULL, '{"specversion": "1.0", "type": "t", "source": "/a", "subject": "rt-8", "id": "6", "data": null}'),
		('data {}', NULL, '{"specversion": "1.0", "type": "t", "source": "/a", "subject": "rt-9", "id": "7", "data": {}}'),
		('a JSON string', NULL, '{"specversion": "1.0", "type": "t", "source": "/a", "subject": "rt-10", "id": "8", "data": "text"}'),
		('XML', NULL, '{"specversion": "1.0", "type": "t", "source": "/a", "subject": "rt-11", "id": "9",
			"datacontenttype": "application/xml", "data": "<much wow=\"xml\"/>"}'),
		('JSON of another name', NULL, '{"specversion": "1.0", "type": "t", "source": "/a", "subject": "rt-12", "id": "10",
			"datacontenttype": "application/vnd.acme+json; charset=utf-8", "data": {"a": 1.50}}'),
		('binary data', NULL, '{"specversion": "1.0", "type": "t", "source": "/a", "subject": "rt-13", "id": "11",
			"datacontenttype": "application/octet-stream", "data_base64": "AAEC/w=="}'),
		('extensions of each type', NULL, '{"specversion": "1.0", "type": "t", "source": "/a", "subject": "rt-14", "id": "12",
			"comexamplestring": "", "comexampleint": -2147483648, "comexamplebool": false, "sampledrate": 5, "data": {}}'),
		('null attributes are none', NULL, '{"specversion": "1.0", "type": "t", "source": "/a", "subject": "rt-15", "id": "13",
			"dataschema": null, "comexample": null, "data": {}}'),
		('another schema version', NULL, '{"specversion": "1.0", "type": "t", "source": "/a", "subject": "rt-16", "id": "14",
			"schemaversion": "2.1", "data": {}}'),
		('a stream that is not the subject', 'rt-17', '{"specversion": "1.0", "type": "t", "source": "/a",
			"subject": "mynewfile.jpg", "id": "15", "data": {}}'),
		('a source that is no URI reference', NULL, '{"specversion": "1.0", "type": "t", "source": "order service", "subject": "rt-18",
			"id": "16", "data": {}}')
	) AS v (name, stream, cloudevent)
) AS c;

SELECT is((e.occurred_at, e.source, e.type, e.schema_version)::text,
	(timestamptz '2025-11-17 10:30:00.123457Z', '/a', 't', 1)::text, 'attributes are in the columns')
FROM evstore.read_stream('rt-5') AS e;
SELECT is((e.schema_version, e.correlation_id, e.causation_id, e.metadata -> 'tracestate')::text,
	(3, 'c', '01890a5d-ac96-774b-bcce-b302099a8000'::uuid, '"a=b"'::jsonb)::text, 'the others too')
FROM evstore.read_stream('rt-3') AS e;
SELECT is(e.metadata, '{}', 'a usual event keeps nothing beside the columns')
FROM evstore.read_stream('rt-1') AS e;
SELECT is(e.metadata, '{"cloudevent": {"id": "A234-1234-1234"}}', 'an id that is no UUID is kept')
FROM evstore.read_stream('order-12345') AS e;
SELECT is(e.event_id, '0d461217-444c-8a57-a9d3-c1f9aeac7815', 'and gives the same event id always')
FROM evstore.read_stream('order-12345') AS e;
SELECT is(
	(SELECT e.causation_id FROM evstore.read_stream('rt-4') AS e),
	evstore._name_uuid('/a', 'order-123'), 'a causation id is an event of the same source');

-- an event that left one store enters another as it was
SELECT lives_ok($$
	SELECT evstore.append_cloudevent(
		evstore.to_cloudevent(pg_temp.newest('order-1')) || '{"id": "01890a5d-ac96-774b-bcce-b302099a9999"}', 'relayed-1')
	$$, 'append what to_cloudevent() gave');
SELECT is(
	evstore.to_cloudevent(pg_temp.newest('relayed-1')) - 'id',
	evstore.to_cloudevent(pg_temp.newest('order-1')) - 'id',
	'source, sequence, stream version and all are those of the store it came from');

-- ---- the same event twice ----

CREATE TEMP TABLE first_result AS
SELECT * FROM evstore.append_cloudevent(
	'{"specversion": "1.0", "type": "t", "source": "/twice", "subject": "twice-1", "id": "x", "data": 1}');
SELECT results_eq(
	$$ SELECT version, "position" FROM evstore.append_cloudevent(
		'{"specversion": "1.0", "type": "t", "source": "/twice", "subject": "twice-1", "id": "x", "data": 1}') $$,
	'SELECT version, "position" FROM first_result', 'the same source and id: the first result');
SELECT results_eq(
	$$ SELECT version, "position" FROM evstore.append_cloudevent(
		'{"specversion": "1.0", "type": "t", "source": "/twice", "subject": "twice-1", "id": "x", "data": 1}', expected_version => -1) $$,
	'SELECT version, "position" FROM first_result', 'whatever version is expected');
SELECT is((SELECT count(*) FROM evstore.read_stream('twice-1')), 1::bigint, 'and one event');
SELECT results_eq(
	$$ SELECT version FROM evstore.append_cloudevent(
		'{"specversion": "1.0", "type": "t", "source": "/other", "subject": "twice-1", "id": "x", "data": 1}') $$,
	'VALUES (1::bigint)', 'another source: another event');
SELECT throws_ok(
	$$ SELECT evstore.append_cloudevent(
		'{"specversion": "1.0", "type": "t", "source": "/twice", "subject": "twice-1", "id": "x", "data": 2}') $$,
	'VS003', NULL, 'other content: an error');
SELECT throws_ok(
	$$ SELECT evstore.append_cloudevent(
		'{"specversion": "1.0", "type": "t", "source": "/twice", "subject": "twice-1", "id": "y", "data": 2}', NULL, 0) $$,
	'VS001', NULL, 'an expected version is compared');

-- ---- what is no CloudEvents event ----

SELECT throws_ok(format('SELECT evstore.append_cloudevent(%L)', c.cloudevent), 'VS005', c.message, c.message)
FROM (VALUES
	('{"type": "t", "source": "/a", "id": "1", "subject": "s"}', 'required CloudEvents attribute "specversion" is missing'),
	('{"specversion": "1.0", "type": "t", "source": "/a", "subject": "s"}', 'required CloudEvents attribute "id" is missing'),
	('{"specversion": "1.0", "type": "t", "id": "1", "subject": "s"}', 'required CloudEvents attribute "source" is missing'),
	('{"specversion": "1.0", "type": null, "source": "/a", "id": "1", "subject": "s"}', 'required CloudEvents attribute "type" is missing'),
	('{"specversion": "0.3", "type": "t", "source": "/a", "id": "1"}', 'CloudEvents attribute "specversion" must be "1.0"'),
	('{"specversion": 1.0, "type": "t", "source": "/a", "id": "1"}', 'CloudEvents attribute "specversion" must be "1.0"'),
	('{"specversion": "1.0", "type": "t", "source": "/a", "id": ""}', 'CloudEvents attribute "id" must be a string that is not empty'),
	('{"specversion": "1.0", "type": "t", "source": "/a", "id": 1}', 'CloudEvents attribute "id" must be a string that is not empty'),
	('{"specversion": "1.0", "type": "t", "source": "/a", "id": "1", "subject": ""}', 'CloudEvents attribute "subject" must be a string that is not empty'),
	('{"specversion": "1.0", "type": "t", "source": "/a", "id": "1", "time": "2025-11-17T10:30:00"}', 'CloudEvents attribute "time" must be an RFC 3339 time with a zone'),
	('{"specversion": "1.0", "type": "t", "source": "/a", "id": "1", "time": "2025-13-17T10:30:00Z"}', 'CloudEvents attribute "time" must be an RFC 3339 time with a zone'),
	('{"specversion": "1.0", "type": "t", "source": "/a", "id": "1", "time": "now"}', 'CloudEvents attribute "time" must be an RFC 3339 time with a zone'),
	('{"specversion": "1.0", "type": "t", "source": "/a", "id": "1", "Tenant": "x"}', 'CloudEvents attribute "Tenant" has a name that is not lower-case letters and digits'),
	('{"specversion": "1.0", "type": "t", "source": "/a", "id": "1", "tenant": {"a": 1}}', 'CloudEvents attribute "tenant" must be a string, a boolean or an integer'),
	('{"specversion": "1.0", "type": "t", "source": "/a", "id": "1", "rate": 0.5}', 'CloudEvents attribute "rate" must be an integer of 32 bits'),
	('{"specversion": "1.0", "type": "t", "source": "/a", "id": "1", "rate": 2147483648}', 'CloudEvents attribute "rate" must be an integer of 32 bits'),
	('{"specversion": "1.0", "type": "t", "source": "/a", "id": "1", "data_base64": "%%%"}', 'CloudEvents attribute "data_base64" must be Base64'),
	('{"specversion": "1.0", "type": "t", "source": "/a", "id": "1", "data_base64": 5}', 'CloudEvents attribute "data_base64" must be a string'),
	('{"specversion": "1.0", "type": "t", "source": "/a", "id": "1", "data": 1, "data_base64": "AAEC"}', 'a CloudEvents event has either "data" or "data_base64"'),
	('{"specversion": "1.0", "type": "t", "source": "/a", "id": "1", "datacontenttype": "text/plain", "data": {}}', 'data of content type "text/plain" must be a string'),
	('{"specversion": "1.0", "type": "t", "source": "/a", "id": "1"}', 'a CloudEvents event without attribute "subject" names no stream'),
	('[]', 'a CloudEvents event must be a JSON object')
) AS c (cloudevent, message);
SELECT is(pg_temp.detail_of($$ SELECT evstore.append_cloudevent('{"specversion": "1.0", "type": "t"}') $$),
	'{"field": "id", "missing": ["id", "source"]}', 'DETAIL has the facts');

-- ---- dialects: the envelope comes back ----

SELECT is(pg_temp.through_store(d.envelope::jsonb, d.dialect)::text, d.envelope::jsonb::text,
	format('%s round trip: %s', d.dialect, d.name))
FROM (VALUES
	('snake', 'complete', '{"event_id": "01890a5d-ac96-774b-bcce-b302099a8201", "event_type": "OrderCreated", "aggregate_id": "12-3",
		"aggregate_type": "Order", "event_version": 1, "timestamp": "2025-11-17T10:30:00.123456", "metadata": {"user": "ann"},
		"data": {"total": 0.1, "sum": 12345678901234567890.12, "price": 1.10}}'),
	('snake', 'mandatory keys only', '{"event_id": "e-1", "event_type": "OrderPaid", "aggregate_id": "77",
		"aggregate_type": "Order", "event_version": 2, "timestamp": "2025-11-17T10:30:00+01:00"}'),
	('snake', 'odd forms', '{"event_id": "e-2", "event_type": "X", "aggregate_id": "", "aggregate_type": "Multi-Part", "event_version": "0.9",
		"timestamp": "2025-11-17 10:30:00.5Z", "metadata": {"envelope": "mine"}, "data": null, "extra": [1.0]}'),
	('camel', 'complete', '{"eventId": "evt_12345", "eventType": "OrderCreated", "eventVersion": "1.0", "timestamp": "2025-11-17T10:30:00Z",
		"source": "order-service", "correlationId": "corr_67890", "causationId": "evt_11111",
		"data": {"orderId": "order-123", "userId": "user-456", "total": 99.99, "items": []},
		"metadata": {"userId": "user-456", "ipAddress": "1.2.3.4"}}'),
	('camel', 'as its producer writes it', '{"eventId": "evt_8b1d", "eventType": "OrderCreated", "eventVersion": "1.0",
		"timestamp": "2025-11-17T10:30:00.000001", "source": "order-service", "correlationId": "corr_1", "data": {"total": 0.30}}'),
	('camel', 'null and empty members', '{"eventId": "01890a5d-ac96-774b-bcce-b302099a8202", "eventType": "X", "eventVersion": 2, "timestamp": "2025-11-17T10:30:00Z",
		"source": "s", "correlationId": "", "causationId": null, "metadata": {}}'),
	('payload', 'complete', '{"event_id": "01890a5d-ac96-774b-bcce-b302099a8203", "event_type": "UserRegisteredEvent", "timestamp": "2025-11-17T10:30:00",
		"source_service": "user-service", "correlation_id": "c", "causation_id": "01890a5d-ac96-774b-bcce-b302099a8201",
		"version": "1.0", "metadata": {"a": 1}, "payload": {"amount": 250.00}}'),
	('payload', 'defaults of its class', '{"event_id": "01890a5d-ac96-774b-bcce-b302099a8204", "event_type": "UserRegisteredEvent", "timestamp": "2025-11-17T10:30:00.5",
		"source_service": "unknown", "correlation_id": null, "causation_id": null, "version": "2.1", "metadata": {}, "payload": {}}'),
	('epoch', 'read from its store', '{"event_id": "01890a5d-ac96-774b-bcce-b302099a8205", "event_type": "OrderPlaced", "aggregate_id": "order-456",
		"payload": {"total": 99.90}, "timestamp": 1763375400.123456, "metadata": {"version": 1, "region": "eu"}}'),
	('epoch', 'metadata None', '{"event_id": "e-9", "event_type": "OrderPlaced", "aggregate_id": "order-457",
		"payload": {"total": 299.99}, "timestamp": 1763375400.1234567, "metadata": null}'),
	('epoch', 'before 1970', '{"event_id": "e-10", "event_type": "Moon", "aggregate_id": "apollo",
		"payload": null, "timestamp": -14182940.0, "metadata": {"version": "three"}}')
) AS d (dialect, name, envelope);

SELECT is(evstore.import_event('{"event_id": "01890a5d-ac96-774b-bcce-b302099a8201", "event_type": "OrderCreated", "aggregate_id": "12-3",
		"aggregate_type": "Order", "event_version": 2, "timestamp": "2025-11-17T10:30:00.120", "metadata": {"user": "ann"}, "data": {"a": 1}}', 'snake'),
	'{"stream": "Order-12-3", "event": {"type": "OrderCreated", "event_id": "01890a5d-ac96-774b-bcce-b302099a8201", "schema_version": 2,
		"occurred_at": "2025-11-17T10:30:00.12Z", "data": {"a": 1},
		"metadata": {"user": "ann", "envelope": {"dialect": "snake", "set": {"timestamp": "2025-11-17T10:30:00.120"}}}}}',
	'snake: aggregate type and id name the stream, the time is UTC');
SELECT is(i -> 'stream', '"order-service"', 'camel: the stream is the source') FROM evstore.import_event(
	'{"eventId": "evt_1", "eventType": "T", "eventVersion": "1.0", "timestamp": "2025-11-17T10:30:00Z", "source": "order-service"}', 'camel') AS i;
SELECT is(i -> 'stream', '"order-1"', 'unless one is passed') FROM evstore.import_event(
	'{"eventId": "evt_1", "eventType": "T", "eventVersion": "1.0", "timestamp": "2025-11-17T10:30:00Z", "source": "order-service"}', 'camel', 'order-1') AS i;
SELECT is((i -> 'version', i #> '{event,metadata}')::text, ('6'::jsonb, '{}'::jsonb)::text,
	'epoch: metadata.version counts from 1') FROM evstore.import_event(
	'{"event_id": "01890a5d-ac96-774b-bcce-b302099a8206", "event_type": "T", "aggregate_id": "a", "payload": {}, "timestamp": 1,
	  "metadata": {"version": 7}}', 'epoch') AS i;
SELECT is(
	evstore.import_event('{"eventId": "evt_2", "eventType": "T", "eventVersion": "1.0", "timestamp": "2025-11-17T10:30:00Z", "source": "a",
		"causationId": "evt_1"}', 'camel') #> '{event,causation_id}',
	evstore.import_event('{"eventId": "evt_1", "eventType": "T", "eventVersion": "1.0", "timestamp": "2025-11-17T10:30:00Z", "source": "b"}',
		'camel') #> '{event,event_id}',
	'a causation id still points to its event');
SELECT is(
	evstore.export_event(pg_temp.newest('Order-12-3'), 'camel') - 'data' - 'metadata',
	'{"eventId": "01890a5d-ac96-774b-bcce-b302099a8201", "eventType": "OrderCreated", "eventVersion": "1.0",
	  "timestamp": "2025-11-17T10:30:00.123456Z", "source": "Order"}', 'from one dialect to another');
SELECT lives_ok($$ SELECT evstore.append('order-456', 'OrderPaid', '{}') $$, 'a second event');
SELECT is(evstore.export_event(pg_temp.newest('order-456'), 'epoch') #> '{metadata,version}', '2',
	'epoch: an event of evstore''s own tells its version');
SELECT is(evstore.export_event(NULL, 'snake'), NULL, 'NULL gives NULL');

-- ---- dialects: errors ----

SELECT throws_ok(format('SELECT evstore.import_event(%L::jsonb - %L, %L)', d.envelope, d.key, d.dialect),
	'VS005', format('key "%s" of the event envelope is missing', d.key), format('%s without %s', d.dialect, d.key))
FROM (
	SELECT v.dialect, v.envelope, k.key
	FROM (VALUES
		('snake', '{"event_id": "e", "event_type": "T", "aggregate_id": "1", "aggregate_type": "A", "event_version": 1, "timestamp": "2025-11-17T10:30:00"}'),
		('camel', '{"eventId": "e", "eventType": "T", "eventVersion": "1.0", "timestamp": "2025-11-17T10:30:00Z", "source": "s"}')
	) AS v (dialect, envelope)
	CROSS JOIN jsonb_object_keys(v.envelope::jsonb) AS k (key)
	ORDER BY v.dialect, k.key
) AS d;
SELECT throws_ok(format('SELECT evstore.import_event(%L, %L)', e.envelope, e.dialect), e.code, e.message, e.message)
FROM (VALUES
	('payload', '{"event_id": "e", "event_type": "T", "timestamp": "2025-11-17T10:30:00", "source_service": "s", "version": "1.0"}',
		'VS005', 'key "metadata" of the event envelope is missing'),
	('epoch', '{"event_id": "e", "event_type": "T", "aggregate_id": "a", "timestamp": 1}',
		'VS005', 'key "payload" of the event envelope is missing'),
	('epoch', '{"event_id": "e", "event_type": "T", "aggregate_id": "a", "payload": {}, "timestamp": 1763375400000}',
		'VS005', 'key "timestamp" of the event envelope must be a number of seconds since 1970'),
	('epoch', '{"event_id": 5, "event_type": "T", "aggregate_id": "a", "payload": {}, "timestamp": 1}',
		'VS005', 'key "event_id" of the event envelope must be a string'),
	('camel', '{"eventId": "e", "eventType": "T", "eventVersion": "v1", "timestamp": "2025-11-17T10:30:00Z", "source": "s"}',
		'VS005', 'key "eventVersion" of the event envelope must be a version such as 1 or "1.0"'),
	('camel', '{"eventId": "e", "eventType": "T", "eventVersion": "1.0", "timestamp": "17.11.2025", "source": "s"}',
		'VS005', 'key "timestamp" of the event envelope must be an ISO 8601 time'),
	('camel', '{"eventId": "e", "eventType": "T", "eventVersion": "1.0", "timestamp": "2025-11-17T10:30:00Z", "source": "s", "metadata": 5}',
		'VS005', 'key "metadata" of the event envelope must be an object'),
	('camel', '"text"', 'VS005', 'an event envelope must be a JSON object'),
	('kebab', '{}', '22023', 'event dialect "kebab" is not known')
) AS e (dialect, envelope, code, message);

SELECT * FROM finish();
ROLLBACK;
