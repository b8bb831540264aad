-- Filters in JSON: EventBridge patterns, SNS filter policies, Event Grid's
-- advanced filters.
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_filter_pattern;
CREATE DATABASE evstore_filter_pattern;
\c evstore_filter_pattern
CREATE EXTENSION evstore;

CREATE FUNCTION event(data jsonb, metadata jsonb DEFAULT '{}') RETURNS evstore.event LANGUAGE sql AS $$
	SELECT ROW(7, 'order-42', 3, '01890a5d-ac96-774b-bcce-b302099a8057', 'OrderCreated', 2, data, metadata, 'flow-1',
		NULL, 'https://shop.example/orders', '2026-01-31 12:00:00.25+00', '2026-01-31 12:00:01+00', '{eu,vip}')::evstore.event
$$;
-- What the filter says: t, f, or the error.
CREATE FUNCTION says(filter jsonb, event evstore.event) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(error, matches::text) FROM evstore.test_filter(filter, event)
$$;
CREATE TABLE tried (of text, filter jsonb, data jsonb, metadata jsonb DEFAULT '{}', expected boolean);
-- Those that are not as expected: none.
CREATE VIEW wrong AS
SELECT of, filter, data, says(jsonb_build_object(of, filter), event(data, metadata)), expected FROM tried
WHERE says(jsonb_build_object(of, filter), event(data, metadata)) IS DISTINCT FROM expected::text;

-- ---- patterns: the envelope ----

INSERT INTO tried (of, filter, data, expected) SELECT 'pattern', f::jsonb, '{}', e FROM (VALUES
	('{"type": ["OrderCreated"]}', true),
	('{"type": ["OrderCreated", "OrderPaid"]}', true),
	('{"type": ["OrderPaid"]}', false),
	('{"type": ["ordercreated"]}', false),
	('{"detail-type": ["OrderCreated"]}', true),
	('{"id": ["01890a5d-ac96-774b-bcce-b302099a8057"]}', true),
	('{"source": ["https://shop.example/orders"]}', true),
	('{"source": [{"prefix": "https://shop."}]}', true),
	('{"time": ["2026-01-31T12:00:00.25Z"]}', true),
	('{"stream": ["order-42"]}', true),
	('{"subject": ["order-42"]}', true),
	('{"category": ["order"]}', true),
	('{"category": ["order-42"]}', false),
	('{"version": [3]}', true),
	('{"version": ["3"]}', false),
	('{"position": [{"numeric": [">", 6, "<", 8]}]}', true),
	('{"schema_version": [2]}', true),
	('{"correlation_id": ["flow-1"]}', true),
	('{"causation_id": [{"exists": false}]}', true),
	('{"causation_id": [{"exists": true}]}', false),
	('{"causation_id": [{"anything-but": "x"}]}', false),
	('{"tags": ["vip"]}', true),
	('{"tags": ["us", "vip"]}', true),
	('{"tags": ["us"]}', false),
	('{"type": ["OrderCreated"], "category": ["order"]}', true),
	('{"type": ["OrderCreated"], "category": ["payment"]}', false)) AS v (f, e);

-- ---- patterns: what is within ----

