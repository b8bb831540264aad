-- Filters in other systems' languages: Pub/Sub's attributes, Service Bus SQL.
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_filter_other;
CREATE DATABASE evstore_filter_other;
\c evstore_filter_other
CREATE EXTENSION evstore;

CREATE FUNCTION event() RETURNS evstore.event LANGUAGE sql AS $$
	SELECT ROW(7, 'order-42', 3, '01890a5d-ac96-774b-bcce-b302099a8057', 'OrderCreated', 2,
		'{"total": 150.5, "paid": true, "name": "O''Brien", "note": null, "items": [1], "address": {"city": "Wien", "zip code": "1010"}, "type": "data", "both": "data", "größe": 5, "order": 1}',
		'{"actor": "Ann", "n": 5, "flag": true, "x-y": "dash", "iana.org/language_tag": "en", "both": "metadata", "empty": "", "list": [1], "none": null, "uni": "ü"}',
		'flow-1', NULL, NULL, '2026-01-31 12:00:00+00', '2026-01-31 12:00:01+00', '{eu}')::evstore.event
$$;
CREATE FUNCTION says(member text, expression text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT coalesce(error, left(matches::text, 1)) FROM evstore.test_filter(jsonb_build_object(member, expression), event()));
EXCEPTION WHEN SQLSTATE 'VS010' THEN
	RETURN 'VS010';
END $$;
CREATE TABLE tried (expression text, expected text);

-- ---- Pub/Sub ----

INSERT INTO tried VALUES
	('attributes.eventType = "OrderCreated"', 't'), ('attributes.eventType = "OrderPaid"', 'f'), ('attributes.eventType != "OrderPaid"', 't'), ('attributes.actor = "Ann"', 't'), ('attributes.actor = "ann"', 'f'), ('attributes.Actor = "Ann"', 'f'),
	('attributes:actor', 't'), ('attributes:missing', 'f'), ('NOT attributes:missing', 't'), ('-attributes:missing', 't'), ('- attributes:actor', 'f'), ('NOT NOT attributes:actor', 't'), ('attributes:none', 'f'), ('attributes:list', 'f'), ('attributes:empty', 't'),
	('attributes.missing = "x"', 'f'), ('attributes.missing != "x"', 't'), ('attributes:missing AND attributes.missing != "x"', 'f'), ('attributes.n = "5"', 't'), ('attributes.flag = "true"', 't'), ('attributes.version = "3"', 't'), ('attributes.empty = ""', 't'),
	('attributes.x-y = "dash"', 't'), ('attributes."x-y" = "dash"', 't'), ('attributes."iana.org/language_tag" = "en"', 't'), ('attributes:"iana.org/language_tag"', 't'),
	('hasPrefix(attributes.actor, "A")', 't'), ('hasPrefix(attributes.actor, "")', 't'), ('hasPrefix(attributes.actor, "Anna")', 'f'), ('hasPrefix(attributes.missing, "")', 'f'), ('NOT hasPrefix(attributes.eventType, "Order")', 'f'),
	('attributes.eventType = "OrderCreated" AND hasPrefix(attributes.actor, "A") AND NOT attributes:k', 't'), ('attributes:actor OR attributes:missing', 't'), ('attributes:missing OR attributes:nothing', 'f'), ('attributes:actor AND attributes:missing', 'f'),
	('attributes:missing AND (attributes:actor OR attributes:n)', 'f'), ('(attributes:missing AND attributes:actor) OR attributes:n', 't'), ('((attributes:actor))', 't'), ('NOT (attributes:actor AND attributes:n)', 'f'), ('NOT attributes:actor AND attributes:missing', 'f'),
	('attributes.uni = "\u00fc"', 't'), ('attributes.uni = "\374"', 't'), ('attributes.uni = "\xfc"', 't'), ('attributes.uni = "\U000000fc"', 't'), ('attributes.actor = "\x41nn"', 't'), ('attributes.actor = "A\"n"', 'f'), ('attributes.actor = "A\\n\n\t"', 'f');
