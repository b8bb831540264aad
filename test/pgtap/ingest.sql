-- Payloads of brokers and web hooks: decoded as they should be, each event once, and
-- whatever is wrong with one said clearly.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;
BEGIN;
SET LOCAL timezone = 'Asia/Kathmandu';
SET LOCAL datestyle = 'SQL, DMY';
-- the time of events that have none
SET LOCAL evstore.now_override = '2030-01-01 00:00+00';

SELECT no_plan();

-- ---- helpers ----

-- What a payload gives, in short: status, and the event as CloudEvents has it, less what
-- evstore adds.
CREATE FUNCTION pg_temp.got(payload text, format text DEFAULT 'auto', attributes jsonb DEFAULT NULL,
	stream text DEFAULT NULL, type text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_agg(CASE WHEN i.event_id IS NULL THEN jsonb_build_object('status', i.status, 'detail', i.detail)
			ELSE evstore.to_cloudevent(e) - '{specversion,schemaversion,streamversion}'::text[]
				- CASE WHEN e.metadata #> '{cloudevent,sequence}' IS NULL THEN 'sequence' ELSE '' END
				- CASE WHEN e.metadata #> '{cloudevent,partitionkey}' IS NULL THEN 'partitionkey' ELSE '' END
				- CASE WHEN e.metadata #> '{cloudevent,subject}' IS NULL THEN 'subject' ELSE '' END
				- CASE WHEN e.occurred_at = e.recorded_at THEN 'time' ELSE '' END
				|| jsonb_strip_nulls(jsonb_build_object('attributes', e.metadata -> 'attributes'))
		END ORDER BY i.index)
	FROM evstore.ingest(payload, format, attributes, stream, type, options) AS i
		LEFT JOIN LATERAL evstore.get_event(coalesce(i.event_id, '00000000-0000-0000-0000-000000000000')) AS e ON true
$$;

-- Status of each event, in their order.
CREATE FUNCTION pg_temp.statuses(payload text, format text DEFAULT 'auto', options jsonb DEFAULT '{}',
	stream text DEFAULT NULL)
RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(i.status, ' ' ORDER BY i.index) FROM evstore.ingest(payload, format, NULL, stream, NULL, options) AS i
$$;

-- SQLSTATE, message and DETAIL of what is thrown.
CREATE FUNCTION pg_temp.thrown(payload text, format text DEFAULT 'auto', attributes jsonb DEFAULT NULL,
	stream text DEFAULT NULL, type text DEFAULT NULL, options jsonb DEFAULT '{}')
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	PERFORM evstore.ingest(payload, format, attributes, stream, type, options);
	RETURN 'nothing';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''));
END $$;

