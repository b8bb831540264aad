-- Filters in CloudEvents SQL, by the specification: values, operators, casts,
-- functions, errors, what is not an expression.
\set main :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS evstore_filter_cesql;
CREATE DATABASE evstore_filter_cesql;
\c evstore_filter_cesql
CREATE EXTENSION evstore;

CREATE FUNCTION event() RETURNS evstore.event LANGUAGE sql AS $$
	SELECT ROW(7, 'order-42', 3, '01890a5d-ac96-774b-bcce-b302099a8057', 'OrderCreated', 2, '{"total": 5}',
		'{"actor": "Ann", "hop": 3, "ttl": "10", "flag": true, "off": "FALSE", "big": 5000000000, "half": 2.5, "whole": 4.0, "obj": {}, "none": null,
			"traceparent": "00-ab", "camelCase": 1, "aaaaaaaaaaaaaaaaaaaaa": 1, "uni": "Größe", "9lives": "cat", "empty": "", "type": "no", "data": "no",
			"cloudevent": {"dataschema": "urn:x", "time": "", "priority": 9, "tidy": ["no"]}}',
		'flow-1', NULL, NULL, '2026-01-31 12:00:00.25+00', '2026-01-31 12:00:01+00', '{eu}')::evstore.event
$$;
-- t, f, the kind of an error, or that there is no such expression.
CREATE FUNCTION says(expression text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT coalesce(split_part(error, ':', 1), left(matches::text, 1)) FROM evstore.test_filter(jsonb_build_object('sql', expression), event()));
EXCEPTION WHEN SQLSTATE 'VS010' THEN
	RETURN 'VS010';
END $$;
CREATE TABLE tried (expression text, expected text);
CREATE VIEW wrong AS SELECT expression, says(expression), expected FROM tried WHERE says(expression) IS DISTINCT FROM expected;

-- ---- attributes ----