INSERT INTO tried SELECT e, 'VS010' FROM unnest(ARRAY['', 'attributes', 'attributes.', 'attributes:', 'attributes.a', 'attributes.a =', 'attributes.a = b', 'attributes.a = 5', 'attributes.a = ''x''', 'attributes.a < "x"', 'attributes.a : "x"', 'attribute.a = "x"', 'Attributes:a', 'a = "x"',
	'attributes:a and attributes:b', 'not attributes:a', 'attributes:a AND attributes:b OR attributes:c', 'attributes:a OR attributes:b AND attributes:c', 'attributes:a attributes:b', 'attributes:a AND', 'AND attributes:a', '(attributes:a', 'attributes:a)', '()', 'NOT',
	'hasPrefix(attributes.a)', 'hasPrefix(attributes.a, b)', 'hasPrefix("a", "b")', 'hasSuffix(attributes.a, "b")', 'hasPrefix attributes.a, "b"', 'attributes.a = "x', 'attributes.a = "\q"', 'attributes.a = "\x4"', 'attributes.a = "\u12"', 'attributes.a = "\ud800"', 'attributes.a = "\U00110000"', 'attributes.a = "\000"', 'attributes.a = "\',
	'attributes:a; DROP TABLE evstore.stream', 'attributes.a.b = "x"', repeat('(', 200) || 'attributes:a' || repeat(')', 200), repeat('NOT ', 200) || 'attributes:a']) AS e;
SELECT count(*) AS tried FROM tried;
SELECT expression, says('attributes', expression), expected FROM tried WHERE says('attributes', expression) IS DISTINCT FROM expected;
SELECT says('attributes', 'attributes:actor' || repeat(' AND attributes:n', 1000)), says('attributes', 'attributes:a' || repeat(' OR attributes:b', 1000));
TRUNCATE tried;

-- ---- Service Bus: the sample, properties ----

INSERT INTO tried VALUES
	('eventType=''OrderCreated'' AND total > 0', 't'), ('eventType=''OrderCreated'' AND total > 1000', 'f'), ('EVENTTYPE = ''OrderCreated''', 't'), ('user.eventType = ''OrderCreated''', 't'), ('type = ''OrderCreated''', 't'), ('data.type = ''data''', 't'),
	('both = ''metadata''', 't'), ('data.both = ''data''', 't'), ('metadata.both = ''metadata''', 't'), ('actor = ''Ann''', 't'), ('Actor = ''Ann''', 'f'), ('[x-y] = ''dash''', 't'), ('"x-y" = ''dash''', 't'), ('[iana.org/language_tag] = ''en''', 't'), ('metadata.[x-y] = ''dash''', 't'), ('data.address.city = ''Wien''', 't'),
	('data.address.[zip code] = ''1010''', 't'), ('data.address.none = 1', 'f'), ('property(''x-y'') = ''dash''', 't'), ('p(''total'') > 150', 't'), ('größe = 5', 't'), ('[order] = 1', 't'), ('stream = ''order-42'' AND version = 3 AND position = 7 AND category = ''order''', 't'),
	('sys.MessageId = ''01890a5d-ac96-774b-bcce-b302099a8057''', 't'), ('sys.Label = ''OrderCreated''', 't'), ('SYS.subject = ''OrderCreated''', 't'), ('sys.CorrelationId = ''flow-1''', 't'), ('sys.SessionId = ''order-42''', 't'), ('sys.PartitionKey = ''order-42''', 't'), ('sys.SequenceNumber = 7', 't'),
	('sys.ContentType = ''application/json''', 't'), ('sys.EnqueuedTimeUtc > ''2026-01-31''', 't'), ('sys.To IS NULL', 't'), ('sys.ReplyTo = ''x''', 'f'), ('sys.Nothing = 1', 'VS010');

-- ---- Service Bus: values and operators ----