INSERT INTO tried (of, filter, data, expected) SELECT 'pattern', f::jsonb, d::jsonb, e FROM (VALUES
	-- equal values, exactly and by type
	('{"data": {"a": ["x"]}}', '{"a": "x"}', true),
	('{"detail": {"a": ["x"]}}', '{"a": "x"}', true),
	('{"data": {"a": ["x"]}}', '{"a": "X"}', false),
	('{"data": {"a": ["x", 5, null, true]}}', '{"a": 5}', true),
	('{"data": {"a": [5]}}', '{"a": 5.00}', true),
	('{"data": {"a": [5]}}', '{"a": "5"}', false),
	('{"data": {"a": [null]}}', '{"a": null}', true),
	('{"data": {"a": [null]}}', '{}', false),
	('{"data": {"a": [true]}}', '{"a": true}', true),
	('{"data": {"a": [true]}}', '{"a": false}', false),
	('{"data": {"a": [""]}}', '{"a": ""}', true),
	('{"data": {"a": [0.1]}}', '{"a": 0.10000000000000000001}', false),
	('{"data": {"a": [12345678901234567890123]}}', '{"a": 12345678901234567890124}', false),
	('{"data": {"größe": ["ü"]}}', '{"größe": "ü"}', true),
	-- data that is no object
	('{"data": ["x"]}', '"x"', true),
	('{"data": [1]}', '[3, 2, 1]', true),
	('{"data": {"a": ["x"]}}', '5', false),
	('{"data": {"a": [{"exists": false}]}}', '5', true),
	-- nested, AND and OR
	('{"data": {"a": {"b": {"c": [1]}}}}', '{"a": {"b": {"c": 1}}}', true),
	('{"data": {"a": {"b": {"c": [1]}}}}', '{"a": {"b": 1}}', false),
	('{"data": {"a": [1], "b": [2]}}', '{"a": 1, "b": 2}', true),
	('{"data": {"a": [1], "b": [2]}}', '{"a": 1, "b": 3}', false),
	('{"data": {"$or": [{"a": [1]}, {"b": [2]}]}}', '{"a": 1, "b": 3}', true),
	('{"data": {"$or": [{"a": [1]}, {"b": [2]}]}}', '{"a": 0, "b": 2}', true),
	('{"data": {"$or": [{"a": [1]}, {"b": [2]}]}}', '{"a": 0, "b": 0}', false),
	('{"data": {"c": [3], "$or": [{"a": [1]}, {"b": [2]}]}}', '{"a": 1}', false),
	('{"$or": [{"type": ["None"]}, {"data": {"a": [1]}}]}', '{"a": 1}', true),
	('{"$or": [{"$or": [{"type": ["None"]}, {"version": [3]}]}, {"version": [0]}]}', '{}', true),
	-- arrays: any element
	('{"data": {"a": [2]}}', '{"a": [1, 2, 3]}', true),
	('{"data": {"a": [4]}}', '{"a": [1, 2, 3]}', false),
	('{"data": {"a": [2]}}', '{"a": [[1], [[2]]]}', true),
	('{"data": {"a": [2]}}', '{"a": []}', false),
	('{"data": {"a": [{"anything-but": 1}]}}', '{"a": [1, 2]}', true),
	('{"data": {"a": [{"anything-but": 1}]}}', '{"a": [1]}', false),
	('{"data": {"items": {"sku": ["x"], "qty": [2]}}}', '{"items": [{"sku": "x", "qty": 2}]}', true),
	('{"data": {"items": {"sku": ["x"], "qty": [2]}}}', '{"items": [{"sku": "x", "qty": 1}, {"sku": "y", "qty": 2}]}', false),
	('{"data": {"items": {"sku": [{"exists": false}]}}}', '{"items": []}', true),
	('{"data": {"items": {"sku": [{"exists": false}]}}}', '{"items": [{"sku": 1}, {"qty": 1}]}', true),
	-- prefix, suffix, ignoring case
	('{"data": {"a": [{"prefix": "ab"}]}}', '{"a": "abc"}', true),
	('{"data": {"a": [{"prefix": "abc"}]}}', '{"a": "ab"}', false),
	('{"data": {"a": [{"prefix": ""}]}}', '{"a": "ab"}', true),
	('{"data": {"a": [{"prefix": "1"}]}}', '{"a": 12}', false),
	('{"data": {"a": [{"prefix": {"equals-ignore-case": "AB"}}]}}', '{"a": "abc"}', true),
	('{"data": {"a": [{"suffix": "bc"}]}}', '{"a": "abc"}', true),
	('{"data": {"a": [{"suffix": "BC"}]}}', '{"a": "abc"}', false),
	('{"data": {"a": [{"suffix": {"equals-ignore-case": "BC"}}]}}', '{"a": "abc"}', true),
	('{"data": {"a": [{"equals-ignore-case": "ABC"}]}}', '{"a": "aBc"}', true),
	('{"data": {"a": [{"equals-ignore-case": "ABC"}]}}', '{"a": "aBcd"}', false),
	-- wildcard
	('{"data": {"a": [{"wildcard": "a*c"}]}}', '{"a": "abbc"}', true),
	('{"data": {"a": [{"wildcard": "a*c"}]}}', '{"a": "ac"}', true),
	('{"data": {"a": [{"wildcard": "a*c"}]}}', '{"a": "abcd"}', false),
	('{"data": {"a": [{"wildcard": "*"}]}}', '{"a": ""}', true),
	('{"data": {"a": [{"wildcard": "a\\*c"}]}}', '{"a": "a*c"}', true),
	('{"data": {"a": [{"wildcard": "a\\*c"}]}}', '{"a": "abc"}', false),
	('{"data": {"a": [{"wildcard": "a\\\\*"}]}}', '{"a": "a\\b"}', true),
	('{"data": {"a": [{"wildcard": "*ü*ö*"}]}}', '{"a": "xüyöz"}', true),
	('{"data": {"a": [{"wildcard": "*a*a*a*a*a*a*a*a*a*b"}]}}', '{"a": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}', false),
	-- anything-but
	('{"data": {"a": [{"anything-but": "x"}]}}', '{"a": "y"}', true),
	('{"data": {"a": [{"anything-but": "x"}]}}', '{"a": "x"}', false),
	('{"data": {"a": [{"anything-but": "x"}]}}', '{"a": 5}', true),
	('{"data": {"a": [{"anything-but": "x"}]}}', '{}', false),
	('{"data": {"a": [{"anything-but": [1, 2]}]}}', '{"a": 2.0}', false),
	('{"data": {"a": [{"anything-but": [1, 2]}]}}', '{"a": 3}', true),
	('{"data": {"a": [{"anything-but": {"prefix": "x"}}]}}', '{"a": "xy"}', false),
	('{"data": {"a": [{"anything-but": {"prefix": ["x", "y"]}}]}}', '{"a": "yx"}', false),
	('{"data": {"a": [{"anything-but": {"prefix": ["x", "y"]}}]}}', '{"a": "z"}', true),
	('{"data": {"a": [{"anything-but": {"suffix": "x"}}]}}', '{"a": "yx"}', false),
	('{"data": {"a": [{"anything-but": {"equals-ignore-case": ["X", "y"]}}]}}', '{"a": "Y"}', false),
	('{"data": {"a": [{"anything-but": {"wildcard": "*/x/*"}}]}}', '{"a": "a/x/b"}', false),
	('{"data": {"a": [{"anything-but": {"wildcard": "*/x/*"}}]}}', '{"a": "a/y/b"}', true),
	-- numeric
	('{"data": {"a": [{"numeric": [">", 0, "<=", 5]}]}}', '{"a": 5}', true),
	('{"data": {"a": [{"numeric": [">", 0, "<=", 5]}]}}', '{"a": 5.0000000000000000000001}', false),
	('{"data": {"a": [{"numeric": [">", 0]}]}}', '{"a": 0}', false),
	('{"data": {"a": [{"numeric": [">=", 0]}]}}', '{"a": 0}', true),
	('{"data": {"a": [{"numeric": ["<", 0]}]}}', '{"a": -1e-10}', true),
	('{"data": {"a": [{"numeric": ["=", 300]}]}}', '{"a": 3.0e2}', true),
	('{"data": {"a": [{"numeric": ["=", 300]}]}}', '{"a": "300"}', false),
	-- exists: leaves
	('{"data": {"a": [{"exists": true}]}}', '{"a": null}', true),
	('{"data": {"a": [{"exists": true}]}}', '{}', false),
	('{"data": {"a": [{"exists": true}]}}', '{"a": {"b": 1}}', false),
	('{"data": {"a": [{"exists": false}]}}', '{"a": {"b": 1}}', true),
	('{"data": {"a": [{"exists": false}]}}', '{}', true),
	('{"data": {"a": {"b": [{"exists": false}]}}}', '{}', true),
	('{"data": {"a": [{"exists": true}]}}', '{"a": []}', false),
	('{"data": {"a": ["x", {"exists": false}]}}', '{}', true),
	('{"data": {"a": ["x", {"exists": false}]}}', '{"a": "y"}', false),
	-- cidr
	('{"data": {"a": [{"cidr": "10.0.0.0/24"}]}}', '{"a": "10.0.0.255"}', true),
	('{"data": {"a": [{"cidr": "10.0.0.0/24"}]}}', '{"a": "10.0.1.0"}', false),
	('{"data": {"a": [{"cidr": "10.0.0.0/24"}]}}', '{"a": "no address"}', false),
	('{"data": {"a": [{"cidr": "10.0.0.0/24"}]}}', '{"a": "10.0.0.0/25"}', false),
	('{"data": {"a": [{"cidr": "0.0.0.0/0"}]}}', '{"a": "::1"}', false),
	('{"data": {"a": [{"cidr": "2001:db8::/32"}]}}', '{"a": "2001:db8:1::1"}', true),
	('{"data": {"a": [{"cidr": "2001:db8::/32"}]}}', '{"a": "2001:db9::1"}', false)) AS v (f, d, e);