INSERT INTO tried VALUES
	('specversion = ''1.0''', 't'), ('id = ''01890a5d-ac96-774b-bcce-b302099a8057''', 't'), ('type = ''OrderCreated''', 't'), ('type = ''ordercreated''', 'f'),
	('source = ''/evstore/evstore_filter_cesql/order''', 't'), ('time = ''2026-01-31T12:00:00.25Z''', 't'), ('subject = ''order-42''', 't'),
	('datacontenttype = ''application/json''', 't'), ('partitionkey = ''order-42''', 't'), ('stream = ''order-42''', 't'), ('category = ''order''', 't'),
	('sequence = ''00000000000000000007''', 't'), ('sequence = 7', 't'), ('streamversion = 3', 't'), ('schemaversion = 2', 't'),
	('correlationid = ''flow-1''', 't'), ('causationid = ''x''', 'MissingAttributeError'), ('traceparent = ''00-ab''', 't'),
	-- members of the metadata, and what was kept of a CloudEvents event
	('actor = ''Ann''', 't'), ('hop = 3', 't'), ('ttl = 10', 't'), ('hop < ttl', 't'), ('flag', 't'), ('NOT flag', 'f'), ('off', 'GenericError'), ('off = false', 't'),
	('big = ''5000000000''', 't'), ('half = ''2.5''', 't'), ('whole = 4', 't'), ('uni = ''Größe''', 't'), ('9lives = ''cat''', 't'), ('empty = ''''', 't'),
	('dataschema = ''urn:x''', 't'), ('priority = 9', 't'), ('EXISTS tidy', 'f'), ('EXISTS time', 't'),
	('EXISTS subject', 't'), ('exists causationid', 'f'), ('EXISTS actor', 't'), ('EXISTS obj', 'f'), ('EXISTS none', 'f'), ('EXISTS data', 'f'), ('EXISTS missing', 'f'),
	('EXISTS aaaaaaaaaaaaaaaaaaaaa', 'f'), ('EXISTS id', 't'), ('NOT EXISTS missing', 't'), ('EXISTS total', 'f'),
	('missing = ''''', 'MissingAttributeError'), ('missing != 2', 'MissingAttributeError'), ('missing / 0 = 0', 'MissingAttributeError'), ('missing', 'MissingAttributeError'),
	('true AND (missing = '''')', 'MissingAttributeError'), ('false AND missing = ''''', 'f'), ('true OR missing', 't'), ('obj = 1', 'MissingAttributeError');

-- ---- literals ----

INSERT INTO tried VALUES
	('true', 't'), ('FALSE', 'f'), ('TrUe', 't'), ('0 = 0', 't'), ('-1 = 0 - 1', 't'), ('+5 = 5', 't'), ('007 = 7', 't'), ('2147483647 > 0', 't'), ('-2147483648 < 0', 't'),
	('2147483648 > 0', 'VS010'), ('-2147483649 > 0', 'VS010'), ('99999999999999999999 = 0', 'VS010'),
	('''abc'' = "abc"', 't'), ('''it\''s'' = "it''s"', 't'), ('''it''''s'' = "it''s"', 't'), ('"say \"x\"" = ''say "x"''', 't'), ('''a\b'' = ''a\b''', 't'), ('LENGTH(''a\b'') = 3', 't'),
	('LENGTH(''\\'') = 2', 't'), ('''größe'' = ''größe''', 't'), ('''open', 'VS010'), ('"open', 'VS010'), ('''open\''', 'VS010'), ('''''', 'VS010'), ('5', 'VS010'), ('''true''', 'VS010');

-- ---- logic: short-circuit, and one precedence for AND, OR and XOR ----

INSERT INTO tried VALUES
	('true AND true', 't'), ('true AND false', 'f'), ('false AND true', 'f'), ('false AND false', 'f'), ('true OR false', 't'), ('false OR true', 't'), ('false OR false', 'f'),
	('true XOR true', 'f'), ('true XOR false', 't'), ('false XOR true', 't'), ('false XOR false', 'f'), ('NOT true', 'f'), ('NOT NOT true', 't'), ('not false', 't'),
	('false AND 1 / 0 = 1', 'f'), ('true AND 1 / 0 = 1', 'MathError'), ('true OR 1 / 0 = 1', 't'), ('false OR 1 / 0 = 1', 'MathError'), ('true XOR 1 / 0 = 1', 'MathError'), ('1 / 0 = 1 OR true', 'MathError'),
	('true OR true AND false', 'f'), ('true OR (true AND false)', 't'), ('false AND false OR true', 't'), ('false AND (false OR true)', 'f'), ('true XOR true OR true', 't'), ('true OR false XOR true', 'f'),
	('true AND ''TRUE''', 't'), ('true AND ''x''', 'CastError'), ('1 AND true', 't'), ('0 OR false', 'f'), ('NOT 0', 't'), ('NOT ''false''', 't'), ('NOT ''x''', 'CastError'),
	('NOT true = false', 't'), ('NOT (true = true)', 'f'), ('NOT false = true', 't');

-- ---- comparisons and casts ----