INSERT INTO tried VALUES
	('1 = 1', 't'), ('1 = 1.0', 't'), ('1e2 = 100', 't'), ('1.5E-1 = 0.15', 't'), ('.5 = 0.5', 't'), ('5. = 5', 't'), ('0.1 + 0.2 = 0.3', 't'), ('12345678901234567890 + 1 = 12345678901234567891', 't'), ('''a'' = ''a''', 't'), ('''a'' = ''A''', 'f'), ('name = ''O''''Brien''', 't'), ('''a\b'' = ''a\b''', 't'),
	('true', 't'), ('TRUE = true', 't'), ('paid', 't'), ('NOT paid', 'f'), ('paid = true', 't'), ('paid <> false', 't'), ('paid != true', 'f'), ('1 <> 2', 't'), ('1 != 1', 'f'), ('1 < 2', 't'), ('2 <= 2', 't'), ('2 > 2', 'f'), ('2 >= 2', 't'), ('''a'' < ''b''', 't'), ('''b'' <= ''a''', 'f'), ('''ab'' > ''a''', 't'),
	('1 + 2 * 3 = 7', 't'), ('(1 + 2) * 3 = 9', 't'), ('10 - 4 - 3 = 3', 't'), ('7 % 4 = 3', 't'), ('7 / 2 = 3.5', 't'), ('-total < 0', 't'), ('+n = 5', 't'), ('- -5 = 5', 't'), ('5 - -5 = 10', 't'), ('n + 1 > 5', 't'),
	('n IN (1, 5)', 't'), ('n IN (1, 2)', 'f'), ('n NOT IN (1, 2)', 't'), ('n IN (2 + 3)', 't'), ('actor IN (''Bob'', ''Ann'')', 't'), ('missing IN (1)', 'f'), ('NOT missing IN (1)', 'f'), ('n IN (1, missing)', 'f'), ('n NOT IN (1, missing)', 'f'), ('n IN (5, missing)', 't'),
	('actor LIKE ''A%''', 't'), ('actor LIKE ''a%''', 'f'), ('actor LIKE ''A_n''', 't'), ('actor NOT LIKE ''B%''', 't'), ('''50%'' LIKE ''50\%'' ESCAPE ''\''', 't'), ('''505'' LIKE ''50\%'' ESCAPE ''\''', 'f'), ('''5_0'' LIKE ''5!_0'' ESCAPE ''!''', 't'), ('''a\b'' LIKE ''a\b''', 't'), ('''ü'' LIKE ''_''', 't'), ('''a'' LIKE actor', 'f'), ('''x'' LIKE ''üx'' ESCAPE ''ü''', 't'), ('missing LIKE ''%''', 'f'),
	('EXISTS(actor)', 't'), ('EXISTS(missing)', 'f'), ('NOT EXISTS(missing)', 't'), ('EXISTS(note)', 't'), ('EXISTS(sys.To)', 'f'), ('EXISTS(sys.MessageId)', 't'), ('exists ( data.address.city )', 't'), ('missing IS NULL', 't'), ('note IS NULL', 't'), ('actor IS NULL', 'f'), ('actor IS NOT NULL', 't'), ('items IS NOT NULL', 't'), ('NULL IS NULL', 't'),
	('true OR false AND false', 't'), ('(true OR false) AND false', 'f'), ('NOT 1 = 2', 't'), ('NOT true OR true', 't'), ('NOT (true OR true)', 'f'), ('NOT NOT true', 't');

-- ---- Service Bus: what is unknown, and what fails ----

INSERT INTO tried VALUES
	('missing = 1', 'f'), ('NOT (missing = 1)', 'f'), ('missing = missing', 'f'), ('missing <> 1', 'f'), ('missing = NULL', 'f'), ('NULL', 'VS010'), ('missing', 'f'), ('NOT missing', 'f'), ('missing = 1 OR true', 't'), ('true OR missing = 1', 't'), ('missing = 1 OR false', 'f'), ('missing = 1 AND true', 'f'), ('NOT (missing = 1 AND false)', 't'), ('NOT (missing = 1 AND true)', 'f'), ('NOT (missing = 1 OR false)', 'f'),
	('missing + 1 > 0', 'f'), ('note = ''x''', 'f'), ('-missing = 1', 'f'), ('missing / 0 = 1', 'f'),
	('actor > 5', 'a string cannot be compared with a number'), ('n = ''5''', 'a number cannot be compared with a string'), ('paid = 1', 'a boolean cannot be compared with a number'), ('paid < true', 'booleans have no order'), ('items = 1', 'an object or an array cannot be compared with a number'), ('items = items', 'an object or an array cannot be compared with an object or an array'),
	('actor + 1 = 2', 'a string is no operand of arithmetic'), ('-actor = 1', 'a string is no operand of arithmetic'), ('paid * 2 = 2', 'a boolean is no operand of arithmetic'), ('n / 0 = 1', 'division by zero'), ('n % 0 = 1', 'division by zero'), ('n LIKE ''5''', 'a number is no operand of LIKE'), ('actor LIKE 5', 'a number is no operand of LIKE'), ('actor LIKE ''A'' ESCAPE ''ab''', 'ESCAPE needs one character'), ('actor LIKE ''A'' ESCAPE ''''', 'ESCAPE needs one character'),
	('actor', 'a string is no condition'), ('NOT n', 'a number is no condition'), ('n AND true', 'a number is no condition'), ('n IN (''x'')', 'a number cannot be compared with a string'), ('n IN (5, ''x'')', 't'), ('false AND n / 0 = 1', 'f'), ('true OR n / 0 = 1', 't'), ('true AND n / 0 = 1', 'division by zero'), ('missing = 1 AND n / 0 = 1', 'division by zero'),
	('1e999 * 1e999 * 1e999 * 1e999 > 0', 't'), (repeat('1e999 * ', 98) || '1 > 0', 't'), ('(' || repeat('1e999 * ', 90) || '1) * (' || repeat('1e999 * ', 90) || '1) > 0', 'the result is too large'),
	-- a property may be called so, and this is no comment
	('a = $1', 'f'), ('1 = 1 -- x', 'f'), ('1 -- 1 = 2', 't');
-- what is not one
INSERT INTO tried SELECT e, 'VS010' FROM unnest(ARRAY['', ' ', '5', '''x''', '1 + 1', '-5', '(', ')', '(true', 'true)', 'true true', 'true AND', 'OR true', 'NOT', '1 =', '= 1', '1 = 2 = 3', 'a b', 'a..b = 1', 'a. = 1', 'other.a = 1', 'sys = 1 AND sys. = 1', 'sys.a.b = 1', '[a = 1', '"a = 1', '''a', '1e9999 = 1', '1e = 1', '12abc = 1', '1.2.3 = 1', 'a == 1',
	'a IN ()', 'a IN 1', 'a IN (1', 'a NOT 1', 'a IS 1', 'a IS NOT', '1 + 1 IS NULL', 'EXISTS', 'EXISTS a', 'EXISTS(1)', 'EXISTS(a', 'LIKE ''a''', 'a LIKE', 'a LIKE ''a'' ESCAPE', 'newid() = 1', 'property(a) = 1', 'property() = 1', 'f(x) = 1', 'a = 1; DROP TABLE evstore.stream', '{a} = 1', 'a || b', 'null = AND', 'a = ''x'' UNION SELECT 1', '(SELECT 1) = 1',
	repeat('(', 200) || 'true' || repeat(')', 200), repeat('NOT ', 200) || 'true', '1' || repeat(' + 1', 200) || ' > 0', repeat('-', 200) || '1 = 1']) AS e;
