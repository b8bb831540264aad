-- Rules of Choice states of the Amazon States Language.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;

BEGIN;
SELECT plan(390);

CREATE FUNCTION pg_temp.choose(rule jsonb, input jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN evstore._asl_choice(rule, input, '{"Execution": {"n": 5}}', '{"v": 7}');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;

-- ---- comparisons: each operator with each pair, and with its path variant ----

CREATE TEMP TABLE pairs (n int GENERATED ALWAYS AS IDENTITY, kind text, a jsonb, b jsonb, sign int);
-- sign: of a against b; NULL: a is not of the type
INSERT INTO pairs (kind, a, b, sign) VALUES
	('String', '"a"', '"a"', 0),
	('String', '"a"', '"b"', -1),
	('String', '"b"', '"a"', 1),
	('String', '""', '""', 0),
	('String', '""', '"a"', -1),
	('String', '"a"', '"A"', 1),
	('String', '"B"', '"a"', -1),
	('String', '"a"', '"aa"', -1),
	('String', '"ab"', '"b"', -1),
	('String', '"10"', '"9"', -1),
	('String', '"_"', '"a"', -1),
	('String', '"a b"', '"ab"', -1),
	('String', '"z"', '"é"', -1),
	('String', '"é"', '"é"', 0),
	('String', '"é"', '"e\u0301"', 1),
	('String', '"\uffee"', '"𝕏"', -1),
	('String', '"𝕏"', '"𝕏"', 0),
	('String', '"𝕏a"', '"𝕏"', 1),
	('String', '5', '"5"', NULL),
	('String', 'true', '"true"', NULL),
	('String', 'null', '"null"', NULL),
	('String', 'null', '""', NULL),
	('String', '["a"]', '"a"', NULL),
	('String', '{}', '"a"', NULL),
	('Numeric', '1', '1', 0),
	('Numeric', '1', '2', -1),
	('Numeric', '2', '1', 1),
	('Numeric', '10', '9', 1),
	('Numeric', '1.0', '1', 0),
	('Numeric', '1e2', '100.00', 0),
	('Numeric', '-0', '0', 0),
	('Numeric', '-1', '-2', 1),
	('Numeric', '-1.5', '1.5', -1),
	('Numeric', '0.1', '0.10000000000000000001', -1),
	('Numeric', '9007199254740993', '9007199254740992', 1),
	('Numeric', '12345678901234567890123', '12345678901234567890124', -1),
	('Numeric', '1e-400', '0', 1),
	('Numeric', '1e400', '1e399', 1),
	('Numeric', '"1"', '1', NULL),
	('Numeric', 'true', '1', NULL),
	('Numeric', 'null', '0', NULL),
	('Numeric', '[1]', '1', NULL),
	('Numeric', '{}', '1', NULL),
	('Boolean', 'true', 'true', 0),
	('Boolean', 'false', 'false', 0),
	('Boolean', 'true', 'false', 1),
	('Boolean', 'false', 'true', -1),
	('Boolean', '"true"', 'true', NULL),
	('Boolean', '1', 'true', NULL),
	('Boolean', '0', 'false', NULL),
	('Boolean', 'null', 'false', NULL),
	('Timestamp', '"2016-08-18T17:33:00Z"', '"2016-08-18T17:33:00Z"', 0),
	('Timestamp', '"2016-08-18T17:33:00Z"', '"2016-08-18T17:33:01Z"', -1),
	('Timestamp', '"2017-01-01T00:00:00Z"', '"2016-12-31T23:59:59Z"', 1),
	('Timestamp', '"2016-08-18T17:33:00Z"', '"2016-08-18T17:33:00.000Z"', 0),
	('Timestamp', '"2016-08-18T17:33:00.1Z"', '"2016-08-18T17:33:00.10Z"', 0),
	('Timestamp', '"2016-08-18T17:33:00.1Z"', '"2016-08-18T17:33:00.2Z"', -1),
	('Timestamp', '"2016-08-18T17:33:00.000001Z"', '"2016-08-18T17:33:00Z"', 1),
	('Timestamp', '"2016-08-18T19:33:00+02:00"', '"2016-08-18T17:33:00Z"', 0),
	('Timestamp', '"2016-08-18T12:03:00-05:30"', '"2016-08-18T17:33:00Z"', 0),
	('Timestamp', '"2016-08-18T17:33:00+02:00"', '"2016-08-18T17:33:00Z"', -1),
	('Timestamp', '"2016-08-18T17:33:00-02:00"', '"2016-08-18T17:33:00Z"', 1),
	('Timestamp', '"2016-12-31T23:30:00-01:00"', '"2017-01-01T00:30:00Z"', 0),
	('Timestamp', '"2016-02-29T00:00:00Z"', '"2016-03-01T00:00:00Z"', -1),
	('Timestamp', '"0001-01-01T00:00:00Z"', '"9999-12-31T23:59:59Z"', -1),
	('Timestamp', '"x"', '"2016-08-18T17:33:00Z"', NULL),
	('Timestamp', '"2016-08-18"', '"2016-08-18T17:33:00Z"', NULL),
	('Timestamp', '"2016-08-18 17:33:00Z"', '"2016-08-18T17:33:00Z"', NULL),
	('Timestamp', '"2016-08-18T17:33:00"', '"2016-08-18T17:33:00Z"', NULL),
	('Timestamp', '1471541580', '"2016-08-18T17:33:00Z"', NULL),
	('Timestamp', 'null', '"2016-08-18T17:33:00Z"', NULL);
CREATE TEMP VIEW operators AS
SELECT kind, operator, wanted FROM (VALUES ('Equals', '{0}'::int[]), ('LessThan', '{-1}'), ('GreaterThan', '{1}'), ('LessThanEquals', '{-1,0}'), ('GreaterThanEquals', '{1,0}')) AS o (operator, wanted),
	unnest('{String,Numeric,Timestamp}'::text[]) AS kind
UNION ALL SELECT 'Boolean', 'Equals', '{0}';

SELECT is(array_agg(operator ORDER BY operator) FILTER (WHERE made = 'true'),
	array_agg(operator ORDER BY operator) FILTER (WHERE coalesce(sign = ANY (wanted), false)), format('%s: %s against %s', kind, a, b))
FROM pairs JOIN operators USING (kind),
	pg_temp.choose(jsonb_build_object('Variable', '$.x', kind || operator, b, 'Next', 'N'), jsonb_build_object('x', a)) AS made
GROUP BY n, kind, a, b ORDER BY n;
SELECT is(array_agg(operator ORDER BY operator) FILTER (WHERE made = 'true'),
	array_agg(operator ORDER BY operator) FILTER (WHERE coalesce(sign = ANY (wanted), false)), format('%s: %s against %s of a path', kind, a, b))
FROM pairs JOIN operators USING (kind),
	pg_temp.choose(jsonb_build_object('Variable', '$.x', kind || operator || 'Path', '$.y.z[0]', 'Next', 'N'), jsonb_build_object('x', a, 'y', jsonb_build_object('z', jsonb_build_array(b)))) AS made
GROUP BY n, kind, a, b ORDER BY n;
SELECT is(count(*) FILTER (WHERE made NOT IN ('true', 'false')), 0::bigint, 'none of them is an error')
FROM pairs JOIN operators USING (kind),
	pg_temp.choose(jsonb_build_object('Variable', '$.x', kind || operator, b), jsonb_build_object('x', a)) AS made;

-- What a path is compared with must be of the type, and what is compared must be there.
SELECT is(pg_temp.choose(jsonb_build_object('Variable', '$.x', kind || operator || 'Path', '$.y'), jsonb_build_object('x', b, 'y', a)),
	format('22000 States.Runtime: %s%sPath: the value of $.y must be %s', kind, operator,
		CASE kind WHEN 'String' THEN 'a string' WHEN 'Numeric' THEN 'a number' WHEN 'Boolean' THEN 'true or false' ELSE 'a timestamp like 2016-03-14T01:59:00Z' END),
	format('%s%sPath: %s', kind, operator, a))
FROM pairs JOIN operators USING (kind) WHERE sign IS NULL AND operator IN ('Equals', 'LessThan') ORDER BY kind, operator, a, b;
SELECT is(pg_temp.choose(jsonb_build_object('Variable', '$.x', kind || operator || 'Path', '$.nope'), jsonb_build_object('x', b)),
	'22000 States.Runtime: the path $.nope of a Choice names nothing, or too much', kind || operator || 'Path: nothing')
FROM (SELECT DISTINCT ON (kind) * FROM pairs WHERE sign = 0 ORDER BY kind, b) AS p JOIN operators USING (kind) ORDER BY kind, operator;
SELECT is(pg_temp.choose(jsonb_build_object('Variable', '$.nope', kind || operator, b), '{"x": 1}'),
	'22000 States.Runtime: the path $.nope of a Choice names nothing, or too much', kind || operator || ': nothing')
FROM (SELECT DISTINCT ON (kind) * FROM pairs WHERE sign = 0 ORDER BY kind, b) AS p JOIN operators USING (kind) ORDER BY kind, operator;

-- ---- StringMatches ----

SELECT is(pg_temp.choose(jsonb_build_object('Variable', '$.x', 'StringMatches', pattern), jsonb_build_object('x', value)), wanted, format('%s matches %s', to_jsonb(value), pattern))
FROM (VALUES
	('foo*.log', 'foo23.log', 'true'),
	('foo*.log', 'foo.log', 'true'),
	('foo*.log', 'xfoo.log', 'false'),
	('foo*.log', 'foo.logs', 'false'),
	('*.log', 'zebra.log', 'true'),
	('foo*.*', 'foobar.zebra', 'true'),
	('foo*.*', 'foobar', 'false'),
	('*', '', 'true'),
	('*', 'anything at all', 'true'),
	('**', 'x', 'true'),
	('', '', 'true'),
	('', 'x', 'false'),
	('abc', 'abc', 'true'),
	('abc', 'ABC', 'false'),
	('a*b*c', 'a1b2c', 'true'),
	('a*b*c', 'a1c2b', 'false'),
	('a*b*c', 'abbbc', 'true'),
	('*a', 'aXa', 'true'),
	('*aab', 'aaaab', 'true'),
	('a?c', 'abc', 'false'),
	('a?c', 'a?c', 'true'),
	('a.c', 'abc', 'false'),
	('[ab]', 'a', 'false'),
	('[ab]', '[ab]', 'true'),
	('a%_', 'a%_', 'true'),
	('a%', 'ab', 'false'),
	('\*', '*', 'true'),
	('\*', 'x', 'false'),
	('\**', '*x', 'true'),
	('a\*b', 'a*b', 'true'),
	('a\*b', 'axb', 'false'),
	('\\', '\', 'true'),
	('\\*', '\abc', 'true'),
	('\\*', 'abc', 'false'),
	('\\\*', '\*', 'true'),
	('\\\*', '\x', 'false'),
	('\x', '\x', 'true'),
	('\x', 'x', 'false'),
	('a\', 'a\', 'true'),
	('é*', 'éa', 'true'),
	('*𝕏', 'a𝕏', 'true'),
	('𝕏*é', '𝕏中é', 'true'),
	('a*', E'a\nb', 'true')) AS v (pattern, value, wanted);
SELECT is(pg_temp.choose('{"Variable": "$.x", "StringMatches": "*"}', jsonb_build_object('x', x)), 'false', format('StringMatches: %s', x))
FROM jsonb_array_elements('[5, true, null, [], {}, ["a"]]') AS x;

-- ---- IsNull and the like ----

SELECT is((SELECT string_agg(operator, ' ' ORDER BY operator) FROM unnest('{"Null",Present,Numeric,String,Boolean,Timestamp}'::text[]) AS operator
		WHERE pg_temp.choose(jsonb_build_object('Variable', '$.x', 'Is' || operator, true), jsonb_build_object('x', x)) = 'true'), kinds, format('Is...: %s', x))
FROM (VALUES
	('null'::jsonb, 'Null Present'),
	('0', 'Numeric Present'),
	('-1.5e10', 'Numeric Present'),
	('true', 'Boolean Present'),
	('false', 'Boolean Present'),
	('""', 'Present String'),
	('"5"', 'Present String'),
	('"true"', 'Present String'),
	('"null"', 'Present String'),
	('[]', 'Present'),
	('{}', 'Present'),
	('"2016-08-18T17:33:00Z"', 'Present String Timestamp'),
	('"2016-08-18T17:33:00.123456789Z"', 'Present String Timestamp'),
	('"2016-08-18T17:33:00+23:59"', 'Present String Timestamp'),
	('"2000-02-29T00:00:00Z"', 'Present String Timestamp'),
	('"1900-02-29T00:00:00Z"', 'Present String'),
	('"2016-02-30T00:00:00Z"', 'Present String'),
	('"2016-00-18T17:33:00Z"', 'Present String'),
	('"2016-13-18T17:33:00Z"', 'Present String'),
	('"2016-08-00T17:33:00Z"', 'Present String'),
	('"2016-08-32T17:33:00Z"', 'Present String'),
	('"2016-08-18T24:00:00Z"', 'Present String'),
	('"2016-08-18T17:60:00Z"', 'Present String'),
	('"2016-08-18T17:33:60Z"', 'Present String'),
	('"2016-08-18T17:33Z"', 'Present String'),
	('"2016-08-18T17:33:00.Z"', 'Present String'),
	('"2016-08-18T17:33:00,5Z"', 'Present String'),
	('"2016-08-18T17:33:00"', 'Present String'),
	('"2016-08-18T17:33:00z"', 'Present String'),
	('"2016-08-18t17:33:00Z"', 'Present String'),
	('"2016-08-18 17:33:00Z"', 'Present String'),
	('"2016-08-18T17:33:00+0200"', 'Present String'),
	('"2016-08-18T17:33:00+02"', 'Present String'),
	('"2016-08-18T17:33:00+24:00"', 'Present String'),
	('"2016-08-18T17:33:00+02:60"', 'Present String'),
	('"2016-08-18T17:33:00ZZ"', 'Present String'),
	('" 2016-08-18T17:33:00Z"', 'Present String'),
	('"2016-08-18T17:33:00Z "', 'Present String'),
	('"16-08-18T17:33:00Z"', 'Present String'),
	('"20160-08-18T17:33:00Z"', 'Present String'),
	('"0000-08-18T17:33:00Z"', 'Present String'),
	('"2016-8-18T17:33:00Z"', 'Present String'),
	('"+016-08-18T17:33:00Z"', 'Present String'),
	('"2016-08-18"', 'Present String'),
	('"now"', 'Present String'),
	('"infinity"', 'Present String'),
	('1471541580', 'Numeric Present')) AS v (x, kinds);
SELECT is((SELECT string_agg(operator, ' ' ORDER BY operator) FROM unnest('{"Null",Present,Numeric,String,Boolean,Timestamp}'::text[]) AS operator
		WHERE pg_temp.choose(jsonb_build_object('Variable', '$.x', 'Is' || operator, false), jsonb_build_object('x', x)) = 'true'), kinds, format('Is... false: %s', x))
FROM (VALUES
	('null'::jsonb, 'Boolean Numeric String Timestamp'),
	('0', 'Boolean Null String Timestamp'),
	('true', 'Null Numeric String Timestamp'),
	('"s"', 'Boolean Null Numeric Timestamp'),
	('"2016-08-18T17:33:00Z"', 'Boolean Null Numeric'),
	('[]', 'Boolean Null Numeric String Timestamp')) AS v (x, kinds);
SELECT is(pg_temp.choose(jsonb_build_object('Variable', path, operator, value), '{"x": {"y": null, "l": [1]}}'), wanted, format('%s %s %s', path, operator, value))
FROM (VALUES
	('$.nope', 'IsPresent', true, 'false'),
	('$.nope', 'IsPresent', false, 'true'),
	('$.x.y', 'IsPresent', true, 'true'),
	('$.x.y', 'IsPresent', false, 'false'),
	('$.x.y.z', 'IsPresent', true, 'false'),
	('$.x.l[0]', 'IsPresent', true, 'true'),
	('$.x.l[1]', 'IsPresent', true, 'false'),
	('$.x.l[*]', 'IsPresent', true, 'true'),
	('$.x.y[*]', 'IsPresent', true, 'false'),
	('$', 'IsPresent', true, 'true'),
	('$$.Execution.n', 'IsPresent', true, 'true'),
	('$$.Nope', 'IsPresent', true, 'false'),
	('$v', 'IsPresent', true, 'true'),
	('$w', 'IsPresent', true, 'false'),
	('$w', 'IsPresent', false, 'true'),
	('$.nope', 'IsNull', true, '22000 States.Runtime: the path $.nope of a Choice names nothing, or too much'),
	('$.nope', 'IsNull', false, '22000 States.Runtime: the path $.nope of a Choice names nothing, or too much'),
	('$.nope', 'IsNumeric', true, '22000 States.Runtime: the path $.nope of a Choice names nothing, or too much'),
	('$.nope', 'IsString', true, '22000 States.Runtime: the path $.nope of a Choice names nothing, or too much'),
	('$.nope', 'IsBoolean', false, '22000 States.Runtime: the path $.nope of a Choice names nothing, or too much'),
	('$.nope', 'IsTimestamp', true, '22000 States.Runtime: the path $.nope of a Choice names nothing, or too much')) AS v (path, operator, value, wanted);

-- ---- And, Or, Not; other roots ----

SELECT is(pg_temp.choose(rule::jsonb, '{"t": true, "n": 5, "s": "x", "type": "Private", "value": 22}'), wanted, rule)
FROM (VALUES
	('{"Variable": "$$.Execution.n", "NumericEqualsPath": "$.n", "Next": "N"}', 'true'),
	('{"Variable": "$v", "NumericEquals": 7}', 'true'),
	('{"Variable": "$.n", "NumericLessThanPath": "$v"}', 'true'),
	('{"Variable": "$.n", "NumericEqualsPath": "$$.Execution.n"}', 'true'),
	('{"Not": {"Variable": "$.type", "StringEquals": "Private"}, "Next": "Public"}', 'false'),
	('{"Not": {"Variable": "$.type", "StringEquals": "Public"}, "Next": "Private"}', 'true'),
	('{"Not": {"Not": {"Variable": "$.t", "BooleanEquals": true}}}', 'true'),
	('{"And": [{"Variable": "$.value", "IsPresent": true}, {"Variable": "$.value", "IsNumeric": true}, {"Variable": "$.value", "NumericGreaterThanEquals": 20}, {"Variable": "$.value", "NumericLessThan": 30}], "Next": "ValueInTwenties"}', 'true'),
	('{"And": [{"Variable": "$.t", "BooleanEquals": true}, {"Variable": "$.n", "NumericEquals": 6}]}', 'false'),
	('{"And": [{"Variable": "$.n", "NumericEquals": 6}, {"Variable": "$.nope", "IsNull": true}]}', 'false'),
	('{"And": [{"Variable": "$.nope", "IsPresent": true}, {"Variable": "$.nope", "NumericEquals": 1}]}', 'false'),
	('{"And": [{"Variable": "$.n", "NumericEquals": 5}, {"Variable": "$.nope", "IsNull": true}]}', '22000 States.Runtime: the path $.nope of a Choice names nothing, or too much'),
	('{"Or": [{"Variable": "$.n", "NumericEquals": 5}, {"Variable": "$.nope", "IsNull": true}]}', 'true'),
	('{"Or": [{"Variable": "$.n", "NumericEquals": 6}, {"Variable": "$.s", "StringEquals": "x"}]}', 'true'),
	('{"Or": [{"Variable": "$.n", "NumericEquals": 6}, {"Variable": "$.s", "StringEquals": "y"}]}', 'false'),
	('{"Or": [{"Variable": "$.nope", "NumericEquals": 6}, {"Variable": "$.s", "StringEquals": "x"}]}', '22000 States.Runtime: the path $.nope of a Choice names nothing, or too much'),
	('{"Not": {"Variable": "$.nope", "NumericEquals": 6}}', '22000 States.Runtime: the path $.nope of a Choice names nothing, or too much'),
	('{"Or": [{"And": [{"Not": {"Variable": "$.t", "BooleanEquals": false}}, {"Variable": "$.n", "NumericGreaterThan": 4}]}, {"Variable": "$.nope", "IsNull": true}]}', 'true'),
	('{"And": [{"Or": [{"Variable": "$.t", "BooleanEquals": false}]}]}', 'false'),
	('{"Variable": "$.n", "NumericEquals": 5, "Comment": "c", "Assign": {"a": 1}, "Output": {}, "Next": "N"}', 'true'),
	('{"Not": {"Variable": "$.n", "NumericEquals": 6, "Comment": "c"}, "Comment": "d"}', 'true'),

-- ---- what is no rule ----

	('5', 'VS010 a rule must be an object'),
	('[]', 'VS010 a rule must be an object'),
	('{}', 'VS010 a rule must have an operator'),
	('{"Next": "N"}', 'VS010 a rule must have an operator'),
	('{"Variable": "$.a", "Next": "N"}', 'VS010 a rule must have an operator'),
	('{"NumericEquals": 5}', 'VS010 a rule with a test must have a Variable'),
	('{"Variable": 5, "NumericEquals": 5}', 'VS010 .Variable: a path must be a string'),
	('{"Variable": "x", "NumericEquals": 5}', 'VS010 .Variable: a path begins with $ at character 1'),
	('{"Variable": "$.", "NumericEquals": 5}', 'VS010 .Variable: a name is missing at character 3'),
	('{"Variable": "$.a", "NumericEqual": 5}', 'VS010 .NumericEqual: a rule has no such member'),
	('{"Variable": "$.a", "BooleanLessThan": true}', 'VS010 .BooleanLessThan: a rule has no such member'),
	('{"Variable": "$.a", "StringMatchesPath": "$.b"}', 'VS010 .StringMatchesPath: a rule has no such member'),
	('{"Variable": "$.a", "IsNullPath": "$.b"}', 'VS010 .IsNullPath: a rule has no such member'),
	('{"Variable": "$.a", "NumericEquals": 5, "StringEquals": "5"}', 'VS010 .NumericEquals: a rule may have only one operator'),
	('{"Variable": "$.a", "NumericEquals": 5, "Not": {"Variable": "$.a", "IsNull": true}}', 'VS010 .NumericEquals: a rule may have only one operator'),
	('{"Variable": "$.a", "Not": {"Variable": "$.a", "IsNull": true}}', 'VS010 a rule with And, Or or Not may not have a Variable'),
	('{"Variable": "$.a", "StringEquals": 5}', 'VS010 .StringEquals: StringEquals needs a string'),
	('{"Variable": "$.a", "StringMatches": null}', 'VS010 .StringMatches: StringMatches needs a string'),
	('{"Variable": "$.a", "NumericEquals": "5"}', 'VS010 .NumericEquals: NumericEquals needs a number'),
	('{"Variable": "$.a", "BooleanEquals": "true"}', 'VS010 .BooleanEquals: BooleanEquals needs true or false'),
	('{"Variable": "$.a", "TimestampEquals": "2016-08-18"}', 'VS010 .TimestampEquals: TimestampEquals needs a timestamp like 2016-03-14T01:59:00Z'),
	('{"Variable": "$.a", "TimestampEquals": 5}', 'VS010 .TimestampEquals: TimestampEquals needs a timestamp like 2016-03-14T01:59:00Z'),
	('{"Variable": "$.a", "IsNull": "true"}', 'VS010 .IsNull: IsNull needs true or false'),
	('{"Variable": "$.a", "NumericEqualsPath": 5}', 'VS010 .NumericEqualsPath: a path must be a string'),
	('{"Variable": "$.a", "NumericEqualsPath": "b"}', 'VS010 .NumericEqualsPath: a path begins with $ at character 1'),
	('{"And": []}', 'VS010 .And: there must be an array of rules that is not empty'),
	('{"Or": {"Variable": "$.a", "IsNull": true}}', 'VS010 .Or: there must be an array of rules that is not empty'),
	('{"And": [5]}', 'VS010 .And[0]: a rule must be an object'),
	('{"Not": [{"Variable": "$.a", "IsNull": true}]}', 'VS010 .Not: a rule must be an object'),
	('{"And": [{"Variable": "$.a", "IsNull": true}, {"Or": [{"Not": {"Variable": "$.a", "IsNull": 1}}]}]}', 'VS010 .And[1].Or[0].Not.IsNull: IsNull needs true or false'),
	('{"And": [{"Variable": "$.a", "IsNull": true, "Next": "N"}]}', 'VS010 .And[0].Next: a rule has no such member'),
	(repeat('{"Not": ', 100) || '{"Variable": "$.t", "IsBoolean": true}' || repeat('}', 100), 'VS010 ' || repeat('.Not', 100) || ': the rule nests too deeply'),
	(repeat('{"Not": ', 99) || '{"Variable": "$.t", "IsBoolean": true}' || repeat('}', 99), 'false')) AS v (rule, wanted);

SELECT * FROM finish();
ROLLBACK;