SELECT count(*) AS tried FROM tried;
SELECT * FROM wrong;
TRUNCATE tried;

-- ---- filter policies: attributes ----

INSERT INTO tried (of, filter, data, metadata, expected) SELECT 'attributes', f::jsonb, '{"actor": "data"}', m::jsonb, e FROM (VALUES
	('{"eventType": ["OrderCreated"]}', '{}', true),
	('{"eventType": ["OrderPaid"]}', '{}', false),
	('{"eventType": ["OrderPaid"]}', '{"eventType": "OrderPaid"}', false),
	('{"actor": ["ann"]}', '{"actor": "ann"}', true),
	('{"actor": ["data"]}', '{}', false),
	('{"actor": [{"exists": false}]}', '{}', true),
	('{"actor": ["ann"], "eventType": [{"prefix": "Order"}]}', '{"actor": "ann"}', true),
	('{"price": [{"numeric": [">", 10, "<", 20]}]}', '{"price": 15}', true),
	('{"price": [{"numeric": [">", 10]}]}', '{"price": "15"}', false),
	('{"price": [15, "x"]}', '{"price": 15.0}', true),
	('{"interests": ["rugby", "tennis"]}', '{"interests": ["golf", "tennis"]}', true),
	('{"interests": [{"anything-but": ["rugby"]}]}', '{"interests": ["rugby"]}', false),
	('{"ip": [{"cidr": "10.1.0.0/16"}]}', '{"ip": "10.1.2.3"}', true),
	('{"$or": [{"actor": ["bob"]}, {"category": ["order"]}]}', '{}', true),
	('{"a.b": ["x"]}', '{"a.b": "x"}', true)) AS v (f, m, e);