INSERT INTO tried VALUES
	('1 = 1', 't'), ('1 = 2', 'f'), ('1 != 2', 't'), ('1 <> 1', 'f'), ('''a'' = ''a''', 't'), ('''a'' = ''A''', 'f'), ('''a'' != ''b''', 't'), ('''a'' <> ''a''', 'f'), ('true = true', 't'), ('true != false', 't'), ('true <> true', 'f'),
	('1 < 2', 't'), ('2 < 2', 'f'), ('2 <= 2', 't'), ('3 <= 2', 'f'), ('3 > 2', 't'), ('2 > 2', 'f'), ('2 >= 2', 't'), ('1 >= 2', 'f'),
	('''5'' = 5', 't'), ('5 = ''5''', 't'), ('''x'' = 5', 'CastError'), ('5 = ''x''', 'f'), ('true = ''true''', 't'), ('true = ''TRUE''', 'f'), ('''TRUE'' = true', 't'), ('''x'' = true', 'CastError'),
	('true = 1', 't'), ('false = 1', 'f'), ('1 = true', 't'), ('7 = true', 't'), ('''10'' > ''9''', 't'), ('''a'' < ''b''', 'CastError'), ('true > false', 't'), ('''+5'' = 5', 't'), ('''-5'' = -5', 't'), ('''05'' = 5', 't'),
	('''5.0'' = 5', 'CastError'), ('''2147483648'' = 5', 'CastError'), ('''-2147483648'' < 0', 't'), (''' 5'' = 5', 'CastError'), ('''+'' = 5', 'CastError'), (''''' = 5', 'CastError'), ('''5a'' = 5', 'CastError'),
	('1 = 1 = true', 't'), ('1 < 2 = true', 't'), ('3 > 2 > 1', 'f'), ('type < 5', 'CastError'), ('hop + 1 = ttl - 6', 't');

-- ---- arithmetic ----

INSERT INTO tried VALUES
	('4 * 2 + 4 / 2 = 10', 't'), ('4 * (2 + 4) / 2 = 12', 't'), ('1 + 2 * 3 = 7', 't'), ('10 - 4 - 3 = 3', 't'), ('100 / 10 / 5 = 2', 't'), ('2 + 3 * 4 % 5 = 4', 't'), ('5 / 3 = 1', 't'), ('-5 / 3 = -1', 't'), ('5 / -3 = -1', 't'),
	('5 % 3 = 2', 't'), ('-5 % 3 = -2', 't'), ('5 % -3 = 2', 't'), ('5 / 0 = 0', 'MathError'), ('5 % 0 = 0', 'MathError'), ('2147483647 + 1 = 0', 'MathError'), ('-2147483648 - 1 = 0', 'MathError'), ('65536 * 65536 = 0', 'MathError'),
	('-2147483648 / -1 = 0', 'MathError'), ('-2147483648 % -1 = 0', 't'), ('-(-2147483648) = 0', 'MathError'), ('- 5 = -5', 't'), ('--5 = 5', 't'), ('-hop = -3', 't'), ('-''5'' = -5', 't'), ('4 -1 = 3', 't'), ('4-1=3', 't'), ('4 - -1 = 5', 't'), ('4 + +1 = 5', 't'),
	('''5'' + 3 = 8', 't'), ('5 + ''3'' = 8', 't'), ('5 + true = 6', 't'), ('''x'' + 1 = 0', 'CastError'), ('1 + 2 LIKE ''3''', 'VS010'), ('(1 + 2) LIKE ''3''', 't');

-- ---- LIKE and IN ----

INSERT INTO tried VALUES
	('''abc'' LIKE ''abc''', 't'), ('''abc'' NOT LIKE ''abc''', 'f'), ('''abc'' LIKE ''ABC''', 'f'), ('''abc'' LIKE ''a%''', 't'), ('''abc'' LIKE ''%c''', 't'), ('''abc'' LIKE ''%b%''', 't'), ('''ac'' LIKE ''a%c''', 't'), ('''abcd'' LIKE ''a%c''', 'f'),
	(''''' LIKE ''''', 't'), (''''' LIKE ''%''', 't'), (''''' LIKE ''_''', 'f'), ('''abc'' LIKE ''a_c''', 't'), ('''ac'' LIKE ''a_c''', 'f'), ('''aüc'' LIKE ''a_c''', 't'), ('''.ab.cde.'' LIKE ''.%.%.''', 't'), ('''ab.cde'' LIKE ''.%.%.''', 'f'),
	('''a_c'' LIKE ''a\_c''', 't'), ('''abc'' LIKE ''a\_c''', 'f'), ('''a%c'' LIKE ''a\%c''', 't'), ('''abc'' LIKE ''a\%c''', 'f'), ('''ab\c'' LIKE ''ab\c''', 't'), ('''a*'' LIKE ''a*''', 't'), ('''ab'' LIKE ''a*''', 'f'), ('''a\'' LIKE ''x''', 'VS010'),
	('234 LIKE ''23_''', 't'), ('2344 LIKE ''23_''', 'f'), ('true LIKE ''tr%''', 't'), ('FALSE LIKE ''fal%''', 't'), ('type LIKE ''Order%''', 't'), ('missing LIKE ''%''', 'MissingAttributeError'), ('type LIKE subject', 'VS010'), ('type LIKE 5', 'VS010'),
	('NOT type LIKE ''x''', 'CastError'), ('NOT (type LIKE ''x'')', 't'), ('type LIKE ''%'' AND NOT false', 't'), ('type LIKE ''Order%'' = true', 't'),
	('1 IN (1, 2)', 't'), ('3 IN (1, 2)', 'f'), ('3 NOT IN (1, 2)', 't'), ('''a'' IN (''b'', ''a'')', 't'), ('1 IN (''1'')', 't'), ('''1'' IN (1)', 't'), ('1 IN (''x'')', 'CastError'), ('1 IN (1, ''x'')', 't'), ('1 IN (''x'', 1)', 'CastError'),
	('true IN (0, 1)', 't'), ('type IN (''OrderCreated'', ''OrderPaid'')', 't'), ('hop IN (1 + 2)', 't'), ('missing IN (1)', 'MissingAttributeError'), ('1 IN (missing)', 'MissingAttributeError'), ('1 IN (1, missing)', 't'), ('1 IN ()', 'VS010'), ('1 IN 1', 'VS010'),
	('NOT 5 IN (false)', 't'), ('1 + 1 IN (2)', 'VS010'), ('(1 + 1) IN (2)', 't');

-- ---- functions ----

INSERT INTO tried VALUES
	('LENGTH(''abc'') = 3', 't'), ('LENGTH('''') = 0', 't'), ('LENGTH(true) = 4', 't'), ('LENGTH(1234) = 4', 't'), ('LENGTH(''Größe'') = 5', 't'), ('length(type) = 12', 't'), ('LENGTH (''a'') = 1', 't'),
	('CONCAT(''a'', ''b'', ''c'') = ''abc''', 't'), ('CONCAT() = ''''', 't'), ('CONCAT(1, true) = ''1true''', 't'), ('CONCAT_WS('','', ''a'', ''b'', ''c'') = ''a,b,c''', 't'), ('CONCAT_WS('','') = ''''', 't'), ('CONCAT_WS('','', ''a'') = ''a''', 't'), ('CONCAT_WS() = ''''', 'VS010'),
	('LOWER(''AbC'') = ''abc''', 't'), ('UPPER(''AbC'') = ''ABC''', 't'), ('LOWER(true) = ''true''', 't'), ('UPPER(false) = ''FALSE''', 't'),
	('TRIM(''  a b  '') = ''a b''', 't'), ('TRIM('''') = ''''', 't'), ('TRIM(''   '') = ''''', 't'), (E'TRIM(''\t\na\u00a0\u2003\u3000'') = ''a''', 't'), (E'TRIM(''\u200ba'') = ''a''', 'f'), (E'LENGTH(TRIM(''\x01a'')) = 2', 't'),
	('LEFT(''abc'', 2) = ''ab''', 't'), ('LEFT(''abc'', 10) = ''abc''', 't'), ('LEFT(''abc'', 0) = ''''', 't'), ('LEFT(''abc'', -2) = ''abc''', 'FunctionEvaluationError'), ('LEFT(''üöä'', 2) = ''üö''', 't'), ('LEFT(''abc'', ''2'') = ''ab''', 't'), ('LEFT(''abc'', ''x'') = ''''', 'CastError'),
	('RIGHT(''abc'', 2) = ''bc''', 't'), ('RIGHT(''abc'', 10) = ''abc''', 't'), ('RIGHT('''', 0) = ''''', 't'), ('RIGHT(''abc'', -2) = ''abc''', 'FunctionEvaluationError'), ('RIGHT(''üöä'', 2) = ''öä''', 't'),
	('SUBSTRING(''abcdef'', 1) = ''abcdef''', 't'), ('SUBSTRING(''abcdef'', 2) = ''bcdef''', 't'), ('SUBSTRING(''abcdef'', 6) = ''f''', 't'), ('SUBSTRING(''abcdef'', 7) = ''''', 'FunctionEvaluationError'), ('SUBSTRING(''Sakila'', -3) = ''ila''', 't'), ('SUBSTRING(''abc'', -3) = ''abc''', 't'), ('SUBSTRING(''abc'', -4) = ''''', 'FunctionEvaluationError'),
	('SUBSTRING(''abc'', 0) = ''''', 't'), ('SUBSTRING(''abcdef'', 1, 6) = ''abcdef''', 't'), ('SUBSTRING(''abcdef'', 2, 4) = ''bcde''', 't'), ('SUBSTRING(''abcdef'', 2, 100) = ''bcdef''', 't'), ('SUBSTRING(''Sakila'', -5, 3) = ''aki''', 't'), ('SUBSTRING(''abc'', 0, 1) = ''''', 't'), ('SUBSTRING(''abc'', 1, 0) = ''''', 't'), ('SUBSTRING(''abc'', 1, -1) = ''''', 'FunctionEvaluationError'),
	('SUBSTRING(''abc'', 10, 10) = ''''', 'FunctionEvaluationError'), ('SUBSTRING(''abc'', -2147483648) = ''''', 'FunctionEvaluationError'), ('SUBSTRING(''Größe'', 3, 2) = ''öß''', 't'), ('SUBSTRING(''abc'') = ''''', 'VS010'), ('SUBSTRING(''abc'', 1, 2, 3) = ''''', 'VS010'),
	('ABS(-5) = 5', 't'), ('ABS(5) = 5', 't'), ('ABS(''-5'') = 5', 't'), ('ABS(-2147483648) = 2147483647', 'MathError'), ('ABS(''x'') = 0', 'CastError'),
	('INT(''1'') = 1', 't'), ('INT(''-1'') = -1', 't'), ('INT(true) = 1', 't'), ('INT(false) = 0', 't'), ('INT(''ABC'') = 0', 'CastError'), ('INT(hop) < INT(ttl) AND INT(hop) < 1000', 't'), ('int(big) = 0', 'CastError'),
	('BOOL(''TRUE'')', 't'), ('BOOL("false")', 'f'), ('BOOL(''ABC'')', 'CastError'), ('BOOL(1)', 't'), ('BOOL(0)', 'f'), ('BOOL(-50)', 't'), ('STRING(true) = ''true''', 't'), ('STRING(-1) = ''-1''', 't'), ('STRING(INT(''007'')) = ''7''', 't'),
	('IS_INT(''5'')', 't'), ('IS_INT(5)', 't'), ('IS_INT(''x'')', 'f'), ('IS_INT(true)', 't'), ('IS_BOOL(''true'')', 't'), ('IS_BOOL(''x'')', 'f'), ('IS_BOOL(1)', 't'), ('IS_INT(missing)', 'MissingAttributeError'),
	('NOFUNCTION(1) = 1', 'VS010'), ('LENGTH() = 0', 'VS010'), ('LENGTH(''a'', ''b'') = 0', 'VS010'), ('UPPER(LEFT(CONCAT(type, ''-'', STRING(hop)), 5)) = ''ORDER''', 't'), ('LENGTH(missing) = 0', 'MissingAttributeError'), ('LENGTH(''a'')', 'VS010');

-- ---- what is not an expression; text that is none of SQL's ----

INSERT INTO tried SELECT e, 'VS010' FROM unnest(ARRAY['', ' ', '(', ')', '()', 'true)', '(true', 'true true', 'true AND', 'AND true', 'NOT', '1 +', '+ 1 = 1', '* 1', '1 = ', '= 1', 'a b', 'EXISTS', 'EXISTS ''id''', 'EXISTS (id)', 'type LIKE', 'type NOT', 'type NOT = 1',
	'Type = 1', 'eventType = ''x''', 'my_attr = 1', 'a.b = 1', 'a-b = 1 = c.d', '1 == 1', 'a; DROP TABLE evstore.stream', '''a'' = ''a''; SELECT 1', 'true -- comment', 'true /* comment */', '$1 = 1', 'pg_reload_conf() = true', 'type = (SELECT 1)', 'ä = 1', '1.5 = 1.5', '`id` = 1', 'LENGTH(', 'LENGTH(''a'',) = 1', 'LENGTH ''a'' = 1',
	'type IS NULL', '1 BETWEEN 0 AND 2', 'x[1] = 1', '\', E'a\x01b = 1', 'TRUE = LIKE', 'and', 'in(1)']) AS e;
INSERT INTO tried VALUES (E'true\nAND\r\n\ttrue', 't'), ('type = ''x''''; DROP TABLE evstore.stream; --''', 'f'), ('actor = ''x\'' OR true OR actor = \''''', 'f');

SELECT count(*) AS tried FROM tried;
SELECT * FROM wrong;

-- ---- where it is wrong, in characters; the errors of evaluations ----

CREATE FUNCTION problem(expression jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	RETURN (SELECT error FROM evstore.test_filter(jsonb_build_object('sql', expression), event()));
EXCEPTION WHEN SQLSTATE 'VS010' THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' ', detail::jsonb ->> 'path', detail::jsonb ->> 'offset', detail::jsonb ->> 'reason');
END $$;
SELECT e, problem(to_jsonb(e)) FROM unnest(ARRAY['type = ', '''ü'' = ', '''ü'' = ''open', 'type = ?', 'Type = 1', 'NOFUNCTION(1)', 'LENGTH(1, 2) = 3', 'type NOT 5', 'LENGTH(type)', '12345678901 = 1', '1 LIKE 1', 'EXISTS 5a_b', 'true false', '(true',
	'missing = 1', 'type = 5', 'type AND true', '1 / 0 = 1', '1 + 2147483647 = 1', 'LEFT(type, -1) = ''''', 'SUBSTRING(type, 99) = ''''', 'type', 'ABS(-2147483648) = 1']) AS e;
SELECT problem('5'), problem('null'), problem('["true"]');
SELECT evstore.test_filter('{"sql": "type == 1"}', event());

-- ---- depth and size ----

SELECT n, left(problem(to_jsonb(repeat('(', n) || 'true' || repeat(')', n))), 40) AS brackets, left(problem(to_jsonb(repeat('NOT ', n) || 'true')), 40) AS nots,
	left(problem(to_jsonb('1' || repeat(' + 1', n) || ' > 0')), 40) AS terms, left(problem(to_jsonb(repeat('BOOL(', n) || 'true' || repeat(')', n))), 40) AS calls
FROM unnest('{1,49,98,99,500,2000}'::int[]) AS n;
SELECT says('true' || repeat(' AND true', 3000)), says('false' || repeat(' OR false', 3000) || ' OR true'), says('true' || repeat(' XOR true', 3001));
SELECT says('type IN (''x''' || repeat(', ''x''', 3000) || ')'), says('LENGTH(CONCAT(''x''' || repeat(', ''x''', 3000) || ')) = 3001');
SELECT right(problem(to_jsonb('''' || repeat('x', 32768) || ''' = type')), 30);
SELECT says('LENGTH(''' || repeat('x', 32000) || ''') = 32000'), says('''' || repeat('a', 10000) || 'c'' LIKE ''' || repeat('%a', 5000) || 'b''');

-- ---- random texts: each is an expression or VS010, and no other error ----

SELECT setseed(0.4711);
CREATE TABLE words AS SELECT w, row_number() OVER () AS n FROM unnest(ARRAY['AND', 'OR', 'XOR', 'NOT', 'LIKE', 'IN', 'EXISTS', 'true', 'false', '(', ')', '(', ')', ',', '=', '<>', '!=', '<', '<=', '>', '>=', '+', '-', '*', '/', '%',
	'1', '-2147483648', '2147483647', '0', '''a''', '"b"', '''5''', '''%_\%''', '''', '"', '\', 'id', 'type', 'missing', 'hop', 'flag', 'actor', 'LENGTH(', 'CONCAT(', 'SUBSTRING(', 'LEFT(', 'ABS(', 'INT(', 'BOOL(', 'TRIM(', 'UPPER(', 'ü', '.', ' ']) AS w;
CREATE FUNCTION any_of(a int, b int) RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT string_agg(ws[1 + floor(random() * cardinality(ws))::int], ' ')
	FROM (SELECT array_agg(w ORDER BY n) AS ws FROM words) AS w, generate_series(1, a + floor(random() * (b - a + 1))::int)
$$;
-- Expressions that are right by construction, and of a type.
CREATE FUNCTION made(of text, depth int) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	r int := floor(random() * 10);
BEGIN
	IF depth = 0 THEN
		RETURN CASE of WHEN 'b' THEN (ARRAY['true', 'false', 'flag', 'EXISTS hop', 'EXISTS missing'])[1 + r / 2]
			WHEN 'i' THEN (ARRAY['0', '1', '-7', '2147483647', 'hop'])[1 + r / 2] ELSE (ARRAY['''''', '''abc''', 'type', '"ü%"', 'missing'])[1 + r / 2] END;
	END IF;
	RETURN CASE of
		WHEN 'b' THEN CASE WHEN r < 3 THEN format('(%s %s %s)', made('b', depth - 1), (ARRAY['AND', 'OR', 'XOR'])[1 + r], made('b', depth - 1))
			WHEN r < 4 THEN format('(NOT %s)', made('b', depth - 1)) WHEN r < 6 THEN format('(%s %s %s)', made('i', depth - 1), (ARRAY['<', '>='])[r - 3], made('i', depth - 1))
			WHEN r < 7 THEN format('(%s = %s)', made('s', depth - 1), made('s', depth - 1)) WHEN r < 8 THEN format('(%s LIKE ''%%a_''  )', made('s', depth - 1))
			WHEN r < 9 THEN format('(%s IN (%s, %s))', made('i', depth - 1), made('i', depth - 1), made('i', depth - 1)) ELSE format('IS_INT(%s)', made('s', depth - 1)) END
		WHEN 'i' THEN CASE WHEN r < 5 THEN format('(%s %s %s)', made('i', depth - 1), (ARRAY['+', '-', '*', '/', '%'])[1 + r], made('i', depth - 1))
			WHEN r < 7 THEN format('LENGTH(%s)', made('s', depth - 1)) WHEN r < 9 THEN format('ABS(%s)', made('i', depth - 1)) ELSE format('(-%s)', made('i', depth - 1)) END
		ELSE CASE WHEN r < 3 THEN format('CONCAT(%s, %s)', made('s', depth - 1), made('i', depth - 1)) WHEN r < 5 THEN format('SUBSTRING(%s, %s)', made('s', depth - 1), made('i', depth - 1))
			WHEN r < 7 THEN format('LEFT(%s, %s)', made('s', depth - 1), made('i', depth - 1)) ELSE format('UPPER(TRIM(%s))', made('s', depth - 1)) END
	END;
END $$;
-- what a text of random words is does not count, only that it is something
SELECT count(*) AS texts, count(*) FILTER (WHERE says NOT IN ('t', 'f', 'VS010') AND says !~ 'Error$' OR says IS NULL) AS surprises,
	count(*) FILTER (WHERE says = 'VS010') > 1000 AS many_are_none, count(*) FILTER (WHERE says <> 'VS010') > 20 AS some_are
FROM (SELECT says(e) FROM (SELECT any_of(1, 12) AS e FROM generate_series(1, 3000) OFFSET 0) AS x) AS y;
SELECT count(*) AS texts, count(*) FILTER (WHERE says = 'VS010') AS none, count(*) FILTER (WHERE says NOT IN ('t', 'f', 'VS010') AND says !~ 'Error$') AS surprises,
	count(*) FILTER (WHERE says IN ('t', 'f')) > 300 AS some_have_values, count(*) FILTER (WHERE says ~ 'Error$') > 300 AS some_fail
FROM (SELECT says(e) FROM (SELECT made('b', 1 + i % 5) AS e FROM generate_series(1, 2000) AS i OFFSET 0) AS x) AS y;
-- any characters
SELECT count(*) AS texts, count(*) FILTER (WHERE says NOT IN ('t', 'f', 'VS010') AND says !~ 'Error$') AS surprises
FROM (SELECT says(e) FROM (SELECT string_agg(chr(1 + floor(random() * CASE WHEN i % 2 = 0 THEN 126 ELSE 9000 END)::int + 0 * c), '') AS e
	FROM generate_series(1, 2000) AS i, generate_series(1, 1 + i % 20) AS c GROUP BY i) AS x) AS y;

-- ---- reads: what the filter fails on does not match ----

SELECT evstore.append_one('order-' || n, 'Placed', '{}', metadata => m::jsonb) FROM (VALUES (1, '{"n": 1}'), (2, '{"n": "x"}'), (3, '{}'), (4, '{"n": 4}')) AS v (n, m);
SELECT position FROM evstore.read_all(filter => '{"sql": "n > 0"}');
SELECT position FROM evstore.read_all(filter => '{"sql": "n > 1", "categories": ["order"]}', direction => 'backward');
SELECT position FROM evstore.read_all(filter => '{"sql": "EXISTS n AND IS_INT(n) AND n = 4"}');

\c :main
DROP DATABASE evstore_filter_cesql WITH (FORCE);