SELECT count(*) AS tried FROM tried;
SELECT left(expression, 60) AS expression, says('sql_filter', expression), expected FROM tried WHERE says('sql_filter', expression) IS DISTINCT FROM expected;
SELECT says('sql_filter', 'true' || repeat(' AND true', 3000)), says('sql_filter', 'false' || repeat(' OR false', 3000)), says('sql_filter', 'n IN (1' || repeat(', 2', 3000) || ')');
SELECT evstore.test_filter('{"sql_filter": "eventType = ''x'' AND größe >> 1"}', event());

-- ---- the two that can fail, together ----

SELECT f, t.matches, t.error FROM unnest(ARRAY['{"sql": "missing = 1", "sql_filter": "false"}', '{"sql": "false", "sql_filter": "n / 0 = 1"}', '{"sql": "true", "sql_filter": "n / 0 = 1"}', '{"sql": "missing = 1", "sql_filter": "true"}',
	'{"sql": "missing = 1", "sql_filter": "n / 0 = 1"}', '{"sql": "true", "sql_filter": "true"}', '{"sql": "missing = 1", "types": ["OrderPaid"]}', '{"sql": "missing = 1", "categories": ["payment"]}', '{"sql": "missing = 1", "pattern": {"version": [0]}}', '{"sql": "missing = 1", "jsonpath": "strict $.none"}',
	'{"sql": "missing = 1", "attributes": "attributes:nothing"}']) AS f, evstore.test_filter(f::jsonb, event()) AS t;

-- ---- random texts: each is one or VS010, and nothing else is thrown ----

SELECT setseed(0.0815);
CREATE TABLE words AS SELECT w, row_number() OVER () AS n FROM unnest(ARRAY['AND', 'OR', 'NOT', 'LIKE', 'IN', 'IS', 'NULL', 'EXISTS', 'ESCAPE', 'true', 'false', '(', ')', '(', ')', ',', '.', '=', '<>', '!=', '<', '>=', '+', '-', '*', '/', '%', '1', '0', '1.5e3', '''a''', '"b"', '[c]',
	'''5%''', '''', '"', '[', '\', 'sys.MessageId', 'n', 'missing', 'total', 'paid', 'data.address', 'actor', 'items', 'ü', ':', 'attributes:actor', 'attributes:n', 'attributes:missing', 'attributes:', 'attributes.actor', 'hasPrefix(', '"\u00fc"']) AS w;
CREATE FUNCTION any_of(a int, b int) RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT string_agg(ws[1 + floor(random() * cardinality(ws))::int], ' ')
	FROM (SELECT array_agg(w ORDER BY n) AS ws FROM words) AS w, generate_series(1, a + floor(random() * (b - a + 1))::int)
$$;
SELECT member, count(*) AS texts, count(*) FILTER (WHERE says IS NULL) AS surprises, count(*) FILTER (WHERE says = 'VS010') > 500 AS many_are_none, count(*) FILTER (WHERE says <> 'VS010') > 0 AS some_are
FROM (SELECT member, says(member, e) FROM (SELECT member, any_of(1, 7) AS e FROM unnest('{sql_filter,attributes}'::text[]) AS member, generate_series(1, 2000) OFFSET 0) AS x) AS y GROUP BY member ORDER BY member COLLATE "C";

\c :main
DROP DATABASE evstore_filter_other WITH (FORCE);