SELECT count(*) AS tried FROM tried;
SELECT * FROM wrong;
TRUNCATE tried;

-- ---- advanced filters ----

INSERT INTO tried (of, filter, data, metadata, expected)
SELECT 'advanced', jsonb_build_array(f::jsonb), '{"n": 5, "s": "Hello World", "t": true, "z": null, "a": [5], "o": {"p": {"q": "deep"}}}', '{"actor": "Ann"}', e FROM (VALUES
	('{"operatorType": "NumberIn", "key": "data.n", "values": [1, 5.0]}', true),
	('{"operatorType": "NumberIn", "key": "data.n", "values": []}', false),
	('{"operatorType": "NumberIn", "key": "data.s", "values": [5]}', false),
	('{"operatorType": "NumberNotIn", "key": "data.n", "values": [1, 2]}', true),
	('{"operatorType": "NumberNotIn", "key": "data.n", "values": [1, 5]}', false),
	('{"operatorType": "NumberNotIn", "key": "data.none", "values": [1]}', true),
	('{"operatorType": "NumberNotIn", "key": "data.s", "values": [1]}', false),
	('{"operatorType": "NumberLessThan", "key": "data.n", "value": 5}', false),
	('{"operatorType": "NumberLessThan", "key": "data.n", "value": 5.01}', true),
	('{"operatorType": "NumberLessThanOrEquals", "key": "data.n", "value": 5}', true),
	('{"operatorType": "NumberGreaterThan", "key": "data.n", "value": 0}', true),
	('{"operatorType": "NumberGreaterThan", "key": "data.n", "value": 5}', false),
	('{"operatorType": "NumberGreaterThan", "key": "data.none", "value": 0}', false),
	('{"operatorType": "NumberGreaterThan", "key": "data.s", "value": 0}', false),
	('{"operatorType": "NumberGreaterThan", "key": "data.a", "value": 0}', false),
	('{"operatorType": "NumberGreaterThanOrEquals", "key": "data.n", "value": 5}', true),
	('{"operatorType": "NumberInRange", "key": "data.n", "values": [[1, 2], [5, 6]]}', true),
	('{"operatorType": "NumberInRange", "key": "data.n", "values": [[1, 4]]}', false),
	('{"operatorType": "NumberNotInRange", "key": "data.n", "values": [[1, 4], [6, 7]]}', true),
	('{"operatorType": "NumberNotInRange", "key": "data.n", "values": [[1, 5]]}', false),
	('{"operatorType": "BoolEquals", "key": "data.t", "value": true}', true),
	('{"operatorType": "BoolEquals", "key": "data.t", "value": false}', false),
	('{"operatorType": "BoolEquals", "key": "data.s", "value": true}', false),
	('{"operatorType": "StringIn", "key": "data.s", "values": ["x", "hello world"]}', true),
	('{"operatorType": "StringIn", "key": "data.n", "values": ["5"]}', false),
	('{"operatorType": "StringNotIn", "key": "data.s", "values": ["x"]}', true),
	('{"operatorType": "StringNotIn", "key": "data.s", "values": ["HELLO WORLD"]}', false),
	('{"operatorType": "StringNotIn", "key": "data.none", "values": ["x"]}', true),
	('{"operatorType": "StringNotIn", "key": "data.n", "values": ["x"]}', false),
	('{"operatorType": "StringContains", "key": "data.s", "values": ["LO W"]}', true),
	('{"operatorType": "StringContains", "key": "data.s", "value": "low"}', false),
	('{"operatorType": "StringNotContains", "key": "data.s", "values": ["x", "y"]}', true),
	('{"operatorType": "StringNotContains", "key": "data.s", "values": ["x", "world"]}', false),
	('{"operatorType": "StringNotContains", "key": "data.none", "values": ["x"]}', false),
	('{"operatorType": "StringBeginsWith", "key": "data.s", "values": ["hell"]}', true),
	('{"operatorType": "StringNotBeginsWith", "key": "data.s", "values": ["hell"]}', false),
	('{"operatorType": "StringNotBeginsWith", "key": "data.s", "values": ["world"]}', true),
	('{"operatorType": "StringEndsWith", "key": "data.s", "values": ["world"]}', true),
	('{"operatorType": "StringNotEndsWith", "key": "data.s", "values": ["world"]}', false),
	('{"operatorType": "StringNotEndsWith", "key": "data.s", "values": ["hello"]}', true),
	('{"operatorType": "IsNullOrUndefined", "key": "data.none"}', true),
	('{"operatorType": "IsNullOrUndefined", "key": "data.z"}', true),
	('{"operatorType": "IsNullOrUndefined", "key": "data.n"}', false),
	('{"operatorType": "IsNotNull", "key": "data.n"}', true),
	('{"operatorType": "IsNotNull", "key": "data.o"}', true),
	('{"operatorType": "IsNotNull", "key": "data.z"}', false),
	('{"operatorType": "IsNotNull", "key": "data.none"}', false),
	('{"operatorType": "StringIn", "key": "data.o.p.q", "values": ["deep"]}', true),
	('{"operatorType": "StringIn", "key": "Subject", "values": ["order-42"]}', true),
	('{"operatorType": "stringin", "key": "EventType", "values": ["OrderCreated"]}', true),
	('{"operatorType": "StringIn", "key": "actor", "values": ["ann"]}', true),
	('{"operatorType": "StringIn", "key": "metadata.actor", "values": ["ann"]}', true),
	('{"operatorType": "NumberGreaterThan", "key": "version", "value": 2}', true)) AS v (f, e);