CREATE FUNCTION pg_temp.event(id text, VARIADIC more text[] DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('specversion', '1.0', 'id', id, 'source', '/test', 'type', 't') || jsonb_object(more)
$$;

-- ---- the same as append_cloudevent() ----

-- One event by both ways, each undone; what is stored, or the SQLSTATE.
CREATE FUNCTION pg_temp.stored(cloudevent jsonb, way text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	IF way = 'append' THEN
		PERFORM evstore.append_cloudevent(cloudevent, 'twin-1');
	ELSE
		PERFORM evstore.ingest(cloudevent::text, 'cloudevents', stream => 'twin-1');
	END IF;
	SELECT jsonb_build_object('id', e.event_id, 'type', e.type, 'schema', e.schema_version, 'data', e.data,
		'metadata', e.metadata, 'correlation', e.correlation_id, 'causation', e.causation_id, 'source', e.source,
		'occurred', e.occurred_at)::text
	INTO result
	FROM evstore.read_stream('twin-1') AS e;
	RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = result;
EXCEPTION
	WHEN SQLSTATE 'ZZ001' THEN
		RETURN SQLERRM;
	WHEN SQLSTATE 'VS005' THEN
		RETURN SQLSTATE;
END $$;

-- Members and values that have met in the specification, in other stores, and at the edges.
CREATE TEMP TABLE candidates (name text, value jsonb);
INSERT INTO candidates
SELECT name, value FROM (VALUES
	('id', '["a", "0190b1a0-6c00-7000-8000-000000000001", "0190B1A0-6C00-7000-8000-00000000000A", "", 5, "A B", "ü", "0190b1a06c0070008000000000000001"]'::jsonb),
	('source', '["/s", "https://example.com/über", "a b", "", "urn:x:1", true]'),
	('type', '["t", "com.example.x", "", "ü"]'),
	('specversion', '["1.0", "1.0", "1.0", "1.0", "0.3", 1.0]'),
	('subject', '["twin-1", "other", "", 7]'),
	('time', '["2024-01-15T10:00:00Z", "2024-01-15T10:00:00.250Z", "2024-01-15T10:00:00.123456789Z", "2024-01-15T10:00:00+05:45", "2024-01-15t10:00:00z", "2024-01-15 10:00:00Z", "2024-01-15T10:00Z", "2024-01-15T10:00:00", "now", "2024-02-30T10:00:00Z", "infinity", "2024-01-15T10:00:00.Z", "2024-01-15T10:00:00+0545", "2024-01-15T10:00:00+05"]'),
	('datacontenttype', '["application/json", "text/plain", "application/problem+json; charset=utf-8", "image/png", "text/JSON", ""]'),
	('dataschema', '["https://example.com/s", "", 4]'),
	('data', '[{"a": 0.10}, "text", null, [1, 2], 12345678901234567890.12, true]'),
	('data_base64', '["AAEC/w==", "A", "", "AAEC /w==", 5, null, "AAE", "_-8=", "AAEC", "===="]'),
	('correlationid', '["c-1", "", 5, null]'),
	('causationid', '["0190b1a0-6c00-7000-8000-000000000002", "A-1", "0190B1A0-6C00-7000-8000-00000000000B", 5]'),
	('schemaversion', '[1, 2, "2", "2.1", 0, "x", -1, "2.", 999999999, "0"]'),
	('sequence', '["00000000000000000007", 7, ""]'),
	('partitionkey', '["twin-1", "p", ""]'),
	('streamversion', '[3, "3"]'),
	('traceparent', '["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", 5]'),
	('tracestate', '["a=b", true]'),
	('hops', '[1, 2147483647, 2147483648, 1.5, -2147483648]'),
	('tenant', '["acme", true, {"a": 1}, [1], null]'),
	('Upper', '["x"]'), ('under_score', '["x"]')
) AS v (name, options), jsonb_array_elements(v.options) AS value;

SELECT setseed(0.42);
CREATE TEMP TABLE twins AS
SELECT jsonb_object_agg(c.name, c.value) AS event
FROM generate_series(1, 3000) AS n
	CROSS JOIN LATERAL (
		-- the required ones mostly, and valid, or hardly any event would be
		SELECT DISTINCT ON (name) name, value FROM candidates
		WHERE n > 0 AND random() < CASE WHEN name IN ('id', 'source', 'type', 'specversion') THEN 0.98
			WHEN name IN ('Upper', 'under_score', 'data_base64') THEN 0.03 ELSE 0.15 END
		ORDER BY name, random()
	) AS c
GROUP BY n;
SELECT is_empty($$
	SELECT event, a, i FROM (SELECT event, pg_temp.stored(event, 'append') AS a, pg_temp.stored(event, 'ingest') AS i FROM twins) AS t
	WHERE a IS DISTINCT FROM i LIMIT 3 $$, 'ingest() stores what append_cloudevent() does, and refuses the same');
SELECT cmp_ok((SELECT count(*)::int FROM twins WHERE pg_temp.stored(event, 'ingest') <> 'VS005'), '>', 100, '... and many were events');
SELECT cmp_ok((SELECT count(*)::int FROM twins WHERE pg_temp.stored(event, 'ingest') = 'VS005'), '>', 300, '... and many were none');

-- ---- round trip of what relays send ----

SELECT evstore.append('rt-1', 'com.example.order', '{"total": 99.90, "note": "naïve ☃ \"quoted\"\n"}',
	metadata => '{"actor": "ann", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}',
	correlation_id => 'c%20 ü"x"', causation_id => '00000000-0000-4000-8000-000000000009', schema_version => 2,
	occurred_at => '2025-11-17 10:30:00.25+00', source => '/shop/käse 100%');
SELECT evstore.append('rt-1', 'Plain') FROM generate_series(1, 2);
SELECT evstore.append_cloudevent(e, 'rt-1') FROM jsonb_array_elements('[
	{"specversion": "1.0", "id": "x", "source": "https://example.com/über", "type": "xml", "time": "2018-04-05T17:31:00+02:00", "subject": "doc",
		"datacontenttype": "text/xml; charset=utf-8", "dataschema": "https://e.com/s", "ext": "a\"b\\c% d", "flag": true, "number": 5, "sequence": "7", "data": "<a b=\"c\"/>"},
	{"specversion": "1.0", "id": "y", "source": "/s", "type": "bytes", "datacontenttype": "application/octet-stream", "data_base64": "AAEC/w=="},
	{"specversion": "1.0", "id": "z", "source": "/s", "type": "none"},
	{"specversion": "1.0", "id": "v", "source": "/s", "type": "string", "data": "just a string"},
	{"specversion": "1.0", "id": "w", "source": "/s", "type": "text", "datacontenttype": "text/plain", "data": "zwölf"},
	{"specversion": "1.0", "id": "u", "source": "/s", "type": "empty", "datacontenttype": "text/plain", "data": ""},
	{"specversion": "1.0", "id": "n", "source": "/s", "type": "number", "data": 0.10}]') AS e;
CREATE TEMP TABLE sent AS
SELECT e.version, evstore.to_cloudevent(e) AS event,
	evstore._encode_event(e, 'cloudevents') AS structured, evstore._encode_event(e, 'cloudevents-binary') AS binary
FROM evstore.read_stream('rt-1') AS e;

-- As in another store: the first one forgets them all, and its ids.
CREATE FUNCTION pg_temp.in_another_store(how text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	got jsonb[];
BEGIN
	BEGIN
		PERFORM evstore.delete_stream('rt-1');
		PERFORM evstore.scavenge();
		CASE how
			WHEN 'structured' THEN
				PERFORM i.* FROM (SELECT * FROM sent ORDER BY version) AS s,
					evstore.ingest(s.structured ->> 'data', 'cloudevents', stream => 'copy-1') AS i;
			WHEN 'batch' THEN
				PERFORM evstore.ingest((SELECT '[' || string_agg(s.structured ->> 'data', ',' ORDER BY version) || ']' FROM sent AS s), 'cloudevents-batch', stream => 'copy-1');
			WHEN 'http' THEN
				-- as src/sinks/http_message.c encodes values: space, quote, percent and what is not ASCII
				PERFORM i.* FROM (SELECT * FROM sent ORDER BY version) AS s,
					evstore.ingest_bytes(
						CASE WHEN s.binary ->> 'data' LIKE '\\x%' THEN (s.binary ->> 'data')::bytea
							ELSE convert_to(coalesce(s.binary ->> 'data', ''), 'UTF8') END, 'auto',
						(SELECT jsonb_object_agg('Ce-' || a.key, evstore._uri_encode(a.value, '[]!#$&''()*+,./0-9:;<=>?@A-Z\\^_`a-z{|}~-]'))
							FROM jsonb_each_text(s.binary -> 'attributes') AS a)
						|| CASE WHEN s.binary ->> 'content_type' IS NULL THEN '{}'
							ELSE jsonb_build_object('Content-Type', s.binary ->> 'content_type') END,
						stream => 'copy-1') AS i;
			WHEN 'bare' THEN
				PERFORM i.* FROM (SELECT * FROM sent ORDER BY version) AS s,
					evstore.ingest_bytes(
						CASE WHEN s.binary ->> 'data' LIKE '\\x%' THEN (s.binary ->> 'data')::bytea
							ELSE convert_to(coalesce(s.binary ->> 'data', ''), 'UTF8') END, 'cloudevents-binary',
						(s.binary -> 'attributes') || jsonb_strip_nulls(jsonb_build_object('Content Type', s.binary ->> 'content_type')),
						stream => 'copy-1') AS i;
		END CASE;
		got := ARRAY(SELECT evstore.to_cloudevent(e) FROM evstore.read_stream('copy-1') AS e ORDER BY e.version);
		RAISE EXCEPTION USING ERRCODE = 'ZZ001';
	EXCEPTION WHEN SQLSTATE 'ZZ001' THEN NULL;
	END;
	RETURN QUERY SELECT format('%s: %s instead of %s', s.version, got[s.version + 1], s.event) FROM sent AS s
		WHERE got[s.version + 1] IS DISTINCT FROM s.event
			AND (how IN ('structured', 'batch')
				-- without JSON, integers and booleans are texts
				OR (SELECT jsonb_object_agg(m.key, m.value #>> '{}') FROM jsonb_each(got[s.version + 1]) AS m)
					<> (SELECT jsonb_object_agg(m.key, m.value #>> '{}') FROM jsonb_each(s.event) AS m));
END $$;
SELECT is_empty(format('SELECT pg_temp.in_another_store(%L)', how), 'what relays send is the same event in another store: ' || how)
FROM unnest('{structured,batch,http,bare}'::text[]) AS how;

-- ---- CloudEvents in each mode ----

SELECT is(pg_temp.got(pg_temp.event('m1')::text, f), '[{"id": "m1", "source": "/test", "type": "t", "datacontenttype": "application/json"}]'::jsonb, 'one event, ' || f)
FROM unnest('{auto,cloudevents}'::text[]) AS f;
SELECT is(pg_temp.got(jsonb_build_array(pg_temp.event('m2'), pg_temp.event('m3'))::text) @> '[{"id": "m2"}, {"id": "m3"}]', true, 'a batch');
SELECT is(pg_temp.got('[]', 'cloudevents-batch'), NULL, 'an empty one');
SELECT is(pg_temp.got(U&'\FEFF' || pg_temp.event('bom')::text, 'cloudevents') -> 0 ->> 'id', 'bom', 'a byte order mark is passed over');
SELECT is(pg_temp.got('{"a": 0.10}', 'auto', a), jsonb_build_array(jsonb_build_object('id', 'b-' || n, 'source', '/test', 'type', 't', 'datacontenttype', 'application/json',
		'data', '{"a": 0.10}'::jsonb, 'tenant', 'acme', 'time', '2024-01-15T10:00:00Z')), 'binary mode: ' || (SELECT min(key) FROM jsonb_object_keys(a) AS key WHERE key ~* 'id$'))
FROM unnest('{ce-,CE-,ce_,cloudEvents:,cloudEvents_,""}'::text[]) WITH ORDINALITY AS p (prefix, n),
	jsonb_build_object(prefix || 'specversion', '1.0', prefix || 'id', 'b-' || n, prefix || 'source', '/test', prefix || 'type', 't', prefix || 'tenant', 'acme',
		prefix || 'time', '2024-01-15T10:00:00Z', 'content-type', 'application/json') AS a;
SELECT is(pg_temp.got('x', 'cloudevents-binary', jsonb_build_object('ce-specversion', '1.0', 'ce-id', v, 'ce-source', '/q' || n, 'ce-type', 't', 'content-type', 'text/plain')) -> 0 ->> 'id',
	expected, 'a header''s value: ' || v)
FROM (VALUES (1, 'a%20b', 'a b'), (2, '"a b"', 'a b'), (3, '"a\"%41"', 'a"A'), (4, '100%', '100%'), (5, '%zz', '%zz'), (6, 'Euro%20%E2%82%AC%20%F0%9F%98%80', 'Euro € 😀'), (7, '"', '"')) AS v (n, v, expected);
SELECT is(pg_temp.got('x', 'cloudevents-binary', '{"ce_specversion": "1.0", "ce_id": "50%25", "ce_source": "/kafka", "ce_type": "t", "content-type": "text/plain"}') -> 0 ->> 'id',
	'50%25', 'of Kafka''s headers nothing is decoded');
SELECT is(pg_temp.got(pg_temp.event('ct')::text, 'auto', '{"Content-Type": "application/cloudevents+json; charset=UTF-8", "Authorization": "Bearer x"}'),
	'[{"id": "ct", "source": "/test", "type": "t", "datacontenttype": "application/json"}]'::jsonb, 'headers of a request are not kept');

-- data, by its type
SELECT is((pg_temp.got(body, 'cloudevents-binary', jsonb_strip_nulls(jsonb_build_object('ce-specversion', '1.0', 'ce-id', 'd', 'ce-source', '/data/' || n, 'ce-type', 't', 'Content-Type', content_type))) -> 0)
		- '{id,source,type}'::text[], expected::jsonb, format('data of type %s: %s', coalesce(content_type, 'not said'), body))
FROM (VALUES
	(1, 'application/json', '[1]', '{"datacontenttype": "application/json", "data": [1]}'),
	(2, 'application/vnd.x+json; v=1', 'null', '{"datacontenttype": "application/vnd.x+json; v=1", "data": null}'),
	(3, 'text/plain', '[1]', '{"datacontenttype": "text/plain", "data": "[1]"}'),
	(4, 'application/xml', '<a/>', '{"datacontenttype": "application/xml", "data": "<a/>"}'),
	(5, 'application/octet-stream', 'abc', '{"datacontenttype": "application/octet-stream", "data_base64": "YWJj"}'),
	(6, 'image/png', '', '{"datacontenttype": "image/png", "data_base64": ""}'),
	(7, NULL, '{"a": 1}', '{"datacontenttype": "application/json", "data": {"a": 1}}'),
	(8, NULL, 'not JSON', '{"datacontenttype": "text/plain", "data": "not JSON"}'),
	(9, 'application/json', '', '{"datacontenttype": "application/json"}'),
	(10, NULL, '', '{"datacontenttype": "application/json"}'),
	(11, 'text/plain', '', '{"datacontenttype": "text/plain", "data": ""}')
) AS v (n, content_type, body, expected);
SELECT is((SELECT e.metadata -> 'cloudevent' -> 'data_base64' FROM evstore.ingest_bytes('\xff00fe', 'cloudevents-binary',
		'{"ce-specversion": "1.0", "ce-id": "bytes", "ce-source": "/data", "ce-type": "t", "content-type": "text/plain"}') AS i, evstore.get_event(i.event_id) AS e),
	'"/wD+"', 'what says that it is text, and is none, is kept as bytes');

-- ---- SQS and SNS ----

CREATE FUNCTION pg_temp.sns(id text, message text, more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
	SELECT (jsonb_build_object('Type', 'Notification', 'MessageId', id, 'TopicArn', 'arn:aws:sns:eu-west-1:1:orders', 'Message', message,
		'Timestamp', '2024-05-02T00:54:06.655Z', 'SignatureVersion', '1', 'Signature', 'x', 'SigningCertURL', 'https://x', 'UnsubscribeURL', 'https://x') || more)::text
$$;
CREATE FUNCTION pg_temp.lambda(VARIADIC bodies text[]) RETURNS text LANGUAGE sql AS $$
	SELECT jsonb_build_object('Records', jsonb_agg(jsonb_build_object('messageId', 'sqs-' || n, 'receiptHandle', 'r', 'body', body,
		'attributes', '{"ApproximateReceiveCount": "1", "SentTimestamp": "1714611246655", "MessageGroupId": "group-1", "SequenceNumber": "18849496460467696128"}'::jsonb,
		'messageAttributes', '{"eventType": {"stringValue": "OrderPlaced", "dataType": "String"}, "bytes": {"binaryValue": "AAE=", "dataType": "Binary"}}'::jsonb,
		'eventSource', 'aws:sqs', 'eventSourceARN', 'arn:aws:sqs:eu-west-1:1:queue', 'awsRegion', 'eu-west-1') ORDER BY n))::text
	FROM unnest(bodies) WITH ORDINALITY AS b (body, n)
$$;

SELECT is(pg_temp.got(pg_temp.lambda('{"total": 99.90}'), f), format('[{"id": "sqs-1", "source": "arn:aws:sqs:eu-west-1:1:queue", "type": "com.amazonaws.sqs.message", "time": "2024-05-02T00:54:06.655Z",
	"partitionkey": "group-1", "sequence": "18849496460467696128", "datacontenttype": "application/json", "data": {"total": 99.90}, "attributes": {"eventType": "OrderPlaced", "bytes": "AAE="}}]')::jsonb,
	'a message of SQS, as Lambda gets it, ' || f)
FROM unnest('{sqs,sns-sqs,auto}'::text[]) AS f;
SELECT is(pg_temp.got('{"Messages": [{"MessageId": "api-1", "ReceiptHandle": "r", "Body": "hello", "MessageAttributes": {"kind": {"StringValue": "greeting", "DataType": "String"}}}]}', 'sqs',
		type => '{attributes.kind}', options => '{"source": "/queue"}'),
	'[{"id": "api-1", "source": "/queue", "type": "com.amazonaws.sqs.message", "datacontenttype": "text/plain", "data": "hello", "attributes": {"kind": "greeting"}}]', 'as ReceiveMessage returns it');
SELECT is((SELECT e.type FROM evstore.read_stream('inbox-/queue') AS e), 'greeting', '... with a type of its own');
SELECT is(pg_temp.got('{"Messages": []}', 'sqs'), NULL, 'an empty answer');
SELECT is(pg_temp.got('[{"MessageId": "api-2", "Body": "1"}, {"MessageId": "api-3", "Body": "[2]"}]', 'sqs', options => '{"source": "/queue"}') @> '[{"id": "api-2", "data": 1}, {"id": "api-3", "data": [2]}]', true,
	'an array of messages');
SELECT is(pg_temp.got('{"total": 1}', 'sqs', '{"eventType": {"StringValue": "X", "DataType": "String"}}', options => '{"source": "/queue", "id": "api-4"}') @>
	'[{"id": "api-4", "source": "/queue", "data": {"total": 1}, "attributes": {"eventType": "X"}}]', true, 'just a body');
SELECT is(pg_temp.got(pg_temp.lambda(pg_temp.sns('sns-1', '{"total": 99.90}', '{"Subject": "order-1", "MessageAttributes": {"tenant": {"Type": "String", "Value": "acme"}}}'))),
	'[{"id": "sns-1", "source": "arn:aws:sns:eu-west-1:1:orders", "type": "com.amazonaws.sns.notification", "subject": "order-1", "time": "2024-05-02T00:54:06.655Z", "partitionkey": "group-1",
		"datacontenttype": "application/json", "data": {"total": 99.90}, "attributes": {"tenant": "acme"}}]', 'SNS through SQS');
SELECT is(pg_temp.statuses(pg_temp.sns('sns-1', '{"total": 99.90}')), 'duplicate', 'the same by HTTP is the same');
SELECT is((SELECT i.message_id FROM evstore.ingest(pg_temp.lambda(pg_temp.sns('sns-2', 'x'))) AS i), 'sqs-1', 'the message is the queue''s');
SELECT is(pg_temp.got(pg_temp.lambda(pg_temp.sns('sns-3', pg_temp.event('ce-in-sns')::text), pg_temp.event('ce-in-sqs')::text, '{"version": "0", "id": "eb-in-sqs", "detail-type": "T", "source": "com.x", "detail": {"n": 1}}'),
		'sns-sqs') @> '[{"id": "ce-in-sns", "source": "/test"}, {"id": "ce-in-sqs"}, {"id": "eb-in-sqs", "type": "T", "source": "com.x", "data": {"n": 1}}]', true, 'CloudEvents and events of EventBridge in bodies');
SELECT is(pg_temp.got(pg_temp.sns('sns-4', '<a/>', '{"MessageAttributes": {"ce-specversion": {"Type": "String", "Value": "1.0"}, "ce-id": {"Type": "String", "Value": "bin%20"}, "ce-source": {"Type": "String", "Value": "/test"},
		"ce-type": {"Type": "String", "Value": "t"}, "content-type": {"Type": "String", "Value": "text/xml"}, "Tenant": {"Type": "String", "Value": "acme"}}}')),
	'[{"id": "bin%20", "source": "/test", "type": "t", "datacontenttype": "text/xml", "data": "<a/>", "attributes": {"Tenant": "acme"}}]', 'binary mode in attributes of a message, which are not percent-encoded');
SELECT is(pg_temp.got('raw', 'sns-sqs', '{"x-amz-sns-message-id": "raw-1", "x-amz-sns-topic-arn": "arn:t", "x-amz-sns-rawdelivery": "true", "User-Agent": "Amazon", "content-type": "text/plain; charset=UTF-8"}', options => '{"topics": ["arn:x", "arn:*"]}'),
	'[{"id": "raw-1", "source": "arn:t", "type": "com.amazonaws.sns.notification", "datacontenttype": "text/plain; charset=UTF-8", "data": "raw"}]', 'raw delivery by HTTP');
SELECT is(pg_temp.got('{"Type": "SubscriptionConfirmation", "MessageId": "s", "TopicArn": "arn:t", "Token": "2336", "SubscribeURL": "https://sns/?Action=ConfirmSubscription", "Message": "You have chosen", "Timestamp": "2012-04-26T20:45:04.751Z"}'),
	'[{"status": "handshake", "detail": {"kind": "sns-subscription", "topic": "arn:t", "token": "2336", "subscribe_url": "https://sns/?Action=ConfirmSubscription"}}]', 'a subscription that wants to be confirmed');
SELECT is(pg_temp.got('{"Type": "UnsubscribeConfirmation", "MessageId": "s", "TopicArn": "arn:t", "Token": "2336", "SubscribeURL": "u"}') #>> '{0,detail,kind}', 'sns-unsubscription', 'one that has ended');

-- ---- Pub/Sub ----

CREATE FUNCTION pg_temp.push(message jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT jsonb_build_object('message', message, 'subscription', 'projects/p/subscriptions/s')::text
$$;
SELECT is(pg_temp.got(pg_temp.push('{"data": "eyJ0b3RhbCI6IDk5LjkwfQ==", "attributes": {"kind": "order"}, "messageId": "2070443601311540", "message_id": "2070443601311540", "publishTime": "2021-02-26T19:13:55.749Z", "orderingKey": "order-1"}'), f),
	'[{"id": "2070443601311540", "source": "//pubsub.googleapis.com/projects/p/subscriptions/s", "type": "google.cloud.pubsub.topic.v1.messagePublished", "time": "2021-02-26T19:13:55.749Z",
		"partitionkey": "order-1", "datacontenttype": "application/json", "data": {"total": 99.90}, "attributes": {"kind": "order"}}]', 'a push of Pub/Sub, ' || f)
FROM unnest('{pubsub-push,auto}'::text[]) AS f;
SELECT is(pg_temp.got(pg_temp.push('{"data": "PGEvPg", "attributes": {"ce-specversion": "1.0", "ce-id": "50%25", "ce-source": "/test", "ce-type": "t", "ce-time": "2024-01-15T10:00:00Z", "Content-Type": "text/xml", "x": "y"}, "messageId": "2"}')),
	'[{"id": "50%25", "source": "/test", "type": "t", "time": "2024-01-15T10:00:00Z", "datacontenttype": "text/xml", "data": "<a/>", "attributes": {"x": "y"}}]', 'CloudEvents in its attributes, data without padding');
SELECT is(pg_temp.got(pg_temp.push(jsonb_build_object('data', encode(convert_to(pg_temp.event('in-push')::text, 'UTF8'), 'base64'), 'messageId', '3'))) #>> '{0,id}', 'in-push', 'CloudEvents in its data');
SELECT is(pg_temp.got(pg_temp.push(jsonb_build_object('data', encode(convert_to(pg_temp.event('by-type')::text, 'UTF8'), 'base64'), 'messageId', '3b', 'attributes',
	'{"Content-Type": "application/cloudevents+json", "ce-specversion": "1.0", "ce-id": "other"}'::jsonb))) #>> '{0,id}', 'by-type', '... as the content type says');
SELECT is(pg_temp.got(pg_temp.push('{"attributes": {"a": "b"}, "messageId": "4"}')) #> '{0,data}', NULL, 'no data');
SELECT is(pg_temp.got(pg_temp.push('{"data": "_-8", "messageId": "5"}')) #>> '{0,data_base64}', '/+8=', 'the alphabet for URLs');
SELECT is(pg_temp.got('{"receivedMessages": [{"ackId": "a", "message": {"data": "MQ==", "messageId": "6"}}]}', 'auto', options => '{"source": "/pull"}') @> '[{"id": "6", "source": "/pull", "data": 1}]', true, 'a pull');
SELECT is(pg_temp.got('{"total": 1}', 'auto', '{"x-goog-pubsub-message-id": "7", "x-goog-pubsub-publish-time": "2021-02-26T19:13:55Z", "x-goog-pubsub-subscription-name": "projects/p/subscriptions/s", "x-goog-pubsub-ordering-key": "k", "Authorization": "x"}'),
	'[{"id": "7", "source": "//pubsub.googleapis.com/projects/p/subscriptions/s", "type": "google.cloud.pubsub.topic.v1.messagePublished", "time": "2021-02-26T19:13:55Z", "partitionkey": "k", "datacontenttype": "application/json", "data": {"total": 1}}]',
	'a message without its envelope');

-- ---- EventBridge, Event Grid ----

SELECT is(pg_temp.got('{"version": "0", "id": "eb-1", "detail-type": "Order Placed", "source": "com.example", "account": "1", "time": "2021-02-26T19:13:55Z", "region": "r", "resources": ["arn:x"], "detail": {"n": 0.10}}', f),
	'[{"id": "eb-1", "source": "com.example", "type": "Order Placed", "time": "2021-02-26T19:13:55Z", "datacontenttype": "application/json", "data": {"n": 0.10},
		"attributes": {"version": "0", "account": "1", "region": "r", "resources": ["arn:x"]}}]', 'an event of EventBridge, ' || f)
FROM unnest('{eventbridge,auto}'::text[]) AS f;
SELECT is(pg_temp.got(jsonb_build_object('version', '0', 'id', 'eb-2', 'detail-type', 't', 'source', 's', 'detail', pg_temp.event('in-detail'))::text) #>> '{0,id}', 'in-detail', 'CloudEvents in its detail');
SELECT is(pg_temp.got('[{"id": "eg-1", "topic": "/subscriptions/x", "subject": "order-1", "eventType": "Placed", "eventTime": "2021-02-26T19:13:55.1234567Z", "data": {"n": 1}, "dataVersion": "1.0", "metadataVersion": "1"}]', f),
	'[{"id": "eg-1", "source": "/subscriptions/x", "type": "Placed", "subject": "order-1", "time": "2021-02-26T19:13:55.1234567Z", "dataversion": "1.0", "datacontenttype": "application/json", "data": {"n": 1}}]', 'an event of Event Grid, ' || f)
FROM unnest('{eventgrid,auto}'::text[]) AS f;
SELECT is(pg_temp.got('[{"id": "v", "topic": "/subscriptions/x", "subject": "", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "eventTime": "2021-02-26T19:13:55Z",
		"data": {"validationCode": "512d38b6", "validationUrl": "https://x"}, "metadataVersion": "1", "dataVersion": "1"}]'),
	'[{"status": "handshake", "detail": {"kind": "eventgrid-validation", "response": {"validationResponse": "512d38b6"}, "validation_url": "https://x"}}]', 'its question before it sends anything');

-- ---- once ----

SELECT is(pg_temp.statuses(p), 'appended', 'a new one') FROM (SELECT pg_temp.event('once')::text) AS x (p);
SELECT is(pg_temp.statuses((pg_temp.event('once') || '{"data": "other"}')::text), 'duplicate', 'a known one, whatever its content');
SELECT is(pg_temp.statuses((pg_temp.event('once') || '{"source": "/else"}')::text), 'appended', 'the same id of another source is another event');
SELECT is((SELECT (i.stream, i.version, i.event_id) = (e.stream, e.version, e.event_id) FROM evstore.ingest(pg_temp.event('once')::text) AS i, evstore.events_uncapped AS e WHERE e.position = i.position), true, 'a duplicate says where it is');
SELECT is(pg_temp.statuses(jsonb_build_array(pg_temp.event('t1'), pg_temp.event('t2'), pg_temp.event('t1'), pg_temp.event('once'))::text), 'appended appended duplicate duplicate', 'twice in one payload');
SELECT is((SELECT array_agg(i.position ORDER BY i.index) = ARRAY[min(i.position), max(i.position), min(i.position)] FROM evstore.ingest(jsonb_build_array(pg_temp.event('t3'), pg_temp.event('t4'), pg_temp.event('t3'))::text) AS i), true, 'positions of each');
SELECT is((SELECT i.event_id FROM evstore.ingest((pg_temp.event('0190B1A0-6C00-7000-8000-0000000000AA'))::text) AS i), '0190b1a0-6c00-7000-8000-0000000000aa', 'a UUID is kept');
SELECT is(pg_temp.statuses((pg_temp.event('0190b1a0-6c00-7000-8000-0000000000aa'))::text), 'duplicate', '... however it is written');
SELECT is((SELECT (i.status, i.event_id)::text FROM evstore.ingest((pg_temp.event('0190b1a0-6c00-7000-8000-0000000000aa') || '{"source": "/else"}')::text) AS i),
	format('(appended,%s)', evstore._name_uuid('/else', '0190b1a0-6c00-7000-8000-0000000000aa')), 'the same UUID of another source is another event');
SELECT is(pg_temp.statuses((pg_temp.event('0190b1a0-6c00-7000-8000-0000000000aa') || '{"source": "/else"}')::text), 'duplicate', '... and known as such');
SELECT evstore.append_cloudevent(pg_temp.event('appended'), 's-1');
SELECT is(pg_temp.statuses(pg_temp.event('appended')::text), 'duplicate', 'what append_cloudevent() has appended is known');
SELECT is(pg_temp.statuses(evstore.to_cloudevent(e)::text), 'duplicate', 'an event of this store comes back') FROM evstore.read_stream('rt-1', 1, 1) AS e;
SELECT is(pg_temp.statuses((evstore.to_cloudevent(e) || '{"source": "https://shop.example.com"}')::text), 'duplicate', '... with the source that a relay has given it') FROM evstore.read_stream('rt-1', 1, 1) AS e;

SELECT evstore.append('own-1', 't', event_id => '0190b1a0-6c00-7000-8000-0000000000bb');
SELECT is(pg_temp.statuses(pg_temp.event('0190b1a0-6c00-7000-8000-0000000000bb', 'sequence', s)::text), 'appended', 'what has the id of an own event and is another one, sequence ' || s)
FROM (VALUES ('0')) AS v (s);
SELECT is(pg_temp.statuses(pg_temp.event('0190b1a0-6c00-7000-8000-0000000000bb')::text), 'duplicate', '... and known as such');
SAVEPOINT s;
SELECT is(pg_temp.statuses(pg_temp.event('undone')::text), 'appended', 'undone by a savepoint');
ROLLBACK TO s;
SELECT is(pg_temp.statuses(pg_temp.event('undone')::text), 'appended', '... it is new again');
DELETE FROM evstore.inbox_0; DELETE FROM evstore.inbox_1; DELETE FROM evstore.inbox_2; DELETE FROM evstore.inbox_3; DELETE FROM evstore.inbox_4;
DELETE FROM evstore.inbox_5; DELETE FROM evstore.inbox_6; DELETE FROM evstore.inbox_7; DELETE FROM evstore.inbox_8;
SELECT is(pg_temp.statuses(jsonb_build_array(pg_temp.event('undone'), pg_temp.event('once'), pg_temp.event('0190b1a0-6c00-7000-8000-0000000000aa') || '{"source": "/else"}')::text), 'duplicate duplicate duplicate',
	'what the inbox has forgotten the log still knows');
SELECT evstore.delete_stream('inbox-/test');
SELECT evstore.scavenge();
SELECT is((SELECT (i.status, i.position)::text FROM evstore.ingest(pg_temp.event('once')::text) AS i), '(duplicate,)', 'what the log has forgotten the inbox knows');
SELECT throws_ok($$ SELECT evstore.inbox_begin('evstore.ingest', gen_random_uuid()) $$, '22023', NULL, 'nobody else has its consumer');

-- ---- streams and types ----

SELECT is((SELECT (i.stream, i.type)::text FROM evstore.ingest((pg_temp.event('n' || n) || more::jsonb)::text, stream => stream, type => type) AS i), expected, 'stream and type: ' || expected)
FROM (VALUES
	(1, '{}', NULL, NULL, '(inbox-/test,t)'),
	(2, '{"subject": "order-1"}', NULL, NULL, '(inbox-/test/order-1,t)'),
	(3, '{"subject": "order-1"}', '{subject}', 'in.{type}', '(order-1,in.t)'),
	(4, '{}', '{subject|partitionkey|source}', NULL, '(/test,t)'),
	(5, '{"partitionkey": "p"}', '{{x}}-{subject|partitionkey|source}', NULL, '({x}-p,t)'),
	(6, '{"tenant": 5}', 't-{tenant}-{specversion}', 'constant', '(t-5-1.0,constant)')
) AS v (n, more, stream, type, expected);
SELECT is((SELECT i.stream FROM evstore.ingest((pg_temp.event('long') || jsonb_build_object('subject', repeat('x', 510)))::text) AS i), 'inbox-/test', 'a subject that is too long for a name');
SELECT is((SELECT evstore.to_cloudevent(e) ->> 'type' FROM evstore.ingest(pg_temp.event('renamed')::text, type => 'mine') AS i, evstore.get_event(i.event_id) AS e), 't', 'the type that it came with is kept');

-- ---- errors ----

SELECT is(pg_temp.thrown(p, f, a, s, t, o), expected, expected)
FROM (VALUES
	(NULL, 'auto', NULL::jsonb, NULL, NULL, '{}'::jsonb, '22004 | argument "payload" must not be null'),
	('{}', NULL, NULL, NULL, NULL, '{}', '22004 | argument "format" must not be null'),
	('{}', 'json', NULL, NULL, NULL, '{}', '22023 | argument "format" must not be "json"'),
	('{}', 'auto', '[]', NULL, NULL, '{}', '22023 | argument "attributes" must be a JSON object'),
	('{}', 'auto', '{"a": {"b": 1}}', NULL, NULL, '{}', 'VS005 | attribute "a" of the message has no value that is text | {"index": 0, "field": "attributes"}'),
	('{}', 'auto', NULL, NULL, NULL, '[]', '22023 | argument "options" must be a JSON object'),
	('{}', 'auto', NULL, NULL, NULL, '{"on_eror": "stop"}', 'VS010 | invalid option "on_eror" of an ingest: it is not known | {"path": "$.on_eror", "reason": "it is not known"}'),
	('{}', 'auto', NULL, NULL, NULL, '{"on_error": "skip"}', 'VS010 | invalid option "on_error" of an ingest: it must be abort, report or stop | {"path": "$.on_error", "reason": "it must be abort, report or stop"}'),
	('{}', 'auto', NULL, NULL, NULL, '{"topics": []}', 'VS010 | invalid option "topics" of an ingest: it must be a string, or an array of strings that is not empty | {"path": "$.topics", "reason": "it must be a string, or an array of strings that is not empty"}'),
	('{}', 'auto', NULL, 'a{b', NULL, '{}', '22023 | argument "stream" is not a valid template: there is a { without }'),
	('{}', 'auto', NULL, 'a}b', NULL, '{}', '22023 | argument "stream" is not a valid template: there is a } without {'),
	('{}', 'auto', NULL, NULL, '{Type}', '{}', '22023 | argument "type" is not a valid template: "Type" is not the name of an attribute'),
	('{}', 'auto', NULL, '', NULL, '{}', '22023 | argument "stream" is not a valid template: it is empty'),
	('{}', 'auto', NULL, '{a|}', NULL, '{}', '22023 | argument "stream" is not a valid template: "" is not the name of an attribute'),
	('', 'auto', NULL, NULL, NULL, '{}', 'VS005 | format of the payload is none of those that can be told | {"index": 0, "field": "format"}'),
	('{"specversion": "1.0", "detail-type": "t", "source": "s", "detail": 1}', 'auto', NULL, NULL, NULL, '{}', 'VS005 | format of the payload can be told in more than one way | {"index": 0, "field": "format"}'),
	('', 'cloudevents', NULL, NULL, NULL, '{}', 'VS005 | payload cannot be read as JSON | {"index": 0, "field": "payload", "reason": "The input string ended unexpectedly."}'),
	('{"a": 1, "a": 2}', 'cloudevents', NULL, NULL, NULL, '{}', 'VS005 | payload cannot be read as JSON | {"index": 0, "field": "payload", "reason": "A key occurs twice in one object."}'),
	('{"a\":": {"b": [{"c:": 1, "c:": 2}]}}', 'cloudevents', NULL, NULL, NULL, '{}', 'VS005 | payload cannot be read as JSON | {"index": 0, "field": "payload", "reason": "A key occurs twice in one object."}'),
	('{"a": "\u0000"}', 'auto', NULL, NULL, NULL, '{}', 'VS005 | payload cannot be read as JSON | {"index": 0, "field": "payload", "reason": "\\u0000 cannot be converted to text."}'),
	(repeat('[', 1000000), 'cloudevents-batch', NULL, NULL, NULL, '{}', 'VS005 | payload cannot be read as JSON | {"index": 0, "field": "payload", "reason": "stack depth limit exceeded"}'),
	('[1]', 'cloudevents', NULL, NULL, NULL, '{}', 'VS005 | payload must be a JSON object | {"index": 0, "field": "payload"}'),
	('{}', 'cloudevents-batch', NULL, NULL, NULL, '{}', 'VS005 | payload must be a JSON array of objects | {"index": 0, "field": "payload"}'),
	('[1]', 'cloudevents-batch', NULL, NULL, NULL, '{}', 'VS005 | an element of the payload''s array is not an object | {"index": 0, "field": "payload"}'),
	('{}', 'cloudevents-binary', NULL, NULL, NULL, '{}', 'VS005 | argument "attributes" has no attribute specversion of CloudEvents | {"index": 0, "field": "attributes"}'),
	('{}', 'cloudevents', NULL, NULL, NULL, '{}', 'VS005 | required CloudEvents attribute "specversion" is missing | {"index": 0, "field": "specversion"}'),
	(pg_temp.event(repeat('x', 513))::text, 'cloudevents', NULL, NULL, NULL, '{}', 'VS005 | CloudEvents attribute "id" is longer than 512 bytes | {"index": 0, "field": "id"}'),
	((pg_temp.event('e') || jsonb_build_object('source', repeat('x', 513)))::text, 'cloudevents', NULL, NULL, NULL, '{}', 'VS005 | CloudEvents attribute "source" is longer than 512 bytes | {"index": 0, "field": "source"}'),
	((pg_temp.event('e') || jsonb_build_object('type', repeat('x', 513)))::text, 'cloudevents', NULL, NULL, NULL, '{}', 'VS005 | event field "type" is longer than 512 bytes | {"index": 0, "field": "type"}'),
	((pg_temp.event('e') || jsonb_build_object('source', repeat('x', 510)))::text, 'cloudevents', NULL, NULL, NULL, '{}', 'VS005 | name of the stream is longer than 512 bytes | {"index": 0, "field": "stream"}'),
	((pg_temp.event('e') || jsonb_build_object('tenant', E'a\tb'))::text, 'cloudevents', NULL, NULL, NULL, '{}', 'VS005 | CloudEvents attribute "tenant" has a control character | {"index": 0, "field": "tenant"}'),
	(jsonb_build_array(pg_temp.event('e1'), pg_temp.event('e2', 'time', 'yesterday'))::text, 'cloudevents-batch', NULL, NULL, NULL, '{}', 'VS005 | CloudEvents attribute "time" must be an RFC 3339 time with a zone | {"index": 1, "field": "time"}'),
	(pg_temp.event('e')::text, 'cloudevents', NULL, '{subject}', NULL, '{}', 'VS005 | the event has no {subject}, which argument "stream" asks for | {"index": 0, "field": "stream"}'),
	(pg_temp.event('e')::text, 'cloudevents', NULL, NULL, NULL, '{"sources": ["/other", "/te"]}', 'VS005 | source "/test" is not one of option "sources" | {"index": 0, "field": "source"}'),
	(pg_temp.event('e')::text, 'cloudevents', NULL, NULL, NULL, '{"topics": "x"}', 'VS005 | the message does not say which topic it is from | {"index": 0, "field": "topic"}'),
	('x', 'cloudevents-binary', '{"ce-specversion": "1.0", "ce-id": "%ff", "ce-source": "/", "ce-type": "t"}', NULL, NULL, '{}', 'VS005 | CloudEvents attribute "id" is not percent-encoded UTF-8 | {"index": 0, "field": "id"}'),
	('x', 'cloudevents-binary', '{"ce-specversion": "1.0", "ce-id": "a", "CE-Id": "b", "ce-source": "/", "ce-type": "t"}', NULL, NULL, '{}', 'VS005 | CloudEvents attribute "id" occurs twice | {"index": 0, "field": "id"}'),
	('x', 'cloudevents-binary', '{"ce-specversion": "1.0", "ce-id": "a", "ce-source": "/", "ce-type": "t", "content-type": "application/json"}', NULL, NULL, '{}', 'VS005 | data cannot be read as JSON | {"index": 0, "field": "data", "reason": "Token \"x\" is invalid."}'),
	(pg_temp.sns('e', 'x'), 'sns-sqs', NULL, NULL, NULL, '{"topics": ["arn:aws:sns:eu-west-1:1:order"]}', 'VS005 | topic "arn:aws:sns:eu-west-1:1:orders" is not one of option "topics" | {"index": 0, "field": "topic"}'),
	(pg_temp.sns('e', 'x', '{"Type": "Other"}'), 'sns-sqs', NULL, NULL, NULL, '{}', 'VS005 | type "Other" of the message is not one of SNS''s | {"index": 0, "field": "Type"}'),
	(pg_temp.sns('e', 'x', '{"Message": {"a": 1}}'), 'sns-sqs', NULL, NULL, NULL, '{}', 'VS005 | member "Message" of the notification must be a string | {"index": 0, "field": "Message"}'),
	('{"messageId": "m", "body": {"a": 1}}', 'sqs', NULL, NULL, NULL, '{}', 'VS005 | a message of SQS must have a body and an id that are strings | {"index": 0, "field": "body"}'),
	('{"MessageId": "m", "Body": "x"}', 'sqs', NULL, NULL, NULL, '{}', 'VS005 | required CloudEvents attribute "source" is missing | {"index": 0, "field": "source"}'),
	('x', 'sqs', NULL, NULL, NULL, '{"source": "/q"}', 'VS005 | required CloudEvents attribute "id" is missing | {"index": 0, "field": "id"}'),
	(pg_temp.push('{"data": "?", "messageId": "1"}'), 'pubsub-push', NULL, NULL, NULL, '{}', 'VS005 | member "data" of the message is not Base64 | {"index": 0, "field": "data"}'),
	(pg_temp.push('{"data": {}, "messageId": "1"}'), 'pubsub-push', NULL, NULL, NULL, '{}', 'VS005 | member "data" of the message must be a string | {"index": 0, "field": "data"}'),
	(pg_temp.push('{"data": "MQ=="}'), 'pubsub-push', NULL, NULL, NULL, '{}', 'VS005 | required CloudEvents attribute "id" is missing | {"index": 0, "field": "id"}'),
	(pg_temp.push('{"data": "MQ==", "messageId": "1"}'), 'pubsub-push', NULL, NULL, NULL, '{"topics": ["projects/q/*"]}', 'VS005 | topic "projects/p/subscriptions/s" is not one of option "topics" | {"index": 0, "field": "topic"}'),
	('{"id": "1", "source": "s", "detail-type": "t"}', 'eventbridge', NULL, NULL, NULL, '{}', 'VS005 | member "detail" of the event is missing | {"index": 0, "field": "detail"}'),
	('{"id": 1, "source": "s", "detail-type": "t", "detail": {}}', 'eventbridge', NULL, NULL, NULL, '{}', 'VS005 | member "id" of the event must be a string | {"index": 0, "field": "id"}'),
	('[{"id": "1", "eventType": "t", "eventTime": "2021-02-26T19:13:55Z"}]', 'eventgrid', NULL, NULL, NULL, '{}', 'VS005 | required CloudEvents attribute "source" is missing | {"index": 0, "field": "source"}')
) AS v (p, f, a, s, t, o, expected);
SELECT matches(pg_temp.thrown((pg_temp.event('big') || jsonb_build_object('data', repeat('x', 17 * 1024 * 1024)))::text, 'cloudevents'), '^VS005 [|] event field "data" is too large', '17 MB');
SELECT is(pg_temp.statuses((pg_temp.event('large') || jsonb_build_object('data', repeat('x', 15 * 1024 * 1024)))::text), 'appended', '15 MB');
SET LOCAL evstore.max_batch = 10;
SELECT matches(pg_temp.thrown((SELECT jsonb_agg(pg_temp.event('many-' || n))::text FROM generate_series(1, 11) AS n)), '^VS005 [|] argument "payload" has too many events', 'too many events');
RESET evstore.max_batch;
SELECT throws_ok($$ SELECT evstore.ingest_bytes('\xff', 'cloudevents') $$, 'VS005', 'payload is not text in UTF-8, or has characters that the database cannot have', 'bytes that are no text');
SELECT throws_ok($$ SELECT evstore.ingest_bytes('\x7b00', 'cloudevents') $$, 'VS005', NULL, 'a zero byte');
SELECT is((SELECT count(*)::int FROM evstore.events_uncapped WHERE type IN ('e', 'e1')), 0, 'what is thrown leaves nothing');

-- ---- damaged payloads ----

-- One to three bytes changed, removed, doubled or replaced by something that hurts.
CREATE FUNCTION pg_temp.damaged(payload bytea) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	at int;
BEGIN
	FOR n IN 1..1 + floor(random() * 3)::int LOOP
		EXIT WHEN length(payload) < 2;
		at := floor(random() * length(payload));
		payload := CASE floor(random() * 5)::int
			WHEN 0 THEN set_byte(payload, at, floor(random() * 256)::int)
			WHEN 1 THEN substring(payload FROM 1 FOR at) || substring(payload FROM at + 2 + floor(random() * 5)::int)
			WHEN 2 THEN substring(payload FROM 1 FOR at) || substring(payload FROM 1 + floor(random() * at)::int FOR 20) || substring(payload FROM at + 1)
			WHEN 3 THEN substring(payload FROM 1 FOR at)
			ELSE overlay(payload PLACING convert_to((ARRAY['null', '1e999', '""', '\u0000', '{}', '[]', '"', ':'])[1 + floor(random() * 8)::int], 'UTF8') FROM at + 1 FOR 1)
		END;
	END LOOP;
	RETURN payload;
END $$;
CREATE FUNCTION pg_temp.outcome_of_damage(payload bytea, format text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.ingest_bytes(payload, format, stream => 'damaged-1');
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
SELECT setseed(0.7);
CREATE TEMP TABLE damage AS
SELECT d.payload, d.format, pg_temp.outcome_of_damage(d.payload, d.format) AS outcome
FROM (
	SELECT pg_temp.damaged(convert_to(s.payload, 'UTF8')) AS payload, CASE WHEN random() < 0.5 THEN s.format ELSE 'auto' END AS format
	FROM generate_series(1, 250) AS n, (VALUES
		(pg_temp.event('damaged', 'time', '2024-01-15T10:00:00Z', 'data', 'x', 'subject', 's')::text, 'cloudevents'),
		(jsonb_build_array(pg_temp.event('damaged', 'data_base64', 'AAEC'), pg_temp.event('damaged2'))::text, 'cloudevents-batch'),
		(pg_temp.lambda(pg_temp.sns('damaged', '{"x": 1}')), 'sns-sqs'),
		(pg_temp.push('{"data": "eyJhIjoxfQ==", "attributes": {"ce-specversion": "1.0", "ce-id": "damaged3", "ce-type": "t", "ce-source": "/"}, "messageId": "77"}'), 'pubsub-push'),
		('{"version": "0", "id": "eb", "detail-type": "O", "source": "com.x", "time": "2021-02-26T19:13:55Z", "detail": {"n": 1}}', 'eventbridge'),
		('[{"id": "1", "topic": "/x", "subject": "", "eventType": "T", "eventTime": "2021-02-26T19:13:55Z", "data": {"validationCode": "5"}}]', 'eventgrid')
	) AS s (payload, format)
) AS d;
SELECT is_empty($$ SELECT outcome, format, payload FROM damage WHERE outcome NOT IN ('ok', 'VS005') LIMIT 5 $$, 'damaged payloads are events, or VS005');
SELECT cmp_ok((SELECT count(*)::int FROM damage WHERE outcome = x), '>', 30, '... many are ' || x) FROM unnest('{ok,VS005}'::text[]) AS x;
SELECT is_empty($$ SELECT e FROM evstore.read_stream('damaged-1') AS e, unnest('{cloudevents,cloudevents-binary}'::text[]) AS f WHERE evstore._encode_event(e, f) ? 'error' $$,
	'what has been stored can be sent');

-- ---- errors that are reported ----

CREATE FUNCTION pg_temp.mixed(prefix text) RETURNS text LANGUAGE sql AS $$
	SELECT jsonb_agg(CASE WHEN n IN (3, 7) THEN pg_temp.event(prefix || n, 'time', 'bad') WHEN n = 5 THEN pg_temp.event(prefix || n, 'subject', 'closed')
		ELSE pg_temp.event(prefix || n) END ORDER BY n)::text FROM generate_series(1, 8) AS n
$$;
SELECT evstore.append('inbox-/test/closed', 'x');
SELECT evstore.tombstone_stream('inbox-/test/closed', reason => 'test');
SELECT matches(pg_temp.thrown(pg_temp.mixed('abort')), '^VS005 .*"index": 2', 'abort: the first error, and nothing is left');
SELECT is(pg_temp.statuses(pg_temp.mixed('report'), options => '{"on_error": "report"}'), 'appended appended failed appended failed appended failed appended', 'report: each for itself');
SELECT is(pg_temp.statuses(pg_temp.mixed('report'), options => '{"on_error": "report"}'), 'duplicate duplicate failed duplicate failed duplicate failed duplicate', '... and once');
SELECT is(pg_temp.statuses(pg_temp.mixed('stop'), options => '{"on_error": "stop"}'), 'appended appended failed not_tried not_tried not_tried failed not_tried', 'stop: nothing after the first');
SELECT is(pg_temp.statuses(jsonb_build_array(pg_temp.event('c1'), pg_temp.event('c2', 'subject', 'closed'), pg_temp.event('c3'))::text, options => '{"on_error": "stop"}'), 'appended failed not_tried', '... also if only the log refuses it');
SELECT is((SELECT jsonb_agg(to_jsonb(i) - '{position,version,event_id,stream}'::text[] ORDER BY i.index) FROM evstore.ingest(pg_temp.mixed('report'), options => '{"on_error": "report"}') AS i WHERE i.status = 'failed'),
	'[{"index": 2, "status": "failed", "source": "/test", "id": "report3", "type": "t", "message_id": null, "detail": {"sqlstate": "VS005", "message": "CloudEvents attribute \"time\" must be an RFC 3339 time with a zone", "detail": {"index": 2, "field": "time"}}},
	{"index": 4, "status": "failed", "source": "/test", "id": "report5", "type": "t", "message_id": null, "detail": {"sqlstate": "VS002", "message": "stream \"inbox-/test/closed\" is closed for ever", "detail": {"actual": 0, "stream": "inbox-/test/closed", "expected": -2, "tombstoned": true}}},
	{"index": 6, "status": "failed", "source": "/test", "id": "report7", "type": "t", "message_id": null, "detail": {"sqlstate": "VS005", "message": "CloudEvents attribute \"time\" must be an RFC 3339 time with a zone", "detail": {"index": 6, "field": "time"}}}]', 'what has failed, and why');
SELECT is(pg_temp.statuses('no JSON', 'cloudevents', '{"on_error": "report"}'), 'failed', 'a payload that cannot be read at all');
SELECT is((SELECT jsonb_agg(i.message_id ORDER BY i.index) FROM evstore.ingest(pg_temp.lambda(pg_temp.event('l1')::text, pg_temp.event('l2', 'time', 'bad')::text, '{"a": 1, "a": 2}'), 'sqs', options => '{"on_error": "report"}') AS i WHERE i.status = 'failed'),
	'["sqs-2", "sqs-3"]', 'messages to give back to a queue');
-- many, with few that fail
SELECT results_eq($$ SELECT i.status, count(*)::int FROM evstore.ingest((SELECT jsonb_agg(pg_temp.event('bulk' || n) || CASE WHEN n IN (77, 1500) THEN '{"subject": "closed"}' ELSE '{}' END::jsonb)::text FROM generate_series(1, 2000) AS n),
	options => '{"on_error": "report"}') AS i GROUP BY 1 ORDER BY 2 DESC $$, $$ VALUES ('appended', 1998), ('failed', 2) $$, 'bisection finds them');
SELECT is((SELECT count(*)::int FROM (SELECT e.version - lag(e.version) OVER (ORDER BY e.position) AS step FROM evstore.read_stream('inbox-/test') AS e) AS s WHERE step <> 1), 0, 'in the payload''s order');

-- ---- context and rights ----

SET LOCAL evstore.correlation_id = 'from-session';
SELECT is((SELECT e.correlation_id FROM evstore.ingest(pg_temp.event('x1')::text) AS i, evstore.get_event(i.event_id) AS e), 'from-session', 'settings of the session fill what an event does not say');
SELECT is((SELECT e.correlation_id FROM evstore.ingest(pg_temp.event('x2', 'correlationid', 'own')::text) AS i, evstore.get_event(i.event_id) AS e), 'own', '... and nothing else');
RESET evstore.correlation_id;
CREATE ROLE ingest_writer; CREATE ROLE ingest_reader; CREATE ROLE ingest_consumer;
SELECT evstore.grant_access('ingest_writer', 'writer'), evstore.grant_access('ingest_reader', 'reader'), evstore.grant_access('ingest_consumer', 'consumer');
SET LOCAL ROLE ingest_writer;
SELECT results_eq($$ SELECT status FROM evstore.ingest('{"specversion": "1.0", "id": "w", "source": "/test", "type": "t"}') $$, ARRAY['appended'], 'a writer may');
SET LOCAL ROLE ingest_reader;
SELECT throws_ok($$ SELECT evstore.ingest('{}') $$, '42501', NULL, 'a reader may not');
SET LOCAL ROLE ingest_consumer;
SELECT throws_ok($$ SELECT evstore.ingest('{}') $$, '42501', NULL, 'a consumer may not');
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
