-- saga_barrier(): what participants of sagas are to do, and what not.
\set QUIET 1
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgtap;
CREATE EXTENSION IF NOT EXISTS evstore;
SET evstore.now_override = '2030-01-01 12:00+00';

SELECT plan(27);

CREATE FUNCTION outcome(query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE query;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
-- the answers to a sequence of calls, of a branch of its own
CREATE FUNCTION answers(branch text, VARIADIC ops text[]) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(left(evstore.saga_barrier('s', branch, o)::text, 1), ' ' ORDER BY n) FROM unnest(ops) WITH ORDINALITY AS u (o, n) $$;

SELECT is(answers('1', 'action'), 't', 'an action is done');
SELECT is(answers('1', 'action', 'action'), 'f f', 'once');
SELECT is(answers('1', 'compensate'), 't', 'what has been done is undone');
SELECT is(answers('1', 'compensate', 'action'), 'f f', 'once, and not done again');
SELECT is(answers('2', 'compensate'), 'f', 'what has not been done is not undone');
SELECT is(answers('2', 'action'), 'f', 'and not done any more');
SELECT is(answers('2', 'compensate', 'compensate'), 'f f', 'however often it is asked for');
SELECT is(answers('3', 'try', 'confirm', 'confirm', 'cancel', 'try'), 't t f t f', 'try, confirm, cancel');
SELECT is(answers('4', 'cancel', 'try', 'cancel'), 'f f f', 'nothing tried, nothing cancelled');
SELECT is(answers('5', 'confirm'), 't', 'who confirms is believed');
SELECT is(answers('6', 'action', 'try', 'cancel', 'compensate'), 't t t t', 'actions and tries are different things');
SELECT is(evstore.saga_barrier('other', '1', 'action'), true, 'another saga');

-- it belongs to the work
BEGIN;
SELECT evstore.saga_barrier('s', '7', 'action');
ROLLBACK;
SELECT is(answers('7', 'action'), 't', 'what is rolled back has not been done');
CREATE FUNCTION half(branch text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM evstore.saga_barrier('s', branch, 'action');
	RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
	RETURN evstore.saga_barrier('s', branch, 'compensate');
END $$;
SELECT is(half('8'), false, 'nor what a savepoint has taken back');
SELECT is(answers('8', 'action'), 'f', 'and then it is not done any more');

SELECT results_eq($$ SELECT op::text COLLATE "default", reason::text COLLATE "default" FROM evstore.saga_barrier WHERE branch = '2' ORDER BY 1 $$,
	$$ VALUES ('action', 'compensate'), ('compensate', 'compensate') $$, 'a null compensation can be seen');

SELECT is(outcome(format('SELECT evstore.saga_barrier(%s)', a.args)), a.sqlstate, a.args)
FROM (VALUES ('NULL, ''1'', ''action''', '22004'), ('''s'', NULL, ''action''', '22004'), ('''s'', ''1'', NULL', '22004'), ('''s'', ''1'', ''undo''', '22023'),
	(''''', ''1'', ''action''', '22023'), ('''s'', repeat(''x'', 513), ''action''', '22023')) AS a (args, sqlstate);

-- what is old
SET evstore.now_override = '2030-02-01 12:00+00';
SELECT is(answers('9', 'action'), 't', 'a month later');
SELECT is(evstore.saga_barrier_expire('1 day') > 10, true, 'the old ones go');
SELECT is((SELECT count(*) FROM evstore.saga_barrier), 1::bigint, 'the new one stays');
SELECT is(answers('9', 'action'), 'f', 'and counts');
SELECT is(outcome('SELECT evstore.saga_barrier_expire(NULL)'), '22004', 'how old has to be said');

SELECT * FROM finish();