INSERT INTO tried (of, filter, data, expected) VALUES
	('advanced', '[]', '{}', true),
	('advanced', '[{"operatorType": "NumberGreaterThan", "key": "data.total", "value": 0}, {"operatorType": "StringIn", "key": "subject", "values": ["order-42"]}]', '{"total": 1}', true),
	('advanced', '[{"operatorType": "NumberGreaterThan", "key": "data.total", "value": 0}, {"operatorType": "StringIn", "key": "subject", "values": ["order-43"]}]', '{"total": 1}', false);
SELECT count(*) AS tried FROM tried;
SELECT * FROM wrong;

-- ---- together with other members, and of the log ----

SELECT evstore.append_one('order-1', 'Placed', '{"total": 5}');
SELECT evstore.append_one('order-2', 'Placed', '{"total": 50}');
SELECT evstore.append_one('payment-1', 'Paid', '{"total": 50}', metadata => '{"actor": "ann"}');
SELECT position FROM evstore.read_all(filter => '{"pattern": {"data": {"total": [{"numeric": [">", 10]}]}}}');
SELECT position FROM evstore.read_all(filter => '{"categories": ["order"], "pattern": {"data": {"total": [{"numeric": [">", 10]}]}}}');
SELECT position FROM evstore.read_all(filter => '{"pattern": {"stream": [{"suffix": "-1"}]}}', direction => 'backward');
SELECT position FROM evstore.read_all(filter => '{"pattern": {"source": [{"suffix": "/payment"}]}}');
SELECT position FROM evstore.read_all(filter => '{"attributes": {"actor": [{"exists": true}]}, "types": ["Paid"]}');
SELECT position FROM evstore.read_all(filter => '{"advanced": [{"operatorType": "NumberLessThan", "key": "data.total", "value": 10}]}');
SELECT says('{"categories": ["payment"]}', event('{}')), says('{"streams": ["order-42"], "tags": ["eu"]}', event('{}')),
	says('{"stream_prefix": "order", "types": ["OrderCreated"], "correlation_id": "flow-1", "jsonpath": "$.a"}', event('{"a": 1}')), says('{}', event('{}')),
	says(NULL, event('{}'));
-- An event with nothing.
SELECT says('{"types": ["x"]}', ROW(NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL)::evstore.event),
	says('{"pattern": {"stream": [{"exists": false}], "category": [{"exists": false}], "time": [{"exists": false}], "tags": [{"exists": false}], "metadata": {"a": [{"exists": false}]}}}',
		ROW(NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL)::evstore.event);
SELECT evstore.test_filter('{}', NULL);
\echo :SQLSTATE

-- ---- what is not one ----

CREATE FUNCTION problem(filter jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	PERFORM evstore.test_filter(filter, event('{}'));
	RETURN 'none';
EXCEPTION WHEN SQLSTATE 'VS010' THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' ', detail::jsonb ->> 'path', detail::jsonb ->> 'offset', detail::jsonb ->> 'reason');
END $$;
SELECT f AS pattern, problem(jsonb_build_object('pattern', f::jsonb)) FROM unnest(ARRAY[
	'"x"', '[]', '{}', '{"nothing": ["x"]}', '{"type": "OrderCreated"}', '{"type": []}', '{"data": {}}', '{"data": {"a": {}}}',
	'{"data": {"a": 5}}', '{"data": {"a": [{"prefix": 5}]}}', '{"data": {"a": [{"prefix": {"x": "y"}}]}}', '{"data": {"a": ["x", {"sufix": "y"}]}}',
	'{"data": {"a": [{"prefix": "x", "suffix": "y"}]}}', '{"data": {"a": [{}]}}', '{"data": {"a": [["x"]]}}',
	'{"data": {"a": [{"numeric": [">"]}]}}', '{"data": {"a": [{"numeric": [">", "5"]}]}}', '{"data": {"a": [{"numeric": ["!=", 5]}]}}',
	'{"data": {"a": [{"numeric": [">", 5, "<"]}]}}', '{"data": {"a": [{"numeric": ">5"}]}}', '{"data": {"a": [{"exists": "yes"}]}}', '{"data": {"a": [{"cidr": "10.0.0.1"}]}}',
	'{"data": {"a": [{"cidr": "10.0.0.0/33"}]}}', '{"data": {"a": [{"cidr": "no/8"}]}}', '{"data": {"a": [{"wildcard": "a**"}]}}', '{"data": {"a": [{"wildcard": "üa\\b"}]}}',
	'{"data": {"a": [{"anything-but": null}]}}', '{"data": {"a": [{"anything-but": []}]}}', '{"data": {"a": [{"anything-but": ["x", null]}]}}',
	'{"data": {"a": [{"anything-but": {"numeric": ["=", 1]}}]}}', '{"data": {"a": [{"anything-but": {"prefix": []}}]}}', '{"data": {"a": [{"anything-but": {"prefix": [1]}}]}}',
	'{"$or": {}}', '{"$or": []}', '{"$or": [{"type": ["x"]}, {}]}', '{"data": {"a b": {"c\"d": 5}}}']) AS f;
SELECT f AS attributes, problem(jsonb_build_object('attributes', f::jsonb)) FROM unnest(ARRAY[
	'5', '{}', '{"a": "x"}', '{"a": {"b": ["x"]}}', '{"a": []}']) AS f;
SELECT f AS advanced, problem(jsonb_build_object('advanced', f::jsonb)) FROM unnest(ARRAY[
	'{}', '[5]', '[{}]', '[{"operatorType": "NumberIn"}]', '[{"operatorType": "NumberIs", "key": "data.a", "value": 1}]', '[{"operatorType": 5, "key": "data.a", "value": 1}]',
	'[{"operatorType": "NumberIn", "key": "data.a"}]', '[{"operatorType": "NumberIn", "key": "data.a", "value": 1, "values": [1]}]', '[{"operatorType": "NumberIn", "key": "data.a", "values": 1}]',
	'[{"operatorType": "NumberIn", "key": "data.a", "values": ["1"]}]', '[{"operatorType": "StringIn", "key": "data.a", "values": [1]}]', '[{"operatorType": "BoolEquals", "key": "data.a", "value": "true"}]',
	'[{"operatorType": "NumberInRange", "key": "data.a", "values": [1]}]', '[{"operatorType": "NumberInRange", "key": "data.a", "values": [[1, 2, 3]]}]', '[{"operatorType": "NumberInRange", "key": "data.a", "values": [[1, "2"]]}]',
	'[{"operatorType": "IsNotNull", "key": "data.a", "value": 1}]', '[{"operatorType": "NumberIn", "key": "data.a", "value": 1, "more": 2}]', '[{"operatorType": "NumberIn", "key": 5, "value": 1}]']) AS f;
-- Nested as deeply as it may be, and deeper.
SELECT n, right(problem(jsonb_build_object('pattern', ('{"data": ' || repeat('{"a": ', n) || '[1]' || repeat('}', n) || '}')::jsonb)), 27) AS reason
FROM unnest('{50,100,101,1000}'::int[]) AS n;

\c :main
DROP DATABASE evstore_filter_pattern WITH (FORCE);
